#include "service/prompt/reference.h"

#include "service/reply.h"

#include <stdio.h>
#include <string.h>

enum { VERSION_TEXT_SIZE = 12, WAY_MAX = PROMPT_REFERENCE_DEPTH_MAX + 1 /* references on a way that is too long */ };

static forge_code no_memory(struct rpc_call *call)
{
    return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the prompts referred to need too much memory");
}

/* ---- nodes ---- */

static struct prompt_node *node_find(const struct prompt_graph *graph, const struct forge_uuid *id, int32_t version)
{
    for (size_t i = 0; i < graph->count; i++) {
        struct prompt_node *node = graph->nodes[i];
        bool is_any_version = i == 0 && graph->is_new;
        if (memcmp(&node->prompt_id, id, sizeof *id) == 0 && (is_any_version || node->version == version))
            return node;
    }
    return NULL;
}

static struct prompt_node *node_add(struct rpc_call *call, struct prompt_graph *graph, const struct prompt_references *references)
{
    struct prompt_node *node = forge_arena_calloc(call->arena, 1, sizeof *node);
    struct prompt_edge *edges = forge_arena_calloc(call->arena, references->count, sizeof *edges);
    if (node == NULL || edges == NULL)
        return NULL;
    for (size_t i = 0; i < references->count; i++) {
        edges[i].text = references->list[i].parts.text;
        edges[i].field = references->list[i].field;
    }
    node->edge_count = references->count;
    node->edges = edges;
    node->index = graph->count;
    graph->nodes[graph->count++] = node;
    return node;
}

/* Where a reference stands, for people: the field of the request, else the version that has it. */
static const char *place(struct rpc_call *call, const struct prompt_graph *graph, const struct prompt_node *parent,
                         const struct prompt_edge *edge)
{
    if (parent->index == 0 && graph->is_new)
        return edge->field;
    const char *text = forge_arena_printf(call->arena, "prompt \"%s\" version %d", parent->name, (int)parent->version);
    return text != NULL ? text : "prompt";
}

static forge_code references_scan(struct rpc_call *call, const char *field, const char *text, struct prompt_references *references)
{
    struct forge_template_names names;
    struct forge_error error = {0};
    forge_code rc = forge_template_scan(text, call->arena, &names, &error);
    if (rc == FORGE_RESOURCE_EXHAUSTED)
        return no_memory(call);
    if (rc != FORGE_OK)
        return rpc_call_fail(call, FORGE_DATA_LOSS, "a stored template of this prompt cannot be read");
    prompt_references_add(references, field, &names);
    return FORGE_OK;
}

/* ---- one level ---- */

/* A version that is met for the first time. */
static forge_code version_read(struct rpc_call *call, struct prompt_graph *graph, const char *where, const struct db_row *row,
                               struct prompt_node **out)
{
    struct prompt_content_row content;
    struct prompt_references references = {0};
    if (db_row_bool(row, "is_chat"))
        return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "%s: version %d of prompt \"%s\" is a chat, only texts can be referred to",
                             where, (int)db_row_int32(row, "version"), db_row_text_or_empty(row, "name"));
    if (graph->count == sizeof graph->nodes / sizeof graph->nodes[0])
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the references lead to more than %d versions",
                             PROMPT_REFERENCED_VERSIONS_MAX);
    if (db_row_is_null(row, "content"))
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the references lead to more than %d bytes", PROMPT_REFERENCED_BYTES_MAX);
    forge_code rc = prompt_content_read_text(call, row, &content);
    if (rc == FORGE_OK)
        rc = references_scan(call, "content", content.content, &references);
    if (rc != FORGE_OK)
        return rc;
    struct prompt_node *node = node_add(call, graph, &references);
    if (node == NULL)
        return no_memory(call);
    db_row_uuid(row, "id", &node->prompt_id);
    node->version = db_row_int32(row, "version");
    node->content = content;
    *out = node;
    return FORGE_OK;
}

static forge_code missing_refuse(struct rpc_call *call, const char *where, const struct db_row *row,
                                 const struct prompt_selection *selection)
{
    const char *name = db_row_text_or_empty(row, "name"), *label = db_row_text(row, "referenced_label");
    const char *fault = selection->is_as_of ? "did not exist then" : "not found";
    if (label != NULL)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "%s: label \"%s\" of prompt \"%s\" %s", where, label, name, fault);
    if (!db_row_is_null(row, "referenced_version"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "%s: version %d of prompt \"%s\" %s", where,
                             (int)db_row_int32(row, "referenced_version"), name, fault);
    return rpc_call_fail(call, FORGE_NOT_FOUND, "%s: prompt \"%s\" %s", where, name, fault);
}

