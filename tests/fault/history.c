#include "history.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { VERSIONS_MAX = 1 << 17 /* of one prompt */ };

/* A value that a register has had: which call gave it, and what is known of the calls that saw it. */
struct value {
    const struct history_call *writer; /* NULL: there before the first call */
    uint64_t first_seen_end;           /* least end of a call that saw it: it was written before */
    uint64_t last_seen_begin;          /* greatest begin of a call that saw it: it was replaced after */
};

/* One prompt, by version. */
struct prompt {
    int32_t highest;
    const struct history_call **makers, **movers; /* who made a version, who made it current */
    int32_t *successors;                          /* what was made current where this one was; 0 = nothing */
    struct value *numbers, *currents;             /* as latest, as current */
};

static void *room(size_t size)
{
    void *memory = calloc(VERSIONS_MAX, size);
    if (!memory)
        abort();
    return memory;
}

static void prompt_init(struct prompt *prompt)
{
    prompt->highest = 1;
    prompt->makers = room(sizeof *prompt->makers);
    prompt->movers = room(sizeof *prompt->movers);
    prompt->successors = room(sizeof *prompt->successors);
    prompt->numbers = room(sizeof *prompt->numbers);
    prompt->currents = room(sizeof *prompt->currents);
}

static void prompt_done(struct prompt *prompt)
{
    free(prompt->makers);
    free(prompt->movers);
    free(prompt->successors);
    free(prompt->numbers);
    free(prompt->currents);
}

static bool makes(const struct history_call *call)
{
    return call->kind == HISTORY_CREATE || call->kind == HISTORY_BOTH;
}

static bool moves(const struct history_call *call)
{
    return call->kind == HISTORY_MOVE || call->kind == HISTORY_BOTH;
}

static void see(struct value *value, const struct history_call *call)
{
    if (value->first_seen_end == 0 || call->end_ns < value->first_seen_end)
        value->first_seen_end = call->end_ns;
    if (call->begin_ns > value->last_seen_begin)
        value->last_seen_begin = call->begin_ns;
}

/* Enters one call; what cannot be entered because its place is taken is a fault. */
static void prompt_enter(struct prompt *prompt, const struct history_call *call, struct history_verdict *out)
{
    if (makes(call)) {
        out->gaps += prompt->makers[call->version] != NULL || call->version < 2;
        prompt->makers[call->version] = prompt->numbers[call->version].writer = call;
        if (call->version > prompt->highest)
            prompt->highest = call->version;
    }
    if (moves(call)) {
        out->lost += prompt->movers[call->version] != NULL || prompt->successors[call->expected] != 0;
        prompt->movers[call->version] = prompt->currents[call->version].writer = call;
        prompt->successors[call->expected] = call->version;
    }
    if (call->kind == HISTORY_READ) {
        see(&prompt->numbers[call->latest], call);
        see(&prompt->currents[call->current], call);
    }
}

/* Gives each write of an ordered register the earliest moment it can have had: after the writes before it, and after every read of the
 * value it replaced had begun. It must lie before the write's own end and before the end of every read of its value. */
static uint64_t moment(const struct value *value, const struct value *before, uint64_t moment_before, struct history_verdict *out)
{
    uint64_t at = moment_before > before->last_seen_begin ? moment_before : before->last_seen_begin;
    if (value->writer && value->writer->begin_ns > at)
        at = value->writer->begin_ns;
    bool late = value->writer && at > value->writer->end_ns;
    bool unread = value->first_seen_end != 0 && at > value->first_seen_end;
    out->stale += late || unread;
    return late ? value->writer->end_ns : at;
}

static void numbers_check(const struct prompt *prompt, struct history_verdict *out)
{
    uint64_t at = 0;
    for (int32_t version = 2; version <= prompt->highest; version++) {
        out->gaps += prompt->makers[version] == NULL;
        at = moment(&prompt->numbers[version], &prompt->numbers[version - 1], at, out);
    }
    for (int32_t version = prompt->highest + 1; version < VERSIONS_MAX; version++)
        out->stale += prompt->numbers[version].first_seen_end != 0; /* read, and made by nobody */
}

/* Follows the moves from version 1; returns where they end. */
static int32_t moves_check(const struct prompt *prompt, struct history_verdict *out)
{
    uint64_t at = 0;
    long moved = 0, chained = 0;
    int32_t current = 1;
    for (int32_t version = 1; version <= prompt->highest; version++) {
        moved += prompt->movers[version] != NULL;
        out->stale += version > 1 && !prompt->movers[version] && prompt->currents[version].first_seen_end != 0;
    }
    for (int32_t next; (next = prompt->successors[current]) != 0 && chained <= moved; current = next, chained++)
        at = moment(&prompt->currents[next], &prompt->currents[current], at, out);
    out->lost += labs(moved - chained);
    return current;
}

/* Was expected current from before the call began until after it ended? */
static bool is_unfounded(const struct prompt *prompt, const struct history_call *call)
{
    const struct history_call *mover = prompt->movers[call->expected];
    int32_t next = prompt->successors[call->expected];
    bool came_before = mover ? mover->end_ns < call->begin_ns : call->expected == 1;
    return came_before && (next == 0 || prompt->movers[next]->begin_ns > call->end_ns);
}

/* A number that no version of such a history can have. */
static bool is_wild(const struct history_call *call)
{
    const int32_t numbers[] = {call->version, call->expected, call->current, call->latest};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i] < 0 || numbers[i] >= VERSIONS_MAX)
            return true;
    return false;
}

static void prompt_check(const struct history_call *calls, size_t count, unsigned number, struct history_verdict *out)
{
    struct prompt prompt;
    prompt_init(&prompt);
    for (size_t i = 0; i < count; i++)
        if (calls[i].prompt == number && is_wild(&calls[i]))
            out->gaps++;
        else if (calls[i].prompt == number)
            prompt_enter(&prompt, &calls[i], out);
    numbers_check(&prompt, out);
    out->highest[number] = prompt.highest;
    out->current[number] = moves_check(&prompt, out);
    for (size_t i = 0; i < count; i++)
        if (calls[i].prompt == number && calls[i].kind == HISTORY_REFUSED && !is_wild(&calls[i]))
            out->unfounded += is_unfounded(&prompt, &calls[i]);
    prompt_done(&prompt);
}

void history_check(const struct history_call *calls, size_t count, struct history_verdict *out)
{
    bool used[HISTORY_PROMPTS_MAX] = {false};
    *out = (struct history_verdict){0};
    for (size_t i = 0; i < count; i++)
        used[calls[i].prompt] = true;
    for (unsigned number = 0; number < HISTORY_PROMPTS_MAX; number++)
        if (used[number])
            prompt_check(calls, count, number, out);
}
