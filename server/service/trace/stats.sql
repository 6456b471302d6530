-- Figures of traces, and of the spans that name a model or prompt, by intervals of their start. Both bounds of started_at are parameters, so
-- that only the partitions of the range are planned and read. Sums that no bigint holds stay at its end; percentiles are the nearest rank
-- (percentile_disc): a duration that was measured, the least that so many percent do not exceed. Rows come by series, the total of a series
-- (bucket NULL) before its buckets; totals are made of the rows, not of the buckets.
-- Parts of chosen go by one index each, and which of them runs is known before any row is read, whatever plan PostgreSQL keeps. Traces and
-- scores are looked up one by one, by the whole of their key, in subqueries that LIMIT, GROUP BY or DISTINCT keep subqueries: as joins they
-- depend on estimates, and with one that is too small all scores of the project are read for every span. A project without scores of a kind
-- is not asked for them at all.

-- $3 to before $4: the range. last_end_us, where $5 asks for it: no span of a trace that starts in the range starts later.
-- name: trace_stats_extent :optional
SELECT p.id, (SELECT max(t.end_ns) / 1000 FROM traces t
              WHERE $5::boolean AND t.organization_id = $1 AND t.project_id = $2 AND t.started_at >= $3 AND t.started_at < $4) AS last_end_us
FROM projects p
WHERE p.organization_id = $1 AND p.id = $2 AND p.deleted_at IS NULL;

-- $5 start of the range, $6 length of a bucket, both in microseconds; $7: only traces with a span that starts from $3 to $8 and fits $9 model,
-- $10 prompt, $11 version (0 = any) and $12 label, NULL = any. $13: most rows.
-- name: trace_stats_traces :many
WITH chosen AS (
    SELECT (t.start_ns / 1000 - $5::bigint) / $6::bigint AS bucket, t.duration_ns, t.status, t.input_tokens, t.cache_read_tokens,
           t.cache_write_tokens, t.output_tokens, t.reasoning_tokens, t.cost_micros
    FROM traces t
    WHERE NOT $7::boolean AND t.organization_id = $1 AND t.project_id = $2 AND t.started_at >= $3 AND t.started_at < $4
    UNION ALL
    SELECT (t.start_ns / 1000 - $5) / $6, t.duration_ns, t.status, t.input_tokens, t.cache_read_tokens, t.cache_write_tokens,
           t.output_tokens, t.reasoning_tokens, t.cost_micros
    FROM (
        SELECT s.trace_id
        FROM spans s
        WHERE $7 AND $9::text IS NOT NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.started_at >= $3
          AND s.started_at <= $8::timestamptz AND s.model = $9 AND ($10::uuid IS NULL OR s.prompt_id = $10)
          AND ($11::integer = 0 OR s.prompt_version = $11) AND ($12::text IS NULL OR s.prompt_label = $12)
        UNION
        SELECT s.trace_id
        FROM spans s
        WHERE $7 AND $9 IS NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.started_at >= $3 AND s.started_at <= $8
          AND s.prompt_id = $10 AND ($11 = 0 OR s.prompt_version = $11) AND ($12 IS NULL OR s.prompt_label = $12)
    ) k
    CROSS JOIN LATERAL (
        SELECT x.started_at, x.start_ns, x.duration_ns, x.status, x.input_tokens, x.cache_read_tokens, x.cache_write_tokens,
               x.output_tokens, x.reasoning_tokens, x.cost_micros
        FROM traces x
        WHERE x.organization_id = $1 AND x.project_id = $2 AND x.trace_id = k.trace_id
        LIMIT 1
    ) t
    WHERE t.started_at >= $3 AND t.started_at < $4
)
SELECT NULL::text AS model, NULL::uuid AS prompt_id, 0 AS prompt_version, NULL::text AS prompt_label, c.bucket, count(*) AS row_count,
       count(*) FILTER (WHERE c.status = 2) AS error_count,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY c.duration_ns) AS duration_p50_ns,
       percentile_disc(0.95) WITHIN GROUP (ORDER BY c.duration_ns) AS duration_p95_ns,
       percentile_disc(0.99) WITHIN GROUP (ORDER BY c.duration_ns) AS duration_p99_ns,
       LEAST(COALESCE(sum(c.input_tokens), 0), 9223372036854775807)::bigint AS input_tokens,
       LEAST(COALESCE(sum(c.cache_read_tokens), 0), 9223372036854775807)::bigint AS cache_read_tokens,
       LEAST(COALESCE(sum(c.cache_write_tokens), 0), 9223372036854775807)::bigint AS cache_write_tokens,
       LEAST(COALESCE(sum(c.output_tokens), 0), 9223372036854775807)::bigint AS output_tokens,
       LEAST(COALESCE(sum(c.reasoning_tokens), 0), 9223372036854775807)::bigint AS reasoning_tokens,
       LEAST(COALESCE(sum(c.cost_micros), 0), 9223372036854775807)::bigint AS cost_micros
