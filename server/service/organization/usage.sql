-- Usage of a project is told for as long as it is known by either: usage outlives projects.
-- name: usage_project_is_known :one
SELECT EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = $2)
    OR EXISTS (SELECT FROM usage_daily WHERE organization_id = $1 AND project_id = $2) AS is_known;

-- $2, $3: first and last day since the Unix epoch; $4: a project, NULL = all; $5: metrics, NULL = all; $6: tell projects apart. The nil UUID
-- stands for calls of no project.
-- name: usage_list :many
SELECT to_char(u.day, 'YYYY-MM-DD') AS date, u.project_id, u.metric, sum(u.value)::bigint AS value
FROM (
    SELECT day, CASE WHEN $6::boolean THEN NULLIF(project_id, '00000000-0000-0000-0000-000000000000') END AS project_id, metric, value
    FROM usage_daily
    WHERE organization_id = $1 AND day >= date '1970-01-01' + $2::integer AND day <= date '1970-01-01' + $3::integer
      AND ($4::uuid IS NULL OR project_id = $4) AND ($5::text[] IS NULL OR metric = ANY ($5))
) u
GROUP BY u.day, u.project_id, u.metric
HAVING sum(u.value) <> 0
ORDER BY u.day, u.project_id NULLS FIRST, u.metric
LIMIT $7;

-- $2: today, in days since the Unix epoch; $3: also those of this project; $4: also those of the organization. What exists at once is
-- counted where it is kept, the rest is what was used in the period so far.
-- name: usage_quotas :many
SELECT q.metric, q.period, NULLIF(q.project_id, '00000000-0000-0000-0000-000000000000') AS project_id, q.limit_value,
       CASE q.metric
           WHEN 'prompts' THEN (
               SELECT count(*) FROM prompts p
               JOIN projects o ON o.organization_id = p.organization_id AND o.id = p.project_id AND o.deleted_at IS NULL
               WHERE p.organization_id = $1 AND (q.project_id = '00000000-0000-0000-0000-000000000000' OR p.project_id = q.project_id))
           WHEN 'projects' THEN (SELECT count(*) FROM projects WHERE organization_id = $1 AND deleted_at IS NULL)
           WHEN 'users' THEN (SELECT count(*) FROM users WHERE organization_id = $1)
           ELSE (
               SELECT COALESCE(sum(u.value), 0)::bigint FROM usage_daily u
               WHERE u.organization_id = $1 AND u.metric = q.metric
                 AND (q.project_id = '00000000-0000-0000-0000-000000000000' OR u.project_id = q.project_id)
                 AND u.day <= date '1970-01-01' + $2::integer
                 AND u.day >= date_trunc(q.period, (date '1970-01-01' + $2::integer)::timestamp)::date)
       END AS used
FROM quotas q
WHERE q.organization_id = $1 AND (q.project_id = $3::uuid OR ($4::boolean AND q.project_id = '00000000-0000-0000-0000-000000000000'))
ORDER BY q.metric, q.period, q.project_id;
