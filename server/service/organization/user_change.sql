-- Behind organization_lock, so that others of the row and the other admins stand as the last change left them. Writes without looking at
-- the etag or at who is left: the handler does, and a refusal rolls this back.
-- name: user_update :optional
WITH before AS (
    SELECT name, role, disabled, password_changed_at FROM users WHERE organization_id = $1 AND id = $2
)
UPDATE users u
SET name = CASE WHEN $3::boolean THEN COALESCE($4, u.email) ELSE u.name END, role = COALESCE($5, u.role),
    disabled = COALESCE($6, u.disabled), password_hash = COALESCE($7, u.password_hash),
    password_changed_at = CASE WHEN $7::text IS NULL THEN u.password_changed_at ELSE $8 END,
    updated_at = $8, row_version = u.row_version + 1
FROM before
WHERE u.organization_id = $1 AND u.id = $2
RETURNING u.organization_id, u.id, u.email, u.name, u.role, u.disabled, u.created_at, u.updated_at, u.password_changed_at, u.last_login_at,
          u.row_version, before.name AS old_name, before.role AS old_role, before.disabled AS old_disabled,
          before.password_changed_at AS old_password_changed_at,
          EXISTS (SELECT FROM users WHERE organization_id = $1 AND role = 'admin' AND NOT disabled AND id <> $2) AS others_administer;

-- Behind organization_lock, as above. Sessions and keys that act for the user go by cascade; the e-mail is free again.
-- name: user_delete :optional
WITH login AS (
    DELETE FROM login_names WHERE organization_id = $1 AND user_id = $2
)
DELETE FROM users u
WHERE u.organization_id = $1 AND u.id = $2
RETURNING u.organization_id, u.id, u.email, u.name, u.role, u.disabled, u.created_at, u.updated_at, u.password_changed_at, u.last_login_at,
          u.row_version,
          EXISTS (SELECT FROM users WHERE organization_id = $1 AND role = 'admin' AND NOT disabled AND id <> $2) AS others_administer;

-- $3: the session that goes on, NULL = none.
-- name: user_end_sessions :command
DELETE FROM sessions WHERE organization_id = $1 AND user_id = $2 AND ($3::uuid IS NULL OR id <> $3);
