/* Policies: a draft as the manifest has it, and its publication. */
#include "apply.h"
#include "apply_fields.h"
#include "policy_names.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

enum { PROJECT, RATE_WINDOW_S = 60, POLL_MS = 20, IN_FORCE_WITHIN_MS = 10000, MS_PER_S = 1000, NS_PER_MS = 1000000 };

static const Forge__V1__Policy *found_of(const struct apply_object *object)
{
    return (const Forge__V1__Policy *)object->found;
}

/* ---- names ---- */

struct naming {
    struct apply *apply;
    const struct apply_object *object;
};

/* "" for what does not exist yet: then it is no id that the server has. */
static const char *id_of(const struct apply_object *found)
{
    return found && found->id ? found->id : "";
}

static int find_project(void *context, const char *name, const char **out_id)
{
    const struct naming *naming = context;
    struct apply_object *project;
    int code = apply_find(naming->apply, manifest_kind_find("project"), NULL, name, &project);
    if (code == CLI_OK && !project)
        manifest_add_problem(&naming->apply->manifest, &naming->object->manifest->position, "there is no project \"%.255s\"", name);
    *out_id = id_of(project);
    return code;
}

static int find_model(void *context, const char *provider_and_name, const char **out_id)
{
    const struct naming *naming = context;
    struct apply_object *model;
    int code = apply_find_model(naming->apply, naming->object, provider_and_name, &model);
    *out_id = id_of(model);
    return code;
}

/* What the server takes for fields that are left out. */
static void fill_in(const Forge__V1__CreatePolicyRequest *wanted)
{
    for (size_t i = 0; i < wanted->n_rules; i++) {
        Forge__V1__PolicyRule *rule = wanted->rules[i];
        if (rule->severity == FORGE__V1__SEVERITY__SEVERITY_UNSPECIFIED)
            rule->severity = FORGE__V1__SEVERITY__SEVERITY_MEDIUM;
        if (rule->kind_case != FORGE__V1__POLICY_RULE__KIND_RATE_LIMIT)
            continue;
        if (rule->rate_limit->key == FORGE__V1__RATE_LIMIT_KEY__RATE_LIMIT_KEY_UNSPECIFIED)
            rule->rate_limit->key = FORGE__V1__RATE_LIMIT_KEY__RATE_LIMIT_KEY_PROJECT;
        if (!rule->rate_limit->window_s)
            rule->rate_limit->window_s = RATE_WINDOW_S;
    }
}

/* The request of the manifest with ids, as the server would keep it. */
static int make_wanted(struct apply *apply, const struct apply_object *object, Forge__V1__CreatePolicyRequest **out)
{
    struct naming naming = {apply, object};
    const struct policy_names names = {.project = find_project, .model = find_model, .context = &naming};
    Forge__V1__CreatePolicyRequest *wanted =
        (Forge__V1__CreatePolicyRequest *)field_message_copy(&apply->cli->arena, object->manifest->request);
    *out = wanted;
    if (!wanted)
        return cli_fail(CLI_FAILED, "no memory");
    if (object->references[PROJECT])
        field_set_text(&wanted->base, "project_id", id_of(object->references[PROJECT]));
    fill_in(wanted);
    return policy_names_replace(&names, &apply->cli->arena, wanted->rules, wanted->n_rules, wanted->attachments, wanted->n_attachments);
}

/* ---- the plan ---- */

/* A listing without a project is of all of them. */
static int find_policy(struct apply *apply, struct apply_object *object)
{
    Forge__V1__ListPoliciesRequest request = FORGE__V1__LIST_POLICIES_REQUEST__INIT;
    const struct apply_object *project = object->references[PROJECT];
    ProtobufCMessage **policies;
    size_t count;
    if (apply->is_new_organization || (project && !project->id))
        return CLI_OK;
    field_set_text(&request.base, "project_id", id_of(project));
    field_set_text(&request.base, "name_prefix", object->name);
    request.view = FORGE__V1__POLICY_VIEW__POLICY_VIEW_FULL;
    int code = apply_list(apply, object->kind->lookup, &request.base, &policies, &count);
    for (size_t i = 0; code == CLI_OK && i < count; i++)
        if (!strcmp(field_text(policies[i], "name"), object->name) && !strcmp(field_text(policies[i], "project_id"), id_of(project)))
            object->found = policies[i];
    object->id = object->found ? found_of(object)->id : NULL;
    return code;
}

