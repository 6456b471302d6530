/* forgectl without a server: help, mistakes on the command line, contexts, and the manual page. */
#include "forgectl_test_support.h"

static int make_home(void **state)
{
    forgectl_make_home();
    forgectl_set("LC_ALL", "C.UTF-8");
    return 0;
}

static int remove_home(void **state)
{
    forgectl_remove_home();
    return 0;
}

/* ---- help ---- */

static void test_forgectl_alone_shows_its_commands(void **state)
{
    struct child_output output;
    forgectl_shell(&output, "forgectl");
    assert_int_equal(output.exit_code, 2);
    assert_string_equal(output.out, "");
    assert_non_null(strstr(output.err, "Usage\n  forgectl <command>\n"));
    assert_non_null(strstr(output.err, "\n  prompt           Prompts and their versions\n"));
    child_output_done(&output);
}

static void test_forgectl_help_of_a_command(void **state)
{
    static const char help[] = "List projects\n\n"
                               "Usage\n  forgectl project list\n\n"
                               "Options\n"
                               "      --prefix TEXT       only names that begin so\n"
                               "      --page-size N       most rows, 1 to 1000 (50)\n"
                               "      --page-token TOKEN  go on where the page before has ended\n\n"
                               "Global options\n";
    static const char *const lines[] = {"forgectl project list --help", "forgectl project list -h", "forgectl help project list",
                                        "forgectl --help project list"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct child_output output;
        forgectl_shell(&output, "%s", lines[i]);
        assert_int_equal(output.exit_code, 0);
        assert_memory_equal(output.out, help, sizeof help - 1);
        assert_non_null(strstr(output.out, "Examples\n  forgectl project list\n"));
        child_output_done(&output);
    }
}

static void test_forgectl_version(void **state)
{
    expect_output(0, "forgectl 0.1.0\n", "", "forgectl version");
}

/* Every command has help with an example; the manual page is the command tree. */
static void test_forgectl_manual_is_the_command_tree(void **state)
{
    const char *source = getenv("FORGE_SOURCE_DIR");
    struct child_output output;
    forgectl_shell(&output, "forgectl help --markdown | diff - '%s/client/man/forgectl.1.md'", source ? source : ".");
    if (output.exit_code)
        fail_msg("client/man/forgectl.1.md is not what forgectl help --markdown prints:\n%s%s", output.out, output.err);
    child_output_done(&output);
    forgectl_shell(&output, "forgectl help --markdown");
    unsigned commands = 0, examples = 0;
    for (const char *at = output.out; (at = strstr(at, "\n## forgectl ")); at++)
        commands++;
    for (const char *at = output.out; (at = strstr(at, "\nExamples:\n")); at++)
        examples++;
    assert_true(commands > 20);
    assert_int_equal(examples, commands);
    child_output_done(&output);
}

/* ---- mistakes ---- */

