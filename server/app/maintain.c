#include "app/maintain.h"

#include "app/archive.h"
#include "app/config.h"
#include "app/owner.h"
#include "app/usage.h"
#include "base/log.h"
#include "db/maintain.h"
#include "wire/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- the command ---- */

static const char HELP[] =
    "Usage: forged maintain\n"
    "       forged maintain archive-executions | restore-executions   (see --help of each)\n"
    "\n"
    "One pass of upkeep: makes the partitions of the days to come, deletes what nobody can ask for any more (changes older than 1 hour,\n"
    "stored replies older than 48 hours, expired sessions and operator tokens), removes organizations and projects that were deleted, and\n"
    "traces that are too old: those of projects that were given fewer days, and with trace_retention_days each day of spans beyond it,\n"
    "once it stands in files of trace_archive_folder.\n"
    "Servers that have DATABASE_MAINT_URL do it by themselves (maintenance_interval); without it run this every hour or so, from cron or "
    "a\n"
    "systemd timer, at any time. A pass that was killed is continued by the next one.\n"
    "\n"
    "Example: forged maintain --env-file /etc/promptforge/.env\n";

static void print_report(const struct db_maintain_report *report)
{
    if (!report->is_leader) {
        printf("Another maintenance pass is running: nothing to do\n");
        return;
    }
    printf("Deleted %" PRId64 " changes, %" PRId64 " stored replies, %" PRId64 " sessions, %" PRId64 " operator tokens, %" PRId64
           " login failures\n",
           report->changes, report->stored_replies, report->sessions, report->operator_tokens, report->login_failures);
    printf("Deleted %" PRId64 " traces with %" PRId64 " spans, archived %" PRId64 " spans in %" PRId64 " files\n", report->traces_deleted,
           report->spans_deleted, report->spans_archived, report->archive_files);
    printf("Made %" PRId64 " partitions, dropped %" PRId64 "\n", report->partitions_made, report->partitions_dropped);
    printf("Removed %" PRId64 " organizations and %" PRId64 " projects with %" PRId64 " rows\n", report->organizations_removed,
           report->projects_removed, report->rows_removed);
}

/* What a pass is to do; tell and stop are the caller's. */
static struct db_maintain_config pass_of(const struct app_config *config)
{
    bool is_archived = config->trace_archive_folder != NULL && strcmp(config->trace_archive_folder, "none") != 0;
    return (struct db_maintain_config){.url = config->database_maint_url,
                                       .now_us = forge_clock_wall_us(),
                                       .span_age_max_us = (int64_t)config->rpc.span_age_max_ms * 1000,
                                       .trace_days = config->trace_retention_days,
                                       .archive_folder = is_archived ? config->trace_archive_folder : NULL};
}

int app_maintain(int argument_count, char *const arguments[])
{
    struct app_config config;
    struct app_words words;
    struct db_maintain_report report = {0};
    struct forge_error error = {0};
    if (argument_count > 0 && strcmp(arguments[0], "archive-executions") == 0)
        return app_archive_executions(argument_count - 1, arguments + 1);
    if (argument_count > 0 && strcmp(arguments[0], "restore-executions") == 0)
        return app_restore_executions(argument_count - 1, arguments + 1);
    if (app_usage_is_asked(argument_count, arguments))
        return app_usage_print(APP_MAINTAIN, HELP);
    forge_code rc = app_config_load(APP_MAINTAIN, argument_count, arguments, &config, &words, &error);
    if (rc != FORGE_OK)
        return app_usage_fail(&error);
    setvbuf(stdout, NULL, _IOLBF, 0); /* progress is seen as it is made, in a pipe or a file too */
    struct db_maintain_config pass = pass_of(&config);
    pass.tell = app_tell;
    if (words.count > 0)
        rc = forge_error_set(&error, FORGE_INVALID_ARGUMENT, "unexpected word \"%.64s\"", words.words[0]);
    else
        rc = db_maintain(&pass, &report, &error);
    app_config_done(&config);
    if (rc != FORGE_OK)
        return app_usage_fail(&error);
    print_report(&report);
    return APP_EXIT_OK;
}

/* ---- the thread ---- */

enum { OUTCOME_DONE, OUTCOME_FAILED, OUTCOME_ELSEWHERE, RETRY_MS = 5000 };
static const char *const OUTCOMES[] = {"done", "failed", "elsewhere"};

struct app_maintainer {
    const struct app_config *config;
    struct base_metric *passes; /* by outcome */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t stopping; /* on the monotonic clock */
    atomic_bool stop;        /* changed under the lock */
};

