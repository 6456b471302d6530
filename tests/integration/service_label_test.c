/* PromptService over TLS: SetLabel, DeleteLabel and ProtectLabel. What labels select and how they are listed: service_label_read_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <google/protobuf/wrappers.pb-c.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WRITERS = 16, ROUNDS = 20, LABELS_MAX = 256, RULES_MAX = 1000, NOT_CHECKED = -1 };

static struct service_tenant alpha, beta;
static struct forge_channel *developer;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    developer = service_user_make(&alpha, "developer@alpha.example", FORGE__V1__ROLE__ROLE_DEVELOPER, NULL);
    return 0;
}

/* A prompt of alpha with versions 1 to count. */
static void versions_make(const char *name, int count, char out_id[37])
{
    service_prompt_make(alpha.admin, alpha.project_id, name, "text 1", out_id);
    for (int i = 2; i <= count; i++) {
        char content[32];
        Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
        Forge__V1__PromptVersion *version;
        snprintf(content, sizeof content, "text %d", i);
        request.prompt_id = out_id;
        request.content = content;
        service_ok(forge_prompt_create_version(alpha.admin, NULL, &request, &version, &service_error));
        assert_int_equal(version->n_labels, 0);
        forge__v1__prompt_version__free_unpacked(version, NULL);
    }
}

/* version 0: where it pointed before. */
static Forge__V1__SetLabelRequest to_version(const char *id, const char *label, int32_t version)
{
    Forge__V1__SetLabelRequest request = FORGE__V1__SET_LABEL_REQUEST__INIT;
    request.prompt_id = TEXT(id);
    request.label = TEXT(label);
    request.target_case = version != 0 ? FORGE__V1__SET_LABEL_REQUEST__TARGET_VERSION : FORGE__V1__SET_LABEL_REQUEST__TARGET_PREVIOUS;
    if (version != 0)
        request.version = version;
    else
        request.previous = 1;
    request.message = TEXT("why");
    return request;
}

static forge_code set(struct forge_channel *channel, Forge__V1__SetLabelRequest request, int32_t expected, Forge__V1__Label **out)
{
    Google__Protobuf__Int32Value value = GOOGLE__PROTOBUF__INT32_VALUE__INIT;
    value.value = expected;
    request.expected_version = expected != NOT_CHECKED ? &value : NULL;
    return forge_prompt_set_label(channel, NULL, &request, out, &service_error);
}

/* Where a label points: "7:90 8:10". */
static const char *targets_text(size_t count, Forge__V1__LabelTarget *const *targets)
{
    static char text[512];
    size_t length = 0;
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%d:%d", i > 0 ? " " : "", (int)targets[i]->version,
                                   (int)targets[i]->weight);
    return text;
}

static void set_to(Forge__V1__SetLabelRequest request, int32_t expected, const char *targets, const char *etag)
{
    Forge__V1__Label *label;
    service_ok(set(developer, request, expected, &label));
    assert_string_equal(label->prompt_id, request.prompt_id);
    assert_string_equal(label->name, request.label);
    assert_string_equal(targets_text(label->n_targets, label->targets), targets);
    assert_string_equal(label->etag, etag);
    assert_int_equal(strlen(label->updater_id), 36);
    assert_non_null(label->create_time);
    assert_true(label->update_time == NULL || strcmp(etag, "1") != 0);
    forge__v1__label__free_unpacked(label, NULL);
}

static forge_code delete (struct forge_channel *channel, const char *id, const char *label, const char *etag)
{
    Forge__V1__DeleteLabelRequest request = FORGE__V1__DELETE_LABEL_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    request.prompt_id = TEXT(id);
    request.label = TEXT(label);
    request.etag = TEXT(etag);
    forge_code rc = forge_prompt_delete_label(channel, NULL, &request, &empty, &service_error);
    if (rc == FORGE_OK)
        google__protobuf__empty__free_unpacked(empty, NULL);
    return rc;
}

