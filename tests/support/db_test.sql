-- Statements of the tests of server/db. Tables: db_fixture.c.

-- name: test_types :one
SELECT $1::uuid AS a_uuid, $2::text AS a_text, $3::bytea AS a_bytea, $4::boolean AS a_bool, $5::smallint AS a_smallint,
       $6::integer AS an_integer, $7::bigint AS a_bigint, $8::timestamptz AS a_time, $9::text[] AS a_text_array,
       $10::jsonb AS a_jsonb, $11::varchar(10) AS a_varchar, $12::json AS a_json, $13::double precision AS a_double, 'a_name'::name AS a_name;

-- name: test_array_lengths :one
SELECT COALESCE(array_length($1::text[], 1), 0) AS texts, COALESCE(array_length($2::uuid[], 1), 0) AS uuids,
       COALESCE(($2::uuid[])[2]::text, '') AS second_uuid;

-- name: test_columns :many
SELECT c.an_integer, c.a_bigint, c.a_double, c.a_time, c.a_uuid, c.a_text, c.a_bytea
FROM unnest($1::integer[], $2::bigint[], $3::double precision[], $4::timestamptz[], $5::uuid[], $6::text[], $7::bytea[])
     WITH ORDINALITY AS c (an_integer, a_bigint, a_double, a_time, a_uuid, a_text, a_bytea, ordinal)
ORDER BY c.ordinal;

-- name: test_times :one
SELECT 'infinity'::timestamptz AS later, '-infinity'::timestamptz AS earlier, '1999-12-31 23:59:59.999999+00'::timestamptz AS before,
       $1::timestamptz::text AS first, $2::timestamptz::text AS second, $3::timestamptz::text AS third;

-- name: test_null_member :one
SELECT ARRAY['a', NULL]::text[] AS texts;

-- name: test_settings :one
SELECT current_setting('forge.organization_id') AS tenant, current_setting('statement_timeout') AS statement_timeout,
       current_setting('lock_timeout') AS lock_timeout, current_setting('TimeZone') AS time_zone,
       current_setting('idle_in_transaction_session_timeout') AS idle_timeout, current_setting('application_name') AS application_name,
       current_setting('client_encoding') AS encoding, current_setting('jit') AS jit, pg_backend_pid() AS backend;

-- name: test_backend :one
SELECT pg_backend_pid() AS backend;

-- name: test_insert :command
INSERT INTO items (organization_id, id, name, position) VALUES ($1, $2, $3, $4);

-- name: test_count :one
SELECT count(*) AS items FROM items WHERE organization_id = $1;

-- name: test_count_all :one
SELECT count(*) AS items FROM items;

-- name: test_find :optional
SELECT name, position FROM items WHERE organization_id = $1 AND id = $2;

-- name: test_get :one
SELECT name, position FROM items WHERE organization_id = $1 AND id = $2;

-- name: test_list :many
SELECT id, name, position FROM items WHERE organization_id = $1 ORDER BY name;

-- name: test_all_as_one :one
SELECT name FROM items WHERE organization_id = $1;

-- name: test_all_as_optional :optional
SELECT name FROM items WHERE organization_id = $1;

-- name: test_rename :command
UPDATE items SET name = $3 WHERE organization_id = $1 AND id = $2;

-- name: test_lock :optional
SELECT id FROM items WHERE organization_id = $1 AND id = $2 FOR UPDATE;

-- name: test_series :many
SELECT n, repeat('x', $2) AS filler FROM generate_series(1, $1) AS n;

-- name: test_sleep :one
SELECT pg_sleep($1::text::float8)::text AS slept;

-- name: test_divide :one
SELECT 1 / $1::integer AS quotient;

-- name: test_absent_table :many
SELECT id FROM no_such_table;

-- name: test_raise :command
SELECT raise_state($1);

-- name: test_echo :one
SELECT $1::text AS text;

-- name: test_length :one
SELECT length($1::text) AS length;

-- name: test_kill_me :command
SELECT pg_terminate_backend(pg_backend_pid());

-- name: test_change :command
INSERT INTO changes (change_id, organization_id, kind, object_id, parent_id) VALUES ($1, $2, $3, $4, $5);

-- name: test_lock_changes :command
LOCK TABLE changes IN ACCESS EXCLUSIVE MODE;

-- name: test_prepared :one
SELECT count(*) AS prepared, count(*) FILTER (WHERE name LIKE 'test!_%' ESCAPE '!') AS prepared_by_tests FROM pg_prepared_statements;
