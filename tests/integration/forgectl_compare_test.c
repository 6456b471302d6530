/* forgectl eval compare against a real forged: what it says, on a terminal and in a pipe, and how it ends in a pipeline. */
#include "forgectl_test_support.h"

/* The dataset "numbers": k1 to k12, each expects its own number. */
static int set_up(void **state)
{
    forgectl_open_world(state);
    forgectl_set("FORGE_PROJECT", world.home.project_id);
    forgectl_set("TERM", "xterm");
    expect_output(0, NULL, NULL,
                  "forgectl dataset create numbers && seq 12 | sed 's/.*/{\"key\": \"k&\", \"expected_output\": \"&\"}/' | "
                  "forgectl dataset add numbers -f -");
    return 0;
}

/* An evaluation of "greeting" on "numbers". Its id goes into file name. */
static void create(const char *name)
{
    expect_output(0, "", "", "forgectl eval create %s --prompt greeting --dataset numbers --evaluator exact -o name > %s", name, name);
}

/* Adds results for k1 to k12 where those from first to last are right. */
static void add_results(const char *name, int first, int last)
{
    expect_output(
        0, NULL, "",
        "for i in $(seq 12); do if [ $i -ge %d ] && [ $i -le %d ]; then o=$i; else o=wrong; fi; "
        "echo \"{\\\"item_key\\\": \\\"k$i\\\", \\\"output\\\": \\\"$o\\\", \\\"latency_us\\\": ${i}000}\"; done > results.jsonl; "
        "forgectl eval add $(cat %s) -f results.jsonl",
        first, last, name);
}

static void test_compare(void **state)
{
    create("baseline");
    create("candidate");
    add_results("baseline", 1, 4);
    expect_output(73, "", NULL, "forgectl eval compare $(cat baseline) $(cat candidate)"); /* still running */
    add_results("candidate", 4, 12);
    expect_output(0, NULL, "", "forgectl eval complete $(cat baseline) && forgectl eval complete $(cat candidate)");
    expect_output(0,
                  "Fixed              8\nBroken             3\nStill passing      1\nStill failing      0\n"
                  "Only in baseline   0\nOnly in candidate  0\nMean score         +0.417\n"
                  "Passing            no significant difference: 8 fixed, 3 broken, p = 0.227 (McNemar, exact)\n"
                  "Scores             no significant difference: 11 differ, p = 0.227 (Wilcoxon, exact)\n"
                  "\n"
                  "CHANGE  BASELINE  CANDIDATE  ITEM\n"
                  "broken  1.000     0.000      k1\n"
                  "fixed   0.000     1.000      k10\n"
                  "fixed   0.000     1.000      k11\n"
                  "fixed   0.000     1.000      k12\n"
                  "broken  1.000     0.000      k2\n"
                  "broken  1.000     0.000      k3\n"
                  "fixed   0.000     1.000      k5\n"
                  "fixed   0.000     1.000      k6\n"
                  "fixed   0.000     1.000      k7\n"
                  "fixed   0.000     1.000      k8\n"
                  "fixed   0.000     1.000      k9\n",
                  "", "forgectl eval compare $(cat baseline) $(cat candidate)");
    expect_output(0, "1\n", "",
                  "forgectl eval compare $(cat baseline) $(cat candidate) --all | grep -c '^still passing  *1.000  *1.000  *k4$'");
    expect_output(0, "k1\nk10\n", NULL, "forgectl eval compare $(cat baseline) $(cat candidate) -o name --page-size 2");
    expect_output(0, "1\n", "", "forgectl eval compare $(cat baseline) $(cat candidate) -o json | grep -c '\"fixed_count\": \"8\"'");
    expect_output(0, "Passing            better: 8 fixed, 3 broken, p = 0.227 (McNemar, exact)\n", "",
                  "forgectl eval compare $(cat baseline) $(cat candidate) --alpha 0.3 | grep Passing");
    expect_output(0, "Passing            worse: 3 fixed, 8 broken, p = 0.227 (McNemar, exact)\n", "",
                  "forgectl eval compare $(cat candidate) $(cat baseline) --alpha 0.3 | grep Passing");
    expect_output(69, "", NULL, "forgectl eval compare $(cat baseline) 0199e5c0-0000-7000-8000-000000000001");
    expect_output(67, "", NULL, "forgectl eval compare $(cat baseline) candidate");
}

/* On from the evaluations of the test before. */
static void test_compare_in_a_pipeline(void **state)
{
    expect_output(1, NULL, "forgectl: 3 items broke\n", "forgectl eval compare $(cat baseline) $(cat candidate) --fail-on broken");
    expect_output(0, NULL, "", "forgectl eval compare $(cat baseline) $(cat candidate) --fail-on worse");
    expect_output(0, NULL, "", "forgectl eval compare $(cat candidate) $(cat baseline) --fail-on worse");
    expect_output(1, NULL, "forgectl: the candidate is significantly worse\n",
                  "forgectl eval compare $(cat candidate) $(cat baseline) --fail-on worse --alpha 0.3");
    expect_output(0, NULL, "", "forgectl eval compare $(cat candidate) $(cat candidate) --fail-on broken");
}

static void read_id(const char *name, char id[WORLD_ID_SIZE])
{
    struct child_output output;
    forgectl_shell(&output, "cat %s", name);
    snprintf(id, WORLD_ID_SIZE, "%.36s", output.out);
    child_output_done(&output);
}

static void test_compare_in_colour_on_a_terminal(void **state)
{
    char baseline[WORLD_ID_SIZE], candidate[WORLD_ID_SIZE], seen[4096];
    read_id("baseline", baseline);
    read_id("candidate", candidate);
    const char *const line[] = {"forgectl", "eval", "compare", baseline, candidate, "--alpha", "0.3", NULL};
    assert_int_equal(forgectl_on_terminal(line, seen, sizeof seen, NULL), 0);
    assert_non_null(strstr(seen, "\r\nPassing            \033[32mbetter\033[0m: 8 fixed, "));
    assert_non_null(strstr(seen, "\r\n\033[31mbroken\033[0m  1.000     0.000      k1\r\n"));
    expect_output(0, "0\n", "", "forgectl eval compare %s %s | grep -c \"$(printf '\\033')\"; true", baseline, candidate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_compare_in_a_pipeline),
        cmocka_unit_test(test_compare_in_colour_on_a_terminal),
    };
    return cmocka_run_group_tests(tests, set_up, forgectl_close_world);
}
