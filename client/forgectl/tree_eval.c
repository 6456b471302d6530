/* The command tree: eval. */
#include "tree.h"

static const struct output_column evaluation_columns[] = {{"Id", "id"},
                                                          {"Name", "name"},
                                                          {"Description", "description"},
                                                          {"State", "state"},
                                                          {"Prompt", "prompt_id"},
                                                          {"Prompt version", "prompt_version"},
                                                          {"Dataset", "dataset_id"},
                                                          {"Dataset version", "dataset_version"},
                                                          {"Model", "model_id"},
                                                          {"Repetitions", "repetitions"},
                                                          {"Pass threshold", "pass_threshold"},
                                                          {"Results", "summary.result_count"},
                                                          {"Of a full run", "summary.expected_result_count"},
                                                          {"Passed", "summary.passed_count"},
                                                          {"Failed", "summary.failed_count"},
                                                          {"Errors", "summary.error_count"},
                                                          {"Pass rate", "summary.pass_rate"},
                                                          {"Score", "summary.average_score"},
                                                          {"Latency p50 us", "summary.latency_p50_us"},
                                                          {"Latency p95 us", "summary.latency_p95_us"},
                                                          {"Cost micros", "summary.cost_micros"},
                                                          {"Created", "create_time"},
                                                          {"Ended", "end_time"},
                                                          {"Etag", "etag"},
                                                          {NULL, NULL}};
static const struct output_column evaluation_list_columns[] = {{"NAME", "name"},
                                                               {"STATE", "state"},
                                                               {"PROMPT VERSION", "prompt_version"},
                                                               {"DATASET VERSION", "dataset_version"},
                                                               {"RESULTS", "summary.result_count"},
                                                               {"PASS RATE", "summary.pass_rate"},
                                                               {"SCORE", "summary.average_score"},
                                                               {"CREATED", "create_time"},
                                                               {"ID", "id"},
                                                               {NULL, NULL}};
static const struct output_column evaluator_columns[] = {
    {"EVALUATOR", "name"}, {"PASSED", "passed_count"}, {"FAILED", "failed_count"}, {"SCORE", "average_score"}, {NULL, NULL}};
static const struct output_column result_columns[] = {
    {"ITEM", "item_key"},         {"REPETITION", "repetition"}, {"PASSED", "passed"}, {"SCORE", "score"},
    {"LATENCY US", "latency_us"}, {"ERROR", "error"},           {"OUTPUT", "output"}, {NULL, NULL}};

