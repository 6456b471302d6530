-- No row: the project does not exist.
-- name: api_key_create :optional
INSERT INTO api_keys (organization_id, id, name, created_by, user_id, project_id, scopes, token_prefix, token_hash, created_at, expires_at)
SELECT $1, $2, $3, $4, $4, $5, $6, $7, $8, $9, $10
WHERE $5::uuid IS NULL OR EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = $5 AND deleted_at IS NULL)
RETURNING id, name, created_by, project_id, scopes, token_prefix, created_at, expires_at, revoked_at;

-- A revoked key stays as it is. $3: now; $4: the project the caller is bound to, whose keys alone it may touch.
-- name: api_key_revoke :optional
UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3)
WHERE organization_id = $1 AND id = $2 AND ($4::uuid IS NULL OR project_id = $4)
RETURNING id, name, created_by, project_id, scopes, token_prefix, created_at, expires_at, revoked_at;
