/* seeds/: each manifest on a fresh database, again, after a reset of the database, both together, and interrupted at any moment. */
#include "forgectl_test_support.h"

/* A database of its own with a server on it. */
struct home {
    struct forged_world *files;
    struct forged_child *server;
};

static struct pg_cluster *cluster;

static int set_up(void **state)
{
    cluster = pg_cluster_new(NULL);
    forgectl_make_home();
    forgectl_set("LC_ALL", "C.UTF-8");
    char seeds[512];
    snprintf(seeds, sizeof seeds, "%s/seeds", getenv("FORGE_SOURCE_DIR"));
    forgectl_set("SEEDS", seeds);
    return 0;
}

static int tear_down(void **state)
{
    forgectl_remove_home();
    pg_cluster_free(cluster);
    return 0;
}

static void serve(struct home *home)
{
    home->server = forged_world_serve(home->files, NULL);
    forgectl_set("FORGE_SERVER", forged_child_address(home->server));
}

static void open_home(struct home *home)
{
    home->files = forged_world_new(cluster);
    serve(home);
    forgectl_set("FORGE_CA", tls_files_path(forged_world_tls(home->files), "ca.pem"));
    forgectl_set("FORGE_OPERATOR_TOKEN", forged_world_operator_token(home->files));
    forgectl_set("FORGE_TOKEN", "");
}

static void close_home(struct home *home)
{
    forged_child_stop(home->server);
    forged_world_free(home->files);
}

/* downgrade base, upgrade head, bootstrap token. */
static void reset(struct home *home)
{
    forged_child_stop(home->server);
    const char *source = getenv("FORGE_SOURCE_DIR");
    expect_output(0, NULL, NULL,
                  "cd %s && forged migrate downgrade base --migrations-folder %s/migrations && "
                  "forged migrate upgrade head --migrations-folder %s/migrations",
                  forged_world_folder(home->files), source, source);
    forgectl_set("FORGE_OPERATOR_TOKEN", forged_world_operator_token(home->files));
    serve(home);
}

static int64_t number(const struct home *home, const char *sql)
{
    return strtoll(pg_cluster_query(cluster, "postgres", forged_world_database(home->files), sql), NULL, 10);
}

static void expect_rows(const struct home *home, const char *table, int64_t rows)
{
    char sql[128];
    snprintf(sql, sizeof sql, "select count(*) from %s", table);
    int64_t found = number(home, sql);
    if (found != rows)
        fail_msg("%s: %lld rows, expected %lld", table, (long long)found, (long long)rows);
}

