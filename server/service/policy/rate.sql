-- Rates, all of one organization. Sub-windows are told by their beginning; keys stand in their order, so that two servers that add at once wait
-- for each other and never for ever.

-- $2 to $7: policies, rules, keys, beginnings, calls and tokens (which may be taken back: negative). Of a deleted policy nothing is kept.
-- name: policy_rate_add :command
INSERT INTO rate_windows AS w (organization_id, policy_id, rule, key, window_start, calls, tokens)
SELECT $1, c.policy_id, c.rule, c.key, c.window_start, c.calls, c.tokens
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[], $7::bigint[])
    AS c (policy_id, rule, key, window_start, calls, tokens)
WHERE EXISTS (SELECT FROM policies p WHERE p.organization_id = $1 AND p.id = c.policy_id)
ORDER BY c.policy_id, c.rule, c.key, c.window_start
ON CONFLICT (organization_id, policy_id, rule, key, window_start) DO UPDATE
SET calls = w.calls + excluded.calls, tokens = LEAST(w.tokens::numeric + excluded.tokens, 9223372036854775807);

-- What all servers counted under each of these keys since its time. $2 to $5: policies, rules, keys, times; ordinals count from 1.
-- name: policy_rate_read :many
SELECT k.ordinal, w.window_start, w.calls, w.tokens
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::timestamptz[]) WITH ORDINALITY AS k (policy_id, rule, key, since, ordinal)
JOIN rate_windows w ON w.organization_id = $1 AND w.policy_id = k.policy_id AND w.rule = k.rule AND w.key = k.key
    AND w.window_start >= k.since;

-- Deletes what was over a minute ago, which no server's clock takes for present; rows that another server deletes are left to it.
-- name: policy_rate_delete_over :command
WITH over AS (
    SELECT w.policy_id, w.rule, w.key, w.window_start
    FROM unnest($2::uuid[], $3::text[], $4::text[], $5::timestamptz[]) AS k (policy_id, rule, key, since)
    JOIN rate_windows w ON w.organization_id = $1 AND w.policy_id = k.policy_id AND w.rule = k.rule AND w.key = k.key
        AND w.window_start < k.since - interval '1 minute'
    FOR UPDATE OF w SKIP LOCKED
)
DELETE FROM rate_windows w
USING over o
WHERE w.organization_id = $1 AND w.policy_id = o.policy_id AND w.rule = o.rule AND w.key = o.key AND w.window_start = o.window_start;

-- What no window reaches back to, of keys that nobody uses any more. $2: a time.
-- name: policy_rate_delete_old :command
DELETE FROM rate_windows
WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM rate_windows WHERE organization_id = $1 AND window_start < $2
                                                 ORDER BY window_start LIMIT 1000 FOR UPDATE SKIP LOCKED));
