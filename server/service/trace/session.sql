-- Sessions: traces with the same session id, added up.

-- Newest last trace first, then session_id. $3, $4: traces that start from this time on, before that time; $5: only this session, $6: only
-- traces of this user, NULL = any. $7, $8: start of the last trace and id of the session that the page before ended with; $4 and NULL on the
-- first page. A session stands where its newest trace does, so the walk goes through traces, newest first, and passes by those that are not
-- the newest of their session; the older ones of a session are read when it is on the page only. No index has the order of sessions whose
-- traces start in the same microsecond: all of these are read, and sorted. Each way has a limit of its own, without which PostgreSQL would
-- rather sort all traces than walk; that of one session ends at its newest trace. One row without session_id for a project without any.
-- name: session_list :many
WITH page AS MATERIALIZED (
    (SELECT t.session_id, t.started_at FROM traces t
     WHERE t.organization_id = $1 AND t.project_id = $2 AND t.session_id IS NOT NULL AND $5::text IS NULL AND $6::text IS NULL
       AND t.started_at >= $3 AND t.started_at < $4 AND t.started_at <= $7 AND (t.started_at < $7 OR t.session_id > $8)
       AND (SELECT n.trace_id = t.trace_id FROM traces n
            WHERE n.organization_id = $1 AND n.project_id = $2 AND n.session_id = t.session_id AND n.started_at < $4
              AND ($6 IS NULL OR n.user_id = $6)
            ORDER BY n.started_at DESC, n.trace_id
            LIMIT 1)
     ORDER BY t.started_at DESC
     FETCH FIRST ($9) ROWS WITH TIES)
    UNION ALL
    (SELECT t.session_id, t.started_at FROM traces t
     WHERE t.organization_id = $1 AND t.project_id = $2 AND t.session_id IS NOT NULL AND $5 IS NULL AND t.user_id = $6
       AND t.started_at >= $3 AND t.started_at < $4 AND t.started_at <= $7 AND (t.started_at < $7 OR t.session_id > $8)
       AND (SELECT n.trace_id = t.trace_id FROM traces n
            WHERE n.organization_id = $1 AND n.project_id = $2 AND n.session_id = t.session_id AND n.started_at < $4
              AND ($6 IS NULL OR n.user_id = $6)
            ORDER BY n.started_at DESC, n.trace_id
            LIMIT 1)
     ORDER BY t.started_at DESC
     FETCH FIRST ($9) ROWS WITH TIES)
    UNION ALL
    (SELECT t.session_id, t.started_at FROM traces t
     WHERE t.organization_id = $1 AND t.project_id = $2 AND t.session_id = $5 AND ($6 IS NULL OR t.user_id = $6)
       AND t.started_at >= $3 AND t.started_at < $4 AND t.started_at <= $7 AND (t.started_at < $7 OR t.session_id > $8)
       AND (SELECT n.trace_id = t.trace_id FROM traces n
            WHERE n.organization_id = $1 AND n.project_id = $2 AND n.session_id = t.session_id AND n.started_at < $4
              AND ($6 IS NULL OR n.user_id = $6)
            ORDER BY n.started_at DESC, n.trace_id
            LIMIT 1)
     ORDER BY t.started_at DESC
     LIMIT 1)
)
SELECT r.id AS project_id, s.session_id, s.last_started_at, s.user_id, s.started_at, s.end_ns, s.start_ns, s.trace_count, s.error_trace_count,
       s.input_tokens, s.cache_read_tokens, s.cache_write_tokens, s.output_tokens, s.reasoning_tokens, s.cost_micros
FROM projects r
LEFT JOIN LATERAL (
    SELECT page.session_id, page.started_at AS last_started_at, f.user_id, f.started_at, f.end_ns, f.start_ns, f.trace_count, f.error_trace_count,
           f.input_tokens, f.cache_read_tokens, f.cache_write_tokens, f.output_tokens, f.reasoning_tokens, f.cost_micros
    FROM (SELECT session_id, started_at FROM page ORDER BY started_at DESC, session_id LIMIT $9) page
    CROSS JOIN LATERAL (
        SELECT CASE WHEN min(t.user_id) = max(t.user_id) THEN min(t.user_id) END AS user_id, min(t.started_at) AS started_at,
               min(t.start_ns) AS start_ns, max(t.end_ns) AS end_ns, count(*) AS trace_count,
               count(*) FILTER (WHERE t.error_count > 0) AS error_trace_count,
               LEAST(sum(t.input_tokens), 9223372036854775807)::bigint AS input_tokens,
               LEAST(sum(t.cache_read_tokens), 9223372036854775807)::bigint AS cache_read_tokens,
               LEAST(sum(t.cache_write_tokens), 9223372036854775807)::bigint AS cache_write_tokens,
               LEAST(sum(t.output_tokens), 9223372036854775807)::bigint AS output_tokens,
               LEAST(sum(t.reasoning_tokens), 9223372036854775807)::bigint AS reasoning_tokens,
               LEAST(sum(t.cost_micros), 9223372036854775807)::bigint AS cost_micros
        FROM traces t
        WHERE t.organization_id = $1 AND t.project_id = $2 AND t.session_id = page.session_id AND t.started_at >= $3 AND t.started_at < $4
          AND ($6 IS NULL OR t.user_id = $6)
    ) f
) s ON true
WHERE r.organization_id = $1 AND r.id = $2 AND r.deleted_at IS NULL
ORDER BY s.last_started_at DESC, s.session_id;
