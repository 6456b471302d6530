-- Evaluations. Prompt version and dataset version are pinned by number and hash; both may be deleted later. A deleted project's evaluations do
-- not exist, although their rows stay until maintenance removes them.

-- Before an evaluation is made, in statements of their own: a dataset or prompt that is being deleted is gone or stays (dataset_lock,
-- prompt_lock_whole).
-- name: evaluation_lock_dataset :command
SELECT id FROM datasets WHERE organization_id = $1 AND id = $2 FOR KEY SHARE;

-- name: evaluation_lock_prompt :command
SELECT id FROM prompts WHERE organization_id = $1 AND id = $2 FOR KEY SHARE;

-- $3 prompt, $4 its version, 0 = the current one; $5 dataset, $6 its version, 0 = the latest; $9 {"evaluators": [...]}, $12 {"metadata": [...]};
-- $13 the model, NULL = that of the prompt version. One row that says what is missing; nothing is made then.
-- name: evaluation_create :one
WITH project AS (
    SELECT id FROM projects WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL
), p AS (
    SELECT x.id, x.current_version FROM prompts x, project WHERE x.organization_id = $1 AND x.id = $3 AND x.project_id = project.id
), v AS (
    SELECT x.version, x.content_hash, x.model_id
    FROM prompt_versions x, p
    WHERE x.organization_id = $1 AND x.prompt_id = p.id AND x.version = CASE WHEN $4::integer = 0 THEN p.current_version ELSE $4 END
), d AS (
    SELECT x.id, x.latest_version FROM datasets x, project WHERE x.organization_id = $1 AND x.id = $5 AND x.project_id = project.id
), w AS (
    SELECT x.version, x.content_hash, x.item_count
    FROM dataset_versions x, d
    WHERE x.organization_id = $1 AND x.dataset_id = d.id AND x.version = CASE WHEN $6::integer = 0 THEN d.latest_version ELSE $6 END
), m AS (
    SELECT COALESCE($13::uuid, (SELECT v.model_id FROM v)) AS id,
           $13 IS NULL OR EXISTS (SELECT FROM ai_models WHERE organization_id = $1 AND id = $13) AS is_known
), made AS (
    INSERT INTO evaluations (organization_id, id, project_id, name, description, prompt_id, prompt_version, prompt_content_hash, dataset_id,
                             dataset_version, dataset_content_hash, evaluators, repetitions, pass_threshold, expected_result_count, model_id,
                             metadata, created_by, created_at)
    SELECT $1, $7, $2, $8, $14, p.id, v.version, v.content_hash, d.id, w.version, w.content_hash, $9::jsonb -> 'evaluators', $10, $11,
           w.item_count::bigint * $10::integer, m.id, $12::jsonb -> 'metadata', $15, $16
    FROM p, v, d, w, m
    WHERE w.item_count > 0 AND m.is_known
    RETURNING id, project_id, name, description, state, prompt_id, prompt_version, prompt_content_hash, dataset_id, dataset_version,
              dataset_content_hash, evaluators, repetitions, pass_threshold, expected_result_count, model_id, metadata, created_by,
              created_at, updated_at, ended_at, row_version
)
SELECT EXISTS (SELECT FROM project) AS project_found, EXISTS (SELECT FROM p) AS prompt_found, EXISTS (SELECT FROM v) AS version_found,
       EXISTS (SELECT FROM d) AS dataset_found, EXISTS (SELECT FROM w) AS dataset_version_found, m.is_known AS model_found,
       made.id, made.project_id, made.name, made.description, made.state, made.prompt_id, made.prompt_version, made.prompt_content_hash,
       made.dataset_id, made.dataset_version, made.dataset_content_hash, made.evaluators, made.repetitions, made.pass_threshold,
       made.expected_result_count, made.model_id, made.metadata, made.created_by, made.created_at, made.updated_at, made.ended_at,
       made.row_version
FROM m
LEFT JOIN made ON true;

-- $3: the project the caller is bound to, here and below.
-- name: evaluation_get :optional
SELECT e.id, e.project_id, e.name, e.description, e.state, e.prompt_id, e.prompt_version, e.prompt_content_hash, e.dataset_id,
       e.dataset_version, e.dataset_content_hash, e.evaluators, e.repetitions, e.pass_threshold, e.expected_result_count, e.model_id,
       e.metadata, e.created_by, e.created_at, e.updated_at, e.ended_at, e.row_version
FROM evaluations e
WHERE e.organization_id = $1 AND e.id = $2 AND ($3::uuid IS NULL OR e.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = e.project_id AND deleted_at IS NULL);

-- The figures of several evaluations, one row each. Latencies, tokens and cost that are not known count for nothing; sums
-- that no bigint holds stay at its end.
-- name: evaluation_figures :many
SELECT r.evaluation_id, count(*) AS result_count, count(*) FILTER (WHERE r.passed) AS passed_count,
       count(*) FILTER (WHERE r.error IS NOT NULL) AS error_count, avg(r.score) AS average_score,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY r.latency_us) AS latency_p50_us,
       percentile_disc(0.95) WITHIN GROUP (ORDER BY r.latency_us) AS latency_p95_us,
       least(COALESCE(sum(r.input_tokens), 0), 9223372036854775807)::bigint AS input_tokens,
       least(COALESCE(sum(r.cache_read_tokens), 0), 9223372036854775807)::bigint AS cache_read_tokens,
       least(COALESCE(sum(r.cache_write_tokens), 0), 9223372036854775807)::bigint AS cache_write_tokens,
       least(COALESCE(sum(r.output_tokens), 0), 9223372036854775807)::bigint AS output_tokens,
       least(COALESCE(sum(r.reasoning_tokens), 0), 9223372036854775807)::bigint AS reasoning_tokens,
       least(COALESCE(sum(r.cost_micros), 0), 9223372036854775807)::bigint AS cost_micros
