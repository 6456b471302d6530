/* Maintenance passes on a real database, at times of the test's choice: partitions of stored replies, retention, removal of what was marked
 * deleted; and the passes that servers make by themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "db/maintain.h"
#include "support/world.h"
#include "wire/clock.h"
#include "wire/uuid.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t SECOND_US = INT64_C(1000000), DAY_US = INT64_C(86400000000);

static struct world world;

static int open_world(void **state)
{
    static const char *const flags[] = {"--database-maint-url", "", NULL}; /* passes are the tests' to make */
    const struct world_options options = {.flags = flags};
    world_open(&world, &options);
    return 0;
}

static int close_world(void **state)
{
    world_close(&world);
    return 0;
}

static struct db_maintain_report pass_at(int64_t now_us)
{
    const struct db_maintain_config config = {.url = pg_cluster_url(world.cluster, "forge_maint", world.database), .now_us = now_us};
    struct db_maintain_report report;
    struct forge_error error = {0};
    if (db_maintain(&config, &report, &error) != FORGE_OK)
        fail_msg("%s", error.message);
    assert_true(report.is_leader);
    return report;
}

/* 20:00 UTC of the day so many days from now. */
static int64_t evening(int days)
{
    int64_t now_us = forge_clock_wall_us();
    return now_us - now_us % DAY_US + days * DAY_US + INT64_C(20) * 3600 * SECOND_US;
}

static int64_t partitions(void)
{
    return world_number(&world, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'idempotency'::regclass");
}

/* ---- partitions ---- */

enum { REPLY_DAYS = 3, SPAN_DAYS = 9 /* yesterday to a week ahead */ };

static void test_partitions_are_made_ahead_with_row_level_security(void **state)
{
    assert_int_equal(partitions(), 1); /* the default one */
    assert_int_equal(pass_at(evening(0)).partitions_made, REPLY_DAYS + SPAN_DAYS);
    assert_int_equal(pass_at(evening(0)).partitions_made, 0);
    assert_int_equal(partitions(), 4);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'spans'::regclass"), SPAN_DAYS);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_policy p"
                                          " ON p.polrelid = c.oid AND p.polname = 'tenant' WHERE i.inhparent IN ('idempotency'::regclass,"
                                          " 'spans'::regclass) AND c.relrowsecurity AND c.relforcerowsecurity"),
                     1 + REPLY_DAYS + SPAN_DAYS);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname ="
                                          " 'forge_partitions' AND has_table_privilege('forge_app', c.oid, 'SELECT, INSERT, UPDATE')"),
                     0);
}

/* A day that accepted ids may reach already stays with the default partition. */
static void test_no_partition_is_made_for_a_day_that_is_about_to_begin(void **state)
{
    int64_t before_midnight = evening(10) + 12600 * SECOND_US; /* 23:30 */
    assert_int_equal(pass_at(before_midnight).partitions_made, REPLY_DAYS - 1 + SPAN_DAYS);
    assert_int_equal(pass_at(before_midnight - 3600 * SECOND_US).partitions_made, 1);
}

static void insert_reply(int64_t id_us, const char *principal)
{
    struct forge_uuid id = {0};
    char text[FORGE_UUID_TEXT_SIZE];
    for (int i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)((uint64_t)(id_us / 1000) >> (40 - 8 * i));
    id.bytes[6] = 0x70;
    forge_uuid_format(&id, text);
    world_execute(&world,
                  "INSERT INTO idempotency (organization_id, principal_id, request_id, method, key_id, request_hash, created_at)"
                  " VALUES ('%s', '%s', '%s', 'm', 1, '\\x00', to_timestamp(%" PRId64 "))",
                  world.home.organization_id, principal, text, id_us / SECOND_US);
}

