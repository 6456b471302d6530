/* The command tree: policy, violation. */
#include "tree.h"

/* ---- policy ---- */

static const struct output_column policy_columns[] = {{"Id", "id"},
                                                      {"Project", "project_id"},
                                                      {"Name", "name"},
                                                      {"Description", "description"},
                                                      {"Disabled", "disabled"},
                                                      {"Version in force", "published_version"},
                                                      {"Draft changed", "draft_changed"},
                                                      {"Draft mode", "draft.mode"},
                                                      {"Version", "published.version"},
                                                      {"Mode", "published.mode"},
                                                      {"Message", "published.message"},
                                                      {"Published", "published.publish_time"},
                                                      {"Created", "create_time"},
                                                      {"Updated", "update_time"},
                                                      {"Etag", "etag"},
                                                      {NULL, NULL}};
static const struct output_column policy_list_columns[] = {{"NAME", "name"},
                                                           {"VERSION", "published_version"},
                                                           {"MODE", "published.mode|draft.mode"},
                                                           {"DRAFT CHANGED", "draft_changed"},
                                                           {"DISABLED", "disabled"},
                                                           {"PROJECT", "project_id"},
                                                           {"ID", "id"},
                                                           {NULL, NULL}};
static const struct output_column rule_columns[] = {{"RULE", "name"},     {"ACTION", "action"},           {"SEVERITY", "severity"},
                                                    {"STAGES", "stages"}, {"DESCRIPTION", "description"}, {NULL, NULL}};

static void print_rules(struct cli *cli, const char *title, const Forge__V1__PolicyVersion *version)
{
    if (!version || !version->n_rules)
        return;
    printf("\n%s\n", title);
    output_list(cli, &version->base, "rules", rule_columns, "name");
}

static void print_versions(struct cli *cli, const ProtobufCMessage *reply)
{
    const Forge__V1__Policy *policy = (const Forge__V1__Policy *)reply;
    const char *title = policy->published ? forge_arena_printf(&cli->arena, "Rules of version %d", (int)policy->published->version) : NULL;
    print_rules(cli, title ? title : "", policy->published);
    if (policy->draft_changed)
        print_rules(cli, "Rules of the draft", policy->draft);
}

#define OF_PROJECT_OPTION                                                                                                                  \
    {                                                                                                                                      \
        .name = "project", .value = "ID|NAME", .help = "where the name is looked for, then in the organization (anywhere)"                 \
    }
#define MODE_OPTION                                                                                                                        \
    {                                                                                                                                      \
        .name = "mode", .value = "MODE", .help = "enforce or dry_run: findings are told, nothing is done", .field = "mode",                \
        .take = CLI_TAKE_ENUM                                                                                                              \
    }
#define RULES_OPTION                                                                                                                       \
    {                                                                                                                                      \
        .name = "file", .letter = 'f', .value = "PATH", .help = "YAML or JSON with rules, attachments, mode (- = standard input)",         \
        .field = "rules", .take = CLI_TAKE_FIELDS                                                                                          \
    }
#define RULES_HELP                                                                                                                         \
    "The file has the fields that a policy has in a manifest, names in place of ids; forgectl describe PolicyRule shows all rules:\n\n"    \
    "    rules:\n"                                                                                                                         \
    "    - name: keys\n"                                                                                                                   \
    "      action: block\n"                                                                                                                \
    "      severity: critical\n"                                                                                                           \
    "      secret: {}\n"                                                                                                                   \
    "    - name: models\n"                                                                                                                 \
    "      action: flag\n"                                                                                                                 \
    "      allowed_models: {models: [{provider: OpenAI, name: gpt-4}]}\n"                                                                  \
    "    attachments:            # one is enough; without any: everywhere in the project or organization\n"                                \
    "    - label: production\n"                                                                                                            \
    "    - model: {provider: OpenAI, name: gpt-4}\n"                                                                                       \
    "    - project: Checkout     # of a policy of the organization"

