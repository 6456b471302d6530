/* PolicyService over TLS: violations. Rows are made here: who writes them is tested where prompt versions and spans are checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GET "PolicyService/GetViolation"
#define LIST "PolicyService/ListViolations"
#define ACKNOWLEDGE "PolicyService/AcknowledgeViolation"
#define RESOLVE "PolicyService/ResolveViolation"

enum { SQL_SIZE = 2048 };

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";
static const char *const policy_a = "01890000-0000-7000-8000-00000000000a", *const policy_b = "01890000-0000-7000-8000-00000000000b";
static const char *const prompt_a = "01890000-0000-7000-8000-0000000000a1", *const trace_a = "0af7651916cd43dd8448eb211c80319c";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

/* A violation of alpha's: columns and their values besides those that every one has. */
static void make(const char *id, const char *columns, const char *values)
{
    char sql[SQL_SIZE];
    snprintf(
        sql, sizeof sql,
        "INSERT INTO policy_violations (organization_id, id, project_id, policy_version, policy_name, rule, mode, stage, message, actor_id,"
        " finding_hash, %s) VALUES ('%s', '%s', '%s', 3, 'no keys', 'keys', 'enforce', 'input', 'A key was found.', '%s', sha256('%s'), "
        "%s)",
        columns, alpha.organization_id, id, alpha.project_id, nobody_has, id, values);
    service_execute(sql);
}

/* An open one with a new id. */
static void make_open(char out_id[37])
{
    snprintf(out_id, 37, "%s", service_query("SELECT '01890001' || substr(gen_random_uuid()::text, 9)"));
    char values[64];
    snprintf(values, sizeof values, "'%s', 'block', 3", policy_a);
    make(out_id, "policy_id, action, severity", values);
}

/* ---- GetViolation ---- */

static void test_a_violation_tells_all_that_is_known(void **state)
{
    (void)state;
    char values[1024];
    static const char id[] = "01890002-0000-7000-8000-000000000001";
    snprintf(values, sizeof values,
             "'%s', 'mask', 4, '[{\"start_byte\": \"3\", \"end_byte\": \"9\", \"pii_kind\": \"PII_KIND_IBAN\"}]', '%s', 7, sha256('c'),"
             " decode('%s', 'hex'), decode('b7ad6b7169203331', 'hex'), 'production', 'acme-1', '2026-03-01 12:00:00+00'",
             policy_a, prompt_a, trace_a);
    make(id, "policy_id, action, severity, ranges, prompt_id, prompt_version, content_hash, trace_id, span_id, label, model, created_at",
         values);
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id));
    service_shows("{'id':'01890002-0000-7000-8000-000000000001'", alpha.project_id, policy_a,
                  "'policy_version':3,'policy_name':'no keys','rule':'keys','action':'POLICY_ACTION_MASK','severity':'SEVERITY_CRITICAL',"
                  "'mode':'POLICY_MODE_ENFORCE','stage':'POLICY_STAGE_INPUT','state':'VIOLATION_STATE_OPEN','message':'A key was found.',"
                  "'ranges':[{'start_byte':'3','end_byte':'9','pii_kind':'PII_KIND_IBAN'}]",
                  prompt_a, "'prompt_version':7,'content_hash':'2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6'", trace_a,
                  "'span_id':'b7ad6b7169203331','label':'production','model':'acme-1'", nobody_has,
                  "'create_time':'2026-03-01T12:00:00Z','etag':'1'}");
    service_fails(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", nobody_has), FORGE_NOT_FOUND, "violation 01890000");
    service_violates(service_call(alpha.admin, GET, NULL, "{'id': 'x'}"), "id", "must be a UUID");
    service_execute("UPDATE policy_violations SET ranges = '[1]' WHERE id = '01890002-0000-7000-8000-000000000001'");
    service_fails(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id), FORGE_DATA_LOSS, "ranges");
    service_execute("DELETE FROM policy_violations");
}

/* ---- AcknowledgeViolation, ResolveViolation ---- */

