-- What rpc/write.c puts around the handler of a write: claim, changes, audit, stored reply. All in the handler's transaction.

-- name: write_claim :command
INSERT INTO idempotency (organization_id, principal_id, request_id, method, key_id, request_hash, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: write_stored_reply :optional
SELECT method, key_id, request_hash, response, response_sealed
FROM idempotency
WHERE organization_id = $1 AND principal_id = $2 AND request_id = $3;

-- name: write_store_reply :command
UPDATE idempotency SET response = $4, response_sealed = $5
WHERE organization_id = $1 AND principal_id = $2 AND request_id = $3;

-- name: write_change :command
INSERT INTO changes (organization_id, change_id, kind, object_id, parent_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6);

-- Many at once: ids, kinds, objects and parents, where the nil UUID stands for none.
-- name: write_changes :command
INSERT INTO changes (organization_id, change_id, kind, object_id, parent_id, created_at)
SELECT $1, c.change_id, c.kind, NULLIF(c.object_id, '00000000-0000-0000-0000-000000000000'),
       NULLIF(c.parent_id, '00000000-0000-0000-0000-000000000000'), $6::timestamptz
FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::uuid[]) AS c (change_id, kind, object_id, parent_id);

-- $2: now; $3 to $5: kind, id and role of who did it; $8 to $10: what was done to what. What is hashed is made here, because only here is the
-- actor's name known: the canonical bytes are the UTF-8 text of a JSON object, as PostgreSQL prints a jsonb, of every column but sequence,
-- canonical and hash, under the names that AuditEvent has in the API. VerifyAuditLog (audit_verify) makes them again from the columns: the two
-- go together. Who has deleted itself is named by what was deleted. The chain: hash = sha256(hash before || canonical), 32 zero bytes before
-- the first; an organization's first row (organization_create) makes its head, and one whose head is gone begins anew.
-- name: write_audit :command
WITH event AS (
    SELECT actor.name, convert_to(jsonb_build_object(
        'format', 'forge.audit.v1', 'organization_id', $1::uuid, 'event_time_us', trunc(extract(epoch FROM $2::timestamptz) * 1000000),
        'actor_kind', $3::text, 'actor_id', $4::uuid, 'actor_name', actor.name, 'actor_role', $5::text, 'peer_address', $6::text,
        'request_id', $7::uuid, 'action', $8::text, 'target_kind', $9::text, 'target_id', $10::uuid, 'details', $11::jsonb)::text,
        'UTF8') AS canonical
    FROM (SELECT COALESCE((SELECT email FROM users WHERE organization_id = $1 AND id = $4),
                          (SELECT name FROM api_keys WHERE organization_id = $1 AND id = $4),
                          (SELECT name FROM service_accounts WHERE organization_id = $1 AND id = $4),
                          CASE WHEN $4 = $10 THEN COALESCE($11::jsonb ->> 'email', $11 ->> 'name') END, '') AS name) actor
), head AS (
    INSERT INTO audit_heads AS h (organization_id, sequence, hash)
    SELECT $1, 1, sha256(decode(repeat('00', 32), 'hex') || event.canonical) FROM event
    ON CONFLICT (organization_id) DO UPDATE SET sequence = h.sequence + 1, hash = sha256(h.hash || (SELECT event.canonical FROM event))
    RETURNING sequence, hash
)
INSERT INTO audit_log (organization_id, sequence, principal_kind, principal_id, principal_name, principal_role, peer_address, request_id,
                       action, target_kind, target_id, details, canonical, hash, created_at)
SELECT $1, head.sequence, $3, $4, event.name, $5, $6, $7, $8, $9, $10, $11, event.canonical, head.hash, $2 FROM head, event;
