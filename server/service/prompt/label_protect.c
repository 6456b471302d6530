/* PromptService: ProtectLabel, and the rules that it sets as replies tell them. */
#include "rpc/write.h"
#include "service/prompt/label.h"
#include "service/prompt/prompt.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/json.h"

#include "rpc_table.h"

#include <string.h>

enum { PROTECTIONS_MAX = 1000 /* per project */ };

/* A rule that is removed and made again is another one, with another id. */
static char *protection_etag(struct rpc_call *call, const struct db_row *row, const char *id_column, const char *row_version_column)
{
    return forge_arena_printf(call->arena, "%s.%lld", db_row_uuid_text(row, id_column), (long long)db_row_int64(row, row_version_column));
}

void prompt_label_protection_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__LabelProtection *out)
{
    out->project_id = db_row_uuid_text(row, "project_id");
    out->prompt_id = db_row_uuid_text(row, "prompt_id");
    out->label = db_row_text(row, "label");
    if (db_row_is_null(row, "id"))
        return; /* there is no rule */
    out->protected_ = db_row_bool(row, "protected");
    out->gate = prompt_gate_from_row(call, row);
    out->updater_id = db_row_uuid_text(row, "updated_by");
    out->update_time = reply_time(call, row, "changed_at");
    out->etag = protection_etag(call, row, "id", "row_version");
}

struct protection {
    bool has_prompt;
    struct forge_uuid id, project_id, prompt_id, dataset_id;
};

static forge_code check(struct rpc_call *call, const Forge__V1__ProtectLabelRequest *in, struct protection *protection)
{
    validate_uuid(call, "project_id", in->project_id, &protection->project_id);
    protection->has_prompt = in->prompt_id[0] != '\0' && validate_uuid(call, "prompt_id", in->prompt_id, &protection->prompt_id);
    validate_label(call, "label", in->label);
    prompt_gate_check(call, in->gate, &protection->dataset_id);
    validate_etag(call, "etag", in->etag);
    return validate_end_in_project(call, &protection->project_id);
}

/* The lock goes out in the same flight, before the statement that looks and changes. */
static struct db_stmt *statement(struct rpc_call *call, const Forge__V1__ProtectLabelRequest *in, const struct protection *protection)
{
    prompt_queue_by_id(call, SQL_LABEL_LOCK_PROJECT, &protection->project_id);
    struct db_stmt *q = db_stmt(call->db, SQL_LABEL_PROTECT);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &protection->project_id);
    db_bind_uuid(q, protection->has_prompt ? &protection->prompt_id : NULL);
    db_bind_text(q, in->label);
    db_bind_bool(q, in->protected_);
    db_bind_uuid(q, &protection->id);
    db_bind_uuid(q, &call->principal.id);
    db_bind_time_us(q, call->now_us);
    prompt_gate_bind(q, in->gate, &protection->dataset_id);
    return q;
}

static forge_code refuse(struct rpc_call *call, const Forge__V1__ProtectLabelRequest *in, const struct db_row *row)
{
    bool exists = !db_row_is_null(row, "old_id");
    if (db_row_bool(row, "is_prompt_missing"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "prompt %s not found in this project", in->prompt_id);
    if (db_row_bool(row, "is_dataset_missing"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "dataset %s not found in this project", in->gate->dataset_id);
    const char *etag = exists ? protection_etag(call, row, "old_id", "old_row_version") : "";
    if (in->etag[0] != '\0' && etag != NULL && strcmp(in->etag, etag) != 0)
        return rpc_call_fail(call, FORGE_ABORTED, "the rule has changed since this etag was read");
    if (!db_row_is_null(row, "id") && !exists && db_row_int64(row, "rule_count") >= PROTECTIONS_MAX)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "a project has at most %d rules for labels", PROTECTIONS_MAX);
    return FORGE_OK;
}

forge_code prompt_protect_label(struct rpc_call *call, const Forge__V1__ProtectLabelRequest *in, Forge__V1__LabelProtection *out)
{
    const struct forge_json_options options = {0};
    struct protection protection = {0};
    struct db_row row;
    forge_code rc = check(call, in, &protection);
    if (rc != FORGE_OK)
        return rc;
    forge_uuid_v7(&protection.id);
    rc = reply_run_found(call, statement(call, in, &protection), "project", in->project_id, &row);
    if (rc == FORGE_FAILED_PRECONDITION && reply_violates(call, "label_gates_dataset_id_fkey"))
        rc = rpc_call_fail(call, FORGE_NOT_FOUND, "the dataset was deleted at the same moment");
    if (rc == FORGE_OK)
        rc = refuse(call, in, &row);
    if (rc != FORGE_OK)
        return rc;
    prompt_label_protection_from_row(call, &row, out);
    if (db_row_bool(&row, "is_changed"))
        rpc_write_audit(call, !db_row_is_null(&row, "id") ? "label.protect" : "label.unprotect",
                        protection.has_prompt ? "prompt" : "project",
                        protection.has_prompt ? &protection.prompt_id : &protection.project_id,
                        forge_json_from_message(&out->base, &options, call->arena));
    return FORGE_OK;
}
