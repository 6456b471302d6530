-- name: project_create :one
INSERT INTO projects (organization_id, id, name, description, created_at)
VALUES ($1, $2, $3, $4, $5)
RETURNING organization_id, id, name, description, created_at, updated_at, row_version;

-- name: project_get :one
SELECT organization_id, id, name, description, created_at, updated_at, row_version
FROM projects
WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL;

-- name: project_get_by_name :optional
SELECT organization_id, id, name, description, created_at, updated_at, row_version
FROM projects
WHERE organization_id = $1 AND name = $2 AND deleted_at IS NULL;

-- name: project_list :many
SELECT organization_id, id, name, description, created_at, updated_at, row_version
FROM projects
WHERE organization_id = $1 AND name >= $2 AND name < $3 AND name > $4 AND deleted_at IS NULL AND ($5::uuid IS NULL OR id = $5)
ORDER BY name
LIMIT $6;

-- Writes without looking at the etag: the handler does, and a refusal rolls this back.
-- name: project_update :optional
UPDATE projects
SET name = CASE WHEN $3::boolean THEN $4 ELSE name END, description = CASE WHEN $5::boolean THEN $6 ELSE description END,
    updated_at = $7, row_version = row_version + 1
WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL
RETURNING organization_id, id, name, description, created_at, updated_at, row_version;

-- Marks it; maintenance removes its rows. Etag and confirm_name are the handler's to compare, as above.
-- name: project_delete :optional
UPDATE projects SET deleted_at = $3, updated_at = $3, row_version = row_version + 1
WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL
RETURNING name, row_version;

-- Versions have no gaps, so the newest number is how many there are. $3: where the last 24 hours begin.
-- name: project_summary :optional
SELECT r.id, p.prompt_count, p.version_count, p.last_changed_at,
       x.execution_count + t.execution_count AS execution_count, x.success_count + t.success_count AS success_count,
       x.rated_count + t.rated_count AS rated_count, x.rating_sum + t.rating_sum AS rating_sum,
       (SELECT count(*) FROM datasets WHERE organization_id = $1 AND project_id = $2) AS dataset_count,
       e.evaluation_count, e.running_count, all_traces.trace_count, all_traces.last_end_ns,
       (SELECT count(*) FROM policies WHERE organization_id = $1 AND project_id = $2) AS policy_count,
       (SELECT count(*) FROM policy_violations WHERE organization_id = $1 AND project_id = $2 AND state IN ('open', 'acknowledged'))
           AS open_violation_count,
       recent.trace_count AS recent_trace_count, recent.error_count AS recent_error_count, recent.input_tokens, recent.cache_read_tokens,
       recent.cache_write_tokens, recent.output_tokens, recent.reasoning_tokens, recent.cost_micros,
       (SELECT trace_days FROM retention_settings WHERE organization_id = $1 AND project_id = $2) AS trace_days
FROM projects r
CROSS JOIN LATERAL (
    SELECT count(*) AS prompt_count, COALESCE(sum(newest_version), 0)::bigint AS version_count,
           max(COALESCE(updated_at, created_at)) AS last_changed_at
    FROM prompts WHERE organization_id = $1 AND project_id = $2
) p
CROSS JOIN LATERAL (
    SELECT count(*) AS execution_count, count(*) FILTER (WHERE n.success) AS success_count, count(n.rating) AS rated_count,
           COALESCE(sum(n.rating), 0)::bigint AS rating_sum
    FROM prompts q
    JOIN executions n ON n.organization_id = $1 AND n.prompt_id = q.id
    WHERE q.organization_id = $1 AND q.project_id = $2
) x
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(n.execution_count), 0)::bigint AS execution_count, COALESCE(sum(n.success_count), 0)::bigint AS success_count,
           COALESCE(sum(n.rating_counts[1] + n.rating_counts[2] + n.rating_counts[3] + n.rating_counts[4] + n.rating_counts[5]),
                    0)::bigint AS rated_count,
           COALESCE(sum(n.rating_counts[1] + 2 * n.rating_counts[2] + 3 * n.rating_counts[3] + 4 * n.rating_counts[4]
                        + 5 * n.rating_counts[5]), 0)::bigint AS rating_sum
    FROM prompts q
    JOIN execution_totals n ON n.organization_id = $1 AND n.prompt_id = q.id
    WHERE q.organization_id = $1 AND q.project_id = $2
) t
CROSS JOIN LATERAL (
    SELECT count(*) AS evaluation_count, count(*) FILTER (WHERE state = 'running') AS running_count
    FROM evaluations WHERE organization_id = $1 AND project_id = $2
) e
CROSS JOIN LATERAL (
    SELECT count(*) AS trace_count, max(end_ns) AS last_end_ns FROM traces WHERE organization_id = $1 AND project_id = $2
) all_traces
CROSS JOIN LATERAL (
    SELECT count(*) AS trace_count, count(*) FILTER (WHERE status = 2) AS error_count,
           COALESCE(sum(input_tokens), 0)::bigint AS input_tokens, COALESCE(sum(cache_read_tokens), 0)::bigint AS cache_read_tokens,
           COALESCE(sum(cache_write_tokens), 0)::bigint AS cache_write_tokens, COALESCE(sum(output_tokens), 0)::bigint AS output_tokens,
           COALESCE(sum(reasoning_tokens), 0)::bigint AS reasoning_tokens, COALESCE(sum(cost_micros), 0)::bigint AS cost_micros
    FROM traces WHERE organization_id = $1 AND project_id = $2 AND started_at >= $3
) recent
WHERE r.organization_id = $1 AND r.id = $2 AND r.deleted_at IS NULL;
