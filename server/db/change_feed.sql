-- The change feed (change_feed.c). A row is told by the first poll whose snapshot sees it: the statement's own snapshot is the one that
-- pg_current_snapshot() returns, and the previous one did not see what was at or above its xmax or in its list of running transactions.
-- Every statement gives at least one row, with change_id NULL when there is no change.

-- name: db_changes_poll :many
SELECT present.snapshot::text AS snapshot, pg_snapshot_xmin(present.snapshot) AS xmin,
       c.change_id, c.xid, c.organization_id, c.kind, c.object_id, c.parent_id,
       c.xid >= pg_snapshot_xmax(present.snapshot) AS is_restored
FROM (SELECT pg_current_snapshot() AS snapshot) AS present
LEFT JOIN (SELECT change_id, xid, organization_id, kind, object_id, parent_id
           FROM changes
           WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot) OR xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))) AS c ON true
ORDER BY c.xid, c.change_id;

-- The first one on a connection: what stands at or above the floor, and where the cluster is. The first 8 digits of a WAL file's name are
-- the timeline. $1 NULL tells nothing: the feed's very first poll.
-- name: db_changes_first :many
SELECT present.snapshot::text AS snapshot, pg_snapshot_xmin(present.snapshot) AS xmin,
       (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
       substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline,
       (SELECT f.xid FROM changes f WHERE f.xid < pg_snapshot_xmin(present.snapshot) ORDER BY f.xid DESC LIMIT 1) AS floor,
       c.change_id, c.xid, c.organization_id, c.kind, c.object_id, c.parent_id,
       c.xid >= pg_snapshot_xmax(present.snapshot) AS is_restored
FROM (SELECT pg_current_snapshot() AS snapshot) AS present
LEFT JOIN (SELECT change_id, xid, organization_id, kind, object_id, parent_id FROM changes WHERE xid >= $1::text::xid8) AS c ON true
ORDER BY c.xid, c.change_id;

-- A visible row from the future was restored from a dump of another cluster.
-- name: db_changes_delete_restored :command
DELETE FROM changes WHERE xid >= pg_snapshot_xmax(pg_current_snapshot());
