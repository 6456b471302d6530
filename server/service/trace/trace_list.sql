-- Traces of a project, newest start first, then trace_id. Three steps, so that a walk through traces opens no partition of spans, and the
-- others only those of the days that their traces touch: which traces come next by their own columns (trace_walk), which of these have a span
-- as it is wanted (trace_having), and what is shown of those on the page (trace_page).

-- Traces of spans of a model, newest spans first; $5: at most so many spans.
-- name: trace_with_model :many
SELECT trace_id FROM spans
WHERE organization_id = $1 AND project_id = $2 AND started_at >= $3 AND model = $4
ORDER BY started_at DESC
LIMIT $5;

-- The same of a prompt ($4) or of one version of it ($6; 0 = any), and the label it was fetched by ($7; NULL = any). No index has the label, so
-- $8 spans of the prompt are looked at, at most. looked: how many were, on a row without trace_id where none fits.
-- name: trace_with_prompt :many
WITH looked AS MATERIALIZED (
    (SELECT project_id, trace_id, prompt_label FROM spans
     WHERE organization_id = $1 AND started_at >= $3 AND prompt_id = $4::uuid AND prompt_version = $6::integer
     ORDER BY started_at DESC
     LIMIT $8)
    UNION ALL
    (SELECT project_id, trace_id, prompt_label FROM spans
     WHERE organization_id = $1 AND started_at >= $3 AND prompt_id = $4 AND $6 = 0
     ORDER BY prompt_version DESC, started_at DESC
     LIMIT $8)
)
SELECT l.trace_id, c.looked
FROM (SELECT count(*) AS looked FROM looked) c
LEFT JOIN looked l ON l.project_id = $2 AND ($7::text IS NULL OR l.prompt_label = $7)
LIMIT $5;

