/* Fault 10: the cluster is lost. A backup is restored into a new one, by deploy/local/backup and restore and by plain pg_dump and psql:
 * every table has the same rows, the schema is the same, and the server goes on where it was, replies to repeated writes included. */
#include "writes.h"

#include "wire/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SAMPLES = 20, CALL_MS = 5000, LINE_SIZE = 2048, TABLES_MIN = 50 };

struct sample {
    struct fault_write write;
    uint8_t *reply;
    size_t size;
};

static struct world world;
static struct pg_cluster *new_cluster;
static struct sample samples[SAMPLES];
static long versions, keys;
static char dump[512], key[512];

/* ---- the old home ---- */

static void write_one(struct forge_channel *channel, enum fault_write_kind kind, struct sample *sample)
{
    struct fault_write write;
    struct forge_error error;
    struct forge_reply_info info;
    ProtobufCMessage *reply;
    fault_write_init(&write, kind, world.home.prompt_id);
    uint64_t give_up_ms = forge_clock_monotonic_ms() + (uint64_t)CALL_MS * fault_time_factor();
    forge_code code = fault_write_finish(channel, &write, CALL_MS * fault_time_factor(), give_up_ms, &reply, &info, &error);
    world_check(&world, "a write", code, &error);
    if (sample) {
        sample->write = write;
        sample->reply = fault_reply_pack(reply, &sample->size);
    }
    protobuf_c_message_free_unpacked(reply, NULL);
    versions += kind == FAULT_WRITE_VERSION;
    keys += kind == FAULT_WRITE_KEY;
}

static void fill(void)
{
    long goal = fault_is_full() ? 20000 : 400;
    struct forge_channel *channel = world_channel(&world, 0, world.home.session_token);
    world_execute(&world, "SELECT nextval('executions_id_seq'), nextval('executions_id_seq')");
    for (long i = 0; i < goal; i++)
        write_one(channel, i % 2 ? FAULT_WRITE_KEY : FAULT_WRITE_VERSION, i < SAMPLES ? &samples[i] : NULL);
    forge_channel_close(channel);
}

/* ---- commands ---- */

static char *shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Runs a shell line in the folder of the old home; it must succeed and complain of nothing. Its output; free(). */
static char *shell(const char *format, ...)
{
    char line[LINE_SIZE], programs[512];
    const char *folder = getenv("PG_BINDIR");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    snprintf(programs, sizeof programs, "PG_BINDIR=%s", folder ? folder : "");
    const char *const words[] = {"-c", line, NULL}, *const environment[] = {programs, NULL};
    struct child_output output;
    child_run("/bin/sh", words, environment, forged_world_folder(world.files), &output);
    if (output.exit_code || output.err[0])
        fail_msg("%s\nended with %d:\n%s%s", line, output.exit_code, output.out, output.err);
    free(output.err);
    return output.out;
}

/* An empty database in the new cluster, with roles and a settings file in a folder of its own below the old home's. */
static void new_home(const char *name)
{
    free(shell("mkdir %s && cd %s && '%s/bin/forged' bootstrap roles --database-superuser-url '%s' --database-name %s --env-file .env"
               " --key-file \"$PWD/forge.key\"",
               name, name, getenv("FORGE_BINARY_DIR"), pg_cluster_url(new_cluster, "postgres", "postgres"), name));
}

static void take_line(char **rest, char *out, size_t size)
{
    const char *line = strsep(rest, "\n");
    snprintf(out, size, "%s", line ? line : "");
}

/* ---- comparing ---- */

/* One row of text: how many rows the table has, and a hash of them all. */
static const char *table_hash(struct pg_cluster *cluster, const char *database, const char *table)
{
    char sql[1024];
    snprintf(
        sql, sizeof sql,
        "SELECT count(*) || ' ' || coalesce(encode(sha256(convert_to(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\"), 'UTF8')),"
        " 'hex'), '') FROM %s t",
        table);
    return pg_cluster_query(cluster, "postgres", database, sql);
}

/* Rows of the old table that are not in the new one, and the other way round. True when both hold the same. */
static bool compare_table(const char *table, const char *database, struct fault_count *count, long *rows)
{
    const char *old = table_hash(world.cluster, world.database, table), *new = table_hash(new_cluster, database, table);
    long old_rows = atol(old), new_rows = atol(new);
    *rows += old_rows;
    count->lost += old_rows > new_rows ? old_rows - new_rows : 0;
    count->duplicated += new_rows > old_rows ? new_rows - old_rows : 0;
    if (strcmp(old, new) != 0)
        fprintf(stderr, "%s: %s became %s\n", table, old, new);
    return strcmp(old, new) == 0;
}