/* Rows go with their day, 48 hours after its end, and not before; those of the default partition each by its own age. */
static void test_stored_replies_go_after_48_hours(void **state)
{
    static const char principal[] = "00000000-0000-7000-8000-00000000aaaa";
    int64_t base = evening(20), day = base + DAY_US, late = base - base % DAY_US + 2 * DAY_US; /* late: the end of tomorrow */
    pass_at(base);
    insert_reply(base, principal);
    insert_reply(day, principal);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM forge_partitions.idempotency_default WHERE principal_id = '%s'", principal),
                     1);
    pass_at(base + 2 * DAY_US - SECOND_US);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM idempotency WHERE principal_id = '%s'", principal), 2);
    pass_at(base + 2 * DAY_US + SECOND_US); /* that of the default partition is 48 h old */
    assert_int_equal(world_number(&world, "SELECT count(*) FROM idempotency WHERE principal_id = '%s'", principal), 1);
    pass_at(late + 2 * DAY_US - SECOND_US);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM idempotency WHERE principal_id = '%s'", principal), 1);
    assert_true(pass_at(late + 2 * DAY_US).partitions_dropped >= 1);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM idempotency WHERE principal_id = '%s'", principal), 0);
}

/* A session of another program; PQfinish ends it. */
static PGconn *session(const char *role, const char *sql)
{
    PGconn *conn = PQconnectdb(pg_cluster_url(world.cluster, role, world.database));
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s", PQerrorMessage(conn));
    PQclear(result);
    return conn;
}

/* An open write holds the lock that dropping needs: the pass leaves the partitions and succeeds; the next one drops them. */
static void test_a_lock_that_is_held_is_left_to_the_next_pass(void **state)
{
    pass_at(evening(40));
    PGconn *writer = session("postgres", "BEGIN; LOCK TABLE idempotency IN ROW EXCLUSIVE MODE");
    int64_t later = evening(50);
    assert_int_equal(pass_at(later).partitions_dropped, 0);
    PQfinish(writer);
    assert_true(pass_at(later).partitions_dropped >= 3);
}

/* ---- removal ---- */

/* Rows of traces and policies: more than a batch of those that may be many. */
static void fill_traces(const char *organization_id, const char *project_id)
{
    world_execute(
        &world,
        "INSERT INTO retention_settings (organization_id, project_id, trace_days) VALUES ('%1$s', '%2$s', 7);"
        " INSERT INTO spans (organization_id, project_id, trace_id, span_id, started_at, name, kind, start_ns, end_ns, status,"
        " content_hash) SELECT '%1$s', '%2$s', decode(lpad(to_hex(n), 32, '0'), 'hex'), decode(lpad(to_hex(n), 16, '0'), 'hex'),"
        " now(), 'step', 1, 0, 0, 1, '' FROM generate_series(1, 6000) n;"
        " WITH s AS (INSERT INTO scores (organization_id, id, project_id, target_kind, target, name, author, source, flag)"
        " VALUES ('%1$s', gen_random_uuid(), '%2$s', 'trace', 't', 'good', 'me', 'human', true) RETURNING organization_id, id,"
        " project_id) INSERT INTO score_history (organization_id, id, score_id, project_id, name, author, source, flag, changed_at,"
        " replaced_at) SELECT organization_id, gen_random_uuid(), id, project_id, 'good', 'me', 'human', true, now(), now() FROM s,"
        " generate_series(1, 6000)",
        organization_id, project_id);
    world_execute(
        &world,
        "WITH p AS (INSERT INTO policies (organization_id, id, project_id, name, draft_hash, created_by) VALUES ('%1$s', gen_random_uuid(),"
        " '%2$s', 'own', '', '%2$s'), ('%1$s', gen_random_uuid(), NULL, 'all of %2$s', '', '%2$s') RETURNING *), v AS (INSERT INTO"
        " policy_versions (organization_id, policy_id, version, mode, rules, content_hash, published_by) SELECT organization_id, id, 1,"
        " 'enforce', '[]', sha256(''), id FROM p WHERE project_id IS NOT NULL), a AS (INSERT INTO policy_attachments (organization_id,"
        " policy_id, position, target_kind, project_id) SELECT organization_id, id, 0, 'project', '%2$s' FROM p), w AS (INSERT INTO"
        " rate_windows (organization_id, policy_id, rule, key, window_start) SELECT organization_id, id, 'r', n::text, now() FROM p,"
        " generate_series(1, 6000) n WHERE project_id IS NOT NULL), s AS (INSERT INTO policy_daily_stats (organization_id, policy_id,"
        " project_id, day) SELECT organization_id, id, '%2$s', date '2001-01-01' + n FROM p, generate_series(1, 6000) n)"
        " INSERT INTO policy_violations (organization_id, id, project_id, policy_id, policy_version, policy_name, rule, action, severity,"
        " mode, stage, message, actor_id, finding_hash) SELECT organization_id, gen_random_uuid(), '%2$s', id, 1, name, 'r', 'flag', 1,"
        " 'enforce', 'input', 'found', id, sha256((n || name)::bytea) FROM p, generate_series(1, 3000) n",
        organization_id, project_id);
}

