-- Datasets. A version is the items whose first_version is not above it and whose end_version is; the items of the latest version are those
-- without an end. A deleted project's datasets do not exist, although their rows stay until maintenance removes them.

-- name: dataset_create :optional
INSERT INTO datasets (organization_id, id, project_id, name, description, created_at)
SELECT $1, $3, p.id, $4, $5, $6 FROM projects p WHERE p.organization_id = $1 AND p.id = $2 AND p.deleted_at IS NULL
RETURNING id, project_id, name, description, latest_version, item_count, created_at, updated_at, row_version;

-- $3: the project the caller is bound to, here and below.
-- name: dataset_get :optional
SELECT d.id, d.project_id, d.name, d.description, d.latest_version, d.item_count, d.created_at, d.updated_at, d.row_version
FROM datasets d
WHERE d.organization_id = $1 AND d.id = $2 AND ($3::uuid IS NULL OR d.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = d.project_id AND deleted_at IS NULL);

-- name: dataset_get_by_name :optional
SELECT d.id, d.project_id, d.name, d.description, d.latest_version, d.item_count, d.created_at, d.updated_at, d.row_version
FROM datasets d
WHERE d.organization_id = $1 AND d.project_id = $2 AND d.name = $3
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL);

-- One row without an id for a project without any. $3, $4: the names that begin with a text; $5: the last one of the page before.
-- name: dataset_list :many
SELECT d.id, d.project_id, d.name, d.description, d.latest_version, d.item_count, d.created_at, d.updated_at, d.row_version
FROM projects p
LEFT JOIN LATERAL (
    SELECT x.id, x.project_id, x.name, x.description, x.latest_version, x.item_count, x.created_at, x.updated_at, x.row_version
    FROM datasets x
    WHERE x.organization_id = $1 AND x.project_id = $2 AND x.name >= $3 AND x.name < $4 AND x.name > $5
    ORDER BY x.name
    LIMIT $6
) d ON true
WHERE p.organization_id = $1 AND p.id = $2 AND p.deleted_at IS NULL
ORDER BY d.name;

-- Before a version is added or the dataset deleted, in a statement of its own: the one behind it sees what the others did. Evaluations take
-- FOR KEY SHARE, so that none begins on a dataset that is being deleted.
-- name: dataset_lock :command
SELECT id FROM datasets WHERE organization_id = $1 AND id = $2 FOR UPDATE;

-- Behind dataset_lock. The etag and who uses it are the handler's to refuse, which rolls this back; a gate that names it, the foreign key's.
-- name: dataset_delete :optional
DELETE FROM datasets d
WHERE d.organization_id = $1 AND d.id = $2 AND ($3::uuid IS NULL OR d.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = d.project_id AND deleted_at IS NULL)
RETURNING d.row_version,
          EXISTS (SELECT FROM evaluations WHERE organization_id = $1 AND dataset_id = $2 AND state = 'running') AS is_in_use;

