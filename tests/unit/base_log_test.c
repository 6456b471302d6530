#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "wire/clock.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Each write() of the log arrives as one datagram, so "one write per line" is what is read here. */
static int sockets[2];
static char received[8192];

static int64_t fixed_clock(void)
{
    return 1700000000123456;
}

static int open_sockets(void **state)
{
    forge_clock_set_wall_source(fixed_clock);
    return socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets);
}

static int close_sockets(void **state)
{
    base_log_configure(BASE_LOG_INFO, BASE_LOG_LOGFMT, STDERR_FILENO);
    forge_clock_set_wall_source(NULL);
    close(sockets[0]);
    close(sockets[1]);
    return 0;
}

static const char *read_write(void)
{
    ssize_t len = recv(sockets[0], received, sizeof received - 1, MSG_DONTWAIT);
    if (len < 0)
        return NULL;
    received[len] = '\0';
    return received;
}

static void test_log_logfmt_quotes_only_what_needs_it(void **state)
{
    base_log_configure(BASE_LOG_INFO, BASE_LOG_LOGFMT, sockets[1]);
    base_log(BASE_LOG_INFO, "call failed", base_log_text("code", "NOT_FOUND"), base_log_text("error", "say \"x=1\"\nline"),
             base_log_int("port", -7), base_log_bool("replayed", true), base_log_ms("elapsed_ms", 1234567), base_log_text("none", NULL),
             base_log_text("empty", ""));
    assert_string_equal(read_write(), "ts=2023-11-14T22:13:20.123456Z level=info msg=\"call failed\" code=NOT_FOUND "
                                      "error=\"say \\\"x=1\\\"\\nline\" port=-7 replayed=true elapsed_ms=1.235 empty=\"\"\n");
    assert_null(read_write());
}

static void test_log_json_is_one_object(void **state)
{
    base_log_configure(BASE_LOG_INFO, BASE_LOG_JSON, sockets[1]);
    base_log(BASE_LOG_ERROR, "odd \"text\"", base_log_text("bytes", "a\x01\xff z"), base_log_text("utf8", "gr\xc3\xbc\xc3\x9f"),
             base_log_int("n", 5), base_log_bool("ok", false));
    json_error_t problem;
    json_t *object = json_loads(read_write(), JSON_REJECT_DUPLICATES, &problem);
    assert_non_null(object);
    assert_string_equal(json_string_value(json_object_get(object, "level")), "error");
    assert_string_equal(json_string_value(json_object_get(object, "msg")), "odd \"text\"");
    assert_string_equal(json_string_value(json_object_get(object, "bytes")), "a\x01? z");
    assert_string_equal(json_string_value(json_object_get(object, "utf8")), "gr\xc3\xbc\xc3\x9f");
    assert_int_equal(json_integer_value(json_object_get(object, "n")), 5);
    assert_true(json_is_false(json_object_get(object, "ok")));
    json_decref(object);
}

static void test_log_level_hides_lower_ones(void **state)
{
    base_log_configure(BASE_LOG_WARNING, BASE_LOG_LOGFMT, sockets[1]);
    base_log(BASE_LOG_INFO, "hidden");
    assert_null(read_write());
    assert_false(base_log_is_enabled(BASE_LOG_INFO));
    base_log(BASE_LOG_WARNING, "shown");
    assert_non_null(strstr(read_write(), "level=warning msg=shown\n"));
}

static void test_log_masks_tokens_and_passwords(void **state)
{
    base_log_configure(BASE_LOG_INFO, BASE_LOG_LOGFMT, sockets[1]);
    base_log(BASE_LOG_INFO, "x", base_log_text("token", "Bearer pfk_abcDEF0123456789 rest"),
             base_log_text("url", "postgresql://app:s3cret@db:5432/forge?password=hunter2&x=1"),
             base_log_text("dsn", "host=a password=p1 user=b"));
    const char *line = read_write();
    assert_non_null(strstr(line, "token=\"Bearer pfk_*** rest\""));
    assert_non_null(strstr(line, "postgresql://app:***@db:5432/forge?password=***&x=1"));
    assert_non_null(strstr(line, "dsn=\"host=a password=*** user=b\""));
    assert_null(strstr(line, "s3cret"));
    assert_null(strstr(line, "hunter2"));
    assert_null(strstr(line, "abcDEF"));
}

static void test_log_long_value_keeps_the_line_whole(void **state)
{
    char *huge = malloc(20001);
    memset(huge, '"', 20000);
    huge[20000] = '\0';
    base_log_configure(BASE_LOG_INFO, BASE_LOG_JSON, sockets[1]);
    base_log(BASE_LOG_INFO, "x", base_log_text("first", huge), base_log_text("second", huge), base_log_text("third", "kept"));
    const char *line = read_write();
    assert_true(strlen(line) <= BASE_LOG_LINE_MAX);
    json_t *object = json_loads(line, 0, NULL);
    assert_non_null(object);
    json_decref(object);
    free(huge);
}

static void *log_many(void *unused)
{
    for (int i = 0; i < 200; i++)
        base_log(BASE_LOG_INFO, "line", base_log_int("i", i));
    return NULL;
}

static void *count_lines(void *out_count)
{
    int pipe_end = *(int *)out_count, count = 0;
    char text[4096];
    for (ssize_t len; (len = read(pipe_end, text, sizeof text)) > 0;) {
        for (ssize_t i = 0; i < len; i++)
            count += text[i] == '\n';
    }
    *(int *)out_count = count;
    return NULL;
}

static void test_log_writer_writes_every_line_of_many_threads(void **state)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    base_log_configure(BASE_LOG_INFO, BASE_LOG_LOGFMT, ends[1]);
    assert_int_equal(base_log_start_writer(), FORGE_OK);
    int count = ends[0];
    pthread_t reader, threads[4];
    assert_int_equal(pthread_create(&reader, NULL, count_lines, &count), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    base_log_stop_writer();
    close(ends[1]);
    pthread_join(reader, NULL);
    close(ends[0]);
    assert_int_equal(count, 800);
}

/* Nobody reads: callers go on, and what was dropped is told when reading begins. */
static void test_log_writer_never_blocks_its_callers(void **state)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    base_log_configure(BASE_LOG_INFO, BASE_LOG_LOGFMT, ends[1]);
    assert_int_equal(base_log_start_writer(), FORGE_OK);
    for (int i = 0; i < 20000; i++)
        base_log(BASE_LOG_INFO, "a line that is about a hundred bytes long", base_log_int("i", i));
    int count = ends[0];
    pthread_t reader;
    assert_int_equal(pthread_create(&reader, NULL, count_lines, &count), 0);
    base_log_stop_writer();
    close(ends[1]);
    pthread_join(reader, NULL);
    close(ends[0]);
    assert_in_range(count, 1000, 19999);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_log_logfmt_quotes_only_what_needs_it, open_sockets, close_sockets),
        cmocka_unit_test_setup_teardown(test_log_json_is_one_object, open_sockets, close_sockets),
        cmocka_unit_test_setup_teardown(test_log_level_hides_lower_ones, open_sockets, close_sockets),
        cmocka_unit_test_setup_teardown(test_log_masks_tokens_and_passwords, open_sockets, close_sockets),
        cmocka_unit_test_setup_teardown(test_log_long_value_keeps_the_line_whole, open_sockets, close_sockets),
        cmocka_unit_test_setup_teardown(test_log_writer_writes_every_line_of_many_threads, open_sockets, close_sockets),
        cmocka_unit_test_setup_teardown(test_log_writer_never_blocks_its_callers, open_sockets, close_sockets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
