#include "db/tx.h"

#include "db/session.h"

#include "wire/clock.h"

#include <string.h>

void db_tx_begin(struct db_session *session)
{
    if (db_tx_is_open(session) || session->first != NULL)
        db_bug("BEGIN must come before everything queued, once");
    session->begin_queued = true;
}

bool db_tx_is_open(const struct db_session *session)
{
    return session->begin_queued || session->begin_sent;
}

bool db_tx_was_sent(const struct db_session *session)
{
    return session->begin_sent;
}

static void transaction_forget(struct db_session *session)
{
    session->begin_queued = session->begin_sent = session->transaction_failed = false;
    session->first = session->last = NULL;
}

/* COMMIT in a failed transaction is answered by ROLLBACK and no error: the tag tells. */
static bool tag_is_commit(const struct db_session *session)
{
    return session->end.result.pg != NULL && strcmp(PQcmdStatus(session->end.result.pg), "COMMIT") == 0;
}

static void end_init(struct db_session *session, enum sql_id id)
{
    session->end = (struct db_stmt){.session = session, .id = id, .result = {.arena = session->arena}};
}

/* The connection went away, or the server was silent, with COMMIT on its way: an ERROR would have come back as such. */
static bool outcome_is_unknown(const struct db_session *session)
{
    const struct db_failure *failure = &session->failure;
    return (failure->lost || failure->timed_out) && !failure->refused;
}

forge_code db_tx_commit(struct db_session *session, bool *out_unknown, struct forge_error *error)
{
    *out_unknown = false;
    if (!db_tx_is_open(session))
        db_bug("COMMIT without BEGIN");
    if (session->begin_queued && session->first == NULL) {
        transaction_forget(session);
        return FORGE_OK;
    }
    end_init(session, SQL_DB_TX_COMMIT);
    session->end.keeps_result = true;
    forge_code rc = db_session_fly(session, &session->end, error);
    bool committed = rc == FORGE_OK && tag_is_commit(session);
    db_result_done(&session->end.result);
    if (rc == FORGE_OK && !committed)
        rc = forge_error_set(error, FORGE_INTERNAL, "the database did not commit the transaction");
    if (rc != FORGE_OK) {
        *out_unknown = outcome_is_unknown(session);
        error->outcome_unknown = *out_unknown;
    }
    if (rc != FORGE_OK && !*out_unknown)
        db_tx_rollback(session);
    transaction_forget(session);
    return rc;
}

void db_tx_rollback(struct db_session *session)
{
    bool reached_server = session->begin_sent;
    struct db_failure kept = session->failure; /* why it is rolled back stays readable */
    transaction_forget(session);
    if (!reached_server || session->conn == NULL || session->conn->broken)
        return;
    end_init(session, SQL_DB_TX_ROLLBACK);
    uint64_t until_ns = forge_clock_monotonic_ns() + DB_ANSWER_GRACE_MS * UINT64_C(1000000);
    struct db_failure failure;
    if (!db_flight_run(session->conn, &session->end, until_ns > session->deadline_ns ? until_ns : session->deadline_ns, &failure))
        session->conn->broken = true;
    session->failure = kept;
}
