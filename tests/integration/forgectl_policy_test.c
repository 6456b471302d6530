/* forgectl policy and forgectl violation against a real forged: from a draft to what it finds, in a pipe and on a terminal; and policies in
 * manifests. */
#include "forgectl_test_support.h"

#define TRACE_ID "0af7651916cd43dd8448eb211c80319c"
#define KEY                                                                                                                                \
    "AKIA"                                                                                                                                 \
    "Q7RZ4LMN2XPV6TWB" /* in two pieces: it is none */

static const char rules[] = "rules:\n"
                            "- name: keys\n"
                            "  action: block\n"
                            "  severity: critical\n"
                            "  secret: {formats_only: true}\n"
                            "- name: contact\n"
                            "  description: Leave addresses out.\n"
                            "  action: mask\n"
                            "  stages: [input, output]\n"
                            "  pii: {kinds: [email]}\n"
                            "- name: tokens\n"
                            "  action: flag\n"
                            "  severity: low\n"
                            "  token_limit: {total_tokens_max: 100}\n";

static int set_up(void **state)
{
    forgectl_open_servers(2);
    forgectl_set("FORGE_PROJECT", world.home.project_id);
    forgectl_set("TERM", "xterm");
    forgectl_write_file("rules.yaml", rules);
    return 0;
}

/* ---- policies ---- */

static void test_from_draft_to_publication(void **state)
{
    expect_output(0,
                  "Id                <id>\n"
                  "Project           <id>\n"
                  "Name              guard\n"
                  "Description       by hand\n"
                  "Disabled          no\n"
                  "Version in force  0\n"
                  "Draft changed     yes\n"
                  "Draft mode        enforce\n"
                  "Created           <time>\n"
                  "Etag              1\n"
                  "\n"
                  "Rules of the draft\n"
                  "RULE     ACTION  SEVERITY  STAGES         DESCRIPTION\n"
                  "keys     block   critical                 \n"
                  "contact  mask    medium    input, output  Leave addresses out.\n"
                  "tokens   flag    low                      \n",
                  "", "forgectl policy create guard --project Support --description 'by hand' -f rules.yaml");
    expect_output(70, "", NULL, "forgectl policy create guard --project Support -f rules.yaml");
    expect_output(0, "1\n", "", "forgectl policy publish guard --project Support -m 'first' --etag 1 -o name");
    expect_output(74, "", NULL, "forgectl policy publish guard --etag 1");
    expect_output(0,
                  "NAME   VERSION  MODE     DRAFT CHANGED  DISABLED  PROJECT                               ID\n"
                  "guard  1        enforce  no             no        <id>  <id>\n",
                  "", "forgectl policy list --project Support --include-organization");
    expect_output(0, "guard\n", "", "forgectl policy list --prefix gu -o name");
    expect_output(0, "", "", "forgectl policy list --prefix x -o name");
    expect_output(0,
                  "Version in force  1\nDraft changed     no\nDraft mode        enforce\nVersion           1\nMode              enforce\n"
                  "Message           first\n",
                  "", "forgectl policy get guard | sed -n '/^Version in/,/^Message/p'");
    expect_output(0, "Draft mode        dry_run\nRules of version 1\nRules of the draft\n", "",
                  "forgectl policy update guard --mode dry_run | grep -e 'Draft mode' -e Rules");
    expect_output(0, "mode: POLICY_MODE_ENFORCE\n", "",
                  "forgectl policy update guard --mode enforce -o yaml | grep -o 'mode: .*' | sort -u");
    expect_output(69, "", NULL, "forgectl policy get guard --version 2");
    expect_output(69, "", "forgectl: NOT_FOUND: there is no policy \"none\"\n", "forgectl policy get none");
    expect_output(2, "", "forgectl: nothing to change is given; see forgectl policy update --help\n", "forgectl policy update guard");
    expect_output(2, "", "forgectl: --yes is needed where nobody can be asked\n", "forgectl policy delete guard </dev/null");
}

