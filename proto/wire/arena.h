/* Capped bump allocator of one call: the request, row text and the reply tree live in it and nothing is freed singly.
 *
 * Not thread safe: an arena belongs to whoever owns its call. Memory comes zeroed (protobuf-c 1.4.1 leaves
 * unknown_fields of a fresh message uninitialised). Going over the cap or the shared byte budget is sticky: every later
 * allocation fails too and forge_arena_has_overflowed() says so once at the end, so callers may check late. */
#ifndef FORGE_WIRE_ARENA_H
#define FORGE_WIRE_ARENA_H

#include "wire/status.h"

#include <protobuf-c/protobuf-c.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* Bytes that all arenas and receive buffers of a process may hold together. */
struct forge_byte_budget {
    atomic_size_t used;
    size_t bytes_max;
};
/* Takes bytes from the budget; false when they are not there. A NULL budget is unlimited. Any thread. */
bool forge_byte_budget_take(struct forge_byte_budget *budget, size_t bytes) FORGE_MUST_CHECK;
void forge_byte_budget_give(struct forge_byte_budget *budget, size_t bytes);

struct forge_arena_chunk;
struct forge_arena {
    struct forge_arena_chunk *chunks; /* the newest first */
    size_t used;                      /* bytes handed out */
    size_t bytes_max;
    size_t charged; /* bytes taken from the budget */
    struct forge_byte_budget *budget;
    bool overflowed;
    ProtobufCAllocator allocator; /* allocates here, frees nothing */
};

/* budget may be NULL. Allocates nothing yet. */
void forge_arena_init(struct forge_arena *arena, size_t bytes_max, struct forge_byte_budget *budget);
/* Frees everything but one small chunk, which it keeps (zeroed) for the next call; clears the overflow. */
void forge_arena_reset(struct forge_arena *arena);
/* Frees everything. Accepts a zeroed arena. */
void forge_arena_done(struct forge_arena *arena);

/* size bytes aligned for any type, zeroed; NULL after an overflow. size 0 gives a unique pointer. */
void *forge_arena_alloc(struct forge_arena *arena, size_t size);
/* count * size with an overflow check. */
void *forge_arena_calloc(struct forge_arena *arena, size_t count, size_t size);
void *forge_arena_memdup(struct forge_arena *arena, const void *data, size_t size);
char *forge_arena_strdup(struct forge_arena *arena, const char *text);
char *forge_arena_strndup(struct forge_arena *arena, const char *text, size_t length);
char *forge_arena_printf(struct forge_arena *arena, const char *format, ...) FORGE_PRINTF(2, 3);

/* For protobuf_c_message_unpack(); valid as long as the arena. */
ProtobufCAllocator *forge_arena_allocator(struct forge_arena *arena);
bool forge_arena_has_overflowed(const struct forge_arena *arena);

/* Adds a violation to error, copied into the arena; above FORGE_VIOLATIONS_MAX it is only counted. */
void forge_error_add_violation(struct forge_error *error, struct forge_arena *arena, const char *field, const char *format, ...)
    FORGE_PRINTF(4, 5);
/* Adds a fact to error, copied into the arena; above FORGE_FACTS_MAX it is left out. */
void forge_error_add_fact(struct forge_error *error, struct forge_arena *arena, const char *key, const char *format, ...)
    FORGE_PRINTF(4, 5);

#endif