static forge_code edge_read(struct rpc_call *call, struct prompt_graph *graph, const struct prompt_node *parent,
                            const struct prompt_selection *selection, const struct db_row *row)
{
    struct prompt_edge *edge = &parent->edges[db_row_int32(row, "position")]; /* below edge_count: see $7 of the statement */
    const char *where = place(call, graph, parent, edge);
    struct forge_uuid id;
    if (!db_row_bool(row, "has_version"))
        return missing_refuse(call, where, row, selection);
    db_row_uuid(row, "id", &id);
    edge->label = db_row_text(row, "referenced_label");
    edge->node = node_find(graph, &id, db_row_int32(row, "version"));
    forge_code rc = edge->node == NULL ? version_read(call, graph, where, row, &edge->node) : FORGE_OK;
    if (rc == FORGE_OK && edge->node->name == NULL)
        edge->node->name = db_row_text_or_empty(row, "name");
    return rc;
}

/* Every reference must have had its row. A version that is being made may name a prompt that is not there; of one that is stored all were
 * there, and cannot be deleted before it. */
static forge_code edges_require(struct rpc_call *call, const struct prompt_graph *graph, const struct prompt_node *node)
{
    for (size_t i = 0; i < node->edge_count; i++) {
        const struct prompt_edge *edge = &node->edges[i];
        const char *where = place(call, graph, node, edge);
        if (edge->node == NULL && node->index == 0 && graph->is_new)
            return rpc_call_fail(call, FORGE_NOT_FOUND, "%s: {{> %s}} names no prompt of this project", where, edge->text);
        if (edge->node == NULL)
            return rpc_call_fail(call, FORGE_NOT_FOUND, "%s was just deleted", where);
    }
    return FORGE_OK;
}

/* Nodes as a statement names them. False when there is no memory. */
static bool nodes_bind(struct rpc_call *call, struct db_stmt *q, struct prompt_node *const *nodes, size_t count)
{
    struct forge_uuid *ids = forge_arena_calloc(call->arena, count, sizeof *ids);
    const char **versions = forge_arena_calloc(call->arena, count, sizeof *versions);
    for (size_t i = 0; ids != NULL && versions != NULL && i < count; i++) {
        ids[i] = nodes[i]->prompt_id;
        versions[i] = forge_arena_printf(call->arena, "%d", (int)nodes[i]->version);
    }
    if (forge_arena_has_overflowed(call->arena))
        return false;
    db_bind_uuid_array(q, ids, count);
    db_bind_text_array(q, versions, count);
    return true;
}

static struct db_stmt *level_statement(struct rpc_call *call, const struct prompt_graph *graph, struct prompt_node *const *parents,
                                       size_t count, const struct prompt_selection *selection)
{
    const char **counts = forge_arena_calloc(call->arena, count, sizeof *counts);
    for (size_t i = 0; counts != NULL && i < count; i++)
        counts[i] = forge_arena_printf(call->arena, "%zu", parents[i]->edge_count);
    if (forge_arena_has_overflowed(call->arena))
        return NULL;
    struct db_stmt *q = db_stmt(call->db, SQL_REFERENCE_RESOLVE);
    db_bind_uuid(q, &call->principal.organization_id);
    if (!nodes_bind(call, q, parents, count))
        return NULL;
    db_bind_text(q, selection->subject);
    if (selection->is_as_of)
        db_bind_time_us(q, selection->as_of_us);
    else
        db_bind_null(q);
    db_bind_int64(q, PROMPT_REFERENCED_BYTES_MAX - (int64_t)graph->bytes);
    db_bind_text_array(q, counts, count);
    return nodes_bind(call, q, graph->nodes, graph->count) ? q : NULL;
}

/* Reads what the nodes of one distance refer to: those from begin on. */
static forge_code level_read(struct rpc_call *call, struct prompt_graph *graph, size_t begin, const struct prompt_selection *selection)
{
    struct prompt_node *parents[sizeof graph->nodes / sizeof graph->nodes[0]];
    size_t count = 0;
    for (size_t i = begin; i < graph->count; i++)
        if (graph->nodes[i]->edge_count > 0)
            parents[count++] = graph->nodes[i];
    if (count == 0)
        return FORGE_OK;
    struct db_stmt *q = level_statement(call, graph, parents, count, selection);
    if (q == NULL)
        return no_memory(call);
    struct db_rows rows;
    forge_code rc = db_run_many(q, &rows, &call->error);
    size_t bytes = 0;
    for (int i = 0; rc == FORGE_OK && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        bytes = (size_t)db_row_int64(&row, "bytes");
        rc = edge_read(call, graph, parents[db_row_int64(&row, "number") - 1], selection, &row);
    }
    graph->bytes += bytes;
    for (size_t i = 0; rc == FORGE_OK && i < count; i++)
        rc = edges_require(call, graph, parents[i]);
    return rc;
}

