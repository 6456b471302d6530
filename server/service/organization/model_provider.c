/* OrganizationService: providers of models. Their models: ai_model.c. */
#include "auth/secret.h"
#include "rpc/page.h"
#include "rpc/write.h"
#include "service/organization/model.h"
#include "service/organization/organization.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/json.h"

#include "rpc_table.h"

#include <string.h>

enum {
    KEY_MAX = 64,
    BASE_URL_BYTES_MAX = 2048,
    CREDENTIAL_BYTES_MAX = 4096,
    SUFFIX_CHARACTERS = 4,
    SUFFIX_FROM_CHARACTERS = 12 /* of a shorter credential too much would show */
};

void model_queue_lock(struct rpc_call *call, enum sql_id statement, const struct forge_uuid *id)
{
    struct db_stmt *q = db_stmt(call->db, statement);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, id);
    db_queue(q);
}

forge_code model_run_delete(struct rpc_call *call, enum sql_id statement, const char *noun, const char *id_text, const char *etag,
                            struct forge_uuid *out_id, struct db_row *out_row)
{
    validate_uuid(call, "id", id_text, out_id);
    validate_etag(call, "etag", etag);
    forge_code rc = organization_check_end(call);
    if (rc != FORGE_OK)
        return rc;
    struct db_stmt *q = db_stmt(call->db, statement);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, out_id);
    rc = reply_run_found(call, q, noun, id_text, out_row);
    /* The key decides, not a look before: a version that is just being written counts. */
    if (rc == FORGE_FAILED_PRECONDITION && reply_violates(call, "prompt_versions_model_id_fkey"))
        return rpc_call_fail_reason(call, rc, "IN_USE", "a version of a prompt uses this %s", noun);
    if (rc == FORGE_OK && !reply_etag_matches(etag, db_row_int64(out_row, "row_version")))
        return rpc_call_fail(call, FORGE_ABORTED, "the %s has changed since this etag was read", noun);
    return rc;
}

static void provider_from_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    Forge__V1__ModelProvider *out = message;
    out->id = db_row_uuid_text(row, "id");
    out->name = db_row_text(row, "name");
    out->provider_key = db_row_text(row, "provider_key");
    out->base_url = db_row_text_or_empty(row, "base_url");
    out->description = db_row_text_or_empty(row, "description");
    out->has_credential = db_row_bool(row, "has_credential");
    out->credential_suffix = db_row_text_or_empty(row, "credential_suffix");
    out->create_time = reply_time(call, row, "created_at");
    out->update_time = reply_time(call, row, "updated_at");
    out->etag = reply_etag(call, row);
}

/* What CreateModelProvider and UpdateModelProvider may both give. */

static bool key_check(struct rpc_call *call, const char *key)
{
    size_t length = strlen(key);
    bool valid = length >= 1 && length <= KEY_MAX && strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_.-") == length;
    if (!valid)
        rpc_call_violation(call, "provider_key", "must be 1 to %d of a-z, 0-9, _, . and -", KEY_MAX);
    return valid;
}

static void base_url_check(struct rpc_call *call, const char *url)
{
    if (url[0] != '\0')
        validate_https_url(call, "base_url", url, BASE_URL_BYTES_MAX);
}

static void credential_check(struct rpc_call *call, const char *credential)
{
    if (strlen(credential) > CREDENTIAL_BYTES_MAX)
        rpc_call_violation(call, "credential", "must be at most %d bytes", CREDENTIAL_BYTES_MAX);
}

/* A credential as its row holds it; bytes NULL = none. */
struct sealed {
    uint8_t *bytes;
    size_t size;
    int32_t key_id;
    const char *suffix;
};

/* The last characters, NULL where they are too many of them. */
static const char *suffix_of(const char *credential)
{
    size_t at = strlen(credential);
    if (validate_characters(credential) < SUFFIX_FROM_CHARACTERS)
        return NULL;
    for (int i = 0; i < SUFFIX_CHARACTERS; i++)
        do
            at--;
        while (((uint8_t)credential[at] & 0xC0) == 0x80);
    return credential + at;
}

