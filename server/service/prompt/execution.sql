-- Uses of prompts. A version of a prompt goes only with the prompt, so a row names one that exists or existed.

-- One row unless the prompt is missing; without an id when the version is. $4 NULL: the current version.
-- name: execution_record :optional
WITH p AS (
    SELECT id, project_id, current_version FROM prompts
    WHERE organization_id = $1 AND id = $2 AND ($3::uuid IS NULL OR project_id = $3)
      AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = prompts.project_id AND deleted_at IS NULL)
), v AS (
    SELECT version FROM prompt_versions
    WHERE organization_id = $1 AND prompt_id = $2 AND version = CASE WHEN $4::integer IS NULL THEN (SELECT p.current_version FROM p) ELSE $4 END
), added AS (
    INSERT INTO executions (organization_id, prompt_id, version, rating, success, notes, executed_at)
    SELECT $1, p.id, v.version, $5::smallint, $6::boolean, $7::text, $8::timestamptz FROM p, v
    RETURNING id, version
)
SELECT p.id AS prompt_id, p.project_id, added.id, added.version FROM p LEFT JOIN added ON true;

-- Before a batch: none of its prompts is deleted while it is written.
-- name: execution_lock_prompts :command
SELECT id FROM prompts WHERE organization_id = $1 AND id = ANY ($2::uuid[]) ORDER BY id FOR KEY SHARE;

-- A row for each item, in order: id, or whether the prompt or its version is missing. Numbers travel as text; version 0 is the current
-- one, rating 0 none, times are microseconds since the epoch. Rows are inserted in the items' order, so their ids rise in it: the n-th id is
-- that of the n-th good item.
-- name: execution_record_many :many
WITH item AS MATERIALIZED (
    SELECT i.ordinal, i.rating, i.success, i.notes, i.executed_us, p.id AS prompt_id, p.project_id, v.version,
           count(v.version) OVER (ORDER BY i.ordinal) AS rank
    FROM unnest($2::uuid[], $3::text[]::integer[], $4::text[]::smallint[], $5::text[]::boolean[], $6::text[], $7::text[]::bigint[])
         WITH ORDINALITY AS i (prompt_id, version, rating, success, notes, executed_us, ordinal)
    LEFT JOIN prompts p ON p.organization_id = $1 AND p.id = i.prompt_id AND ($8::uuid IS NULL OR p.project_id = $8)
        AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = p.project_id AND deleted_at IS NULL)
    LEFT JOIN prompt_versions v ON v.organization_id = $1 AND v.prompt_id = p.id
        AND v.version = CASE WHEN i.version = 0 THEN p.current_version ELSE i.version END
), added AS (
    INSERT INTO executions (organization_id, prompt_id, version, rating, success, notes, executed_at)
    SELECT $1, item.prompt_id, item.version, NULLIF(item.rating, 0), item.success, NULLIF(item.notes, ''),
           timestamptz 'epoch' + item.executed_us * interval '1 microsecond'
    FROM item
    WHERE item.version IS NOT NULL
    ORDER BY item.ordinal
    RETURNING id
), numbered AS (
    SELECT id, row_number() OVER (ORDER BY id) AS rank FROM added
)
SELECT item.prompt_id, item.project_id, numbered.id
FROM item
LEFT JOIN numbered ON numbered.rank = item.rank AND item.version IS NOT NULL
ORDER BY item.ordinal;

-- One row per execution, newest first; one row without an id for a prompt without any. $5, $6: the time and id behind which the page
-- begins; $7 to $8: versions; $12: bytes of notes after which the page is cut.
-- name: execution_list :many
SELECT p.id AS prompt_id, e.id, e.version, e.rating, e.success, e.notes, e.executed_at, e.found
FROM prompts p
LEFT JOIN LATERAL (
    SELECT x.id, x.version, x.rating, x.success, x.notes, x.executed_at, count(*) OVER () AS found,
           sum(COALESCE(octet_length(x.notes), 0)) OVER (ORDER BY x.executed_at DESC, x.id DESC) - COALESCE(octet_length(x.notes), 0) AS bytes_before
    FROM (
        SELECT id, version, rating, success, notes, executed_at
        FROM executions
        WHERE organization_id = $1 AND prompt_id = $2 AND executed_at >= $4 AND (executed_at, id) < ($5, $6)
          AND version >= $7 AND version <= $8 AND ($9::boolean IS NULL OR success = $9) AND ($10::smallint IS NULL OR rating = $10)
        ORDER BY executed_at DESC, id DESC
        LIMIT $11
    ) x
) e ON e.bytes_before < $12::bigint
WHERE p.organization_id = $1 AND p.id = $2 AND ($3::uuid IS NULL OR p.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = p.project_id AND deleted_at IS NULL)
ORDER BY e.executed_at DESC, e.id DESC;

-- The sums of all versions (version NULL, first) and of each. Of what was archived only sums are left: those of a version count where the
-- range holds all of it, and are left out, and told, where it holds a part.
-- name: execution_stats :many
SELECT p.id AS prompt_id, s.version, s.execution_count, s.success_count, s.rated_1, s.rated_2, s.rated_3, s.rated_4, s.rated_5,
       s.first_executed_at, s.last_executed_at, s.archived_left_out_count
FROM prompts p
CROSS JOIN LATERAL (
    SELECT part.version, COALESCE(sum(part.execution_count), 0)::bigint AS execution_count,
           COALESCE(sum(part.success_count), 0)::bigint AS success_count,
           COALESCE(sum(part.rating_counts[1]), 0)::bigint AS rated_1, COALESCE(sum(part.rating_counts[2]), 0)::bigint AS rated_2,
           COALESCE(sum(part.rating_counts[3]), 0)::bigint AS rated_3, COALESCE(sum(part.rating_counts[4]), 0)::bigint AS rated_4,
           COALESCE(sum(part.rating_counts[5]), 0)::bigint AS rated_5,
           min(part.first_executed_at) AS first_executed_at, max(part.last_executed_at) AS last_executed_at,
           COALESCE(sum(part.left_out_count), 0)::bigint AS archived_left_out_count
    FROM (
        SELECT version, count(*) AS execution_count, count(*) FILTER (WHERE success) AS success_count,
               ARRAY[count(*) FILTER (WHERE rating = 1), count(*) FILTER (WHERE rating = 2), count(*) FILTER (WHERE rating = 3),
                     count(*) FILTER (WHERE rating = 4), count(*) FILTER (WHERE rating = 5)] AS rating_counts,
               min(executed_at) AS first_executed_at, max(executed_at) AS last_executed_at, 0 AS left_out_count
        FROM executions
        WHERE organization_id = $1 AND prompt_id = $2 AND executed_at >= $4 AND executed_at < $5
        GROUP BY version
        UNION ALL
        SELECT version, execution_count, success_count, rating_counts, first_executed_at, last_executed_at, 0
        FROM execution_totals
        WHERE organization_id = $1 AND prompt_id = $2 AND first_executed_at >= $4 AND last_executed_at < $5
        UNION ALL
        SELECT version, 0, 0, NULL, NULL, NULL, execution_count
        FROM execution_totals
        WHERE organization_id = $1 AND prompt_id = $2 AND last_executed_at >= $4 AND first_executed_at < $5
          AND NOT (first_executed_at >= $4 AND last_executed_at < $5)
    ) part
    GROUP BY GROUPING SETS ((part.version), ())
) s
WHERE p.organization_id = $1 AND p.id = $2 AND ($3::uuid IS NULL OR p.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = p.project_id AND deleted_at IS NULL)
ORDER BY s.version NULLS FIRST;
