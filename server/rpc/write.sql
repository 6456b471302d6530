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

-- $2: the canonical bytes (write_audit.c). The chain begins with the first row: hash = sha256(canonical), later sha256(hash before || canonical).
-- name: write_audit :command
WITH head AS (
    INSERT INTO audit_heads AS h (organization_id, sequence, hash) VALUES ($1, 1, sha256($2))
    ON CONFLICT (organization_id) DO UPDATE SET sequence = h.sequence + 1, hash = sha256(h.hash || $2)
    RETURNING sequence, hash
)
INSERT INTO audit_log (organization_id, sequence, principal_kind, principal_id, action, target_kind, target_id, details, canonical, hash,
                       created_at)
SELECT $1, head.sequence, $3, $4, $5, $6, $7, $8, $2, head.hash, $9 FROM head;