static void test_bad_files(void **state)
{
    static const struct {
        const char *text, *message;
        int code;
    } cases[] = {
        {"rules: 5\n", "forgectl: bad.yaml:1:8: rules: must be an array\n", 1},
        {"rules:\n- name: a\n  action: stop\n", "forgectl: bad.yaml:3:11: rules[0].action: \"stop\" is not a value of PolicyAction\n", 1},
        {"attachments:\n- project_id: x\n",
         "forgectl: bad.yaml:2:3: unknown field \"project_id\"; PolicyAttachment has organization, label, model, project\n", 1},
        {"attachments:\n- project: Nowhere\n", "forgectl: NOT_FOUND: ", 69},
        {"attachments:\n- model: {provider: Nobody, name: none}\n", "forgectl: NOT_FOUND: ", 69},
        {"rules:\n- name: a\n  action: flag\n  allowed_models: {models: x}\n",
         "forgectl: bad.yaml:4:28: models: must be a list of {provider: its provider's name, name: its name}\n", 1},
        {"rules:\n- name: a\n  action: flag\n  pattern: {patterns: ['(']}\n", "forgectl: INVALID_ARGUMENT: rules[0].pattern.patterns[0]",
         67},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct child_output output;
        forgectl_write_file("bad.yaml", cases[i].text);
        forgectl_shell(&output, "forgectl policy create bad -f bad.yaml");
        if (output.exit_code != cases[i].code || !strstr(output.err, cases[i].message) || *output.out)
            fail_msg("%s\nended with %d:\n%s%s", cases[i].text, output.exit_code, output.out, output.err);
        child_output_done(&output);
    }
    expect_output(0, "", "", "forgectl policy list --prefix bad -o name");
}

/* Names that several policies have, and names in place of ids. */
static void test_names(void **state)
{
    expect_output(0, NULL, "", "forgectl provider create Maker && forgectl model create --provider Maker m-1");
    forgectl_write_file("names.yaml",
                        "attachments:\n- label: production\n- model: {provider: Maker, name: m-1}\n- project: Support\n"
                        "rules:\n- name: models\n  action: block\n  allowed_models: {models: [{provider: Maker, name: m-1}]}\n");
    expect_output(0, "", "", "forgectl policy create twin -f names.yaml -o name > organization.id");
    expect_output(0, "", "", "forgectl policy create twin --project Support -f rules.yaml -o name > project.id");
    expect_output(2, "", "forgectl: there are several policies \"twin\": give its id, or --project\n", "forgectl policy get twin");
    expect_output(0, "", "", "forgectl policy get twin --project Support -o name | diff - project.id");
    expect_output(0,
                  "- label: production\n- model_id: \"<id>\"\n- project_id: \"<id>\"\n"
                  "      - \"<id>\"\n",
                  "",
                  "forgectl policy get $(cat organization.id) -o yaml > twin.yaml; sed -n '/^attachments/,/^[^-]/{/^-/p}' twin.yaml; "
                  "grep -A1 model_ids: twin.yaml | tail -1");
    expect_output(0, NULL, "", "for id in $(cat organization.id project.id); do forgectl policy delete $id --yes; done");
    expect_output(0, "", "", "forgectl policy list --prefix twin -o name");
}

/* ---- check ---- */

