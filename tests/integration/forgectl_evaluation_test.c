/* forgectl eval against a real forged: from evaluators to frozen results, on a terminal and in a pipe; and evaluations in manifests. */
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

/* An evaluation of "greeting" on "numbers" with the evaluator exact; the line continues with options. Its id goes into file name. */
static void create(const char *name, const char *options)
{
    expect_output(0, "", "", "forgectl eval create %s --prompt greeting --dataset numbers %s -o name > %s", name, options, name);
}

static void test_create_get_list(void **state)
{
    expect_output(0,
                  "Id               <id>\n"
                  "Name             first run\n"
                  "Description      by hand\n"
                  "State            running\n"
                  "Prompt           <id>\n"
                  "Prompt version   1\n"
                  "Dataset          <id>\n"
                  "Dataset version  1\n"
                  "Repetitions      2\n"
                  "Pass threshold   0.75\n"
                  "Results          0\n"
                  "Of a full run    24\n"
                  "Passed           0\n"
                  "Failed           0\n"
                  "Errors           0\n"
                  "Pass rate        0\n"
                  "Score            0\n"
                  "Latency p50 us   0\n"
                  "Latency p95 us   0\n"
                  "Cost micros      0\n"
                  "Created          <time>\n"
                  "Etag             1\n",
                  "",
                  "forgectl eval create 'first run' --prompt greeting --version 1 --dataset numbers --dataset-version 1 --repetitions 2 "
                  "--pass-threshold 0.75 --description 'by hand' --metadata run=7 --evaluator exact");
    expect_output(0, "first run\n1\nrunning\n", "",
                  "forgectl eval list --prompt greeting --state running -o json | sed -n "
                  "'s/^      \"name\": \"\\(first run\\)\",/\\1/p; s/.*\"prompt_version\": \\([0-9]*\\).*/\\1/p' && "
                  "forgectl eval list --dataset numbers | awk 'NR == 2 {print $3}'");
    expect_output(0, "", "", "forgectl eval list --state completed -o name");
    expect_output(0, "run 7\n", "",
                  "forgectl eval get $(forgectl eval list -o name) -o json | tr -d ' \\n' | sed "
                  "'s/.*{\"key\":\"\\(run\\)\",\"value\":\"\\(7\\)\"}.*/\\1 "
                  "\\2\\n/'");
    expect_output(0, "Deleted <id>\n", "", "forgectl eval delete $(forgectl eval list -o name) --yes");
    expect_output(69, "", NULL, "forgectl eval create x --prompt missing --dataset numbers --evaluator exact");
    expect_output(69, "", NULL, "forgectl eval create x --prompt greeting --dataset missing --evaluator exact");
    expect_output(67, "", NULL, "forgectl eval create x --prompt greeting --dataset numbers");
    expect_output(67, "", NULL, "forgectl eval create x --prompt greeting --dataset numbers --evaluator regex='('");
}

/* Every short form, and what a file says beside them. */
static void test_evaluators(void **state)
{
    forgectl_write_file("schema.json", "{\"type\": \"object\"}");
    forgectl_write_file("evaluators.yaml", "evaluators:\n- name: any\n  contains: {values: [a, b], any: true}\n  weight: 2.5\n"
                                           "- external: {description: a judge}\npass_threshold: 0\n");
    expect_output(0,
                  "EVALUATOR    PASSED  FAILED  SCORE\n"
                  "exact        0       0       0\n"
                  "contains     0       0       0\n"
                  "regex        0       0       0\n"
                  "numeric      0       0       0\n"
                  "levenshtein  0       0       0\n"
                  "json_valid   0       0       0\n"
                  "json_schema  0       0       0\n"
                  "latency      0       0       0\n"
                  "cost         0       0       0\n"
                  "any          0       0       0\n"
                  "external     0       0       0\n",
                  "",
                  "forgectl eval create every --prompt greeting --dataset numbers --evaluator exact --evaluator contains=x --evaluator "
                  "regex='^a=b$' --evaluator numeric=0.5 --evaluator levenshtein=0.8 --evaluator json_valid --evaluator "
                  "json_schema=schema.json --evaluator latency=1500 --evaluator cost=0 -f evaluators.yaml -o name > every && "
                  "forgectl eval get $(cat every) | sed -n '/^EVALUATOR/,$p'");
    expect_output(
        0,
        "        \"pattern\": \"^a=b$\"\n      \"threshold\": 0.8,\n        \"latency_max_ms\": \"1500\"\n      \"weight\": 2.5,\n"
        "        \"schema\": \"{\\\"type\\\": \\\"object\\\"}\"\n",
        "",
        "forgectl eval get $(cat every) -o json > every.json; for value in '\"pattern\"' '\"threshold\": 0' latency_max_ms "
        "'\"weight\": 2' '\"schema\"'; do grep \"$value\" every.json; done");
    expect_output(0, NULL, "", "forgectl eval cancel $(cat every)");
    expect_output(0, "State            cancelled\n", "", "forgectl eval get $(cat every) | grep State");
}

