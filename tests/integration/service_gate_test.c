/* PromptService over TLS: promotion gates, set by ProtectLabel, told by ListLabels and asked by SetLabel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "evaluation_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* A prompt with versions 1 to 3 and a dataset of two items. */
static void ground_make(const char *name, struct evaluation_ground *ground)
{
    evaluation_ground_make(&alpha, name, 2, ground);
    for (int i = 2; i <= 3; i++)
        service_ok(service_call(alpha.admin, "PromptService/CreatePromptVersion", NULL, "{'prompt_id': '%s', 'content': 'text %d'}",
                                ground->prompt_id, i));
}

/* The rule of label "live" for one prompt: a gate, its members in JSON. */
static void gate_set(const struct evaluation_ground *ground, const char *gate)
{
    service_ok(service_call(alpha.admin, "PromptService/ProtectLabel", NULL,
                            "{'project_id': '%s', 'prompt_id': '%s', 'label': 'live', 'gate': {%s}}", alpha.project_id, ground->prompt_id,
                            gate));
}

/* SetLabel of "live": to a version, or more members of the request. */
static forge_code move(const struct evaluation_ground *ground, const char *target)
{
    return service_call(developer, "PromptService/SetLabel", NULL, "{'prompt_id': '%s', 'label': 'live', %s}", ground->prompt_id, target);
}

/* A completed run over a version, of which each of the two items has passed or not. */
static void evaluated(const struct evaluation_ground *ground, int version, bool first_passes, bool second_passes, char out_id[37])
{
    char more[64];
    snprintf(more, sizeof more, ", 'prompt_version': %d", version);
    evaluation_make(ground, more, out_id);
    service_ok(evaluation_add(ground, out_id, first_passes ? "'item_key': 'k0001', 'output': '1'" : "'item_key': 'k0001', 'output': 'x'"));
    service_ok(evaluation_add(ground, out_id, second_passes ? "'item_key': 'k0002', 'output': '2'" : "'item_key': 'k0002', 'output': 'x'"));
    evaluation_complete(ground, out_id);
}

/* Makes a violation of this version. */
static const char *violation_sql(const struct evaluation_ground *ground, int version, const char *action, const char *mode,
                                 const char *state)
{
    static char sql[1024];
    snprintf(
        sql, sizeof sql,
        "INSERT INTO policy_violations (organization_id, id, project_id, policy_id, policy_version, policy_name, rule, action, severity,"
        " mode, stage, state, message, prompt_id, prompt_version, actor_id, finding_hash) VALUES ('%s', gen_random_uuid(), '%s', '%s', 1,"
        " 'p', 'r', '%s', 2, '%s', 'input', '%s', 'm', '%s', %d, '%s', uuid_send(gen_random_uuid()))",
        alpha.organization_id, alpha.project_id, nobody_has, action, mode, state, ground->prompt_id, version, nobody_has);
    return sql;
}

static const char *violation_of(const struct evaluation_ground *ground, int version)
{
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT id FROM policy_violations WHERE prompt_id = '%s' AND prompt_version = %d", ground->prompt_id,
             version);
    return service_query(sql);
}

/* The facts of the last error as "key=value ...", in their order. */
static const char *facts(void)
{
    static char text[512];
    size_t length = 0;
    text[0] = '\0';
    for (const struct forge_fact *fact = service_error.facts; fact != NULL; fact = fact->next)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%s=%s", length > 0 ? " " : "", fact->key, fact->value);
    return text;
}

/* The gate refuses with these facts; nothing has moved. */
static void refused_for(forge_code rc, const char *expected, const char *part)
{
    assert_int_equal(rc, FORGE_FAILED_PRECONDITION);
    assert_string_equal(service_error.reason, "PROMOTION_GATE");
    assert_string_equal(facts(), expected);
    service_fails(rc, FORGE_FAILED_PRECONDITION, part);
}

/* Where the label points: versions, "" for nowhere. */
static const char *points_at(const struct evaluation_ground *ground)
{
    char sql[256];
    snprintf(
        sql, sizeof sql,
        "SELECT COALESCE(string_agg(version::text, '+' ORDER BY version), '') FROM label_targets WHERE prompt_id = '%s' AND label = 'live'",
        ground->prompt_id);
    return service_query(sql);
}

/* --- ProtectLabel and ListLabels --- */

static long rules_of(const char *label)
{
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM label_gates WHERE label = '%s'", label);
    return strtol(service_query(sql), NULL, 10);
}

static forge_code protect(struct forge_channel *channel, const char *more)
{
    return service_call(channel, "PromptService/ProtectLabel", NULL, "{'project_id': '%s', 'label': 'stable'%s}", alpha.project_id, more);
}

