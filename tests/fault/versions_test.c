/* Fault 7: many writers of few prompts over two servers. Version numbers have no gaps, the current version and a label are compared and
 * set, and what every caller saw could have been answered by one prompt that does one thing after the other (history.h). The checker is
 * shown what it must find: the same history with a gap, a lost update and a stale read in it, the latter two of the label as well. */
#include "history.h"
#include "writes.h"

#include "wire/clock.h"

#include <google/protobuf/wrappers.pb-c.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WRITERS = 16, PROMPTS = 8, SPARES_MAX = 64, PLANTED_BUGS = 5, CALL_MS = 30000, SMALL = 100000, FULL = 1000000 };

static struct world world;
static struct forge_channel *channels[2];
static char prompts[PROMPTS][WORLD_ID_SIZE], label_name[] = "production";
static atomic_long call_count;
static long goal;

struct writer {
    pthread_t thread;
    unsigned number, random, contents;
    struct history_call *calls;
    size_t count, room;
    struct spares { /* versions that this writer made and nobody has made current; the same for the label */
        int32_t versions[SPARES_MAX];
        unsigned count;
    } spares[PROMPTS], unlabelled[PROMPTS];
    bool failed;
};
static struct writer writers[WRITERS];

static unsigned random_below(struct writer *writer, unsigned bound)
{
    writer->random = writer->random * 1664525u + 1013904223u;
    return (unsigned)((uint64_t)(writer->random >> 8) * bound >> 24);
}

static void note(struct writer *writer, struct history_call call)
{
    if (writer->count == writer->room) {
        writer->room = 2 * writer->room + 1024;
        writer->calls = realloc(writer->calls, writer->room * sizeof writer->calls[0]);
        if (!writer->calls)
            abort();
    }
    call.end_ns = forge_clock_monotonic_ns();
    writer->calls[writer->count++] = call;
    atomic_fetch_add(&call_count, 1);
}

/* Every other call of a writer goes to the other server. */
static struct forge_channel *channel_of(const struct writer *writer)
{
    return channels[(writer->number + writer->count) % 2];
}

static void complain(struct writer *writer, const char *what, forge_code code, struct forge_error *error)
{
    fprintf(stderr, "writer %u, %s: %s: %s\n", writer->number, what, forge_code_name(code), error->message);
    forge_error_free(error);
    writer->failed = true;
}

static void spare(struct spares *spares, int32_t version)
{
    if (spares->count < SPARES_MAX)
        spares->versions[spares->count++] = version;
}

/* What the prompt is seen to be, by label or as its current version; current 0 after a failure. */
static struct history_call read_prompt(struct writer *writer, unsigned prompt, bool by_label)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *reply;
    const struct forge_call_options options = {.timeout_ms = CALL_MS};
    struct forge_error error = {0};
    struct history_call call = {.kind = HISTORY_READ, .prompt = prompt, .begin_ns = forge_clock_monotonic_ns()};
    request.id = prompts[prompt];
    if (by_label) {
        request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL;
        request.label = label_name;
    }
    forge_code code = forge_prompt_get(channel_of(writer), &options, &request, &reply, &error);
    if (code != FORGE_OK) {
        complain(writer, "GetPrompt", code, &error);
        return call;
    }
    call.current = reply->current_version;
    call.latest = reply->latest_version;
    call.label = by_label ? reply->version : 0;
    forge__v1__prompt__free_unpacked(reply, NULL);
    note(writer, call);
    return call;
}

/* What became of a write: noted, refused (noted too), or a failure of the test. */
static void settle(struct writer *writer, const char *what, struct history_call call, forge_code code, struct forge_error *error)
{
    if (code == FORGE_ABORTED && call.expected > 0) {
        forge_error_free(error);
        call.kind = call.kind == HISTORY_LABEL ? HISTORY_LABEL_REFUSED : HISTORY_REFUSED;
        call.version = 0;
    } else if (code != FORGE_OK) {
        complain(writer, what, code, error);
        return;
    }
    note(writer, call);
}

