-- name: password_find :optional
SELECT email, password_hash FROM users WHERE organization_id = $1 AND id = $2;

-- The password that was checked must still be the one: $5 is the hash that was read.
-- name: password_change :optional
UPDATE users SET password_hash = $3, password_changed_at = $4, updated_at = $4, row_version = row_version + 1
WHERE organization_id = $1 AND id = $2 AND password_hash = $5 AND NOT disabled
RETURNING id;