static void test_check_in_a_pipe(void **state)
{
    struct child_output output;
    /* In force when apply ends. */
    expect_output(0, NULL, NULL, "printf 'kind: policy\\nproject: Support\\nname: guard\\ndescription: checked\\n' | forgectl apply -f -");
    forgectl_shell(&output, "printf 'write to\\nada@example.com\\t\\n' | forgectl policy check --input-file -");
    assert_int_equal(output.exit_code, 0);
    assert_string_equal(normalise(output.out), "Allowed, masked (decision <id>)\n"
                                               "Evaluated: guard 1\n"
                                               "\n"
                                               "mask  guard 1, rule contact, medium: There is personal data. Leave addresses out.\n"
                                               "  input at 2:1 (email)\n"
                                               "  1 | write to\n"
                                               "  2 | ada@example.com\\t\n"
                                               "    | ^^^^^^^^^^^^^^^\n"
                                               "\n"
                                               "Masked input:\n"
                                               "  write to\n"
                                               "  [contact]\\t\n");
    child_output_done(&output);
    forgectl_shell(&output, "forgectl policy check --input 'hello' --output-text '鍵 %s' --input-tokens 90 --output-tokens 20", KEY);
    assert_int_equal(output.exit_code, 3);
    assert_non_null(strstr(output.out, "Blocked (decision "));
    assert_non_null(strstr(output.out, "\nblock  guard 1, rule keys, critical: "));
    assert_non_null(strstr(output.out, "\n  output at 1:3\n  1 | 鍵 " KEY "\n    |    ^^^^^^^^^^^^^^^^^^^^\n"));
    assert_non_null(strstr(output.out, "\nflag  guard 1, rule tokens, low: "));
    assert_string_equal(output.err, "");
    child_output_done(&output);
    expect_output(0, "allowed\n", "", "forgectl policy check --input hello -o name");
    expect_output(3, "blocked\n", "", "forgectl policy check --input 'key %s' -o name", KEY);
    expect_output(3, "  \"action\": \"POLICY_ACTION_BLOCK\",\n", "",
                  "forgectl policy check --input 'key %s' -o json > c.json; code=$?; sed -n 3p c.json; exit $code", KEY);
    expect_output(0, "Allowed (decision <id>)\nEvaluated: guard 1\n", "", "forgectl policy check");
}

static void test_check_on_a_terminal(void **state)
{
    static const char *const line[] = {"forgectl", "policy", "check", "--input", "to ada@example.com", NULL};
    char seen[2048];
    assert_int_equal(forgectl_on_terminal(line, seen, sizeof seen, NULL), 0);
    assert_non_null(strstr(seen, "\033[32mAllowed\033[0m, masked (decision "));
    assert_non_null(strstr(seen, "\r\n\033[33mmask\033[0m  guard 1, rule contact, medium: "));
    assert_non_null(strstr(seen, "\r\n  1 | to \033[4;33mada@example.com\033[0m\r\n\r\nMasked input:\r\n  to [contact]\r\n"));
    assert_null(strchr(seen, '^'));
}

static void test_check_refuses(void **state)
{
    expect_output(2, "", "forgectl: --input and --input-file exclude each other\n", "forgectl policy check --input a --input-file b");
    expect_output(2, "", "forgectl: standard input is either the input or the output\n",
                  "forgectl policy check --input-file - --output-file - </dev/null");
    expect_output(1, "", "forgectl: cannot read missing: No such file or directory\n", "forgectl policy check --input-file missing");
    expect_output(1, "", "forgectl: - holds a NUL character\n", "printf 'a\\0b' | forgectl policy check --input-file -");
    expect_output(2, "", "forgectl: --input-tokens must be a number from 0 to 2147483647, not \"-1\"\n",
                  "forgectl policy check --input-tokens=-1");
    expect_output(2, "", "forgectl: --latency must be a duration of 1ms or more, such as 850ms or 2s, not \"fast\"\n",
                  "forgectl policy check --latency fast");
    expect_output(69, "", NULL, "forgectl policy check --prompt missing");
    expect_output(67, "", NULL, "printf '\\377' | forgectl policy check --input-file -");
}

static void test_stats(void **state)
{
    expect_output(2, "", NULL, "forgectl policy stats --policy");
    expect_output(67, "", NULL, "forgectl policy stats --from yesterday");
    expect_output(0, "DATE POLICY EVALUATED PASSED FLAGGED MASKED BLOCKED\n", "",
                  "forgectl policy stats --from 2026-01-01 --to 2026-01-02 | tr -s ' '");
    expect_output(69, "", NULL, "forgectl policy stats --policy none");
}

/* ---- violations ---- */

static void ingest(void)
{
    expect_output(0, NULL, "",
                  "now=$(date +%%s)000000000; echo '{\"trace_id\": \"" TRACE_ID
                  "\", \"span_id\": \"b7ad6b7169203331\", \"name\": \"draft\", "
                  "\"kind\": \"SPAN_KIND_LLM\", \"input\": \"to ada@example.com\", \"start_ns\": '$now', \"end_ns\": '$now'}' | "
                  "forgectl trace ingest -f -");
}

