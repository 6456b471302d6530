-- name: model_price_create :one
INSERT INTO model_prices (organization_id, id, model_id, effective_at, currency, input_price, cache_read_price, cache_write_price,
                          output_price, reasoning_price, created_by, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
RETURNING id, model_id, effective_at, currency, input_price, cache_read_price, cache_write_price, output_price, reasoning_price, created_by,
          created_at;

-- Models from $2 to $3; of $2 itself only what is effective before $4: the page before ended there.
-- name: model_price_list :many
SELECT id, model_id, effective_at, currency, input_price, cache_read_price, cache_write_price, output_price, reasoning_price, created_by,
       created_at
FROM model_prices
WHERE organization_id = $1 AND model_id >= $2 AND model_id <= $3 AND (model_id > $2 OR effective_at < $4)
ORDER BY model_id, effective_at DESC
LIMIT $5;

-- Of each model from $2 to $3, behind $4, the price in force at $5.
-- name: model_price_list_effective :many
SELECT p.id, p.model_id, p.effective_at, p.currency, p.input_price, p.cache_read_price, p.cache_write_price, p.output_price,
       p.reasoning_price, p.created_by, p.created_at
FROM ai_models m
CROSS JOIN LATERAL (
    SELECT id, model_id, effective_at, currency, input_price, cache_read_price, cache_write_price, output_price, reasoning_price, created_by,
           created_at
    FROM model_prices
    WHERE organization_id = $1 AND model_id = m.id AND effective_at <= $5
    ORDER BY effective_at DESC
    LIMIT 1
) p
WHERE m.organization_id = $1 AND m.id >= $2 AND m.id <= $3 AND m.id > $4
ORDER BY m.id
LIMIT $6;