static bool compare_tables(const char *database, struct fault_count *count, long *rows, unsigned *tables)
{
    char *names =
        strdup(pg_cluster_query(world.cluster, "postgres", world.database,
                                "SELECT string_agg(format(CASE relkind WHEN 'S' THEN '(SELECT last_value, is_called FROM %I.%I)' ELSE "
                                "'%I.%I' END, nspname, relname),"
                                " E'\\n' ORDER BY nspname, relname) FROM pg_class JOIN pg_namespace n"
                                " ON n.oid = relnamespace WHERE relkind IN ('r', 'S') AND nspname !~ '^pg_|^information_schema$'"));
    bool same = true;
    assert_non_null(names);
    for (char *rest = names, *table; (table = strsep(&rest, "\n"));) {
        same &= compare_table(table, database, count, rows);
        ++*tables;
    }
    free(names);
    return same;
}

/* Prints what differs. */
static bool schema_is_same(const char *database)
{
    static const char line[] = "${PG_BINDIR:+$PG_BINDIR/}pg_dump -s --restrict-key=x '%s' > %s.schema";
    free(shell(line, pg_cluster_url(world.cluster, "postgres", world.database), "old"));
    free(shell(line, pg_cluster_url(new_cluster, "postgres", database), "new"));
    char *difference = shell("grep -q 'CREATE TABLE' old.schema || echo no table; diff old.schema new.schema || true");
    fputs(difference, stderr);
    bool same = difference[0] == '\0';
    free(difference);
    return same;
}

static void check(const char *id, const char *what, const char *database)
{
    struct fault_count count = {0};
    long rows = 0;
    unsigned tables = 0;
    bool same = compare_tables(database, &count, &rows, &tables);
    same &= schema_is_same(database);
    bool ok = same && tables >= TABLES_MIN && rows > versions + keys && count.lost == 0 && count.duplicated == 0;
    fprintf(stderr, "%s: %u tables, %ld rows\n", what, tables, rows);
    fault_report(id, what, rows, count, 0, "counts and hashes of every table the same", ok);
    assert_true(ok);
}

/* ---- tests ---- */

static atomic_bool stopping;

static void *write_on(void *argument)
{
    struct forge_channel *channel = argument;
    for (long i = 0; !atomic_load(&stopping); i++)
        write_one(channel, i % 2 ? FAULT_WRITE_KEY : FAULT_WRITE_VERSION, NULL);
    return NULL;
}

/* A backup is one moment: everything acknowledged before it began, and of what was written meanwhile whole writes only. */
static void test_backup_while_writes_go_on(void **state)
{
    const char *source = getenv("FORGE_SOURCE_DIR");
    struct forge_channel *channel = world_channel(&world, 0, world.home.session_token);
    long versions_before = versions, keys_before = keys;
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, write_on, channel), 0);
    free(shell("'%s/deploy/local/backup' --env-file .env --folder online", source));
    atomic_store(&stopping, true);
    pthread_join(writer, NULL);
    forge_channel_close(channel);
    assert_true(versions > versions_before && keys > keys_before);
    new_home("online_restored");
    free(shell("'%s/deploy/local/restore' --env-file online_restored/.env online/*.sql online/*.key", source));

    struct world restored = world;
    restored.superuser_url = pg_cluster_url(new_cluster, "postgres", "online_restored");
    long restored_versions = world_number(&restored, "SELECT count(*) FROM prompt_versions WHERE content LIKE 'write %%'");
    long restored_keys = world_number(&restored, "SELECT count(*) FROM api_keys WHERE name LIKE 'write %%'");
    struct fault_count count = fault_count(&restored, restored_versions, restored_keys);
    count.lost += (restored_versions < versions_before ? versions_before - restored_versions : 0) +
                  (restored_keys < keys_before ? keys_before - restored_keys : 0);
    bool ok = count.lost == 0 && count.duplicated == 0 && restored_versions <= versions && restored_keys <= keys;
    fprintf(stderr, "backup during %ld writes\n", versions - versions_before + keys - keys_before);
    fault_report("10-online", "a backup while writes go on, restored into a new cluster", versions + keys, count, 0,
                 "acknowledged before it: all there; during it: whole or not at all", ok);
    assert_true(ok);
}