static void test_violations(void **state)
{
    ingest();
    expect_output(0, "STATE SEVERITY ACTION POLICY RULE STAGE\nopen medium mask guard contact input\n", "",
                  "forgectl violation list --trace " TRACE_ID " | sed 's/^FOUND/a b/' | awk '{print $3, $4, $5, $6, $7, $8}'");
    expect_output(0, "", "", "forgectl violation list -o name --trace " TRACE_ID " > id");
    expect_output(0,
                  "Id              <id>\n"
                  "State           open\n"
                  "Policy          guard\n"
                  "Policy version  1\n"
                  "Rule            contact\n"
                  "Action          mask\n"
                  "Severity        medium\n"
                  "Mode            enforce\n"
                  "Stage           input\n"
                  "Finding         There is personal data. Leave addresses out.\n"
                  "Prompt version  0\n"
                  "Trace           " TRACE_ID "\n"
                  "Span            b7ad6b7169203331\n"
                  "By              <id>\n"
                  "Found           <time>\n"
                  "Etag            1\n"
                  "\n"
                  "START BYTE  END BYTE  KIND   FIELD\n"
                  "3           18        email  input\n",
                  "", "forgectl violation get $(cat id)");
    expect_output(0, "", "", "forgectl violation list --state resolved -o name");
    expect_output(0, "<id>\n", "", "forgectl violation list --policy guard --severity medium --action mask --since 1h -o name");
    expect_output(0, "", "", "forgectl violation list --severity critical -o name");
    expect_output(0, "State            acknowledged\nComment          asking\n", "",
                  "forgectl violation acknowledge $(cat id) -m asking --etag 1 | grep -e State -e Comment");
    expect_output(73, "", NULL, "forgectl violation acknowledge $(cat id)");
    expect_output(2, "", "forgectl: resolution must be one of fixed, false_positive, accepted, not \"done\"\n",
                  "forgectl violation resolve $(cat id) done");
    expect_output(2, "", "forgectl: usage: forgectl violation resolve <id> <fixed|false_positive|accepted>\n",
                  "forgectl violation resolve $(cat id)");
    expect_output(0, "resolution: VIOLATION_RESOLUTION_FALSE_POSITIVE\nresolve_comment: a test\n", "",
                  "forgectl violation resolve $(cat id) false_positive -m 'a test' -o yaml | grep -e ^resolution -e ^resolve_comment");
    expect_output(0, "<id>\n", "", "forgectl violation list --state resolved -o name");
    expect_output(73, "", NULL, "forgectl violation resolve $(cat id) fixed");
    expect_output(69, "", NULL, "forgectl violation get 0199e5c0-0000-7000-8000-000000000001");
}

/* ---- manifests ---- */

static const char manifest[] =
    "kind: provider\nname: Lab\n---\nkind: model\nprovider: Lab\nname: lab-1\n---\n"
    "kind: policy\nname: of all\ndescription: everywhere\nrules:\n"
    "- {name: often, action: flag, rate_limit: {calls_max: 1000000}}\n---\n"
    "kind: policy\nproject: Support\nname: of lab\nmode: dry_run\nattachments:\n- model: {provider: Lab, name: lab-1}\n"
    "- label: beta\nrules:\n- name: others\n  action: flag\n  allowed_models: {models: [{provider: Lab, name: lab-1}]}\n"
    "- name: form\n  action: flag\n  output_schema: {schema: {type: object}}\n---\n"
    "kind: policy\nproject: Support\nname: not yet\npublish: false\nrules:\n"
    "- {name: words, action: flag, keyword: {keywords: [sorry]}}\n";

