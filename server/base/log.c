#include "base/log.h"

#include "wire/clock.h"
#include "wire/envelope.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WRITER_BUFFER = 1 << 20, VALUE_MAX = 2048 };

static struct {
    _Atomic(enum base_log_level) level;
    _Atomic(enum base_log_format) format;
    atomic_int descriptor;
} config = {BASE_LOG_INFO, BASE_LOG_LOGFMT, STDERR_FILENO};

/* Lines between their callers and the writer thread: callers append to pending, the writer swaps the buffers and writes. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool running, stop;
    char *pending, *writing;
    size_t pending_len;
    uint64_t dropped;
} writer = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

struct line {
    char text[BASE_LOG_LINE_MAX];
    size_t len;
};

static const char *level_name(enum base_log_level level)
{
    switch (level) {
    case BASE_LOG_DEBUG:
        return "debug";
    case BASE_LOG_INFO:
        return "info";
    case BASE_LOG_WARNING:
        return "warning";
    case BASE_LOG_ERROR:
        return "error";
    }
    return "error";
}

struct base_log_field base_log_text(const char *key, const char *value)
{
    return (struct base_log_field){.key = key, .kind = BASE_LOG_FIELD_TEXT, .text = value};
}

struct base_log_field base_log_int(const char *key, int64_t value)
{
    return (struct base_log_field){.key = key, .kind = BASE_LOG_FIELD_INT, .number = value};
}

struct base_log_field base_log_bool(const char *key, bool value)
{
    return (struct base_log_field){.key = key, .kind = BASE_LOG_FIELD_BOOL, .number = value};
}

struct base_log_field base_log_ms(const char *key, uint64_t nanoseconds)
{
    return (struct base_log_field){.key = key, .kind = BASE_LOG_FIELD_MILLISECONDS, .number = (int64_t)nanoseconds};
}

/* Appends as much as fits; the last byte is kept for the newline. */
static void line_append(struct line *line, const char *text, size_t len)
{
    size_t room = sizeof line->text - 1 - line->len;
    if (len > room)
        len = room;
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

static void line_append_text(struct line *line, const char *text)
{
    line_append(line, text, strlen(text));
}

/* Length of the secret that begins at text, after *out_keep bytes that may be shown; 0 when there is none. */
static size_t secret_length(const char *text, const char *begin, size_t *out_keep)
{
    static const char *const PREFIXES[] = {"pfk_", "pfs_", "pfo_"};
    for (size_t i = 0; i < sizeof PREFIXES / sizeof PREFIXES[0]; i++) {
        size_t len = 4;
        if (strncmp(text, PREFIXES[i], 4) != 0)
            continue;
        while (isalnum((unsigned char)text[len]) || text[len] == '_')
            len++;
        *out_keep = 4;
        return len > 4 ? len : 0;
    }
    if (strncmp(text, "password=", 9) == 0) {
        *out_keep = 9;
        return 9 + strcspn(text + 9, " &");
    }
    if (text >= begin + 3 && strncmp(text - 3, "://", 3) == 0) { /* user:password@host */
        size_t authority = strcspn(text, "/?# ");
        const char *colon = memchr(text, ':', authority);
        const char *at = memrchr(text, '@', authority);
        if (colon != NULL && at != NULL && colon < at) {
            *out_keep = (size_t)(colon - text) + 1;
            return (size_t)(at - text);
        }
    }
    return 0;
}

static void mask_secrets(const char *value, char *out, size_t out_size)
{
    size_t len = 0;
    for (const char *at = value; *at != '\0' && len + 16 < out_size;) {
        size_t keep = 0, secret = secret_length(at, value, &keep);
        if (secret == 0) {
            out[len++] = *at++;
            continue;
        }
        if (keep + 4 >= out_size - len)
            break;
        memcpy(out + len, at, keep);
        memcpy(out + len + keep, "***", 3);
        len += keep + 3;
        at += secret;
    }
    out[len] = '\0';
}

/* Escapes that logfmt readers and JSON share. Bytes that are not UTF-8 become '?', so that every line is valid JSON. */
static void line_append_quoted(struct line *line, const char *value)
{
    bool utf8 = forge_utf8_is_valid((const uint8_t *)value, strlen(value));
    line_append(line, "\"", 1);
    for (; *value != '\0'; value++) {
        unsigned char c = (unsigned char)*value;
        char escaped[8];
        if (c == '"' || c == '\\') {
            snprintf(escaped, sizeof escaped, "\\%c", c);
        } else if (c == '\n') {
            snprintf(escaped, sizeof escaped, "\\n");
        } else if (c < 0x20 || c == 0x7f) {
            snprintf(escaped, sizeof escaped, "\\u%04x", c);
        } else {
            escaped[0] = c >= 0x80 && !utf8 ? '?' : (char)c;
            escaped[1] = '\0';
        }
        if (line->len + sizeof escaped + 2 > sizeof line->text)
            break;
        line_append_text(line, escaped);
    }
    line_append(line, "\"", 1);
}

static bool needs_quotes(const char *value)
{
    if (*value == '\0')
        return true;
    for (; *value != '\0'; value++) {
        unsigned char c = (unsigned char)*value;
        if (c <= 0x20 || c >= 0x7f || c == '"' || c == '=' || c == '\\')
            return true;
    }
    return false;
}

static void line_append_key(struct line *line, enum base_log_format format, const char *key)
{
    if (format == BASE_LOG_JSON) {
        line_append_text(line, line->len == 0 ? "{\"" : ",\"");
        line_append_text(line, key);
        line_append_text(line, "\":");
        return;
    }
    if (line->len != 0)
        line_append(line, " ", 1);
    line_append_text(line, key);
    line_append(line, "=", 1);
}

static void line_append_value(struct line *line, enum base_log_format format, const struct base_log_field *field)
{
    char number[48];
    switch (field->kind) {
    case BASE_LOG_FIELD_TEXT: {
        char masked[VALUE_MAX];
        mask_secrets(field->text, masked, sizeof masked);
        if (format == BASE_LOG_JSON || needs_quotes(masked))
            line_append_quoted(line, masked);
        else
            line_append_text(line, masked);
        return;
    }
    case BASE_LOG_FIELD_INT:
        snprintf(number, sizeof number, "%lld", (long long)field->number);
        break;
    case BASE_LOG_FIELD_BOOL:
        snprintf(number, sizeof number, "%s", field->number != 0 ? "true" : "false");
        break;
    case BASE_LOG_FIELD_MILLISECONDS:
        snprintf(number, sizeof number, "%.3f", (double)field->number / 1e6);
        break;
    }
    line_append_text(line, number);
}

/* A field that does not fit is left out whole: half a number or an unclosed string would make the line unreadable. */
static void line_append_field(struct line *line, enum base_log_format format, const struct base_log_field *field)
{
    size_t before = line->len;
    if (field->kind == BASE_LOG_FIELD_TEXT && field->text == NULL)
        return;
    line_append_key(line, format, field->key);
    line_append_value(line, format, field);
    if (line->len + 4 > sizeof line->text)
        line->len = before;
}

static void format_time(char *out, size_t size)
{
    int64_t now_us = forge_clock_wall_us();
    time_t seconds = (time_t)(now_us / 1000000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t len = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out + len, size - len, ".%06dZ", (int)(now_us % 1000000));
}

static void line_format(struct line *line, enum base_log_level level, const char *message, const struct base_log_field *fields)
{
    enum base_log_format format = atomic_load(&config.format);
    char time[40];
    format_time(time, sizeof time);
    const struct base_log_field head[] = {base_log_text("ts", time), base_log_text("level", level_name(level)),
                                          base_log_text("msg", message)};
    line->len = 0;
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++)
        line_append_field(line, format, &head[i]);
    for (; fields->key != NULL; fields++)
        line_append_field(line, format, fields);
    if (format == BASE_LOG_JSON)
        line_append(line, "}", 1);
    line->text[line->len++] = '\n';
}

