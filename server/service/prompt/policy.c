#include "service/prompt/policy.h"

#include "db/tx.h"
#include "rpc/write.h"
#include "service/policy/violation_write.h"
#include "service/prompt/content.h"
#include "service/prompt/prompt.h"
#include "service/reply.h"

#include <string.h>

enum { TEXTS_MAX = PROMPT_MESSAGES_MAX + 2, CHECKS_MAX = 16 /* targets of a label */ };

/* The review of a write. What it counted is counted when the write is committed. */
struct write_review {
    struct policy_review review;
    const Forge__V1__PolicyAction *actions[CHECKS_MAX]; /* of each check */
    size_t check_count;
};

static void write_ended(void *user, bool committed)
{
    struct write_review *of = user;
    for (size_t i = 0; committed && i < of->check_count; i++)
        policy_review_count(&of->review, of->actions[i]);
    policy_review_end(&of->review);
}

/* NULL where nothing is to be checked: no policy can be in force there, or *out_code says why not. */
static struct write_review *begin(struct rpc_call *call, const struct forge_uuid *project_id, forge_code *out_code)
{
    struct write_review *of = forge_arena_calloc(call->arena, 1, sizeof *of);
    if (of == NULL) {
        *out_code = rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "no memory to check the policies");
        return NULL;
    }
    rpc_write_when_ended(call, write_ended, of);
    *out_code = policy_review_begin(call, project_id, &of->review);
    return *out_code == FORGE_OK && of->review.policy_count > 0 ? of : NULL;
}

/* --- what is checked ------------------------------------------------------------------------------------------------- */

struct subject {
    bool is_new, is_of_new_prompt; /* refused, it will not exist */
    struct forge_uuid prompt_id;
    const char *label; /* that was moved to it; NULL for a new version */
    const Forge__V1__PromptVersion *version;
    struct db_bytes content_hash;
    struct forge_uuid model_id; /* nil: none */
    bool has_tags;
    size_t tag_count;
    char **tags;
};

struct texts {
    struct policy_text list[TEXTS_MAX];
    const char *fields[TEXTS_MAX];
    size_t count;
};

static void text_add(struct texts *texts, const char *field, const char *text)
{
    if (text[0] == '\0')
        return;
    texts->fields[texts->count] = field;
    texts->list[texts->count++] = (struct policy_text){FORGE__V1__POLICY_STAGE__POLICY_STAGE_PROMPT, text, strlen(text)};
}

static void texts_fill(struct rpc_call *call, const Forge__V1__PromptVersion *version, struct texts *out)
{
    out->count = 0;
    text_add(out, "content", version->content);
    for (size_t i = 0; i < version->n_messages && i < PROMPT_MESSAGES_MAX; i++) {
        const char *field = forge_arena_printf(call->arena, "messages[%zu].content", i);
        text_add(out, field != NULL ? field : "messages", version->messages[i]->content);
    }
    text_add(out, "system_prompt", version->system_prompt);
}

static forge_code decide(struct rpc_call *call, const struct write_review *of, const struct subject *subject, const struct texts *texts,
                         struct policy_decision *out)
{
    bool has_model = !forge_uuid_is_nil(&subject->model_id);
    const struct policy_subject checked = {
        .texts = texts->list,
        .text_count = texts->count,
        .model_stage = has_model ? FORGE__V1__POLICY_STAGE__POLICY_STAGE_PROMPT : FORGE__V1__POLICY_STAGE__POLICY_STAGE_UNSPECIFIED,
        .model_id = has_model ? subject->version->model_id : NULL,
        .has_tags = subject->has_tags,
        .tags = (const char *const *)subject->tags,
        .tag_count = subject->tag_count,
    };
    return policy_review_decide(&of->review, &checked, out);
}

/* --- what is made of it ---------------------------------------------------------------------------------------------- */

/* The request, and of a move of a label which of its versions. */
static struct db_bytes identity_of(struct rpc_call *call, const struct subject *subject)
{
    enum { ID = sizeof call->request_id.bytes, SIZE = 2 * ID + sizeof(int32_t) };
    uint8_t *bytes = forge_arena_alloc(call->arena, SIZE), *version;
    if (bytes == NULL)
        return (struct db_bytes){0};
    version = mempcpy(mempcpy(bytes, call->principal.id.bytes, ID), call->request_id.bytes, ID);
    for (size_t i = 0; i < sizeof(int32_t); i++)
        version[i] = (uint8_t)((uint32_t)(subject->is_new ? 0 : subject->version->version) >> (24 - 8 * i));
    return (struct db_bytes){bytes, SIZE};
}