static void test_manifests(void **state)
{
    forgectl_write_file("m.yaml", manifest);
    expect_output(0,
                  "+ provider Lab\n+ model lab-1 in Lab\n+ policy of all\n+ policy of lab in Support\n+ policy not yet in Support\n"
                  "5 to create, 0 to update, 0 unchanged\n",
                  NULL, "forgectl apply -f m.yaml");
    expect_output(0, "0 to create, 0 to update, 5 unchanged\n", "", "forgectl apply -f m.yaml | tail -1");
    expect_output(
        0, "guard 1\nnot yet 0\nof all 1\nof lab 1\n", "",
        "forgectl policy list -o json | sed -n 's/^ *\"name\": \"\\(.*\\)\",$/\\1/p; s/^ *\"published_version\": \\([0-9]*\\),$/\\1/p' | "
        "awk '/^[0-9]/ {print name, $0; name = \"\"; next} {if (name) print name, 0; name = $0}'");
    /* In force when apply ends: no waiting here. */
    expect_output(0, "Evaluated: of all 1, of lab 1, guard 1\n", "",
                  "forgectl policy check --label beta | sed -n 2p | tr ',:' '\\n\\n' | sed 's/^ //' | sort | tr '\\n' ',' | "
                  "sed 's/Evaluated,guard 1,of all 1,of lab 1,/Evaluated: of all 1, of lab 1, guard 1\\n/'");
    /* What differs is changed and published; what is given to nobody stays. */
    expect_output(
        0, "~ policy of lab in Support (mode, publish)\n~ policy not yet in Support (publish)\n", NULL,
        "sed 's/mode: dry_run/mode: enforce/; /publish: false/d' m.yaml > changed.yaml; forgectl apply -f changed.yaml | grep ^~");
    expect_output(0, "0 to create, 0 to update, 5 unchanged\n", "", "forgectl apply -f changed.yaml | tail -1");
    expect_output(0, "2\n", "", "forgectl policy get 'of lab' -o json | sed -n 's/^  \"published_version\": \\(.*\\),/\\1/p'");
    expect_output(0, "  policy of lab in Support\n", "", "forgectl apply -f m.yaml --create-only | grep 'of lab'");
    /* Another draft that nobody published yet is. */
    expect_output(0, NULL, "", "forgectl policy update 'not yet' --mode dry_run && forgectl policy update 'of all' --disabled true");
    expect_output(0, "~ policy not yet in Support (publish)\n", NULL, "forgectl apply -f changed.yaml | grep ^~");
    expect_output(0, "policy/of lab\n", NULL, "sed 's/label: beta/label: gamma/' changed.yaml | forgectl apply -f - -o name");
    expect_output(0, "policy/of lab\n", NULL, "forgectl apply -f changed.yaml -o name");
}

static void test_bad_manifests(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"kind: policy\nname: a\n", "forgectl: m.yaml:1:1: rules are missing; without them: publish: false\n"},
        {"kind: policy\nname: a\npublish: maybe\n", "forgectl: m.yaml:3:10: publish: must be true or false\n"},
        {"kind: policy\nname: a\nproject: Nowhere\n", "forgectl: m.yaml:3:10: there is no project \"Nowhere\"\n"},
        {"kind: policy\nname: a\nattachments:\n- project: Nowhere\n", "forgectl: m.yaml:1:1: there is no project \"Nowhere\"\n"},
        {"kind: policy\nname: a\nattachments:\n- model: {provider: X, name: y}\n",
         "forgectl: m.yaml:1:1: policy \"a\": there is no model \"y\" of provider \"X\"\n"},
        {"kind: policy\nname: a\nattachments:\n- project: [x]\n", "forgectl: m.yaml:4:12: project: must be the name of a project\n"},
        {"kind: policy\nname: a\ncolour: red\n",
         "forgectl: m.yaml:3:1: unknown field \"colour\"; policy has project, name, description, mode, "
         "rules, attachments, publish\n"},
        {"kind: policy\nname: a\n---\nkind: policy\nname: a\n", "forgectl: m.yaml:4:1: policy \"a\" is there already, at m.yaml:1:1\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_apply_refused(cases[i].text, cases[i].message);
}

