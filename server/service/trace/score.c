/* TraceService: RecordScores and DeleteScore. */
#include "service/trace/score.h"

#include "db/column.h"
#include "rpc/usage.h"
#include "rpc/write.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <stdlib.h>
#include <string.h>

enum { SCORES_PER_CALL_MAX = 1000 };

/* What becomes of a score. */
enum outcome {
    OUTCOME_ADDED,     /* the first value of its identity */
    OUTCOME_REPLACES,  /* the value before it goes to the history */
    OUTCOME_DUPLICATE, /* it is the present value already */
    OUTCOME_NO_TARGET, /* the execution does not exist */
    OUTCOME_GONE       /* the score in its way was deleted at the same moment */
};

/* A score of the request on its way. */
struct item {
    struct score score;
    size_t index; /* which one of the request it is */
    enum outcome outcome;
    struct forge_uuid id; /* of the score */
    int64_t changed_us;   /* when its value is given */
    /* Where the value is replaced: its row in the history. */
    struct forge_uuid history_id;
    int64_t replaced_us;
};

struct list {
    struct item **items;
    size_t count;
};

struct batch {
    struct rpc_call *call;
    struct forge_uuid project_id;
    struct list all;     /* by identity; those of one identity in the request's order */
    struct list heads;   /* the first of each identity */
    struct list stored;  /* heads that replace what is stored: with the row of the stored value in the history */
    struct list given;   /* those that are replaced by a later one of the request */
    struct list present; /* those whose value replaces the one in the scores row */
};

static void list_add(struct list *list, struct item *item)
{
    list->items[list->count++] = item;
}

/* --- identities ------------------------------------------------------------------------------------------------------ */

static int compare_identities(const struct item *a, const struct item *b)
{
    int order = strcmp(a->score.target.kind, b->score.target.kind);
    if (order == 0)
        order = strcmp(a->score.target.text, b->score.target.text);
    if (order == 0)
        order = strcmp(a->score.name, b->score.name);
    return order != 0 ? order : strcmp(a->score.author, b->score.author);
}

static int compare_items(const void *a, const void *b)
{
    const struct item *x = *(struct item *const *)a, *y = *(struct item *const *)b;
    int order = compare_identities(x, y);
    return order != 0 ? order : (x->index > y->index) - (x->index < y->index);
}

static void sort(struct batch *batch)
{
    const struct list *all = &batch->all;
    qsort(all->items, all->count, sizeof all->items[0], compare_items);
    for (size_t i = 0; i < all->count; i++)
        if (i == 0 || compare_identities(all->items[i - 1], all->items[i]) != 0)
            list_add(&batch->heads, all->items[i]);
}

static bool is_same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool is_same_value(const struct score *a, const struct score *b)
{
    return a->value == b->value && a->number == b->number && is_same_text(a->words, b->words) && strcmp(a->source, b->source) == 0 &&
           is_same_text(a->comment, b->comment);
}

/* --- statements ------------------------------------------------------------------------------------------------------ */

struct column {
    enum db_member member;
    size_t offset;
};
static const struct column identity[] = {{DB_MEMBER_TEXT, offsetof(struct item, score.target.kind)},
                                         {DB_MEMBER_TEXT, offsetof(struct item, score.target.text)},
                                         {DB_MEMBER_TEXT, offsetof(struct item, score.name)},
                                         {DB_MEMBER_TEXT, offsetof(struct item, score.author)}},
                           value[] = {{DB_MEMBER_TEXT, offsetof(struct item, score.source)},
                                      {DB_MEMBER_INT32, offsetof(struct item, score.value)},
                                      {DB_MEMBER_DOUBLE, offsetof(struct item, score.number)},
                                      {DB_MEMBER_TEXT, offsetof(struct item, score.words)},
                                      {DB_MEMBER_TEXT, offsetof(struct item, score.comment)}};
enum { IDENTITY_COLUMNS = sizeof identity / sizeof identity[0], VALUE_COLUMNS = sizeof value / sizeof value[0], NAME_COLUMN = 2 };

static void bind_column(struct db_stmt *q, enum db_member member, size_t offset, const struct list *list)
{
    db_bind_column(q, member, offset, (const void *const *)list->items, list->count);
}

