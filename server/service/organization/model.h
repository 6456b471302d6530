/* What the handlers of providers and of models share. Private to the organization service. */
#ifndef SERVER_SERVICE_ORGANIZATION_MODEL_H
#define SERVER_SERVICE_ORGANIZATION_MODEL_H

#include "db/stmt.h"
#include "rpc/call.h"

/* Queues a lock, a statement of organization and id only. */
void model_queue_lock(struct rpc_call *call, enum sql_id statement, const struct forge_uuid *id);
/* DeleteModelProvider and DeleteAiModel: checks id and etag and runs the statement, of organization and id, which returns the deleted row
 * with its row_version. FAILED_PRECONDITION, reason IN_USE, where a version of a prompt uses what would be deleted. noun: "model". */
forge_code model_run_delete(struct rpc_call *call, enum sql_id statement, const char *noun, const char *id_text, const char *etag,
                            struct forge_uuid *out_id, struct db_row *out_row) FORGE_MUST_CHECK;

#endif
