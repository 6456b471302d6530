/* forgeload: load-test harness for forged. See options.c for its interface and run.c for how it measures. */
#include "forge/forge.h"
#include "load/options.h"
#include "load/report.h"
#include "load/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_bool stop;

static void on_signal(int number)
{
    atomic_store(&stop, true);
}

static int write_json(const struct options *options, const struct run_result *result)
{
    FILE *out = strcmp(options->json_file, "-") == 0 ? stdout : fopen(options->json_file, "w");
    if (!out) {
        fprintf(stderr, "forgeload: cannot write %s: %s\n", options->json_file, strerror(errno));
        return 1;
    }
    report_json(out, options, result);
    if ((out == stdout ? fflush(out) : fclose(out)) != 0) {
        fprintf(stderr, "forgeload: cannot write %s: %s\n", options->json_file, strerror(errno));
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct options options;
    int exit_code = options_parse(&options, argc, argv);
    if (exit_code >= 0)
        return exit_code;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    struct run_result *result = calloc(1, sizeof *result);
    struct forge_error error = {0};
    if (!result)
        return 1;
    forge_code code = run_load(&options, &stop, result, &error);
    if (code != FORGE_OK) {
        fprintf(stderr, "forgeload: %s: %s\n", forge_code_name(code), error.message);
        forge_error_free(&error);
        free(result);
        return 1;
    }
    bool to_stdout = options.json_file && strcmp(options.json_file, "-") == 0;
    report_text(to_stdout ? stderr : stdout, &options, result);
    exit_code = options.json_file ? write_json(&options, result) : 0;
    if (histogram_count(&result->corrected) == 0) {
        fprintf(stderr, "forgeload: no call succeeded\n");
        exit_code = 1;
    }
    free(result);
    return exit_code;
}
