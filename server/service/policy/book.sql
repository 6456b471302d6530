-- The published policies of an organization that are not disabled, by id, with a digest of all that makes them what they are in force. Where
-- $2 is that digest the caller has them already, and it is told alone. Rules are named by their version: a published one never changes.
-- name: policy_book_read :many
WITH published AS (
    SELECT p.id, p.name, p.project_id, p.published_version,
           COALESCE((SELECT array_agg(a.target_kind || ':' || COALESCE(a.project_id::text, a.model_id::text, a.label, '') ORDER BY a.position)
                     FROM policy_attachments a WHERE a.organization_id = $1 AND a.policy_id = p.id), '{}')::text[] AS attachments
    FROM policies p
    WHERE p.organization_id = $1 AND p.published_version > 0 AND NOT p.disabled
), digest AS (
    SELECT encode(sha256(convert_to(COALESCE(string_agg(
               concat_ws(E'\n', q.id, q.name, COALESCE(q.project_id::text, ''), q.published_version, q.attachments), E'\n' ORDER BY q.id), ''),
               'UTF8')), 'hex') AS digest
    FROM published q
)
SELECT d.digest, q.id, q.name, q.project_id, q.published_version, q.attachments, v.mode, v.rules
FROM digest d
LEFT JOIN (published q JOIN policy_versions v ON v.organization_id = $1 AND v.policy_id = q.id AND v.version = q.published_version)
    ON d.digest IS DISTINCT FROM $2::text
ORDER BY q.id;
