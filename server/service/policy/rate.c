#include "service/policy/rate.h"

#include "base/log.h"
#include "db/column.h"
#include "db/sqlstate.h"
#include "wire/clock.h"

#include <pthread.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    SUB_WINDOWS = 30,
    SLOTS = SUB_WINDOWS + 1,
    UNSHARED_PART = 50,   /* of a limit, one in so many may pass before the other servers know */
    KEYS_MAX = 16384,     /* at 2.5 KiB; beyond, the one used longest ago makes room, and the database knows its counts */
    GROUP_KEYS_MAX = 256, /* of one flight */
    ARENA_BYTES_MAX = 16 << 20
};
static const int64_t second_us = 1000000;

/* A sub-window. What the servers let pass in it is stored + own + sent. */
struct slot {
    int64_t number;                      /* since the Unix epoch */
    int64_t stored_calls, stored_tokens; /* in the database, as last read */
    int64_t own_calls, own_tokens;       /* not yet there */
    int64_t sent_calls, sent_tokens;     /* on their way */
};
struct rate_key {
    struct forge_uuid organization_id, policy_id;
    char rule[POLICY_NAME_BYTES_MAX + 1], key[POLICY_RATE_KEY_MAX + 1];
};
struct rate {
    struct rate_key key; /* first; compared as bytes, zeroed behind the texts */
    int64_t slot_us;
    bool is_known;   /* was read from the database */
    bool is_syncing; /* by one of its users or the thread; the others do not touch what is on its way */
    bool is_touched; /* since the last flush */
    uint64_t round;  /* of the last flush that took it along */
    unsigned users;
    int64_t used_us;
    struct slot slots[SLOTS]; /* by number modulo SLOTS */
    struct rate *newer, *older;
};
struct policy_rates {
    struct policy_rates_config config;
    pthread_mutex_t lock;
    pthread_cond_t synced;
    void *tree; /* tsearch(3) tree of struct rate */
    struct rate *newest, *oldest;
    unsigned count;
    uint64_t round; /* flushes so far */
};

/* --- the table; under the lock --------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct rate_key));
}

static void list_remove(struct policy_rates *rates, struct rate *rate)
{
    *(rate->newer != NULL ? &rate->newer->older : &rates->newest) = rate->older;
    *(rate->older != NULL ? &rate->older->newer : &rates->oldest) = rate->newer;
}

static void list_push(struct policy_rates *rates, struct rate *rate)
{
    rate->newer = NULL;
    rate->older = rates->newest;
    *(rates->newest != NULL ? &rates->newest->newer : &rates->oldest) = rate;
    rates->newest = rate;
}

static void drop(struct policy_rates *rates, struct rate *rate)
{
    tdelete(rate, &rates->tree, compare);
    list_remove(rates, rate);
    rates->count--;
    free(rate);
}

/* What a dropped one let pass since the last flush is forgotten. */
static void make_room(struct policy_rates *rates)
{
    for (struct rate *rate = rates->oldest; rate != NULL && rates->count >= KEYS_MAX;) {
        struct rate *newer = rate->newer;
        if (rate->users == 0)
            drop(rates, rate);
        rate = newer;
    }
}

static struct rate *find_or_add(struct policy_rates *rates, const struct rate_key *key)
{
    struct rate **found = tfind(key, &rates->tree, compare);
    if (found != NULL) {
        list_remove(rates, *found);
        list_push(rates, *found);
        return *found;
    }
    make_room(rates);
    struct rate *rate = calloc(1, sizeof *rate);
    if (rate == NULL)
        return NULL;
    rate->key = *key;
    if (tsearch(rate, &rates->tree, compare) == NULL) {
        free(rate);
        return NULL;
    }
    list_push(rates, rate);
    rates->count++;
    return rate;
}

/* --- windows; under the lock ----------------------------------------------------------------------------------------- */

static struct slot *slot_of(struct rate *rate, int64_t number)
{
    struct slot *slot = &rate->slots[number % SLOTS];
    if (slot->number < number)
        *slot = (struct slot){.number = number};
    return slot->number == number ? slot : NULL; /* NULL: so old that its place is taken */
}