static const struct cli_option list_options[] = {
    {.name = "project",
     .value = "ID|NAME",
     .help = "only policies of this project (of the organization and all projects)",
     .field = "project_id",
     .take = CLI_TAKE_PROJECT},
    {.name = "include-organization",
     .help = "with --project: also those of the organization that are in force there",
     .field = "include_organization",
     .take = CLI_TAKE_TRUE},
    {.name = "prefix", .value = "TEXT", .help = "only names that begin with it", .field = "name_prefix"},
    PAGE_OPTIONS,
    {.name = NULL}};
static const struct cli_action policy_list = {
    .method = FORGE_METHOD_POLICY_LIST, .list = "policies", .columns = policy_list_columns, .name = "name"};

static const struct cli_option get_options[] = {{.name = "version",
                                                 .value = "N",
                                                 .help = "this published version (the one in force)",
                                                 .field = "version",
                                                 .take = CLI_TAKE_NUMBER,
                                                 .least = 1,
                                                 .most = INT32_MAX},
                                                OF_PROJECT_OPTION,
                                                {.name = NULL}};
static const struct cli_action policy_get = {.method = FORGE_METHOD_POLICY_GET,
                                             .argument_fields = {"id"},
                                             .argument_takes = {CLI_TAKE_POLICY},
                                             .columns = policy_columns,
                                             .name = "id",
                                             .after = print_versions};

static const struct cli_option create_options[] = {{.name = "project",
                                                    .value = "ID|NAME",
                                                    .help = "the project it belongs to (the organization)",
                                                    .field = "project_id",
                                                    .take = CLI_TAKE_PROJECT},
                                                   RULES_OPTION,
                                                   MODE_OPTION,
                                                   DESCRIPTION_OPTION,
                                                   {.name = NULL}};
static const struct cli_action policy_create = {
    .method = FORGE_METHOD_POLICY_CREATE, .argument_fields = {"name"}, .columns = policy_columns, .name = "id", .after = print_versions};

static const struct cli_option update_options[] = {RULES_OPTION,
                                                   MODE_OPTION,
                                                   {.name = "name", .value = "NAME", .help = "new name", .field = "name"},
                                                   DESCRIPTION_OPTION,
                                                   {.name = "disabled",
                                                    .value = "BOOL",
                                                    .help = "out of force (true) or back in it (false)",
                                                    .field = "disabled",
                                                    .take = CLI_TAKE_SWITCH},
                                                   ETAG_OPTION,
                                                   OF_PROJECT_OPTION,
                                                   {.name = NULL}};
static const struct cli_action policy_update = {.method = FORGE_METHOD_POLICY_UPDATE,
                                                .argument_fields = {"id"},
                                                .argument_takes = {CLI_TAKE_POLICY},
                                                .is_update = true,
                                                .columns = policy_columns,
                                                .name = "id",
                                                .after = print_versions};

static const struct cli_option publish_options[] = {
    {.name = "message", .letter = 'm', .value = "TEXT", .help = "why", .field = "message"}, ETAG_OPTION, OF_PROJECT_OPTION, {.name = NULL}};
static const struct cli_action policy_publish = {.method = FORGE_METHOD_POLICY_PUBLISH,
                                                 .argument_fields = {"id"},
                                                 .argument_takes = {CLI_TAKE_POLICY},
                                                 .columns = policy_columns,
                                                 .name = "published_version"};

static const struct cli_option delete_options[] = {YES_OPTION, ETAG_OPTION, OF_PROJECT_OPTION, {.name = NULL}};
static const struct cli_action policy_delete = {
    .method = FORGE_METHOD_POLICY_DELETE, .argument_fields = {"id"}, .argument_takes = {CLI_TAKE_POLICY}, .deletes = "policy"};

static const struct output_column stats_columns[] = {{"DATE", "date"},
                                                     {"POLICY", "policy_name"},
                                                     {"EVALUATED", "evaluated_count"},
                                                     {"PASSED", "passed_count"},
                                                     {"FLAGGED", "flagged_count"},
                                                     {"MASKED", "masked_count"},
                                                     {"BLOCKED", "blocked_count"},
                                                     {NULL, NULL}};
