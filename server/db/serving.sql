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
FROM (SELECT unnest(relations) AS relation, privilege
      FROM (VALUES (ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'],
                    ARRAY['ai_model_names', 'ai_models', 'api_keys', 'certificate_names', 'dataset_items',
                          'dataset_versions', 'datasets', 'evaluation_results', 'evaluations', 'execution_totals',
                          'executions', 'label_gates', 'label_targets', 'labels', 'login_failures', 'login_names',
                          'model_prices', 'model_providers', 'organization_names', 'organizations', 'policies',
                          'policy_attachments', 'policy_daily_stats', 'policy_versions', 'policy_violations', 'projects',
                          'prompt_references', 'prompt_tags', 'prompt_versions', 'prompt_words', 'prompts', 'rate_windows',
                          'retention_settings', 'scores', 'service_accounts', 'sessions', 'spans', 'tags', 'traces',
                          'usage_daily', 'users']),
                   (ARRAY['SELECT', 'INSERT', 'UPDATE'],
                    ARRAY['audit_heads', 'idempotency']),
                   (ARRAY['SELECT', 'INSERT', 'DELETE'],
                    ARRAY['changes']),
                   (ARRAY['SELECT', 'INSERT'],
                    ARRAY['audit_log', 'encryption_keys', 'label_history', 'score_history']),
                   (ARRAY['SELECT'],
                    ARRAY['archives', 'operator_tokens', 'prompts_current', 'quotas', 'schema_revisions'])) AS granted (privileges, relations)
      CROSS JOIN LATERAL unnest(granted.privileges) AS privilege) AS wanted
WHERE has_schema_privilege(to_regnamespace('public'), 'USAGE')
  AND NOT has_table_privilege(to_regclass('public.' || wanted.relation), wanted.privilege)
ORDER BY wanted.relation, wanted.privilege;

-- name: db_serving_revisions :many
SELECT revision, serves FROM public.schema_revisions ORDER BY position;