static void queue(struct rpc_call *call, const struct policy_violations *violations)
{
    const struct policy_violation **list = forge_arena_calloc(call->arena, violations->count + 1, sizeof(const struct policy_violation *));
    for (size_t i = 0; list != NULL && i < violations->count; i++)
        list[i] = &violations->list[i];
    if (list != NULL) /* else rpc sees the overflow */
        policy_violations_queue(call->db, &call->principal.organization_id, call->now_us, list, violations->count);
}

static const struct policy_finding *first_block(const struct policy_decision *decision)
{
    for (size_t i = 0; i < decision->finding_count; i++)
        if (decision->findings[i].action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK &&
            decision->findings[i].mode == FORGE__V1__POLICY_MODE__POLICY_MODE_ENFORCE)
            return &decision->findings[i];
    return NULL; /* findings were too many */
}

/* What the handler wrote goes, the violations stay: in a transaction of their own, which a repeat of the request writes only once. */
static forge_code refuse(struct rpc_call *call, struct write_review *of, const struct policy_decision *decision,
                         const struct policy_violations *violations)
{
    const struct policy_finding *finding = first_block(decision);
    struct policy_reference policy;
    bool unknown;
    db_tx_rollback(call->db);
    db_tx_begin(call->db);
    queue(call, violations);
    forge_code rc = db_tx_commit(call->db, &unknown, &call->error);
    if (rc != FORGE_OK)
        return rc;
    policy_review_count(&of->review, decision->policy_action);
    if (finding == NULL)
        return rpc_call_fail_reason(call, FORGE_FAILED_PRECONDITION, "POLICY_BLOCKED", "a policy blocks this version");
    policy_review_reference(&of->review, finding->policy, &policy);
    rpc_call_fact(call, "policy_id", "%s", policy.id_text != NULL ? policy.id_text : "");
    rpc_call_fact(call, "policy_version", "%d", policy.version);
    rpc_call_fact(call, "rule", "%s", finding->rule);
    return rpc_call_fail_reason(call, FORGE_FAILED_PRECONDITION, "POLICY_BLOCKED", "rule \"%s\" of policy \"%s\" blocks this version: %s",
                                finding->rule, policy.name != NULL ? policy.name : "", finding->message);
}

static forge_code check(struct rpc_call *call, struct write_review *of, const struct subject *subject)
{
    struct texts *texts = forge_arena_alloc(call->arena, sizeof *texts);
    struct policy_decision decision;
    struct policy_violations violations;
    if (texts == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "no memory to check the policies");
    texts_fill(call, subject->version, texts);
    forge_code rc = decide(call, of, subject, texts, &decision);
    if (rc != FORGE_OK)
        return rc;
    bool is_blocked = decision.action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK;
    struct policy_checked checked = {.identity = identity_of(call, subject),
                                     .fields = texts->fields,
                                     .content_hash = subject->content_hash,
                                     .label = subject->label,
                                     .model = subject->version->model_name};
    if (!is_blocked || !subject->is_of_new_prompt)
        checked.prompt_id = subject->prompt_id;
    if (!is_blocked || !subject->is_new)
        checked.prompt_version = subject->version->version;
    rc = policy_violations_make(&of->review, &decision, &checked, &violations);
    if (rc != FORGE_OK)
        return rc;
    if (is_blocked)
        return refuse(call, of, &decision, &violations);
    queue(call, &violations);
    of->actions[of->check_count++] = decision.policy_action;
    return FORGE_OK;
}

/* --- new versions ---------------------------------------------------------------------------------------------------- */

static forge_code tags_read(struct rpc_call *call, struct subject *subject)
{
    struct db_rows rows;
    struct db_stmt *q = db_stmt(call->db, SQL_PROMPT_POLICY_TAGS);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &subject->prompt_id);
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    subject->tags = forge_arena_calloc(call->arena, (size_t)rows.count + 1, sizeof subject->tags[0]);
    for (int i = 0; subject->tags != NULL && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        subject->tags[subject->tag_count++] = db_row_text(&row, "name");
    }
    if (forge_arena_has_overflowed(call->arena))
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "no memory to check the policies");
    subject->has_tags = true;
    return FORGE_OK;
}

