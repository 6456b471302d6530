/* What clients saw of a prompt's versions while many of them worked at once, and the checker that says whether one prompt that does one
 * thing after the other could have answered so (linearizability). Every version becomes current at most once, and a label of the prompt
 * points at it at most once, so the order of moves follows from what each expected; the order of new versions is their numbers. */
#ifndef TESTS_FAULT_HISTORY_H
#define TESTS_FAULT_HISTORY_H

#include <stddef.h>
#include <stdint.h>

enum history_kind {
    HISTORY_READ,         /* saw current, latest and where the label points */
    HISTORY_CREATE,       /* made version */
    HISTORY_MOVE,         /* made version current where expected was */
    HISTORY_BOTH,         /* made version, and it current where expected was */
    HISTORY_REFUSED,      /* expected was not current */
    HISTORY_LABEL,        /* pointed the label at version where it pointed at expected */
    HISTORY_LABEL_REFUSED /* the label did not point at expected */
};
enum { HISTORY_KINDS = HISTORY_LABEL_REFUSED + 1 };

/* One call, from before it was sent to after its answer. */
struct history_call {
    enum history_kind kind;
    unsigned prompt; /* below HISTORY_PROMPTS_MAX */
    uint64_t begin_ns, end_ns;
    int32_t version;         /* made or moved to */
    int32_t expected;        /* moves and refusals */
    int32_t current, latest; /* reads */
    int32_t label;           /* reads by label: the version it points at; 0 = read without it */
};

enum { HISTORY_PROMPTS_MAX = 64 };

struct history_verdict {
    long gaps;      /* version numbers below the highest that nobody got, or that two got */
    long lost;      /* moves from a version that another move had left, or that nobody had made current */
    long stale;     /* calls that saw or did what time forbids: a read of what was replaced, a write ordered before one that had ended */
    long unfounded; /* refusals although the expected version was current all the time */
    /* Versions after all calls; 0 for prompts without any. */
    int32_t highest[HISTORY_PROMPTS_MAX], current[HISTORY_PROMPTS_MAX], label[HISTORY_PROMPTS_MAX];
};

/* Version 1 exists, is current and has the label before the first call. Calls in any order. */
void history_check(const struct history_call *calls, size_t count, struct history_verdict *out);

#endif
