/* TraceService over TLS: SetRetention. What is kept and what goes: maintain_retention_test.c. */
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

enum { WRITERS = 8, ETAG_SIZE = 65 };

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static forge_code set(struct forge_channel *channel, const char *project_id, int days, const char *etag)
{
    return service_call(channel, "TraceService/SetRetention", NULL, "{'project_id': '%s', 'trace_days': %d, 'etag': '%s'}", project_id,
                        days, etag);
}

/* Sets it for the project of alpha, and gives the etag. */
static void set_to(int days, const char *etag, char out_etag[ETAG_SIZE])
{
    service_ok(set(alpha.admin, alpha.project_id, days, etag));
    service_reply_text("etag", out_etag, ETAG_SIZE);
}

/* "30 7 30>7": what the table and the summary of the project say, and the last audit row; '-' without. */
static const char *stored(void)
{
    static char text[256];
    char sql[512];
    snprintf(
        sql, sizeof sql,
        "SELECT COALESCE((SELECT trace_days::text FROM retention_settings WHERE project_id = '%1$s'), '-') || ' ' || count(*) || ' ' ||"
        " COALESCE((array_agg((details ->> 'old_trace_days') || '>' || (details ->> 'trace_days') ORDER BY sequence DESC))[1], '-')"
        " FROM audit_log WHERE action = 'retention.set' AND target_kind = 'project' AND target_id = '%1$s'",
        alpha.project_id);
    snprintf(text, sizeof text, "%s", service_query(sql));
    return text;
}

static void test_it_is_set_changed_and_taken_back(void **state)
{
    (void)state;
    char made[ETAG_SIZE], changed[ETAG_SIZE], same[ETAG_SIZE], none[ETAG_SIZE], again[ETAG_SIZE];
    set_to(30, "", made);
    service_shows("'project_id':'", alpha.project_id, "'trace_days':30", "'update_time':'20");
    assert_string_equal(stored(), "30 1 0>30");
    set_to(7, made, changed);
    service_shows("'trace_days':7", "'update_time':'20");
    assert_string_equal(stored(), "7 2 30>7");
    set_to(7, changed, same); /* as it is: no change, no audit row */
    assert_string_equal(same, changed);
    assert_string_equal(stored(), "7 2 30>7");
    service_ok(service_call(alpha.admin, "ProjectService/GetProjectSummary", NULL, "{'id': '%s'}", alpha.project_id));
    service_shows("'trace_retention_days':7");
    set_to(0, changed, none);
    assert_string_equal(none, "");
    assert_null(strstr(service_reply(), "update_time"));
    assert_string_equal(stored(), "- 3 7>0");
    set_to(0, "", none);
    assert_string_equal(stored(), "- 3 7>0");
    set_to(3650, "", again);
    assert_string_not_equal(again, made); /* made again, it is another one */
    assert_string_equal(stored(), "3650 4 0>3650");
    set_to(0, again, none);
}

static void test_an_old_etag_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    char first[ETAG_SIZE], second[ETAG_SIZE], none[ETAG_SIZE], before[256];
    service_fails(set(alpha.admin, alpha.project_id, 5, "1.1"), FORGE_ABORTED, "has changed since this etag was read");
    set_to(5, "", first);
    set_to(6, first, second);
    snprintf(before, sizeof before, "%s", stored());
    service_fails(set(alpha.admin, alpha.project_id, 7, first), FORGE_ABORTED, "has changed");
    service_fails(set(alpha.admin, alpha.project_id, 0, first), FORGE_ABORTED, "has changed");
    service_fails(set(alpha.admin, alpha.project_id, 6, first), FORGE_ABORTED, "has changed"); /* also where nothing would change */
    assert_string_equal(stored(), before);
    set_to(0, second, none);
    service_fails(set(alpha.admin, alpha.project_id, 5, second), FORGE_ABORTED, "has changed");
}

