/* trace show and trace ingest: what is more than one call. */
#include "json_lines.h"
#include "line_verdicts.h"
#include "resolve.h"
#include "span_batch.h"
#include "span_scores.h"
#include "view.h"

#include <stdlib.h>
#include <string.h>

enum {
    PAGE = 1000,
    SCORED_SPANS_MAX = 1000, /* each costs a call */
    ARENA_MAX = 256 << 20,   /* what is printed of the trace, or of one span */
    PAGES_FIRST = 8
};

_Static_assert((int)JSON_LINES_BATCH <= (int)SPAN_BATCH, "a batch of lines is one of spans");

/* ---- show ---- */

struct showing {
    struct cli *cli;
    Forge__V1__GetTraceRequest request;
    struct view_waterfall waterfall;
    struct forge_arena arena; /* of what is being printed */
    bool has_begun, has_span_scores;
};

static const Forge__V1__GetTraceResponse *page_of(const ProtobufCMessage *reply)
{
    return (const Forge__V1__GetTraceResponse *)reply;
}

/* The next page of spans; behind the last one the request's page_token is empty again. */
static int next_page(struct showing *showing, ProtobufCMessage **out_reply)
{
    struct cli *cli = showing->cli;
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_TRACE_GET], &showing->request.base, out_reply);
    if (code == CLI_OK)
        showing->request.page_token = forge_arena_strdup(&cli->arena, page_of(*out_reply)->next_page_token);
    return code == CLI_OK && !showing->request.page_token ? cli_fail(CLI_FAILED, "no memory") : code;
}

