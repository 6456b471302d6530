/* The command tree: prompt, tag, execution. */
#include "tree.h"
#include "view.h"

/* ---- prompt ---- */

static const struct output_column prompt_list_columns[] = {{"NAME", "name"}, {"CURRENT", "current_version"}, {"LATEST", "latest_version"},
                                                           {"TAGS", "tags"}, {"CREATED", "create_time"},     {"ID", "id"},
                                                           {NULL, NULL}};
static const struct output_column prompt_columns[] = {{"Id", "id"},
                                                      {"Name", "name"},
                                                      {"Description", "description"},
                                                      {"Current version", "current_version"},
                                                      {"Latest version", "latest_version"},
                                                      {"Updated", "update_time"},
                                                      {"Etag", "etag"},
                                                      {NULL, NULL}};
static const struct output_column version_columns[] = {{"Prompt", "prompt_id"},  {"Version", "version"},  {"Current", "current"},
                                                       {"Existing", "existing"}, {"Format", "format"},    {"Model", "model_name"},
                                                       {"Message", "message"},   {"Author", "author_id"}, {"Created", "create_time"},
                                                       {"Hash", "content_hash"}, {"Labels", "labels"},    {NULL, NULL}};
static const struct output_column version_list_columns[] = {
    {"VERSION", "version"},  {"CURRENT", "current"}, {"LABELS", "labels"}, {"CREATED", "create_time"},
    {"AUTHOR", "author_id"}, {"MESSAGE", "message"}, {NULL, NULL}};
static const struct output_column tags_columns[] = {{"Tags", "tags"}, {NULL, NULL}};

