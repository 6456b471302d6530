/* The listings of the prompt service at 100,000 prompts, and those of an evaluation's results and a project's violations at as many: their
 * statements as forge_app plans and runs them under row-level security. What is asserted is what is read, not time: no table is walked, and
 * a page costs about what it holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/plan_fixture.h"

#include <stdio.h>

#define BIG "'01890000-0000-7000-8000-0000000000b1'"
#define SMALL "'01890000-0000-7000-8000-000000000051'"
#define MODEL "'01890000-0000-7000-8000-0000000000a1'"
#define MODEL_RARE "'01890000-0000-7000-8000-0000000000a2'"
#define FIRST_ID "'00000000-0000-0000-0000-000000000000'"

/* PAGE_ROWS: a page of 50 and whether there is more. FEW: as service/prompt/prompt.c counts. */
enum { PROMPTS = 100000, PAGE_ROWS = 51, FEW = 1001 };

/* An organization's prompts are p-000001 and so on, with ids in that order: of the home organization all but every thousandth belong to the
 * project BIG, those to SMALL. Words, tags, labels and models go by the number. Superusers insert without looking at foreign keys. */
static const char *const data_sql =
    "SET session_replication_role = replica;"
    "CREATE TEMPORARY TABLE p AS SELECT o.organization_id, n, format('0189%s-0000-7000-8000-%s', o.prefix, lpad(to_hex(n), 12, '0'))::uuid "
    "AS id,"
    " CASE WHEN n % 1000 = 0 THEN o.other ELSE o.project END AS project_id"
    " FROM (VALUES (" HOME "::uuid, 'aaaa', " BIG "::uuid, " SMALL "::uuid, 100000),"
    " (" FOREIGN ", 'bbbb', " FOREIGN ", " FOREIGN
    ", 1000)) o (organization_id, prefix, project, other, prompts), generate_series(1, o.prompts) n;"
    "INSERT INTO organizations (organization_id, name, slug) VALUES (" HOME ", 'home', 'home'), (" FOREIGN ", 'foreign', 'foreign');"
    "INSERT INTO projects (organization_id, id, name) VALUES (" HOME ", " BIG ", 'big'), (" HOME ", " SMALL ", 'small'),"
    " (" FOREIGN ", " FOREIGN ", 'all');"
    "INSERT INTO prompts (organization_id, id, project_id, name, current_version, newest_version)"
    " SELECT organization_id, id, project_id, 'p-' || lpad(n::text, 6, '0'), 1, 1 FROM p;"
    "INSERT INTO prompt_versions (organization_id, prompt_id, version, content, model_id, content_hash, content_bytes)"
    " SELECT organization_id, id, 1, repeat('text ', 20), CASE WHEN n % 5000 = 3 THEN " MODEL_RARE "::uuid ELSE " MODEL " END,"
    " sha256(n::text::bytea), 100 FROM p;"
    "INSERT INTO prompt_words (organization_id, project_id, word, prompt_id)"
    " SELECT organization_id, project_id, w.word, id FROM p, LATERAL (VALUES ('common'), (CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END),"
    " (CASE WHEN n % 20000 = 7 THEN 'rare' END), ('unit' || n % 500), (CASE WHEN n % 10 = 0 THEN 'tenth' END)) w (word)"
    " WHERE w.word IS NOT NULL;"
    "INSERT INTO tags (organization_id, id, name) VALUES (" HOME ", 1, 'everywhere'), (" HOME ", 2, 'seldom'), (" FOREIGN
    ", 3, 'everywhere');"
    "INSERT INTO prompt_tags (organization_id, prompt_id, tag_id)"
    " SELECT organization_id, id, CASE WHEN organization_id = " HOME " THEN 1 ELSE 3 END FROM p"
    " UNION ALL SELECT organization_id, id, 2 FROM p WHERE organization_id = " HOME " AND n % 5000 = 7;"
    "INSERT INTO labels (organization_id, project_id, prompt_id, name, updated_by)"
    " SELECT organization_id, project_id, id, 'production', id FROM p"
    " UNION ALL SELECT organization_id, project_id, id, 'canary', id FROM p WHERE n % 5000 = 7;"
    "INSERT INTO label_targets (organization_id, prompt_id, label, version) SELECT organization_id, prompt_id, name, 1 FROM labels;"
    "INSERT INTO label_history (organization_id, id, prompt_id, label, new_targets, actor_id, moved_at)"
    " SELECT organization_id, gen_random_uuid(), id, name, '[{\"version\": 1, \"weight\": 1}]', id, '2026-01-01'"
    " FROM p, (VALUES ('current'), ('production')) l (name);"
    "INSERT INTO prompt_references (organization_id, prompt_id, version, position, referenced_prompt_id, referenced_label)"
    " SELECT p.organization_id, p.id, 1, k, format('0189aaaa-0000-7000-8000-%s', lpad(to_hex((p.n * 7 + k) % 100000 + 1), 12, '0'))::uuid,"
    " CASE WHEN k % 2 = 0 THEN 'production' END FROM p, generate_series(0, 3) k WHERE organization_id = " HOME " AND (k = 0 OR n % 5 = 0);"
    "INSERT INTO executions (organization_id, prompt_id, version, rating, success, executed_at)"
    " SELECT organization_id, id, 1, NULL, true, timestamptz '2026-01-01' + n * interval '1 second' FROM p WHERE n <= 1000;";

