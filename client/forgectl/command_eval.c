/* eval add and eval compare: what is more than one call, or more than a table. */
#include "json_lines.h"
#include "line_verdicts.h"
#include "output.h"
#include "resolve.h"
#include "result_batch.h"
#include "view.h"

#include <stdlib.h>
#include <string.h>

_Static_assert((int)JSON_LINES_BATCH <= (int)RESULT_BATCH, "a batch of lines is one of results");

/* ---- add ---- */

struct adding {
    struct cli *cli;
    struct line_verdicts verdicts;
    size_t passed, failed;
};

static int refuse_line(void *context, size_t line, const char *why)
{
    struct adding *adding = context;
    line_verdicts_refuse(&adding->verdicts, line, why);
    return CLI_OK;
}

static void take_verdict(void *context, size_t line, const Forge__V1__AddResultsVerdict *result)
{
    struct adding *adding = context;
    if (line_verdicts_take(&adding->verdicts, line, result->verdict) == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED)
        return;
    adding->passed += result->passed ? 1 : 0;
    adding->failed += result->passed ? 0 : 1;
}

static int send_batch(void *context, const struct json_lines_batch *batch)
{
    struct adding *adding = context;
    struct result_batch results = {.count = batch->count};
    memcpy(results.results, batch->messages, batch->count * sizeof results.results[0]);
    memcpy(results.places, batch->lines, batch->count * sizeof results.places[0]);
    int code = result_batch_send(adding->cli, adding->cli->positionals[0], &results, take_verdict, adding);
    if (code == CLI_OK)
        line_verdicts_show_progress(&adding->verdicts);
    return code;
}

int command_eval_add(struct cli *cli)
{
    static const char *const texts[] = {"output", NULL};
    const char *path = cli_option(cli, "file");
    struct adding adding = {.cli = cli, .verdicts = {.path = path, .what = "results"}};
    const struct json_lines lines = {
        .type = &forge__v1__evaluation_result__descriptor, .texts = texts, .send = send_batch, .refuse = refuse_line, .context = &adding};
    if (!path)
        return cli_fail(CLI_USAGE, "which results? --file PATH (- for standard input)");
    if (cli_option(cli, "request-id"))
        return cli_fail(CLI_USAGE, "eval add may make many calls: --request-id is of no use; add again instead");
    int code = json_lines_read(cli, path, &lines);
    const struct line_count more[] = {{"passed", "Passed", adding.passed}, {"failed", "Failed", adding.failed}, {NULL, NULL, 0}};
    return line_verdicts_finish(cli, &adding.verdicts, code, more, cli->positionals[0]);
}

/* ---- compare ---- */

static const struct output_column comparison_columns[] = {
    {"ITEM", "item_key"}, {"CHANGE", "change"}, {"BASELINE", "baseline_score"}, {"CANDIDATE", "candidate_score"}, {NULL, NULL}};

static bool take_alpha(const struct cli *cli, double *out)
{
    const char *text = cli_option(cli, "alpha");
    char *end;
    *out = text ? strtod(text, &end) : VIEW_ALPHA;
    if (!text || (*text && !*end && *out > 0 && *out < 1))
        return true;
    cli_fail(CLI_USAGE, "--alpha must be a number over 0 and under 1, not \"%s\"", text);
    return false;
}

static bool take_fail_on(const struct cli *cli, bool *out_broken, bool *out_worse)
{
    const char *text = cli_option(cli, "fail-on");
    *out_broken = text && !strcmp(text, "broken");
    *out_worse = text && !strcmp(text, "worse");
    if (!text || *out_broken || *out_worse)
        return true;
    cli_fail(CLI_USAGE, "--fail-on must be broken or worse, not \"%s\"", text);
    return false;
}

static bool take_page(struct cli *cli, Forge__V1__CompareEvaluationsRequest *request)
{
    static Forge__V1__ItemChange changed[] = {
        FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_FIXED,
        FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_BROKEN,
        FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_ONLY_BASELINE,
        FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_ONLY_CANDIDATE,
    };
    const char *token = cli_option(cli, "page-token");
    long size;
    if (!cli_option_number(cli, "page-size", 1, 1000, 0, &size))
        return false;
    request->page_size = (int32_t)size;
    request->page_token = forge_arena_strdup(&cli->arena, token ? token : "");
    request->changes = changed;
    request->n_changes = cli_option(cli, "all") ? 0 : sizeof changed / sizeof changed[0];
    return true;
}

static int print_comparison(struct cli *cli, const Forge__V1__CompareEvaluationsResponse *reply, double alpha)
{
    if (cli->format == CLI_FORMAT_TABLE)
        view_comparison(stdout, &cli->terminal, &cli->arena, reply, alpha);
    else {
        int code = output_list(cli, &reply->base, "items", comparison_columns, "item_key");
        if (code != CLI_OK)
            return code;
    }
    resolve_next_page(cli, reply->next_page_token);
    return CLI_OK;
}

int command_eval_compare(struct cli *cli)
{
    Forge__V1__CompareEvaluationsRequest request = FORGE__V1__COMPARE_EVALUATIONS_REQUEST__INIT;
    ProtobufCMessage *message;
    double alpha;
    bool on_broken, on_worse;
    if (!take_alpha(cli, &alpha) || !take_fail_on(cli, &on_broken, &on_worse) || !take_page(cli, &request))
        return CLI_USAGE;
    request.baseline_id = forge_arena_strdup(&cli->arena, cli->positionals[0]);
    request.candidate_id = forge_arena_strdup(&cli->arena, cli->positionals[1]);
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_EVALUATION_COMPARE], &request.base, &message);
    if (code != CLI_OK)
        return code;
    const Forge__V1__CompareEvaluationsResponse *reply = (const Forge__V1__CompareEvaluationsResponse *)message;
    code = print_comparison(cli, reply, alpha);
    if (code == CLI_OK && on_broken && reply->broken_count > 0)
        code = cli_fail(CLI_FAILED, "%lld items broke", (long long)reply->broken_count);
    if (code == CLI_OK && on_worse && view_comparison_is_worse(reply, alpha))
        code = cli_fail(CLI_FAILED, "the candidate is significantly worse");
    cli_free(message);
    return code;
}