static void log_report(const struct db_maintain_report *report)
{
    int64_t deleted = report->changes + report->stored_replies + report->sessions + report->operator_tokens + report->login_failures +
                      report->rate_windows + report->traces_deleted + report->spans_deleted;
    int64_t removed = report->rows_removed + report->projects_removed + report->organizations_removed;
    if (deleted + removed + report->partitions_made + report->partitions_dropped == 0)
        return;
    base_log(BASE_LOG_INFO, "maintenance", base_log_int("deleted", deleted), base_log_int("partitions_made", report->partitions_made),
             base_log_int("partitions_dropped", report->partitions_dropped), base_log_int("organizations", report->organizations_removed),
             base_log_int("projects", report->projects_removed), base_log_int("rows_removed", report->rows_removed),
             base_log_int("traces", report->traces_deleted), base_log_int("spans", report->spans_deleted),
             base_log_int("spans_archived", report->spans_archived));
}

/* What takes long, and what an operator looks for when spans are gone. */
static void log_progress(const char *line, void *user)
{
    (void)user;
    base_log(BASE_LOG_INFO, "retention", base_log_text("did", line));
}

/* False when the next one is urgent: without a partition for its day no span is stored. A full disk of archives is not, for one. */
static bool make_pass(struct app_maintainer *maintainer)
{
    struct db_maintain_config pass = pass_of(maintainer->config);
    pass.stop = &maintainer->stop;
    pass.tell = log_progress;
    struct db_maintain_report report;
    struct forge_error error = {0};
    forge_code rc = db_maintain(&pass, &report, &error);
    unsigned outcome = rc != FORGE_OK ? OUTCOME_FAILED : report.is_leader ? OUTCOME_DONE : OUTCOME_ELSEWHERE;
    base_metric_add(maintainer->passes, outcome, 0, 1);
    if (rc != FORGE_OK)
        base_log_failure(BASE_LOG_WARNING, "maintenance failed; the next pass goes on", &error);
    log_report(&report); /* also of a pass that failed half-way */
    return rc == FORGE_OK || report.is_ahead;
}

static void wait_for_next(struct app_maintainer *maintainer, unsigned wait_ms)
{
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    next.tv_sec += wait_ms / 1000;
    next.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (next.tv_nsec >= 1000000000) {
        next.tv_sec++;
        next.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&maintainer->lock);
    while (!atomic_load(&maintainer->stop) && pthread_cond_timedwait(&maintainer->stopping, &maintainer->lock, &next) == 0)
        continue;
    pthread_mutex_unlock(&maintainer->lock);
}

/* The first pass at once. */
static void *run(void *user)
{
    struct app_maintainer *maintainer = user;
    while (!atomic_load(&maintainer->stop)) {
        unsigned interval_ms = maintainer->config->maintenance_interval_ms;
        bool has_time = make_pass(maintainer);
        wait_for_next(maintainer, has_time || interval_ms < RETRY_MS ? interval_ms : RETRY_MS);
    }
    return NULL;
}

forge_code app_maintainer_start(const struct app_config *config, struct base_metrics *metrics, struct app_maintainer **out,
                                struct forge_error *error)
{
    static const struct base_metric_label outcome = {"outcome", OUTCOMES, sizeof OUTCOMES / sizeof OUTCOMES[0]};
    struct app_maintainer *maintainer = calloc(1, sizeof *maintainer);
    if (maintainer == NULL)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for maintenance");
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&maintainer->stopping, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&maintainer->lock, NULL);
    maintainer->config = config;
    maintainer->passes = base_metric_new(metrics, BASE_METRIC_COUNTER, "forged_maintenance_passes_total",
                                         "Maintenance passes; elsewhere: another server was at it.", &outcome, 1);
    if (pthread_create(&maintainer->thread, NULL, run, maintainer) != 0) {
        free(maintainer);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no thread for maintenance");
    }
    *out = maintainer;
    return FORGE_OK;
}

void app_maintainer_stop(struct app_maintainer *maintainer)
{
    if (maintainer == NULL)
        return;
    pthread_mutex_lock(&maintainer->lock);
    atomic_store(&maintainer->stop, true);
    pthread_cond_signal(&maintainer->stopping);
    pthread_mutex_unlock(&maintainer->lock);
    pthread_join(maintainer->thread, NULL);
    pthread_cond_destroy(&maintainer->stopping);
    pthread_mutex_destroy(&maintainer->lock);
    free(maintainer);
}
