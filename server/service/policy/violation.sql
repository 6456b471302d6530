-- Violations. A deleted project's violations do not exist, although their rows stay until maintenance removes them. $3: the project the caller is
-- bound to.

-- name: violation_get :optional
SELECT v.id, v.project_id, v.policy_id, v.policy_version, v.policy_name, v.rule, v.action, v.severity, v.mode, v.stage, v.state, v.message,
       v.ranges, v.prompt_id, v.prompt_version, v.content_hash, v.trace_id, v.span_id, v.label, v.model, v.actor_id, v.created_at,
       v.acknowledged_at, v.acknowledged_by, v.acknowledge_comment, v.resolved_at, v.resolved_by, v.resolution, v.resolve_comment,
       v.row_version
FROM policy_violations v
WHERE v.organization_id = $1 AND v.id = $2 AND ($3::uuid IS NULL OR v.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = v.project_id AND deleted_at IS NULL);

-- Newest first; one row without an id for a project without any. $4, $5: ids from and before which, the page before taken into account; $6, $7:
-- times from and before which: an id is made within a minute of its row's time, so that $4 and $5 are wider by that and find the place. $8: states,
-- $9: severities, $10: actions. $11 policy, $12 prompt, $13 its version, $14 trace; NULL or 0 = any. $16: bytes of what callers wrote at
-- which the page is cut.
-- Each set of state, severity and action has its own stretch of ix_policy_violations_state, newest first: the newest of each are merged. A
-- policy, prompt, version or trace has an index of its own, which is walked for what else is asked. One of the parts is run. With its LIMIT y is
-- looked up for each row of the page, also by a plan that does not know how few they are.
-- name: violation_list :many
SELECT e.id, e.project_id, e.policy_id, e.policy_version, e.policy_name, e.rule, e.action, e.severity, e.mode, e.stage, e.state, e.message,
       e.ranges, e.prompt_id, e.prompt_version, e.content_hash, e.trace_id, e.span_id, e.label, e.model, e.actor_id, e.created_at,
       e.acknowledged_at, e.acknowledged_by, e.acknowledge_comment, e.resolved_at, e.resolved_by, e.resolution, e.resolve_comment,
       e.row_version, e.found
