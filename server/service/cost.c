#include "service/cost.h"

enum { TOKENS_PER_PRICE = 1000000 };

void cost_price_from_row(const struct db_row *row, struct cost_price *out)
{
    db_row_uuid(row, "price_id", &out->id);
    out->input = db_row_int64(row, "input_price");
    out->cache_read = db_row_int64(row, "cache_read_price");
    out->cache_write = db_row_int64(row, "cache_write_price");
    out->output = db_row_int64(row, "output_price");
    out->reasoning = db_row_int64(row, "reasoning_price");
}

int64_t cost_of_usage(const struct cost_price *price, const Forge__V1__TokenUsage *usage)
{
    /* A price has at most 40 bits (10^12), a count 63: five products have room in 127. */
    __extension__ typedef __int128 wide;
    wide sum = (wide)price->input * usage->input_tokens + (wide)price->cache_read * usage->cache_read_tokens +
               (wide)price->cache_write * usage->cache_write_tokens;
    sum += (wide)price->output * usage->output_tokens + (wide)price->reasoning * usage->reasoning_tokens;
    wide micros = (sum + TOKENS_PER_PRICE / 2) / TOKENS_PER_PRICE;
    return micros > INT64_MAX ? INT64_MAX : (int64_t)micros;
}
