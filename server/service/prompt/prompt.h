/* What the handlers of the prompt service share: which prompt and version a request selects, and how a row of prompt_get becomes a reply.
 * Private to the prompt service. */
#ifndef SERVER_SERVICE_PROMPT_PROMPT_H
#define SERVER_SERVICE_PROMPT_PROMPT_H

#include "db/stmt.h"
#include "rpc/call.h"

#include "forge/v1/prompt.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

/* Of the contents of a page or batch, so that it stays below the reply limit of 4 MiB. */
enum { PROMPT_REPLY_CONTENT_BYTES_MAX = 3 << 20 };

/* Which prompt and which of its versions a request selects. */
struct prompt_selection {
    bool by_name;
    struct forge_uuid id, project_id;
    const char *name;
    int32_t version;        /* 0 = current */
    const char *label;      /* what it points at; NULL = current or version */
    const char *subject;    /* of a split; never NULL with label */
    bool is_as_of;          /* current or label as it was, or the version if it existed, at this time */
    int64_t as_of_us;       /* wall clock */
    const char *known_etag; /* reply_etag of what the caller has: the row has no content then; NULL = none */
};
/* Notes every violation on the call. prefix: of the fields' paths, "" or "prompt.". */
void prompt_selection_check(struct rpc_call *call, const char *prefix, const Forge__V1__GetPromptRequest *in, struct prompt_selection *out);
/* The row that the selection names, with the columns of prompt_get; with a label also targets. NOT_FOUND says whether the prompt, the
 * version or the label is missing. */
forge_code prompt_selection_run(struct rpc_call *call, const struct prompt_selection *selection, struct db_row *out_row) FORGE_MUST_CHECK;

/* For a selection as of a time, not by label, from the row it has now: the row it had then. NOT_FOUND where the prompt or the version was
 * not there yet. */
forge_code prompt_selection_go_back(struct rpc_call *call, const struct prompt_selection *selection, struct db_row *row) FORGE_MUST_CHECK;
/* Queues a lock, a statement of organization and one id only: a prompt's, of label_lock_project the project's. */
void prompt_queue_by_id(struct rpc_call *call, enum sql_id statement, const struct forge_uuid *id);

/* GetPrompt, as far as one of many is answered too. */
forge_code prompt_answer(struct rpc_call *call, const Forge__V1__GetPromptRequest *in, Forge__V1__Prompt *out) FORGE_MUST_CHECK;
/* Counts one prompt of this project as read. */
void prompt_count_read(struct rpc_call *call, const char *project_id);

/* A row with the columns of prompt_get. */
forge_code prompt_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Prompt *out) FORGE_MUST_CHECK;

#endif