/* A rule that was published anew with another window is counted anew, from the rows of the old one. */
static void set_window(struct rate *rate, int64_t window_s)
{
    int64_t slot_us = window_s * second_us / SUB_WINDOWS;
    if (rate->slot_us == slot_us || rate->is_syncing)
        return;
    memset(rate->slots, 0, sizeof rate->slots);
    rate->slot_us = slot_us;
    rate->is_known = false;
}

static bool is_in_window(const struct rate *rate, const struct slot *slot, int64_t now_us)
{
    return (slot->number + 1 + SUB_WINDOWS) * rate->slot_us > now_us;
}

static int64_t add(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static int64_t calls_in(const struct slot *slot)
{
    return slot->stored_calls + slot->own_calls + slot->sent_calls;
}

static int64_t tokens_in(const struct slot *slot)
{
    return add(add(slot->stored_tokens, slot->own_tokens), slot->sent_tokens);
}

/* What a call asks for, and what it is held against. */
struct asked {
    const struct policy_rate_rule *rule;
    int64_t now_us, tokens;
};
struct sums {
    int64_t calls, tokens, own_calls, own_tokens;
};

static struct sums sums_of(const struct rate *rate, int64_t now_us)
{
    struct sums sums = {0};
    for (int i = 0; i < SLOTS; i++) {
        const struct slot *slot = &rate->slots[i];
        if (!is_in_window(rate, slot, now_us))
            continue;
        sums.calls += calls_in(slot);
        sums.tokens = add(sums.tokens, tokens_in(slot));
        sums.own_calls += slot->own_calls;
        sums.own_tokens = add(sums.own_tokens, slot->own_tokens);
    }
    return sums;
}

static bool is_over(const struct policy_rate_rule *rule, int64_t calls, int64_t tokens)
{
    return (rule->calls_max > 0 && calls > rule->calls_max) || (rule->tokens_max > 0 && tokens > rule->tokens_max);
}

/* Has so much passed here that the other servers must know first? */
static bool is_unshared(const struct policy_rate_rule *rule, const struct sums *sums, int64_t calls, int64_t tokens)
{
    return (rule->calls_max > 0 && sums->own_calls + calls > rule->calls_max / UNSHARED_PART) ||
           (rule->tokens_max > 0 && add(sums->own_tokens, tokens) > rule->tokens_max / UNSHARED_PART);
}

static void count(struct rate *rate, const struct asked *asked, int64_t calls)
{
    struct slot *slot = slot_of(rate, asked->now_us / rate->slot_us);
    if (slot == NULL)
        return;
    slot->own_calls += calls;
    slot->own_tokens = add(slot->own_tokens, calls * asked->tokens);
}

/* When so many calls and tokens will have left the window that one more fits; at the latest when all have. */
static int64_t retry_after_ms(const struct rate *rate, const struct asked *asked, struct sums sums)
{
    int64_t first = (asked->now_us / rate->slot_us) - SUB_WINDOWS, at_us = asked->now_us;
    for (int64_t number = first > 0 ? first : 0; number <= first + SUB_WINDOWS; number++) {
        const struct slot *slot = &rate->slots[number % SLOTS];
        if (!is_over(asked->rule, add(sums.calls, 1), add(sums.tokens, asked->tokens)))
            break;
        if (slot->number != number)
            continue;
        sums.calls -= calls_in(slot);
        sums.tokens -= tokens_in(slot);
        at_us = (number + 1 + SUB_WINDOWS) * rate->slot_us;
    }
    return at_us > asked->now_us ? (at_us - asked->now_us + 999) / 1000 : asked->rule->window_s * 1000;
}

/* --- the other servers ----------------------------------------------------------------------------------------------- */

/* Rows of a flight, as columns. */
struct key_row {
    struct rate *rate;
    struct forge_uuid policy_id;
    const char *rule, *key;
    int64_t since_us;
};
struct slot_row {
    struct forge_uuid policy_id;
    const char *rule, *key;
    int64_t start_us, calls, tokens;
};
struct flight {
    struct forge_uuid organization_id;
    int64_t now_us;
    struct key_row *keys[GROUP_KEYS_MAX];
    struct slot_row **slots;
    size_t key_count, slot_count;
    struct forge_arena *arena;
};

/* Takes what a rate has not stored yet along. Under the lock. False without memory: nothing was taken of it. */
static bool board(struct flight *flight, struct rate *rate)
{
    int64_t now_us = flight->now_us;
    struct key_row *key = forge_arena_alloc(flight->arena, sizeof *key);
    struct slot_row *rows = forge_arena_calloc(flight->arena, SLOTS, sizeof *rows);
    if (key == NULL || rows == NULL || flight->key_count == GROUP_KEYS_MAX)
        return false;
    *key = (struct key_row){.rate = rate,
                            .policy_id = rate->key.policy_id,
                            .rule = rate->key.rule,
                            .key = rate->key.key,
                            .since_us = (now_us / rate->slot_us - SUB_WINDOWS) * rate->slot_us};
    flight->keys[flight->key_count++] = key;
    for (int i = 0; i < SLOTS; i++) {
        struct slot *slot = &rate->slots[i];
        if (!is_in_window(rate, slot, now_us))
            *slot = (struct slot){.number = slot->number}; /* it matters to nobody any more */
        if (slot->own_calls == 0 && slot->own_tokens == 0)
            continue;
        rows[i] = (struct slot_row){.policy_id = key->policy_id,
                                    .rule = key->rule,
                                    .key = key->key,
                                    .start_us = slot->number * rate->slot_us,
                                    .calls = slot->own_calls,
                                    .tokens = slot->own_tokens};
        flight->slots[flight->slot_count++] = &rows[i];
        slot->sent_calls = slot->own_calls;
        slot->sent_tokens = slot->own_tokens;
        slot->own_calls = slot->own_tokens = 0;
    }
    rate->is_syncing = true;
    rate->users++;
    return true;
}

/* forget: what was sent is not counted any more, as it may be stored; else it is tried again. Under the lock. */
static void disembark(struct flight *flight, bool forget)
{
    for (size_t i = 0; i < flight->key_count; i++) {
        struct rate *rate = flight->keys[i]->rate;
        for (int j = 0; j < SLOTS; j++) {
            struct slot *slot = &rate->slots[j];
            slot->own_calls += forget ? 0 : slot->sent_calls;
            slot->own_tokens = add(slot->own_tokens, forget ? 0 : slot->sent_tokens);
            slot->sent_calls = slot->sent_tokens = 0;
        }
        rate->is_syncing = false;
        rate->users--;
    }
}

/* What all servers have stored takes the place of what was known. What a server with a clock ahead of ours counted is as if counted now:
 * left in the time to come it would take the place of a sub-window that counts still. Under the lock. */
static void learn(struct flight *flight, const struct db_rows *rows)
{
    for (size_t i = 0; i < flight->key_count; i++) {
        struct rate *rate = flight->keys[i]->rate;
        rate->is_known = true;
        for (int j = 0; j < SLOTS; j++)
            rate->slots[j].stored_calls = rate->slots[j].stored_tokens = 0;
    }
    for (int i = 0; i < rows->count; i++) {
        struct db_row row = db_rows_at(rows, i);
        struct rate *rate = flight->keys[db_row_int64(&row, "ordinal") - 1]->rate;
        int64_t start_us = db_row_time_us(&row, "window_start");
        struct slot *slot = slot_of(rate, (start_us < flight->now_us ? start_us : flight->now_us) / rate->slot_us);
        if (slot == NULL)
            continue;
        slot->stored_calls += db_row_int64(&row, "calls");
        slot->stored_tokens = add(slot->stored_tokens, db_row_int64(&row, "tokens"));
    }
}

static void bind_keys(struct db_stmt *q, const struct flight *flight)
{
    const void *const *rows = (const void *const *)flight->keys;
    db_bind_uuid(q, &flight->organization_id);
    db_bind_column(q, DB_MEMBER_UUID, offsetof(struct key_row, policy_id), rows, flight->key_count);
    db_bind_column(q, DB_MEMBER_TEXT, offsetof(struct key_row, rule), rows, flight->key_count);
    db_bind_column(q, DB_MEMBER_TEXT, offsetof(struct key_row, key), rows, flight->key_count);
    db_bind_column(q, DB_MEMBER_TIME_US, offsetof(struct key_row, since_us), rows, flight->key_count);
}

static void queue_add(struct db_session *session, const struct flight *flight)
{
    const void *const *rows = (const void *const *)flight->slots;
    if (flight->slot_count == 0)
        return;
    struct db_stmt *q = db_stmt(session, SQL_POLICY_RATE_ADD);
    db_bind_uuid(q, &flight->organization_id);
    db_bind_column(q, DB_MEMBER_UUID, offsetof(struct slot_row, policy_id), rows, flight->slot_count);
    db_bind_column(q, DB_MEMBER_TEXT, offsetof(struct slot_row, rule), rows, flight->slot_count);
    db_bind_column(q, DB_MEMBER_TEXT, offsetof(struct slot_row, key), rows, flight->slot_count);
    db_bind_column(q, DB_MEMBER_TIME_US, offsetof(struct slot_row, start_us), rows, flight->slot_count);
    db_bind_column(q, DB_MEMBER_INT64, offsetof(struct slot_row, calls), rows, flight->slot_count);
    db_bind_column(q, DB_MEMBER_INT64, offsetof(struct slot_row, tokens), rows, flight->slot_count);
    db_queue(q);
}

/* Deletes what is over of the flight's keys, and what is of no use to any. */
static void queue_delete(struct db_session *session, const struct flight *flight)
{
    struct db_stmt *q = db_stmt(session, SQL_POLICY_RATE_DELETE_OVER);
    bind_keys(q, flight);
    db_queue(q);
    q = db_stmt(session, SQL_POLICY_RATE_DELETE_OLD);
    db_bind_uuid(q, &flight->organization_id);
    db_bind_time_us(q, flight->now_us - 2 * POLICY_RATE_WINDOW_S_MAX * second_us);
    db_queue(q);
}

/* One flight, one transaction: adds ours, reads everybody's, in a later snapshot that sees what was waited for. Without the lock. */
static forge_code fly(struct db_session *session, const struct flight *flight, struct db_rows *out_rows, struct forge_error *error)
{
    queue_add(session, flight);
    struct db_stmt *q = db_stmt(session, SQL_POLICY_RATE_READ);
    bind_keys(q, flight);
    return db_run_many(q, out_rows, error);
}

/* Was the answer lost? An error that PostgreSQL told on a connection that goes on, such as a lock_timeout, has rolled the flight back. */
static bool is_lost(forge_code code, const struct forge_error *error)
{
    bool was_told = error->sqlstate[0] != '\0' && !db_sqlstate_ends_connection(error->sqlstate);
    return (code == FORGE_UNAVAILABLE || code == FORGE_DEADLINE_EXCEEDED) && !error->not_executed && !was_told;
}

/* Ends a flight. A lost answer leaves open whether it was stored: rather not counted than counted twice. Under the lock. */
static void land(struct policy_rates *rates, struct flight *flight, forge_code code, const struct forge_error *error,
                 const struct db_rows *rows)
{
    disembark(flight, code == FORGE_OK || is_lost(code, error));
    if (code == FORGE_OK)
        learn(flight, rows);
    pthread_cond_broadcast(&rates->synced);
}

/* --- a call ---------------------------------------------------------------------------------------------------------- */

/* Exchanges the counts of one rate, on the call's session. The lock is given back meanwhile. */
static forge_code sync_for_call(struct policy_rates *rates, struct rpc_call *call, struct rate *rate, int64_t now_us)
{
    struct slot_row *slots[SLOTS];
    struct flight flight = {.organization_id = rate->key.organization_id, .now_us = now_us, .slots = slots, .arena = call->arena};
    struct db_rows rows;
    if (!board(&flight, rate))
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "no memory to count the call");
    pthread_mutex_unlock(&rates->lock);
    forge_code code = rpc_call_connect(call);
    if (code == FORGE_OK)
        code = fly(call->db, &flight, &rows, &call->error);
    if (code == FORGE_FAILED_PRECONDITION) /* DeletePolicy ended between the look at the policy and its row: the second look sees that */
        code = fly(call->db, &flight, &rows, &call->error);
    pthread_mutex_lock(&rates->lock);
    land(rates, &flight, code, &call->error, &rows);
    return code;
}

