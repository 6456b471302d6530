/* The command tree: project. */
#include "tree.h"

static const struct output_column project_columns[] = {
    {"Id", "id"},     {"Name", "name"}, {"Description", "description"}, {"Created", "create_time"}, {"Updated", "update_time"},
    {"Etag", "etag"}, {NULL, NULL}};
static const struct output_column project_list_columns[] = {
    {"NAME", "name"}, {"ID", "id"}, {"CREATED", "create_time"}, {"DESCRIPTION", "description"}, {NULL, NULL}};
static const struct output_column summary_columns[] = {{"Prompts", "prompt_count"},
                                                       {"Versions", "prompt_version_count"},
                                                       {"Executions", "execution_count"},
                                                       {"Successes", "success_count"},
                                                       {"Average rating", "average_rating"},
                                                       {"Evaluations", "evaluation_count"},
                                                       {"Running", "running_evaluation_count"},
                                                       {"Traces", "trace_count"},
                                                       {"Policies", "policy_count"},
                                                       {"Open violations", "open_violation_count"},
                                                       {"Last prompt change", "last_prompt_time"},
                                                       {NULL, NULL}};
static const struct cli_option project_create_options[] = {DESCRIPTION_OPTION, {.name = NULL}};
static const struct cli_action project_create = {
    .method = FORGE_METHOD_PROJECT_CREATE, .argument_fields = {"name"}, .columns = project_columns, .name = "id"};
static const struct cli_action project_get = {.method = FORGE_METHOD_PROJECT_GET,
                                              .argument_fields = {"id"},
                                              .argument_takes = {CLI_TAKE_PROJECT},
                                              .columns = project_columns,
                                              .name = "id"};
static const struct cli_option project_list_options[] = {
    {.name = "prefix", .value = "TEXT", .help = "only names that begin so", .field = "name_prefix"}, PAGE_OPTIONS, {.name = NULL}};
static const struct cli_action project_list = {
    .method = FORGE_METHOD_PROJECT_LIST, .list = "projects", .columns = project_list_columns, .name = "name"};
static const struct cli_option project_update_options[] = {
    {.name = "name", .value = "TEXT", .help = "new name", .field = "name"}, DESCRIPTION_OPTION, ETAG_OPTION, {.name = NULL}};
static const struct cli_action project_update = {.method = FORGE_METHOD_PROJECT_UPDATE,
                                                 .argument_fields = {"id"},
                                                 .argument_takes = {CLI_TAKE_PROJECT},
                                                 .is_update = true,
                                                 .columns = project_columns,
                                                 .name = "id"};
static const struct cli_option project_delete_options[] = {
    {.name = "confirm", .value = "NAME", .help = "its name, as a guard (asked for on a terminal)", .field = "confirm_name"},
    ETAG_OPTION,
    {.name = NULL}};
static const struct cli_action project_delete = {.method = FORGE_METHOD_PROJECT_DELETE,
                                                 .argument_fields = {"id"},
                                                 .argument_takes = {CLI_TAKE_PROJECT},
                                                 .deletes = "project",
                                                 .confirm = "confirm_name"};
static const struct cli_action project_summary = {.method = FORGE_METHOD_PROJECT_GET_SUMMARY,
                                                  .argument_fields = {"id"},
                                                  .argument_takes = {CLI_TAKE_PROJECT},
                                                  .columns = summary_columns,
                                                  .name = "project_id"};
static const char *const project_create_examples[] = {"forgectl project create checkout --description 'The shop'", NULL};
static const char *const project_get_examples[] = {"forgectl project get checkout", NULL};
static const char *const project_list_examples[] = {"forgectl project list", "forgectl project list --prefix check -o name", NULL};
static const char *const project_update_examples[] = {"forgectl project update checkout --name shop", NULL};
static const char *const project_delete_examples[] = {"forgectl project delete checkout --confirm checkout", NULL};
static const char *const project_summary_examples[] = {"forgectl project summary checkout", NULL};
const struct cli_command tree_project[] = {{.name = "create",
                                            .summary = "Create a project",
                                            .arguments = "<name>",
                                            .arguments_min = 1,
                                            .arguments_max = 1,
                                            .options = project_create_options,
                                            .examples = project_create_examples,
                                            .run = command_action,
                                            .action = &project_create},
                                           {.name = "get",
                                            .summary = "Show a project",
                                            .arguments = "<id or name>",
                                            .arguments_min = 1,
                                            .arguments_max = 1,
                                            .examples = project_get_examples,
                                            .run = command_action,
                                            .action = &project_get},
                                           {.name = "list",
                                            .summary = "List projects",
                                            .options = project_list_options,
                                            .examples = project_list_examples,
                                            .run = command_action,
                                            .action = &project_list},
                                           {.name = "update",
                                            .summary = "Change name or description of a project",
                                            .arguments = "<id or name>",
                                            .arguments_min = 1,
                                            .arguments_max = 1,
                                            .options = project_update_options,
                                            .examples = project_update_examples,
                                            .run = command_action,
                                            .action = &project_update},
                                           {.name = "delete",
                                            .summary = "Delete a project with everything in it",
                                            .arguments = "<id or name>",
                                            .arguments_min = 1,
                                            .arguments_max = 1,
                                            .description = "It disappears at once; its rows are removed in the background.",
                                            .options = project_delete_options,
                                            .examples = project_delete_examples,
                                            .run = command_action,
                                            .action = &project_delete},
                                           {.name = "summary",
                                            .summary = "Show how much a project holds",
                                            .arguments = "<id or name>",
                                            .arguments_min = 1,
                                            .arguments_max = 1,
                                            .examples = project_summary_examples,
                                            .run = command_action,
                                            .action = &project_summary},
                                           {.name = NULL}};
