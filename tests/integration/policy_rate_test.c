/* Rates of two servers on one database, by a clock that the test turns: how many calls pass in any minute of many, and when the next one
 * may. */
#include "policy_fixture.h"

#include "db/column.h"
#include "db/tx.h"
#include "service/policy/rate.h"
#include "support/rpc_fixture.h"

#include "wire/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SERVERS = 2, WINDOW_S = 60, MINUTES = 5, SECONDS = MINUTES * WINDOW_S, CALL_BYTES_MAX = 4 << 20, DEADLINE_S = 30 };
static const int64_t second_us = 1000000;

static struct rpc_fixture fixture;
static struct rpc_fixture_server server; /* for its pool */
static struct base_metrics *metrics[SERVERS];
static struct policy_rates *rates[SERVERS];
static struct forge_uuid policy_id;
static int64_t now_us;

static int64_t turned_clock(void)
{
    return now_us;
}

static void execute(const char *sql)
{
    rpc_fixture_execute(&fixture, "%s", sql);
}

static int open_fixture(void **state)
{
    struct rpc_server_config config;
    struct forge_error error = {0};
    char organization[FORGE_UUID_TEXT_SIZE], id[FORGE_UUID_TEXT_SIZE];
    (void)state;
    rpc_fixture_open(&fixture);
    rpc_fixture_config(&config);
    rpc_fixture_start(&fixture, &config, NULL, &server);
    forge_uuid_format(&fixture.organization_id, organization);
    policy_fixture_put(execute, &(struct policy_put){.organization_id = organization, .name = "rates", .rules = "[]"}, id);
    assert_true(forge_uuid_parse(id, &policy_id));
    now_us = forge_clock_wall_us();
    forge_clock_set_wall_source(turned_clock);
    for (int i = 0; i < SERVERS; i++) {
        metrics[i] = base_metrics_new();
        const struct policy_rates_config rates_config = {.pool = server.pool, .metrics = metrics[i]};
        assert_int_equal(policy_rates_new(&rates_config, &rates[i], &error), FORGE_OK);
    }
    return 0;
}

static int close_fixture(void **state)
{
    (void)state;
    forge_clock_set_wall_source(NULL);
    for (int i = 0; i < SERVERS; i++) {
        policy_rates_free(rates[i]);
        base_metrics_free(metrics[i]);
    }
    rpc_fixture_stop(&server);
    rpc_fixture_close(&fixture);
    return 0;
}

/* What becomes of a call's connection before it is used. */
typedef void connection_fault(struct rpc_call *call);

static forge_code try_to_take(int at, const struct policy_rate_rule *rule, const char *key, int64_t tokens, connection_fault *fault,
                              int64_t *out_retry_after_ms)
{
    struct forge_arena arena;
    struct rpc_call call = {
        .arena = &arena, .now_us = now_us, .deadline_ns = forge_clock_monotonic_ns() + DEADLINE_S * UINT64_C(1000000000)};
    call.principal.organization_id = fixture.organization_id;
    forge_arena_init(&arena, CALL_BYTES_MAX, NULL);
    assert_int_equal(db_pool_lease(server.pool, &arena, call.deadline_ns, &call.db, &call.error), FORGE_OK);
    db_session_bind_tenant(call.db, &fixture.organization_id);
    if (fault != NULL)
        fault(&call);
    forge_code code = policy_rate_take(rates[at], &call, &policy_id, rule, key, tokens, out_retry_after_ms);
    if (code != FORGE_OK && fault == NULL)
        fail_msg("%s", call.error.message);
    db_pool_release(call.db);
    forge_arena_done(&arena);
    return code;
}

/* A call of this server: 0 when it passes, else when to come again. */
static int64_t take(int at, const struct policy_rate_rule *rule, const char *key, int64_t tokens)
{
    int64_t retry_after_ms = 0;
    assert_int_equal(try_to_take(at, rule, key, tokens, NULL, &retry_after_ms), FORGE_OK);
    return retry_after_ms;
}

static void flush(void)
{
    for (int i = 0; i < SERVERS; i++)
        policy_rates_flush(rates[i], forge_clock_monotonic_ns() + DEADLINE_S * UINT64_C(1000000000));
}

/* Offers so many calls a second, or ten times as many every ten seconds, now and then to one server alone; the most and the fewest that
 * passed in any minute, once the first is over. */
static void offer(const struct policy_rate_rule *rule, const char *key, int offered, int64_t tokens, bool in_bursts, int64_t *out_most,
                  int64_t *out_least)
{
    int passed[SECONDS] = {0};
    *out_most = 0;
    *out_least = INT64_MAX;
    for (int second = 0; second < SECONDS; second++) {
        int calls = !in_bursts ? offered : second % 10 == 0 ? 10 * offered : 0;
        for (int i = 0; i < calls; i++)
            passed[second] += take(in_bursts && second % 20 == 0 ? 0 : i % SERVERS, rule, key, tokens) == 0;
        now_us += second_us;
        flush();
    }
    for (int first = 0; first + WINDOW_S <= SECONDS; first++) {
        int64_t in_minute = 0;
        for (int i = 0; i < WINDOW_S; i++)
            in_minute += passed[first + i];
        *out_most = in_minute > *out_most ? in_minute : *out_most;
        *out_least = in_minute < *out_least ? in_minute : *out_least;
    }
}

