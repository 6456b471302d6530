/* Which version is live, and is the new one better? The whole story through libforge over TLS, with two servers on one database: two
 * versions of a prompt are evaluated on one dataset and compared, the label moves to the better one, is rolled back, and then splits the
 * traffic. Every step is taken at one server and seen at the other. */
#include "support/world.h"

#include "forge/split.h"

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ITEMS = 20, HALF = ITEMS / 2, SUBJECTS = 100000, SUBJECTS_ASKED = 200, TEXT_SIZE = 128 };
#define TEXT(text) ((char *)(uintptr_t)(text)) /* protobuf-c has char * for what it only reads */

static const char *const OLD_CONTENT = "What is {{a}} plus {{b}}?";
static const char *const NEW_CONTENT = "What is {{a}} plus {{b}}? Carry the one.";
static const char *const LABEL = "production";

/* What the model that this test plays makes of them: without being told to carry it does not, and when told it writes thousands with a
 * comma, which no evaluator of numbers reads. So the new version fixes 11 items, breaks 1, and leaves 6 right and 2 wrong. */
static const struct {
    int a, b;
} SUMS[ITEMS] = {
    {11, 22},    {23, 44},   {120, 30}, {400, 99}, {5, 4}, {600, 321}, /* right either way */
    {19, 22},    {28, 44},   {150, 60}, {405, 99}, {5, 6}, {690, 30},  {8, 8}, {77, 5}, {38, 38}, {159, 1}, {299, 299}, /* want a carry */
    {1200, 34},              /* from 1,000, without carry */
    {1234, 987}, {750, 750}, /* from 1,000, with carry */
};
enum { FIXED = 11, BROKEN = 1, STILL_PASSING = 6, STILL_FAILING = 2 };

static struct world world;
static struct forge_channel *here, *there; /* a server each */
static struct forge_error error;
static char dataset_id[WORLD_ID_SIZE], prompt_id[WORLD_ID_SIZE], old_evaluation[WORLD_ID_SIZE], new_evaluation[WORLD_ID_SIZE];

static int open_world(void **state)
{
    const struct world_options options = {.servers = 2};
    world_open(&world, &options);
    here = world_channel(&world, 0, world.home.write_key);
    there = world_channel(&world, 1, world.home.write_key);
    return 0;
}

static int close_world(void **state)
{
    forge_channel_close(here);
    forge_channel_close(there);
    world_close(&world);
    return 0;
}

static void check(const char *what, forge_code code)
{
    world_check(&world, what, code, &error);
}

/* ---- the prompt, the dataset, the model ---- */

static void test_a_prompt_with_two_versions(void **state)
{
    Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
    Forge__V1__PromptVersion *version;
    world_create_prompt(&world, here, &world.home, "sums", OLD_CONTENT, prompt_id);
    request.prompt_id = prompt_id;
    request.content = TEXT(NEW_CONTENT);
    check("CreatePromptVersion", forge_prompt_create_version(there, NULL, &request, &version, &error));
    assert_int_equal(version->version, 2);
    forge__v1__prompt_version__free_unpacked(version, NULL);
}