static void bind_columns(struct db_stmt *q, const struct column *columns, size_t count, const struct list *list)
{
    for (size_t i = 0; i < count; i++)
        bind_column(q, columns[i].member, columns[i].offset, list);
}

static struct db_stmt *statement(const struct batch *batch, enum sql_id id)
{
    struct db_stmt *q = db_stmt(batch->call->db, id);
    db_bind_uuid(q, &batch->call->principal.organization_id);
    return q;
}

/* Inserts the first of each identity; those that something was in the way of have OUTCOME_GONE until it is found. */
static forge_code insert(struct batch *batch)
{
    struct rpc_call *call = batch->call;
    struct db_rows rows;
    struct db_stmt *q = statement(batch, SQL_SCORE_INSERT);
    db_bind_uuid(q, &batch->project_id);
    db_bind_time_us(q, call->now_us);
    bind_column(q, DB_MEMBER_UUID, offsetof(struct item, id), &batch->heads);
    bind_column(q, DB_MEMBER_INT64, offsetof(struct item, score.target.execution_id), &batch->heads);
    bind_columns(q, identity, IDENTITY_COLUMNS, &batch->heads);
    bind_columns(q, value, VALUE_COLUMNS, &batch->heads);
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", reply_uuid(call, &batch->project_id));
    for (int i = 0; i < rows.count && batch->heads.count > 0; i++) {
        struct db_row row = db_rows_at(&rows, i);
        struct item *head = batch->heads.items[db_row_int64(&row, "ordinal") - 1];
        head->changed_us = call->now_us;
        head->outcome = !db_row_bool(&row, "has_target") ? OUTCOME_NO_TARGET : db_row_bool(&row, "is_added") ? OUTCOME_ADDED : OUTCOME_GONE;
    }
    return FORGE_OK;
}

/* The time of a value that follows on another one of the same score: later, whatever the clocks of the servers say. */
static int64_t time_behind(const struct batch *batch, int64_t before_us)
{
    return batch->call->now_us > before_us ? batch->call->now_us : before_us + 1;
}

/* The head of an identity that is stored already. */
static void meet_stored(struct batch *batch, struct item *head, const struct db_row *row)
{
    db_row_uuid(row, "id", &head->id);
    head->changed_us = db_row_time_us(row, "changed_at");
    head->outcome = db_row_bool(row, "is_same") ? OUTCOME_DUPLICATE : OUTCOME_REPLACES;
    if (head->outcome == OUTCOME_DUPLICATE)
        return;
    head->changed_us = time_behind(batch, head->changed_us);
    list_add(&batch->stored, head);
}

static forge_code lock_stored(struct batch *batch)
{
    struct rpc_call *call = batch->call;
    struct list there = {.items = forge_arena_calloc(call->arena, batch->heads.count, sizeof(struct item *))};
    struct db_rows rows;
    for (size_t i = 0; there.items != NULL && i < batch->heads.count; i++)
        if (batch->heads.items[i]->outcome == OUTCOME_GONE)
            list_add(&there, batch->heads.items[i]);
    if (there.count == 0)
        return FORGE_OK;
    struct db_stmt *q = statement(batch, SQL_SCORE_LOCK);
    db_bind_uuid(q, &batch->project_id);
    bind_columns(q, identity, IDENTITY_COLUMNS, &there);
    bind_columns(q, value, VALUE_COLUMNS, &there);
    forge_code rc = db_run_many(q, &rows, &call->error);
    for (int i = 0; rc == FORGE_OK && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        meet_stored(batch, there.items[db_row_int64(&row, "ordinal") - 1], &row);
    }
    return rc;
}

/* --- several of one identity ----------------------------------------------------------------------------------------- */

/* Each in its turn replaces the one before; the last one that is another value stays. */
static void follow(struct batch *batch, struct item *const *items, size_t count)
{
    struct item *present = items[0];
    for (size_t i = 1; i < count; i++) {
        struct item *next = items[i];
        next->id = present->id;
        if (present->outcome == OUTCOME_NO_TARGET || present->outcome == OUTCOME_GONE)
            next->outcome = present->outcome;
        else if (is_same_value(&present->score, &next->score))
            next->outcome = OUTCOME_DUPLICATE;
        else {
            next->outcome = OUTCOME_REPLACES;
            next->changed_us = present->replaced_us = time_behind(batch, present->changed_us);
            list_add(&batch->given, present);
            present = next;
        }
    }
    if (present->outcome == OUTCOME_REPLACES)
        list_add(&batch->present, present);
}

