/* forgectl apply and export: what is refused before anything is asked, plans, applying again and again, and the way back. */
#include "forgectl_test_support.h"

/* How many rows the organization of the tests has. */
static int64_t count(const char *table)
{
    return world_number(&world, "select count(*) from %s where organization_id = '%s'", table, world.home.organization_id);
}

/* ---- bad input ---- */

static void test_apply_names_what_is_wrong(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "forgectl: m.yaml: holds no object\n"},
        {"# nothing\n---\n", "forgectl: m.yaml: holds no object\n"},
        {"- a\n", "forgectl: m.yaml:1:1: a document must be a mapping with kind and the fields of that kind\n"},
        {"name: a\n", "forgectl: m.yaml:1:1: kind is missing; there are "},
        {"kind: promt\nname: a\n",
         "forgectl: m.yaml:1:7: unknown kind \"promt\"; there are organization, user, project, tag, provider, model, prompt"},
        {"kind: project\nnane: a\n", "forgectl: m.yaml:2:1: unknown field \"nane\"; project has name, description\n"},
        {"kind: project\nname: a\nDescription: b\n", "forgectl: m.yaml:3:1: unknown field \"Description\"; "},
        {"kind: project\n", "forgectl: m.yaml:1:1: name is missing: a manifest finds a project by it\n"},
        {"kind: project\nname: a\nname: b\n", "forgectl: m.yaml:3:1: field \"name\" is there twice\n"},
        {"kind: project\nname: a\nkind: tag\n", "forgectl: m.yaml:3:1: field \"kind\" is there twice\n"},
        {"kind: provider\nname: a\ncredential: sk-1\n", "forgectl: m.yaml:3:1: unknown field \"credential\"; provider has name, "},
        {"kind: model\nname: a\n", "forgectl: m.yaml:1:1: provider is missing: the provider's name\n"},
        {"kind: model\nprovider: P\nname: a\nprovider_id: x\n",
         "forgectl: m.yaml:4:1: unknown field \"provider_id\"; model has provider, "},
        {"kind: model\nprovider: P\nname: a\nprices: []\n", "forgectl: m.yaml:4:9: prices: must be a list with at least one item\n"},
        {"kind: prompt\nname: a\ncontent: x\nmodel_id: y\n", "forgectl: m.yaml:4:1: unknown field \"model_id\"; prompt has "},
        {"kind: prompt\nname: a\ncontent: x\nmodel: gpt-4\n",
         "forgectl: m.yaml:4:8: model: must be {provider: its provider's name, name: its name}\n"},
        {"kind: prompt\nname: a\nversions:\n- content: x\n  model: {provider: P}\n", "forgectl: m.yaml:5:10: model: must be {provider"},
        {"kind: prompt\nname: a\ncontent: x\nmodel: {provider: P, name: n, x: y}\n", "forgectl: m.yaml:4:8: model: must be {provider"},
        {"kind: prompt\nname: a\ncontent: x\nmodel: {provider: P, name: n}\nmodel: {provider: P, name: n}\n",
         "forgectl: m.yaml:5:1: field \"model\" is there twice\n"},
        {"kind: project\nname: 5\n", "forgectl: m.yaml:2:7: name: must be a string\n"},
        {"kind: project\nname: [a]\n", "forgectl: m.yaml:2:7: name: must be a string\n"},
        {"kind: project\nname: \"a\\0b\"\n", "forgectl: m.yaml:2:7: must not hold a NUL character\n"},
        {"kind: project\nname: !!binary eA==\n", "forgectl: m.yaml:2:7: the tag \"tag:yaml.org,2002:binary\" is not known here\n"},
        {"kind: project\nname: \"a\n", "forgectl: m.yaml:3:1: YAML: while scanning a quoted scalar: found unexpected end of stream\n"},
        {"kind: project\nname: \xff\n", "forgectl: m.yaml:2:7: YAML: invalid leading UTF-8 octet\n"},
        {"kind: user\nemail: a@b.example\nrole: boss\n", "forgectl: m.yaml:3:7: role: \"boss\" is not a value of Role\n"},
        {"kind: prompt\nname: a\ncontent: x\nproject_id: y\n", "forgectl: m.yaml:4:1: unknown field \"project_id\"; prompt has project, "},
        {"kind: prompt\nname: a\n", "forgectl: m.yaml:1:1: content, messages or versions is missing\n"},
        {"kind: prompt\nname: a\nversions: []\n", "forgectl: m.yaml:3:11: versions: must be a list with at least one item\n"},
        {"kind: prompt\nname: a\nversions: [5]\n", "forgectl: m.yaml:3:12: versions[0]: must be a mapping\n"},
        {"kind: prompt\nname: a\ncontent: x\nversions:\n- content: y\n",
         "forgectl: m.yaml:1:1: a prompt has either versions or a text of its own\n"},
        {"kind: prompt\nname: a\nversions:\n- {content: x, make_current: true}\n- {content: y, make_current: true}\n",
         "forgectl: m.yaml:1:1: versions: only one can have make_current\n"},
        {"kind: prompt\nname: a\nversions:\n- content: x\n  variables:\n  - name: v\n    default: 1\n",
         "forgectl: m.yaml:7:5: unknown field \"default\"; PromptVariable has name, description, default_value\n"},
        {"kind: prompt\nname: a\nversions:\n- content: x\n- content: y\n  variables:\n  - name: v\n    default_value: 7\n",
         "forgectl: m.yaml:8:20: variables[0].default_value: must be a string\n"},
        {"kind: execution\nrating: 5\n", "forgectl: m.yaml:1:1: prompt is missing: the prompt's name\n"},
        {"kind: execution\nprompt: a\nrating: high\n", "forgectl: m.yaml:3:9: rating: must be a whole number\n"},
        {"kind: execution\nprompt: a\nsuccess: yes\n", "forgectl: m.yaml:3:10: success: must be true or false\n"},
        {"kind: execution\nprompt: a\nexecute_time: noon\n", "forgectl: m.yaml:3:15: execute_time: must be a time such as "},
        {"kind: prompt\nname: a\nmessages: &a\n- *a\n", "nested deeper than 32 levels\n"},
        {"kind: project\nname: a\n---\nkind: tag\nname: a\n---\nkind: project\nname: a\n",
         "forgectl: m.yaml:7:1: project \"a\" is there already, at m.yaml:1:1\n"},
        {"kind: organization\nslug: a\n---\nkind: organization\nslug: b\n",
         "forgectl: m.yaml:4:1: a second organization: one can be applied at a time\n"},
        {"kind: organization\nslug: a\n",
         "forgectl: m.yaml:1:1: admin_email and admin_password are needed: all else is done as this admin\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_apply_refused(cases[i].text, cases[i].message);
}