static void test_a_gate_is_set_told_changed_and_cleared(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char etag[65], other[65], audit[256], more[512];
    ground_make("set", &ground);
    snprintf(more, sizeof more,
             ", 'gate': {'require_evaluation': true, 'min_score': 0.75, 'dataset_id': '%s', 'min_result_count': 2,"
             " 'require_no_open_blocking_violations': true}",
             ground.dataset_id);
    service_ok(protect(alpha.admin, more));
    service_shows("'require_evaluation':true", "'min_score':0.75", "'dataset_id'", "'min_result_count':2",
                  "'require_no_open_blocking_violations':true");
    service_reply_text("etag", etag, sizeof etag);
    service_ok(protect(alpha.admin, more)); /* as it is: no change */
    service_reply_text("etag", other, sizeof other);
    assert_string_equal(etag, other);
    service_ok(service_call(alpha.admin, "PromptService/ListLabels", NULL, "{'project_id': '%s'}", alpha.project_id));
    service_shows("'protections'", "'label':'stable'", "'gate'", "'min_score':0.75");
    service_ok(service_call(alpha.admin, "PromptService/ListLabels", NULL, "{'prompt_id': '%s', 'label': 'stable'}", ground.prompt_id));
    service_shows("'protections'", "'gate'", "'require_no_open_blocking_violations':true");
    /* The rule is set as a whole: protection without a gate takes the gate away, and the other way round. */
    service_ok(protect(alpha.admin, ", 'protected': true"));
    service_reply_text("etag", other, sizeof other);
    assert_string_not_equal(etag, other);
    assert_null(strstr(service_reply(), "gate"));
    snprintf(more, sizeof more, ", 'gate': {'require_evaluation': true}, 'etag': '%s'", etag);
    service_fails(protect(alpha.admin, more), FORGE_ABORTED, "has changed since this etag was read");
    service_ok(protect(alpha.admin, ", 'gate': {'require_evaluation': true}"));
    assert_null(strstr(service_reply(), "protected"));
    assert_int_equal(rules_of("stable"), 1);
    service_ok(protect(alpha.admin, ", 'gate': {}")); /* asks for nothing: no rule */
    service_reply_text("etag", other, sizeof other);
    assert_string_equal(other, "");
    assert_int_equal(rules_of("stable"), 0);
    service_ok(protect(alpha.admin, ", 'gate': {}"));
    snprintf(
        audit, sizeof audit,
        "SELECT string_agg(action || ' ' || COALESCE(details -> 'gate' ->> 'min_score', '-'), ', ' ORDER BY sequence) FROM audit_log WHERE"
        " details ->> 'label' = 'stable' AND organization_id = '%s'",
        alpha.organization_id);
    assert_string_equal(service_query(audit), "label.protect 0.75, label.protect -, label.protect -, label.unprotect -");
}

static void test_a_gate_that_cannot_be_is_refused(void **state)
{
    (void)state;
    struct evaluation_ground ground, foreign;
    char more[256];
    ground_make("wrong", &ground);
    evaluation_ground_make(&beta, "wrong", 1, &foreign);
    service_violates(protect(alpha.admin, ", 'gate': {'min_score': 1.5, 'dataset_id': 'x', 'min_result_count': -1}"), "gate.min_score",
                     "0 to 1", "gate.dataset_id", "must be a UUID", "gate.min_result_count", "0 or more");
    service_violates(protect(alpha.admin, ", 'gate': {'require_evaluation': true, 'min_score': 'NaN'}"), "gate.min_score", "0 to 1");
    snprintf(more, sizeof more, ", 'gate': {'min_score': 0.5, 'dataset_id': '%s', 'min_result_count': 1}", ground.dataset_id);
    service_violates(protect(alpha.admin, more), "gate.min_score", "needs require_evaluation", "gate.dataset_id",
                     "needs require_evaluation", "gate.min_result_count", "needs require_evaluation");
    snprintf(more, sizeof more, ", 'gate': {'require_evaluation': true, 'dataset_id': '%s'}", nobody_has);
    service_fails(protect(alpha.admin, more), FORGE_NOT_FOUND, "dataset 01890000-0000-7000-8000-000000000000 not found in this project");
    snprintf(more, sizeof more, ", 'gate': {'require_evaluation': true, 'dataset_id': '%s'}", foreign.dataset_id);
    service_fails(protect(alpha.admin, more), FORGE_NOT_FOUND, "not found in this project");
    service_fails(protect(developer, ", 'gate': {'require_evaluation': true}"), FORGE_PERMISSION_DENIED, "admin");
    service_fails(protect(beta.admin, ", 'gate': {'require_evaluation': true}"), FORGE_NOT_FOUND, "project");
    assert_int_equal(rules_of("stable"), 0);
    /* A dataset that a gate names stays; one that asks for nothing names none. */
    snprintf(more, sizeof more, "'require_evaluation': true, 'dataset_id': '%s'", ground.dataset_id);
    gate_set(&ground, more);
    service_fails(service_call(alpha.admin, "EvaluationService/DeleteDataset", NULL, "{'id': '%s'}", ground.dataset_id),
                  FORGE_FAILED_PRECONDITION, "a promotion gate names this dataset");
}