struct counts {
    int64_t organizations, users, projects, tags, prompts, versions, prompt_tags, executions, providers, models, prices, datasets, items,
        evaluations, results, policies, attachments, violations, traces, spans, scores;
};
static const struct counts demo = {1, 3, 3, 0, 1, 1, 0, 0, 2, 2, 3, 1, 5, 1, 10, 3, 2, 1, 5, 24, 6},
                           library = {1, 1, 1, 5, 5, 5, 11, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
                           both = {1, 3, 3, 5, 6, 6, 11, 11, 2, 2, 3, 1, 5, 1, 10, 3, 2, 1, 5, 24, 6};

static void expect_counts(const struct home *home, const struct counts *counts)
{
    expect_rows(home, "organizations", counts->organizations);
    expect_rows(home, "organization_names", counts->organizations);
    expect_rows(home, "users", counts->users);
    expect_rows(home, "projects", counts->projects);
    expect_rows(home, "tags", counts->tags);
    expect_rows(home, "prompts", counts->prompts);
    expect_rows(home, "prompt_versions", counts->versions);
    expect_rows(home, "prompt_tags", counts->prompt_tags);
    expect_rows(home, "executions", counts->executions);
    expect_rows(home, "model_providers", counts->providers);
    expect_rows(home, "ai_models", counts->models);
    expect_rows(home, "ai_model_names", 2 * counts->models);
    expect_rows(home, "model_prices", counts->prices);
    expect_rows(home, "datasets", counts->datasets);
    expect_rows(home, "dataset_versions", counts->datasets);
    expect_rows(home, "dataset_items", counts->items);
    expect_rows(home, "evaluations", counts->evaluations);
    expect_rows(home, "evaluation_results", counts->results);
    expect_rows(home, "policies", counts->policies);
    expect_rows(home, "policy_versions", counts->policies);
    expect_rows(home, "policy_attachments", counts->attachments);
    expect_rows(home, "policy_violations", counts->violations);
    expect_rows(home, "traces", counts->traces);
    expect_rows(home, "spans", counts->spans);
    expect_rows(home, "scores", counts->scores);
}

/* An organization of somebody, whose session the next commands use. */
static void create_organization(void)
{
    expect_output(0, NULL, "", "printf 'secret\n' | forgectl organization create Somebody --admin-email a@b.example --password-stdin");
    expect_output(0, "", NULL, "printf 'secret\n' | forgectl login a@b.example --password-stdin");
}

static void log_in_as_demo_admin(void)
{
    expect_output(0, "", NULL, "printf 'admin123\n' | forgectl login admin@promptforge.com --password-stdin");
}

/* Nested spans of several kinds, an error, a session of two traces, what the models cost, and a text that a policy about persons would
 * find. */
static void expect_traces(const struct home *home)
{
    assert_int_equal(number(home,
                            "select count(*) from (select trace_id from spans where parent_span_id is not null group by trace_id having "
                            "count(*) >= 3 and count(distinct kind) >= 2) nested"),
                     5);
    assert_true(number(home, "select min(kinds) from (select count(distinct kind) as kinds from spans group by trace_id) k") >= 3);
    expect_output(0, "5eed0000000000000000000000000003\n", "", "forgectl trace list --project 'Customer Support' --status error -o name");
    expect_output(0, "demo-marek\ndemo-ines\ndemo-noor\n", "", "forgectl session list --project 'Customer Support' -o name");
    expect_output(0, "2 0 3132 $0.021900\n", "",
                  "forgectl session list --project 'Customer Support' --session demo-noor | awk 'NR == 2 {print $7, $8, $9, $10}'");
    expect_output(0, "claude-3-opus-20240229\ngpt-4\n", "",
                  "forgectl trace stats --project 'Customer Support' --prompt ticket-reply --version 1 --group-by model -o name");
    expect_output(0, "1\n", "",
                  "forgectl trace show 5eed0000000000000000000000000004 --project 'Customer Support' --full | grep -cF '[contact]'");
    expect_output(
        0, "6\n", "",
        "for project in 'Customer Support' 'Document Search'; do forgectl trace scores --project \"$project\" -o name; done | wc -l");
}

/* A policy that blocks, one that masks and one that flags, in force: the address that a trace brings is masked and noted. They have nothing
 * against the demo's own prompt. */
static void expect_policies(void)
{
    expect_output(0, "No secrets\nPersonal data\nTone\n", "", "forgectl policy list -o name");
    expect_output(0, "block\nmask\nmask\nflag\n", "",
                  "for id in $(forgectl policy list -o json | sed -n 's/^      \"id\": \"\\(.*\\)\",/\\1/p'); do forgectl policy get $id | "
                  "sed '1,/^RULE/d' | awk '{print $2}'; done");
    expect_output(
        0, "open mask contact input 5eed0000000000000000000000000004\n", "",
        "forgectl violation list --project 'Customer Support' -o json | awk -F '\"' '/\"(state|action|rule|stage|trace_id)\"/ {v[$2] = "
        "tolower($4); sub(/^(violation_state|policy_action|policy_stage)_/, \"\", v[$2])} END {print v[\"state\"], v[\"action\"], "
        "v[\"rule\"], v[\"stage\"], v[\"trace_id\"]}'");
    expect_output(
        0, "allowed\n", "",
        "forgectl prompt get ticket-reply --project 'Customer Support' -o json | forgectl policy check --project 'Customer Support' "
        "--label production --input-file - -o name");
    expect_output(3, "blocked\n", "", "forgectl policy check --project 'Document Search' --input 'AKIA''Q7RZ4LMN2XPV6TWB' -o name");
}

static void test_demo(void **state)
{
    static const char *const people[][3] = {{"admin@promptforge.com", "admin123", "ROLE_ADMIN"},
                                            {"developer@promptforge.com", "dev123", "ROLE_DEVELOPER"},
                                            {"viewer@promptforge.com", "viewer123", "ROLE_VIEWER"}};
    struct home home;
    open_home(&home);
    for (int round = 0; round < 2; round++) {
        expect_output(0, "27 to create, 0 to update, 0 unchanged\n", NULL,
                      "forgectl apply -f $SEEDS/promptforge_demo.yaml --dry-run | tail -1");
        expect_rows(&home, "organizations", 0);
        expect_output(0, "27 to create, 0 to update, 0 unchanged\n", NULL, "forgectl apply -f $SEEDS/promptforge_demo.yaml | tail -1");
        expect_counts(&home, &demo);
        /* Again, also without the operator's token. */
        expect_output(0, "0 to create, 0 to update, 27 unchanged\n", "", "forgectl apply -f $SEEDS/promptforge_demo.yaml | tail -1");
        expect_output(0, "0 to create, 0 to update, 27 unchanged\n", "",
                      "FORGE_OPERATOR_TOKEN= forgectl apply -f $SEEDS/promptforge_demo.yaml | tail -1");
        expect_counts(&home, &demo);
        assert_int_equal(number(&home, "select count(*) from sessions"), 0);
        for (size_t i = 0; i < 3; i++) {
            expect_output(0, "", NULL, "printf '%s\n' | forgectl login %s --password-stdin", people[i][1], people[i][0]);
            expect_output(0, "1\n", "", "forgectl whoami -o json | grep -c '\"role\": \"%s\"'", people[i][2]);
            expect_output(0, "", "", "forgectl logout");
        }
        log_in_as_demo_admin();
        expect_output(0, "Customer Support\nDocument Search\nEngineering Assistant\n", "", "forgectl project list -o name");
        expect_output(0, "claude-3-opus-20240229\ngpt-4\n", "", "forgectl model list -o name");
        expect_traces(&home);
        expect_policies();
        expect_output(0, "completed 10 0.6\n", "", "forgectl eval list --project 'Customer Support' | awk 'NR == 2 {print $5, $8, $9}'");
        expect_output(0, "card-declined\ncard-declined\nclose-account\nexport-late\nno-article\nreset-password\n", "",
                      "forgectl eval results $(forgectl eval list --project 'Customer Support' -o name) --passed true -o name");
        expect_output(0, "Model            claude-3-opus-20240229\n", "",
                      "forgectl prompt get ticket-reply --project 'Customer Support' | grep Model");
        expect_output(0, NULL, "",
                      "forgectl prompt render ticket-reply --project 'Customer Support' --var articles=a --var customer_name=b "
                      "--var ticket=c");
        if (round == 0)
            reset(&home);
    }
    close_home(&home);
}

static void test_library(void **state)
{
    struct home home;
    open_home(&home);
    for (int round = 0; round < 2; round++) {
        create_organization();
        expect_output(0, "16 to create, 0 to update, 0 unchanged\n", NULL, "forgectl apply -f $SEEDS/prompt_library.yaml | tail -1");
        expect_counts(&home, &library);
        expect_output(0, "0 to create, 0 to update, 15 unchanged\n", "", "forgectl apply -f $SEEDS/prompt_library.yaml | tail -1");
        expect_counts(&home, &library);
        assert_int_equal(number(&home, "select count(distinct rating) from executions"), 5);
        assert_int_equal(number(&home, "select count(*) from executions where rating is null"), 1);
        assert_true(number(&home, "select count(*) from executions where not success") >= 2);
        assert_int_equal(number(&home, "select count(distinct tag_id) from prompt_tags"), 5);
        expect_output(0, "Prompt Library\n", "", "forgectl project list -o name");
        expect_output(0, "architecture\ncode-review\ndebugging\ndocumentation\ntesting\n", "",
                      "forgectl prompt list --project 'Prompt Library' -o name");
        if (round == 0)
            reset(&home);
    }
    close_home(&home);
}

static void test_both(void **state)
{
    struct home home;
    open_home(&home);
    expect_output(0, NULL, NULL, "forgectl apply -f $SEEDS/promptforge_demo.yaml");
    log_in_as_demo_admin();
    for (int round = 0; round < 2; round++) {
        expect_output(0, NULL, NULL, "forgectl apply -f $SEEDS/prompt_library.yaml");
        expect_counts(&home, &both);
    }
    expect_output(0, "0 to create, 0 to update, 42 unchanged\n", "", "forgectl apply -f $SEEDS | tail -1");
    reset(&home);
    expect_output(0, "42 to create, 0 to update, 0 unchanged\n", NULL, "forgectl apply -f $SEEDS | tail -1");
    expect_counts(&home, &both);
    close_home(&home);
}

/* ---- interrupted ---- */

/* Applies until that succeeds: a step of a killed run may still be under way. */
static void finish(void)
{
    expect_output(0, NULL, NULL, "for i in 1 2 3 4 5; do forgectl apply -f $SEEDS && exit 0; done; exit 1");
    expect_output(0, "0 to create, 0 to update, 42 unchanged\n", "", "forgectl apply -f $SEEDS | tail -1");
}

/* After each step in turn: forgectl ends by a signal when nobody reads what it tells. */
static void test_interrupted_after_each_step(void **state)
{
    struct home home;
    open_home(&home);
    expect_output(0, NULL, NULL, "for step in $(seq 27); do forgectl apply -f $SEEDS 2>&1 >/dev/null | sed -n \"${step}q\"; done");
    finish();
    expect_counts(&home, &both);
    close_home(&home);
}

/* In the middle of calls: killed after 10 ms, 22 ms and so on. */
static void test_killed_at_any_moment(void **state)
{
    struct home home;
    open_home(&home);
    expect_output(0, NULL, NULL,
                  "for ms in $(seq 10 12 500); do timeout -s KILL $(printf '0.%%03d' $ms) \"$(command -v forgectl)\" apply -f $SEEDS "
                  ">/dev/null 2>&1; done; true");
    finish();
    expect_counts(&home, &both);
    close_home(&home);
}

/* The server goes away in the middle and comes back. */
static void test_server_killed_in_the_middle(void **state)
{
    struct home home;
    open_home(&home);
    for (int step = 3; step < 20; step += 8) {
        expect_output(0, NULL, NULL, "forgectl apply -f $SEEDS 2>&1 >/dev/null | (sed -n '%dq'; kill -KILL %d; cat)", step,
                      (int)forged_child_pid(home.server));
        forged_child_kill(home.server);
        serve(&home);
    }
    finish();
    expect_counts(&home, &both);
    close_home(&home);
}

/* Passwords as short as the demo's are for development only: the server says so, and forgectl passes it on. */
static void test_production_refuses_the_demo(void **state)
{
    static const char *const flags[] = {"--mode", "production", NULL};
    struct home home = {.files = forged_world_new(cluster)};
    home.server = forged_world_serve(home.files, flags);
    forgectl_set("FORGE_SERVER", forged_child_address(home.server));
    forgectl_set("FORGE_CA", tls_files_path(forged_world_tls(home.files), "ca.pem"));
    forgectl_set("FORGE_OPERATOR_TOKEN", forged_world_operator_token(home.files));
    struct child_output output;
    forgectl_shell(&output, "forgectl apply -f $SEEDS/promptforge_demo.yaml");
    assert_int_equal(output.exit_code, 67);
    assert_non_null(strstr(output.err, "forgectl: INVALID_ARGUMENT: admin_password: "));
    assert_non_null(strstr(output.err, "That was organization \"promptforge-demo\", "));
    child_output_done(&output);
    expect_rows(&home, "organizations", 0);
    close_home(&home);
}

static void test_demo_without_operator_token(void **state)
{
    struct home home;
    struct child_output output;
    open_home(&home);
    forgectl_shell(&output, "FORGE_OPERATOR_TOKEN= forgectl apply -f $SEEDS/promptforge_demo.yaml");
    assert_int_equal(output.exit_code, 80);
    assert_non_null(strstr(output.err, "To create it, set FORGE_OPERATOR_TOKEN (forged bootstrap token makes one)."));
    child_output_done(&output);
    close_home(&home);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_demo),
        cmocka_unit_test(test_library),
        cmocka_unit_test(test_both),
        cmocka_unit_test(test_interrupted_after_each_step),
        cmocka_unit_test(test_killed_at_any_moment),
        cmocka_unit_test(test_server_killed_in_the_middle),
        cmocka_unit_test(test_production_refuses_the_demo),
        cmocka_unit_test(test_demo_without_operator_token),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
