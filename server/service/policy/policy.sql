-- Policies. Everything that changes them goes behind organization_lock: the number of policies, their versions and what is in force together
-- stand until the transaction ends. A deleted project's policies do not exist, although their rows stay until maintenance removes them.

-- $3: the project, NULL = the organization; $11: how many policies the organization may have. One row that says what stands in the way.
-- name: policy_create :one
WITH place AS (
    SELECT $3::uuid IS NULL OR EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = $3 AND deleted_at IS NULL) AS is_found,
           (SELECT count(*) FROM policies x
            WHERE x.organization_id = $1
              AND (x.project_id IS NULL
                   OR EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = x.project_id AND deleted_at IS NULL))) AS policy_count
), made AS (
    INSERT INTO policies (organization_id, id, project_id, name, description, draft_mode, draft_rules, draft_hash, created_by, created_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 FROM place WHERE place.is_found AND place.policy_count < $11
)
SELECT place.is_found AS project_found, place.policy_count < $11 AS has_room FROM place;

-- name: policy_clear_attachments :command
DELETE FROM policy_attachments WHERE organization_id = $1 AND policy_id = $2;

-- $3: {"attachments": [...]}. Attaches to all or says which is the first one that does not exist. Labels are names, they need not exist.
-- name: policy_attach :one
WITH wanted AS (
    SELECT a.position - 1 AS position, (a.value ->> 'project_id')::uuid AS project_id, a.value ->> 'label' AS label,
           (a.value ->> 'model_id')::uuid AS model_id
    FROM jsonb_array_elements($3::jsonb -> 'attachments') WITH ORDINALITY AS a (value, position)
), missing AS (
    SELECT min(w.position)::integer AS position FROM wanted w
    WHERE (w.project_id IS NOT NULL
           AND NOT EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = w.project_id AND deleted_at IS NULL))
       OR (w.model_id IS NOT NULL AND NOT EXISTS (SELECT FROM ai_models WHERE organization_id = $1 AND id = w.model_id))
), attached AS (
    INSERT INTO policy_attachments (organization_id, policy_id, position, target_kind, project_id, label, model_id)
    SELECT $1, $2, w.position,
           CASE WHEN w.project_id IS NOT NULL THEN 'project' WHEN w.label IS NOT NULL THEN 'label' WHEN w.model_id IS NOT NULL THEN 'model'
                ELSE 'organization' END,
           w.project_id, w.label, w.model_id
    FROM wanted w, missing
    WHERE missing.position IS NULL
)
SELECT missing.position FROM missing;

-- $3: the project the caller is bound to, here and below: it sees the organization's policies too. $4: a published version, 0 = that in force.
-- name: policy_get :optional
SELECT p.id, p.project_id, p.name, p.description, p.disabled, p.draft_mode, p.draft_rules, p.draft_hash, p.published_version, p.created_by,
       p.created_at, p.updated_at, p.row_version, p.draft_hash IS DISTINCT FROM c.content_hash AS draft_changed,
       v.version, v.mode, v.rules, v.content_hash, v.message, v.published_by, v.published_at,
       (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('organization', CASE WHEN a.target_kind = 'organization' THEN true END,
                                                              'project_id', a.project_id, 'label', a.label, 'model_id', a.model_id))
                         ORDER BY a.position)
        FROM policy_attachments a WHERE a.organization_id = $1 AND a.policy_id = p.id) AS attachments
FROM policies p
LEFT JOIN policy_versions c ON c.organization_id = $1 AND c.policy_id = p.id AND c.version = p.published_version
LEFT JOIN policy_versions v
    ON v.organization_id = $1 AND v.policy_id = p.id AND v.version = CASE WHEN $4::integer = 0 THEN p.published_version ELSE $4 END
WHERE p.organization_id = $1 AND p.id = $2 AND ($3::uuid IS NULL OR p.project_id IS NULL OR p.project_id = $3)
  AND (p.project_id IS NULL OR EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = p.project_id AND deleted_at IS NULL));

-- By name, then id, with what is in force; one row without an id where there is none. $2: the project, NULL = any and none; $4: those of the
-- organization that are in force there too; $5, $6: where names begin and end; $7, $8: the last one of the page before; $9: with rules; $11:
-- bytes of what callers wrote at which the page is cut.
-- name: policy_list :many
SELECT scope.is_found, y.id, y.project_id, y.name, y.description, y.disabled, y.draft_mode, y.draft_rules, y.draft_hash,
       y.published_version, y.created_by, y.created_at, y.updated_at, y.row_version, y.draft_changed, y.version, y.mode, y.rules,
       y.content_hash, y.message, y.published_by, y.published_at, y.attachments, y.found