/* ---- circles and depth ---- */

/* Refuses a way of WAY_MAX references. One that comes to a version twice goes in circles, so it would never end; any circle within reach is
 * part of such a way, or else the way to it is too long by itself. */
static forge_code way_refuse(struct rpc_call *call, const struct prompt_graph *graph, const size_t *way)
{
    size_t from = 0, to = WAY_MAX;
    bool is_cycle = false;
    for (size_t j = 1; !is_cycle && j <= WAY_MAX; j++)
        for (size_t i = 0; !is_cycle && i < j; i++)
            if (way[i] == way[j]) {
                is_cycle = true;
                from = i;
                to = j;
            }
    const struct prompt_node *root = graph->nodes[0];
    const char *where = "";
    for (size_t i = 0; i < root->edge_count; i++)
        if (root->edges[i].node != NULL && root->edges[i].node->index == way[1]) {
            where = place(call, graph, root, &root->edges[i]);
            break;
        }
    const char *text = "";
    for (size_t i = from; text != NULL && i <= to; i++) {
        const char *name = graph->nodes[way[i]]->name;
        if (name != NULL) /* of a version that is being made the request has no name */
            text = forge_arena_printf(call->arena, "%s%s\"%s\"", text, text[0] != '\0' ? " -> " : "", name);
    }
    if (text == NULL)
        return no_memory(call);
    if (is_cycle)
        return rpc_call_fail_reason(call, FORGE_FAILED_PRECONDITION, "REFERENCE_CYCLE", "%s: the references go in a circle: %s", where,
                                    text);
    return rpc_call_fail_reason(call, FORGE_FAILED_PRECONDITION, "REFERENCE_DEPTH", "%s: the references are deeper than %d: %s", where,
                                PROMPT_REFERENCE_DEPTH_MAX, text);
}

/* Finds what can be reached with exactly 1, 2 ... references, and so the longest way to each version: work grows with the references, not
 * with the ways. */
static forge_code graph_judge(struct rpc_call *call, struct prompt_graph *graph)
{
    const size_t room = sizeof graph->nodes / sizeof graph->nodes[0];
    uint16_t *came_from = forge_arena_calloc(call->arena, (WAY_MAX + 1) * room, sizeof *came_from); /* index + 1, 0 = not reached */
    if (came_from == NULL)
        return no_memory(call);
    came_from[0] = 1;
    for (size_t step = 0; step < WAY_MAX; step++)
        for (size_t i = 0; i < graph->count; i++) {
            struct prompt_node *node = graph->nodes[i];
            if (came_from[step * room + i] == 0)
                continue;
            node->level = (unsigned)step;
            for (size_t j = 0; j < node->edge_count; j++)
                if (node->edges[j].node != NULL && came_from[(step + 1) * room + node->edges[j].node->index] == 0)
                    came_from[(step + 1) * room + node->edges[j].node->index] = (uint16_t)(i + 1);
        }
    for (size_t i = 0; i < graph->count; i++) {
        size_t way[WAY_MAX + 1] = {[WAY_MAX] = i};
        if (came_from[WAY_MAX * room + i] == 0)
            continue;
        for (size_t step = WAY_MAX; step > 0; step--)
            way[step - 1] = came_from[step * room + way[step]] - 1u;
        return way_refuse(call, graph, way);
    }
    return FORGE_OK;
}

/* Level by level, one statement for each; the versions at the greatest depth are asked too, so that a circle is told from a way too long.
 */
static forge_code graph_read(struct rpc_call *call, struct prompt_graph *graph, const struct prompt_selection *selection)
{
    forge_code rc = FORGE_OK;
    size_t begin = 0;
    for (unsigned depth = 0; rc == FORGE_OK && depth <= PROMPT_REFERENCE_DEPTH_MAX && begin < graph->count; depth++) {
        size_t end = graph->count;
        rc = level_read(call, graph, begin, selection);
        begin = end;
    }
    return rc == FORGE_OK ? graph_judge(call, graph) : rc;
}

/* ---- what handlers call ---- */

