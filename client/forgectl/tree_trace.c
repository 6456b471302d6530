/* The command tree: trace, session. */
#include "tree.h"
#include "view.h"

/* ---- trace ---- */

static const struct cli_option show_options[] = {
    {.name = "full", .help = "with inputs and outputs; as JSON or YAML also with attributes, events, links, resource and scope"},
    PROJECT_OPTION,
    {.name = NULL}};

#define USE_OPTIONS                                                                                                                        \
    {.name = "model", .value = "NAME", .help = "only with a span of this model, as the span names it", .field = "model"},                  \
        {.name = "prompt", .value = "ID|NAME", .help = "only with a span of this prompt", .field = "prompt_id", .take = CLI_TAKE_PROMPT},  \
        {.name = "version",                                                                                                                \
         .value = "N",                                                                                                                     \
         .help = "with --prompt: only with this version of it",                                                                            \
         .field = "prompt_version",                                                                                                        \
         .take = CLI_TAKE_NUMBER,                                                                                                          \
         .least = 1,                                                                                                                       \
         .most = INT32_MAX},                                                                                                               \
    {                                                                                                                                      \
        .name = "label", .value = "NAME", .help = "with --prompt: only fetched by this label", .field = "prompt_label"                     \
    }
static const struct output_column list_columns[] = {{"START", "start_time"},
                                                    {"NAME", "name"},
                                                    {"STATUS", "status"},
                                                    {"DURATION", "duration_ns:ns"},
                                                    {"SPANS", "span_count"},
                                                    {"ERRORS", "error_count"},
                                                    {"TOKENS", "usage:tokens"},
                                                    {"COST", "cost_micros:micros"},
                                                    {"SESSION", "session_id"},
                                                    {"TRACE", "trace_id"},
                                                    {NULL, NULL}};
