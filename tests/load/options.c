#include "load/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "Usage: forgeload --server HOST[:PORT] --ca FILE [options]\n"
    "\n"
    "Sends calls to forged at planned times and measures from those times (open loop: a slow server cannot slow the\n"
    "questions down, so its stalls are seen). The uncorrected figures beside them count from the moment of sending.\n"
    "\n"
    "  --server LIST        host[:port],... (environment FORGE_SERVER)\n"
    "  --ca FILE            PEM roots that sign the server (environment FORGE_CA; default: the system's)\n"
    "  --token TOKEN        credential (environment FORGE_TOKEN)\n"
    "  --workload NAME      ping (default) or fetch: GetPrompt by name\n"
    "  --project ID         fetch: project of the prompt\n"
    "  --prompt NAME        fetch: its name\n"
    "  --rate N             calls a second, 0.1 to 10000000 (1000)\n"
    "  --arrival KIND       constant (default) or poisson\n"
    "  --duration SECONDS   measured time, 0.1 to 86400 (10)\n"
    "  --warm-up SECONDS    before it, not measured, 0 to 3600 (1)\n"
    "  --channels N         connections, 1 to 256 (1)\n"
    "  --in-flight-max N    calls waiting for an answer; at it the sender waits and the plan goes on, 1 to 65536 (4096)\n"
    "  --reply-bytes N      ping: size of a reply, 0 to 65536 (1024)\n"
    "  --timeout MS         deadline of a call, 1 to 600000 (5000)\n"
    "  --seed N             of the poisson plan (1)\n"
    "  --json FILE          write the report as JSON; - is standard output\n"
    "  --quiet              no live line\n"
    "  --help               this text\n"
    "\n"
    "Exit: 0 measured, 1 could not measure (no connection, no call succeeded), 2 wrong arguments. Ctrl-C ends early with a report.\n"
    "\n"
    "Example: forgeload --server localhost:7443 --ca ca.pem --rate 20000 --arrival poisson --duration 30 --json report.json\n";

enum option_id {
    OPTION_SERVER = 1000,
    OPTION_CA,
    OPTION_TOKEN,
    OPTION_WORKLOAD,
    OPTION_PROJECT,
    OPTION_PROMPT,
    OPTION_RATE,
    OPTION_ARRIVAL,
    OPTION_DURATION,
    OPTION_WARM_UP,
    OPTION_CHANNELS,
    OPTION_IN_FLIGHT_MAX,
    OPTION_REPLY_BYTES,
    OPTION_TIMEOUT,
    OPTION_SEED,
    OPTION_JSON,
    OPTION_QUIET,
    OPTION_HELP
};

static const struct option long_options[] = {
    {"server", required_argument, NULL, OPTION_SERVER},
    {"ca", required_argument, NULL, OPTION_CA},
    {"token", required_argument, NULL, OPTION_TOKEN},
    {"workload", required_argument, NULL, OPTION_WORKLOAD},
    {"project", required_argument, NULL, OPTION_PROJECT},
    {"prompt", required_argument, NULL, OPTION_PROMPT},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"arrival", required_argument, NULL, OPTION_ARRIVAL},
    {"duration", required_argument, NULL, OPTION_DURATION},
    {"warm-up", required_argument, NULL, OPTION_WARM_UP},
    {"channels", required_argument, NULL, OPTION_CHANNELS},
    {"in-flight-max", required_argument, NULL, OPTION_IN_FLIGHT_MAX},
    {"reply-bytes", required_argument, NULL, OPTION_REPLY_BYTES},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"json", required_argument, NULL, OPTION_JSON},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static bool number(const char *name, const char *text, double min, double max, double *out)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || errno || !isfinite(value) || value < min || value > max) {
        fprintf(stderr, "forgeload: --%s must be a number from %g to %g, not \"%s\"\n", name, min, max, text);
        return false;
    }
    *out = value;
    return true;
}

