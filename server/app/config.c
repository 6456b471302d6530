#include "app/config.h"

#include "app/settings.h"
#include "base/log.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES_MAX = 8192, FLAG_MAX = 64, PATH_SHOWN_MAX = 160 };
static const char DEFAULT_ENV_FILE[] = ".env";

struct unit {
    const char *suffix;
    uint64_t factor;
};
static const struct unit SIZE_UNITS[] = {{"GiB", 1ull << 30}, {"MiB", 1ull << 20}, {"KiB", 1ull << 10}, {"", 1}, {NULL, 0}};
static const struct unit DURATION_UNITS[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0}};
static const struct unit AGE_UNITS[] = {{"d", 24}, {"h", 1}, {NULL, 0}};
static const struct unit NUMBER_UNITS[] = {{"", 1}, {NULL, 0}};

static void flag_of(const struct app_setting *setting, char out[FLAG_MAX])
{
    snprintf(out, FLAG_MAX, "--%s", setting->name);
    for (char *c = out; *c != '\0'; c++)
        *c = *c == '_' ? '-' : *c;
}

static const struct unit *units_of(enum app_setting_type type)
{
    switch (type) {
    case APP_SIZE:
        return SIZE_UNITS;
    case APP_DURATION:
        return DURATION_UNITS;
    case APP_AGE:
        return AGE_UNITS;
    case APP_NUMBER:
    case APP_TEXT:
    case APP_SWITCH:
    case APP_FLAG:
    case APP_CHOICE:
        return NUMBER_UNITS;
    }
    return NUMBER_UNITS;
}

/* "4MiB", "250ms", "7443"; false for anything else, an overflow included. */
static bool parse_amount(const char *text, const struct unit *units, uint64_t *out)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    unsigned long long amount = strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    for (const struct unit *unit = units; unit->suffix != NULL; unit++) {
        uint64_t product;
        if (strcmp(end, unit->suffix) == 0 && !__builtin_mul_overflow(amount, unit->factor, &product)) {
            *out = product;
            return true;
        }
    }
    return false;
}

/* The shortest exact spelling: 65536 as 64KiB, 90000 as 90s. Zero keeps the smallest unit. */
static void format_amount(uint64_t amount, const struct unit *units, char *out, size_t size)
{
    for (const struct unit *unit = units; unit->suffix != NULL; unit++) {
        if ((amount % unit->factor == 0 && amount >= unit->factor) || unit->factor == 1) {
            snprintf(out, size, "%" PRIu64 "%s", amount / unit->factor, unit->suffix);
            return;
        }
    }
}

static void describe_range(const struct app_setting *setting, char *out, size_t size)
{
    char low[32], high[32];
    size_t len = 0;
    switch (setting->type) {
    case APP_NUMBER:
    case APP_SIZE:
    case APP_DURATION:
    case APP_AGE:
        format_amount(setting->min, units_of(setting->type), low, sizeof low);
        format_amount(setting->max, units_of(setting->type), high, sizeof high);
        snprintf(out, size, "%s to %s%s", low, high,
                 setting->type == APP_SIZE       ? " (bytes, or with KiB, MiB, GiB)"
                 : setting->type == APP_DURATION ? " (with ms, s, m or h)"
                 : setting->type == APP_AGE      ? " (with h or d)"
                                                 : "");
        return;
    case APP_SWITCH:
    case APP_FLAG:
        snprintf(out, size, "true or false");
        return;
    case APP_CHOICE:
        out[0] = '\0';
        for (int i = 0; setting->choices[i] != NULL && len < size; i++)
            len += (size_t)snprintf(out + len, size - len, "%s%s",
                                    i == 0                            ? ""
                                    : setting->choices[i + 1] == NULL ? " or "
                                                                      : ", ",
                                    setting->choices[i]);
        return;
    case APP_TEXT:
        snprintf(out, size, "text of at most %" PRIu64 " bytes", setting->max);
        return;
    }
}

static forge_code refuse(const struct app_setting *setting, const char *value, const char *source, struct forge_error *error)
{
    char range[256];
    describe_range(setting, range, sizeof range);
    if (setting->secret)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s (from %s): allowed is %s", setting->name, source, range);
    return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s: \"%.64s\" (from %s) is not allowed: it must be %s", setting->name, value,
                           source, range);
}

static void *field_of(const struct app_setting *setting, struct app_config *config)
{
    return (char *)config + setting->offset;
}

