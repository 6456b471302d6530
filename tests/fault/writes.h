/* Writes whose effects can be counted, for the fault tests: each has a request_id of its own, leaves its id in the database, and is
 * repeated under it until its outcome is known. */
#ifndef TESTS_FAULT_WRITES_H
#define TESTS_FAULT_WRITES_H

#include "support/world.h"

enum fault_write_kind {
    FAULT_WRITE_VERSION, /* CreatePromptVersion: a lost or doubled one would leave a gap in the numbers */
    FAULT_WRITE_KEY      /* CreateApiKey: nothing but the request_id keeps it from being made twice */
};

struct fault_write {
    enum fault_write_kind kind;
    char request_id[WORLD_ID_SIZE];
    char prompt_id[WORLD_ID_SIZE]; /* versions only */
};
void fault_write_init(struct fault_write *write, enum fault_write_kind kind, const char *prompt_id);

/* One call with the write's request_id. out_reply may be NULL; info too. */
forge_code fault_write_send(struct forge_channel *channel, const struct fault_write *write, uint32_t timeout_ms,
                            ProtobufCMessage **out_reply, struct forge_reply_info *info, struct forge_error *error);
/* The same request_id with another body, which is to be refused. */
forge_code fault_write_send_other(struct forge_channel *channel, const struct fault_write *write, uint32_t timeout_ms,
                                  struct forge_error *error);
/* Starts it without waiting; see forge_channel_call_async. */
forge_code fault_write_start(struct forge_channel *channel, const struct fault_write *write, uint32_t timeout_ms, forge_call_done done,
                             void *user, struct forge_error *error);
/* Repeats it until it is OK, is refused for good (that code comes back), or give_up_ms (monotonic) is over (its last code). */
forge_code fault_write_finish(struct forge_channel *channel, const struct fault_write *write, uint32_t timeout_ms, uint64_t give_up_ms,
                              ProtobufCMessage **out_reply, struct forge_reply_info *info, struct forge_error *error);
/* The packed reply; free(). */
uint8_t *fault_reply_pack(const ProtobufCMessage *reply, size_t *out_size);

/* Compares the database with what was acknowledged since the world was opened. */
struct fault_count {
    long lost;       /* acknowledged and not there */
    long duplicated; /* more than one effect of a write, a gap in version numbers, an audit row too many */
};
struct fault_count fault_count(const struct world *world, long versions_acknowledged, long keys_acknowledged);
/* Transactions that forged has open in PostgreSQL. */
long fault_open_transactions(const struct world *world);

/* One line of tests/fault/run on standard output; the texts need no escaping. */
void fault_report(const char *id, const char *what, long tried, struct fault_count count, long leaked, const char *bar, bool ok);

/* Times are multiplied by this under a sanitizer. */
unsigned fault_time_factor(void);
/* True for the full counts of the nightly tier (FORGE_FAULT_FULL=1). */
bool fault_is_full(void);

#endif
