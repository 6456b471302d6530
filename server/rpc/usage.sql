-- What rpc/usage.c counted, all of one organization. Each statement touches its rows in the order of their keys, so that two servers that
-- write at once wait for each other and never for ever. What belongs to a removed organization, key or account is forgotten.

-- $2 to $5: days since the Unix epoch, projects, metrics and amounts.
-- name: usage_add :command
INSERT INTO usage_daily AS u (organization_id, day, project_id, metric, value)
SELECT $1, date '1970-01-01' + c.day, c.project_id, c.metric, c.value
FROM unnest($2::text[]::integer[], $3::uuid[], $4::text[], $5::text[]::bigint[]) AS c (day, project_id, metric, value)
WHERE EXISTS (SELECT FROM organizations WHERE organization_id = $1)
ORDER BY c.day, c.project_id, c.metric
ON CONFLICT (organization_id, day, project_id, metric) DO UPDATE SET value = u.value + excluded.value;

-- $2, $3: keys and times in microseconds since the Unix epoch. Exact to about a minute, so a time that is nearly the same is left.
-- name: usage_note_keys :command
WITH used AS (
    SELECT u.id, timestamptz 'epoch' + u.used_us * interval '1 microsecond' AS used_at
    FROM unnest($2::uuid[], $3::text[]::bigint[]) AS u (id, used_us)
), stale AS (
    SELECT k.id, used.used_at
    FROM api_keys k
    JOIN used ON used.id = k.id
    WHERE k.organization_id = $1 AND (k.last_used_at IS NULL OR k.last_used_at < used.used_at - interval '30 seconds')
    ORDER BY k.id
    FOR NO KEY UPDATE OF k
)
UPDATE api_keys k SET last_used_at = stale.used_at FROM stale WHERE k.organization_id = $1 AND k.id = stale.id;

-- The same for service accounts.
-- name: usage_note_accounts :command
WITH used AS (
    SELECT u.id, timestamptz 'epoch' + u.used_us * interval '1 microsecond' AS used_at
    FROM unnest($2::uuid[], $3::text[]::bigint[]) AS u (id, used_us)
), stale AS (
    SELECT a.id, used.used_at
    FROM service_accounts a
    JOIN used ON used.id = a.id
    WHERE a.organization_id = $1 AND (a.last_used_at IS NULL OR a.last_used_at < used.used_at - interval '30 seconds')
    ORDER BY a.id
    FOR NO KEY UPDATE OF a
)
UPDATE service_accounts a SET last_used_at = stale.used_at FROM stale WHERE a.organization_id = $1 AND a.id = stale.id;
