#include "wire/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first chunk holds a typical request and its reply; later ones double, so that n bytes cost log n mallocs. */
enum { FIRST_CHUNK_SIZE = 2 << 10, CHUNK_SIZE_MAX = 1 << 20, ALIGNMENT = _Alignof(max_align_t) };

#ifdef FORGE_ARENA_EMULATOR
/* One malloc of the exact size per allocation, so that AddressSanitizer sees an access behind its end. The chunks are then
 * book-keeping only: what fails, and when, is the same in both builds. */
struct block {
    struct block *next;
    _Alignas(max_align_t) unsigned char data[];
};
#endif

struct forge_arena_chunk {
    struct forge_arena_chunk *next;
    size_t size; /* of data */
    size_t used;
#ifdef FORGE_ARENA_EMULATOR
    struct block *blocks;
#else
    _Alignas(max_align_t) unsigned char data[];
#endif
};

static size_t round_up(size_t size)
{
    return (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

bool forge_byte_budget_take(struct forge_byte_budget *budget, size_t bytes)
{
    if (!budget)
        return true;
    size_t used = atomic_load_explicit(&budget->used, memory_order_relaxed);
    do {
        if (used > budget->bytes_max || bytes > budget->bytes_max - used)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&budget->used, &used, used + bytes, memory_order_relaxed, memory_order_relaxed));
    return true;
}

void forge_byte_budget_give(struct forge_byte_budget *budget, size_t bytes)
{
    if (budget)
        atomic_fetch_sub_explicit(&budget->used, bytes, memory_order_relaxed);
}

#ifdef FORGE_ARENA_EMULATOR
static struct forge_arena_chunk *chunk_new(size_t size)
{
    return calloc(1, sizeof(struct forge_arena_chunk));
}

static void chunk_clear(struct forge_arena_chunk *chunk)
{
    while (chunk->blocks) {
        struct block *block = chunk->blocks;
        chunk->blocks = block->next;
        free(block);
    }
}

static void *chunk_take(struct forge_arena_chunk *chunk, size_t size, size_t rounded)
{
    struct block *block = calloc(1, sizeof *block + size);
    if (!block)
        return NULL;
    block->next = chunk->blocks;
    chunk->blocks = block;
    chunk->used += rounded;
    return block->data;
}
#else
static struct forge_arena_chunk *chunk_new(size_t size)
{
    return calloc(1, sizeof(struct forge_arena_chunk) + size);
}

static void chunk_clear(struct forge_arena_chunk *chunk)
{
    memset(chunk->data, 0, chunk->used);
}

static inline void *chunk_take(struct forge_arena_chunk *chunk, size_t size, size_t rounded)
{
    void *memory = chunk->data + chunk->used;
    chunk->used += rounded;
    return memory;
}
#endif

static void chunk_free(struct forge_arena *arena, struct forge_arena_chunk *chunk)
{
    size_t bytes = chunk->size + sizeof *chunk;
    forge_byte_budget_give(arena->budget, bytes);
    arena->charged -= bytes;
#ifdef FORGE_ARENA_EMULATOR
    chunk_clear(chunk);
#endif
    free(chunk);
}

static void *allocator_alloc(void *arena, size_t size)
{
    return forge_arena_alloc(arena, size);
}

static void allocator_free(void *arena, void *memory) {}

void forge_arena_init(struct forge_arena *arena, size_t bytes_max, struct forge_byte_budget *budget)
{
    *arena = (struct forge_arena){.bytes_max = bytes_max, .budget = budget};
    arena->allocator.alloc = allocator_alloc;
    arena->allocator.free = allocator_free;
}

void forge_arena_reset(struct forge_arena *arena)
{
    while (arena->chunks && arena->chunks->next) {
        struct forge_arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        chunk_free(arena, chunk);
    }
    if (arena->chunks && arena->chunks->size > FIRST_CHUNK_SIZE) {
        chunk_free(arena, arena->chunks);
        arena->chunks = NULL;
    }
    if (arena->chunks) {
        chunk_clear(arena->chunks);
        arena->chunks->used = 0;
    }
    arena->used = 0;
    arena->overflowed = false;
}

void forge_arena_done(struct forge_arena *arena)
{
    while (arena->chunks) {
        struct forge_arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        chunk_free(arena, chunk);
    }
    arena->used = 0;
    arena->overflowed = false;
}

/* A chunk with room for at least size bytes becomes the newest; false without memory or budget. */
static bool grow(struct forge_arena *arena, size_t size)
{
    size_t wanted = arena->chunks ? arena->chunks->size * 2 : FIRST_CHUNK_SIZE;
    if (wanted > CHUNK_SIZE_MAX)
        wanted = CHUNK_SIZE_MAX;
    if (wanted < size)
        wanted = size;
    size_t bytes = wanted + sizeof(struct forge_arena_chunk);
    if (!forge_byte_budget_take(arena->budget, bytes))
        return false;
    struct forge_arena_chunk *chunk = chunk_new(wanted);
    if (!chunk) {
        forge_byte_budget_give(arena->budget, bytes);
        return false;
    }
    chunk->size = wanted;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    arena->charged += bytes;
    return true;
}

void *forge_arena_alloc(struct forge_arena *arena, size_t size)
{
    if (arena->overflowed)
        return NULL;
    size_t rounded = round_up(size ? size : 1);
    if (rounded < size || rounded > arena->bytes_max - arena->used)
        goto overflow;
    struct forge_arena_chunk *chunk = arena->chunks;
    if (!chunk || rounded > chunk->size - chunk->used) {
        if (!grow(arena, rounded))
            goto overflow;
        chunk = arena->chunks;
    }
    void *memory = chunk_take(chunk, size, rounded);
    if (!memory)
        goto overflow;
    arena->used += rounded;
    return memory;
overflow:
    arena->overflowed = true;
    return NULL;
}

void *forge_arena_calloc(struct forge_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        arena->overflowed = true;
        return NULL;
    }
    return forge_arena_alloc(arena, bytes);
}

