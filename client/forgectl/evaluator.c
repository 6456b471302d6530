#include "evaluator.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum value_type { VALUE_TEXT, VALUE_LIST, VALUE_WHOLE, VALUE_DECIMAL, VALUE_FILE };

/* What stands behind "=": the one thing that is said of an evaluator of this kind most often. */
struct short_form {
    const char *kind;
    const char *field; /* of its configuration; NULL = no value */
    enum value_type type;
    bool is_required;
    bool is_evaluators; /* the field is one of Evaluator */
};

static const struct short_form short_forms[] = {
    {.kind = "exact"},
    {.kind = "contains", .field = "values", .type = VALUE_LIST},
    {.kind = "regex", .field = "pattern", .type = VALUE_TEXT, .is_required = true},
    {.kind = "numeric", .field = "absolute_tolerance", .type = VALUE_DECIMAL},
    {.kind = "levenshtein", .field = "threshold", .type = VALUE_DECIMAL, .is_evaluators = true},
    {.kind = "json_valid"},
    {.kind = "json_schema", .field = "schema", .type = VALUE_FILE, .is_required = true},
    {.kind = "latency", .field = "latency_max_ms", .type = VALUE_WHOLE, .is_required = true},
    {.kind = "cost", .field = "cost_max_micros", .type = VALUE_WHOLE, .is_required = true},
    {.kind = "external", .field = "description", .type = VALUE_TEXT},
};
enum { SHORT_FORMS = sizeof short_forms / sizeof short_forms[0] };

static const struct short_form *find_short_form(const char *text, size_t length)
{
    for (size_t i = 0; i < SHORT_FORMS; i++)
        if (strlen(short_forms[i].kind) == length && !strncmp(short_forms[i].kind, text, length))
            return &short_forms[i];
    return NULL;
}

static int unknown_kind(struct cli *cli, const char *text)
{
    const char *kinds = "";
    for (size_t i = 0; i < SHORT_FORMS && kinds; i++)
        kinds = forge_arena_printf(&cli->arena, "%s%s%s", kinds, i ? ", " : "", short_forms[i].kind);
    return cli_fail(CLI_USAGE, "--evaluator must be one of %s, not \"%s\"", kinds ? kinds : "", text);
}

/* NULL after printing what is wrong. */
static json_t *number_json(const struct short_form *form, const char *text)
{
    char *end;
    errno = 0;
    json_t *number = form->type == VALUE_WHOLE ? json_integer(strtoll(text, &end, 10)) : json_real(strtod(text, &end));
    if (number && *text && !*end && !errno)
        return number;
    json_decref(number);
    cli_fail(CLI_USAGE, "--evaluator %s: %s must be a %snumber, not \"%s\"", form->kind, form->field,
             form->type == VALUE_WHOLE ? "whole " : "", text);
    return NULL;
}

/* NULL after printing what is wrong. */
static json_t *value_json(struct cli *cli, const struct short_form *form, const char *text)
{
    size_t size;
    if (form->type == VALUE_WHOLE || form->type == VALUE_DECIMAL)
        return number_json(form, text);
    const char *content = form->type == VALUE_FILE ? cli_read_file(cli, text, &size) : text;
    json_t *value = content ? json_string(content) : NULL;
    if (content && !value)
        cli_fail(CLI_USAGE, "--evaluator %s: the text is not UTF-8", form->kind);
    return value && form->type == VALUE_LIST ? json_pack("[o]", value) : value;
}

int evaluator_take(struct cli *cli, const char *text, json_t **out)
{
    size_t length = strcspn(text, "=");
    const struct short_form *form = find_short_form(text, length);
    bool has_value = text[length] == '=';
    if (!form)
        return unknown_kind(cli, text);
    if (has_value && !form->field)
        return cli_fail(CLI_USAGE, "--evaluator %s takes no value", form->kind);
    if (!has_value && form->is_required)
        return cli_fail(CLI_USAGE, "--evaluator %s needs a value: %s=%s", form->kind, form->kind,
                        form->type == VALUE_FILE ? "FILE" : form->field);
    json_t *value = has_value ? value_json(cli, form, text + length + 1) : NULL, *config = json_object(), *evaluator = json_object();
    bool ok = value || !has_value;
    if (value)
        json_object_set_new(form->is_evaluators ? evaluator : config, form->field, value);
    json_object_set_new(evaluator, form->kind, config);
    if (ok)
        *out = evaluator;
    else
        json_decref(evaluator);
    return ok ? CLI_OK : form->type == VALUE_FILE ? CLI_FAILED : CLI_USAGE;
}
