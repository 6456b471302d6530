/* PromptService: tags of the organization, and which prompts have them. */
#include "service/prompt/tag.h"

#include "rpc/page.h"
#include "rpc/write.h"
#include "service/prompt/prompt.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <stdio.h>
#include <string.h>

static bool is_among(const char *name, size_t count, char **names)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

void prompt_tags_check(struct rpc_call *call, size_t count, char **names, size_t count_max)
{
    if (count > count_max)
        rpc_call_violation(call, "tags", "must be at most %zu", count_max);
    for (size_t i = 0; i < count && i < count_max; i++) {
        char field[40];
        snprintf(field, sizeof field, "tags[%zu]", i);
        if (validate_name_of(call, field, names[i], TAG_NAME_CHARACTERS_MAX) && is_among(names[i], i, names))
            rpc_call_violation(call, field, "is given twice");
    }
}

forge_code prompt_tags_require(struct rpc_call *call, size_t count, char **names, size_t existing_count, char **existing)
{
    for (size_t i = 0; count > existing_count && i < count; i++)
        if (!is_among(names[i], existing_count, existing))
            return rpc_call_fail(call, FORGE_NOT_FOUND, "tag \"%s\" not found", names[i]);
    return FORGE_OK;
}

forge_code prompt_create_tag(struct rpc_call *call, const Forge__V1__CreateTagRequest *in, Forge__V1__Tag *out)
{
    if (!validate_name_of(call, "name", in->name, TAG_NAME_CHARACTERS_MAX))
        return rpc_call_invalid(call);
    struct db_stmt *q = db_stmt(call->db, SQL_TAG_CREATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_text(q, in->name);
    struct db_row row;
    forge_code rc = db_run_one(q, &row, &call->error);
    if (rc == FORGE_ALREADY_EXISTS && reply_violates(call, "ix_tags_name"))
        return rpc_call_fail(call, rc, "a tag named \"%s\" exists already", in->name);
    if (rc != FORGE_OK)
        return rc;
    out->id = db_row_int64(&row, "id");
    out->name = db_row_text(&row, "name");
    return FORGE_OK;
}

static void listed_from_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    (void)call;
    Forge__V1__Tag *tag = message;
    tag->id = db_row_int64(row, "id");
    tag->name = db_row_text(row, "name");
    tag->prompt_count = db_row_int64(row, "prompt_count");
}

forge_code prompt_list_tags(struct rpc_call *call, const Forge__V1__ListTagsRequest *in, Forge__V1__ListTagsResponse *out)
{
    struct rpc_page page;
    rpc_page_read(call, in->page_size, in->page_token, in->name_prefix, strlen(in->name_prefix), &page);
    validate_name_or_empty(call, "name_prefix", in->name_prefix);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    struct db_stmt *q = db_stmt(call->db, SQL_TAG_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_text(q, in->name_prefix);
    db_bind_text(q, validate_prefix_end(in->name_prefix, call->arena));
    db_bind_text(q, page.has_key ? page.last_name : "");
    db_bind_int32(q, page.size + 1);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    struct db_rows rows;
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    out->tags = reply_list(call, &rows, page.size, &forge__v1__tag__descriptor, listed_from_row, &out->n_tags);
    if (rows.count > page.size && out->n_tags > 0)
        out->next_page_token =
            rpc_page_next(call, in->name_prefix, strlen(in->name_prefix), out->tags[out->n_tags - 1]->name, 0, &(struct forge_uuid){0});
    return FORGE_OK;
}

static struct db_stmt *deletion(struct rpc_call *call, enum sql_id statement, const Forge__V1__DeleteTagRequest *in)
{
    struct db_stmt *q = db_stmt(call->db, statement);
    db_bind_uuid(q, &call->principal.organization_id);
    if (in->id != 0)
        db_bind_int64(q, in->id);
    else
        db_bind_null(q);
    db_bind_text(q, in->name);
    return q;
}

forge_code prompt_delete_tag(struct rpc_call *call, const Forge__V1__DeleteTagRequest *in, Google__Protobuf__Empty *out)
{
    bool has_name = in->name[0] != '\0';
    if ((in->id != 0) == has_name)
        rpc_call_violation(call, "id", "either id or name is required");
    else if (in->id < 0)
        rpc_call_violation(call, "id", "must be a positive number");
    else if (has_name)
        validate_name_of(call, "name", in->name, TAG_NAME_CHARACTERS_MAX);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    if (auth_principal_bound_project(&call->principal) != NULL)
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED,
                             "this key is bound to one project and cannot take a tag off the prompts of others");
    db_queue(deletion(call, SQL_TAG_LOCK_DELETED, in));
    db_queue(deletion(call, SQL_TAG_LOCK_PROMPTS, in));
    struct db_stmt *q = deletion(call, SQL_TAG_DELETE, in);
    db_bind_time_us(q, call->now_us);
    struct db_rows rows;
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return has_name ? rpc_call_fail(call, FORGE_NOT_FOUND, "tag \"%s\" not found", in->name)
                        : rpc_call_fail(call, FORGE_NOT_FOUND, "tag %lld not found", (long long)in->id);
    for (int i = 0; i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        struct forge_uuid prompt_id, project_id;
        if (db_row_is_null(&row, "prompt_id"))
            break;
        db_row_uuid(&row, "prompt_id", &prompt_id);
        db_row_uuid(&row, "project_id", &project_id);
        rpc_write_change(call, "prompt", &prompt_id, &project_id);
    }
    return FORGE_OK;
}

