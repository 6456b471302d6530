/* The plan, for people and for programs. */
#include "apply.h"
#include "output.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char *const action_names[] = {"unchanged", "create", "update"};

/* The name of what an object lies in, a project or a provider; NULL for kinds that lie in none. */
static const char *scope_of(const struct apply_object *object)
{
    return object->references[0] ? object->references[0]->name : NULL;
}

static bool add_text(json_t *row, const char *name, const char *text)
{
    return !text || !*text || json_object_set_new(row, name, json_string(text)) == 0;
}

static bool add_row(json_t *rows, const struct apply_object *object)
{
    json_t *row = json_object();
    if (row && add_text(row, "action", action_names[object->action]) && add_text(row, "kind", object->kind->name) &&
        (!scope_of(object) || add_text(row, object->kind->references[0].field, scope_of(object))) && add_text(row, "name", object->name) &&
        add_text(row, "details", object->details))
        return json_array_append_new(rows, row) == 0;
    json_decref(row);
    return false;
}

static int print_data(struct apply *apply)
{
    json_t *rows = json_array();
    bool ok = rows != NULL;
    for (const struct apply_object *object = apply->objects; ok && object; object = object->next)
        if (object->manifest)
            ok = add_row(rows, object);
    json_t *plan = ok ? json_pack("{s:O}", "plan", rows) : NULL;
    char *text = plan ? json_dumps(plan, JSON_INDENT(2)) : NULL;
    ok = text != NULL;
    if (text && apply->cli->format == CLI_FORMAT_YAML)
        ok = yaml_print_json(text, stdout);
    else if (text)
        printf("%s\n", text);
    free(text);
    json_decref(plan);
    json_decref(rows);
    return ok ? CLI_OK : cli_fail(CLI_FAILED, "cannot print the plan");
}

static void print_line(const struct apply_object *object)
{
    static const char signs[] = {' ', '+', '~'};
    const char *scope = scope_of(object), *details = object->details;
    printf("%c %s %s%s%s%s%s%s\n", signs[object->action], object->kind->name, object->name, scope ? " in " : "", scope ? scope : "",
           *details ? " (" : "", details, *details ? ")" : "");
}

int apply_print(struct apply *apply)
{
    size_t counts[3] = {0};
    if (apply->cli->format == CLI_FORMAT_JSON || apply->cli->format == CLI_FORMAT_YAML)
        return print_data(apply);
    for (const struct apply_object *object = apply->objects; object; object = object->next) {
        if (!object->manifest)
            continue;
        counts[object->action]++;
        if (apply->cli->format == CLI_FORMAT_TABLE)
            print_line(object);
        else if (object->action != APPLY_UNCHANGED)
            printf("%s/%s\n", object->kind->name, object->name);
    }
    if (apply->cli->format == CLI_FORMAT_TABLE)
        printf("%zu to create, %zu to update, %zu unchanged\n", counts[APPLY_CREATE], counts[APPLY_UPDATE], counts[APPLY_UNCHANGED]);
    fflush(stdout);
    return CLI_OK;
}
