-- A model is told with its provider's name. Every name and alias of it is a row of ai_model_names too, where it is unique at the provider.

-- taken: names of $11 (name and aliases) that another model of the provider has; the handler refuses, which rolls this back. In the order of
-- the names, so that two who want the same ones wait and do not lock each other out.
-- name: ai_model_create :one
WITH m AS (
    INSERT INTO ai_models (organization_id, id, provider_id, name, display_name, aliases, description, context_window_tokens,
                           max_output_tokens, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    RETURNING id, provider_id, name, display_name, aliases, description, context_window_tokens, max_output_tokens, deprecated, created_at,
              updated_at, row_version
), named AS (
    INSERT INTO ai_model_names (organization_id, provider_id, name, model_id)
    SELECT $1, $3, n.name, $2 FROM unnest($11::text[]) AS n (name) ORDER BY n.name
    ON CONFLICT DO NOTHING
    RETURNING name
)
SELECT m.id, m.provider_id, m.name, m.display_name, m.aliases, m.description, m.context_window_tokens, m.max_output_tokens, m.deprecated,
       m.created_at, m.updated_at, m.row_version,
       (SELECT name FROM model_providers WHERE organization_id = $1 AND id = $3) AS provider_name,
       ARRAY(SELECT n.name FROM unnest($11) AS n (name) WHERE NOT EXISTS (SELECT FROM named WHERE named.name = n.name)) AS taken
FROM m;

-- name: ai_model_get :optional
SELECT m.id, m.provider_id, m.name, m.display_name, m.aliases, m.description, m.context_window_tokens, m.max_output_tokens, m.deprecated,
       m.created_at, m.updated_at, m.row_version, p.name AS provider_name
FROM ai_models m
JOIN model_providers p ON p.organization_id = $1 AND p.id = m.provider_id
WHERE m.organization_id = $1 AND m.id = $2;

-- name: ai_model_list :many
SELECT m.id, m.provider_id, m.name, m.display_name, m.aliases, m.description, m.context_window_tokens, m.max_output_tokens, m.deprecated,
       m.created_at, m.updated_at, m.row_version, p.name AS provider_name
FROM (
    SELECT id, provider_id, name, display_name, aliases, description, context_window_tokens, max_output_tokens, deprecated, created_at,
           updated_at, row_version
    FROM ai_models
    WHERE organization_id = $1 AND name >= $2 AND name < $3 AND (name, id) > ($4, $5)
    ORDER BY name, id
    LIMIT $6
) m
JOIN model_providers p ON p.organization_id = $1 AND p.id = m.provider_id
ORDER BY m.name, m.id;

-- The models of one provider have different names.
-- name: ai_model_list_of_provider :many
SELECT m.id, m.provider_id, m.name, m.display_name, m.aliases, m.description, m.context_window_tokens, m.max_output_tokens, m.deprecated,
       m.created_at, m.updated_at, m.row_version, p.name AS provider_name
FROM ai_models m
JOIN model_providers p ON p.organization_id = $1 AND p.id = m.provider_id
WHERE m.organization_id = $1 AND m.provider_id = $2 AND m.name >= $3 AND m.name < $4 AND m.name > $5
ORDER BY m.name
LIMIT $6;

-- Goes out before ai_model_update in one flight: its names are what the change before left, and nobody refers to the model meanwhile.
-- name: ai_model_lock :command
SELECT id FROM ai_models WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- Writes without looking at the etag or at taken (see ai_model_create): the handler does, and a refusal rolls this back. $3: NULL = as it is.
-- $5: NULL with $4 = the name. $10, $11, $12: NULL = as it is.
-- name: ai_model_update :optional
WITH before AS (
    SELECT provider_id, name, display_name, aliases, description, context_window_tokens, max_output_tokens, deprecated
    FROM ai_models
    WHERE organization_id = $1 AND id = $2
), wanted AS (
    SELECT provider_id, COALESCE($3, name)::text AS name, CASE WHEN $6::boolean THEN $7::text[] ELSE aliases END AS aliases FROM before
), wanted_names AS (
    SELECT n.name, wanted.provider_id FROM wanted CROSS JOIN LATERAL unnest(wanted.aliases || wanted.name) AS n (name)
), own AS (
    SELECT name FROM ai_model_names WHERE organization_id = $1 AND model_id = $2
), dropped AS (
    DELETE FROM ai_model_names
    WHERE organization_id = $1 AND model_id = $2
      AND NOT EXISTS (SELECT FROM wanted_names WHERE wanted_names.name = ai_model_names.name)
), named AS (
    INSERT INTO ai_model_names (organization_id, provider_id, name, model_id)
    SELECT $1, w.provider_id, w.name, $2 FROM wanted_names w WHERE NOT EXISTS (SELECT FROM own WHERE own.name = w.name) ORDER BY w.name
    ON CONFLICT DO NOTHING
    RETURNING name
)
UPDATE ai_models m
SET name = wanted.name, display_name = CASE WHEN $4::boolean THEN COALESCE($5, wanted.name) ELSE m.display_name END,
    aliases = wanted.aliases, description = CASE WHEN $8::boolean THEN $9 ELSE m.description END,
    context_window_tokens = COALESCE($10, m.context_window_tokens), max_output_tokens = COALESCE($11, m.max_output_tokens),
    deprecated = COALESCE($12, m.deprecated), updated_at = $13, row_version = m.row_version + 1
FROM before, wanted
WHERE m.organization_id = $1 AND m.id = $2
RETURNING m.id, m.provider_id, m.name, m.display_name, m.aliases, m.description, m.context_window_tokens, m.max_output_tokens, m.deprecated,
          m.created_at, m.updated_at, m.row_version,
          (SELECT p.name FROM model_providers p WHERE p.organization_id = $1 AND p.id = m.provider_id) AS provider_name,
          ARRAY(SELECT w.name FROM wanted_names w
                WHERE NOT EXISTS (SELECT FROM own WHERE own.name = w.name)
                  AND NOT EXISTS (SELECT FROM named WHERE named.name = w.name)) AS taken,
          before.name AS old_name, before.display_name AS old_display_name, before.aliases AS old_aliases,
          before.description AS old_description, before.context_window_tokens AS old_context_window_tokens,
          before.max_output_tokens AS old_max_output_tokens, before.deprecated AS old_deprecated;

-- Names and prices go by cascade; a version that uses the model stops it by prompt_versions_model_id_fkey.
-- name: ai_model_delete :optional
DELETE FROM ai_models m
WHERE m.organization_id = $1 AND m.id = $2
RETURNING m.id, m.provider_id, m.name, m.display_name, m.aliases, m.description, m.context_window_tokens, m.max_output_tokens, m.deprecated,
          m.created_at, m.updated_at, m.row_version,
          (SELECT p.name FROM model_providers p WHERE p.organization_id = $1 AND p.id = m.provider_id) AS provider_name;
