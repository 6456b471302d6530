/* PromptService over TLS: prompts by label, splits by subject, labels as of a time, and the listings of labels and their history. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "forge/split.h"
#include "service_fixture.h"
#include "wire/split.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUBJECTS = 2000, BATCH = 100 };

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static Forge__V1__PromptVersion *version_make(const char *id, const char *content)
{
    Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
    Forge__V1__PromptVersion *version;
    request.prompt_id = TEXT(id);
    request.content = TEXT(content);
    service_ok(forge_prompt_create_version(alpha.admin, NULL, &request, &version, &service_error));
    return version;
}

/* A prompt of alpha with versions 1 to count. */
static void versions_make(const char *project_id, const char *name, int count, char out_id[37])
{
    service_prompt_make(alpha.admin, project_id, name, "text 1 {{name}}", out_id);
    for (int i = 2; i <= count; i++) {
        char content[32];
        snprintf(content, sizeof content, "text %d {{name}}", i);
        forge__v1__prompt_version__free_unpacked(version_make(out_id, content), NULL);
    }
}

/* One version, or two with these weights. */
static void point_at(const char *id, const char *label, int32_t version, int32_t weight, int32_t second, int32_t second_weight)
{
    Forge__V1__LabelTarget targets[2] = {FORGE__V1__LABEL_TARGET__INIT, FORGE__V1__LABEL_TARGET__INIT};
    Forge__V1__LabelTarget *list[] = {&targets[0], &targets[1]};
    Forge__V1__LabelSplit split = FORGE__V1__LABEL_SPLIT__INIT;
    Forge__V1__SetLabelRequest request = FORGE__V1__SET_LABEL_REQUEST__INIT;
    Forge__V1__Label *reply;
    request.prompt_id = TEXT(id);
    request.label = TEXT(label);
    if (second == 0) {
        request.target_case = FORGE__V1__SET_LABEL_REQUEST__TARGET_VERSION;
        request.version = version;
    } else {
        targets[0].version = version;
        targets[0].weight = weight;
        targets[1].version = second;
        targets[1].weight = second_weight;
        split.n_targets = 2;
        split.targets = list;
        request.target_case = FORGE__V1__SET_LABEL_REQUEST__TARGET_SPLIT;
        request.split = &split;
    }
    service_ok(forge_prompt_set_label(alpha.admin, NULL, &request, &reply, &service_error));
    forge__v1__label__free_unpacked(reply, NULL);
}

static void label_delete(const char *id, const char *label)
{
    Forge__V1__DeleteLabelRequest request = FORGE__V1__DELETE_LABEL_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    request.prompt_id = TEXT(id);
    request.label = TEXT(label);
    service_ok(forge_prompt_delete_label(alpha.admin, NULL, &request, &empty, &service_error));
    google__protobuf__empty__free_unpacked(empty, NULL);
}

static Forge__V1__GetPromptRequest by_label(const char *id, const char *label, const char *subject)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    request.id = TEXT(id);
    request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL;
    request.label = TEXT(label);
    request.subject = TEXT(subject);
    return request;
}

static forge_code get(struct forge_channel *channel, Forge__V1__GetPromptRequest request, Forge__V1__Prompt **out)
{
    return forge_prompt_get(channel, NULL, &request, out, &service_error);
}

/* --- GetPrompt, RenderPrompt --- */

static void test_a_label_selects(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__Prompt *prompt;
    versions_make(alpha.project_id, "selected", 3, id);
    point_at(id, "production", 2, 1, 0, 0);
    service_ok(get(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, alpha.project_id), by_label(id, "production", ""), &prompt));
    assert_string_equal(prompt->id, id);
    assert_string_equal(prompt->name, "selected");
    assert_string_equal(prompt->content, "text 2 {{name}}");
    assert_string_equal(prompt->label, "production");
    assert_int_equal(prompt->version, 2);
    assert_int_equal(prompt->current_version, 1);
    assert_int_equal(prompt->latest_version, 3);
    assert_int_equal(prompt->n_label_targets, 1);
    assert_int_equal(prompt->label_targets[0]->version, 2);
    assert_int_equal(prompt->label_targets[0]->weight, 1);
    assert_int_equal(prompt->n_variables, 1);
    forge__v1__prompt__free_unpacked(prompt, NULL);
    Forge__V1__GetPromptRequest request = by_label("", "production", "somebody");
    request.project_id = alpha.project_id;
    request.name = TEXT("selected");
    service_ok(get(alpha.admin, request, &prompt));
    assert_int_equal(prompt->version, 2);
    forge__v1__prompt__free_unpacked(prompt, NULL);
    request = by_label(id, "production", "somebody"); /* a subject is no selector */
    request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_CURRENT;
    service_ok(get(alpha.admin, request, &prompt));
    assert_int_equal(prompt->version, 1);
    assert_string_equal(prompt->label, "");
    assert_int_equal(prompt->n_label_targets, 0);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