static void test_apply_tells_every_problem_at_once(void **state)
{
    forgectl_write_file("m.yaml", "kind: project\nname: 5\nx: y\n---\nkind: nothing\n---\nkind: tag\n");
    expect_output(
        1, "",
        "forgectl: m.yaml:3:1: unknown field \"x\"; project has name, description\n"
        "forgectl: m.yaml:5:7: unknown kind \"nothing\"; there are organization, user, project, tag, provider, model, prompt, label, "
        "execution, dataset, evaluation, protection, policy, trace, score\n"
        "forgectl: m.yaml:7:1: name is missing: a manifest finds a tag by it\n",
        "forgectl apply -f m.yaml");
    expect_output(1, "", NULL, "for i in $(seq 30); do echo \"field$i: x\"; done | forgectl apply -f -");
    expect_output(0, "and 10 more\n", "",
                  "(echo 'kind: tag'; for i in $(seq 30); do echo \"field$i: x\"; done) | forgectl apply -f - 2>&1 | "
                  "sed -n '$s/^forgectl: //p'");
}

/* A few lines that stand for more than memory has. */
static void test_apply_ends_an_alias_bomb(void **state)
{
    static const char bomb[] = "kind: prompt\nname: a\nmessages:\n"
                               "- &a [x, x, x, x, x, x, x, x, x, x]\n- &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
                               "- &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\n- &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n"
                               "- &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\n- &f [*e, *e, *e, *e, *e, *e, *e, *e, *e, *e]\n"
                               "- &g [*f, *f, *f, *f, *f, *f, *f, *f, *f, *f]\n";
    forgectl_write_file("m.yaml", bomb);
    expect_output(1, "", "forgectl: m.yaml:4:22: with its aliases followed the document has more than 1000000 values or 16777216 bytes\n",
                  "forgectl apply -f m.yaml");
    expect_output(0, "more than 1000 anchors\n", "",
                  "(echo 'kind: tag'; for i in $(seq 2000); do echo \"f$i: &a$i x\"; done) | forgectl apply -f - 2>&1 | sed 's/.*: //'");
    expect_output(1, "", "forgectl: big.yaml has more than 4194304 bytes\n",
                  "head -c 5000000 /dev/zero | tr '\\0' '#' > big.yaml; forgectl apply -f big.yaml");
}

static void test_apply_without_a_manifest(void **state)
{
    expect_output(2, "", "forgectl: which manifest? --file PATH (a file, a folder, - for standard input)\n", "forgectl apply");
    expect_output(1, "", "forgectl: cannot read missing.yaml: No such file or directory\n", "forgectl apply -f missing.yaml");
    expect_output(1, "", "forgectl: none has no file that ends in .yaml or .yml\n", "mkdir none; forgectl apply -f none");
    expect_output(2, "", NULL, "forgectl apply -f m.yaml --request-id 0199e5c0-0000-7000-8000-000000000001");
    expect_output(2, "", "forgectl: export prints yaml (or json, an object a line)\n", "forgectl export -o table");
}

/* References are looked for on the server, and nothing is changed when one leads nowhere. */
static void test_apply_refuses_references_to_nothing(void **state)
{
    int64_t projects = count("projects");
    forgectl_write_file("m.yaml",
                        "kind: project\nname: Fresh\n---\nkind: prompt\nproject: Nowhere\nname: a\ncontent: x\n---\n"
                        "kind: execution\nproject: Fresh\nprompt: b\n---\nkind: prompt\nproject: Fresh\nname: c\ncontent: x\ntags: [t]\n");
    expect_output(1, "",
                  "forgectl: m.yaml:5:10: there is no project \"Nowhere\"\n"
                  "forgectl: m.yaml:13:1: prompt \"c\": there is no tag \"t\"\n"
                  "forgectl: m.yaml:11:9: there is no prompt \"b\"\n",
                  "forgectl apply -f m.yaml");
    assert_int_equal(count("projects"), projects);
    forgectl_write_file("m.yaml", "kind: prompt\nname: a\ncontent: x\n");
    expect_output(69, "", "forgectl: there is no project \"Nowhere\"\n", "forgectl apply -f m.yaml --project Nowhere");
    /* The same prompt, once by its project's name and once by the default. */
    forgectl_write_file("m.yaml", "kind: prompt\nname: a\ncontent: x\n---\nkind: prompt\nproject: Support\nname: a\ncontent: y\n");
    expect_output(1, "", "forgectl: m.yaml:5:1: prompt \"a\" is there already, under another spelling\n", "forgectl apply -f m.yaml");
}

/* ---- plans ---- */

static const char library[] =
    "kind: prompt\nproject: Library\nname: answer\ndescription: Answers\ntags: [b, a]\nversions:\n"
    "- content: one {{x}}\n- {messages: [{role: user, content: two}], parameters: '{\"a\": 1, \"b\": [2]}', message: why}\n"
    "- content: three {{x}}\n  system_prompt: s\n  variables:\n  - {name: x, description: an x, default_value: \"\"}\n"
    "---\nkind: execution\nproject: Library\nprompt: answer\nrating: 4\nexecute_time: 2026-03-02T09:15:00Z\n"
    "---\nkind: execution\nproject: Library\nprompt: answer\nrating: 4\n"
    "---\nkind: execution\nproject: Library\nprompt: answer\nversion: 2\nsuccess: false\nnotes: bad\n"
    "---\nkind: execution\nproject: Library\nprompt: answer\nversion: 2\nsuccess: false\nnotes: bad\n"
    "---\nkind: tag\nname: a\n---\nkind: tag\nname: b\n---\nkind: project\nname: Library\n";
