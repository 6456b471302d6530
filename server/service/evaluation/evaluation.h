/* What the handlers of datasets, evaluations and their results share. Private to the evaluation service. */
#ifndef SERVER_SERVICE_EVALUATION_EVALUATION_H
#define SERVER_SERVICE_EVALUATION_EVALUATION_H

#include "db/row.h"
#include "db/stmt.h"
#include "rpc/call.h"

#include "forge/v1/evaluation.pb-c.h"

enum { EVALUATION_TRACE_ID_DIGITS = 32, EVALUATION_SPAN_ID_DIGITS = 16 };

/* Columns of evaluation_get. DATA_LOSS when what is stored cannot be read. */
forge_code evaluation_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Evaluation *out) FORGE_MUST_CHECK;
/* The columns evaluators and metadata, which are stored as JSON of the message. */
forge_code evaluation_read_lists(struct rpc_call *call, const struct db_row *row, Forge__V1__Evaluation *out) FORGE_MUST_CHECK;
/* The summary's entries for the evaluators, in their order, still without figures. */
void evaluation_begin_figures(struct rpc_call *call, const Forge__V1__Evaluation *evaluation);
/* The figures of these evaluations, filled in from their rows before, as they are now. */
forge_code evaluation_read_figures(struct rpc_call *call, size_t count, Forge__V1__Evaluation *const *evaluations) FORGE_MUST_CHECK;
/* Queues a statement of organization and id only. */
void evaluation_queue_by_id(struct rpc_call *call, enum sql_id statement, const struct forge_uuid *id);

/* A copy in lower case; "" after an overflow of the arena. */
const char *evaluation_lower_case(struct rpc_call *call, const char *text);

#endif
