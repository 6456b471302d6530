-- The wanted state of the schema, all of it. The migrations lead to it, `forged migrate check` proves it: change both together.
-- New revision: change this file, `forged migrate revision -m "..." --autogenerate`, review the two files.
-- Roles are cluster-wide and made by `forged bootstrap roles`; this file runs as forge_owner. The migrator's own table is not in it.
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

CREATE TABLE certificate_names (
    kind varchar(16) COLLATE "C" NOT NULL,
    value varchar(2048) COLLATE "C" NOT NULL,
    organization_id uuid NOT NULL,
    service_account_id uuid NOT NULL,
    CONSTRAINT certificate_names_pkey PRIMARY KEY (kind, value),
    CONSTRAINT valid_kind CHECK (kind::text IN ('san_uri', 'public_key'))
);
CREATE INDEX ix_certificate_names_organization_id ON certificate_names (organization_id, service_account_id);

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
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz, deleted_at timestamptz, row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT organizations_pkey PRIMARY KEY (organization_id)
);

CREATE TABLE users (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    email varchar(254) COLLATE "C" NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    role varchar(16) COLLATE "C" NOT NULL,
    password_hash text NOT NULL,
    disabled boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz,
    password_changed_at timestamptz NOT NULL DEFAULT now(),
    last_login_at timestamptz,
    row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT users_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT users_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations ON DELETE CASCADE,
    CONSTRAINT valid_role CHECK (role::text IN ('admin', 'developer', 'viewer'))
);
CREATE UNIQUE INDEX ix_users_email ON users (organization_id, email);
CREATE INDEX ix_users_role ON users (organization_id, role, email);
CREATE INDEX ix_users_disabled ON users (organization_id, disabled, email);

CREATE TABLE projects (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    description text,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz, deleted_at timestamptz, row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT projects_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT projects_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations ON DELETE CASCADE
);
CREATE UNIQUE INDEX ix_projects_name ON projects (organization_id, name) WHERE deleted_at IS NULL;

CREATE TABLE sessions (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    user_id uuid NOT NULL,
    token_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT sessions_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT sessions_user_id_fkey FOREIGN KEY (organization_id, user_id) REFERENCES users ON DELETE CASCADE,
    CONSTRAINT valid_token_hash CHECK (octet_length(token_hash) = 32)
);
CREATE UNIQUE INDEX ix_sessions_token_hash ON sessions (organization_id, token_hash);
CREATE INDEX ix_sessions_user_id ON sessions (organization_id, user_id);

CREATE TABLE service_accounts (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    description text,
    role varchar(16) COLLATE "C" NOT NULL,
    project_id uuid,
    san_uri varchar(2048) COLLATE "C",
    public_key_sha256 bytea,
    certificate_login boolean NOT NULL DEFAULT false,
    calls_in_flight_max integer NOT NULL DEFAULT 0,
    token_prefix varchar(32) COLLATE "C",
    token_hash bytea,
    expires_at timestamptz,
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    CONSTRAINT service_accounts_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT service_accounts_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations ON DELETE CASCADE,
    CONSTRAINT service_accounts_project_id_fkey FOREIGN KEY (organization_id, project_id) REFERENCES projects ON DELETE CASCADE,
    CONSTRAINT valid_role CHECK (role::text IN ('admin', 'developer', 'viewer')),
    CONSTRAINT valid_token_hash CHECK (octet_length(token_hash) = 32),
    CONSTRAINT valid_public_key_sha256 CHECK (octet_length(public_key_sha256) = 32),
    CONSTRAINT valid_calls_in_flight_max CHECK (calls_in_flight_max BETWEEN 0 AND 4096)
);
CREATE UNIQUE INDEX ix_service_accounts_name ON service_accounts (organization_id, name);
CREATE UNIQUE INDEX ix_service_accounts_token_hash ON service_accounts (organization_id, token_hash);
CREATE INDEX ix_service_accounts_project_id ON service_accounts (organization_id, project_id);

CREATE TABLE api_keys (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    created_by uuid NOT NULL,
    user_id uuid,
    service_account_id uuid,
    project_id uuid,
    scopes integer NOT NULL,
    token_prefix varchar(32) COLLATE "C" NOT NULL,
    token_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    CONSTRAINT api_keys_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT api_keys_user_id_fkey FOREIGN KEY (organization_id, user_id) REFERENCES users ON DELETE CASCADE,
    CONSTRAINT api_keys_service_account_id_fkey FOREIGN KEY (organization_id, service_account_id)
        REFERENCES service_accounts ON DELETE CASCADE,
    CONSTRAINT api_keys_project_id_fkey FOREIGN KEY (organization_id, project_id) REFERENCES projects ON DELETE CASCADE,
    CONSTRAINT valid_owner CHECK (num_nonnulls(user_id, service_account_id) = 1),
    CONSTRAINT valid_scopes CHECK (scopes BETWEEN 1 AND 15),
    CONSTRAINT valid_token_hash CHECK (octet_length(token_hash) = 32)
);
CREATE UNIQUE INDEX ix_api_keys_token_hash ON api_keys (organization_id, token_hash);
CREATE INDEX ix_api_keys_user_id ON api_keys (organization_id, user_id);
CREATE INDEX ix_api_keys_created_by ON api_keys (organization_id, created_by);
CREATE INDEX ix_api_keys_service_account_id ON api_keys (organization_id, service_account_id);
CREATE INDEX ix_api_keys_project_id ON api_keys (organization_id, project_id);

