-- What is asked about must exist; $2: the project, $3: the policy, NULL = not named; $4: the only project the caller may use, NULL = all.
-- name: policy_stats_find :one
SELECT $2::uuid IS NULL OR EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL) AS project_exists,
       $3::uuid IS NULL OR EXISTS (
           SELECT FROM policies p
           LEFT JOIN projects o ON o.organization_id = $1 AND o.id = p.project_id
           WHERE p.organization_id = $1 AND p.id = $3 AND o.deleted_at IS NULL
             AND (p.project_id IS NULL OR $4::uuid IS NULL OR p.project_id = $4)) AS policy_exists;

-- $2, $3: first and last day since the Unix epoch; $4: a project, $5: a policy, NULL = all. What belongs to a deleted project is not told, although
-- its rows stay until maintenance removes them.
-- name: policy_stats_list :many
SELECT to_char(s.day, 'YYYY-MM-DD') AS date, s.policy_id, p.name AS policy_name, sum(s.evaluated_count)::bigint AS evaluated_count,
       sum(s.passed_count)::bigint AS passed_count, sum(s.flagged_count)::bigint AS flagged_count, sum(s.masked_count)::bigint AS masked_count,
       sum(s.blocked_count)::bigint AS blocked_count
FROM policy_daily_stats s
JOIN policies p ON p.organization_id = $1 AND p.id = s.policy_id
JOIN projects r ON r.organization_id = $1 AND r.id = s.project_id AND r.deleted_at IS NULL
WHERE s.organization_id = $1 AND s.day >= date '1970-01-01' + $2::integer AND s.day <= date '1970-01-01' + $3::integer
  AND ($4::uuid IS NULL OR s.project_id = $4) AND ($5::uuid IS NULL OR s.policy_id = $5)
GROUP BY s.day, s.policy_id, p.name
ORDER BY s.day, s.policy_id
LIMIT $6;
