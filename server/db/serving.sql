-- What a connection of `forged serve` checks in its first flight (serving.c).

-- name: db_serving_role :one
SELECT current_user::text AS role, r.rolsuper AS is_superuser, r.rolbypassrls AS bypasses_row_security,
       EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = to_regnamespace('public') AND c.relkind IN ('r', 'p')
               AND pg_has_role(current_user, c.relowner, 'MEMBER')) AS owns_tables,
       COALESCE(has_schema_privilege(to_regnamespace('public'), 'USAGE'), false) AS uses_schema
FROM pg_roles r
WHERE r.rolname = current_user;

-- What forge_app is granted by migrations/: a test revokes each and expects it here.
-- name: db_serving_missing_grants :many
SELECT wanted.privilege || ' ON ' || wanted.relation AS missing
FROM (SELECT relation, unnest(privileges) AS privilege
      FROM (VALUES ('api_keys', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
                   ('audit_heads', ARRAY['SELECT', 'INSERT', 'UPDATE']),
                   ('audit_log', ARRAY['SELECT', 'INSERT']),
                   ('changes', ARRAY['SELECT', 'INSERT', 'DELETE']),
                   ('encryption_keys', ARRAY['SELECT', 'INSERT']),
                   ('idempotency', ARRAY['SELECT', 'INSERT', 'UPDATE']),
                   ('login_failures', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
                   ('login_names', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
                   ('operator_tokens', ARRAY['SELECT']),
                   ('organization_names', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
                   ('organizations', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
                   ('projects', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
                   ('prompt_versions', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
                   ('prompts', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
                   ('schema_revisions', ARRAY['SELECT']),
                   ('sessions', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
                   ('users', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'])) AS granted (relation, privileges)) AS wanted
WHERE has_schema_privilege(to_regnamespace('public'), 'USAGE')
  AND NOT has_table_privilege(to_regclass('public.' || wanted.relation), wanted.privilege)
ORDER BY wanted.relation, wanted.privilege;

-- name: db_serving_revisions :many
SELECT revision, serves FROM public.schema_revisions ORDER BY position;
