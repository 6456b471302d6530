-- Scores. A score is what one author says under one name of one target; scores has its present value, score_history the earlier ones. Values
-- of a score have rising times: (time, id of the score) tells all values of a project apart, and lists go by it. Targets are text and nothing
-- refers to them. Values travel as kind (1 number, 2 category, 3 yes or no, 4 text), number and words.

-- Recording. One transaction: score_insert, score_lock for what was there before, then what keeps the values that are replaced and replaces
-- them. Arrays stand in the order of the identities, each once: two transactions wait for each other in one direction only.

-- No row for a project that is missing, one without an ordinal for no items. $3: now; execution_id: 0 where the target is something else.
-- Executions are looked up one by one: of EXISTS PostgreSQL may make a hash of all executions of the organization, for one that is scored.
-- name: score_insert :many
WITH item AS MATERIALIZED (
    SELECT k.ordinal, k.id, k.target_kind, k.target, k.name, k.author, k.source, k.value_kind, k.number, k.words, k.comment,
           k.execution_id = 0
           OR COALESCE((SELECT true FROM executions e JOIN prompts q ON q.organization_id = $1 AND q.id = e.prompt_id
                        WHERE e.organization_id = $1 AND e.id = k.execution_id AND q.project_id = $2), false) AS has_target
    FROM unnest($4::uuid[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::integer[],
                $12::double precision[], $13::text[], $14::text[])
         WITH ORDINALITY AS k (id, execution_id, target_kind, target, name, author, source, value_kind, number, words, comment, ordinal)
), added AS (
    INSERT INTO scores (organization_id, id, project_id, target_kind, target, name, author, source, number, category, flag, body, comment,
                        created_at, changed_at)
    SELECT $1, i.id, $2, i.target_kind, i.target, i.name, i.author, i.source, CASE WHEN i.value_kind = 1 THEN i.number END,
           CASE WHEN i.value_kind = 2 THEN i.words END, CASE WHEN i.value_kind = 3 THEN i.number <> 0 END,
           CASE WHEN i.value_kind = 4 THEN i.words END, i.comment, $3, $3
    FROM item i
    WHERE i.has_target AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL)
    ORDER BY i.ordinal
    ON CONFLICT (organization_id, project_id, target_kind, target, name, author) DO NOTHING
    RETURNING id
)
SELECT i.ordinal, i.has_target, a.id IS NOT NULL AS is_added
FROM projects p
LEFT JOIN item i ON true
LEFT JOIN added a ON a.id = i.id
WHERE p.organization_id = $1 AND p.id = $2 AND p.deleted_at IS NULL;

-- Locks what is stored under these identities until the transaction ends. A statement of its own: only a later snapshot sees the row that
-- another transaction inserted meanwhile.
-- name: score_lock :many
SELECT k.ordinal, s.id, s.changed_at,
       s.source = k.source AND s.comment IS NOT DISTINCT FROM k.comment
       AND s.number IS NOT DISTINCT FROM CASE WHEN k.value_kind = 1 THEN k.number END
       AND s.category IS NOT DISTINCT FROM CASE WHEN k.value_kind = 2 THEN k.words END
       AND s.flag IS NOT DISTINCT FROM CASE WHEN k.value_kind = 3 THEN k.number <> 0 END
       AND s.body IS NOT DISTINCT FROM CASE WHEN k.value_kind = 4 THEN k.words END AS is_same
FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::integer[], $9::double precision[], $10::text[], $11::text[])
     WITH ORDINALITY AS k (target_kind, target, name, author, source, value_kind, number, words, comment, ordinal)
JOIN scores s ON s.organization_id = $1 AND s.project_id = $2 AND s.target_kind = k.target_kind AND s.target = k.target
    AND s.name = k.name AND s.author = k.author
ORDER BY k.ordinal
FOR NO KEY UPDATE OF s;

-- The values in store go to the history, under these ids.
-- name: score_keep_stored :command
INSERT INTO score_history (organization_id, id, score_id, project_id, name, author, source, number, category, flag, body, comment, changed_at,
                           replaced_at)
SELECT $1, k.id, s.id, s.project_id, s.name, s.author, s.source, s.number, s.category, s.flag, s.body, s.comment, s.changed_at, k.replaced_at
FROM unnest($2::uuid[], $3::uuid[], $4::timestamptz[]) AS k (id, score_id, replaced_at)
JOIN scores s ON s.organization_id = $1 AND s.id = k.score_id;

-- So do values that were replaced by a later one of the same call. $2: the project.
-- name: score_keep_given :command
INSERT INTO score_history (organization_id, id, score_id, project_id, name, author, source, number, category, flag, body, comment, changed_at,
                           replaced_at)
