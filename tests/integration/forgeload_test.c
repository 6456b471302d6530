/* forgeload against a real forged over TLS: what it sends, reports and refuses. */
#include "support/world.h"

#include <inttypes.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { ARGUMENTS_MAX = 24 };
static struct world world;

/* Runs forgeload with the world's server and authority and these arguments (NULL at the end). */
static void load(const char *const more[], struct child_output *out)
{
    const char *arguments[ARGUMENTS_MAX] = {"--server", world_address(&world, 0), "--ca",
                                            tls_files_path(forged_world_tls(world.files), "ca.pem")};
    size_t count = 4;
    while (*more && count < ARGUMENTS_MAX - 1)
        arguments[count++] = *more++;
    child_run("forgeload", arguments, NULL, NULL, out);
}

static json_t *report_of(const struct child_output *output)
{
    json_error_t error;
    json_t *report = json_loads(output->out, 0, &error);
    if (!report)
        fail_msg("no JSON: %s in \"%s\", standard error \"%s\"", error.text, output->out, output->err);
    return report;
}

static json_int_t number(const json_t *report, const char *name)
{
    return json_integer_value(json_object_get(report, name));
}

static void test_forgeload_reports_every_planned_call(void **state)
{
    struct child_output output;
    load((const char *[]){"--rate", "500", "--duration", "1", "--warm-up", "0.2", "--json", "-", "--quiet", NULL}, &output);
    assert_int_equal(output.exit_code, 0);
    json_t *report = report_of(&output), *corrected = json_object_get(report, "corrected");
    assert_int_equal(number(report, "planned"), 500);
    assert_int_equal(number(report, "sent"), 500);
    assert_int_equal(number(report, "ok"), 500);
    assert_int_equal(json_object_size(json_object_get(report, "failed")), 0);
    assert_int_equal(number(corrected, "count"), 500);
    assert_true(json_real_value(json_object_get(corrected, "p50_us")) > 0);
    assert_true(json_real_value(json_object_get(corrected, "p99_us")) <= (double)number(corrected, "max_us") * 1.001);
    json_decref(report);
    child_output_done(&output);
}

static void test_forgeload_fetches_a_prompt_and_shows_progress(void **state)
{
    struct child_output output;
    load((const char *[]){"--workload", "fetch", "--project", world.home.project_id, "--prompt", "greeting", "--token", world.home.read_key,
                          "--rate", "100", "--arrival", "poisson", "--duration", "2", "--warm-up", "0", "--json", "-", NULL},
         &output);
    assert_int_equal(output.exit_code, 0);
    json_t *report = report_of(&output);
    assert_true(number(report, "planned") > 100);
    assert_int_equal(number(report, "ok"), number(report, "planned"));
    assert_non_null(strstr(output.err, "calls/s")); /* the live line */
    assert_non_null(strstr(output.err, "fetch:"));  /* the table */
    json_decref(report);
    child_output_done(&output);
}

static void test_forgeload_counts_failures_by_status(void **state)
{
    struct child_output output;
    load((const char *[]){"--workload", "fetch", "--project", world.home.project_id, "--prompt", "no such prompt", "--token",
                          world.home.read_key, "--rate", "50", "--duration", "1", "--warm-up", "0", "--json", "-", "--quiet", NULL},
         &output);
    assert_int_equal(output.exit_code, 1);
    assert_non_null(strstr(output.err, "no call succeeded"));
    json_t *report = report_of(&output);
    assert_int_equal(number(json_object_get(report, "failed"), "NOT_FOUND"), number(report, "planned"));
    json_decref(report);
    child_output_done(&output);
}

static void test_forgeload_explains_wrong_arguments(void **state)
{
    static const struct {
        const char *arguments[5], *message;
    } cases[] = {
        {{"--rate", "0"}, "--rate must be a number from 0.1 to 1e+07, not \"0\""},
        {{"--rate", "fast"}, "--rate must be a number"},
        {{"--channels", "1.5"}, "--channels must be a whole number"},
        {{"--workload", "dance"}, "--workload must be ping or fetch, not \"dance\""},
        {{"--workload", "fetch"}, "--workload fetch needs --project, --prompt and --token"},
        {{"--arrival", "late"}, "--arrival must be constant or poisson"},
        {{"extra"}, "unexpected argument \"extra\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct child_output output;
        load(cases[i].arguments, &output);
        assert_int_equal(output.exit_code, 2);
        assert_non_null(strstr(output.err, cases[i].message));
        child_output_done(&output);
    }
}

static void test_forgeload_without_a_server_says_so(void **state)
{
    struct child_output output;
    const char *const arguments[] = {"--server", "127.0.0.1:1", "--ca", tls_files_path(forged_world_tls(world.files), "ca.pem"), NULL};
    child_run("forgeload", arguments, NULL, NULL, &output);
    assert_int_equal(output.exit_code, 1);
    assert_non_null(strstr(output.err, "forgeload: "));
    assert_non_null(strstr(output.err, "127.0.0.1"));
    child_output_done(&output);
}

static int set_up(void **state)
{
    world_open(&world, NULL);
    return 0;
}

static int tear_down(void **state)
{
    world_close(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forgeload_reports_every_planned_call), cmocka_unit_test(test_forgeload_fetches_a_prompt_and_shows_progress),
        cmocka_unit_test(test_forgeload_counts_failures_by_status),  cmocka_unit_test(test_forgeload_explains_wrong_arguments),
        cmocka_unit_test(test_forgeload_without_a_server_says_so),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
