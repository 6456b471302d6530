/* The command tree: label. */
#include "tree.h"

static const struct output_column label_columns[] = {{"Name", "name"},           {"Prompt", "prompt_id"},    {"Points at", "targets"},
                                                     {"Protected", "protected"}, {"Created", "create_time"}, {"Moved", "update_time"},
                                                     {"Moved by", "updater_id"}, {"Etag", "etag"},           {NULL, NULL}};
static const struct output_column label_list_columns[] = {{"LABEL", "name"},        {"POINTS AT", "targets"}, {"PROTECTED", "protected"},
                                                          {"MOVED", "update_time"}, {"PROMPT", "prompt_id"},  {NULL, NULL}};
static const struct output_column move_columns[] = {{"LABEL", "label"},    {"FROM", "old_targets"}, {"TO", "new_targets"},
                                                    {"WHEN", "move_time"}, {"WHO", "actor_id"},     {"MESSAGE", "message"},
                                                    {NULL, NULL}};
static const struct output_column protection_columns[] = {{"Label", "label"},
                                                          {"Project", "project_id"},
                                                          {"Prompt", "prompt_id"},
                                                          {"Protected", "protected"},
                                                          {"Needs evaluation", "gate.require_evaluation"},
                                                          {"Least score", "gate.min_score"},
                                                          {"On dataset", "gate.dataset_id"},
                                                          {"Least results", "gate.min_result_count"},
                                                          {"No open violation", "gate.require_no_open_blocking_violations"},
                                                          {"Changed", "update_time"},
                                                          {"Changed by", "updater_id"},
                                                          {"Etag", "etag"},
                                                          {NULL, NULL}};

#define EXPECTED_OPTION                                                                                                                    \
    {                                                                                                                                      \
        .name = "expected", .value = "N", .help = "only if it points at this version alone; 0 = only if it does not exist",                \
        .field = "expected_version", .take = CLI_TAKE_NUMBER                                                                               \
    }
#define MESSAGE_OPTION                                                                                                                     \
    {                                                                                                                                      \
        .name = "message", .letter = 'm', .value = "TEXT", .help = "why, for the history", .field = "message"                              \
    }
static const struct cli_option set_options[] = {EXPECTED_OPTION, MESSAGE_OPTION, ETAG_OPTION, PROJECT_OPTION, {.name = NULL}};
static const struct cli_action label_set = {.method = FORGE_METHOD_PROMPT_SET_LABEL,
                                            .argument_fields = {"prompt_id", "label", "version"},
                                            .argument_takes = {CLI_TAKE_PROMPT, CLI_TAKE_TEXT, CLI_TAKE_NUMBER},
                                            .columns = label_columns,
                                            .name = "name"};
static const struct cli_action label_split = {.method = FORGE_METHOD_PROMPT_SET_LABEL,
                                              .argument_fields = {"prompt_id", "label", "split"},
                                              .argument_takes = {CLI_TAKE_PROMPT, CLI_TAKE_TEXT, CLI_TAKE_SPLIT},
                                              .columns = label_columns,
                                              .name = "name"};
static const struct cli_action label_rollback = {.method = FORGE_METHOD_PROMPT_SET_LABEL,
                                                 .argument_fields = {"prompt_id", "label"},
                                                 .argument_takes = {CLI_TAKE_PROMPT},
                                                 .fixed_true = "previous",
                                                 .columns = label_columns,
                                                 .name = "name"};
static const struct cli_option list_options[] = {
    {.name = "label", .value = "NAME", .help = "only labels of this name", .field = "label"}, PAGE_OPTIONS, PROJECT_OPTION, {.name = NULL}};

static void print_protections(struct cli *cli, const ProtobufCMessage *reply)
{
    const Forge__V1__ListLabelsResponse *list = (const Forge__V1__ListLabelsResponse *)reply;
    (void)cli;
    for (size_t i = 0; i < list->n_protections; i++) {
        const Forge__V1__LabelProtection *rule = list->protections[i];
        const char *what = rule->protected_ && rule->gate ? "is protected and has a gate" : rule->gate ? "has a gate" : "is protected";
        printf("%s%s %s for %s%s\n", i == 0 ? "\n" : "", rule->label, what, rule->prompt_id[0] ? "prompt " : "all prompts",
               rule->prompt_id);
    }
}

static const struct cli_action label_list = {.method = FORGE_METHOD_PROMPT_LIST_LABELS,
                                             .argument_fields = {"prompt_id"},
                                             .argument_takes = {CLI_TAKE_PROMPT},
                                             .needs_project = true,
                                             .project_unless = "prompt_id",
                                             .list = "labels",
                                             .columns = label_list_columns,
                                             .name = "name",
                                             .after = print_protections};
static const struct cli_option history_options[] = {PAGE_OPTIONS, PROJECT_OPTION, {.name = NULL}};
static const struct cli_action label_history = {.method = FORGE_METHOD_PROMPT_LIST_LABEL_HISTORY,
                                                .argument_fields = {"prompt_id", "label"},
                                                .argument_takes = {CLI_TAKE_PROMPT},
                                                .list = "moves",
                                                .columns = move_columns,
                                                .name = "label"};
static const struct cli_option delete_options[] = {YES_OPTION, ETAG_OPTION, PROJECT_OPTION, {.name = NULL}};
static const struct cli_action label_delete = {.method = FORGE_METHOD_PROMPT_DELETE_LABEL,
                                               .argument_fields = {"prompt_id", "label"},
                                               .argument_takes = {CLI_TAKE_PROMPT},
                                               .deletes = "label"};
#define PROTECTED_PROMPT_OPTION                                                                                                            \
    {                                                                                                                                      \
        .name = "prompt", .value = "ID|NAME", .help = "only for this prompt (all of the project)", .field = "prompt_id",                   \
        .take = CLI_TAKE_PROMPT                                                                                                            \
    }
