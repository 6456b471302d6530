-- Labels of prompts. Whoever moves one locks first the project's rules, then the prompt, then reads and writes with the snapshot of a
-- statement of its own. Where a label points is JSON here, [{"version", "weight"}] ascending by version, as label_history keeps it.

-- The rules of a project change under a lock that excludes this one, so a move is judged by those that are in force when it commits.
-- name: label_lock_rules :command
SELECT id FROM projects
WHERE organization_id = $1 AND id = (SELECT project_id FROM prompts WHERE organization_id = $1 AND id = $2)
FOR SHARE;

-- name: label_lock_project :command
SELECT id FROM projects WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- Moves without looking at what the caller expects, nor at its role: the handler does, and a refusal rolls all of this back. $5: where to,
-- NULL for where it pointed before its last move. The etags of a label count its moves over deletions, so none comes twice. Times of moves:
-- see prompt_create_version.
-- name: label_set :optional
WITH p AS (
    SELECT id, project_id FROM prompts
    WHERE organization_id = $1 AND id = $2 AND ($3::uuid IS NULL OR project_id = $3)
      AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = prompts.project_id AND deleted_at IS NULL)
), old AS (
    SELECT updated_by, created_at, updated_at, row_version,
           (SELECT jsonb_agg(jsonb_build_object('version', t.version, 'weight', t.weight) ORDER BY t.version) FROM label_targets t
            WHERE t.organization_id = $1 AND t.prompt_id = $2 AND t.label = $4) AS targets
    FROM labels
    WHERE organization_id = $1 AND prompt_id = $2 AND name = $4
), last AS (
    SELECT old_targets, moved_at FROM label_history
    WHERE organization_id = $1 AND prompt_id = $2 AND label = $4
    ORDER BY moved_at DESC, id DESC
    LIMIT 1
), wanted AS (
    SELECT CASE WHEN $5::jsonb IS NULL THEN (SELECT old_targets FROM last) ELSE $5 END AS targets,
           GREATEST($6::timestamptz, (SELECT moved_at FROM last) + interval '1 microsecond') AS moved_at
), missing AS (
    SELECT min(t.version) AS version
    FROM wanted CROSS JOIN LATERAL jsonb_to_recordset(wanted.targets) AS t (version integer, weight integer)
    WHERE NOT EXISTS (SELECT FROM prompt_versions WHERE organization_id = $1 AND prompt_id = $2 AND version = t.version)
), move AS (
    SELECT p.project_id, wanted.targets, wanted.moved_at FROM p, wanted, missing
    WHERE wanted.targets IS NOT NULL AND missing.version IS NULL AND wanted.targets IS DISTINCT FROM (SELECT old.targets FROM old)
), target AS (
    SELECT t.version, t.weight FROM move CROSS JOIN LATERAL jsonb_to_recordset(move.targets) AS t (version integer, weight integer)
), moved AS (
    INSERT INTO labels (organization_id, project_id, prompt_id, name, updated_by, created_at, row_version)
    SELECT $1, move.project_id, $2, $4, $7, move.moved_at,
           1 + (SELECT count(*) FROM label_history WHERE organization_id = $1 AND prompt_id = $2 AND label = $4)
    FROM move
    ON CONFLICT (organization_id, prompt_id, name) DO UPDATE
    SET updated_by = excluded.updated_by, updated_at = excluded.created_at, row_version = labels.row_version + 1
    RETURNING updated_by, created_at, updated_at, row_version
), left_behind AS (
    DELETE FROM label_targets
    WHERE organization_id = $1 AND prompt_id = $2 AND label = $4 AND EXISTS (SELECT FROM move) AND version NOT IN (SELECT version FROM target)
), pointed_at AS (
    INSERT INTO label_targets (organization_id, prompt_id, label, version, weight) SELECT $1, $2, $4, version, weight FROM target
    ON CONFLICT (organization_id, prompt_id, label, version) DO UPDATE SET weight = excluded.weight
), history AS (
    INSERT INTO label_history (organization_id, id, prompt_id, label, old_targets, new_targets, actor_id, message, moved_at)
    SELECT $1, $8, $2, $4, (SELECT old.targets FROM old), move.targets, $7, $9, move.moved_at FROM move
), l AS (
    SELECT true AS is_moved, updated_by, created_at, updated_at, row_version FROM moved
    UNION ALL
    SELECT false, updated_by, created_at, updated_at, row_version FROM old WHERE NOT EXISTS (SELECT FROM move)
)
SELECT p.project_id, p.id AS prompt_id, $4 AS name, wanted.targets, missing.version AS missing_version,
       old.targets AS old_targets, old.row_version AS old_row_version,
       COALESCE(l.is_moved, false) AS is_moved, l.updated_by, l.created_at, l.updated_at, l.row_version,
       (SELECT count(*) FROM labels WHERE organization_id = $1 AND prompt_id = $2) AS label_count,
       COALESCE(g.protected, false) AS protected, g.require_evaluation, g.min_score, g.dataset_id, g.min_result_count,
       g.require_no_open_blocking_violations
