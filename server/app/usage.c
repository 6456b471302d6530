#include "app/usage.h"

#include <stdio.h>
#include <string.h>

bool app_usage_is_asked(int argument_count, char *const arguments[])
{
    for (int i = 0; i < argument_count; i++) {
        if (strcmp(arguments[i], "--help") == 0 || strcmp(arguments[i], "-h") == 0 || strcmp(arguments[i], "help") == 0)
            return true;
    }
    return false;
}

int app_usage_print(enum app_command command, const char *text)
{
    fputs(text, stdout);
    fputc('\n', stdout);
    app_config_print_help(command);
    return APP_EXIT_OK;
}

int app_usage_fail(const struct forge_error *error)
{
    fprintf(stderr, "forged: %s\n", error->message);
    return APP_EXIT_FAILED;
}