static const void *field_of_const(const struct app_setting *setting, const struct app_config *config)
{
    return (const char *)config + setting->offset;
}

static forge_code assign_text(const struct app_setting *setting, const char *value, const char *source, char **field,
                              struct forge_error *error)
{
    if (strlen(value) > setting->max)
        return refuse(setting, value, source, error);
    char *copy = *value != '\0' ? strdup(value) : NULL;
    if (*value != '\0' && copy == NULL)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the settings");
    free(*field);
    *field = copy;
    return FORGE_OK;
}

static forge_code assign_amount(const struct app_setting *setting, const char *value, const char *source, void *field,
                                struct forge_error *error)
{
    uint64_t amount;
    if (!parse_amount(value, units_of(setting->type), &amount) || amount < setting->min || amount > setting->max)
        return refuse(setting, value, source, error);
    if (setting->type == APP_SIZE)
        *(size_t *)field = (size_t)amount;
    else
        *(unsigned *)field = (unsigned)amount;
    return FORGE_OK;
}

static forge_code assign_word(const struct app_setting *setting, const char *value, const char *source, void *field,
                              struct forge_error *error)
{
    static const char *const SWITCH[] = {"false", "true", NULL};
    const char *const *words = setting->type == APP_CHOICE ? setting->choices : SWITCH;
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(value, words[i]) != 0)
            continue;
        if (setting->type == APP_CHOICE)
            *(int *)field = i;
        else
            *(bool *)field = i == 1;
        return FORGE_OK;
    }
    return refuse(setting, value, source, error);
}

static forge_code assign(const struct app_setting *setting, const char *value, const char *source, struct app_config *config,
                         struct forge_error *error)
{
    void *field = field_of(setting, config);
    if (*value == '\0')
        value = setting->default_value;
    switch (setting->type) {
    case APP_TEXT:
        return assign_text(setting, value, source, field, error);
    case APP_NUMBER:
    case APP_SIZE:
    case APP_DURATION:
    case APP_AGE:
        return assign_amount(setting, value, source, field, error);
    case APP_SWITCH:
    case APP_FLAG:
    case APP_CHOICE:
        return assign_word(setting, value, source, field, error);
    }
    return FORGE_INTERNAL;
}

static const struct app_setting *find_by_variable(const char *variable)
{
    const struct app_setting *setting = app_settings;
    while (setting->name != NULL && (setting->variable == NULL || strcmp(setting->variable, variable) != 0))
        setting++;
    return setting->name != NULL ? setting : NULL;
}

/* The row of "--listen-port", "--listen-port=..." or "-v" for this command. */
static const struct app_setting *find_by_flag(const char *argument, enum app_command command)
{
    size_t len = strcspn(argument, "=");
    for (const struct app_setting *setting = app_settings; setting->name != NULL; setting++) {
        char flag[FLAG_MAX];
        flag_of(setting, flag);
        bool is_letter = setting->letter != '\0' && argument[1] == setting->letter && argument[2] == '\0';
        bool is_name = strlen(flag) == len && strncmp(argument, flag, len) == 0;
        if ((setting->commands & command) != 0 && (is_letter || is_name))
            return setting;
    }
    return NULL;
}

/* Takes the flag at arguments[*index] and its value, which may be the next argument: *index then moves there. */
static forge_code read_flag(const struct app_setting *setting, int count, char *const arguments[], int *index, struct app_config *config,
                            struct forge_error *error)
{
    char flag[FLAG_MAX];
    const char *value = strchr(arguments[*index], '=');
    flag_of(setting, flag);
    if (setting->type == APP_FLAG)
        return value == NULL ? assign(setting, "true", flag, config, error)
                             : forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s takes no value", flag);
    if (value == NULL && *index + 1 == count)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s needs a value", arguments[*index]);
    return assign(setting, value != NULL ? value + 1 : arguments[++*index], flag, config, error);
}

static forge_code read_flags(enum app_command command, int count, char *const arguments[], struct app_config *config,
                             struct app_words *words, struct forge_error *error)
{
    words->count = 0;
    for (int i = 0; i < count; i++) {
        const char *argument = arguments[i];
        if (argument[0] != '-' || isdigit((unsigned char)argument[1])) { /* "-1" is a word: migrate downgrade takes it */
            if (words->count == APP_WORDS_MAX)
                return forge_error_set(error, FORGE_INVALID_ARGUMENT, "unexpected word \"%.64s\"; see --help", argument);
            words->words[words->count++] = argument;
            continue;
        }
        const struct app_setting *setting = find_by_flag(argument, command);
        if (setting == NULL)
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "unknown flag %.100s; see --help", argument);
        forge_code rc = read_flag(setting, count, arguments, &i, config, error);
        if (rc != FORGE_OK)
            return rc;
    }
    return FORGE_OK;
}