static void test_a_dataset(void **state)
{
    Forge__V1__CreateDatasetRequest create = FORGE__V1__CREATE_DATASET_REQUEST__INIT;
    Forge__V1__AddDatasetItemsRequest add = FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT;
    Forge__V1__DatasetItem items[ITEMS], *list[ITEMS];
    char keys[ITEMS][TEXT_SIZE], inputs[ITEMS][TEXT_SIZE], expected[ITEMS][TEXT_SIZE];
    Forge__V1__Dataset *dataset;
    Forge__V1__DatasetVersion *version;
    create.project_id = world.home.project_id;
    create.name = TEXT("additions");
    check("CreateDataset", forge_evaluation_create_dataset(here, NULL, &create, &dataset, &error));
    snprintf(dataset_id, sizeof dataset_id, "%s", dataset->id);
    forge__v1__dataset__free_unpacked(dataset, NULL);
    for (int i = 0; i < ITEMS; i++) {
        list[i] = &items[i];
        forge__v1__dataset_item__init(&items[i]);
        snprintf(items[i].key = keys[i], TEXT_SIZE, "sum-%02d", i);
        snprintf(items[i].input = inputs[i], TEXT_SIZE, "{\"a\":\"%d\",\"b\":\"%d\"}", SUMS[i].a, SUMS[i].b);
        snprintf(items[i].expected_output = expected[i], TEXT_SIZE, "%d", SUMS[i].a + SUMS[i].b);
    }
    add.dataset_id = dataset_id;
    add.items = list;
    add.n_items = ITEMS;
    check("AddDatasetItems", forge_evaluation_add_dataset_items(there, NULL, &add, &version, &error));
    assert_int_equal(version->item_count, ITEMS);
    forge__v1__dataset_version__free_unpacked(version, NULL);
}

/* The prompt as a service would send it to the model. */
static void render(struct forge_channel *channel, int version, int item, char out[TEXT_SIZE])
{
    Forge__V1__RenderPromptRequest request = FORGE__V1__RENDER_PROMPT_REQUEST__INIT;
    Forge__V1__GetPromptRequest prompt = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__VariableValue values[] = {FORGE__V1__VARIABLE_VALUE__INIT, FORGE__V1__VARIABLE_VALUE__INIT};
    Forge__V1__VariableValue *list[] = {&values[0], &values[1]};
    Forge__V1__RenderPromptResponse *reply;
    char a[16], b[16];
    snprintf(a, sizeof a, "%d", SUMS[item].a);
    snprintf(b, sizeof b, "%d", SUMS[item].b);
    values[0].name = TEXT("a");
    values[0].value = a;
    values[1].name = TEXT("b");
    values[1].value = b;
    prompt.id = prompt_id;
    prompt.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION;
    prompt.version = version;
    request.prompt = &prompt;
    request.variables = list;
    request.n_variables = 2;
    check("RenderPrompt", forge_prompt_render(channel, NULL, &request, &reply, &error));
    snprintf(out, TEXT_SIZE, "%s", reply->content);
    forge__v1__render_prompt_response__free_unpacked(reply, NULL);
}

static int add_without_carry(int a, int b)
{
    int sum = 0;
    for (int place = 1; a > 0 || b > 0; place *= 10, a /= 10, b /= 10)
        sum += (a % 10 + b % 10) % 10 * place;
    return sum;
}

/* Reads the question as rendered and answers it. */
static void model(const char *question, char out[TEXT_SIZE])
{
    int a, b;
    assert_int_equal(sscanf(question, "What is %d plus %d?", &a, &b), 2);
    if (strstr(question, "Carry the one.") == NULL)
        snprintf(out, TEXT_SIZE, "It is %d.", add_without_carry(a, b));
    else if (a + b < 1000)
        snprintf(out, TEXT_SIZE, "It is %d.", a + b);
    else
        snprintf(out, TEXT_SIZE, "It is %d,%03d.", (a + b) / 1000, (a + b) % 1000);
}

/* ---- evaluations ---- */

static void evaluation_make(struct forge_channel *channel, int version, char out_id[WORLD_ID_SIZE])
{
    Forge__V1__CreateEvaluationRequest request = FORGE__V1__CREATE_EVALUATION_REQUEST__INIT;
    Forge__V1__NumericEvaluator numeric = FORGE__V1__NUMERIC_EVALUATOR__INIT;
    Forge__V1__Evaluator evaluator = FORGE__V1__EVALUATOR__INIT, *list[] = {&evaluator};
    Forge__V1__Evaluation *evaluation;
    evaluator.config_case = FORGE__V1__EVALUATOR__CONFIG_NUMERIC;
    evaluator.numeric = &numeric;
    request.project_id = world.home.project_id;
    request.name = TEXT("additions");
    request.prompt_id = prompt_id;
    request.prompt_version = version;
    request.dataset_id = dataset_id;
    request.evaluators = list;
    request.n_evaluators = 1;
    check("CreateEvaluation", forge_evaluation_create(channel, NULL, &request, &evaluation, &error));
    snprintf(out_id, WORLD_ID_SIZE, "%s", evaluation->id);
    assert_int_equal(evaluation->prompt_version, version);
    assert_int_equal(evaluation->summary->expected_result_count, ITEMS);
    forge__v1__evaluation__free_unpacked(evaluation, NULL);
}