static struct sealed credential_seal(struct rpc_call *call, const struct forge_uuid *provider_id, const char *credential)
{
    const struct auth_key *key = &rpc_server_settings(call->server)->keys->current;
    struct sealed sealed = {0};
    size_t size = strlen(credential);
    if (size > 0)
        sealed.bytes = forge_arena_alloc(call->arena, size + FORGE_SEAL_OVERHEAD);
    if (sealed.bytes == NULL)
        return sealed;
    auth_secret_seal(key, &call->principal.organization_id, provider_id, (const uint8_t *)credential, size, sealed.bytes);
    sealed.size = size + FORGE_SEAL_OVERHEAD;
    sealed.key_id = key->id;
    sealed.suffix = suffix_of(credential);
    return sealed;
}

static void credential_bind(struct db_stmt *q, const struct sealed *sealed)
{
    db_bind_bytes(q, sealed->bytes, sealed->size);
    if (sealed->bytes != NULL)
        db_bind_int32(q, sealed->key_id);
    else
        db_bind_null(q);
    db_bind_text(q, sealed->suffix);
}

static forge_code conflict(struct rpc_call *call, forge_code rc, const char *name, const char *key)
{
    if (reply_violates(call, "ix_model_providers_name"))
        return rpc_call_fail(call, rc, "a provider named \"%s\" exists already", name);
    if (reply_violates(call, "ix_model_providers_provider_key"))
        return rpc_call_fail(call, rc, "a provider with provider_key \"%s\" exists already", key);
    return rc; /* the claim: rpc/write answers what is stored */
}

/* --- CreateModelProvider --- */

/* What CreateModelProvider stores, checked. */
struct creation {
    struct forge_uuid id;
    char made_key[KEY_MAX + 1];
    const char *key;
    struct sealed credential;
};

static forge_code create_check(struct rpc_call *call, const Forge__V1__CreateModelProviderRequest *in, struct creation *creation)
{
    validate_name(call, "name", in->name);
    organization_short_name_make(in->name, "_.", creation->made_key, sizeof creation->made_key);
    creation->key = in->provider_key[0] != '\0' ? in->provider_key : creation->made_key;
    if (creation->key[0] == '\0')
        rpc_call_violation(call, "provider_key", "is required: none can be made from this name");
    else
        key_check(call, creation->key);
    base_url_check(call, in->base_url);
    validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    credential_check(call, in->credential);
    return organization_check_end(call);
}

static struct db_stmt *create_statement(struct rpc_call *call, const Forge__V1__CreateModelProviderRequest *in,
                                        const struct creation *creation)
{
    struct db_stmt *q = db_stmt(call->db, SQL_MODEL_PROVIDER_CREATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &creation->id);
    db_bind_text(q, in->name);
    db_bind_text(q, creation->key);
    db_bind_text(q, in->base_url[0] != '\0' ? in->base_url : NULL);
    db_bind_text(q, in->description[0] != '\0' ? in->description : NULL);
    credential_bind(q, &creation->credential);
    db_bind_time_us(q, call->now_us);
    return q;
}

forge_code organization_create_model_provider(struct rpc_call *call, const Forge__V1__CreateModelProviderRequest *in,
                                              Forge__V1__ModelProvider *out)
{
    struct creation creation = {0};
    struct db_row row;
    forge_code rc = create_check(call, in, &creation);
    if (rc != FORGE_OK)
        return rc;
    forge_uuid_v7(&creation.id);
    creation.credential = credential_seal(call, &creation.id, in->credential);
    rc = db_run_one(create_statement(call, in, &creation), &row, &call->error);
    if (rc == FORGE_ALREADY_EXISTS)
        return conflict(call, rc, in->name, creation.key);
    if (rc != FORGE_OK)
        return rc;
    provider_from_row(call, &row, out);
    organization_audit(call, "model_provider.create", "model_provider", &creation.id, &out->base);
    rpc_write_change(call, "model_provider", &creation.id, NULL);
    return FORGE_OK;
}

/* --- GetModelProvider, ListModelProviders --- */

