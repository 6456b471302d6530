-- name: project_create :one
INSERT INTO projects (organization_id, id, name, description, created_at)
VALUES ($1, $2, $3, $4, $5)
RETURNING organization_id, id, name, description, created_at, updated_at, row_version;

-- name: project_get :one
SELECT organization_id, id, name, description, created_at, updated_at, row_version
FROM projects
WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL;

-- name: project_get_by_name :optional
SELECT organization_id, id, name, description, created_at, updated_at, row_version
FROM projects
WHERE organization_id = $1 AND name = $2 AND deleted_at IS NULL;

-- name: project_list :many
SELECT organization_id, id, name, description, created_at, updated_at, row_version
FROM projects
WHERE organization_id = $1 AND name >= $2 AND name < $3 AND name > $4 AND deleted_at IS NULL AND ($5::uuid IS NULL OR id = $5)
ORDER BY name
LIMIT $6;
