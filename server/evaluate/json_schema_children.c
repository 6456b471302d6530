/* Applies the keywords that hold schemas: for the same value, for the elements of an array, for the members of an object. */
#include "evaluate/json_schema_private.h"
#include "wire/utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* --- the same value --- */

bool json_schema_check_all_of(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    for (size_t i = 0; i < rule->child_count; i++)
        if (!json_schema_check_node(validation, rule->children[i].node, value))
            return false;
    return true;
}

/* How many of the schemas fit, up to count_max. */
static size_t count_fitting(struct validation *validation, const struct schema_rule *rule, const json_t *value, size_t count_max)
{
    size_t count = 0;
    for (size_t i = 0; i < rule->child_count && count < count_max && validation->limit == NULL; i++)
        count += json_schema_fits_quietly(validation, rule->children[i].node, value);
    return count;
}

bool json_schema_check_any_of(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return count_fitting(validation, rule, value, 1) == 1 || json_schema_fail(validation, "must fit one of the schemas of anyOf");
}

bool json_schema_check_one_of(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    size_t count = count_fitting(validation, rule, value, 2);
    if (count == 1)
        return true;
    return json_schema_fail(validation, "must fit exactly one of the schemas of oneOf, and fits %s", count == 0 ? "none" : "several");
}

bool json_schema_check_not(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return !json_schema_fits_quietly(validation, rule->children[0].node, value) ||
           json_schema_fail(validation, "must not fit the schema of not");
}

/* Children: if, then, else; the latter two may have no schema. */
bool json_schema_check_if(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    bool fits = json_schema_fits_quietly(validation, rule->children[0].node, value);
    const struct schema_node *node = rule->children[fits ? 1 : 2].node;
    return node == NULL || json_schema_check_node(validation, node, value);
}

/* --- elements --- */

/* Element i has the schema of children[i] where "items" is a list, else children[0]; above the list, rest. */
bool json_schema_check_items(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    bool fits = true, is_list = json_is_array(rule->value);
    for (size_t i = 0; fits && json_is_array(value) && i < json_array_size(value); i++) {
        const struct schema_node *node = !is_list ? rule->children[0].node : i < rule->child_count ? rule->children[i].node : rule->rest;
        if (node == NULL)
            break;
        size_t before = json_path_enter_index(&validation->path, i);
        fits = json_schema_check_node(validation, node, json_array_get(value, i));
        json_path_leave(&validation->path, before);
    }
    return fits;
}

bool json_schema_check_contains(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    if (!json_is_array(value))
        return true;
    for (size_t i = 0; i < json_array_size(value) && validation->limit == NULL; i++)
        if (json_schema_fits_quietly(validation, rule->children[0].node, json_array_get(value, i)))
            return true;
    return json_schema_fail(validation, "must have an item that fits the schema of contains");
}

/* --- members --- */

static int compare_child(const void *name, const void *child)
{
    return strcmp(name, ((const struct schema_child *)child)->name);
}

/* Children: of "properties" by name, then of "patternProperties"; rest: "additionalProperties", for members that none of them takes. */
static bool check_member(struct validation *validation, const struct schema_rule *rule, const char *name, const json_t *value)
{
    const struct schema_child *named =
        rule->named_count > 0 ? bsearch(name, rule->children, rule->named_count, sizeof *named, compare_child) : NULL;
    bool taken = named != NULL, fits = named == NULL || json_schema_check_node(validation, named->node, value);
    for (size_t i = rule->named_count; fits && i < rule->child_count; i++) {
        const struct schema_child *child = &rule->children[i];
        if (!json_schema_matches(validation, child->pattern, name, strlen(name)))
            continue;
        taken = true;
        fits = json_schema_check_node(validation, child->node, value);
    }
    if (fits && !taken && rule->rest != NULL)
        fits = json_schema_check_node(validation, rule->rest, value);
    return fits;
}

bool json_schema_check_properties(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    const char *name;
    json_t *member;
    bool fits = true;
    json_object_foreach((json_t *)(uintptr_t)value, name, member)
    {
        size_t before = json_path_enter(&validation->path, name);
        fits = json_schema_take_steps(validation, 1) && check_member(validation, rule, name, member);
        json_path_leave(&validation->path, before);
        if (!fits)
            break;
    }
    return fits;
}

bool json_schema_check_property_names(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    const char *name;
    json_t *member;
    json_object_foreach((json_t *)(uintptr_t)value, name, member)
    {
        json_t *text = json_string(name);
        validation->no_memory |= text == NULL;
        bool fits = text != NULL && json_schema_fits_quietly(validation, rule->children[0].node, text);
        json_decref(text);
        if (!fits)
            return json_schema_fail(validation, "the name \"%.*s\" must fit the schema of propertyNames", forge_utf8_precision(name, 100),
                                    name);
    }
    return true;
}
