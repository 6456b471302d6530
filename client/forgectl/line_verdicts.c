#include "line_verdicts.h"

#include "output.h"

#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

enum { WHERE_SIZE = 4352 /* a path and a number */, TITLE_WIDTH = 12, VERDICTS = 3 };

static size_t sent(const struct line_verdicts *verdicts)
{
    return verdicts->accepted + verdicts->duplicates + verdicts->rejected;
}

/* ---- line by line ---- */

static void clear_progress(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

void line_verdicts_show_progress(const struct line_verdicts *verdicts)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%zu %s sent", sent(verdicts), verdicts->what);
}

static void reject(struct line_verdicts *verdicts, int code)
{
    verdicts->rejected++;
    if (verdicts->rejection == CLI_OK)
        verdicts->rejection = code;
}

void line_verdicts_refuse(struct line_verdicts *verdicts, size_t line, const char *why)
{
    clear_progress();
    reject(verdicts, cli_fail(CLI_FAILED, "%s:%zu: %s", verdicts->path, line, why));
}

Forge__V1__ItemOutcome line_verdicts_take(struct line_verdicts *verdicts, size_t line, const Forge__V1__ItemVerdict *verdict)
{
    Forge__V1__ItemOutcome outcome = verdict ? verdict->outcome : FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_UNSPECIFIED;
    if (outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED) {
        char where[WHERE_SIZE];
        snprintf(where, sizeof where, "%s:%zu: ", verdicts->path, line);
        clear_progress();
        reject(verdicts, cli_print_verdict(where, verdict));
    }
    verdicts->accepted += outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED;
    verdicts->duplicates += outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_DUPLICATE;
    return outcome;
}

/* ---- all of them ---- */

static bool add_counts(json_t *object, const struct line_count *counts)
{
    bool ok = object != NULL;
    for (; ok && counts->name; counts++)
        ok = json_object_set_new(object, counts->name, json_integer((json_int_t)counts->count)) == 0;
    return ok;
}

static int print_data(struct cli *cli, const struct line_count *counts, const struct line_count *more)
{
    json_t *object = json_object();
    char *text = add_counts(object, counts) && add_counts(object, more) ? json_dumps(object, JSON_INDENT(2)) : NULL;
    bool ok = text != NULL;
    if (text && cli->format == CLI_FORMAT_YAML)
        ok = yaml_print_json(text, stdout);
    else if (text)
        printf("%s\n", text);
    free(text);
    json_decref(object);
    return ok ? CLI_OK : cli_fail(CLI_FAILED, "cannot print the answer");
}

static void print_lines(const struct line_count *counts)
{
    for (; counts->name; counts++)
        printf("%-*s%zu\n", TITLE_WIDTH, counts->title, counts->count);
}

static int print_counts(struct cli *cli, const struct line_verdicts *verdicts, const struct line_count *more, const char *name)
{
    const struct line_count counts[VERDICTS + 1] = {{"accepted", "Accepted", verdicts->accepted},
                                                    {"duplicates", "Duplicates", verdicts->duplicates},
                                                    {"rejected", "Rejected", verdicts->rejected},
                                                    {NULL, NULL, 0}};
    if (cli->format == CLI_FORMAT_JSON || cli->format == CLI_FORMAT_YAML)
        return print_data(cli, counts, more);
    if (cli->format == CLI_FORMAT_NAME) {
        printf("%s\n", name);
        return CLI_OK;
    }
    print_lines(counts);
    print_lines(more);
    return CLI_OK;
}

int line_verdicts_finish(struct cli *cli, const struct line_verdicts *verdicts, int code, const struct line_count *more, const char *name)
{
    clear_progress();
    if (code == CLI_OK && sent(verdicts) == 0)
        return cli_fail(CLI_FAILED, "%s has no %s", verdicts->path, verdicts->what);
    if (code == CLI_OK)
        code = print_counts(cli, verdicts, more, name);
    else if (verdicts->accepted > 0)
        fprintf(stderr, "%zu %s were added before; the same command adds the rest.\n", verdicts->accepted, verdicts->what);
    return code == CLI_OK ? verdicts->rejection : code;
}
