#include "support/plan_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "db/migrate.h"
#include "support/pg_cluster.h"

#include <jansson.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEW_ROWS = 4 };

const char *const plan_mode_names[] = {[PLAN_CUSTOM] = "force_custom_plan", [PLAN_GENERIC] = "force_generic_plan"};

static struct pg_cluster *cluster;
static PGconn *app;
static bool is_prepared[SQL_COUNT];

/* ---- the database ---- */

void plan_fixture_open(const char *const *commands)
{
    struct forge_error error = {0};
    char folder[4096];
    cluster = pg_cluster_new(NULL);
    pg_cluster_create_roles(cluster);
    const char *database = pg_cluster_create_database(cluster, "forge_owner");
    snprintf(folder, sizeof folder, "%s/migrations", getenv("FORGE_SOURCE_DIR"));
    if (db_migrate_upgrade(pg_cluster_url(cluster, "forge_owner", database), folder, "head", NULL, NULL, &error) != FORGE_OK)
        fail_msg("%s", error.message);
    for (; *commands != NULL; commands++)
        pg_cluster_execute(cluster, "postgres", database, *commands);
    pg_cluster_execute(cluster, "postgres", database, "VACUUM ANALYZE");
    app = PQconnectdb(pg_cluster_url(cluster, "forge_app", database));
    plan_fixture_execute("SET forge.organization_id = " HOME);
}

void plan_fixture_close(void)
{
    PQfinish(app);
    pg_cluster_free(cluster);
}

void plan_fixture_execute(const char *sql)
{
    PGresult *result = PQexec(app, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(app));
    PQclear(result);
}

static void prepare(enum sql_id id)
{
    if (is_prepared[id])
        return;
    PGresult *result = PQprepare(app, sql_statements[id].name, sql_statements[id].text, 0, NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s", PQresultErrorMessage(result));
    PQclear(result);
    is_prepared[id] = true;
}

/* ---- plans ---- */

static double number(const json_t *node, const char *name)
{
    return json_number_value(json_object_get(node, name));
}

/* Tables of a few rows. */
static bool is_small(const char *table)
{
    static const char *const small[] = {"projects", "tags", "ai_models", "label_gates", "evaluations"};
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++)
        if (strcmp(table, small[i]) == 0)
            return true;
    return false;
}

static bool is_day(const char *table)
{
    return strncmp(table, "spans_", 6) == 0;
}

/* A day without spans is read from end to end as well as by an index: nothing is there. */
static bool is_walk(const json_t *node, const char *table, enum plan_mode mode)
{
    if (strcmp(json_string_value(json_object_get(node, "Node Type")), "Seq Scan") != 0 || is_small(table))
        return false;
    if (is_day(table))
        return number(node, "Actual Rows") + number(node, "Rows Removed by Filter") > FEW_ROWS;
    return mode == PLAN_GENERIC || number(node, "Actual Loops") > 0;
}

static void day_add(struct plan_reading *reading, const char *table)
{
    for (size_t i = 0; i < reading->day_count; i++)
        if (strcmp(reading->days[i], table) == 0)
            return;
    assert_in_range(reading->day_count, 0, PLAN_DAYS_MAX - 1);
    snprintf(reading->days[reading->day_count++], sizeof reading->days[0], "%s", table);
}

/* Adds up the scans of tables below a node. */
static void node_read(const json_t *node, enum plan_mode mode, struct plan_reading *out)
{
    const char *table = json_string_value(json_object_get(node, "Relation Name"));
    size_t index;
    const json_t *child;
    if (table != NULL) {
        if (is_walk(node, table, mode))
            fail_msg("%s is read from end to end", table);
        if (number(node, "Actual Loops") > 0 && is_day(table))
            day_add(out, table);
        out->rows +=
            (number(node, "Actual Rows") + number(node, "Rows Removed by Filter") + number(node, "Rows Removed by Index Recheck")) *
            number(node, "Actual Loops");
    }
    json_array_foreach(json_object_get(node, "Plans"), index, child) node_read(child, mode, out);
}

struct plan_reading plan_read(enum plan_mode mode, enum sql_id id, const char *arguments)
{
    char sql[2048];
    struct plan_reading reading = {0};
    prepare(id);
    snprintf(sql, sizeof sql, "SET plan_cache_mode = %s", plan_mode_names[mode]);
    plan_fixture_execute(sql);
    snprintf(sql, sizeof sql, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE %s (" HOME ", %s)", sql_statements[id].name, arguments);
    PGresult *result = PQexec(app, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQresultErrorMessage(result));
    json_t *root = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
    assert_non_null(root);
    const json_t *top = json_object_get(json_array_get(root, 0), "Plan");
    node_read(top, mode, &reading);
    reading.buffers = number(top, "Shared Hit Blocks") + number(top, "Shared Read Blocks");
    reading.found = number(top, "Actual Rows");
    json_decref(root);
    PQclear(result);
    return reading;
}

void plan_expect(enum sql_id id, const char *arguments, unsigned found, unsigned rows_max, unsigned buffers_max, unsigned days)
{
    for (enum plan_mode mode = PLAN_CUSTOM; mode < PLAN_MODES; mode++) {
        const struct plan_reading reading = plan_read(mode, id, arguments);
        if (reading.found != found || reading.rows > rows_max || reading.buffers > buffers_max || reading.day_count != days)
            fail_msg("%s, %s (%s) finds %.0f (%u), reads %.0f rows (at most %u) and %.0f buffers (at most %u) of %zu days (%u)",
                     plan_mode_names[mode], sql_statements[id].name, arguments, reading.found, found, reading.rows, rows_max,
                     reading.buffers, buffers_max, reading.day_count, days);
    }
}