static void test_a_violation_is_acknowledged_and_resolved(void **state)
{
    (void)state;
    char id[37], sql[SQL_SIZE], who[64];
    make_open(id);
    service_ok(service_call(alpha.admin, ACKNOWLEDGE, NULL, "{'id': '%s', 'comment': 'on it', 'etag': '1'}", id));
    service_reply_text("acknowledger_id", who, sizeof who);
    service_shows("'state':'VIOLATION_STATE_ACKNOWLEDGED'", "'acknowledge_time':'", "'acknowledger_id':'", "'acknowledge_comment':'on it'",
                  "'etag':'2'");
    assert_null(strstr(service_reply(), "resolve"));
    service_fails(service_call(alpha.admin, ACKNOWLEDGE, NULL, "{'id': '%s'}", id), FORGE_FAILED_PRECONDITION, "acknowledged already");
    service_ok(service_call(alpha.admin, RESOLVE, NULL,
                            "{'id': '%s', 'resolution': 'VIOLATION_RESOLUTION_FALSE_POSITIVE', 'comment': 'a sample', 'etag': '2'}", id));
    service_shows("'state':'VIOLATION_STATE_RESOLVED'", "'acknowledge_comment':'on it','resolve_time':'", "'resolver_id':'", who,
                  "'resolution':'VIOLATION_RESOLUTION_FALSE_POSITIVE','resolve_comment':'a sample','etag':'3'");
    service_fails(service_call(alpha.admin, RESOLVE, NULL, "{'id': '%s', 'resolution': 'VIOLATION_RESOLUTION_FIXED'}", id),
                  FORGE_FAILED_PRECONDITION, "resolved already");
    service_fails(service_call(alpha.admin, ACKNOWLEDGE, NULL, "{'id': '%s'}", id), FORGE_FAILED_PRECONDITION, "resolved already");
    snprintf(sql, sizeof sql,
             "SELECT string_agg(action || ' ' || target_kind || ' ' || (details->>'rule') || ' ' || (details->>'policy_version') || ' ' ||"
             " (details->>'state') || ' ' || concat_ws(' ', details->>'acknowledge_comment', details->>'resolution',"
             " details->>'resolve_comment'), ', ' ORDER BY sequence) FROM audit_log WHERE target_id = '%s'",
             id);
    assert_string_equal(service_query(sql), "policy_violation.acknowledge policy_violation keys 3 VIOLATION_STATE_ACKNOWLEDGED on it, "
                                            "policy_violation.resolve policy_violation keys 3 VIOLATION_STATE_RESOLVED "
                                            "VIOLATION_RESOLUTION_FALSE_POSITIVE a sample");
    make_open(id); /* the one step is not needed for the other */
    service_ok(service_call(alpha.admin, RESOLVE, NULL, "{'id': '%s', 'resolution': 'VIOLATION_RESOLUTION_ACCEPTED'}", id));
    service_shows("'state':'VIOLATION_STATE_RESOLVED'", "'resolution':'VIOLATION_RESOLUTION_ACCEPTED'", "'etag':'2'");
    assert_null(strstr(service_reply(), "acknowledge"));
}