static void follow_all(struct batch *batch)
{
    const struct list *all = &batch->all;
    size_t begin = 0;
    for (size_t i = 1; i <= all->count; i++)
        if (i == all->count || compare_identities(all->items[begin], all->items[i]) != 0) {
            follow(batch, all->items + begin, i - begin);
            begin = i;
        }
}

/* --- what is replaced ------------------------------------------------------------------------------------------------ */

static void queue_keep_stored(struct batch *batch)
{
    struct db_stmt *q = statement(batch, SQL_SCORE_KEEP_STORED);
    for (size_t i = 0; i < batch->stored.count; i++)
        forge_uuid_v7(&batch->stored.items[i]->history_id);
    bind_column(q, DB_MEMBER_UUID, offsetof(struct item, history_id), &batch->stored);
    bind_column(q, DB_MEMBER_UUID, offsetof(struct item, id), &batch->stored);
    bind_column(q, DB_MEMBER_TIME_US, offsetof(struct item, changed_us), &batch->stored); /* what replaces it begins where it ends */
    db_queue(q);
}

static void queue_keep_given(struct batch *batch)
{
    struct db_stmt *q = statement(batch, SQL_SCORE_KEEP_GIVEN);
    for (size_t i = 0; i < batch->given.count; i++)
        forge_uuid_v7(&batch->given.items[i]->history_id);
    db_bind_uuid(q, &batch->project_id);
    bind_column(q, DB_MEMBER_UUID, offsetof(struct item, history_id), &batch->given);
    bind_column(q, DB_MEMBER_UUID, offsetof(struct item, id), &batch->given);
    bind_column(q, DB_MEMBER_TIME_US, offsetof(struct item, changed_us), &batch->given);
    bind_column(q, DB_MEMBER_TIME_US, offsetof(struct item, replaced_us), &batch->given);
    bind_columns(q, identity + NAME_COLUMN, IDENTITY_COLUMNS - NAME_COLUMN, &batch->given);
    bind_columns(q, value, VALUE_COLUMNS, &batch->given);
    db_queue(q);
}

static void queue_replace(struct batch *batch)
{
    struct db_stmt *q = statement(batch, SQL_SCORE_REPLACE);
    bind_column(q, DB_MEMBER_UUID, offsetof(struct item, id), &batch->present);
    bind_column(q, DB_MEMBER_TIME_US, offsetof(struct item, changed_us), &batch->present);
    bind_columns(q, value, VALUE_COLUMNS, &batch->present);
    db_queue(q);
}

/* --- RecordScores ---------------------------------------------------------------------------------------------------- */

static Forge__V1__RecordScoresResult *result_add(struct rpc_call *call, Forge__V1__RecordScoresResponse *out)
{
    Forge__V1__RecordScoresResult *result = reply_message(call, &forge__v1__record_scores_result__descriptor);
    if (result != NULL)
        result->verdict = reply_message(call, &forge__v1__item_verdict__descriptor);
    if (result == NULL || result->verdict == NULL)
        return NULL;
    out->results[out->n_results++] = result;
    return result;
}

static forge_code request_check(struct rpc_call *call, const Forge__V1__RecordScoresRequest *in, struct batch *batch)
{
    const struct forge_uuid *bound = auth_principal_bound_project(&call->principal);
    *batch = (struct batch){.call = call};
    if (in->project_id[0] == '\0' && bound != NULL)
        batch->project_id = *bound;
    else
        validate_uuid(call, "project_id", in->project_id, &batch->project_id);
    if (in->n_scores < 1 || in->n_scores > SCORES_PER_CALL_MAX)
        rpc_call_violation(call, "scores", "must be 1 to %d", SCORES_PER_CALL_MAX);
    return validate_end_in_project(call, &batch->project_id);
}

/* Room for all scores of the request in each list. */
static struct item *batch_new(struct batch *batch, size_t room)
{
    struct list *const lists[] = {&batch->all, &batch->heads, &batch->stored, &batch->given, &batch->present};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        lists[i]->items = forge_arena_calloc(batch->call->arena, room, sizeof(struct item *));
    return forge_arena_calloc(batch->call->arena, room, sizeof(struct item));
}

