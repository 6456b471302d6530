#include "service/trace/store.h"

#include "db/tx.h"
#include "service/cost.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ATTEMPTS_MAX = 4, DAY_S = 24 * 3600, MICROSECONDS = 1000000 };
static const char no_partition[] = "23514"; /* check_violation: what a row that no partition takes is refused with */

struct store {
    struct db_session *db;
    struct forge_arena *arena;
    const struct forge_uuid *organization_id;
    int64_t now_us;
    struct trace_span **spans; /* in the order of their keys */
    size_t count;
    struct forge_error *error;
};

/* Some of them. */
struct list {
    struct trace_span **spans;
    size_t count;
};

/* --- order ----------------------------------------------------------------------------------------------------------- */

static int compare_identity(const struct trace_span *a, const struct trace_span *b)
{
    int order = memcmp(a->project_id.bytes, b->project_id.bytes, sizeof a->project_id.bytes);
    if (order == 0)
        order = memcmp(a->trace_id.data, b->trace_id.data, TRACE_ID_BYTES);
    if (order == 0)
        order = memcmp(a->span_id.data, b->span_id.data, TRACE_SPAN_ID_BYTES);
    return order != 0 ? order : (a->started_us > b->started_us) - (a->started_us < b->started_us);
}

static int compare_spans(const void *a, const void *b)
{
    const struct trace_span *x = *(struct trace_span *const *)a, *y = *(struct trace_span *const *)b;
    int order = compare_identity(x, y);
    return order != 0 ? order : (x->order > y->order) - (x->order < y->order);
}

static bool is_same_trace(const struct trace_span *a, const struct trace_span *b)
{
    return forge_uuid_equal(&a->project_id, &b->project_id) && memcmp(a->trace_id.data, b->trace_id.data, TRACE_ID_BYTES) == 0;
}

static void sort(struct store *store)
{
    for (size_t i = 0; i < store->count; i++)
        store->spans[i]->order = i;
    qsort(store->spans, store->count, sizeof store->spans[0], compare_spans);
    for (size_t i = 0; i < store->count; i++) {
        struct trace_span *span = store->spans[i], *before = i > 0 ? store->spans[i - 1] : NULL;
        bool has_twin = before != NULL && compare_identity(before, span) == 0;
        span->first = !has_twin ? NULL : before->first != NULL ? before->first : before;
        span->outcome = TRACE_ACCEPTED;
    }
}

/* Accepted as far as we know, and not the repetition of another one. */
static bool is_chosen(const struct trace_span *span)
{
    return span->outcome == TRACE_ACCEPTED && span->first == NULL;
}

/* Something stands, or may stand, under its identity already. */
static bool is_to_compare(const struct trace_span *span)
{
    return span->outcome == TRACE_GONE || (span->outcome == TRACE_ACCEPTED && span->first != NULL);
}

static struct list pick(struct store *store, bool (*wanted)(const struct trace_span *span))
{
    struct list list = {.spans = forge_arena_calloc(store->arena, store->count, sizeof(struct trace_span *))};
    for (size_t i = 0; list.spans != NULL && i < store->count; i++)
        if (wanted(store->spans[i]))
            list.spans[list.count++] = store->spans[i];
    return list;
}

/* --- statements ------------------------------------------------------------------------------------------------------ */

struct column {
    enum db_member member;
    size_t offset;
};
#define COLUMN(member, name)                                                                                                               \
    {                                                                                                                                      \
        DB_MEMBER_##member, offsetof(struct trace_span, name)                                                                              \
    }
/* The identity first: statements that only look for spans bind no more. */
enum { TRACE_COLUMNS = 2, KEY_COLUMNS = 4 };
static const struct column columns[] = {
    COLUMN(UUID, project_id),
    COLUMN(BYTES, trace_id),
    COLUMN(BYTES, span_id),
    COLUMN(TIME_US, started_us),
    COLUMN(BYTES, parent_span_id),
    COLUMN(TEXT, name),
    COLUMN(INT32, kind),
    COLUMN(INT64, start_ns),
    COLUMN(INT64, end_ns),
    COLUMN(INT32, status),
    COLUMN(TEXT, status_message),
    COLUMN(TEXT, provider),
    COLUMN(TEXT, model),
    COLUMN(UUID, model_id),
    COLUMN(TEXT, parameters),
    COLUMN(INT64, input_tokens),
    COLUMN(INT64, cache_read_tokens),
    COLUMN(INT64, cache_write_tokens),
    COLUMN(INT64, output_tokens),
    COLUMN(INT64, reasoning_tokens),
    COLUMN(INT64, cost_micros),
    COLUMN(UUID, price_id),
    COLUMN(INT64, time_to_first_token_us),
    COLUMN(UUID, prompt_id),
    COLUMN(INT32, prompt_version),
    COLUMN(TEXT, prompt_label),
    COLUMN(TEXT, session_id),
    COLUMN(TEXT, user_id),
    COLUMN(TEXT, input),
    COLUMN(TEXT, output),
    COLUMN(BYTES, details),
    COLUMN(BYTES, content_hash),
    COLUMN(INT32, policy_action),
};
enum { COLUMNS = sizeof columns / sizeof columns[0] };