static void test_what_is_wrong_changes_nothing(void **state)
{
    (void)state;
    char id[37], before[2048];
    make_open(id);
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id));
    snprintf(before, sizeof before, "%s", service_reply());
    service_violates(service_call(alpha.admin, ACKNOWLEDGE, NULL, "{'id': 'x', 'comment': '%s', 'etag': '%s'}", service_repeat("c", 4097),
                                  service_repeat("e", 65)),
                     "id", "must be a UUID", "comment", "4096", "etag", "64");
    service_violates(service_call(alpha.admin, RESOLVE, NULL, "{'id': 'x', 'comment': '%s', 'etag': '%s'}", service_repeat("c", 4097),
                                  service_repeat("e", 65)),
                     "id", "must be a UUID", "resolution", "is required", "comment", "4096", "etag", "64");
    service_fails(service_call(alpha.admin, ACKNOWLEDGE, NULL, "{'id': '%s', 'etag': '2'}", id), FORGE_ABORTED, "has changed");
    service_fails(service_call(alpha.admin, RESOLVE, NULL, "{'id': '%s', 'etag': '2', 'resolution': 'VIOLATION_RESOLUTION_FIXED'}", id),
                  FORGE_ABORTED, "has changed");
    struct forge_channel *viewer = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL);
    service_ok(service_call(alpha.admin, "ProjectService/CreateProject", NULL, "{'name': 'other'}"));
    char other[37];
    service_reply_text("id", other, sizeof other);
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, other);
    struct forge_channel *const strangers[] = {beta.admin, bound};
    for (size_t i = 0; i < 2; i++) {
        service_fails(service_call(strangers[i], GET, NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "violation");
        service_fails(service_call(strangers[i], ACKNOWLEDGE, NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "violation");
        service_fails(service_call(strangers[i], RESOLVE, NULL, "{'id': '%s', 'resolution': 'VIOLATION_RESOLUTION_FIXED'}", id),
                      FORGE_NOT_FOUND, "violation");
    }
    service_fails(service_call(beta.admin, LIST, NULL, "{'project_id': '%s'}", alpha.project_id), FORGE_NOT_FOUND, "project");
    service_fails(service_call(bound, LIST, NULL, "{'project_id': '%s'}", alpha.project_id), FORGE_PERMISSION_DENIED, "another project");
    service_fails(service_call(viewer, ACKNOWLEDGE, NULL, "{'id': '%s'}", id), FORGE_PERMISSION_DENIED, "");
    service_fails(service_call(viewer, RESOLVE, NULL, "{'id': '%s', 'resolution': 'VIOLATION_RESOLUTION_FIXED'}", id),
                  FORGE_PERMISSION_DENIED, "");
    service_ok(service_call(viewer, GET, NULL, "{'id': '%s'}", id));
    assert_string_equal(service_reply(), before);
}

static void test_a_repeat_gets_the_stored_reply(void **state)
{
    (void)state;
    char id[37], request_id[37], sql[SQL_SIZE];
    make_open(id);
    strcpy(request_id, service_request_id());
    for (int i = 0; i < 2; i++) {
        service_ok(service_call(alpha.admin, ACKNOWLEDGE, request_id, "{'id': '%s', 'etag': '1'}", id));
        assert_true(service_reply_is_stored() == (i == 1));
        service_shows("'state':'VIOLATION_STATE_ACKNOWLEDGED'", "'etag':'2'");
    }
    strcpy(request_id, service_request_id());
    for (int i = 0; i < 2; i++) {
        service_ok(service_call(alpha.admin, RESOLVE, request_id, "{'id': '%s', 'resolution': 'VIOLATION_RESOLUTION_FIXED'}", id));
        assert_true(service_reply_is_stored() == (i == 1));
        service_shows("'state':'VIOLATION_STATE_RESOLVED'", "'etag':'3'");
    }
    snprintf(sql, sizeof sql, "SELECT count(*) FROM audit_log WHERE target_id = '%s'", id);
    assert_string_equal(service_query(sql), "2");
}

struct rival {
    pthread_t thread;
    const char *id;
    forge_code code;
};

static void *acknowledge(void *argument)
{
    struct rival *rival = argument;
    struct forge_error error;
    Forge__V1__AcknowledgeViolationRequest request = FORGE__V1__ACKNOWLEDGE_VIOLATION_REQUEST__INIT;
    Forge__V1__Violation *violation;
    request.id = TEXT(rival->id);
    rival->code = forge_policy_acknowledge_violation(alpha.admin, NULL, &request, &violation, &error);
    if (rival->code == FORGE_OK)
        forge__v1__violation__free_unpacked(violation, NULL);
    forge_error_free(&error);
    return NULL;
}

/* All of them wait for the row, so none has read what another wrote. */
static void test_one_of_several_acknowledges(void **state)
{
    (void)state;
    enum { RIVALS = 4 };
    char id[37], sql[SQL_SIZE];
    struct rival rivals[RIVALS];
    int succeeded = 0;
    make_open(id);
    snprintf(sql, sizeof sql, "SELECT FROM policy_violations WHERE id = '%s' FOR UPDATE", id);
    struct service_lock *lock = service_lock_take(sql);
    for (int i = 0; i < RIVALS; i++) {
        rivals[i] = (struct rival){.id = id};
        assert_int_equal(pthread_create(&rivals[i].thread, NULL, acknowledge, &rivals[i]), 0);
    }
    service_lock_wait(lock, RIVALS);
    service_lock_release(lock);
    for (int i = 0; i < RIVALS; i++) {
        pthread_join(rivals[i].thread, NULL);
        succeeded += rivals[i].code == FORGE_OK;
        assert_true(rivals[i].code == FORGE_OK || rivals[i].code == FORGE_FAILED_PRECONDITION);
    }
    assert_int_equal(succeeded, 1);
}

/* ---- ListViolations ---- */

/* The last digits of the ids that a list with these members tells, in their order, over all pages of this size. */
static void expect_list(const char *expected, int page_size, const char *members)
{
    char told[256] = "", token[512] = "";
    do {
        service_ok(service_call(alpha.admin, LIST, NULL, "{'project_id': '%s', 'page_size': %d, 'page_token': '%s'%s}", alpha.project_id,
                                page_size, token, members));
        int on_page = 0;
        for (const char *at = service_reply(); (at = strstr(at, "{\"id\":\"")) != NULL; at++, on_page++)
            snprintf(told + strlen(told), sizeof told - strlen(told), "%.2s ", at + strlen("{\"id\":\"") + 34);
        assert_true(on_page <= page_size);
        service_reply_text("next_page_token", token, sizeof token);
    } while (token[0] != '\0');
    assert_string_equal(told, expected);
}

/* 24 violations, an hour apart: state by number modulo 3, action modulo 2, severity modulo 4, policy, prompt and trace by halves and
 * thirds. */
static void make_many(void)
{
    static const char *const states[] = {"open", "acknowledged", "resolved"}, *const actions[] = {"flag", "block"};
    service_execute("DELETE FROM policy_violations");
    for (int i = 1; i <= 24; i++) {
        char id[37], values[512], sql[512];
        snprintf(sql, sizeof sql,
                 "SELECT regexp_replace(lpad(to_hex((extract(epoch FROM timestamptz '2026-03-01 00:30:00+00') * 1000)::bigint + %d * "
                 "3600000::bigint),"
                 " 12, '0'), '^(.{8})(.{4})$', '\\1-\\2') || '-7000-8000-0000000000%02d'",
                 i, i);
        snprintf(id, sizeof id, "%s", service_query(sql));
        snprintf(values, sizeof values,
                 "'%s', '%s', '%s', %d, %s%s%s, %d, %s%s%s, timestamptz '2026-03-01 00:30:00+00' + %d * interval '1 hour'", states[i % 3],
                 i <= 12 ? policy_a : policy_b, actions[i % 2], 1 + i % 4, i % 5 == 0 ? "'" : "", i % 5 == 0 ? prompt_a : "NULL",
                 i % 5 == 0 ? "'" : "", i % 10 == 0 ? 2 : 1, i % 7 == 0 ? "decode('" : "", i % 7 == 0 ? trace_a : "NULL",
                 i % 7 == 0 ? "', 'hex')" : "", i);
        make(id, "state, policy_id, action, severity, prompt_id, prompt_version, trace_id, created_at", values);
    }
}

static void test_lists_are_newest_first_by_each_filter(void **state)
{
    (void)state;
    char members[512];
    make_many();
    expect_list("24 23 22 21 20 19 18 17 16 15 14 13 12 11 10 09 08 07 06 05 04 03 02 01 ", 5, "");
    expect_list("24 21 18 15 12 09 06 03 ", 3, ", 'state': 'VIOLATION_STATE_OPEN'");
    expect_list("23 20 17 14 11 08 05 02 ", 8, ", 'state': 'VIOLATION_STATE_RESOLVED'");
    expect_list("23 19 15 11 07 03 ", 4, ", 'severity_min': 'SEVERITY_CRITICAL'");
    expect_list("23 22 19 18 15 14 11 10 07 06 03 02 ", 5, ", 'severity_min': 'SEVERITY_HIGH'");
    expect_list("24 22 20 18 16 14 12 10 08 06 04 02 ", 50, ", 'action': 'POLICY_ACTION_FLAG'");
    expect_list("", 50, ", 'action': 'POLICY_ACTION_MASK'");
    expect_list("15 03 ", 1, ", 'state': 'VIOLATION_STATE_OPEN', 'severity_min': 'SEVERITY_CRITICAL', 'action': 'POLICY_ACTION_BLOCK'");
    snprintf(members, sizeof members, ", 'policy_id': '%s'", policy_a);
    expect_list("12 11 10 09 08 07 06 05 04 03 02 01 ", 7, members);
    snprintf(members, sizeof members, ", 'policy_id': '%s', 'state': 'VIOLATION_STATE_OPEN', 'severity_min': 'SEVERITY_MEDIUM'", policy_a);
    expect_list("09 06 03 ", 2, members);
    snprintf(members, sizeof members, ", 'policy_id': '%s'", nobody_has);
    expect_list("", 50, members);
    snprintf(members, sizeof members, ", 'prompt_id': '%s'", prompt_a);
    expect_list("20 15 10 05 ", 3, members);
    snprintf(members, sizeof members, ", 'prompt_id': '%s', 'prompt_version': 2", prompt_a);
    expect_list("20 10 ", 1, members);
    snprintf(members, sizeof members, ", 'prompt_id': '%s', 'policy_id': '%s', 'action': 'POLICY_ACTION_BLOCK'", prompt_a, policy_b);
    expect_list("15 ", 1, members);
    expect_list("21 14 07 ", 2, ", 'trace_id': '0AF7651916CD43DD8448EB211C80319C'");
    snprintf(members, sizeof members, ", 'trace_id': '%s', 'policy_id': '%s'", trace_a, policy_b);
    expect_list("21 14 ", 2, members);
    snprintf(members, sizeof members, ", 'trace_id': '%s', 'prompt_id': '%s'", trace_a, prompt_a);
    expect_list("", 2, members);
}

/* The time is the row's, whatever the id says within its minute. */
static void test_lists_have_exact_times(void **state)
{
    (void)state;
    make_many();
    expect_list("05 04 03 ", 2, ", 'start_time': '2026-03-01T03:30:00Z', 'end_time': '2026-03-01T06:30:00Z'");
    service_execute("UPDATE policy_violations SET created_at = created_at - interval '30 s' WHERE id::text LIKE '%06'");
    expect_list("06 05 04 03 ", 2, ", 'start_time': '2026-03-01T03:30:00Z', 'end_time': '2026-03-01T06:30:00Z'");
    service_execute("UPDATE policy_violations SET created_at = created_at + interval '59 s' WHERE id::text LIKE '%02'");
    expect_list("03 02 ", 2, ", 'start_time': '2026-03-01T02:30:59Z', 'end_time': '2026-03-01T03:30:00.000001Z'");
    expect_list("24 23 ", 1, ", 'start_time': '2026-03-01T23:30:00Z'");
    expect_list("01 ", 1, ", 'end_time': '2026-03-01T02:30:00Z'");
    expect_list("", 1, ", 'end_time': '1969-12-31T00:00:00Z'");
    expect_list("23 ", 1, ", 'severity_min': 'SEVERITY_CRITICAL', 'start_time': '2026-03-01T20:30:00Z'");
}

static void test_wrong_filters_are_named(void **state)
{
    (void)state;
    char token[512];
    service_violates(
        service_call(alpha.admin, LIST, NULL,
                     "{'project_id': '', 'page_size': -1, 'policy_id': 'x', 'prompt_id': 'y', 'prompt_version': -1, 'trace_id':"
                     " 'z', 'start_time': '2026-03-01T00:00:00Z', 'end_time': '2026-03-01T00:00:00Z'}"),
        "project_id", "is required", "policy_id", "must be a UUID", "prompt_id", "must be a UUID", "prompt_version", "0 or more",
        "trace_id", "32 hexadecimal digits", "end_time", "must be after start_time", "page_size", "");
    service_violates(service_call(alpha.admin, LIST, NULL, "{'project_id': '%s', 'prompt_version': 1}", alpha.project_id), "prompt_version",
                     "needs prompt_id");
    service_fails(service_call(alpha.admin, LIST, NULL, "{'project_id': '%s'}", nobody_has), FORGE_NOT_FOUND, "project 01890000");
    make_many();
    service_ok(service_call(alpha.admin, LIST, NULL, "{'project_id': '%s', 'page_size': 1}", alpha.project_id));
    service_reply_text("next_page_token", token, sizeof token);
    service_violates(service_call(alpha.admin, LIST, NULL, "{'project_id': '%s', 'page_token': '%s', 'state': 'VIOLATION_STATE_OPEN'}",
                                  alpha.project_id, token),
                     "page_token", "another query");
}

/* Pages are cut where replies would become too large. */
static void test_pages_are_cut_by_size(void **state)
{
    (void)state;
    char token[512] = "";
    int found = 0, pages = 0;
    service_execute("DELETE FROM policy_violations");
    char sql[SQL_SIZE];
    snprintf(
        sql, sizeof sql,
        "INSERT INTO policy_violations (organization_id, id, project_id, policy_id, policy_version, policy_name, rule, action, severity,"
        " mode, stage, message, actor_id, finding_hash, resolve_comment) SELECT '%s', ('01890003-0000-7000-8000-' || lpad(n::text, 12, "
        "'0'))"
        "::uuid, '%s', '%s', 1, 'p', 'r', 'flag', 1, 'enforce', 'input', 'm', '%s', sha256(n::text::bytea), repeat('\u4e00', 4096)"
        " FROM generate_series(1, 400) n",
        alpha.organization_id, alpha.project_id, policy_a, nobody_has);
    service_execute(sql);
    do {
        service_ok(
            service_call(alpha.admin, LIST, NULL, "{'project_id': '%s', 'page_size': 1000, 'page_token': '%s'}", alpha.project_id, token));
        for (const char *at = service_reply(); (at = strstr(at, "{\"id\":\"")) != NULL; at++)
            found++;
        service_reply_text("next_page_token", token, sizeof token);
        pages++;
    } while (token[0] != '\0');
    assert_int_equal(found, 400);
    assert_int_equal(pages, 3);
}

static void test_a_deleted_project_takes_its_violations(void **state)
{
    (void)state;
    char id[37];
    make_open(id);
    service_ok(service_call(alpha.admin, "ProjectService/DeleteProject", NULL, "{'id': '%s', 'confirm_name': 'main'}", alpha.project_id));
    service_fails(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "violation");
    service_fails(service_call(alpha.admin, ACKNOWLEDGE, NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "violation");
    service_fails(service_call(alpha.admin, LIST, NULL, "{'project_id': '%s'}", alpha.project_id), FORGE_NOT_FOUND, "project");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_violation_tells_all_that_is_known),
        cmocka_unit_test(test_a_violation_is_acknowledged_and_resolved),
        cmocka_unit_test(test_what_is_wrong_changes_nothing),
        cmocka_unit_test(test_a_repeat_gets_the_stored_reply),
        cmocka_unit_test(test_one_of_several_acknowledges),
        cmocka_unit_test(test_lists_are_newest_first_by_each_filter),
        cmocka_unit_test(test_lists_have_exact_times),
        cmocka_unit_test(test_wrong_filters_are_named),
        cmocka_unit_test(test_pages_are_cut_by_size),
        cmocka_unit_test(test_a_deleted_project_takes_its_violations),
    };
    return cmocka_run_group_tests_name("service_violation", tests, start, service_end);
}