-- Prompts -----------------------------------------------------------------------------------------

CREATE TABLE prompts (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    project_id uuid NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    description text,
    current_version integer NOT NULL,
    newest_version integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz, row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT prompts_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT prompts_project_id_fkey FOREIGN KEY (organization_id, project_id) REFERENCES projects ON DELETE CASCADE,
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
    content_hash bytea NOT NULL, content_bytes integer NOT NULL,
    message text,
    author uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT prompt_versions_pkey PRIMARY KEY (organization_id, prompt_id, version),
    CONSTRAINT prompt_versions_prompt_id_fkey FOREIGN KEY (organization_id, prompt_id) REFERENCES prompts ON DELETE CASCADE,
    CONSTRAINT valid_version CHECK (version >= 1),
    CONSTRAINT valid_content_hash CHECK (octet_length(content_hash) = 32)
);
-- The hash before the prompt: led by the prompt, the planner takes it for the primary key and walks all versions to find one.
CREATE UNIQUE INDEX ix_prompt_versions_content_hash ON prompt_versions (organization_id, content_hash, prompt_id);

-- Labels, references, words ----------------------------------------------------------------------

CREATE TABLE labels (
    organization_id uuid NOT NULL, project_id uuid NOT NULL, prompt_id uuid NOT NULL,
    name varchar(64) COLLATE "C" NOT NULL,
    updated_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz, row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT labels_pkey PRIMARY KEY (organization_id, prompt_id, name),
    CONSTRAINT labels_prompt_id_fkey FOREIGN KEY (organization_id, prompt_id) REFERENCES prompts ON DELETE CASCADE
);
CREATE INDEX ix_labels_name ON labels (organization_id, project_id, name, prompt_id);
CREATE INDEX ix_labels_project_id ON labels (organization_id, project_id, prompt_id, name);

CREATE TABLE label_targets (
    organization_id uuid NOT NULL,
    prompt_id uuid NOT NULL,
    label varchar(64) COLLATE "C" NOT NULL,
    version integer NOT NULL,
    weight integer NOT NULL DEFAULT 1,
    CONSTRAINT label_targets_pkey PRIMARY KEY (organization_id, prompt_id, label, version),
    CONSTRAINT label_targets_prompt_id_label_fkey FOREIGN KEY (organization_id, prompt_id, label) REFERENCES labels ON DELETE CASCADE,
    CONSTRAINT label_targets_prompt_id_version_fkey FOREIGN KEY (organization_id, prompt_id, version)
        REFERENCES prompt_versions ON DELETE CASCADE,
    CONSTRAINT valid_weight CHECK (weight BETWEEN 1 AND 1000000)
);
CREATE INDEX ix_label_targets_version ON label_targets (organization_id, prompt_id, version);

CREATE TABLE label_history (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    prompt_id uuid NOT NULL,
    label varchar(64) COLLATE "C" NOT NULL,
    old_targets jsonb,
    new_targets jsonb,
    actor_id uuid NOT NULL,
    message text,
    moved_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT label_history_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT label_history_prompt_id_fkey FOREIGN KEY (organization_id, prompt_id) REFERENCES prompts ON DELETE CASCADE
);
CREATE INDEX ix_label_history_prompt_id ON label_history (organization_id, prompt_id, moved_at, id);
CREATE INDEX ix_label_history_label ON label_history (organization_id, prompt_id, label, moved_at, id);

CREATE TABLE label_gates (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    project_id uuid NOT NULL,
    prompt_id uuid,
    label varchar(64) COLLATE "C" NOT NULL,
    protected boolean NOT NULL DEFAULT false,
    require_evaluation boolean NOT NULL DEFAULT false,
    min_score double precision,
    dataset_id uuid,
    min_result_count integer NOT NULL DEFAULT 0,
    require_no_open_blocking_violations boolean NOT NULL DEFAULT false,
    updated_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz, row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT label_gates_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT label_gates_project_id_fkey FOREIGN KEY (organization_id, project_id) REFERENCES projects ON DELETE CASCADE,
    CONSTRAINT label_gates_prompt_id_fkey FOREIGN KEY (organization_id, prompt_id) REFERENCES prompts ON DELETE CASCADE,
    CONSTRAINT valid_min_score CHECK (min_score BETWEEN 0 AND 1),
    CONSTRAINT valid_min_result_count CHECK (min_result_count >= 0)
);
CREATE UNIQUE INDEX ix_label_gates_label ON label_gates (organization_id, project_id, label, prompt_id) NULLS NOT DISTINCT;
CREATE INDEX ix_label_gates_prompt_id ON label_gates (organization_id, prompt_id);
CREATE INDEX ix_label_gates_dataset_id ON label_gates (organization_id, dataset_id);

CREATE TABLE prompt_references (
    organization_id uuid NOT NULL,
    prompt_id uuid NOT NULL,
    version integer NOT NULL,
    position integer NOT NULL,
    referenced_prompt_id uuid NOT NULL,
    referenced_version integer,
    referenced_label varchar(64) COLLATE "C",
    CONSTRAINT prompt_references_pkey PRIMARY KEY (organization_id, prompt_id, version, position),
    CONSTRAINT prompt_references_prompt_id_version_fkey FOREIGN KEY (organization_id, prompt_id, version)
        REFERENCES prompt_versions ON DELETE CASCADE,
    CONSTRAINT prompt_references_referenced_prompt_id_fkey FOREIGN KEY (organization_id, referenced_prompt_id) REFERENCES prompts,
    CONSTRAINT valid_selector CHECK (referenced_version IS NULL OR referenced_label IS NULL)
);
CREATE INDEX ix_prompt_references_referenced_prompt_id ON prompt_references (organization_id, referenced_prompt_id);

