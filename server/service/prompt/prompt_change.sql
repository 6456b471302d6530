-- Goes out before prompt_get in one flight, which tells the prompt as it is afterwards. The handler compares the etag, and a refusal rolls this
-- back.
-- name: prompt_update :command
UPDATE prompts
SET name = CASE WHEN $4::boolean THEN $5 ELSE name END, description = CASE WHEN $6::boolean THEN $7 ELSE description END,
    updated_at = $8, row_version = row_version + 1
WHERE organization_id = $1 AND id = $2 AND ($3::uuid IS NULL OR project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = prompts.project_id AND deleted_at IS NULL);

-- Whoever is about to refer to the prompt (a reference in another prompt's version) or to one of its versions (an evaluation) holds a lock on
-- that row by its foreign key: after these two nobody is.
-- name: prompt_lock_whole :command
SELECT id FROM prompts WHERE organization_id = $1 AND id = $2 FOR UPDATE;

-- name: prompt_lock_versions :command
SELECT version FROM prompt_versions WHERE organization_id = $1 AND prompt_id = $2 FOR UPDATE;

-- Says what stands in the way; deletes, by cascade, only when nothing does. Etag and role are the handler's to compare. A label's own rule for
-- this prompt comes before the project's.
-- name: prompt_delete :optional
WITH p AS (
    SELECT id, project_id, row_version,
           EXISTS (SELECT FROM prompt_references
                   WHERE organization_id = $1 AND referenced_prompt_id = $2 AND prompt_id <> $2) AS is_referred_to,
           EXISTS (SELECT FROM evaluations WHERE organization_id = $1 AND prompt_id = $2 AND state = 'running') AS is_evaluated
    FROM prompts
    WHERE organization_id = $1 AND id = $2 AND ($3::uuid IS NULL OR project_id = $3)
      AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = prompts.project_id AND deleted_at IS NULL)
), deleted AS (
    DELETE FROM prompts
    USING p
    WHERE prompts.organization_id = $1 AND prompts.id = p.id AND NOT p.is_referred_to AND NOT p.is_evaluated
)
SELECT p.project_id, p.row_version, p.is_referred_to, p.is_evaluated,
       EXISTS (
           SELECT FROM labels l
           CROSS JOIN LATERAL (
               SELECT g.protected FROM label_gates g
               WHERE g.organization_id = $1 AND g.project_id = p.project_id AND g.label = l.name AND (g.prompt_id IS NULL OR g.prompt_id = $2)
               ORDER BY g.prompt_id NULLS LAST
               LIMIT 1
           ) rule
           WHERE l.organization_id = $1 AND l.prompt_id = $2 AND rule.protected
       ) AS is_protected
FROM p;