/* Versions with four references each, as many as one level may have. */
static const char *const level_sql =
    "CREATE FUNCTION level_ids() RETURNS uuid[] LANGUAGE sql AS $$SELECT array_agg(('0189aaaa-0000-7000-8000-' ||"
    " lpad(to_hex(5 * n), 12, '0'))::uuid) FROM generate_series(1, 255) n$$";

static const char *const busy_executions_sql =
    "INSERT INTO executions (organization_id, prompt_id, version, rating, success, executed_at)"
    " SELECT " HOME ", '0189aaaa-0000-7000-8000-000000000001', 1 + n / 25000, NULLIF(n % 6, 0), n % 1000 <> 0,"
    " timestamptz '2026-01-02' + n * interval '1 second' FROM generate_series(0, 49999) n;";

static const char *const results_sql =
    "INSERT INTO evaluations (organization_id, id, project_id, name, prompt_version, prompt_content_hash, dataset_version,"
    " dataset_content_hash, evaluators, expected_result_count, created_by) VALUES (" HOME ", " BIG ", " BIG ", 'run', 1, sha256(''), 1,"
    " sha256(''), '[]', 100000, " BIG ");"
    "INSERT INTO evaluation_results (organization_id, evaluation_id, item_key, repetition, item_id, output, evaluator_scores, score, "
    "passed,"
    " content_hash, content_bytes) SELECT " HOME ", " BIG ", 'k' || lpad((n / 2)::text, 6, '0'), 1 + n % 2, " BIG ", '', '[]', n % 2,"
    " n % 2 = 1, sha256(''), 100 FROM generate_series(0, 99999) n;";

/* Ids ascend with the number. Every thousandth is open, every 5,000th critical, every 2,000th of MODEL_RARE as policy and prompt, and of a
 * trace. */
static const char *const violations_sql =
    "INSERT INTO policy_violations (organization_id, id, project_id, policy_id, policy_version, policy_name, rule, action, severity, mode,"
    " stage, state, message, prompt_id, prompt_version, trace_id, actor_id, finding_hash, created_at)"
    " SELECT " HOME ", ('0189aaaa-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, CASE WHEN n % 1000 = 7 THEN " SMALL
    "::uuid ELSE " BIG " END, CASE WHEN n % 2000 = 11 THEN " MODEL_RARE "::uuid ELSE " MODEL " END, 1, 'p', 'r',"
    " CASE WHEN n % 2 = 0 THEN 'flag' ELSE 'block' END, CASE WHEN n % 5000 = 1 THEN 4 ELSE 1 + n % 3 END, 'enforce', 'input',"
    " CASE WHEN n % 1000 = 0 THEN 'open' ELSE 'resolved' END, 'm', CASE WHEN n % 2000 = 11 THEN " MODEL_RARE
    "::uuid WHEN n % 2 = 0 THEN " MODEL " END, 1 + n % 50, CASE WHEN n % 2000 = 11 THEN decode(repeat('ab', 16), 'hex') END, " BIG
    ", sha256(n::text::bytea), '2026-01-01' FROM generate_series(1, 100000) n;";

static int setup(void **state)
{
    static const char *const commands[] = {data_sql, busy_executions_sql, level_sql, results_sql, violations_sql, NULL};
    (void)state;
    plan_fixture_open(commands);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    plan_fixture_close();
    return 0;
}

static void expect(enum sql_id id, const char *arguments, unsigned found, unsigned rows_max, unsigned buffers_max)
{
    plan_expect(id, arguments, found, rows_max, buffers_max, 0);
}

