/* PromptService: SetLabel and DeleteLabel. */
#include "service/prompt/label.h"

#include "rpc/write.h"
#include "service/prompt/content.h"
#include "service/prompt/policy.h"
#include "service/prompt/prompt.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/json.h"

#include "rpc_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SPLIT_TARGETS_MIN = 2, SPLIT_TARGETS_MAX = 16, WEIGHT_MAX = 1000000 };

forge_code prompt_label_targets(struct rpc_call *call, const struct db_row *row, const char *column, size_t *out_count,
                                Forge__V1__LabelTarget ***out_targets)
{
    const char *text = db_row_text(row, column);
    ProtobufCMessage *message;
    struct forge_error error = {0};
    *out_count = 0;
    *out_targets = NULL;
    if (text == NULL)
        return FORGE_OK;
    char *json = forge_arena_printf(call->arena, "{\"targets\":%s}", text);
    forge_code rc = json == NULL
                        ? FORGE_RESOURCE_EXHAUSTED
                        : forge_json_to_message(json, strlen(json), &forge__v1__label_split__descriptor, call->arena, &message, &error);
    if (rc == FORGE_RESOURCE_EXHAUSTED)
        return rpc_call_fail(call, rc, "the label needs too much memory");
    if (rc != FORGE_OK)
        return rpc_call_fail(call, FORGE_DATA_LOSS, "the stored targets of this label cannot be read");
    const Forge__V1__LabelSplit *split = (const Forge__V1__LabelSplit *)message;
    *out_count = split->n_targets;
    *out_targets = split->targets;
    return FORGE_OK;
}

forge_code prompt_label_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Label *out)
{
    out->prompt_id = db_row_uuid_text(row, "prompt_id");
    out->name = db_row_text(row, "name");
    out->protected_ = db_row_bool(row, "protected");
    out->updater_id = db_row_uuid_text(row, "updated_by");
    out->create_time = reply_time(call, row, "created_at");
    out->update_time = reply_time(call, row, "updated_at");
    out->etag = reply_etag(call, row);
    return prompt_label_targets(call, row, "targets", &out->n_targets, &out->targets);
}

/* What SetLabel and DeleteLabel find the label to be. */
struct found {
    bool exists;
    size_t target_count;
    Forge__V1__LabelTarget **targets;
};

static forge_code found_read(struct rpc_call *call, const struct db_row *row, struct found *out)
{
    out->exists = !db_row_is_null(row, "old_row_version");
    return prompt_label_targets(call, row, "old_targets", &out->target_count, &out->targets);
}

static forge_code protected_refuse(struct rpc_call *call, const char *label, const struct db_row *row)
{
    if (!db_row_bool(row, "protected") || call->principal.role >= AUTH_ROLE_ADMIN)
        return FORGE_OK;
    return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "label \"%s\" is protected: role admin is required", label);
}

static forge_code etag_refuse(struct rpc_call *call, const char *etag, const struct db_row *row)
{
    if (etag[0] == '\0' || (!db_row_is_null(row, "old_row_version") && reply_etag_matches(etag, db_row_int64(row, "old_row_version"))))
        return FORGE_OK;
    return rpc_call_fail(call, FORGE_ABORTED, "the label has changed since this etag was read");
}

/* One row of the audit log and one change; the log shows the move as its history does. */
static void announce(struct rpc_call *call, const char *action, const struct db_row *row, const struct forge_uuid *prompt_id,
                     const Forge__V1__LabelMove *move)
{
    const struct forge_json_options options = {0};
    struct forge_uuid project_id;
    db_row_uuid(row, "project_id", &project_id);
    rpc_write_change(call, "prompt", prompt_id, &project_id);
    rpc_write_audit(call, action, "prompt", prompt_id, forge_json_from_message(&move->base, &options, call->arena));
}

/* ---- SetLabel ---- */

static void split_check(struct rpc_call *call, const Forge__V1__LabelSplit *split)
{
    if (split->n_targets < SPLIT_TARGETS_MIN || split->n_targets > SPLIT_TARGETS_MAX) {
        rpc_call_violation(call, "split.targets", "must be %d to %d", SPLIT_TARGETS_MIN, SPLIT_TARGETS_MAX);
        return;
    }
    for (size_t i = 0; i < split->n_targets; i++) {
        const Forge__V1__LabelTarget *target = split->targets[i];
        char field[48];
        snprintf(field, sizeof field, "split.targets[%zu].version", i);
        if (target->version < 1)
            rpc_call_violation(call, field, "must be 1 or more");
        for (size_t j = 0; j < i; j++)
            if (split->targets[j]->version == target->version && target->version > 0) {
                rpc_call_violation(call, field, "is given twice");
                break;
            }
        snprintf(field, sizeof field, "split.targets[%zu].weight", i);
        if (target->weight < 0 || target->weight > WEIGHT_MAX)
            rpc_call_violation(call, field, "must be 0 to %d", WEIGHT_MAX);
    }
}