static void test_wrong_selections_are_refused(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__Prompt *prompt;
    versions_make(alpha.project_id, "not selected", 1, id);
    point_at(id, "production", 1, 1, 0, 0);
    service_fails(get(alpha.admin, by_label(id, "staging", ""), &prompt), FORGE_NOT_FOUND, "label \"staging\" of this prompt not found");
    service_fails(get(alpha.admin, by_label(nobody_has, "production", ""), &prompt), FORGE_NOT_FOUND,
                  "prompt 01890000-0000-7000-8000-000000000000 not found");
    service_fails(get(beta.admin, by_label(id, "production", ""), &prompt), FORGE_NOT_FOUND, "prompt");
    service_violates(get(alpha.admin, by_label(id, "current", service_repeat("s", 256)), &prompt), "label", "is reserved", "subject",
                     "at most 255 bytes");
    service_violates(get(alpha.admin, by_label(id, "", ""), &prompt), "label", "1 to 64");
    service_ok(get(alpha.admin, by_label(id, "production", service_repeat("s", 255)), &prompt));
    forge__v1__prompt__free_unpacked(prompt, NULL);
    Forge__V1__GetPromptRequest request = by_label("", "production", "");
    request.project_id = alpha.project_id;
    request.name = TEXT("nobody");
    service_fails(get(alpha.admin, request, &prompt), FORGE_NOT_FOUND, "prompt \"nobody\" not found");
    Forge__V1__RenderPromptRequest render = FORGE__V1__RENDER_PROMPT_REQUEST__INIT;
    Forge__V1__RenderPromptResponse *rendered;
    request = by_label(id, "9", service_repeat("s", 256));
    render.prompt = &request;
    service_violates(forge_prompt_render(alpha.admin, NULL, &render, &rendered, &service_error), "prompt.label", "not only digits",
                     "prompt.subject", "at most 255 bytes");
}

static void test_a_label_renders(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__RenderPromptRequest request = FORGE__V1__RENDER_PROMPT_REQUEST__INIT;
    Forge__V1__RenderPromptResponse *rendered;
    Forge__V1__VariableValue value = FORGE__V1__VARIABLE_VALUE__INIT, *values = &value;
    versions_make(alpha.project_id, "rendered", 2, id);
    point_at(id, "beta", 2, 1, 0, 0);
    Forge__V1__GetPromptRequest prompt = by_label(id, "beta", "u");
    value.name = TEXT("name");
    value.value = TEXT("Ada");
    request.prompt = &prompt;
    request.n_variables = 1;
    request.variables = &values;
    service_ok(forge_prompt_render(alpha.admin, NULL, &request, &rendered, &service_error));
    assert_string_equal(rendered->content, "text 2 Ada");
    assert_string_equal(rendered->label, "beta");
    assert_int_equal(rendered->version, 2);
    forge__v1__render_prompt_response__free_unpacked(rendered, NULL);
    point_at(id, "beta", 1, 1, 0, 0);
    service_ok(forge_prompt_render(alpha.admin, NULL, &request, &rendered, &service_error));
    assert_string_equal(rendered->content, "text 1 Ada");
    forge__v1__render_prompt_response__free_unpacked(rendered, NULL);
}

/* --- splits --- */