SELECT $1, k.id, k.score_id, $2, k.name, k.author, k.source, CASE WHEN k.value_kind = 1 THEN k.number END,
       CASE WHEN k.value_kind = 2 THEN k.words END, CASE WHEN k.value_kind = 3 THEN k.number <> 0 END,
       CASE WHEN k.value_kind = 4 THEN k.words END, k.comment, k.changed_at, k.replaced_at
FROM unnest($3::uuid[], $4::uuid[], $5::timestamptz[], $6::timestamptz[], $7::text[], $8::text[], $9::text[], $10::integer[],
            $11::double precision[], $12::text[], $13::text[])
     AS k (id, score_id, changed_at, replaced_at, name, author, source, value_kind, number, words, comment);

-- name: score_replace :command
UPDATE scores s
SET source = k.source, number = CASE WHEN k.value_kind = 1 THEN k.number END, category = CASE WHEN k.value_kind = 2 THEN k.words END,
    flag = CASE WHEN k.value_kind = 3 THEN k.number <> 0 END, body = CASE WHEN k.value_kind = 4 THEN k.words END, comment = k.comment,
    updated_at = k.changed_at, changed_at = k.changed_at
FROM unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::integer[], $6::double precision[], $7::text[], $8::text[])
     AS k (id, changed_at, source, value_kind, number, words, comment)
WHERE s.organization_id = $1 AND s.id = k.id;

-- $3: the project the caller is bound to. The history goes with it.
-- name: score_delete :optional
DELETE FROM scores s
WHERE s.organization_id = $1 AND s.id = $2 AND ($3::uuid IS NULL OR s.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = s.project_id AND deleted_at IS NULL)
RETURNING s.id;

-- One row without an id for a project without any. $3 target kind and $4 target, $5 name, $6 author, $7 source: NULL = any; $8: from this time
-- on; $9, $10: time and id behind which the page begins; $11: earlier values too; $13: bytes of what callers wrote at which the page is cut.
-- Each part of found goes by the index of one filter, in its order, and PostgreSQL runs only that of the first filter that is given: which one
-- is known before any row is read, whatever plan it keeps. The few scores of a target are sorted.
-- name: score_list :many
WITH found AS (
    (SELECT s.id AS score_id, NULL::uuid AS history_id, s.changed_at
     FROM scores s
     WHERE $4::text IS NOT NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.target_kind = $3 AND s.target = $4
       AND ($5::text IS NULL OR s.name = $5) AND ($6::text IS NULL OR s.author = $6) AND ($7::text IS NULL OR s.source = $7)
       AND s.changed_at >= $8 AND (s.changed_at, s.id) < ($9, $10)
     ORDER BY s.changed_at DESC, s.id DESC
     LIMIT $12)
    UNION ALL
    (SELECT h.score_id, h.id, h.changed_at
     FROM scores s
     JOIN score_history h ON h.organization_id = $1 AND h.score_id = s.id
     WHERE $11::boolean AND $4 IS NOT NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.target_kind = $3 AND s.target = $4
       AND ($5 IS NULL OR s.name = $5) AND ($6 IS NULL OR s.author = $6) AND ($7 IS NULL OR h.source = $7)
       AND h.changed_at >= $8 AND (h.changed_at, h.score_id) < ($9, $10)
     ORDER BY h.changed_at DESC, h.score_id DESC
     LIMIT $12)
    UNION ALL
    (SELECT s.id, NULL, s.changed_at
     FROM scores s
     WHERE $4 IS NULL AND $6 IS NOT NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.author = $6
       AND ($5 IS NULL OR s.name = $5) AND ($7 IS NULL OR s.source = $7) AND s.changed_at >= $8 AND (s.changed_at, s.id) < ($9, $10)
     ORDER BY s.changed_at DESC, s.id DESC
     LIMIT $12)
    UNION ALL
    (SELECT h.score_id, h.id, h.changed_at
     FROM score_history h
     WHERE $11 AND $4 IS NULL AND $6 IS NOT NULL AND h.organization_id = $1 AND h.project_id = $2 AND h.author = $6
       AND ($5 IS NULL OR h.name = $5) AND ($7 IS NULL OR h.source = $7) AND h.changed_at >= $8 AND (h.changed_at, h.score_id) < ($9, $10)
     ORDER BY h.changed_at DESC, h.score_id DESC
     LIMIT $12)
    UNION ALL
    (SELECT s.id, NULL, s.changed_at
     FROM scores s
     WHERE $4 IS NULL AND $6 IS NULL AND $5 IS NOT NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.name = $5
       AND ($7 IS NULL OR s.source = $7) AND s.changed_at >= $8 AND (s.changed_at, s.id) < ($9, $10)
     ORDER BY s.changed_at DESC, s.id DESC
     LIMIT $12)
    UNION ALL
    (SELECT h.score_id, h.id, h.changed_at
     FROM score_history h
     WHERE $11 AND $4 IS NULL AND $6 IS NULL AND $5 IS NOT NULL AND h.organization_id = $1 AND h.project_id = $2 AND h.name = $5
       AND ($7 IS NULL OR h.source = $7) AND h.changed_at >= $8 AND (h.changed_at, h.score_id) < ($9, $10)
     ORDER BY h.changed_at DESC, h.score_id DESC
     LIMIT $12)
    UNION ALL
    (SELECT s.id, NULL, s.changed_at
     FROM scores s
     WHERE $4 IS NULL AND $6 IS NULL AND $5 IS NULL AND $7 IS NOT NULL AND s.organization_id = $1 AND s.project_id = $2 AND s.source = $7
       AND s.changed_at >= $8 AND (s.changed_at, s.id) < ($9, $10)
     ORDER BY s.changed_at DESC, s.id DESC
     LIMIT $12)
    UNION ALL
    (SELECT h.score_id, h.id, h.changed_at
     FROM score_history h
     WHERE $11 AND $4 IS NULL AND $6 IS NULL AND $5 IS NULL AND $7 IS NOT NULL AND h.organization_id = $1 AND h.project_id = $2
       AND h.source = $7 AND h.changed_at >= $8 AND (h.changed_at, h.score_id) < ($9, $10)
     ORDER BY h.changed_at DESC, h.score_id DESC
     LIMIT $12)
    UNION ALL
    (SELECT s.id, NULL, s.changed_at
     FROM scores s
     WHERE $4 IS NULL AND $6 IS NULL AND $5 IS NULL AND $7 IS NULL AND s.organization_id = $1 AND s.project_id = $2
       AND s.changed_at >= $8 AND (s.changed_at, s.id) < ($9, $10)
     ORDER BY s.changed_at DESC, s.id DESC
     LIMIT $12)
    UNION ALL
    (SELECT h.score_id, h.id, h.changed_at
     FROM score_history h
     WHERE $11 AND $4 IS NULL AND $6 IS NULL AND $5 IS NULL AND $7 IS NULL AND h.organization_id = $1 AND h.project_id = $2
       AND h.changed_at >= $8 AND (h.changed_at, h.score_id) < ($9, $10)
     ORDER BY h.changed_at DESC, h.score_id DESC
     LIMIT $12)
)
SELECT v.id, v.project_id, v.target_kind, v.target, v.name, v.author, v.source, v.number, v.category, v.flag, v.body, v.comment, v.created_at,
       v.changed_at, v.replaced, v.found