/* Fills object->update and object->details with what differs; no update when nothing does. */
static int compare(struct apply *apply, struct apply_object *object, const Forge__V1__CreatePolicyRequest *wanted)
{
    const Forge__V1__Policy *found = found_of(object);
    Forge__V1__CreatePolicyRequest as_it_is = FORGE__V1__CREATE_POLICY_REQUEST__INIT;
    as_it_is.name = found->name;
    as_it_is.description = found->description;
    as_it_is.mode = found->draft->mode;
    as_it_is.n_rules = found->draft->n_rules;
    as_it_is.rules = found->draft->rules;
    as_it_is.n_attachments = found->n_attachments;
    as_it_is.attachments = found->attachments;
    object->update = field_message_new(&apply->cli->arena, forge_methods[object->kind->update].input);
    const char *details = object->update ? field_difference(&apply->cli->arena, object->update, &wanted->base, &as_it_is.base) : NULL;
    if (!details)
        return cli_fail(CLI_FAILED, "no memory");
    object->details = details;
    if (!*details) {
        object->update = NULL;
        return CLI_OK;
    }
    object->action = APPLY_UPDATE;
    field_set_text(object->update, "id", found->id);
    field_set_text(object->update, "etag", found->etag);
    return CLI_OK;
}

static bool changes_draft(const struct apply_object *object)
{
    const Forge__V1__UpdatePolicyRequest *update = (const Forge__V1__UpdatePolicyRequest *)object->update;
    return update && (update->n_rules > 0 || update->mode != FORGE__V1__POLICY_MODE__POLICY_MODE_UNSPECIFIED);
}

static bool has_draft_to_publish(const Forge__V1__Policy *policy)
{
    return policy->published_version == 0 || policy->draft_changed;
}

/* A policy without rules cannot be published. */
static bool check_rules(struct apply *apply, const struct apply_object *object, const Forge__V1__CreatePolicyRequest *wanted)
{
    bool has_rules = wanted->n_rules > 0 || (object->found && found_of(object)->draft->n_rules > 0);
    if (has_rules || object->manifest->is_without_step)
        return true;
    manifest_add_problem(&apply->manifest, &object->manifest->position, "rules are missing; without them: publish: false");
    return false;
}

int apply_plan_policy(struct apply *apply, struct apply_object *object)
{
    Forge__V1__CreatePolicyRequest *wanted;
    int code = make_wanted(apply, object, &wanted);
    if (code == CLI_OK)
        code = find_policy(apply, object);
    if (code != CLI_OK || !check_rules(apply, object, wanted))
        return code;
    object->action = object->found ? APPLY_UNCHANGED : APPLY_CREATE;
    if (!object->found || apply->is_create_only)
        return CLI_OK;
    code = compare(apply, object, wanted);
    bool publishes = !object->manifest->is_without_step && (changes_draft(object) || has_draft_to_publish(found_of(object)));
    if (code == CLI_OK && publishes && !apply_add_detail(apply, object, "publish"))
        return cli_fail(CLI_FAILED, "no memory");
    return code;
}

/* ---- carrying it out ---- */

/* What was planned with an id missing is compared again. */
static int write_draft(struct apply *apply, struct apply_object *object)
{
    Forge__V1__CreatePolicyRequest *wanted;
    const char *details = object->details;
    int code = make_wanted(apply, object, &wanted);
    if (code == CLI_OK && object->action == APPLY_CREATE)
        return apply_call(apply, object->kind->create, &wanted->base, &object->found);
    if (code == CLI_OK)
        code = compare(apply, object, wanted);
    object->details = details;
    return code == CLI_OK && object->update ? apply_call(apply, object->kind->update, object->update, &object->found) : code;
}