static void expect_within_tenth(const char *what, int64_t most, int64_t least, int64_t limit)
{
    print_message("%s: %lld to %lld of %lld in any minute\n", what, (long long)least, (long long)most, (long long)limit);
    assert_in_range(most, limit * 9 / 10, limit * 11 / 10);
    assert_in_range(least, limit * 9 / 10, limit * 11 / 10);
}

static void test_a_minute_has_as_many_calls_as_may_pass(void **state)
{
    static const struct policy_rate_rule calls = {.name = "calls", .window_s = WINDOW_S, .calls_max = 300},
                                         tokens = {.name = "tokens", .window_s = WINDOW_S, .tokens_max = 3000};
    int64_t most, least;
    (void)state;
    offer(&calls, "steady", 10, 0, false, &most, &least); /* twice as many as may pass */
    expect_within_tenth("calls, steady", most, least, 300);
    offer(&calls, "bursts", 10, 0, true, &most, &least);
    assert_in_range(most, 300, 330); /* how few pass depends on when bursts come */
    offer(&tokens, "steady", 10, 10, false, &most, &least);
    expect_within_tenth("tokens", most, least, 300);
}

static void test_those_who_come_again_when_told_pass(void **state)
{
    static const struct policy_rate_rule rule = {.name = "again", .window_s = WINDOW_S, .calls_max = 3, .tokens_max = 100};
    int64_t begun_us = now_us;
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(take(i % SERVERS, &rule, "again", 10), 0);
        now_us += 10 * second_us;
    }
    int64_t retry_after_ms = take(0, &rule, "again", 10);
    assert_in_range(retry_after_ms, 1, WINDOW_S * 1000);
    now_us += retry_after_ms * 1000;
    assert_in_range(now_us - begun_us, WINDOW_S * second_us, (WINDOW_S + WINDOW_S / 30) * second_us); /* the first is just over */
    assert_int_equal(take(1, &rule, "again", 10), 0);
    assert_true(take(0, &rule, "again", 1) > 0);
    now_us += 2 * WINDOW_S * second_us;
    assert_int_equal(take(0, &rule, "again", 101), WINDOW_S * 1000); /* never */
    assert_int_equal(take(0, &rule, "again", 100), 0);               /* and what was refused does not count */
    assert_true(take(1, &rule, "again", 1) > 0);
    assert_int_equal(take(1, &rule, "another key", 1), 0);
}

/* A rule that is published anew with another window, and rows that are over. */
static void test_windows_change_and_end(void **state)
{
    struct policy_rate_rule rule = {.name = "window", .window_s = WINDOW_S, .calls_max = 2};
    (void)state;
    assert_int_equal(take(0, &rule, "window", 0), 0);
    assert_int_equal(take(0, &rule, "window", 0), 0);
    rule.window_s = 2 * WINDOW_S;
    now_us += (WINDOW_S + 10) * second_us;
    assert_true(take(0, &rule, "window", 0) > 0); /* they are in the longer window still */
    assert_true(take(1, &rule, "window", 0) > 0);
    now_us += 4 * WINDOW_S * second_us;
    assert_int_equal(take(0, &rule, "window", 0), 0);
    flush();
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT count(*) FROM rate_windows WHERE rule = 'window'"), 1);
    assert_true(rpc_fixture_number(&fixture, "SELECT count(*) FROM rate_windows") > 1);
    now_us += 2 * 86400 * second_us; /* later than any window reaches back, whatever becomes of its key */
    assert_int_equal(take(0, &rule, "window", 0), 0);
    flush();
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT count(*) FROM rate_windows"), 1);
}

/* --- what goes wrong --- */

static void leave(struct rpc_call *call)
{
    (void)call;
}

static void end_connection(struct rpc_call *call)
{
    struct db_rows rows;
    struct db_stmt *q = db_stmt(call->db, SQL_POLICY_RATE_READ); /* something was sent on it: nobody knows that the next was not */
    db_bind_uuid(q, &fixture.organization_id);
    db_bind_uuid_array(q, NULL, 0);
    db_bind_text_array(q, NULL, 0);
    db_bind_text_array(q, NULL, 0);
    db_bind_column(q, DB_MEMBER_TIME_US, 0, NULL, 0);
    assert_int_equal(db_run_many(q, &rows, &call->error), FORGE_OK);
    assert_true(rpc_fixture_number(&fixture, "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
                                             " WHERE usename = 'forge_app'") > 0);
}

static int passes(const struct policy_rate_rule *rule, int servers)
{
    int passed = 0;
    for (int i = 0; i < 6; i++)
        passed += take(i % servers, rule, rule->name, 0) == 0;
    return passed;
}

