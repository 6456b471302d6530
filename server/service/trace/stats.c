/* TraceService: GetTraceStats. */
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum {
    MICROSECONDS = 1000000,
    DAY_S = 24 * 3600,
    BUCKET_S_MAX = 366 * DAY_S,
    BUCKETS_MAX = 10000,
    FIGURES_MAX = 2 * BUCKETS_MAX, /* a series has a total, and a bucket at least */
    SCORES_MAX = 100000,
    SCORE_PARTS_EXPONENT = 64, /* what the statements add up is scores / 2^64 */
    MODEL_CHARACTERS_MAX = 255,
    LABEL_CHARACTERS_MAX = 64
};

/* --- the question ---------------------------------------------------------------------------------------------------- */

struct query {
    struct forge_uuid project_id, prompt_id; /* of the filter; nil = any */
    int64_t start_us, end_us, bucket_us;
    int64_t last_end_us;       /* without a group: no span of these traces starts later */
    const char *model, *label; /* NULL = any */
    bool is_grouped, is_filtered;
};

/* Every bucket is as long as the others and begins at a multiple of its length since 1970-01-01 UTC, where no zone changes its clocks. */
static void round_down(struct query *query, int64_t bucket_s)
{
    if (query->start_us < 0)
        query->start_us = 0; /* no span starts before 1970 */
    if (query->end_us <= query->start_us)
        query->end_us = query->start_us + 1;
    if (bucket_s > 0)
        query->start_us -= query->start_us % (bucket_s * MICROSECONDS);
    query->bucket_us = bucket_s > 0 ? bucket_s * MICROSECONDS : query->end_us - query->start_us;
}

static void range_check(struct rpc_call *call, const Forge__V1__GetTraceStatsRequest *in, struct query *query)
{
    bool is_valid = in->bucket_s >= 0 && in->bucket_s <= BUCKET_S_MAX;
    if (!is_valid)
        rpc_call_violation(call, "bucket_s", "must be 0 to %d", BUCKET_S_MAX);
    query->end_us = call->now_us;
    if (in->end_time != NULL && !validate_time(call, "end_time", in->end_time, &query->end_us))
        is_valid = false;
    query->start_us = query->end_us - INT64_C(1) * DAY_S * MICROSECONDS;
    if (in->start_time != NULL && !validate_time(call, "start_time", in->start_time, &query->start_us))
        is_valid = false;
    if (!is_valid)
        return;
    if (query->end_us > query->start_us)
        round_down(query, in->bucket_s);
    else if (in->end_time != NULL)
        rpc_call_violation(call, "end_time", "must be after start_time");
    else
        rpc_call_violation(call, "start_time", "must be before now, where end_time is not given");
}

static void filters_check(struct rpc_call *call, const Forge__V1__GetTraceStatsRequest *in, struct query *query)
{
    validate_text(call, "model", in->model, MODEL_CHARACTERS_MAX);
    if (in->prompt_id[0] != '\0')
        validate_uuid(call, "prompt_id", in->prompt_id, &query->prompt_id);
    else if (in->prompt_version > 0)
        rpc_call_violation(call, "prompt_version", "needs prompt_id");
    else if (in->prompt_label[0] != '\0')
        rpc_call_violation(call, "prompt_label", "needs prompt_id");
    if (in->prompt_version < 0)
        rpc_call_violation(call, "prompt_version", "must be 0 or more");
    validate_text(call, "prompt_label", in->prompt_label, LABEL_CHARACTERS_MAX);
    if (in->kind != 0 && !query->is_grouped)
        rpc_call_violation(call, "kind", "needs group_by");
    query->model = in->model[0] != '\0' ? in->model : NULL;
    query->label = in->prompt_label[0] != '\0' ? in->prompt_label : NULL;
    query->is_filtered = query->model != NULL || in->prompt_id[0] != '\0';
}

static forge_code query_check(struct rpc_call *call, const Forge__V1__GetTraceStatsRequest *in, struct query *query)
{
    *query = (struct query){.is_grouped = in->group_by != FORGE__V1__TRACE_STATS_GROUP__TRACE_STATS_GROUP_UNSPECIFIED};
    validate_uuid(call, "project_id", in->project_id, &query->project_id);
    range_check(call, in, query);
    filters_check(call, in, query);
    forge_code rc = validate_end_in_project(call, &query->project_id);
    if (rc != FORGE_OK)
        return rc;
    int64_t bucket_count = (query->end_us - query->start_us + query->bucket_us - 1) / query->bucket_us;
    if (bucket_count > BUCKETS_MAX)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED,
                             "the range has %" PRId64 " buckets, at most %d are allowed: ask for longer ones or a shorter range",
                             bucket_count, BUCKETS_MAX);
    return FORGE_OK;
}

/* --- statements ------------------------------------------------------------------------------------------------------ */

static struct db_stmt *range_statement(struct rpc_call *call, enum sql_id id, const struct query *query)
{
    struct db_stmt *q = db_stmt(call->db, id);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &query->project_id);
    db_bind_time_us(q, query->start_us);
    db_bind_time_us(q, query->end_us);
    return q;
}