-- Behind dataset_lock. $4 now, $5 author, $6 message; $7 to $15: the items, one array per column, '' where there is nothing; $16: keys to leave
-- out. A version's hash is SHA-256 over the hashes of its items in order of key. Nothing but the same content: no version, the latest is told.
-- missing_key: one of $16 that there is no item with, which the handler refuses, as it does too many items.
-- name: dataset_add_items :optional
WITH d AS (
    SELECT x.id, x.latest_version FROM datasets x
    WHERE x.organization_id = $1 AND x.id = $2 AND ($3::uuid IS NULL OR x.project_id = $3)
      AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = x.project_id AND deleted_at IS NULL)
), given AS MATERIALIZED (
    SELECT g.id, g.key, g.input, g.expected_output, g.metadata, g.trace_id, g.span_id, decode(g.hash, 'hex') AS content_hash, g.content_bytes
    FROM unnest($7::uuid[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[]::integer[])
         AS g (id, key, input, expected_output, metadata, trace_id, span_id, hash, content_bytes)
), present AS MATERIALIZED (
    SELECT i.id, i.key, i.content_hash FROM dataset_items i WHERE i.organization_id = $1 AND i.dataset_id = $2 AND i.end_version IS NULL
), old AS MATERIALIZED (
    SELECT p.id FROM present p JOIN given g ON g.key = p.key WHERE g.content_hash <> p.content_hash
    UNION ALL
    SELECT p.id FROM present p WHERE p.key = ANY ($16::text[])
), new AS MATERIALIZED (
    SELECT g.id, g.key, g.input, g.expected_output, g.metadata, g.trace_id, g.span_id, g.content_hash, g.content_bytes
    FROM given g
    LEFT JOIN present p ON p.key = g.key AND p.content_hash = g.content_hash
    WHERE p.id IS NULL
), ended AS (
    UPDATE dataset_items i SET end_version = d.latest_version + 1
    FROM d, old
    WHERE i.organization_id = $1 AND i.id = old.id
    RETURNING i.id
), added AS ( -- behind ended, so that the key is free
    INSERT INTO dataset_items (organization_id, id, dataset_id, key, first_version, input, expected_output, metadata, source_trace_id,
                               source_span_id, content_hash, content_bytes)
    SELECT $1, n.id, d.id, n.key, d.latest_version + 1, n.input, n.expected_output, NULLIF(n.metadata, ''),
           decode(NULLIF(n.trace_id, ''), 'hex'), decode(NULLIF(n.span_id, ''), 'hex'), n.content_hash, n.content_bytes
    FROM new n, d
    WHERE (SELECT count(*) FROM ended) >= 0
), content AS (
    SELECT sha256(COALESCE(string_agg(c.content_hash, ''::bytea ORDER BY c.key), '')) AS content_hash, count(*)::integer AS item_count
    FROM (
        SELECT p.key, p.content_hash FROM present p WHERE p.id NOT IN (SELECT id FROM old)
        UNION ALL
        SELECT key, content_hash FROM new
    ) c
), v AS (
    INSERT INTO dataset_versions (organization_id, dataset_id, version, content_hash, item_count, message, author, created_at)
    SELECT $1, d.id, d.latest_version + 1, content.content_hash, content.item_count, $6, $5, $4
    FROM d, content
    WHERE EXISTS (SELECT FROM old) OR EXISTS (SELECT FROM new)
    RETURNING version, content_hash, item_count, message, author, created_at
), moved AS (
    UPDATE datasets x SET latest_version = v.version, item_count = v.item_count, updated_at = $4, row_version = x.row_version + 1
    FROM v
    WHERE x.organization_id = $1 AND x.id = $2
)
SELECT d.id AS dataset_id, d.latest_version AS previous_version, l.version, l.content_hash, l.item_count, l.message, l.author, l.created_at,
       NOT EXISTS (SELECT FROM v) AS existing,
       (SELECT min(r.key) FROM unnest($16::text[]) AS r (key) WHERE NOT EXISTS (SELECT FROM present p WHERE p.key = r.key)) AS missing_key
FROM d
LEFT JOIN LATERAL (
    SELECT v.version, v.content_hash, v.item_count, v.message, v.author, v.created_at FROM v
    UNION ALL
    SELECT e.version, e.content_hash, e.item_count, e.message, e.author, e.created_at
    FROM dataset_versions e
    WHERE e.organization_id = $1 AND e.dataset_id = d.id AND e.version = d.latest_version AND NOT EXISTS (SELECT FROM v)
) l ON true;

-- version is NULL for one that does not exist. $4: 0 = the latest.
-- name: dataset_get_version :optional
SELECT d.id AS dataset_id, v.version, v.content_hash, v.item_count, v.message, v.author, v.created_at
FROM datasets d
LEFT JOIN dataset_versions v ON v.organization_id = $1 AND v.dataset_id = d.id
    AND v.version = CASE WHEN $4::integer = 0 THEN d.latest_version ELSE $4 END
WHERE d.organization_id = $1 AND d.id = $2 AND ($3::uuid IS NULL OR d.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = d.project_id AND deleted_at IS NULL);

-- One row per item, by key; one row without an id for a version without any. $4: the version, 0 = the latest; $5, $6: the keys that begin with
-- a text; $7: the last one of the page before; $9: bytes of content after which the page is cut.
-- name: dataset_list_items :many
SELECT d.latest_version, v.version, i.id, i.key, i.input, i.expected_output, i.metadata, encode(i.source_trace_id, 'hex') AS trace_id,
       encode(i.source_span_id, 'hex') AS span_id, i.found
FROM datasets d
LEFT JOIN dataset_versions v ON v.organization_id = $1 AND v.dataset_id = d.id
    AND v.version = CASE WHEN $4::integer = 0 THEN d.latest_version ELSE $4 END
LEFT JOIN LATERAL (
    SELECT x.id, x.key, x.input, x.expected_output, x.metadata, x.source_trace_id, x.source_span_id, count(*) OVER () AS found,
           sum(x.content_bytes) OVER (ORDER BY x.key) - x.content_bytes AS bytes_before
    FROM (
        SELECT id, key, input, expected_output, metadata, source_trace_id, source_span_id, content_bytes
        FROM dataset_items
        WHERE organization_id = $1 AND dataset_id = $2 AND key >= $5 AND key < $6 AND key > $7
          AND first_version <= v.version AND (end_version IS NULL OR end_version > v.version)
        ORDER BY key
        LIMIT $8
    ) x
) i ON i.bytes_before < $9
WHERE d.organization_id = $1 AND d.id = $2 AND ($3::uuid IS NULL OR d.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = d.project_id AND deleted_at IS NULL)
ORDER BY i.key;