int apply_run_policy(struct apply *apply, struct apply_object *object)
{
    Forge__V1__PublishPolicyRequest request = FORGE__V1__PUBLISH_POLICY_REQUEST__INIT;
    int code = write_draft(apply, object);
    if (code != CLI_OK)
        return code;
    object->id = found_of(object)->id;
    if (object->manifest->is_without_step || !has_draft_to_publish(found_of(object)))
        return CLI_OK;
    field_set_text(&request.base, "id", object->id);
    field_set_text(&request.base, "etag", found_of(object)->etag); /* nothing else is published than what was written */
    return apply_call(apply, FORGE_METHOD_POLICY_PUBLISH, &request.base, &object->found);
}

/* ---- in force ---- */

/* Some project of the organization, "" where there is none and so nothing that can be checked. */
static int any_project(struct apply *apply, const char **out_id)
{
    const struct manifest_kind *kind = manifest_kind_find("project");
    Forge__V1__ListProjectsRequest request = FORGE__V1__LIST_PROJECTS_REQUEST__INIT;
    ProtobufCMessage *reply;
    size_t count;
    *out_id = "";
    request.page_size = 1;
    int code = apply_call(apply, kind->lookup, &request.base, &reply);
    if (code != CLI_OK)
        return code;
    ProtobufCMessage *const *projects = field_list(reply, NULL, &count);
    if (count)
        *out_id = field_text(projects[0], "id");
    return CLI_OK;
}

/* A check that the policy takes part in when it is in force. */
static int make_check(struct apply *apply, const Forge__V1__Policy *policy, Forge__V1__CheckPoliciesRequest *out)
{
    const Forge__V1__PolicyAttachment *attachment = policy->n_attachments ? policy->attachments[0] : NULL;
    const char *project_id = policy->project_id;
    int code = CLI_OK;
    if (attachment && attachment->target_case == FORGE__V1__POLICY_ATTACHMENT__TARGET_LABEL)
        field_set_text(&out->base, "label", attachment->label);
    if (attachment && attachment->target_case == FORGE__V1__POLICY_ATTACHMENT__TARGET_MODEL_ID)
        field_set_text(&out->base, "model_id", attachment->model_id);
    if (attachment && attachment->target_case == FORGE__V1__POLICY_ATTACHMENT__TARGET_PROJECT_ID)
        project_id = attachment->project_id;
    if (!*project_id)
        code = any_project(apply, &project_id);
    field_set_text(&out->base, "project_id", project_id);
    return code;
}

static bool is_in_force(const Forge__V1__CheckPoliciesResponse *check, const Forge__V1__Policy *policy)
{
    for (size_t i = 0; i < check->n_policies; i++)
        if (!strcmp(check->policies[i]->policy_id, policy->id))
            return check->policies[i]->version >= policy->published_version;
    return false;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * MS_PER_S + now.tv_nsec / NS_PER_MS;
}

/* A server learns of a published version within a second (policy.proto), and tells by the checks it makes. */
static int await(struct apply *apply, const Forge__V1__Policy *policy)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * NS_PER_MS};
    Forge__V1__CheckPoliciesRequest request = FORGE__V1__CHECK_POLICIES_REQUEST__INIT;
    int64_t end_ms = now_ms() + IN_FORCE_WITHIN_MS;
    int code = make_check(apply, policy, &request);
    while (code == CLI_OK && *request.project_id) {
        ProtobufCMessage *reply;
        code = apply_call(apply, FORGE_METHOD_POLICY_CHECK, &request.base, &reply);
        if (code != CLI_OK || is_in_force((const Forge__V1__CheckPoliciesResponse *)reply, policy))
            return code;
        if (now_ms() >= end_ms)
            return cli_fail(CLI_FAILED, "policy \"%s\": version %" PRId32 " is published, but the server does not use it after %d s",
                            policy->name, policy->published_version, IN_FORCE_WITHIN_MS / MS_PER_S);
        nanosleep(&pause, NULL);
    }
    return code;
}

int apply_await_policies(struct apply *apply)
{
    int code = CLI_OK;
    for (const struct apply_object *object = apply->objects; object && code == CLI_OK; object = object->next) {
        const Forge__V1__Policy *policy = object->kind->style == MANIFEST_POLICY ? found_of(object) : NULL;
        if (policy && policy->published_version > 0 && !policy->disabled)
            code = await(apply, policy);
    }
    return code;
}
