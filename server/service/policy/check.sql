-- What CheckPolicies does not know of itself, of project $2: whether it exists; the model by id $3 or else by name or alias $4 (where several
-- providers have one, of the provider that was made first) with its price at $6; the tags of prompt $5. NULL: not asked for.
-- name: policy_check_facts :one
SELECT EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL) AS project_exists,
       m.id AS model_id, p.id AS price_id, COALESCE(p.input_price, 0) AS input_price, COALESCE(p.cache_read_price, 0) AS cache_read_price,
       COALESCE(p.cache_write_price, 0) AS cache_write_price, COALESCE(p.output_price, 0) AS output_price,
       COALESCE(p.reasoning_price, 0) AS reasoning_price,
       COALESCE((SELECT array_agg(t.name ORDER BY t.name)
                 FROM prompts q
                 JOIN prompt_tags l ON l.organization_id = $1 AND l.prompt_id = q.id
                 JOIN tags t ON t.organization_id = $1 AND t.id = l.tag_id
                 WHERE q.organization_id = $1 AND q.id = $5 AND q.project_id = $2), '{}')::text[] AS tags
FROM (SELECT COALESCE($3::uuid, (SELECT n.model_id FROM ai_model_names n
                                 WHERE n.organization_id = $1 AND n.name = $4 ORDER BY n.provider_id LIMIT 1)) AS id) m
LEFT JOIN LATERAL (SELECT id, input_price, cache_read_price, cache_write_price, output_price, reasoning_price
                   FROM model_prices
                   WHERE organization_id = $1 AND model_id = m.id AND effective_at <= $6
                   ORDER BY effective_at DESC LIMIT 1) p ON true;
