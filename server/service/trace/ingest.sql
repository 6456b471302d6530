-- Spans into the database. One transaction: trace_open, trace_prices, trace_insert, and trace_stored for what was there before. Arrays stand
-- in the order of the keys, so that two transactions that write the same rows wait for each other in one direction only.

-- A row for each trace: whether its project lives, and how many spans it has (NULL: none yet). Both stay so until the transaction ends.
-- name: trace_open :many
WITH live AS (
    SELECT id FROM projects WHERE organization_id = $1 AND id = ANY ($2::uuid[]) AND deleted_at IS NULL ORDER BY id FOR KEY SHARE
), known AS (
    SELECT t.project_id, t.trace_id, t.span_count
    FROM unnest($2::uuid[], $3::bytea[]) AS k (project_id, trace_id)
    JOIN traces t ON t.organization_id = $1 AND t.project_id = k.project_id AND t.trace_id = k.trace_id
    ORDER BY t.project_id, t.trace_id
    FOR NO KEY UPDATE OF t
)
SELECT live.id IS NOT NULL AS is_live, COALESCE(known.span_count, 0) AS span_count
FROM unnest($2::uuid[], $3::bytea[]) WITH ORDINALITY AS k (project_id, trace_id, ordinal)
LEFT JOIN live ON live.id = k.project_id
LEFT JOIN known ON known.project_id = k.project_id AND known.trace_id = k.trace_id
ORDER BY k.ordinal;

-- For each provider and model that we know: the prices in force from $4 to $5, the latest first, price_id NULL without any.
-- name: trace_prices :many
SELECT k.ordinal, n.model_id, p.id AS price_id, p.effective_at, COALESCE(p.input_price, 0) AS input_price,
       COALESCE(p.cache_read_price, 0) AS cache_read_price, COALESCE(p.cache_write_price, 0) AS cache_write_price,
       COALESCE(p.output_price, 0) AS output_price, COALESCE(p.reasoning_price, 0) AS reasoning_price
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS k (provider, model, ordinal)
JOIN model_providers v ON v.organization_id = $1 AND v.provider_key = k.provider
JOIN ai_model_names n ON n.organization_id = $1 AND n.provider_id = v.id AND n.name = k.model
LEFT JOIN model_prices p ON p.organization_id = $1 AND p.model_id = n.model_id AND p.effective_at <= $5
    AND p.effective_at >= COALESCE((SELECT max(q.effective_at) FROM model_prices q
                                    WHERE q.organization_id = $1 AND q.model_id = n.model_id AND q.effective_at <= $4), $4)
ORDER BY k.ordinal, p.effective_at DESC;

