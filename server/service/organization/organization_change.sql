-- Taken by changes of an organization, its users and its policies; the statement after it reads what the one before left. No key is locked,
-- so that rows which refer to the organization go on being written.
-- name: organization_lock :command
SELECT organization_id FROM organizations WHERE organization_id = $1 FOR NO KEY UPDATE;

-- Both tables alike. Writes without looking at the etag: the handler does, and a refusal rolls this back.
-- name: organization_update :optional
WITH lookup AS (
    UPDATE organization_names
    SET name = CASE WHEN $2::boolean THEN $3 ELSE name END, slug = CASE WHEN $4::boolean THEN $5 ELSE slug END
    WHERE organization_id = $1 AND deleted_at IS NULL
), before AS (
    SELECT name, slug, description FROM organizations WHERE organization_id = $1
)
UPDATE organizations o
SET name = CASE WHEN $2::boolean THEN $3 ELSE o.name END, slug = CASE WHEN $4::boolean THEN $5 ELSE o.slug END,
    description = CASE WHEN $6::boolean THEN $7 ELSE o.description END, updated_at = $8, row_version = row_version + 1
FROM before
WHERE o.organization_id = $1 AND o.deleted_at IS NULL
RETURNING o.organization_id, o.slug, o.name, o.description, o.created_at, o.updated_at, o.row_version, before.slug AS old_slug,
          before.name AS old_name, before.description AS old_description;

-- Marks it; maintenance removes its rows. Etag and confirm_name are the handler's to compare, as above.
-- name: organization_delete :optional
WITH lookup AS (
    UPDATE organization_names SET deleted_at = $2 WHERE organization_id = $1 AND deleted_at IS NULL
)
UPDATE organizations SET deleted_at = $2, updated_at = $2, row_version = row_version + 1
WHERE organization_id = $1 AND deleted_at IS NULL
RETURNING organization_id, slug, name, description, created_at, updated_at, row_version;

-- For operators, who belong to no organization: what stands in the lookup table.
-- name: organization_list :many
SELECT organization_id, slug, name, created_at, deleted_at
FROM organization_names
WHERE slug >= $1 AND slug < $2 AND slug > $3 AND ($4::boolean OR deleted_at IS NULL)
ORDER BY slug
LIMIT $5;
