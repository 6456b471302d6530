#include "app/archive.h"

#include "app/config.h"
#include "app/owner.h"
#include "app/settings.h"
#include "app/usage.h"
#include "db/archive.h"
#include "wire/clock.h"

#include <inttypes.h>
#include <stdio.h>

static const char ARCHIVE_HELP[] =
    "Usage: forged maintain archive-executions [--older-than 90d] [--folder archives]\n"
    "\n"
    "Moves executions that are older than this from the database to files. They are in no list any more; statistics stay as they were.\n"
    "Each organization has a folder named by its id, with files executions-<day of the oldest>-<id>.jsonl.zst: a line of JSON with every\n"
    "column for each execution, compressed by zstd. SHA256SUMS beside them lists their hashes:\n"
    "\n"
    "  zstdcat executions-*.jsonl.zst            reads them\n"
    "  sha256sum --check SHA256SUMS              checks them\n"
    "\n"
    "It runs beside servers, from cron or a systemd timer, always with the same folder. Killed at any point it loses and doubles nothing;\n"
    "the next run goes on. Files hold what people wrote in notes and keep what is deleted later: guard them like the database.\n"
    "\n"
    "Example: forged maintain archive-executions --older-than 90d --folder /var/lib/promptforge/archives\n";

static const char RESTORE_HELP[] =
    "Usage: forged maintain restore-executions FILE...\n"
    "\n"
    "Puts the executions of files that archive-executions wrote back into this database, each file in one transaction, after its SHA-256 "
    "was\n"
    "compared with the one the database knows. Executions of prompts that were deleted since are skipped. A file that was restored\n"
    "before is left alone, so the command may be repeated. The files stay; what is restored is archived anew by the next\n"
    "archive-executions that finds it old enough.\n"
    "\n"
    "Example: forged maintain restore-executions /var/lib/promptforge/archives/*/executions-2026-03-*.jsonl.zst\n";

/* Progress is seen as it is made, in a pipe or a file too. */
static void tell_at_once(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
}

static forge_code archive(const struct app_config *config, struct forge_error *error)
{
    int64_t now_us = forge_clock_wall_us();
    const struct db_archive_config archive = {.url = config->database_maint_url,
                                              .now_us = now_us,
                                              .before_us = now_us - config->older_than_h * INT64_C(3600000000),
                                              .folder = config->archive_folder,
                                              .rows_per_file = config->rows_per_file,
                                              .tell = app_tell};
    struct db_archive_report report = {0};
    forge_code rc = db_archive_executions(&archive, &report, error);
    if (rc == FORGE_OK || report.files > 0)
        printf("Archived %" PRId64 " executions in %" PRId64 " files\n", report.executions, report.files);
    return rc;
}

int app_archive_executions(int argument_count, char *const arguments[])
{
    struct app_config config;
    struct app_words words;
    struct forge_error error = {0};
    if (app_usage_is_asked(argument_count, arguments))
        return app_usage_print(APP_ARCHIVE, ARCHIVE_HELP);
    forge_code rc = app_config_load(APP_ARCHIVE, argument_count, arguments, &config, &words, &error);
    if (rc != FORGE_OK)
        return app_usage_fail(&error);
    tell_at_once();
    if (words.count > 0)
        rc = forge_error_set(&error, FORGE_INVALID_ARGUMENT, "unexpected word \"%.64s\"", words.words[0]);
    else
        rc = archive(&config, &error);
    app_config_done(&config);
    return rc == FORGE_OK ? APP_EXIT_OK : app_usage_fail(&error);
}

static forge_code restore(const struct app_config *config, const struct app_words *words, struct forge_error *error)
{
    const struct db_restore_config restore = {
        .url = config->database_maint_url, .now_us = forge_clock_wall_us(), .paths = words->words, .count = words->count, .tell = app_tell};
    struct db_restore_report report = {0};
    forge_code rc = db_restore_executions(&restore, &report, error);
    if (rc == FORGE_OK || report.files > 0)
        printf("Restored %" PRId64 " executions of %" PRId64 " files, skipped %" PRId64 " of deleted prompts; %" PRId64
               " files were restored before\n",
               report.executions, report.files, report.skipped, report.restored);
    return rc;
}

int app_restore_executions(int argument_count, char *const arguments[])
{
    struct app_config config;
    struct app_words words;
    struct forge_error error = {0};
    if (app_usage_is_asked(argument_count, arguments))
        return app_usage_print(APP_RESTORE, RESTORE_HELP);
    forge_code rc = app_config_load(APP_RESTORE, argument_count, arguments, &config, &words, &error);
    if (rc != FORGE_OK)
        return app_usage_fail(&error);
    tell_at_once();
    if (words.count == 0)
        rc = forge_error_set(&error, FORGE_INVALID_ARGUMENT, "name the files to restore");
    else
        rc = restore(&config, &words, &error);
    app_config_done(&config);
    return rc == FORGE_OK ? APP_EXIT_OK : app_usage_fail(&error);
}