static const struct cli_option stats_options[] = {
    {.name = "from", .value = "DATE", .help = "first day, YYYY-MM-DD in UTC (29 days before the last)", .field = "start_date"},
    {.name = "to", .value = "DATE", .help = "last day, included (today)", .field = "end_date"},
    {.name = "policy", .value = "ID|NAME", .help = "only this policy", .field = "policy_id", .take = CLI_TAKE_POLICY},
    {.name = "project", .value = "ID|NAME", .help = "only checks in this project (all)", .field = "project_id", .take = CLI_TAKE_PROJECT},
    {.name = NULL}};
static const struct cli_action policy_stats = {
    .method = FORGE_METHOD_POLICY_GET_STATS, .list = "days", .columns = stats_columns, .name = "policy_name"};

static const struct cli_option check_options[] = {
    {.name = "input", .value = "TEXT", .help = "what goes to the model"},
    {.name = "input-file", .value = "PATH", .help = "the same from a file (- = standard input)"},
    {.name = "output-text", .value = "TEXT", .help = "what came back from the model"},
    {.name = "output-file", .value = "PATH", .help = "the same from a file (- = standard input)"},
    {.name = "model", .value = "ID|NAME", .help = "the model, by id, name or alias"},
    {.name = "label", .value = "NAME", .help = "the label the prompt was fetched by"},
    {.name = "prompt", .value = "ID|NAME", .help = "the prompt, for rules about its tags"},
    {.name = "version", .value = "N", .help = "its version"},
    {.name = "input-tokens", .value = "N", .help = "tokens of the call, planned or used: of the prompt"},
    {.name = "cache-read-tokens", .value = "N", .help = "... read from the provider's cache"},
    {.name = "cache-write-tokens", .value = "N", .help = "... written to it"},
    {.name = "output-tokens", .value = "N", .help = "... of the completion"},
    {.name = "reasoning-tokens", .value = "N", .help = "... of reasoning"},
    {.name = "cost-micros", .value = "N", .help = "cost in millionths of a US dollar (from tokens and the model's price)"},
    {.name = "latency", .value = "TIME", .help = "how long the call took, such as 850ms"},
    {.name = "subject", .value = "TEXT", .help = "whom the call is for, for rate limits by subject"},
    PROJECT_OPTION,
    {.name = NULL}};

static const char *const list_examples[] = {"forgectl policy list", "forgectl policy list --project checkout --include-organization", NULL};
static const char *const get_examples[] = {"forgectl policy get secrets", "forgectl policy get secrets --version 2 -o yaml", NULL};
static const char *const create_examples[] = {"forgectl policy create secrets -f secrets.yaml && forgectl policy publish secrets",
                                              "forgectl policy create tone --project checkout --mode dry_run -f tone.yaml", NULL};
static const char *const update_examples[] = {"forgectl policy update secrets -f secrets.yaml",
                                              "forgectl policy update tone --mode enforce", "forgectl policy update tone --disabled true",
                                              NULL};
static const char *const publish_examples[] = {"forgectl policy publish secrets -m 'also keys of the new provider'", NULL};
static const char *const delete_examples[] = {"forgectl policy delete tone --project checkout --yes", NULL};
static const char *const stats_examples[] = {"forgectl policy stats", "forgectl policy stats --policy secrets --from 2026-11-01", NULL};
static const char *const check_examples[] = {
    "forgectl policy check --input 'Write to ada@example.com'",
    "forgectl policy check --input-file prompt.txt --label production || exit 1",
    "model answer | forgectl policy check --output-file - --model gpt-4 --output-tokens 900 -o json", NULL};

