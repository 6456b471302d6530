-- What count.c counted, all of one organization, in the order of the keys, so that two servers that write at once wait for each other and
-- never for ever. What belongs to a deleted policy is forgotten.

-- $2 to $8: policies, projects, days since the Unix epoch, and how many passed, were flagged, masked and blocked.
-- name: policy_stats_add :command
INSERT INTO policy_daily_stats AS s (organization_id, policy_id, project_id, day, evaluated_count, passed_count, flagged_count, masked_count,
                                     blocked_count)
SELECT $1, c.policy_id, c.project_id, date '1970-01-01' + c.day, c.passed + c.flagged + c.masked + c.blocked, c.passed, c.flagged, c.masked,
       c.blocked
FROM unnest($2::uuid[], $3::uuid[], $4::integer[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
    AS c (policy_id, project_id, day, passed, flagged, masked, blocked)
WHERE EXISTS (SELECT FROM policies p WHERE p.organization_id = $1 AND p.id = c.policy_id)
ORDER BY c.policy_id, c.project_id, c.day
ON CONFLICT (organization_id, policy_id, project_id, day) DO UPDATE
SET evaluated_count = s.evaluated_count + excluded.evaluated_count, passed_count = s.passed_count + excluded.passed_count,
    flagged_count = s.flagged_count + excluded.flagged_count, masked_count = s.masked_count + excluded.masked_count,
    blocked_count = s.blocked_count + excluded.blocked_count;