static void bind_filter(struct db_stmt *q, const Forge__V1__GetTraceStatsRequest *in, const struct query *query)
{
    db_bind_text(q, query->model);
    db_bind_uuid(q, in->prompt_id[0] != '\0' ? &query->prompt_id : NULL);
    db_bind_int32(q, in->prompt_version);
    db_bind_text(q, query->label);
}

/* traces and spans: the statements that answer this question about either. */
static forge_code run(struct rpc_call *call, const Forge__V1__GetTraceStatsRequest *in, const struct query *query, enum sql_id traces,
                      enum sql_id spans, int32_t rows_max, struct db_rows *rows)
{
    struct db_stmt *q = range_statement(call, query->is_grouped ? spans : traces, query);
    db_bind_int64(q, query->start_us);
    db_bind_int64(q, query->bucket_us);
    if (query->is_grouped) {
        db_bind_int32(q, (int32_t)in->group_by);
        bind_filter(q, in, query);
        db_bind_int32(q, (int32_t)in->kind);
    } else {
        db_bind_bool(q, query->is_filtered);
        db_bind_time_us(q, query->last_end_us);
        bind_filter(q, in, query);
    }
    db_bind_int32(q, rows_max + 1);
    return db_run_many(q, rows, &call->error);
}

/* Whether there is such a project, and how far the spans of its traces may reach where they are asked for. */
static forge_code read_extent(struct rpc_call *call, const Forge__V1__GetTraceStatsRequest *in, struct query *query)
{
    struct db_row row;
    struct db_stmt *q = range_statement(call, SQL_TRACE_STATS_EXTENT, query);
    db_bind_bool(q, query->is_filtered && !query->is_grouped);
    forge_code rc = reply_run_found(call, q, "project", in->project_id, &row);
    if (rc == FORGE_OK)
        query->last_end_us = db_row_is_null(&row, "last_end_us") ? query->start_us : db_row_int64(&row, "last_end_us");
    return rc;
}

/* --- figures --------------------------------------------------------------------------------------------------------- */

/* Which series and bucket a row is of. */
struct key {
    char *model, *label;         /* NULL = the question does not divide by it */
    struct forge_uuid prompt_id; /* nil in the same way */
    int32_t version;
    int64_t bucket; /* TOTAL = of the series */
};
enum { TOTAL = -1 };

static void key_from_row(const struct db_row *row, struct key *key)
{
    *key = (struct key){.model = db_row_text(row, "model"),
                        .label = db_row_text(row, "prompt_label"),
                        .version = db_row_int32(row, "prompt_version"),
                        .bucket = db_row_is_null(row, "bucket") ? TOTAL : db_row_int64(row, "bucket")};
    if (!db_row_is_null(row, "prompt_id"))
        db_row_uuid(row, "prompt_id", &key->prompt_id);
}

static bool is_same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool is_same_key(const struct key *a, const struct key *b)
{
    return a->bucket == b->bucket && a->version == b->version && forge_uuid_equal(&a->prompt_id, &b->prompt_id) &&
           is_same_text(a->model, b->model) && is_same_text(a->label, b->label);
}

/* The figures of a row, in the order of the rows. */
struct figure {
    struct key key;
    Forge__V1__TraceStatsBucket *message;
};

static Forge__V1__TraceStatsBucket *bucket_from_row(struct rpc_call *call, const struct query *query, const struct db_row *row,
                                                    const struct key *key)
{
    Forge__V1__TraceStatsBucket *bucket = reply_message(call, &forge__v1__trace_stats_bucket__descriptor);
    if (bucket == NULL)
        return NULL;
    bucket->start_time = reply_time_us(call, query->start_us + (key->bucket != TOTAL ? key->bucket * query->bucket_us : 0));
    bucket->count = db_row_int64(row, "row_count");
    bucket->error_count = db_row_int64(row, "error_count");
    bucket->duration_p50_us = db_row_int64(row, "duration_p50_ns") / 1000;
    bucket->duration_p95_us = db_row_int64(row, "duration_p95_ns") / 1000;
    bucket->duration_p99_us = db_row_int64(row, "duration_p99_ns") / 1000;
    bucket->usage = reply_usage(call, row);
    bucket->cost_micros = db_row_int64(row, "cost_micros");
    return bucket;
}

static Forge__V1__TraceStatsSeries *series_new(struct rpc_call *call, const struct key *key)
{
    Forge__V1__TraceStatsSeries *series = reply_message(call, &forge__v1__trace_stats_series__descriptor);
    if (series == NULL)
        return NULL;
    if (key->model != NULL)
        series->model = key->model;
    if (forge_uuid_is_nil(&key->prompt_id))
        return series;
    series->prompt = reply_message(call, &forge__v1__prompt_use__descriptor);
    if (series->prompt == NULL)
        return NULL;
    series->prompt->prompt_id = reply_uuid(call, &key->prompt_id);
    series->prompt->version = key->version;
    if (key->label != NULL)
        series->prompt->label = key->label;
    return series;
}

