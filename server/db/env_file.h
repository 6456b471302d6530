/* A .env file: lines NAME=value. What `forged bootstrap roles` reads and changes. */
#ifndef SERVER_DB_ENV_FILE_H
#define SERVER_DB_ENV_FILE_H

#include "wire/arena.h"
#include "wire/status.h"

enum { DB_ENV_FILE_BYTES_MAX = 1 << 20 };

/* The file's text in the arena, "" when there is no file. Blocks. */
forge_code db_env_file_read(const char *path, struct forge_arena *arena, char **out_text, struct forge_error *error) FORGE_MUST_CHECK;
/* The last value of a name, without quotes around it; NULL when the text has no such line. */
char *db_env_file_get(const char *text, const char *name, struct forge_arena *arena);
/* The text with that line set: replaced where it stands, else added at the end. NULL when the arena is full. */
char *db_env_file_set(const char *text, const char *name, const char *value, struct forge_arena *arena);
/* Replaces the file, mode 0600, in one step (a temporary file beside it, flushed, renamed). Blocks. */
forge_code db_env_file_write(const char *path, const char *text, struct forge_arena *arena, struct forge_error *error) FORGE_MUST_CHECK;

#endif
