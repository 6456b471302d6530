#include "json_lines.h"

#include "json_text.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* A batch is below the server's limit of a request; a line alone may hold 1 MiB of text, each character of it as \uXXXX. */
enum { BATCH_BYTES = 3 << 20, LINE_BYTES_MAX = 8 << 20, BATCH_ARENA_MAX = 64 << 20 };

struct reader {
    const struct json_lines *lines;
    struct json_lines_batch batch;
    size_t bytes;             /* of the batch's lines: a message packed is smaller */
    struct forge_arena arena; /* of the batch */
};

static int send_batch(struct reader *reader)
{
    int code = reader->batch.count ? reader->lines->send(reader->lines->context, &reader->batch) : CLI_OK;
    reader->batch.count = 0;
    reader->bytes = 0;
    forge_arena_reset(&reader->arena);
    return code;
}

static void stringify(json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    char *text = json_is_object(value) || json_is_array(value) ? json_text(value) : NULL;
    if (text)
        json_object_set_new(object, name, json_string(text));
    free(text);
}

static int take_json(struct reader *reader, size_t number, json_t *json)
{
    struct forge_error error = {0};
    ProtobufCMessage *message = NULL;
    const struct json_lines *lines = reader->lines;
    for (const char *const *name = lines->texts; *name; name++)
        stringify(json, *name);
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    forge_code code = FORGE_RESOURCE_EXHAUSTED;
    if (text)
        code = forge_json_to_message(text, strlen(text), lines->type, &reader->arena, &message, &error);
    free(text);
    if (code != FORGE_OK)
        return lines->refuse(lines->context, number, text ? error.message : "no memory");
    reader->batch.messages[reader->batch.count] = message;
    reader->batch.lines[reader->batch.count++] = number;
    return CLI_OK;
}

static int take_line(struct reader *reader, size_t number, const char *line, size_t size)
{
    const struct json_lines *lines = reader->lines;
    char why[64];
    json_error_t error;
    if (size > LINE_BYTES_MAX) {
        snprintf(why, sizeof why, "the line has more than %d bytes", LINE_BYTES_MAX);
        return lines->refuse(lines->context, number, why);
    }
    if (reader->batch.count == JSON_LINES_BATCH || reader->bytes + size > BATCH_BYTES) {
        int code = send_batch(reader);
        if (code != CLI_OK)
            return code;
    }
    json_t *json = json_loadb(line, size, JSON_REJECT_DUPLICATES, &error);
    if (!json)
        return lines->refuse(lines->context, number, error.text);
    reader->bytes += size;
    int code = take_json(reader, number, json);
    json_decref(json);
    return code;
}

static bool is_blank(const char *line)
{
    return line[strspn(line, " \t\r\n")] == '\0';
}

static int read_stream(struct reader *reader, const char *path, FILE *input)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    int code = CLI_OK;
    for (size_t number = 1; code == CLI_OK && (size = getline(&line, &room, input)) >= 0; number++)
        if (!is_blank(line))
            code = take_line(reader, number, line, (size_t)size);
    if (code == CLI_OK && ferror(input))
        code = cli_fail(CLI_FAILED, "cannot read %s: %s", path, strerror(errno));
    free(line);
    return code == CLI_OK ? send_batch(reader) : code;
}

int json_lines_read(struct cli *cli, const char *path, const struct json_lines *lines)
{
    bool is_stdin = strcmp(path, "-") == 0;
    struct reader *reader = forge_arena_calloc(&cli->arena, 1, sizeof(*reader));
    FILE *input = is_stdin ? stdin : fopen(path, "re");
    if (!input)
        return cli_fail(CLI_FAILED, "cannot read %s: %s", path, strerror(errno));
    int code = CLI_FAILED;
    if (reader) {
        reader->lines = lines;
        forge_arena_init(&reader->arena, BATCH_ARENA_MAX, NULL);
        code = read_stream(reader, path, input);
        forge_arena_done(&reader->arena);
    } else {
        cli_fail(CLI_FAILED, "no memory");
    }
    if (!is_stdin)
        fclose(input);
    return code;
}
