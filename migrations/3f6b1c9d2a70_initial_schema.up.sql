-- revision: 3f6b1c9d2a70
-- revises:
-- created: 2026-11-23T00:00:00Z
-- message: initial schema

-- Roles are cluster-wide and made by `forged bootstrap roles`; this file runs as forge_owner.
-- Every tenant table: organization_id leads every key and index, row-level security is enabled and forced.

CREATE SCHEMA forge_partitions;

-- Lookup tables without a tenant ------------------------------------------------------------------

CREATE TABLE organization_names (
    organization_id uuid NOT NULL,
    slug varchar(63) COLLATE "C" NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT organization_names_pkey PRIMARY KEY (organization_id)
);
CREATE UNIQUE INDEX ix_organization_names_slug ON organization_names (slug);

CREATE TABLE login_names (
    email varchar(254) COLLATE "C" NOT NULL,
    organization_id uuid NOT NULL,
    user_id uuid NOT NULL,
    CONSTRAINT login_names_pkey PRIMARY KEY (email)
);
CREATE INDEX ix_login_names_organization_id ON login_names (organization_id, user_id);

CREATE TABLE operator_tokens (
    id uuid NOT NULL,
    token_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT operator_tokens_pkey PRIMARY KEY (id),
    CONSTRAINT valid_token_hash CHECK (octet_length(token_hash) = 32)
);
CREATE UNIQUE INDEX ix_operator_tokens_token_hash ON operator_tokens (token_hash);

CREATE TABLE login_failures (
    key bytea NOT NULL,
    failures integer NOT NULL,
    last_failure_at timestamptz NOT NULL,
    locked_until timestamptz,
    CONSTRAINT login_failures_pkey PRIMARY KEY (key),
    CONSTRAINT valid_key CHECK (octet_length(key) = 32)
);

CREATE TABLE encryption_keys (
    key_id integer NOT NULL,
    check_value bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT encryption_keys_pkey PRIMARY KEY (key_id),
    CONSTRAINT valid_check_value CHECK (octet_length(check_value) = 32)
);

CREATE TABLE changes (
    change_id uuid NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    organization_id uuid NOT NULL,
    kind varchar(32) COLLATE "C" NOT NULL,
    object_id uuid,
    parent_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT changes_pkey PRIMARY KEY (change_id)
);
CREATE INDEX ix_changes_xid ON changes (xid);
CREATE INDEX ix_changes_created_at ON changes (created_at);

-- Organizations, users, credentials ---------------------------------------------------------------

CREATE TABLE organizations (
    organization_id uuid NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    slug varchar(63) COLLATE "C" NOT NULL,
    description text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz,
    deleted_at timestamptz,
    row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT organizations_pkey PRIMARY KEY (organization_id)
);

CREATE TABLE users (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    email varchar(254) COLLATE "C" NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    role varchar(16) COLLATE "C" NOT NULL,
    password_hash text NOT NULL,
    disabled boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz,
    password_changed_at timestamptz NOT NULL DEFAULT now(),
    last_login_at timestamptz,
    row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT users_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT users_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations (organization_id) ON DELETE CASCADE,
    CONSTRAINT valid_role CHECK (role IN ('admin', 'developer', 'viewer'))
);
CREATE UNIQUE INDEX ix_users_email ON users (organization_id, email);