/* The moves of a label as "old>new" in the order of their times, versions only. */
static const char *history(const char *id, const char *label)
{
    char sql[1024];
    snprintf(sql, sizeof sql,
             "SELECT string_agg(COALESCE((SELECT string_agg(t ->> 'version', '+') FROM jsonb_array_elements(old_targets) t), '') || '>' ||"
             " COALESCE((SELECT string_agg(t ->> 'version', '+') FROM jsonb_array_elements(new_targets) t), ''), ' '"
             " ORDER BY moved_at, id) FROM label_history WHERE prompt_id = '%s' AND label = '%s'",
             id, label);
    return service_query(sql);
}

static long count_of(const char *table, const char *condition, const char *id)
{
    char sql[1024];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s WHERE %s = '%s'", table, condition, id);
    return strtol(service_query(sql), NULL, 10);
}

/* --- SetLabel --- */

static void test_a_label_is_made_moved_and_rolled_back(void **state)
{
    (void)state;
    char id[37], sql[512];
    versions_make("moved", 3, id);
    long changes = count_of("changes", "object_id", id);
    set_to(to_version(id, "production", 1), 0, "1:1", "1");
    set_to(to_version(id, "production", 3), 1, "3:1", "2");
    set_to(to_version(id, "production", 3), 3, "3:1", "2"); /* it is there already: no move */
    set_to(to_version(id, "production", 2), NOT_CHECKED, "2:1", "3");
    set_to(to_version(id, "production", 0), 2, "3:1", "4");
    set_to(to_version(id, "production", 0), NOT_CHECKED, "2:1", "5");
    set_to(to_version(id, "a.b_c-9", 1), NOT_CHECKED, "1:1", "1");
    assert_string_equal(history(id, "production"), ">1 1>3 3>2 2>3 3>2");
    assert_string_equal(history(id, "current"), ">1");
    assert_int_equal(count_of("changes", "object_id", id) - changes, 6); /* watchers and caches hear of each move */
    assert_int_equal(count_of("audit_log", "action = 'label.set' AND target_kind = 'prompt' AND target_id", id), 6);
    snprintf(sql, sizeof sql,
             "SELECT details ->> 'label' || ' ' || (details -> 'old_targets' -> 0 ->> 'version') || ' ' ||"
             " (details -> 'new_targets' -> 0 ->> 'version') || ' ' || (details ->> 'message') FROM audit_log"
             " WHERE target_id = '%s' ORDER BY sequence OFFSET 1 LIMIT 1",
             id);
    assert_string_equal(service_query(sql), "production 1 3 why");
    /* The label says of its moves what the history does; the prompt's etag and time of change are not the label's. */
    snprintf(sql, sizeof sql,
             "SELECT (SELECT created_at = min(moved_at) AND updated_at = max(moved_at) FROM label_history h WHERE h.prompt_id = l.prompt_id"
             " AND label = name) AND (SELECT row_version = 1 FROM prompts WHERE id = prompt_id) FROM labels l WHERE prompt_id = '%s' AND"
             " name = 'production'",
             id);
    assert_string_equal(service_query(sql), "t");
}

/* The reply to a watch from this token on ("": its listing); the token of the reply replaces it. */
static size_t watch(const char *id, char token[2048])
{
    Forge__V1__WatchPromptsRequest request = FORGE__V1__WATCH_PROMPTS_REQUEST__INIT;
    Forge__V1__WatchPromptsResponse *reply;
    char *ids[] = {TEXT(id)};
    request.project_id = alpha.project_id;
    request.n_prompt_ids = 1;
    request.prompt_ids = ids;
    request.resume_token = token;
    request.wait_ms = 300;
    service_ok(forge_prompt_watch(alpha.admin, NULL, &request, &reply, &service_error));
    size_t count = reply->n_changes;
    for (size_t i = 0; i < count; i++)
        assert_int_equal(reply->changes[i]->kind, FORGE__V1__PROMPT_CHANGE_KIND__PROMPT_CHANGE_KIND_CHANGED);
    snprintf(token, 2048, "%s", reply->resume_token);
    forge__v1__watch_prompts_response__free_unpacked(reply, NULL);
    return count;
}

