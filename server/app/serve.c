#include "app/serve.h"

#include "app/config.h"
#include "app/file_watch.h"
#include "app/maintain.h"
#include "app/settings.h"
#include "app/usage.h"
#include "auth/key_check.h"
#include "auth/key_file.h"
#include "auth/principal_cache.h"
#include "base/log.h"
#include "base/metrics.h"
#include "db/change_feed.h"
#include "db/pool.h"
#include "http/http.h"
#include "rpc/nng_listener.h"
#include "rpc/server.h"
#include "service/policy/engine.h"
#include "service/prompt/watch.h"
#include "wire/clock.h"
#include "wire/loop.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
    FEED_STALE_MS = 1000, /* caches are bypassed then, and we are not ready */
    STARTING_MS = 2000,   /* this long after the start readiness is looked at often */
    STARTING_POLL_MS = 5,
    READINESS_POLL_MS = 250,   /* how soon watchers of our health hear of a change */
    CERTIFICATE_QUIET_MS = 200 /* after a change of a file: certificate and key are two files */
};

struct serve {
    int argument_count;
    char *const *arguments;
    struct app_config config;
    struct auth_keys keys;
    struct base_metrics *metrics;
    struct base_metric *reloads; /* by outcome */
    struct forge_byte_budget budget;
    struct forge_tls *tls;
    struct auth_principal_cache *principals;
    struct policy_engine *policies;
    struct db_pool *pool, *slow_pool, *group_pool, *policy_pool;
    struct db_change_feed *feed;
    struct rpc_server *rpc;
    struct rpc_nng_listener *ipc;
    struct http_server *http;
    struct app_maintainer *maintainer; /* NULL without database_maint_url */
    struct app_file_watch certificates;
    int signals; /* signalfd */
    char instance[64];
    uint16_t port, http_port;
    atomic_bool draining;
};

/* ---- what other parts ask ---- */

static bool is_ready(void *user, const char **out_reason)
{
    static _Thread_local char reason[FORGE_ERROR_MESSAGE_MAX + 64];
    struct serve *serve = user;
    struct db_pool_status status;
    *out_reason = reason;
    if (atomic_load(&serve->draining)) {
        snprintf(reason, sizeof reason, "draining");
        return false;
    }
    db_pool_get_status(serve->pool, &status);
    if (status.state != DB_POOL_READY) {
        snprintf(reason, sizeof reason, "database: %s", status.state == DB_POOL_CONNECTING ? "connecting" : status.reason);
        return false;
    }
    uint64_t last_ms = db_change_feed_last_poll_ms(serve->feed), now_ms = forge_clock_monotonic_ms();
    if (last_ms == 0 || now_ms > last_ms + FEED_STALE_MS) {
        snprintf(reason, sizeof reason, "database: changes of other servers were not read for over %d ms", FEED_STALE_MS);
        return false;
    }
    *out_reason = NULL;
    return true;
}

/* What /readyz says: also that nobody makes maintenance passes here. */
static bool is_ready_for_http(void *user, const char **out_reason)
{
    const struct serve *serve = user;
    bool ready = is_ready(user, out_reason);
    if (ready && serve->maintainer == NULL)
        *out_reason = "maintenance is off: DATABASE_MAINT_URL is not set";
    return ready;
}

static uint64_t feed_last_poll_ms(void *user)
{
    return db_change_feed_last_poll_ms(((struct serve *)user)->feed);
}

/* Watches of a project's prompts look again. */
static void wake_watches(const struct db_change *change, void *user)
{
    struct serve *serve = user;
    char key[PROMPT_WATCH_KEY_SIZE];
    bool is_prompt = strcmp(change->kind, "prompt") == 0 || strcmp(change->kind, "prompt_delete") == 0;
    if (!is_prompt && strcmp(change->kind, "project") != 0)
        return;
    prompt_watch_key(is_prompt ? &change->parent_id : &change->object_id, key);
    rpc_wake(serve->rpc, key);
}

