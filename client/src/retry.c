#include "retry.h"

#include <string.h>

enum { RETRY_FIRST_MS = 50, RETRY_MOST_MS = 2000, DIAL_FIRST_MS = 1000, DIAL_MOST_MS = 30000 };

void forge__retry_budget_init(struct forge__retry_budget *budget)
{
    atomic_init(&budget->tenths, FORGE__RETRY_TOKENS_MAX);
}

void forge__retry_budget_success(struct forge__retry_budget *budget)
{
    int have = atomic_load_explicit(&budget->tenths, memory_order_relaxed);
    while (have < FORGE__RETRY_TOKENS_MAX && !atomic_compare_exchange_weak_explicit(&budget->tenths, &have, have + FORGE__RETRY_REFUND,
                                                                                    memory_order_relaxed, memory_order_relaxed))
        continue;
}

void forge__retry_budget_charge(struct forge__retry_budget *budget)
{
    int have = atomic_load_explicit(&budget->tenths, memory_order_relaxed);
    int left;
    do
        left = have > FORGE__RETRY_TOKEN ? have - FORGE__RETRY_TOKEN : 0;
    while (!atomic_compare_exchange_weak_explicit(&budget->tenths, &have, left, memory_order_relaxed, memory_order_relaxed));
}

bool forge__retry_budget_has_tokens(const struct forge__retry_budget *budget)
{
    return atomic_load_explicit(&budget->tenths, memory_order_relaxed) > FORGE__RETRY_TOKENS_STOP;
}

static struct forge__retry_verdict judge_answer(const struct forge__attempt *attempt)
{
    const struct forge__retry_verdict give_up = {.retry = false};
    bool overload = attempt->code == FORGE_RESOURCE_EXHAUSTED && attempt->retry_after_ms > 0;
    if (attempt->code != FORGE_UNAVAILABLE && !overload)
        return give_up;
    if (attempt->not_executed && attempt->goaway)
        return (struct forge__retry_verdict){.retry = true};
    if (attempt->not_executed && attempt->duplicate)
        return (struct forge__retry_verdict){.retry = true, .backs_off = true};
    return (struct forge__retry_verdict){
        .retry = attempt->not_executed || attempt->is_repeatable, .costs_token = true, .needs_budget = true, .backs_off = true};
}

struct forge__retry_verdict forge__retry_judge(const struct forge__attempt *attempt)
{
    switch (attempt->end) {
    case FORGE__ATTEMPT_NOT_SENT:
        return (struct forge__retry_verdict){.retry = true};
    case FORGE__ATTEMPT_LINK_LOST:
        return (struct forge__retry_verdict){.retry = attempt->is_repeatable, .needs_budget = true, .backs_off = true};
    case FORGE__ATTEMPT_ANSWERED:
        break;
    }
    return judge_answer(attempt);
}

bool forge__method_is_repeatable(const struct forge_method *method)
{
    /* The server keeps no answers for these two: a second Login makes a second session, a second Logout is refused. */
    return strcmp(method->name, "forge.v1.OrganizationService/Login") != 0 &&
           strcmp(method->name, "forge.v1.OrganizationService/Logout") != 0;
}

static uint32_t backoff_ms(uint32_t first_ms, uint32_t most_ms, unsigned steps)
{
    double delay = first_ms;
    while (steps-- > 0 && delay < most_ms)
        delay *= 1.6;
    return delay < most_ms ? (uint32_t)delay : most_ms;
}

/* 0.8 to 1.2 times delay. */
static uint32_t jitter_ms(uint32_t delay, uint32_t random)
{
    return (uint32_t)(delay * (0.8 + 0.4 * (random / 4294967296.0)));
}

uint32_t forge__retry_delay_ms(unsigned attempts, uint32_t retry_after_ms, uint32_t random)
{
    uint32_t own = jitter_ms(backoff_ms(RETRY_FIRST_MS, RETRY_MOST_MS, attempts - 1), random);
    if (!retry_after_ms)
        return own;
    return retry_after_ms + (uint32_t)(retry_after_ms * (0.2 * (random / 4294967296.0)));
}

uint32_t forge__dial_delay_ms(unsigned failures, uint32_t random)
{
    return jitter_ms(backoff_ms(DIAL_FIRST_MS, DIAL_MOST_MS, failures - 1), random);
}