static void test_a_watch_tells_of_labels(void **state)
{
    (void)state;
    char id[37], token[2048] = "";
    versions_make("watched", 2, id);
    assert_int_equal(watch(id, token), 1);
    while (watch(id, token) > 0) /* what happened before the listing may be told again */
        ;
    set_to(to_version(id, "l", 1), NOT_CHECKED, "1:1", "1");
    assert_int_equal(watch(id, token), 1);
    set_to(to_version(id, "l", 1), NOT_CHECKED, "1:1", "1"); /* no move, no change */
    assert_int_equal(watch(id, token), 0);
    service_ok(delete (developer, id, "l", ""));
    assert_int_equal(watch(id, token), 1);
}

static Forge__V1__SetLabelRequest to_split(const char *id, const char *label, const int32_t *pairs, size_t count)
{
    static Forge__V1__LabelTarget targets[20];
    static Forge__V1__LabelTarget *list[20];
    static Forge__V1__LabelSplit split;
    Forge__V1__SetLabelRequest request = FORGE__V1__SET_LABEL_REQUEST__INIT;
    split = (Forge__V1__LabelSplit)FORGE__V1__LABEL_SPLIT__INIT;
    for (size_t i = 0; i < count; i++) {
        targets[i] = (Forge__V1__LabelTarget)FORGE__V1__LABEL_TARGET__INIT;
        targets[i].version = pairs[2 * i];
        targets[i].weight = pairs[2 * i + 1];
        list[i] = &targets[i];
    }
    split.n_targets = count;
    split.targets = list;
    request.prompt_id = TEXT(id);
    request.label = TEXT(label);
    request.target_case = FORGE__V1__SET_LABEL_REQUEST__TARGET_SPLIT;
    request.split = &split;
    return request;
}

static void test_a_label_splits(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__Label *label;
    versions_make("split", 4, id);
    set_to(to_split(id, "canary", (int32_t[]){3, 10, 1, 90}, 2), 0, "1:90 3:10", "1");
    set_to(to_split(id, "canary", (int32_t[]){1, 50, 3, 50}, 2), NOT_CHECKED, "1:50 3:50", "2");
    set_to(to_split(id, "canary", (int32_t[]){3, 50, 1, 50}, 2), NOT_CHECKED, "1:50 3:50", "2"); /* the same in another order */
    set_to(to_split(id, "canary", (int32_t[]){4, 0, 3, 1000000, 2, 2}, 3), NOT_CHECKED, "2:2 3:1000000 4:1", "3");
    service_fails(set(developer, to_version(id, "canary", 4), 3, &label), FORGE_ABORTED, "label \"canary\" is a split");
    set_to(to_version(id, "canary", 4), NOT_CHECKED, "4:1", "4");
    set_to(to_version(id, "canary", 0), 4, "2:2 3:1000000 4:1", "5"); /* a rollback brings the weights back */
    assert_string_equal(history(id, "canary"), ">1+3 1+3>1+3 1+3>2+3+4 2+3+4>4 4>2+3+4");
    assert_int_equal(count_of("label_targets", "prompt_id", id), 3);
    service_fails(set(developer, to_split(id, "canary", (int32_t[]){1, 1, 5, 1}, 2), NOT_CHECKED, &label), FORGE_NOT_FOUND,
                  "the prompt has no version 5");
    int32_t many[34];
    for (int i = 0; i < 34; i++)
        many[i] = i / 2 + 1;
    service_violates(set(developer, to_split(id, "canary", many, 17), NOT_CHECKED, &label), "split.targets", "must be 2 to 16");
    service_violates(set(developer, to_split(id, "canary", many, 1), NOT_CHECKED, &label), "split.targets", "must be 2 to 16");
    service_violates(set(developer, to_split(id, "canary", (int32_t[]){1, -1, 1, 1000001, 0, 1}, 3), NOT_CHECKED, &label),
                     "split.targets[0].weight", "0 to 1000000", "split.targets[1].version", "given twice", "split.targets[1].weight",
                     "0 to 1000000", "split.targets[2].version", "1 or more");
}