/* A new version; made current where expected (if not 0) is. */
static void create_version(struct writer *writer, unsigned prompt, int32_t expected)
{
    char content[64];
    Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
    Forge__V1__PromptVersion *reply = NULL;
    const struct forge_call_options options = {.timeout_ms = CALL_MS};
    struct forge_error error = {0};
    struct history_call call = {.kind = expected > 0 ? HISTORY_BOTH : HISTORY_CREATE, .prompt = prompt, .expected = expected};
    snprintf(content, sizeof content, "writer %u, content %u", writer->number, writer->contents++);
    request.prompt_id = prompts[prompt];
    request.content = content;
    request.make_current = expected > 0;
    request.expected_current = expected;
    call.begin_ns = forge_clock_monotonic_ns();
    forge_code code = forge_prompt_create_version(channel_of(writer), &options, &request, &reply, &error);
    if (code == FORGE_OK) {
        call.version = reply->version;
        forge__v1__prompt_version__free_unpacked(reply, NULL);
    }
    settle(writer, "CreatePromptVersion", call, code, &error);
    if (code != FORGE_OK)
        return;
    spare(&writer->unlabelled[prompt], call.version);
    if (expected == 0)
        spare(&writer->spares[prompt], call.version);
}

static void set_current(struct writer *writer, unsigned prompt, int32_t expected)
{
    Forge__V1__SetCurrentVersionRequest request = FORGE__V1__SET_CURRENT_VERSION_REQUEST__INIT;
    Forge__V1__Prompt *reply = NULL;
    const struct forge_call_options options = {.timeout_ms = CALL_MS};
    struct forge_error error = {0};
    struct history_call call = {.kind = HISTORY_MOVE, .prompt = prompt, .expected = expected};
    request.prompt_id = prompts[prompt];
    request.target_case = FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_VERSION;
    request.version = call.version = writer->spares[prompt].versions[writer->spares[prompt].count - 1];
    request.expected_version = expected;
    call.begin_ns = forge_clock_monotonic_ns();
    forge_code code = forge_prompt_set_current_version(channel_of(writer), &options, &request, &reply, &error);
    if (code == FORGE_OK) {
        writer->spares[prompt].count--;
        forge__v1__prompt__free_unpacked(reply, NULL);
    }
    settle(writer, "SetCurrentVersion", call, code, &error);
}

static void set_label(struct writer *writer, unsigned prompt, int32_t expected)
{
    Forge__V1__SetLabelRequest request = FORGE__V1__SET_LABEL_REQUEST__INIT;
    Google__Protobuf__Int32Value expected_version = GOOGLE__PROTOBUF__INT32_VALUE__INIT;
    Forge__V1__Label *reply = NULL;
    const struct forge_call_options options = {.timeout_ms = CALL_MS};
    struct forge_error error = {0};
    struct history_call call = {.kind = HISTORY_LABEL, .prompt = prompt, .expected = expected};
    request.prompt_id = prompts[prompt];
    request.label = label_name;
    request.target_case = FORGE__V1__SET_LABEL_REQUEST__TARGET_VERSION;
    request.version = call.version = writer->unlabelled[prompt].versions[writer->unlabelled[prompt].count - 1];
    request.expected_version = &expected_version;
    expected_version.value = expected;
    call.begin_ns = forge_clock_monotonic_ns();
    forge_code code = forge_prompt_set_label(channel_of(writer), &options, &request, &reply, &error);
    if (code == FORGE_OK) {
        writer->unlabelled[prompt].count--;
        forge__v1__label__free_unpacked(reply, NULL);
    }
    settle(writer, "SetLabel", call, code, &error);
}

/* Of twelve turns seven only read, three of them by label, two make a version, one makes a version current at once, one makes an earlier
 * one current, one moves the label to one. */
static void *writer_main(void *argument)
{
    struct writer *writer = argument;
    writer->random = writer->number + 1;
    while (!writer->failed && atomic_load(&call_count) < goal) {
        unsigned prompt = random_below(writer, PROMPTS), turn = random_below(writer, 12);
        bool moves_label = turn == 11 && writer->unlabelled[prompt].count > 0;
        if (turn >= 7 && turn < 9) {
            create_version(writer, prompt, 0);
            continue;
        }
        const struct history_call seen = read_prompt(writer, prompt, moves_label || turn < 3);
        if (turn < 7 || seen.current == 0)
            continue;
        if (moves_label)
            set_label(writer, prompt, seen.label);
        else if (turn == 9 || writer->spares[prompt].count == 0)
            create_version(writer, prompt, seen.current);
        else
            set_current(writer, prompt, seen.current);
    }
    return NULL;
}

