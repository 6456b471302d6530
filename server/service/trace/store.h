/* Spans of one organization into the database. Private to the trace service. */
#ifndef SERVER_SERVICE_TRACE_STORE_H
#define SERVER_SERVICE_TRACE_STORE_H

#include "service/trace/span.h"

enum { TRACE_SPANS_MAX = 100000 /* of one trace */ };

/* Stores the spans in one transaction and writes what became of each into its outcome; with OK that is durable. Puts the spans into the
 * order of their keys. Blocks up to the session's deadline. An error says nothing of the spans: none was stored, or, after a lost COMMIT,
 * nobody knows; sending them again is safe either way. The session is bound to the organization, the arena is the session's. */
forge_code trace_store(struct db_session *db, struct forge_arena *arena, const struct forge_uuid *organization_id, int64_t now_us,
                       struct trace_span **spans, size_t count, struct forge_error *error) FORGE_MUST_CHECK;
/* Fills in of each span the model it means, and where its cost is not given the price in force at its start and the cost; outside of a
 * transaction. trace_store() does that again for itself: what it stores is what was in force when it was stored. */
forge_code trace_price(struct db_session *db, struct forge_arena *arena, const struct forge_uuid *organization_id,
                       struct trace_span **spans, size_t count, struct forge_error *error) FORGE_MUST_CHECK;

#endif
