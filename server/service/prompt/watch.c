/* PromptService: WatchPrompts. A call is parked under its project, then the changes behind its token are read; the change feed and the
 * commits of this server wake it (prompt_watch_key). Everything a later call needs is in the token, so it goes on at any server. */
#include "service/prompt/watch.h"

#include "rpc/page.h"
#include "service/prompt/prompt.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/clock.h"

#include "rpc_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROMPTS_MAX = 1000,
    CHANGES_MAX = 10000,
    WAIT_DEFAULT_MS = 30000,
    WAIT_MAX_MS = 300000,
    TOLD_MAX = 24,          /* changes above the floor that a token remembers; those beyond are told again */
    TOKEN_AGE_MAX_S = 3000, /* changes are kept for an hour */
    WAITING_BYTES_MAX = 1 << 20,
    CLUSTER_SIZE = 48,
    XID_SIZE = 24
};
static const struct forge_uuid first_id = {{0}},
                               last_id = {{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}};

void prompt_watch_key(const struct forge_uuid *project_id, char out_key[PROMPT_WATCH_KEY_SIZE])
{
    char id[FORGE_UUID_TEXT_SIZE];
    forge_uuid_format(project_id, id);
    snprintf(out_key, PROMPT_WATCH_KEY_SIZE, PROMPT_WATCH_KEY_PREFIX "%s", id);
}

/* What a token says: where in the listing or in the changes its call goes on. */
struct position {
    bool listing;
    char cluster[CLUSTER_SIZE]; /* system identifier and timeline: of another one no xid means anything */
    uint64_t floor;
    struct forge_uuid behind; /* the last prompt listed; the last change told of transaction floor */
    struct forge_uuid told[TOLD_MAX];
    size_t told_count;
};

struct watch {
    struct forge_uuid project_id, *prompt_ids;
    size_t prompt_count;
    const char *filter;
    struct position from;
};

/* ---- tokens: "L <cluster>" for a listing, "C <cluster> <told ids>" for changes; floor and behind are the number and the id ---- */

static char *token_write(struct rpc_call *call, const struct watch *watch, const struct position *position)
{
    char *name = forge_arena_printf(call->arena, "%c %s", position->listing ? 'L' : 'C', position->cluster);
    for (size_t i = 0; name != NULL && i < position->told_count; i++) {
        char id[FORGE_UUID_TEXT_SIZE];
        forge_uuid_format(&position->told[i], id);
        name = forge_arena_printf(call->arena, "%s %s", name, id);
    }
    if (name == NULL)
        return NULL;
    return rpc_page_next(call, watch->filter, strlen(watch->filter), name, (int64_t)position->floor, &position->behind);
}

/* Begins with a listing without a token, and with one that is too old to be of use. */
static void token_read(struct rpc_call *call, const char *token, struct watch *watch)
{
    struct rpc_page page;
    int64_t age_s = 0;
    watch->from = (struct position){.listing = true};
    if (token[0] == '\0' || !rpc_page_token_read(call, "resume_token", token, watch->filter, strlen(watch->filter), &page, &age_s) ||
        age_s > TOKEN_AGE_MAX_S || page.last_name == NULL)
        return;
    struct position *from = &watch->from;
    const char *at = page.last_name + 2;
    size_t length = strcspn(at, " ");
    from->listing = page.last_name[0] == 'L';
    from->floor = (uint64_t)page.last_number;
    from->behind = page.last_id;
    snprintf(from->cluster, sizeof from->cluster, "%.*s", (int)length, at);
    for (at += length; *at == ' ' && from->told_count < TOLD_MAX; at += FORGE_UUID_TEXT_SIZE) {
        const char *id = forge_arena_strndup(call->arena, at + 1, FORGE_UUID_TEXT_SIZE - 1);
        from->told_count += id != NULL && forge_uuid_parse(id, &from->told[from->told_count]);
    }
}

/* ---- the request ---- */

static void prompts_check(struct rpc_call *call, const Forge__V1__WatchPromptsRequest *in, struct watch *watch)
{
    if (in->n_prompt_ids > PROMPTS_MAX) {
        rpc_call_violation(call, "prompt_ids", "at most %d", PROMPTS_MAX);
        return;
    }
    watch->prompt_ids = forge_arena_calloc(call->arena, in->n_prompt_ids + 1, sizeof watch->prompt_ids[0]);
    for (size_t i = 0; watch->prompt_ids != NULL && i < in->n_prompt_ids; i++) {
        const char *field = forge_arena_printf(call->arena, "prompt_ids[%zu]", i);
        if (field != NULL && validate_uuid(call, field, in->prompt_ids[i], &watch->prompt_ids[watch->prompt_count]))
            watch->prompt_count++;
    }
}

