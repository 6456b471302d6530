-- A prompt is told as one of its versions: the columns of p from prompts, those of v from prompt_versions. A deleted project's prompts do not
-- exist, although their rows stay until maintenance removes them.

-- Moves of the current version, the first one too, are rows of label_history under the name `current`.
-- tags holds those that exist of $17: the handler refuses when one is missing.
-- name: prompt_create :one
WITH project AS (
    SELECT id FROM projects WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL
), p AS (
    INSERT INTO prompts (organization_id, id, project_id, name, description, current_version, newest_version, created_at)
    SELECT $1, $3, project.id, $4, $5, 1, 1, $6 FROM project
    RETURNING id, project_id, name, description, current_version, newest_version, created_at, updated_at, row_version
), v AS (
    INSERT INTO prompt_versions (organization_id, prompt_id, version, content, messages, system_prompt, variables, parameters, content_hash,
                                 content_bytes, model_id, message, author, created_at)
    SELECT $1, p.id, 1, $8, $9::jsonb -> 'messages', $10, COALESCE($11::jsonb -> 'variables', '[]'), $12::jsonb, $13, $14, $18, $15, $7, $6
    FROM p
    RETURNING version, content, messages, system_prompt, variables, parameters, content_hash, model_id, message, author, created_at
), history AS (
    INSERT INTO label_history (organization_id, id, prompt_id, label, new_targets, actor_id, message, moved_at)
    SELECT $1, $16, p.id, 'current', '[{"version": 1, "weight": 1}]', $7, $15, $6 FROM p
), t AS (
    SELECT id, name FROM tags WHERE organization_id = $1 AND name = ANY ($17::text[])
), tagged AS (
    INSERT INTO prompt_tags (organization_id, prompt_id, tag_id) SELECT $1, p.id, t.id FROM p, t
)
SELECT p.id, p.project_id, p.name, p.description, p.current_version, p.newest_version, p.created_at, p.updated_at, p.row_version,
       v.version, v.messages IS NOT NULL AS is_chat, v.content, v.messages, v.system_prompt, v.variables, v.parameters, v.content_hash,
       v.model_id, m.name AS model_name, v.message AS version_message, v.author AS version_author, v.created_at AS version_created_at,
       ARRAY(SELECT t.name FROM t ORDER BY t.name) AS tags, COALESCE(m.deprecated, false) AS is_deprecated
FROM p
CROSS JOIN v
LEFT JOIN ai_models m ON m.organization_id = $1 AND m.id = v.model_id;

-- The version must be part of the index condition, or every version of the prompt is read: CASE and not COALESCE, which counts as leaky under
-- row-level security; and a LIMIT, so that the join is not turned round into one by prompt alone. reply_etag
-- stands for everything that is told, as versions do not change; the times are for a database that was restored, which counts from an earlier
-- number again. Who knows it ($5) is not given the content, and a value that is not given is not read from where PostgreSQL keeps long ones.
-- All of this holds for the two below as well.
-- name: prompt_get :optional
SELECT p.id, p.project_id, p.name, p.description, p.current_version, p.newest_version, p.created_at, p.updated_at, p.row_version,
       v.version, v.messages IS NOT NULL AS is_chat, CASE WHEN e.etag = $5::text THEN NULL ELSE v.content END AS content,
       CASE WHEN e.etag = $5 THEN NULL ELSE v.messages END AS messages,
       CASE WHEN e.etag = $5 THEN NULL ELSE v.system_prompt END AS system_prompt,
       CASE WHEN e.etag = $5 THEN NULL ELSE v.variables END AS variables,
       CASE WHEN e.etag = $5 THEN NULL ELSE v.parameters END AS parameters, v.content_hash,
       v.model_id, m.name AS model_name, e.etag AS reply_etag,
       v.message AS version_message, v.author AS version_author, v.created_at AS version_created_at,
       ARRAY(SELECT t.name FROM prompt_tags l JOIN tags t ON t.organization_id = $1 AND t.id = l.tag_id
             WHERE l.organization_id = $1 AND l.prompt_id = p.id ORDER BY t.name) AS tags