FROM chosen c
GROUP BY GROUPING SETS ((c.bucket), ())
ORDER BY c.bucket NULLS FIRST
LIMIT $13;

-- Of the same traces: scores of theirs by name. Scores are added up as parts of 2^64, so that no sum of doubles overflows.
-- name: trace_stats_trace_scores :many
WITH chosen AS MATERIALIZED (
    SELECT (t.start_ns / 1000 - $5::bigint) / $6::bigint AS bucket, encode(t.trace_id, 'hex') AS target
    FROM traces t
    WHERE NOT $7::boolean AND t.organization_id = $1 AND t.project_id = $2 AND t.started_at >= $3 AND t.started_at < $4
    UNION ALL
    SELECT (t.start_ns / 1000 - $5) / $6, encode(k.trace_id, 'hex')
    FROM (
        SELECT s.trace_id
        FROM spans s
        WHERE $7 AND $9::text IS NOT NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.started_at >= $3
          AND s.started_at <= $8::timestamptz AND s.model = $9 AND ($10::uuid IS NULL OR s.prompt_id = $10)
          AND ($11::integer = 0 OR s.prompt_version = $11) AND ($12::text IS NULL OR s.prompt_label = $12)
        UNION
        SELECT s.trace_id
        FROM spans s
        WHERE $7 AND $9 IS NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.started_at >= $3 AND s.started_at <= $8
          AND s.prompt_id = $10 AND ($11 = 0 OR s.prompt_version = $11) AND ($12 IS NULL OR s.prompt_label = $12)
    ) k
    CROSS JOIN LATERAL (
        SELECT x.started_at, x.start_ns
        FROM traces x
        WHERE x.organization_id = $1 AND x.project_id = $2 AND x.trace_id = k.trace_id
        LIMIT 1
    ) t
    WHERE t.started_at >= $3 AND t.started_at < $4
)
SELECT NULL::text AS model, NULL::uuid AS prompt_id, 0 AS prompt_version, NULL::text AS prompt_label, c.bucket, s.name,
       sum(s.score_count)::bigint AS score_count, sum(s.score_sum) AS score_sum
FROM chosen c
CROSS JOIN LATERAL (
    SELECT y.name, count(*) AS score_count,
           sum(COALESCE(y.number, CASE WHEN y.flag THEN 1 ELSE 0 END) / 18446744073709551616::double precision) AS score_sum
    FROM scores y
    WHERE y.organization_id = $1 AND y.project_id = $2 AND y.target_kind = 'trace' AND y.target = c.target
      AND (y.number IS NOT NULL OR y.flag IS NOT NULL)
    GROUP BY y.name
) s
WHERE (SELECT min(target) FROM scores WHERE organization_id = $1 AND project_id = $2 AND target_kind = 'trace') IS NOT NULL
GROUP BY GROUPING SETS ((c.bucket, s.name), (s.name))
ORDER BY c.bucket NULLS FIRST, s.name
LIMIT $13;