CREATE TABLE prompt_words (
    organization_id uuid NOT NULL,
    project_id uuid NOT NULL,
    word varchar(64) COLLATE "C" NOT NULL,
    prompt_id uuid NOT NULL,
    CONSTRAINT prompt_words_pkey PRIMARY KEY (organization_id, project_id, word, prompt_id),
    CONSTRAINT prompt_words_prompt_id_fkey FOREIGN KEY (organization_id, prompt_id) REFERENCES prompts ON DELETE CASCADE
);
CREATE INDEX ix_prompt_words_prompt_id ON prompt_words (organization_id, prompt_id);

-- Tags and executions ----------------------------------------------------------------------------

CREATE SEQUENCE tags_id_seq;
CREATE TABLE tags (
    organization_id uuid NOT NULL,
    id bigint NOT NULL DEFAULT nextval('tags_id_seq'),
    name varchar(100) COLLATE "C" NOT NULL,
    CONSTRAINT tags_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT tags_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations ON DELETE CASCADE
);
ALTER SEQUENCE tags_id_seq OWNED BY tags.id;
CREATE UNIQUE INDEX ix_tags_name ON tags (organization_id, name);

CREATE TABLE prompt_tags (
    organization_id uuid NOT NULL,
    prompt_id uuid NOT NULL,
    tag_id bigint NOT NULL,
    CONSTRAINT prompt_tags_pkey PRIMARY KEY (organization_id, prompt_id, tag_id),
    CONSTRAINT prompt_tags_prompt_id_fkey FOREIGN KEY (organization_id, prompt_id) REFERENCES prompts ON DELETE CASCADE,
    CONSTRAINT prompt_tags_tag_id_fkey FOREIGN KEY (organization_id, tag_id) REFERENCES tags ON DELETE CASCADE
);
CREATE INDEX ix_prompt_tags_tag_id ON prompt_tags (organization_id, tag_id, prompt_id);

CREATE SEQUENCE executions_id_seq;
CREATE TABLE executions (
    organization_id uuid NOT NULL,
    id bigint NOT NULL DEFAULT nextval('executions_id_seq'),
    prompt_id uuid NOT NULL,
    version integer NOT NULL,
    rating smallint,
    success boolean NOT NULL DEFAULT true,
    notes text,
    executed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT executions_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT executions_prompt_id_fkey FOREIGN KEY (organization_id, prompt_id) REFERENCES prompts ON DELETE CASCADE,
    CONSTRAINT valid_rating CHECK (rating BETWEEN 1 AND 5)
);
ALTER SEQUENCE executions_id_seq OWNED BY executions.id;
CREATE INDEX ix_executions_prompt_id ON executions (organization_id, prompt_id, executed_at, id);
CREATE INDEX ix_executions_executed_at ON executions (organization_id, executed_at);

CREATE TABLE execution_totals (
    organization_id uuid NOT NULL,
    prompt_id uuid NOT NULL,
    version integer NOT NULL,
    execution_count bigint NOT NULL, success_count bigint NOT NULL, rating_counts bigint[] NOT NULL,
    first_executed_at timestamptz NOT NULL, last_executed_at timestamptz NOT NULL,
    CONSTRAINT execution_totals_pkey PRIMARY KEY (organization_id, prompt_id, version),
    CONSTRAINT execution_totals_prompt_id_fkey FOREIGN KEY (organization_id, prompt_id) REFERENCES prompts ON DELETE CASCADE,
    CONSTRAINT valid_rating_counts CHECK (array_length(rating_counts, 1) = 5)
);

-- Model providers and models ---------------------------------------------------------------------

CREATE TABLE model_providers (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    provider_key varchar(64) COLLATE "C" NOT NULL,
    base_url text,
    description text,
    credential bytea,
    credential_key_id integer,
    credential_suffix varchar(4) COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz, row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT model_providers_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT model_providers_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations ON DELETE CASCADE,
    CONSTRAINT valid_credential CHECK ((credential IS NULL) = (credential_key_id IS NULL))
);
CREATE UNIQUE INDEX ix_model_providers_name ON model_providers (organization_id, name);
CREATE UNIQUE INDEX ix_model_providers_provider_key ON model_providers (organization_id, provider_key);
CREATE INDEX ix_model_providers_credential_key_id ON model_providers (organization_id, credential_key_id);

CREATE TABLE ai_models (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    provider_id uuid NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    display_name varchar(255) COLLATE "C" NOT NULL,
    aliases text[] NOT NULL DEFAULT '{}',
    description text,
    context_window_tokens bigint NOT NULL DEFAULT 0, max_output_tokens bigint NOT NULL DEFAULT 0,
    deprecated boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz, row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT ai_models_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT ai_models_provider_id_fkey FOREIGN KEY (organization_id, provider_id) REFERENCES model_providers ON DELETE CASCADE
);
CREATE INDEX ix_ai_models_name ON ai_models (organization_id, name, id);
CREATE INDEX ix_ai_models_provider_id ON ai_models (organization_id, provider_id, name);