static bool references_insert(struct rpc_call *call, const struct forge_uuid *prompt_id, int32_t version,
                              const struct prompt_references *references)
{
    const char **names = forge_arena_calloc(call->arena, references->count, sizeof *names);
    const char **versions = forge_arena_calloc(call->arena, references->count, sizeof *versions);
    const char **labels = forge_arena_calloc(call->arena, references->count, sizeof *labels);
    for (size_t i = 0; names != NULL && versions != NULL && labels != NULL && i < references->count; i++) {
        const struct forge_template_reference *parts = &references->list[i].parts;
        names[i] = parts->name;
        versions[i] = forge_arena_printf(call->arena, "%d", (int)parts->version);
        labels[i] = parts->label != NULL ? parts->label : "";
    }
    if (forge_arena_has_overflowed(call->arena))
        return false;
    struct db_stmt *q = db_stmt(call->db, SQL_REFERENCE_INSERT);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, prompt_id);
    db_bind_int32(q, version);
    db_bind_text_array(q, names, references->count);
    db_bind_text_array(q, versions, references->count);
    db_bind_text_array(q, labels, references->count);
    db_queue(q);
    return true;
}

forge_code prompt_references_store(struct rpc_call *call, const struct forge_uuid *prompt_id, int32_t version,
                                   const struct prompt_content *content)
{
    const struct prompt_selection now = {.subject = ""};
    struct prompt_graph graph = {.is_new = true};
    if (content->references.count == 0)
        return FORGE_OK;
    struct prompt_node *node = node_add(call, &graph, &content->references);
    if (node == NULL || !references_insert(call, prompt_id, version, &content->references))
        return no_memory(call);
    node->prompt_id = *prompt_id;
    node->version = version;
    forge_code rc = graph_read(call, &graph, &now);
    if (rc == FORGE_FAILED_PRECONDITION && reply_violates(call, "prompt_references_referenced_prompt_id_fkey"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "a prompt that the references name was just deleted");
    return rc;
}

forge_code prompt_references_resolve(struct rpc_call *call, const struct db_row *row, const struct prompt_content_row *content,
                                     const struct prompt_selection *selection, struct prompt_graph *out)
{
    struct prompt_references references = {0};
    *out = (struct prompt_graph){0};
    forge_code rc = references_scan(call, "content", content->content, &references);
    if (rc == FORGE_OK)
        rc = references_scan(call, "system_prompt", content->system_prompt, &references);
    for (size_t i = 0; rc == FORGE_OK && i < content->message_count; i++)
        rc = references_scan(call, "messages", content->messages[i]->content, &references);
    if (rc != FORGE_OK)
        return rc;
    struct prompt_node *node = node_add(call, out, &references);
    if (node == NULL)
        return no_memory(call);
    db_row_uuid(row, "id", &node->prompt_id);
    node->version = db_row_int32(row, "version");
    node->name = db_row_text_or_empty(row, "name");
    node->content = *content;
    return references.count > 0 ? graph_read(call, out, selection) : FORGE_OK;
}

static Forge__V1__PromptReference *reference_tell(struct rpc_call *call, const struct prompt_edge *edge)
{
    Forge__V1__PromptReference *reference = reply_message(call, &forge__v1__prompt_reference__descriptor);
    if (reference == NULL)
        return NULL;
    reference->prompt_id = reply_uuid(call, &edge->node->prompt_id);
    reference->name = forge_arena_strdup(call->arena, edge->node->name);
    reference->version = edge->node->version;
    if (edge->label != NULL)
        reference->label = forge_arena_strdup(call->arena, edge->label);
    return reference;
}

/* In the order in which a reader of the whole text comes to them: what a version refers to comes right behind it. */
void prompt_references_list(struct rpc_call *call, struct prompt_graph *graph, Forge__V1__RenderPromptResponse *out)
{
    struct {
        const struct prompt_node *node;
        size_t next;
    } open[PROMPT_REFERENCE_DEPTH_MAX + 1] = {{graph->nodes[0], 0}};
    size_t depth = 1;
    out->references = forge_arena_calloc(call->arena, graph->count, sizeof out->references[0]);
    while (out->references != NULL && depth > 0) {
        const struct prompt_node *node = open[depth - 1].node;
        if (open[depth - 1].next == node->edge_count) {
            depth--;
            continue;
        }
        const struct prompt_edge *edge = &node->edges[open[depth - 1].next++];
        if (edge->node->is_listed)
            continue;
        Forge__V1__PromptReference *reference = reference_tell(call, edge);
        if (reference == NULL)
            return; /* rpc sees the overflow */
        edge->node->is_listed = true;
        out->references[out->n_references++] = reference;
        if (edge->node->edge_count > 0) {
            open[depth].node = edge->node;
            open[depth++].next = 0;
        }
    }
}