static const char unchanged[] = "  project Library\n  tag a\n  tag b\n  prompt answer in Library\n  execution answer in Library (4)\n"
                                "0 to create, 0 to update, 5 unchanged\n";

static void expect_counts(int64_t projects, int64_t tags, int64_t prompts, int64_t versions, int64_t executions)
{
    assert_int_equal(count("projects"), projects);
    assert_int_equal(count("tags"), tags);
    assert_int_equal(count("prompts"), prompts);
    assert_int_equal(count("prompt_versions"), versions);
    assert_int_equal(count("executions"), executions);
}

static void test_apply_plans_applies_and_applies_again(void **state)
{
    static const char plan[] = "+ project Library\n+ tag a\n+ tag b\n+ prompt answer in Library\n+ execution answer in Library (4)\n"
                               "5 to create, 0 to update, 0 unchanged\n";
    forgectl_write_file("library.yaml", library);
    expect_output(0, plan, "", "forgectl apply -f library.yaml --dry-run");
    expect_counts(1, 0, 1, 1, 0);
    expect_output(0, plan,
                  "[1/5] created project Library\n[2/5] created tag a\n[3/5] created tag b\n[4/5] created prompt answer\n"
                  "[5/5] created execution answer (4)\n",
                  "forgectl apply -f library.yaml");
    expect_counts(2, 2, 2, 4, 4);
    expect_output(0, unchanged, "", "forgectl apply -f library.yaml");
    expect_output(0, "", "", "forgectl apply -o name < library.yaml -f -");
    expect_counts(2, 2, 2, 4, 4);
    expect_output(0,
                  "plan:\n- action: unchanged\n  kind: project\n  name: Library\n- action: unchanged\n  kind: tag\n  name: a\n"
                  "- action: unchanged\n  kind: tag\n  name: b\n- action: unchanged\n  kind: prompt\n  project: Library\n  name: answer\n"
                  "- action: unchanged\n  kind: execution\n  project: Library\n  name: answer\n  details: \"4\"\n",
                  "", "forgectl apply -f library.yaml --dry-run -o yaml");
    expect_output(0, "5\n", "", "forgectl apply -f library.yaml --dry-run -o json | grep -c '\"action\": \"unchanged\"'");
}

/* What differs is updated; what the manifest does not say stays. */
static void test_apply_updates_what_differs(void **state)
{
    forgectl_write_file("m.yaml",
                        "kind: project\nname: Library\ndescription: Books\n---\nkind: tag\nname: c\n---\nkind: prompt\nproject: Library\n"
                        "name: answer\ndescription: Replies\ntags: [c, a]\ncontent: four\n");
    expect_output(0,
                  "~ project Library (description)\n+ tag c\n~ prompt answer in Library (description, tags, 1 new version)\n"
                  "1 to create, 2 to update, 0 unchanged\n",
                  "", "forgectl apply -f m.yaml --dry-run");
    expect_output(0, "  project Library\n+ tag c\n  prompt answer in Library\n1 to create, 0 to update, 2 unchanged\n",
                  "[1/1] created tag c\n", "forgectl apply -f m.yaml --create-only");
    expect_output(0, NULL, "[1/2] updated project Library (description)\n[2/2] updated prompt answer (description, tags, 1 new version)\n",
                  "forgectl apply -f m.yaml");
    expect_output(
        0, "Replies\na, c\n4\nfour\n", "",
        "forgectl prompt get answer --project Library | sed -n 's/^Description  *//p; s/^Tags  *//p; s/^Current version  *//p; $p'");
    expect_output(0, "  project Library\n  tag c\n  prompt answer in Library\n0 to create, 0 to update, 3 unchanged\n", "",
                  "forgectl apply -f m.yaml");
    /* Back to the text of version 3: no new version, another current one. */
    expect_output(0, NULL, "[1/1] updated prompt answer (description, tags, current version)\n", "forgectl apply -f library.yaml");
    expect_output(0, unchanged, "", "forgectl apply -f library.yaml");
    expect_output(0, "3 of 4\n", "",
                  "forgectl prompt get answer --project Library -o json | tr -d ' \\n' | "
                  "sed 's/.*\"current_version\":\\([0-9]*\\),\"latest_version\":\\([0-9]*\\),.*/\\1 of \\2\\n/'");
    expect_counts(2, 3, 2, 5, 4);
}

static void test_apply_makes_the_marked_version_current(void **state)
{
    forgectl_write_file(
        "m.yaml",
        "kind: prompt\nproject: Library\nname: marked\nversions:\n- content: a\n- {content: b, make_current: true}\n- content: c\n");
    expect_output(0, NULL, "[1/1] created prompt marked\n", "forgectl apply -f m.yaml");
    expect_output(0, "b\n", "", "forgectl prompt render marked --project Library");
    expect_output(0, "  prompt marked in Library\n0 to create, 0 to update, 1 unchanged\n", "", "forgectl apply -f m.yaml");
}

/* An execution that is there twice in the manifest is wanted twice. */
static void test_apply_counts_executions(void **state)
{
    char text[1024];
    int64_t before = count("executions");
    static const char one[] = "kind: execution\nproject: Library\nprompt: marked\nnotes: same\n";
    forgectl_write_file("m.yaml", one);
    expect_output(0, NULL, "[1/1] created execution marked (1)\n", "forgectl apply -f m.yaml");
    snprintf(text, sizeof text, "%s---\n%s---\n%sexecute_time: 2026-03-02T09:15:00.123456Z\n", one, one, one);
    forgectl_write_file("m.yaml", text);
    expect_output(0, NULL, "[1/1] created execution marked (2)\n", "forgectl apply -f m.yaml");
    expect_output(0, NULL, "", "forgectl apply -f m.yaml");
    assert_int_equal(count("executions"), before + 3);
    forgectl_write_file("m.yaml", "kind: execution\nproject: Library\nprompt: marked\nrating: 9\n");
    expect_output(67, NULL, NULL, "forgectl apply -f m.yaml");
    forgectl_write_file("m.yaml", "kind: execution\nproject: Library\nprompt: marked\nversion: 9\n");
    expect_output(69, NULL, NULL, "forgectl apply -f m.yaml");
    assert_int_equal(count("executions"), before + 3);
}