/* Runs the writers; every call of all of them. */
static struct history_call *work(size_t *out_count)
{
    size_t count = 0;
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].number = i;
        assert_int_equal(pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        count += writers[i].count;
    }
    struct history_call *calls = calloc(count, sizeof calls[0]), *end = calls;
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_false(writers[i].failed);
        memcpy(end, writers[i].calls, writers[i].count * sizeof calls[0]);
        end += writers[i].count;
        free(writers[i].calls);
    }
    *out_count = count;
    return calls;
}

/* What the tables say otherwise than the history: numbers, the current version, the label, and the moves in the order of their times. */
static long stored_differently(const struct history_verdict *verdict)
{
    long different = 0;
    for (unsigned i = 0; i < PROMPTS; i++)
        different += world_number(&world,
                                  "SELECT ((SELECT (count(*), max(version)) <> (%d, %d) FROM prompt_versions WHERE prompt_id = '%s')"
                                  " OR (SELECT (current_version, newest_version) <> (%d, %d) FROM prompts WHERE id = '%s')"
                                  " OR (SELECT array_agg(version) <> ARRAY[%d] FROM label_targets WHERE prompt_id = '%s')"
                                  " OR (SELECT bool_or(old_targets -> 0 -> 'version' IS DISTINCT FROM before -> 0 -> 'version') FROM"
                                  " (SELECT old_targets, lag(new_targets) OVER (PARTITION BY label ORDER BY moved_at, id) AS before"
                                  " FROM label_history WHERE prompt_id = '%s') AS moves))::integer",
                                  verdict->highest[i], verdict->highest[i], prompts[i], verdict->current[i], verdict->highest[i],
                                  prompts[i], verdict->label[i], prompts[i], prompts[i]) != 0;
    return different;
}

/* --- planted bugs --- */

/* The history with a version number that nobody got: from the middle on all are one higher. */
static void plant_gap(struct history_call *calls, size_t count, int32_t from)
{
    for (size_t i = 0; i < count; i++) {
        int32_t *const numbers[] = {&calls[i].version, &calls[i].expected, &calls[i].current, &calls[i].latest, &calls[i].label};
        for (size_t j = 0; calls[i].prompt == 0 && j < sizeof numbers / sizeof numbers[0]; j++)
            *numbers[j] += *numbers[j] >= from;
    }
}

/* A refused move that had succeeded instead: two moves left the version it expected. */
static void plant_lost_update(struct history_call *calls, size_t count, bool of_label)
{
    int32_t unused = 0;
    for (size_t i = 0; i < count; i++)
        if (calls[i].prompt == 0 && calls[i].version > unused)
            unused = calls[i].version;
    for (size_t i = 0; i < count; i++)
        if (calls[i].prompt == 0 && calls[i].kind == (of_label ? HISTORY_LABEL_REFUSED : HISTORY_REFUSED)) {
            calls[i].kind = of_label ? HISTORY_LABEL : HISTORY_BOTH;
            calls[i].version = unused + 1;
            return;
        }
    fail_msg("nothing was refused");
}

/* The last read of a prompt is given what the first one saw. */
static void plant_stale_read(struct history_call *calls, size_t count, bool of_label)
{
    const struct history_call *first = NULL;
    struct history_call *last = NULL;
    for (size_t i = 0; i < count; i++) {
        if (calls[i].prompt != 0 || calls[i].kind != HISTORY_READ || (of_label && calls[i].label == 0))
            continue;
        if (!first || calls[i].begin_ns < first->begin_ns)
            first = &calls[i];
        if (!last || calls[i].begin_ns > last->begin_ns)
            last = &calls[i];
    }
    assert_true(first && last && first != last);
    if (of_label)
        last->label = first->label;
    else
        last->current = first->current;
}

