-- Which organization an e-mail belongs to; the one look-up before a tenant is bound.
-- name: login_find :optional
SELECT organization_id, user_id FROM login_names WHERE email = $1;

-- name: login_user :optional
SELECT u.organization_id, u.id, u.email, u.name, u.role, u.password_hash, u.disabled, u.created_at, u.updated_at, u.password_changed_at,
       u.last_login_at, u.row_version, o.deleted_at
FROM users u
JOIN organizations o ON o.organization_id = $1
WHERE u.organization_id = $1 AND u.id = $2;

-- The password that was checked must still be the one: $4 is the hash that was read.
-- name: login_note :one
UPDATE users SET last_login_at = $3 WHERE organization_id = $1 AND id = $2 AND password_hash = $4 AND NOT disabled RETURNING id;

-- name: login_open_session :command
INSERT INTO sessions (organization_id, id, user_id, token_hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6);

-- name: login_drop_expired_sessions :command
DELETE FROM sessions WHERE organization_id = $1 AND user_id = $2 AND expires_at < $3;

-- $3: one session, NULL: all of the user.
-- name: logout :command
DELETE FROM sessions WHERE organization_id = $1 AND user_id = $2 AND ($3::uuid IS NULL OR id = $3);
