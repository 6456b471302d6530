-- What a credential stands for, by the hash of its token (run with the tenant that the token names already bound) or by a client
-- certificate.

-- name: auth_session :optional
SELECT s.id, s.user_id, s.expires_at, u.role, u.disabled, o.deleted_at
FROM sessions s
JOIN users u ON u.organization_id = s.organization_id AND u.id = s.user_id
JOIN organizations o ON o.organization_id = s.organization_id
WHERE s.organization_id = $1 AND s.token_hash = $2;

-- A key acts for a user or for a service account; an account has no scopes.
-- name: auth_api_key :optional
SELECT k.id, k.user_id, k.service_account_id, k.project_id, k.scopes, k.expires_at, k.revoked_at, COALESCE(u.role, a.role) AS role,
       COALESCE(u.disabled, false) AS disabled, COALESCE(a.calls_in_flight_max, 0) AS calls_in_flight_max, o.deleted_at,
       p.deleted_at AS project_deleted_at
FROM api_keys k
JOIN organizations o ON o.organization_id = k.organization_id
LEFT JOIN users u ON u.organization_id = k.organization_id AND u.id = k.user_id
LEFT JOIN service_accounts a ON a.organization_id = k.organization_id AND a.id = k.service_account_id
LEFT JOIN projects p ON p.organization_id = k.organization_id AND p.id = k.project_id
WHERE k.organization_id = $1 AND k.token_hash = $2
UNION ALL
SELECT a.id, NULL, a.id, a.project_id, NULL, a.expires_at, NULL, a.role, false, a.calls_in_flight_max, o.deleted_at, p.deleted_at
FROM service_accounts a
JOIN organizations o ON o.organization_id = a.organization_id
LEFT JOIN projects p ON p.organization_id = a.organization_id AND p.id = a.project_id
WHERE a.organization_id = $1 AND a.token_hash = $2;

-- No tenant is known yet. $1: SHA-256 of the public key in hexadecimal digits, which counts first; $2: the URI.
-- name: auth_certificate :optional
SELECT organization_id, service_account_id
FROM certificate_names
WHERE (kind = 'public_key' AND value = $1) OR (kind = 'san_uri' AND value = $2)
ORDER BY kind
LIMIT 1;

-- The account of a certificate; expires_at is its token's.
-- name: auth_service_account :optional
SELECT a.id, NULL::uuid AS user_id, a.id AS service_account_id, a.project_id, NULL::integer AS scopes, NULL::timestamptz AS expires_at,
       NULL::timestamptz AS revoked_at, a.role, false AS disabled, a.calls_in_flight_max, a.certificate_login, o.deleted_at,
       p.deleted_at AS project_deleted_at
FROM service_accounts a
JOIN organizations o ON o.organization_id = a.organization_id
LEFT JOIN projects p ON p.organization_id = a.organization_id AND p.id = a.project_id
WHERE a.organization_id = $1 AND a.id = $2;

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