static int print_head(struct showing *showing, const Forge__V1__GetTraceResponse *page)
{
    Forge__V1__ListScoresRequest request = FORGE__V1__LIST_SCORES_REQUEST__INIT;
    ProtobufCMessage *reply;
    request.project_id = showing->request.project_id;
    request.page_size = PAGE;
    request.target_case = FORGE__V1__LIST_SCORES_REQUEST__TARGET_TRACE_ID;
    request.trace_id = showing->request.trace_id;
    int code = cli_call(showing->cli, &forge_methods[FORGE_METHOD_TRACE_LIST_SCORES], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    const Forge__V1__ListScoresResponse *scores = (const Forge__V1__ListScoresResponse *)reply;
    const struct terminal *terminal = &showing->cli->terminal;
    view_trace(stdout, terminal, &showing->arena, page->trace, scores->scores, scores->n_scores);
    view_waterfall_begin(stdout, terminal, page, cli_option(showing->cli, "full") != NULL, &showing->waterfall);
    cli_free(reply);
    showing->has_begun = true;
    showing->has_span_scores = page->trace->span_count <= SCORED_SPANS_MAX;
    return CLI_OK;
}

static void print_spans(struct showing *showing, const Forge__V1__GetTraceResponse *page, ProtobufCMessage *const *replies)
{
    for (size_t i = 0; i < page->n_spans; i++) {
        const Forge__V1__ListScoresResponse *scores = (const Forge__V1__ListScoresResponse *)replies[i];
        view_waterfall_span(stdout, &showing->cli->terminal, &showing->arena, &showing->waterfall, page->spans[i],
                            scores ? scores->scores : NULL, scores ? scores->n_scores : 0);
        forge_arena_reset(&showing->arena);
    }
}

static int print_page(struct showing *showing, const Forge__V1__GetTraceResponse *page)
{
    int code = showing->has_begun ? CLI_OK : print_head(showing, page);
    ProtobufCMessage **replies = code == CLI_OK ? calloc(page->n_spans + 1, sizeof(*replies)) : NULL;
    if (!replies)
        return code == CLI_OK ? cli_fail(CLI_FAILED, "no memory") : code;
    if (showing->has_span_scores)
        code = span_scores_list(showing->cli, showing->request.project_id, page, replies);
    if (code == CLI_OK)
        print_spans(showing, page, replies);
    for (size_t i = 0; i < page->n_spans; i++)
        cli_free(replies[i]);
    free(replies);
    return code;
}

/* Page by page: what was printed is let go. */
static int show_waterfall(struct showing *showing)
{
    int code;
    forge_arena_init(&showing->arena, ARENA_MAX, NULL);
    do {
        ProtobufCMessage *reply = NULL;
        code = next_page(showing, &reply);
        if (code == CLI_OK)
            code = print_page(showing, page_of(reply));
        cli_free(reply);
    } while (code == CLI_OK && *showing->request.page_token);
    forge_arena_done(&showing->arena);
    if (code == CLI_OK && !showing->has_span_scores)
        fprintf(stderr, "Scores of spans are left out beyond %d spans: forgectl trace scores --span %s/SPAN\n", SCORED_SPANS_MAX,
                showing->request.trace_id);
    return code;
}

/* All pages as one answer. */
struct pages {
    ProtobufCMessage **replies;
    size_t count, capacity, spans;
};

static bool keep_page(struct pages *pages, ProtobufCMessage *reply)
{
    if (pages->count == pages->capacity) {
        size_t capacity = pages->capacity ? 2 * pages->capacity : PAGES_FIRST;
        ProtobufCMessage **grown = realloc(pages->replies, capacity * sizeof(*grown));
        if (!grown)
            return false;
        pages->replies = grown;
        pages->capacity = capacity;
    }
    pages->replies[pages->count++] = reply;
    pages->spans += page_of(reply)->n_spans;
    return true;
}

static int print_pages(struct cli *cli, const struct pages *pages)
{
    static char none[] = "";
    Forge__V1__GetTraceResponse whole = *page_of(pages->replies[0]);
    whole.spans = calloc(pages->spans + 1, sizeof(*whole.spans));
    whole.n_spans = 0;
    whole.next_page_token = none;
    if (!whole.spans)
        return cli_fail(CLI_FAILED, "no memory");
    for (size_t i = 0; i < pages->count; i++) {
        const Forge__V1__GetTraceResponse *page = page_of(pages->replies[i]);
        if (page->n_spans)
            memcpy(whole.spans + whole.n_spans, page->spans, page->n_spans * sizeof(*whole.spans));
        whole.n_spans += page->n_spans;
    }
    int code = output_message(cli, &whole.base);
    free(whole.spans);
    return code;
}

static int show_data(struct showing *showing)
{
    struct pages pages = {.count = 0};
    int code;
    do {
        ProtobufCMessage *reply = NULL;
        code = next_page(showing, &reply);
        if (code == CLI_OK && !keep_page(&pages, reply)) {
            cli_free(reply);
            code = cli_fail(CLI_FAILED, "no memory");
        }
    } while (code == CLI_OK && *showing->request.page_token);
    if (code == CLI_OK)
        code = print_pages(showing->cli, &pages);
    for (size_t i = 0; i < pages.count; i++)
        cli_free(pages.replies[i]);
    free(pages.replies);
    return code;
}

static int show_name(struct showing *showing)
{
    ProtobufCMessage *reply;
    int code = next_page(showing, &reply);
    if (code != CLI_OK)
        return code;
    printf("%s\n", page_of(reply)->trace->trace_id);
    cli_free(reply);
    return CLI_OK;
}

int command_trace_show(struct cli *cli)
{
    struct showing showing = {.cli = cli, .request = FORGE__V1__GET_TRACE_REQUEST__INIT};
    int code = resolve_project_id(cli, &showing.request.project_id);
    if (code != CLI_OK)
        return code;
    showing.request.page_size = PAGE;
    showing.request.trace_id = forge_arena_strdup(&cli->arena, cli->positionals[0]);
    if (cli_option(cli, "full"))
        showing.request.view = FORGE__V1__TRACE_VIEW__TRACE_VIEW_FULL;
    if (cli->format == CLI_FORMAT_NAME)
        return show_name(&showing);
    return cli->format == CLI_FORMAT_TABLE ? show_waterfall(&showing) : show_data(&showing);
}

/* ---- ingest ---- */

struct ingesting {
    struct line_verdicts verdicts;
    struct span_sender sender;
    size_t flagged, masked, blocked;
};

static int refuse_line(void *context, size_t line, const char *why)
{
    struct ingesting *ingesting = context;
    line_verdicts_refuse(&ingesting->verdicts, line, why);
    return CLI_OK;
}

static void take_verdict(void *context, size_t line, const Forge__V1__SpanVerdict *span)
{
    struct ingesting *ingesting = context;
    if (line_verdicts_take(&ingesting->verdicts, line, span->verdict) != FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED)
        return;
    ingesting->flagged += span->policy_action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG;
    ingesting->masked += span->policy_action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_MASK;
    ingesting->blocked += span->policy_action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK;
}

static int send_batch(void *context, const struct json_lines_batch *batch)
{
    struct ingesting *ingesting = context;
    struct span_batch spans = {.count = batch->count};
    for (size_t i = 0; i < batch->count; i++)
        spans.spans[i] = (Forge__V1__Span *)batch->messages[i];
    memcpy(spans.places, batch->lines, batch->count * sizeof spans.places[0]);
    int code = span_batch_send(&ingesting->sender, &spans, take_verdict, ingesting);
    if (code == CLI_OK)
        line_verdicts_show_progress(&ingesting->verdicts);
    return code;
}

int command_trace_ingest(struct cli *cli)
{
    static const char *const texts[] = {"input", "output", "parameters", NULL};
    const char *path = cli_option(cli, "file");
    struct ingesting ingesting = {.verdicts = {.path = path, .what = "spans"}, .sender = {.cli = cli}};
    const struct json_lines lines = {
        .type = &forge__v1__span__descriptor, .texts = texts, .send = send_batch, .refuse = refuse_line, .context = &ingesting};
    if (!path)
        return cli_fail(CLI_USAGE, "which spans? --file PATH (- for standard input)");
    int code = resolve_project_id(cli, &ingesting.sender.project_id);
    if (code != CLI_OK)
        return code;
    code = json_lines_read(cli, path, &lines);
    const struct line_count more[] = {{"flagged", "Flagged", ingesting.flagged},
                                      {"masked", "Masked", ingesting.masked},
                                      {"blocked", "Blocked", ingesting.blocked},
                                      {NULL, NULL, 0}};
    return line_verdicts_finish(cli, &ingesting.verdicts, code, more, ingesting.sender.project_id);
}