/* --- SetLabel --- */

static void test_the_evaluation_must_be_completed_and_of_this_version(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char running[37], done[37];
    ground_make("evaluation", &ground);
    gate_set(&ground, "'require_evaluation': true");
    refused_for(move(&ground, "'version': 2"), "evaluation=any version=2",
                "the gate of label \"live\" refuses version 2: it has no completed evaluation");
    evaluated(&ground, 1, true, true, done); /* another version's */
    refused_for(move(&ground, "'version': 2"), "evaluation=any version=2", "no completed evaluation");
    evaluation_make(&ground, ", 'prompt_version': 2", running);
    refused_for(move(&ground, "'version': 2"), "evaluation=any version=2", "no completed evaluation");
    service_ok(service_call(alpha.admin, "EvaluationService/CancelEvaluation", NULL, "{'id': '%s'}", running));
    refused_for(move(&ground, "'version': 2"), "evaluation=any version=2", "no completed evaluation");
    assert_string_equal(points_at(&ground), "");
    evaluated(&ground, 2, false, false, done); /* no score is asked for */
    service_ok(move(&ground, "'version': 2"));
    assert_string_equal(points_at(&ground), "2");
    /* What is there already stays, whatever becomes of its evaluation; a way back is a move like any other. */
    service_ok(service_call(alpha.admin, "EvaluationService/DeleteEvaluation", NULL, "{'id': '%s'}", done));
    service_ok(move(&ground, "'version': 2"));
    service_ok(move(&ground, "'version': 1"));
    refused_for(move(&ground, "'previous': true"), "evaluation=any version=2", "refuses version 2");
    service_ok(service_call(alpha.admin, "PromptService/DeleteLabel", NULL, "{'prompt_id': '%s', 'label': 'live'}", ground.prompt_id));
    refused_for(move(&ground, "'version': 3"), "evaluation=any version=3", "refuses version 3");
    service_ok(move(&ground, "'previous': true"));
    assert_string_equal(points_at(&ground), "1");
}

static void test_score_and_count_are_those_of_the_newest(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37];
    ground_make("score", &ground);
    gate_set(&ground, "'require_evaluation': true, 'min_score': 0.5, 'min_result_count': 2");
    evaluated(&ground, 2, false, false, id);
    refused_for(move(&ground, "'version': 2"), "score=0 version=2", "it has a score of 0, not 0.5");
    evaluated(&ground, 2, true, false, id);
    service_ok(move(&ground, "'version': 2")); /* exactly the least */
    evaluated(&ground, 3, true, true, id);
    evaluated(&ground, 3, false, false, id); /* a newer, worse one */
    refused_for(move(&ground, "'version': 3"), "score=0 version=3", "a score of 0, not 0.5");
    evaluation_make(&ground, ", 'prompt_version': 3", id);
    service_ok(evaluation_add(&ground, id, "'item_key': 'k0001', 'output': '1'"));
    evaluation_complete(&ground, id);
    refused_for(move(&ground, "'version': 3"), "item_count=1 version=3", "1 results, not 2");
    evaluation_make(&ground, ", 'prompt_version': 3", id);
    evaluation_complete(&ground, id); /* nothing of it is known */
    refused_for(move(&ground, "'version': 3"), "score=0 item_count=0 version=3", "a score of 0, not 0.5, 0 results, not 2");
    assert_string_equal(points_at(&ground), "2");
}

static void test_only_the_dataset_that_is_asked_for_counts(void **state)
{
    (void)state;
    struct evaluation_ground ground, other;
    char id[37], gate[256], expected[128];
    ground_make("dataset", &ground);
    evaluation_ground_make(&alpha, "other dataset", 2, &other);
    snprintf(gate, sizeof gate, "'require_evaluation': true, 'min_score': 1, 'dataset_id': '%s'", other.dataset_id);
    gate_set(&ground, gate);
    evaluated(&ground, 2, true, true, id);
    snprintf(expected, sizeof expected, "evaluation=%s version=2", other.dataset_id);
    refused_for(move(&ground, "'version': 2"), expected, "no completed evaluation on the gate's dataset");
    struct evaluation_ground on_other = ground;
    memcpy(on_other.dataset_id, other.dataset_id, sizeof on_other.dataset_id);
    evaluated(&on_other, 2, true, true, id);
    evaluated(&ground, 2, false, false, id); /* newer and worse, but on another dataset */
    service_ok(move(&ground, "'version': 2"));
}

