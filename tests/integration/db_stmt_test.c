/* Statements, rows and flights against a real PostgreSQL: every type, errors in the middle, deadlines. */
#include "support/db_fixture.h"

#include "db/column.h"
#include "db/tx.h"
#include "wire/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void check_ok(struct db_fixture *f, forge_code rc)
{
    if (rc != FORGE_OK)
        fail_msg("%s: %s (%s)", forge_code_name(rc), f->error.message, f->error.sqlstate);
}

static void test_types_every_one_comes_back(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    struct forge_uuid uuid;
    forge_uuid_v7(&uuid);
    const char *texts[] = {"a", "", "\"{b,\\}"};
    struct db_stmt *q = db_stmt(s, SQL_TEST_TYPES);
    db_bind_uuid(q, &uuid);
    db_bind_text(q, "gr\xc3\xbc\xc3\x9f");
    db_bind_bytes(q, "\0\1\xff", 3);
    db_bind_bool(q, true);
    db_bind_int32(q, -32768);
    db_bind_int32(q, INT32_MIN);
    db_bind_int64(q, INT64_MAX);
    db_bind_time_us(q, 1764000000123456);
    db_bind_text_array(q, texts, 3);
    db_bind_text(q, "{\"a\": 1}");
    db_bind_text(q, "short");
    db_bind_text(q, "[1,  2]");
    db_bind_double(q, -0.1);
    struct db_row row;
    check_ok(f, db_run_one(q, &row, &f->error));
    struct forge_uuid back;
    db_row_uuid(&row, "a_uuid", &back);
    assert_true(forge_uuid_equal(&uuid, &back));
    char text[FORGE_UUID_TEXT_SIZE];
    forge_uuid_format(&uuid, text);
    assert_string_equal(db_row_uuid_text(&row, "a_uuid"), text);
    assert_string_equal(db_row_text(&row, "a_text"), "gr\xc3\xbc\xc3\x9f");
    size_t size = 0;
    uint8_t *bytes = db_row_bytes(&row, "a_bytea", &size);
    assert_int_equal(size, 3);
    assert_memory_equal(bytes, "\0\1\xff", 3);
    assert_true(db_row_bool(&row, "a_bool"));
    assert_int_equal(db_row_int32(&row, "a_smallint"), -32768);
    assert_int_equal(db_row_int64(&row, "a_smallint"), -32768);
    assert_int_equal(db_row_int32(&row, "an_integer"), INT32_MIN);
    assert_true(db_row_int64(&row, "an_integer") == INT32_MIN);
    assert_true(db_row_int64(&row, "a_bigint") == INT64_MAX);
    assert_true(db_row_time_us(&row, "a_time") == 1764000000123456);
    size_t count = 0;
    char **array = db_row_text_array(&row, "a_text_array", &count);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(array[i], texts[i]);
    assert_string_equal(db_row_text(&row, "a_jsonb"), "{\"a\": 1}");
    assert_string_equal(db_row_text(&row, "a_varchar"), "short");
    assert_string_equal(db_row_text(&row, "a_json"), "[1,  2]");
    assert_string_equal(db_row_text(&row, "a_name"), "a_name");
    assert_true(db_row_double(&row, "a_double") == -0.1);
    db_pool_release(s);
    assert_string_equal(array[2], "\"{b,\\}"); /* the arena outlives the session */
}

static void test_types_null_reads_as_nothing(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    struct db_stmt *q = db_stmt(s, SQL_TEST_TYPES);
    db_bind_uuid(q, NULL);
    db_bind_text(q, NULL);
    db_bind_bytes(q, NULL, 0);
    for (int i = 3; i < 13; i++)
        db_bind_null(q);
    struct db_row row;
    check_ok(f, db_run_one(q, &row, &f->error));
    struct forge_uuid uuid;
    size_t size = 99, count = 99;
    db_row_uuid(&row, "a_uuid", &uuid);
    assert_true(forge_uuid_is_nil(&uuid));
    assert_true(db_row_is_null(&row, "a_uuid"));
    assert_false(db_row_is_null(&row, "a_name"));
    assert_null(db_row_uuid_text(&row, "a_uuid"));
    assert_null(db_row_text(&row, "a_text"));
    assert_string_equal(db_row_text_or_empty(&row, "a_text"), "");
    assert_null(db_row_bytes(&row, "a_bytea", &size));
    assert_int_equal(size, 0);
    assert_false(db_row_bool(&row, "a_bool"));
    assert_int_equal(db_row_int32(&row, "an_integer"), 0);
    assert_int_equal(db_row_int64(&row, "a_bigint"), 0);
    assert_int_equal(db_row_time_us(&row, "a_time"), 0);
    assert_null(db_row_text_array(&row, "a_text_array", &count));
    assert_int_equal(count, 0);
    assert_null(db_row_text(&row, "a_jsonb"));
    assert_true(db_row_double(&row, "a_double") == 0);
    assert_true(db_row_is_null(&row, "a_double"));
    db_pool_release(s);
}