/* A project with a prompt that has versions, tags, executions and history, and rows in tables of later services. */
static void fill_project(const char *organization_id, const char *project_id)
{
    world_execute(&world, "INSERT INTO projects (organization_id, id, name) VALUES ('%s', '%s', 'removed')", organization_id, project_id);
    world_execute(&world,
                  "WITH p AS (INSERT INTO prompts (organization_id, id, project_id, name, current_version, newest_version) SELECT '%s',"
                  " gen_random_uuid(), '%s', 'p' || n, 1, 1 FROM generate_series(1, 30) n RETURNING organization_id, id)"
                  " INSERT INTO prompt_versions (organization_id, prompt_id, version, content, content_hash, content_bytes)"
                  " SELECT organization_id, id, v, 'x', sha256((id::text || v)::bytea), 1 FROM p, generate_series(1, 3) v",
                  organization_id, project_id);
    world_execute(
        &world,
        "INSERT INTO executions (organization_id, prompt_id, version) SELECT organization_id, id, 1 FROM prompts,"
        " generate_series(1, 400) WHERE project_id = '%s'; INSERT INTO prompt_words (organization_id, project_id, word, prompt_id)"
        " SELECT organization_id, project_id, 'word', id FROM prompts WHERE project_id = '%s';"
        " INSERT INTO label_history (organization_id, id, prompt_id, label, actor_id) SELECT organization_id, gen_random_uuid(), id,"
        " 'current', id FROM prompts WHERE project_id = '%s'",
        project_id, project_id, project_id);
    world_execute(&world,
                  "INSERT INTO prompt_references (organization_id, prompt_id, version, position, referenced_prompt_id) SELECT"
                  " a.organization_id, a.id, 1, 0, b.id FROM prompts a, prompts b WHERE a.project_id = '%s' AND b.project_id = '%s'"
                  " AND a.name = 'p1' AND b.name = 'p2'",
                  project_id, project_id);
    world_execute(
        &world,
        "WITH d AS (INSERT INTO datasets (organization_id, id, project_id, name) VALUES ('%s', gen_random_uuid(), '%s', 'd')"
        " RETURNING organization_id, id, project_id) INSERT INTO label_gates (organization_id, id, project_id, label, dataset_id,"
        " updated_by) SELECT organization_id, gen_random_uuid(), project_id, 'production', id, id FROM d;"
        " INSERT INTO traces (organization_id, project_id, trace_id, started_at, start_ns, end_ns, duration_ns, status, span_count,"
        " error_count) SELECT '%s', '%s', decode(lpad(to_hex(n), 32, '0'), 'hex'), now(), 0, 0, 0, 0, 1, 0"
        " FROM generate_series(1, 6000) n",
        organization_id, project_id, organization_id, project_id);
    fill_traces(organization_id, project_id);
}

/* Without its usage, which a server may be writing just now. */
static int64_t rows_of_organization(const char *organization_id)
{
    return world_number(
        &world,
        "SELECT sum((xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %%s WHERE organization_id ="
        " ''%s''', c.oid::regclass), false, true, '')))[1]::text::bigint) FROM pg_class c JOIN pg_attribute a ON a.attrelid ="
        " c.oid AND a.attname = 'organization_id' WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
        " AND c.relname NOT IN ('audit_log', 'organization_names', 'idempotency', 'changes', 'usage_daily')",
        organization_id);
}