-- $3, $4: from this time on, before that time; $5: of the trace before the first one, whose start is $4 then. $6 to $9: status, least duration,
-- session and user; NULL or 0 = any. $10: only these traces, NULL = all. Each filter has an index, but only one of them can be walked: that of
-- the filter which promises the fewest traces; a duration does where fewer than $12 last as long. Each way has its own limit, without which
-- PostgreSQL would rather sort all traces than walk. One row without trace_id for a project without any.
-- name: trace_walk :many
WITH lasting AS MATERIALIZED (
    SELECT trace_id FROM traces WHERE organization_id = $1 AND project_id = $2 AND duration_ns >= $7 ORDER BY duration_ns DESC LIMIT $12
), way AS MATERIALIZED (
    SELECT CASE WHEN $8::text IS NOT NULL THEN 'session'
                WHEN $9::text IS NOT NULL THEN 'user'
                WHEN $10::bytea[] IS NOT NULL THEN 'given'
                WHEN $7 > 0 AND (SELECT count(*) FROM lasting) < $12 THEN 'duration'
                WHEN $6::smallint IS NOT NULL THEN 'status'
                ELSE 'time' END AS name
), few AS MATERIALIZED (
    SELECT g.trace_id FROM unnest($10) AS g (trace_id) WHERE (SELECT way.name FROM way) = 'given'
    UNION
    SELECT trace_id FROM lasting WHERE (SELECT way.name FROM way) = 'duration'
)
SELECT w.trace_id, w.started_at, timestamptz 'epoch' + (w.end_ns / 1000) * interval '1 microsecond' AS ended_at
FROM projects r
LEFT JOIN (
    (SELECT t.trace_id, t.started_at, t.end_ns FROM traces t
     WHERE t.organization_id = $1 AND t.project_id = $2 AND (SELECT way.name FROM way) = 'time'
       AND t.started_at >= $3 AND t.started_at <= $4 AND (t.started_at < $4 OR t.trace_id > $5) AND ($6 IS NULL OR t.status = $6)
       AND t.duration_ns >= $7 AND ($8 IS NULL OR t.session_id = $8) AND ($9 IS NULL OR t.user_id = $9)
     ORDER BY t.started_at DESC, t.trace_id
     LIMIT $11)
    UNION ALL
    (SELECT t.trace_id, t.started_at, t.end_ns FROM traces t
     WHERE t.organization_id = $1 AND t.project_id = $2 AND t.status = $6 AND (SELECT way.name FROM way) = 'status'
       AND t.started_at >= $3 AND t.started_at <= $4 AND (t.started_at < $4 OR t.trace_id > $5) AND ($6 IS NULL OR t.status = $6)
       AND t.duration_ns >= $7 AND ($8 IS NULL OR t.session_id = $8) AND ($9 IS NULL OR t.user_id = $9)
     ORDER BY t.started_at DESC, t.trace_id
     LIMIT $11)
    UNION ALL
    (SELECT t.trace_id, t.started_at, t.end_ns FROM traces t
     WHERE t.organization_id = $1 AND t.project_id = $2 AND t.session_id = $8 AND (SELECT way.name FROM way) = 'session'
       AND t.started_at >= $3 AND t.started_at <= $4 AND (t.started_at < $4 OR t.trace_id > $5) AND ($6 IS NULL OR t.status = $6)
       AND t.duration_ns >= $7 AND ($8 IS NULL OR t.session_id = $8) AND ($9 IS NULL OR t.user_id = $9)
     ORDER BY t.started_at DESC, t.trace_id
     LIMIT $11)
    UNION ALL
    (SELECT t.trace_id, t.started_at, t.end_ns FROM traces t
     WHERE t.organization_id = $1 AND t.project_id = $2 AND t.user_id = $9 AND (SELECT way.name FROM way) = 'user'
       AND t.started_at >= $3 AND t.started_at <= $4 AND (t.started_at < $4 OR t.trace_id > $5) AND ($6 IS NULL OR t.status = $6)
       AND t.duration_ns >= $7 AND ($8 IS NULL OR t.session_id = $8) AND ($9 IS NULL OR t.user_id = $9)
     ORDER BY t.started_at DESC, t.trace_id
     LIMIT $11)
    UNION ALL
    (SELECT t.trace_id, t.started_at, t.end_ns
     FROM few
     CROSS JOIN LATERAL (
         SELECT trace_id, started_at, end_ns, duration_ns, status, session_id, user_id FROM traces
         WHERE organization_id = $1 AND project_id = $2 AND trace_id = few.trace_id
         LIMIT 1
     ) t
     WHERE t.started_at >= $3 AND t.started_at <= $4 AND (t.started_at < $4 OR t.trace_id > $5) AND ($6 IS NULL OR t.status = $6)
       AND t.duration_ns >= $7 AND ($8 IS NULL OR t.session_id = $8) AND ($9 IS NULL OR t.user_id = $9))
) w ON true
WHERE r.organization_id = $1 AND r.id = $2 AND r.deleted_at IS NULL
ORDER BY w.started_at DESC, w.trace_id
LIMIT $11;

-- Which of these traces ($5), by their ordinals from 1, have a span of this model ($8) and one of this prompt ($9) with this version ($10) and
-- label ($11)? NULL or 0 = any. $6, $7: when each starts and ends, $3, $4: the first and last of these times.
-- name: trace_having :many
SELECT k.ordinal
FROM unnest($5::bytea[], $6::timestamptz[], $7::timestamptz[]) WITH ORDINALITY AS k (trace_id, started_at, ended_at, ordinal)
WHERE ($8::text IS NULL
       OR EXISTS (SELECT FROM spans
                  WHERE organization_id = $1 AND project_id = $2 AND trace_id = k.trace_id AND model = $8 AND started_at >= k.started_at
                    AND started_at <= k.ended_at AND started_at >= $3 AND started_at <= $4))
  AND ($9::uuid IS NULL
       OR EXISTS (SELECT FROM spans
                  WHERE organization_id = $1 AND project_id = $2 AND trace_id = k.trace_id AND prompt_id = $9
                    AND ($10::integer = 0 OR prompt_version = $10) AND ($11::text IS NULL OR prompt_label = $11)
                    AND started_at >= k.started_at AND started_at <= k.ended_at AND started_at >= $3 AND started_at <= $4))
