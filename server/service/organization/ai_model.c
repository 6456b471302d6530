/* OrganizationService: models of providers. What they cost: model_price.c. */
#include "rpc/page.h"
#include "rpc/write.h"
#include "service/organization/model.h"
#include "service/organization/organization.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <stdio.h>
#include <string.h>

enum { ALIASES_MAX = 64, FIELD_SIZE = 32 };

static void model_from_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    Forge__V1__AiModel *out = message;
    out->id = db_row_uuid_text(row, "id");
    out->provider_id = db_row_uuid_text(row, "provider_id");
    out->provider_name = db_row_text(row, "provider_name");
    out->name = db_row_text(row, "name");
    out->display_name = db_row_text(row, "display_name");
    out->aliases = db_row_text_array(row, "aliases", &out->n_aliases);
    out->description = db_row_text_or_empty(row, "description");
    out->context_window_tokens = db_row_int64(row, "context_window_tokens");
    out->max_output_tokens = db_row_int64(row, "max_output_tokens");
    out->deprecated = db_row_bool(row, "deprecated");
    out->create_time = reply_time(call, row, "created_at");
    out->update_time = reply_time(call, row, "updated_at");
    out->etag = reply_etag(call, row);
}

/* name NULL: not given. */
static void aliases_check(struct rpc_call *call, const char *name, size_t count, char *const *aliases)
{
    if (count > ALIASES_MAX)
        rpc_call_violation(call, "aliases", "must be at most %d", ALIASES_MAX);
    for (size_t i = 0; i < count && i < ALIASES_MAX; i++) {
        char field[FIELD_SIZE];
        snprintf(field, sizeof field, "aliases[%zu]", i);
        validate_name(call, field, aliases[i]);
        if (name != NULL && aliases[i][0] != '\0' && strcmp(aliases[i], name) == 0)
            rpc_call_violation(call, field, "is the name itself");
        for (size_t before = 0; before < i; before++)
            if (aliases[i][0] != '\0' && strcmp(aliases[before], aliases[i]) == 0) {
                rpc_call_violation(call, field, "is given twice");
                break;
            }
    }
}

static void tokens_check(struct rpc_call *call, const char *field, int64_t tokens)
{
    if (tokens < 0)
        rpc_call_violation(call, field, "must be 0 or more");
}

/* A row that says which of the names wanted another model of the provider has. */
static forge_code refuse_taken(struct rpc_call *call, const struct db_row *row)
{
    size_t count;
    char **taken = db_row_text_array(row, "taken", &count);
    if (count == 0 || taken == NULL)
        return FORGE_OK;
    return rpc_call_fail(call, FORGE_ALREADY_EXISTS, "the provider has a model named or aliased \"%s\" already", taken[0]);
}

/* --- CreateAiModel --- */

static forge_code create_check(struct rpc_call *call, const Forge__V1__CreateAiModelRequest *in, struct forge_uuid *provider_id)
{
    validate_uuid(call, "provider_id", in->provider_id, provider_id);
    validate_name(call, "name", in->name);
    validate_name_or_empty(call, "display_name", in->display_name);
    aliases_check(call, in->name, in->n_aliases, in->aliases);
    validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    tokens_check(call, "context_window_tokens", in->context_window_tokens);
    tokens_check(call, "max_output_tokens", in->max_output_tokens);
    return organization_check_end(call);
}

/* names: room for one more than there are aliases. */
static struct db_stmt *create_statement(struct rpc_call *call, const Forge__V1__CreateAiModelRequest *in, const struct forge_uuid *id,
                                        const struct forge_uuid *provider_id, const char **names)
{
    for (size_t i = 0; i < in->n_aliases; i++)
        names[i] = in->aliases[i];
    names[in->n_aliases] = in->name;
    struct db_stmt *q = db_stmt(call->db, SQL_AI_MODEL_CREATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, id);
    db_bind_uuid(q, provider_id);
    db_bind_text(q, in->name);
    db_bind_text(q, in->display_name[0] != '\0' ? in->display_name : in->name);
    db_bind_text_array(q, names, in->n_aliases);
    db_bind_text(q, in->description[0] != '\0' ? in->description : NULL);
    db_bind_int64(q, in->context_window_tokens);
    db_bind_int64(q, in->max_output_tokens);
    db_bind_time_us(q, call->now_us);
    db_bind_text_array(q, names, in->n_aliases + 1);
    return q;
}

