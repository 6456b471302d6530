/* `forged maintain` as a process that a fault test kills, and shell lines that look at the files it leaves. */
#ifndef TESTS_FAULT_MAINTAIN_RUN_H
#define TESTS_FAULT_MAINTAIN_RUN_H

#include "support/world.h"

#include <sys/types.h>

/* Runs a line in the world's folder, with PG_BINDIR from our environment; one that fails ends the program with what it printed. */
void fault_shell(const struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Starts `forged maintain` with these words in the world's folder; its output is dropped. */
pid_t fault_maintain_start(const struct world *world, const char *words);
/* Waits for its end: the exit code, 128 + the signal where one ended it. */
int fault_maintain_end(const struct world *world, pid_t child);

#endif