FROM prompts p
LEFT JOIN LATERAL (
    SELECT version, content, messages, system_prompt, variables, parameters, content_hash, model_id, message, author, created_at
    FROM prompt_versions
    WHERE organization_id = $1 AND prompt_id = p.id AND version = CASE WHEN $3::integer IS NULL THEN p.current_version ELSE $3 END
    LIMIT 1
) v ON true
CROSS JOIN LATERAL (SELECT (SELECT name FROM ai_models WHERE organization_id = $1 AND id = v.model_id) AS name LIMIT 1) m
CROSS JOIN LATERAL (
    SELECT encode(sha256(convert_to(concat_ws('|', p.id, p.row_version, p.newest_version, extract(epoch FROM p.updated_at), v.version,
                                              extract(epoch FROM v.created_at), m.name), 'UTF8')), 'hex') AS etag
    LIMIT 1
) e
WHERE p.organization_id = $1 AND p.id = $2 AND ($4::uuid IS NULL OR p.project_id = $4)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = p.project_id AND deleted_at IS NULL);

-- name: prompt_get_by_name :optional
SELECT p.id, p.project_id, p.name, p.description, p.current_version, p.newest_version, p.created_at, p.updated_at, p.row_version,
       v.version, v.messages IS NOT NULL AS is_chat, CASE WHEN e.etag = $5::text THEN NULL ELSE v.content END AS content,
       CASE WHEN e.etag = $5 THEN NULL ELSE v.messages END AS messages,
       CASE WHEN e.etag = $5 THEN NULL ELSE v.system_prompt END AS system_prompt,
       CASE WHEN e.etag = $5 THEN NULL ELSE v.variables END AS variables,
       CASE WHEN e.etag = $5 THEN NULL ELSE v.parameters END AS parameters, v.content_hash,
       v.model_id, m.name AS model_name, e.etag AS reply_etag,
       v.message AS version_message, v.author AS version_author, v.created_at AS version_created_at,
       ARRAY(SELECT t.name FROM prompt_tags l JOIN tags t ON t.organization_id = $1 AND t.id = l.tag_id
             WHERE l.organization_id = $1 AND l.prompt_id = p.id ORDER BY t.name) AS tags
FROM prompts p
LEFT JOIN LATERAL (
    SELECT version, content, messages, system_prompt, variables, parameters, content_hash, model_id, message, author, created_at
    FROM prompt_versions
    WHERE organization_id = $1 AND prompt_id = p.id AND version = CASE WHEN $4::integer IS NULL THEN p.current_version ELSE $4 END
    LIMIT 1
) v ON true
CROSS JOIN LATERAL (SELECT (SELECT name FROM ai_models WHERE organization_id = $1 AND id = v.model_id) AS name LIMIT 1) m
CROSS JOIN LATERAL (
    SELECT encode(sha256(convert_to(concat_ws('|', p.id, p.row_version, p.newest_version, extract(epoch FROM p.updated_at), v.version,
                                              extract(epoch FROM v.created_at), m.name), 'UTF8')), 'hex') AS etag
    LIMIT 1
) e
WHERE p.organization_id = $1 AND p.project_id = $2 AND p.name = $3
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL);

