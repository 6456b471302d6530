-- name: prompt_policy_tags :many
SELECT t.name
FROM prompt_tags l
JOIN tags t ON t.organization_id = $1 AND t.id = l.tag_id
WHERE l.organization_id = $1 AND l.prompt_id = $2
ORDER BY t.name;