static void test_wrong_moves_are_refused(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__Label *label;
    static const char *const wrong_names[] = {"", "42", "Production", "a|b", "a b", "\xc3\xa9", "current"};
    versions_make("refused", 2, id);
    set_to(to_version(id, "l", 1), NOT_CHECKED, "1:1", "1");
    service_fails(set(developer, to_version(id, "l", 3), NOT_CHECKED, &label), FORGE_NOT_FOUND, "the prompt has no version 3");
    service_fails(set(developer, to_version(id, "l", 2), 2, &label), FORGE_ABORTED, "label \"l\" points at version 1, not 2");
    service_fails(set(developer, to_version(id, "l", 1), 2, &label), FORGE_ABORTED, "label \"l\" points at version 1, not 2");
    service_fails(set(developer, to_version(id, "l", 1), 0, &label), FORGE_ABORTED, "label \"l\" exists already");
    service_fails(set(developer, to_version(id, "new", 1), 1, &label), FORGE_ABORTED, "label \"new\" does not exist");
    service_fails(set(developer, to_version(id, "l", 0), NOT_CHECKED, &label), FORGE_FAILED_PRECONDITION,
                  "has not pointed anywhere before");
    service_fails(set(developer, to_version(id, "new", 0), NOT_CHECKED, &label), FORGE_FAILED_PRECONDITION, "has not pointed anywhere");
    service_fails(set(developer, to_version(nobody_has, "l", 1), NOT_CHECKED, &label), FORGE_NOT_FOUND,
                  "prompt 01890000-0000-7000-8000-000000000000 not found");
    service_fails(set(beta.admin, to_version(id, "l", 2), NOT_CHECKED, &label), FORGE_NOT_FOUND, "not found");
    service_fails(set(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), to_version(id, "l", 2), NOT_CHECKED, &label),
                  FORGE_PERMISSION_DENIED, "developer");
    for (size_t i = 0; i < sizeof wrong_names / sizeof wrong_names[0]; i++)
        service_violates(set(developer, to_version(id, wrong_names[i], 1), NOT_CHECKED, &label), "label",
                         strcmp(wrong_names[i], "current") == 0 ? "is reserved" : "1 to 64 of a-z");
    service_violates(set(developer, to_version(id, service_repeat("x", 65), 1), NOT_CHECKED, &label), "label", "1 to 64");
    set_to(to_version(id, service_repeat("x", 64), 1), NOT_CHECKED, "1:1", "1");
    Forge__V1__SetLabelRequest request = FORGE__V1__SET_LABEL_REQUEST__INIT;
    request.message = service_repeat("x", 1025);
    request.etag = service_repeat("x", 65);
    service_violates(set(developer, request, -2, &label), "prompt_id", "is required", "label", "1 to 64", "version", "exactly one of",
                     "expected_version", "0 or more", "etag", "64", "message", "1024");
    request = to_version(id, "l", 1);
    request.version = 0;
    service_violates(set(developer, request, NOT_CHECKED, &label), "version", "1 or more");
    request = to_version(id, "l", 0);
    request.previous = 0;
    service_violates(set(developer, request, NOT_CHECKED, &label), "previous", "must be true");
    assert_string_equal(history(id, "l"), ">1");
    assert_int_equal(count_of("audit_log", "target_id", id), 2);
}

static void test_the_etag_is_compared(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__Label *label;
    versions_make("etags", 2, id);
    Forge__V1__SetLabelRequest request = to_version(id, "l", 1);
    request.etag = TEXT("1");
    service_fails(set(developer, request, NOT_CHECKED, &label), FORGE_ABORTED, "has changed since this etag was read");
    set_to(to_version(id, "l", 2), NOT_CHECKED, "2:1", "1");
    set_to(request, NOT_CHECKED, "1:1", "2");
    service_fails(set(developer, request, NOT_CHECKED, &label), FORGE_ABORTED, "has changed since this etag was read");
    service_fails(delete (developer, id, "l", "1"), FORGE_ABORTED, "has changed since this etag was read");
    service_ok(delete (developer, id, "l", "2"));
    set_to(to_version(id, "l", 1), 0, "1:1", "4"); /* no etag of a label that was deleted comes again */
}