static forge_code read_environment(enum app_command command, struct app_config *config, struct forge_error *error)
{
    forge_code rc = FORGE_OK;
    for (const struct app_setting *setting = app_settings; setting->name != NULL && rc == FORGE_OK; setting++) {
        const char *value = (setting->commands & command) != 0 && setting->variable != NULL ? getenv(setting->variable) : NULL;
        if (value != NULL)
            rc = assign(setting, value, setting->variable, config, error);
    }
    return rc;
}

bool app_config_parse_line(char *line, char **out_name, char **out_value, bool *out_malformed)
{
    *out_malformed = false;
    line += strspn(line, " \t");
    line[strcspn(line, "\r\n")] = '\0';
    if (*line == '\0' || *line == '#')
        return false;
    if (strncmp(line, "export ", 7) == 0)
        line += 7;
    size_t name_len = strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
    if (name_len == 0 || line[name_len] != '=') {
        *out_malformed = true;
        return false;
    }
    line[name_len] = '\0';
    char *value = line + name_len + 1;
    size_t len = strlen(value);
    while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
        value[--len] = '\0';
    if (len >= 2 && (value[0] == '"' || value[0] == '\'') && value[len - 1] == value[0]) {
        value[len - 1] = '\0';
        value++;
    }
    *out_name = line;
    *out_value = value;
    return true;
}

static forge_code read_line(enum app_command command, const char *source, char *line, struct app_config *config, struct forge_error *error)
{
    char *name, *value;
    bool malformed;
    if (!app_config_parse_line(line, &name, &value, &malformed))
        return malformed ? forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s is not VARIABLE=value", source) : FORGE_OK;
    const struct app_setting *setting = find_by_variable(name);
    if (setting != NULL && (setting->commands & command) != 0)
        return assign(setting, value, source, config, error);
    return FORGE_OK; /* the file is shared with other programs */
}

static forge_code read_file(enum app_command command, const char *path, bool optional, struct app_config *config, struct forge_error *error)
{
    FILE *file = fopen(path, "re");
    if (file == NULL && errno == ENOENT && optional)
        return FORGE_OK;
    if (file == NULL)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "env_file: cannot read %s: %s", path, strerror(errno));
    char line[LINE_BYTES_MAX], source[PATH_SHOWN_MAX + 32];
    forge_code rc = FORGE_OK;
    for (unsigned number = 1; rc == FORGE_OK && fgets(line, sizeof line, file) != NULL; number++) {
        snprintf(source, sizeof source, "%.*s line %u", PATH_SHOWN_MAX, path, number);
        if (strlen(line) == sizeof line - 1)
            rc = forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s is longer than %d bytes", source, LINE_BYTES_MAX - 2);
        else
            rc = read_line(command, source, line, config, error);
    }
    if (rc == FORGE_OK && ferror(file))
        rc = forge_error_set(error, FORGE_INVALID_ARGUMENT, "env_file: cannot read %s: %s", path, strerror(errno));
    fclose(file);
    return rc;
}

static forge_code set_defaults(struct app_config *config, struct forge_error *error)
{
    forge_code rc = FORGE_OK;
    for (const struct app_setting *setting = app_settings; setting->name != NULL && rc == FORGE_OK; setting++)
        rc = assign(setting, setting->default_value, "the default", config, error);
    return rc;
}

static forge_code check_required(enum app_command command, const struct app_config *config, struct forge_error *error)
{
    for (const struct app_setting *setting = app_settings; setting->name != NULL; setting++) {
        char flag[FLAG_MAX];
        if ((setting->required & command) == 0 || *(char *const *)field_of_const(setting, config) != NULL)
            continue;
        flag_of(setting, flag);
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s is not set: give %s, or %s in the environment or in %s", setting->name,
                               flag, setting->variable, config->env_file != NULL ? config->env_file : DEFAULT_ENV_FILE);
    }
    return FORGE_OK;
}