/* Killed in the middle of calls, again and again: in the end everything is there, once. */
static void test_apply_killed_at_any_moment(void **state)
{
    int64_t versions = count("prompt_versions"), executions = count("executions");
    expect_output(
        0, "", "",
        "(echo 'kind: prompt\nproject: Library\nname: long\nversions:'; for i in $(seq 25); do echo \"- content: text $i\"; done; "
        "for i in $(seq 40); do echo \"---\nkind: execution\nproject: Library\nprompt: long\nrating: $((i %% 5 + 1))\"; done) > m.yaml; "
        "for ms in $(seq 5 5 120); do timeout -s KILL $(printf '0.%%03d' $ms) \"$(command -v forgectl)\" apply -f m.yaml "
        ">/dev/null 2>&1; done; for i in 1 2 3 4 5; do forgectl apply -f m.yaml >/dev/null 2>&1 && exit 0; done; exit 1");
    expect_output(0, "  prompt long in Library\n  execution long in Library (40)\n0 to create, 0 to update, 2 unchanged\n", "",
                  "forgectl apply -f m.yaml");
    assert_int_equal(count("prompt_versions"), versions + 25);
    assert_int_equal(count("executions"), executions + 40);
    expect_output(0, "text 25\n", "", "forgectl prompt render long --project Library");
}

/* ---- references between prompts ---- */

/* Those that others refer to come first, wherever they stand in the manifest; what export writes by name is taken too. */
static void test_apply_orders_prompts_that_refer_to_each_other(void **state)
{
    forgectl_write_file("m.yaml",
                        "kind: project\nname: Composed\n"
                        "---\nkind: prompt\nproject: Composed\nname: all\ncontent: '{{> middle}}, {{> part@2}}, {{> middle@1}}'\n"
                        "---\nkind: prompt\nproject: Composed\nname: middle\nsystem_prompt: '{{> part}}'\ncontent: m {{>part@1}}\n"
                        "---\nkind: prompt\nproject: Composed\nname: part\nversions:\n- content: one\n- content: two\n");
    expect_output(0,
                  "+ project Composed\n+ prompt part in Composed\n+ prompt middle in Composed\n+ prompt all in Composed\n"
                  "4 to create, 0 to update, 0 unchanged\n",
                  NULL, "forgectl apply -f m.yaml");
    expect_output(0, "m one, two, m one\n", "", "forgectl prompt render all --project Composed");
    expect_output(0, "middle\npart\npart\n", "", "forgectl prompt render all --project Composed -o yaml | sed -n 's/^ *name: //p'");
    expect_output(0, NULL, "", "forgectl apply -f m.yaml");
    expect_output(0, NULL, NULL,
                  "forgectl export --project Composed | sed 's/Composed/Recomposed/' > copy.yaml && forgectl apply -f copy.yaml");
    expect_output(0, "m one, two, m one\n", "", "forgectl prompt render all --project Recomposed");
}

/* A label that a prompt is named by is there before the prompt that names it so. */
static void test_apply_orders_labels_that_prompts_refer_by(void **state)
{
    forgectl_write_file("m.yaml", "kind: project\nname: Labelled\n"
                                  "---\nkind: prompt\nproject: Labelled\nname: all\ncontent: '{{> part@live}} and more'\n"
                                  "---\nkind: prompt\nproject: Labelled\nname: part\nversions:\n- content: one\n- content: two\n"
                                  "---\nkind: label\nproject: Labelled\nprompt: part\nlabel: live\nversion: 1\n"
                                  "---\nkind: label\nproject: Labelled\nprompt: all\nlabel: live\nversion: 1\n");
    expect_output(0,
                  "+ project Labelled\n+ prompt part in Labelled\n+ label live in Labelled (part at 1)\n+ prompt all in Labelled\n"
                  "+ label live in Labelled (all at 1)\n5 to create, 0 to update, 0 unchanged\n",
                  NULL, "forgectl apply -f m.yaml");
    expect_output(0, "one and more\n", "", "forgectl prompt render all --project Labelled");
    expect_output(0, NULL, NULL,
                  "forgectl export --project Labelled | sed 's/Labelled/Relabelled/' > copy.yaml && forgectl apply -f copy.yaml");
    expect_output(0, "one and more\n", "", "forgectl prompt render all --project Relabelled");
}

static void test_apply_refuses_circles(void **state)
{
    int64_t prompts = count("prompts");
    forgectl_write_file("m.yaml", "kind: prompt\nproject: Library\nname: r1\ncontent: '{{> r2}}'\n---\n"
                                  "kind: prompt\nproject: Library\nname: r2\nmessages: [{role: user, content: '{{> r3@1}}'}]\n---\n"
                                  "kind: prompt\nproject: Library\nname: r3\ncontent: '{{> r1}} {{> nowhere}}'\n---\n"
                                  "kind: prompt\nproject: Library\nname: r4\ncontent: '{{> r4}} {{> r3@live}}'\n");
    expect_output(1, "",
                  "forgectl: m.yaml:11:1: prompt \"r3\" refers to {{> nowhere}}: there is no such prompt\n"
                  "forgectl: m.yaml:16:1: prompt \"r4\" refers to {{> r3@live}}: there is no such label\n"
                  "forgectl: m.yaml:1:1: prompts refer to each other in a circle: \"r1\" -> \"r2\" -> \"r3\" -> \"r1\"\n"
                  "forgectl: m.yaml:16:1: prompts refer to each other in a circle: \"r4\" -> \"r4\"\n",
                  "forgectl apply -f m.yaml");
    assert_int_equal(count("prompts"), prompts);
}