/* Changes may have been missed. */
static void wake_all_watches(void *user)
{
    rpc_wake_all(((struct serve *)user)->rpc, PROMPT_WATCH_KEY_PREFIX);
}

/* What this server wrote itself is dropped from its caches at once; the feed tells it again later. */
static void changed_here(void *user, const struct forge_uuid *organization_id, const char *kind, const struct forge_uuid *object_id,
                         const struct forge_uuid *parent_id)
{
    struct serve *serve = user;
    struct db_change change = {.organization_id = *organization_id};
    snprintf(change.kind, sizeof change.kind, "%s", kind);
    if (object_id != NULL)
        change.object_id = *object_id;
    if (parent_id != NULL)
        change.parent_id = *parent_id;
    auth_principal_cache_changed(&change, serve->principals);
    policy_engine_changed(&change, serve->policies);
    wake_watches(&change, serve);
}

/* ---- metrics ---- */

static const char *const POOL_STATES[] = {"open", "leased", "waiting"};

static double read_pool(void *user, unsigned index)
{
    struct db_pool_status status;
    db_pool_get_status(((struct serve *)user)->pool, &status);
    return index == 0 ? status.open : index == 1 ? status.leased : status.waiting;
}

static const char *const POOL_OUTCOMES[] = {"opened", "failed"};

static double read_pool_opens(void *user, unsigned index)
{
    struct db_pool_status status;
    db_pool_get_status(((struct serve *)user)->pool, &status);
    return (double)(index == 0 ? status.opened_total : status.failed_total);
}

static double read_ready(void *user, unsigned index)
{
    const char *reason;
    return is_ready(user, &reason) ? 1 : 0;
}

static const char *const RELOAD_OUTCOMES[] = {"ok", "failed"};

static double read_one(void *user, unsigned index)
{
    return 1;
}

static void register_metrics(struct serve *serve)
{
    static const char *const VERSIONS[] = {FORGE_VERSION};
    static const struct base_metric_label version = {"version", VERSIONS, 1}, state = {"state", POOL_STATES, 3};
    static const struct base_metric_label outcome = {"outcome", POOL_OUTCOMES, 2}, reload = {"outcome", RELOAD_OUTCOMES, 2};
    struct base_metrics *metrics = serve->metrics;
    base_metric_new_function(metrics, BASE_METRIC_GAUGE, "forged_build_info", "Always 1; the version is a label.", &version, read_one,
                             serve);
    base_metric_new_function(metrics, BASE_METRIC_GAUGE, "forged_ready", "1 when calls are answered (as /readyz).", NULL, read_ready,
                             serve);
    base_metric_new_function(metrics, BASE_METRIC_GAUGE, "forged_database_connections",
                             "Connections to PostgreSQL, and calls that wait for one.", &state, read_pool, serve);
    base_metric_new_function(metrics, BASE_METRIC_COUNTER, "forged_database_opens_total", "Attempts to open a connection.", &outcome,
                             read_pool_opens, serve);
    serve->reloads = base_metric_new(metrics, BASE_METRIC_COUNTER, "forged_tls_reloads_total", "Certificate reloads.", &reload, 1);
}

/* ---- start ---- */

