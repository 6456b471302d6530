/* A support bot in miniature: for each question it reads it takes the team's prompt from a cache in the process and prints which version
 * answers whom. A moved label is seen within a second; without the server it goes on with what it has, also after a restart. Each answer is
 * a trace, which a buffer sends in the background.
 *
 *   support_bot <project id> <prompt name> <label> <snapshot file> < questions      each line: <user> <question>
 *
 * Environment: FORGE_SERVER (default localhost:7443), FORGE_TOKEN (scopes read and ingest), FORGE_CA (PEM file of the server's authority;
 * unset = the system's). Build it against an installed libforge with
 *
 *   cc support_bot.c $(pkg-config --cflags --libs forge) -o support_bot */
#include "forge/forge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 4096, GET_TIMEOUT_MS = 2000, CLOSE_TIMEOUT_MS = 5000 };

struct bot {
    char *const *arguments; /* of the program */
    struct forge_prompt_cache *cache;
    struct forge_span_buffer *spans;
};

static const char *setting(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static int failed(const char *doing, const struct forge_error *error)
{
    fprintf(stderr, "%s: %s: %s\n", doing, forge_code_name(error->code), error->message);
    return 1;
}

/* What happened, as a trace of one span. Handing it over waits for nobody. */
static void record(const struct bot *bot, const Forge__V1__Prompt *prompt, char *user, char *question, int64_t start_ns)
{
    char trace_id[FORGE_TRACE_ID_SIZE], span_id[FORGE_SPAN_ID_SIZE], name[] = "answer a question";
    forge_trace_id_make(trace_id);
    forge_span_id_make(span_id);
    Forge__V1__Span span = FORGE__V1__SPAN__INIT;
    span.trace_id = trace_id;
    span.span_id = span_id;
    span.name = name;
    span.kind = FORGE__V1__SPAN_KIND__SPAN_KIND_AGENT;
    span.start_ns = start_ns;
    span.end_ns = forge_now_ns();
    span.status = FORGE__V1__SPAN_STATUS__SPAN_STATUS_OK;
    span.input = question;
    span.user_id = user;
    span.prompt_id = prompt->id;
    span.prompt_version = prompt->version;
    span.prompt_label = bot->arguments[3];
    forge_span_buffer_add(bot->spans, &span); /* what is dropped is counted */
}

/* The first word of the line is whom a split decides for: the same user always gets the same version. */
static int answer(const struct bot *bot, char *line)
{
    int64_t start_ns = forge_now_ns();
    line[strcspn(line, "\n")] = '\0';
    char *question = line + strcspn(line, " ");
    if (*question)
        *question++ = '\0';
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    request.project_id = bot->arguments[1];
    request.name = bot->arguments[2];
    request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL;
    request.label = bot->arguments[3];
    request.subject = line;
    struct forge_cached_prompt cached;
    struct forge_error error;
    if (forge_prompt_cache_get(bot->cache, GET_TIMEOUT_MS, &request, &cached, &error) != FORGE_OK)
        return failed("cannot get the prompt", &error);
    printf("%s: version %d%s: %s\n", line, cached.prompt->version, cached.is_stale ? " (stale)" : "", question);
    record(bot, cached.prompt, line, question, start_ns);
    forge_cached_prompt_release(&cached);
    return 0;
}

static int answer_all(const struct bot *bot)
{
    char line[LINE_MAX_BYTES];
    struct forge_error error;
    int status = 0;
    if (forge_prompt_cache_watch(bot->cache, bot->arguments[1], &error) != FORGE_OK)
        return failed("cannot watch the project", &error);
    while (!status && fgets(line, sizeof line, stdin))
        status = answer(bot, line);
    return status;
}

static int close_spans(const struct bot *bot)
{
    struct forge_span_buffer_stats stats;
    forge_span_buffer_close(bot->spans, CLOSE_TIMEOUT_MS, &stats);
    uint64_t stored = stats.accepted + stats.duplicate;
    if (stored == stats.added)
        return 0;
    fprintf(stderr, "%llu of %llu spans were not stored\n", (unsigned long long)(stats.added - stored), (unsigned long long)stats.added);
    return 1;
}

static int run(struct forge_channel *channel, char *const arguments[])
{
    struct bot bot = {.arguments = arguments};
    const struct forge_prompt_cache_options cache_options = {.snapshot_file = arguments[4]};
    const struct forge_span_buffer_options span_options = {.project_id = arguments[1]};
    struct forge_error error;
    if (forge_prompt_cache_open(channel, &cache_options, &bot.cache, &error) != FORGE_OK)
        return failed("cannot open the cache", &error);
    int status = 1;
    if (forge_span_buffer_open(channel, &span_options, &bot.spans, &error) != FORGE_OK) {
        failed("cannot open the span buffer", &error);
    } else {
        status = answer_all(&bot);
        status |= close_spans(&bot);
    }
    forge_prompt_cache_close(bot.cache); /* both before the channel */
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: support_bot <project id> <prompt name> <label> <snapshot file> < questions\n");
        return 2;
    }
    const struct forge_channel_options options = {
        .addresses = setting("FORGE_SERVER", "localhost:7443"),
        .token = setting("FORGE_TOKEN", NULL),
        .ca_file = setting("FORGE_CA", NULL),
        .client_info = "support-bot/1.0",
    };
    struct forge_channel *channel;
    struct forge_error error;
    if (forge_channel_open(&options, &channel, &error) != FORGE_OK)
        return failed("cannot open a channel", &error);
    int status = run(channel, argv);
    forge_channel_close(channel);
    return status;
}