static forge_code check_new(struct rpc_call *call, const struct forge_uuid *project_id, struct subject *subject)
{
    forge_code rc;
    struct write_review *of = begin(call, project_id, &rc);
    if (of == NULL || !policy_review_select(&of->review, NULL, &subject->model_id))
        return rc;
    if (of->review.asks_tags && !subject->has_tags)
        rc = tags_read(call, subject);
    return rc == FORGE_OK ? check(call, of, subject) : rc;
}

static struct subject new_subject(const struct forge_uuid *prompt_id, bool is_of_new_prompt, const struct prompt_content *content,
                                  const Forge__V1__PromptVersion *version)
{
    struct subject subject = {.is_new = true,
                              .is_of_new_prompt = is_of_new_prompt,
                              .prompt_id = *prompt_id,
                              .version = version,
                              .content_hash = {content->hash, sizeof content->hash}};
    if (content->has_model)
        subject.model_id = content->model_id;
    return subject;
}

forge_code prompt_policy_check_new(struct rpc_call *call, const struct forge_uuid *project_id, const struct forge_uuid *prompt_id,
                                   const struct prompt_content *content, const Forge__V1__Prompt *prompt)
{
    Forge__V1__PromptVersion version = FORGE__V1__PROMPT_VERSION__INIT;
    version.version = prompt->version;
    version.content = prompt->content;
    version.n_messages = prompt->n_messages;
    version.messages = prompt->messages;
    version.system_prompt = prompt->system_prompt;
    version.model_id = prompt->model_id;
    version.model_name = prompt->model_name;
    struct subject subject = new_subject(prompt_id, true, content, &version);
    subject.has_tags = true;
    subject.tag_count = prompt->n_tags;
    subject.tags = prompt->tags;
    return check_new(call, project_id, &subject);
}

forge_code prompt_policy_check_version(struct rpc_call *call, const struct forge_uuid *project_id, const struct forge_uuid *prompt_id,
                                       const struct prompt_content *content, const Forge__V1__PromptVersion *version)
{
    struct subject subject = new_subject(prompt_id, false, content, version);
    return check_new(call, project_id, &subject);
}

/* --- labels ---------------------------------------------------------------------------------------------------------- */

static bool pointed_there(const Forge__V1__LabelMove *move, int32_t version)
{
    for (size_t i = 0; i < move->n_old_targets; i++)
        if (move->old_targets[i]->version == version)
            return true;
    return false;
}

static forge_code check_target(struct rpc_call *call, struct write_review *of, const struct forge_uuid *prompt_id, const char *label,
                               int32_t number)
{
    Forge__V1__PromptVersion version = FORGE__V1__PROMPT_VERSION__INIT;
    struct subject subject = {.prompt_id = *prompt_id, .label = label, .version = &version};
    struct prompt_content_row content;
    struct db_row row;
    struct db_stmt *q = db_stmt(call->db, SQL_PROMPT_GET_VERSION);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, prompt_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_int32(q, number);
    forge_code rc = reply_run_found(call, q, "prompt", "of the label", &row);
    if (rc == FORGE_OK)
        rc = prompt_content_read(call, &row, &content);
    if (rc != FORGE_OK)
        return rc;
    version.version = number;
    version.content = content.content;
    version.n_messages = content.message_count;
    version.messages = content.messages;
    version.system_prompt = content.system_prompt;
    version.model_id = content.model_id;
    version.model_name = content.model_name;
    subject.content_hash.data = db_row_bytes(&row, "content_hash", &subject.content_hash.size);
    if (content.model_id != NULL)
        db_row_uuid(&row, "model_id", &subject.model_id);
    if (of->review.asks_tags)
        rc = tags_read(call, &subject);
    return rc == FORGE_OK ? check(call, of, &subject) : rc;
}

forge_code prompt_policy_check_label(struct rpc_call *call, const struct forge_uuid *project_id, const struct forge_uuid *prompt_id,
                                     const Forge__V1__LabelMove *move)
{
    forge_code rc;
    struct write_review *of = begin(call, project_id, &rc);
    if (of == NULL || !policy_review_select_label(&of->review, move->label))
        return rc;
    for (size_t i = 0; rc == FORGE_OK && i < move->n_new_targets; i++)
        if (!pointed_there(move, move->new_targets[i]->version))
            rc = check_target(call, of, prompt_id, move->label, move->new_targets[i]->version);
    return rc;
}