FROM p
CROSS JOIN wanted
CROSS JOIN missing
LEFT JOIN old ON true
LEFT JOIN l ON true
LEFT JOIN LATERAL (
    SELECT x.protected, x.require_evaluation, x.min_score, x.dataset_id, x.min_result_count, x.require_no_open_blocking_violations
    FROM label_gates x
    WHERE x.organization_id = $1 AND x.project_id = p.project_id AND x.label = $4 AND (x.prompt_id IS NULL OR x.prompt_id = $2)
    ORDER BY x.prompt_id NULLS LAST
    LIMIT 1
) g ON true;

-- What a promotion gate asks of the versions that $3 points at, one row for each, ascending: the newest completed evaluation, $4 on this dataset,
-- NULL on any, and the oldest blocking violation that is not resolved. Behind label_set, so that what was committed while that waited for its locks
-- counts. Scores are rounded to 9 decimals: a mean of the same scores in another order is the same.
-- name: label_gate :many
SELECT v.version, e.id AS evaluation_id, f.average_score, COALESCE(f.result_count, 0) AS result_count, x.id AS violation_id
FROM jsonb_to_recordset($3::jsonb) AS v (version integer)
LEFT JOIN LATERAL (
    SELECT id FROM evaluations
    WHERE organization_id = $1 AND prompt_id = $2 AND prompt_version = v.version AND state = 'completed'
      AND ($4::uuid IS NULL OR dataset_id = $4)
    ORDER BY ended_at DESC, id DESC
    LIMIT 1
) e ON true
LEFT JOIN LATERAL (
    SELECT round(avg(score)::numeric, 9)::double precision AS average_score, count(*) AS result_count
    FROM evaluation_results
    WHERE organization_id = $1 AND evaluation_id = e.id
) f ON true
LEFT JOIN LATERAL (
    SELECT id FROM policy_violations
    WHERE organization_id = $1 AND prompt_id = $2 AND prompt_version = v.version AND action = 'block' AND mode = 'enforce'
      AND state IN ('open', 'acknowledged')
    ORDER BY id
    LIMIT 1
) x ON true
ORDER BY v.version;

-- The same way: says what stands in the way, and the handler refuses. Behind prompt_lock_whole, so that nobody is about to refer to the label.
-- name: label_delete :optional
WITH p AS (
    SELECT id, project_id FROM prompts
    WHERE organization_id = $1 AND id = $2 AND ($3::uuid IS NULL OR project_id = $3)
      AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = prompts.project_id AND deleted_at IS NULL)
), old AS (
    SELECT row_version,
           (SELECT jsonb_agg(jsonb_build_object('version', t.version, 'weight', t.weight) ORDER BY t.version) FROM label_targets t
            WHERE t.organization_id = $1 AND t.prompt_id = $2 AND t.label = $4) AS targets
    FROM labels
    WHERE organization_id = $1 AND prompt_id = $2 AND name = $4
), last AS (
    SELECT moved_at FROM label_history
    WHERE organization_id = $1 AND prompt_id = $2 AND label = $4
    ORDER BY moved_at DESC, id DESC
    LIMIT 1
), deleted AS (
    DELETE FROM labels WHERE organization_id = $1 AND prompt_id = (SELECT p.id FROM p) AND name = $4
), history AS (
    INSERT INTO label_history (organization_id, id, prompt_id, label, old_targets, actor_id, moved_at)
    SELECT $1, $5, p.id, $4, old.targets, $6, GREATEST($7::timestamptz, (SELECT moved_at FROM last) + interval '1 microsecond') FROM p, old
)
SELECT p.project_id, old.targets AS old_targets, old.row_version AS old_row_version,
       EXISTS (SELECT FROM prompt_references
               WHERE organization_id = $1 AND referenced_prompt_id = $2 AND referenced_label = $4) AS is_referred_to,
       COALESCE((SELECT g.protected FROM label_gates g
                 WHERE g.organization_id = $1 AND g.project_id = p.project_id AND g.label = $4 AND (g.prompt_id IS NULL OR g.prompt_id = $2)
                 ORDER BY g.prompt_id NULLS LAST
                 LIMIT 1), false) AS protected
