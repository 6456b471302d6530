-- One statement, so that everything an organization needs exists or nothing does. $1 is also the first id of the organization's own row.
-- name: organization_create :one
WITH lookup AS (
    INSERT INTO organization_names (organization_id, slug, name, created_at) VALUES ($1, $2, $3, $5)
), organization AS (
    INSERT INTO organizations (organization_id, slug, name, description, created_at) VALUES ($1, $2, $3, $4, $5)
    RETURNING organization_id, slug, name, description, created_at, updated_at, row_version
), login AS (
    INSERT INTO login_names (email, organization_id, user_id) VALUES ($7, $1, $6)
), admin AS (
    INSERT INTO users (organization_id, id, email, name, role, password_hash, created_at, password_changed_at)
    VALUES ($1, $6, $7, $8, 'admin', $9, $5, $5)
), head AS (
    INSERT INTO audit_heads (organization_id, sequence, hash) VALUES ($1, 0, decode(repeat('00', 32), 'hex'))
)
SELECT organization_id, slug, name, description, created_at, updated_at, row_version FROM organization;

-- name: organization_get :one
SELECT organization_id, slug, name, description, created_at, updated_at, row_version
FROM organizations
WHERE organization_id = $1 AND deleted_at IS NULL;

-- What WhoAmI says beyond the principal: $2 is the id of a user, an API key or a service account.
-- name: organization_who_am_i :one
SELECT o.name AS organization_name, COALESCE(u.email, k.name, a.name) AS principal_name
FROM organizations o
LEFT JOIN users u ON u.organization_id = $1 AND u.id = $2
LEFT JOIN api_keys k ON k.organization_id = $1 AND k.id = $2
LEFT JOIN service_accounts a ON a.organization_id = $1 AND a.id = $2
WHERE o.organization_id = $1;
