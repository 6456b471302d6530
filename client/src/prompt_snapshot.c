#include "prompt_snapshot.h"

#include "wire/arena.h"
#include "wire/envelope.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEAD_SIZE = 12,
    RECORD_HEAD_SIZE = 16,
    MESSAGE_BYTES_MAX = 4 << 20, /* of a reply */
    DEPTH_MAX = 16
};
static const uint8_t head[HEAD_SIZE] = {'P', 'F', 'P', 'C', 'A', 'C', 'H', 'E', 0, 0, 0, 1};

static void write_number(uint8_t *out, uint64_t number, size_t size)
{
    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)(number >> (8 * (size - 1 - i)));
}

static uint64_t read_number(const uint8_t *data, size_t size)
{
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++)
        number = number << 8 | data[i];
    return number;
}

/* ---- records ---- */

static uint8_t *grow(struct forge__snapshot_bytes *bytes, size_t size)
{
    if (bytes->capacity - bytes->size < size) {
        size_t capacity = 2 * bytes->capacity > bytes->size + size ? 2 * bytes->capacity : bytes->size + size;
        uint8_t *data = realloc(bytes->data, capacity);
        if (!data) {
            bytes->has_failed = true;
            return NULL;
        }
        bytes->data = data;
        bytes->capacity = capacity;
    }
    uint8_t *at = bytes->data + bytes->size;
    bytes->size += size;
    return at;
}

void forge__snapshot_add(struct forge__snapshot_bytes *bytes, const Forge__V1__GetPromptRequest *request, const Forge__V1__Prompt *prompt,
                         int64_t confirmed_us)
{
    size_t request_size = protobuf_c_message_get_packed_size(&request->base),
           prompt_size = protobuf_c_message_get_packed_size(&prompt->base);
    uint8_t *at = grow(bytes, RECORD_HEAD_SIZE + request_size + prompt_size);
    if (!at)
        return;
    write_number(at, request_size, 4);
    write_number(at + 4, prompt_size, 4);
    write_number(at + 8, (uint64_t)confirmed_us, 8);
    protobuf_c_message_pack(&request->base, at + RECORD_HEAD_SIZE);
    protobuf_c_message_pack(&prompt->base, at + RECORD_HEAD_SIZE + request_size);
}

void forge__snapshot_free(struct forge__snapshot_bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct forge__snapshot_bytes){.size = 0};
}

/* Checked before it is unpacked, as every message that comes from outside: protobuf-c trusts too much. */
static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size)
{
    static const struct forge_message_limits limits = {
        .decoded_max = 16 * MESSAGE_BYTES_MAX, .depth_max = DEPTH_MAX, .unknown_max = MESSAGE_BYTES_MAX, .open_enums = true};
    struct forge_arena arena;
    struct forge_error error = {.code = FORGE_OK};
    forge_arena_init(&arena, MESSAGE_BYTES_MAX, NULL);
    forge_code code = size <= MESSAGE_BYTES_MAX ? forge_message_check(type, data, size, &limits, &arena, &error) : FORGE_INVALID_ARGUMENT;
    forge_arena_done(&arena);
    return code == FORGE_OK ? protobuf_c_message_unpack(type, NULL, size, data) : NULL;
}

static bool take_record(const uint8_t *data, size_t request_size, size_t prompt_size, int64_t confirmed_us, forge__snapshot_take take,
                        void *user)
{
    ProtobufCMessage *request = unpack(&forge__v1__get_prompt_request__descriptor, data, request_size);
    ProtobufCMessage *prompt = request ? unpack(&forge__v1__prompt__descriptor, data + request_size, prompt_size) : NULL;
    if (!prompt) {
        protobuf_c_message_free_unpacked(request, NULL);
        return false;
    }
    take(user, (Forge__V1__GetPromptRequest *)request, (Forge__V1__Prompt *)prompt, confirmed_us);
    return true;
}

