/* Labels where requests name them, and how rows of label.sql become replies. Private to the prompt service. */
#ifndef SERVER_SERVICE_PROMPT_LABEL_H
#define SERVER_SERVICE_PROMPT_LABEL_H

#include "db/row.h"
#include "rpc/call.h"

#include "forge/v1/prompt.pb-c.h"

#include <stddef.h>

enum { PROMPT_LABELS_MAX = 256 /* per prompt: replies tell the labels of a version */ };

/* Where a label points, from the JSON that a column holds; NULL is nowhere. */
forge_code prompt_label_targets(struct rpc_call *call, const struct db_row *row, const char *column, size_t *out_count,
                                Forge__V1__LabelTarget ***out_targets) FORGE_MUST_CHECK;
/* A row with the columns of label_list. */
forge_code prompt_label_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Label *out) FORGE_MUST_CHECK;
/* A row with the columns of label_list_protections. */
void prompt_label_protection_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__LabelProtection *out);

#endif
