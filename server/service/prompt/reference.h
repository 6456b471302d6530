/* References of a prompt to others, resolved: the versions that a version leads to, as a graph without circles. Private to the prompt
 * service.
 *
 * A reference stands for the content of a text prompt's version; what else that version has (system prompt, model, parameters) is left
 * aside. References are checked with where labels and current versions point when a version is made. They can be moved later, and two
 * versions that are made at once do not see each other, so that a circle, a sixth level or a chat prompt can come to be all the same. Moves
 * are not refused for that: a rollback must not fail because of another prompt. Rendering checks the whole graph each time. */
#ifndef SERVER_SERVICE_PROMPT_REFERENCE_H
#define SERVER_SERVICE_PROMPT_REFERENCE_H

#include "rpc/call.h"
#include "service/prompt/content.h"
#include "service/prompt/prompt.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PROMPT_REFERENCE_DEPTH_MAX = 5,
    PROMPT_REFERENCED_VERSIONS_MAX = 256, /* that one version leads to */
    PROMPT_REFERENCED_BYTES_MAX = 4 << 20 /* of their contents together */
};

struct prompt_node;

/* A reference of a node, resolved. */
struct prompt_edge {
    const char *text;         /* the reference as it stands in the template */
    const char *field;        /* in which it stands first */
    const char *label;        /* NULL = by version or current */
    struct prompt_node *node; /* what it stands for */
};

/* A version of a prompt. */
struct prompt_node {
    size_t index; /* in the graph */
    struct forge_uuid prompt_id;
    const char *name; /* of the prompt */
    int32_t version;
    struct prompt_content_row content; /* of all but the first: content and variables only */
    size_t edge_count;
    struct prompt_edge *edges; /* by position */
    unsigned level;            /* references on the longest way to it; below that of every node it refers to */
    bool is_listed;            /* for prompt_references_list */
};

/* The first node is where it begins. */
struct prompt_graph {
    struct prompt_node *nodes[1 + PROMPT_REFERENCED_VERSIONS_MAX];
    size_t count, bytes;
    bool is_new; /* its first version is just being made: every way back to its prompt is a circle */
};

/* Of a version that this transaction has made: stores its references and checks them. NOT_FOUND (prompt, version, label),
 * FAILED_PRECONDITION (reason REFERENCE_CYCLE or REFERENCE_DEPTH; a chat prompt), RESOURCE_EXHAUSTED; the message names the field. */
forge_code prompt_references_store(struct rpc_call *call, const struct forge_uuid *prompt_id, int32_t version,
                                   const struct prompt_content *content) FORGE_MUST_CHECK;

/* What the version in this row of prompt_get leads to, for the subject and time of the selection. Without references no statement is run.
 */
forge_code prompt_references_resolve(struct rpc_call *call, const struct db_row *row, const struct prompt_content_row *content,
                                     const struct prompt_selection *selection, struct prompt_graph *out) FORGE_MUST_CHECK;
/* The resolved references as RenderPrompt tells them. */
void prompt_references_list(struct rpc_call *call, struct prompt_graph *graph, Forge__V1__RenderPromptResponse *out);

#endif
