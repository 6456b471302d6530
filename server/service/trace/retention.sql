-- How long the traces of a project are kept. Whoever changes it locks the project first, so that an etag is compared with the row that is
-- changed. Maintenance reads the table (db/maintain_traces.c).

-- name: retention_lock :command
SELECT id FROM projects WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- Writes without looking at the etag: the handler does, and a refusal rolls this back. $3: days, NULL for those of the server, which take
-- the row away. created_at stands in the etag: a row that is made again is another one.
-- name: retention_set :optional
WITH p AS (
    SELECT id FROM projects WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL
), old AS (
    SELECT trace_days, created_at, updated_at, row_version FROM retention_settings WHERE organization_id = $1 AND project_id = $2
), gone AS (
    DELETE FROM retention_settings
    WHERE organization_id = $1 AND project_id = (SELECT p.id FROM p) AND $3::integer IS NULL
    RETURNING trace_days
), changed AS (
    INSERT INTO retention_settings (organization_id, project_id, trace_days, created_at)
    SELECT $1, p.id, $3, $4 FROM p WHERE $3 IS NOT NULL AND $3 IS DISTINCT FROM (SELECT old.trace_days FROM old)
    ON CONFLICT (organization_id, project_id) DO UPDATE
    SET trace_days = excluded.trace_days, updated_at = excluded.created_at, row_version = retention_settings.row_version + 1
    RETURNING trace_days, created_at, updated_at, row_version
), now AS (
    SELECT trace_days, created_at, updated_at, row_version FROM changed
    UNION ALL
    SELECT trace_days, created_at, updated_at, row_version FROM old WHERE $3 = trace_days
)
SELECT p.id AS project_id, old.trace_days AS old_trace_days, old.created_at AS old_created_at, old.row_version AS old_row_version,
       now.trace_days, now.created_at, COALESCE(now.updated_at, now.created_at) AS changed_at, now.row_version,
       old.trace_days IS DISTINCT FROM now.trace_days AS is_changed
FROM p
LEFT JOIN old ON true
LEFT JOIN now ON true;
