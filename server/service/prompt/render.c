/* PromptService: RenderPrompt. */
#include "service/prompt/content.h"
#include "service/prompt/prompt.h"
#include "service/prompt/reference.h"
#include "service/reply.h"

#include "rpc_table.h"

#include <search.h>
#include <stdio.h>
#include <string.h>

static const Forge__V1__VariableValue *value_find(const Forge__V1__RenderPromptRequest *in, const char *name)
{
    for (size_t i = 0; i < in->n_variables; i++)
        if (strcmp(in->variables[i]->name, name) == 0)
            return in->variables[i];
    return NULL;
}

static void values_check(struct rpc_call *call, const Forge__V1__RenderPromptRequest *in)
{
    if (in->n_variables > PROMPT_VARIABLES_MAX) {
        rpc_call_violation(call, "variables", "must be at most %d", PROMPT_VARIABLES_MAX);
        return;
    }
    for (size_t i = 0; i < in->n_variables; i++) {
        char field[40];
        snprintf(field, sizeof field, "variables[%zu].name", i);
        if (value_find(in, in->variables[i]->name) != in->variables[i])
            rpc_call_violation(call, field, "is given twice");
        snprintf(field, sizeof field, "variables[%zu].value", i);
        if (strlen(in->variables[i]->value) > PROMPT_TEXT_BYTES_MAX)
            rpc_call_violation(call, field, "must be at most %d bytes", PROMPT_TEXT_BYTES_MAX);
    }
}

/* ---- the values of variables ---- */

