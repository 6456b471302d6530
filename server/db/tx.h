/* Explicit transactions, for rpc/write.c, login and maintenance. Begin travels with the next flight, commit is a flight of its own
 * together with what was queued before it. */
#ifndef SERVER_DB_TX_H
#define SERVER_DB_TX_H

#include "db/stmt.h"

/* Queues BEGIN in front of everything queued later. */
void db_tx_begin(struct db_session *session);
/* Sends the queued statements and COMMIT in one flight. FORGE_OK only when the command tag was COMMIT. When the
 * connection was lost after COMMIT had been handed to the kernel: UNAVAILABLE with *out_unknown = true; when the server was silent up to
 * the deadline: DEADLINE_EXCEEDED with *out_unknown = true. Whatever it returns, no transaction is open afterwards. A failed earlier
 * statement: ABORTED. *out_unknown is always written. */
forge_code db_tx_commit(struct db_session *session, bool *out_unknown, struct forge_error *error) FORGE_MUST_CHECK;
/* Forgets what is queued and, when BEGIN was sent, rolls back. Harmless without a transaction. */
void db_tx_rollback(struct db_session *session);
bool db_tx_is_open(const struct db_session *session);  /* BEGIN queued or sent */
bool db_tx_was_sent(const struct db_session *session); /* a flight of this transaction left */
/* The statement whose error failed the last flight: lets rpc/write tell a failed claim from a failed effect. -1 if none. */
int db_session_failed_statement(const struct db_session *session);

#endif