-- $5, $6 as above; $7: what to divide by, 1 model, 2 prompt version, 3 prompt label; $8 model, $9 prompt, $10 version (0 = any), $11 label,
-- NULL = any; $12 kind, 0 = any; $13: most rows.
-- name: trace_stats_spans :many
WITH chosen AS (
    SELECT s.model, s.prompt_id, s.prompt_version, s.prompt_label, s.kind, s.start_ns, s.end_ns, s.status, s.input_tokens,
           s.cache_read_tokens, s.cache_write_tokens, s.output_tokens, s.reasoning_tokens, s.cost_micros
    FROM spans s
    WHERE $8::text IS NOT NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.started_at >= $3 AND s.started_at < $4
      AND s.model = $8 AND ($9::uuid IS NULL OR s.prompt_id = $9)
    UNION ALL
    SELECT s.model, s.prompt_id, s.prompt_version, s.prompt_label, s.kind, s.start_ns, s.end_ns, s.status, s.input_tokens,
           s.cache_read_tokens, s.cache_write_tokens, s.output_tokens, s.reasoning_tokens, s.cost_micros
    FROM spans s
    WHERE $8 IS NULL AND $9 IS NOT NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.started_at >= $3 AND s.started_at < $4
      AND s.prompt_id = $9
    UNION ALL
    SELECT s.model, s.prompt_id, s.prompt_version, s.prompt_label, s.kind, s.start_ns, s.end_ns, s.status, s.input_tokens,
           s.cache_read_tokens, s.cache_write_tokens, s.output_tokens, s.reasoning_tokens, s.cost_micros
    FROM spans s
    WHERE $8 IS NULL AND $9 IS NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.started_at >= $3 AND s.started_at < $4
), keyed AS (
    SELECT CASE WHEN $7::integer = 1 THEN c.model END AS model, CASE WHEN $7 <> 1 THEN c.prompt_id END AS prompt_id,
           CASE WHEN $7 = 2 THEN COALESCE(c.prompt_version, 0) ELSE 0 END AS prompt_version,
           CASE WHEN $7 = 3 THEN COALESCE(c.prompt_label, '') END AS prompt_label, (c.start_ns / 1000 - $5::bigint) / $6::bigint AS bucket,
           c.end_ns - c.start_ns AS duration_ns, c.status, c.input_tokens, c.cache_read_tokens, c.cache_write_tokens, c.output_tokens,
           c.reasoning_tokens, c.cost_micros
    FROM chosen c
    WHERE CASE WHEN $7 = 1 THEN c.model IS NOT NULL ELSE c.prompt_id IS NOT NULL END AND ($10::integer = 0 OR c.prompt_version = $10)
      AND ($11::text IS NULL OR c.prompt_label = $11) AND ($12::integer = 0 OR c.kind = $12)
)
SELECT k.model, k.prompt_id, k.prompt_version, k.prompt_label, k.bucket, count(*) AS row_count,
       count(*) FILTER (WHERE k.status = 2) AS error_count,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY k.duration_ns) AS duration_p50_ns,
       percentile_disc(0.95) WITHIN GROUP (ORDER BY k.duration_ns) AS duration_p95_ns,
       percentile_disc(0.99) WITHIN GROUP (ORDER BY k.duration_ns) AS duration_p99_ns,
       LEAST(sum(k.input_tokens), 9223372036854775807)::bigint AS input_tokens,
       LEAST(sum(k.cache_read_tokens), 9223372036854775807)::bigint AS cache_read_tokens,
       LEAST(sum(k.cache_write_tokens), 9223372036854775807)::bigint AS cache_write_tokens,
       LEAST(sum(k.output_tokens), 9223372036854775807)::bigint AS output_tokens,
       LEAST(sum(k.reasoning_tokens), 9223372036854775807)::bigint AS reasoning_tokens,
       LEAST(COALESCE(sum(k.cost_micros), 0), 9223372036854775807)::bigint AS cost_micros
FROM keyed k
GROUP BY GROUPING SETS ((k.model, k.prompt_id, k.prompt_version, k.prompt_label, k.bucket),
                        (k.model, k.prompt_id, k.prompt_version, k.prompt_label))
ORDER BY k.model, k.prompt_id, k.prompt_version, k.prompt_label, k.bucket NULLS FIRST
LIMIT $13;

