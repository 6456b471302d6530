-- No row: the project does not exist.
-- name: api_key_create :optional
INSERT INTO api_keys (organization_id, id, name, created_by, user_id, project_id, scopes, token_prefix, token_hash, created_at, expires_at)
SELECT $1, $2, $3, $4, $4, $5, $6, $7, $8, $9, $10
WHERE $5::uuid IS NULL OR EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = $5 AND deleted_at IS NULL)
RETURNING id, name, created_by, project_id, scopes, token_prefix, created_at, expires_at, revoked_at, last_used_at;

-- A revoked key stays as it is. $3: now; $4: the project the caller is bound to, whose keys alone it may touch.
-- name: api_key_revoke :optional
UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3)
WHERE organization_id = $1 AND id = $2 AND ($4::uuid IS NULL OR project_id = $4)
RETURNING id, name, created_by, project_id, scopes, token_prefix, created_at, expires_at, revoked_at, last_used_at;

-- Ids are made in order of time, so newest first is the order of the key. $2: the last one of the page before; $3 to $5: NULL = any; $6: only
-- keys that work at this time, NULL = all; $7: the project the caller is bound to.
-- name: api_key_list :many
SELECT id, name, created_by, service_account_id, project_id, scopes, token_prefix, created_at, expires_at, revoked_at, last_used_at
FROM api_keys
WHERE organization_id = $1 AND ($2::uuid IS NULL OR id < $2) AND ($3::uuid IS NULL OR project_id = $3)
  AND ($4::uuid IS NULL OR created_by = $4) AND ($5::uuid IS NULL OR service_account_id = $5)
  AND ($6::timestamptz IS NULL OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $6)))
  AND ($7::uuid IS NULL OR project_id = $7)
ORDER BY id DESC
LIMIT $8;
