-- Traces of a project, newest start first, then trace_id. Each filter has its index, but one statement can walk only one of them: of those that
-- are given the one that promises the fewest traces. A model, prompt or duration does where it has fewer than $15 spans or traces; else
-- the walk looks each trace up. Each way has its own limit, without which PostgreSQL would rather sort all traces than walk.

-- $3, $4: from this time on, before that time; $5: of the trace that the page before ended with, whose start is $4 then. $6 to $13: status, least
-- duration, session, user, model, prompt, its version and label; NULL or 0 = any. $14: so many traces at most; $16: with what went into the
-- root and came out. The page is cut where its texts have more than $17 bytes or its traces more than $18 spans, which are looked through
-- for models and prompts; never before its first trace. One row without trace_id for a project without any.
-- name: trace_list :many
WITH lasting AS MATERIALIZED (
    SELECT trace_id FROM traces WHERE organization_id = $1 AND project_id = $2 AND duration_ns >= $7 ORDER BY duration_ns DESC LIMIT $15
), modelled AS MATERIALIZED (
    SELECT trace_id, started_at FROM spans
    WHERE organization_id = $1 AND project_id = $2 AND model = $10::text AND started_at >= $3
    ORDER BY started_at DESC
    LIMIT $15
), prompted AS MATERIALIZED (
    (SELECT trace_id FROM spans
     WHERE organization_id = $1 AND project_id = $2 AND prompt_id = $11::uuid AND prompt_version = $12::integer AND started_at >= $3
       AND ($13::text IS NULL OR prompt_label = $13)
     ORDER BY started_at DESC
     LIMIT $15)
    UNION ALL
    (SELECT trace_id FROM spans
     WHERE organization_id = $1 AND project_id = $2 AND prompt_id = $11 AND $12 = 0 AND started_at >= $3
       AND ($13 IS NULL OR prompt_label = $13)
     ORDER BY prompt_version DESC, started_at DESC
     LIMIT $15)
), way AS MATERIALIZED (
    SELECT CASE WHEN $8::text IS NOT NULL THEN 'session'
                WHEN $9::text IS NOT NULL THEN 'user'
                WHEN $11 IS NOT NULL AND (SELECT count(*) FROM prompted) < $15 THEN 'prompt'
                WHEN $10 IS NOT NULL AND (SELECT count(*) FROM modelled) < $15 THEN 'model'
                WHEN $7 > 0 AND (SELECT count(*) FROM lasting) < $15 THEN 'duration'
                WHEN $6::smallint IS NOT NULL THEN 'status'
                ELSE 'time' END AS name
), few AS MATERIALIZED (
    SELECT trace_id FROM prompted WHERE (SELECT way.name FROM way) = 'prompt'
    UNION
    SELECT trace_id FROM modelled WHERE (SELECT way.name FROM way) = 'model'
    UNION
    SELECT trace_id FROM lasting WHERE (SELECT way.name FROM way) = 'duration'
), page AS MATERIALIZED (
    SELECT w.trace_id, w.started_at
    FROM (
        (SELECT t.trace_id, t.started_at FROM traces t
         WHERE t.organization_id = $1 AND t.project_id = $2 AND (SELECT way.name FROM way) = 'time'
           AND t.started_at >= $3 AND t.started_at <= $4 AND (t.started_at < $4 OR t.trace_id > $5)
           AND ($6 IS NULL OR t.status = $6) AND t.duration_ns >= $7 AND ($8 IS NULL OR t.session_id = $8) AND ($9 IS NULL OR t.user_id = $9)
           AND ($10 IS NULL
                OR EXISTS (SELECT FROM spans
                           WHERE organization_id = $1 AND project_id = $2 AND trace_id = t.trace_id AND model = $10
                             AND started_at >= t.started_at
                             AND started_at <= timestamptz 'epoch' + (t.end_ns / 1000) * interval '1 microsecond'))
           AND ($11 IS NULL
                OR EXISTS (SELECT FROM spans
                           WHERE organization_id = $1 AND project_id = $2 AND trace_id = t.trace_id AND prompt_id = $11
                             AND ($12 = 0 OR prompt_version = $12) AND ($13 IS NULL OR prompt_label = $13) AND started_at >= t.started_at
                             AND started_at <= timestamptz 'epoch' + (t.end_ns / 1000) * interval '1 microsecond'))
         ORDER BY t.started_at DESC, t.trace_id
         LIMIT $14)
        UNION ALL
        (SELECT t.trace_id, t.started_at FROM traces t
         WHERE t.organization_id = $1 AND t.project_id = $2 AND t.status = $6 AND (SELECT way.name FROM way) = 'status'
           AND t.started_at >= $3 AND t.started_at <= $4 AND (t.started_at < $4 OR t.trace_id > $5)
           AND ($6 IS NULL OR t.status = $6) AND t.duration_ns >= $7 AND ($8 IS NULL OR t.session_id = $8) AND ($9 IS NULL OR t.user_id = $9)
           AND ($10 IS NULL
                OR EXISTS (SELECT FROM spans
                           WHERE organization_id = $1 AND project_id = $2 AND trace_id = t.trace_id AND model = $10
                             AND started_at >= t.started_at
                             AND started_at <= timestamptz 'epoch' + (t.end_ns / 1000) * interval '1 microsecond'))
           AND ($11 IS NULL
                OR EXISTS (SELECT FROM spans
                           WHERE organization_id = $1 AND project_id = $2 AND trace_id = t.trace_id AND prompt_id = $11
                             AND ($12 = 0 OR prompt_version = $12) AND ($13 IS NULL OR prompt_label = $13) AND started_at >= t.started_at
                             AND started_at <= timestamptz 'epoch' + (t.end_ns / 1000) * interval '1 microsecond'))
         ORDER BY t.started_at DESC, t.trace_id
         LIMIT $14)
        UNION ALL
        (SELECT t.trace_id, t.started_at FROM traces t
         WHERE t.organization_id = $1 AND t.project_id = $2 AND t.session_id = $8 AND (SELECT way.name FROM way) = 'session'
           AND t.started_at >= $3 AND t.started_at <= $4 AND (t.started_at < $4 OR t.trace_id > $5)
           AND ($6 IS NULL OR t.status = $6) AND t.duration_ns >= $7 AND ($8 IS NULL OR t.session_id = $8) AND ($9 IS NULL OR t.user_id = $9)
           AND ($10 IS NULL
                OR EXISTS (SELECT FROM spans
                           WHERE organization_id = $1 AND project_id = $2 AND trace_id = t.trace_id AND model = $10
                             AND started_at >= t.started_at
                             AND started_at <= timestamptz 'epoch' + (t.end_ns / 1000) * interval '1 microsecond'))
           AND ($11 IS NULL
                OR EXISTS (SELECT FROM spans
                           WHERE organization_id = $1 AND project_id = $2 AND trace_id = t.trace_id AND prompt_id = $11
                             AND ($12 = 0 OR prompt_version = $12) AND ($13 IS NULL OR prompt_label = $13) AND started_at >= t.started_at
                             AND started_at <= timestamptz 'epoch' + (t.end_ns / 1000) * interval '1 microsecond'))
         ORDER BY t.started_at DESC, t.trace_id
         LIMIT $14)
        UNION ALL
        (SELECT t.trace_id, t.started_at FROM traces t
         WHERE t.organization_id = $1 AND t.project_id = $2 AND t.user_id = $9 AND (SELECT way.name FROM way) = 'user'
           AND t.started_at >= $3 AND t.started_at <= $4 AND (t.started_at < $4 OR t.trace_id > $5)
           AND ($6 IS NULL OR t.status = $6) AND t.duration_ns >= $7 AND ($8 IS NULL OR t.session_id = $8) AND ($9 IS NULL OR t.user_id = $9)
           AND ($10 IS NULL
                OR EXISTS (SELECT FROM spans
                           WHERE organization_id = $1 AND project_id = $2 AND trace_id = t.trace_id AND model = $10
                             AND started_at >= t.started_at
                             AND started_at <= timestamptz 'epoch' + (t.end_ns / 1000) * interval '1 microsecond'))
           AND ($11 IS NULL
                OR EXISTS (SELECT FROM spans
                           WHERE organization_id = $1 AND project_id = $2 AND trace_id = t.trace_id AND prompt_id = $11
                             AND ($12 = 0 OR prompt_version = $12) AND ($13 IS NULL OR prompt_label = $13) AND started_at >= t.started_at
                             AND started_at <= timestamptz 'epoch' + (t.end_ns / 1000) * interval '1 microsecond'))
         ORDER BY t.started_at DESC, t.trace_id
         LIMIT $14)
        UNION ALL
        (SELECT t.trace_id, t.started_at
         FROM few
         CROSS JOIN LATERAL (
             SELECT trace_id, started_at, end_ns, duration_ns, status, session_id, user_id FROM traces
             WHERE organization_id = $1 AND project_id = $2 AND trace_id = few.trace_id
             LIMIT 1
         ) t
         WHERE t.started_at >= $3 AND t.started_at <= $4 AND (t.started_at < $4 OR t.trace_id > $5)
           AND ($6 IS NULL OR t.status = $6) AND t.duration_ns >= $7 AND ($8 IS NULL OR t.session_id = $8) AND ($9 IS NULL OR t.user_id = $9)
           AND ($10 IS NULL
                OR EXISTS (SELECT FROM spans
                           WHERE organization_id = $1 AND project_id = $2 AND trace_id = t.trace_id AND model = $10
                             AND started_at >= t.started_at
                             AND started_at <= timestamptz 'epoch' + (t.end_ns / 1000) * interval '1 microsecond'))
           AND ($11 IS NULL
                OR EXISTS (SELECT FROM spans
                           WHERE organization_id = $1 AND project_id = $2 AND trace_id = t.trace_id AND prompt_id = $11
                             AND ($12 = 0 OR prompt_version = $12) AND ($13 IS NULL OR prompt_label = $13) AND started_at >= t.started_at
                             AND started_at <= timestamptz 'epoch' + (t.end_ns / 1000) * interval '1 microsecond')))
    ) w
    ORDER BY w.started_at DESC, w.trace_id
    LIMIT $14
)
SELECT e.project_id, e.trace_id, e.started_at, e.name, e.root_span_id, e.status, e.start_ns, e.end_ns, e.span_count, e.error_count,
       e.input_tokens, e.cache_read_tokens, e.cache_write_tokens, e.output_tokens, e.reasoning_tokens, e.cost_micros, e.session_id, e.user_id,
       e.input, e.output, e.found, u.used::text AS used
