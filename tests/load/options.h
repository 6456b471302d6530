/* Command line of forgeload. */
#ifndef TESTS_LOAD_OPTIONS_H
#define TESTS_LOAD_OPTIONS_H

#include "load/plan.h"

#include <stdbool.h>
#include <stdint.h>

enum workload { WORKLOAD_PING, WORKLOAD_FETCH };

struct options {
    const char *server, *ca_file, *token;
    enum workload workload;
    const char *project_id, *prompt; /* WORKLOAD_FETCH */
    enum plan_arrival arrival;
    double rate; /* calls a second, all channels together */
    double duration_s, warm_up_s;
    unsigned channels;
    unsigned in_flight_max;
    unsigned reply_bytes; /* WORKLOAD_PING */
    unsigned timeout_ms;
    uint64_t seed;
    const char *json_file; /* "-" = standard output, NULL = none */
    bool quiet;
};

/* Returns -1 to go on, else the exit code (0 after --help, 2 after a wrong argument, which is explained on stderr). */
int options_parse(struct options *options, int argc, char **argv);

#endif