/* What is exported is unchanged here, and makes the same in another organization. */
static void test_export(void **state)
{
    expect_output(2, "", NULL, "forgectl export --policies --models");
    expect_output(0, NULL, "",
                  "forgectl policy update 'not yet' --mode enforce && forgectl policy publish 'not yet' && "
                  "forgectl policy update 'not yet' --mode dry_run");
    expect_output(0, NULL, "Policy not yet is written with publish: false: its draft is not what is in force.\n",
                  "forgectl export > project.yaml");
    expect_output(0, NULL, "Policy of all is written with publish: false: it is disabled.\n", "forgectl export --policies > policies.yaml");
    expect_output(0, "", "", "forgectl apply -f project.yaml -o name && forgectl apply -f policies.yaml -o name");
    expect_output(
        0,
        "---\nkind: policy\nproject: Support\nname: of lab\nmode: POLICY_MODE_ENFORCE\nrules:\n- name: others\n  action: "
        "POLICY_ACTION_FLAG\n"
        "  severity: SEVERITY_MEDIUM\n  allowed_models:\n    models:\n    - provider: Lab\n      name: lab-1\n- name: form\n"
        "  action: POLICY_ACTION_FLAG\n  severity: SEVERITY_MEDIUM\n  output_schema:\n    schema: '{\"type\":\"object\"}'\nattachments:\n"
        "- model:\n    provider: Lab\n    name: lab-1\n- label: beta\n",
        "", "(printf -- '---\\nkind: policy\\nproject: Support\\n'; sed -n '/^name: of lab/,/^---/p' project.yaml | grep -v ^---)");
    forgectl_set("FORGE_TOKEN", world.foreign.admin_key);
    forgectl_set("FORGE_PROJECT", world.foreign.project_id);
    expect_output(0, NULL, NULL, "forgectl apply -f project.yaml && forgectl apply -f policies.yaml");
    expect_output(0, "", "", "forgectl apply -f project.yaml -o name && forgectl apply -f policies.yaml -o name");
    expect_output(0, "guard 1\nnot yet 0\nof all 0\nof lab 1\n", "",
                  "forgectl policy list | sed '1d' | sed 's/  */ /g; s/ of/_of/' | awk '{v = $2; n = $1; if ($1 == \"not\" || $1 == "
                  "\"of\") {n = n \" \" $2; v = $3} print n, v}'");
    expect_output(0, "", "", "forgectl export --project Support | diff - project.yaml");
    forgectl_set("FORGE_TOKEN", world.home.admin_key);
    forgectl_set("FORGE_PROJECT", world.home.project_id);
    /* A model that is deleted has no name any more. */
    expect_output(0, NULL, "", "forgectl model delete lab-1 --yes");
    expect_output(0, "Policy of lab is left out: it names a model that is deleted.\n", "",
                  "forgectl export 2>&1 >/dev/null | grep 'of lab'");
}

/* Traces of a manifest are judged by its policies, also on a server that has yet to hear that they were published: by an earlier run, which
 * was interrupted, on another one. */
static void test_policies_before_traces(void **state)
{
    for (int i = 1; i <= 5; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 "kind: policy\nproject: Support\nname: fresh %d\nrules:\n- {name: w, action: flag, keyword: {keywords: [word%d]}}\n", i,
                 i);
        forgectl_write_file("policy.yaml", text);
        snprintf(text, sizeof text,
                 "kind: trace\nproject: Support\ntrace_id: 0af7651916cd43dd8448eb211c80310%d\nstart: -1h\nspans:\n"
                 "- {span_id: b7ad6b7169203331, name: a, kind: llm, start: 0s, duration: 1s, input: word%d}\n",
                 i, i);
        forgectl_write_file("trace.yaml", text);
        expect_output(0, NULL, NULL, "forgectl apply -f policy.yaml && FORGE_SERVER=%s forgectl apply -f trace.yaml -f policy.yaml",
                      world_address(&world, 1));
        expect_output(0, "<id>\n", "", "forgectl violation list --policy 'fresh %d' -o name", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_draft_to_publication),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_check_in_a_pipe),
        cmocka_unit_test(test_check_on_a_terminal),
        cmocka_unit_test(test_check_refuses),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_violations),
        cmocka_unit_test(test_manifests),
        cmocka_unit_test(test_bad_manifests),
        cmocka_unit_test(test_export),
        cmocka_unit_test(test_policies_before_traces),
    };
    return cmocka_run_group_tests(tests, set_up, forgectl_close_world);
}