static void test_a_deleted_project_is_removed_in_batches(void **state)
{
    static const char project_id[] = "00000000-0000-7000-8000-0000000000b1";
    int64_t before = rows_of_organization(world.home.organization_id);
    fill_project(world.home.organization_id, project_id);
    struct db_maintain_report report = pass_at(forge_clock_wall_us());
    assert_int_equal(report.projects_removed, 0);
    assert_int_equal(report.rows_removed, 0);
    world_execute(&world, "UPDATE projects SET deleted_at = now() WHERE id = '%s'", project_id);
    report = pass_at(forge_clock_wall_us());
    assert_int_equal(report.projects_removed, 1);
    assert_true(report.rows_removed > 30 * 400 + 6000);
    world_execute(&world, "DELETE FROM policies WHERE name = 'all of %s'", project_id); /* the organization's, and stays */
    assert_int_equal(rows_of_organization(world.home.organization_id), before);
    assert_int_equal(pass_at(forge_clock_wall_us()).projects_removed, 0);
}

static void test_a_deleted_organization_is_removed_but_for_its_audit_log(void **state)
{
    static const char project_id[] = "00000000-0000-7000-8000-0000000000b2";
    const char *organization_id = world.foreign.organization_id;
    int64_t home = rows_of_organization(world.home.organization_id);
    int64_t audit = world_number(&world, "SELECT count(*) FROM audit_log WHERE organization_id = '%s'", organization_id);
    assert_true(audit > 0);
    fill_project(organization_id, project_id);
    world_execute(&world,
                  "INSERT INTO usage_daily (organization_id, day, project_id, metric, value) VALUES ('%s', '2001-01-01', '%s', 'calls', 1)",
                  organization_id, project_id);
    world_execute(&world,
                  "UPDATE organizations SET deleted_at = now() WHERE organization_id = '%s';"
                  " UPDATE organization_names SET deleted_at = now() WHERE organization_id = '%s'",
                  organization_id, organization_id);
    struct db_maintain_report report = pass_at(forge_clock_wall_us());
    assert_int_equal(report.organizations_removed, 1);
    assert_int_equal(rows_of_organization(organization_id), 0);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM usage_daily WHERE organization_id = '%s'", organization_id), 0);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM audit_log WHERE organization_id = '%s'", organization_id), audit);
    assert_int_equal(rows_of_organization(world.home.organization_id), home);
    assert_int_equal(pass_at(forge_clock_wall_us()).organizations_removed, 0);
}

/* ---- two at once, and servers ---- */

static void test_of_two_passes_one_leads(void **state)
{
    const struct db_maintain_config config = {.url = pg_cluster_url(world.cluster, "forge_maint", world.database), .now_us = evening(100)};
    struct db_maintain_report report;
    struct forge_error error = {0};
    PGconn *leader = session("forge_maint", "SELECT pg_advisory_lock(7382052301653666420)");
    assert_int_equal(db_maintain(&config, &report, &error), FORGE_OK);
    assert_false(report.is_leader);
    assert_int_equal(report.partitions_made, 0);
    PQfinish(leader);
    assert_int_equal(pass_at(config.now_us).partitions_made, REPLY_DAYS + SPAN_DAYS);
}

static atomic_bool stop;
static struct db_maintain_report stopped;

static void *make_pass_that_is_stopped(void *argument)
{
    const struct db_maintain_config config = {.url = argument, .now_us = forge_clock_wall_us(), .stop = &stop};
    struct forge_error error = {0};
    return db_maintain(&config, &stopped, &error) == FORGE_OK ? NULL : argument;
}