/* Nothing can be done about a log that cannot be written; the process goes on. */
static void write_all(const char *text, size_t len)
{
    int descriptor = atomic_load(&config.descriptor);
    while (len > 0) {
        ssize_t written = write(descriptor, text, len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        text += written;
        len -= (size_t)written;
    }
}

/* True when the writer thread took the line, or dropped it because its buffer is full. */
static bool hand_to_writer(const struct line *line)
{
    pthread_mutex_lock(&writer.lock);
    bool running = writer.running;
    if (running && writer.pending_len + line->len > WRITER_BUFFER) {
        writer.dropped++;
    } else if (running) {
        memcpy(writer.pending + writer.pending_len, line->text, line->len);
        writer.pending_len += line->len;
        pthread_cond_signal(&writer.wake);
    }
    pthread_mutex_unlock(&writer.lock);
    return running;
}

void base_log_write(enum base_log_level level, const char *message, const struct base_log_field *fields)
{
    if (!base_log_is_enabled(level))
        return;
    struct line line;
    line_format(&line, level, message, fields);
    if (!hand_to_writer(&line))
        write_all(line.text, line.len);
}

void base_log_failure(enum base_log_level level, const char *message, const struct forge_error *error)
{
    base_log(level, message, base_log_text("code", forge_code_name(error->code)), base_log_text("error", error->message),
             base_log_text("sqlstate", error->sqlstate[0] != '\0' ? error->sqlstate : NULL));
}

bool base_log_is_enabled(enum base_log_level level)
{
    return level >= atomic_load(&config.level);
}

void base_log_configure(enum base_log_level level, enum base_log_format format, int descriptor)
{
    atomic_store(&config.level, level);
    atomic_store(&config.format, format);
    atomic_store(&config.descriptor, descriptor);
}

static void report_dropped(uint64_t dropped)
{
    struct line line;
    const struct base_log_field fields[] = {base_log_int("lines", (int64_t)dropped), {0}};
    if (dropped == 0)
        return;
    line_format(&line, BASE_LOG_WARNING, "log lines dropped: the reader of the log is too slow", fields);
    write_all(line.text, line.len);
}

static void *writer_main(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&writer.lock);
    for (;;) {
        while (writer.pending_len == 0 && !writer.stop)
            pthread_cond_wait(&writer.wake, &writer.lock);
        if (writer.pending_len == 0)
            break;
        char *text = writer.pending;
        size_t len = writer.pending_len;
        uint64_t dropped = writer.dropped;
        writer.pending = writer.writing;
        writer.writing = text;
        writer.pending_len = 0;
        writer.dropped = 0;
        pthread_mutex_unlock(&writer.lock);
        write_all(text, len);
        report_dropped(dropped);
        pthread_mutex_lock(&writer.lock);
    }
    pthread_mutex_unlock(&writer.lock);
    return NULL;
}

static void writer_free_buffers(void)
{
    free(writer.pending);
    free(writer.writing);
    writer.pending = writer.writing = NULL;
}

forge_code base_log_start_writer(void)
{
    writer.pending = malloc(WRITER_BUFFER);
    writer.writing = malloc(WRITER_BUFFER);
    writer.stop = false;
    if (writer.pending == NULL || writer.writing == NULL || pthread_create(&writer.thread, NULL, writer_main, NULL) != 0) {
        writer_free_buffers();
        return FORGE_RESOURCE_EXHAUSTED;
    }
    pthread_setname_np(writer.thread, "log");
    pthread_mutex_lock(&writer.lock);
    writer.running = true;
    pthread_mutex_unlock(&writer.lock);
    return FORGE_OK;
}

void base_log_stop_writer(void)
{
    pthread_mutex_lock(&writer.lock);
    bool running = writer.running;
    writer.running = false; /* later lines go out by their callers, possibly before the last buffered ones */
    writer.stop = true;
    pthread_cond_signal(&writer.wake);
    pthread_mutex_unlock(&writer.lock);
    if (!running)
        return;
    pthread_join(writer.thread, NULL);
    writer_free_buffers();
}
