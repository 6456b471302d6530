#include "service/policy/engine.h"

#include "base/log.h"
#include "service/policy/book.h"
#include "service/policy/count.h"
#include "wire/clock.h"

#include <pthread.h>
#include <search.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    FEED_STALE_MS = 1000, /* without a good poll of the change feed for so long no book is believed */
    PROJECTS_MAX = 128    /* of an organization that are known to exist; the one noted longest ago makes room */
};
enum { COMPILED_FOR_PCRE2, COMPILED_FOR_VECTORSCAN };
static const char *const compilers[] = {"pcre2", "vectorscan"};
static const char *const actions[] = {"none", "flag", "mask", "block"};

/* An organization. */
struct shelf {
    struct forge_uuid organization_id;        /* first: the key */
    struct policy_book *book;                 /* a reference; NULL: none was read yet */
    bool is_current;                          /* the feed has told of no change since the book was read */
    bool is_loading;                          /* by one of its users; the others wait */
    uint64_t changes;                         /* of policies, told of */
    uint64_t project_changes;                 /* the engine's, when its projects changed last, or it was added */
    struct forge_uuid projects[PROJECTS_MAX]; /* that exist, as far as the feed has told */
    unsigned project_count, next_project;
    unsigned users; /* calls that are looking; it stays while there are any */
    struct shelf *newer, *older;
};

struct policy_engine {
    struct policy_engine_config config;
    struct policy_counts *counts;
    struct base_metric *compiles, *checks;
    pthread_mutex_t lock;
    pthread_cond_t loaded; /* a load has ended */
    void *shelves;         /* tsearch(3) tree */
    struct shelf *newest, *oldest;
    unsigned shelf_count;
    uint64_t project_changes;         /* of all organizations: no number comes twice, also where a shelf went and came back */
    pthread_cond_t handed_over;       /* a book, or stop */
    struct policy_book *first, *last; /* handed over to the thread, by next */
    bool stop, has_thread;
    pthread_t thread;
};

/* --- shelves; under the lock ----------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct forge_uuid));
}

static void list_remove(struct policy_engine *engine, struct shelf *shelf)
{
    *(shelf->newer != NULL ? &shelf->newer->older : &engine->newest) = shelf->older;
    *(shelf->older != NULL ? &shelf->older->newer : &engine->oldest) = shelf->newer;
}

static void list_push(struct policy_engine *engine, struct shelf *shelf)
{
    shelf->newer = NULL;
    shelf->older = engine->newest;
    *(engine->newest != NULL ? &engine->newest->newer : &engine->oldest) = shelf;
    engine->newest = shelf;
}

static struct shelf *find(struct policy_engine *engine, const struct forge_uuid *organization_id)
{
    struct shelf **found = tfind(organization_id, &engine->shelves, compare);
    return found != NULL ? *found : NULL;
}

/* Gives a reference to the thread, so that neither preparing vectorscan nor freeing a large book happens under the lock. */
static void hand_over(struct policy_engine *engine, struct policy_book *book)
{
    if (book->is_handed_over) {
        policy_book_unref(book); /* the thread has one already */
        return;
    }
    book->is_handed_over = true;
    book->next = NULL;
    *(engine->last != NULL ? &engine->last->next : &engine->first) = book;
    engine->last = book;
    pthread_cond_signal(&engine->handed_over);
}

static void retire(struct policy_engine *engine, struct policy_book *book)
{
    if (book == NULL)
        return;
    book->is_retired = true;
    hand_over(engine, book);
}

static void drop(struct policy_engine *engine, struct shelf *shelf)
{
    tdelete(shelf, &engine->shelves, compare);
    list_remove(engine, shelf);
    engine->shelf_count--;
    retire(engine, shelf->book);
    free(shelf);
}

