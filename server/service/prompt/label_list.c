/* PromptService: ListLabels and ListLabelHistory. */
#include "rpc/page.h"
#include "service/prompt/label.h"
#include "service/prompt/prompt.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <string.h>

static const struct forge_uuid first_id = {{0}};

/* ---- ListLabels ---- */

struct listing {
    bool by_prompt;
    struct forge_uuid project_id, prompt_id;
    const char *label; /* NULL = all */
    struct rpc_page page;
};

static forge_code list_check(struct rpc_call *call, const Forge__V1__ListLabelsRequest *in, struct listing *listing)
{
    listing->by_prompt = in->prompt_id[0] != '\0';
    if (listing->by_prompt == (in->project_id[0] != '\0'))
        rpc_call_violation(call, "project_id", "either project_id or prompt_id is required");
    else if (listing->by_prompt)
        validate_uuid(call, "prompt_id", in->prompt_id, &listing->prompt_id);
    else
        validate_uuid(call, "project_id", in->project_id, &listing->project_id);
    listing->label = in->label[0] != '\0' && validate_label(call, "label", in->label) ? in->label : NULL;
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    if (!listing->by_prompt && !auth_principal_may_use_project(&call->principal, &listing->project_id))
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "this key is bound to another project");
    return FORGE_OK;
}

/* Project or prompt, as both statements take them. */
static struct db_stmt *list_begin(struct rpc_call *call, enum sql_id statement, const struct listing *listing)
{
    struct db_stmt *q = db_stmt(call->db, statement);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, listing->by_prompt ? NULL : &listing->project_id);
    db_bind_uuid(q, listing->by_prompt ? &listing->prompt_id : NULL);
    return q;
}

static forge_code protections_fill(struct rpc_call *call, const struct listing *listing, Forge__V1__ListLabelsResponse *out)
{
    struct db_stmt *q = list_begin(call, SQL_LABEL_LIST_PROTECTIONS, listing);
    db_bind_text(q, listing->label);
    struct db_rows rows;
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    out->protections = forge_arena_calloc(call->arena, (size_t)rows.count + 1, sizeof out->protections[0]);
    for (int i = 0; out->protections != NULL && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        Forge__V1__LabelProtection *protection = reply_message(call, &forge__v1__label_protection__descriptor);
        if (protection == NULL)
            break; /* rpc sees the overflow */
        prompt_label_protection_from_row(call, &row, protection);
        out->protections[out->n_protections++] = protection;
    }
    return FORGE_OK;
}

static forge_code labels_fill(struct rpc_call *call, const struct db_rows *rows, int count, Forge__V1__ListLabelsResponse *out)
{
    out->labels = forge_arena_calloc(call->arena, (size_t)count + 1, sizeof out->labels[0]);
    for (int i = 0; out->labels != NULL && i < count; i++) {
        struct db_row row = db_rows_at(rows, i);
        Forge__V1__Label *label = reply_message(call, &forge__v1__label__descriptor);
        if (label == NULL)
            return FORGE_OK; /* rpc sees the overflow */
        forge_code rc = prompt_label_from_row(call, &row, label);
        if (rc != FORGE_OK)
            return rc;
        out->labels[out->n_labels++] = label;
    }
    return FORGE_OK;
}

static forge_code labels_read(struct rpc_call *call, const struct listing *listing, struct db_rows *rows)
{
    struct db_stmt *q = list_begin(call, SQL_LABEL_LIST, listing);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_uuid(q, listing->page.has_key ? &listing->page.last_id : &first_id);
    db_bind_text(q, listing->page.has_key && listing->page.last_name != NULL ? listing->page.last_name : "");
    db_bind_int32(q, listing->page.size + 1);
    db_bind_text(q, listing->label);
    return db_run_many(q, rows, &call->error);
}