CREATE TABLE ai_model_names (
    organization_id uuid NOT NULL,
    provider_id uuid NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    model_id uuid NOT NULL,
    CONSTRAINT ai_model_names_pkey PRIMARY KEY (organization_id, provider_id, name),
    CONSTRAINT ai_model_names_model_id_fkey FOREIGN KEY (organization_id, model_id) REFERENCES ai_models ON DELETE CASCADE
);
CREATE INDEX ix_ai_model_names_model_id ON ai_model_names (organization_id, model_id);

CREATE TABLE model_prices (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    model_id uuid NOT NULL,
    effective_at timestamptz NOT NULL,
    currency varchar(3) COLLATE "C" NOT NULL DEFAULT 'USD',
    input_price bigint NOT NULL DEFAULT 0, cache_read_price bigint NOT NULL DEFAULT 0, cache_write_price bigint NOT NULL DEFAULT 0,
    output_price bigint NOT NULL DEFAULT 0, reasoning_price bigint NOT NULL DEFAULT 0,
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT model_prices_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT model_prices_model_id_fkey FOREIGN KEY (organization_id, model_id) REFERENCES ai_models ON DELETE CASCADE,
    CONSTRAINT valid_prices CHECK (least(input_price, cache_read_price, cache_write_price, output_price, reasoning_price) >= 0)
);
CREATE UNIQUE INDEX ix_model_prices_effective_at ON model_prices (organization_id, model_id, effective_at);

-- Evaluations ------------------------------------------------------------------------------------

CREATE TABLE datasets (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    project_id uuid NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    description text,
    latest_version integer NOT NULL DEFAULT 0,
    item_count integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz, row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT datasets_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT datasets_project_id_fkey FOREIGN KEY (organization_id, project_id) REFERENCES projects ON DELETE CASCADE
);
CREATE UNIQUE INDEX ix_datasets_name ON datasets (organization_id, project_id, name);

CREATE TABLE dataset_versions (
    organization_id uuid NOT NULL,
    dataset_id uuid NOT NULL,
    version integer NOT NULL,
    content_hash bytea NOT NULL,
    item_count integer NOT NULL,
    message text,
    author uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dataset_versions_pkey PRIMARY KEY (organization_id, dataset_id, version),
    CONSTRAINT dataset_versions_dataset_id_fkey FOREIGN KEY (organization_id, dataset_id) REFERENCES datasets ON DELETE CASCADE,
    CONSTRAINT valid_content_hash CHECK (octet_length(content_hash) = 32)
);

CREATE TABLE dataset_items (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    dataset_id uuid NOT NULL,
    key varchar(255) COLLATE "C" NOT NULL,
    first_version integer NOT NULL,
    end_version integer,
    input text NOT NULL,
    expected_output text NOT NULL,
    metadata text,
    source_trace_id bytea, source_span_id bytea,
    content_hash bytea NOT NULL, content_bytes integer NOT NULL,
    CONSTRAINT dataset_items_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT dataset_items_dataset_id_fkey FOREIGN KEY (organization_id, dataset_id) REFERENCES datasets ON DELETE CASCADE,
    CONSTRAINT valid_content_hash CHECK (octet_length(content_hash) = 32),
    CONSTRAINT valid_end_version CHECK (end_version > first_version)
);
CREATE UNIQUE INDEX ix_dataset_items_key ON dataset_items (organization_id, dataset_id, key, first_version);
CREATE UNIQUE INDEX ix_dataset_items_latest ON dataset_items (organization_id, dataset_id, key) WHERE end_version IS NULL;

CREATE TABLE evaluations (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    project_id uuid NOT NULL,
    name varchar(255) COLLATE "C" NOT NULL,
    description text,
    state varchar(16) COLLATE "C" NOT NULL DEFAULT 'running',
    prompt_id uuid, prompt_version integer NOT NULL, prompt_content_hash bytea NOT NULL,
    dataset_id uuid, dataset_version integer NOT NULL, dataset_content_hash bytea NOT NULL,
    evaluators jsonb NOT NULL,
    repetitions integer NOT NULL DEFAULT 1,
    pass_threshold double precision NOT NULL DEFAULT 1,
    expected_result_count bigint NOT NULL,
    model_id uuid,
    metadata jsonb,
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz,
    ended_at timestamptz,
    row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT evaluations_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT evaluations_project_id_fkey FOREIGN KEY (organization_id, project_id) REFERENCES projects ON DELETE CASCADE,
    CONSTRAINT evaluations_prompt_id_prompt_version_fkey FOREIGN KEY (organization_id, prompt_id, prompt_version)
        REFERENCES prompt_versions ON DELETE SET NULL (prompt_id),
    CONSTRAINT evaluations_dataset_id_dataset_version_fkey FOREIGN KEY (organization_id, dataset_id, dataset_version)
        REFERENCES dataset_versions ON DELETE SET NULL (dataset_id),
    CONSTRAINT evaluations_model_id_fkey FOREIGN KEY (organization_id, model_id) REFERENCES ai_models ON DELETE SET NULL (model_id),
    CONSTRAINT valid_state CHECK (state::text IN ('running', 'completed', 'cancelled')),
    CONSTRAINT valid_repetitions CHECK (repetitions BETWEEN 1 AND 100),
    CONSTRAINT valid_pass_threshold CHECK (pass_threshold BETWEEN 0 AND 1)
);
CREATE INDEX ix_evaluations_project_id ON evaluations (organization_id, project_id, id);
CREATE INDEX ix_evaluations_prompt_id ON evaluations (organization_id, prompt_id, prompt_version, id);
CREATE INDEX ix_evaluations_dataset_id ON evaluations (organization_id, dataset_id, dataset_version);
CREATE INDEX ix_evaluations_model_id ON evaluations (organization_id, model_id);