/* prompt_list by what it is asked for; unset texts are SQL. */
struct listing {
    const char *project, *prefix, *prefix_end, *after, *tags, *model, *label, *words;
};

static const char *or_null(const char *sql)
{
    return sql != NULL ? sql : "NULL";
}

static void expect_list(struct listing listing, unsigned found, unsigned rows_max, unsigned buffers_max)
{
    char arguments[1024];
    snprintf(arguments, sizeof arguments, "%s, %s, %s, %s, %d, false, 9223372036854775807, %s, %s, %s, %s, %d",
             listing.project != NULL ? listing.project : BIG, listing.prefix != NULL ? listing.prefix : "''",
             listing.prefix_end != NULL ? listing.prefix_end : "U&'\\+10FFFF'", listing.after != NULL ? listing.after : "''", PAGE_ROWS,
             or_null(listing.tags), or_null(listing.model), or_null(listing.label), or_null(listing.words), FEW);
    expect(SQL_PROMPT_LIST, arguments, found, rows_max, buffers_max);
}

static void test_prompts_by_name(void **state)
{
    (void)state;
    expect_list((struct listing){0}, PAGE_ROWS, 400, 2000);
    expect_list((struct listing){.after = "'p-050000'"}, PAGE_ROWS, 400, 2000);
    expect_list((struct listing){.after = "'p-099989'"}, 10, 100, 1000);
    expect_list((struct listing){.prefix = "'p-0500'", .prefix_end = "'p-0501'"}, PAGE_ROWS, 400, 2000);
    expect_list((struct listing){.prefix = "'p-05000'", .prefix_end = "'p-05001'"}, 9, 100, 1000);
    expect_list((struct listing){.project = SMALL}, PAGE_ROWS, 400, 2000);
}

/* A word that many prompts have is counted to FEW, twice, and its prompts are then met on the walk through the names. */
static void test_prompts_by_words(void **state)
{
    (void)state;
    expect_list((struct listing){.words = "'{common}'"}, PAGE_ROWS, 4 * FEW, 5000);
    expect_list((struct listing){.words = "'{common}'", .after = "'p-050000'"}, PAGE_ROWS, 4 * FEW, 5000);
    expect_list((struct listing){.words = "'{common}'", .prefix = "'p-05000'", .prefix_end = "'p-05001'"}, 9, 4 * FEW, 5000);
    expect_list((struct listing){.words = "'{rare}'"}, 5, 100, 500);
    expect_list((struct listing){.words = "'{common,rare}'"}, 5, 2 * FEW, 500);
    expect_list((struct listing){.words = "'{common,odd,rare}'"}, 5, 3 * FEW, 500);
    expect_list((struct listing){.words = "'{common,tenth,unit100}'"}, PAGE_ROWS, 5 * FEW, 6000);
    expect_list((struct listing){.words = "'{common,missing}'"}, 1, 2 * FEW, 200); /* the row that tells the project is there */
    expect_list((struct listing){.words = "'{rare,unit1}'"}, 1, 300, 300);
    expect_list((struct listing){.project = SMALL, .words = "'{common}'"}, PAGE_ROWS, 1500, 3000);
}

/* The dearest questions: words that many prompts have, and few or none of them all. Index entries of one word are followed until FEW have
 * the others too, and no prompt is read for that. */
static void test_words_that_seldom_meet(void **state)
{
    (void)state;
    expect_list((struct listing){.words = "'{common,even,tenth}'"}, PAGE_ROWS, 40 * FEW, 80000);
    expect_list((struct listing){.words = "'{even,odd}'"}, 1, PROMPTS / 2 + 4 * FEW, 2 * PROMPTS);
}

static void test_prompts_by_tag_label_and_model(void **state)
{
    (void)state;
    expect_list((struct listing){.tags = "'{everywhere}'"}, PAGE_ROWS, 4 * FEW, 5000);
    expect_list((struct listing){.tags = "'{seldom}'"}, 20, 500, 1000);
    expect_list((struct listing){.tags = "'{everywhere,seldom}'"}, 20, 2 * FEW, 1000);
    expect_list((struct listing){.label = "'production'"}, PAGE_ROWS, 2 * FEW, 2000);
    expect_list((struct listing){.label = "'production'", .after = "'p-050000'"}, PAGE_ROWS, 2 * FEW, 2000);
    expect_list((struct listing){.label = "'canary'"}, 20, 500, 1000);
    expect_list((struct listing){.model = MODEL}, PAGE_ROWS, 2 * FEW, 2000);
    expect_list((struct listing){.model = MODEL_RARE}, 20, 500, 1000);
}