forge_code organization_create_ai_model(struct rpc_call *call, const Forge__V1__CreateAiModelRequest *in, Forge__V1__AiModel *out)
{
    struct forge_uuid id, provider_id;
    const char *names[ALIASES_MAX + 1];
    struct db_row row;
    forge_code rc = create_check(call, in, &provider_id);
    if (rc != FORGE_OK)
        return rc;
    forge_uuid_v7(&id);
    rc = db_run_one(create_statement(call, in, &id, &provider_id, names), &row, &call->error);
    if (rc == FORGE_FAILED_PRECONDITION && reply_violates(call, "ai_models_provider_id_fkey"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "provider %s not found", in->provider_id);
    if (rc == FORGE_OK)
        rc = refuse_taken(call, &row);
    if (rc != FORGE_OK)
        return rc;
    model_from_row(call, &row, out);
    organization_audit(call, "ai_model.create", "ai_model", &id, &out->base);
    rpc_write_change(call, "ai_model", &id, &provider_id);
    return FORGE_OK;
}

/* --- GetAiModel, ListAiModels --- */

forge_code organization_get_ai_model(struct rpc_call *call, const Forge__V1__GetAiModelRequest *in, Forge__V1__AiModel *out)
{
    struct forge_uuid id;
    if (!validate_uuid(call, "id", in->id, &id))
        return rpc_call_invalid(call);
    struct db_stmt *q = db_stmt(call->db, SQL_AI_MODEL_GET);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    struct db_row row;
    forge_code rc = reply_run_found(call, q, "model", in->id, &row);
    if (rc == FORGE_OK)
        model_from_row(call, &row, out);
    return rc;
}

/* provider_id NULL: of all. */
static forge_code list_run(struct rpc_call *call, const Forge__V1__ListAiModelsRequest *in, const struct forge_uuid *provider_id,
                           const struct rpc_page *page, struct db_rows *rows)
{
    struct db_stmt *q = db_stmt(call->db, provider_id != NULL ? SQL_AI_MODEL_LIST_OF_PROVIDER : SQL_AI_MODEL_LIST);
    struct forge_uuid before_all = {0};
    db_bind_uuid(q, &call->principal.organization_id);
    if (provider_id != NULL)
        db_bind_uuid(q, provider_id);
    db_bind_text(q, in->name_prefix);
    db_bind_text(q, validate_prefix_end(in->name_prefix, call->arena));
    db_bind_text(q, page->has_key ? page->last_name : "");
    if (provider_id == NULL)
        db_bind_uuid(q, page->has_key ? &page->last_id : &before_all);
    db_bind_int32(q, page->size + 1);
    return db_run_many(q, rows, &call->error);
}

forge_code organization_list_ai_models(struct rpc_call *call, const Forge__V1__ListAiModelsRequest *in,
                                       Forge__V1__ListAiModelsResponse *out)
{
    struct rpc_page page;
    struct db_rows rows;
    struct forge_uuid provider_id, last;
    bool of_provider = in->provider_id[0] != '\0';
    const char *filter = forge_arena_printf(call->arena, "%s|%s", in->provider_id, in->name_prefix);
    size_t filter_size = filter != NULL ? strlen(filter) : 0;
    rpc_page_read(call, in->page_size, in->page_token, filter, filter_size, &page);
    if (of_provider)
        validate_uuid(call, "provider_id", in->provider_id, &provider_id);
    validate_name_or_empty(call, "name_prefix", in->name_prefix);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    forge_code rc = list_run(call, in, of_provider ? &provider_id : NULL, &page, &rows);
    if (rc != FORGE_OK)
        return rc;
    out->ai_models = reply_list(call, &rows, page.size, &forge__v1__ai_model__descriptor, model_from_row, &out->n_ai_models);
    if (rows.count <= page.size || out->n_ai_models == 0)
        return FORGE_OK;
    struct db_row row = db_rows_at(&rows, (int)out->n_ai_models - 1);
    db_row_uuid(&row, "id", &last);
    out->next_page_token = rpc_page_next(call, filter, filter_size, db_row_text(&row, "name"), 0, &last);
    return FORGE_OK;
}

/* --- UpdateAiModel --- */

enum {
    UPDATES_NAME = 1,
    UPDATES_DISPLAY_NAME = 2,
    UPDATES_ALIASES = 4,
    UPDATES_DESCRIPTION = 8,
    UPDATES_CONTEXT_WINDOW = 16,
    UPDATES_MAX_OUTPUT = 32,
    UPDATES_DEPRECATED = 64
};

static unsigned update_given(const Forge__V1__UpdateAiModelRequest *in)
{
    return (in->name[0] != '\0' ? UPDATES_NAME : 0u) | (in->display_name[0] != '\0' ? UPDATES_DISPLAY_NAME : 0u) |
           (in->n_aliases > 0 ? UPDATES_ALIASES : 0u) | (in->description[0] != '\0' ? UPDATES_DESCRIPTION : 0u) |
           (in->context_window_tokens != 0 ? UPDATES_CONTEXT_WINDOW : 0u) | (in->max_output_tokens != 0 ? UPDATES_MAX_OUTPUT : 0u) |
           (in->deprecated ? UPDATES_DEPRECATED : 0u);
}

static forge_code update_check(struct rpc_call *call, const Forge__V1__UpdateAiModelRequest *in, unsigned *fields, struct forge_uuid *id)
{
    static const char *const paths[] = {"name",      "display_name", "aliases", "description", "context_window_tokens", "max_output_tokens",
                                        "deprecated"};
    validate_uuid(call, "id", in->id, id);
    *fields = validate_update_mask(call, in->update_mask, paths, sizeof paths / sizeof paths[0], update_given(in));
    if ((*fields & UPDATES_NAME) != 0)
        validate_name(call, "name", in->name);
    if ((*fields & UPDATES_DISPLAY_NAME) != 0)
        validate_name_or_empty(call, "display_name", in->display_name);
    if ((*fields & UPDATES_ALIASES) != 0)
        aliases_check(call, (*fields & UPDATES_NAME) != 0 ? in->name : NULL, in->n_aliases, in->aliases);
    if ((*fields & UPDATES_DESCRIPTION) != 0)
        validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    if ((*fields & UPDATES_CONTEXT_WINDOW) != 0)
        tokens_check(call, "context_window_tokens", in->context_window_tokens);
    if ((*fields & UPDATES_MAX_OUTPUT) != 0)
        tokens_check(call, "max_output_tokens", in->max_output_tokens);
    validate_etag(call, "etag", in->etag);
    return organization_check_end(call);
}

static void bind_tokens(struct db_stmt *q, bool is_given, int64_t tokens)
{
    if (is_given)
        db_bind_int64(q, tokens);
    else
        db_bind_null(q);
}

static struct db_stmt *update_statement(struct rpc_call *call, const Forge__V1__UpdateAiModelRequest *in, unsigned fields,
                                        const struct forge_uuid *id)
{
    model_queue_lock(call, SQL_AI_MODEL_LOCK, id);
    struct db_stmt *q = db_stmt(call->db, SQL_AI_MODEL_UPDATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, id);
    db_bind_text(q, (fields & UPDATES_NAME) != 0 ? in->name : NULL);
    db_bind_bool(q, (fields & UPDATES_DISPLAY_NAME) != 0);
    db_bind_text(q, in->display_name[0] != '\0' ? in->display_name : NULL);
    db_bind_bool(q, (fields & UPDATES_ALIASES) != 0);
    db_bind_text_array(q, (const char *const *)in->aliases, (fields & UPDATES_ALIASES) != 0 ? in->n_aliases : 0);
    db_bind_bool(q, (fields & UPDATES_DESCRIPTION) != 0);
    db_bind_text(q, in->description[0] != '\0' ? in->description : NULL);
    bind_tokens(q, (fields & UPDATES_CONTEXT_WINDOW) != 0, in->context_window_tokens);
    bind_tokens(q, (fields & UPDATES_MAX_OUTPUT) != 0, in->max_output_tokens);
    if ((fields & UPDATES_DEPRECATED) != 0)
        db_bind_bool(q, in->deprecated);
    else
        db_bind_null(q);
    db_bind_time_us(q, call->now_us);
    return q;
}

/* What the audit row shows of the model before. */
static void before_from_row(const struct db_row *row, Forge__V1__AiModel *before)
{
    before->name = db_row_text_or_empty(row, "old_name");
    before->display_name = db_row_text_or_empty(row, "old_display_name");
    before->aliases = db_row_text_array(row, "old_aliases", &before->n_aliases);
    before->description = db_row_text_or_empty(row, "old_description");
    before->context_window_tokens = db_row_int64(row, "old_context_window_tokens");
    before->max_output_tokens = db_row_int64(row, "old_max_output_tokens");
    before->deprecated = db_row_bool(row, "old_deprecated");
}

/* The request alone could not tell: the other of the two stood in the row. */
static bool is_its_own_alias(const Forge__V1__AiModel *model)
{
    for (size_t i = 0; model->aliases != NULL && model->name != NULL && i < model->n_aliases; i++)
        if (strcmp(model->aliases[i], model->name) == 0)
            return true;
    return false;
}

forge_code organization_update_ai_model(struct rpc_call *call, const Forge__V1__UpdateAiModelRequest *in, Forge__V1__AiModel *out)
{
    struct forge_uuid id, provider_id;
    unsigned fields;
    struct db_row row;
    forge_code rc = update_check(call, in, &fields, &id);
    if (rc == FORGE_OK)
        rc = reply_run_found(call, update_statement(call, in, fields, &id), "model", in->id, &row);
    if (rc != FORGE_OK)
        return rc;
    if (!reply_etag_matches(in->etag, db_row_int64(&row, "row_version") - 1))
        return rpc_call_fail(call, FORGE_ABORTED, "the model has changed since this etag was read");
    rc = refuse_taken(call, &row);
    if (rc != FORGE_OK)
        return rc;
    model_from_row(call, &row, out);
    if (is_its_own_alias(out)) {
        rpc_call_violation(call, (fields & UPDATES_NAME) != 0 ? "name" : "aliases", "the name is one of the aliases");
        return rpc_call_invalid(call);
    }
    Forge__V1__AiModel before = FORGE__V1__AI_MODEL__INIT;
    before_from_row(&row, &before);
    db_row_uuid(&row, "provider_id", &provider_id);
    organization_audit_change(call, "ai_model.update", "ai_model", &id, &before.base, &out->base);
    rpc_write_change(call, "ai_model", &id, &provider_id);
    return FORGE_OK;
}

/* --- DeleteAiModel --- */

forge_code organization_delete_ai_model(struct rpc_call *call, const Forge__V1__DeleteAiModelRequest *in, Google__Protobuf__Empty *out)
{
    (void)out;
    struct forge_uuid id, provider_id;
    struct db_row row;
    forge_code rc = model_run_delete(call, SQL_AI_MODEL_DELETE, "model", in->id, in->etag, &id, &row);
    if (rc != FORGE_OK)
        return rc;
    Forge__V1__AiModel deleted = FORGE__V1__AI_MODEL__INIT;
    model_from_row(call, &row, &deleted);
    db_row_uuid(&row, "provider_id", &provider_id);
    organization_audit(call, "ai_model.delete", "ai_model", &id, &deleted.base);
    rpc_write_change(call, "ai_model", &id, &provider_id);
    return FORGE_OK;
}
