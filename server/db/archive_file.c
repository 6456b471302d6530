#include "db/archive_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

/* 10,000 executions, a third of them with notes (2.7 MB): 400 kB and 0.02 s of a core at level 3, 355 kB and 0.05 s at 9, 346 kB and 0.15 s
 * at 12. */
enum { LEVEL = 9, FILE_MODE = 0600, FOLDER_MODE = 0700 };
static const char PARTIAL[] = ".partial";

static forge_code failed(struct forge_error *error, const char *doing, const char *path)
{
    return forge_error_set(error, FORGE_FAILED_PRECONDITION, "%s %.300s: %s", doing, path, strerror(errno));
}

static forge_code no_memory(struct forge_error *error)
{
    return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for an archive");
}

/* ---- files that appear whole ---- */

static char *partial_of(const char *path)
{
    char *partial;
    return asprintf(&partial, "%s%s", path, PARTIAL) < 0 ? NULL : partial;
}

static forge_code write_all(int fd, const char *path, const void *data, size_t size, struct forge_error *error)
{
    const char *from = data;
    while (size > 0) {
        ssize_t written = write(fd, from, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return failed(error, "writing", path);
        from += written;
        size -= (size_t)written;
    }
    return FORGE_OK;
}

/* A new name is durable once its folder is. */
static forge_code sync_folder_of(const char *path, struct forge_error *error)
{
    char *copy = strdup(path);
    if (copy == NULL)
        return no_memory(error);
    const char *folder = dirname(copy);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    forge_code rc = fd >= 0 && fsync(fd) == 0 ? FORGE_OK : failed(error, "writing to disk the folder", folder);
    if (fd >= 0)
        close(fd);
    free(copy);
    return rc;
}

forge_code db_archive_make_folder(const char *path, struct forge_error *error)
{
    if (mkdir(path, FOLDER_MODE) != 0 && errno != EEXIST)
        return failed(error, "making the folder", path);
    return sync_folder_of(path, error);
}

/* Takes fd and the file behind it to its final name; deletes it when that fails. */
static forge_code publish(int fd, const char *partial, const char *path, struct forge_error *error)
{
    forge_code rc = fsync(fd) == 0 ? FORGE_OK : failed(error, "writing to disk", partial);
    if (close(fd) != 0 && rc == FORGE_OK)
        rc = failed(error, "closing", partial);
    if (rc == FORGE_OK && rename(partial, path) != 0)
        rc = failed(error, "renaming", partial);
    if (rc != FORGE_OK) {
        unlink(partial);
        return rc;
    }
    return sync_folder_of(path, error);
}

static int create(const char *partial)
{
    return open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
}

forge_code db_archive_replace(const char *path, const char *text, size_t size, struct forge_error *error)
{
    char *partial = partial_of(path);
    if (partial == NULL)
        return no_memory(error);
    int fd = create(partial);
    forge_code rc = fd >= 0 ? write_all(fd, partial, text, size, error) : failed(error, "making", partial);
    if (rc == FORGE_OK)
        rc = publish(fd, partial, path, error);
    else if (fd >= 0) {
        close(fd);
        unlink(partial);
    }
    free(partial);
    return rc;
}

static forge_code delete_one(const char *path, struct forge_error *error)
{
    return unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR ? FORGE_OK : failed(error, "deleting", path);
}

forge_code db_archive_delete(const char *path, struct forge_error *error)
{
    char *partial = partial_of(path);
    if (partial == NULL)
        return no_memory(error);
    forge_code rc = delete_one(partial, error);
    free(partial);
    return rc == FORGE_OK ? delete_one(path, error) : rc;
}

/* ---- writing ---- */

struct db_archive_writer {
    int fd;
    char *path, *partial;
    ZSTD_CCtx *zstd;
    struct forge_sha256_state *sha256; /* NULL once it was taken */
    size_t room;
    char buffer[]; /* compressed bytes on their way to the file */
};

static void writer_free(struct db_archive_writer *writer)
{
    uint8_t unused[FORGE_SHA256_SIZE];
    if (writer->sha256 != NULL)
        forge_sha256_final(writer->sha256, unused);
    ZSTD_freeCCtx(writer->zstd);
    free(writer->partial);
    free(writer->path);
    free(writer);
}

forge_code db_archive_writer_open(const char *path, struct db_archive_writer **out, struct forge_error *error)
{
    size_t room = ZSTD_CStreamOutSize();
    struct db_archive_writer *writer = calloc(1, sizeof *writer + room);
    if (writer == NULL)
        return no_memory(error);
    writer->room = room;
    writer->path = strdup(path);
    writer->partial = partial_of(path);
    writer->zstd = ZSTD_createCCtx();
    if (writer->path == NULL || writer->partial == NULL || writer->zstd == NULL ||
        ZSTD_isError(ZSTD_CCtx_setParameter(writer->zstd, ZSTD_c_compressionLevel, LEVEL)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(writer->zstd, ZSTD_c_checksumFlag, 1))) {
        writer_free(writer);
        return no_memory(error);
    }
    writer->fd = create(writer->partial);
    if (writer->fd < 0) {
        forge_code rc = failed(error, "making", writer->partial);
        writer_free(writer);
        return rc;
    }
    writer->sha256 = forge_sha256_new();
    *out = writer;
    return FORGE_OK;
}

static forge_code compress(struct db_archive_writer *writer, const char *data, size_t size, ZSTD_EndDirective directive,
                           struct forge_error *error)
{
    ZSTD_inBuffer in = {data, size, 0};
    size_t left;
    do {
        ZSTD_outBuffer compressed = {writer->buffer, writer->room, 0};
        left = ZSTD_compressStream2(writer->zstd, &compressed, &in, directive);
        if (ZSTD_isError(left))
            return forge_error_set(error, FORGE_INTERNAL, "compressing %.300s: %s", writer->path, ZSTD_getErrorName(left));
        forge_sha256_update(writer->sha256, writer->buffer, compressed.pos);
        forge_code rc = write_all(writer->fd, writer->partial, writer->buffer, compressed.pos, error);
        if (rc != FORGE_OK)
            return rc;
    } while (directive == ZSTD_e_end ? left > 0 : in.pos < in.size);
    return FORGE_OK;
}

forge_code db_archive_writer_add(struct db_archive_writer *writer, const char *line, size_t size, struct forge_error *error)
{
    assert(memchr(line, '\n', size) == NULL);
    forge_code rc = compress(writer, line, size, ZSTD_e_continue, error);
    return rc == FORGE_OK ? compress(writer, "\n", 1, ZSTD_e_continue, error) : rc;
}

forge_code db_archive_writer_close(struct db_archive_writer *writer, uint8_t out_sha256[FORGE_SHA256_SIZE], struct forge_error *error)
{
    forge_code rc = compress(writer, NULL, 0, ZSTD_e_end, error);
    if (rc != FORGE_OK) {
        db_archive_writer_abandon(writer);
        return rc;
    }
    forge_sha256_final(writer->sha256, out_sha256);
    writer->sha256 = NULL;
    rc = publish(writer->fd, writer->partial, writer->path, error);
    writer_free(writer);
    return rc;
}

void db_archive_writer_abandon(struct db_archive_writer *writer)
{
    close(writer->fd);
    unlink(writer->partial);
    writer_free(writer);
}

/* ---- reading ---- */

struct db_archive_reader {
    int fd;
    char *path;
    ZSTD_DCtx *zstd;
    bool at_frame_end; /* where a file may end */
    char *in;          /* compressed bytes from the file */
    size_t in_room;
    ZSTD_inBuffer input;
    char *text; /* decompressed: [start, end) was not returned yet */
    size_t start, end, room;
};

void db_archive_reader_close(struct db_archive_reader *reader)
{
    if (reader == NULL)
        return;
    if (reader->fd >= 0)
        close(reader->fd);
    ZSTD_freeDCtx(reader->zstd);
    free(reader->path);
    free(reader->in);
    free(reader->text);
    free(reader);
}

/* NULL without memory. */
static struct db_archive_reader *reader_new(const char *path)
{
    struct db_archive_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return NULL;
    reader->fd = -1;
    reader->path = strdup(path);
    reader->in_room = ZSTD_DStreamInSize();
    reader->in = malloc(reader->in_room);
    reader->room = 2 * ZSTD_DStreamOutSize();
    reader->text = malloc(reader->room);
    reader->zstd = ZSTD_createDCtx();
    if (reader->path == NULL || reader->in == NULL || reader->text == NULL || reader->zstd == NULL) {
        db_archive_reader_close(reader);
        return NULL;
    }
    return reader;
}

forge_code db_archive_reader_open(const char *path, struct db_archive_reader **out, struct forge_error *error)
{
    struct db_archive_reader *reader = reader_new(path);
    if (reader == NULL)
        return no_memory(error);
    reader->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (reader->fd < 0) {
        bool is_missing = errno == ENOENT;
        forge_code rc = failed(error, "opening", path);
        db_archive_reader_close(reader);
        return error->code = is_missing ? FORGE_NOT_FOUND : rc;
    }
    *out = reader;
    return FORGE_OK;
}

static forge_code read_some(struct db_archive_reader *reader, size_t *out_size, struct forge_error *error)
{
    ssize_t size;
    do
        size = read(reader->fd, reader->in, reader->in_room);
    while (size < 0 && errno == EINTR);
    if (size < 0)
        return failed(error, "reading", reader->path);
    *out_size = (size_t)size;
    return FORGE_OK;
}

forge_code db_archive_reader_hash(struct db_archive_reader *reader, uint8_t out_sha256[FORGE_SHA256_SIZE], struct forge_error *error)
{
    size_t size = 0;
    struct forge_sha256_state *sha256 = forge_sha256_new();
    forge_code rc = lseek(reader->fd, 0, SEEK_SET) == 0 ? FORGE_OK : failed(error, "reading", reader->path);
    do {
        if (rc == FORGE_OK)
            rc = read_some(reader, &size, error);
        if (rc == FORGE_OK)
            forge_sha256_update(sha256, reader->in, size);
    } while (rc == FORGE_OK && size > 0);
    forge_sha256_final(sha256, out_sha256);
    if (rc == FORGE_OK && lseek(reader->fd, 0, SEEK_SET) != 0)
        rc = failed(error, "reading", reader->path);
    ZSTD_DCtx_reset(reader->zstd, ZSTD_reset_session_only);
    reader->input = (ZSTD_inBuffer){0};
    reader->start = reader->end = 0;
    reader->at_frame_end = false;
    return rc;
}

/* Room for more behind end: moves what is left to the front, or grows. */
static forge_code make_room(struct db_archive_reader *reader, struct forge_error *error)
{
    if (reader->end < reader->room)
        return FORGE_OK;
    if (reader->start > 0) {
        memmove(reader->text, reader->text + reader->start, reader->end - reader->start);
        reader->end -= reader->start;
        reader->start = 0;
        return FORGE_OK;
    }
    if (reader->room >= DB_ARCHIVE_LINE_MAX)
        return forge_error_set(error, FORGE_DATA_LOSS, "%.300s: a line is longer than %d bytes", reader->path, DB_ARCHIVE_LINE_MAX);
    char *larger = realloc(reader->text, 2 * reader->room);
    if (larger == NULL)
        return no_memory(error);
    reader->text = larger;
    reader->room *= 2;
    return FORGE_OK;
}

/* Decompresses more behind end; *out_ended at the end of the file. */
static forge_code fill(struct db_archive_reader *reader, bool *out_ended, struct forge_error *error)
{
    size_t size = 0;
    forge_code rc = make_room(reader, error);
    if (rc == FORGE_OK && reader->input.pos == reader->input.size) {
        rc = read_some(reader, &size, error);
        reader->input = (ZSTD_inBuffer){reader->in, size, 0};
    }
    if (rc != FORGE_OK)
        return rc;
    ZSTD_outBuffer out = {reader->text, reader->room, reader->end};
    *out_ended = reader->input.size == 0;
    if (*out_ended && reader->at_frame_end)
        return FORGE_OK;
    size_t left = ZSTD_decompressStream(reader->zstd, &out, &reader->input);
    if (ZSTD_isError(left))
        return forge_error_set(error, FORGE_DATA_LOSS, "%.300s: does not decompress: %s", reader->path, ZSTD_getErrorName(left));
    if (*out_ended && out.pos == reader->end)
        return forge_error_set(error, FORGE_DATA_LOSS, "%.300s: ends in the middle", reader->path);
    *out_ended = false;
    reader->at_frame_end = left == 0;
    reader->end = out.pos;
    return FORGE_OK;
}

forge_code db_archive_reader_next(struct db_archive_reader *reader, char **out_line, size_t *out_size, struct forge_error *error)
{
    size_t looked = 0; /* bytes behind start that hold no newline */
    bool ended = false;
    for (;;) {
        char *from = reader->text + reader->start, *newline = memchr(from + looked, '\n', reader->end - reader->start - looked);
        if (newline != NULL) {
            *newline = '\0';
            *out_line = from;
            *out_size = (size_t)(newline - from);
            reader->start += *out_size + 1;
            return FORGE_OK;
        }
        looked = reader->end - reader->start;
        forge_code rc = fill(reader, &ended, error);
        if (rc != FORGE_OK)
            return rc;
        if (ended && looked > 0)
            return forge_error_set(error, FORGE_DATA_LOSS, "%.300s: ends in the middle of a line", reader->path);
        if (ended)
            break;
    }
    *out_line = NULL;
    *out_size = 0;
    return FORGE_OK;
}