FROM (
    SELECT $2::uuid IS NULL OR EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL) AS is_found
) scope
LEFT JOIN LATERAL (
    SELECT x.id, x.project_id, x.name, x.description, x.disabled, x.draft_mode, x.draft_rules, x.draft_hash, x.published_version,
           x.created_by, x.created_at, x.updated_at, x.row_version, x.draft_changed, x.version, x.mode, x.rules, x.content_hash, x.message,
           x.published_by, x.published_at, x.attachments, count(*) OVER () AS found, row_number() OVER by_name AS position,
           sum(octet_length(x.name) + COALESCE(octet_length(x.description), 0) + COALESCE(octet_length(x.message), 0)
               + COALESCE(octet_length(x.draft_rules::text), 0) + COALESCE(octet_length(x.rules::text), 0)
               + COALESCE(octet_length(x.attachments::text), 0)) OVER by_name AS bytes
    FROM (
        SELECT p.id, p.project_id, p.name, p.description, p.disabled, p.draft_mode, CASE WHEN $9::boolean THEN p.draft_rules END AS draft_rules,
               p.draft_hash, p.published_version, p.created_by, p.created_at, p.updated_at, p.row_version,
               p.draft_hash IS DISTINCT FROM v.content_hash AS draft_changed,
               v.version, v.mode, CASE WHEN $9 THEN v.rules END AS rules, v.content_hash, v.message, v.published_by, v.published_at,
               (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('organization', CASE WHEN a.target_kind = 'organization' THEN true END,
                                                                      'project_id', a.project_id, 'label', a.label,
                                                                      'model_id', a.model_id))
                                 ORDER BY a.position)
                FROM policy_attachments a WHERE a.organization_id = $1 AND a.policy_id = p.id) AS attachments
        FROM policies p
        LEFT JOIN policy_versions v ON v.organization_id = $1 AND v.policy_id = p.id AND v.version = p.published_version
        WHERE p.organization_id = $1 AND p.name >= $5 AND p.name < $6 AND (p.name, p.id) > ($7, $8::uuid)
          AND ($3::uuid IS NULL OR p.project_id IS NULL OR p.project_id = $3)
          AND (p.project_id IS NULL OR EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = p.project_id AND deleted_at IS NULL))
          AND ($2 IS NULL OR p.project_id = $2
               OR ($4::boolean AND p.project_id IS NULL AND NOT p.disabled AND p.published_version > 0
                   AND (NOT EXISTS (SELECT FROM policy_attachments a WHERE a.organization_id = $1 AND a.policy_id = p.id)
                        OR EXISTS (SELECT FROM policy_attachments a
                                   WHERE a.organization_id = $1 AND a.policy_id = p.id AND COALESCE(a.project_id = $2, true)))))
        ORDER BY p.name, p.id
        LIMIT $10
    ) x
    WINDOW by_name AS (ORDER BY x.name, x.id)
) y ON scope.is_found AND (y.position = 1 OR y.bytes <= $11)
ORDER BY y.name, y.id;

-- Goes out before policy_get in one flight. $7: the rules, NULL = as they are.
-- name: policy_update :command
UPDATE policies
SET name = $3, description = $4, disabled = $5, draft_mode = $6, draft_rules = COALESCE($7::jsonb, draft_rules), draft_hash = $8,
    updated_at = $9, row_version = row_version + 1
WHERE organization_id = $1 AND id = $2;

-- Publishes a draft that has rules and is not in force already, without looking at the etag: the handler does, and a refusal rolls this back.
-- row_version: as it was.
-- name: policy_publish :optional
WITH p AS (
    SELECT x.id, x.project_id, x.draft_mode, x.draft_rules, x.draft_hash, x.published_version, x.row_version,
           jsonb_array_length(x.draft_rules) AS rule_count, x.draft_hash IS DISTINCT FROM c.content_hash AS is_changed
    FROM policies x
    LEFT JOIN policy_versions c ON c.organization_id = $1 AND c.policy_id = x.id AND c.version = x.published_version
    WHERE x.organization_id = $1 AND x.id = $2 AND ($3::uuid IS NULL OR x.project_id IS NULL OR x.project_id = $3)
      AND (x.project_id IS NULL OR EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = x.project_id AND deleted_at IS NULL))
), made AS (
    INSERT INTO policy_versions (organization_id, policy_id, version, mode, rules, content_hash, message, published_by, published_at)
    SELECT $1, p.id, p.published_version + 1, p.draft_mode, p.draft_rules, p.draft_hash, $4, $5, $6 FROM p
    WHERE p.rule_count > 0 AND p.is_changed
), changed AS (
    UPDATE policies SET published_version = policies.published_version + 1, updated_at = $6, row_version = policies.row_version + 1
    FROM p
    WHERE policies.organization_id = $1 AND policies.id = p.id AND p.rule_count > 0 AND p.is_changed
)
SELECT p.project_id, p.row_version, p.rule_count, p.is_changed FROM p;

-- What the rules of all policies in force hold together, for the limits that one set of them has; those of a deleted project too, until
-- maintenance removes them: nobody compiles more than this counts.
-- name: policy_in_force_sizes :one
SELECT count(*) AS rule_count, COALESCE(sum(octet_length(r.value::text)), 0)::bigint AS rule_bytes,
       COALESCE(sum(jsonb_array_length(r.value #> '{pattern,patterns}')), 0)::bigint AS pattern_count,
       COALESCE(sum((SELECT sum(octet_length(t.text)) FROM jsonb_array_elements_text(r.value #> '{pattern,patterns}') AS t (text))),
                0)::bigint AS pattern_bytes,
       COALESCE(sum((SELECT sum(octet_length(t.text)) FROM jsonb_array_elements_text(r.value #> '{keyword,keywords}') AS t (text))),
                0)::bigint AS keyword_bytes,
       COALESCE(sum(octet_length(r.value #>> '{output_schema,schema}')), 0)::bigint AS schema_bytes
FROM policies p
JOIN policy_versions v ON v.organization_id = $1 AND v.policy_id = p.id AND v.version = p.published_version
CROSS JOIN LATERAL jsonb_array_elements(v.rules) AS r (value)
WHERE p.organization_id = $1 AND NOT p.disabled;

-- Versions, attachments, daily figures and counts of rate limits go by cascade.
-- name: policy_delete :command
DELETE FROM policies WHERE organization_id = $1 AND id = $2;