static void test_types_empty_is_not_null(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    struct db_stmt *q = db_stmt(s, SQL_TEST_TYPES);
    db_bind_null(q);
    db_bind_text(q, "");
    db_bind_bytes(q, "", 0);
    for (int i = 3; i < 8; i++)
        db_bind_null(q);
    db_bind_text_array(q, NULL, 0);
    for (int i = 9; i < 12; i++)
        db_bind_null(q);
    db_bind_double(q, 0);
    struct db_row row;
    check_ok(f, db_run_one(q, &row, &f->error));
    size_t size = 99, count = 99;
    assert_string_equal(db_row_text(&row, "a_text"), "");
    assert_non_null(db_row_bytes(&row, "a_bytea", &size));
    assert_int_equal(size, 0);
    assert_non_null(db_row_text_array(&row, "a_text_array", &count));
    assert_int_equal(count, 0);
    db_pool_release(s);
}

static void test_types_arrays_arrive_whole(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    const char *texts[300];
    struct forge_uuid uuids[200];
    for (int i = 0; i < 300; i++)
        texts[i] = "text";
    for (int i = 0; i < 200; i++)
        forge_uuid_v7(&uuids[i]);
    struct db_stmt *q = db_stmt(s, SQL_TEST_ARRAY_LENGTHS);
    db_bind_text_array(q, texts, 300);
    db_bind_uuid_array(q, uuids, 200);
    struct db_row row;
    check_ok(f, db_run_one(q, &row, &f->error));
    char second[FORGE_UUID_TEXT_SIZE];
    forge_uuid_format(&uuids[1], second);
    assert_int_equal(db_row_int32(&row, "texts"), 300);
    assert_int_equal(db_row_int32(&row, "uuids"), 200);
    assert_string_equal(db_row_text(&row, "second_uuid"), second);
    q = db_stmt(s, SQL_TEST_ARRAY_LENGTHS);
    db_bind_text_array(q, NULL, 0);
    db_bind_uuid_array(q, NULL, 0);
    check_ok(f, db_run_one(q, &row, &f->error));
    assert_int_equal(db_row_int32(&row, "texts"), 0);
    assert_int_equal(db_row_int32(&row, "uuids"), 0);
    db_pool_release(s);
}

struct column_row {
    int32_t number;
    int64_t big, time_us;
    double real;
    struct forge_uuid id;
    const char *text;
    struct db_bytes bytes;
};

static struct db_rows columns_run(struct db_fixture *f, struct db_session *s, const void *const *rows, size_t count)
{
    struct db_rows out;
    struct db_stmt *q = db_stmt(s, SQL_TEST_COLUMNS);
    db_bind_column(q, DB_MEMBER_INT32, offsetof(struct column_row, number), rows, count);
    db_bind_column(q, DB_MEMBER_INT64, offsetof(struct column_row, big), rows, count);
    db_bind_column(q, DB_MEMBER_DOUBLE, offsetof(struct column_row, real), rows, count);
    db_bind_column(q, DB_MEMBER_TIME_US, offsetof(struct column_row, time_us), rows, count);
    db_bind_column(q, DB_MEMBER_UUID, offsetof(struct column_row, id), rows, count);
    db_bind_column(q, DB_MEMBER_TEXT, offsetof(struct column_row, text), rows, count);
    db_bind_column(q, DB_MEMBER_BYTES, offsetof(struct column_row, bytes), rows, count);
    check_ok(f, db_run_many(q, &out, &f->error));
    return out;
}