static void harden_process(const struct app_config *config)
{
    struct rlimit files, none = {0};
    if (config->mode == APP_PRODUCTION) { /* a core dump would hold keys and tokens */
#ifndef __SANITIZE_ADDRESS__              /* LeakSanitizer traces its own process, which this forbids */
        prctl(PR_SET_DUMPABLE, 0);
#endif
        setrlimit(RLIMIT_CORE, &none);
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    signal(SIGPIPE, SIG_IGN);
}

/* Before any thread: all of them inherit the mask. */
static int block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static forge_code load_tls(const struct app_config *config, struct forge_tls **out, struct forge_error *error)
{
    const struct forge_tls_config tls = {
        .server = true,
        .certificate_file = config->tls_certificate_file,
        .key_file = config->tls_key_file,
        .ca_file = config->tls_ca_file,
        .crl_file = config->tls_crl_file,
        .allow_tls12 = config->tls_min_version == 1,
        .client_auth = (enum forge_tls_client_auth)config->tls_client_auth,
    };
    return forge_tls_new(&tls, out, error);
}

static void watch_certificates(struct serve *serve)
{
    const struct app_config *config = &serve->config;
    const char *const paths[APP_FILE_WATCH_MAX] = {config->tls_certificate_file, config->tls_key_file, config->tls_ca_file,
                                                   config->tls_crl_file};
    app_file_watch_init(&serve->certificates, paths);
}

/* Before the first call gets a connection: a wrong key would already be written with. */
static forge_code check_keys(struct db_session *session, void *user, struct forge_error *error)
{
    struct serve *serve = user;
    return auth_key_check(session, &serve->keys, serve->config.key_file, error);
}

static struct db_pool_config pool_config(struct serve *serve)
{
    const struct app_config *config = &serve->config;
    return (struct db_pool_config){
        .url = config->database_url,
        .application_name = "forged",
        .kept_max = config->database_connections_kept,
        .extra_max = config->database_connections_extra,
        .idle_ms = config->database_connection_idle_ms,
        .connect_timeout_ms = config->database_connect_timeout_ms,
        .serves = true,
        .check = check_keys,
        .check_user = serve,
    };
}

static forge_code start_database(struct serve *serve, struct forge_error *error)
{
    struct db_pool_config pool = pool_config(serve);
    forge_code rc = db_pool_new(&pool, &serve->pool, error);
    if (rc != FORGE_OK)
        return rc;
    pool.kept_max = serve->config.rpc.auth_threads;
    pool.extra_max = 0;
    rc = db_pool_new(&pool, &serve->slow_pool, error);
    if (rc != FORGE_OK)
        return rc;
    pool.kept_max = serve->config.rpc.group_threads;
    rc = db_pool_new(&pool, &serve->group_pool, error);
    if (rc != FORGE_OK)
        return rc;
    pool.kept_max = 1;
    return db_pool_new(&pool, &serve->policy_pool, error);
}

static forge_code start_policies(struct serve *serve, struct forge_error *error)
{
    const struct policy_engine_config policies = {
        .pool = serve->policy_pool,
        .budget = &serve->budget,
        .metrics = serve->metrics,
        .organizations_max = serve->config.policy_organizations_max,
        .feed_last_poll_ms = feed_last_poll_ms,
        .user = serve,
    };
    return policy_engine_new(&policies, &serve->policies, error);
}

/* After the RPC server, which it wakes, and before any call. */
static forge_code start_feed(struct serve *serve, struct forge_error *error)
{
    const struct app_config *config = &serve->config;
    const struct db_pool_config pool = pool_config(serve);
    const struct db_change_listener listeners[] = {
        {.changed = auth_principal_cache_changed, .reset = auth_principal_cache_reset, .user = serve->principals},
        {.changed = policy_engine_changed, .reset = policy_engine_reset, .user = serve->policies},
        {.changed = wake_watches, .reset = wake_all_watches, .user = serve},
    };
    return db_change_feed_new(&pool, config->change_poll_interval_ms, listeners, sizeof listeners / sizeof listeners[0], &serve->feed,
                              error);
}

static forge_code start_rpc(struct serve *serve, struct forge_error *error)
{
    struct rpc_server_config *rpc = &serve->config.rpc;
    rpc->pool = serve->pool;
    rpc->slow_pool = serve->slow_pool;
    rpc->group_pool = serve->group_pool;
    rpc->keys = &serve->keys;
    rpc->principals = serve->principals;
    rpc->policies = serve->policies;
    rpc->metrics = serve->metrics;
    rpc->budget = &serve->budget;
    rpc->changed = changed_here;
    rpc->feed_last_poll_ms = feed_last_poll_ms;
    rpc->is_ready = is_ready;
    rpc->user = serve;
    rpc->instance = serve->instance;
    rpc->development = serve->config.mode == APP_DEVELOPMENT;
    return rpc_server_new(rpc, &serve->rpc, error);
}

static forge_code start_ipc(struct serve *serve, struct forge_error *error)
{
    const struct app_config *config = &serve->config;
    const struct rpc_nng_listener_config ipc = {
        .server = serve->rpc,
        .url = config->ipc_url,
        .contexts = config->ipc_contexts,
        .pipes_max = config->ipc_pipes_max,
        .message_max = config->rpc.message_max,
        .message_unproven_max = config->rpc.message_unproven_max,
    };
    return config->ipc_url != NULL ? rpc_nng_listener_new(&ipc, &serve->ipc, error) : FORGE_OK;
}

static forge_code start_http(struct serve *serve, struct forge_error *error)
{
    const struct app_config *config = &serve->config;
    const struct http_server_config http = {
        .host = config->http_host,
        .port = (uint16_t)config->http_port,
        .connections_max = config->http_connections_max,
        .metrics = serve->metrics,
        .is_ready = is_ready_for_http,
        .user = serve,
    };
    return http_server_new(&http, &serve->http, &serve->http_port, error);
}

static void choose_by_cores(struct rpc_server_config *rpc)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (cores < 1)
        cores = 1;
    if (rpc->loops == 0)
        rpc->loops = cores > FORGE_LOOPS_MAX ? FORGE_LOOPS_MAX : (unsigned)cores;
    if (rpc->auth_threads == 0)
        rpc->auth_threads = cores > 1 ? (unsigned)cores - 1 : 1;
}

