/* forged: the server, and the few commands that prepare its database. */
#include "app/admin.h"
#include "app/maintain.h"
#include "app/rewrap.h"
#include "app/serve.h"
#include "app/usage.h"

#include <stdio.h>
#include <string.h>

static const char HELP[] = "Usage: forged <command> [flags]\n"
                           "\n"
                           "  serve               answer calls over TLS\n"
                           "  migrate             bring the database's schema to a revision: upgrade, check, ...\n"
                           "  bootstrap roles     make database roles, database and key-encryption key\n"
                           "  bootstrap token     print an operator token, to create the first organization with\n"
                           "  maintain            make a pass of upkeep: partitions, old rows, deleted projects\n"
                           "  maintain archive-executions, maintain restore-executions\n"
                           "                      move old executions to compressed files, and back\n"
                           "  rewrap              seal stored secrets anew after the key-encryption key was changed\n"
                           "  help, --version\n"
                           "\n"
                           "forged <command> --help tells flags and settings.\n"
                           "Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong command line.\n"
                           "\n"
                           "Example, in this order on a new machine:\n"
                           "  forged bootstrap roles --database-superuser-url postgresql://postgres@localhost/postgres\n"
                           "  forged migrate upgrade head\n"
                           "  forged bootstrap token\n"
                           "  forged serve --tls-certificate-file server.pem --tls-key-file server.key\n";

static const struct {
    const char *name;
    int (*run)(int argument_count, char *const arguments[]);
} COMMANDS[] = {
    {"serve", app_serve}, {"migrate", app_migrate}, {"bootstrap", app_bootstrap}, {"maintain", app_maintain}, {"rewrap", app_rewrap}};

int main(int argc, char *argv[])
{
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        puts("forged " FORGE_VERSION);
        return APP_EXIT_OK;
    }
    for (size_t i = 0; argc >= 2 && i < sizeof COMMANDS / sizeof COMMANDS[0]; i++) {
        if (strcmp(argv[1], COMMANDS[i].name) == 0)
            return COMMANDS[i].run(argc - 2, argv + 2);
    }
    bool asked = argc >= 2 && app_usage_is_asked(1, argv + 1);
    if (argc >= 2 && !asked)
        fprintf(stderr, "forged: unknown command \"%.64s\"\n\n", argv[1]);
    fputs(HELP, asked ? stdout : stderr);
    return asked ? APP_EXIT_OK : APP_EXIT_USAGE;
}
