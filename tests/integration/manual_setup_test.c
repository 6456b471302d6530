/* README.md, section "Manual set-up": its commands, as they stand there, on a PostgreSQL of their own. */
#include "support/forged_child.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { TEXT_SIZE = 1 << 16 };

static struct pg_cluster *cluster;
static char folder[256];

static int start(void **state)
{
    cluster = pg_cluster_new(NULL);
    snprintf(folder, sizeof folder, "%s/forge-manual-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int end(void **state)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    pg_cluster_free(cluster);
    return system(command);
}

/* The lines of the section's code block, without their indent. */
static void read_commands(char *out, size_t size)
{
    char path[512], line[1024];
    bool in_section = false;
    size_t length = 0;
    snprintf(path, sizeof path, "%s/README.md", getenv("FORGE_SOURCE_DIR"));
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "## ", 3) == 0)
            in_section = strcmp(line, "## Manual set-up\n") == 0;
        if (in_section && strncmp(line, "    ", 4) == 0)
            length += (size_t)snprintf(out + length, size - length, "%s", line + 4);
    }
    fclose(file);
    assert_true(length < size);
}

/* A free port of 127.0.0.1. */
static unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 && getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    close(fd);
    return ntohs(address.sin_port);
}

/* In a folder that is laid out as a built clone. Only ports differ from what a reader has: libpq takes PGPORT, forged and forgectl theirs.
 */
static void run_as_reader(const char *commands, struct child_output *out)
{
    static char script[TEXT_SIZE + 1024];
    char postgres[32], listen_port[48], http_port[48], server[64], home[512];
    unsigned port = free_port();
    snprintf(script, sizeof script,
             "set -euo pipefail; trap '[[ -z ${!:-} ]] || kill $!' EXIT\n"
             "mkdir -p build/release; ln -s '%s'/{deploy,migrations,seeds} .; ln -s '%s/bin' build/release/\n%s"
             "trap - EXIT; kill $!; wait $!\n", /* forged ends with 0 */
             getenv("FORGE_SOURCE_DIR"), getenv("FORGE_BINARY_DIR"), commands);
    snprintf(postgres, sizeof postgres, "PGPORT=%u", pg_cluster_port(cluster));
    snprintf(listen_port, sizeof listen_port, "FORGE_LISTEN_PORT=%u", port);
    snprintf(http_port, sizeof http_port, "FORGE_HTTP_PORT=0");
    snprintf(server, sizeof server, "FORGE_SERVER=localhost:%u", port);
    snprintf(home, sizeof home, "XDG_CONFIG_HOME=%s/config", folder);
    const char *const words[] = {"-c", script, NULL}, *const environment[] = {postgres, listen_port, http_port, server, home, NULL};
    child_run("/bin/bash", words, environment, folder, out);
}

static void test_the_commands_make_a_home(void **state)
{
    static const char *const steps[] = {"createdb ",     "forged bootstrap roles ", "forged migrate upgrade head",
                                        "forged serve ", "bootstrap token",         "forgectl apply -f seeds/"};
    static char commands[TEXT_SIZE];
    struct child_output output;
    read_commands(commands, sizeof commands);
    const char *at = commands;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        if (!(at = strstr(at, steps[i])))
            fail_msg("README.md, Manual set-up: no \"%s\" in its place in\n%s", steps[i], commands);
    }
    run_as_reader(commands, &output);
    if (output.exit_code || !strstr(output.out, "\nready\n") || !strstr(output.out, "ticket-reply"))
        fail_msg("the commands of README.md, Manual set-up, ended with %d:\n%s%s", output.exit_code, output.out, output.err);
    child_output_done(&output);
    assert_string_equal(pg_cluster_query(cluster, "postgres", "promptforge", "SELECT count(*) FROM organization_names"), "1");
}

/* Why the database must belong to the role that migrates. */
static void test_granting_all_on_the_database_is_not_enough(void **state)
{
    const char *database = pg_cluster_create_database(cluster, "postgres");
    char grant[256];
    snprintf(grant, sizeof grant, "CREATE ROLE granted LOGIN; GRANT ALL ON DATABASE %s TO granted", database);
    pg_cluster_execute(cluster, "postgres", database, grant);
    assert_string_equal(pg_cluster_try(cluster, "granted", database, "CREATE TABLE mine (id integer)"), "42501");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_commands_make_a_home),
        cmocka_unit_test(test_granting_all_on_the_database_is_not_enough),
    };
    return cmocka_run_group_tests(tests, start, end);
}