/* Those in use stay, so there may be as many more as there are workers. */
static void make_room(struct policy_engine *engine)
{
    for (struct shelf *shelf = engine->oldest; shelf != NULL && engine->shelf_count >= engine->config.organizations_max;) {
        struct shelf *newer = shelf->newer;
        if (shelf->users == 0)
            drop(engine, shelf);
        shelf = newer;
    }
}

/* NULL without memory. */
static struct shelf *add(struct policy_engine *engine, const struct forge_uuid *organization_id)
{
    make_room(engine);
    struct shelf *shelf = calloc(1, sizeof *shelf);
    if (shelf == NULL)
        return NULL;
    shelf->organization_id = *organization_id;
    if (tsearch(shelf, &engine->shelves, compare) == NULL) {
        free(shelf);
        return NULL;
    }
    list_push(engine, shelf);
    engine->shelf_count++;
    shelf->project_changes = ++engine->project_changes;
    return shelf;
}

/* --- books ----------------------------------------------------------------------------------------------------------- */

static bool feed_is_fresh(const struct policy_engine *engine)
{
    uint64_t last_ms = engine->config.feed_last_poll_ms(engine->config.user);
    return last_ms != 0 && forge_clock_monotonic_ms() < last_ms + FEED_STALE_MS;
}

/* PublishPolicy refuses what does not compile, so this is our bug or somebody else's write. */
static void log_failure(const struct policy_book *book, const struct forge_uuid *organization_id)
{
    char organization[FORGE_UUID_TEXT_SIZE];
    forge_uuid_format(organization_id, organization);
    base_log(BASE_LOG_ERROR, "policies do not compile, so nothing passes them", base_log_text("organization_id", organization),
             base_log_text("error", book->failure.message));
}

/* Reads the book anew, without the lock meanwhile. A change that is told of meanwhile may be missing in it: it serves the call that read
 * it, which began before, and is not believed by later ones. */
static forge_code load(struct policy_engine *engine, struct rpc_call *call, struct shelf *shelf, struct policy_book **out)
{
    struct policy_book *known = shelf->book != NULL ? policy_book_ref(shelf->book) : NULL;
    uint64_t changes = shelf->changes;
    shelf->is_loading = true;
    pthread_mutex_unlock(&engine->lock);
    forge_code code = policy_book_load(call, known, out);
    if (code == FORGE_OK && *out != known)
        base_metric_observe_ns(engine->compiles, COMPILED_FOR_PCRE2, 0, (*out)->prepare_ns);
    if (code == FORGE_OK && *out != known && (*out)->failure.code != FORGE_OK)
        log_failure(*out, &call->principal.organization_id);
    pthread_mutex_lock(&engine->lock);
    shelf->is_loading = false;
    if (code == FORGE_OK && *out != known) {
        retire(engine, shelf->book);
        shelf->book = policy_book_ref(*out);
        hand_over(engine, policy_book_ref(*out));
    }
    if (code == FORGE_OK)
        shelf->is_current = changes == shelf->changes;
    pthread_cond_broadcast(&engine->loaded);
    policy_book_unref(known);
    return code;
}

static forge_code wait_loaded(struct policy_engine *engine, struct rpc_call *call)
{
    const struct timespec until = {.tv_sec = (time_t)(call->deadline_ns / 1000000000), .tv_nsec = (long)(call->deadline_ns % 1000000000)};
    if (pthread_cond_timedwait(&engine->loaded, &engine->lock, &until) == 0)
        return FORGE_OK;
    return rpc_call_fail(call, FORGE_DEADLINE_EXCEEDED, "the organization's policies were not read before the deadline");
}