/* A series begins with the row of its total; its buckets follow. */
static forge_code fill_series(struct rpc_call *call, const struct query *query, const struct db_rows *rows, struct figure *figures,
                              Forge__V1__GetTraceStatsResponse *out)
{
    Forge__V1__TraceStatsBucket **buckets = forge_arena_calloc(call->arena, (size_t)rows->count + 1, sizeof *buckets);
    Forge__V1__TraceStatsSeries *series = NULL;
    size_t bucket_count = 0;
    out->series = forge_arena_calloc(call->arena, (size_t)rows->count + 1, sizeof out->series[0]);
    for (int i = 0; i < rows->count && !forge_arena_has_overflowed(call->arena); i++) {
        struct db_row row = db_rows_at(rows, i);
        key_from_row(&row, &figures[i].key);
        figures[i].message = bucket_from_row(call, query, &row, &figures[i].key);
        if (figures[i].key.bucket == TOTAL) {
            series = series_new(call, &figures[i].key);
            if (series == NULL)
                break; /* rpc sees the overflow */
            out->series[out->n_series++] = series;
            series->total = figures[i].message;
            series->buckets = buckets + bucket_count;
        } else if (series != NULL) {
            buckets[bucket_count++] = figures[i].message;
            series->n_buckets++;
        }
    }
    if (rows->count > FIGURES_MAX || bucket_count > BUCKETS_MAX)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "all series together have over %d buckets: ask for longer ones or filter",
                             BUCKETS_MAX);
    return FORGE_OK;
}

/* --- scores ---------------------------------------------------------------------------------------------------------- */

static Forge__V1__ScoreAverage *average_from_row(struct rpc_call *call, const struct db_row *row)
{
    Forge__V1__ScoreAverage *average = reply_message(call, &forge__v1__score_average__descriptor);
    if (average == NULL)
        return NULL;
    average->name = db_row_text(row, "name");
    average->count = db_row_int64(row, "score_count");
    average->average = ldexp(db_row_double(row, "score_sum") / (double)average->count, SCORE_PARTS_EXPONENT);
    return average;
}

/* Both stand in the same order. A row without figures is of what was stored between the two statements. */
static forge_code fill_scores(struct rpc_call *call, const struct db_rows *rows, const struct figure *figures, size_t figure_count)
{
    Forge__V1__ScoreAverage **averages = forge_arena_calloc(call->arena, (size_t)rows->count + 1, sizeof *averages);
    size_t at = 0;
    if (rows->count > SCORES_MAX)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "there are over %d mean scores: ask for longer buckets or filter", SCORES_MAX);
    for (int i = 0; i < rows->count && !forge_arena_has_overflowed(call->arena); i++) {
        struct db_row row = db_rows_at(rows, i);
        struct key key;
        key_from_row(&row, &key);
        size_t found = at;
        while (found < figure_count && !is_same_key(&figures[found].key, &key))
            found++;
        if (found == figure_count)
            continue;
        at = found;
        averages[i] = average_from_row(call, &row);
        if (figures[at].message->n_scores++ == 0)
            figures[at].message->scores = averages + i;
    }
    return FORGE_OK;
}

/* --- the call -------------------------------------------------------------------------------------------------------- */

static forge_code answer(struct rpc_call *call, const Forge__V1__GetTraceStatsRequest *in, struct query *query,
                         Forge__V1__GetTraceStatsResponse *out)
{
    struct db_rows rows, score_rows;
    forge_code rc = read_extent(call, in, query);
    if (rc == FORGE_OK)
        rc = run(call, in, query, SQL_TRACE_STATS_TRACES, SQL_TRACE_STATS_SPANS, FIGURES_MAX, &rows);
    if (rc != FORGE_OK)
        return rc;
    struct figure *figures = forge_arena_calloc(call->arena, (size_t)rows.count + 1, sizeof *figures);
    rc = fill_series(call, query, &rows, figures, out);
    if (rc == FORGE_OK)
        rc = run(call, in, query, SQL_TRACE_STATS_TRACE_SCORES, SQL_TRACE_STATS_SPAN_SCORES, SCORES_MAX, &score_rows);
    if (rc == FORGE_OK && !forge_arena_has_overflowed(call->arena))
        rc = fill_scores(call, &score_rows, figures, (size_t)rows.count);
    return rc;
}

forge_code trace_get_stats(struct rpc_call *call, const Forge__V1__GetTraceStatsRequest *in, Forge__V1__GetTraceStatsResponse *out)
{
    struct query query;
    forge_code rc = query_check(call, in, &query);
    if (rc == FORGE_OK)
        rc = answer(call, in, &query, out);
    if (rc == FORGE_DEADLINE_EXCEEDED)
        return rpc_call_fail(call, rc, "the figures were not ready by the deadline: ask for a shorter range or give the call more time");
    return rc;
}