FROM p
LEFT JOIN old ON true;

-- A prompt as the version that a label points at, with the columns of prompt_get and where the label points (NULL: there is none). $2 the
-- prompt, or NULL and $3 its project and $4 its name; $6 the subject, $7 the time, NULL for now; $8 the project that the caller is bound to.
-- The choice among several versions is that of wire/split.h, here because the id is known here first and content is read of one version only.
-- With its LIMIT l is read once, and not in each place that names it.
-- name: prompt_get_by_label :optional
SELECT p.id, p.project_id, p.name, p.description, p.current_version, p.newest_version, p.created_at, p.updated_at, p.row_version,
       v.version, v.messages IS NOT NULL AS is_chat, CASE WHEN e.etag = $9::text THEN NULL ELSE v.content END AS content,
       CASE WHEN e.etag = $9 THEN NULL ELSE v.messages END AS messages,
       CASE WHEN e.etag = $9 THEN NULL ELSE v.system_prompt END AS system_prompt,
       CASE WHEN e.etag = $9 THEN NULL ELSE v.variables END AS variables,
       CASE WHEN e.etag = $9 THEN NULL ELSE v.parameters END AS parameters, v.content_hash,
       v.model_id, m.name AS model_name, e.etag AS reply_etag,
       v.message AS version_message, v.author AS version_author, v.created_at AS version_created_at,
       ARRAY(SELECT t.name FROM prompt_tags g JOIN tags t ON t.organization_id = $1 AND t.id = g.tag_id
             WHERE g.organization_id = $1 AND g.prompt_id = p.id ORDER BY t.name) AS tags,
       l.targets
FROM prompts p
CROSS JOIN LATERAL (
    SELECT CASE WHEN $7::timestamptz IS NULL
                THEN (SELECT jsonb_agg(jsonb_build_object('version', version, 'weight', weight) ORDER BY version) FROM label_targets
                      WHERE organization_id = $1 AND prompt_id = p.id AND label = $5)
                ELSE (SELECT new_targets FROM label_history
                      WHERE organization_id = $1 AND prompt_id = p.id AND label = $5 AND moved_at <= $7
                      ORDER BY moved_at DESC, id DESC
                      LIMIT 1)
           END AS targets
    LIMIT 1
) l
CROSS JOIN LATERAL (SELECT sha256(convert_to(p.id::text || '|' || $5::text || '|' || $6::text, 'UTF8')) AS digest) d
CROSS JOIN LATERAL (
    SELECT ('x' || encode(substr(d.digest, 1, 4), 'hex'))::bit(32)::bigint * 4294967296::numeric
           + ('x' || encode(substr(d.digest, 5, 4), 'hex'))::bit(32)::bigint AS number
) s
LEFT JOIN LATERAL (
    SELECT w.version
    FROM (
        SELECT t.version, sum(t.weight) OVER (ORDER BY t.version) AS upto, sum(t.weight) OVER () AS total
        FROM jsonb_to_recordset(l.targets) AS t (version integer, weight integer)
    ) w
    WHERE w.upto > mod(s.number, w.total)
    ORDER BY w.version
    LIMIT 1
) chosen ON true
LEFT JOIN LATERAL (
    SELECT version, content, messages, system_prompt, variables, parameters, content_hash, model_id, message, author, created_at
    FROM prompt_versions
    WHERE organization_id = $1 AND prompt_id = p.id AND version = chosen.version
    LIMIT 1
) v ON true
CROSS JOIN LATERAL (SELECT (SELECT name FROM ai_models WHERE organization_id = $1 AND id = v.model_id) AS name LIMIT 1) m
CROSS JOIN LATERAL (
    SELECT encode(sha256(convert_to(concat_ws('|', p.id, p.row_version, p.newest_version, extract(epoch FROM p.updated_at), v.version,
                                              extract(epoch FROM v.created_at), $5::text, l.targets, m.name), 'UTF8')), 'hex') AS etag
    LIMIT 1
) e
WHERE p.organization_id = $1
  AND p.id = CASE WHEN $2::uuid IS NULL THEN (SELECT id FROM prompts WHERE organization_id = $1 AND project_id = $3 AND name = $4) ELSE $2 END
  AND ($8::uuid IS NULL OR p.project_id = $8)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = p.project_id AND deleted_at IS NULL);

