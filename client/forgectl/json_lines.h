/* JSON Lines (https://jsonlines.org) as messages, in batches of what one call takes. */
#ifndef FORGECTL_JSON_LINES_H
#define FORGECTL_JSON_LINES_H

#include "cli.h"

enum { JSON_LINES_BATCH = 1000 };

struct json_lines_batch {
    ProtobufCMessage *messages[JSON_LINES_BATCH];
    size_t lines[JSON_LINES_BATCH]; /* where each stands in the file, from 1 */
    size_t count;
};

struct json_lines {
    const ProtobufCMessageDescriptor *type;
    const char *const *texts; /* fields that the API takes as JSON text and people write as the objects and lists they are, ended by NULL */
    /* Called for each batch; its messages are gone afterwards. CLI_OK or an exit code, which ends the reading. */
    int (*send)(void *context, const struct json_lines_batch *batch);
    /* Called for a line that is no message, with why not. CLI_OK to go on, or an exit code. */
    int (*refuse)(void *context, size_t line, const char *why);
    void *context;
};

/* Reads a file ("-" = standard input). Blank lines do not count. CLI_OK or an exit code, after printing what is wrong with the file. */
int json_lines_read(struct cli *cli, const char *path, const struct json_lines *lines);

#endif