forge_code organization_get_model_provider(struct rpc_call *call, const Forge__V1__GetModelProviderRequest *in,
                                           Forge__V1__ModelProvider *out)
{
    bool by_id = in->id[0] != '\0', by_name = in->name[0] != '\0';
    struct forge_uuid id;
    if (by_id == by_name)
        rpc_call_violation(call, "id", "either id or name is required, not both");
    else if (by_id)
        validate_uuid(call, "id", in->id, &id);
    else
        validate_name(call, "name", in->name);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    struct db_stmt *q = db_stmt(call->db, by_id ? SQL_MODEL_PROVIDER_GET : SQL_MODEL_PROVIDER_GET_BY_NAME);
    db_bind_uuid(q, &call->principal.organization_id);
    if (by_id)
        db_bind_uuid(q, &id);
    else
        db_bind_text(q, in->name);
    struct db_row row;
    forge_code rc = reply_run_found(call, q, "provider", by_id ? in->id : in->name, &row);
    if (rc == FORGE_OK)
        provider_from_row(call, &row, out);
    return rc;
}

forge_code organization_list_model_providers(struct rpc_call *call, const Forge__V1__ListModelProvidersRequest *in,
                                             Forge__V1__ListModelProvidersResponse *out)
{
    struct rpc_page page;
    size_t prefix_size = strlen(in->name_prefix);
    rpc_page_read(call, in->page_size, in->page_token, in->name_prefix, prefix_size, &page);
    validate_name_or_empty(call, "name_prefix", in->name_prefix);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    struct db_stmt *q = db_stmt(call->db, SQL_MODEL_PROVIDER_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_text(q, in->name_prefix);
    db_bind_text(q, validate_prefix_end(in->name_prefix, call->arena));
    db_bind_text(q, page.has_key ? page.last_name : "");
    db_bind_int32(q, page.size + 1);
    struct db_rows rows;
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    out->model_providers =
        reply_list(call, &rows, page.size, &forge__v1__model_provider__descriptor, provider_from_row, &out->n_model_providers);
    if (rows.count > page.size && out->n_model_providers > 0)
        out->next_page_token = rpc_page_next(call, in->name_prefix, prefix_size, out->model_providers[out->n_model_providers - 1]->name, 0,
                                             &(struct forge_uuid){0});
    return FORGE_OK;
}

/* --- UpdateModelProvider --- */

enum { UPDATES_NAME = 1, UPDATES_KEY = 2, UPDATES_BASE_URL = 4, UPDATES_DESCRIPTION = 8, UPDATES_CREDENTIAL = 16 };

static unsigned update_given(const Forge__V1__UpdateModelProviderRequest *in)
{
    return (in->name[0] != '\0' ? UPDATES_NAME : 0u) | (in->provider_key[0] != '\0' ? UPDATES_KEY : 0u) |
           (in->base_url[0] != '\0' ? UPDATES_BASE_URL : 0u) | (in->description[0] != '\0' ? UPDATES_DESCRIPTION : 0u) |
           (in->credential[0] != '\0' ? UPDATES_CREDENTIAL : 0u);
}

static forge_code update_check(struct rpc_call *call, const Forge__V1__UpdateModelProviderRequest *in, unsigned *fields,
                               struct forge_uuid *id)
{
    static const char *const paths[] = {"name", "provider_key", "base_url", "description", "credential"};
    validate_uuid(call, "id", in->id, id);
    *fields = validate_update_mask(call, in->update_mask, paths, 5, update_given(in));
    if ((*fields & UPDATES_NAME) != 0)
        validate_name(call, "name", in->name);
    if ((*fields & UPDATES_KEY) != 0)
        key_check(call, in->provider_key);
    if ((*fields & UPDATES_BASE_URL) != 0)
        base_url_check(call, in->base_url);
    if ((*fields & UPDATES_DESCRIPTION) != 0)
        validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    if ((*fields & UPDATES_CREDENTIAL) != 0)
        credential_check(call, in->credential);
    validate_etag(call, "etag", in->etag);
    return organization_check_end(call);
}

static struct db_stmt *update_statement(struct rpc_call *call, const Forge__V1__UpdateModelProviderRequest *in, unsigned fields,
                                        const struct forge_uuid *id, const struct sealed *credential)
{
    model_queue_lock(call, SQL_MODEL_PROVIDER_LOCK, id);
    struct db_stmt *q = db_stmt(call->db, SQL_MODEL_PROVIDER_UPDATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, id);
    db_bind_text(q, (fields & UPDATES_NAME) != 0 ? in->name : NULL);
    db_bind_text(q, (fields & UPDATES_KEY) != 0 ? in->provider_key : NULL);
    db_bind_bool(q, (fields & UPDATES_BASE_URL) != 0);
    db_bind_text(q, in->base_url[0] != '\0' ? in->base_url : NULL);
    db_bind_bool(q, (fields & UPDATES_DESCRIPTION) != 0);
    db_bind_text(q, in->description[0] != '\0' ? in->description : NULL);
    db_bind_bool(q, (fields & UPDATES_CREDENTIAL) != 0);
    credential_bind(q, credential);
    db_bind_time_us(q, call->now_us);
    return q;
}

/* What the audit row shows of the provider before. */
static void before_from_row(const struct db_row *row, Forge__V1__ModelProvider *before)
{
    before->name = db_row_text_or_empty(row, "old_name");
    before->provider_key = db_row_text_or_empty(row, "old_provider_key");
    before->base_url = db_row_text_or_empty(row, "old_base_url");
    before->description = db_row_text_or_empty(row, "old_description");
    before->has_credential = db_row_bool(row, "old_has_credential");
    before->credential_suffix = db_row_text_or_empty(row, "old_credential_suffix");
}

/* Old and new may show the same of another credential, so that it was set is said beside them. */
static void update_audit(struct rpc_call *call, const struct forge_uuid *id, const Forge__V1__ModelProvider *before,
                         const Forge__V1__ModelProvider *after, bool sets_credential)
{
    const struct forge_json_options options = {0};
    const char *old_json = forge_json_from_message(&before->base, &options, call->arena);
    const char *new_json = forge_json_from_message(&after->base, &options, call->arena);
    if (old_json != NULL && new_json != NULL)
        rpc_write_audit(call, "model_provider.update", "model_provider", id,
                        forge_arena_printf(call->arena, "{\"old\": %s, \"new\": %s, \"credential_set\": %s}", old_json, new_json,
                                           sets_credential ? "true" : "false"));
}

forge_code organization_update_model_provider(struct rpc_call *call, const Forge__V1__UpdateModelProviderRequest *in,
                                              Forge__V1__ModelProvider *out)
{
    struct forge_uuid id;
    unsigned fields;
    struct sealed credential = {0};
    struct db_row row;
    forge_code rc = update_check(call, in, &fields, &id);
    if (rc != FORGE_OK)
        return rc;
    if ((fields & UPDATES_CREDENTIAL) != 0)
        credential = credential_seal(call, &id, in->credential);
    rc = reply_run_found(call, update_statement(call, in, fields, &id, &credential), "provider", in->id, &row);
    if (rc == FORGE_ALREADY_EXISTS)
        return conflict(call, rc, in->name, in->provider_key);
    if (rc != FORGE_OK)
        return rc;
    if (!reply_etag_matches(in->etag, db_row_int64(&row, "row_version") - 1))
        return rpc_call_fail(call, FORGE_ABORTED, "the provider has changed since this etag was read");
    Forge__V1__ModelProvider before = FORGE__V1__MODEL_PROVIDER__INIT;
    before_from_row(&row, &before);
    provider_from_row(call, &row, out);
    update_audit(call, &id, &before, out, (fields & UPDATES_CREDENTIAL) != 0);
    rpc_write_change(call, "model_provider", &id, NULL);
    return FORGE_OK;
}

/* --- DeleteModelProvider --- */

forge_code organization_delete_model_provider(struct rpc_call *call, const Forge__V1__DeleteModelProviderRequest *in,
                                              Google__Protobuf__Empty *out)
{
    (void)out;
    struct forge_uuid id;
    struct db_row row;
    forge_code rc = model_run_delete(call, SQL_MODEL_PROVIDER_DELETE, "provider", in->id, in->etag, &id, &row);
    if (rc != FORGE_OK)
        return rc;
    Forge__V1__ModelProvider deleted = FORGE__V1__MODEL_PROVIDER__INIT;
    provider_from_row(call, &row, &deleted);
    organization_audit(call, "model_provider.delete", "model_provider", &id, &deleted.base);
    rpc_write_change(call, "model_provider", &id, NULL);
    return FORGE_OK;
}