forge_code app_config_load(enum app_command command, int argument_count, char *const arguments[], struct app_config *out,
                           struct app_words *out_words, struct forge_error *error)
{
    struct app_config config = {0};
    forge_code rc = set_defaults(&config, error);
    for (int pass = 0; pass < 2 && rc == FORGE_OK; pass++) { /* the first finds out which file the second begins with */
        if (pass == 1)
            rc = read_file(command, config.env_file != NULL ? config.env_file : DEFAULT_ENV_FILE,
                           config.env_file == NULL || command == APP_BOOTSTRAP_ROLES /* which makes it */, &config, error);
        if (rc == FORGE_OK)
            rc = read_environment(command, &config, error);
        if (rc == FORGE_OK)
            rc = read_flags(command, argument_count, arguments, &config, out_words, error);
    }
    if (rc == FORGE_OK)
        rc = check_required(command, &config, error);
    if (rc == FORGE_OK)
        rc = app_settings_check(&config, error);
    if (rc == FORGE_OK)
        *out = config;
    else
        app_config_done(&config);
    return rc;
}

void app_config_done(struct app_config *config)
{
    for (const struct app_setting *setting = app_settings; setting->name != NULL; setting++) {
        if (setting->type == APP_TEXT) {
            char **field = field_of(setting, config);
            free(*field);
            *field = NULL;
        }
    }
}

static size_t field_size(enum app_setting_type type)
{
    switch (type) {
    case APP_TEXT:
        return sizeof(char *);
    case APP_SIZE:
        return sizeof(size_t);
    case APP_NUMBER:
    case APP_DURATION:
    case APP_AGE:
        return sizeof(unsigned);
    case APP_SWITCH:
    case APP_FLAG:
        return sizeof(bool);
    case APP_CHOICE:
        return sizeof(int);
    }
    return 0;
}

static bool is_same(const struct app_setting *setting, const struct app_config *a, const struct app_config *b)
{
    const void *left = field_of_const(setting, a), *right = field_of_const(setting, b);
    if (setting->type != APP_TEXT)
        return memcmp(left, right, field_size(setting->type)) == 0;
    const char *x = *(char *const *)left, *y = *(char *const *)right;
    return x == y || (x != NULL && y != NULL && strcmp(x, y) == 0);
}

void app_config_reload(struct app_config *config, struct app_config *fresh)
{
    for (const struct app_setting *setting = app_settings; setting->name != NULL; setting++) {
        if (is_same(setting, config, fresh))
            continue;
        if (!setting->reloadable) {
            base_log(BASE_LOG_WARNING, "setting changed, restart to use it", base_log_text("setting", setting->name));
            continue;
        }
        base_log(BASE_LOG_INFO, "setting changed", base_log_text("setting", setting->name));
        char swap[sizeof(void *)];
        memcpy(swap, field_of(setting, config), field_size(setting->type));
        memcpy(field_of(setting, config), field_of(setting, fresh), field_size(setting->type));
        memcpy(field_of(setting, fresh), swap, field_size(setting->type));
    }
}

/* "  -v, --verbose" and what it means. */
static void print_flag(const struct app_setting *setting)
{
    char flag[FLAG_MAX];
    flag_of(setting, flag);
    if (setting->letter != '\0')
        printf("  -%c, %s\n      %s\n", setting->letter, flag, setting->help);
    else
        printf("  %s\n      %s\n", flag, setting->help);
}

static void print_setting(const struct app_setting *setting, enum app_command command)
{
    char flag[FLAG_MAX], range[256];
    flag_of(setting, flag);
    describe_range(setting, range, sizeof range);
    printf("  %s, %s\n      %s\n      Allowed: %s.%s%s%s%s\n", flag, setting->variable, setting->help, range,
           *setting->default_value != '\0' ? " Default: " : "", setting->default_value, *setting->default_value != '\0' ? "." : "",
           (setting->required & command) != 0 ? " Required."
           : setting->reloadable              ? " Read again at SIGHUP."
                                              : "");
}

void app_config_print_help(enum app_command command)
{
    bool titled = false;
    for (const struct app_setting *setting = app_settings; setting->name != NULL; setting++) {
        if ((setting->commands & command) == 0 || setting->variable != NULL)
            continue;
        if (!titled)
            puts("Flags:");
        titled = true;
        print_flag(setting);
    }
    printf("%sSettings (a flag wins over the environment, that over the file %s, that over the default):\n", titled ? "\n" : "",
           DEFAULT_ENV_FILE);
    for (const struct app_setting *setting = app_settings; setting->name != NULL; setting++)
        if ((setting->commands & command) != 0 && setting->variable != NULL)
            print_setting(setting, command);
}
