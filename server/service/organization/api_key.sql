-- For a user ($5) or for a service account ($6), whose project the key is bound to where it has one. $13: the role that the scopes need,
-- viewer 1, developer 2, admin 3. id is NULL where something is missing; the last columns say what.
-- name: api_key_create :one
WITH account AS (
    SELECT project_id, CASE role WHEN 'admin' THEN 3 WHEN 'developer' THEN 2 ELSE 1 END AS role
    FROM service_accounts
    WHERE organization_id = $1 AND id = $6
), allowed AS (
    SELECT $6::uuid IS NULL OR EXISTS (SELECT FROM account) AS account_found,
           $7::uuid IS NULL OR EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = $7 AND deleted_at IS NULL) AS project_found,
           COALESCE((SELECT role >= $13::integer FROM account), true) AS role_suffices,
           COALESCE((SELECT project_id = $7 FROM account WHERE $7::uuid IS NOT NULL), true) AS project_fits
), made AS (
    INSERT INTO api_keys (organization_id, id, name, created_by, user_id, service_account_id, project_id, scopes, token_prefix, token_hash,
                          created_at, expires_at)
    SELECT $1, $2, $3, $4, $5, $6, COALESCE($7, (SELECT project_id FROM account)), $8, $9, $10, $11, $12
    FROM allowed
    WHERE account_found AND project_found AND role_suffices AND project_fits
    RETURNING id, name, created_by, service_account_id, project_id, scopes, token_prefix, created_at, expires_at, revoked_at, last_used_at
)
SELECT m.id, m.name, m.created_by, m.service_account_id, m.project_id, m.scopes, m.token_prefix, m.created_at, m.expires_at, m.revoked_at,
       m.last_used_at, a.account_found, a.project_found, a.role_suffices
FROM allowed a
LEFT JOIN made m ON true;

-- A revoked key stays as it is. $3: now; $4: the project the caller is bound to, whose keys alone it may touch.
-- name: api_key_revoke :optional
UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3)
WHERE organization_id = $1 AND id = $2 AND ($4::uuid IS NULL OR project_id = $4)
RETURNING id, name, created_by, service_account_id, project_id, scopes, token_prefix, created_at, expires_at, revoked_at, last_used_at;

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