static void test_apply_creates_and_updates_users(void **state)
{
    forgectl_write_file("m.yaml", "kind: user\nemail: Grace@Home.example\nrole: viewer\npassword: first\n");
    expect_output(0, NULL, "[1/1] created user Grace@Home.example\n", "forgectl apply -f m.yaml");
    forgectl_write_file("m.yaml", "kind: user\nemail: grace@home.example\ndisplay_name: Grace\nrole: ROLE_DEVELOPER\npassword: second\n");
    expect_output(0, NULL, "[1/1] updated user grace@home.example (display_name, role)\n", "forgectl apply -f m.yaml");
    expect_output(0, "", "", "forgectl apply -f m.yaml -o name");
    expect_output(80, "", NULL, "printf 'second\n' | FORGE_TOKEN= forgectl login grace@home.example --password-stdin");
    expect_output(0, "", NULL, "printf 'first\n' | FORGE_TOKEN= forgectl login grace@home.example --password-stdin --context grace");
    expect_output(0, "1\n", "", "FORGE_TOKEN= forgectl whoami --context grace -o json | grep -c ROLE_DEVELOPER");
    /* Twice in one manifest, in two spellings. */
    forgectl_write_file("m.yaml", "kind: user\nemail: grace@home.example\n---\nkind: user\nemail: GRACE@home.example\n");
    expect_output(1, "", "forgectl: m.yaml:4:1: user \"GRACE@home.example\" is there already, under another spelling\n",
                  "forgectl apply -f m.yaml");
    expect_output(71, "", NULL, "FORGE_TOKEN=%s forgectl apply -f m.yaml", world.home.ingest_key);
}

/* The server's refusal names the object, what was done and what to do. */
static void test_apply_passes_a_refusal_on(void **state)
{
    forgectl_write_file("m.yaml", "kind: project\nname: Before\n---\nkind: prompt\nproject: Before\nname: broken\ncontent: 'a {{ b'\n");
    struct child_output output;
    forgectl_shell(&output, "forgectl apply -f m.yaml");
    assert_int_equal(output.exit_code, 67);
    assert_non_null(strstr(output.err, "[1/2] created project Before\nforgectl: INVALID_ARGUMENT: content: "));
    assert_non_null(
        strstr(output.err, "  That was prompt \"broken\", m.yaml:4:1. 1 of 2 steps are done and stay; apply again to go on.\n"));
    child_output_done(&output);
    expect_output(71, NULL, NULL, "FORGE_TOKEN=%s forgectl apply -f m.yaml", world.home.read_key);
    forgectl_write_file("m.yaml", "kind: project\nname: Before\n---\nkind: prompt\nproject: Before\nname: broken\ncontent: 'a {{b}}'\n");
    expect_output(0, NULL, "[1/1] created prompt broken\n", "forgectl apply -f m.yaml");
}

/* ---- labels and their rules ---- */

static void test_apply_of_labels(void **state)
{
    static const char head[] =
        "kind: prompt\nproject: Library\nname: pointed\nversions:\n- content: one\n- content: two\n- content: three\n"
        "---\nkind: protection\nproject: Library\nlabel: live\n"
        "---\nkind: protection\nproject: Library\nprompt: pointed\nlabel: canary\n";
    static const char labels[] = "---\nkind: label\nproject: Library\nprompt: pointed\nlabel: live\nversion: 2\nmessage: first\n"
                                 "---\nkind: label\nproject: Library\nprompt: pointed\nlabel: shared\n"
                                 "split: {targets: [{version: 3, weight: 10}, {version: 1, weight: 90}]}\n";
    static const char moved[] = "kind: label\nproject: Library\nprompt: pointed\nlabel: live\n"
                                "split: {targets: [{version: 2}, {version: 3}]}\n"
                                "---\nkind: label\nproject: Library\nprompt: pointed\nlabel: shared\n"
                                "split: {targets: [{version: 1, weight: 90}, {version: 3, weight: 10}]}\n";
    char text[2048];
    snprintf(text, sizeof text, "%s%s", head, labels);
    forgectl_write_file("labels.yaml", text);
    expect_output(0,
                  "+ prompt pointed in Library\n+ label live in Library (pointed at 2)\n+ label shared in Library (pointed at 3=10, 1=90)\n"
                  "+ protection live in Library (all prompts)\n+ protection canary in Library (pointed)\n"
                  "5 to create, 0 to update, 0 unchanged\n",
                  NULL, "forgectl apply -f labels.yaml");
    expect_output(0, "0 to create, 0 to update, 5 unchanged\n", "", "forgectl apply -f labels.yaml | tail -1");
    expect_output(0, "live 2 yes\nshared 1=90, 3=10\n", "",
                  "forgectl label list pointed --project Library | awk 'NR == 2 || NR == 3 {print $1, $2, $3}'");
    expect_output(0, "first\n", "", "forgectl label history pointed live --project Library | awk 'NR > 1 {print $NF}'");
    forgectl_write_file("m.yaml", moved);
    expect_output(0, "  label live in Library (pointed at 2=1, 3=1)\n  label shared in Library (pointed at 1=90, 3=10)\n", "",
                  "forgectl apply -f m.yaml --create-only | head -2");
    expect_output(0, NULL, "[1/1] updated label live (pointed at 2=1, 3=1)\n", "forgectl apply -f m.yaml");
    expect_output(0, "2=1, 3=1\n", "", "forgectl label list pointed --project Library | sed -n 's/^live  *\\(.*1\\)  *yes.*/\\1/p'");
    /* A developer may not move what is protected. */
    expect_output(71, NULL, NULL, "FORGE_TOKEN=%s forgectl apply -f labels.yaml", world.home.write_key);
    forgectl_write_file("m.yaml", "kind: label\nproject: Library\nprompt: pointed\nlabel: live\n---\n"
                                  "kind: protection\nproject: Library\nlabel: live\nprotected: false\n");
    expect_output(1, "", "forgectl: m.yaml:9:1: unknown field \"protected\"; protection has project, prompt, dataset, label, gate\n",
                  "forgectl apply -f m.yaml");
    /* A gate with what it asks for; it stays where a manifest says nothing of it. */
    forgectl_write_file("m.yaml", "kind: protection\nproject: Library\nlabel: live\ndataset: golden\n"
                                  "gate: {require_evaluation: true, min_score: 0.75, require_no_open_blocking_violations: true}\n"
                                  "---\nkind: dataset\nproject: Library\nname: golden\n");
    expect_output(0, "+ dataset golden in Library\n~ protection live in Library (all prompts)\n1 to create, 1 to update, 0 unchanged\n",
                  NULL, "forgectl apply -f m.yaml");
    expect_output(0, "0 to create, 0 to update, 2 unchanged\n", "", "forgectl apply -f m.yaml | tail -1");
    expect_output(
        0, "0 to create, 0 to update, 5 unchanged\n", "",
        "forgectl apply -f labels.yaml --create-only | tail -1; forgectl label list --project Library | grep -q 'live is protected and"
        " has a gate'");
    forgectl_write_file("m.yaml", "kind: protection\nproject: Library\nlabel: live\ngate: {dataset_id: x}\n"
                                  "---\nkind: protection\nproject: Library\nlabel: other\ndataset: golden\n");
    expect_output(1, "",
                  "forgectl: m.yaml:1:1: gate.dataset_id: name the dataset in a field \"dataset\"\n"
                  "forgectl: m.yaml:6:1: dataset: there is no gate that asks for it\n",
                  "forgectl apply -f m.yaml");
    forgectl_write_file("m.yaml", "kind: label\nproject: Library\nprompt: pointed\nlabel: live\n");
    expect_output(1, "", "forgectl: m.yaml:1:1: version or split is missing\n", "forgectl apply -f m.yaml");
    forgectl_write_file("m.yaml", "kind: label\nproject: Library\nprompt: pointed\nlabel: live\nversion: 9\n");
    expect_output(69, NULL, NULL, "forgectl apply -f m.yaml");
}