static forge_code set_check(struct rpc_call *call, const Forge__V1__SetLabelRequest *in, struct forge_uuid *prompt_id)
{
    validate_uuid(call, "prompt_id", in->prompt_id, prompt_id);
    validate_label(call, "label", in->label);
    switch (in->target_case) {
    case FORGE__V1__SET_LABEL_REQUEST__TARGET_VERSION:
        if (in->version < 1)
            rpc_call_violation(call, "version", "must be 1 or more");
        break;
    case FORGE__V1__SET_LABEL_REQUEST__TARGET_SPLIT:
        split_check(call, in->split);
        break;
    case FORGE__V1__SET_LABEL_REQUEST__TARGET_PREVIOUS:
        if (!in->previous)
            rpc_call_violation(call, "previous", "must be true");
        break;
    case FORGE__V1__SET_LABEL_REQUEST__TARGET__NOT_SET:
    case _FORGE__V1__SET_LABEL_REQUEST__TARGET__CASE_IS_INT_SIZE:
        rpc_call_violation(call, "version", "exactly one of version, split and previous is required");
        break;
    }
    if (in->expected_version != NULL && in->expected_version->value < 0)
        rpc_call_violation(call, "expected_version", "must be 0 or more");
    validate_etag(call, "etag", in->etag);
    validate_text(call, "message", in->message, PROMPT_NOTE_CHARACTERS_MAX);
    return rpc_call_has_violations(call) ? rpc_call_invalid(call) : FORGE_OK;
}

static int compare_targets(const void *a, const void *b)
{
    const Forge__V1__LabelTarget *const *left = a, *const *right = b;
    return ((*left)->version > (*right)->version) - ((*left)->version < (*right)->version);
}

/* The targets as the statement takes them; NULL for the previous ones. A weight of 0 is taken as 1. */
static char *targets_json(struct rpc_call *call, const Forge__V1__SetLabelRequest *in)
{
    if (in->target_case == FORGE__V1__SET_LABEL_REQUEST__TARGET_PREVIOUS)
        return NULL;
    if (in->target_case == FORGE__V1__SET_LABEL_REQUEST__TARGET_VERSION)
        return forge_arena_printf(call->arena, "[{\"version\":%d,\"weight\":1}]", in->version);
    const Forge__V1__LabelTarget *targets[SPLIT_TARGETS_MAX];
    memcpy(targets, in->split->targets, in->split->n_targets * sizeof targets[0]);
    qsort(targets, in->split->n_targets, sizeof targets[0], compare_targets);
    char *json = forge_arena_strdup(call->arena, "[");
    for (size_t i = 0; json != NULL && i < in->split->n_targets; i++)
        json = forge_arena_printf(call->arena, "%s%s{\"version\":%d,\"weight\":%d}", json, i > 0 ? "," : "", targets[i]->version,
                                  targets[i]->weight > 0 ? targets[i]->weight : 1);
    return json != NULL ? forge_arena_printf(call->arena, "%s]", json) : NULL;
}

/* The locks go out in the same flight, before the statement that looks and moves. */
static struct db_stmt *set_statement(struct rpc_call *call, const Forge__V1__SetLabelRequest *in, const struct forge_uuid *prompt_id,
                                     const char *targets, const struct forge_uuid *history_id)
{
    prompt_queue_by_id(call, SQL_LABEL_LOCK_RULES, prompt_id);
    prompt_queue_by_id(call, SQL_PROMPT_LOCK, prompt_id);
    struct db_stmt *q = db_stmt(call->db, SQL_LABEL_SET);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, prompt_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_text(q, in->label);
    db_bind_text(q, targets);
    db_bind_time_us(q, call->now_us);
    db_bind_uuid(q, &call->principal.id);
    db_bind_uuid(q, history_id);
    db_bind_text(q, in->message[0] != '\0' ? in->message : NULL);
    return q;
}

/* The version that the caller expects, against where the label points. */
static forge_code expected_refuse(struct rpc_call *call, const Forge__V1__SetLabelRequest *in, const struct found *found)
{
    if (in->expected_version == NULL)
        return FORGE_OK;
    int32_t expected = in->expected_version->value;
    if (!found->exists)
        return expected == 0 ? FORGE_OK : rpc_call_fail(call, FORGE_ABORTED, "label \"%s\" does not exist", in->label);
    if (expected == 0)
        return rpc_call_fail(call, FORGE_ABORTED, "label \"%s\" exists already", in->label);
    if (found->target_count > 1)
        return rpc_call_fail(call, FORGE_ABORTED, "label \"%s\" is a split, it does not point at version %d alone", in->label, expected);
    if (found->target_count == 1 && found->targets[0]->version != expected)
        return rpc_call_fail(call, FORGE_ABORTED, "label \"%s\" points at version %d, not %d", in->label, found->targets[0]->version,
                             expected);
    return FORGE_OK;
}

