/* forged migrate: words and flags -> a verb of db/migrate.h. */
#include "db/migrate.h"
#include "app/admin.h"
#include "app/config.h"
#include "app/owner.h"
#include "app/settings.h"
#include "app/usage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HELP[] =
    "Usage: forged migrate <verb> [flags]\n"
    "\n"
    "  upgrade head            every revision that is not applied yet\n"
    "  upgrade +1              the next one; upgrade 3f6b up to that revision (its first digits will do)\n"
    "  upgrade head --sql      prints the script for that, from the base or from <revision>:head; touches no database\n"
    "  downgrade -1            the last one back; deletes its data. downgrade 3f6b back to that revision\n"
    "  downgrade base          everything back\n"
    "  current [--verbose]     the applied revision\n"
    "  history [--verbose]     all revisions, the newest first\n"
    "  stamp head              says that the database is there and runs nothing; also stamp 3f6b, stamp base\n"
    "  revision -m \"...\"       two files for a new revision; with --autogenerate a draft of what schema.sql wants\n"
    "  check                   compares schema.sql, the migrations and the database; exit code 1 when they differ\n"
    "\n"
    "Example: forged migrate upgrade head --migrations-folder migrations\n";

struct request {
    const struct app_config *config;
    const char *target; /* NULL without one */
};

static forge_code upgrade(const struct request *request, struct forge_error *error)
{
    const struct app_config *config = request->config;
    if (config->migrate_sql)
        return db_migrate_upgrade_script(config->migrations_folder, request->target, stdout, error);
    return db_migrate_upgrade(app_owner_url(config), config->migrations_folder, request->target, app_tell, NULL, error);
}

static forge_code downgrade(const struct request *request, struct forge_error *error)
{
    const struct app_config *config = request->config;
    return db_migrate_downgrade(app_owner_url(config), config->migrations_folder, request->target, app_tell, NULL, error);
}

static forge_code current(const struct request *request, struct forge_error *error)
{
    const struct app_config *config = request->config;
    return db_migrate_current(app_owner_url(config), config->migrations_folder, config->migrate_verbose, app_tell, NULL, error);
}

static forge_code history(const struct request *request, struct forge_error *error)
{
    return db_migrate_history(request->config->migrations_folder, request->config->migrate_verbose, app_tell, NULL, error);
}

static forge_code stamp(const struct request *request, struct forge_error *error)
{
    const struct app_config *config = request->config;
    return db_migrate_stamp(app_owner_url(config), config->migrations_folder, request->target, app_tell, NULL, error);
}

static forge_code check(const struct request *request, struct forge_error *error)
{
    const struct app_config *config = request->config;
    return db_migrate_check(app_owner_url(config), config->database_scratch_url, config->migrations_folder, app_tell, NULL, error);
}

static forge_code revision(const struct request *request, struct forge_error *error)
{
    const struct app_config *config = request->config;
    const struct db_migrate_revision made = {
        .folder = config->migrations_folder,
        .message = config->migrate_message,
        .autogenerate = config->migrate_autogenerate,
        .scratch_url = config->database_scratch_url != NULL ? config->database_scratch_url : app_owner_url(config),
        .diff_command = config->schema_diff_command,
    };
    forge_code rc = made.autogenerate && made.scratch_url == NULL ? app_require_owner_url(config, error) : FORGE_OK;
    return rc == FORGE_OK ? db_migrate_revision(&made, app_tell, NULL, error) : rc;
}

enum { VERBOSE = 1, SQL = 2, MESSAGE = 4, AUTOGENERATE = 8 };

static const struct verb {
    const char *name;
    forge_code (*run)(const struct request *request, struct forge_error *error);
    bool has_target;
    bool needs_database;
    unsigned flags; /* that it takes */
} VERBS[] = {
    {"upgrade", upgrade, true, true, SQL},
    {"downgrade", downgrade, true, true, 0},
    {"current", current, false, true, VERBOSE},
    {"history", history, false, false, VERBOSE},
    {"stamp", stamp, true, true, 0},
    {"revision", revision, false, false, MESSAGE | AUTOGENERATE},
    {"check", check, false, true, 0},
};

static const struct verb *find_verb(const struct app_words *words)
{
    for (size_t i = 0; words->count > 0 && i < sizeof VERBS / sizeof VERBS[0]; i++)
        if (strcmp(VERBS[i].name, words->words[0]) == 0)
            return words->count == (VERBS[i].has_target ? 2 : 1) ? &VERBS[i] : NULL;
    return NULL;
}

static forge_code check_flags(const struct verb *verb, const struct app_config *config, struct forge_error *error)
{
    const struct {
        unsigned flag;
        bool given;
        const char *name;
    } given[] = {{VERBOSE, config->migrate_verbose, "--verbose"},
                 {SQL, config->migrate_sql, "--sql"},
                 {MESSAGE, config->migrate_message != NULL, "--message"},
                 {AUTOGENERATE, config->migrate_autogenerate, "--autogenerate"}};
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++)
        if (given[i].given && (verb->flags & given[i].flag) == 0)
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "migrate %s does not take %s; see --help", verb->name, given[i].name);
    if (verb->needs_database && !config->migrate_sql)
        return app_require_owner_url(config, error);
    return FORGE_OK;
}

int app_migrate(int argument_count, char *const arguments[])
{
    struct app_config config;
    struct app_words words;
    struct forge_error error = {0};
    if (argument_count == 0 || app_usage_is_asked(argument_count, arguments))
        return app_usage_print(APP_MIGRATE, HELP);
    forge_code rc = app_config_load(APP_MIGRATE, argument_count, arguments, &config, &words, &error);
    if (rc != FORGE_OK)
        return app_usage_fail(&error);
    const struct verb *verb = find_verb(&words);
    if (verb == NULL) {
        fputs(HELP, stderr);
        app_config_done(&config);
        return APP_EXIT_USAGE;
    }
    const struct request request = {&config, words.count == 2 ? words.words[1] : NULL};
    rc = check_flags(verb, &config, &error);
    if (rc == FORGE_OK)
        rc = verb->run(&request, &error);
    app_config_done(&config);
    return rc == FORGE_OK ? APP_EXIT_OK : app_usage_fail(&error);
}