static void test_prompts_by_several_filters(void **state)
{
    (void)state;
    expect_list((struct listing){.tags = "'{everywhere}'", .label = "'production'", .model = MODEL, .words = "'{common}'"}, PAGE_ROWS,
                10 * FEW, 10000);
    expect_list((struct listing){.tags = "'{everywhere}'", .label = "'canary'", .words = "'{common}'"}, 20, 8 * FEW, 10000);
    expect_list((struct listing){.tags = "'{seldom}'", .words = "'{rare}'", .prefix = "'p-04'", .prefix_end = "'p-05'"}, 1, 200, 500);
}

static void test_labels_of_a_project(void **state)
{
    (void)state;
    expect(SQL_LABEL_LIST, BIG ", NULL, NULL, " FIRST_ID ", '', 51, NULL", PAGE_ROWS, 300, 1000);
    expect(SQL_LABEL_LIST, BIG ", NULL, NULL, '0189aaaa-0000-7000-8000-00000000c350', 'production', 51, NULL", PAGE_ROWS, 300, 1000);
    expect(SQL_LABEL_LIST, SMALL ", NULL, NULL, " FIRST_ID ", '', 51, NULL", PAGE_ROWS, 300, 1000);
    expect(SQL_LABEL_LIST, SMALL ", NULL, NULL, " FIRST_ID ", '', 51, 'production'", PAGE_ROWS, 300, 1000);
    expect(SQL_LABEL_LIST, SMALL ", NULL, NULL, " FIRST_ID ", '', 51, 'canary'", 1, 10, 100);
    expect(SQL_LABEL_LIST, BIG ", NULL, NULL, " FIRST_ID ", '', 51, 'canary'", 20, 100, 500);
    expect(SQL_LABEL_LIST, "NULL, '0189aaaa-0000-7000-8000-000000000007', NULL, " FIRST_ID ", '', 51, NULL", 2, 20, 100);
}

static void test_executions_of_a_prompt(void **state)
{
    (void)state;
    static const char busy[] = "'0189aaaa-0000-7000-8000-000000000001', NULL, '2026-01-01', ";
    char arguments[256];
    snprintf(arguments, sizeof arguments, "%s'infinity', 0, 1, 2147483647, NULL, NULL, 51, 3145728", busy);
    expect(SQL_EXECUTION_LIST, arguments, PAGE_ROWS, 200, 500);
    snprintf(arguments, sizeof arguments, "%s'2026-01-02 06:00:00+00', 0, 1, 2147483647, NULL, NULL, 51, 3145728", busy);
    expect(SQL_EXECUTION_LIST, arguments, PAGE_ROWS, 200, 500);
    snprintf(arguments, sizeof arguments, "%s'infinity', 0, 1, 2147483647, true, 3, 51, 3145728", busy);
    expect(SQL_EXECUTION_LIST, arguments, PAGE_ROWS, 500, 500);
}

/* One version's references, and those of a whole level of them. */
static void test_references_of_versions(void **state)
{
    (void)state;
    expect(SQL_REFERENCE_RESOLVE,
           "'{0189aaaa-0000-7000-8000-000000000005}', '{1}', '', NULL, 4194304, '{4}', '{0189aaaa-0000-7000-8000-000000000005}', '{1}'", 4,
           40, 300);
    expect(SQL_REFERENCE_RESOLVE,
           "level_ids(), array_fill('1'::text, '{255}'), '', NULL, 4194304, array_fill('4'::text, '{255}'), level_ids(), "
           "array_fill('1'::text, '{255}')",
           1020, 10000, 30000);
    expect(SQL_REFERENCE_RESOLVE,
           "level_ids(), array_fill('1'::text, '{255}'), '', now(), 4194304, array_fill('4'::text, '{255}'), level_ids(), "
           "array_fill('1'::text, '{255}')",
           1020, 10000, 30000);
}

