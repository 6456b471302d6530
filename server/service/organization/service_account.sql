-- The account and its names among those of all organizations. No row: the project does not exist.
-- name: service_account_create :optional
WITH account AS (
    INSERT INTO service_accounts (organization_id, id, name, description, role, project_id, san_uri, public_key_sha256, certificate_login,
                                  calls_in_flight_max, token_prefix, token_hash, expires_at, created_by, created_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
    WHERE $6::uuid IS NULL OR EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = $6 AND deleted_at IS NULL)
    RETURNING id, name, description, role, project_id, san_uri, public_key_sha256, certificate_login, calls_in_flight_max, token_prefix,
              expires_at, created_by, created_at, last_used_at
), names AS (
    INSERT INTO certificate_names (kind, value, organization_id, service_account_id)
    SELECT n.kind, n.value, $1, $2
    FROM (VALUES ('san_uri', $7::text), ('public_key', encode($8::bytea, 'hex'))) AS n (kind, value)
    WHERE n.value IS NOT NULL AND EXISTS (SELECT FROM account)
)
SELECT id, name, description, role, project_id, san_uri, public_key_sha256, certificate_login, calls_in_flight_max, token_prefix,
       expires_at, created_by, created_at, last_used_at
FROM account;

-- $5: the project the caller is bound to, whose accounts alone it may see.
-- name: service_account_list :many
SELECT id, name, description, role, project_id, san_uri, public_key_sha256, certificate_login, calls_in_flight_max, token_prefix,
       expires_at, created_by, created_at, last_used_at
FROM service_accounts
WHERE organization_id = $1 AND name >= $2 AND name < $3 AND name > $4 AND ($5::uuid IS NULL OR project_id = $5)
ORDER BY name
LIMIT $6;

-- Its keys go by cascade, its names here: they have no tenant and so no foreign key. $3: as above.
-- name: service_account_delete :optional
WITH account AS (
    DELETE FROM service_accounts
    WHERE organization_id = $1 AND id = $2 AND ($3::uuid IS NULL OR project_id = $3)
    RETURNING id, name, description, role, project_id, san_uri, public_key_sha256, certificate_login, calls_in_flight_max, token_prefix,
              expires_at, created_by, created_at, last_used_at
), names AS (
    DELETE FROM certificate_names
    WHERE organization_id = $1 AND service_account_id = $2 AND EXISTS (SELECT FROM account)
)
SELECT id, name, description, role, project_id, san_uri, public_key_sha256, certificate_login, calls_in_flight_max, token_prefix,
       expires_at, created_by, created_at, last_used_at
FROM account;
