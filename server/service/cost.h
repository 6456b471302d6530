/* What the tokens of a model call cost. */
#ifndef SERVER_SERVICE_COST_H
#define SERVER_SERVICE_COST_H

#include "db/row.h"

#include "forge/v1/common.pb-c.h"

/* A row of model_prices: micro-units of US dollars per million tokens. */
struct cost_price {
    struct forge_uuid id; /* nil: there is no price */
    int64_t input, cache_read, cache_write, output, reasoning;
};

/* From the columns price_id, input_price, cache_read_price, cache_write_price, output_price and reasoning_price. */
void cost_price_from_row(const struct db_row *row, struct cost_price *out);
/* In micro-units: the exact sum over the kinds, rounded once, half up; what no int64 holds is INT64_MAX. No count is negative. */
int64_t cost_of_usage(const struct cost_price *price, const Forge__V1__TokenUsage *usage);

#endif