CREATE TABLE evaluation_results (
    organization_id uuid NOT NULL,
    evaluation_id uuid NOT NULL,
    item_key varchar(255) COLLATE "C" NOT NULL,
    repetition integer NOT NULL,
    item_id uuid NOT NULL,
    output text NOT NULL,
    error text,
    latency_us bigint,
    input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint,
    output_tokens bigint, reasoning_tokens bigint,
    cost_micros bigint,
    price_id uuid,
    trace_id bytea, span_id bytea,
    evaluator_scores jsonb NOT NULL,
    score double precision NOT NULL,
    passed boolean NOT NULL,
    content_hash bytea NOT NULL, content_bytes integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT evaluation_results_pkey PRIMARY KEY (organization_id, evaluation_id, item_key, repetition),
    CONSTRAINT evaluation_results_evaluation_id_fkey FOREIGN KEY (organization_id, evaluation_id) REFERENCES evaluations ON DELETE CASCADE,
    CONSTRAINT valid_score CHECK (score BETWEEN 0 AND 1),
    CONSTRAINT valid_content_hash CHECK (octet_length(content_hash) = 32)
);

-- Traces, spans, scores --------------------------------------------------------------------------

CREATE TABLE traces (
    organization_id uuid NOT NULL,
    project_id uuid NOT NULL,
    trace_id bytea NOT NULL,
    started_at timestamptz NOT NULL,
    start_ns bigint NOT NULL, end_ns bigint NOT NULL, duration_ns bigint NOT NULL,
    status smallint NOT NULL,
    span_count bigint NOT NULL, error_count bigint NOT NULL,
    input_tokens bigint NOT NULL DEFAULT 0, cache_read_tokens bigint NOT NULL DEFAULT 0, cache_write_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0, reasoning_tokens bigint NOT NULL DEFAULT 0,
    cost_micros bigint NOT NULL DEFAULT 0, root_start_ns bigint, root_span_id bytea, name varchar(255) COLLATE "C",
    session_id varchar(255) COLLATE "C", user_id varchar(255) COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT traces_pkey PRIMARY KEY (organization_id, project_id, trace_id),
    CONSTRAINT traces_project_id_fkey FOREIGN KEY (organization_id, project_id) REFERENCES projects ON DELETE CASCADE,
    CONSTRAINT valid_trace_id CHECK (octet_length(trace_id) = 16),
    CONSTRAINT valid_duration CHECK (duration_ns >= 0)
);
CREATE INDEX ix_traces_started_at ON traces (organization_id, project_id, started_at DESC, trace_id, session_id);
CREATE INDEX ix_traces_status ON traces (organization_id, project_id, status, started_at DESC, trace_id);
CREATE INDEX ix_traces_session_id ON traces (organization_id, project_id, session_id, started_at DESC, trace_id) WHERE session_id IS NOT NULL;
CREATE INDEX ix_traces_user_id ON traces (organization_id, project_id, user_id, started_at DESC, trace_id) WHERE user_id IS NOT NULL;
CREATE INDEX ix_traces_duration_ns ON traces (organization_id, project_id, duration_ns, trace_id);

CREATE TABLE spans (
    organization_id uuid NOT NULL,
    project_id uuid NOT NULL,
    trace_id bytea NOT NULL,
    span_id bytea NOT NULL,
    started_at timestamptz NOT NULL,
    parent_span_id bytea,
    name varchar(255) COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    start_ns bigint NOT NULL, end_ns bigint NOT NULL,
    status smallint NOT NULL,
    status_message text,
    provider varchar(64) COLLATE "C",
    model varchar(255) COLLATE "C",
    model_id uuid,
    parameters text,
    input_tokens bigint NOT NULL DEFAULT 0, cache_read_tokens bigint NOT NULL DEFAULT 0, cache_write_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0, reasoning_tokens bigint NOT NULL DEFAULT 0,
    cost_micros bigint, price_id uuid, time_to_first_token_us bigint,
    prompt_id uuid, prompt_version integer, prompt_label varchar(64) COLLATE "C",
    session_id varchar(255) COLLATE "C", user_id varchar(255) COLLATE "C",
    input text, output text, details bytea,
    policy_action smallint NOT NULL DEFAULT 0,
    content_hash bytea NOT NULL,
    ingested_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT spans_pkey PRIMARY KEY (organization_id, project_id, trace_id, span_id, started_at)
) PARTITION BY RANGE (started_at);
CREATE INDEX ix_spans_model ON spans (organization_id, project_id, model, started_at, trace_id) WHERE model IS NOT NULL;
CREATE INDEX ix_spans_prompt_id ON spans (organization_id, prompt_id, prompt_version, started_at, trace_id) WHERE prompt_id IS NOT NULL;