static void test_results_of_an_evaluation(void **state)
{
    (void)state;
    expect(SQL_RESULT_LIST, BIG ", NULL, '', 0, NULL, U&'\\+10FFFF', 51, 3145728", PAGE_ROWS, 100, 500);
    expect(SQL_RESULT_LIST, BIG ", NULL, 'k049980', 2, NULL, U&'\\+10FFFF', 51, 3145728", 38, 100, 500);
    expect(SQL_RESULT_LIST, BIG ", NULL, '', 0, true, U&'\\+10FFFF', 51, 3145728", PAGE_ROWS, 200, 500);
    expect(SQL_RESULT_LIST, BIG ", NULL, 'k025000', 0, NULL, 'k025000', 51, 3145728", 2, 10, 100);
}

/* violation_list by what it is asked for; unset texts are SQL for any. */
struct violations {
    const char *project, *before, *states, *severities, *actions, *policy, *prompt, *version, *trace;
};

static void expect_violations(struct violations wanted, unsigned found, unsigned rows_max, unsigned buffers_max)
{
    char arguments[1024];
    snprintf(
        arguments, sizeof arguments, "%s, NULL, " FIRST_ID ", %s, '-infinity', 'infinity', %s, %s, %s, %s, %s, %s, %s, %d, 2097152",
        wanted.project != NULL ? wanted.project : BIG, wanted.before != NULL ? wanted.before : "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        wanted.states != NULL ? wanted.states : "'{open,acknowledged,resolved}'",
        wanted.severities != NULL ? wanted.severities : "'{1,2,3,4}'", wanted.actions != NULL ? wanted.actions : "'{flag,mask,block}'",
        or_null(wanted.policy), or_null(wanted.prompt), wanted.version != NULL ? wanted.version : "0", or_null(wanted.trace), PAGE_ROWS);
    expect(SQL_VIOLATION_LIST, arguments, found, rows_max, buffers_max);
}

/* A page of each set of state, severity and action that has as many, however rare what is asked for. */
static void test_violations_by_state_severity_and_action(void **state)
{
    (void)state;
    expect_violations((struct violations){0}, PAGE_ROWS, 20 * PAGE_ROWS, 2000);
    expect_violations((struct violations){.before = "'0189aaaa-0000-7000-8000-00000000c350'"}, PAGE_ROWS, 20 * PAGE_ROWS, 2000);
    expect_violations((struct violations){.project = SMALL}, PAGE_ROWS, 20 * PAGE_ROWS, 2000);
    expect_violations((struct violations){.states = "'{open}'"}, PAGE_ROWS, 5 * PAGE_ROWS, 1000);
    expect_violations((struct violations){.severities = "'{4}'"}, 20, 100, 500);
    expect_violations((struct violations){.actions = "'{mask}'"}, 1, 10, 200); /* the row that tells the project is there */
    expect_violations((struct violations){.states = "'{open}'", .severities = "'{3,4}'", .actions = "'{flag}'"}, 33, 200, 500);
}

static void test_violations_of_a_policy_prompt_and_trace(void **state)
{
    (void)state;
    expect_violations((struct violations){.policy = MODEL}, PAGE_ROWS, 5 * PAGE_ROWS, 500);
    expect_violations((struct violations){.policy = MODEL_RARE}, 50, 500, 500);
    expect_violations((struct violations){.policy = MODEL, .actions = "'{flag}'"}, PAGE_ROWS, 5 * PAGE_ROWS, 500);
    expect_violations((struct violations){.prompt = MODEL}, PAGE_ROWS, 5 * PAGE_ROWS, 500);
    expect_violations((struct violations){.prompt = MODEL_RARE}, 50, 500, 500);
    expect_violations((struct violations){.prompt = MODEL, .version = "1"}, PAGE_ROWS, 5 * PAGE_ROWS, 500);
    expect_violations((struct violations){.prompt = MODEL_RARE, .version = "1"}, 1, 20, 200);
    expect_violations((struct violations){.trace = "repeat('ab', 16)"}, 50, 500, 500);
    expect_violations((struct violations){.trace = "repeat('ab', 16)", .policy = MODEL}, 1, 200, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts_by_name),
        cmocka_unit_test(test_prompts_by_words),
        cmocka_unit_test(test_words_that_seldom_meet),
        cmocka_unit_test(test_prompts_by_tag_label_and_model),
        cmocka_unit_test(test_prompts_by_several_filters),
        cmocka_unit_test(test_labels_of_a_project),
        cmocka_unit_test(test_executions_of_a_prompt),
        cmocka_unit_test(test_references_of_versions),
        cmocka_unit_test(test_results_of_an_evaluation),
        cmocka_unit_test(test_violations_by_state_severity_and_action),
        cmocka_unit_test(test_violations_of_a_policy_prompt_and_trace),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