static void test_a_repeat_gets_the_stored_reply(void **state)
{
    (void)state;
    char request_id[37], before[256], reply[512], none[ETAG_SIZE];
    snprintf(request_id, sizeof request_id, "%s", service_request_id());
    static const char body[] = "{'project_id': '%s', 'trace_days': %d}";
    service_ok(service_call(alpha.admin, "TraceService/SetRetention", request_id, body, alpha.project_id, 12));
    assert_false(service_reply_is_stored());
    snprintf(reply, sizeof reply, "%s", service_reply());
    snprintf(before, sizeof before, "%s", stored());
    service_ok(service_call(alpha.admin, "TraceService/SetRetention", request_id, body, alpha.project_id, 12));
    assert_true(service_reply_is_stored());
    assert_string_equal(service_reply(), reply);
    assert_string_equal(stored(), before);
    service_fails(service_call(alpha.admin, "TraceService/SetRetention", request_id, body, alpha.project_id, 13), FORGE_INVALID_ARGUMENT,
                  "request_id");
    set_to(0, "", none);
}

static void test_it_says_what_is_wrong(void **state)
{
    (void)state;
    struct forge_channel *developer = service_user_make(&alpha, "developer@alpha.example", FORGE__V1__ROLE__ROLE_DEVELOPER, NULL);
    char before[256];
    snprintf(before, sizeof before, "%s", stored());
    service_violates(set(alpha.admin, "x", -1, service_repeat("x", 65)), "project_id", "must be a UUID", "trace_days", "1 to 3650", "etag",
                     "64");
    service_violates(set(alpha.admin, "", 3651, ""), "project_id", "is required", "trace_days", "1 to 3650");
    service_fails(set(alpha.admin, nobody_has, 5, ""), FORGE_NOT_FOUND, "project");
    service_fails(set(beta.admin, alpha.project_id, 5, ""), FORGE_NOT_FOUND, "project");
    service_fails(set(developer, alpha.project_id, 5, ""), FORGE_PERMISSION_DENIED, "admin");
    assert_string_equal(stored(), before);
}

static void test_a_deleted_project_has_none(void **state)
{
    (void)state;
    char id[37];
    service_ok(service_call(alpha.admin, "ProjectService/CreateProject", NULL, "{'name': 'gone'}"));
    service_reply_text("id", id, sizeof id);
    service_ok(service_call(alpha.admin, "ProjectService/DeleteProject", NULL, "{'id': '%s', 'confirm_name': 'gone'}", id));
    service_fails(set(alpha.admin, id, 5, ""), FORGE_NOT_FOUND, "project");
}

/* ---- under concurrent writers ---- */

struct writer {
    pthread_t thread;
    const char *etag;
    int days;
    forge_code rc;
};

static void *writer_main(void *argument)
{
    struct writer *writer = argument;
    Forge__V1__SetRetentionRequest request = FORGE__V1__SET_RETENTION_REQUEST__INIT;
    Forge__V1__Retention *reply;
    struct forge_error error = {0};
    request.project_id = alpha.project_id;
    request.trace_days = writer->days;
    request.etag = TEXT(writer->etag);
    writer->rc = forge_trace_set_retention(alpha.admin, NULL, &request, &reply, &error);
    if (writer->rc == FORGE_OK)
        forge__v1__retention__free_unpacked(reply, NULL);
    else
        forge_error_free(&error);
    return NULL;
}

/* They meet at the lock of the project, so each looks at the etag behind the one before. */
static void test_of_writers_with_the_same_etag_one_wins(void **state)
{
    (void)state;
    struct writer writers[WRITERS];
    char etag[ETAG_SIZE], sql[128];
    int won = 0;
    set_to(100, "", etag);
    snprintf(sql, sizeof sql, "SELECT FROM projects WHERE id = '%s' FOR UPDATE", alpha.project_id);
    struct service_lock *lock = service_lock_take(sql);
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.etag = etag, .days = 101 + i};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]), 0);
    }
    service_lock_wait(lock, WRITERS);
    service_lock_release(lock);
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        assert_true(writers[i].rc == FORGE_OK || writers[i].rc == FORGE_ABORTED);
        won += writers[i].rc == FORGE_OK;
    }
    assert_int_equal(won, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_set_changed_and_taken_back), cmocka_unit_test(test_an_old_etag_is_refused_and_changes_nothing),
        cmocka_unit_test(test_a_repeat_gets_the_stored_reply),   cmocka_unit_test(test_it_says_what_is_wrong),
        cmocka_unit_test(test_a_deleted_project_has_none),       cmocka_unit_test(test_of_writers_with_the_same_etag_one_wins),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
