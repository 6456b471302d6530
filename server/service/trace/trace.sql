-- One trace: read as a tree, deleted. Its row says from when to when its spans start, so that days without any are never looked at.

-- name: trace_find :optional
SELECT t.started_at, timestamptz 'epoch' + (t.end_ns / 1000) * interval '1 microsecond' AS ended_at
FROM traces t
WHERE t.organization_id = $1 AND t.project_id = $2 AND t.trace_id = $3
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL);

-- Figures over the spans that start from $4 to $5, and their keys for the tree: span_id, parent (zeros for a root) and start_ns, 24 bytes each,
-- by start, then span_id. Of a span that was sent with several starts the first. $6: with what went into the root and came out. A trace whose
-- spans are gone has the times of its row.
-- name: trace_figures :optional
WITH span AS MATERIALIZED (
    SELECT DISTINCT ON (s.span_id) s.span_id, s.started_at, s.parent_span_id, s.name, s.start_ns, s.end_ns, s.status, s.model, s.input_tokens,
           s.cache_read_tokens, s.cache_write_tokens, s.output_tokens, s.reasoning_tokens, s.cost_micros, s.prompt_id, s.prompt_version,
           s.prompt_label, s.session_id, s.user_id
    FROM spans s
    WHERE s.organization_id = $1 AND s.project_id = $2 AND s.trace_id = $3 AND s.started_at >= $4 AND s.started_at <= $5
    ORDER BY s.span_id, s.started_at
), used AS MATERIALIZED (
    SELECT DISTINCT model, prompt_id, prompt_version, prompt_label FROM span
), root AS MATERIALIZED (
    SELECT span_id, started_at, name FROM span WHERE parent_span_id IS NULL ORDER BY start_ns, span_id LIMIT 1
)
SELECT t.project_id, t.trace_id, root.name, root.span_id AS root_span_id, COALESCE(f.status, 0) AS status,
       COALESCE(f.start_ns, t.start_ns) AS start_ns, COALESCE(f.end_ns, t.end_ns) AS end_ns, f.span_count, f.error_count, f.input_tokens,
       f.cache_read_tokens, f.cache_write_tokens, f.output_tokens, f.reasoning_tokens, f.cost_micros, f.session_id, f.user_id, f.keys,
       u.used::text AS used, content.input, content.output
FROM traces t
CROSS JOIN (
    SELECT max(status) AS status, min(start_ns) AS start_ns, max(end_ns) AS end_ns, count(*) AS span_count,
           count(*) FILTER (WHERE status = 2) AS error_count, COALESCE(sum(input_tokens), 0)::bigint AS input_tokens,
           COALESCE(sum(cache_read_tokens), 0)::bigint AS cache_read_tokens, COALESCE(sum(cache_write_tokens), 0)::bigint AS cache_write_tokens,
           COALESCE(sum(output_tokens), 0)::bigint AS output_tokens, COALESCE(sum(reasoning_tokens), 0)::bigint AS reasoning_tokens,
           LEAST(COALESCE(sum(cost_micros), 0), 9223372036854775807)::bigint AS cost_micros, min(session_id) AS session_id,
           min(user_id) AS user_id,
           string_agg(span_id || COALESCE(parent_span_id, '\x0000000000000000') || int8send(start_ns), '' ORDER BY start_ns, span_id) AS keys
    FROM span
) f
CROSS JOIN (
    SELECT jsonb_build_object(
               'models', ARRAY(SELECT DISTINCT model FROM used WHERE model IS NOT NULL ORDER BY model LIMIT 16),
               'prompts', ARRAY(SELECT jsonb_build_object('prompt_id', p.prompt_id, 'version', p.version, 'label', p.label)
                                FROM (SELECT DISTINCT prompt_id, COALESCE(prompt_version, 0) AS version, COALESCE(prompt_label, '') AS label
                                      FROM used
                                      WHERE prompt_id IS NOT NULL
                                      ORDER BY prompt_id, version, label
                                      LIMIT 16) p)) AS used
) u
LEFT JOIN root ON true
LEFT JOIN LATERAL (
    SELECT input, output FROM spans
    WHERE organization_id = $1 AND project_id = $2 AND trace_id = $3 AND span_id = root.span_id AND started_at = root.started_at
      AND started_at >= $4 AND started_at <= $5 AND $6::boolean
    LIMIT 1
) content ON true
WHERE t.organization_id = $1 AND t.project_id = $2 AND t.trace_id = $3;