FROM projects p
LEFT JOIN LATERAL (
    SELECT x.id, x.project_id, x.target_kind, x.target, x.name, x.author, x.source, x.number, x.category, x.flag, x.body, x.comment,
           x.created_at, x.changed_at, x.replaced, count(*) OVER () AS found, row_number() OVER newest AS position,
           sum(octet_length(x.target) + octet_length(x.name) + octet_length(x.author) + COALESCE(octet_length(x.category), 0) +
               COALESCE(octet_length(x.body), 0) + COALESCE(octet_length(x.comment), 0)) OVER newest AS bytes
    FROM (
        SELECT s.id, s.project_id, s.target_kind, s.target, s.name, s.author, COALESCE(h.source, s.source) AS source,
               CASE WHEN h.id IS NULL THEN s.number ELSE h.number END AS number,
               CASE WHEN h.id IS NULL THEN s.category ELSE h.category END AS category,
               CASE WHEN h.id IS NULL THEN s.flag ELSE h.flag END AS flag, CASE WHEN h.id IS NULL THEN s.body ELSE h.body END AS body,
               CASE WHEN h.id IS NULL THEN s.comment ELSE h.comment END AS comment, s.created_at, n.changed_at,
               h.id IS NOT NULL AS replaced
        FROM (SELECT score_id, history_id, changed_at FROM found ORDER BY changed_at DESC, score_id DESC LIMIT $12) n
        JOIN scores s ON s.organization_id = $1 AND s.id = n.score_id
        LEFT JOIN score_history h ON h.organization_id = $1 AND h.id = n.history_id
    ) x
    WINDOW newest AS (ORDER BY x.changed_at DESC, x.id DESC)
) v ON v.position = 1 OR v.bytes <= $13::bigint
WHERE p.organization_id = $1 AND p.id = $2 AND p.deleted_at IS NULL
ORDER BY v.changed_at DESC, v.id DESC;
