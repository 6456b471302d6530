/* health and ping. */
#include "output.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WATCH_MS = 30000, WATCH_TIMEOUT_MS = 40000, PAUSE_MS = 500 };

static const struct output_column health_columns[] = {
    {"Status", "status"}, {"Reason", "reason"}, {"Server time", "server_time"}, {NULL, NULL}};

static int exit_code(const Forge__V1__CheckHealthResponse *health)
{
    return health->status == FORGE__V1__SERVING_STATUS__SERVING_STATUS_SERVING ? CLI_OK : CLI_STATUS + (int)FORGE_UNAVAILABLE;
}

static int check_once(struct cli *cli, const Forge__V1__CheckHealthRequest *request)
{
    ProtobufCMessage *reply;
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_CONTROL_CHECK_HEALTH], &request->base, &reply);
    if (code != CLI_OK)
        return code;
    const Forge__V1__CheckHealthResponse *health = (const Forge__V1__CheckHealthResponse *)reply;
    code = output_resource(cli, reply, health_columns, "status");
    if (code == CLI_OK)
        code = exit_code(health);
    cli_free(reply);
    return code;
}

static void print_change(struct cli *cli, const char *status, const char *reason)
{
    char clock[16];
    time_t now = time(NULL);
    struct tm parts;
    strftime(clock, sizeof clock, "%H:%M:%S", localtime_r(&now, &parts));
    if (cli->format == CLI_FORMAT_TABLE)
        printf("%s  %s%s%s\n", clock, status, *reason ? ": " : "", reason);
    else
        printf("%s\n", status);
    fflush(stdout);
}

/* Prints each change until the program is interrupted; a server that is away is a change too. */
static int watch(struct cli *cli, Forge__V1__CheckHealthRequest *request)
{
    bool was_away = false;
    for (;;) {
        ProtobufCMessage *reply = NULL;
        struct forge_error error;
        struct forge_reply_info info;
        request->wait_ms = WATCH_MS;
        forge_code code =
            cli_try_call(cli, &forge_methods[FORGE_METHOD_CONTROL_CHECK_HEALTH], &request->base, WATCH_TIMEOUT_MS, &reply, &error, &info);
        if (code == FORGE_UNAVAILABLE || code == FORGE_DEADLINE_EXCEEDED) {
            if (!was_away)
                print_change(cli, "unreachable", error.message);
            was_away = true;
            request->last_known_status = FORGE__V1__SERVING_STATUS__SERVING_STATUS_UNSPECIFIED;
            forge_error_free(&error);
            usleep(PAUSE_MS * 1000);
            continue;
        }
        if (code != FORGE_OK)
            return cli_print_error(&error, &info);
        const Forge__V1__CheckHealthResponse *health = (const Forge__V1__CheckHealthResponse *)reply;
        bool is_same = health->status == request->last_known_status && !was_away;
        if (!is_same)
            print_change(cli, output_field_text(cli, reply, "status"), health->reason);
        if (is_same && exit_code(health) != CLI_OK)
            usleep(PAUSE_MS * 1000); /* a draining server answers at once */
        was_away = false;
        request->last_known_status = health->status;
        cli_free(reply);
    }
}

/* Until it serves, at most --timeout. */
static int wait_until_serving(struct cli *cli, const Forge__V1__CheckHealthRequest *request)
{
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (;;) {
        ProtobufCMessage *reply = NULL;
        struct forge_error error;
        struct forge_reply_info info;
        forge_code code =
            cli_try_call(cli, &forge_methods[FORGE_METHOD_CONTROL_CHECK_HEALTH], &request->base, cli->timeout_ms, &reply, &error, &info);
        bool is_serving = code == FORGE_OK && exit_code((const Forge__V1__CheckHealthResponse *)reply) == CLI_OK;
        int result = is_serving ? output_resource(cli, reply, health_columns, "status") : CLI_OK;
        clock_gettime(CLOCK_MONOTONIC, &now);
        bool is_over = (now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 >= (long)cli->timeout_ms;
        if (!is_serving && is_over)
            result = code == FORGE_OK ? cli_fail(CLI_STATUS + (int)FORGE_UNAVAILABLE, "not serving: %s",
                                                 ((const Forge__V1__CheckHealthResponse *)reply)->reason)
                                      : cli_print_error(&error, &info);
        else if (code != FORGE_OK)
            forge_error_free(&error);
        cli_free(reply);
        if (is_serving || is_over)
            return result;
        usleep(PAUSE_MS * 1000 / 5);
    }
}

int command_health(struct cli *cli)
{
    Forge__V1__CheckHealthRequest request = FORGE__V1__CHECK_HEALTH_REQUEST__INIT;
    if (cli->positional_count)
        request.service = forge_arena_strdup(&cli->arena, cli->positionals[0]);
    if (!cli_option(cli, "watch") && !cli_option(cli, "wait"))
        return check_once(cli, &request);
    int code = cli_connect_as(cli, NULL);
    if (code != CLI_OK)
        return code;
    return cli_option(cli, "watch") ? watch(cli, &request) : wait_until_serving(cli, &request);
}

int command_ping(struct cli *cli)
{
    Forge__V1__PingRequest request = FORGE__V1__PING_REQUEST__INIT;
    ProtobufCMessage *reply;
    struct timespec begin, end;
    long count;
    if (!cli_option_number(cli, "count", 1, 1000000, 1, &count))
        return CLI_USAGE;
    for (long i = 0; i < count; i++) {
        clock_gettime(CLOCK_MONOTONIC, &begin);
        int code = cli_call(cli, &forge_methods[FORGE_METHOD_CONTROL_PING], &request.base, &reply);
        if (code != CLI_OK)
            return code;
        clock_gettime(CLOCK_MONOTONIC, &end);
        cli_free(reply);
        double us = (double)(end.tv_sec - begin.tv_sec) * 1e6 + (double)(end.tv_nsec - begin.tv_nsec) / 1e3;
        printf("%.0f us\n", us);
    }
    return CLI_OK;
}