static void test_add_tells_of_each_line(void **state)
{
    create("added", "--evaluator exact");
    expect_output(
        0, "Accepted    2\nDuplicates  0\nRejected    0\nPassed      1\nFailed      1\n", "",
        "printf '%%s\\n\\n%%s\\n' '{\"item_key\": \"k1\", \"output\": \"1\"}' '{\"item_key\": \"k2\", \"output\": {\"a\": 0.1}}' | "
        "forgectl eval add $(cat added) -f -");
    /* k2 is another one now, k99 is no item, one line is no JSON, one has a field too many: the rest is taken. */
    forgectl_write_file("mixed.jsonl", "{\"item_key\": \"k1\", \"output\": \"1\"}\n{\"item_key\": \"k2\", \"output\": \"2\"}\n"
                                       "{\"item_key\": \"k99\"}\n{\"item_key\n{\"item_key\": \"k4\", \"colour\": 1}\n"
                                       "{\"item_key\": \"k3\", \"error\": \"timeout\"}\n");
    struct child_output output;
    forgectl_shell(&output, "forgectl eval add $(cat added) -f mixed.jsonl");
    assert_string_equal(output.out, "Accepted    1\nDuplicates  1\nRejected    4\nPassed      1\nFailed      1\n");
    assert_non_null(strstr(output.err, "forgectl: mixed.jsonl:4: "));
    assert_non_null(strstr(output.err, "forgectl: mixed.jsonl:5: colour: EvaluationResult has no such field\n"));
    assert_non_null(strstr(output.err, "forgectl: mixed.jsonl:2: ALREADY_EXISTS: "));
    assert_non_null(strstr(output.err, "forgectl: mixed.jsonl:3: NOT_FOUND: "));
    assert_int_equal(output.exit_code, 1); /* the first that is known to be wrong is one that cannot be read */
    child_output_done(&output);
    expect_output(70, NULL, NULL, "sed -n 2p mixed.jsonl | forgectl eval add $(cat added) -f -");
    expect_output(0, "{\n  \"accepted\": 0,\n  \"duplicates\": 1,\n  \"rejected\": 0,\n  \"passed\": 1,\n  \"failed\": 0\n}\n", "",
                  "head -1 mixed.jsonl | forgectl eval add $(cat added) -f - -o json");
    expect_output(0,
                  "ITEM  REPETITION  PASSED  SCORE  LATENCY US  ERROR    OUTPUT\n"
                  "k2    1           no      0                           {\"a\":0.1}\n"
                  "k3    1           no      0                  timeout  \n",
                  "", "forgectl eval results $(cat added) --passed false");
    expect_output(0, "k1\n", "", "forgectl eval results $(cat added) --item k1 -o name");
    expect_output(1, "", "forgectl: /dev/null has no results\n", "forgectl eval add $(cat added) -f /dev/null");
    expect_output(1, "", "forgectl: cannot read missing: No such file or directory\n", "forgectl eval add $(cat added) -f missing");
    expect_output(73, "", NULL, "forgectl eval complete $(cat added)");
    expect_output(0, "State            completed\n", "", "forgectl eval complete $(cat added) --allow-incomplete | grep State");
    expect_output(73, "", NULL, "head -1 mixed.jsonl | forgectl eval add $(cat added) -f -");
}

/* More results than one call takes, twice. */
static void test_add_in_batches(void **state)
{
    create("batches", "--evaluator exact --repetitions 100");
    expect_output(
        0, "Accepted    1200\nDuplicates  0\nRejected    0\nPassed      100\nFailed      1100\n", "",
        "for i in $(seq 12); do seq 100 | sed \"s/.*/{\\\"item_key\\\": \\\"k$i\\\", \\\"repetition\\\": &, \\\"output\\\": \\\"1\\\"}/\"; "
        "done > many.jsonl; forgectl eval add $(cat batches) -f many.jsonl");
    expect_output(0, "Accepted    0\nDuplicates  1200\nRejected    0\nPassed      100\nFailed      1100\n", "",
                  "forgectl eval add $(cat batches) -f many.jsonl");
    expect_output(0, "Results          1200\n", "", "forgectl eval complete $(cat batches) | grep Results");
}