-- These spans ($6) with these starts ($7), in the order given, $8: with content; cut where their texts have more than $9 bytes, but never
-- before the first. found: how many there are.
-- name: trace_spans :many
SELECT s.span_id, s.started_at, s.parent_span_id, s.name, s.kind, s.start_ns, s.end_ns, s.status, s.status_message, s.provider, s.model,
       s.model_id, s.parameters, s.input_tokens, s.cache_read_tokens, s.cache_write_tokens, s.output_tokens, s.reasoning_tokens,
       s.cost_micros, s.price_id, s.time_to_first_token_us, s.prompt_id, s.prompt_version, s.prompt_label, s.session_id, s.user_id,
       s.input, s.output, s.details, s.policy_action, s.ingested_at, s.trace_id, s.ordinal, s.found
FROM (
    SELECT x.span_id, x.started_at, x.parent_span_id, x.name, x.kind, x.start_ns, x.end_ns, x.status, x.status_message, x.provider, x.model,
           x.model_id, x.parameters, x.input_tokens, x.cache_read_tokens, x.cache_write_tokens, x.output_tokens, x.reasoning_tokens,
           x.cost_micros, x.price_id, x.time_to_first_token_us, x.prompt_id, x.prompt_version, x.prompt_label, x.session_id, x.user_id,
           x.input, x.output, x.details, x.policy_action, x.ingested_at, x.trace_id, k.ordinal, count(*) OVER () AS found,
           row_number() OVER given AS position, sum(x.bytes) OVER given AS bytes
    FROM unnest($6::bytea[], $7::timestamptz[]) WITH ORDINALITY AS k (span_id, started_at, ordinal)
    CROSS JOIN LATERAL (
        SELECT span_id, started_at, parent_span_id, name, kind, start_ns, end_ns, status, status_message, provider, model, model_id,
               parameters, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_micros, price_id,
               time_to_first_token_us, prompt_id, prompt_version, prompt_label, session_id, user_id, policy_action, ingested_at, trace_id,
               CASE WHEN $8::boolean THEN input END AS input, CASE WHEN $8 THEN output END AS output, CASE WHEN $8 THEN details END AS details,
               COALESCE(octet_length(status_message), 0) + COALESCE(octet_length(parameters), 0)
               + CASE WHEN $8 THEN COALESCE(octet_length(input), 0) + COALESCE(octet_length(output), 0) + COALESCE(octet_length(details), 0)
                      ELSE 0 END AS bytes
        FROM spans
        WHERE organization_id = $1 AND project_id = $2 AND trace_id = $3 AND span_id = k.span_id AND started_at = k.started_at
          AND started_at >= $4 AND started_at <= $5
        LIMIT 1
    ) x
    WINDOW given AS (ORDER BY k.ordinal)
) s
WHERE s.position = 1 OR s.bytes <= $9::bigint
ORDER BY s.ordinal;

-- Before a trace is deleted, in a statement of its own: whoever stores spans of it holds this row until they are committed, so the
-- statements after this one see them; and those who come later find the row gone and make a new one.
-- name: trace_lock :optional
SELECT t.started_at, timestamptz 'epoch' + (t.end_ns / 1000) * interval '1 microsecond' AS ended_at
FROM traces t
WHERE t.organization_id = $1 AND t.project_id = $2 AND t.trace_id = $3
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL)
FOR UPDATE OF t;

-- name: trace_delete_spans :command
DELETE FROM spans
WHERE organization_id = $1 AND project_id = $2 AND trace_id = $3 AND started_at >= $4 AND started_at <= $5;

-- name: trace_delete :command
DELETE FROM traces WHERE organization_id = $1 AND project_id = $2 AND trace_id = $3;