FROM projects p
LEFT JOIN LATERAL (
    SELECT y.id, y.project_id, y.policy_id, y.policy_version, y.policy_name, y.rule, y.action, y.severity, y.mode, y.stage, y.state,
           y.message, y.ranges, y.prompt_id, y.prompt_version, y.content_hash, y.trace_id, y.span_id, y.label, y.model, y.actor_id,
           y.created_at, y.acknowledged_at, y.acknowledged_by, y.acknowledge_comment, y.resolved_at, y.resolved_by, y.resolution,
           y.resolve_comment, y.row_version, count(*) OVER () AS found, row_number() OVER newest AS position,
           sum(octet_length(y.message) + COALESCE(octet_length(y.ranges::text), 0) + COALESCE(octet_length(y.acknowledge_comment), 0)
               + COALESCE(octet_length(y.resolve_comment), 0) + octet_length(y.policy_name)) OVER newest AS bytes
    FROM (
        SELECT found.id
        FROM (
            SELECT x.id
            FROM unnest($8::text[]) AS s (state)
            CROSS JOIN unnest($9::text[]) AS l (severity)
            CROSS JOIN unnest($10::text[]) AS a (action)
            CROSS JOIN LATERAL (
                SELECT v.id FROM policy_violations v
                WHERE v.organization_id = $1 AND v.project_id = $2 AND v.state = s.state AND v.severity = l.severity::smallint AND v.action = a.action
                  AND v.id >= $4 AND v.id < $5 AND v.created_at >= $6 AND v.created_at < $7
                ORDER BY v.id DESC
                LIMIT $15
            ) x
            WHERE $11::uuid IS NULL AND $12::uuid IS NULL AND $14::text IS NULL
            UNION ALL
            (SELECT v.id FROM policy_violations v
             WHERE v.organization_id = $1 AND v.project_id = $2 AND v.policy_id = $11 AND $12 IS NULL AND $14 IS NULL
               AND v.state = ANY ($8) AND v.severity = ANY ($9::smallint[]) AND v.action = ANY ($10)
               AND v.id >= $4 AND v.id < $5 AND v.created_at >= $6 AND v.created_at < $7
             ORDER BY v.id DESC
             LIMIT $15)
            UNION ALL
            (SELECT v.id FROM policy_violations v
             WHERE v.organization_id = $1 AND v.project_id = $2 AND v.prompt_id = $12 AND $13::integer = 0 AND $14 IS NULL
               AND ($11 IS NULL OR v.policy_id = $11) AND v.state = ANY ($8) AND v.severity = ANY ($9::smallint[]) AND v.action = ANY ($10)
               AND v.id >= $4 AND v.id < $5 AND v.created_at >= $6 AND v.created_at < $7
             ORDER BY v.id DESC
             LIMIT $15)
            UNION ALL
            (SELECT v.id FROM policy_violations v
             WHERE v.organization_id = $1 AND v.project_id = $2 AND v.prompt_id = $12 AND v.prompt_version = $13 AND $13 > 0 AND $14 IS NULL
               AND ($11 IS NULL OR v.policy_id = $11) AND v.state = ANY ($8) AND v.severity = ANY ($9::smallint[]) AND v.action = ANY ($10)
               AND v.id >= $4 AND v.id < $5 AND v.created_at >= $6 AND v.created_at < $7
             ORDER BY v.id DESC
             LIMIT $15)
            UNION ALL
            (SELECT v.id FROM policy_violations v
             WHERE v.organization_id = $1 AND v.project_id = $2 AND v.trace_id = decode($14, 'hex') AND ($11 IS NULL OR v.policy_id = $11)
               AND ($12 IS NULL OR v.prompt_id = $12) AND ($13 = 0 OR v.prompt_version = $13)
               AND v.state = ANY ($8) AND v.severity = ANY ($9::smallint[]) AND v.action = ANY ($10)
               AND v.id >= $4 AND v.id < $5 AND v.created_at >= $6 AND v.created_at < $7
             ORDER BY v.id DESC
             LIMIT $15)
        ) found
        ORDER BY found.id DESC
        LIMIT $15
    ) newest
    CROSS JOIN LATERAL (
        SELECT v.id, v.project_id, v.policy_id, v.policy_version, v.policy_name, v.rule, v.action, v.severity, v.mode, v.stage, v.state,
               v.message, v.ranges, v.prompt_id, v.prompt_version, v.content_hash, v.trace_id, v.span_id, v.label, v.model, v.actor_id,
               v.created_at, v.acknowledged_at, v.acknowledged_by, v.acknowledge_comment, v.resolved_at, v.resolved_by, v.resolution,
               v.resolve_comment, v.row_version
        FROM policy_violations v
        WHERE v.organization_id = $1 AND v.id = newest.id
        LIMIT 1
    ) y
    WINDOW newest AS (ORDER BY y.id DESC)
) e ON e.position = 1 OR e.bytes <= $16
WHERE p.organization_id = $1 AND p.id = $2 AND p.deleted_at IS NULL AND ($3::uuid IS NULL OR p.id = $3)
ORDER BY e.id DESC;

-- Whoever changes a violation goes first behind this, in a statement of its own, and reads what the one before left.
-- name: violation_lock :command
SELECT id FROM policy_violations WHERE organization_id = $1 AND id = $2 FOR UPDATE;

-- Both go out before violation_get in one flight.
-- name: violation_acknowledge :command
UPDATE policy_violations
SET state = 'acknowledged', acknowledged_at = $3, acknowledged_by = $4, acknowledge_comment = $5, updated_at = $3,
    row_version = row_version + 1
WHERE organization_id = $1 AND id = $2;

-- name: violation_resolve :command
UPDATE policy_violations
SET state = 'resolved', resolved_at = $3, resolved_by = $4, resolve_comment = $5, resolution = $6, updated_at = $3,
    row_version = row_version + 1
WHERE organization_id = $1 AND id = $2;