/* Rows become columns and rows again, in their order; nil, NULL and no data are SQL NULL, empty is not. */
static void test_types_columns_become_rows(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    struct column_row full = {.number = INT32_MIN,
                              .big = INT64_MAX,
                              .time_us = 1764000000123456,
                              .real = -0.1,
                              .text = "gr\xc3\xbc\xc3\x9f"},
                      bare = {0}, empty = {.text = "", .bytes = {(const uint8_t *)"", 0}};
    forge_uuid_v7(&full.id);
    full.bytes = (struct db_bytes){(const uint8_t *)"\0\1\xff", 3};
    const void *const rows[] = {&full, &bare, &empty};
    struct db_rows out = columns_run(f, s, rows, 3);
    struct forge_uuid id;
    size_t size = 0;
    assert_int_equal(out.count, 3);
    struct db_row row = db_rows_at(&out, 0);
    assert_int_equal(db_row_int32(&row, "an_integer"), INT32_MIN);
    assert_true(db_row_int64(&row, "a_bigint") == INT64_MAX);
    assert_true(db_row_double(&row, "a_double") == -0.1);
    assert_true(db_row_time_us(&row, "a_time") == 1764000000123456);
    db_row_uuid(&row, "a_uuid", &id);
    assert_true(forge_uuid_equal(&id, &full.id));
    assert_string_equal(db_row_text(&row, "a_text"), full.text);
    assert_memory_equal(db_row_bytes(&row, "a_bytea", &size), full.bytes.data, 3);
    assert_int_equal(size, 3);
    row = db_rows_at(&out, 1);
    assert_int_equal(db_row_int32(&row, "an_integer"), 0);
    assert_false(db_row_is_null(&row, "an_integer"));
    assert_true(db_row_double(&row, "a_double") == 0 && !db_row_is_null(&row, "a_double"));
    assert_int_equal(db_row_time_us(&row, "a_time"), 0);
    assert_true(db_row_is_null(&row, "a_uuid") && db_row_is_null(&row, "a_text") && db_row_is_null(&row, "a_bytea"));
    row = db_rows_at(&out, 2);
    assert_false(db_row_is_null(&row, "a_text") || db_row_is_null(&row, "a_bytea"));
    assert_int_equal(columns_run(f, s, NULL, 0).count, 0);
    db_pool_release(s);
}

static void test_types_infinite_times(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    struct db_stmt *q = db_stmt(s, SQL_TEST_TIMES);
    db_bind_time_us(q, INT64_MAX);
    db_bind_time_us(q, INT64_MIN);
    db_bind_time_us(q, 0);
    struct db_row row;
    check_ok(f, db_run_one(q, &row, &f->error));
    assert_true(db_row_time_us(&row, "later") == INT64_MAX);
    assert_true(db_row_time_us(&row, "earlier") == INT64_MIN);
    assert_true(db_row_time_us(&row, "before") == INT64_C(946684799999999));
    assert_string_equal(db_row_text(&row, "first"), "infinity");
    assert_string_equal(db_row_text(&row, "second"), "-infinity");
    assert_string_equal(db_row_text(&row, "third"), "1970-01-01 00:00:00+00");
    db_pool_release(s);
}

static void test_session_settings_are_bound_in_the_flight(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 800);
    struct db_row row;
    check_ok(f, db_run_one(db_stmt(s, SQL_TEST_SETTINGS), &row, &f->error));
    char tenant[FORGE_UUID_TEXT_SIZE];
    forge_uuid_format(&f->organization_id, tenant);
    assert_string_equal(db_row_text(&row, "tenant"), tenant);
    int statement_ms = atoi(db_row_text(&row, "statement_timeout"));
    int lock_ms = atoi(db_row_text(&row, "lock_timeout"));
    assert_in_range(statement_ms, 600, 750);
    assert_int_equal(lock_ms, statement_ms * 9 / 10);
    assert_string_equal(db_row_text(&row, "time_zone"), "UTC");
    assert_string_equal(db_row_text(&row, "idle_timeout"), "10s");
    assert_string_equal(db_row_text(&row, "application_name"), "db test");
    assert_string_equal(db_row_text(&row, "encoding"), "UTF8");
    assert_string_equal(db_row_text(&row, "jit"), "off");
    db_pool_release(s);

    s = db_fixture_lease(f, 60000);
    check_ok(f, db_run_one(db_stmt(s, SQL_TEST_SETTINGS), &row, &f->error));
    assert_string_equal(db_row_text(&row, "lock_timeout"), "1s");
    db_pool_release(s);
}

