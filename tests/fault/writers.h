/* Writers that go on whatever happens, for the fault tests: each keeps writing, repeats every write under its request_id until the outcome
 * is known, and keeps samples of replies that must come again byte for byte. One set of writers per program. */
#ifndef TESTS_FAULT_WRITERS_H
#define TESTS_FAULT_WRITERS_H

#include "writes.h"

enum { FAULT_WRITERS = 16, FAULT_SAMPLES = 500 };

/* 16 threads; a third knows both of the world's two servers, the others one each. goal: writes after which the test will stop them. */
void fault_writers_start(const struct world *world, long goal);
/* Blocks until so many writes are acknowledged; false when a writer got a wrong answer or none for 30 s. */
bool fault_writers_wait(long acknowledged);

struct fault_writers_outcome {
    bool progress;            /* every writer got an answer to every write */
    long versions, keys;      /* acknowledged */
    long unknown;             /* first answers that did not tell the outcome */
    unsigned replayed;        /* samples asked for again */
    long different;           /* of these, not the same bytes */
    struct fault_count count; /* different ones are among the duplicated */
    long leaked;              /* transactions, connections or calls left over */
    bool ok;                  /* nothing lost, duplicated or leaked */
};
/* Ends the writers, asks for every sample again, and compares the database with what was acknowledged. Both servers must run. */
void fault_writers_stop(struct fault_writers_outcome *out);

#endif
