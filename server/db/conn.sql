-- What a session sends around the statements of a call.

-- name: db_session_bind :one
SELECT set_config('forge.organization_id', $1, true), set_config('statement_timeout', $2, true), set_config('lock_timeout', $3, true);

-- name: db_tx_begin :command
BEGIN;

-- name: db_tx_commit :command
COMMIT;

-- name: db_tx_rollback :command
ROLLBACK;
