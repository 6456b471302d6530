#include "wire/uuid.h"

#include "wire/clock.h"
#include "wire/crypto.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Where the two digits of byte i stand in the text. */
static const uint8_t digit_position[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};

bool forge_uuid_parse(const char *text, struct forge_uuid *out)
{
    if (!text || strnlen(text, FORGE_UUID_TEXT_SIZE) != FORGE_UUID_TEXT_SIZE - 1)
        return false;
    if (text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-')
        return false;
    struct forge_uuid uuid;
    for (int i = 0; i < 16; i++) {
        int high = hex_value(text[digit_position[i]]);
        int low = hex_value(text[digit_position[i] + 1]);
        if (high < 0 || low < 0)
            return false;
        uuid.bytes[i] = (uint8_t)(high << 4 | low);
    }
    *out = uuid;
    return true;
}

void forge_uuid_format(const struct forge_uuid *uuid, char out_text[FORGE_UUID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    memcpy(out_text, "00000000-0000-0000-0000-000000000000", FORGE_UUID_TEXT_SIZE);
    for (int i = 0; i < 16; i++) {
        out_text[digit_position[i]] = digits[uuid->bytes[i] >> 4];
        out_text[digit_position[i] + 1] = digits[uuid->bytes[i] & 15];
    }
}

/* Random bytes ahead of their use, per thread: a system call per 32 ids instead of per id. */
static _Thread_local struct {
    uint8_t bytes[256];
    size_t left;
} random_pool;

/* Runs on the only thread of a forked child: what the parent has in its pool must not be used twice. */
static void forget_random_pool(void)
{
    random_pool.left = 0;
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, forget_random_pool);
}

static void take_random(uint8_t out[8])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (random_pool.left == 0) {
        pthread_once(&once, watch_forks);
        forge_random(random_pool.bytes, sizeof random_pool.bytes);
        random_pool.left = sizeof random_pool.bytes;
    }
    random_pool.left -= 8;
    memcpy(out, random_pool.bytes + random_pool.left, 8);
}

/* Milliseconds and, below them, 12 bits of fraction: greater at each call, also when the clock stands or jumps back. */
static uint64_t next_time(void)
{
    static _Atomic uint64_t last_time;
    uint64_t wall_us = (uint64_t)forge_clock_wall_us();
    uint64_t now = wall_us / 1000 << 12 | (wall_us % 1000 << 12) / 1000;
    uint64_t last = atomic_load_explicit(&last_time, memory_order_relaxed);
    uint64_t next;
    do
        next = now > last ? now : last + 1;
    while (!atomic_compare_exchange_weak_explicit(&last_time, &last, next, memory_order_relaxed, memory_order_relaxed));
    return next;
}

void forge_uuid_v7(struct forge_uuid *out)
{
    uint64_t time = next_time();
    uint64_t ms = time >> 12;
    for (int i = 0; i < 6; i++)
        out->bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    out->bytes[6] = (uint8_t)(0x70 | (time >> 8 & 0x0F));
    out->bytes[7] = (uint8_t)time;
    take_random(out->bytes + 8);
    out->bytes[8] = (uint8_t)(0x80 | (out->bytes[8] & 0x3F));
}

bool forge_uuid_is_v7(const struct forge_uuid *uuid)
{
    return uuid->bytes[6] >> 4 == 7 && uuid->bytes[8] >> 6 == 2;
}

bool forge_uuid_is_nil(const struct forge_uuid *uuid)
{
    static const struct forge_uuid nil;
    return forge_uuid_equal(uuid, &nil);
}

int64_t forge_uuid_v7_ms(const struct forge_uuid *uuid)
{
    int64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | uuid->bytes[i];
    return ms;
}

bool forge_uuid_equal(const struct forge_uuid *a, const struct forge_uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}