-- Of the same spans: scores of theirs and of their traces by name. The score of a trace counts once in each bucket, and once in all, in which
-- the series has spans of it.
-- name: trace_stats_span_scores :many
WITH chosen AS (
    SELECT s.trace_id, s.span_id, s.model, s.prompt_id, s.prompt_version, s.prompt_label, s.kind, s.start_ns
    FROM spans s
    WHERE $8::text IS NOT NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.started_at >= $3 AND s.started_at < $4
      AND s.model = $8 AND ($9::uuid IS NULL OR s.prompt_id = $9)
    UNION ALL
    SELECT s.trace_id, s.span_id, s.model, s.prompt_id, s.prompt_version, s.prompt_label, s.kind, s.start_ns
    FROM spans s
    WHERE $8 IS NULL AND $9 IS NOT NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.started_at >= $3 AND s.started_at < $4
      AND s.prompt_id = $9
    UNION ALL
    SELECT s.trace_id, s.span_id, s.model, s.prompt_id, s.prompt_version, s.prompt_label, s.kind, s.start_ns
    FROM spans s
    WHERE $8 IS NULL AND $9 IS NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.started_at >= $3 AND s.started_at < $4
), keyed AS MATERIALIZED (
    SELECT CASE WHEN $7::integer = 1 THEN c.model END AS model, CASE WHEN $7 <> 1 THEN c.prompt_id END AS prompt_id,
           CASE WHEN $7 = 2 THEN COALESCE(c.prompt_version, 0) ELSE 0 END AS prompt_version,
           CASE WHEN $7 = 3 THEN COALESCE(c.prompt_label, '') END AS prompt_label, (c.start_ns / 1000 - $5::bigint) / $6::bigint AS bucket,
           encode(c.trace_id, 'hex') AS trace, encode(c.trace_id, 'hex') || '/' || encode(c.span_id, 'hex') AS span
    FROM chosen c
    WHERE CASE WHEN $7 = 1 THEN c.model IS NOT NULL ELSE c.prompt_id IS NOT NULL END AND ($10::integer = 0 OR c.prompt_version = $10)
      AND ($11::text IS NULL OR c.prompt_label = $11) AND ($12::integer = 0 OR c.kind = $12)
), scored AS MATERIALIZED (
    SELECT k.model, k.prompt_id, k.prompt_version, k.prompt_label, k.bucket, s.id, s.name, s.part
    FROM (SELECT DISTINCT model, prompt_id, prompt_version, prompt_label, bucket, trace FROM keyed) k
    CROSS JOIN LATERAL (
        SELECT DISTINCT y.id, y.name,
               COALESCE(y.number, CASE WHEN y.flag THEN 1 ELSE 0 END) / 18446744073709551616::double precision AS part
        FROM scores y
        WHERE y.organization_id = $1 AND y.project_id = $2 AND y.target_kind = 'trace' AND y.target = k.trace
          AND (y.number IS NOT NULL OR y.flag IS NOT NULL)
    ) s
    WHERE (SELECT min(target) FROM scores WHERE organization_id = $1 AND project_id = $2 AND target_kind = 'trace') IS NOT NULL
    UNION ALL
    SELECT DISTINCT k.model, k.prompt_id, k.prompt_version, k.prompt_label, k.bucket, s.id, s.name, s.part
    FROM keyed k
    CROSS JOIN LATERAL (
        SELECT DISTINCT y.id, y.name,
               COALESCE(y.number, CASE WHEN y.flag THEN 1 ELSE 0 END) / 18446744073709551616::double precision AS part
        FROM scores y
        WHERE y.organization_id = $1 AND y.project_id = $2 AND y.target_kind = 'span' AND y.target = k.span
          AND (y.number IS NOT NULL OR y.flag IS NOT NULL)
    ) s
    WHERE (SELECT min(target) FROM scores WHERE organization_id = $1 AND project_id = $2 AND target_kind = 'span') IS NOT NULL
)
SELECT d.model, d.prompt_id, d.prompt_version, d.prompt_label, d.bucket, d.name, count(*) AS score_count, sum(d.part) AS score_sum
FROM (
    SELECT model, prompt_id, prompt_version, prompt_label, bucket, id, name, part FROM scored
    UNION ALL
    SELECT DISTINCT model, prompt_id, prompt_version, prompt_label, NULL::bigint, id, name, part FROM scored
) d
GROUP BY d.model, d.prompt_id, d.prompt_version, d.prompt_label, d.bucket, d.name
ORDER BY d.model, d.prompt_id, d.prompt_version, d.prompt_label, d.bucket NULLS FIRST, d.name
LIMIT $13;
