-- Two evaluations, $2 the baseline and $3 the candidate, item by item. An item passes when all its repetitions passed, its score is their
-- mean. Differences of scores are rounded to 9 decimals, so that sums of the same scores in another order are a tie and not a change.

-- name: compare_find :many
SELECT e.id, e.state = 'running' AS is_running
FROM evaluations e
WHERE e.organization_id = $1 AND e.id = ANY ($2::uuid[]) AND ($3::uuid IS NULL OR e.project_id = $3)
  AND EXISTS (SELECT FROM projects WHERE organization_id = $1 AND id = e.project_id AND deleted_at IS NULL);

-- The figures over all items. ranks: of the absolute differences, as text, where there are at most $4 of them; tie_sum: the sum of t^3 - t
-- over groups of t equal absolute differences (evaluate/significance.h). dataset_differs: of items that are
-- not the same row the hashes are compared; those that are gone with their dataset count as other ones.
-- name: compare_figures :one
WITH b AS (
    SELECT item_key, avg(score) AS score, bool_and(passed) AS passed, min(item_id::text) AS item_id
    FROM evaluation_results WHERE organization_id = $1 AND evaluation_id = $2 GROUP BY item_key
), c AS (
    SELECT item_key, avg(score) AS score, bool_and(passed) AS passed, min(item_id::text) AS item_id
    FROM evaluation_results WHERE organization_id = $1 AND evaluation_id = $3 GROUP BY item_key
), item AS (
    SELECT b.item_key IS NOT NULL AS in_baseline, c.item_key IS NOT NULL AS in_candidate, b.passed AS b_passed, c.passed AS c_passed,
           round((c.score - b.score)::numeric, 9) AS difference, b.item_id AS b_item_id, c.item_id AS c_item_id
    FROM b FULL JOIN c ON c.item_key = b.item_key
), ranked AS (
    SELECT difference, count(*) OVER w AS tied,
           rank() OVER (ORDER BY abs(difference)) + (count(*) OVER w - 1) / 2.0 AS mean_rank
    FROM item
    WHERE difference <> 0
    WINDOW w AS (PARTITION BY abs(difference))
)
SELECT count(*) FILTER (WHERE in_baseline AND in_candidate) AS matched_count,
       count(*) FILTER (WHERE NOT b_passed AND c_passed) AS fixed_count, count(*) FILTER (WHERE b_passed AND NOT c_passed) AS broken_count,
       count(*) FILTER (WHERE b_passed AND c_passed) AS still_passing_count,
       count(*) FILTER (WHERE NOT b_passed AND NOT c_passed) AS still_failing_count,
       count(*) FILTER (WHERE NOT in_candidate) AS only_baseline_count, count(*) FILTER (WHERE NOT in_baseline) AS only_candidate_count,
       COALESCE(avg(difference), 0)::double precision AS mean_difference,
       COALESCE(bool_or(CASE WHEN b_item_id <> c_item_id THEN COALESCE(
           (SELECT x.content_hash FROM dataset_items x WHERE x.organization_id = $1 AND x.id = b_item_id::uuid)
               <> (SELECT x.content_hash FROM dataset_items x WHERE x.organization_id = $1 AND x.id = c_item_id::uuid), true) END), false)
           AS dataset_differs,
       (SELECT count(*) FROM ranked) AS sample_size,
       (SELECT COALESCE(sum(mean_rank), 0)::double precision FROM ranked WHERE difference > 0) AS rank_sum_positive,
       (SELECT COALESCE(sum(mean_rank), 0)::double precision FROM ranked WHERE difference < 0) AS rank_sum_negative,
       (SELECT COALESCE(sum(tied::double precision * tied - 1), 0)::double precision FROM ranked) AS tie_sum,
       CASE WHEN (SELECT count(*) FROM ranked) <= $4::integer THEN ARRAY(SELECT mean_rank::text FROM ranked) END AS ranks
FROM item;

-- $4: the last key of the page before; $5: only these changes, NULL = all.
-- name: compare_items :many
WITH b AS (
    SELECT item_key, avg(score) AS score, bool_and(passed) AS passed
    FROM evaluation_results WHERE organization_id = $1 AND evaluation_id = $2 AND item_key > $4 GROUP BY item_key
), c AS (
    SELECT item_key, avg(score) AS score, bool_and(passed) AS passed
    FROM evaluation_results WHERE organization_id = $1 AND evaluation_id = $3 AND item_key > $4 GROUP BY item_key
), item AS (
    SELECT COALESCE(b.item_key, c.item_key) AS item_key, COALESCE(b.score, 0) AS baseline_score, COALESCE(c.score, 0) AS candidate_score,
           COALESCE(b.passed, false) AS baseline_passed, COALESCE(c.passed, false) AS candidate_passed,
           CASE WHEN c.item_key IS NULL THEN 'only_baseline' WHEN b.item_key IS NULL THEN 'only_candidate'
                WHEN b.passed AND c.passed THEN 'still_passing' WHEN b.passed THEN 'broken' WHEN c.passed THEN 'fixed' ELSE 'still_failing'
           END AS change
    FROM b FULL JOIN c ON c.item_key = b.item_key
)
SELECT item_key, baseline_score, candidate_score, baseline_passed, candidate_passed, change
FROM item
WHERE $5::text[] IS NULL OR change = ANY ($5)
ORDER BY item_key
LIMIT $6;