-- One row per label; one row without a name for a project or prompt without any behind the key ($5, $6). $2 the project, or NULL and $3 the
-- prompt; $4 the project that the caller is bound to; $8 only labels of this name. Of the three searches only the one that is asked for runs.
-- name: label_list :many
SELECT page.prompt_id, page.name, page.updated_by, page.created_at, page.updated_at, page.row_version,
       (SELECT jsonb_agg(jsonb_build_object('version', t.version, 'weight', t.weight) ORDER BY t.version) FROM label_targets t
        WHERE t.organization_id = $1 AND t.prompt_id = page.prompt_id AND t.label = page.name) AS targets,
       COALESCE((SELECT g.protected FROM label_gates g
                 WHERE g.organization_id = $1 AND g.project_id = r.id AND g.label = page.name
                   AND (g.prompt_id IS NULL OR g.prompt_id = page.prompt_id)
                 ORDER BY g.prompt_id NULLS LAST
                 LIMIT 1), false) AS protected
FROM projects r
LEFT JOIN LATERAL (
    (SELECT prompt_id, name, updated_by, created_at, updated_at, row_version
     FROM labels
     WHERE organization_id = $1 AND prompt_id = $3 AND name > $6 AND ($8::text IS NULL OR name = $8) AND $3 IS NOT NULL
     ORDER BY name
     LIMIT $7)
    UNION ALL
    (SELECT prompt_id, name, updated_by, created_at, updated_at, row_version
     FROM labels
     WHERE organization_id = $1 AND project_id = $2 AND (prompt_id, name) > ($5, $6) AND $8 IS NULL
     ORDER BY prompt_id, name
     LIMIT $7)
    UNION ALL
    (SELECT prompt_id, name, updated_by, created_at, updated_at, row_version
     FROM labels
     WHERE organization_id = $1 AND project_id = $2 AND name = $8 AND prompt_id > $5
     ORDER BY prompt_id
     LIMIT $7)
) page ON true
WHERE r.organization_id = $1 AND r.deleted_at IS NULL AND ($4::uuid IS NULL OR r.id = $4)
  AND r.id = CASE WHEN $2::uuid IS NULL THEN (SELECT project_id FROM prompts WHERE organization_id = $1 AND id = $3::uuid) ELSE $2 END
ORDER BY page.prompt_id, page.name;

-- The rules of a project; of a prompt its own and, for other labels, those of its project.
-- name: label_list_protections :many
SELECT g.id, g.project_id, g.prompt_id, g.label, g.protected, g.require_evaluation, g.min_score, g.dataset_id, g.min_result_count,
       g.require_no_open_blocking_violations, g.updated_by, COALESCE(g.updated_at, g.created_at) AS changed_at, g.row_version
FROM label_gates g
WHERE g.organization_id = $1 AND ($4::text IS NULL OR g.label = $4)
  AND g.project_id = CASE WHEN $2::uuid IS NULL THEN (SELECT project_id FROM prompts WHERE organization_id = $1 AND id = $3::uuid) ELSE $2 END
  AND ($3 IS NULL OR g.prompt_id = $3
       OR (g.prompt_id IS NULL
           AND NOT EXISTS (SELECT FROM label_gates o WHERE o.organization_id = $1 AND o.prompt_id = $3 AND o.label = g.label)))
ORDER BY g.label, g.prompt_id NULLS FIRST;

-- One row per move, newest first; one row without an id for a prompt without any behind the key ($5, $6; $5 NULL for the first page). $4 only
-- moves of this label.
-- name: label_list_history :many
SELECT p.id AS prompt_id, page.id, page.label, page.old_targets, page.new_targets, page.actor_id, page.message, page.moved_at
FROM prompts p
LEFT JOIN LATERAL (
    (SELECT id, label, old_targets, new_targets, actor_id, message, moved_at FROM label_history
     WHERE organization_id = $1 AND prompt_id = $2 AND label = $4::text
       AND (moved_at, id) < (CASE WHEN $5::timestamptz IS NULL THEN 'infinity' ELSE $5 END, $6::uuid)
     ORDER BY moved_at DESC, id DESC
     LIMIT $7)
    UNION ALL
    (SELECT id, label, old_targets, new_targets, actor_id, message, moved_at FROM label_history
     WHERE organization_id = $1 AND prompt_id = $2 AND $4 IS NULL
       AND (moved_at, id) < (CASE WHEN $5 IS NULL THEN 'infinity' ELSE $5 END, $6)
     ORDER BY moved_at DESC, id DESC
     LIMIT $7)
) page ON true
WHERE p.organization_id = $1 AND p.id = $2 AND ($3::uuid IS NULL OR p.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = p.project_id AND deleted_at IS NULL)
ORDER BY page.moved_at DESC, page.id DESC;