static const struct cli_option protect_options[] = {
    PROTECTED_PROMPT_OPTION,
    {.name = "require-evaluation",
     .help = "a version needs a completed evaluation",
     .field = "gate.require_evaluation",
     .take = CLI_TAKE_TRUE},
    {.name = "min-score", .value = "N", .help = "least score of that, 0 to 1", .field = "gate.min_score", .take = CLI_TAKE_DECIMAL},
    {.name = "min-results", .value = "N", .help = "least results of that", .field = "gate.min_result_count", .take = CLI_TAKE_NUMBER},
    {.name = "dataset",
     .value = "ID|NAME",
     .help = "only evaluations on this dataset count",
     .field = "gate.dataset_id",
     .take = CLI_TAKE_DATASET},
    {.name = "require-no-violations",
     .help = "a version must have no open blocking violation",
     .field = "gate.require_no_open_blocking_violations",
     .take = CLI_TAKE_TRUE},
    {.name = "gate-only", .help = "developers may move it too, where the gate allows", .field = "protected", .take = CLI_TAKE_FALSE},
    ETAG_OPTION,
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_option unprotect_options[] = {PROTECTED_PROMPT_OPTION, ETAG_OPTION, PROJECT_OPTION, {.name = NULL}};
static const struct cli_action label_protect = {.method = FORGE_METHOD_PROMPT_PROTECT_LABEL,
                                                .argument_fields = {"label"},
                                                .fixed_true = "protected",
                                                .needs_project = true,
                                                .columns = protection_columns,
                                                .name = "label"};
static const struct cli_action label_unprotect = {.method = FORGE_METHOD_PROMPT_PROTECT_LABEL,
                                                  .argument_fields = {"label"},
                                                  .needs_project = true,
                                                  .columns = protection_columns,
                                                  .name = "label"};

static const char *const set_examples[] = {"forgectl label set code-review production 4 --expected 3 -m 'Shorter'",
                                           "forgectl label set code-review staging 5 --expected 0", NULL};
static const char *const split_examples[] = {"forgectl label split code-review production 4=90 5=10",
                                             "forgectl prompt get code-review --label production --subject user-42", NULL};
static const char *const rollback_examples[] = {"forgectl label rollback code-review production -m 'Version 5 was worse'", NULL};
static const char *const list_examples[] = {"forgectl label list", "forgectl label list code-review",
                                            "forgectl label list --label production", NULL};
static const char *const history_examples[] = {"forgectl label history code-review production",
                                               "forgectl label history code-review current", NULL};
static const char *const delete_examples[] = {"forgectl label delete code-review staging --yes", NULL};
static const char *const protect_examples[] = {
    "forgectl label protect production", "forgectl label protect canary --prompt code-review",
    "forgectl label protect production --require-evaluation --min-score 0.9 --dataset golden --require-no-violations", NULL};
static const char *const unprotect_examples[] = {"forgectl label unprotect production", NULL};
const struct cli_command tree_label[] = {
    {.name = "set",
     .summary = "Point a label at a version; make it if it does not exist",
     .arguments = "<id or name> <label> <version>",
     .arguments_min = 3,
     .arguments_max = 3,
     .description = "A label is 1 to 64 of a-z, 0-9, _, . and -, not only digits.",
     .options = set_options,
     .examples = set_examples,
     .run = command_action,
     .action = &label_set},
    {.name = "split",
     .summary = "Point a label at several versions by weight",
     .arguments = "<id or name> <label> <version=weight>...",
     .arguments_min = 4,
     .arguments_max = 18,
     .description = "Each subject always gets the same of these versions while the weights stay. Weights are shares of their sum.",
     .options = set_options,
     .examples = split_examples,
     .run = command_action,
     .action = &label_split},
    {.name = "rollback",
     .summary = "Point a label where it pointed before its last move",
     .arguments = "<id or name> <label>",
     .arguments_min = 2,
     .arguments_max = 2,
     .description = "Of a label that was deleted: where it pointed then.",
     .options = set_options,
     .examples = rollback_examples,
     .run = command_action,
     .action = &label_rollback},
    {.name = "list",
     .summary = "List the labels of a prompt or of a project, and what is protected",
     .arguments = "[id or name]",
     .arguments_max = 1,
     .options = list_options,
     .examples = list_examples,
     .run = command_action,
     .action = &label_list},
    {.name = "history",
     .summary = "List the moves of a prompt's labels and current version, newest first",
     .arguments = "<id or name> [label]",
     .arguments_min = 1,
     .arguments_max = 2,
     .description = "\"current\" as label: moves of the current version.",
     .options = history_options,
     .examples = history_examples,
     .run = command_action,
     .action = &label_history},
    {.name = "delete",
     .summary = "Delete a label",
     .arguments = "<id or name> <label>",
     .arguments_min = 2,
     .arguments_max = 2,
     .options = delete_options,
     .examples = delete_examples,
     .run = command_action,
     .action = &label_delete},
    {.name = "protect",
     .summary = "Let only admins move and delete a label, and say what a version must have to get it",
     .arguments = "<label>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description = "Sets the whole rule: what is not given is not asked for any more. A label that is moved to a version which lacks\n"
                    "something stays where it is.",
     .options = protect_options,
     .examples = protect_examples,
     .run = command_action,
     .action = &label_protect},
    {.name = "unprotect",
     .summary = "Let developers move and delete a label again, to any version",
     .arguments = "<label>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description = "Ends the rule for all prompts of the project, or with --prompt the one of that prompt.",
     .options = unprotect_options,
     .examples = unprotect_examples,
     .run = command_action,
     .action = &label_unprotect},
    {.name = NULL}};
