#include "auth/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 256, HEX_DIGITS = 2 * FORGE_KEY_SIZE, KEYS_MAX = 2 };

static void derive(struct auth_key *key)
{
    forge_hkdf_sha256(key->seal, "request_hash", key->request_hash, sizeof key->request_hash);
    forge_hkdf_sha256(key->seal, "page_token", key->page_token, sizeof key->page_token);
    forge_hkdf_sha256(key->seal, "watch_token", key->watch_token, sizeof key->watch_token);
    forge_hkdf_sha256(key->seal, "login_failures", key->login_failures, sizeof key->login_failures);
    forge_hkdf_sha256(key->seal, "key_check", key->check, sizeof key->check);
}

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

static bool hex_read(const char *text, size_t length, uint8_t out[FORGE_KEY_SIZE])
{
    if (length != HEX_DIGITS)
        return false;
    for (size_t i = 0; i < FORGE_KEY_SIZE; i++) {
        int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* One line without its newline: "<id> <hex>". NULL, or what is wrong. */
static const char *line_read(const char *line, size_t length, struct auth_key *out)
{
    const char *space = memchr(line, ' ', length);
    if (!space || space == line || space - line > 10)
        return "must be a key id, a space and 64 hexadecimal digits";
    int64_t id = 0;
    for (const char *at = line; at < space; at++) {
        if (*at < '0' || *at > '9')
            return "must begin with the key id, a number from 1 to 2147483647";
        id = id * 10 + (*at - '0');
    }
    if (id < 1 || id > INT32_MAX)
        return "must begin with the key id, a number from 1 to 2147483647";
    if (!hex_read(space + 1, length - (size_t)(space + 1 - line), out->seal))
        return "must hold a key of 32 bytes as 64 hexadecimal digits";
    out->id = (int32_t)id;
    return NULL;
}

static size_t trimmed(const char *line, size_t length)
{
    while (length > 0 && (line[length - 1] == '\r' || line[length - 1] == ' ' || line[length - 1] == '\t'))
        length--;
    return length;
}

forge_code auth_key_file_parse(const char *source, const char *text, size_t length, struct auth_keys *out, struct forge_error *error)
{
    struct auth_key keys[KEYS_MAX] = {0};
    unsigned count = 0, number = 0;
    forge_code code = FORGE_OK;
    for (const char *at = text, *end = text + length; code == FORGE_OK && at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t line_length = trimmed(at, (size_t)((newline ? newline : end) - at));
        const char *problem = NULL;
        number++;
        if (line_length > 0 && at[0] != '#')
            problem = count == KEYS_MAX ? "is a third key; only the current and the previous one are kept"
                                        : line_read(at, line_length, &keys[count++]);
        if (problem)
            code = forge_error_set(error, FORGE_FAILED_PRECONDITION, "key file %s: line %u %s", source, number, problem);
        at = newline ? newline + 1 : end;
    }
    if (code == FORGE_OK && count == 0)
        code = forge_error_set(error, FORGE_FAILED_PRECONDITION, "key file %s holds no key", source);
    if (code == FORGE_OK && count == KEYS_MAX && keys[0].id == keys[1].id)
        code = forge_error_set(error, FORGE_FAILED_PRECONDITION, "key file %s: both keys have the id %d", source, (int)keys[0].id);
    if (code == FORGE_OK) {
        derive(&keys[0]);
        derive(&keys[1]);
        *out = (struct auth_keys){.current = keys[0], .previous = keys[1], .has_previous = count == KEYS_MAX};
    }
    forge_cleanse(keys, sizeof keys);
    return code;
}

/* Our own file is for us alone. One that root mounted for us, such as a secret of Kubernetes, can only reach us through our group. */
static mode_t mode_forbidden(const struct stat *status)
{
    bool is_mounted = status->st_uid == 0 && geteuid() != 0;
    return is_mounted ? S_IWGRP | S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO;
}

/* NULL, or what is wrong with the open file. */
static const char *file_problem(int descriptor)
{
    struct stat status;
    if (fstat(descriptor, &status) != 0)
        return strerror(errno);
    if (!S_ISREG(status.st_mode))
        return "is not a regular file";
    if (status.st_mode & mode_forbidden(&status))
        return "may be read by others: run chmod 600 on it";
    if (status.st_size > AUTH_KEY_FILE_BYTES_MAX)
        return "is larger than 4096 bytes";
    return NULL;
}

static ssize_t read_whole(int descriptor, char *buffer, size_t size)
{
    size_t filled = 0;
    while (filled < size) {
        ssize_t got = read(descriptor, buffer + filled, size - filled);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        filled += (size_t)got;
    }
    return (ssize_t)filled;
}

forge_code auth_key_file_load(const char *path, struct auth_keys *out, struct forge_error *error)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (descriptor < 0)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "key file %s: %s%s", path, strerror(errno),
                               errno == ENOENT ? " (made by forged bootstrap roles)" : "");
    char buffer[AUTH_KEY_FILE_BYTES_MAX];
    const char *problem = file_problem(descriptor);
    ssize_t length = problem ? 0 : read_whole(descriptor, buffer, sizeof buffer);
    if (!problem && length < 0)
        problem = strerror(errno);
    forge_code code = problem ? forge_error_set(error, FORGE_FAILED_PRECONDITION, "key file %s: %s", path, problem)
                              : auth_key_file_parse(path, buffer, (size_t)length, out, error);
    forge_cleanse(buffer, sizeof buffer);
    close(descriptor);
    return code;
}

static bool write_whole(int descriptor, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t written = write(descriptor, text, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        text += written;
        length -= (size_t)written;
    }
    return fsync(descriptor) == 0;
}

forge_code auth_key_file_create(const char *path, struct forge_error *error)
{
    int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (descriptor < 0)
        return forge_error_set(error, errno == EEXIST ? FORGE_ALREADY_EXISTS : FORGE_FAILED_PRECONDITION, "key file %s: %s", path,
                               strerror(errno));
    uint8_t key[FORGE_KEY_SIZE];
    char text[LINE_MAX_BYTES];
    forge_random(key, sizeof key);
    int length = snprintf(text, sizeof text, "# PromptForge key-encryption key. Keep a copy apart from the database's dumps.\n1 ");
    for (size_t i = 0; i < sizeof key; i++)
        length += snprintf(text + length, sizeof text - (size_t)length, "%02x", key[i]);
    text[length++] = '\n';
    bool written = write_whole(descriptor, text, (size_t)length);
    int problem = errno;
    forge_cleanse(key, sizeof key);
    forge_cleanse(text, sizeof text);
    if (close(descriptor) == 0 && written)
        return FORGE_OK;
    unlink(path);
    return forge_error_set(error, FORGE_FAILED_PRECONDITION, "key file %s could not be written: %s", path, strerror(problem));
}

const struct auth_key *auth_keys_find(const struct auth_keys *keys, int32_t id)
{
    if (keys->current.id == id)
        return &keys->current;
    return keys->has_previous && keys->previous.id == id ? &keys->previous : NULL;
}

void auth_keys_done(struct auth_keys *keys)
{
    forge_cleanse(keys, sizeof *keys);
}
