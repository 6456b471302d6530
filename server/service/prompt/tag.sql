-- Tags belong to the organization. Whoever links a tag locks first the tag, then the prompt, then reads and writes with the snapshot of a
-- statement of its own: the limit per prompt holds under concurrent writers, and no link is made to a tag that is being deleted.

-- name: tag_create :one
INSERT INTO tags (organization_id, name) VALUES ($1, $2) RETURNING id, name;

-- $6: only prompts of this project are counted.
-- name: tag_list :many
SELECT t.id, t.name,
       (SELECT count(*)
        FROM prompt_tags l
        JOIN prompts p ON p.organization_id = $1 AND p.id = l.prompt_id
        JOIN projects r ON r.organization_id = $1 AND r.id = p.project_id
        WHERE l.organization_id = $1 AND l.tag_id = t.id AND r.deleted_at IS NULL AND ($6::uuid IS NULL OR p.project_id = $6)) AS prompt_count
FROM (
    SELECT id, name FROM tags WHERE organization_id = $1 AND name >= $2 AND name < $3 AND name > $4 ORDER BY name LIMIT $5
) t
ORDER BY t.name;

-- Links may come and go, the tag may not.
-- name: tag_lock :command
SELECT id FROM tags WHERE organization_id = $1 AND name = $2 FOR KEY SHARE;

-- One row unless the prompt is missing; tag_id is NULL when the tag is. Links beyond the limit are refused by the handler, which rolls back.
-- name: tag_link :optional
WITH p AS (
    SELECT id, project_id FROM prompts
    WHERE organization_id = $1 AND id = $2 AND ($3::uuid IS NULL OR project_id = $3)
      AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = prompts.project_id AND deleted_at IS NULL)
), t AS (
    SELECT id FROM tags WHERE organization_id = $1 AND name = $4
), linked AS (
    SELECT tag_id FROM prompt_tags WHERE organization_id = $1 AND prompt_id = $2
), added AS (
    INSERT INTO prompt_tags (organization_id, prompt_id, tag_id)
    SELECT $1, p.id, t.id FROM p, t WHERE NOT EXISTS (SELECT FROM linked WHERE linked.tag_id = t.id)
    RETURNING tag_id
), touched AS (
    UPDATE prompts SET updated_at = $5, row_version = row_version + 1
    WHERE organization_id = $1 AND id = $2 AND EXISTS (SELECT FROM added)
)
SELECT p.project_id, (SELECT t.id FROM t) AS tag_id, EXISTS (SELECT FROM added) AS changed,
       ARRAY(SELECT g.name FROM tags g
             WHERE g.organization_id = $1 AND g.id IN (SELECT tag_id FROM linked UNION ALL SELECT tag_id FROM added)
             ORDER BY g.name) AS tags
FROM p;

-- The same columns.
-- name: tag_unlink :optional
WITH p AS (
    SELECT id, project_id FROM prompts
    WHERE organization_id = $1 AND id = $2 AND ($3::uuid IS NULL OR project_id = $3)
      AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = prompts.project_id AND deleted_at IS NULL)
), t AS (
    SELECT id FROM tags WHERE organization_id = $1 AND name = $4
), removed AS (
    DELETE FROM prompt_tags
    WHERE organization_id = $1 AND prompt_id = (SELECT p.id FROM p) AND tag_id = (SELECT t.id FROM t)
    RETURNING tag_id
), touched AS (
    UPDATE prompts SET updated_at = $5, row_version = row_version + 1
    WHERE organization_id = $1 AND id = $2 AND EXISTS (SELECT FROM removed)
)
SELECT p.project_id, (SELECT t.id FROM t) AS tag_id, EXISTS (SELECT FROM removed) AS changed,
       ARRAY(SELECT g.name FROM prompt_tags l JOIN tags g ON g.organization_id = $1 AND g.id = l.tag_id
             WHERE l.organization_id = $1 AND l.prompt_id = $2 AND l.tag_id NOT IN (SELECT tag_id FROM removed)
             ORDER BY g.name) AS tags
FROM p;

-- Three in one flight: no new links, no other change of the prompts that have it (in one order, so that two deletions do not wait for each
-- other), then the deletion. $2 id or $3 name.
-- name: tag_lock_deleted :command
SELECT id FROM tags
WHERE organization_id = $1 AND id = CASE WHEN $2::bigint IS NULL THEN (SELECT id FROM tags WHERE organization_id = $1 AND name = $3) ELSE $2 END
FOR UPDATE;

-- name: tag_lock_prompts :command
SELECT id FROM prompts
WHERE organization_id = $1
  AND id IN (SELECT prompt_id FROM prompt_tags
             WHERE organization_id = $1
               AND tag_id = CASE WHEN $2::bigint IS NULL THEN (SELECT id FROM tags WHERE organization_id = $1 AND name = $3) ELSE $2 END)
ORDER BY id
FOR NO KEY UPDATE;

-- A row for each prompt that had it; one without a prompt when none had; none when there is no such tag.
-- name: tag_delete :many
WITH t AS (
    SELECT id FROM tags
    WHERE organization_id = $1 AND id = CASE WHEN $2::bigint IS NULL THEN (SELECT id FROM tags WHERE organization_id = $1 AND name = $3) ELSE $2 END
), touched AS (
    UPDATE prompts SET updated_at = $4, row_version = row_version + 1
    WHERE organization_id = $1 AND id IN (SELECT prompt_id FROM prompt_tags WHERE organization_id = $1 AND tag_id = (SELECT t.id FROM t))
    RETURNING id, project_id
), deleted AS (
    DELETE FROM tags WHERE organization_id = $1 AND id = (SELECT t.id FROM t)
)
SELECT touched.id AS prompt_id, touched.project_id FROM t LEFT JOIN touched ON true;