static void test_a_repeated_move_gets_the_first_reply(void **state)
{
    (void)state;
    char id[37], request_id[37];
    Forge__V1__Label *label;
    Google__Protobuf__Int32Value expected = GOOGLE__PROTOBUF__INT32_VALUE__INIT;
    versions_make("repeated", 2, id);
    strcpy(request_id, service_request_id());
    const struct forge_call_options options = {.request_id = request_id};
    Forge__V1__SetLabelRequest request = to_version(id, "l", 2);
    request.expected_version = &expected; /* only the first attempt finds no label */
    for (int i = 0; i < 3; i++) {
        service_ok(forge_prompt_set_label(developer, &options, &request, &label, &service_error));
        assert_string_equal(targets_text(label->n_targets, label->targets), "2:1");
        forge__v1__label__free_unpacked(label, NULL);
    }
    assert_string_equal(history(id, "l"), ">2");
    assert_int_equal(count_of("audit_log", "target_id", id), 1);
    request.version = 1;
    service_fails(forge_prompt_set_label(developer, &options, &request, &label, &service_error), FORGE_INVALID_ARGUMENT, "request_id");
}

/* The server's clock may stand behind the time of the last move: of another server's clock, or of a request that came later. */
static void test_a_move_is_behind_the_move_before_it(void **state)
{
    (void)state;
    char id[37], sql[512];
    versions_make("late", 3, id);
    set_to(to_version(id, "l", 1), NOT_CHECKED, "1:1", "1");
    snprintf(sql, sizeof sql, "UPDATE label_history SET moved_at = now() + interval '1 hour' WHERE prompt_id = '%s' AND label = 'l'", id);
    service_execute(sql);
    set_to(to_version(id, "l", 3), NOT_CHECKED, "3:1", "2");
    service_ok(delete (developer, id, "l", ""));
    set_to(to_version(id, "l", 0), NOT_CHECKED, "3:1", "4"); /* takes the deletion back */
    assert_string_equal(history(id, "l"), ">1 1>3 3> >3");
}

static void test_a_prompt_has_so_many_labels(void **state)
{
    (void)state;
    char id[37], sql[512];
    Forge__V1__Label *label;
    versions_make("full", 1, id);
    snprintf(sql, sizeof sql,
             "INSERT INTO labels (organization_id, project_id, prompt_id, name, updated_by) SELECT '%s', '%s', '%s', 'l' || i, '%s' FROM"
             " generate_series(1, %d) i",
             alpha.organization_id, alpha.project_id, id, nobody_has, LABELS_MAX - 1);
    service_execute(sql);
    set_to(to_version(id, "last", 1), NOT_CHECKED, "1:1", "1");
    service_fails(set(developer, to_version(id, "too.many", 1), NOT_CHECKED, &label), FORGE_RESOURCE_EXHAUSTED, "at most 256 labels");
    set_to(to_version(id, "last", 1), NOT_CHECKED, "1:1", "1");
}

/* --- DeleteLabel --- */

static void test_a_label_is_deleted(void **state)
{
    (void)state;
    char id[37], other[37], sql[512];
    versions_make("deleted", 2, id);
    versions_make("refers", 1, other);
    set_to(to_version(id, "l", 2), NOT_CHECKED, "2:1", "1");
    long changes = count_of("changes", "object_id", id);
    snprintf(sql, sizeof sql,
             "INSERT INTO prompt_references (organization_id, prompt_id, version, position, referenced_prompt_id, referenced_label) VALUES"
             " ('%s', '%s', 1, 1, '%s', 'l')",
             alpha.organization_id, other, id);
    service_execute(sql);
    service_fails(delete (developer, id, "l", ""), FORGE_FAILED_PRECONDITION, "a prompt refers to label \"l\"");
    service_execute("DELETE FROM prompt_references");
    service_fails(delete (beta.admin, id, "l", ""), FORGE_NOT_FOUND, "not found");
    service_fails(delete (service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), id, "l", ""), FORGE_PERMISSION_DENIED,
                  "developer");
    service_ok(delete (developer, id, "l", ""));
    assert_int_equal(count_of("labels", "prompt_id", id) + count_of("label_targets", "prompt_id", id), 0);
    assert_string_equal(history(id, "l"), ">2 2>");
    assert_int_equal(count_of("changes", "object_id", id) - changes, 1);
    assert_int_equal(count_of("audit_log", "action = 'label.delete' AND target_id", id), 1);
    service_fails(delete (developer, id, "l", ""), FORGE_NOT_FOUND, "label \"l\" of this prompt not found");
    service_fails(delete (developer, nobody_has, "l", ""), FORGE_NOT_FOUND, "prompt 01890000-0000-7000-8000-000000000000 not found");
    service_violates(delete (developer, "", "current", service_repeat("x", 65)), "prompt_id", "is required", "label", "is reserved", "etag",
                     "64");
}