static void bind_columns(struct db_stmt *q, size_t column_count, const struct list *list)
{
    for (size_t i = 0; i < column_count; i++)
        db_bind_column(q, columns[i].member, columns[i].offset, (const void *const *)list->spans, list->count);
}

static struct db_stmt *statement(struct store *store, enum sql_id id)
{
    struct db_stmt *q = db_stmt(store->db, id);
    db_bind_uuid(q, store->organization_id);
    return q;
}

/* Which of the list a row is about. */
static struct trace_span *span_of(const struct list *list, const struct db_row *row)
{
    return list->spans[db_row_int64(row, "ordinal") - 1];
}

/* What is stored under the identities of the list tells repeats from conflicts; where nothing is, the outcome stays. */
static forge_code compare_with_stored(struct store *store, const struct list *list)
{
    struct db_rows rows;
    if (list->count == 0)
        return FORGE_OK;
    struct db_stmt *q = statement(store, SQL_TRACE_STORED);
    bind_columns(q, KEY_COLUMNS, list);
    forge_code rc = db_run_many(q, &rows, store->error);
    for (int i = 0; rc == FORGE_OK && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        struct trace_span *span = span_of(list, &row);
        size_t size;
        const uint8_t *hash = db_row_bytes(&row, "content_hash", &size);
        bool is_same = hash != NULL && size == span->content_hash.size && memcmp(hash, span->content_hash.data, size) == 0;
        span->outcome = is_same ? TRACE_DUPLICATE : TRACE_CONFLICT;
    }
    return rc;
}

/* --- opening --------------------------------------------------------------------------------------------------------- */

/* The spans of one trace, which has so many already. Near the limit those that are stored already take no room. */
static forge_code check_room(struct store *store, const struct list *trace, int64_t stored)
{
    int64_t room = TRACE_SPANS_MAX - stored;
    if ((int64_t)trace->count <= room)
        return FORGE_OK;
    forge_code rc = compare_with_stored(store, trace);
    for (size_t i = 0; rc == FORGE_OK && i < trace->count; i++)
        if (trace->spans[i]->outcome == TRACE_ACCEPTED && room-- <= 0)
            trace->spans[i]->outcome = TRACE_FULL;
    return rc;
}

static forge_code open_trace(struct store *store, const struct list *trace, const struct db_row *row)
{
    if (db_row_bool(row, "is_live"))
        return check_room(store, trace, db_row_int64(row, "span_count"));
    for (size_t i = 0; i < trace->count; i++)
        trace->spans[i]->outcome = TRACE_NO_PROJECT;
    return FORGE_OK;
}

/* Locks projects and traces, and decides which spans have a place. */
static forge_code open_traces(struct store *store)
{
    struct list chosen = pick(store, is_chosen), heads = {.spans = forge_arena_calloc(store->arena, chosen.count, sizeof heads.spans[0])};
    struct db_rows rows;
    for (size_t i = 0; heads.spans != NULL && i < chosen.count; i++)
        if (i == 0 || !is_same_trace(chosen.spans[i - 1], chosen.spans[i]))
            heads.spans[heads.count++] = chosen.spans[i];
    struct db_stmt *q = statement(store, SQL_TRACE_OPEN);
    bind_columns(q, TRACE_COLUMNS, &heads);
    forge_code rc = db_run_many(q, &rows, store->error);
    size_t begin = 0;
    for (int i = 0; rc == FORGE_OK && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        size_t end = begin + 1;
        while (end < chosen.count && is_same_trace(chosen.spans[begin], chosen.spans[end]))
            end++;
        rc = open_trace(store, &(struct list){chosen.spans + begin, end - begin}, &row);
        begin = end;
    }
    return rc;
}

/* --- prices ---------------------------------------------------------------------------------------------------------- */

static bool names_model(const struct trace_span *span)
{
    return is_chosen(span) && span->provider != NULL && span->model != NULL;
}

static bool is_same_model(const struct trace_span *a, const struct trace_span *b)
{
    return strcmp(a->provider, b->provider) == 0 && strcmp(a->model, b->model) == 0;
}

/* One of each model, which the others are like. */
static struct list models_of(struct store *store, const struct list *spans)
{
    struct list models = {.spans = forge_arena_calloc(store->arena, spans->count, sizeof models.spans[0])};
    for (size_t i = 0; models.spans != NULL && i < spans->count; i++) {
        size_t at = 0;
        while (at < models.count && !is_same_model(models.spans[at], spans->spans[i]))
            at++;
        if (at == models.count)
            models.spans[models.count++] = spans->spans[i];
    }
    return models;
}

