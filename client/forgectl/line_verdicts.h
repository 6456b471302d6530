/* What becomes of the lines of a file that are sent in batches: counted, told where something is wrong, and shown as they go. */
#ifndef FORGECTL_LINE_VERDICTS_H
#define FORGECTL_LINE_VERDICTS_H

#include "cli.h"

/* Set path and what, zero the rest. */
struct line_verdicts {
    const char *path, *what; /* the file, and what its lines are: "results" */
    size_t accepted, duplicates, rejected;
    int rejection; /* exit code of the first rejected line, CLI_OK = none */
};

/* A count that is told besides these three. */
struct line_count {
    const char *name, *title; /* for programs and for people; a NULL name ends a list */
    size_t count;
};

/* A line that was not sent, and why not. */
void line_verdicts_refuse(struct line_verdicts *verdicts, size_t line, const char *why);
/* What became of a line that was. */
Forge__V1__ItemOutcome line_verdicts_take(struct line_verdicts *verdicts, size_t line, const Forge__V1__ItemVerdict *verdict);
/* On a terminal: how many were sent so far. */
void line_verdicts_show_progress(const struct line_verdicts *verdicts);
/* After the last batch, with the code that reading and sending ended with: prints the counts, or what was done before it failed. name is
 * what
 * "-o name" prints. The exit code of all of it. */
int line_verdicts_finish(struct cli *cli, const struct line_verdicts *verdicts, int code, const struct line_count *more, const char *name);

#endif