-- One row per prompt; one row without an id for a project without any. $7: with content; $8: bytes of content after which the page is cut.
-- Only prompts that have all tags $9 and all words $12, each once, and label $11, and whose current version is for model $10; NULL = any.
--
-- A page costs what it holds, not what the project does. Where one of the filters lets through few prompts ($13, counted to one more), those
-- are looked at and put in order; else most prompts pass, and the names are walked until the page is full. Of words and of tags the rarest
-- is followed, as far as it has the others. Each list is made only when it is asked for, whatever plan is kept. Prompts are probed by scalar
-- subqueries and by joins under a LIMIT: neither becomes a join with, or a hash of, everything that has the tag or word. An ORDER BY that the
-- index has keeps PostgreSQL from counting in the table itself, where the rows of all tenants are.
-- name: prompt_list :many
WITH tag AS MATERIALIZED (
    SELECT t.id, (SELECT count(*) FROM (SELECT FROM prompt_tags WHERE organization_id = $1 AND tag_id = t.id ORDER BY prompt_id LIMIT $13) l) AS uses
    FROM tags t
    WHERE t.organization_id = $1 AND t.name = ANY ($9::text[])
), tagged AS MATERIALIZED (
    SELECT l.prompt_id FROM prompt_tags l
    WHERE l.organization_id = $1 AND l.tag_id = (SELECT id FROM tag ORDER BY uses LIMIT 1)
      AND cardinality($9) - 1 = (SELECT count(*)
                                 FROM tag
                                 CROSS JOIN LATERAL (
                                     SELECT FROM prompt_tags
                                     WHERE organization_id = $1 AND prompt_id = l.prompt_id AND tag_id = tag.id
                                     LIMIT 1
                                 ) has
                                 WHERE tag.id <> l.tag_id)
    ORDER BY l.prompt_id
    LIMIT $13
), word AS MATERIALIZED (
    SELECT w.word,
           (SELECT count(*)
            FROM (SELECT FROM prompt_words
                  WHERE organization_id = $1 AND project_id = $2 AND word = w.word
                  ORDER BY prompt_id
                  LIMIT $13) l) AS uses
    FROM unnest($12::text[]) w (word)
), worded AS MATERIALIZED (
    SELECT l.prompt_id FROM prompt_words l
    WHERE l.organization_id = $1 AND l.project_id = $2 AND l.word = (SELECT word.word FROM word ORDER BY uses LIMIT 1)
      AND cardinality($12) - 1 = (SELECT count(*)
                                  FROM word
                                  CROSS JOIN LATERAL (
                                      SELECT FROM prompt_words
                                      WHERE organization_id = $1 AND project_id = $2 AND word = word.word AND prompt_id = l.prompt_id
                                      LIMIT 1
                                  ) has
                                  WHERE word.word <> l.word)
    ORDER BY l.prompt_id
    LIMIT $13
), labelled AS MATERIALIZED (
    SELECT prompt_id FROM labels WHERE organization_id = $1 AND project_id = $2 AND name = $11::text ORDER BY prompt_id LIMIT $13
), modelled AS MATERIALIZED (
    SELECT prompt_id FROM prompt_versions WHERE organization_id = $1 AND model_id = $10::uuid ORDER BY prompt_id LIMIT $13
), way AS MATERIALIZED (
    SELECT CASE WHEN $12 IS NOT NULL AND (SELECT count(*) FROM worded) < $13 THEN 'words'
                WHEN $9 IS NOT NULL AND (SELECT count(*) FROM tagged) < $13 THEN 'tags'
                WHEN $11 IS NOT NULL AND (SELECT count(*) FROM labelled) < $13 THEN 'label'
                WHEN $10 IS NOT NULL AND (SELECT count(*) FROM modelled) < $13 THEN 'model'
                ELSE 'names' END AS name
), candidate AS MATERIALIZED (
    SELECT prompt_id FROM worded WHERE (SELECT way.name FROM way) = 'words'
    UNION ALL
    SELECT prompt_id FROM tagged WHERE (SELECT way.name FROM way) = 'tags'
    UNION ALL
    SELECT prompt_id FROM labelled WHERE (SELECT way.name FROM way) = 'label'
    UNION ALL
    SELECT DISTINCT prompt_id FROM modelled WHERE (SELECT way.name FROM way) = 'model'
)
SELECT page.id, page.project_id, page.name, page.description, page.current_version, page.newest_version, page.created_at, page.updated_at,
       page.row_version, page.version, page.is_chat, page.content, page.messages, page.system_prompt, page.variables, page.parameters,
       page.content_hash, page.model_id, page.model_name, page.version_message, page.version_author, page.version_created_at, page.tags,
       page.found
