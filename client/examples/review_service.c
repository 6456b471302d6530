/* A code-review service in miniature: for each change it reads it asks PromptForge for the team's review prompt, filled with the
 * change, and prints what it would send to a model.
 *
 *   review_service <project id> <prompt name> [language] < change.diff
 *
 * Environment: FORGE_SERVER (default localhost:7443), FORGE_TOKEN, FORGE_CA (PEM file of the server's authority; unset = the
 * system's). The prompt must use the variables {{language}} and {{diff}}; whoever owns it changes its text without a release of
 * this service. Build it against an installed libforge with
 *
 *   cc review_service.c $(pkg-config --cflags --libs forge) -o review_service */
#include "forge/forge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHANGE_BYTES_MAX = 1 << 20, RENDER_TIMEOUT_MS = 2000 };

static const char *setting(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

/* Everything the caller needs to act on stands in the error: what is wrong, with which field, and whether to try again. */
static void print_error(const char *doing, const struct forge_error *error)
{
    fprintf(stderr, "%s: %s: %s\n", doing, forge_code_name(error->code), error->message);
    for (const struct forge_violation *violation = error->violations; violation; violation = violation->next)
        fprintf(stderr, "  %s: %s\n", violation->field, violation->description);
    if (error->retry_after_ms)
        fprintf(stderr, "  try again in %u ms\n", error->retry_after_ms);
}

/* One channel for the whole process: it connects in the background, keeps the connections and is safe in every thread. */
static struct forge_channel *connect_to_forge(void)
{
    const struct forge_channel_options options = {
        .addresses = setting("FORGE_SERVER", "localhost:7443"),
        .token = setting("FORGE_TOKEN", NULL),
        .ca_file = setting("FORGE_CA", NULL),
        .client_info = "review-service/1.0",
    };
    struct forge_channel *channel;
    struct forge_error error;
    if (forge_channel_open(&options, &channel, &error) == FORGE_OK)
        return channel;
    print_error("cannot open a channel", &error);
    return NULL;
}

static char *read_change(FILE *input)
{
    char *change = malloc(CHANGE_BYTES_MAX);
    size_t size = change ? fread(change, 1, CHANGE_BYTES_MAX, input) : 0;
    if (size == 0 || size == CHANGE_BYTES_MAX) {
        fprintf(stderr, "the change must have 1 to %d bytes\n", CHANGE_BYTES_MAX - 1);
        free(change);
        return NULL;
    }
    change[size] = '\0';
    return change;
}

/* Asks for the prompt's current version with its variables filled in. The library repeats the call where that is safe. */
static int review(struct forge_channel *channel, char *project_id, char *prompt_name, char *language, char *change)
{
    Forge__V1__VariableValue variables[] = {FORGE__V1__VARIABLE_VALUE__INIT, FORGE__V1__VARIABLE_VALUE__INIT};
    Forge__V1__VariableValue *pointers[] = {&variables[0], &variables[1]};
    char language_name[] = "language", diff_name[] = "diff";
    variables[0].name = language_name;
    variables[0].value = language;
    variables[1].name = diff_name;
    variables[1].value = change;

    Forge__V1__GetPromptRequest prompt = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    prompt.project_id = project_id;
    prompt.name = prompt_name;
    Forge__V1__RenderPromptRequest request = FORGE__V1__RENDER_PROMPT_REQUEST__INIT;
    request.prompt = &prompt;
    request.n_variables = 2;
    request.variables = pointers;

    const struct forge_call_options options = {.timeout_ms = RENDER_TIMEOUT_MS};
    Forge__V1__RenderPromptResponse *rendered;
    struct forge_error error;
    if (forge_prompt_render(channel, &options, &request, &rendered, &error) != FORGE_OK) {
        print_error("cannot render the prompt", &error);
        forge_error_free(&error);
        return 1;
    }
    printf("--- %s version %d\n", prompt_name, rendered->version);
    if (*rendered->system_prompt)
        printf("--- system\n%s\n", rendered->system_prompt);
    printf("--- user\n%s\n", rendered->content);
    forge__v1__render_prompt_response__free_unpacked(rendered, NULL);
    return 0;
}

int main(int argc, char **argv)
{
    char any_language[] = "any";
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: review_service <project id> <prompt name> [language] < change.diff\n");
        return 2;
    }
    char *change = read_change(stdin);
    struct forge_channel *channel = change ? connect_to_forge() : NULL;
    int status = channel ? review(channel, argv[1], argv[2], argc == 4 ? argv[3] : any_language, change) : 1;
    forge_channel_close(channel);
    free(change);
    return status;
}