#define ONE_POLICY .arguments = "<id or name>", .arguments_min = 1, .arguments_max = 1
const struct cli_command tree_policy[] = {
    {.name = "list",
     .summary = "List policies by name",
     .options = list_options,
     .examples = list_examples,
     .run = command_action,
     .action = &policy_list},
    {.name = "get",
     .summary = "Show a policy with its rules",
     ONE_POLICY,
     .description = "-o yaml shows all of each rule.",
     .options = get_options,
     .examples = get_examples,
     .run = command_action,
     .action = &policy_get},
    {.name = "create",
     .summary = "Create a policy with a draft, which policy publish puts in force",
     .arguments = "<name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description = RULES_HELP,
     .options = create_options,
     .examples = create_examples,
     .run = command_action,
     .action = &policy_create},
    {.name = "update",
     .summary = "Change a policy: rules and mode of its draft, all else at once",
     ONE_POLICY,
     .description = "Rules and attachments of the file (see policy create) replace those that are there.",
     .options = update_options,
     .examples = update_examples,
     .run = command_action,
     .action = &policy_update},
    {.name = "publish",
     .summary = "Put the draft of a policy in force",
     ONE_POLICY,
     .description = "On every server within a second. A draft that equals the version in force makes no new version.",
     .options = publish_options,
     .examples = publish_examples,
     .run = command_action,
     .action = &policy_publish},
    {.name = "delete",
     .summary = "Delete a policy with its versions; its violations stay",
     ONE_POLICY,
     .options = delete_options,
     .examples = delete_examples,
     .run = command_action,
     .action = &policy_delete},
    {.name = "stats",
     .summary = "Show how many checks passed, were flagged, masked and blocked, by day and policy",
     .options = stats_options,
     .examples = stats_examples,
     .run = command_action,
     .action = &policy_stats},
    {.name = "check",
     .summary = "Check a text against the policies in force",
     .description =
         "Prints what to do and each finding with its places in the text: in colour on a terminal, else with ^ below them. Of long\n"
         "texts only the lines around these are shown. -o name prints allowed or blocked, -o json all of the answer.\n"
         "Ends with 0 when the text is allowed (also masked or flagged), with 3 when a policy blocks it, and otherwise as every command.\n"
         "Checks are counted by policy stats and by rate limits; they write no violation.",
     .options = check_options,
     .examples = check_examples,
     .run = command_policy_check},
    {.name = NULL}};

/* ---- violation ---- */

static const struct output_column violation_columns[] = {{"Id", "id"},
                                                         {"State", "state"},
                                                         {"Policy", "policy_name"},
                                                         {"Policy version", "policy_version"},
                                                         {"Rule", "rule"},
                                                         {"Action", "action"},
                                                         {"Severity", "severity"},
                                                         {"Mode", "mode"},
                                                         {"Stage", "stage"},
                                                         {"Finding", "message"},
                                                         {"Prompt", "prompt_id"},
                                                         {"Prompt version", "prompt_version"},
                                                         {"Trace", "trace_id"},
                                                         {"Span", "span_id"},
                                                         {"Label", "label"},
                                                         {"Model", "model"},
                                                         {"By", "actor_id"},
                                                         {"Found", "create_time"},
                                                         {"Acknowledged", "acknowledge_time"},
                                                         {"Acknowledged by", "acknowledger_id"},
                                                         {"Comment", "acknowledge_comment"},
                                                         {"Resolved", "resolve_time"},
                                                         {"Resolved by", "resolver_id"},
                                                         {"Resolution", "resolution"},
                                                         {"Why", "resolve_comment"},
                                                         {"Etag", "etag"},
                                                         {NULL, NULL}};
static const struct output_column violation_list_columns[] = {{"FOUND", "create_time"},
                                                              {"STATE", "state"},
                                                              {"SEVERITY", "severity"},
                                                              {"ACTION", "action"},
                                                              {"POLICY", "policy_name"},
                                                              {"RULE", "rule"},
                                                              {"STAGE", "stage"},
                                                              {"ID", "id"},
                                                              {NULL, NULL}};
static const struct output_column range_columns[] = {
    {"START BYTE", "start_byte"}, {"END BYTE", "end_byte"}, {"KIND", "pii_kind"}, {"FIELD", "field"}, {NULL, NULL}};

/* The texts themselves are not kept. */
static void print_ranges(struct cli *cli, const ProtobufCMessage *reply)
{
    if (!((const Forge__V1__Violation *)reply)->n_ranges)
        return;
    printf("\n");
    output_list(cli, reply, "ranges", range_columns, "start_byte");
}