/* Everything is checked that can be before the first thread or socket exists; the port is opened last. */
static forge_code start(struct serve *serve, struct forge_error *error)
{
    struct app_config *config = &serve->config;
    forge_code rc = load_tls(config, &serve->tls, error);
    if (rc == FORGE_OK)
        rc = auth_key_file_load(config->key_file, &serve->keys, error);
    if (rc == FORGE_OK)
        rc = auth_principal_cache_new(config->principal_cache_max, &serve->principals, error);
    if (rc == FORGE_OK)
        rc = base_log_start_writer();
    if (rc != FORGE_OK)
        return rc;
    choose_by_cores(&config->rpc);
    serve->budget.bytes_max = config->byte_budget;
    serve->metrics = base_metrics_new();
    watch_certificates(serve);
    rc = start_database(serve, error);
    if (rc == FORGE_OK)
        rc = start_policies(serve, error);
    if (rc == FORGE_OK)
        rc = start_rpc(serve, error);
    if (rc == FORGE_OK)
        rc = start_feed(serve, error);
    if (rc != FORGE_OK)
        return rc;
    register_metrics(serve);
    if (config->database_maint_url != NULL)
        rc = app_maintainer_start(config, serve->metrics, &serve->maintainer, error);
    if (rc == FORGE_OK)
        rc = start_http(serve, error);
    if (rc == FORGE_OK)
        rc = start_ipc(serve, error);
    if (rc == FORGE_OK)
        rc = rpc_server_listen(serve->rpc, config->listen_host, (uint16_t)config->listen_port, serve->tls, &serve->port, error);
    return rc;
}

/* In the order in which parts use each other; nothing is NULL-checked because every free accepts what start left NULL. */
static void stop(struct serve *serve)
{
    rpc_nng_listener_free(serve->ipc);
    http_server_free(serve->http);
    db_change_feed_stop(serve->feed);
    rpc_server_free(serve->rpc);
    app_maintainer_stop(serve->maintainer);
    db_change_feed_free(serve->feed);
    policy_engine_free(serve->policies);
    db_pool_free(serve->policy_pool);
    db_pool_free(serve->group_pool);
    db_pool_free(serve->slow_pool);
    db_pool_free(serve->pool);
    auth_principal_cache_free(serve->principals);
    app_file_watch_done(&serve->certificates);
    base_metrics_free(serve->metrics);
    forge_tls_unref(serve->tls);
    auth_keys_done(&serve->keys);
    base_log_stop_writer();
    app_config_done(&serve->config);
    close(serve->signals);
}