static bool count(const char *name, const char *text, unsigned min, unsigned max, unsigned *out)
{
    double value;
    if (!number(name, text, min, max, &value))
        return false;
    if (value != floor(value)) {
        fprintf(stderr, "forgeload: --%s must be a whole number, not \"%s\"\n", name, text);
        return false;
    }
    *out = (unsigned)value;
    return true;
}

/* One of two words; *out becomes 0 or 1. */
static bool choice(const char *name, const char *text, const char *first, const char *second, unsigned *out)
{
    if (strcmp(text, first) != 0 && strcmp(text, second) != 0) {
        fprintf(stderr, "forgeload: --%s must be %s or %s, not \"%s\"\n", name, first, second, text);
        return false;
    }
    *out = strcmp(text, second) == 0;
    return true;
}

static bool apply_number(struct options *o, int id, const char *value)
{
    double seed;
    switch (id) {
    case OPTION_RATE:
        return number("rate", value, 0.1, 1e7, &o->rate);
    case OPTION_DURATION:
        return number("duration", value, 0.1, 86400, &o->duration_s);
    case OPTION_WARM_UP:
        return number("warm-up", value, 0, 3600, &o->warm_up_s);
    case OPTION_CHANNELS:
        return count("channels", value, 1, 256, &o->channels);
    case OPTION_IN_FLIGHT_MAX:
        return count("in-flight-max", value, 1, 65536, &o->in_flight_max);
    case OPTION_REPLY_BYTES:
        return count("reply-bytes", value, 0, 65536, &o->reply_bytes);
    case OPTION_TIMEOUT:
        return count("timeout", value, 1, 600000, &o->timeout_ms);
    case OPTION_SEED:
        if (!number("seed", value, 0, 9007199254740992.0, &seed))
            return false;
        o->seed = (uint64_t)seed;
        return true;
    default:
        return false; /* getopt has explained an unknown option */
    }
}

static bool apply(struct options *o, int id, const char *value)
{
    unsigned chosen;
    switch (id) {
    case OPTION_SERVER:
        o->server = value;
        return true;
    case OPTION_CA:
        o->ca_file = value;
        return true;
    case OPTION_TOKEN:
        o->token = value;
        return true;
    case OPTION_PROJECT:
        o->project_id = value;
        return true;
    case OPTION_PROMPT:
        o->prompt = value;
        return true;
    case OPTION_JSON:
        o->json_file = value;
        return true;
    case OPTION_QUIET:
        o->quiet = true;
        return true;
    case OPTION_WORKLOAD:
        if (!choice("workload", value, "ping", "fetch", &chosen))
            return false;
        o->workload = chosen ? WORKLOAD_FETCH : WORKLOAD_PING;
        return true;
    case OPTION_ARRIVAL:
        if (!choice("arrival", value, "constant", "poisson", &chosen))
            return false;
        o->arrival = chosen ? PLAN_POISSON : PLAN_CONSTANT;
        return true;
    default:
        return apply_number(o, id, value);
    }
}

int options_parse(struct options *options, int argc, char **argv)
{
    *options = (struct options){.server = getenv("FORGE_SERVER"),
                                .ca_file = getenv("FORGE_CA"),
                                .token = getenv("FORGE_TOKEN"),
                                .rate = 1000,
                                .duration_s = 10,
                                .warm_up_s = 1,
                                .channels = 1,
                                .in_flight_max = 4096,
                                .reply_bytes = 1024,
                                .timeout_ms = 5000,
                                .seed = 1};
    for (int id; (id = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        if (id == OPTION_HELP) {
            fputs(usage, stdout);
            return 0;
        }
        if (!apply(options, id, optarg))
            return 2;
    }
    if (optind < argc) {
        fprintf(stderr, "forgeload: unexpected argument \"%s\"\n", argv[optind]);
        return 2;
    }
    if (!options->server) {
        fprintf(stderr, "forgeload: --server is required (see --help)\n");
        return 2;
    }
    if (options->workload == WORKLOAD_FETCH && (!options->project_id || !options->prompt || !options->token)) {
        fprintf(stderr, "forgeload: --workload fetch needs --project, --prompt and --token\n");
        return 2;
    }
    return -1;
}