FROM projects r
LEFT JOIN LATERAL (
    SELECT p.id, p.project_id, p.name, p.description, p.current_version, p.newest_version, p.created_at, p.updated_at, p.row_version,
           v.version, v.messages IS NOT NULL AS is_chat,
           CASE WHEN $7::boolean THEN v.content END AS content, CASE WHEN $7 THEN v.messages END AS messages,
           CASE WHEN $7 THEN v.system_prompt END AS system_prompt, CASE WHEN $7 THEN v.variables END AS variables,
           CASE WHEN $7 THEN v.parameters END AS parameters, v.content_hash, v.model_id,
           (SELECT m.name FROM ai_models m WHERE m.organization_id = $1 AND m.id = v.model_id) AS model_name,
           v.message AS version_message, v.author AS version_author, v.created_at AS version_created_at,
           ARRAY(SELECT t.name FROM prompt_tags l JOIN tags t ON t.organization_id = $1 AND t.id = l.tag_id
                 WHERE l.organization_id = $1 AND l.prompt_id = p.id ORDER BY t.name) AS tags,
           count(*) OVER () AS found, sum(v.content_bytes) OVER (ORDER BY p.name) - v.content_bytes AS bytes_before
    FROM (
        (SELECT q.id, q.project_id, q.name, q.description, q.current_version, q.newest_version, q.created_at, q.updated_at, q.row_version
         FROM prompts q
         WHERE q.organization_id = $1 AND q.project_id = $2 AND q.name >= $3 AND q.name < $4 AND q.name > $5
           AND (SELECT way.name FROM way) = 'names'
           AND ($12 IS NULL
                OR cardinality($12) = (SELECT count(*)
                                       FROM unnest($12) w (word)
                                       CROSS JOIN LATERAL (
                                           SELECT FROM prompt_words
                                           WHERE organization_id = $1 AND project_id = $2 AND word = w.word AND prompt_id = q.id
                                           LIMIT 1
                                       ) has))
           AND ($9 IS NULL
                OR cardinality($9) = (SELECT count(*)
                                      FROM tag
                                      CROSS JOIN LATERAL (
                                          SELECT FROM prompt_tags
                                          WHERE organization_id = $1 AND prompt_id = q.id AND tag_id = tag.id
                                          LIMIT 1
                                      ) has))
           AND ($11 IS NULL OR $11 = (SELECT name FROM labels WHERE organization_id = $1 AND prompt_id = q.id AND name = $11))
           AND ($10 IS NULL
                OR $10 = (SELECT model_id FROM prompt_versions
                          WHERE organization_id = $1 AND prompt_id = q.id AND version = q.current_version))
         ORDER BY q.name
         LIMIT $6)
        UNION ALL
        (SELECT q.id, q.project_id, q.name, q.description, q.current_version, q.newest_version, q.created_at, q.updated_at, q.row_version
         FROM candidate c
         CROSS JOIN LATERAL (
             SELECT id, project_id, name, description, current_version, newest_version, created_at, updated_at, row_version
             FROM prompts
             WHERE organization_id = $1 AND id = c.prompt_id AND project_id = $2 AND name >= $3 AND name < $4 AND name > $5
             LIMIT 1
         ) q
         WHERE ($12 IS NULL
                OR cardinality($12) = (SELECT count(*)
                                       FROM unnest($12) w (word)
                                       CROSS JOIN LATERAL (
                                           SELECT FROM prompt_words
                                           WHERE organization_id = $1 AND project_id = $2 AND word = w.word AND prompt_id = q.id
                                           LIMIT 1
                                       ) has))
           AND ($9 IS NULL
                OR cardinality($9) = (SELECT count(*)
                                      FROM tag
                                      CROSS JOIN LATERAL (
                                          SELECT FROM prompt_tags
                                          WHERE organization_id = $1 AND prompt_id = q.id AND tag_id = tag.id
                                          LIMIT 1
                                      ) has))
           AND ($11 IS NULL OR $11 = (SELECT name FROM labels WHERE organization_id = $1 AND prompt_id = q.id AND name = $11))
           AND ($10 IS NULL
                OR $10 = (SELECT model_id FROM prompt_versions
                          WHERE organization_id = $1 AND prompt_id = q.id AND version = q.current_version))
         ORDER BY q.name
         LIMIT $6)
    ) p
    CROSS JOIN LATERAL (
        SELECT version, content, messages, system_prompt, variables, parameters, content_hash, content_bytes, model_id, message, author,
               created_at
        FROM prompt_versions
        WHERE organization_id = $1 AND prompt_id = p.id AND version = p.current_version
        LIMIT 1
    ) v
) page ON page.bytes_before < $8::bigint
WHERE r.organization_id = $1 AND r.id = $2 AND r.deleted_at IS NULL
ORDER BY page.name;

