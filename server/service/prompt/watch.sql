-- What WatchPrompts tells: ids of the table changes, read by the transactions that wrote them.
--
-- floor: the greatest xid of a change below the snapshot's xmin. It was committed and written to disk, and so was whatever a change up to it
-- says, so a later read that begins behind it misses nothing, whatever was open meanwhile; rows above it may be told again.

-- One row at least, unless the project does not exist; without an id when there is no prompt behind $3. $4: only these.
-- name: watch_list :many
SELECT (SELECT system_identifier FROM pg_control_system()) AS system_identifier, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline,
       (SELECT f.xid FROM changes f WHERE f.xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY f.xid DESC LIMIT 1) AS floor, p.id
FROM projects r
LEFT JOIN LATERAL (
    SELECT id FROM prompts
    WHERE organization_id = $1 AND project_id = $2 AND id > $3 AND ($4::uuid[] IS NULL OR id = ANY ($4))
    ORDER BY id
    LIMIT $5
) p ON true
WHERE r.organization_id = $1 AND r.id = $2 AND r.deleted_at IS NULL
ORDER BY p.id;

-- The same for changes behind (xid $3, change_id $4).
-- name: watch_changes :many
SELECT (SELECT system_identifier FROM pg_control_system()) AS system_identifier, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline,
       (SELECT f.xid FROM changes f WHERE f.xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY f.xid DESC LIMIT 1) AS floor,
       c.change_id, c.xid, c.object_id, c.kind
FROM projects r
LEFT JOIN LATERAL (
    SELECT change_id, xid, object_id, kind FROM changes
    WHERE organization_id = $1 AND parent_id = $2 AND xid >= $3::text::xid8 AND (xid, change_id) > ($3::text::xid8, $4)
      AND kind IN ('prompt', 'prompt_delete') AND ($5::uuid[] IS NULL OR object_id = ANY ($5))
    ORDER BY xid, change_id
    LIMIT $6
) c ON true
WHERE r.organization_id = $1 AND r.id = $2 AND r.deleted_at IS NULL
ORDER BY c.xid, c.change_id;
