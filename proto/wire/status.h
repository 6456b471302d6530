/* Status codes and the error that travels with a failed operation.
 *
 * Codes have the numbers and names of gRPC (https://grpc.github.io/grpc/core/md_doc_statuscodes.html), so that
 * dashboards and people already know them. */
#ifndef FORGE_WIRE_STATUS_H
#define FORGE_WIRE_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
/* Part of libforge's public interface. */
#pragma GCC visibility push(default)

typedef enum forge_code {
    FORGE_OK = 0,
    FORGE_CANCELLED = 1,
    FORGE_UNKNOWN = 2,
    FORGE_INVALID_ARGUMENT = 3,
    FORGE_DEADLINE_EXCEEDED = 4,
    FORGE_NOT_FOUND = 5,
    FORGE_ALREADY_EXISTS = 6,
    FORGE_PERMISSION_DENIED = 7,
    FORGE_RESOURCE_EXHAUSTED = 8,
    FORGE_FAILED_PRECONDITION = 9,
    FORGE_ABORTED = 10,
    FORGE_OUT_OF_RANGE = 11,
    FORGE_UNIMPLEMENTED = 12,
    FORGE_INTERNAL = 13,
    FORGE_UNAVAILABLE = 14,
    FORGE_DATA_LOSS = 15,
    FORGE_UNAUTHENTICATED = 16,
    /* Inside the server only, never on the wire: the call was handed to the parked table and is not ours any more. */
    FORGE_PARKED = 100
} forge_code;

#define FORGE_MUST_CHECK __attribute__((warn_unused_result))
#define FORGE_PRINTF(format_index, first_index) __attribute__((format(printf, format_index, first_index)))

enum {
    FORGE_ERROR_REASON_MAX = 64,   /* bytes of struct forge_error.reason, terminating NUL included */
    FORGE_ERROR_MESSAGE_MAX = 512, /* bytes of struct forge_error.message, terminating NUL included */
    FORGE_VIOLATIONS_MAX = 32,     /* violations one error carries; later ones are counted but not kept */
    FORGE_FACTS_MAX = 8            /* facts one error carries; later ones are left out */
};

/* One request field that is wrong. Lives in the arena or block of whoever made the error. */
struct forge_violation {
    struct forge_violation *next;
    const char *field;       /* path in the request, e.g. "name" or "messages[2].role" */
    const char *description; /* what is wrong and what is allowed */
};

/* A fact that belongs to the reason of an error. Lives where violations do. */
struct forge_fact {
    struct forge_fact *next;
    const char *key;
    const char *value;
};

/* A failure: the code, one sentence for people, and what a program needs to react. A zeroed struct is "no error". */
struct forge_error {
    forge_code code;
    char sqlstate[6]; /* PostgreSQL's SQLSTATE where the database was the cause, else "" */
    char message[FORGE_ERROR_MESSAGE_MAX];
    char reason[FORGE_ERROR_REASON_MAX]; /* stable name of the cause for programs, e.g. "CALL_IN_PROGRESS"; "" = the code says it all */
    uint32_t retry_after_ms;             /* 0 = none given */
    bool not_executed;                   /* the operation certainly had no effect */
    bool outcome_unknown;                /* client side: it may have happened, nobody knows */
    unsigned violation_count;
    struct forge_violation *violations; /* in the order they were found */
    struct forge_fact *facts;           /* each key once */
};

/* "INVALID_ARGUMENT" and so on; "UNKNOWN" for a number that is none of ours. Static storage. */
const char *forge_code_name(forge_code code);

/* The code of such a name, or FORGE_UNKNOWN with *out_found = false. */
forge_code forge_code_parse(const char *name, bool *out_found);

/* Fills code and message (cut off at FORGE_ERROR_MESSAGE_MAX - 1 bytes, on a UTF-8 boundary), leaves the other fields,
 * and returns code, so that failing is one expression: return forge_error_set(e, FORGE_NOT_FOUND, "..."). */
forge_code forge_error_set(struct forge_error *error, forge_code code, const char *format, ...) FORGE_PRINTF(3, 4);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