static const struct cli_option prompt_create_options[] = {
    {.name = "file", .letter = 'f', .value = "PATH", .help = "file with the text (- = standard input)"},
    {.name = "content", .value = "TEXT", .help = "the text itself"},
    {.name = "system-file", .value = "PATH", .help = "file with the system prompt"},
    {.name = "system", .value = "TEXT", .help = "the system prompt itself"},
    {.name = "description", .value = "TEXT", .help = "what it is for"},
    {.name = "message", .letter = 'm', .value = "TEXT", .help = "why version 1 is made"},
    {.name = "tag", .value = "NAME", .help = "an existing tag", .is_repeated = true},
    {.name = "model", .value = "ID|NAME", .help = "the model it is written for (any)"},
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_option prompt_get_options[] = {SELECTOR_OPTIONS, PROJECT_OPTION, {.name = NULL}};
static const struct cli_option prompt_list_options[] = {
    {.name = "prefix", .value = "TEXT", .help = "only names that begin so", .field = "name_prefix"},
    {.name = "query", .value = "TEXT", .help = "only prompts that hold all these words", .field = "query"},
    {.name = "tag", .value = "NAME", .help = "only prompts that have this tag", .is_repeated = true, .field = "tags"},
    {.name = "model",
     .value = "ID|NAME",
     .help = "only prompts whose current version is for this model",
     .field = "model_id",
     .take = CLI_TAKE_MODEL},
    {.name = "label", .value = "NAME", .help = "only prompts that have this label", .field = "label"},
    PAGE_OPTIONS,
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action prompt_list = {
    .method = FORGE_METHOD_PROMPT_LIST, .needs_project = true, .list = "prompts", .columns = prompt_list_columns, .name = "name"};
static const struct cli_option prompt_update_options[] = {{.name = "name", .value = "TEXT", .help = "new name", .field = "name"},
                                                          DESCRIPTION_OPTION,
                                                          ETAG_OPTION,
                                                          PROJECT_OPTION,
                                                          {.name = NULL}};
static const struct cli_action prompt_update = {.method = FORGE_METHOD_PROMPT_UPDATE,
                                                .argument_fields = {"id"},
                                                .argument_takes = {CLI_TAKE_PROMPT},
                                                .is_update = true,
                                                .columns = prompt_columns,
                                                .name = "id"};
static const struct cli_option prompt_delete_options[] = {YES_OPTION, ETAG_OPTION, PROJECT_OPTION, {.name = NULL}};
static const struct cli_action prompt_delete = {
    .method = FORGE_METHOD_PROMPT_DELETE, .argument_fields = {"id"}, .argument_takes = {CLI_TAKE_PROMPT}, .deletes = "prompt"};
static const struct cli_option prompt_render_options[] = {
    {.name = "var",
     .value = "NAME=VALUE",
     .help = "value of a variable; NAME=@FILE reads it from a file (- = standard input)",
     .is_repeated = true},
    SELECTOR_OPTIONS,
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_option prompt_versions_options[] = {
    {.name = "author", .value = "ID", .help = "only versions this user, key or account made", .field = "author_id"},
    PAGE_OPTIONS,
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action prompt_versions = {.method = FORGE_METHOD_PROMPT_LIST_VERSIONS,
                                                  .argument_fields = {"prompt_id"},
                                                  .argument_takes = {CLI_TAKE_PROMPT},
                                                  .list = "versions",
                                                  .columns = version_list_columns,
                                                  .name = "version"};
static const struct cli_option prompt_add_version_options[] = {
    {.name = "file",
     .letter = 'f',
     .value = "PATH",
     .help = "file with the text (- = standard input)",
     .field = "content",
     .take = CLI_TAKE_FILE},
    {.name = "content", .value = "TEXT", .help = "the text itself", .field = "content"},
    {.name = "system-file", .value = "PATH", .help = "file with the system prompt", .field = "system_prompt", .take = CLI_TAKE_FILE},
    {.name = "system", .value = "TEXT", .help = "the system prompt itself", .field = "system_prompt"},
    {.name = "model", .value = "ID|NAME", .help = "the model it is written for (any)", .field = "model_id", .take = CLI_TAKE_MODEL},
    {.name = "parameters", .value = "JSON", .help = "parameters for the model, a JSON object", .field = "parameters"},
    {.name = "message", .letter = 'm', .value = "TEXT", .help = "why it is made", .field = "message"},
    {.name = "make-current", .help = "make it current in the same step", .field = "make_current", .take = CLI_TAKE_TRUE},
    {.name = "expected-current",
     .value = "N",
     .help = "with --make-current: only if this version is current",
     .field = "expected_current",
     .take = CLI_TAKE_NUMBER},
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action prompt_add_version = {.method = FORGE_METHOD_PROMPT_CREATE_VERSION,
                                                     .argument_fields = {"prompt_id"},
                                                     .argument_takes = {CLI_TAKE_PROMPT},
                                                     .columns = version_columns,
                                                     .name = "version"};
static const struct cli_option prompt_diff_options[] = {
    {.name = "context", .value = "N", .help = "unchanged lines around each change, 0 to 100 (3)"}, PROJECT_OPTION, {.name = NULL}};
static const struct cli_option prompt_set_current_options[] = {
    {.name = "expected", .value = "N", .help = "only if this version is current", .field = "expected_version", .take = CLI_TAKE_NUMBER},
    {.name = "message", .letter = 'm', .value = "TEXT", .help = "why, for the history", .field = "message"},
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action prompt_set_current = {.method = FORGE_METHOD_PROMPT_SET_CURRENT_VERSION,
                                                     .argument_fields = {"prompt_id", "version"},
                                                     .argument_takes = {CLI_TAKE_PROMPT, CLI_TAKE_NUMBER},
                                                     .columns = prompt_columns,
                                                     .name = "current_version"};
static const struct cli_option prompt_rollback_options[] = {
    {.name = "expected", .value = "N", .help = "only if this version is current", .field = "expected_version", .take = CLI_TAKE_NUMBER},
    {.name = "message", .letter = 'm', .value = "TEXT", .help = "why, for the history", .field = "message"},
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action prompt_rollback = {.method = FORGE_METHOD_PROMPT_SET_CURRENT_VERSION,
                                                  .argument_fields = {"prompt_id"},
                                                  .argument_takes = {CLI_TAKE_PROMPT},
                                                  .fixed_true = "previous",
                                                  .columns = prompt_columns,
                                                  .name = "current_version"};
static const struct cli_option prompt_stats_options[] = {RANGE_OPTIONS, PROJECT_OPTION, {.name = NULL}};
static const struct output_column stats_columns[] = {{"VERSION", "version"},
                                                     {"EXECUTIONS", "execution_count"},
                                                     {"SUCCESS RATE", "success_rate"},
                                                     {"RATED", "rated_count"},
                                                     {"RATING", "average_rating"},
                                                     {"LAST", "last_execute_time"},
                                                     {NULL, NULL}};
static const struct output_column stats_total_columns[] = {{"Executions", "total.execution_count"},
                                                           {"Success rate", "total.success_rate"},
                                                           {"Rated", "total.rated_count"},
                                                           {"Rating", "total.average_rating"},
                                                           {NULL, NULL}};

static void print_stats_total(struct cli *cli, const ProtobufCMessage *reply)
{
    printf("\nAll versions together\n");
    output_resource(cli, reply, stats_total_columns, "prompt_id");
    view_stats(stdout, &cli->terminal, (const Forge__V1__PromptStats *)reply);
}

static const struct cli_action prompt_stats = {.method = FORGE_METHOD_PROMPT_GET_STATS,
                                               .argument_fields = {"prompt_id"},
                                               .argument_takes = {CLI_TAKE_PROMPT},
                                               .list = "versions",
                                               .columns = stats_columns,
                                               .name = "version",
                                               .after = print_stats_total};
static const struct cli_option prompt_tag_options[] = {PROJECT_OPTION, {.name = NULL}};
static const struct cli_action prompt_tag = {.method = FORGE_METHOD_PROMPT_TAG,
                                             .argument_fields = {"prompt_id", "tag"},
                                             .argument_takes = {CLI_TAKE_PROMPT, CLI_TAKE_TEXT},
                                             .columns = tags_columns,
                                             .name = "tags"};
static const struct cli_action prompt_untag = {.method = FORGE_METHOD_PROMPT_UNTAG,
                                               .argument_fields = {"prompt_id", "tag"},
                                               .argument_takes = {CLI_TAKE_PROMPT, CLI_TAKE_TEXT},
                                               .columns = tags_columns,
                                               .name = "tags"};
static const struct cli_option prompt_watch_options[] = {
    {.name = "once", .help = "end after the first change"}, PROJECT_OPTION, {.name = NULL}};
static const char *const prompt_create_examples[] = {"forgectl prompt create code-review --file review.txt --project checkout",
                                                     "forgectl prompt create greeting --content 'Hello {{name}}'", NULL};
static const char *const prompt_get_examples[] = {"forgectl prompt get code-review", "forgectl prompt get code-review --version 3 -o yaml",
                                                  NULL};
static const char *const prompt_list_examples[] = {"forgectl prompt list", "forgectl prompt list --query 'review security' -o name", NULL};
static const char *const prompt_update_examples[] = {"forgectl prompt update code-review --description 'Reviews a change'", NULL};
static const char *const prompt_delete_examples[] = {"forgectl prompt delete greeting --yes", NULL};
static const char *const prompt_render_examples[] = {"forgectl prompt render code-review --var language=C --var diff=@change.diff",
                                                     "git diff | forgectl prompt render code-review --var language=C --var diff=@-", NULL};
static const char *const prompt_versions_examples[] = {"forgectl prompt versions code-review", NULL};
static const char *const prompt_add_version_examples[] = {
    "forgectl prompt add-version code-review --file review.txt -m 'Shorter' --make-current --expected-current 3", NULL};
static const char *const prompt_diff_examples[] = {"forgectl prompt diff code-review", "forgectl prompt diff code-review 2 5", NULL};
static const char *const prompt_set_current_examples[] = {"forgectl prompt set-current code-review 4 --expected 3", NULL};
static const char *const prompt_rollback_examples[] = {"forgectl prompt rollback code-review -m 'Version 4 was too long'", NULL};
static const char *const prompt_stats_examples[] = {"forgectl prompt stats code-review --since 2026-11-01T00:00:00Z", NULL};
static const char *const prompt_tag_examples[] = {"forgectl prompt tag code-review coding", NULL};
static const char *const prompt_untag_examples[] = {"forgectl prompt untag code-review coding", NULL};
static const char *const prompt_watch_examples[] = {"forgectl prompt watch", "forgectl prompt watch --once -o name", NULL};
const struct cli_command tree_prompt[] = {
    {.name = "create",
     .summary = "Create a prompt and its version 1",
     .arguments = "<name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description = "Text may hold placeholders such as {{language}}; each is declared as a variable. {{> tone}}, {{> tone@3}} and\n"
                    "{{> tone@production}} stand for the text of another prompt: its current version, version 3, what a label points at.",
     .options = prompt_create_options,
     .examples = prompt_create_examples,
     .run = command_prompt_create},
    {.name = "get",
     .summary = "Show a prompt as one of its versions",
     .arguments = "<id or name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = prompt_get_options,
     .examples = prompt_get_examples,
     .run = command_prompt_get},
    {.name = "list",
     .summary = "List the prompts of a project",
     .options = prompt_list_options,
     .examples = prompt_list_examples,
     .run = command_action,
     .action = &prompt_list},
    {.name = "update",
     .summary = "Change name or description of a prompt",
     .arguments = "<id or name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = prompt_update_options,
     .examples = prompt_update_examples,
     .run = command_action,
     .action = &prompt_update},
    {.name = "delete",
     .summary = "Delete a prompt with its versions, labels and executions",
     .arguments = "<id or name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = prompt_delete_options,
     .examples = prompt_delete_examples,
     .run = command_action,
     .action = &prompt_delete},
    {.name = "render",
     .summary = "Show a prompt with its variables filled in",
     .arguments = "<id or name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = prompt_render_options,
     .examples = prompt_render_examples,
     .run = command_prompt_render},
    {.name = "versions",
     .summary = "List the versions of a prompt, newest first",
     .arguments = "<id or name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = prompt_versions_options,
     .examples = prompt_versions_examples,
     .run = command_action,
     .action = &prompt_versions},
    {.name = "add-version",
     .summary = "Add a version to a prompt",
     .arguments = "<id or name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description = "Content that a version has already adds nothing and shows that version.",
     .options = prompt_add_version_options,
     .examples = prompt_add_version_examples,
     .run = command_action,
     .action = &prompt_add_version},
    {.name = "diff",
     .summary = "Compare two versions of a prompt",
     .arguments = "<id or name> [base] [target]",
     .arguments_min = 1,
     .arguments_max = 3,
     .description = "Without target the current version is compared, without base the version before the target.",
     .options = prompt_diff_options,
     .examples = prompt_diff_examples,
     .run = command_prompt_diff},
    {.name = "set-current",
     .summary = "Make a version the one that callers get",
     .arguments = "<id or name> <version>",
     .arguments_min = 2,
     .arguments_max = 2,
     .options = prompt_set_current_options,
     .examples = prompt_set_current_examples,
     .run = command_action,
     .action = &prompt_set_current},
    {.name = "rollback",
     .summary = "Make the version current that was so before the last move",
     .arguments = "<id or name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = prompt_rollback_options,
     .examples = prompt_rollback_examples,
     .run = command_action,
     .action = &prompt_rollback},
    {.name = "stats",
     .summary = "Show how the uses of each version went",
     .arguments = "<id or name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = prompt_stats_options,
     .examples = prompt_stats_examples,
     .run = command_action,
     .action = &prompt_stats},
    {.name = "tag",
     .summary = "Put a tag on a prompt",
     .arguments = "<id or name> <tag>",
     .arguments_min = 2,
     .arguments_max = 2,
     .options = prompt_tag_options,
     .examples = prompt_tag_examples,
     .run = command_action,
     .action = &prompt_tag},
    {.name = "untag",
     .summary = "Take a tag off a prompt",
     .arguments = "<id or name> <tag>",
     .arguments_min = 2,
     .arguments_max = 2,
     .options = prompt_tag_options,
     .examples = prompt_untag_examples,
     .run = command_action,
     .action = &prompt_untag},
    {.name = "watch",
     .summary = "Print prompts of a project as they change, until interrupted",
     .options = prompt_watch_options,
     .examples = prompt_watch_examples,
     .run = command_prompt_watch},
    {.name = NULL}};

/* ---- tag ---- */

static const struct output_column tag_columns[] = {{"Id", "id"}, {"Name", "name"}, {"Prompts", "prompt_count"}, {NULL, NULL}};
static const struct output_column tag_list_columns[] = {{"NAME", "name"}, {"PROMPTS", "prompt_count"}, {"ID", "id"}, {NULL, NULL}};
static const struct cli_action tag_create = {
    .method = FORGE_METHOD_PROMPT_CREATE_TAG, .argument_fields = {"name"}, .columns = tag_columns, .name = "id"};
static const struct cli_option tag_list_options[] = {
    {.name = "prefix", .value = "TEXT", .help = "only names that begin so", .field = "name_prefix"}, PAGE_OPTIONS, {.name = NULL}};
static const struct cli_action tag_list = {
    .method = FORGE_METHOD_PROMPT_LIST_TAGS, .list = "tags", .columns = tag_list_columns, .name = "name"};
static const struct cli_option tag_delete_options[] = {YES_OPTION, {.name = NULL}};
static const struct cli_action tag_delete = {.method = FORGE_METHOD_PROMPT_DELETE_TAG, .argument_fields = {"name"}, .deletes = "tag"};
static const char *const tag_create_examples[] = {"forgectl tag create coding", NULL};
static const char *const tag_list_examples[] = {"forgectl tag list", NULL};
static const char *const tag_delete_examples[] = {"forgectl tag delete coding --yes", NULL};
const struct cli_command tree_tag[] = {{.name = "create",
                                        .summary = "Create a tag",
                                        .arguments = "<name>",
                                        .arguments_min = 1,
                                        .arguments_max = 1,
                                        .examples = tag_create_examples,
                                        .run = command_action,
                                        .action = &tag_create},
                                       {.name = "list",
                                        .summary = "List tags by name",
                                        .options = tag_list_options,
                                        .examples = tag_list_examples,
                                        .run = command_action,
                                        .action = &tag_list},
                                       {.name = "delete",
                                        .summary = "Delete a tag and take it off all prompts",
                                        .arguments = "<name>",
                                        .arguments_min = 1,
                                        .arguments_max = 1,
                                        .options = tag_delete_options,
                                        .examples = tag_delete_examples,
                                        .run = command_action,
                                        .action = &tag_delete},
                                       {.name = NULL}};

/* ---- execution ---- */

static const struct output_column execution_columns[] = {
    {"Id", "id"},           {"Prompt", "prompt_id"}, {"Version", "version"},   {"Rating", "rating"},
    {"Success", "success"}, {"Notes", "notes"},      {"Used", "execute_time"}, {NULL, NULL}};
static const struct output_column execution_list_columns[] = {
    {"ID", "id"}, {"VERSION", "version"}, {"RATING", "rating"}, {"SUCCESS", "success"}, {"USED", "execute_time"}, {"NOTES", "notes"},
    {NULL, NULL}};
static const struct cli_option execution_record_options[] = {
    {.name = "version", .value = "N", .help = "the version that was used (the current one)", .field = "version", .take = CLI_TAKE_NUMBER},
    {.name = "rating", .value = "1..5", .help = "1 (worst) to 5 (best)", .field = "rating", .take = CLI_TAKE_NUMBER},
    {.name = "failed", .help = "it did not do what it should", .field = "success", .take = CLI_TAKE_FALSE},
    {.name = "notes", .value = "TEXT", .help = "for people", .field = "notes"},
    {.name = "at", .value = "TIME", .help = "when it was used, such as 2026-11-28T12:00:00Z (now)", .field = "execute_time"},
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action execution_record = {.method = FORGE_METHOD_PROMPT_RECORD_EXECUTION,
                                                   .argument_fields = {"prompt_id"},
                                                   .argument_takes = {CLI_TAKE_PROMPT},
                                                   .columns = execution_columns,
                                                   .name = "id"};
static const struct cli_option execution_list_options[] = {
    {.name = "version", .value = "N", .help = "only this version", .field = "version", .take = CLI_TAKE_NUMBER},
    {.name = "rating", .value = "1..5", .help = "only this rating", .field = "rating", .take = CLI_TAKE_NUMBER},
    {.name = "success", .value = "BOOL", .help = "only successes (true) or failures (false)", .field = "success", .take = CLI_TAKE_SWITCH},
    RANGE_OPTIONS,
    PAGE_OPTIONS,
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action execution_list = {.method = FORGE_METHOD_PROMPT_LIST_EXECUTIONS,
                                                 .argument_fields = {"prompt_id"},
                                                 .argument_takes = {CLI_TAKE_PROMPT},
                                                 .list = "executions",
                                                 .columns = execution_list_columns,
                                                 .name = "id"};
static const char *const execution_record_examples[] = {"forgectl execution record code-review --rating 4 --notes 'missed one leak'",
                                                        "forgectl execution record code-review --version 3 --failed", NULL};
static const char *const execution_list_examples[] = {"forgectl execution list code-review --success false", NULL};
const struct cli_command tree_execution[] = {{.name = "record",
                                              .summary = "Record that a prompt was used and how it went",
                                              .arguments = "<id or name>",
                                              .arguments_min = 1,
                                              .arguments_max = 1,
                                              .options = execution_record_options,
                                              .examples = execution_record_examples,
                                              .run = command_action,
                                              .action = &execution_record},
                                             {.name = "list",
                                              .summary = "List the executions of a prompt, newest first",
                                              .arguments = "<id or name>",
                                              .arguments_min = 1,
                                              .arguments_max = 1,
                                              .options = execution_list_options,
                                              .examples = execution_list_examples,
                                              .run = command_action,
                                              .action = &execution_list},
                                             {.name = NULL}};
