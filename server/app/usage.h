/* Help texts and exit codes of forged's command line. */
#ifndef SERVER_APP_USAGE_H
#define SERVER_APP_USAGE_H

#include "app/config.h"
#include "wire/status.h"

#include <stdbool.h>

enum { APP_EXIT_OK = 0, APP_EXIT_FAILED = 1, APP_EXIT_USAGE = 2 };

/* Is --help, -h or help among the words? */
bool app_usage_is_asked(int argument_count, char *const arguments[]);
/* Prints synopsis and examples, then the settings of the command. Returns APP_EXIT_OK. */
int app_usage_print(enum app_command command, const char *text);
/* "forged: <message>" on standard error. Returns APP_EXIT_FAILED. */
int app_usage_fail(const struct forge_error *error);

#endif
