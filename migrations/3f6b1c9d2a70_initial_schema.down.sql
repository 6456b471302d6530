-- revision: 3f6b1c9d2a70
-- revises:
-- created: 2026-11-23T00:00:00Z
-- message: initial schema

DROP TABLE audit_log, audit_heads, idempotency, prompt_versions, prompts, api_keys, sessions, projects, users, organizations, changes,
    login_failures, operator_tokens, login_names, organization_names;
DROP SCHEMA forge_partitions CASCADE;