-- Two statements in one flight: the second reads with a snapshot of after the lock, so that concurrent writers number without gaps.
-- name: prompt_lock :command
SELECT id FROM prompts WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- Writes without looking at expected_current: the handler does, and a refusal rolls all of this back. Requests get the lock in another order
-- than they came, so a move is always given a time behind the move before it: by time the history tells what happened.
-- name: prompt_create_version :optional
WITH p AS (
    SELECT id, project_id, name, description, current_version, newest_version FROM prompts
    WHERE organization_id = $1 AND id = $2 AND ($3::uuid IS NULL OR project_id = $3)
      AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = prompts.project_id AND deleted_at IS NULL)
), existing AS (
    SELECT version, content, messages, system_prompt, variables, parameters, content_hash, model_id, message, author, created_at
    FROM prompt_versions
    WHERE organization_id = $1 AND prompt_id = $2 AND content_hash = $11 AND EXISTS (SELECT FROM p)
), inserted AS (
    INSERT INTO prompt_versions (organization_id, prompt_id, version, content, messages, system_prompt, variables, parameters, content_hash,
                                 content_bytes, model_id, message, author, created_at)
    SELECT $1, p.id, p.newest_version + 1, $6, $7::jsonb -> 'messages', $8, COALESCE($9::jsonb -> 'variables', '[]'), $10::jsonb, $11, $12,
           $16, $13, $5, $4
    FROM p
    WHERE NOT EXISTS (SELECT FROM existing)
    RETURNING version, content, messages, system_prompt, variables, parameters, content_hash, model_id, message, author, created_at
), v AS (
    SELECT true AS existing, version, content, messages, system_prompt, variables, parameters, content_hash, model_id, message, author,
           created_at
    FROM existing
    UNION ALL
    SELECT false, version, content, messages, system_prompt, variables, parameters, content_hash, model_id, message, author, created_at
    FROM inserted
), moved AS (
    UPDATE prompts
    SET newest_version = GREATEST(prompts.newest_version, v.version),
        current_version = CASE WHEN $14::boolean THEN v.version ELSE prompts.current_version END,
        row_version = prompts.row_version + CASE WHEN $14 AND prompts.current_version <> v.version THEN 1 ELSE 0 END,
        updated_at = $4
    FROM v
    WHERE prompts.organization_id = $1 AND prompts.id = $2 AND (NOT v.existing OR ($14 AND prompts.current_version <> v.version))
    RETURNING prompts.current_version
), history AS (
    INSERT INTO label_history (organization_id, id, prompt_id, label, old_targets, new_targets, actor_id, message, moved_at)
    SELECT $1, $15, p.id, 'current', jsonb_build_array(jsonb_build_object('version', p.current_version, 'weight', 1)),
           jsonb_build_array(jsonb_build_object('version', v.version, 'weight', 1)), $5, $13,
           GREATEST($4, (SELECT max(moved_at) FROM label_history WHERE organization_id = $1 AND prompt_id = $2 AND label = 'current')
                        + interval '1 microsecond')
    FROM p, v
    WHERE $14 AND p.current_version <> v.version
)
SELECT p.id AS prompt_id, p.project_id, p.name AS prompt_name, p.description AS prompt_description, p.current_version AS previous_version,
       COALESCE((SELECT moved.current_version FROM moved), p.current_version) AS current_version,
       v.existing, v.version, v.messages IS NOT NULL AS is_chat, v.content, v.messages, v.system_prompt, v.variables, v.parameters,
       v.content_hash, v.model_id, m.name AS model_name, v.message AS version_message, v.author AS version_author,
       v.created_at AS version_created_at, NOT v.existing AND COALESCE(m.deprecated, false) AS is_deprecated,
       ARRAY(SELECT label FROM label_targets
             WHERE organization_id = $1 AND prompt_id = $2 AND version = v.version ORDER BY label) AS labels
