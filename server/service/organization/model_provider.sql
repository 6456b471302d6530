-- name: model_provider_create :one
INSERT INTO model_providers (organization_id, id, name, provider_key, base_url, description, credential, credential_key_id, credential_suffix,
                             created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
RETURNING id, name, provider_key, base_url, description, credential IS NOT NULL AS has_credential, credential_suffix, created_at, updated_at,
          row_version;

-- name: model_provider_get :optional
SELECT id, name, provider_key, base_url, description, credential IS NOT NULL AS has_credential, credential_suffix, created_at, updated_at,
       row_version
FROM model_providers
WHERE organization_id = $1 AND id = $2;

-- name: model_provider_get_by_name :optional
SELECT id, name, provider_key, base_url, description, credential IS NOT NULL AS has_credential, credential_suffix, created_at, updated_at,
       row_version
FROM model_providers
WHERE organization_id = $1 AND name = $2;

-- name: model_provider_list :many
SELECT id, name, provider_key, base_url, description, credential IS NOT NULL AS has_credential, credential_suffix, created_at, updated_at,
       row_version
FROM model_providers
WHERE organization_id = $1 AND name >= $2 AND name < $3 AND name > $4
ORDER BY name
LIMIT $5;

-- Goes out before model_provider_update in one flight, so that what it tells as old is what it changes.
-- name: model_provider_lock :command
SELECT id FROM model_providers WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- Writes without looking at the etag: the handler does, and a refusal rolls this back. $3, $4: NULL = as it is.
-- name: model_provider_update :optional
WITH before AS (
    SELECT name, provider_key, base_url, description, credential IS NOT NULL AS has_credential, credential_suffix
    FROM model_providers
    WHERE organization_id = $1 AND id = $2
)
UPDATE model_providers p
SET name = COALESCE($3, p.name), provider_key = COALESCE($4, p.provider_key),
    base_url = CASE WHEN $5::boolean THEN $6 ELSE p.base_url END, description = CASE WHEN $7::boolean THEN $8 ELSE p.description END,
    credential = CASE WHEN $9::boolean THEN $10 ELSE p.credential END,
    credential_key_id = CASE WHEN $9 THEN $11 ELSE p.credential_key_id END,
    credential_suffix = CASE WHEN $9 THEN $12 ELSE p.credential_suffix END,
    updated_at = $13, row_version = p.row_version + 1
FROM before
WHERE p.organization_id = $1 AND p.id = $2
RETURNING p.id, p.name, p.provider_key, p.base_url, p.description, p.credential IS NOT NULL AS has_credential, p.credential_suffix,
          p.created_at, p.updated_at, p.row_version, before.name AS old_name, before.provider_key AS old_provider_key,
          before.base_url AS old_base_url, before.description AS old_description, before.has_credential AS old_has_credential,
          before.credential_suffix AS old_credential_suffix;

-- Its models go by cascade; one that a version uses stops it by prompt_versions_model_id_fkey.
-- name: model_provider_delete :optional
DELETE FROM model_providers
WHERE organization_id = $1 AND id = $2
RETURNING id, name, provider_key, base_url, description, credential IS NOT NULL AS has_credential, credential_suffix, created_at, updated_at,
          row_version;