forge_code policy_engine_book(struct policy_engine *engine, struct rpc_call *call, struct policy_book **out)
{
    forge_code code = FORGE_OK;
    *out = NULL;
    pthread_mutex_lock(&engine->lock);
    struct shelf *shelf = find(engine, &call->principal.organization_id);
    if (shelf == NULL)
        shelf = add(engine, &call->principal.organization_id);
    if (shelf == NULL) {
        pthread_mutex_unlock(&engine->lock);
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "no memory for the policies");
    }
    if (engine->newest != shelf) {
        list_remove(engine, shelf);
        list_push(engine, shelf);
    }
    shelf->users++;
    while (*out == NULL && code == FORGE_OK) {
        if (shelf->is_loading)
            code = wait_loaded(engine, call);
        else if (shelf->is_current && feed_is_fresh(engine))
            *out = policy_book_ref(shelf->book);
        else
            code = load(engine, call, shelf, out);
    }
    shelf->users--;
    pthread_mutex_unlock(&engine->lock);
    return code;
}

/* --- projects -------------------------------------------------------------------------------------------------------- */

bool policy_engine_knows_project(struct policy_engine *engine, const struct forge_uuid *organization_id,
                                 const struct forge_uuid *project_id, uint64_t *out_changes)
{
    bool knows = false;
    *out_changes = 0;
    pthread_mutex_lock(&engine->lock);
    const struct shelf *shelf = find(engine, organization_id);
    for (unsigned i = 0; shelf != NULL && i < shelf->project_count && !knows; i++)
        knows = forge_uuid_equal(&shelf->projects[i], project_id);
    if (shelf != NULL)
        *out_changes = shelf->project_changes;
    pthread_mutex_unlock(&engine->lock);
    return knows && feed_is_fresh(engine);
}

void policy_engine_note_project(struct policy_engine *engine, const struct forge_uuid *organization_id, const struct forge_uuid *project_id,
                                uint64_t changes)
{
    pthread_mutex_lock(&engine->lock);
    struct shelf *shelf = find(engine, organization_id);
    if (shelf != NULL && shelf->project_changes == changes) {
        shelf->projects[shelf->next_project] = *project_id;
        shelf->next_project = (shelf->next_project + 1) % PROJECTS_MAX;
        if (shelf->project_count < PROJECTS_MAX)
            shelf->project_count++;
    }
    pthread_mutex_unlock(&engine->lock);
}

/* --- changes --------------------------------------------------------------------------------------------------------- */

static void forget_projects(struct policy_engine *engine, struct shelf *shelf)
{
    shelf->project_changes = ++engine->project_changes;
    shelf->project_count = shelf->next_project = 0;
}

static void doubt_book(struct shelf *shelf)
{
    shelf->changes++;
    shelf->is_current = false;
}

void policy_engine_changed(const struct db_change *change, void *user)
{
    struct policy_engine *engine = user;
    bool is_policy = strcmp(change->kind, "policy") == 0, is_project = strcmp(change->kind, "project") == 0;
    if (!is_policy && !is_project)
        return;
    pthread_mutex_lock(&engine->lock);
    struct shelf *shelf = find(engine, &change->organization_id);
    if (shelf != NULL && is_policy)
        doubt_book(shelf);
    if (shelf != NULL && is_project)
        forget_projects(engine, shelf);
    pthread_mutex_unlock(&engine->lock);
}

void policy_engine_reset(void *user)
{
    struct policy_engine *engine = user;
    pthread_mutex_lock(&engine->lock);
    for (struct shelf *shelf = engine->newest; shelf != NULL; shelf = shelf->older) {
        doubt_book(shelf);
        forget_projects(engine, shelf);
    }
    pthread_mutex_unlock(&engine->lock);
}

/* --- vectorscan ------------------------------------------------------------------------------------------------------ */

static void accelerate(struct policy_engine *engine, struct policy_book *book)
{
    char said[256] = "";
    uint64_t begun_ns = forge_clock_monotonic_ns();
    if (!policy_set_accelerate(book->set, said, sizeof said))
        base_log(BASE_LOG_WARNING, "policies go without vectorscan: checks are slower, and the same", base_log_text("error", said));
    base_metric_observe_ns(engine->compiles, COMPILED_FOR_VECTORSCAN, 0, forge_clock_monotonic_ns() - begun_ns);
}