/* From what the test before has made: another organization gets the same by it. */
static void test_export_of_labels(void **state)
{
    expect_output(0,
                  "---\nkind: label\nprompt: pointed\nlabel: live\nsplit:\n  targets:\n  - version: 2\n    weight: 1\n  - version: 3\n"
                  "    weight: 1\n"
                  "---\nkind: label\nprompt: pointed\nlabel: shared\nsplit:\n  targets:\n  - version: 1\n    weight: 90\n  - version: 3\n"
                  "    weight: 10\n"
                  "---\nkind: protection\nprompt: pointed\nlabel: canary\n",
                  "", "forgectl export pointed --project Library | sed -n '/kind: label/,$p' | sed '1s/^/---\\n/'");
    expect_output(0, "1\n", "",
                  "forgectl export --project Library | grep -A2 'kind: protection' | grep -A1 'project: Library' | grep -c 'label: live'");
    expect_output(0,
                  "label: live\ngate:\n  require_evaluation: true\n  min_score: 0.75\n  require_no_open_blocking_violations: true\n"
                  "dataset: golden\n",
                  "", "forgectl export --project Library | sed -n '/kind: protection/,$p' | sed -n '/label: live/,/dataset/p'");
    expect_output(0, "", "", "forgectl export --project Library --evaluations > exported.yaml && forgectl apply -f exported.yaml -o name");
    forgectl_set("FORGE_TOKEN", world.foreign.admin_key);
    expect_output(0, NULL, NULL, "forgectl apply -f exported.yaml");
    expect_output(0, "", "", "forgectl export --project Library --evaluations | diff - exported.yaml");
    forgectl_set("FORGE_TOKEN", world.home.admin_key);
}

/* ---- datasets ---- */

static void test_apply_of_datasets(void **state)
{
    static const char dataset[] = "kind: dataset\nproject: Library\nname: cases\nitems:\n"
                                  "- {key: a, input: {q: 1, p: [x]}, expected_output: one}\n- {key: b, metadata: {n: 1}}\n- {key: c}\n";
    static const char changed[] =
        "kind: dataset\nproject: Library\nname: cases\nitems:\n"
        "- {key: a, input: '{\"p\": [\"x\"], \"q\": 1}', expected_output: one}\n- {key: b, expected_output: two}\n";
    forgectl_write_file("m.yaml", dataset);
    expect_output(0, "+ dataset cases in Library (3 items)\n1 to create, 0 to update, 0 unchanged\n",
                  "[1/1] created dataset cases (3 items)\n", "forgectl apply -f m.yaml");
    expect_output(0, "  dataset cases in Library (3 items)\n0 to create, 0 to update, 1 unchanged\n", "", "forgectl apply -f m.yaml");
    forgectl_write_file("m.yaml", changed);
    expect_output(0, NULL, "[1/1] updated dataset cases (1 item)\n", "forgectl apply -f m.yaml");
    expect_output(0, "a\nb\nc\n", "", "forgectl dataset items cases --project Library -o name");
    expect_output(0, "Latest version  2\n", "", "forgectl dataset get cases --project Library | grep Latest");
    expect_output(0, "0 to create, 0 to update, 1 unchanged\n", "", "forgectl apply -f m.yaml | tail -1");
    forgectl_write_file("m.yaml", "kind: dataset\nproject: Library\nname: empty\n---\nkind: dataset\nproject: Library\nname: other\n"
                                  "items:\n- expected_output: x\n");
    expect_output(1, "", "forgectl: m.yaml:5:1: items[0]: key is missing: a manifest finds an item by it\n", "forgectl apply -f m.yaml");
    /* More than one call's worth. */
    expect_output(0, "2001\n", NULL,
                  "(echo 'kind: dataset\nproject: Library\nname: many\nitems:'; seq 2001 | sed 's/.*/- {key: k&}/') > m.yaml; "
                  "forgectl apply -f m.yaml >/dev/null && forgectl dataset get many --project Library | sed -n 's/^Items  *//p'");
    expect_output(0, "0 to create, 0 to update, 1 unchanged\n", "", "forgectl apply -f m.yaml | tail -1");
}

/* ---- the project of what names none ---- */