/* Begins to: rows of its rates wait for the end of the session's transaction. */
static struct db_session *delete_policy(struct forge_arena *arena)
{
    struct forge_error error = {0};
    struct db_session *session;
    assert_int_equal(db_pool_lease(server.pool, arena, forge_clock_monotonic_ns() + DEADLINE_S * UINT64_C(1000000000), &session, &error),
                     FORGE_OK);
    db_session_bind_tenant(session, &fixture.organization_id);
    db_tx_begin(session);
    struct db_stmt *q = db_stmt(session, SQL_POLICY_DELETE);
    db_bind_uuid(q, &fixture.organization_id);
    db_bind_uuid(q, &policy_id);
    assert_int_equal(db_run_command(q, NULL, &error), FORGE_OK);
    return session;
}

/* Calls whose count fails make no room for others, whether PostgreSQL said so or nobody knows. */
static void test_what_cannot_be_counted_gives_nothing_back(void **state)
{
    static const struct policy_rate_rule told = {.name = "told", .window_s = WINDOW_S, .calls_max = 2},
                                         lost = {.name = "lost", .window_s = WINDOW_S, .calls_max = 2};
    struct forge_arena arena;
    int64_t retry_after_ms;
    (void)state;
    forge_arena_init(&arena, CALL_BYTES_MAX, NULL);
    struct db_session *session = delete_policy(&arena);
    for (int i = 0; i < 2; i++)
        assert_int_equal(try_to_take(0, &told, "told", 0, leave, &retry_after_ms), FORGE_UNAVAILABLE);
    db_pool_release(session);
    forge_arena_done(&arena);
    assert_int_equal(passes(&told, SERVERS), 2);
    for (int i = 0; i < 2; i++)
        assert_int_equal(try_to_take(0, &lost, "lost", 0, end_connection, &retry_after_ms), FORGE_UNAVAILABLE);
    assert_int_equal(passes(&lost, SERVERS), 2);
}

struct late_taker {
    forge_code code;
    int64_t retry_after_ms;
};

static void *take_late(void *user)
{
    static const struct policy_rate_rule rule = {.name = "late", .window_s = WINDOW_S, .calls_max = 2};
    struct late_taker *taker = user;
    taker->code = try_to_take(0, &rule, "late", 0, leave, &taker->retry_after_ms);
    return NULL;
}

/* A call is counted while its policy goes: it passes, as the next one does. The last test. */
static void test_a_policy_that_goes_meanwhile_fails_no_call(void **state)
{
    struct forge_arena arena;
    struct forge_error error = {0};
    struct late_taker taker = {.code = FORGE_INTERNAL};
    pthread_t thread;
    bool unknown;
    (void)state;
    forge_arena_init(&arena, CALL_BYTES_MAX, NULL);
    struct db_session *session = delete_policy(&arena);
    assert_int_equal(pthread_create(&thread, NULL, take_late, &taker), 0);
    while (rpc_fixture_number(&fixture, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'forge_app' AND wait_event_type = 'Lock'") ==
           0)
        continue;
    assert_int_equal(db_tx_commit(session, &unknown, &error), FORGE_OK);
    db_pool_release(session);
    pthread_join(thread, NULL);
    forge_arena_done(&arena);
    assert_int_equal(taker.code, FORGE_OK);
    assert_int_equal(taker.retry_after_ms, 0);
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT count(*) FROM rate_windows"), 0);
}

/* A server whose clock is ahead: what it counts does not hide what others count now. */
static void test_a_clock_ahead_hides_nothing(void **state)
{
    static const struct policy_rate_rule rule = {.name = "ahead", .window_s = WINDOW_S, .calls_max = 2};
    int64_t now = now_us;
    (void)state;
    now_us += (WINDOW_S + WINDOW_S / 30) * second_us; /* as many sub-windows as are remembered */
    assert_int_equal(take(1, &rule, "ahead", 0), 0);
    now_us = now;
    assert_int_equal(passes(&rule, 1), 1);
    now_us += 4 * WINDOW_S * second_us;
}

static void test_tokens_without_end_are_counted_to_the_end(void **state)
{
    static const struct policy_rate_rule rule = {.name = "huge", .window_s = WINDOW_S, .calls_max = 3, .tokens_max = INT64_MAX};
    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(take(0, &rule, "huge", INT64_MAX), 0);
    assert_true(take(0, &rule, "huge", INT64_MAX) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_minute_has_as_many_calls_as_may_pass),
        cmocka_unit_test(test_those_who_come_again_when_told_pass),
        cmocka_unit_test(test_windows_change_and_end),
        cmocka_unit_test(test_what_cannot_be_counted_gives_nothing_back),
        cmocka_unit_test(test_a_clock_ahead_hides_nothing),
        cmocka_unit_test(test_tokens_without_end_are_counted_to_the_end),
        cmocka_unit_test(test_a_policy_that_goes_meanwhile_fails_no_call),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