FROM evaluation_results r
WHERE r.organization_id = $1 AND r.evaluation_id = ANY ($2::uuid[])
GROUP BY r.evaluation_id;

-- The same by evaluator; a run that ended in an error was judged by none.
-- name: evaluation_evaluator_figures :many
SELECT r.evaluation_id, s.value ->> 'evaluator' AS name, count(*) FILTER (WHERE (s.value -> 'passed')::boolean) AS passed_count,
       count(*) AS judged_count, avg((s.value -> 'score')::double precision) AS average_score
FROM evaluation_results r
CROSS JOIN LATERAL jsonb_array_elements(r.evaluator_scores) AS s (value)
WHERE r.organization_id = $1 AND r.evaluation_id = ANY ($2::uuid[])
GROUP BY r.evaluation_id, s.value ->> 'evaluator';

-- One row without an id for a project without any. $4: the last one of the page before; $5 to $8: NULL or 0 = any; $10: bytes of
-- what callers wrote at which the page is cut.
-- name: evaluation_list :many
SELECT e.id, e.project_id, e.name, e.description, e.state, e.prompt_id, e.prompt_version, e.prompt_content_hash, e.dataset_id,
       e.dataset_version, e.dataset_content_hash, e.evaluators, e.repetitions, e.pass_threshold, e.expected_result_count, e.model_id,
       e.metadata, e.created_by, e.created_at, e.updated_at, e.ended_at, e.row_version, e.found
FROM projects p
LEFT JOIN LATERAL (
    SELECT y.id, y.project_id, y.name, y.description, y.state, y.prompt_id, y.prompt_version, y.prompt_content_hash, y.dataset_id,
           y.dataset_version, y.dataset_content_hash, y.evaluators, y.repetitions, y.pass_threshold, y.expected_result_count, y.model_id,
           y.metadata, y.created_by, y.created_at, y.updated_at, y.ended_at, y.row_version, count(*) OVER () AS found,
           row_number() OVER newest AS position,
           sum(octet_length(y.name) + COALESCE(octet_length(y.description), 0) + octet_length(y.evaluators::text) +
               COALESCE(octet_length(y.metadata::text), 0)) OVER newest AS bytes
    FROM (
        SELECT x.id, x.project_id, x.name, x.description, x.state, x.prompt_id, x.prompt_version, x.prompt_content_hash, x.dataset_id,
               x.dataset_version, x.dataset_content_hash, x.evaluators, x.repetitions, x.pass_threshold, x.expected_result_count,
               x.model_id, x.metadata, x.created_by, x.created_at, x.updated_at, x.ended_at, x.row_version
        FROM evaluations x
        WHERE x.organization_id = $1 AND x.project_id = $2 AND ($4::uuid IS NULL OR x.id < $4) AND ($5::text IS NULL OR x.state = $5)
          AND ($6::uuid IS NULL OR x.prompt_id = $6) AND ($7::integer = 0 OR x.prompt_version = $7)
          AND ($8::uuid IS NULL OR x.dataset_id = $8)
        ORDER BY x.id DESC
        LIMIT $9
    ) y
    WINDOW newest AS (ORDER BY y.id DESC)
) e ON e.position = 1 OR e.bytes <= $10
WHERE p.organization_id = $1 AND p.id = $2 AND p.deleted_at IS NULL AND ($3::uuid IS NULL OR p.id = $3)
ORDER BY e.id DESC;

-- Results are added under FOR SHARE, so that the one who completes, cancels or deletes an evaluation sees all of them.
-- name: evaluation_lock :command
SELECT id FROM evaluations WHERE organization_id = $1 AND id = $2 FOR UPDATE;

-- Behind evaluation_lock. Ends it without looking at the state it was in, at the etag or at what is missing: the handler does, and a refusal
-- rolls this back.
-- name: evaluation_end :optional
WITH before AS (
    SELECT state FROM evaluations WHERE organization_id = $1 AND id = $2
)
UPDATE evaluations e SET state = $4, ended_at = $5, updated_at = $5, row_version = e.row_version + 1
FROM before
WHERE e.organization_id = $1 AND e.id = $2 AND ($3::uuid IS NULL OR e.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = e.project_id AND deleted_at IS NULL)
RETURNING e.id, e.project_id, e.name, e.description, e.state, e.prompt_id, e.prompt_version, e.prompt_content_hash, e.dataset_id,
          e.dataset_version, e.dataset_content_hash, e.evaluators, e.repetitions, e.pass_threshold, e.expected_result_count, e.model_id,
          e.metadata, e.created_by, e.created_at, e.updated_at, e.ended_at, e.row_version, before.state AS old_state,
          (SELECT count(*) FROM evaluation_results WHERE organization_id = $1 AND evaluation_id = $2) AS result_count;

-- Behind evaluation_lock; the etag is the handler's to compare, as above.
-- name: evaluation_delete :optional
DELETE FROM evaluations e
WHERE e.organization_id = $1 AND e.id = $2 AND ($3::uuid IS NULL OR e.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = e.project_id AND deleted_at IS NULL)
RETURNING e.row_version;