/* --- ProtectLabel --- */

/* prompt_id "": all prompts of the project. *out_etag: of the rule; may be NULL. */
static forge_code protect(struct forge_channel *channel, const char *prompt_id, const char *label, bool on, const char *etag,
                          char out_etag[65])
{
    Forge__V1__ProtectLabelRequest request = FORGE__V1__PROTECT_LABEL_REQUEST__INIT;
    Forge__V1__LabelProtection *rule;
    request.project_id = alpha.project_id;
    request.prompt_id = TEXT(prompt_id);
    request.label = TEXT(label);
    request.protected_ = on;
    request.etag = TEXT(etag);
    forge_code rc = forge_prompt_protect_label(channel, NULL, &request, &rule, &service_error);
    if (rc != FORGE_OK)
        return rc;
    assert_string_equal(rule->project_id, alpha.project_id);
    assert_string_equal(rule->prompt_id, prompt_id);
    assert_string_equal(rule->label, label);
    assert_int_equal(rule->protected_, on);
    assert_int_equal(rule->updater_id[0] != '\0' && rule->update_time != NULL && rule->etag[0] != '\0', on);
    if (out_etag != NULL)
        strcpy(out_etag, rule->etag);
    forge__v1__label_protection__free_unpacked(rule, NULL);
    return FORGE_OK;
}

static void test_a_protected_label_is_an_admins(void **state)
{
    (void)state;
    char id[37], other[37];
    Forge__V1__Label *label;
    Forge__V1__DeletePromptRequest deletion = FORGE__V1__DELETE_PROMPT_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    versions_make("protected", 2, id);
    versions_make("protected too", 2, other);
    set_to(to_version(id, "live", 1), NOT_CHECKED, "1:1", "1");
    service_ok(protect(alpha.admin, "", "live", true, "", NULL));
    service_fails(set(developer, to_version(id, "live", 2), NOT_CHECKED, &label), FORGE_PERMISSION_DENIED,
                  "label \"live\" is protected: role admin is required");
    service_fails(set(developer, to_version(other, "live", 9), 7, &label), FORGE_PERMISSION_DENIED, "role admin"); /* before all else */
    service_fails(set(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, NULL), to_version(id, "live", 2), NOT_CHECKED, &label),
                  FORGE_PERMISSION_DENIED, "role admin");
    service_fails(delete (developer, id, "live", ""), FORGE_PERMISSION_DENIED, "role admin");
    service_fails(delete (developer, other, "live", ""), FORGE_PERMISSION_DENIED, "role admin");
    deletion.id = id;
    service_fails(forge_prompt_delete(developer, NULL, &deletion, &empty, &service_error), FORGE_PERMISSION_DENIED, "protected label");
    service_ok(set(alpha.admin, to_version(id, "live", 2), NOT_CHECKED, &label));
    assert_true(label->protected_);
    forge__v1__label__free_unpacked(label, NULL);
    set_to(to_version(id, "free", 1), NOT_CHECKED, "1:1", "1");
    /* For one prompt only. */
    service_ok(protect(alpha.admin, "", "live", false, "", NULL));
    service_ok(protect(alpha.admin, other, "live", true, "", NULL));
    set_to(to_version(id, "live", 1), NOT_CHECKED, "1:1", "3");
    service_fails(set(developer, to_version(other, "live", 1), NOT_CHECKED, &label), FORGE_PERMISSION_DENIED, "role admin");
    service_ok(protect(alpha.admin, other, "live", false, "", NULL));
    set_to(to_version(other, "live", 1), NOT_CHECKED, "1:1", "1");
    assert_int_equal(count_of("label_gates", "project_id", alpha.project_id), 0);
    assert_int_equal(count_of("audit_log", "action IN ('label.protect', 'label.unprotect') AND target_id", alpha.project_id), 2);
    assert_int_equal(count_of("audit_log", "action IN ('label.protect', 'label.unprotect') AND target_id", other), 2);
}

