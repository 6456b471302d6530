-- Results of evaluations, keyed by item and repetition.

-- What results of an evaluation are judged by, with the price of its model at $4. $3: the project the caller is bound to.
-- name: result_evaluation :optional
SELECT e.project_id, e.state, e.evaluators, e.metadata, e.repetitions, e.pass_threshold, e.dataset_id, e.dataset_version, p.id AS price_id,
       p.input_price, p.cache_read_price, p.cache_write_price, p.output_price, p.reasoning_price
FROM evaluations e
LEFT JOIN LATERAL (
    SELECT id, input_price, cache_read_price, cache_write_price, output_price, reasoning_price
    FROM model_prices
    WHERE organization_id = $1 AND model_id = e.model_id AND effective_at <= $4
    ORDER BY effective_at DESC
    LIMIT 1
) p ON true
WHERE e.organization_id = $1 AND e.id = $2 AND ($3::uuid IS NULL OR e.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = e.project_id AND deleted_at IS NULL);

-- The items of version $3 of dataset $2 with these keys ($4) or ids ($5).
-- name: result_items :many
WITH named AS (
    SELECT id FROM dataset_items
    WHERE organization_id = $1 AND dataset_id = $2 AND key = ANY ($4::text[]) AND first_version <= $3
      AND (end_version IS NULL OR end_version > $3)
    UNION
    SELECT id FROM dataset_items
    WHERE organization_id = $1 AND id = ANY ($5::uuid[]) AND dataset_id = $2 AND first_version <= $3
      AND (end_version IS NULL OR end_version > $3)
)
SELECT x.id, x.key
FROM dataset_items x
JOIN named ON named.id = x.id
WHERE x.organization_id = $1
ORDER BY x.key;

-- What is expected of these items ($2), in the order of their keys, until it is more than $3 bytes together.
-- name: result_expected :many
SELECT i.key, i.expected_output
FROM (
    SELECT x.key, x.expected_output, sum(octet_length(x.expected_output)) OVER (ORDER BY x.key) AS bytes
    FROM dataset_items x
    WHERE x.organization_id = $1 AND x.id = ANY ($2::uuid[])
) i
WHERE i.bytes <= $3
ORDER BY i.key;

-- Those of the results named by item ($3) and repetition ($4, as text) that there are.
-- name: result_stored :many
SELECT r.item_key, r.repetition, r.content_hash, r.score, r.passed
FROM unnest($3::text[], $4::text[]::integer[]) AS g (item_key, repetition)
JOIN evaluation_results r ON r.organization_id = $1 AND r.evaluation_id = $2 AND r.item_key = g.item_key AND r.repetition = g.repetition;

-- Before results are added: whoever ends or deletes the evaluation (evaluation_lock) waits for them, or they find it ended.
-- name: result_lock_evaluation :command
SELECT id FROM evaluations WHERE organization_id = $1 AND id = $2 FOR SHARE;

-- Behind result_lock_evaluation: a row for each result that was added, one without item_key for none. $3 now; $4 to $23: the results, one array per
-- column, '' where there is nothing, sorted by item and repetition so that two calls never wait for each other; what is there already is left
-- out.
-- name: result_add :many
WITH e AS (
    SELECT state FROM evaluations WHERE organization_id = $1 AND id = $2
), added AS (
    INSERT INTO evaluation_results (organization_id, evaluation_id, item_key, repetition, item_id, output, error, latency_us, input_tokens,
                                    cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_micros, price_id, trace_id,
                                    span_id, evaluator_scores, score, passed, content_hash, content_bytes, created_at)
    SELECT $1, $2, g.item_key, g.repetition::integer, g.item_id, g.output, NULLIF(g.error, ''), NULLIF(g.latency, '')::bigint,
           NULLIF(g.input_tokens, '')::bigint, NULLIF(g.cache_read_tokens, '')::bigint, NULLIF(g.cache_write_tokens, '')::bigint,
           NULLIF(g.output_tokens, '')::bigint, NULLIF(g.reasoning_tokens, '')::bigint, NULLIF(g.cost, '')::bigint,
           NULLIF(g.price_id, '')::uuid, decode(NULLIF(g.trace_id, ''), 'hex'), decode(NULLIF(g.span_id, ''), 'hex'), g.scores::jsonb -> 'evaluator_scores',
           g.score::double precision, g.passed::boolean, decode(g.hash, 'hex'), g.bytes::integer, $3
    FROM e
    CROSS JOIN unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
                      $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[], $20::text[],
                      $21::text[], $22::text[], $23::text[])
         WITH ORDINALITY AS g (item_id, item_key, repetition, output, error, latency, input_tokens, cache_read_tokens, cache_write_tokens,
                               output_tokens, reasoning_tokens, cost, price_id, trace_id, span_id, scores, score, passed, hash, bytes,
                               ordinal)
    WHERE e.state = 'running'
    ORDER BY g.ordinal
    ON CONFLICT ON CONSTRAINT evaluation_results_pkey DO NOTHING
    RETURNING item_key, repetition
)
SELECT e.state, added.item_key, added.repetition FROM e LEFT JOIN added ON true;

-- One row without item_key for an evaluation without any. $4, $5: item and repetition before the first one, $7: the last item (a plan for any
-- item finds one by the key like this); $6: passed, NULL = any; $9: bytes of content at which the page is cut.
-- name: result_list :many
SELECT r.item_key, r.item_id, r.repetition, r.output, r.error, r.latency_us, r.input_tokens, r.cache_read_tokens, r.cache_write_tokens,
       r.output_tokens, r.reasoning_tokens, r.cost_micros, encode(r.trace_id, 'hex') AS trace_id, encode(r.span_id, 'hex') AS span_id,
       r.evaluator_scores, r.score, r.passed, r.created_at, r.found
FROM evaluations e
LEFT JOIN LATERAL (
    SELECT y.item_key, y.item_id, y.repetition, y.output, y.error, y.latency_us, y.input_tokens, y.cache_read_tokens, y.cache_write_tokens,
           y.output_tokens, y.reasoning_tokens, y.cost_micros, y.trace_id, y.span_id, y.evaluator_scores, y.score, y.passed, y.created_at,
           count(*) OVER () AS found, row_number() OVER sorted AS position, sum(y.content_bytes) OVER sorted AS bytes
    FROM (
        SELECT item_key, item_id, repetition, output, error, latency_us, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
               reasoning_tokens, cost_micros, trace_id, span_id, evaluator_scores, score, passed, created_at, content_bytes
        FROM evaluation_results
        WHERE organization_id = $1 AND evaluation_id = $2 AND (item_key, repetition) > ($4, $5::integer)
          AND ($6::boolean IS NULL OR passed = $6) AND item_key <= $7
        ORDER BY item_key, repetition
        LIMIT $8
    ) y
    WINDOW sorted AS (ORDER BY y.item_key, y.repetition)
) r ON r.position = 1 OR r.bytes <= $9
WHERE e.organization_id = $1 AND e.id = $2 AND ($3::uuid IS NULL OR e.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = e.project_id AND deleted_at IS NULL)
ORDER BY r.item_key, r.repetition;
