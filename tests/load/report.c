#include "load/report.h"

#include <inttypes.h>

static const double percentiles[] = {50, 90, 95, 99, 99.9, 99.99};
enum { PERCENTILES = sizeof percentiles / sizeof *percentiles };

static const char *workload_name(enum workload workload)
{
    switch (workload) {
    case WORKLOAD_PING:
        return "ping";
    case WORKLOAD_FETCH:
        return "fetch";
    }
    return "";
}

static uint64_t succeeded(const struct run_result *result)
{
    return atomic_load(&result->codes[FORGE_OK]);
}

void report_text(FILE *out, const struct options *options, const struct run_result *result)
{
    fprintf(out, "%s: %" PRIu64 " calls planned, %" PRIu64 " sent, %" PRIu64 " answered OK in %.1f s (%.0f a second)\n",
            workload_name(options->workload), result->planned, atomic_load(&result->sent), succeeded(result), result->seconds,
            result->seconds > 0 ? (double)succeeded(result) / result->seconds : 0);
    fprintf(out, "%-8s %14s %14s\n", "latency", "corrected ms", "uncorrected ms");
    for (int i = 0; i < PERCENTILES; i++)
        fprintf(out, "p%-7g %14.3f %14.3f\n", percentiles[i], histogram_percentile_us(&result->corrected, percentiles[i]) / 1e3,
                histogram_percentile_us(&result->uncorrected, percentiles[i]) / 1e3);
    fprintf(out, "%-8s %14.3f %14.3f\n", "max", (double)histogram_max_us(&result->corrected) / 1e3,
            (double)histogram_max_us(&result->uncorrected) / 1e3);
    for (int code = 1; code < RUN_CODES; code++)
        if (atomic_load(&result->codes[code]) > 0)
            fprintf(out, "failed   %s: %" PRIu64 "\n", forge_code_name((forge_code)code), atomic_load(&result->codes[code]));
    fprintf(out, "sending fell behind the plan by %.3f ms at most\n", (double)result->late_ns_max / 1e6);
}

static void json_latency(FILE *out, const char *name, const struct histogram *histogram)
{
    fprintf(out, "\"%s\":{\"count\":%" PRIu64 ",\"mean_us\":%.1f", name, histogram_count(histogram), histogram_mean_us(histogram));
    for (int i = 0; i < PERCENTILES; i++)
        fprintf(out, ",\"p%g_us\":%.1f", percentiles[i], histogram_percentile_us(histogram, percentiles[i]));
    fprintf(out, ",\"max_us\":%" PRIu64 "}", histogram_max_us(histogram));
}

void report_json(FILE *out, const struct options *options, const struct run_result *result)
{
    fprintf(out,
            "{\"workload\":\"%s\",\"arrival\":\"%s\",\"rate\":%g,\"channels\":%u,\"seconds\":%.3f,\"planned\":%" PRIu64
            ",\"sent\":%" PRIu64,
            workload_name(options->workload), options->arrival == PLAN_POISSON ? "poisson" : "constant", options->rate, options->channels,
            result->seconds, result->planned, atomic_load(&result->sent));
    fprintf(out, ",\"ok\":%" PRIu64 ",\"calls_per_second\":%.1f,\"late_us_max\":%.1f,\"failed\":{", succeeded(result),
            result->seconds > 0 ? (double)succeeded(result) / result->seconds : 0, (double)result->late_ns_max / 1e3);
    const char *comma = "";
    for (int code = 1; code < RUN_CODES; code++) {
        if (atomic_load(&result->codes[code]) > 0) {
            fprintf(out, "%s\"%s\":%" PRIu64, comma, forge_code_name((forge_code)code), atomic_load(&result->codes[code]));
            comma = ",";
        }
    }
    fputs("},", out);
    json_latency(out, "corrected", &result->corrected);
    fputc(',', out);
    json_latency(out, "uncorrected", &result->uncorrected);
    fputs("}\n", out);
}