/* The version for subjects begin to begin + BATCH - 1, as BatchGetPrompts tells them. */
static void batch(const char *id, const char *label, int begin, int32_t out_versions[BATCH])
{
    static Forge__V1__GetPromptRequest requests[BATCH];
    static Forge__V1__GetPromptRequest *list[BATCH];
    static char subjects[BATCH][32];
    Forge__V1__BatchGetPromptsRequest request = FORGE__V1__BATCH_GET_PROMPTS_REQUEST__INIT;
    Forge__V1__BatchGetPromptsResponse *reply;
    for (int i = 0; i < BATCH; i++) {
        snprintf(subjects[i], sizeof subjects[i], "g\xc3\xa4st|%d", begin + i);
        requests[i] = by_label(id, label, subjects[i]);
        list[i] = &requests[i];
    }
    request.n_requests = BATCH;
    request.requests = list;
    service_ok(forge_prompt_batch_get(alpha.admin, NULL, &request, &reply, &service_error));
    assert_int_equal(reply->n_results, BATCH);
    for (int i = 0; i < BATCH; i++) {
        assert_int_equal(reply->results[i]->code, FORGE_OK);
        assert_int_equal(reply->results[i]->prompt->n_label_targets, 2);
        out_versions[i] = reply->results[i]->prompt->version;
    }
    forge__v1__batch_get_prompts_response__free_unpacked(reply, NULL);
}