static void test_apply_chooses_a_project(void **state)
{
    forgectl_write_file("m.yaml", "kind: prompt\nname: placed\ncontent: x\n");
    expect_output(0, "+ prompt placed in Library\n1 to create, 0 to update, 0 unchanged\n", "",
                  "forgectl apply -f m.yaml --dry-run --project Library");
    expect_output(0, "+ prompt placed in Support\n1 to create, 0 to update, 0 unchanged\n", "",
                  "FORGE_PROJECT=%s forgectl apply -f m.yaml --dry-run", world.home.project_id);
    expect_output(0, "+ prompt placed in Before\n1 to create, 0 to update, 0 unchanged\n", "", "forgectl apply -f m.yaml --dry-run");
    forgectl_write_file("m.yaml", "kind: prompt\nname: placed\ncontent: x\n---\nkind: project\nname: A first one\n");
    expect_output(0, "+ project A first one\n+ prompt placed in A first one\n2 to create, 0 to update, 0 unchanged\n", "",
                  "forgectl apply -f m.yaml --dry-run");
}

/* ---- providers, models, prices ---- */

static const char models[] =
    "kind: provider\nname: OpenAI\nbase_url: https://api.openai.com/v1\n---\n"
    "kind: model\nprovider: OpenAI\nname: gpt-4\naliases: [gpt-4-0613]\ncontext_window_tokens: 8192\nprices:\n"
    "- effective_time: 2023-03-14T00:00:00Z\n  usage_prices:\n  - {usage_type: input, micros_per_million_tokens: 30000000}\n"
    "  - {usage_type: output, micros_per_million_tokens: 60000000}\n"
    "- effective_time: 2024-01-01T00:00:00Z\n  usage_prices: [{usage_type: input}]\n"
    "---\nkind: prompt\nproject: Library\nname: modelled\nversions:\n- content: one\n"
    "- content: one\n  model: {provider: OpenAI, name: gpt-4}\n";

static void test_apply_of_models_and_their_prices(void **state)
{
    forgectl_write_file("models.yaml", models);
    expect_output(0, "+ provider OpenAI\n+ model gpt-4 in OpenAI\n+ prompt modelled in Library\n3 to create, 0 to update, 0 unchanged\n",
                  "[1/3] created provider OpenAI\n[2/3] created model gpt-4\n[3/3] created prompt modelled\n",
                  "forgectl apply -f models.yaml");
    expect_output(0, "  provider OpenAI\n  model gpt-4 in OpenAI\n  prompt modelled in Library\n0 to create, 0 to update, 3 unchanged\n",
                  "", "forgectl apply -f models.yaml");
    assert_int_equal(count("model_prices"), 2);
    assert_int_equal(count("ai_models"), 1);
    assert_int_equal(world_number(&world, "select count(*) from prompt_versions v join ai_models m on m.id = v.model_id"), 1);
    forgectl_write_file("m.yaml",
                        "kind: model\nprovider: OpenAI\nname: gpt-4\naliases: [gpt-4-0314]\nprices:\n"
                        "- effective_time: 2024-01-01T00:00:00Z\n  usage_prices: [{usage_type: output}]\n"
                        "- effective_time: 2025-01-01T00:00:00Z\n  usage_prices: [{usage_type: input, micros_per_million_tokens: 1}]\n"
                        "---\nkind: model\nprovider: OpenAI\nname: gpt-5\n---\nkind: prompt\nproject: Library\nname: modelled\n"
                        "content: one\nmodel: {provider: OpenAI, name: gpt-5}\n");
    expect_output(0,
                  "  model gpt-4 in OpenAI\n+ model gpt-5 in OpenAI\n  prompt modelled in Library\n1 to create, 0 to update, 2 unchanged\n",
                  "", "forgectl apply -f m.yaml --create-only --dry-run");
    expect_output(0, NULL,
                  "[1/3] updated model gpt-4 (aliases, 1 new price)\n[2/3] created model gpt-5\n"
                  "[3/3] updated prompt modelled (1 new version)\n",
                  "forgectl apply -f m.yaml");
    expect_output(0, "", "", "forgectl apply -f m.yaml -o name");
    assert_int_equal(count("model_prices"), 3);
}

static void test_apply_changes_no_price(void **state)
{
    forgectl_write_file("m.yaml",
                        "kind: model\nprovider: OpenAI\nname: gpt-4\nprices:\n"
                        "- effective_time: 2024-01-01T00:00:00Z\n  usage_prices: [{usage_type: input, micros_per_million_tokens: 7}]\n");
    expect_output(1, "", "forgectl: m.yaml:1:1: prices[0]: the server has another price from this time on, and prices never change\n",
                  "forgectl apply -f m.yaml");
    forgectl_write_file("m.yaml", "kind: model\nprovider: OpenAI\nname: new\nprices:\n- usage_prices: [{usage_type: input}]\n"
                                  "- effective_time: 2024-01-01T00:00:00Z\n- effective_time: 2024-01-01T00:00:00.0000001Z\n");
    expect_output(1, "",
                  "forgectl: m.yaml:1:1: prices[0]: effective_time is missing: a manifest finds a price by it\n"
                  "forgectl: m.yaml:1:1: prices[2]: begins when prices[1] does\n",
                  "forgectl apply -f m.yaml");
    forgectl_write_file("m.yaml", "kind: prompt\nproject: Library\nname: x\ncontent: x\nmodel: {provider: Nobody, name: gpt-4}\n---\n"
                                  "kind: model\nprovider: Nobody\nname: x\n");
    expect_output(1, "",
                  "forgectl: m.yaml:8:11: there is no provider \"Nobody\"\n"
                  "forgectl: m.yaml:1:1: prompt \"x\": there is no model \"gpt-4\" of provider \"Nobody\"\n",
                  "forgectl apply -f m.yaml");
}