CREATE TABLE scores (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    project_id uuid NOT NULL,
    target_kind varchar(16) COLLATE "C" NOT NULL, target varchar(300) COLLATE "C" NOT NULL,
    name varchar(100) COLLATE "C" NOT NULL, author varchar(255) COLLATE "C" NOT NULL,
    source varchar(8) COLLATE "C" NOT NULL,
    number double precision, category varchar(100) COLLATE "C", flag boolean, body text, comment text,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz, changed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT scores_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT scores_project_id_fkey FOREIGN KEY (organization_id, project_id) REFERENCES projects ON DELETE CASCADE,
    CONSTRAINT valid_target_kind CHECK (target_kind::text IN ('trace', 'span', 'session', 'execution')),
    CONSTRAINT valid_source CHECK (source::text IN ('human', 'code', 'model')),
    CONSTRAINT valid_value CHECK (num_nonnulls(number, category, flag, body) = 1)
);
CREATE UNIQUE INDEX ix_scores_target ON scores (organization_id, project_id, target_kind, target, name, author);
CREATE INDEX ix_scores_changed_at ON scores (organization_id, project_id, changed_at, id);
CREATE INDEX ix_scores_name ON scores (organization_id, project_id, name, changed_at, id);
CREATE INDEX ix_scores_author ON scores (organization_id, project_id, author, changed_at, id);
CREATE INDEX ix_scores_source ON scores (organization_id, project_id, source, changed_at, id);

CREATE TABLE score_history (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    score_id uuid NOT NULL, project_id uuid NOT NULL,
    name varchar(100) COLLATE "C" NOT NULL, author varchar(255) COLLATE "C" NOT NULL, source varchar(8) COLLATE "C" NOT NULL,
    number double precision, category varchar(100) COLLATE "C", flag boolean, body text, comment text,
    changed_at timestamptz NOT NULL, replaced_at timestamptz NOT NULL,
    CONSTRAINT score_history_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT score_history_score_id_fkey FOREIGN KEY (organization_id, score_id) REFERENCES scores ON DELETE CASCADE
);
CREATE INDEX ix_score_history_score_id ON score_history (organization_id, score_id, changed_at);
CREATE INDEX ix_score_history_changed_at ON score_history (organization_id, project_id, changed_at, score_id);
CREATE INDEX ix_score_history_name ON score_history (organization_id, project_id, name, changed_at, score_id);
CREATE INDEX ix_score_history_author ON score_history (organization_id, project_id, author, changed_at, score_id);
CREATE INDEX ix_score_history_source ON score_history (organization_id, project_id, source, changed_at, score_id);

CREATE TABLE retention_settings (
    organization_id uuid NOT NULL,
    project_id uuid NOT NULL,
    trace_days integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz, row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT retention_settings_pkey PRIMARY KEY (organization_id, project_id),
    CONSTRAINT retention_settings_project_id_fkey FOREIGN KEY (organization_id, project_id) REFERENCES projects ON DELETE CASCADE,
    CONSTRAINT valid_trace_days CHECK (trace_days BETWEEN 1 AND 3650)
);

CREATE TABLE archives (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    kind varchar(16) COLLATE "C" NOT NULL,
    state varchar(16) COLLATE "C" NOT NULL,
    path text NOT NULL,
    sha256 bytea,
    row_count bigint NOT NULL,
    first_at timestamptz NOT NULL, last_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz,
    CONSTRAINT archives_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT archives_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations ON DELETE CASCADE,
    CONSTRAINT valid_kind CHECK (kind::text IN ('executions', 'spans')),
    CONSTRAINT valid_state CHECK (state::text IN ('writing', 'complete', 'restored'))
);
CREATE INDEX ix_archives_kind ON archives (organization_id, kind, first_at);

-- Policies ---------------------------------------------------------------------------------------

CREATE TABLE policies (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    project_id uuid,
    name varchar(255) COLLATE "C" NOT NULL,
    description text,
    disabled boolean NOT NULL DEFAULT false,
    draft_mode varchar(8) COLLATE "C" NOT NULL DEFAULT 'enforce',
    draft_rules jsonb NOT NULL DEFAULT '[]',
    draft_hash bytea NOT NULL,
    published_version integer NOT NULL DEFAULT 0,
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz, row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT policies_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT policies_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations ON DELETE CASCADE,
    CONSTRAINT policies_project_id_fkey FOREIGN KEY (organization_id, project_id) REFERENCES projects ON DELETE CASCADE,
    CONSTRAINT valid_draft_mode CHECK (draft_mode::text IN ('enforce', 'dry_run'))
);
CREATE UNIQUE INDEX ix_policies_name ON policies (organization_id, project_id, name) NULLS NOT DISTINCT;
CREATE INDEX ix_policies_order ON policies (organization_id, name, id);

CREATE TABLE policy_versions (
    organization_id uuid NOT NULL,
    policy_id uuid NOT NULL,
    version integer NOT NULL,
    mode varchar(8) COLLATE "C" NOT NULL,
    rules jsonb NOT NULL,
    content_hash bytea NOT NULL,
    message text,
    published_by uuid NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT policy_versions_pkey PRIMARY KEY (organization_id, policy_id, version),
    CONSTRAINT policy_versions_policy_id_fkey FOREIGN KEY (organization_id, policy_id) REFERENCES policies ON DELETE CASCADE,
    CONSTRAINT valid_mode CHECK (mode::text IN ('enforce', 'dry_run')),
    CONSTRAINT valid_content_hash CHECK (octet_length(content_hash) = 32)
);