/* What a token is bound to besides organization and method: the project and the prompts. */
static const char *filter_make(struct rpc_call *call, const Forge__V1__WatchPromptsRequest *in)
{
    char *filter = forge_arena_strdup(call->arena, in->project_id);
    uint8_t digest[FORGE_SHA256_SIZE];
    struct forge_sha256_state *state = forge_sha256_new();
    for (size_t i = 0; i < in->n_prompt_ids; i++)
        forge_sha256_update(state, in->prompt_ids[i], strlen(in->prompt_ids[i]) + 1);
    forge_sha256_final(state, digest);
    for (size_t i = 0; filter != NULL && i < sizeof digest; i++)
        filter = forge_arena_printf(call->arena, "%s%s%02x", filter, i == 0 ? "|" : "", digest[i]);
    return filter != NULL ? filter : "";
}

static forge_code watch_check(struct rpc_call *call, const Forge__V1__WatchPromptsRequest *in, struct watch *watch)
{
    validate_uuid(call, "project_id", in->project_id, &watch->project_id);
    prompts_check(call, in, watch);
    watch->filter = filter_make(call, in);
    token_read(call, in->resume_token, watch);
    if (in->wait_ms < 0 || in->wait_ms > WAIT_MAX_MS)
        rpc_call_violation(call, "wait_ms", "must be 0 to %d", WAIT_MAX_MS);
    return validate_end_in_project(call, &watch->project_id);
}

/* ---- reading ---- */

static void bind_prompts(struct db_stmt *q, const struct watch *watch)
{
    if (watch->prompt_count > 0)
        db_bind_uuid_array(q, watch->prompt_ids, watch->prompt_count);
    else
        db_bind_null(q);
}

/* Where the rows were read, and the floor of that read. */
static void position_read(const struct db_row *row, struct position *out)
{
    snprintf(out->cluster, sizeof out->cluster, "%" PRIu64 ".%s", (uint64_t)db_row_int64(row, "system_identifier"),
             db_row_text(row, "timeline"));
    out->floor = db_row_is_null(row, "floor") ? 0 : (uint64_t)db_row_int64(row, "floor");
}

static Forge__V1__PromptChange *change_add(struct rpc_call *call, const struct db_row *row, const char *id_column, bool deleted,
                                           Forge__V1__WatchPromptsResponse *out)
{
    Forge__V1__PromptChange *change = reply_message(call, &forge__v1__prompt_change__descriptor);
    if (change == NULL)
        return NULL;
    change->prompt_id = db_row_uuid_text(row, id_column);
    change->kind =
        deleted ? FORGE__V1__PROMPT_CHANGE_KIND__PROMPT_CHANGE_KIND_DELETED : FORGE__V1__PROMPT_CHANGE_KIND__PROMPT_CHANGE_KIND_CHANGED;
    out->changes[out->n_changes++] = change;
    return change;
}

/* The floor of a listing is that of its first page: what changes while it goes on is told behind it. */
static void list_fill(struct rpc_call *call, const struct watch *watch, const struct db_rows *rows, Forge__V1__WatchPromptsResponse *out,
                      struct position *next)
{
    struct db_row first = db_rows_at(rows, 0);
    bool begins = forge_uuid_is_nil(&watch->from.behind);
    position_read(&first, next);
    if (!begins && strcmp(next->cluster, watch->from.cluster) == 0)
        next->floor = watch->from.floor;
    out->listing = true;
    out->more = rows->count > CHANGES_MAX;
    for (int i = 0; i < rows->count && i < CHANGES_MAX && !db_row_is_null(&first, "id"); i++) {
        struct db_row row = db_rows_at(rows, i);
        if (change_add(call, &row, "id", false, out) == NULL)
            return; /* rpc sees the overflow */
        db_row_uuid(&row, "id", &next->behind);
    }
    next->listing = out->more;
    if (!out->more)
        next->behind = last_id;
}

static bool was_told(const struct position *from, const struct forge_uuid *change_id)
{
    for (size_t i = 0; i < from->told_count; i++)
        if (forge_uuid_equal(&from->told[i], change_id))
            return true;
    return false;
}