/* Judging all of these in one call is too much for the server, which puts the rest off; they are sent again until all are in. */
static void test_add_sends_again_what_is_put_off(void **state)
{
    expect_output(
        0, NULL, NULL,
        "long() { head -c 30000 /dev/zero | tr '\\0' $1; }; forgectl dataset create long && "
        "echo \"{\\\"key\\\": \\\"k\\\", \\\"expected_output\\\": \\\"$(long a)\\\"}\" | forgectl dataset add long -f - && "
        "for i in 1 2 3 4 5; do echo \"{\\\"item_key\\\": \\\"k\\\", \\\"repetition\\\": $i, \\\"output\\\": \\\"$(long b)\\\"}\"; "
        "done > long.jsonl && forgectl eval create long --prompt greeting --dataset long --repetitions 5 --evaluator levenshtein "
        "-o name > long");
    /* It is put off indeed: one call alone leaves some. */
    expect_output(0, "true\n", "",
                  "(printf '{\"evaluation_id\": \"%%s\", \"results\": [' $(cat long); sed '$!s/$/,/' long.jsonl; echo ']}') | "
                  "forgectl call AddResults -d @- | sed -n 's/.*\"retryable\": \\(true\\).*/\\1/p' | uniq");
    expect_output(0, "Rejected    0\nPassed      0\nFailed      5\n", "", "forgectl eval add $(cat long) -f long.jsonl | tail -3");
    expect_output(0, "Results          5\n", "", "forgectl eval get $(cat long) | grep Results");
}

static void read_id(const char *name, char id[WORLD_ID_SIZE])
{
    struct child_output output;
    forgectl_shell(&output, "cat %s", name);
    snprintf(id, WORLD_ID_SIZE, "%.36s", output.out);
    child_output_done(&output);
}

/* Lines sent are told on the terminal, over each other. */
static void test_progress_on_a_terminal(void **state)
{
    char id[WORLD_ID_SIZE], path[600], seen[4096];
    create("watched", "--evaluator exact --repetitions 100");
    read_id("watched", id);
    forgectl_home_path("many.jsonl", path, sizeof path);
    const char *const line[] = {"forgectl", "eval", "add", id, "-f", path, NULL};
    assert_int_equal(forgectl_on_terminal(line, seen, sizeof seen, NULL), 0);
    assert_string_equal(seen,
                        "\r\033[K1000 results sent\r\033[K1200 results sent\r\033[KAccepted    1200\r\nDuplicates  0\r\nRejected    0\r\n"
                        "Passed      100\r\nFailed      1100\r\n");
}

static void test_evaluations_in_manifests(void **state)
{
    static const char manifest[] =
        "kind: dataset\nname: cases\nitems:\n- {key: a, expected_output: '{\"n\":0.7}'}\n- {key: b, expected_output: x}\n---\n"
        "kind: evaluation\nprompt: greeting\ndataset: cases\nname: kept\npass_threshold: 0.8\nevaluators:\n- exact: {}\n"
        "results:\n- {item_key: a, output: {n: 0.7}}\n- {item_key: b, output: y}\n";
    forgectl_write_file("m.yaml", manifest);
    expect_output(0,
                  "+ dataset cases in Support (2 items)\n+ evaluation kept in Support (2 results)\n2 to create, 0 to update, 0 unchanged\n",
                  "[1/2] created dataset cases (2 items)\n[2/2] created evaluation kept (2 results)\n", "forgectl apply -f m.yaml");
    expect_output(0, "0 to create, 0 to update, 2 unchanged\n", "", "forgectl apply -f m.yaml | tail -1");
    expect_output(0, "kept completed 2 0.5\n", "", "forgectl eval list --dataset cases | awk 'NR == 2 {print $1, $2, $5, $6}'");
    /* One that was left running, as after an interruption, is filled. */
    forgectl_write_file("m.yaml", "kind: evaluation\nprompt: greeting\ndataset: cases\nname: open\nevaluators:\n- exact: {}\n");
    expect_output(0, "+ evaluation open in Support\n1 to create, 0 to update, 0 unchanged\n", NULL, "forgectl apply -f m.yaml");
    expect_output(0, "  evaluation open in Support\n0 to create, 0 to update, 1 unchanged\n", "", "forgectl apply -f m.yaml");
    forgectl_write_file("m.yaml", "kind: evaluation\nprompt: greeting\ndataset: cases\nname: open\nevaluators:\n- exact: {}\n"
                                  "results:\n- {item_key: b, output: x}\n");
    expect_output(0, "  evaluation open in Support (1 result)\n0 to create, 0 to update, 1 unchanged\n", "",
                  "forgectl apply -f m.yaml --create-only");
    expect_output(0, "~ evaluation open in Support (1 result)\n0 to create, 1 to update, 0 unchanged\n", NULL, "forgectl apply -f m.yaml");
    expect_output(0, "open completed 1 1\n", "", "forgectl eval list --dataset cases | awk 'NR == 2 {print $1, $2, $5, $6}'");
    /* A result that is rejected is told with its place. */
    forgectl_write_file("m.yaml", "kind: evaluation\nprompt: greeting\ndataset: cases\nname: wrong\nevaluators:\n- exact: {}\n"
                                  "results:\n- {item_key: b}\n- {item_key: z}\n");
    struct child_output output;
    forgectl_shell(&output, "forgectl apply -f m.yaml");
    assert_int_equal(output.exit_code, 69);
    assert_non_null(strstr(output.err, "forgectl: m.yaml:1:1: results[1]: NOT_FOUND: "));
    child_output_done(&output);
    expect_output(1, "", "forgectl: m.yaml:3:10: there is no dataset \"none\"\n",
                  "sed -i 's/cases/none/' m.yaml; forgectl apply -f m.yaml");
}