static forge_code read_prices(struct store *store, const struct list *spans, const struct list *models, struct db_rows *out_rows)
{
    int64_t first_us = spans->spans[0]->started_us, last_us = first_us;
    for (size_t i = 1; i < spans->count; i++) {
        int64_t started_us = spans->spans[i]->started_us;
        first_us = started_us < first_us ? started_us : first_us;
        last_us = started_us > last_us ? started_us : last_us;
    }
    struct db_stmt *q = statement(store, SQL_TRACE_PRICES);
    db_bind_column(q, DB_MEMBER_TEXT, offsetof(struct trace_span, provider), (const void *const *)models->spans, models->count);
    db_bind_column(q, DB_MEMBER_TEXT, offsetof(struct trace_span, model), (const void *const *)models->spans, models->count);
    db_bind_time_us(q, first_us);
    db_bind_time_us(q, last_us);
    return db_run_many(q, out_rows, store->error);
}

/* A price of a model; several, the latest first. */
struct price {
    const struct trace_span *model;
    struct forge_uuid model_id;
    int64_t effective_us;
    struct cost_price price;
};

static void set_price(struct trace_span *span, const struct price *prices, size_t count)
{
    const Forge__V1__TokenUsage usage = {.input_tokens = span->input_tokens,
                                         .cache_read_tokens = span->cache_read_tokens,
                                         .cache_write_tokens = span->cache_write_tokens,
                                         .output_tokens = span->output_tokens,
                                         .reasoning_tokens = span->reasoning_tokens};
    for (size_t i = 0; i < count; i++) {
        if (!is_same_model(prices[i].model, span))
            continue;
        span->model_id = prices[i].model_id;
        if (span->cost_is_given || !span->has_usage || forge_uuid_is_nil(&prices[i].price.id))
            return;
        if (prices[i].effective_us > span->started_us)
            continue;
        span->price_id = prices[i].price.id;
        span->cost_micros = cost_of_usage(&prices[i].price, &usage);
        return;
    }
}

/* Which of our models each span means, and what it cost by the price in force at its start. */
static forge_code set_prices(struct store *store)
{
    struct list spans = pick(store, names_model);
    struct db_rows rows;
    if (spans.count == 0)
        return FORGE_OK;
    const struct list models = models_of(store, &spans);
    forge_code rc = read_prices(store, &spans, &models, &rows);
    if (rc != FORGE_OK)
        return rc;
    struct price *prices = forge_arena_calloc(store->arena, (size_t)rows.count, sizeof *prices);
    for (int i = 0; prices != NULL && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        prices[i].model = span_of(&models, &row);
        prices[i].effective_us = db_row_time_us(&row, "effective_at");
        db_row_uuid(&row, "model_id", &prices[i].model_id);
        cost_price_from_row(&row, &prices[i].price);
    }
    for (size_t i = 0; prices != NULL && i < spans.count; i++)
        set_price(spans.spans[i], prices, (size_t)rows.count);
    return FORGE_OK;
}

forge_code trace_price(struct db_session *db, struct forge_arena *arena, const struct forge_uuid *organization_id,
                       struct trace_span **spans, size_t count, struct forge_error *error)
{
    struct store store = {.db = db, .arena = arena, .organization_id = organization_id, .spans = spans, .count = count, .error = error};
    return set_prices(&store);
}

/* --- storing --------------------------------------------------------------------------------------------------------- */

static forge_code insert(struct store *store)
{
    struct list chosen = pick(store, is_chosen);
    struct db_rows rows;
    if (chosen.count == 0)
        return FORGE_OK;
    struct db_stmt *q = statement(store, SQL_TRACE_INSERT);
    db_bind_time_us(q, store->now_us);
    bind_columns(q, COLUMNS, &chosen);
    forge_code rc = db_run_many(q, &rows, store->error);
    for (int i = 0; rc == FORGE_OK && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        span_of(&chosen, &row)->outcome = TRACE_GONE; /* until what was in its way is found */
    }
    return rc;
}

static forge_code compare(struct store *store)
{
    struct list list = pick(store, is_to_compare);
    forge_code rc = compare_with_stored(store, &list);
    for (size_t i = 0; rc == FORGE_OK && i < store->count; i++)
        if (store->spans[i]->first != NULL && store->spans[i]->outcome == TRACE_ACCEPTED)
            store->spans[i]->outcome = store->spans[i]->first->outcome; /* which was not stored either */
    return rc;
}

