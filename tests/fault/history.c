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

/* A register that moves from version to version by compare and set: the current version, or the label. By version. */
struct pointer {
    const struct history_call **movers; /* who moved it to a version */
    int32_t *successors;                /* where it went from this version; 0 = nowhere */
    struct value *values;
};

/* One prompt, by version. */
struct prompt {
    int32_t highest;
    const struct history_call **makers; /* who made a version */
    struct value *numbers;              /* as latest */
    struct pointer current, label;
};

static void *room(size_t size)
{
    void *memory = calloc(VERSIONS_MAX, size);
    if (!memory)
        abort();
    return memory;
}

static void pointer_init(struct pointer *pointer)
{
    pointer->movers = room(sizeof *pointer->movers);
    pointer->successors = room(sizeof *pointer->successors);
    pointer->values = room(sizeof *pointer->values);
}

static void pointer_done(struct pointer *pointer)
{
    free(pointer->movers);
    free(pointer->successors);
    free(pointer->values);
}

static void prompt_init(struct prompt *prompt)
{
    prompt->highest = 1;
    prompt->makers = room(sizeof *prompt->makers);
    prompt->numbers = room(sizeof *prompt->numbers);
    pointer_init(&prompt->current);
    pointer_init(&prompt->label);
}

static void prompt_done(struct prompt *prompt)
{
    free(prompt->makers);
    free(prompt->numbers);
    pointer_done(&prompt->current);
    pointer_done(&prompt->label);
}

static bool makes(const struct history_call *call)
{
    return call->kind == HISTORY_CREATE || call->kind == HISTORY_BOTH;
}

/* The pointer that this call moved; NULL: none. */
static struct pointer *moved_pointer(struct prompt *prompt, const struct history_call *call)
{
    if (call->kind == HISTORY_LABEL)
        return &prompt->label;
    return call->kind == HISTORY_MOVE || call->kind == HISTORY_BOTH ? &prompt->current : NULL;
}

/* The pointer that was not where this call expected it; NULL: the call was not refused. */
static const struct pointer *refused_pointer(const struct prompt *prompt, const struct history_call *call)
{
    if (call->kind == HISTORY_LABEL_REFUSED)
        return &prompt->label;
    return call->kind == HISTORY_REFUSED ? &prompt->current : NULL;
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
    struct pointer *pointer = moved_pointer(prompt, call);
    if (pointer) {
        out->lost += pointer->movers[call->version] != NULL || pointer->successors[call->expected] != 0;
        pointer->movers[call->version] = pointer->values[call->version].writer = call;
        pointer->successors[call->expected] = call->version;
    }
    if (call->kind == HISTORY_READ) {
        see(&prompt->numbers[call->latest], call);
        see(&prompt->current.values[call->current], call);
        if (call->label > 0)
            see(&prompt->label.values[call->label], call);
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
static int32_t moves_check(const struct pointer *pointer, int32_t highest, struct history_verdict *out)
{
    uint64_t at = 0;
    long moved = 0, chained = 0;
    int32_t current = 1;
    for (int32_t version = 1; version <= highest; version++) {
        moved += pointer->movers[version] != NULL;
        out->stale += version > 1 && !pointer->movers[version] && pointer->values[version].first_seen_end != 0;
    }
    for (int32_t next; (next = pointer->successors[current]) != 0 && chained <= moved; current = next, chained++)
        at = moment(&pointer->values[next], &pointer->values[current], at, out);
    out->lost += labs(moved - chained);
    return current;
}

/* Did it point at what was expected from before the call began until after it ended? */
static bool is_unfounded(const struct pointer *pointer, const struct history_call *call)
{
    const struct history_call *mover = pointer->movers[call->expected];
    int32_t next = pointer->successors[call->expected];
    bool came_before = mover ? mover->end_ns < call->begin_ns : call->expected == 1;
    return came_before && (next == 0 || pointer->movers[next]->begin_ns > call->end_ns);
}

/* A number that no version of such a history can have. */
static bool is_wild(const struct history_call *call)
{
    const int32_t numbers[] = {call->version, call->expected, call->current, call->latest, call->label};
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
    out->current[number] = moves_check(&prompt.current, prompt.highest, out);
    out->label[number] = moves_check(&prompt.label, prompt.highest, out);
    for (size_t i = 0; i < count; i++) {
        const struct pointer *pointer = calls[i].prompt == number ? refused_pointer(&prompt, &calls[i]) : NULL;
        if (pointer && !is_wild(&calls[i]))
            out->unfounded += is_unfounded(pointer, &calls[i]);
    }
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