static const struct cli_option create_options[] = {
    {.name = "prompt", .value = "ID|NAME", .help = "the prompt (required)", .field = "prompt_id", .take = CLI_TAKE_PROMPT},
    {.name = "version",
     .value = "N",
     .help = "its version (the current one)",
     .field = "prompt_version",
     .take = CLI_TAKE_NUMBER,
     .least = 1,
     .most = INT32_MAX},
    {.name = "dataset", .value = "ID|NAME", .help = "the dataset (required)", .field = "dataset_id", .take = CLI_TAKE_DATASET},
    {.name = "dataset-version",
     .value = "N",
     .help = "its version (the latest)",
     .field = "dataset_version",
     .take = CLI_TAKE_NUMBER,
     .least = 1,
     .most = INT32_MAX},
    {.name = "evaluator",
     .value = "KIND[=VALUE]",
     .help = "how outputs are judged, such as exact or regex='^OK'",
     .is_repeated = true,
     .field = "evaluators",
     .take = CLI_TAKE_EVALUATOR},
    {.name = "file",
     .letter = 'f',
     .value = "PATH",
     .help = "YAML or JSON with fields of CreateEvaluationRequest, such as evaluators (- = standard input)",
     .field = "evaluators",
     .take = CLI_TAKE_FIELDS},
    {.name = "repetitions", .value = "N", .help = "how often each item is run (1)", .field = "repetitions", .take = CLI_TAKE_NUMBER},
    {.name = "pass-threshold",
     .value = "SCORE",
     .help = "least score of a result that passes, 0 to 1 (1)",
     .field = "pass_threshold",
     .take = CLI_TAKE_DECIMAL},
    {.name = "model",
     .value = "ID|NAME",
     .help = "the model that is run (that of the prompt version)",
     .field = "model_id",
     .take = CLI_TAKE_MODEL},
    {.name = "provider", .value = "ID|NAME", .help = "the model's provider, where several have one of this name"},
    {.name = "metadata",
     .value = "KEY=VALUE",
     .help = "a pair to keep with it",
     .is_repeated = true,
     .field = "metadata",
     .take = CLI_TAKE_PAIR},
    DESCRIPTION_OPTION,
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action eval_create = {.method = FORGE_METHOD_EVALUATION_CREATE,
                                              .argument_fields = {"name"},
                                              .needs_project = true,
                                              .columns = evaluation_columns,
                                              .name = "id"};

static void print_evaluators(struct cli *cli, const ProtobufCMessage *reply)
{
    const Forge__V1__Evaluation *evaluation = (const Forge__V1__Evaluation *)reply;
    if (!evaluation->summary || !evaluation->summary->n_evaluators)
        return;
    printf("\n");
    output_list(cli, &evaluation->summary->base, "evaluators", evaluator_columns, "name");
}

static const struct cli_action eval_get = {.method = FORGE_METHOD_EVALUATION_GET,
                                           .argument_fields = {"id"},
                                           .columns = evaluation_columns,
                                           .name = "id",
                                           .after = print_evaluators};
static const struct cli_option list_options[] = {
    {.name = "state", .value = "STATE", .help = "only running, completed or cancelled ones", .field = "state", .take = CLI_TAKE_ENUM},
    {.name = "prompt", .value = "ID|NAME", .help = "only of this prompt", .field = "prompt_id", .take = CLI_TAKE_PROMPT},
    {.name = "version", .value = "N", .help = "only of this version of it", .field = "prompt_version", .take = CLI_TAKE_NUMBER},
    {.name = "dataset", .value = "ID|NAME", .help = "only on this dataset", .field = "dataset_id", .take = CLI_TAKE_DATASET},
    PAGE_OPTIONS,
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action eval_list = {
    .method = FORGE_METHOD_EVALUATION_LIST, .needs_project = true, .list = "evaluations", .columns = evaluation_list_columns, .name = "id"};
static const struct cli_option add_options[] = {
    {.name = "file", .letter = 'f', .value = "PATH", .help = "JSON Lines with a result each (- = standard input)"}, {.name = NULL}};
static const struct cli_option results_options[] = {
    {.name = "passed",
     .value = "BOOL",
     .help = "only results that passed (true) or failed (false)",
     .field = "passed",
     .take = CLI_TAKE_SWITCH},
    {.name = "item", .value = "KEY", .help = "only results of this item", .field = "item_key"},
    PAGE_OPTIONS,
    {.name = NULL}};
static const struct cli_action eval_results = {.method = FORGE_METHOD_EVALUATION_LIST_RESULTS,
                                               .argument_fields = {"evaluation_id"},
                                               .list = "results",
                                               .columns = result_columns,
                                               .name = "item_key"};
static const struct cli_option complete_options[] = {
    {.name = "allow-incomplete", .help = "although results are missing", .field = "allow_incomplete", .take = CLI_TAKE_TRUE},
    ETAG_OPTION,
    {.name = NULL}};
static const struct cli_action eval_complete = {.method = FORGE_METHOD_EVALUATION_COMPLETE,
                                                .argument_fields = {"id"},
                                                .columns = evaluation_columns,
                                                .name = "id",
                                                .after = print_evaluators};
static const struct cli_option cancel_options[] = {ETAG_OPTION, {.name = NULL}};
static const struct cli_action eval_cancel = {
    .method = FORGE_METHOD_EVALUATION_CANCEL, .argument_fields = {"id"}, .columns = evaluation_columns, .name = "id"};
static const struct cli_option delete_options[] = {YES_OPTION, ETAG_OPTION, {.name = NULL}};
static const struct cli_action eval_delete = {.method = FORGE_METHOD_EVALUATION_DELETE, .argument_fields = {"id"}, .deletes = "evaluation"};
static const struct cli_option compare_options[] = {
    {.name = "alpha", .value = "P", .help = "a difference is significant below this p-value, over 0 and under 1 (0.05)"},
    {.name = "all", .help = "the items that fare as before too"},
    {.name = "fail-on", .value = "WHAT", .help = "end with 1 when an item broke (broken), or when it is significantly worse (worse)"},
    PAGE_OPTIONS,
    {.name = NULL}};

static const char *const create_examples[] = {
    "forgectl eval create 'shorter replies' --prompt ticket-reply --version 4 --dataset 'support cases' --evaluator exact",
    "forgectl eval create nightly --prompt ticket-reply --dataset 'support cases' --repetitions 3 -f evaluators.yaml",
    "forgectl eval create judged --prompt ticket-reply --dataset 'support cases' --evaluator levenshtein=0.8 --evaluator latency=2000 "
    "--evaluator external='tone, by the judge prompt'",
    NULL};
static const char *const get_examples[] = {"forgectl eval get 0199e5c0-0000-7000-8000-000000000001", NULL};
static const char *const list_examples[] = {"forgectl eval list --prompt ticket-reply --state completed", NULL};
static const char *const add_examples[] = {
    "forgectl eval add 0199e5c0-0000-7000-8000-000000000001 -f results.jsonl",
    "echo '{\"item_key\": \"refund\", \"output\": \"yes\", \"latency_us\": 812000}' | forgectl eval add "
    "0199e5c0-0000-7000-8000-000000000001 -f -",
    NULL};
static const char *const results_examples[] = {"forgectl eval results 0199e5c0-0000-7000-8000-000000000001 --passed false", NULL};
static const char *const complete_examples[] = {"forgectl eval complete 0199e5c0-0000-7000-8000-000000000001", NULL};
static const char *const cancel_examples[] = {"forgectl eval cancel 0199e5c0-0000-7000-8000-000000000001", NULL};
static const char *const delete_examples[] = {"forgectl eval delete 0199e5c0-0000-7000-8000-000000000001 --yes", NULL};
static const char *const compare_examples[] = {
    "forgectl eval compare 0199e5c0-0000-7000-8000-000000000001 0199e5c0-0000-7000-8000-000000000002",
    "forgectl eval compare 0199e5c0-0000-7000-8000-000000000001 0199e5c0-0000-7000-8000-000000000002 --fail-on worse --alpha 0.01", NULL};

#define ONE_EVALUATION .arguments = "<id>", .arguments_min = 1, .arguments_max = 1
const struct cli_command tree_eval[] = {
    {.name = "create",
     .summary = "Start an evaluation of a prompt version on a dataset version",
     .arguments = "<name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description =
         "Evaluators by --evaluator: exact, contains[=TEXT], regex=PATTERN, numeric[=TOLERANCE], levenshtein[=LEAST SCORE],\n"
         "json_valid, json_schema=FILE, latency=MILLISECONDS, cost=MICROS, external[=DESCRIPTION]. All that evaluators can have\n"
         "(names, weights, thresholds, more options) stands in a file, as forgectl describe Evaluator shows it:\n\n"
         "    evaluators:\n"
         "    - contains: {values: [refund, invoice], any: true, ignore_case: true}\n"
         "      weight: 2\n"
         "    - json_valid: {}\n"
         "      required: true\n"
         "    pass_threshold: 0.8",
     .options = create_options,
     .examples = create_examples,
     .run = command_action,
     .action = &eval_create},
    {.name = "get",
     .summary = "Show an evaluation with its figures",
     ONE_EVALUATION,
     .examples = get_examples,
     .run = command_action,
     .action = &eval_get},
    {.name = "list",
     .summary = "List the evaluations of a project, newest first",
     .options = list_options,
     .examples = list_examples,
     .run = command_action,
     .action = &eval_list},
    {.name = "add",
     .summary = "Add results to an evaluation, any number",
     ONE_EVALUATION,
     .description =
         "A line is an EvaluationResult: item_key, repetition (1), output (an object is taken as its JSON text), error, latency_us,\n"
         "usage, cost_micros, and the evaluator_scores of external evaluators. Each line that is rejected is told with its number;\n"
         "the others are added. The same results may be sent again: they are counted as duplicates. Ends with what the first\n"
         "rejected line was rejected with: 64 + the server's code, or 1 when it could not be read.",
     .options = add_options,
     .examples = add_examples,
     .run = command_eval_add},
    {.name = "results",
     .summary = "List the results of an evaluation by item and repetition",
     ONE_EVALUATION,
     .options = results_options,
     .examples = results_examples,
     .run = command_action,
     .action = &eval_results},
    {.name = "complete",
     .summary = "Freeze an evaluation with its results and figures",
     ONE_EVALUATION,
     .options = complete_options,
     .examples = complete_examples,
     .run = command_action,
     .action = &eval_complete},
    {.name = "cancel",
     .summary = "Give an evaluation up; its results stay readable",
     ONE_EVALUATION,
     .options = cancel_options,
     .examples = cancel_examples,
     .run = command_action,
     .action = &eval_cancel},
    {.name = "delete",
     .summary = "Delete an evaluation with its results",
     ONE_EVALUATION,
     .options = delete_options,
     .examples = delete_examples,
     .run = command_action,
     .action = &eval_delete},
    {.name = "compare",
     .summary = "Tell whether the candidate is better than the baseline, and which items changed",
     .arguments = "<baseline id> <candidate id>",
     .arguments_min = 2,
     .arguments_max = 2,
     .description = "Passing is judged by McNemar's test, scores by Wilcoxon's signed-rank test, both on the items that both have.",
     .options = compare_options,
     .examples = compare_examples,
     .run = command_eval_compare},
    {.name = NULL}};