/* ---- run ---- */

/* SIGHUP, or a file changed. What is wrong leaves everything as it was. */
static void reload(struct serve *serve, bool read_settings)
{
    struct app_config fresh;
    struct app_words words;
    struct forge_error error = {0};
    struct forge_tls *tls = NULL;
    forge_code rc = FORGE_OK;
    if (read_settings)
        rc = app_config_load(APP_SERVE, serve->argument_count, serve->arguments, &fresh, &words, &error);
    bool have_fresh = read_settings && rc == FORGE_OK;
    if (rc == FORGE_OK)
        rc = load_tls(have_fresh ? &fresh : &serve->config, &tls, &error);
    base_metric_add(serve->reloads, rc == FORGE_OK ? 0 : 1, 0, 1);
    if (rc == FORGE_OK && have_fresh) {
        app_config_reload(&serve->config, &fresh);
        base_log_configure((enum base_log_level)serve->config.log_level, (enum base_log_format)serve->config.log_format, STDERR_FILENO);
        app_file_watch_done(&serve->certificates);
        watch_certificates(serve);
    }
    if (have_fresh)
        app_config_done(&fresh);
    if (rc != FORGE_OK) {
        base_log_failure(BASE_LOG_ERROR, "reload failed, the old settings and certificates stay", &error);
        return;
    }
    forge_tls_unref(serve->tls);
    serve->tls = tls;
    rpc_server_set_tls(serve->rpc, tls);
    base_log(BASE_LOG_INFO, "certificates reloaded");
}

static void exit_now(int signal_number)
{
    _exit(APP_EXIT_FAILED);
}

/* The first signal drains; from then on a second one ends the process at once, whatever drain is waiting for. */
static void drain(struct serve *serve)
{
    struct sigaction action = {.sa_handler = exit_now};
    sigset_t set;
    unsigned left = 0;
    base_log(BASE_LOG_INFO, "draining", base_log_int("timeout_ms", serve->config.drain_timeout_ms));
    atomic_store(&serve->draining, true);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    rpc_server_drain(serve->rpc, serve->config.drain_timeout_ms, &left);
    if (left > 0)
        base_log(BASE_LOG_WARNING, "drain timeout is over", base_log_int("calls_left", left));
}

/* What run() knows of readiness. */
struct readiness {
    bool is_ready, was_ever;
};

/* Looks whether calls are answered: tells it the first time, and wakes who waits for a change (CheckHealth parks under "health").
 * FAILED_PRECONDITION when the first connection found role, grants, schema or key file wrong; later that only makes us not ready. */
static forge_code look_at_readiness(struct serve *serve, struct readiness *readiness, struct forge_error *error)
{
    struct db_pool_status status;
    const char *reason;
    bool ready = is_ready(serve, &reason);
    db_pool_get_status(serve->pool, &status);
    if (!readiness->was_ever && status.state == DB_POOL_REFUSED)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "%s", status.reason);
    if (ready && !readiness->was_ever) {
        printf("ready\n");
        fflush(stdout);
        base_log(BASE_LOG_INFO, "ready");
    }
    if (ready != readiness->is_ready)
        rpc_wake(serve->rpc, "health");
    readiness->is_ready = ready;
    readiness->was_ever = readiness->was_ever || ready;
    return FORGE_OK;
}