/* Runs these items of the version and adds what came out; every verdict must be as expected. */
static forge_code add_results(struct forge_channel *channel, const char *evaluation_id, int version, int first, int count,
                              Forge__V1__ItemOutcome outcome)
{
    Forge__V1__AddResultsRequest request = FORGE__V1__ADD_RESULTS_REQUEST__INIT;
    Forge__V1__EvaluationResult results[ITEMS], *list[ITEMS];
    char keys[ITEMS][TEXT_SIZE], outputs[ITEMS][TEXT_SIZE];
    Forge__V1__AddResultsResponse *reply;
    for (int i = 0; i < count; i++) {
        char question[TEXT_SIZE];
        render(channel, version, first + i, question);
        model(question, outputs[i]);
        list[i] = &results[i];
        forge__v1__evaluation_result__init(&results[i]);
        snprintf(results[i].item_key = keys[i], TEXT_SIZE, "sum-%02d", first + i);
        results[i].output = outputs[i];
    }
    request.evaluation_id = TEXT(evaluation_id);
    request.results = list;
    request.n_results = (size_t)count;
    forge_code code = forge_evaluation_add_results(channel, NULL, &request, &reply, &error);
    if (code != FORGE_OK)
        return code;
    assert_int_equal(reply->n_verdicts, count);
    for (int i = 0; i < count; i++)
        assert_int_equal(reply->verdicts[i]->verdict->outcome, outcome);
    forge__v1__add_results_response__free_unpacked(reply, NULL);
    return code;
}

static void complete(struct forge_channel *channel, const char *evaluation_id, int passed)
{
    Forge__V1__CompleteEvaluationRequest request = FORGE__V1__COMPLETE_EVALUATION_REQUEST__INIT;
    Forge__V1__Evaluation *evaluation;
    request.id = TEXT(evaluation_id);
    check("CompleteEvaluation", forge_evaluation_complete(channel, NULL, &request, &evaluation, &error));
    assert_int_equal(evaluation->state, FORGE__V1__EVALUATION_STATE__EVALUATION_STATE_COMPLETED);
    assert_int_equal(evaluation->summary->result_count, ITEMS);
    assert_int_equal(evaluation->summary->passed_count, passed);
    assert_true(fabs(evaluation->summary->average_score - passed / (double)ITEMS) < 1e-12);
    forge__v1__evaluation__free_unpacked(evaluation, NULL);
}

/* Half of the results at each server, then all of them once more: a resent result is none. */
static void run_version(int version, int passed, char out_id[WORLD_ID_SIZE])
{
    evaluation_make(here, version, out_id);
    check("AddResults", add_results(here, out_id, version, 0, HALF, FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED));
    check("AddResults", add_results(there, out_id, version, HALF, HALF, FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED));
    check("AddResults", add_results(there, out_id, version, 0, ITEMS, FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_DUPLICATE));
    complete(there, out_id, passed);
}

static void test_both_versions_are_evaluated(void **state)
{
    run_version(1, STILL_PASSING + BROKEN, old_evaluation);
    run_version(2, STILL_PASSING + FIXED, new_evaluation);
}

static void test_a_completed_evaluation_is_frozen(void **state)
{
    assert_int_equal(add_results(here, old_evaluation, 2, 0, 1, FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED), FORGE_FAILED_PRECONDITION);
    forge_error_free(&error);
}