static void test_an_open_blocking_violation_stands_in_the_way(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37], expected[128], sql[256];
    ground_make("violation", &ground);
    gate_set(&ground, "'require_no_open_blocking_violations': true");
    service_execute(violation_sql(&ground, 2, "flag", "enforce", "open"));
    service_execute(violation_sql(&ground, 2, "mask", "enforce", "open"));
    service_execute(violation_sql(&ground, 2, "block", "dry_run", "open"));
    service_execute(violation_sql(&ground, 2, "block", "enforce", "resolved"));
    service_execute(violation_sql(&ground, 1, "block", "enforce", "open"));
    service_ok(move(&ground, "'version': 2"));
    service_execute(violation_sql(&ground, 3, "block", "enforce", "open"));
    snprintf(id, sizeof id, "%s", violation_of(&ground, 3));
    snprintf(expected, sizeof expected, "violation=%s version=3", id);
    refused_for(move(&ground, "'version': 3"), expected, "version 3: it has an open blocking violation");
    snprintf(sql, sizeof sql, "UPDATE policy_violations SET state = 'acknowledged' WHERE id = '%s'", id);
    service_execute(sql);
    refused_for(move(&ground, "'version': 3"), expected, "an open blocking violation");
    snprintf(sql, sizeof sql, "UPDATE policy_violations SET state = 'resolved' WHERE id = '%s'", id);
    service_execute(sql);
    service_ok(move(&ground, "'version': 3"));
}

static void test_each_version_of_a_split_is_asked(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37], expected[128];
    ground_make("split", &ground);
    gate_set(&ground, "'require_evaluation': true, 'min_score': 1, 'require_no_open_blocking_violations': true");
    evaluated(&ground, 1, true, true, id);
    evaluated(&ground, 3, true, false, id);
    refused_for(move(&ground, "'split': {'targets': [{'version': 1, 'weight': 99}, {'version': 3, 'weight': 1}]}"), "score=0.5 version=3",
                "refuses version 3: it has a score of 0.5, not 1");
    evaluated(&ground, 3, true, true, id);
    service_ok(move(&ground, "'split': {'targets': [{'version': 1, 'weight': 99}, {'version': 3, 'weight': 1}]}"));
    assert_string_equal(points_at(&ground), "1+3");
    service_execute(violation_sql(&ground, 1, "block", "enforce", "open"));
    service_ok(move(&ground, "'version': 3"));
    snprintf(expected, sizeof expected, "violation=%s version=1", violation_of(&ground, 1));
    refused_for(move(&ground, "'previous': true"), expected, "refuses version 1");
}

static void test_whose_rule_holds(void **state)
{
    (void)state;
    struct evaluation_ground ground, other;
    ground_make("own rule", &ground);
    ground_make("project rule", &other);
    service_ok(service_call(alpha.admin, "PromptService/ProtectLabel", NULL,
                            "{'project_id': '%s', 'label': 'live', 'gate': {'require_evaluation': true}}", alpha.project_id));
    gate_set(&ground, "'require_no_open_blocking_violations': true"); /* in place of the project's */
    service_ok(move(&ground, "'version': 2"));
    refused_for(move(&other, "'version': 2"), "evaluation=any version=2", "no completed evaluation");
    /* It binds an admin as well; who may not move the label at all is told that first. */
    assert_int_equal(
        service_call(alpha.admin, "PromptService/SetLabel", NULL, "{'prompt_id': '%s', 'label': 'live', 'version': 2}", other.prompt_id),
        FORGE_FAILED_PRECONDITION);
    forge_error_free(&service_error);
    service_ok(service_call(alpha.admin, "PromptService/ProtectLabel", NULL,
                            "{'project_id': '%s', 'label': 'live', 'protected': true, 'gate': {'require_evaluation': true}}",
                            alpha.project_id));
    service_fails(move(&other, "'version': 2"), FORGE_PERMISSION_DENIED, "role admin");
    service_fails(
        service_call(beta.admin, "PromptService/SetLabel", NULL, "{'prompt_id': '%s', 'label': 'live', 'version': 2}", other.prompt_id),
        FORGE_NOT_FOUND, "not found");
    service_ok(service_call(alpha.admin, "PromptService/ProtectLabel", NULL, "{'project_id': '%s', 'label': 'live'}", alpha.project_id));
    service_ok(move(&other, "'version': 2"));
}