-- Behind label_lock_project. $3 the prompt, or NULL for all of the project; $5 whether it is protected, $9 to $13 the gate; a rule that says
-- nothing is none. No row: there is no such project. The handler refuses a prompt or dataset that is not there, another etag and a rule too
-- many, which rolls this back.
-- name: label_protect :optional
WITH r AS (
    SELECT id FROM projects WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL
), p AS (
    SELECT id FROM prompts WHERE organization_id = $1 AND id = $3 AND project_id = $2
), d AS (
    SELECT id FROM datasets WHERE organization_id = $1 AND id = $11 AND project_id = $2
), wanted AS (
    SELECT $5::boolean OR $9::boolean OR $13::boolean AS is_rule,
           ($3::uuid IS NULL OR EXISTS (SELECT FROM p)) AND ($11::uuid IS NULL OR EXISTS (SELECT FROM d)) AS is_possible
), old AS (
    SELECT id, protected, require_evaluation, min_score, dataset_id, min_result_count, require_no_open_blocking_violations, updated_by,
           COALESCE(updated_at, created_at) AS changed_at, row_version
    FROM label_gates
    WHERE organization_id = $1 AND project_id = $2 AND label = $4 AND prompt_id IS NOT DISTINCT FROM $3
), removed AS (
    DELETE FROM label_gates g USING wanted
    WHERE g.organization_id = $1 AND g.id = (SELECT old.id FROM old) AND NOT wanted.is_rule
    RETURNING g.id
), changed AS (
    UPDATE label_gates g
    SET protected = $5, require_evaluation = $9, min_score = $10, dataset_id = $11, min_result_count = $12,
        require_no_open_blocking_violations = $13, updated_by = $7, updated_at = $8, row_version = g.row_version + 1
    FROM old, wanted
    WHERE g.organization_id = $1 AND g.id = old.id AND wanted.is_rule AND wanted.is_possible
      AND (old.protected, old.require_evaluation, old.min_score, old.dataset_id, old.min_result_count, old.require_no_open_blocking_violations)
          IS DISTINCT FROM ($5, $9, $10::double precision, $11, $12::integer, $13)
    RETURNING g.id, g.updated_by, g.updated_at AS changed_at, g.row_version
), made AS (
    INSERT INTO label_gates (organization_id, id, project_id, prompt_id, label, protected, require_evaluation, min_score, dataset_id,
                             min_result_count, require_no_open_blocking_violations, updated_by, created_at)
    SELECT $1, $6, r.id, $3, $4, $5, $9, $10, $11, $12, $13, $7, $8
    FROM r, wanted
    WHERE wanted.is_rule AND wanted.is_possible AND NOT EXISTS (SELECT FROM old)
    RETURNING id, updated_by, created_at AS changed_at, row_version
), rule AS (
    SELECT id, updated_by, changed_at, row_version FROM made
    UNION ALL
    SELECT id, updated_by, changed_at, row_version FROM changed
    UNION ALL
    SELECT old.id, old.updated_by, old.changed_at, old.row_version FROM old, wanted WHERE wanted.is_rule AND NOT EXISTS (SELECT FROM changed)
)
SELECT r.id AS project_id, $3 AS prompt_id, $4 AS label, $5 AS protected, $9 AS require_evaluation, $10 AS min_score, $11 AS dataset_id,
       $12 AS min_result_count, $13 AS require_no_open_blocking_violations,
       $3 IS NOT NULL AND NOT EXISTS (SELECT FROM p) AS is_prompt_missing, $11 IS NOT NULL AND NOT EXISTS (SELECT FROM d) AS is_dataset_missing,
       EXISTS (SELECT FROM made) OR EXISTS (SELECT FROM changed) OR EXISTS (SELECT FROM removed) AS is_changed,
       (SELECT count(*) FROM label_gates WHERE organization_id = $1 AND project_id = $2) AS rule_count,
       old.id AS old_id, old.row_version AS old_row_version, rule.id, rule.updated_by, rule.changed_at, rule.row_version
FROM r
LEFT JOIN old ON true
LEFT JOIN rule ON true;