static void test_the_new_version_is_better(void **state)
{
    Forge__V1__CompareEvaluationsRequest request = FORGE__V1__COMPARE_EVALUATIONS_REQUEST__INIT;
    Forge__V1__CompareEvaluationsResponse *reply;
    request.baseline_id = old_evaluation;
    request.candidate_id = new_evaluation;
    check("CompareEvaluations", forge_evaluation_compare(there, NULL, &request, &reply, &error));
    assert_int_equal(reply->fixed_count, FIXED);
    assert_int_equal(reply->broken_count, BROKEN);
    assert_int_equal(reply->still_passing_count, STILL_PASSING);
    assert_int_equal(reply->still_failing_count, STILL_FAILING);
    assert_int_equal(reply->only_baseline_count + reply->only_candidate_count, 0);
    assert_false(reply->dataset_differs);
    assert_true(fabs(reply->mean_score_difference - (FIXED - BROKEN) / (double)ITEMS) < 1e-12);
    /* Of 12 items that changed at most 1 the other way: 2 * (1 + 12) / 2^12. All differences have size 1, so both tests ask the same. */
    const double p_value = 26.0 / 4096;
    assert_int_equal(reply->mcnemar->method, FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_EXACT);
    assert_true(fabs(reply->mcnemar->p_value - p_value) < 1e-12);
    assert_int_equal(reply->wilcoxon->sample_size, FIXED + BROKEN);
    assert_true(fabs(reply->wilcoxon->rank_sum_positive - FIXED * 6.5) < 1e-12);
    assert_true(fabs(reply->wilcoxon->rank_sum_negative - BROKEN * 6.5) < 1e-12);
    assert_true(fabs(reply->wilcoxon->p_value - p_value) < 1e-12);
    assert_int_equal(reply->n_items, ITEMS);
    assert_string_equal(reply->items[17]->item_key, "sum-17");
    assert_int_equal(reply->items[17]->change, FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_BROKEN);
    forge__v1__compare_evaluations_response__free_unpacked(reply, NULL);
}

/* ---- the label ---- */

static Forge__V1__SetLabelRequest label_request(void)
{
    Forge__V1__SetLabelRequest request = FORGE__V1__SET_LABEL_REQUEST__INIT;
    request.prompt_id = prompt_id;
    request.label = TEXT(LABEL);
    return request;
}

static forge_code set_label(struct forge_channel *channel, const Forge__V1__SetLabelRequest *request)
{
    Forge__V1__Label *label;
    forge_code code = forge_prompt_set_label(channel, NULL, request, &label, &error);
    if (code == FORGE_OK)
        forge__v1__label__free_unpacked(label, NULL);
    return code;
}

/* Points the label at a version, if it points at the expected one now (0 = it is new). */
static forge_code point_at(struct forge_channel *channel, int version, int expected)
{
    Forge__V1__SetLabelRequest request = label_request();
    Google__Protobuf__Int32Value expected_version = GOOGLE__PROTOBUF__INT32_VALUE__INIT;
    expected_version.value = expected;
    request.expected_version = &expected_version;
    request.target_case = FORGE__V1__SET_LABEL_REQUEST__TARGET_VERSION;
    request.version = version;
    return set_label(channel, &request);
}

static Forge__V1__Prompt *prompt_by_label(struct forge_channel *channel, const char *subject)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    request.project_id = world.home.project_id;
    request.name = TEXT("sums");
    request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL;
    request.label = TEXT(LABEL);
    request.subject = TEXT(subject);
    check("GetPrompt", forge_prompt_get(channel, NULL, &request, &prompt, &error));
    return prompt;
}

static void expect_live(int version)
{
    struct forge_channel *const servers[] = {here, there};
    for (int i = 0; i < 2; i++) {
        Forge__V1__Prompt *prompt = prompt_by_label(servers[i], "");
        assert_int_equal(prompt->version, version);
        assert_string_equal(prompt->content, version == 1 ? OLD_CONTENT : NEW_CONTENT);
        forge__v1__prompt__free_unpacked(prompt, NULL);
    }
}