static void test_session_without_tenant_sees_nothing(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    struct forge_uuid id;
    forge_uuid_v7(&id);
    check_ok(f, db_run_command(db_fixture_insert(s, f, &id, "mine", 1), NULL, &f->error));
    struct db_row row;
    check_ok(f, db_run_one(db_stmt(s, SQL_TEST_COUNT_ALL), &row, &f->error));
    assert_int_equal(db_row_int64(&row, "items"), 1);
    db_pool_release(s);
    /* The same connection (the pool keeps one), a new session: nothing is left of the tenant. */
    check_ok(f, db_pool_lease(f->pool, &f->arena, db_fixture_deadline(5000), &s, &f->error));
    check_ok(f, db_run_one(db_stmt(s, SQL_TEST_COUNT_ALL), &row, &f->error));
    assert_int_equal(db_row_int64(&row, "items"), 0);
    db_pool_release(s);
}

static void test_run_kinds(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    struct forge_uuid id[2], absent;
    forge_uuid_v7(&id[0]);
    forge_uuid_v7(&id[1]);
    forge_uuid_v7(&absent);
    int64_t affected = 99;
    check_ok(f, db_run_command(db_fixture_insert(s, f, &id[0], "b", 1), &affected, &f->error));
    assert_int_equal(affected, 1);
    db_queue(db_fixture_insert(s, f, &id[1], "a", 2));
    struct db_stmt *q = db_stmt(s, SQL_TEST_LIST);
    db_bind_uuid(q, &f->organization_id);
    struct db_rows rows;
    check_ok(f, db_run_many(q, &rows, &f->error));
    assert_int_equal(rows.count, 2);
    struct db_row first = db_rows_at(&rows, 0), second = db_rows_at(&rows, 1);
    assert_string_equal(db_row_text(&first, "name"), "a");
    assert_int_equal(db_row_int32(&second, "position"), 1);

    q = db_stmt(s, SQL_TEST_FIND);
    db_bind_uuid(q, &f->organization_id);
    db_bind_uuid(q, &absent);
    struct db_row row = {0};
    bool found = true;
    check_ok(f, db_run_optional(q, &row, &found, &f->error));
    assert_false(found);
    assert_null(row.result);
    q = db_stmt(s, SQL_TEST_GET);
    db_bind_uuid(q, &f->organization_id);
    db_bind_uuid(q, &absent);
    assert_int_equal(db_run_one(q, &row, &f->error), FORGE_NOT_FOUND);
    assert_string_equal(f->error.message, "not found");
    q = db_stmt(s, SQL_TEST_ALL_AS_ONE);
    db_bind_uuid(q, &f->organization_id);
    assert_int_equal(db_run_one(q, &row, &f->error), FORGE_INTERNAL);
    q = db_stmt(s, SQL_TEST_ALL_AS_OPTIONAL);
    db_bind_uuid(q, &f->organization_id);
    assert_int_equal(db_run_optional(q, &row, &found, &f->error), FORGE_INTERNAL);
    q = db_stmt(s, SQL_TEST_RENAME);
    db_bind_uuid(q, &f->organization_id);
    db_bind_uuid(q, &absent);
    db_bind_text(q, "c");
    check_ok(f, db_run_command(q, &affected, &f->error));
    assert_int_equal(affected, 0);
    db_pool_release(s);
}

static forge_code raise(struct db_fixture *f, const char *sqlstate)
{
    struct db_session *s = db_fixture_lease(f, 5000);
    struct db_stmt *q = db_stmt(s, SQL_TEST_RAISE);
    db_bind_text(q, sqlstate);
    forge_code rc = db_run_command(q, NULL, &f->error);
    assert_int_equal(db_session_failed_statement(s), SQL_TEST_RAISE);
    assert_string_equal(f->error.sqlstate, sqlstate);
    db_pool_release(s);
    return rc;
}