static void test_protection_says_what_is_wrong(void **state)
{
    (void)state;
    char id[37], etag[65], again[65], sql[512];
    Forge__V1__ProtectLabelRequest request = FORGE__V1__PROTECT_LABEL_REQUEST__INIT;
    Forge__V1__LabelProtection *rule;
    versions_make("rules", 1, id);
    service_fails(protect(developer, "", "l", true, "", NULL), FORGE_PERMISSION_DENIED, "admin");
    service_fails(protect(beta.admin, "", "l", true, "", NULL), FORGE_NOT_FOUND, "project");
    service_fails(protect(alpha.admin, nobody_has, "l", true, "", NULL), FORGE_NOT_FOUND, "not found in this project");
    service_fails(protect(alpha.admin, "", "l", true, "1", NULL), FORGE_ABORTED, "has changed since this etag was read");
    service_ok(protect(alpha.admin, "", "l", true, "", etag));
    service_ok(protect(alpha.admin, "", "l", true, etag, again)); /* as it is: no change */
    assert_string_equal(again, etag);
    service_ok(protect(alpha.admin, "", "l", false, etag, NULL));
    service_ok(protect(alpha.admin, "", "l", false, "", NULL)); /* there is none: no change */
    service_ok(protect(alpha.admin, "", "l", true, "", again));
    assert_string_not_equal(again, etag);
    service_fails(protect(alpha.admin, "", "l", false, etag, NULL), FORGE_ABORTED, "has changed");
    assert_int_equal(count_of("audit_log", "action IN ('label.protect', 'label.unprotect') AND details ->> 'label' = 'l' AND target_id",
                              alpha.project_id),
                     3);
    request.prompt_id = TEXT("x");
    request.label = TEXT("current");
    request.etag = service_repeat("x", 65);
    service_violates(forge_prompt_protect_label(alpha.admin, NULL, &request, &rule, &service_error), "project_id", "is required",
                     "prompt_id", "must be a UUID", "label", "is reserved", "etag", "64");
    snprintf(sql, sizeof sql,
             "INSERT INTO label_gates (organization_id, id, project_id, label, protected, updated_by) SELECT '%s', gen_random_uuid(), '%s',"
             " 'x' || i, true, '%s' FROM generate_series(2, %d) i",
             alpha.organization_id, alpha.project_id, nobody_has, RULES_MAX);
    service_execute(sql);
    service_fails(protect(alpha.admin, "", "too.many", true, "", NULL), FORGE_RESOURCE_EXHAUSTED, "at most 1000 rules");
    service_ok(protect(alpha.admin, "", "l", false, "", NULL));
    service_execute("DELETE FROM label_gates");
}

/* --- under concurrent writers --- */

struct writer {
    pthread_t thread;
    pthread_barrier_t *barrier;
    const char *prompt_id;
    unsigned won, refused, failed;
};

/* In each round every writer expects the version of the round and moves the label to the next one. */
static void *writer_main(void *argument)
{
    struct writer *writer = argument;
    for (int32_t version = 0; version < ROUNDS; version++) {
        Google__Protobuf__Int32Value expected = GOOGLE__PROTOBUF__INT32_VALUE__INIT;
        Forge__V1__SetLabelRequest request = to_version(writer->prompt_id, "contended", version + 1);
        Forge__V1__Label *label;
        struct forge_error error = {0};
        expected.value = version;
        request.expected_version = &expected;
        pthread_barrier_wait(writer->barrier);
        forge_code rc = forge_prompt_set_label(alpha.admin, NULL, &request, &label, &error);
        writer->won += rc == FORGE_OK;
        writer->refused += rc == FORGE_ABORTED;
        writer->failed += rc != FORGE_OK && rc != FORGE_ABORTED;
        if (rc == FORGE_OK)
            forge__v1__label__free_unpacked(label, NULL);
        else
            forge_error_free(&error);
    }
    return NULL;
}