static void test_export_of_models(void **state)
{
    expect_output(0,
                  "---\nkind: provider\nname: OpenAI\nprovider_key: openai\nbase_url: https://api.openai.com/v1\n"
                  "---\nkind: model\nprovider: OpenAI\nname: gpt-4\ndisplay_name: gpt-4\naliases:\n- gpt-4-0314\n"
                  "context_window_tokens: \"8192\"\nprices:\n- effective_time: \"<time>\"\n  currency: USD\n  usage_prices:\n"
                  "  - usage_type: USAGE_TYPE_INPUT\n    micros_per_million_tokens: \"30000000\"\n  - usage_type: USAGE_TYPE_OUTPUT\n"
                  "    micros_per_million_tokens: \"60000000\"\n- effective_time: \"<time>\"\n  currency: USD\n  usage_prices:\n"
                  "  - usage_type: USAGE_TYPE_INPUT\n- effective_time: \"<time>\"\n  currency: USD\n  usage_prices:\n"
                  "  - usage_type: USAGE_TYPE_INPUT\n    micros_per_million_tokens: \"1\"\n"
                  "---\nkind: model\nprovider: OpenAI\nname: gpt-5\ndisplay_name: gpt-5\n"
                  "---\nkind: prompt\nname: modelled\nversions:\n- content: one\n- content: one\n  model:\n    provider: OpenAI\n"
                  "    name: gpt-4\n- content: one\n  model:\n    provider: OpenAI\n    name: gpt-5\n",
                  "", "forgectl export modelled --project Library");
    expect_output(0, NULL, "", "echo sk-never-exported | forgectl provider update OpenAI --credential-file -");
    expect_output(0, "", "", "forgectl export --models > exported.yaml && forgectl apply -f exported.yaml -o name");
    expect_output(0, "", "", "grep -E 'credential|sk-never' exported.yaml; true");
    forgectl_set("FORGE_TOKEN", world.foreign.admin_key);
    expect_output(0, NULL, NULL, "forgectl apply -f exported.yaml");
    expect_output(0, "", "", "forgectl export --models | diff - exported.yaml");
    forgectl_set("FORGE_TOKEN", world.home.admin_key);
    expect_output(2, "", NULL, "forgectl export modelled --models");
}

/* ---- the way back ---- */

static void test_export_is_applied_unchanged(void **state)
{
    static const char odd[] = "kind: project\nname: Odd\ndescription: \"true\"\n---\nkind: tag\nname: \"123\"\n---\n"
                              "kind: prompt\nproject: Odd\nname: \" odd: # - 'x' \"\ntags: [\"123\"]\nversions:\n"
                              "- {content: \"  leading\\n\\ttab\\n\\n\", message: \"~\"}\n- {content: \"null\", make_current: true}\n"
                              "- {content: \"- a\\n\\n\\n b: {{c}}\\r\\n\", parameters: '{\"z\": 1.50, \"a\": \"\xc3\xa9\"}'}\n"
                              "- {messages: [{role: system, content: \"0x10\"}, {role: user, content: \"\\u2028\\ttext\\n\"}]}\n"
                              "---\nkind: execution\nproject: Odd\nprompt: \" odd: # - 'x' \"\nversion: 3\nrating: 1\nsuccess: false\n"
                              "notes: \"yes\"\nexecute_time: 2026-03-02T09:15:00.000001Z\n";
    forgectl_write_file("odd.yaml", odd);
    expect_output(0, NULL, NULL, "forgectl apply -f odd.yaml");
    expect_output(0, "", "", "forgectl export --project Odd --executions > exported.yaml && forgectl apply -f exported.yaml -o name");
    /* In another organization everything of it is made again, and exported there it is the same text. */
    forgectl_set("FORGE_TOKEN", world.foreign.admin_key);
    expect_output(0, NULL, NULL, "forgectl apply -f exported.yaml");
    expect_output(0, "", "", "forgectl export --project Odd --executions | diff - exported.yaml");
    expect_output(0, "", "", "forgectl apply -f odd.yaml -o name");
    forgectl_set("FORGE_TOKEN", world.home.admin_key);
}

static void test_export_of_a_prompt_goes_anywhere(void **state)
{
    expect_output(
        0,
        "---\nkind: tag\nname: a\n---\nkind: tag\nname: b\n---\nkind: prompt\nname: answer\ndescription: Answers\ntags:\n- a\n- b\n"
        "versions:\n- content: one {{x}}\n  variables:\n  - name: x\n- messages:\n  - role: user\n    content: two\n"
        "  parameters: '{\"a\": 1, \"b\": [2]}'\n  message: why\n- content: three {{x}}\n  system_prompt: s\n  variables:\n"
        "  - name: x\n    description: an x\n    default_value: \"\"\n  make_current: true\n- content: four\n",
        "", "forgectl export answer --project Library");
    expect_output(0, "+ prompt answer in Before\n", "",
                  "forgectl export answer --project Library | forgectl apply -f - --project Before --dry-run | "
                  "grep '^[+~]'");
    expect_output(0, "4\n", "", "forgectl export marked --project Library -o json --executions | sort -u | grep -c '\"marked\"'");
    expect_output(69, "", NULL, "forgectl export nothing --project Library");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apply_names_what_is_wrong),
        cmocka_unit_test(test_apply_tells_every_problem_at_once),
        cmocka_unit_test(test_apply_ends_an_alias_bomb),
        cmocka_unit_test(test_apply_without_a_manifest),
        cmocka_unit_test(test_apply_refuses_references_to_nothing),
        cmocka_unit_test(test_apply_plans_applies_and_applies_again),
        cmocka_unit_test(test_apply_updates_what_differs),
        cmocka_unit_test(test_apply_makes_the_marked_version_current),
        cmocka_unit_test(test_apply_counts_executions),
        cmocka_unit_test(test_apply_killed_at_any_moment),
        cmocka_unit_test(test_apply_orders_prompts_that_refer_to_each_other),
        cmocka_unit_test(test_apply_orders_labels_that_prompts_refer_by),
        cmocka_unit_test(test_apply_refuses_circles),
        cmocka_unit_test(test_apply_creates_and_updates_users),
        cmocka_unit_test(test_apply_passes_a_refusal_on),
        cmocka_unit_test(test_apply_chooses_a_project),
        cmocka_unit_test(test_export_is_applied_unchanged),
        cmocka_unit_test(test_apply_of_models_and_their_prices),
        cmocka_unit_test(test_apply_changes_no_price),
        cmocka_unit_test(test_export_of_models),
        cmocka_unit_test(test_apply_of_labels),
        cmocka_unit_test(test_export_of_labels),
        cmocka_unit_test(test_apply_of_datasets),
        cmocka_unit_test(test_export_of_a_prompt_goes_anywhere),
    };
    return cmocka_run_group_tests(tests, forgectl_open_world, forgectl_close_world);
}