CREATE TABLE projects (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    description text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz,
    deleted_at timestamptz,
    row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT projects_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT projects_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations (organization_id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX ix_projects_name ON projects (organization_id, name) WHERE deleted_at IS NULL;

CREATE TABLE sessions (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    token_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT sessions_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT sessions_user_id_fkey FOREIGN KEY (organization_id, user_id) REFERENCES users (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT valid_token_hash CHECK (octet_length(token_hash) = 32)
);
CREATE UNIQUE INDEX ix_sessions_token_hash ON sessions (organization_id, token_hash);
CREATE INDEX ix_sessions_user_id ON sessions (organization_id, user_id);

CREATE TABLE api_keys (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    created_by uuid NOT NULL,
    project_id uuid,
    scopes integer NOT NULL,
    token_prefix varchar(32) COLLATE "C" NOT NULL,
    token_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    CONSTRAINT api_keys_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT api_keys_created_by_fkey FOREIGN KEY (organization_id, created_by) REFERENCES users (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT api_keys_project_id_fkey FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT valid_scopes CHECK (scopes BETWEEN 1 AND 15),
    CONSTRAINT valid_token_hash CHECK (octet_length(token_hash) = 32)
);
CREATE UNIQUE INDEX ix_api_keys_token_hash ON api_keys (organization_id, token_hash);
CREATE INDEX ix_api_keys_created_by ON api_keys (organization_id, created_by);
CREATE INDEX ix_api_keys_project_id ON api_keys (organization_id, project_id);

-- Prompts -----------------------------------------------------------------------------------------

CREATE TABLE prompts (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    project_id uuid NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    description text,
    current_version integer NOT NULL,
    newest_version integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz,
    row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT prompts_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT prompts_project_id_fkey FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT valid_current_version CHECK (current_version BETWEEN 1 AND newest_version)
);
CREATE UNIQUE INDEX ix_prompts_name ON prompts (organization_id, project_id, name);
CREATE INDEX ix_prompts_created_at ON prompts (organization_id, created_at);

CREATE TABLE prompt_versions (
    organization_id uuid NOT NULL,
    prompt_id uuid NOT NULL,
    version integer NOT NULL,
    content text NOT NULL,
    messages jsonb,
    system_prompt text,
    variables jsonb NOT NULL DEFAULT '[]',
    model_id uuid,
    parameters jsonb,
    content_hash bytea NOT NULL,
    content_bytes integer NOT NULL,
    message text,
    author uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT prompt_versions_pkey PRIMARY KEY (organization_id, prompt_id, version),
    CONSTRAINT prompt_versions_prompt_id_fkey FOREIGN KEY (organization_id, prompt_id) REFERENCES prompts (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT valid_version CHECK (version >= 1),
    CONSTRAINT valid_content_hash CHECK (octet_length(content_hash) = 32)
);
-- The hash before the prompt: led by the prompt, the planner takes it for the primary key and walks all versions to find one.
CREATE UNIQUE INDEX ix_prompt_versions_content_hash ON prompt_versions (organization_id, content_hash, prompt_id);

-- Exactly once, audit -----------------------------------------------------------------------------

CREATE TABLE idempotency (
    organization_id uuid NOT NULL,
    principal_id uuid NOT NULL,
    request_id uuid NOT NULL,
    method varchar(128) COLLATE "C" NOT NULL,
    key_id integer NOT NULL,
    request_hash bytea NOT NULL,
    status smallint NOT NULL DEFAULT 0,
    response bytea,
    response_sealed boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_pkey PRIMARY KEY (organization_id, principal_id, request_id)
) PARTITION BY RANGE (request_id);
CREATE TABLE forge_partitions.idempotency_default PARTITION OF idempotency DEFAULT;

CREATE TABLE audit_heads (
    organization_id uuid NOT NULL,
    sequence bigint NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT audit_heads_pkey PRIMARY KEY (organization_id),
    CONSTRAINT audit_heads_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations (organization_id) ON DELETE CASCADE
);

CREATE TABLE audit_log (
    organization_id uuid NOT NULL,
    sequence bigint NOT NULL,
    principal_kind varchar(32) COLLATE "C" NOT NULL,
    principal_id uuid NOT NULL,
    action varchar(64) COLLATE "C" NOT NULL,
    target_kind varchar(32) COLLATE "C" NOT NULL,
    target_id uuid,
    details jsonb NOT NULL,
    canonical bytea NOT NULL,
    hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT audit_log_pkey PRIMARY KEY (organization_id, sequence)
);
CREATE INDEX ix_audit_log_created_at ON audit_log (organization_id, created_at);

-- Row-level security, on every tenant table and every partition by itself -----------------------

DO $$
DECLARE
    table_name regclass;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['organizations', 'users', 'projects', 'sessions', 'api_keys', 'prompts', 'prompt_versions',
                                      'idempotency', 'forge_partitions.idempotency_default', 'audit_heads', 'audit_log']::regclass[]
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', table_name);
        EXECUTE format('CREATE POLICY tenant ON %s USING (organization_id = current_setting(''forge.organization_id'')::uuid)'
                       ' WITH CHECK (organization_id = current_setting(''forge.organization_id'')::uuid)', table_name);
    END LOOP;
END
$$;

-- Grants: forge_app serves; parents only, operator tokens read-only -----------------------------

GRANT USAGE ON SCHEMA public TO forge_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON organization_names, login_names, login_failures, organizations, users, projects, sessions, api_keys,
    prompts, prompt_versions TO forge_app;
GRANT SELECT, INSERT, UPDATE ON idempotency, audit_heads TO forge_app;
GRANT SELECT, INSERT ON audit_log, encryption_keys TO forge_app;
GRANT SELECT, INSERT, DELETE ON changes TO forge_app;
GRANT SELECT ON operator_tokens TO forge_app;