FROM projects r
LEFT JOIN LATERAL (
    SELECT t.project_id, t.trace_id, t.started_at, t.name, t.root_span_id, t.status, t.start_ns, t.end_ns, t.span_count, t.error_count,
           t.input_tokens, t.cache_read_tokens, t.cache_write_tokens, t.output_tokens, t.reasoning_tokens, t.cost_micros, t.session_id,
           t.user_id, root.input, root.output, count(*) OVER () AS found, row_number() OVER newest AS position,
           sum(t.span_count) OVER newest AS spans,
           sum(COALESCE(octet_length(root.input), 0) + COALESCE(octet_length(root.output), 0)) OVER newest AS bytes
    FROM page
    CROSS JOIN LATERAL (
        SELECT project_id, trace_id, started_at, name, root_span_id, root_start_ns, status, start_ns, end_ns, span_count, error_count,
               input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_micros, session_id, user_id
        FROM traces
        WHERE organization_id = $1 AND project_id = $2 AND trace_id = page.trace_id
        LIMIT 1
    ) t
    LEFT JOIN LATERAL (
        SELECT input, output FROM spans
        WHERE organization_id = $1 AND project_id = $2 AND trace_id = t.trace_id AND span_id = t.root_span_id
          AND started_at = timestamptz 'epoch' + (t.root_start_ns / 1000) * interval '1 microsecond' AND $16::boolean
        LIMIT 1
    ) root ON true
    WINDOW newest AS (ORDER BY t.started_at DESC, t.trace_id)
) e ON e.position = 1 OR (e.bytes <= $17::bigint AND e.spans <= $18::bigint)
LEFT JOIN LATERAL (
    WITH used AS MATERIALIZED (
        SELECT DISTINCT model, prompt_id, prompt_version, prompt_label FROM spans
        WHERE organization_id = $1 AND project_id = $2 AND trace_id = e.trace_id AND started_at >= e.started_at
          AND started_at <= timestamptz 'epoch' + (e.end_ns / 1000) * interval '1 microsecond'
    )
    SELECT jsonb_build_object(
               'models', ARRAY(SELECT DISTINCT model FROM used WHERE model IS NOT NULL ORDER BY model LIMIT 16),
               'prompts', ARRAY(SELECT jsonb_build_object('prompt_id', p.prompt_id, 'version', p.version, 'label', p.label)
                                FROM (SELECT DISTINCT prompt_id, COALESCE(prompt_version, 0) AS version, COALESCE(prompt_label, '') AS label
                                      FROM used
                                      WHERE prompt_id IS NOT NULL
                                      ORDER BY prompt_id, version, label
                                      LIMIT 16) p)) AS used
) u ON e.trace_id IS NOT NULL
WHERE r.organization_id = $1 AND r.id = $2 AND r.deleted_at IS NULL
ORDER BY e.started_at DESC, e.trace_id;
