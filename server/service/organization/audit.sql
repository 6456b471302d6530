-- The audit log, read and verified. What writes it is rpc/write.sql, which also says what the canonical bytes are.

-- Which part of the log has these times. Times rise with the sequence but for clocks and for requests that overtake each other, so the list
-- goes by the sequence from the first to the last of them and looks at each time once more. The count keeps the planner from taking the
-- primary key for min and max, where it would read up to the whole log.
-- name: audit_range :one
SELECT count(*) AS events, min(sequence) AS first_sequence, max(sequence) AS last_sequence
FROM audit_log
WHERE organization_id = $1 AND created_at >= $2 AND created_at < $3;

-- Newest first, from sequence $3 down to $2. $4, $5: times; $6: the actor; $7: the action, or what it begins with; $8, $9: the target. NULL
-- = any. $10: events; $11: with canonical; $12: bytes after which the page is cut.
-- Of four searches only the one that suits what is asked for runs, each along an index in the order of the page, whatever plan is kept: the
-- conditions that choose it name no column. There are a few dozen kinds of targets and actions; they are found by stepping from one to the
-- next in the index, so that a page of a rare one does not read the log for it.
-- name: audit_list :many
WITH RECURSIVE kind AS (
    (SELECT target_kind, action
     FROM audit_log
     WHERE organization_id = $1 AND $6::uuid IS NULL AND $9::uuid IS NULL AND num_nonnulls($7::text, $8::text) > 0
     ORDER BY target_kind, action
     LIMIT 1)
    UNION ALL
    SELECT next.target_kind, next.action
    FROM kind
    CROSS JOIN LATERAL (
        SELECT target_kind, action
        FROM audit_log
        WHERE organization_id = $1 AND (target_kind, action) > (kind.target_kind, kind.action)
        ORDER BY target_kind, action
        LIMIT 1
    ) next
), found AS (
    (SELECT sequence
     FROM audit_log
     WHERE organization_id = $1 AND sequence >= $2 AND sequence <= $3 AND num_nonnulls($6, $7, $8, $9) = 0
       AND ($4::timestamptz IS NULL OR created_at >= $4) AND ($5::timestamptz IS NULL OR created_at < $5)
     ORDER BY sequence DESC
     LIMIT $10)
    UNION ALL
    (SELECT sequence
     FROM audit_log
     WHERE organization_id = $1 AND principal_id = $6 AND sequence >= $2 AND sequence <= $3
       AND ($4 IS NULL OR created_at >= $4) AND ($5 IS NULL OR created_at < $5)
       AND ($7 IS NULL OR action = $7 OR starts_with(action, $7 || '.')) AND ($8 IS NULL OR target_kind = $8)
       AND ($9 IS NULL OR target_id = $9)
     ORDER BY sequence DESC
     LIMIT $10)
    UNION ALL
    (SELECT sequence
     FROM audit_log
     WHERE organization_id = $1 AND $6 IS NULL AND target_id = $9 AND sequence >= $2 AND sequence <= $3
       AND ($4 IS NULL OR created_at >= $4) AND ($5 IS NULL OR created_at < $5)
       AND ($7 IS NULL OR action = $7 OR starts_with(action, $7 || '.')) AND ($8 IS NULL OR target_kind = $8)
     ORDER BY sequence DESC
     LIMIT $10)
    UNION ALL
    SELECT of_kind.sequence
    FROM kind
    CROSS JOIN LATERAL (
        SELECT sequence
        FROM audit_log
        WHERE organization_id = $1 AND target_kind = kind.target_kind AND action = kind.action AND sequence >= $2 AND sequence <= $3
          AND ($4 IS NULL OR created_at >= $4) AND ($5 IS NULL OR created_at < $5)
        ORDER BY sequence DESC
        LIMIT $10
    ) of_kind
    WHERE ($7 IS NULL OR kind.action = $7 OR starts_with(kind.action, $7 || '.')) AND ($8 IS NULL OR kind.target_kind = $8)
)
SELECT page.sequence, page.principal_kind, page.principal_id, page.principal_name, page.principal_role, page.peer_address, page.request_id,
       page.action, page.target_kind, page.target_id, page.details, page.canonical, page.hash, page.created_at, page.found