/* Stopped between two batches, as by a kill: what is gone is gone, and the next pass goes on. */
static void test_a_stopped_pass_is_continued(void **state)
{
    static const char project_id[] = "00000000-0000-7000-8000-0000000000b3";
    int64_t before = rows_of_organization(world.home.organization_id);
    pthread_t thread;
    void *failed;
    fill_project(world.home.organization_id, project_id);
    world_execute(&world, "UPDATE projects SET deleted_at = now() WHERE id = '%s'", project_id);
    /* Holds back the step behind the traces. */
    PGconn *holder = session("postgres", "BEGIN; LOCK TABLE scores IN ACCESS EXCLUSIVE MODE");
    char *url = strdup(pg_cluster_url(world.cluster, "forge_maint", world.database));
    assert_int_equal(pthread_create(&thread, NULL, make_pass_that_is_stopped, url), 0);
    while (world_number(&world, "SELECT count(*) FROM traces WHERE project_id = '%s'", project_id) > 0)
        world_sleep_ms(1);
    atomic_store(&stop, true);
    PQfinish(holder);
    pthread_join(thread, &failed);
    free(url);
    assert_int_equal(stopped.projects_removed, 0);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM projects WHERE id = '%s'", project_id), 1);
    assert_int_equal(pass_at(forge_clock_wall_us()).projects_removed, 1);
    world_execute(&world, "DELETE FROM policies WHERE name = 'all of %s'", project_id);
    assert_int_equal(rows_of_organization(world.home.organization_id), before);
}

/* A server makes passes by itself, and goes on answering meanwhile. */
static void test_a_server_makes_passes(void **state)
{
    static const char *const flags[] = {"--maintenance-interval", "100ms", NULL};
    static const char OLD_CHANGES[] = "SELECT count(*) FROM changes WHERE created_at < now() - '1 h'::interval";
    struct forged_child *child = forged_world_serve(world.files, flags);
    world_execute(
        &world,
        "INSERT INTO changes (change_id, organization_id, kind, created_at)"
        " VALUES ('00000000-0000-7000-8000-0000000000c1', '00000000-0000-7000-8000-0000000000c1', 'prompt', now() - '2 h'::interval)");
    char *body = NULL;
    for (int waits = 0; waits < 3000 && world_number(&world, OLD_CHANGES) > 0; waits++)
        world_sleep_ms(10);
    assert_int_equal(world_number(&world, OLD_CHANGES), 0);
    for (int waits = 0; waits < 3000 && (!body || !strstr(body, "forged_maintenance_passes_total{outcome=\"done\"}")); waits++) {
        free(body);
        world_sleep_ms(10);
        assert_int_equal(forged_child_http(child, "/metrics", &body), 200);
    }
    assert_null(strstr(body, "forged_maintenance_passes_total{outcome=\"failed\"}"));
    free(body);
    assert_int_equal(forged_child_http(child, "/readyz", &body), 200);
    assert_string_equal(body, "ready\n");
    free(body);
    forged_child_stop(child);
}

static void test_a_server_without_the_url_says_that_maintenance_is_off(void **state)
{
    static const char *const flags[] = {"--database-maint-url", "", NULL};
    struct forged_child *child = forged_world_serve(world.files, flags);
    char *body;
    assert_int_equal(forged_child_http(child, "/readyz", &body), 200);
    assert_string_equal(body, "ready: maintenance is off: DATABASE_MAINT_URL is not set\n");
    free(body);
    forged_child_stop(child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_partitions_are_made_ahead_with_row_level_security),
        cmocka_unit_test(test_no_partition_is_made_for_a_day_that_is_about_to_begin),
        cmocka_unit_test(test_stored_replies_go_after_48_hours),
        cmocka_unit_test(test_a_lock_that_is_held_is_left_to_the_next_pass),
        cmocka_unit_test(test_a_deleted_project_is_removed_in_batches),
        cmocka_unit_test(test_a_deleted_organization_is_removed_but_for_its_audit_log),
        cmocka_unit_test(test_of_two_passes_one_leads),
        cmocka_unit_test(test_a_stopped_pass_is_continued),
        cmocka_unit_test(test_a_server_makes_passes),
        cmocka_unit_test(test_a_server_without_the_url_says_that_maintenance_is_off),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