forge_code prompt_list_labels(struct rpc_call *call, const Forge__V1__ListLabelsRequest *in, Forge__V1__ListLabelsResponse *out)
{
    struct listing listing = {0};
    const char *filter = forge_arena_printf(call->arena, "%s|%s|%s", in->project_id, in->prompt_id, in->label);
    size_t filter_size = filter != NULL ? strlen(filter) : 0;
    struct db_rows rows;
    rpc_page_read(call, in->page_size, in->page_token, filter, filter_size, &listing.page);
    forge_code rc = list_check(call, in, &listing);
    if (rc == FORGE_OK)
        rc = labels_read(call, &listing, &rows);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "%s %s not found", listing.by_prompt ? "prompt" : "project",
                             listing.by_prompt ? in->prompt_id : in->project_id);
    struct db_row first = db_rows_at(&rows, 0);
    int count = db_row_is_null(&first, "name") ? 0 : rows.count < listing.page.size ? rows.count : listing.page.size;
    rc = labels_fill(call, &rows, count, out);
    if (rc == FORGE_OK && rows.count > count && count > 0) {
        struct forge_uuid last_id;
        struct db_row last = db_rows_at(&rows, count - 1);
        db_row_uuid(&last, "prompt_id", &last_id);
        out->next_page_token = rpc_page_next(call, filter, filter_size, db_row_text(&last, "name"), 0, &last_id);
    }
    return rc == FORGE_OK && !listing.page.has_key ? protections_fill(call, &listing, out) : rc;
}

/* ---- ListLabelHistory ---- */

static forge_code move_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__LabelMove *out)
{
    out->prompt_id = db_row_uuid_text(row, "prompt_id");
    out->label = db_row_text(row, "label");
    out->move_time = reply_time(call, row, "moved_at");
    out->actor_id = db_row_uuid_text(row, "actor_id");
    out->message = db_row_text_or_empty(row, "message");
    forge_code rc = prompt_label_targets(call, row, "old_targets", &out->n_old_targets, &out->old_targets);
    return rc == FORGE_OK ? prompt_label_targets(call, row, "new_targets", &out->n_new_targets, &out->new_targets) : rc;
}

static forge_code moves_fill(struct rpc_call *call, const struct db_rows *rows, int count, Forge__V1__ListLabelHistoryResponse *out)
{
    out->moves = forge_arena_calloc(call->arena, (size_t)count + 1, sizeof out->moves[0]);
    for (int i = 0; out->moves != NULL && i < count; i++) {
        struct db_row row = db_rows_at(rows, i);
        Forge__V1__LabelMove *move = reply_message(call, &forge__v1__label_move__descriptor);
        if (move == NULL)
            return FORGE_OK; /* rpc sees the overflow */
        forge_code rc = move_from_row(call, &row, move);
        if (rc != FORGE_OK)
            return rc;
        out->moves[out->n_moves++] = move;
    }
    return FORGE_OK;
}

static struct db_stmt *history_statement(struct rpc_call *call, const Forge__V1__ListLabelHistoryRequest *in,
                                         const struct forge_uuid *prompt_id, const struct rpc_page *page)
{
    struct db_stmt *q = db_stmt(call->db, SQL_LABEL_LIST_HISTORY);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, prompt_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_text(q, in->label[0] != '\0' ? in->label : NULL);
    if (page->has_key)
        db_bind_time_us(q, page->last_number);
    else
        db_bind_null(q);
    db_bind_uuid(q, page->has_key ? &page->last_id : &first_id);
    db_bind_int32(q, page->size + 1);
    return q;
}

forge_code prompt_list_label_history(struct rpc_call *call, const Forge__V1__ListLabelHistoryRequest *in,
                                     Forge__V1__ListLabelHistoryResponse *out)
{
    struct forge_uuid prompt_id;
    struct rpc_page page;
    const char *filter = forge_arena_printf(call->arena, "%s|%s", in->prompt_id, in->label);
    size_t filter_size = filter != NULL ? strlen(filter) : 0;
    validate_uuid(call, "prompt_id", in->prompt_id, &prompt_id);
    rpc_page_read(call, in->page_size, in->page_token, filter, filter_size, &page);
    if (in->label[0] != '\0' && strcmp(in->label, "current") != 0)
        validate_label(call, "label", in->label);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    struct db_rows rows;
    forge_code rc = db_run_many(history_statement(call, in, &prompt_id, &page), &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "prompt %s not found", in->prompt_id);
    struct db_row first = db_rows_at(&rows, 0);
    int count = db_row_is_null(&first, "id") ? 0 : rows.count < page.size ? rows.count : page.size;
    rc = moves_fill(call, &rows, count, out);
    if (rc == FORGE_OK && rows.count > count && count > 0) {
        struct forge_uuid last_id;
        struct db_row last = db_rows_at(&rows, count - 1);
        db_row_uuid(&last, "id", &last_id);
        out->next_page_token = rpc_page_next(call, filter, filter_size, NULL, db_row_time_us(&last, "moved_at"), &last_id);
    }
    return rc;
}