static void test_error_codes_of_real_errors(void **state)
{
    struct db_fixture *f = *state;
    assert_int_equal(raise(f, "23505"), FORGE_ALREADY_EXISTS);
    assert_int_equal(raise(f, "23503"), FORGE_FAILED_PRECONDITION);
    assert_int_equal(raise(f, "23514"), FORGE_INVALID_ARGUMENT);
    assert_int_equal(raise(f, "57014"), FORGE_DEADLINE_EXCEEDED);
    assert_int_equal(raise(f, "55P03"), FORGE_UNAVAILABLE);
    assert_int_equal(f->error.retry_after_ms, 50);
    assert_int_equal(raise(f, "40001"), FORGE_ABORTED);
    assert_int_equal(raise(f, "40P01"), FORGE_ABORTED);
    assert_int_equal(raise(f, "53100"), FORGE_RESOURCE_EXHAUSTED);
    assert_int_equal(raise(f, "22012"), FORGE_INTERNAL);
    assert_string_equal(f->error.message, "the database refused a statement (SQLSTATE 22012)");
}

static void test_error_names_statement_and_constraint(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    struct forge_uuid id[2];
    forge_uuid_v7(&id[0]);
    forge_uuid_v7(&id[1]);
    check_ok(f, db_run_command(db_fixture_insert(s, f, &id[0], "taken", 1), NULL, &f->error));
    assert_int_equal(db_session_failed_statement(s), -1);
    assert_null(db_session_failed_constraint(s));
    /* The queued one fails; the one that runs is skipped and the flight undone. */
    db_queue(db_fixture_insert(s, f, &id[1], "free", 1));
    db_queue(db_fixture_insert(s, f, &id[1], "taken", 2));
    struct db_stmt *q = db_stmt(s, SQL_TEST_COUNT);
    db_bind_uuid(q, &f->organization_id);
    struct db_row row;
    assert_int_equal(db_run_one(q, &row, &f->error), FORGE_ALREADY_EXISTS);
    assert_int_equal(db_session_failed_statement(s), SQL_TEST_INSERT);
    assert_string_equal(db_session_failed_constraint(s), "items_pkey");
    assert_true(strstr(db_session_failed_message(s), "items_pkey") != NULL);
    assert_null(strstr(f->error.message, "items"));
    assert_int_equal(db_fixture_items(f), 1);
    assert_int_equal(db_run_command(db_fixture_insert(s, f, &id[1], "bad", -1), NULL, &f->error), FORGE_INVALID_ARGUMENT);
    assert_string_equal(db_session_failed_constraint(s), "valid_position");
    /* What was skipped is prepared at its next use. */
    q = db_stmt(s, SQL_TEST_COUNT);
    db_bind_uuid(q, &f->organization_id);
    check_ok(f, db_run_one(q, &row, &f->error));
    assert_int_equal(db_row_int64(&row, "items"), 1);
    assert_null(db_session_failed_constraint(s));
    db_pool_release(s);
}

static void test_error_in_parse_leaves_the_connection_usable(void **state)
{
    struct db_fixture *f = *state;
    for (int round = 0; round < 3; round++) {
        struct db_session *s = db_fixture_lease(f, 5000);
        db_queue(db_stmt(s, SQL_TEST_BACKEND));
        struct db_rows rows;
        assert_int_equal(db_run_many(db_stmt(s, SQL_TEST_ABSENT_TABLE), &rows, &f->error), FORGE_INTERNAL);
        assert_string_equal(f->error.sqlstate, "42P01");
        assert_int_equal(db_session_failed_statement(s), SQL_TEST_ABSENT_TABLE);
        struct db_row row;
        check_ok(f, db_run_one(db_stmt(s, SQL_TEST_BACKEND), &row, &f->error));
        db_pool_release(s);
    }
    struct db_pool_status status;
    db_pool_get_status(f->pool, &status);
    assert_int_equal(status.opened_total, 1);
}

static void test_flight_same_statement_many_times(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    struct forge_uuid ids[100];
    for (int i = 0; i < 100; i++) {
        char *name = forge_arena_printf(&f->arena, "name %d", i);
        forge_uuid_v7(&ids[i]);
        db_queue(db_fixture_insert(s, f, &ids[i], name, i));
    }
    struct db_stmt *q = db_stmt(s, SQL_TEST_COUNT);
    db_bind_uuid(q, &f->organization_id);
    struct db_row row;
    check_ok(f, db_run_one(q, &row, &f->error));
    assert_int_equal(db_row_int64(&row, "items"), 100);
    db_pool_release(s);
}