-- Gives the ordinals, from 1, of those that were there before. What the traces add up comes from the rows really inserted; every column is
-- merged so that the order in which spans arrive does not matter. $1: the organization, $2: now.
-- name: trace_insert :many
WITH fresh AS (
    INSERT INTO spans (organization_id, project_id, trace_id, span_id, started_at, parent_span_id, name, kind, start_ns, end_ns, status,
                       status_message, provider, model, model_id, parameters, input_tokens, cache_read_tokens, cache_write_tokens,
                       output_tokens, reasoning_tokens, cost_micros, price_id, time_to_first_token_us, prompt_id, prompt_version,
                       prompt_label, session_id, user_id, input, output, details, content_hash, policy_action, ingested_at)
    SELECT $1, s.project_id, s.trace_id, s.span_id, s.started_at, s.parent_span_id, s.name, s.kind, s.start_ns, s.end_ns, s.status,
           s.status_message, s.provider, s.model, s.model_id, s.parameters, s.input_tokens, s.cache_read_tokens, s.cache_write_tokens,
           s.output_tokens, s.reasoning_tokens, NULLIF(s.cost_micros, -1), s.price_id, NULLIF(s.time_to_first_token_us, 0), s.prompt_id,
           NULLIF(s.prompt_version, 0), s.prompt_label, s.session_id, s.user_id, s.input, s.output, s.details, s.content_hash,
           s.policy_action, $2
    FROM unnest($3::uuid[], $4::bytea[], $5::bytea[], $6::timestamptz[], $7::bytea[], $8::text[], $9::integer[], $10::bigint[],
                $11::bigint[], $12::integer[], $13::text[], $14::text[], $15::text[], $16::uuid[], $17::text[], $18::bigint[],
                $19::bigint[], $20::bigint[], $21::bigint[], $22::bigint[], $23::bigint[], $24::uuid[], $25::bigint[], $26::uuid[],
                $27::integer[], $28::text[], $29::text[], $30::text[], $31::text[], $32::text[], $33::bytea[], $34::bytea[],
                $35::integer[])
         WITH ORDINALITY AS s (project_id, trace_id, span_id, started_at, parent_span_id, name, kind, start_ns, end_ns, status,
                               status_message, provider, model, model_id, parameters, input_tokens, cache_read_tokens,
                               cache_write_tokens, output_tokens, reasoning_tokens, cost_micros, price_id, time_to_first_token_us,
                               prompt_id, prompt_version, prompt_label, session_id, user_id, input, output, details, content_hash,
                               policy_action, ordinal)
    ORDER BY s.ordinal
    ON CONFLICT DO NOTHING
    RETURNING project_id, trace_id, span_id, started_at, parent_span_id, name, start_ns, end_ns, status, input_tokens, cache_read_tokens,
              cache_write_tokens, output_tokens, reasoning_tokens, cost_micros, session_id, user_id
), added AS (
    INSERT INTO traces AS t (organization_id, project_id, trace_id, started_at, start_ns, end_ns, duration_ns, status, span_count,
                             error_count, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_micros,
                             root_start_ns, root_span_id, name, session_id, user_id, created_at)
    SELECT $1, f.project_id, f.trace_id, min(f.started_at), min(f.start_ns), max(f.end_ns), max(f.end_ns) - min(f.start_ns), max(f.status),
           count(*), count(*) FILTER (WHERE f.status = 2), sum(f.input_tokens), sum(f.cache_read_tokens), sum(f.cache_write_tokens),
           sum(f.output_tokens), sum(f.reasoning_tokens), LEAST(COALESCE(sum(f.cost_micros), 0), 9223372036854775807),
           min(f.start_ns) FILTER (WHERE f.parent_span_id IS NULL),
           (array_agg(f.span_id ORDER BY f.start_ns, f.span_id) FILTER (WHERE f.parent_span_id IS NULL))[1],
           (array_agg(f.name ORDER BY f.start_ns, f.span_id) FILTER (WHERE f.parent_span_id IS NULL))[1], min(f.session_id), min(f.user_id), $2
    FROM fresh f
    GROUP BY f.project_id, f.trace_id
    ORDER BY f.project_id, f.trace_id
    ON CONFLICT (organization_id, project_id, trace_id) DO UPDATE
    SET started_at = LEAST(t.started_at, excluded.started_at), start_ns = LEAST(t.start_ns, excluded.start_ns),
        end_ns = GREATEST(t.end_ns, excluded.end_ns),
        duration_ns = GREATEST(t.end_ns, excluded.end_ns) - LEAST(t.start_ns, excluded.start_ns),
        status = GREATEST(t.status, excluded.status), span_count = t.span_count + excluded.span_count,
        error_count = t.error_count + excluded.error_count, input_tokens = t.input_tokens + excluded.input_tokens,
        cache_read_tokens = t.cache_read_tokens + excluded.cache_read_tokens,
        cache_write_tokens = t.cache_write_tokens + excluded.cache_write_tokens, output_tokens = t.output_tokens + excluded.output_tokens,
        reasoning_tokens = t.reasoning_tokens + excluded.reasoning_tokens,
        cost_micros = LEAST(t.cost_micros::numeric + excluded.cost_micros, 9223372036854775807),
        root_start_ns = CASE WHEN t.root_start_ns IS NULL OR (excluded.root_start_ns, excluded.root_span_id) < (t.root_start_ns, t.root_span_id)
                             THEN excluded.root_start_ns ELSE t.root_start_ns END,
        root_span_id = CASE WHEN t.root_start_ns IS NULL OR (excluded.root_start_ns, excluded.root_span_id) < (t.root_start_ns, t.root_span_id)
                            THEN excluded.root_span_id ELSE t.root_span_id END,
        name = CASE WHEN t.root_start_ns IS NULL OR (excluded.root_start_ns, excluded.root_span_id) < (t.root_start_ns, t.root_span_id)
                    THEN excluded.name ELSE t.name END,
        session_id = LEAST(t.session_id, excluded.session_id), user_id = LEAST(t.user_id, excluded.user_id)
)
SELECT k.ordinal
FROM unnest($3::uuid[], $4::bytea[], $5::bytea[], $6::timestamptz[]) WITH ORDINALITY AS k (project_id, trace_id, span_id, started_at, ordinal)
WHERE NOT EXISTS (SELECT FROM fresh f WHERE f.project_id = k.project_id AND f.trace_id = k.trace_id AND f.span_id = k.span_id
                                          AND f.started_at = k.started_at);

-- What is stored under these identities, by their ordinals, from 1.
-- name: trace_stored :many
SELECT k.ordinal, s.content_hash
FROM unnest($2::uuid[], $3::bytea[], $4::bytea[], $5::timestamptz[]) WITH ORDINALITY AS k (project_id, trace_id, span_id, started_at, ordinal)
JOIN spans s ON s.organization_id = $1 AND s.project_id = k.project_id AND s.trace_id = k.trace_id AND s.span_id = k.span_id
    AND s.started_at = k.started_at;

-- The ordinals, from 1, of those bounds that are of no partition of spans. A bound is written as PostgreSQL does.
-- name: trace_missing_days :many
SELECT k.ordinal
FROM unnest($1::text[]) WITH ORDINALITY AS k (bound, ordinal)
WHERE NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                  WHERE i.inhparent = 'spans'::regclass AND NOT i.inhdetachpending
                    AND pg_get_expr(c.relpartbound, c.oid) = k.bound);
