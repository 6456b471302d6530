-- Two rows: the version taken as old, then the one taken as new; without a version where the prompt has none of that number. $4 the old one, 0 =
-- the one before the new one; $5 the new one, 0 = the current one.
-- name: prompt_two_versions :many
SELECT wanted.number, v.version, v.messages IS NOT NULL AS is_chat, v.content, v.messages, v.system_prompt, v.variables, v.parameters,
       v.content_hash, v.model_id,
       (SELECT m.name FROM ai_models m WHERE m.organization_id = $1 AND m.id = v.model_id) AS model_name
FROM (
    SELECT id, CASE WHEN $5::integer = 0 THEN current_version ELSE $5 END AS target FROM prompts
    WHERE organization_id = $1 AND id = $2 AND ($3::uuid IS NULL OR project_id = $3)
      AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = prompts.project_id AND deleted_at IS NULL)
    LIMIT 1
) p
CROSS JOIN LATERAL (
    SELECT 1 AS place, CASE WHEN $4::integer = 0 THEN p.target - 1 ELSE $4 END AS number
    UNION ALL
    SELECT 2, p.target
) wanted
LEFT JOIN LATERAL (
    SELECT version, content, messages, system_prompt, variables, parameters, content_hash, model_id
    FROM prompt_versions
    WHERE organization_id = $1 AND prompt_id = p.id AND version = wanted.number
    LIMIT 1
) v ON true
ORDER BY wanted.place;