static void test_flight_larger_than_every_buffer(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 20000);
    enum { SIZE = 4 << 20 };
    char *large = forge_arena_alloc(&f->arena, SIZE + 1);
    memset(large, 'y', SIZE);
    /* Sent and received at the same time: neither side may wait for the other to read. */
    for (int i = 0; i < 4; i++) {
        struct db_stmt *echo = db_stmt(s, SQL_TEST_ECHO);
        db_bind_text(echo, large);
        db_queue(echo);
    }
    struct db_stmt *length = db_stmt(s, SQL_TEST_LENGTH);
    db_bind_text(length, large);
    struct db_row row;
    check_ok(f, db_run_one(length, &row, &f->error));
    assert_int_equal(db_row_int32(&row, "length"), SIZE);
    struct db_stmt *series = db_stmt(s, SQL_TEST_SERIES);
    db_bind_int32(series, 1000);
    db_bind_int32(series, 1000);
    struct db_rows rows;
    check_ok(f, db_run_many(series, &rows, &f->error));
    assert_int_equal(rows.count, 1000);
    row = db_rows_at(&rows, 999);
    assert_int_equal(db_row_int32(&row, "n"), 1000);
    assert_int_equal(strlen(db_row_text(&row, "filler")), 1000);
    db_pool_release(s);
}

static void test_deadline_comes_back_as_57014_and_the_connection_stays(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    struct db_row row;
    check_ok(f, db_run_one(db_stmt(s, SQL_TEST_BACKEND), &row, &f->error));
    int64_t backend = db_row_int64(&row, "backend");
    db_pool_release(s);

    s = db_fixture_lease(f, 300);
    uint64_t start = forge_clock_monotonic_ms();
    struct db_stmt *q = db_stmt(s, SQL_TEST_SLEEP);
    db_bind_text(q, "30");
    assert_int_equal(db_run_one(q, &row, &f->error), FORGE_DEADLINE_EXCEEDED);
    uint64_t took = forge_clock_monotonic_ms() - start;
    assert_string_equal(f->error.sqlstate, "57014");
    assert_int_equal(db_session_failed_statement(s), SQL_TEST_SLEEP);
    assert_in_range(took, 200, 400);
    db_pool_release(s);

    s = db_fixture_lease(f, 5000);
    check_ok(f, db_run_one(db_stmt(s, SQL_TEST_BACKEND), &row, &f->error));
    assert_int_equal(db_row_int64(&row, "backend"), backend);
    db_pool_release(s);
}

static void test_deadline_of_a_lock_is_55p03(void **state)
{
    struct db_fixture *f = *state;
    struct forge_uuid id;
    forge_uuid_v7(&id);
    struct db_session *holder = db_fixture_lease(f, 20000), *other;
    check_ok(f, db_run_command(db_fixture_insert(holder, f, &id, "locked", 1), NULL, &f->error));
    db_tx_begin(holder);
    struct db_stmt *q = db_stmt(holder, SQL_TEST_LOCK);
    db_bind_uuid(q, &f->organization_id);
    db_bind_uuid(q, &id);
    struct db_row row;
    bool found = false;
    check_ok(f, db_run_optional(q, &row, &found, &f->error));
    assert_true(found);
    other = db_fixture_lease(f, 500);
    q = db_stmt(other, SQL_TEST_LOCK);
    db_bind_uuid(q, &f->organization_id);
    db_bind_uuid(q, &id);
    uint64_t start = forge_clock_monotonic_ms();
    assert_int_equal(db_run_optional(q, &row, &found, &f->error), FORGE_UNAVAILABLE);
    assert_string_equal(f->error.sqlstate, "55P03");
    assert_in_range(forge_clock_monotonic_ms() - start, 300, 500);
    db_pool_release(other);
    db_pool_release(holder);
}