static void test_a_repeated_move_gets_the_first_reply(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37], request_id[37];
    ground_make("replay", &ground);
    gate_set(&ground, "'require_evaluation': true");
    evaluated(&ground, 2, true, true, id);
    snprintf(request_id, sizeof request_id, "%s", service_request_id());
    for (int i = 0; i < 2; i++) {
        service_ok(service_call(developer, "PromptService/SetLabel", request_id, "{'prompt_id': '%s', 'label': 'live', 'version': 2}",
                                ground.prompt_id));
        assert_int_equal(service_reply_is_stored(), i == 1);
        if (i == 0) /* the repeat is not asked again */
            service_ok(service_call(alpha.admin, "EvaluationService/DeleteEvaluation", NULL, "{'id': '%s'}", id));
    }
}

/* --- at the same moment --- */

struct late_move {
    const char *prompt_id;
    forge_code rc;
    struct forge_error error;
};

static void *late_move_main(void *argument)
{
    struct late_move *late = argument;
    Forge__V1__SetLabelRequest request = FORGE__V1__SET_LABEL_REQUEST__INIT;
    Forge__V1__Label *label;
    request.prompt_id = TEXT(late->prompt_id);
    request.label = TEXT("live");
    request.target_case = FORGE__V1__SET_LABEL_REQUEST__TARGET_VERSION;
    request.version = 2;
    late->rc = forge_prompt_set_label(developer, NULL, &request, &label, &late->error);
    if (late->rc == FORGE_OK)
        forge__v1__label__free_unpacked(label, NULL);
    return NULL;
}

/* What a move gets that meets this change: it waits for the prompt, which is held until the change is committed. Of the facts the first. */
static forge_code move_meets(const struct evaluation_ground *ground, const char *change, char out_fact[64])
{
    char sql[2048];
    pthread_t thread;
    struct late_move late = {.prompt_id = ground->prompt_id};
    snprintf(sql, sizeof sql, "SELECT id FROM prompts WHERE id = '%s' FOR NO KEY UPDATE; %s", ground->prompt_id, change);
    struct service_lock *lock = service_lock_take(sql);
    assert_int_equal(pthread_create(&thread, NULL, late_move_main, &late), 0);
    service_lock_wait(lock, 1);
    service_lock_release(lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
    snprintf(out_fact, 64, "%s", late.error.facts != NULL ? late.error.facts->key : "");
    forge_error_free(&late.error);
    return late.rc;
}

static void test_a_move_is_judged_by_what_is_committed_when_it_has_its_locks(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37], change[512], fact[64];
    ground_make("race", &ground);
    gate_set(&ground, "'require_evaluation': true, 'require_no_open_blocking_violations': true");
    evaluated(&ground, 2, true, true, id);
    assert_int_equal(move_meets(&ground, violation_sql(&ground, 2, "block", "enforce", "open"), fact), FORGE_FAILED_PRECONDITION);
    assert_string_equal(fact, "violation");
    snprintf(change, sizeof change,
             "UPDATE policy_violations SET state = 'resolved' WHERE prompt_id = '%s'; DELETE FROM evaluations WHERE id = '%s'",
             ground.prompt_id, id);
    assert_int_equal(move_meets(&ground, change, fact), FORGE_FAILED_PRECONDITION);
    assert_string_equal(fact, "evaluation");
    char running[37];
    evaluation_make(&ground, ", 'prompt_version': 2", running);
    snprintf(change, sizeof change, "UPDATE evaluations SET state = 'completed', ended_at = now() WHERE id = '%s'", running);
    assert_int_equal(move_meets(&ground, change, fact), FORGE_OK);
    assert_string_equal(points_at(&ground), "2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_gate_is_set_told_changed_and_cleared),
        cmocka_unit_test(test_a_gate_that_cannot_be_is_refused),
        cmocka_unit_test(test_the_evaluation_must_be_completed_and_of_this_version),
        cmocka_unit_test(test_score_and_count_are_those_of_the_newest),
        cmocka_unit_test(test_only_the_dataset_that_is_asked_for_counts),
        cmocka_unit_test(test_an_open_blocking_violation_stands_in_the_way),
        cmocka_unit_test(test_each_version_of_a_split_is_asked),
        cmocka_unit_test(test_whose_rule_holds),
        cmocka_unit_test(test_a_repeated_move_gets_the_first_reply),
        cmocka_unit_test(test_a_move_is_judged_by_what_is_committed_when_it_has_its_locks),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