void *forge_arena_memdup(struct forge_arena *arena, const void *data, size_t size)
{
    void *copy = forge_arena_alloc(arena, size);
    if (copy && size)
        memcpy(copy, data, size);
    return copy;
}

char *forge_arena_strdup(struct forge_arena *arena, const char *text)
{
    return forge_arena_memdup(arena, text, strlen(text) + 1);
}

char *forge_arena_strndup(struct forge_arena *arena, const char *text, size_t length)
{
    length = strnlen(text, length);
    char *copy = forge_arena_alloc(arena, length + 1); /* zeroed, hence terminated */
    if (copy)
        memcpy(copy, text, length);
    return copy;
}

static FORGE_PRINTF(2, 0) char *arena_vprintf(struct forge_arena *arena, const char *format, va_list arguments)
{
    char buffer[256];
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(buffer, sizeof buffer, format, arguments);
    char *text = NULL;
    if (length < 0)
        arena->overflowed = true;
    else if ((size_t)length < sizeof buffer)
        text = forge_arena_memdup(arena, buffer, (size_t)length + 1);
    else if ((text = forge_arena_alloc(arena, (size_t)length + 1)))
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

char *forge_arena_printf(struct forge_arena *arena, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = arena_vprintf(arena, format, arguments);
    va_end(arguments);
    return text;
}

ProtobufCAllocator *forge_arena_allocator(struct forge_arena *arena)
{
    arena->allocator.allocator_data = arena; /* here and not in init: the struct may have been moved */
    return &arena->allocator;
}

bool forge_arena_has_overflowed(const struct forge_arena *arena)
{
    return arena->overflowed;
}

void forge_error_add_violation(struct forge_error *error, struct forge_arena *arena, const char *field, const char *format, ...)
{
    if (++error->violation_count > FORGE_VIOLATIONS_MAX)
        return;
    struct forge_violation *violation = forge_arena_alloc(arena, sizeof *violation);
    va_list arguments;
    va_start(arguments, format);
    char *description = violation ? arena_vprintf(arena, format, arguments) : NULL;
    va_end(arguments);
    char *path = description ? forge_arena_strdup(arena, field) : NULL;
    if (!path)
        return; /* the arena's overflow is reported by whoever owns the call */
    violation->field = path;
    violation->description = description;
    struct forge_violation **end = &error->violations;
    while (*end)
        end = &(*end)->next;
    *end = violation;
}

void forge_error_add_fact(struct forge_error *error, struct forge_arena *arena, const char *key, const char *format, ...)
{
    struct forge_fact **end = &error->facts;
    unsigned count = 0;
    for (; *end; end = &(*end)->next)
        count++;
    struct forge_fact *fact = count < FORGE_FACTS_MAX ? forge_arena_alloc(arena, sizeof *fact) : NULL;
    if (!fact)
        return; /* the arena's overflow is reported by whoever owns the call */
    va_list arguments;
    va_start(arguments, format);
    char *value = arena_vprintf(arena, format, arguments);
    va_end(arguments);
    char *name = value ? forge_arena_strdup(arena, key) : NULL;
    if (!name)
        return;
    fact->key = name;
    fact->value = value;
    *end = fact;
}
