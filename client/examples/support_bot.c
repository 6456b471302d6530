/* A support bot in miniature: for each question it reads it takes the team's prompt from a cache in the process and prints which version
 * answers whom. A moved label is seen within a second; without the server it goes on with what it has, also after a restart.
 *
 *   support_bot <project id> <prompt name> <label> <snapshot file> < questions      each line: <user> <question>
 *
 * Environment: FORGE_SERVER (default localhost:7443), FORGE_TOKEN, FORGE_CA (PEM file of the server's authority; unset = the system's).
 * Build it against an installed libforge with
 *
 *   cc support_bot.c $(pkg-config --cflags --libs forge) -o support_bot */
#include "forge/forge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 4096, GET_TIMEOUT_MS = 2000 };

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

/* The first word of the line is whom a split decides for: the same user always gets the same version. */
static int answer(struct forge_prompt_cache *cache, char *const arguments[], char *line)
{
    char *question = line + strcspn(line, " \n");
    if (*question)
        *question++ = '\0';
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    request.project_id = arguments[1];
    request.name = arguments[2];
    request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL;
    request.label = arguments[3];
    request.subject = line;
    struct forge_cached_prompt cached;
    struct forge_error error;
    if (forge_prompt_cache_get(cache, GET_TIMEOUT_MS, &request, &cached, &error) != FORGE_OK)
        return failed("cannot get the prompt", &error);
    printf("%s: version %d%s: %s\n", line, cached.prompt->version, cached.is_stale ? " (stale)" : "", question);
    forge_cached_prompt_release(&cached);
    return 0;
}

static int run(struct forge_channel *channel, char *const arguments[])
{
    char line[LINE_MAX_BYTES];
    const struct forge_prompt_cache_options options = {.snapshot_file = arguments[4]};
    struct forge_prompt_cache *cache;
    struct forge_error error;
    if (forge_prompt_cache_open(channel, &options, &cache, &error) != FORGE_OK)
        return failed("cannot open the cache", &error);
    int status = 0;
    if (forge_prompt_cache_watch(cache, arguments[1], &error) != FORGE_OK)
        status = failed("cannot watch the project", &error);
    while (!status && fgets(line, sizeof line, stdin))
        status = answer(cache, arguments, line);
    forge_prompt_cache_close(cache); /* before the channel */
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