static void test_deadline_passed_sends_nothing(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    db_pool_release(s); /* a connection is there */
    s = db_fixture_lease(f, 30);
    struct forge_uuid id;
    forge_uuid_v7(&id);
    struct db_stmt *q = db_fixture_insert(s, f, &id, "late", 1);
    uint64_t until = forge_clock_monotonic_ms() + 31;
    while (forge_clock_monotonic_ms() < until)
        ;
    assert_int_equal(db_run_command(q, NULL, &f->error), FORGE_DEADLINE_EXCEEDED);
    assert_true(f->error.not_executed);
    assert_int_equal(db_fixture_items(f), 0);
    db_pool_release(s);
}

static void test_backend_killed_costs_the_connection_only(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    assert_int_equal(db_run_command(db_stmt(s, SQL_TEST_KILL_ME), NULL, &f->error), FORGE_UNAVAILABLE);
    assert_string_equal(f->error.sqlstate, "57P01");
    struct db_row row;
    assert_int_equal(db_run_one(db_stmt(s, SQL_TEST_BACKEND), &row, &f->error), FORGE_UNAVAILABLE);
    assert_string_equal(f->error.sqlstate, "");
    db_pool_release(s);
    s = db_fixture_lease(f, 5000);
    check_ok(f, db_run_one(db_stmt(s, SQL_TEST_BACKEND), &row, &f->error));
    db_pool_release(s);
}

static void test_arena_overflow_is_reported_once_and_undone(void **state)
{
    struct db_fixture *f = *state;
    struct forge_arena small;
    struct forge_byte_budget budget = {.bytes_max = 1 << 20};
    forge_arena_init(&small, 512 << 10, &budget);
    struct db_session *s;
    check_ok(f, db_pool_lease(f->pool, &small, db_fixture_deadline(5000), &s, &f->error));
    struct db_stmt *series = db_stmt(s, SQL_TEST_SERIES);
    db_bind_int32(series, 2000);
    db_bind_int32(series, 1000);
    struct db_rows rows;
    assert_int_equal(db_run_many(series, &rows, &f->error), FORGE_RESOURCE_EXHAUSTED); /* 2 MB do not fit the budget of 1 MiB */
    db_pool_release(s);
    forge_arena_done(&small);
    assert_int_equal(atomic_load(&budget.used), 0);

    forge_arena_init(&small, 2048, NULL);
    check_ok(f, db_pool_lease(f->pool, &small, db_fixture_deadline(5000), &s, &f->error));
    db_tx_begin(s);
    forge_code rc = FORGE_OK;
    for (int i = 0; i < 1000 && rc == FORGE_OK; i++) {
        struct db_row row;
        rc = db_run_one(db_stmt(s, SQL_TEST_BACKEND), &row, &f->error);
    }
    assert_int_equal(rc, FORGE_RESOURCE_EXHAUSTED);
    struct db_stmt *late = db_stmt(s, SQL_TEST_INSERT); /* binds into nothing */
    db_bind_int32(late, 1);
    db_bind_text(late, "x");
    db_bind_time_us(late, 1);
    db_bind_text_array(late, (const char *const[]){"x"}, 1);
    assert_int_equal(db_run_command(late, NULL, &f->error), FORGE_RESOURCE_EXHAUSTED);
    db_pool_release(s);
    forge_arena_done(&small);
    s = db_fixture_lease(f, 5000);
    struct db_row row;
    check_ok(f, db_run_one(db_stmt(s, SQL_TEST_BACKEND), &row, &f->error));
    db_pool_release(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_types_every_one_comes_back, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_types_null_reads_as_nothing, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_types_empty_is_not_null, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_types_arrays_arrive_whole, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_types_columns_become_rows, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_types_infinite_times, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_session_settings_are_bound_in_the_flight, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_session_without_tenant_sees_nothing, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_run_kinds, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_error_codes_of_real_errors, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_error_names_statement_and_constraint, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_error_in_parse_leaves_the_connection_usable, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_flight_same_statement_many_times, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_flight_larger_than_every_buffer, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_deadline_comes_back_as_57014_and_the_connection_stays, db_fixture_start_with_pool,
                                        db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_deadline_of_a_lock_is_55p03, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_deadline_passed_sends_nothing, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_backend_killed_costs_the_connection_only, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_arena_overflow_is_reported_once_and_undone, db_fixture_start_with_pool, db_fixture_stop),
    };
    return cmocka_run_group_tests(tests, db_fixture_cluster_start, db_fixture_cluster_stop);
}