static void test_forgectl_names_what_is_wrong(void **state)
{
    static const struct {
        const char *line, *message;
    } cases[] = {
        {"forgectl promt", "forgectl: unknown command \"forgectl promt\"; did you mean \"forgectl prompt\"?\n"},
        {"forgectl prompt rnder", "forgectl: unknown command \"forgectl prompt rnder\"; did you mean \"forgectl prompt render\"?\n"},
        {"forgectl xyzzy", "forgectl: unknown command \"forgectl xyzzy\"; see forgectl --help\n"},
        {"forgectl help nothing", "forgectl: no command \"forgectl nothing\"\n"},
        {"forgectl project list --prefixx a", "forgectl: unknown option --prefixx; did you mean --prefix?\n"},
        {"forgectl project list -q", "forgectl: unknown option -q; see forgectl project list --help\n"},
        {"forgectl project list --prefix", "forgectl: --prefix needs a value: TEXT\n"},
        {"forgectl project list --prefix a --prefix=b", "forgectl: --prefix is given twice\n"},
        {"forgectl project list more", "forgectl: unexpected argument \"more\"; see forgectl project list --help\n"},
        {"forgectl project get", "forgectl: usage: forgectl project get <id or name>\n"},
        {"forgectl health --watch=yes", "forgectl: --watch takes no value\n"},
        {"forgectl whoami -o xml", "forgectl: --output must be table, json, yaml or name, not \"xml\"\n"},
        {"forgectl whoami --timeout 0", "forgectl: --timeout must be a number from 1 to 600000, not \"0\"\n"},
        {"forgectl whoami --timeout 1s", "forgectl: --timeout must be a number from 1 to 600000, not \"1s\"\n"},
        {"forgectl project list --page-size 1001", "forgectl: --page-size must be a number from 1 to 1000, not \"1001\"\n"},
        {"forgectl call GetPromt", "forgectl: unknown method \"GetPromt\"; did you mean GetPrompt?\n"},
        {"forgectl call Ping -d '{\"payloat\": \"\"}'", "forgectl: the data is no forge.v1.PingRequest: payloat: PingRequest has no such "
                                                        "field\n  payloat: PingRequest has no such field\n"},
        {"forgectl key create ci --scope root", "forgectl: --scope must be one of read, write, admin, ingest, not \"root\"\n"},
        {"forgectl prompt render a --var novalue --project p", "forgectl: --var must be name=value or name=@file, not \"novalue\"\n"},
        {"forgectl prompt get a --version 1 --label b", "forgectl: --version and --label exclude each other\n"},
        {"forgectl prompt list", "forgectl: which project? --project, FORGE_PROJECT, or forgectl context set <name> --project\n"},
        {"forgectl prompt create a", "forgectl: the prompt needs a text: --content TEXT or --file PATH (- for standard input)\n"},
        {"forgectl eval create a --project p --evaluator exakt",
         "forgectl: --evaluator must be one of exact, contains, regex, numeric, levenshtein, json_valid, json_schema, latency, cost, "
         "external, not \"exakt\"\n"},
        {"forgectl eval create a --evaluator exact=1", "forgectl: --evaluator exact takes no value\n"},
        {"forgectl eval create a --evaluator regex", "forgectl: --evaluator regex needs a value: regex=pattern\n"},
        {"forgectl eval create a --evaluator json_schema", "forgectl: --evaluator json_schema needs a value: json_schema=FILE\n"},
        {"forgectl eval create a --evaluator latency=1.5",
         "forgectl: --evaluator latency: latency_max_ms must be a whole number, not \"1.5\"\n"},
        {"forgectl eval create a --evaluator numeric=", "forgectl: --evaluator numeric: absolute_tolerance must be a number, not \"\"\n"},
        {"forgectl eval create a --evaluator numeric=inf",
         "forgectl: --evaluator numeric: absolute_tolerance must be a number, not \"inf\"\n"},
        {"forgectl eval create a --pass-threshold high", "forgectl: --pass-threshold must be a number, not \"high\"\n"},
        {"forgectl eval create a --pass-threshold nan", "forgectl: --pass-threshold must be a number, not \"nan\"\n"},
        {"forgectl eval create a --metadata run", "forgectl: --metadata must be key=value, not \"run\"\n"},
        {"printf 'pass_threshold: 1\\n' | forgectl eval create a --pass-threshold 0.5 -f -",
         "forgectl: pass_threshold is given twice, in two ways\n"},
        {"printf 'name: b\\n' | forgectl eval create a -f -", "forgectl: name is given twice, in two ways\n"},
        {"forgectl eval list --state done --project p", "forgectl: --state must be one of running, completed, cancelled, not \"done\"\n"},
        {"forgectl eval add a", "forgectl: which results? --file PATH (- for standard input)\n"},
        {"forgectl eval add a -f - --request-id b",
         "forgectl: eval add may make many calls: --request-id is of no use; add again instead\n"},
        {"forgectl eval compare a b --alpha 0", "forgectl: --alpha must be a number over 0 and under 1, not \"0\"\n"},
        {"forgectl eval compare a b --alpha 5%", "forgectl: --alpha must be a number over 0 and under 1, not \"5%\"\n"},
        {"forgectl eval compare a b --fail-on all", "forgectl: --fail-on must be broken or worse, not \"all\"\n"},
        {"forgectl eval compare a", "forgectl: usage: forgectl eval compare <baseline id> <candidate id>\n"},
        {"forgectl ping --server a:0",
         "forgectl: addresses: entry 1, \"a:0\", must be host, host:port or [IPv6]:port with a port of 1 to 65535\n"},
        {"forgectl ping --token 'a b'", "forgectl: token must be printable ASCII without spaces\n"},
        {"forgectl organization create Acme </dev/null",
         "forgectl: an operator token is needed: FORGE_OPERATOR_TOKEN or --token (forged bootstrap token makes one)\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_output(2, "", cases[i].message, "%s", cases[i].line);
}

static void test_forgectl_names_what_fails_on_this_machine(void **state)
{
    expect_output(1, "", "forgectl: cannot read missing.json: No such file or directory\n", "forgectl call Ping -d @missing.json");
    expect_output(1, "", "forgectl: there is no context \"x\"; see forgectl context list\n", "forgectl ping --context x");
    expect_output(1, "", NULL, "forgectl ping --ca missing.pem");
    expect_output(1, "", "forgectl: the password must have 1 to 512 bytes\n", "forgectl login a@b.example </dev/null");
    expect_output(1, "", NULL, "forgectl version >/dev/full");
    expect_output(1, "", "forgectl: cannot read missing.json: No such file or directory\n",
                  "forgectl eval create a --evaluator json_schema=missing.json");
    expect_output(1, "",
                  "forgectl: -:2:1: unknown field \"prompt_id\"; CreateEvaluationRequest has name, description, prompt_version, "
                  "dataset_version, evaluators, repetitions, pass_threshold, metadata\n",
                  "printf 'repetitions: 2\\nprompt_id: x\\n' | forgectl eval create a -f -");
    expect_output(1, "", "forgectl: -:2:20: evaluators[0].regex.pattern: must be a string\n",
                  "printf 'evaluators:\\n- regex: {pattern: 5}\\n' | forgectl eval create a -f -");
    expect_output(1, "", "forgectl: -: must be a mapping with fields of CreateEvaluationRequest\n",
                  "echo '- exact' | forgectl eval create a -f -");
    expect_output(1, "", NULL, "printf 'evaluators: [\\n' | forgectl eval create a -f -");
}

static void test_forgectl_without_a_server(void **state)
{
    expect_output(78, "", "forgectl: UNAVAILABLE: no connection: 127.0.0.1:1: cannot connect\n", "forgectl ping --server 127.0.0.1:1");
}

/* ---- contexts ---- */

static void test_forgectl_contexts(void **state)
{
    expect_output(0, "  NAME  SERVER  USER  PROJECT  CREDENTIAL\n", "", "forgectl context list");
    expect_output(0, "", "", "forgectl context set local --server localhost:7000 --project checkout");
    expect_output(0, "", "", "forgectl context set b\xc3\xbcro 2>/dev/null || forgectl context set office --server [::1] --token pfk_x");
    expect_output(0,
                  "   NAME    SERVER          USER  PROJECT   CREDENTIAL\n"
                  "*  local   localhost:7000        checkout  none\n"
                  "   office  [::1]                           key\n",
                  "", "forgectl context list");
    expect_output(0, "", "", "forgectl context use office");
    expect_output(0,
                  "current: office\n"
                  "contexts:\n"
                  "- name: local\n"
                  "  server: localhost:7000\n"
                  "  project: checkout\n"
                  "- name: office\n"
                  "  server: '[::1]'\n"
                  "  token: pfk_x\n",
                  "", "cat .config/promptforge/contexts.yaml");
    expect_output(0, "600\n700\n", "", "stat -c %%a .config/promptforge/contexts.yaml .config/promptforge");
    expect_output(0, "local\noffice\n", "", "forgectl context list -o name");
    expect_output(0, "", "", "forgectl context delete office && forgectl context set local --server forge.example.com");
    expect_output(0,
                  "   NAME   SERVER             USER  PROJECT   CREDENTIAL\n"
                  "*  local  forge.example.com        checkout  none\n",
                  "", "forgectl context list");
    expect_output(1, "", "forgectl: there is no context \"office\"; see forgectl context list\n", "forgectl context use office");
    expect_output(1, "", "forgectl: there is no context \"office\"; see forgectl context list\n", "forgectl context delete office");
    expect_output(2, "", NULL, "forgectl context set 'a b'");
    expect_output(2, "", NULL, "forgectl context list -o json");
}

static void test_forgectl_context_file_elsewhere(void **state)
{
    expect_output(0, "", "", "XDG_CONFIG_HOME=$PWD/xdg forgectl context set a --server h");
    expect_output(0, "a\n", "", "XDG_CONFIG_HOME=$PWD/xdg forgectl context list -o name");
    expect_output(0, "", "", "test -f xdg/promptforge/contexts.yaml");
}

static void test_forgectl_context_file_that_is_wrong(void **state)
{
    static const struct {
        const char *content, *message;
    } cases[] = {
        {"- a", ":1: must be a mapping with current and contexts"},
        {"current: a\\nother: b", ":2: only current and contexts may stand here"},
        {"contexts: 5", ":1: contexts must be a list"},
        {"contexts:\\n- 5", ":2: contexts must be a list of at most 64 mappings"},
        {"contexts:\\n- name: a\\n  colour: red", ":3: a context has name, server, ca, token, project and user only"},
        {"contexts:\\n- name: [a]", ":2: the value must be text of less than 512 bytes"},
        {"contexts: [", ":"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct child_output output;
        forgectl_shell(
            &output,
            "mkdir -p bad/promptforge; printf '%%b\\n' '%s' > bad/promptforge/contexts.yaml; XDG_CONFIG_HOME=$PWD/bad forgectl ping",
            cases[i].content);
        assert_int_equal(output.exit_code, 1);
        if (!strstr(output.err, cases[i].message) || !strstr(output.err, "bad/promptforge/contexts.yaml"))
            fail_msg("%s: %s", cases[i].content, output.err);
        child_output_done(&output);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forgectl_alone_shows_its_commands),
        cmocka_unit_test(test_forgectl_help_of_a_command),
        cmocka_unit_test(test_forgectl_version),
        cmocka_unit_test(test_forgectl_manual_is_the_command_tree),
        cmocka_unit_test(test_forgectl_names_what_is_wrong),
        cmocka_unit_test(test_forgectl_names_what_fails_on_this_machine),
        cmocka_unit_test(test_forgectl_without_a_server),
        cmocka_unit_test(test_forgectl_contexts),
        cmocka_unit_test(test_forgectl_context_file_elsewhere),
        cmocka_unit_test(test_forgectl_context_file_that_is_wrong),
    };
    return cmocka_run_group_tests(tests, make_home, remove_home);
}
