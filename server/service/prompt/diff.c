/* PromptService: what differs between two versions. */
#include "text/diff.h"
#include "service/prompt/content.h"
#include "service/reply.h"
#include "service/validate.h"
#include "text/json_object.h"

#include "rpc_table.h"

#include <stdio.h>
#include <string.h>

enum { CONTEXT_LINES_DEFAULT = 3, CONTEXT_LINES_MAX = 100, FIELD_NAME_SIZE = 96 };

/* The reply while it grows. */
struct comparison {
    struct rpc_call *call;
    unsigned context;
    Forge__V1__DiffPromptVersionsResponse *out;
    bool failed; /* no memory */
};

/* Text in the call's arena that grows; data is NULL after an overflow. */
struct growing {
    struct forge_arena *arena;
    char *data;
    size_t size, room;
};

static void grow(void *user, const char *bytes, size_t size)
{
    struct growing *text = user;
    if (text->data != NULL && text->size + size + 1 > text->room) {
        text->room = 2 * (text->size + size + 1);
        char *larger = forge_arena_alloc(text->arena, text->room);
        if (larger != NULL)
            memcpy(larger, text->data, text->size);
        text->data = larger;
    }
    if (text->data == NULL)
        return;
    memcpy(text->data + text->size, bytes, size);
    text->size += size;
    text->data[text->size] = '\0';
}

static struct text_diff_text diff_text(const char *text)
{
    return (struct text_diff_text){.text = text != NULL ? text : "", .size = text != NULL ? strlen(text) : 0};
}

/* NULL for a text that one of the versions does not have. */
static void field_compare(struct comparison *comparison, const char *field, const char *base, const char *target)
{
    if ((base == NULL && target == NULL) || (base != NULL && target != NULL && strcmp(base, target) == 0))
        return;
    struct rpc_call *call = comparison->call;
    struct growing hunks = {.arena = call->arena, .data = forge_arena_alloc(call->arena, 1), .room = 1};
    struct text_diff_counts counts;
    Forge__V1__FieldDiff *diff = reply_message(call, &forge__v1__field_diff__descriptor);
    if (diff == NULL || !text_diff_unified(diff_text(base), diff_text(target), comparison->context, grow, &hunks, &counts)) {
        comparison->failed = true;
        return;
    }
    diff->field = forge_arena_strdup(call->arena, field);
    diff->change = base == NULL     ? FORGE__V1__FIELD_CHANGE__FIELD_CHANGE_ADDED
                   : target == NULL ? FORGE__V1__FIELD_CHANGE__FIELD_CHANGE_REMOVED
                                    : FORGE__V1__FIELD_CHANGE__FIELD_CHANGE_MODIFIED;
    diff->unified_diff = hunks.data;
    diff->added_lines = (int32_t)counts.added;
    diff->removed_lines = (int32_t)counts.removed;
    comparison->out->diffs[comparison->out->n_diffs++] = diff;
}

static const char *text_or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static const char *format_name(const struct prompt_content_row *content)
{
    return protobuf_c_enum_descriptor_get_value(&forge__v1__prompt_format__descriptor, (int)content->format)->name;
}

/* Message by message in their order; one that was put in between shows as a change of all behind it. */
static void messages_compare(struct comparison *comparison, const struct prompt_content_row *base, const struct prompt_content_row *target)
{
    size_t count = base->message_count > target->message_count ? base->message_count : target->message_count;
    for (size_t i = 0; i < count; i++) {
        const Forge__V1__ChatMessage *old_message = i < base->message_count ? base->messages[i] : NULL;
        const Forge__V1__ChatMessage *new_message = i < target->message_count ? target->messages[i] : NULL;
        char field[FIELD_NAME_SIZE];
        snprintf(field, sizeof field, "messages[%zu].role", i);
        field_compare(comparison, field, old_message != NULL ? old_message->role : NULL, new_message != NULL ? new_message->role : NULL);
        snprintf(field, sizeof field, "messages[%zu].content", i);
        field_compare(comparison, field, old_message != NULL ? text_or_null(old_message->content) : NULL,
                      new_message != NULL ? text_or_null(new_message->content) : NULL);
    }
}

/* A variable as text: a line with its name, then what it has. */
static const char *variable_text(struct rpc_call *call, const Forge__V1__PromptVariable *variable)
{
    if (variable == NULL)
        return NULL;
    bool described = variable->description[0] != '\0', has_default = variable->default_value != NULL;
    return forge_arena_printf(call->arena, "name: %s\n%s%s%s%s%s%s", variable->name, described ? "description: " : "",
                              variable->description, described ? "\n" : "", has_default ? "default_value: " : "",
                              has_default ? variable->default_value->value : "", has_default ? "\n" : "");
}

