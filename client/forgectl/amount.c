#include "amount.h"

#include <inttypes.h>
#include <stdio.h>

static const int64_t second_ns = 1000000000;

static void print_pair(int64_t seconds, int64_t unit, char unit_name, int64_t part, char part_name, char out[AMOUNT_SIZE])
{
    snprintf(out, AMOUNT_SIZE, "%" PRId64 "%c%02" PRId64 "%c", seconds / unit, unit_name, seconds % unit / part, part_name);
}

/* Of 100 seconds and more. */
static void print_long(int64_t ns, char out[AMOUNT_SIZE])
{
    int64_t seconds = ns / second_ns;
    if (seconds < 3600)
        print_pair(seconds, 60, 'm', 1, 's', out);
    else if (seconds < 86400)
        print_pair(seconds, 3600, 'h', 60, 'm', out);
    else
        print_pair(seconds, 86400, 'd', 3600, 'h', out);
}

void amount_duration(int64_t ns, char out[AMOUNT_SIZE])
{
    static const struct {
        const char *name;
        double ns, below; /* the next unit begins where three digits are no more enough */
    } units[] = {{"ns", 1, 999.5}, {"us", 1e3, 999.5}, {"ms", 1e6, 999.5}, {"s", 1e9, 99.95}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        double value = (double)ns / units[i].ns;
        if (value >= units[i].below)
            continue;
        snprintf(out, AMOUNT_SIZE, "%.*f %s", i == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2, value, units[i].name);
        return;
    }
    print_long(ns, out);
}

void amount_cost(int64_t micros, char out[AMOUNT_SIZE])
{
    snprintf(out, AMOUNT_SIZE, "$%" PRId64 ".%06" PRId64, micros / 1000000, micros % 1000000);
}

int64_t amount_tokens(const Forge__V1__TokenUsage *usage)
{
    return usage
               ? usage->input_tokens + usage->cache_read_tokens + usage->cache_write_tokens + usage->output_tokens + usage->reasoning_tokens
               : 0;
}
