-- Behind prompt_lock in one flight. Moves without looking at expected_version: the handler does, and a refusal rolls all of this back. $4: the
-- version, NULL for the one that was current before the last move. Times of moves: see prompt_create_version.
-- name: prompt_set_current :optional
WITH p AS (
    SELECT id, project_id, current_version FROM prompts
    WHERE organization_id = $1 AND id = $2 AND ($3::uuid IS NULL OR project_id = $3)
      AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = prompts.project_id AND deleted_at IS NULL)
), last AS (
    SELECT old_targets, moved_at FROM label_history
    WHERE organization_id = $1 AND prompt_id = $2 AND label = 'current'
    ORDER BY moved_at DESC, id DESC
    LIMIT 1
), target AS (
    SELECT version FROM prompt_versions
    WHERE organization_id = $1 AND prompt_id = $2
      AND version = CASE WHEN $4::integer IS NULL THEN (SELECT (old_targets -> 0 ->> 'version')::integer FROM last) ELSE $4 END
    LIMIT 1
), moved AS (
    UPDATE prompts
    SET current_version = target.version, updated_at = $5, row_version = prompts.row_version + 1
    FROM p, target
    WHERE prompts.organization_id = $1 AND prompts.id = p.id AND prompts.current_version <> target.version
    RETURNING prompts.id
), history AS (
    INSERT INTO label_history (organization_id, id, prompt_id, label, old_targets, new_targets, actor_id, message, moved_at)
    SELECT $1, $6, p.id, 'current', jsonb_build_array(jsonb_build_object('version', p.current_version, 'weight', 1)),
           jsonb_build_array(jsonb_build_object('version', target.version, 'weight', 1)), $7, $8,
           GREATEST($5, (SELECT moved_at FROM last) + interval '1 microsecond')
    FROM p, target, moved
)
SELECT p.project_id, p.current_version AS previous_version, (SELECT version FROM target) AS target_version
FROM p;

-- Which version was current at a time; no row before the prompt was made.
-- name: prompt_current_at :optional
SELECT (new_targets -> 0 ->> 'version')::integer AS version FROM label_history
WHERE organization_id = $1 AND prompt_id = $2 AND label = 'current' AND moved_at <= $3
ORDER BY moved_at DESC, id DESC
LIMIT 1;