/* What policies found on the spans that are really new goes out with COMMIT. */
static void queue_violations(struct store *store)
{
    const struct list stored = pick(store, is_chosen);
    size_t count = 0;
    for (size_t i = 0; i < stored.count; i++)
        count += stored.spans[i]->violations.count;
    const struct policy_violation **violations =
        count > 0 ? forge_arena_calloc(store->arena, count, sizeof(const struct policy_violation *)) : NULL;
    if (violations == NULL)
        return; /* rpc sees an overflow */
    count = 0;
    for (size_t i = 0; i < stored.count; i++)
        for (size_t j = 0; j < stored.spans[i]->violations.count; j++)
            violations[count++] = &stored.spans[i]->violations.list[j];
    policy_violations_queue(store->db, store->organization_id, store->now_us, violations, count);
}

/* What an attempt before has found, but for days without a partition. */
static void forget(struct trace_span *span)
{
    if (span->outcome != TRACE_NO_DAY)
        span->outcome = TRACE_ACCEPTED;
    if (!span->cost_is_given)
        span->cost_micros = TRACE_NO_COST;
    span->model_id = span->price_id = (struct forge_uuid){0};
}

static forge_code store_once(struct store *store)
{
    bool unknown;
    for (size_t i = 0; i < store->count; i++)
        forget(store->spans[i]);
    db_tx_begin(store->db);
    forge_code rc = open_traces(store);
    if (rc == FORGE_OK)
        rc = set_prices(store);
    if (rc == FORGE_OK)
        rc = insert(store);
    if (rc == FORGE_OK)
        rc = compare(store);
    if (rc == FORGE_OK)
        queue_violations(store);
    if (rc == FORGE_OK && forge_arena_has_overflowed(store->arena))
        rc = forge_error_set(store->error, FORGE_RESOURCE_EXHAUSTED, "the spans need too much memory");
    if (rc == FORGE_OK)
        return db_tx_commit(store->db, &unknown, store->error);
    db_tx_rollback(store->db);
    return rc;
}

/* --- days without a partition ---------------------------------------------------------------------------------------- */

static void write_time(int64_t seconds, char out[32])
{
    time_t time = (time_t)seconds;
    struct tm tm;
    gmtime_r(&time, &tm);
    strftime(out, 32, "%Y-%m-%d %H:%M:%S+00", &tm);
}

/* The bounds of the day that a span starts in, as pg_get_expr() writes them. */
static const char *bound_of(struct store *store, const struct trace_span *span)
{
    char from[32], to[32];
    int64_t seconds = span->started_us / MICROSECONDS, day = seconds - seconds % DAY_S;
    write_time(day, from);
    write_time(day + DAY_S, to);
    return forge_arena_printf(store->arena, "FOR VALUES FROM ('%s') TO ('%s')", from, to);
}

/* Spans of days without a partition leave the batch. Asked only after PostgreSQL has refused one: days are there ahead. */
static forge_code leave_out_days(struct store *store)
{
    struct list chosen = pick(store, is_chosen);
    const char **bounds = forge_arena_calloc(store->arena, chosen.count, sizeof *bounds);
    struct db_rows rows;
    for (size_t i = 0; bounds != NULL && i < chosen.count; i++)
        bounds[i] = bound_of(store, chosen.spans[i]);
    if (forge_arena_has_overflowed(store->arena))
        return forge_error_set(store->error, FORGE_RESOURCE_EXHAUSTED, "the spans need too much memory");
    struct db_stmt *q = db_stmt(store->db, SQL_TRACE_MISSING_DAYS);
    db_bind_text_array(q, bounds, chosen.count);
    forge_code rc = db_run_many(q, &rows, store->error);
    if (rc == FORGE_OK && rows.count == 0)
        return forge_error_set(store->error, FORGE_INTERNAL, "the database refused a span whose day has a partition");
    for (int i = 0; rc == FORGE_OK && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        span_of(&chosen, &row)->outcome = TRACE_NO_DAY;
    }
    return rc;
}

/* After a failure that another attempt may not have: another transaction of the same rows (a deadlock), days that are left out now. */
static bool goes_on(struct store *store, forge_code *rc)
{
    if (*rc != FORGE_INVALID_ARGUMENT || strcmp(store->error->sqlstate, no_partition) != 0)
        return *rc == FORGE_ABORTED;
    *rc = leave_out_days(store);
    return *rc == FORGE_OK;
}

forge_code trace_store(struct db_session *db, struct forge_arena *arena, const struct forge_uuid *organization_id, int64_t now_us,
                       struct trace_span **spans, size_t count, struct forge_error *error)
{
    struct store store = {db, arena, organization_id, now_us, spans, count, error};
    sort(&store);
    for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        forge_code rc = store_once(&store);
        if (rc == FORGE_OK || !goes_on(&store, &rc))
            return rc;
        *error = (struct forge_error){0};
    }
    return forge_error_set(error, FORGE_ABORTED, "other calls wrote the same spans at the same time");
}