/* Both lists are sorted by name. */
static void variables_compare(struct comparison *comparison, const struct prompt_content_row *base, const struct prompt_content_row *target)
{
    for (size_t i = 0, j = 0; i < base->variable_count || j < target->variable_count;) {
        const Forge__V1__PromptVariable *old_variable = i < base->variable_count ? base->variables[i] : NULL;
        const Forge__V1__PromptVariable *new_variable = j < target->variable_count ? target->variables[j] : NULL;
        int order = old_variable == NULL ? 1 : new_variable == NULL ? -1 : strcmp(old_variable->name, new_variable->name);
        if (order > 0)
            old_variable = NULL;
        else
            i++;
        if (order < 0)
            new_variable = NULL;
        else
            j++;
        char field[FIELD_NAME_SIZE];
        snprintf(field, sizeof field, "variables.%s", old_variable != NULL ? old_variable->name : new_variable->name);
        field_compare(comparison, field, variable_text(comparison->call, old_variable), variable_text(comparison->call, new_variable));
    }
}

/* Parameters as indented JSON; NULL for none. */
static const char *parameters_text(struct rpc_call *call, const char *parameters)
{
    size_t size = strlen(parameters), needed = text_json_object_indented(parameters, size, NULL, 0);
    char *text = needed > 0 ? forge_arena_alloc(call->arena, needed + 1) : NULL;
    if (text != NULL)
        text_json_object_indented(parameters, size, text, needed);
    return text;
}

/* In the order of PromptVersion's fields. */
static void versions_compare(struct comparison *comparison, const struct prompt_content_row *base, const struct prompt_content_row *target)
{
    struct rpc_call *call = comparison->call;
    size_t messages = base->message_count + target->message_count;
    size_t most = 5 + 2 * messages + base->variable_count + target->variable_count;
    comparison->out->diffs = forge_arena_calloc(call->arena, most, sizeof comparison->out->diffs[0]);
    if (comparison->out->diffs == NULL)
        return; /* rpc sees the overflow */
    field_compare(comparison, "format", format_name(base), format_name(target));
    field_compare(comparison, "content", text_or_null(base->content), text_or_null(target->content));
    messages_compare(comparison, base, target);
    field_compare(comparison, "system_prompt", text_or_null(base->system_prompt), text_or_null(target->system_prompt));
    variables_compare(comparison, base, target);
    field_compare(comparison, "model_id", base->model_id, target->model_id);
    field_compare(comparison, "parameters", parameters_text(call, base->parameters), parameters_text(call, target->parameters));
}

static forge_code diff_check(struct rpc_call *call, const Forge__V1__DiffPromptVersionsRequest *in, struct forge_uuid *prompt_id)
{
    validate_uuid(call, "prompt_id", in->prompt_id, prompt_id);
    if (in->base_version < 0)
        rpc_call_violation(call, "base_version", "must be 0 or more");
    if (in->target_version < 0)
        rpc_call_violation(call, "target_version", "must be 0 or more");
    if (in->context_lines != NULL && (in->context_lines->value < 0 || in->context_lines->value > CONTEXT_LINES_MAX))
        rpc_call_violation(call, "context_lines", "must be 0 to %d", CONTEXT_LINES_MAX);
    return rpc_call_has_violations(call) ? rpc_call_invalid(call) : FORGE_OK;
}

static forge_code version_read(struct rpc_call *call, const struct db_row *row, struct prompt_content_row *out)
{
    int32_t number = db_row_int32(row, "number");
    if (number < 1)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "version 1 of this prompt has no version before it");
    if (db_row_is_null(row, "version"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "version %d of this prompt not found", number);
    return prompt_content_read(call, row, out);
}

static forge_code versions_read(struct rpc_call *call, const Forge__V1__DiffPromptVersionsRequest *in, const struct forge_uuid *prompt_id,
                                struct prompt_content_row versions[2], Forge__V1__DiffPromptVersionsResponse *out)
{
    struct db_stmt *q = db_stmt(call->db, SQL_PROMPT_TWO_VERSIONS);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, prompt_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_int32(q, in->base_version);
    db_bind_int32(q, in->target_version);
    struct db_rows rows;
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc == FORGE_OK && rows.count != 2)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "prompt %s not found", in->prompt_id);
    for (int i = 0; rc == FORGE_OK && i < 2; i++) {
        struct db_row row = db_rows_at(&rows, i);
        *(i == 0 ? &out->base_version : &out->target_version) = db_row_int32(&row, "number");
        rc = version_read(call, &row, &versions[i]);
    }
    return rc;
}

forge_code prompt_diff_versions(struct rpc_call *call, const Forge__V1__DiffPromptVersionsRequest *in,
                                Forge__V1__DiffPromptVersionsResponse *out)
{
    struct forge_uuid prompt_id;
    struct prompt_content_row versions[2];
    forge_code rc = diff_check(call, in, &prompt_id);
    if (rc == FORGE_OK)
        rc = versions_read(call, in, &prompt_id, versions, out);
    if (rc != FORGE_OK)
        return rc;
    struct comparison comparison = {.call = call, .context = CONTEXT_LINES_DEFAULT, .out = out};
    if (in->context_lines != NULL)
        comparison.context = (unsigned)in->context_lines->value;
    versions_compare(&comparison, &versions[0], &versions[1]);
    if (comparison.failed)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the difference needs too much memory");
    return FORGE_OK;
}