/* TagPrompt and UntagPrompt ask for the same and get the same. */
struct link_request {
    const char *prompt_id, *tag;
    bool adds;
};

static void link_locks(struct rpc_call *call, const struct link_request *in, const struct forge_uuid *prompt_id)
{
    if (in->adds) {
        struct db_stmt *tag = db_stmt(call->db, SQL_TAG_LOCK);
        db_bind_uuid(tag, &call->principal.organization_id);
        db_bind_text(tag, in->tag);
        db_queue(tag);
    }
    prompt_queue_by_id(call, SQL_PROMPT_LOCK, prompt_id);
}

static forge_code link_change(struct rpc_call *call, const struct link_request *in, size_t *out_count, char ***out_tags)
{
    struct forge_uuid prompt_id, project_id;
    validate_uuid(call, "prompt_id", in->prompt_id, &prompt_id);
    validate_name_of(call, "tag", in->tag, TAG_NAME_CHARACTERS_MAX);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    link_locks(call, in, &prompt_id);
    struct db_stmt *q = db_stmt(call->db, in->adds ? SQL_TAG_LINK : SQL_TAG_UNLINK);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &prompt_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_text(q, in->tag);
    db_bind_time_us(q, call->now_us);
    struct db_row row;
    forge_code rc = reply_run_found(call, q, "prompt", in->prompt_id, &row);
    if (rc != FORGE_OK)
        return rc;
    if (db_row_is_null(&row, "tag_id"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "tag \"%s\" not found", in->tag);
    *out_tags = db_row_text_array(&row, "tags", out_count);
    if (*out_count > PROMPT_TAGS_MAX)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "a prompt has at most %d tags", PROMPT_TAGS_MAX);
    db_row_uuid(&row, "project_id", &project_id);
    if (db_row_bool(&row, "changed"))
        rpc_write_change(call, "prompt", &prompt_id, &project_id);
    return FORGE_OK;
}

forge_code prompt_tag(struct rpc_call *call, const Forge__V1__TagPromptRequest *in, Forge__V1__TagPromptResponse *out)
{
    const struct link_request request = {in->prompt_id, in->tag, .adds = true};
    return link_change(call, &request, &out->n_tags, &out->tags);
}

forge_code prompt_untag(struct rpc_call *call, const Forge__V1__UntagPromptRequest *in, Forge__V1__UntagPromptResponse *out)
{
    const struct link_request request = {in->prompt_id, in->tag, .adds = false};
    return link_change(call, &request, &out->n_tags, &out->tags);
}
