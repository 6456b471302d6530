-- revision: 3f6b1c9d2a70
-- revises:
-- created: 2026-11-23T00:00:00Z
-- message: initial schema

-- IF EXISTS: until 1.0 this revision is rewritten in place, and going down to base is how a database with an earlier text of it is reset.
DROP VIEW IF EXISTS prompts_current;
DROP TABLE IF EXISTS audit_log, audit_heads, idempotency, quotas, usage_daily, rate_windows, policy_daily_stats, policy_violations,
    policy_attachments, policy_versions, policies, archives, retention_settings, score_history, scores, spans, traces,
    evaluation_results, evaluations, dataset_items, dataset_versions, datasets, model_prices, ai_model_names, ai_models, model_providers,
    execution_totals, executions, prompt_tags, tags, prompt_words, prompt_references, label_gates, label_history, label_targets, labels,
    prompt_versions, prompts, api_keys, service_accounts, sessions, projects, users, organizations, changes, encryption_keys,
    login_failures, operator_tokens, certificate_names, login_names, organization_names;
DROP SCHEMA IF EXISTS forge_partitions CASCADE;
REVOKE USAGE ON SCHEMA public FROM forge_app;