/* What is exported makes the same in another organization. */
static void test_export_of_evaluations(void **state)
{
    expect_output(2, "", "forgectl: --evaluations is for a whole project: no prompt with it\n", "forgectl export greeting --evaluations");
    expect_output(0,
                  "kind: evaluation\nproject: Support\nprompt: greeting\ndataset: cases\nname: kept\nprompt_version: 1\nevaluators:\n"
                  "- name: exact\n  weight: 1\n  threshold: 1\n  exact: {}\nrepetitions: 1\npass_threshold: 0.8\nresults:\n- item_key: a\n"
                  "  repetition: 1\n  output: '{\"n\":0.7}'\n- item_key: b\n  repetition: 1\n  output: \"y\"\n",
                  "",
                  "forgectl export --evaluations > exported.yaml && sed -n '/^dataset: cases/,/^---/p' exported.yaml | head -17 | "
                  "sed '1s/^/kind: evaluation\\nproject: Support\\nprompt: greeting\\n/'");
    expect_output(0, "", "", "forgectl apply -f exported.yaml -o name");
    /* Another one of this name that is under way is let alone. */
    expect_output(0, "", "", "forgectl eval create kept --prompt greeting --dataset cases --evaluator exact -o name > kept");
    expect_output(0, "", "", "forgectl apply -f exported.yaml -o name");
    expect_output(0, "State            running\nResults          0\n", "", "forgectl eval get $(cat kept) | grep -E 'State|Results'");
    expect_output(0, NULL, "", "forgectl eval cancel $(cat kept)");
    forgectl_set("FORGE_TOKEN", world.foreign.admin_key);
    forgectl_set("FORGE_PROJECT", world.foreign.project_id);
    expect_output(0, NULL, NULL, "forgectl apply -f exported.yaml");
    expect_output(0, "", "", "forgectl export --evaluations | diff - exported.yaml");
    forgectl_set("FORGE_TOKEN", world.home.admin_key);
    forgectl_set("FORGE_PROJECT", world.home.project_id);
    expect_output(
        0, NULL, "",
        "forgectl eval complete --allow-incomplete $(forgectl eval create kept --prompt greeting --dataset cases --evaluator exact "
        "-o name)");
    expect_output(0, "Evaluation kept (<id>) is left out: a newer one has the same name, prompt and dataset.\n", "",
                  "forgectl export --evaluations 2>&1 >/dev/null | grep kept");
    expect_output(0, NULL, NULL, "echo '{\"key\": \"c\"}' | forgectl dataset add cases -f -");
    struct child_output output;
    forgectl_shell(&output, "forgectl export --evaluations");
    assert_int_equal(output.exit_code, 0);
    assert_null(strstr(output.out, "name: kept\n"));
    assert_non_null(strstr(normalise(output.err), "Evaluation kept (<id>) is left out: its dataset has a newer version.\n"));
    child_output_done(&output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_get_list),
        cmocka_unit_test(test_evaluators),
        cmocka_unit_test(test_add_tells_of_each_line),
        cmocka_unit_test(test_add_in_batches),
        cmocka_unit_test(test_add_sends_again_what_is_put_off),
        cmocka_unit_test(test_progress_on_a_terminal),
        cmocka_unit_test(test_evaluations_in_manifests),
        cmocka_unit_test(test_export_of_evaluations),
    };
    return cmocka_run_group_tests(tests, set_up, forgectl_close_world);
}