static void variable_violation(struct rpc_call *call, const char *name, const char *description)
{
    const char *field = forge_arena_printf(call->arena, "variables.%s", name);
    rpc_call_violation(call, field != NULL ? field : "variables", "%s", description);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void name_keep(void *name)
{
    (void)name; /* the arena's */
}

/* Several versions may miss the same variable: it is told once. missing: the names told so far, a tree, as there may be 65,792 of them.
 * False when there is no memory. */
static bool missing_tell(struct rpc_call *call, void **missing, const char *name)
{
    const char *const *told = tsearch(name, missing, compare_names);
    if (told != NULL && *told == name)
        variable_violation(call, name, "is missing");
    return told != NULL;
}

/* The variables of one version with the values given or its defaults. Missing ones are violations named "variables.<name>". NULL when there
 * is no memory. */
static struct forge_template_variable *values_match(struct rpc_call *call, const Forge__V1__RenderPromptRequest *in,
                                                    const struct prompt_content_row *content, void **missing)
{
    struct forge_template_variable *values = forge_arena_calloc(call->arena, content->variable_count, sizeof *values);
    for (size_t i = 0; values != NULL && i < content->variable_count; i++) {
        const Forge__V1__PromptVariable *variable = content->variables[i];
        const Forge__V1__VariableValue *given = value_find(in, variable->name);
        values[i].name = variable->name;
        if (given != NULL)
            values[i].value = given->value;
        else if (variable->default_value != NULL)
            values[i].value = variable->default_value->value;
        else if (!missing_tell(call, missing, variable->name))
            return NULL;
    }
    return values;
}

static bool variable_is_declared(const struct prompt_graph *graph, const char *name)
{
    for (size_t i = 0; i < graph->count; i++) {
        const struct prompt_content_row *content = &graph->nodes[i]->content;
        for (size_t j = 0; j < content->variable_count; j++)
            if (strcmp(content->variables[j]->name, name) == 0)
                return true;
    }
    return false;
}

/* The values for each version of the graph; NULL when there is no memory. Unknown variables are violations too. */
static const struct forge_template_variable **values_match_all(struct rpc_call *call, const Forge__V1__RenderPromptRequest *in,
                                                               const struct prompt_graph *graph)
{
    const struct forge_template_variable **values = forge_arena_calloc(call->arena, graph->count, sizeof *values);
    void *missing = NULL;
    for (size_t i = 0; values != NULL && i < graph->count; i++) {
        values[i] = values_match(call, in, &graph->nodes[i]->content, &missing);
        if (values[i] == NULL)
            values = NULL;
    }
    tdestroy(missing, name_keep);
    if (values == NULL)
        return NULL;
    for (size_t i = 0; i < in->n_variables; i++)
        if (!variable_is_declared(graph, in->variables[i]->name))
            variable_violation(call, in->variables[i]->name, "this prompt has no such variable");
    return values;
}

/* ---- texts ---- */

static forge_code text_render(struct rpc_call *call, const struct forge_template_values *values, size_t *room, char **text)
{
    char *rendered;
    size_t result_max = *room < PROMPT_TEXT_BYTES_MAX ? *room : PROMPT_TEXT_BYTES_MAX;
    forge_code rc = forge_template_render(*text, values, result_max, call->arena, &rendered, &call->error);
    if (rc == FORGE_RESOURCE_EXHAUSTED)
        return rpc_call_fail(call, rc, "the rendered prompt is over %d bytes", PROMPT_TEXT_BYTES_MAX);
    if (rc != FORGE_OK)
        return rc;
    *room -= strlen(rendered);
    *text = rendered;
    return FORGE_OK;
}

/* What stands for the variables and references of a version, which are rendered already. */
static forge_code node_values(struct rpc_call *call, const struct prompt_node *node, const struct forge_template_variable *variables,
                              struct forge_template_values *out)
{
    struct forge_template_variable *references = forge_arena_calloc(call->arena, node->edge_count, sizeof *references);
    if (references == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the prompt needs too much memory");
    for (size_t i = 0; i < node->edge_count; i++)
        references[i] = (struct forge_template_variable){node->edges[i].text, node->edges[i].node->content.content};
    *out = (struct forge_template_values){variables, references, node->content.variable_count, node->edge_count};
    return FORGE_OK;
}

/* Each version that is referred to, once, those that refer to others after them: work and memory do not grow with the number of ways
 * through the graph. Every text is part of one at the next level, so those of a level are together no longer than the whole, which room
 * allows for: more cannot fit into the result. */
static forge_code referenced_render(struct rpc_call *call, const struct prompt_graph *graph,
                                    const struct forge_template_variable **variables)
{
    size_t room = (size_t)PROMPT_REFERENCE_DEPTH_MAX * PROMPT_TEXT_BYTES_MAX;
    struct forge_template_values values;
    forge_code rc = FORGE_OK;
    for (unsigned level = PROMPT_REFERENCE_DEPTH_MAX; level > 0; level--)
        for (size_t i = 1; rc == FORGE_OK && i < graph->count; i++) {
            struct prompt_node *node = graph->nodes[i];
            if (node->level != level)
                continue;
            rc = node_values(call, node, variables[i], &values);
            if (rc == FORGE_OK)
                rc = text_render(call, &values, &room, &node->content.content);
        }
    return rc;
}

static forge_code render(struct rpc_call *call, const struct prompt_graph *graph, const struct forge_template_variable **variables,
                         Forge__V1__RenderPromptResponse *out)
{
    const struct prompt_content_row *content = &graph->nodes[0]->content;
    size_t room = PROMPT_TEXT_BYTES_MAX;
    struct forge_template_values values;
    out->format = content->format;
    out->content = content->content;
    out->system_prompt = content->system_prompt;
    out->n_messages = content->message_count;
    out->messages = content->messages;
    forge_code rc = referenced_render(call, graph, variables);
    if (rc == FORGE_OK)
        rc = node_values(call, graph->nodes[0], variables[0], &values);
    if (rc == FORGE_OK)
        rc = text_render(call, &values, &room, &out->content);
    if (rc == FORGE_OK)
        rc = text_render(call, &values, &room, &out->system_prompt);
    for (size_t i = 0; rc == FORGE_OK && i < out->n_messages; i++)
        rc = text_render(call, &values, &room, &out->messages[i]->content);
    return rc;
}

/* ---- the handler ---- */

static void version_tell(const struct db_row *row, const struct prompt_content_row *content, Forge__V1__RenderPromptResponse *out)
{
    out->prompt_id = db_row_uuid_text(row, "id");
    out->version = db_row_int32(row, "version");
    out->model_id = content->model_id;
    out->model_name = content->model_name;
    out->parameters = content->parameters;
    out->content_hash = content->content_hash;
}

forge_code prompt_render(struct rpc_call *call, const Forge__V1__RenderPromptRequest *in, Forge__V1__RenderPromptResponse *out)
{
    struct prompt_selection selection = {0};
    if (in->prompt == NULL)
        rpc_call_violation(call, "prompt", "is required");
    else
        prompt_selection_check(call, "prompt.", in->prompt, &selection);
    values_check(call, in);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    struct db_row row;
    struct prompt_content_row content;
    struct prompt_graph graph;
    forge_code rc = prompt_selection_run(call, &selection, &row);
    if (rc == FORGE_OK)
        rc = prompt_content_read(call, &row, &content);
    if (rc == FORGE_OK)
        rc = prompt_references_resolve(call, &row, &content, &selection, &graph);
    if (rc != FORGE_OK)
        return rc;
    const struct forge_template_variable **variables = values_match_all(call, in, &graph);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    if (variables == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the prompt needs too much memory");
    version_tell(&row, &content, out);
    if (selection.label != NULL)
        out->label = in->prompt->label;
    prompt_references_list(call, &graph, out);
    prompt_count_read(call, db_row_uuid_text(&row, "project_id"));
    return render(call, &graph, variables, out);
}
