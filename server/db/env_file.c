#include "db/env_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

forge_code db_env_file_read(const char *path, struct forge_arena *arena, char **out_text, struct forge_error *error)
{
    FILE *file = fopen(path, "re");
    if (file == NULL && errno != ENOENT)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "cannot read %s: %s", path, strerror(errno));
    char *text = forge_arena_alloc(arena, DB_ENV_FILE_BYTES_MAX + 1);
    size_t size = file != NULL && text != NULL ? fread(text, 1, DB_ENV_FILE_BYTES_MAX + 1, file) : 0;
    bool failed = file != NULL && ferror(file);
    if (file != NULL)
        fclose(file);
    if (text == NULL || failed || size > DB_ENV_FILE_BYTES_MAX)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "%s cannot be read or is over %d bytes", path, DB_ENV_FILE_BYTES_MAX);
    text[size] = '\0';
    *out_text = text;
    return FORGE_OK;
}

/* The last line of text that sets name, or NULL. */
static const char *line_find(const char *text, const char *name)
{
    size_t length = strlen(name);
    const char *found = NULL;
    for (const char *line = text; *line != '\0'; line += *line == '\n') {
        if (strncmp(line, name, length) == 0 && line[length] == '=')
            found = line;
        line += strcspn(line, "\n");
    }
    return found;
}

char *db_env_file_get(const char *text, const char *name, struct forge_arena *arena)
{
    const char *line = line_find(text, name);
    if (line == NULL)
        return NULL;
    const char *value = line + strlen(name) + 1;
    size_t length = strcspn(value, "\r\n");
    if (length >= 2 && (value[0] == '"' || value[0] == '\'') && value[length - 1] == value[0])
        return forge_arena_strndup(arena, value + 1, length - 2);
    return forge_arena_strndup(arena, value, length);
}

char *db_env_file_set(const char *text, const char *name, const char *value, struct forge_arena *arena)
{
    const char *line = line_find(text, name);
    if (line != NULL)
        return forge_arena_printf(arena, "%.*s%s=%s%s", (int)(line - text), text, name, value, line + strcspn(line, "\n"));
    size_t length = strlen(text);
    bool open_line = length > 0 && text[length - 1] != '\n';
    return forge_arena_printf(arena, "%s%s%s=%s\n", text, open_line ? "\n" : "", name, value);
}

forge_code db_env_file_write(const char *path, const char *text, struct forge_arena *arena, struct forge_error *error)
{
    char *temporary = forge_arena_printf(arena, "%s.XXXXXX", path);
    if (temporary == NULL)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory to write %s", path);
    int fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "cannot write %s: %s", path, strerror(errno));
    size_t length = strlen(text);
    bool written = write(fd, text, length) == (ssize_t)length && fsync(fd) == 0;
    written = close(fd) == 0 && written;
    if (written && rename(temporary, path) == 0)
        return FORGE_OK;
    forge_code rc = forge_error_set(error, FORGE_FAILED_PRECONDITION, "cannot write %s: %s", path, strerror(errno));
    unlink(temporary);
    return rc;
}