FROM (
    SELECT l.sequence, l.principal_kind, l.principal_id, l.principal_name, l.principal_role, l.peer_address, l.request_id, l.action,
           l.target_kind, l.target_id, l.details, CASE WHEN $11::boolean THEN l.canonical END AS canonical, l.hash, l.created_at,
           count(*) OVER () AS found,
           sum(octet_length(l.canonical)) OVER (ORDER BY l.sequence DESC) - octet_length(l.canonical) AS bytes_before
    FROM (SELECT sequence FROM found ORDER BY sequence DESC LIMIT $10) newest
    JOIN audit_log l ON l.organization_id = $1 AND l.sequence = newest.sequence
) page
WHERE page.bytes_before < $12::bigint
ORDER BY page.sequence DESC;

-- Always one row: what is the first thing in $2 to $3 that does not fit, and the last event before it that does. The columns are hashed by
-- what they hold now, so that a change of one shows though canonical and hash were left alone. Nothing here can fail on what somebody wrote
-- into a row: canonical is compared and never read, and times that bigint does not hold stay numeric. LATERAL with LIMIT 1 and subqueries
-- where joins would do: a plan that is kept for any range would join the whole log (8 s for 100,000 of a million events).
-- name: audit_verify :one
WITH head AS (
    SELECT sequence, hash FROM audit_heads WHERE organization_id = $1
), event AS (
    SELECT e.sequence,
           CASE
               WHEN l.sequence IS NULL THEN 'the event is missing'
               WHEN e.sequence < $2 THEN NULL -- only its hash is needed
               WHEN l.canonical IS DISTINCT FROM convert_to(jsonb_build_object(
                   'format', 'forge.audit.v1', 'organization_id', l.organization_id,
                   'event_time_us', trunc(extract(epoch FROM l.created_at) * 1000000), 'actor_kind', l.principal_kind,
                   'actor_id', l.principal_id, 'actor_name', l.principal_name, 'actor_role', l.principal_role,
                   'peer_address', l.peer_address, 'request_id', l.request_id, 'action', l.action, 'target_kind', l.target_kind,
                   'target_id', l.target_id, 'details', l.details)::text, 'UTF8')
               THEN 'the event is not what its canonical bytes say'
               WHEN l.hash IS DISTINCT FROM sha256(
                   CASE e.sequence
                       WHEN 1 THEN decode(repeat('00', 32), 'hex')
                       ELSE (SELECT hash FROM audit_log WHERE organization_id = $1 AND sequence = e.sequence - 1)
                   END || l.canonical)
               THEN 'its hash is not that of the hash before it and its canonical bytes'
           END AS reason
    FROM head
    CROSS JOIN generate_series(greatest($2::bigint - 1, 1), least($3::bigint, head.sequence)) AS e (sequence)
    LEFT JOIN LATERAL (
        SELECT organization_id, sequence, principal_kind, principal_id, principal_name, principal_role, peer_address, request_id, action,
               target_kind, target_id, details, canonical, hash, created_at
        FROM audit_log
        WHERE organization_id = $1 AND sequence = e.sequence
        LIMIT 1
    ) l ON true
), misfit AS (
    SELECT sequence, 1 AS place, reason FROM event WHERE reason IS NOT NULL
    UNION ALL
    SELECT greatest(head.sequence, 1), 2, 'the head of the log has another hash than the last event'
    FROM head
    WHERE sequence <= $3 AND hash IS DISTINCT FROM
        CASE sequence
            WHEN 0 THEN decode(repeat('00', 32), 'hex')
            ELSE (SELECT hash FROM audit_log WHERE organization_id = $1 AND sequence = head.sequence)
        END
    UNION ALL
    (SELECT sequence, 3, 'events after the head of the log'
     FROM audit_log
     WHERE organization_id = $1 AND sequence > (SELECT greatest(sequence, 0) FROM head WHERE sequence <= $3)
     ORDER BY sequence
     LIMIT 1)
    UNION ALL
    (SELECT 1, 0, 'events before the first of the log'
     FROM audit_log
     WHERE organization_id = $1 AND sequence < 1 AND $2 = 1
     LIMIT 1)
)
SELECT head.sequence AS head_sequence, first.sequence AS broken_sequence, first.reason AS broken_reason, last.sequence AS last_sequence,
       last.hash AS last_hash
FROM (SELECT 1) one
LEFT JOIN head ON true
LEFT JOIN (SELECT sequence, reason FROM misfit ORDER BY sequence, place LIMIT 1) first ON true
LEFT JOIN LATERAL (
    SELECT sequence, hash
    FROM audit_log
    WHERE organization_id = $1 AND sequence >= $2 AND sequence = least(first.sequence - 1, $3, head.sequence)
    LIMIT 1
) last ON true;