CREATE TABLE policy_attachments (
    organization_id uuid NOT NULL,
    policy_id uuid NOT NULL,
    position integer NOT NULL,
    target_kind varchar(16) COLLATE "C" NOT NULL,
    project_id uuid,
    label varchar(64) COLLATE "C",
    model_id uuid,
    CONSTRAINT policy_attachments_pkey PRIMARY KEY (organization_id, policy_id, position),
    CONSTRAINT policy_attachments_policy_id_fkey FOREIGN KEY (organization_id, policy_id) REFERENCES policies ON DELETE CASCADE,
    CONSTRAINT valid_target_kind CHECK (target_kind::text IN ('organization', 'project', 'label', 'model')),
    CONSTRAINT valid_target CHECK (num_nonnulls(project_id, label, model_id) = CASE WHEN target_kind = 'organization' THEN 0 ELSE 1 END)
);

CREATE TABLE policy_violations (
    organization_id uuid NOT NULL, id uuid NOT NULL,
    project_id uuid NOT NULL,
    policy_id uuid NOT NULL,
    policy_version integer NOT NULL,
    policy_name varchar(255) COLLATE "C" NOT NULL,
    rule varchar(64) COLLATE "C" NOT NULL,
    action varchar(8) COLLATE "C" NOT NULL,
    severity smallint NOT NULL,
    mode varchar(8) COLLATE "C" NOT NULL,
    stage varchar(8) COLLATE "C" NOT NULL,
    state varchar(16) COLLATE "C" NOT NULL DEFAULT 'open',
    message text NOT NULL,
    ranges jsonb,
    prompt_id uuid,
    prompt_version integer,
    content_hash bytea,
    trace_id bytea, span_id bytea,
    label varchar(64) COLLATE "C",
    model varchar(255) COLLATE "C",
    actor_id uuid NOT NULL,
    finding_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz,
    acknowledged_at timestamptz, acknowledged_by uuid, acknowledge_comment text,
    resolved_at timestamptz, resolved_by uuid, resolution varchar(16) COLLATE "C", resolve_comment text,
    row_version bigint NOT NULL DEFAULT 1,
    CONSTRAINT policy_violations_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT valid_action CHECK (action::text IN ('flag', 'mask', 'block')),
    CONSTRAINT valid_severity CHECK (severity BETWEEN 1 AND 4),
    CONSTRAINT valid_mode CHECK (mode::text IN ('enforce', 'dry_run')),
    CONSTRAINT valid_stage CHECK (stage::text IN ('prompt', 'input', 'output')),
    CONSTRAINT valid_state CHECK (state::text IN ('open', 'acknowledged', 'resolved')),
    CONSTRAINT valid_resolution CHECK (resolution::text IN ('fixed', 'false_positive', 'accepted'))
);
CREATE UNIQUE INDEX ix_policy_violations_finding_hash ON policy_violations (organization_id, finding_hash);
CREATE INDEX ix_policy_violations_state ON policy_violations (organization_id, project_id, state, severity, action, id);
CREATE INDEX ix_policy_violations_policy_id ON policy_violations (organization_id, policy_id, id);
CREATE INDEX ix_policy_violations_prompt_id ON policy_violations (organization_id, prompt_id, id);
CREATE INDEX ix_policy_violations_prompt_version ON policy_violations (organization_id, prompt_id, prompt_version, id);
CREATE INDEX ix_policy_violations_trace_id ON policy_violations (organization_id, trace_id, id);

CREATE TABLE policy_daily_stats (
    organization_id uuid NOT NULL,
    policy_id uuid NOT NULL,
    project_id uuid NOT NULL,
    day date NOT NULL,
    evaluated_count bigint NOT NULL DEFAULT 0, passed_count bigint NOT NULL DEFAULT 0,
    flagged_count bigint NOT NULL DEFAULT 0, masked_count bigint NOT NULL DEFAULT 0, blocked_count bigint NOT NULL DEFAULT 0,
    CONSTRAINT policy_daily_stats_pkey PRIMARY KEY (organization_id, policy_id, project_id, day),
    CONSTRAINT policy_daily_stats_policy_id_fkey FOREIGN KEY (organization_id, policy_id) REFERENCES policies ON DELETE CASCADE
);
CREATE INDEX ix_policy_daily_stats_day ON policy_daily_stats (organization_id, day);

CREATE TABLE rate_windows (
    organization_id uuid NOT NULL,
    policy_id uuid NOT NULL,
    rule varchar(64) COLLATE "C" NOT NULL,
    key varchar(300) COLLATE "C" NOT NULL,
    window_start timestamptz NOT NULL,
    calls bigint NOT NULL DEFAULT 0, tokens bigint NOT NULL DEFAULT 0,
    CONSTRAINT rate_windows_pkey PRIMARY KEY (organization_id, policy_id, rule, key, window_start),
    CONSTRAINT rate_windows_policy_id_fkey FOREIGN KEY (organization_id, policy_id) REFERENCES policies ON DELETE CASCADE
);
CREATE INDEX ix_rate_windows_window_start ON rate_windows (organization_id, window_start);

-- Usage and quotas -------------------------------------------------------------------------------

CREATE TABLE usage_daily (
    organization_id uuid NOT NULL,
    day date NOT NULL,
    project_id uuid NOT NULL,
    metric varchar(32) COLLATE "C" NOT NULL,
    value bigint NOT NULL,
    CONSTRAINT usage_daily_pkey PRIMARY KEY (organization_id, day, project_id, metric),
    CONSTRAINT usage_daily_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations ON DELETE CASCADE
);

