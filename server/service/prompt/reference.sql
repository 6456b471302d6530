-- References between prompts. A version keeps whom it refers to by id, so a prompt may be renamed; position counts the different references
-- of a version over content, system_prompt and messages, in the order in which they first appear.

-- Of a version that this transaction has made: $4 to $6 are the references' names, versions ('0': none) and labels ('': none). Prompts of
-- other projects are not found, and a name that is not found gives no row. By their foreign key the rows lock the prompts they refer to, so
-- reference_resolve in a statement behind this one looks at labels that DeleteLabel cannot delete any more.
-- name: reference_insert :command
INSERT INTO prompt_references (organization_id, prompt_id, version, position, referenced_prompt_id, referenced_version, referenced_label)
SELECT $1, $2, $3, r.position - 1, p.id, NULLIF(r.version, 0), NULLIF(r.label, '')
FROM unnest($4::text[], $5::text[]::integer[], $6::text[]) WITH ORDINALITY AS r (name, version, label, position)
JOIN prompts own ON own.organization_id = $1 AND own.id = $2
JOIN prompts p ON p.organization_id = $1 AND p.project_id = own.project_id AND p.name = r.name;

-- What the versions $2, $3 refer to with the first $7 of their references, a row for each: its prompt, the version that the reference selects
-- (has_version says whether there is one), and with the first row of each such version what it holds, until that is more than $6 bytes
-- together; of versions that are known already ($8, $9) nothing. $4: the subject of splits, $5: the time, NULL for now. The choice among
-- several versions of a label is that of wire/split.h.
-- name: reference_resolve :many
WITH edge AS (
    SELECT f.number, r.position, p.id, p.name, r.referenced_version, r.referenced_label, chosen.version,
           known.version IS NULL
               AND row_number() OVER (PARTITION BY p.id, chosen.version ORDER BY f.number, r.position) = 1 AS is_first
    FROM unnest($2::uuid[], $3::text[]::integer[], $7::text[]::integer[]) WITH ORDINALITY AS f (prompt_id, version, count, number)
    JOIN prompt_references r ON r.organization_id = $1 AND r.prompt_id = f.prompt_id AND r.version = f.version AND r.position < f.count
    JOIN prompts p ON p.organization_id = $1 AND p.id = r.referenced_prompt_id
    CROSS JOIN LATERAL (
        SELECT CASE WHEN r.referenced_version IS NOT NULL
                    THEN jsonb_build_array(jsonb_build_object('version', r.referenced_version, 'weight', 1))
                    WHEN $5::timestamptz IS NOT NULL
                    THEN (SELECT new_targets FROM label_history
                          WHERE organization_id = $1 AND prompt_id = p.id AND moved_at <= $5
                            AND label = CASE WHEN r.referenced_label IS NULL THEN 'current' ELSE r.referenced_label END
                          ORDER BY moved_at DESC, id DESC
                          LIMIT 1)
                    WHEN r.referenced_label IS NULL
                    THEN jsonb_build_array(jsonb_build_object('version', p.current_version, 'weight', 1))
                    ELSE (SELECT jsonb_agg(jsonb_build_object('version', version, 'weight', weight)) FROM label_targets
                          WHERE organization_id = $1 AND prompt_id = p.id AND label = r.referenced_label)
               END AS targets
        LIMIT 1
    ) l
    CROSS JOIN LATERAL (
        SELECT sha256(convert_to(p.id::text || '|' || COALESCE(r.referenced_label, '') || '|' || $4::text, 'UTF8')) AS digest
    ) d
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
    LEFT JOIN unnest($8::uuid[], $9::text[]::integer[]) known (prompt_id, version)
        ON known.prompt_id = p.id AND known.version = chosen.version
)
SELECT page.number, page.position, page.id, page.name, page.referenced_version, page.referenced_label, page.version, page.has_version,
       page.is_chat, page.bytes, CASE WHEN page.bytes <= $6::bigint THEN page.content END AS content,
       CASE WHEN page.bytes <= $6 THEN page.variables END AS variables
FROM (
    SELECT edge.number, edge.position, edge.id, edge.name, edge.referenced_version, edge.referenced_label, edge.version,
           EXISTS (SELECT FROM prompt_versions WHERE organization_id = $1 AND prompt_id = edge.id AND version = edge.version) AS has_version,
           v.messages IS NOT NULL AS is_chat, v.content, v.variables,
           sum(COALESCE(v.content_bytes, 0)) OVER (ORDER BY edge.number, edge.position) AS bytes
    FROM edge
    LEFT JOIN LATERAL (
        SELECT content, messages, variables, content_bytes FROM prompt_versions
        WHERE organization_id = $1 AND prompt_id = edge.id AND version = edge.version AND edge.is_first
        LIMIT 1
    ) v ON true
) page
ORDER BY page.number, page.position;