static const struct cli_option violation_list_options[] = {
    {.name = "state", .value = "STATE", .help = "only open, acknowledged or resolved ones", .field = "state", .take = CLI_TAKE_ENUM},
    {.name = "policy", .value = "ID|NAME", .help = "only of this policy", .field = "policy_id", .take = CLI_TAKE_POLICY},
    {.name = "severity",
     .value = "SEVERITY",
     .help = "only this bad or worse: low, medium, high, critical",
     .field = "severity_min",
     .take = CLI_TAKE_ENUM},
    {.name = "action", .value = "ACTION", .help = "only flag, mask or block", .field = "action", .take = CLI_TAKE_ENUM},
    {.name = "prompt", .value = "ID|NAME", .help = "only about this prompt", .field = "prompt_id", .take = CLI_TAKE_PROMPT},
    {.name = "version",
     .value = "N",
     .help = "with --prompt: only about this version of it",
     .field = "prompt_version",
     .take = CLI_TAKE_NUMBER,
     .least = 1,
     .most = INT32_MAX},
    {.name = "trace", .value = "ID", .help = "only about spans of this trace", .field = "trace_id"},
    RANGE_OPTIONS,
    PAGE_OPTIONS,
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action violation_list = {.method = FORGE_METHOD_POLICY_LIST_VIOLATIONS,
                                                 .needs_project = true,
                                                 .list = "violations",
                                                 .columns = violation_list_columns,
                                                 .name = "id"};
static const struct cli_action violation_get = {.method = FORGE_METHOD_POLICY_GET_VIOLATION,
                                                .argument_fields = {"id"},
                                                .columns = violation_columns,
                                                .name = "id",
                                                .after = print_ranges};
static const struct cli_option state_options[] = {
    {.name = "comment", .letter = 'm', .value = "TEXT", .help = "for people", .field = "comment"}, ETAG_OPTION, {.name = NULL}};
static const struct cli_action violation_acknowledge = {
    .method = FORGE_METHOD_POLICY_ACKNOWLEDGE_VIOLATION, .argument_fields = {"id"}, .columns = violation_columns, .name = "id"};
static const struct cli_action violation_resolve = {.method = FORGE_METHOD_POLICY_RESOLVE_VIOLATION,
                                                    .argument_fields = {"id", "resolution"},
                                                    .argument_takes = {CLI_TAKE_TEXT, CLI_TAKE_ENUM},
                                                    .columns = violation_columns,
                                                    .name = "id"};

static const char *const violation_list_examples[] = {"forgectl violation list --state open --severity high",
                                                      "forgectl violation list --policy 'personal data' --since 7d", NULL};
static const char *const violation_get_examples[] = {"forgectl violation get 0199e5c0-0000-7000-8000-000000000001", NULL};
static const char *const acknowledge_examples[] = {
    "forgectl violation acknowledge 0199e5c0-0000-7000-8000-000000000001 -m 'asking the team of checkout'", NULL};
static const char *const resolve_examples[] = {
    "forgectl violation resolve 0199e5c0-0000-7000-8000-000000000001 fixed -m 'addresses are left out since version 4'",
    "forgectl violation resolve 0199e5c0-0000-7000-8000-000000000001 false_positive", NULL};

#define ONE_VIOLATION .arguments = "<id>", .arguments_min = 1, .arguments_max = 1
const struct cli_command tree_violation[] = {{.name = "list",
                                              .summary = "List the violations of a project, newest first",
                                              .options = violation_list_options,
                                              .examples = violation_list_examples,
                                              .run = command_action,
                                              .action = &violation_list},
                                             {.name = "get",
                                              .summary = "Show a violation and where in the text it is; the text itself is not kept",
                                              ONE_VIOLATION,
                                              .examples = violation_get_examples,
                                              .run = command_action,
                                              .action = &violation_get},
                                             {.name = "acknowledge",
                                              .summary = "Note that somebody looks after a violation",
                                              ONE_VIOLATION,
                                              .options = state_options,
                                              .examples = acknowledge_examples,
                                              .run = command_action,
                                              .action = &violation_acknowledge},
                                             {.name = "resolve",
                                              .summary = "Close a violation",
                                              .arguments = "<id> <fixed|false_positive|accepted>",
                                              .arguments_min = 2,
                                              .arguments_max = 2,
                                              .options = state_options,
                                              .examples = resolve_examples,
                                              .run = command_action,
                                              .action = &violation_resolve},
                                             {.name = NULL}};