bool forge__snapshot_parse(const uint8_t *data, size_t size, forge__snapshot_take take, void *user)
{
    size_t at = 0;
    while (at < size) {
        if (size - at < RECORD_HEAD_SIZE)
            return false;
        size_t request_size = (size_t)read_number(data + at, 4), prompt_size = (size_t)read_number(data + at + 4, 4);
        int64_t confirmed_us = (int64_t)read_number(data + at + 8, 8);
        at += RECORD_HEAD_SIZE;
        if (request_size > size - at || prompt_size > size - at - request_size ||
            !take_record(data + at, request_size, prompt_size, confirmed_us, take, user))
            return false;
        at += request_size + prompt_size;
    }
    return true;
}

/* ---- files ---- */

static bool write_all(int file, const uint8_t *data, size_t size)
{
    while (size) {
        ssize_t written = write(file, data, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return false;
        data += written;
        size -= (size_t)written;
    }
    return true;
}

static bool read_all(int file, uint8_t *data, size_t size)
{
    while (size) {
        ssize_t got = read(file, data, size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        data += got;
        size -= (size_t)got;
    }
    return true;
}

/* The name itself is on disk only when its folder is. */
static void sync_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    int file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0)
        return;
    fsync(file);
    close(file);
}

static bool write_sealed(const char *path, const uint8_t *sealed, size_t size)
{
    char temporary[PATH_MAX];
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= sizeof temporary)
        return false;
    int file = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
    if (file < 0)
        return false;
    bool ok = write_all(file, head, HEAD_SIZE) && write_all(file, sealed, size) && fsync(file) == 0;
    ok = close(file) == 0 && ok;
    ok = ok && rename(temporary, path) == 0;
    if (!ok)
        unlink(temporary);
    else
        sync_folder(path);
    return ok;
}

bool forge__snapshot_write(const char *path, const uint8_t key[FORGE_KEY_SIZE], const struct forge__snapshot_bytes *bytes)
{
    uint8_t *sealed = bytes->has_failed ? NULL : malloc(bytes->size + FORGE_SEAL_OVERHEAD);
    if (!sealed)
        return false;
    forge_seal(key, head, HEAD_SIZE, bytes->size ? bytes->data : head, bytes->size, sealed);
    bool ok = write_sealed(path, sealed, bytes->size + FORGE_SEAL_OVERHEAD);
    free(sealed);
    return ok;
}

/* NULL when it is none that could be ours. */
static uint8_t *read_file(int file, size_t size_max, size_t *out_size)
{
    struct stat status;
    if (fstat(file, &status) || !S_ISREG(status.st_mode) || status.st_size < HEAD_SIZE + FORGE_SEAL_OVERHEAD ||
        (uint64_t)status.st_size > size_max)
        return NULL;
    *out_size = (size_t)status.st_size;
    uint8_t *data = malloc(*out_size);
    if (data && !read_all(file, data, *out_size)) {
        free(data);
        return NULL;
    }
    return data;
}

enum forge__snapshot_end forge__snapshot_read(const char *path, const uint8_t key[FORGE_KEY_SIZE], size_t size_max,
                                              forge__snapshot_take take, void *user)
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* not for ever at a pipe */
    if (file < 0)
        return errno == ENOENT ? FORGE__SNAPSHOT_MISSING : FORGE__SNAPSHOT_REFUSED;
    size_t size = 0;
    uint8_t *data = read_file(file, size_max, &size);
    close(file);
    uint8_t *plain = data ? malloc(size) : NULL;
    bool ok = plain && memcmp(data, head, HEAD_SIZE) == 0 &&
              forge_unseal(key, head, HEAD_SIZE, data + HEAD_SIZE, size - HEAD_SIZE, plain) &&
              forge__snapshot_parse(plain, size - HEAD_SIZE - FORGE_SEAL_OVERHEAD, take, user);
    free(data);
    free(plain);
    return ok ? FORGE__SNAPSHOT_READ : FORGE__SNAPSHOT_REFUSED;
}
