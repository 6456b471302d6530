/* What to do after an attempt that did not succeed, and the budget that keeps retries from adding to an overload.
 *
 * The rules are the table in proto/README.md, "Retries". Pure functions but for the budget, which is atomic: any thread. */
#ifndef FORGE_CLIENT_RETRY_H
#define FORGE_CLIENT_RETRY_H

#include "forge/channel.h"
#include "wire/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* gRPC's retry throttling (https://github.com/grpc/proposal/blob/master/A6-client-retries.md#throttling-configuration) in
 * tenths of a token: 10 tokens, a success gives 0.1 back, no retry at 5 or below. */
enum { FORGE__RETRY_TOKENS_MAX = 100, FORGE__RETRY_TOKENS_STOP = 50, FORGE__RETRY_TOKEN = 10, FORGE__RETRY_REFUND = 1 };

struct forge__retry_budget {
    atomic_int tenths;
};
void forge__retry_budget_init(struct forge__retry_budget *budget);
void forge__retry_budget_success(struct forge__retry_budget *budget);
/* Takes one token, down to zero. */
void forge__retry_budget_charge(struct forge__retry_budget *budget);
bool forge__retry_budget_has_tokens(const struct forge__retry_budget *budget);

enum forge__attempt_end {
    FORGE__ATTEMPT_NOT_SENT, /* never handed to a link */
    FORGE__ATTEMPT_ANSWERED, /* a reply with another code than OK */
    FORGE__ATTEMPT_LINK_LOST /* handed over, then the link closed: nobody knows whether it ran */
};

struct forge__attempt {
    enum forge__attempt_end end;
    forge_code code;         /* of the reply, as are the next four */
    uint32_t retry_after_ms; /* 0 = none given */
    bool not_executed;
    bool goaway;
    bool duplicate;     /* an equal call is in progress on the server */
    bool is_repeatable; /* forge__method_is_repeatable */
};

struct forge__retry_verdict {
    bool retry;        /* unless the budget or the deadline says no */
    bool costs_token;  /* charge one token now; a lost link is charged once by its connection and not here */
    bool needs_budget; /* retry only while the budget has tokens */
    bool backs_off;    /* wait forge__retry_delay_ms, else retry at once */
};
struct forge__retry_verdict forge__retry_judge(const struct forge__attempt *attempt);

/* A read, or protected by its request_id against running twice. */
bool forge__method_is_repeatable(const struct forge_method *method);

/* Waiting time before attempt number attempts + 1 (attempts >= 1): 50 ms x 1.6 for each further one, at most 2 s, 20 % jitter either way;
 * at least retry_after_ms, then with up to 20 % more. random: 32 uniform bits. */
uint32_t forge__retry_delay_ms(unsigned attempts, uint32_t retry_after_ms, uint32_t random);
/* Waiting time before dial number failures + 1 (failures >= 1): 1 s x 1.6 up to 30 s, 20 % jitter (gRPC's connection backoff). */
uint32_t forge__dial_delay_ms(unsigned failures, uint32_t random);

#endif
