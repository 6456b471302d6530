/* What the files of libforge share of a channel. */
#ifndef FORGE_CLIENT_CHANNEL_PRIVATE_H
#define FORGE_CLIENT_CHANNEL_PRIVATE_H

#include "address.h"
#include "call.h"
#include "forge/channel.h"
#include "retry.h"
#include "shard.h"
#include "wire/crypto.h"
#include "wire/tls.h"

#include <pthread.h>
#include <stdatomic.h>

struct forge__resolver;

enum { FORGE__FAILURE_TEXT_MAX = 320 };

struct forge_channel {
    unsigned fork_generation; /* the process that owns the channel */
    struct forge_loops *loops;
    struct forge_tls *tls;
    struct forge__shard *shards;
    unsigned shard_count;
    atomic_uint next_shard;
    atomic_uint calls_in_flight; /* objects taken and not released */
    atomic_bool is_closing;
    bool has_certificate; /* a credential too, where the server has an account for it */
    uint32_t calls_in_flight_max;
    uint32_t default_timeout_ms;
    uint32_t reply_bytes_max;
    unsigned connections_per_address;
    char client_info[160];
    struct forge__address_list addresses;
    struct forge__resolver *resolver; /* NULL when every address is an IP address */
    struct forge__retry_budget budget;
    forge_interceptor interceptor;
    void *interceptor_user;
    uint8_t credential_base[FORGE_KEY_SIZE]; /* what is part of the credential besides the token: addresses, key of the certificate */
    pthread_mutex_t token_mutex;             /* one forge_channel_set_token at a time; before mutex */
    atomic_uint credential_epoch;            /* odd while the token is being replaced */
    pthread_mutex_t mutex;                   /* guards the fields below; never held while anything else is called */
    pthread_cond_t shard_closed;
    struct forge__call *free_calls;
    char failure[FORGE__FAILURE_TEXT_MAX];  /* why the last connection failed */
    uint8_t credential_key[FORGE_KEY_SIZE]; /* made of the credential; says nothing of it */
};

/* Calls that start and end at the same even epoch were made with the same credential. */
unsigned forge__channel_credential_epoch(const struct forge_channel *channel);
/* A key that only who has the credential (token or the key of the certificate) can make, for these addresses. */
void forge__channel_credential_key(struct forge_channel *channel, uint8_t out[FORGE_KEY_SIZE]);

/* The shard whose loop runs on this thread, NULL on any other thread. */
struct forge__shard *forge__channel_current_shard(struct forge_channel *channel);
void forge__channel_set_failure(struct forge_channel *channel, const char *text);
/* Copies the text, "" if no connection has failed. */
void forge__channel_get_failure(struct forge_channel *channel, char out[FORGE__FAILURE_TEXT_MAX]);
/* Counts the forks that led to this process: a channel of another number belongs to an ancestor. */
unsigned forge__fork_generation(void);

#endif