static void test_backup_and_restore_keep_every_row(void **state)
{
    const char *source = getenv("FORGE_SOURCE_DIR");
    world_server_stop(&world, 0);
    char *paths = shell("'%s/deploy/local/backup' --env-file .env --folder dumps --key-folder keys", source), *rest = paths;
    take_line(&rest, dump, sizeof dump);
    take_line(&rest, key, sizeof key);
    free(paths);
    new_home("restored");
    free(shell("'%s/deploy/local/restore' --env-file restored/.env '%s' '%s' && cmp forge.key restored/forge.key", source, dump, key));
    check("10", "deploy/local/backup, restore into a new cluster", "restored");
}

static void test_plain_pg_dump_and_psql_keep_every_row(void **state)
{
    new_home("plain");
    free(shell("url() { sed -n \"s/^$2=//p\" $1/.env; }; "
               "${PG_BINDIR:+$PG_BINDIR/}pg_dump \"$(url . DATABASE_BACKUP_URL)\" > backup.sql && "
               "${PG_BINDIR:+$PG_BINDIR/}psql \"$(url plain DATABASE_OWNER_URL)\" < backup.sql"));
    check("10-plain", "pg_dump > backup.sql, psql < backup.sql into a new cluster", "plain");
}

/* Replies that differ from the ones before the backup, or were not answered from the store. */
static long replay(struct forge_channel *channel)
{
    long different = 0;
    for (int i = 0; i < SAMPLES; i++) {
        struct forge_error error;
        struct forge_reply_info info;
        ProtobufCMessage *reply;
        size_t size;
        forge_code code = fault_write_send(channel, &samples[i].write, CALL_MS * fault_time_factor(), &reply, &info, &error);
        world_check(&world, "a write from before the backup", code, &error);
        uint8_t *packed = fault_reply_pack(reply, &size);
        different += !info.replayed || size != samples[i].size || memcmp(packed, samples[i].reply, size) != 0;
        protobuf_c_message_free_unpacked(reply, NULL);
        free(packed);
    }
    return different;
}

/* Sessions, sealed replies and exactly once: what came before the backup counts after it. */
static void test_the_restored_home_goes_on(void **state)
{
    char folder[512];
    snprintf(folder, sizeof folder, "%s/restored", forged_world_folder(world.files));
    const char *const flags[] = {"serve",
                                 "--mode",
                                 "development",
                                 "--listen-host",
                                 "127.0.0.1",
                                 "--listen-port",
                                 "0",
                                 "--http-port",
                                 "0",
                                 "--tls-certificate-file",
                                 tls_files_path(forged_world_tls(world.files), "server.pem"),
                                 "--tls-key-file",
                                 tls_files_path(forged_world_tls(world.files), "server.key"),
                                 NULL};
    struct forged_child *child = forged_child_start(folder, flags, NULL);
    forged_child_wait_ready(child);
    struct forge_channel *channel = world_channel_to(&world, forged_child_address(child), world.home.session_token);
    long different = replay(channel);
    write_one(channel, FAULT_WRITE_VERSION, NULL);
    write_one(channel, FAULT_WRITE_KEY, NULL);
    forge_channel_close(channel);
    forged_child_stop(child);
    world.database = "restored";
    world.superuser_url = pg_cluster_url(new_cluster, "postgres", "restored");
    struct fault_count count = fault_count(&world, versions, keys);
    count.duplicated += different;
    bool ok = count.lost == 0 && count.duplicated == 0;
    fault_report("10-serve", "writes of before the backup, repeated after the restore", SAMPLES, count, 0,
                 "replies byte for byte, no second effect", ok);
    assert_true(ok);
}

static int set_up(void **state)
{
    world_open(&world, NULL);
    fill();
    new_cluster = pg_cluster_new(NULL);
    return 0;
}

static int tear_down(void **state)
{
    char command[600];
    for (int i = 0; i < SAMPLES; i++)
        free(samples[i].reply);
    snprintf(command, sizeof command, "cd '%s' && rm -rf dumps keys online online_restored restored plain backup.sql old.schema new.schema",
             forged_world_folder(world.files));
    int failed = system(command);
    pg_cluster_free(new_cluster);
    world_close(&world);
    return failed;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backup_while_writes_go_on),
        cmocka_unit_test(test_backup_and_restore_keep_every_row),
        cmocka_unit_test(test_plain_pg_dump_and_psql_keep_every_row),
        cmocka_unit_test(test_the_restored_home_goes_on),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