CREATE TABLE quotas (
    organization_id uuid NOT NULL,
    project_id uuid NOT NULL,
    metric varchar(32) COLLATE "C" NOT NULL,
    period varchar(8) COLLATE "C" NOT NULL,
    limit_value bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz,
    CONSTRAINT quotas_pkey PRIMARY KEY (organization_id, project_id, metric, period),
    CONSTRAINT quotas_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations ON DELETE CASCADE,
    CONSTRAINT valid_metric CHECK (metric::text IN ('calls', 'prompt_reads', 'executions', 'spans', 'span_bytes', 'scores',
        'evaluation_results', 'policy_checks', 'tokens', 'cost_micros', 'prompts', 'projects', 'users')),
    CONSTRAINT valid_period CHECK (CASE WHEN metric::text IN ('prompts', 'projects', 'users') THEN period::text = 'total'
        ELSE period::text IN ('day', 'month') END),
    CONSTRAINT valid_limit_value CHECK (limit_value >= 0)
);
-- A gate may ask for a dataset.
ALTER TABLE label_gates ADD CONSTRAINT label_gates_dataset_id_fkey FOREIGN KEY (organization_id, dataset_id) REFERENCES datasets;

-- A version names a model that exists; the tables above it in this file do not know models yet.
ALTER TABLE prompt_versions ADD CONSTRAINT prompt_versions_model_id_fkey FOREIGN KEY (organization_id, model_id) REFERENCES ai_models;
CREATE INDEX ix_prompt_versions_model_id ON prompt_versions (organization_id, model_id, prompt_id) WHERE model_id IS NOT NULL;

-- The columns that a prompt has for its callers, under the names of the first design; runs with the rights of who reads it.
CREATE VIEW prompts_current WITH (security_invoker = true) AS
SELECT p.organization_id, p.id, p.name, v.content, v.system_prompt, p.description, p.created_at, p.updated_at
FROM prompts p
JOIN prompt_versions v ON v.organization_id = p.organization_id AND v.prompt_id = p.id AND v.version = p.current_version;

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
    CONSTRAINT audit_heads_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations ON DELETE CASCADE
);

CREATE TABLE audit_log (
    organization_id uuid NOT NULL,
    sequence bigint NOT NULL,
    principal_kind varchar(32) COLLATE "C" NOT NULL, principal_id uuid NOT NULL,
    principal_name varchar(255) COLLATE "C" NOT NULL,
    principal_role varchar(16) COLLATE "C" NOT NULL,
    peer_address varchar(64) COLLATE "C" NOT NULL,
    request_id uuid,
    action varchar(64) COLLATE "C" NOT NULL,
    target_kind varchar(32) COLLATE "C" NOT NULL, target_id uuid,
    details jsonb NOT NULL,
    canonical bytea NOT NULL, hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT audit_log_pkey PRIMARY KEY (organization_id, sequence)
);
CREATE INDEX ix_audit_log_created_at ON audit_log (organization_id, created_at, sequence);
CREATE INDEX ix_audit_log_principal_id ON audit_log (organization_id, principal_id, sequence);
CREATE INDEX ix_audit_log_target_id ON audit_log (organization_id, target_id, sequence);
CREATE INDEX ix_audit_log_action ON audit_log (organization_id, target_kind, action, sequence);

-- Row-level security, on every tenant table and every partition by itself -----------------------

DO $$
DECLARE
    table_name regclass;
BEGIN
    FOREACH table_name IN ARRAY ARRAY[
        'organizations', 'users', 'projects', 'sessions', 'service_accounts', 'api_keys', 'prompts', 'prompt_versions', 'labels',
        'label_targets', 'label_history', 'label_gates', 'prompt_references', 'prompt_words', 'tags', 'prompt_tags', 'executions',
        'execution_totals', 'model_providers', 'ai_models', 'ai_model_names', 'model_prices', 'datasets', 'dataset_versions',
        'dataset_items', 'evaluations', 'evaluation_results', 'traces', 'spans', 'scores', 'score_history', 'retention_settings',
        'archives', 'policies', 'policy_versions', 'policy_attachments', 'policy_violations', 'policy_daily_stats', 'rate_windows',
        'usage_daily', 'quotas', 'idempotency', 'forge_partitions.idempotency_default', 'audit_heads', 'audit_log'
    ]::regclass[]
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
GRANT SELECT, INSERT, UPDATE, DELETE ON organization_names, login_names, certificate_names, login_failures, organizations, users,
    projects, sessions, service_accounts, api_keys, prompts, prompt_versions, labels, label_targets, label_gates, prompt_references,
    prompt_words, tags, prompt_tags, executions, execution_totals, model_providers, ai_models, ai_model_names, model_prices, datasets,
    dataset_versions, dataset_items, evaluations, evaluation_results, traces, spans, scores, retention_settings, policies,
    policy_versions, policy_attachments, policy_violations, policy_daily_stats, rate_windows, usage_daily TO forge_app;
GRANT SELECT, INSERT, UPDATE ON idempotency, audit_heads TO forge_app;
GRANT SELECT, INSERT ON audit_log, encryption_keys, label_history, score_history TO forge_app;
GRANT SELECT, INSERT, DELETE ON changes TO forge_app;
GRANT SELECT ON operator_tokens, archives, quotas, prompts_current TO forge_app;
GRANT USAGE ON SEQUENCE tags_id_seq, executions_id_seq TO forge_app;