/* Checks every score: the good ones go into the batch, the others have their verdict. */
static forge_code batch_fill(struct batch *batch, const Forge__V1__RecordScoresRequest *in, Forge__V1__RecordScoresResponse *out)
{
    struct rpc_call *call = batch->call;
    struct item *items = batch_new(batch, in->n_scores);
    out->results = forge_arena_calloc(call->arena, in->n_scores, sizeof out->results[0]);
    for (size_t i = 0; i < in->n_scores && !forge_arena_has_overflowed(call->arena); i++) {
        Forge__V1__RecordScoresResult *result = result_add(call, out);
        if (result == NULL)
            break;
        items[i].index = i;
        score_check(call, in->scores[i], &items[i].score);
        if (rpc_call_has_violations(call)) {
            reply_reject_invalid(call, result->verdict);
            continue;
        }
        forge_uuid_v7(&items[i].id);
        list_add(&batch->all, &items[i]);
    }
    if (forge_arena_has_overflowed(call->arena))
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the scores need too much memory");
    return FORGE_OK;
}

static void result_set(struct rpc_call *call, const struct item *item, Forge__V1__RecordScoresResult *result)
{
    switch (item->outcome) {
    case OUTCOME_ADDED:
    case OUTCOME_REPLACES:
        result->verdict->outcome = FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED;
        result->score_id = reply_uuid(call, &item->id);
        return;
    case OUTCOME_DUPLICATE:
        result->verdict->outcome = FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_DUPLICATE;
        result->score_id = reply_uuid(call, &item->id);
        return;
    case OUTCOME_NO_TARGET:
        reply_reject(result->verdict, FORGE_NOT_FOUND, forge_arena_printf(call->arena, "execution %s not found", item->score.target.text));
        return;
    case OUTCOME_GONE:
        reply_reject(result->verdict, FORGE_ABORTED, forge_arena_strdup(call->arena, "the score was deleted at the same moment"));
        result->verdict->retryable = true;
        return;
    }
}

static void results_set(const struct batch *batch, Forge__V1__RecordScoresResponse *out)
{
    int64_t recorded = 0;
    for (size_t i = 0; i < batch->all.count; i++) {
        const struct item *item = batch->all.items[i];
        result_set(batch->call, item, out->results[item->index]);
        recorded += item->outcome == OUTCOME_ADDED || item->outcome == OUTCOME_REPLACES;
    }
    if (recorded > 0)
        rpc_usage_add(batch->call, FORGE__V1__USAGE_METRIC__USAGE_METRIC_SCORES, &batch->project_id, recorded);
}

forge_code trace_record_scores(struct rpc_call *call, const Forge__V1__RecordScoresRequest *in, Forge__V1__RecordScoresResponse *out)
{
    struct batch *batch = forge_arena_calloc(call->arena, 1, sizeof *batch); /* what is queued last reads it after this has returned */
    if (batch == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the scores need too much memory");
    forge_code rc = request_check(call, in, batch);
    if (rc == FORGE_OK)
        rc = batch_fill(batch, in, out);
    if (rc != FORGE_OK)
        return rc;
    sort(batch);
    rc = insert(batch);
    if (rc == FORGE_FAILED_PRECONDITION && reply_violates(call, "scores_project_id_fkey"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", reply_uuid(call, &batch->project_id)); /* deleted just now */
    if (rc == FORGE_OK)
        rc = lock_stored(batch);
    if (rc != FORGE_OK)
        return rc;
    if (batch->all.count > 0)
        follow_all(batch);
    if (batch->stored.count > 0)
        queue_keep_stored(batch);
    if (batch->given.count > 0)
        queue_keep_given(batch);
    if (batch->present.count > 0)
        queue_replace(batch);
    results_set(batch, out);
    return FORGE_OK;
}

/* --- DeleteScore ----------------------------------------------------------------------------------------------------- */

forge_code trace_delete_score(struct rpc_call *call, const Forge__V1__DeleteScoreRequest *in, Google__Protobuf__Empty *out)
{
    struct forge_uuid id;
    struct db_row row;
    (void)out;
    if (!validate_uuid(call, "id", in->id, &id))
        return rpc_call_invalid(call);
    struct db_stmt *q = db_stmt(call->db, SQL_SCORE_DELETE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    return reply_run_found(call, q, "score", in->id, &row);
}