ORDER BY k.ordinal;

-- These traces ($5), whose spans start from $3 to $4; $6: with what went into the root and came out. Cut where the texts have more than $7 bytes
-- or the traces more than $8 spans, which are looked through for models and prompts, but never before the first. found: how many there are.
-- name: trace_page :many
SELECT e.project_id, e.trace_id, e.started_at, e.name, e.root_span_id, e.status, e.start_ns, e.end_ns, e.span_count, e.error_count,
       e.input_tokens, e.cache_read_tokens, e.cache_write_tokens, e.output_tokens, e.reasoning_tokens, e.cost_micros, e.session_id, e.user_id,
       e.input, e.output, e.found, u.used::text AS used
FROM (
    SELECT t.project_id, t.trace_id, t.started_at, t.name, t.root_span_id, t.status, t.start_ns, t.end_ns, t.span_count, t.error_count,
           t.input_tokens, t.cache_read_tokens, t.cache_write_tokens, t.output_tokens, t.reasoning_tokens, t.cost_micros, t.session_id,
           t.user_id, root.input, root.output, count(*) OVER () AS found, row_number() OVER newest AS position,
           sum(t.span_count) OVER newest AS spans,
           sum(COALESCE(octet_length(root.input), 0) + COALESCE(octet_length(root.output), 0)) OVER newest AS bytes
    FROM unnest($5::bytea[]) AS k (trace_id)
    CROSS JOIN LATERAL (
        SELECT project_id, trace_id, started_at, name, root_span_id, root_start_ns, status, start_ns, end_ns, span_count, error_count,
               input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_micros, session_id, user_id
        FROM traces
        WHERE organization_id = $1 AND project_id = $2 AND trace_id = k.trace_id
        LIMIT 1
    ) t
    LEFT JOIN LATERAL (
        SELECT input, output FROM spans
        WHERE organization_id = $1 AND project_id = $2 AND trace_id = t.trace_id AND span_id = t.root_span_id
          AND started_at = timestamptz 'epoch' + (t.root_start_ns / 1000) * interval '1 microsecond' AND started_at >= $3
          AND started_at <= $4 AND $6::boolean
        LIMIT 1
    ) root ON true
    WINDOW newest AS (ORDER BY t.started_at DESC, t.trace_id)
) e
CROSS JOIN LATERAL (
    WITH used AS MATERIALIZED (
        SELECT DISTINCT model, prompt_id, prompt_version, prompt_label FROM spans
        WHERE organization_id = $1 AND project_id = $2 AND trace_id = e.trace_id AND started_at >= e.started_at
          AND started_at <= timestamptz 'epoch' + (e.end_ns / 1000) * interval '1 microsecond' AND started_at >= $3 AND started_at <= $4
    )
    SELECT jsonb_build_object(
               'models', ARRAY(SELECT DISTINCT model FROM used WHERE model IS NOT NULL ORDER BY model LIMIT 16),
               'prompts', ARRAY(SELECT jsonb_build_object('prompt_id', p.prompt_id, 'version', p.version, 'label', p.label)
                                FROM (SELECT DISTINCT prompt_id, COALESCE(prompt_version, 0) AS version, COALESCE(prompt_label, '') AS label
                                      FROM used
                                      WHERE prompt_id IS NOT NULL
                                      ORDER BY prompt_id, version, label
                                      LIMIT 16) p)) AS used
) u
WHERE e.position = 1 OR (e.bytes <= $7::bigint AND e.spans <= $8::bigint)
ORDER BY e.started_at DESC, e.trace_id;