/* The server chooses what a client would, for every subject and at every call, so its shares are those of wire/split.h. */
static void test_a_split_is_the_same_at_both_ends(void **state)
{
    (void)state;
    char id[37], subject[32];
    const struct forge_split_target targets[] = {{1, 70}, {3, 30}};
    int seen[4] = {0};
    versions_make(alpha.project_id, "split", 3, id);
    point_at(id, "canary", 3, 30, 1, 70);
    for (int begin = 0; begin < SUBJECTS; begin += BATCH) {
        int32_t versions[BATCH], again[BATCH];
        batch(id, "canary", begin, versions);
        if (begin == 0) {
            batch(id, "canary", begin, again);
            assert_memory_equal(again, versions, sizeof again);
        }
        for (int i = 0; i < BATCH; i++) {
            snprintf(subject, sizeof subject, "g\xc3\xa4st|%d", begin + i);
            assert_int_equal(versions[i], forge_split_version(forge_split_number(id, "canary", subject), targets, 2));
            seen[versions[i]]++;
        }
    }
    assert_true(abs(seen[1] - SUBJECTS * 70 / 100) < SUBJECTS * 3 / 100);
    assert_int_equal(seen[1] + seen[3], SUBJECTS);
    Forge__V1__Prompt *prompt; /* no subject is a subject too, and one reply tells the versions of all */
    service_ok(get(alpha.admin, by_label(id, "canary", ""), &prompt));
    assert_int_equal(prompt->version, forge_split_version(forge_split_number(id, "canary", ""), targets, 2));
    assert_int_equal(forge_prompt_version_for(prompt, NULL), prompt->version);
    assert_int_equal(forge_prompt_version_for(prompt, subject), forge_split_version(forge_split_number(id, "canary", subject), targets, 2));
    assert_int_equal(prompt->label_targets[0]->version, 1);
    assert_int_equal(prompt->label_targets[0]->weight, 70);
    assert_int_equal(prompt->label_targets[1]->version, 3);
    assert_int_equal(prompt->label_targets[1]->weight, 30);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

/* --- as_of --- */

static forge_code get_at(const char *id, const char *label, const char *subject, int64_t unix_us, Forge__V1__Prompt **out)
{
    Forge__V1__GetPromptRequest request = by_label(id, label, subject);
    Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    time.seconds = unix_us / 1000000;
    time.nanos = (int32_t)(unix_us % 1000000) * 1000;
    request.as_of = &time;
    return get(alpha.admin, request, out);
}

static void version_at(const char *id, int64_t unix_us, int32_t expected, size_t target_count)
{
    Forge__V1__Prompt *prompt;
    service_ok(get_at(id, "l", "somebody", unix_us, &prompt));
    assert_int_equal(prompt->version, expected);
    assert_string_equal(prompt->label, "l");
    assert_int_equal(prompt->n_label_targets, target_count);
    assert_int_equal(prompt->current_version, 1);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

static void test_a_label_is_told_as_it_was(void **state)
{
    (void)state;
    char id[37];
    int64_t times[5];
    Forge__V1__Prompt *prompt;
    versions_make(alpha.project_id, "as of", 4, id);
    point_at(id, "l", 3, 1, 0, 0);
    point_at(id, "l", 1, 50, 4, 50);
    point_at(id, "l", 2, 1, 0, 0);
    label_delete(id, "l");
    point_at(id, "l", 1, 1, 0, 0);
    for (int i = 0; i < 5; i++) {
        char sql[256];
        snprintf(sql, sizeof sql,
                 "SELECT (extract(epoch FROM moved_at) * 1000000)::bigint FROM label_history WHERE prompt_id = '%s' AND label = 'l'"
                 " ORDER BY moved_at OFFSET %d LIMIT 1",
                 id, i);
        times[i] = strtoll(service_query(sql), NULL, 10);
        assert_true(i == 0 || times[i - 1] < times[i]);
    }
    const struct forge_split_target halves[] = {{1, 50}, {4, 50}};
    int32_t chosen = forge_split_version(forge_split_number(id, "l", "somebody"), halves, 2);
    service_fails(get_at(id, "l", "", times[0] - 1, &prompt), FORGE_NOT_FOUND, "label \"l\" of this prompt did not exist then");
    version_at(id, times[0], 3, 1);
    version_at(id, times[1] - 1, 3, 1);
    version_at(id, times[1], chosen, 2);
    version_at(id, times[2] - 1, chosen, 2);
    version_at(id, times[2], 2, 1);
    version_at(id, times[3] - 1, 2, 1);
    service_fails(get_at(id, "l", "", times[3], &prompt), FORGE_NOT_FOUND, "label \"l\" of this prompt did not exist then");
    version_at(id, times[4], 1, 1);
    service_violates(get_at(id, "l", "", times[4] + INT64_C(3600000000), &prompt), "as_of", "must not be in the future");
}

/* --- versions tell their labels --- */

static void join(size_t count, char **names, char out[256])
{
    size_t length = 0;
    out[0] = '\0';
    for (size_t i = 0; i < count; i++)
        length += (size_t)snprintf(out + length, 256 - length, "%s,", names[i]);
}

static void test_versions_tell_their_labels(void **state)
{
    (void)state;
    char id[37], names[256];
    Forge__V1__GetPromptVersionRequest request = FORGE__V1__GET_PROMPT_VERSION_REQUEST__INIT;
    Forge__V1__ListPromptVersionsRequest list = FORGE__V1__LIST_PROMPT_VERSIONS_REQUEST__INIT;
    Forge__V1__ListPromptVersionsResponse *versions;
    versions_make(alpha.project_id, "labelled versions", 3, id);
    point_at(id, "production", 2, 1, 0, 0);
    point_at(id, "canary", 2, 1, 3, 1);
    Forge__V1__PromptVersion *version = version_make(id, "text 2 {{name}}"); /* exists */
    join(version->n_labels, version->labels, names);
    assert_string_equal(names, "canary,production,");
    forge__v1__prompt_version__free_unpacked(version, NULL);
    request.prompt_id = list.prompt_id = id;
    request.version = 3;
    service_ok(forge_prompt_get_version(alpha.admin, NULL, &request, &version, &service_error));
    join(version->n_labels, version->labels, names);
    assert_string_equal(names, "canary,");
    forge__v1__prompt_version__free_unpacked(version, NULL);
    service_ok(forge_prompt_list_versions(alpha.admin, NULL, &list, &versions, &service_error));
    static const char *const expected[] = {"canary,", "canary,production,", ""};
    assert_int_equal(versions->n_versions, 3);
    for (int i = 0; i < 3; i++) {
        join(versions->versions[i]->n_labels, versions->versions[i]->labels, names);
        assert_string_equal(names, expected[i]);
    }
    forge__v1__list_prompt_versions_response__free_unpacked(versions, NULL);
}

/* --- ListPrompts --- */

/* The names of one page, each with a comma behind it. */
static void list_prompts(const char *project_id, const char *label, const char *tag, const char *prefix, char out[256])
{
    Forge__V1__ListPromptsRequest request = FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
    Forge__V1__ListPromptsResponse *page;
    char *tags = TEXT(tag);
    size_t length = 0;
    request.project_id = TEXT(project_id);
    request.label = TEXT(label);
    request.name_prefix = TEXT(prefix);
    request.n_tags = tag != NULL;
    request.tags = &tags;
    request.page_size = 1;
    out[0] = '\0';
    for (bool more = true; more;) {
        service_ok(forge_prompt_list(alpha.admin, NULL, &request, &page, &service_error));
        for (size_t i = 0; i < page->n_prompts; i++)
            length += (size_t)snprintf(out + length, 256 - length, "%s:%d,", page->prompts[i]->name, (int)page->prompts[i]->version);
        more = page->next_page_token[0] != '\0';
        static char token[2048];
        snprintf(token, sizeof token, "%s", page->next_page_token);
        request.page_token = token;
        forge__v1__list_prompts_response__free_unpacked(page, NULL);
    }
}

static void project_make(const char *name, char out_id[37])
{
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *project;
    request.name = TEXT(name);
    service_ok(forge_project_create(alpha.admin, NULL, &request, &project, &service_error));
    strcpy(out_id, project->id);
    forge__v1__project__free_unpacked(project, NULL);
}

static void test_prompts_are_listed_by_label(void **state)
{
    (void)state;
    char project_id[37], elsewhere[37], ids[5][37], seen[256];
    static const char *const names[] = {"b1", "a2", "a1", "c"};
    Forge__V1__CreateTagRequest tag = FORGE__V1__CREATE_TAG_REQUEST__INIT;
    Forge__V1__TagPromptRequest link = FORGE__V1__TAG_PROMPT_REQUEST__INIT;
    Forge__V1__Tag *made;
    Forge__V1__TagPromptResponse *linked;
    project_make("listed", project_id);
    project_make("elsewhere", elsewhere);
    for (int i = 0; i < 4; i++) {
        versions_make(project_id, names[i], 2, ids[i]);
        if (i < 3)
            point_at(ids[i], "live", 2, 1, 0, 0);
    }
    versions_make(elsewhere, "a3", 1, ids[4]);
    point_at(ids[4], "live", 1, 1, 0, 0);
    point_at(ids[3], "other", 1, 1, 0, 0);
    list_prompts(project_id, "live", NULL, "", seen);
    assert_string_equal(seen, "a1:1,a2:1,b1:1,"); /* each as its current version */
    list_prompts(project_id, "live", NULL, "a", seen);
    assert_string_equal(seen, "a1:1,a2:1,");
    list_prompts(project_id, "nowhere", NULL, "", seen);
    assert_string_equal(seen, "");
    tag.name = link.tag = TEXT("tagged");
    service_ok(forge_prompt_create_tag(alpha.admin, NULL, &tag, &made, &service_error));
    forge__v1__tag__free_unpacked(made, NULL);
    for (int i = 1; i < 4; i += 2) {
        link.prompt_id = ids[i];
        service_ok(forge_prompt_tag(alpha.admin, NULL, &link, &linked, &service_error));
        forge__v1__tag_prompt_response__free_unpacked(linked, NULL);
    }
    list_prompts(project_id, "live", "tagged", "", seen);
    assert_string_equal(seen, "a2:1,");
    list_prompts(project_id, "", "tagged", "", seen);
    assert_string_equal(seen, "a2:1,c:1,");
}

/* --- ListLabels --- */

/* Every page: "<name of the prompt>/<label>," each, and what is protected with "!". Rules of the first page: "<label>[/p],". */
static void list_labels(const char *project_id, const char *prompt_id, const char *label, int32_t page_size, char out[512],
                        char out_rules[256])
{
    Forge__V1__ListLabelsRequest request = FORGE__V1__LIST_LABELS_REQUEST__INIT;
    Forge__V1__ListLabelsResponse *page;
    static char token[2048];
    size_t length = 0, rules = 0;
    request.project_id = TEXT(project_id);
    request.prompt_id = TEXT(prompt_id);
    request.label = TEXT(label);
    request.page_size = page_size;
    out[0] = out_rules[0] = '\0';
    do {
        service_ok(forge_prompt_list_labels(alpha.admin, NULL, &request, &page, &service_error));
        assert_true(page->n_labels <= (size_t)page_size);
        for (size_t i = 0; i < page->n_labels; i++) {
            char sql[128];
            snprintf(sql, sizeof sql, "SELECT name FROM prompts WHERE id = '%s'", page->labels[i]->prompt_id);
            assert_true(page->labels[i]->n_targets > 0);
            length += (size_t)snprintf(out + length, 512 - length, "%s/%s%s,", service_query(sql), page->labels[i]->name,
                                       page->labels[i]->protected_ ? "!" : "");
        }
        assert_true(request.page_token[0] == '\0' || page->n_protections == 0);
        for (size_t i = 0; i < page->n_protections; i++)
            rules += (size_t)snprintf(out_rules + rules, 256 - rules, "%s%s,", page->protections[i]->label,
                                      page->protections[i]->prompt_id[0] != '\0' ? "/p" : "");
        snprintf(token, sizeof token, "%s", page->next_page_token);
        request.page_token = token;
        forge__v1__list_labels_response__free_unpacked(page, NULL);
    } while (token[0] != '\0');
}

static void protect(const char *project_id, const char *prompt_id, const char *label)
{
    Forge__V1__ProtectLabelRequest request = FORGE__V1__PROTECT_LABEL_REQUEST__INIT;
    Forge__V1__LabelProtection *rule;
    request.project_id = TEXT(project_id);
    request.prompt_id = TEXT(prompt_id);
    request.label = TEXT(label);
    request.protected_ = 1;
    service_ok(forge_prompt_protect_label(alpha.admin, NULL, &request, &rule, &service_error));
    forge__v1__label_protection__free_unpacked(rule, NULL);
}

static void test_labels_are_listed(void **state)
{
    (void)state;
    char project_id[37], first[37], second[37], empty[37], seen[512], rules[256];
    project_make("labels", project_id);
    versions_make(project_id, "one", 2, first);
    versions_make(project_id, "two", 1, second);
    versions_make(project_id, "none", 1, empty);
    point_at(first, "production", 2, 1, 0, 0);
    point_at(first, "canary", 1, 1, 2, 3);
    point_at(second, "production", 1, 1, 0, 0);
    point_at(second, "beta", 1, 1, 0, 0);
    protect(project_id, "", "production");
    protect(project_id, first, "canary");
    protect(project_id, second, "production");
    protect(project_id, "", "unused");
    for (int32_t size = 1; size <= 5; size += 2) {
        list_labels(project_id, "", "", size, seen, rules);
        assert_string_equal(seen, "one/canary!,one/production!,two/beta,two/production!,");
        assert_string_equal(rules, "canary/p,production,production/p,unused,");
        list_labels("", first, "", size, seen, rules);
        assert_string_equal(seen, "one/canary!,one/production!,");
        assert_string_equal(rules, "canary/p,production,unused,");
        list_labels(project_id, "", "production", size, seen, rules);
        assert_string_equal(seen, "one/production!,two/production!,");
        assert_string_equal(rules, "production,production/p,");
        list_labels("", second, "production", size, seen, rules);
        assert_string_equal(seen, "two/production!,");
        assert_string_equal(rules, "production/p,");
    }
    list_labels("", empty, "", 1, seen, rules);
    assert_string_equal(seen, "");
    list_labels(project_id, "", "nowhere", 1, seen, rules);
    assert_string_equal(seen, "");
}

static void test_listing_labels_says_what_is_wrong(void **state)
{
    (void)state;
    char id[37], other_project[37];
    Forge__V1__ListLabelsRequest request = FORGE__V1__LIST_LABELS_REQUEST__INIT;
    Forge__V1__ListLabelsResponse *page;
    versions_make(alpha.project_id, "listed wrongly", 1, id);
    project_make("another", other_project);
    service_violates(forge_prompt_list_labels(alpha.admin, NULL, &request, &page, &service_error), "project_id", "either");
    request.project_id = TEXT("x");
    request.label = TEXT("Big");
    request.page_size = -1;
    request.page_token = TEXT("x");
    service_violates(forge_prompt_list_labels(alpha.admin, NULL, &request, &page, &service_error), "page_size", "negative", "page_token",
                     "damaged", "project_id", "must be a UUID", "label", "1 to 64");
    request = (Forge__V1__ListLabelsRequest)FORGE__V1__LIST_LABELS_REQUEST__INIT;
    request.project_id = alpha.project_id;
    service_fails(forge_prompt_list_labels(beta.admin, NULL, &request, &page, &service_error), FORGE_NOT_FOUND, "project");
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, other_project);
    service_fails(forge_prompt_list_labels(bound, NULL, &request, &page, &service_error), FORGE_PERMISSION_DENIED, "another project");
    request.prompt_id = id;
    service_violates(forge_prompt_list_labels(alpha.admin, NULL, &request, &page, &service_error), "project_id", "either");
    request.project_id = TEXT("");
    service_fails(forge_prompt_list_labels(beta.admin, NULL, &request, &page, &service_error), FORGE_NOT_FOUND, "prompt");
    service_fails(forge_prompt_list_labels(bound, NULL, &request, &page, &service_error), FORGE_NOT_FOUND, "prompt");
    request.prompt_id = TEXT(nobody_has);
    service_fails(forge_prompt_list_labels(alpha.admin, NULL, &request, &page, &service_error), FORGE_NOT_FOUND,
                  "prompt 01890000-0000-7000-8000-000000000000 not found");
}

/* --- ListLabelHistory --- */

/* Every page: "<label> <old>><new>," each. */
static void list_history(const char *id, const char *label, int32_t page_size, char out[512])
{
    Forge__V1__ListLabelHistoryRequest request = FORGE__V1__LIST_LABEL_HISTORY_REQUEST__INIT;
    Forge__V1__ListLabelHistoryResponse *page;
    static char token[2048];
    size_t length = 0;
    request.prompt_id = TEXT(id);
    request.label = TEXT(label);
    request.page_size = page_size;
    out[0] = '\0';
    do {
        service_ok(forge_prompt_list_label_history(alpha.admin, NULL, &request, &page, &service_error));
        assert_true(page->n_moves <= (size_t)page_size);
        for (size_t i = 0; i < page->n_moves; i++) {
            const Forge__V1__LabelMove *move = page->moves[i];
            assert_string_equal(move->prompt_id, id);
            assert_int_equal(strlen(move->actor_id), 36);
            assert_non_null(move->move_time);
            length += (size_t)snprintf(out + length, 512 - length, "%s %d>%d,", move->label,
                                       move->n_old_targets > 0 ? (int)move->old_targets[0]->version : 0,
                                       move->n_new_targets > 0 ? (int)move->new_targets[0]->version : 0);
        }
        snprintf(token, sizeof token, "%s", page->next_page_token);
        request.page_token = token;
        forge__v1__list_label_history_response__free_unpacked(page, NULL);
    } while (token[0] != '\0');
}

static void test_history_is_listed(void **state)
{
    (void)state;
    char id[37], seen[512];
    Forge__V1__SetCurrentVersionRequest current = FORGE__V1__SET_CURRENT_VERSION_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    versions_make(alpha.project_id, "history", 3, id);
    point_at(id, "a", 2, 1, 0, 0);
    point_at(id, "b", 3, 1, 0, 0);
    point_at(id, "a", 1, 1, 3, 1);
    current.prompt_id = id;
    current.target_case = FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_VERSION;
    current.version = 3;
    service_ok(forge_prompt_set_current_version(alpha.admin, NULL, &current, &prompt, &service_error));
    forge__v1__prompt__free_unpacked(prompt, NULL);
    label_delete(id, "a");
    for (int32_t size = 1; size <= 7; size += 2) {
        list_history(id, "", size, seen);
        assert_string_equal(seen, "a 1>0,current 1>3,a 2>1,b 0>3,a 0>2,current 0>1,");
        list_history(id, "a", size, seen);
        assert_string_equal(seen, "a 1>0,a 2>1,a 0>2,");
        list_history(id, "current", size, seen);
        assert_string_equal(seen, "current 1>3,current 0>1,");
        list_history(id, "nowhere", size, seen);
        assert_string_equal(seen, "");
    }
    Forge__V1__ListLabelHistoryRequest request = FORGE__V1__LIST_LABEL_HISTORY_REQUEST__INIT;
    Forge__V1__ListLabelHistoryResponse *page;
    request.label = TEXT("9");
    request.page_size = -1;
    request.page_token = TEXT("x");
    service_violates(forge_prompt_list_label_history(alpha.admin, NULL, &request, &page, &service_error), "prompt_id", "is required",
                     "page_size", "negative", "page_token", "damaged", "label", "not only digits");
    request = (Forge__V1__ListLabelHistoryRequest)FORGE__V1__LIST_LABEL_HISTORY_REQUEST__INIT;
    request.prompt_id = id;
    service_fails(forge_prompt_list_label_history(beta.admin, NULL, &request, &page, &service_error), FORGE_NOT_FOUND, "prompt");
    request.prompt_id = TEXT(nobody_has);
    service_fails(forge_prompt_list_label_history(alpha.admin, NULL, &request, &page, &service_error), FORGE_NOT_FOUND, "prompt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_label_selects),
        cmocka_unit_test(test_wrong_selections_are_refused),
        cmocka_unit_test(test_a_label_renders),
        cmocka_unit_test(test_a_split_is_the_same_at_both_ends),
        cmocka_unit_test(test_a_label_is_told_as_it_was),
        cmocka_unit_test(test_versions_tell_their_labels),
        cmocka_unit_test(test_prompts_are_listed_by_label),
        cmocka_unit_test(test_labels_are_listed),
        cmocka_unit_test(test_listing_labels_says_what_is_wrong),
        cmocka_unit_test(test_history_is_listed),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