static const struct cli_option list_options[] = {
    RANGE_OPTIONS,
    {.name = "status", .value = "STATUS", .help = "only ok, or only error", .field = "status", .take = CLI_TAKE_ENUM},
    {.name = "min-duration",
     .value = "TIME",
     .help = "only those that took at least so long: 250ms, 4s, 2m",
     .field = "duration_min_ms",
     .take = CLI_TAKE_MILLIS},
    {.name = "session", .value = "ID", .help = "only of this session", .field = "session_id"},
    {.name = "user", .value = "ID", .help = "only for this user, as the spans name it", .field = "user_id"},
    USE_OPTIONS,
    {.name = "view",
     .value = "VIEW",
     .help = "basic, or full: with the root span's input and output (basic; seen as JSON or YAML)",
     .field = "view",
     .take = CLI_TAKE_ENUM},
    PAGE_OPTIONS,
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action trace_list = {
    .method = FORGE_METHOD_TRACE_LIST, .needs_project = true, .list = "traces", .columns = list_columns, .name = "trace_id"};

static const struct output_column stats_columns[] = {{"GROUP", "model|prompt.prompt_id"}, {NULL, NULL}};
static const struct cli_option stats_options[] = {RANGE_OPTIONS,
                                                  {.name = "bucket",
                                                   .value = "TIME",
                                                   .help = "length of the intervals: 5m, 1h, 1d (the whole range is one)",
                                                   .field = "bucket_s",
                                                   .take = CLI_TAKE_SECONDS},
                                                  {.name = "group-by",
                                                   .value = "WHAT",
                                                   .help = "model, prompt_version or prompt_label: figures of spans instead of traces",
                                                   .field = "group_by",
                                                   .take = CLI_TAKE_ENUM},
                                                  USE_OPTIONS,
                                                  {.name = "kind",
                                                   .value = "KIND",
                                                   .help = "with --group-by: only spans of this kind, such as llm or tool",
                                                   .field = "kind",
                                                   .take = CLI_TAKE_ENUM},
                                                  PROJECT_OPTION,
                                                  {.name = NULL}};

static void print_stats(struct cli *cli, const ProtobufCMessage *reply)
{
    view_trace_stats(stdout, &cli->terminal, &cli->arena, (const Forge__V1__GetTraceStatsResponse *)reply);
}

static const struct cli_action trace_stats = {.method = FORGE_METHOD_TRACE_GET_STATS,
                                              .needs_project = true,
                                              .list = "series",
                                              .columns = stats_columns,
                                              .name = "model|prompt.prompt_id",
                                              .view = print_stats};

static const struct cli_option ingest_options[] = {
    {.name = "file", .letter = 'f', .value = "PATH", .help = "JSON Lines with a span each (- = standard input)"},
    PROJECT_OPTION,
    {.name = NULL}};

#define TARGET_OPTIONS                                                                                                                     \
    {.name = "trace", .value = "ID", .help = "about this trace", .field = "trace_id"},                                                     \
        {.name = "span", .value = "TRACE/SPAN", .help = "about this span", .field = "span", .take = CLI_TAKE_SPAN},                        \
        {.name = "session", .value = "ID", .help = "about this session", .field = "session_id"},                                           \
    {                                                                                                                                      \
        .name = "execution", .value = "ID", .help = "about this execution", .field = "execution_id", .take = CLI_TAKE_NUMBER               \
    }
static const struct output_column scored_columns[] = {{"Id", "score_id"}, {"Outcome", "verdict.outcome"}, {NULL, NULL}};
static const struct cli_option score_options[] = {
    TARGET_OPTIONS,
    {.name = "name", .value = "TEXT", .help = "what is judged, such as helpfulness", .field = "name"},
    {.name = "number", .value = "N", .help = "the judgement as a number", .field = "number", .take = CLI_TAKE_DECIMAL},
    {.name = "category", .value = "WORD", .help = "... as one of a few words", .field = "category"},
    {.name = "boolean", .value = "BOOL", .help = "... as true or false", .field = "boolean", .take = CLI_TAKE_SWITCH},
    {.name = "text", .value = "TEXT", .help = "... as a text", .field = "text"},
    {.name = "source",
     .value = "WHO",
     .help = "who judged: human, code or model (human)",
     .field = "source",
     .take = CLI_TAKE_ENUM,
     .otherwise = "human"},
    {.name = "author", .value = "TEXT", .help = "name of who judged (the caller's id)", .field = "author"},
    {.name = "comment", .value = "TEXT", .help = "why", .field = "comment"},
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action trace_score = {
    .method = FORGE_METHOD_TRACE_RECORD_SCORES, .item = "scores", .needs_project = true, .columns = scored_columns, .name = "score_id"};

static const struct output_column score_columns[] = {{"NAME", "name"},
                                                     {"VALUE", "number|category|boolean|text"},
                                                     {"SOURCE", "source"},
                                                     {"AUTHOR", "author"},
                                                     {"GIVEN", "update_time|create_time"},
                                                     {"TARGET", "trace_id|span.trace_id|session_id|execution_id"},
                                                     {"SPAN", "span.span_id"},
                                                     {"ID", "id"},
                                                     {NULL, NULL}};
static const struct cli_option scores_options[] = {
    TARGET_OPTIONS,
    {.name = "name", .value = "TEXT", .help = "only of this name", .field = "name"},
    {.name = "author", .value = "TEXT", .help = "only by this author", .field = "author"},
    {.name = "source", .value = "WHO", .help = "only by a human, code or a model", .field = "source", .take = CLI_TAKE_ENUM},
    RANGE_OPTIONS,
    {.name = "history", .help = "also values that were replaced", .field = "show_history", .take = CLI_TAKE_TRUE},
    PAGE_OPTIONS,
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action trace_scores = {
    .method = FORGE_METHOD_TRACE_LIST_SCORES, .needs_project = true, .list = "scores", .columns = score_columns, .name = "id"};

static const struct cli_option delete_score_options[] = {YES_OPTION, {.name = NULL}};
static const struct cli_action trace_delete_score = {
    .method = FORGE_METHOD_TRACE_DELETE_SCORE, .argument_fields = {"id"}, .deletes = "score"};
static const struct cli_option delete_options[] = {YES_OPTION, PROJECT_OPTION, {.name = NULL}};
static const struct cli_action trace_delete = {
    .method = FORGE_METHOD_TRACE_DELETE, .argument_fields = {"trace_id"}, .needs_project = true, .deletes = "trace"};

static const struct output_column retention_columns[] = {
    {"Project", "project_id"}, {"Days", "trace_days"}, {"Updated", "update_time"}, {"Etag", "etag"}, {NULL, NULL}};
static const struct cli_option retention_options[] = {ETAG_OPTION, PROJECT_OPTION, {.name = NULL}};
static const struct cli_action trace_retention = {.method = FORGE_METHOD_TRACE_SET_RETENTION,
                                                  .argument_fields = {"trace_days"},
                                                  .argument_takes = {CLI_TAKE_NUMBER},
                                                  .needs_project = true,
                                                  .columns = retention_columns,
                                                  .name = "trace_days"};

static const char *const show_examples[] = {"forgectl trace show 0af7651916cd43dd8448eb211c80319c",
                                            "forgectl trace show 0af7651916cd43dd8448eb211c80319c --full | less -R",
                                            "forgectl trace show 0af7651916cd43dd8448eb211c80319c --full -o json", NULL};
static const char *const list_examples[] = {"forgectl trace list --since 1h --status error",
                                            "forgectl trace list --prompt ticket-reply --label production --min-duration 5s", NULL};
static const char *const stats_examples[] = {"forgectl trace stats --since 1d --bucket 1h",
                                             "forgectl trace stats --group-by prompt_version --prompt ticket-reply", NULL};
static const char *const ingest_examples[] = {
    "forgectl trace ingest -f spans.jsonl",
    "echo '{\"trace_id\": \"0af7651916cd43dd8448eb211c80319c\", \"span_id\": \"b7ad6b7169203331\", \"name\": \"answer\", \"kind\": "
    "\"SPAN_KIND_AGENT\", \"start_ns\": '$(date +%s%N)', \"end_ns\": '$(date +%s%N)'}' | forgectl trace ingest -f -",
    NULL};
static const char *const score_examples[] = {
    "forgectl trace score --trace 0af7651916cd43dd8448eb211c80319c --name helpfulness --number 0.9",
    "forgectl trace score --span 0af7651916cd43dd8448eb211c80319c/b7ad6b7169203331 --name tone --category friendly --source model --author "
    "judge-v3",
    NULL};
static const char *const scores_examples[] = {"forgectl trace scores --name helpfulness --since 7d",
                                              "forgectl trace scores --trace 0af7651916cd43dd8448eb211c80319c --history", NULL};
static const char *const delete_score_examples[] = {
    "forgectl trace delete-score $(forgectl trace scores --name tone -o name --page-size 1) --yes", NULL};
static const char *const delete_examples[] = {"forgectl trace delete 0af7651916cd43dd8448eb211c80319c --yes", NULL};
static const char *const retention_examples[] = {"forgectl trace retention 30 --project checkout", "forgectl trace retention 0", NULL};

const struct cli_command tree_trace[] = {
    {.name = "show",
     .summary = "Show a trace as a waterfall: its spans, how long they took and what they cost",
     .arguments = "<trace id>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description =
         "Each span stands below its parent with a bar along the time of the trace. Below it: what went wrong (!), its scores (=)\n"
         "and with --full its input and output, control characters written out. Spans whose parent is not there (orphan) and spans\n"
         "that are their own ancestor (cycle) stand below the root. Scores of spans are left out of traces with over 1,000 spans.",
     .options = show_options,
     .examples = show_examples,
     .run = command_trace_show},
    {.name = "list",
     .summary = "List traces, newest first",
     .options = list_options,
     .examples = list_examples,
     .run = command_action,
     .action = &trace_list},
    {.name = "stats",
     .summary = "Show counts, errors, percentiles of duration, tokens, cost and mean scores",
     .description =
         "Of traces; with --group-by of the spans that name a model or prompt. Of the last 24 hours unless --since says otherwise.",
     .options = stats_options,
     .examples = stats_examples,
     .run = command_action,
     .action = &trace_stats},
    {.name = "ingest",
     .summary = "Store spans",
     .description =
         "Each line of the file is a span, with the fields that forgectl describe Span shows; input, output and parameters may be\n"
         "objects or lists. What is stored already stays as it is, so that an interrupted command is simply repeated.",
     .options = ingest_options,
     .examples = ingest_examples,
     .run = command_trace_ingest},
    {.name = "score",
     .summary = "Record what somebody says about a trace, a span, a session or an execution",
     .description = "A score with the same target, name and author takes the place of the one before, which goes to the history.",
     .options = score_options,
     .examples = score_examples,
     .run = command_action,
     .action = &trace_score},
    {.name = "scores",
     .summary = "List scores, newest first",
     .options = scores_options,
     .examples = scores_examples,
     .run = command_action,
     .action = &trace_scores},
    {.name = "delete-score",
     .summary = "Delete a score and its history",
     .arguments = "<score id>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = delete_score_options,
     .examples = delete_score_examples,
     .run = command_action,
     .action = &trace_delete_score},
    {.name = "delete",
     .summary = "Delete a trace with its spans; scores and violations that name it stay",
     .arguments = "<trace id>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = delete_options,
     .examples = delete_examples,
     .run = command_action,
     .action = &trace_delete},
    {.name = "retention",
     .summary = "Set how many days the traces of a project are kept; 0 = the server's limit",
     .arguments = "<days>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = retention_options,
     .examples = retention_examples,
     .run = command_action,
     .action = &trace_retention},
    {.name = NULL}};

/* ---- session ---- */

static const struct output_column session_columns[] = {{"SESSION", "session_id"},
                                                       {"USER", "user_id"},
                                                       {"FIRST", "start_time"},
                                                       {"LAST", "end_time"},
                                                       {"TRACES", "trace_count"},
                                                       {"ERRORS", "error_trace_count"},
                                                       {"TOKENS", "usage:tokens"},
                                                       {"COST", "cost_micros:micros"},
                                                       {NULL, NULL}};
static const struct cli_option session_options[] = {
    RANGE_OPTIONS,
    {.name = "session", .value = "ID", .help = "only this session", .field = "session_id"},
    {.name = "user", .value = "ID", .help = "only traces for this user count", .field = "user_id"},
    PAGE_OPTIONS,
    PROJECT_OPTION,
    {.name = NULL}};
static const struct cli_action session_list = {.method = FORGE_METHOD_TRACE_LIST_SESSIONS,
                                               .needs_project = true,
                                               .list = "sessions",
                                               .columns = session_columns,
                                               .name = "session_id"};
static const char *const session_examples[] = {"forgectl session list --since 1d", "forgectl session list --user u-42", NULL};

const struct cli_command tree_session[] = {{.name = "list",
                                            .summary = "List sessions, the one with the newest trace first",
                                            .description = "The traces of one: forgectl trace list --session ID.",
                                            .options = session_options,
                                            .examples = session_examples,
                                            .run = command_action,
                                            .action = &session_list},
                                           {.name = NULL}};
