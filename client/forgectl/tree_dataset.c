/* The command tree: dataset. */
#include "tree.h"

static const struct output_column dataset_columns[] = {{"Id", "id"},
                                                       {"Name", "name"},
                                                       {"Description", "description"},
                                                       {"Latest version", "latest_version"},
                                                       {"Items", "item_count"},
                                                       {"Created", "create_time"},
                                                       {"Updated", "update_time"},
                                                       {"Etag", "etag"},
                                                       {NULL, NULL}};
static const struct output_column dataset_list_columns[] = {
    {"NAME", "name"}, {"VERSION", "latest_version"}, {"ITEMS", "item_count"}, {"UPDATED", "update_time"}, {"ID", "id"}, {NULL, NULL}};
static const struct output_column dataset_version_columns[] = {
    {"Dataset", "dataset_id"}, {"Version", "version"},     {"Items", "item_count"}, {"Hash", "content_hash"},
    {"Message", "message"},    {"Created", "create_time"}, {"Author", "author_id"}, {NULL, NULL}};
static const struct output_column dataset_item_columns[] = {
    {"KEY", "key"}, {"INPUT", "input"}, {"EXPECTED OUTPUT", "expected_output"}, {NULL, NULL}};

static const struct cli_option dataset_create_options[] = {DESCRIPTION_OPTION, PROJECT_OPTION, {.name = NULL}};
static const struct cli_action dataset_create = {.method = FORGE_METHOD_EVALUATION_CREATE_DATASET,
                                                 .needs_project = true,
                                                 .argument_fields = {"name"},
                                                 .columns = dataset_columns,
                                                 .name = "id"};
static const struct cli_option dataset_options[] = {PROJECT_OPTION, {.name = NULL}};
static const struct cli_action dataset_get = {.method = FORGE_METHOD_EVALUATION_GET_DATASET,
                                              .argument_fields = {"id"},
                                              .argument_takes = {CLI_TAKE_DATASET},
                                              .columns = dataset_columns,
                                              .name = "id"};
static const struct cli_option dataset_list_options[] = {
    {.name = "prefix", .value = "TEXT", .help = "only names that begin so", .field = "name_prefix"},
    PAGE_OPTIONS,
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action dataset_list = {.method = FORGE_METHOD_EVALUATION_LIST_DATASETS,
                                               .needs_project = true,
                                               .list = "datasets",
                                               .columns = dataset_list_columns,
                                               .name = "name"};
static const struct cli_option dataset_delete_options[] = {YES_OPTION, ETAG_OPTION, PROJECT_OPTION, {.name = NULL}};
static const struct cli_action dataset_delete = {.method = FORGE_METHOD_EVALUATION_DELETE_DATASET,
                                                 .argument_fields = {"id"},
                                                 .argument_takes = {CLI_TAKE_DATASET},
                                                 .deletes = "dataset"};
static const struct cli_option dataset_add_options[] = {
    {.name = "file", .letter = 'f', .value = "PATH", .help = "JSON Lines with an item each (- = standard input)"},
    {.name = "remove", .value = "KEY", .help = "an item that the new version does not take over", .is_repeated = true},
    {.name = "expected", .value = "N", .help = "only if this version is the latest (0: none yet)"},
    {.name = "message", .letter = 'm', .value = "TEXT", .help = "why the version is made"},
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_option dataset_items_options[] = {
    {.name = "version", .value = "N", .help = "this version instead of the latest", .field = "version", .take = CLI_TAKE_NUMBER},
    {.name = "prefix", .value = "TEXT", .help = "only keys that begin so", .field = "key_prefix"},
    PAGE_OPTIONS,
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action dataset_items = {.method = FORGE_METHOD_EVALUATION_LIST_DATASET_ITEMS,
                                                .argument_fields = {"dataset_id"},
                                                .argument_takes = {CLI_TAKE_DATASET},
                                                .list = "items",
                                                .columns = dataset_item_columns,
                                                .name = "key"};
static const struct cli_action dataset_version = {.method = FORGE_METHOD_EVALUATION_GET_DATASET_VERSION,
                                                  .argument_fields = {"dataset_id", "version"},
                                                  .argument_takes = {CLI_TAKE_DATASET, CLI_TAKE_NUMBER},
                                                  .columns = dataset_version_columns,
                                                  .name = "content_hash"};

static const char *const dataset_create_examples[] = {"forgectl dataset create 'support cases' --project checkout", NULL};
static const char *const dataset_get_examples[] = {"forgectl dataset get 'support cases'", NULL};
static const char *const dataset_list_examples[] = {"forgectl dataset list --prefix support", NULL};
static const char *const dataset_delete_examples[] = {"forgectl dataset delete 'support cases' --yes", NULL};
static const char *const dataset_add_examples[] = {"forgectl dataset add 'support cases' -f cases.jsonl -m 'tickets of november'",
                                                   "echo '{\"key\": \"refund\", \"input\": {\"question\": \"...\"}, \"expected_output\": "
                                                   "\"yes\"}' | forgectl dataset add 'support cases' -f -",
                                                   "forgectl dataset add 'support cases' --remove refund --expected 3", NULL};
static const char *const dataset_items_examples[] = {"forgectl dataset items 'support cases' --version 2 -o json", NULL};
static const char *const dataset_version_examples[] = {"forgectl dataset version 'support cases' 2",
                                                       "forgectl dataset version 'support cases'", NULL};

const struct cli_command tree_dataset[] = {
    {.name = "create",
     .summary = "Create an empty dataset",
     .arguments = "<name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = dataset_create_options,
     .examples = dataset_create_examples,
     .run = command_action,
     .action = &dataset_create},
    {.name = "get",
     .summary = "Show a dataset",
     .arguments = "<id or name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = dataset_options,
     .examples = dataset_get_examples,
     .run = command_action,
     .action = &dataset_get},
    {.name = "list",
     .summary = "List the datasets of a project",
     .options = dataset_list_options,
     .examples = dataset_list_examples,
     .run = command_action,
     .action = &dataset_list},
    {.name = "add",
     .summary = "Add or replace items: the next version of a dataset",
     .arguments = "<id or name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description =
         "Each line of the file is an item: key, input (an object: the prompt's variables), expected_output, metadata (an object),\n"
         "source_trace_id, source_span_id. An item takes the place of the one with its key; without a key it gets one. Every\n"
         "1,000 items are a version of their own. What is there already makes no version, so that an interrupted command is\n"
         "simply repeated (items without a key would be added again).",
     .options = dataset_add_options,
     .examples = dataset_add_examples,
     .run = command_dataset_add},
    {.name = "items",
     .summary = "List the items of a version by key",
     .arguments = "<id or name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = dataset_items_options,
     .examples = dataset_items_examples,
     .run = command_action,
     .action = &dataset_items},
    {.name = "version",
     .summary = "Show a version, by default the latest",
     .arguments = "<id or name> [version]",
     .arguments_min = 1,
     .arguments_max = 2,
     .options = dataset_options,
     .examples = dataset_version_examples,
     .run = command_action,
     .action = &dataset_version},
    {.name = "delete",
     .summary = "Delete a dataset with its versions and items",
     .arguments = "<id or name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = dataset_delete_options,
     .examples = dataset_delete_examples,
     .run = command_action,
     .action = &dataset_delete},
    {.name = NULL}};