static forge_code wait_synced(struct policy_rates *rates, struct rpc_call *call)
{
    const struct timespec until = {.tv_sec = (time_t)(call->deadline_ns / 1000000000), .tv_nsec = (long)(call->deadline_ns % 1000000000)};
    if (pthread_cond_timedwait(&rates->synced, &rates->lock, &until) == 0)
        return FORGE_OK;
    return rpc_call_fail(call, FORGE_DEADLINE_EXCEEDED, "the rate was not known before the deadline");
}

/* Counted first and then looked at with everybody's counts: of two servers that take the last place at once the second one in the database
 * sees the first. What does not pass is taken back, unless it is forgotten already (land). */
static forge_code take_shared(struct policy_rates *rates, struct rpc_call *call, struct rate *rate, const struct asked *asked,
                              bool *out_passes)
{
    count(rate, asked, 1);
    forge_code code = sync_for_call(rates, call, rate, asked->now_us);
    struct sums sums = sums_of(rate, asked->now_us);
    *out_passes = code == FORGE_OK && !is_over(asked->rule, sums.calls, sums.tokens);
    if (!*out_passes && !is_lost(code, &call->error))
        count(rate, asked, -1);
    return code;
}

static forge_code take(struct policy_rates *rates, struct rpc_call *call, struct rate *rate, const struct asked *asked, bool *out_passes)
{
    const struct policy_rate_rule *rule = asked->rule;
    forge_code code = FORGE_OK;
    *out_passes = false;
    while (code == FORGE_OK) {
        set_window(rate, rule->window_s);
        struct sums sums = sums_of(rate, asked->now_us);
        bool never_fits = is_over(rule, 1, asked->tokens);
        if (never_fits || (rate->is_known && is_over(rule, add(sums.calls, 1), add(sums.tokens, asked->tokens))))
            return FORGE_OK;
        if (rate->is_known && !is_unshared(rule, &sums, 1, asked->tokens)) {
            count(rate, asked, 1);
            *out_passes = true;
            return FORGE_OK;
        }
        if (!rate->is_syncing)
            return take_shared(rates, call, rate, asked, out_passes);
        code = wait_synced(rates, call);
    }
    return code;
}

