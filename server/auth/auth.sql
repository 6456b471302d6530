-- What a credential stands for, by the hash of its token. Run with the tenant that the token names already bound.

-- name: auth_session :optional
SELECT s.id, s.user_id, s.expires_at, u.role, u.disabled, o.deleted_at
FROM sessions s
JOIN users u ON u.organization_id = s.organization_id AND u.id = s.user_id
JOIN organizations o ON o.organization_id = s.organization_id
WHERE s.organization_id = $1 AND s.token_hash = $2;

-- name: auth_api_key :optional
SELECT k.id, k.user_id, k.project_id, k.scopes, k.expires_at, k.revoked_at, u.role, u.disabled, o.deleted_at,
       p.deleted_at AS project_deleted_at
FROM api_keys k
JOIN users u ON u.organization_id = k.organization_id AND u.id = k.user_id
JOIN organizations o ON o.organization_id = k.organization_id
LEFT JOIN projects p ON p.organization_id = k.organization_id AND p.id = k.project_id
WHERE k.organization_id = $1 AND k.token_hash = $2;

-- Operator tokens have no tenant.
-- name: auth_operator_token :optional
SELECT id, expires_at FROM operator_tokens WHERE token_hash = $1;

-- Failed logins, by HMAC of the e-mail address ($1) and of the source address ($2).
-- name: auth_lockout_until :one
SELECT max(locked_until) AS locked_until FROM login_failures WHERE key IN ($1, $2) AND locked_until > $3;

-- $2 now; $3 failures before this are forgotten; the lock is looked up by the new number of failures: $5 seconds, doubled for each one
-- above $4, at most $6.
-- name: auth_lockout_count :command
INSERT INTO login_failures AS f (key, failures, last_failure_at, locked_until)
VALUES ($1, 1, $2, NULL)
ON CONFLICT (key) DO UPDATE SET
    failures = CASE WHEN f.last_failure_at < $3 THEN 1 ELSE f.failures + 1 END,
    last_failure_at = $2,
    locked_until = CASE
        WHEN f.last_failure_at < $3 OR f.failures + 1 <= $4::integer THEN NULL
        ELSE $2 + make_interval(secs => least($6::integer, $5::integer * power(2, least(f.failures - $4::integer, 20))))
    END;

-- name: auth_lockout_clear :command
DELETE FROM login_failures WHERE key = $1;

-- Which key-encryption keys this database was written with.
-- name: auth_key_check_value :optional
SELECT check_value FROM encryption_keys WHERE key_id = $1;

-- name: auth_key_check_record :command
INSERT INTO encryption_keys (key_id, check_value, created_at) VALUES ($1, $2, $3) ON CONFLICT (key_id) DO NOTHING;