/* What was told above the new floor is remembered, so that it is not told again. */
static void changes_fill(struct rpc_call *call, const struct watch *watch, const struct db_rows *rows, Forge__V1__WatchPromptsResponse *out,
                         struct position *next)
{
    struct db_row first = db_rows_at(rows, 0);
    position_read(&first, next);
    next->behind = last_id;
    out->more = rows->count > CHANGES_MAX;
    for (int i = 0; i < rows->count && i < CHANGES_MAX && !db_row_is_null(&first, "change_id"); i++) {
        struct db_row row = db_rows_at(rows, i);
        struct forge_uuid change_id;
        uint64_t xid = (uint64_t)db_row_int64(&row, "xid");
        db_row_uuid(&row, "change_id", &change_id);
        if (!was_told(&watch->from, &change_id) &&
            change_add(call, &row, "object_id", strcmp(db_row_text(&row, "kind"), "prompt_delete") == 0, out) == NULL)
            return; /* rpc sees the overflow */
        if (xid > next->floor && next->told_count < TOLD_MAX)
            next->told[next->told_count++] = change_id;
        if (out->more && i == CHANGES_MAX - 1) { /* goes on right behind this row, in the middle of a transaction perhaps */
            next->floor = xid;
            next->behind = change_id;
            next->told_count = 0;
        }
    }
}

static struct db_stmt *read_statement(struct rpc_call *call, const struct watch *watch)
{
    struct db_stmt *q = db_stmt(call->db, watch->from.listing ? SQL_WATCH_LIST : SQL_WATCH_CHANGES);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &watch->project_id);
    if (!watch->from.listing)
        db_bind_text(q, forge_arena_printf(call->arena, "%" PRIu64, watch->from.floor));
    db_bind_uuid(q, &watch->from.behind);
    bind_prompts(q, watch);
    db_bind_int32(q, CHANGES_MAX + 1);
    return q;
}

static forge_code watch_read(struct rpc_call *call, struct watch *watch, const char *project_id, Forge__V1__WatchPromptsResponse *out)
{
    struct db_rows rows;
    struct position next = {.listing = false};
    forge_code rc = db_run_many(read_statement(call, watch), &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", project_id);
    out->changes = forge_arena_calloc(call->arena, (size_t)rows.count + 1, sizeof out->changes[0]);
    if (out->changes == NULL)
        return FORGE_OK; /* rpc sees the overflow */
    if (watch->from.listing)
        list_fill(call, watch, &rows, out, &next);
    else
        changes_fill(call, watch, &rows, out, &next);
    if (!watch->from.listing && strcmp(next.cluster, watch->from.cluster) != 0) { /* restored or promoted meanwhile: from the beginning */
        out->n_changes = 0;
        watch->from = (struct position){.listing = true};
        return watch_read(call, watch, project_id, out);
    }
    out->resume_token = token_write(call, watch, &next);
    return FORGE_OK;
}

/* One that is woken waits on when what it was woken for has been told before, or is about none of its prompts. Every run takes memory that
 * only the reply gives back: behind so much of it the call answers with no changes. */
static bool may_wait(const struct rpc_call *call, const struct watch *watch)
{
    return !watch->from.listing && !call->waited && !(call->woken && call->arena->used > WAITING_BYTES_MAX);
}

forge_code prompt_watch(struct rpc_call *call, const Forge__V1__WatchPromptsRequest *in, Forge__V1__WatchPromptsResponse *out)
{
    struct watch watch = {.from = {.behind = first_id}};
    char key[PROMPT_WATCH_KEY_SIZE];
    forge_code rc = watch_check(call, in, &watch);
    if (rc != FORGE_OK)
        return rc;
    bool waits = may_wait(call, &watch);
    if (waits) { /* in the table before the changes are read, so that none is missed */
        uint64_t wait_ms = in->wait_ms != 0 ? (uint64_t)in->wait_ms : WAIT_DEFAULT_MS;
        prompt_watch_key(&watch.project_id, key);
        rc = rpc_call_park(call, key, forge_clock_monotonic_ms() + wait_ms);
        if (rc == FORGE_UNAVAILABLE || (rc == FORGE_RESOURCE_EXHAUSTED && call->woken)) { /* draining, or no room to wait on */
            call->error = (struct forge_error){0};
            waits = false;
        } else if (rc != FORGE_OK) {
            return rc;
        }
    }
    rc = watch_read(call, &watch, in->project_id, out);
    if (waits && rc == FORGE_OK && out->n_changes == 0 && !out->listing)
        return FORGE_PARKED;
    if (waits)
        rpc_call_unpark(call);
    return rc;
}