static void *work(void *user)
{
    struct policy_engine *engine = user;
    pthread_mutex_lock(&engine->lock);
    while (!engine->stop) {
        struct policy_book *book = engine->first;
        if (book == NULL) {
            pthread_cond_wait(&engine->handed_over, &engine->lock);
            continue;
        }
        engine->first = book->next;
        if (engine->first == NULL)
            engine->last = NULL;
        book->is_handed_over = false;
        bool is_new = !book->is_retired && book->set != NULL;
        pthread_mutex_unlock(&engine->lock);
        if (is_new)
            accelerate(engine, book);
        policy_book_unref(book);
        pthread_mutex_lock(&engine->lock);
    }
    pthread_mutex_unlock(&engine->lock);
    return NULL;
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

struct policy_counts *policy_engine_counts(struct policy_engine *engine)
{
    return engine->counts;
}

void policy_engine_note_check(struct policy_engine *engine, Forge__V1__PolicyAction action)
{
    base_metric_add(engine->checks, (unsigned)action, 0, 1);
}

static double read_organizations(void *user, unsigned index)
{
    struct policy_engine *engine = user;
    pthread_mutex_lock(&engine->lock);
    unsigned count = engine->shelf_count;
    pthread_mutex_unlock(&engine->lock);
    return count;
}

static void register_metrics(struct policy_engine *engine)
{
    static const struct base_metric_label compiler = {"for", compilers, sizeof compilers / sizeof compilers[0]},
                                          action = {"action", actions, sizeof actions / sizeof actions[0]};
    struct base_metrics *metrics = engine->config.metrics;
    engine->compiles =
        base_metric_new_durations(metrics, "forged_policy_compile_seconds",
                                  "Compiling the policies of an organization; calls wait for pcre2, not for vectorscan.", &compiler, 1);
    engine->checks = base_metric_new(metrics, BASE_METRIC_COUNTER, "forged_policy_checks_total", "Answers of CheckPolicies.", &action, 1);
    base_metric_new_function(metrics, BASE_METRIC_GAUGE, "forged_policy_organizations", "Organizations whose policies are in memory.", NULL,
                             read_organizations, engine);
}

static void init_locks(struct policy_engine *engine)
{
    pthread_condattr_t monotonic;
    pthread_mutex_init(&engine->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&engine->loaded, &monotonic);
    pthread_cond_init(&engine->handed_over, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static void start(struct policy_engine *engine)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    engine->has_thread = pthread_create(&engine->thread, NULL, work, engine) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

forge_code policy_engine_new(const struct policy_engine_config *config, struct policy_engine **out, struct forge_error *error)
{
    const struct policy_counts_config counts = {.pool = config->pool, .budget = config->budget, .metrics = config->metrics};
    struct policy_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for policies");
    engine->config = *config;
    init_locks(engine);
    register_metrics(engine);
    forge_code code = policy_counts_new(&counts, &engine->counts, error);
    if (code == FORGE_OK)
        start(engine);
    if (code == FORGE_OK && !engine->has_thread)
        code = forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no thread for policies");
    if (code != FORGE_OK) {
        policy_engine_free(engine);
        return code;
    }
    *out = engine;
    return FORGE_OK;
}

void policy_engine_free(struct policy_engine *engine)
{
    if (engine == NULL)
        return;
    pthread_mutex_lock(&engine->lock);
    engine->stop = true;
    pthread_cond_broadcast(&engine->handed_over);
    pthread_mutex_unlock(&engine->lock);
    if (engine->has_thread)
        pthread_join(engine->thread, NULL);
    policy_counts_free(engine->counts);
    while (engine->newest != NULL)
        drop(engine, engine->newest);
    while (engine->first != NULL) {
        struct policy_book *next = engine->first->next;
        policy_book_unref(engine->first);
        engine->first = next;
    }
    pthread_cond_destroy(&engine->loaded);
    pthread_cond_destroy(&engine->handed_over);
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}
