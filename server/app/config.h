/* Settings of forged: one row each in settings.c. A flag wins over the environment, that over the file, that over the default.
 *
 * Flag and name are one word in two spellings: setting listen_port is --listen-port. What only one run of a command means, such as
 * --verbose, is a row without a variable. The file (--env-file, by default .env of the
 * working directory when it is there) has lines VARIABLE=value with the names of the environment. An empty value means the default. */
#ifndef SERVER_APP_CONFIG_H
#define SERVER_APP_CONFIG_H

#include "wire/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct app_config; /* app/settings.h */

/* Commands, as bits: which of them take a setting. */
enum app_command {
    APP_SERVE = 1,
    APP_MIGRATE = 2,
    APP_BOOTSTRAP_ROLES = 4,
    APP_BOOTSTRAP_TOKEN = 8,
    APP_MAINTAIN = 16,
    APP_REWRAP = 32,
    APP_ARCHIVE = 64,
    APP_RESTORE = 128
};

enum app_setting_type {
    APP_TEXT,     /* char *, NULL when not set */
    APP_NUMBER,   /* unsigned */
    APP_SIZE,     /* size_t: bytes, or with KiB, MiB, GiB */
    APP_DURATION, /* unsigned milliseconds: written with ms, s, m or h */
    APP_AGE,      /* unsigned hours: written with h or d */
    APP_SWITCH,   /* bool: true or false */
    APP_FLAG,     /* bool: true when the flag is there, which takes no value */
    APP_CHOICE    /* int: index into choices */
};

struct app_setting {
    const char *name;     /* listen_port */
    const char *variable; /* FORGE_LISTEN_PORT; NULL = on the command line only */
    char letter;          /* -v for --verbose; 0 = none */
    enum app_setting_type type;
    size_t offset;             /* of the field in struct app_config */
    const char *default_value; /* as it would be written; "" = not set */
    uint64_t min, max;         /* numbers, bytes, milliseconds */
    const char *const *choices;
    unsigned commands; /* enum app_command bits: who takes it */
    unsigned required; /* enum app_command bits: who cannot do without it (texts only) */
    bool reloadable;   /* SIGHUP takes the new value */
    bool secret;       /* the value is never shown */
    const char *help;  /* one sentence */
};
/* The table; its last row has no name. */
extern const struct app_setting app_settings[];
/* What no single row can say: settings that contradict each other. INVALID_ARGUMENT names both. */
forge_code app_settings_check(const struct app_config *config, struct forge_error *error) FORGE_MUST_CHECK;

/* Arguments that are no flags and no values of one, in order. */
enum { APP_WORDS_MAX = 1024 }; /* files of restore-executions */
struct app_words {
    const char *words[APP_WORDS_MAX];
    int count;
};

/* Reads everything for a command. arguments: after the command's name. INVALID_ARGUMENT names setting, value, where it came from and what
 * is allowed. On success the caller owns out's texts (app_config_done); untouched on failure. Blocks for the file. */
forge_code app_config_load(enum app_command command, int argument_count, char *const arguments[], struct app_config *out,
                           struct app_words *out_words, struct forge_error *error) FORGE_MUST_CHECK;
void app_config_done(struct app_config *config);

/* Takes over the reloadable rows of fresh into config and logs each change; logs a warning for every other row that differs. */
void app_config_reload(struct app_config *config, struct app_config *fresh);

/* Lists the rows that a command takes, for its --help, on standard output. */
void app_config_print_help(enum app_command command);

/* One line of a .env file, changed in place: name and value without quotes and spaces around it. False for an empty line, a comment, or
 * a malformed one. */
bool app_config_parse_line(char *line, char **out_name, char **out_value, bool *out_malformed);

#endif