forge_code policy_rate_take(struct policy_rates *rates, struct rpc_call *call, const struct forge_uuid *policy_id,
                            const struct policy_rate_rule *rule, const char *key, int64_t tokens, int64_t *out_retry_after_ms)
{
    const struct asked asked = {.rule = rule, .now_us = call->now_us, .tokens = rule->tokens_max > 0 ? tokens : 0};
    struct rate_key wanted = {.organization_id = call->principal.organization_id, .policy_id = *policy_id};
    bool passes = false;
    strncpy(wanted.rule, rule->name, sizeof wanted.rule - 1);
    strncpy(wanted.key, key, sizeof wanted.key - 1);
    pthread_mutex_lock(&rates->lock);
    struct rate *rate = find_or_add(rates, &wanted);
    if (rate == NULL) {
        pthread_mutex_unlock(&rates->lock);
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "no memory to count the call");
    }
    rate->users++;
    rate->is_touched = true;
    rate->used_us = call->now_us;
    forge_code code = take(rates, call, rate, &asked, &passes);
    *out_retry_after_ms = passes || code != FORGE_OK ? 0 : retry_after_ms(rate, &asked, sums_of(rate, asked.now_us));
    rate->users--;
    pthread_mutex_unlock(&rates->lock);
    return code;
}