static forge_code set_refuse(struct rpc_call *call, const Forge__V1__SetLabelRequest *in, const struct found *found,
                             const struct db_row *row)
{
    forge_code rc = protected_refuse(call, in->label, row);
    if (rc == FORGE_OK)
        rc = expected_refuse(call, in, found);
    if (rc == FORGE_OK)
        rc = etag_refuse(call, in->etag, row);
    if (rc != FORGE_OK)
        return rc;
    if (db_row_is_null(row, "targets"))
        return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "label \"%s\" has not pointed anywhere before", in->label);
    if (!db_row_is_null(row, "missing_version"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "the prompt has no version %d", db_row_int32(row, "missing_version"));
    if (!found->exists && db_row_int64(row, "label_count") >= PROMPT_LABELS_MAX)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "a prompt has at most %d labels", PROMPT_LABELS_MAX);
    return FORGE_OK;
}

forge_code prompt_set_label(struct rpc_call *call, const Forge__V1__SetLabelRequest *in, Forge__V1__Label *out)
{
    struct forge_uuid prompt_id, project_id, history_id;
    struct found found;
    struct db_row row;
    forge_code rc = set_check(call, in, &prompt_id);
    if (rc != FORGE_OK)
        return rc;
    char *targets = targets_json(call, in);
    if (targets == NULL && in->target_case != FORGE__V1__SET_LABEL_REQUEST__TARGET_PREVIOUS)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the label needs too much memory");
    forge_uuid_v7(&history_id);
    rc = reply_run_found(call, set_statement(call, in, &prompt_id, targets, &history_id), "prompt", in->prompt_id, &row);
    if (rc == FORGE_OK)
        rc = found_read(call, &row, &found);
    if (rc == FORGE_OK)
        rc = set_refuse(call, in, &found, &row);
    if (rc == FORGE_OK && db_row_bool(&row, "is_moved"))
        rc = prompt_gate_refuse(call, &prompt_id, in->label, &row);
    if (rc == FORGE_OK)
        rc = prompt_label_from_row(call, &row, out);
    if (rc != FORGE_OK || !db_row_bool(&row, "is_moved"))
        return rc;
    Forge__V1__LabelMove move = FORGE__V1__LABEL_MOVE__INIT;
    move.label = in->label;
    move.n_old_targets = found.target_count;
    move.old_targets = found.targets;
    move.n_new_targets = out->n_targets;
    move.new_targets = out->targets;
    move.message = in->message;
    announce(call, "label.set", &row, &prompt_id, &move);
    db_row_uuid(&row, "project_id", &project_id);
    return prompt_policy_check_label(call, &project_id, &prompt_id, &move);
}

/* ---- DeleteLabel ---- */

static struct db_stmt *delete_statement(struct rpc_call *call, const Forge__V1__DeleteLabelRequest *in, const struct forge_uuid *prompt_id,
                                        const struct forge_uuid *history_id)
{
    prompt_queue_by_id(call, SQL_LABEL_LOCK_RULES, prompt_id);
    prompt_queue_by_id(call, SQL_PROMPT_LOCK_WHOLE, prompt_id);
    struct db_stmt *q = db_stmt(call->db, SQL_LABEL_DELETE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, prompt_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_text(q, in->label);
    db_bind_uuid(q, history_id);
    db_bind_uuid(q, &call->principal.id);
    db_bind_time_us(q, call->now_us);
    return q;
}

static forge_code delete_refuse(struct rpc_call *call, const Forge__V1__DeleteLabelRequest *in, const struct found *found,
                                const struct db_row *row)
{
    forge_code rc = protected_refuse(call, in->label, row);
    if (rc != FORGE_OK)
        return rc;
    if (!found->exists)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "label \"%s\" of this prompt not found", in->label);
    rc = etag_refuse(call, in->etag, row);
    if (rc == FORGE_OK && db_row_bool(row, "is_referred_to"))
        rc = rpc_call_fail_reason(call, FORGE_FAILED_PRECONDITION, "IN_USE", "a prompt refers to label \"%s\" of this one", in->label);
    return rc;
}

forge_code prompt_delete_label(struct rpc_call *call, const Forge__V1__DeleteLabelRequest *in, Google__Protobuf__Empty *out)
{
    struct forge_uuid prompt_id, history_id;
    struct found found;
    struct db_row row;
    validate_uuid(call, "prompt_id", in->prompt_id, &prompt_id);
    validate_label(call, "label", in->label);
    validate_etag(call, "etag", in->etag);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    forge_uuid_v7(&history_id);
    forge_code rc = reply_run_found(call, delete_statement(call, in, &prompt_id, &history_id), "prompt", in->prompt_id, &row);
    if (rc == FORGE_OK)
        rc = found_read(call, &row, &found);
    if (rc == FORGE_OK)
        rc = delete_refuse(call, in, &found, &row);
    if (rc != FORGE_OK)
        return rc;
    Forge__V1__LabelMove move = FORGE__V1__LABEL_MOVE__INIT;
    move.label = in->label;
    move.n_old_targets = found.target_count;
    move.old_targets = found.targets;
    announce(call, "label.delete", &row, &prompt_id, &move);
    return FORGE_OK;
}