FROM p
CROSS JOIN v
LEFT JOIN ai_models m ON m.organization_id = $1 AND m.id = v.model_id;

-- One row per version, newest first; one row without a version for a prompt without any below the key.
-- name: prompt_list_versions :many
SELECT p.id AS prompt_id, p.current_version, page.version, page.is_chat, page.content, page.messages, page.system_prompt, page.variables,
       page.parameters, page.content_hash, page.model_id, page.model_name, page.version_message, page.version_author,
       page.version_created_at, page.found,
       ARRAY(SELECT label FROM label_targets
             WHERE organization_id = $1 AND prompt_id = $2 AND version = page.version ORDER BY label) AS labels
FROM prompts p
LEFT JOIN LATERAL (
    SELECT v.version, v.messages IS NOT NULL AS is_chat,
           CASE WHEN $7::boolean THEN v.content END AS content, CASE WHEN $7 THEN v.messages END AS messages,
           CASE WHEN $7 THEN v.system_prompt END AS system_prompt, CASE WHEN $7 THEN v.variables END AS variables,
           CASE WHEN $7 THEN v.parameters END AS parameters, v.content_hash, v.model_id,
           (SELECT m.name FROM ai_models m WHERE m.organization_id = $1 AND m.id = v.model_id) AS model_name,
           v.message AS version_message, v.author AS version_author, v.created_at AS version_created_at,
           count(*) OVER () AS found, sum(v.content_bytes) OVER (ORDER BY v.version DESC) - v.content_bytes AS bytes_before
    FROM (
        SELECT version, content, messages, system_prompt, variables, parameters, content_hash, content_bytes, model_id, message, author,
               created_at
        FROM prompt_versions
        WHERE organization_id = $1 AND prompt_id = $2 AND version < $4 AND ($5::uuid IS NULL OR author = $5)
        ORDER BY version DESC
        LIMIT $6
    ) v
) page ON page.bytes_before < $8::bigint
WHERE p.organization_id = $1 AND p.id = $2 AND ($3::uuid IS NULL OR p.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = p.project_id AND deleted_at IS NULL)
ORDER BY page.version DESC;

-- name: prompt_get_version :optional
SELECT p.id AS prompt_id, p.current_version, v.version, v.messages IS NOT NULL AS is_chat, v.content, v.messages, v.system_prompt,
       v.variables, v.parameters, v.content_hash, v.model_id,
       (SELECT m.name FROM ai_models m WHERE m.organization_id = $1 AND m.id = v.model_id) AS model_name,
       v.message AS version_message, v.author AS version_author, v.created_at AS version_created_at,
       ARRAY(SELECT label FROM label_targets
             WHERE organization_id = $1 AND prompt_id = $2 AND version = v.version ORDER BY label) AS labels
FROM prompts p
LEFT JOIN LATERAL (
    SELECT version, content, messages, system_prompt, variables, parameters, content_hash, model_id, message, author, created_at
    FROM prompt_versions
    WHERE organization_id = $1 AND prompt_id = $2 AND version = $4
    LIMIT 1
) v ON true
WHERE p.organization_id = $1 AND p.id = $2 AND ($3::uuid IS NULL OR p.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = p.project_id AND deleted_at IS NULL);