/* --- once a second --------------------------------------------------------------------------------------------------- */

static void drop_unused(struct policy_rates *rates, int64_t now_us)
{
    for (struct rate *rate = rates->oldest; rate != NULL;) {
        struct rate *newer = rate->newer;
        if (rate->users == 0 && !rate->is_touched && rate->used_us + SLOTS * rate->slot_us < now_us)
            drop(rates, rate);
        rate = newer;
    }
}

static bool has_own(const struct rate *rate)
{
    for (int i = 0; i < SLOTS; i++)
        if (rate->slots[i].own_calls != 0 || rate->slots[i].own_tokens != 0)
            return true;
    return false;
}

/* Rates of one organization that were used since the last flush, each once a round. */
struct boarding {
    struct flight *flight;
    uint64_t round;
};

static void board_if_touched(const void *node, VISIT visit, void *user)
{
    struct boarding *boarding = user;
    struct flight *flight = boarding->flight;
    struct rate *rate = *(struct rate *const *)node;
    if ((visit != postorder && visit != leaf) || flight->key_count == GROUP_KEYS_MAX || rate->round == boarding->round)
        return;
    if (rate->is_syncing || rate->slot_us == 0 || (!rate->is_touched && !has_own(rate)))
        return;
    if (flight->key_count == 0)
        flight->organization_id = rate->key.organization_id;
    if (forge_uuid_equal(&flight->organization_id, &rate->key.organization_id) && board(flight, rate)) {
        rate->round = boarding->round;
        rate->is_touched = false;
    }
}

