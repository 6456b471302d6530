/* Labels where requests name them, and how rows of label.sql become replies. Private to the prompt service. */
#ifndef SERVER_SERVICE_PROMPT_LABEL_H
#define SERVER_SERVICE_PROMPT_LABEL_H

#include "db/row.h"
#include "db/stmt.h"
#include "rpc/call.h"

#include "forge/v1/prompt.pb-c.h"

#include <stddef.h>

enum { PROMPT_LABELS_MAX = 256 /* per prompt: replies tell the labels of a version */ };

/* Where a label points, from the JSON that a column holds; NULL is nowhere. */
forge_code prompt_label_targets(struct rpc_call *call, const struct db_row *row, const char *column, size_t *out_count,
                                Forge__V1__LabelTarget ***out_targets) FORGE_MUST_CHECK;
/* A row with the columns of label_list. */
forge_code prompt_label_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Label *out) FORGE_MUST_CHECK;
/* Notes what is wrong with a gate; NULL is none. */
void prompt_gate_check(struct rpc_call *call, const Forge__V1__PromotionGate *gate, struct forge_uuid *out_dataset_id);
/* Binds require_evaluation, min_score, dataset_id, min_result_count, require_no_open_blocking_violations of a gate without faults. */
void prompt_gate_bind(struct db_stmt *stmt, const Forge__V1__PromotionGate *gate, const struct forge_uuid *dataset_id);
/* The gate in the same columns of a row; NULL for one that asks for nothing. */
Forge__V1__PromotionGate *prompt_gate_from_row(struct rpc_call *call, const struct db_row *row);
/* A row of label_set, which has moved a label: FAILED_PRECONDITION when a version it points at now has not what its gate asks for. Blocks.
 */
forge_code prompt_gate_refuse(struct rpc_call *call, const struct forge_uuid *prompt_id, const char *label,
                              const struct db_row *row) FORGE_MUST_CHECK;
/* A row with the columns of label_list_protections. */
void prompt_label_protection_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__LabelProtection *out);

#endif