/* Bugs that the checker misses in copies of this history; each shows as what it is. */
static long planted_bugs_missed(const struct history_call *calls, size_t count, const struct history_verdict *clean)
{
    struct history_call *copy = calloc(count, sizeof copy[0]);
    long missed = 0;
    for (int bug = 0; bug < PLANTED_BUGS; bug++) {
        struct history_verdict verdict;
        memcpy(copy, calls, count * sizeof copy[0]);
        if (bug == 0)
            plant_gap(copy, count, clean->highest[0] / 2);
        else if (bug <= 2)
            plant_lost_update(copy, count, bug == 2);
        else
            plant_stale_read(copy, count, bug == 4);
        history_check(copy, count, &verdict);
        missed += (bug == 0 ? verdict.gaps : bug <= 2 ? verdict.lost : verdict.stale) == 0;
        fprintf(stderr, "planted bug %d: %ld gaps, %ld lost, %ld stale, %ld unfounded\n", bug, verdict.gaps, verdict.lost, verdict.stale,
                verdict.unfounded);
    }
    free(copy);
    return missed;
}

static void test_versions_are_as_one_prompt_would_give_them(void **state)
{
    struct history_verdict verdict;
    size_t count;
    uint64_t begin_ms = forge_clock_monotonic_ms();
    goal = fault_is_full() ? FULL : SMALL;
    struct history_call *calls = work(&count);
    uint64_t took_ms = forge_clock_monotonic_ms() - begin_ms;
    size_t of_kind[HISTORY_KINDS] = {0};
    for (size_t i = 0; i < count; i++)
        of_kind[calls[i].kind]++;
    history_check(calls, count, &verdict);
    long different = stored_differently(&verdict), missed = planted_bugs_missed(calls, count, &verdict);
    long leaked = fault_open_transactions(&world) + !world_is_at_rest(&world, 0, 5000) + !world_is_at_rest(&world, 1, 5000);
    fprintf(stderr, "%zu calls in %.1f s: %zu reads, %zu versions, %zu moves, %zu both, %zu refused, %zu of the label, %zu refused\n",
            count, (double)took_ms / 1000, of_kind[HISTORY_READ], of_kind[HISTORY_CREATE], of_kind[HISTORY_MOVE], of_kind[HISTORY_BOTH],
            of_kind[HISTORY_REFUSED], of_kind[HISTORY_LABEL], of_kind[HISTORY_LABEL_REFUSED]);
    fprintf(stderr, "%ld gaps, %ld lost, %ld stale, %ld unfounded; %ld prompts stored otherwise; %ld planted bugs missed\n", verdict.gaps,
            verdict.lost, verdict.stale, verdict.unfounded, different, missed);
    free(calls);
    const struct fault_count harm = {.lost = verdict.lost + verdict.stale + verdict.unfounded + different, .duplicated = verdict.gaps};
    bool ok = harm.lost == 0 && harm.duplicated == 0 && leaked == 0 && missed == 0 && of_kind[HISTORY_REFUSED] > 0 &&
              of_kind[HISTORY_LABEL_REFUSED] > 0;
    fault_report("7", "16 writers of versions, current versions and labels over two servers, every call checked", (long)count, harm, leaked,
                 "no gap, no lost update, no stale read; 5 planted bugs found", ok);
    assert_true(ok);
}

static void make_label(char *prompt_id)
{
    Forge__V1__SetLabelRequest request = FORGE__V1__SET_LABEL_REQUEST__INIT;
    Forge__V1__Label *label;
    struct forge_error error = {0};
    request.prompt_id = prompt_id;
    request.label = label_name;
    request.target_case = FORGE__V1__SET_LABEL_REQUEST__TARGET_VERSION;
    request.version = 1;
    world_check(&world, "SetLabel", forge_prompt_set_label(channels[0], NULL, &request, &label, &error), &error);
    forge__v1__label__free_unpacked(label, NULL);
}

static int set_up(void **state)
{
    const struct world_options options = {.servers = 2};
    world_open(&world, &options);
    for (unsigned i = 0; i < 2; i++)
        channels[i] = world_channel(&world, i, world.home.session_token);
    for (int i = 0; i < PROMPTS; i++) {
        char name[32];
        snprintf(name, sizeof name, "contended %d", i);
        world_create_prompt(&world, channels[0], &world.home, name, "first version", prompts[i]);
        make_label(prompts[i]);
    }
    return 0;
}

static int tear_down(void **state)
{
    for (unsigned i = 0; i < 2; i++)
        forge_channel_close(channels[i]);
    world_close(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_versions_are_as_one_prompt_would_give_them)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
