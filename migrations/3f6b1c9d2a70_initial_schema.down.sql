-- revision: 3f6b1c9d2a70
-- revises:
-- created: 2026-11-23T00:00:00Z
-- message: initial schema

-- IF EXISTS: until 1.0 this revision is rewritten in place, and going down to base is how a database with an earlier text of it is reset.
DROP TABLE IF EXISTS audit_log, audit_heads, idempotency, prompt_versions, prompts, api_keys, sessions, projects, users, organizations,
    changes, encryption_keys, login_failures, operator_tokens, login_names, organization_names;
DROP SCHEMA IF EXISTS forge_partitions CASCADE;
REVOKE USAGE ON SCHEMA public FROM forge_app;