/* One flight; false when there was nothing for it, or the database is away. */
static bool flush_some(struct policy_rates *rates, struct forge_arena *arena, uint64_t until_ns)
{
    struct flight flight = {.now_us = forge_clock_wall_us(),
                            .arena = arena,
                            .slots = forge_arena_calloc(arena, GROUP_KEYS_MAX * SLOTS, sizeof(struct slot_row *))};
    struct boarding boarding = {.flight = &flight, .round = rates->round};
    struct db_session *session = NULL;
    struct forge_error error = {0};
    struct db_rows rows;
    if (flight.slots == NULL)
        return false;
    pthread_mutex_lock(&rates->lock);
    drop_unused(rates, flight.now_us);
    twalk_r(rates->tree, board_if_touched, &boarding);
    pthread_mutex_unlock(&rates->lock);
    if (flight.key_count == 0)
        return false;
    forge_code code = db_pool_lease(rates->config.pool, arena, until_ns, &session, &error);
    if (code == FORGE_OK) {
        db_session_bind_tenant(session, &flight.organization_id);
        queue_delete(session, &flight);
        code = fly(session, &flight, &rows, &error);
    }
    pthread_mutex_lock(&rates->lock);
    land(rates, &flight, code, &error, &rows);
    pthread_mutex_unlock(&rates->lock);
    db_pool_release(session);
    if (code != FORGE_OK)
        base_log_failure(BASE_LOG_WARNING, "rates were not exchanged with other servers", &error);
    return code != FORGE_UNAVAILABLE && code != FORGE_DEADLINE_EXCEEDED;
}

void policy_rates_flush(struct policy_rates *rates, uint64_t until_ns)
{
    struct forge_arena arena;
    rates->round++; /* only this thread looks at it */
    forge_arena_init(&arena, ARENA_BYTES_MAX, rates->config.budget);
    while (flush_some(rates, &arena, until_ns))
        forge_arena_reset(&arena);
    forge_arena_done(&arena);
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

static double read_keys(void *user, unsigned index)
{
    struct policy_rates *rates = user;
    pthread_mutex_lock(&rates->lock);
    unsigned count = rates->count;
    pthread_mutex_unlock(&rates->lock);
    return count;
}

forge_code policy_rates_new(const struct policy_rates_config *config, struct policy_rates **out, struct forge_error *error)
{
    pthread_condattr_t monotonic;
    struct policy_rates *rates = calloc(1, sizeof *rates);
    if (rates == NULL)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for rates");
    rates->config = *config;
    pthread_mutex_init(&rates->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&rates->synced, &monotonic);
    pthread_condattr_destroy(&monotonic);
    base_metric_new_function(config->metrics, BASE_METRIC_GAUGE, "forged_policy_rate_keys", "Rates that are counted in memory.", NULL,
                             read_keys, rates);
    *out = rates;
    return FORGE_OK;
}

void policy_rates_free(struct policy_rates *rates)
{
    if (rates == NULL)
        return;
    tdestroy(rates->tree, free);
    pthread_cond_destroy(&rates->synced);
    pthread_mutex_destroy(&rates->lock);
    free(rates);
}