static void test_the_label_moves_to_the_better_version(void **state)
{
    check("SetLabel", point_at(here, 1, 0));
    expect_live(1);
    check("SetLabel", point_at(there, 2, 1));
    expect_live(2);
    /* Whoever decided on what was live before is told. */
    assert_int_equal(point_at(here, 1, 1), FORGE_ABORTED);
    forge_error_free(&error);
    expect_live(2);
}

static void test_the_label_is_rolled_back(void **state)
{
    Forge__V1__SetLabelRequest back = label_request();
    Forge__V1__ListLabelHistoryRequest request = FORGE__V1__LIST_LABEL_HISTORY_REQUEST__INIT;
    Forge__V1__ListLabelHistoryResponse *history;
    back.target_case = FORGE__V1__SET_LABEL_REQUEST__TARGET_PREVIOUS;
    back.previous = true;
    back.message = TEXT("answers have commas");
    check("SetLabel", set_label(there, &back));
    expect_live(1);
    request.prompt_id = prompt_id;
    request.label = TEXT(LABEL);
    check("ListLabelHistory", forge_prompt_list_label_history(here, NULL, &request, &history, &error));
    assert_int_equal(history->n_moves, 3);
    assert_string_equal(history->moves[0]->message, "answers have commas");
    assert_int_equal(history->moves[0]->old_targets[0]->version, 2);
    assert_int_equal(history->moves[0]->new_targets[0]->version, 1);
    forge__v1__list_label_history_response__free_unpacked(history, NULL);
}

/* A tenth of the subjects gets the new version: counted over 100,000 by the weights that one reply carries, and compared with what the
 * server itself answers. */
static void test_a_split_is_counted(void **state)
{
    Forge__V1__SetLabelRequest request = label_request();
    Forge__V1__LabelSplit split = FORGE__V1__LABEL_SPLIT__INIT;
    Forge__V1__LabelTarget targets[] = {FORGE__V1__LABEL_TARGET__INIT, FORGE__V1__LABEL_TARGET__INIT};
    Forge__V1__LabelTarget *list[] = {&targets[0], &targets[1]};
    targets[0].version = 1;
    targets[0].weight = 90;
    targets[1].version = 2;
    targets[1].weight = 10;
    split.targets = list;
    split.n_targets = 2;
    request.target_case = FORGE__V1__SET_LABEL_REQUEST__TARGET_SPLIT;
    request.split = &split;
    check("SetLabel", set_label(here, &request));
    Forge__V1__Prompt *weights = prompt_by_label(there, "");
    int new_count = 0;
    for (int i = 0; i < SUBJECTS; i++) {
        char subject[32];
        snprintf(subject, sizeof subject, "user-%d", i);
        int version = forge_prompt_version_for(weights, subject);
        assert_true(version == 1 || version == 2);
        new_count += version == 2;
        if (i >= SUBJECTS_ASKED)
            continue;
        Forge__V1__Prompt *answer = prompt_by_label(i % 2 ? here : there, subject);
        assert_int_equal(answer->version, version);
        forge__v1__prompt__free_unpacked(answer, NULL);
    }
    forge__v1__prompt__free_unpacked(weights, NULL);
    print_message("split 90:10 over %d subjects: %.2f %% got the new version\n", SUBJECTS, 100.0 * new_count / SUBJECTS);
    assert_in_range(new_count, SUBJECTS * 9 / 100, SUBJECTS * 11 / 100);
}

/* One story: a chapter goes on where the one before ended. */
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_prompt_with_two_versions),  cmocka_unit_test(test_a_dataset),
        cmocka_unit_test(test_both_versions_are_evaluated), cmocka_unit_test(test_a_completed_evaluation_is_frozen),
        cmocka_unit_test(test_the_new_version_is_better),   cmocka_unit_test(test_the_label_moves_to_the_better_version),
        cmocka_unit_test(test_the_label_is_rolled_back),    cmocka_unit_test(test_a_split_is_counted),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
