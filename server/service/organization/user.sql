-- The e-mail is unique in the installation by its row in login_names.
-- name: user_create :one
WITH login AS (
    INSERT INTO login_names (email, organization_id, user_id) VALUES ($3, $1, $2)
)
INSERT INTO users (organization_id, id, email, name, role, password_hash, created_at, password_changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
RETURNING organization_id, id, email, name, role, disabled, created_at, updated_at, password_changed_at, last_login_at, row_version;

-- By id ($2) or by e-mail ($3), the other one NULL.
-- name: user_get :optional
SELECT organization_id, id, email, name, role, disabled, created_at, updated_at, password_changed_at, last_login_at, row_version
FROM users
WHERE organization_id = $1 AND ($2::uuid IS NULL OR id = $2) AND ($3::text IS NULL OR email = $3);

-- $2, $3: the e-mails that begin with a text; $4: the last one of the page before; $5, $6: NULL = any role, disabled or not.
-- name: user_list :many
SELECT organization_id, id, email, name, role, disabled, created_at, updated_at, password_changed_at, last_login_at, row_version
FROM users
WHERE organization_id = $1 AND email >= $2 AND email < $3 AND email > $4 AND ($5::text IS NULL OR role = $5)
  AND ($6::boolean IS NULL OR disabled = $6)
ORDER BY email
LIMIT $7;