static void test_one_of_sixteen_writers_wins_each_round(void **state)
{
    (void)state;
    static struct writer writers[WRITERS];
    pthread_barrier_t barrier;
    char id[37], sql[512];
    unsigned won = 0, refused = 0;
    versions_make("contended", ROUNDS, id);
    assert_int_equal(pthread_barrier_init(&barrier, NULL, WRITERS), 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.barrier = &barrier, .prompt_id = id};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
        assert_int_equal(writers[i].failed, 0);
        won += writers[i].won;
        refused += writers[i].refused;
    }
    pthread_barrier_destroy(&barrier);
    assert_int_equal(won, ROUNDS);
    assert_int_equal(refused, (WRITERS - 1) * ROUNDS);
    snprintf(sql, sizeof sql,
             "SELECT bool_and(old_targets IS NOT DISTINCT FROM before) AND count(*) = %d FROM (SELECT old_targets,"
             " lag(new_targets) OVER (ORDER BY moved_at, id) AS before FROM label_history WHERE prompt_id = '%s' AND label = 'contended')"
             " AS moves",
             ROUNDS, id);
    assert_string_equal(service_query(sql), "t");
}

struct late_move {
    const char *prompt_id;
    forge_code rc;
};

static void *late_move_main(void *argument)
{
    struct late_move *move = argument;
    const Forge__V1__SetLabelRequest request = to_version(move->prompt_id, "guarded", 1);
    Forge__V1__Label *label;
    struct forge_error error = {0};
    move->rc = forge_prompt_set_label(developer, NULL, &request, &label, &error);
    if (move->rc == FORGE_OK)
        forge__v1__label__free_unpacked(label, NULL);
    forge_error_free(&error);
    return NULL;
}

/* A rule that is being set when a move comes decides about that move. */
static void test_a_move_waits_for_a_rule(void **state)
{
    (void)state;
    char id[37], sql[1024];
    pthread_t thread;
    struct late_move move = {.prompt_id = id};
    versions_make("guarded", 1, id);
    snprintf(sql, sizeof sql,
             "SELECT id FROM projects WHERE id = '%s' FOR NO KEY UPDATE; INSERT INTO label_gates (organization_id, id, project_id, label,"
             " protected, updated_by) VALUES ('%s', gen_random_uuid(), '%s', 'guarded', true, '%s')",
             alpha.project_id, alpha.organization_id, alpha.project_id, nobody_has);
    struct service_lock *lock = service_lock_take(sql);
    assert_int_equal(pthread_create(&thread, NULL, late_move_main, &move), 0);
    service_lock_wait(lock, 1);
    service_lock_release(lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(move.rc, FORGE_PERMISSION_DENIED);
    service_execute("DELETE FROM label_gates");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_label_is_made_moved_and_rolled_back),
        cmocka_unit_test(test_a_watch_tells_of_labels),
        cmocka_unit_test(test_a_label_splits),
        cmocka_unit_test(test_wrong_moves_are_refused),
        cmocka_unit_test(test_the_etag_is_compared),
        cmocka_unit_test(test_a_repeated_move_gets_the_first_reply),
        cmocka_unit_test(test_a_move_is_behind_the_move_before_it),
        cmocka_unit_test(test_a_prompt_has_so_many_labels),
        cmocka_unit_test(test_a_label_is_deleted),
        cmocka_unit_test(test_a_protected_label_is_an_admins),
        cmocka_unit_test(test_protection_says_what_is_wrong),
        cmocka_unit_test(test_one_of_sixteen_writers_wins_each_round),
        cmocka_unit_test(test_a_move_waits_for_a_rule),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