/* True when a signal asks to end. */
static bool take_signals(struct serve *serve)
{
    struct signalfd_siginfo info;
    while (read(serve->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
            return true;
        base_log(BASE_LOG_INFO, "SIGHUP: reading settings and certificates again");
        reload(serve, true);
    }
    return false;
}

/* Waits for signals and changed files, and looks at readiness in between: often while we start, then a few times a second. */
static forge_code run(struct serve *serve, struct forge_error *error)
{
    struct readiness readiness = {0};
    bool files_changed = false;
    uint64_t begun_ms = forge_clock_monotonic_ms();
    for (;;) {
        struct pollfd events[] = {{.fd = serve->signals, .events = POLLIN}, {.fd = serve->certificates.fd, .events = POLLIN}};
        forge_code rc = look_at_readiness(serve, &readiness, error);
        if (rc != FORGE_OK)
            return rc;
        bool starting = !readiness.was_ever && forge_clock_monotonic_ms() - begun_ms < STARTING_MS;
        int count = poll(events, 2, starting ? STARTING_POLL_MS : files_changed ? CERTIFICATE_QUIET_MS : READINESS_POLL_MS);
        if (count > 0 && events[1].revents != 0) {
            app_file_watch_drain(&serve->certificates);
            files_changed = true;
        } else if (files_changed) {
            files_changed = false;
            if (app_file_watch_has_changed(&serve->certificates))
                reload(serve, false);
        }
        if (count > 0 && events[0].revents != 0 && take_signals(serve))
            return FORGE_OK;
    }
}

static void announce(const struct serve *serve)
{
    const struct app_config *config = &serve->config;
    printf("listening port=%u http_port=%u%s%s\n", serve->port, serve->http_port, config->ipc_url != NULL ? " ipc=" : "",
           config->ipc_url != NULL ? config->ipc_url : "");
    fflush(stdout);
    base_log(BASE_LOG_INFO, "listening", base_log_text("host", config->listen_host), base_log_int("port", serve->port),
             base_log_text("http_host", config->http_host), base_log_int("http_port", serve->http_port),
             base_log_text("ipc", config->ipc_url), base_log_text("version", FORGE_VERSION), base_log_text("instance", serve->instance));
    if (config->mode == APP_DEVELOPMENT)
        base_log(BASE_LOG_WARNING, "mode=development: short passwords are accepted; not for a server that others reach");
}

static void name_instance(struct serve *serve)
{
    char host[48] = "";
    if (gethostname(host, sizeof host - 1) != 0)
        snprintf(host, sizeof host, "forged");
    snprintf(serve->instance, sizeof serve->instance, "%s-%ld", host, (long)getpid());
}

static const char SERVE_HELP[] =
    "Usage: forged serve [flags]\n"
    "\n"
    "Answers calls over TLS. Prints \"listening port=N http_port=N\" when clients can connect and \"ready\" when the database is there "
    "too.\n"
    "SIGTERM finishes the calls in progress and ends, a second one ends at once; SIGHUP reads certificates and reloadable settings again.\n"
    "\n"
    "Example: forged serve --tls-certificate-file server.pem --tls-key-file server.key --key-file forge.key\n";

int app_serve(int argument_count, char *const arguments[])
{
    static struct serve serve; /* outlives every thread that was given its address */
    struct forge_error error = {0};
    struct app_words words;
    if (app_usage_is_asked(argument_count, arguments))
        return app_usage_print(APP_SERVE, SERVE_HELP);
    forge_code rc = app_config_load(APP_SERVE, argument_count, arguments, &serve.config, &words, &error);
    if (rc == FORGE_OK && words.count > 0)
        rc = forge_error_set(&error, FORGE_INVALID_ARGUMENT, "unexpected word \"%.64s\"; see forged serve --help", words.words[0]);
    if (rc != FORGE_OK) {
        app_config_done(&serve.config);
        return app_usage_fail(&error);
    }
    serve.argument_count = argument_count;
    serve.arguments = arguments;
    serve.certificates.fd = -1;
    base_log_configure((enum base_log_level)serve.config.log_level, (enum base_log_format)serve.config.log_format, STDERR_FILENO);
    harden_process(&serve.config);
    name_instance(&serve);
    serve.signals = block_signals();
    rc = start(&serve, &error);
    if (rc == FORGE_OK) {
        announce(&serve);
        rc = run(&serve, &error);
    }
    if (rc == FORGE_OK)
        drain(&serve);
    stop(&serve);
    if (rc != FORGE_OK)
        return app_usage_fail(&error);
    base_log(BASE_LOG_INFO, "ended");
    return APP_EXIT_OK;
}
