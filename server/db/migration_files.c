#include "db/migration_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REVISION_DIGITS = DB_REVISION_SIZE - 1 };

static bool revision_is_valid(const char *text, size_t length)
{
    return length == REVISION_DIGITS && strspn(text, "0123456789abcdef") >= REVISION_DIGITS;
}

bool db_migration_name_parse(const char *name, char out_revision[DB_REVISION_SIZE], enum db_migration_direction *out_direction)
{
    if (strspn(name, "0123456789abcdef") < REVISION_DIGITS || name[REVISION_DIGITS] != '_')
        return false;
    const char *slug = name + REVISION_DIGITS + 1;
    size_t slug_length = strspn(slug, "abcdefghijklmnopqrstuvwxyz0123456789_");
    const char *suffix = slug + slug_length;
    bool up = strcmp(suffix, ".up.sql") == 0;
    if (slug_length == 0 || (!up && strcmp(suffix, ".down.sql") != 0))
        return false;
    memcpy(out_revision, name, REVISION_DIGITS);
    out_revision[REVISION_DIGITS] = '\0';
    *out_direction = up ? DB_MIGRATION_UP : DB_MIGRATION_DOWN;
    return true;
}

forge_code db_migration_file_read(const char *folder, const char *name, struct forge_arena *arena, char **out_text, size_t *out_size,
                                  struct forge_error *error)
{
    char *path = forge_arena_printf(arena, "%s/%s", folder, name);
    FILE *file = path != NULL ? fopen(path, "re") : NULL;
    if (file == NULL)
        return forge_error_set(error, FORGE_NOT_FOUND, "cannot open %s/%s: %s", folder, name, strerror(errno));
    struct stat status;
    char *text = NULL;
    if (fstat(fileno(file), &status) == 0 && status.st_size <= DB_MIGRATION_FILE_BYTES_MAX)
        text = forge_arena_alloc(arena, (size_t)status.st_size + 1);
    size_t size = text != NULL ? fread(text, 1, (size_t)status.st_size, file) : 0;
    bool complete = text != NULL && size == (size_t)status.st_size;
    fclose(file);
    if (!complete)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s/%s: cannot be read or is over %d bytes", folder, name,
                               DB_MIGRATION_FILE_BYTES_MAX);
    if (memchr(text, '\0', size) != NULL)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s: contains a NUL byte", name);
    *out_text = text;
    *out_size = size;
    return FORGE_OK;
}

/* The value of the header line `-- key: value` at *cursor, which moves behind it; NULL when the line is another one. */
static char *header_value(const char **cursor, const char *key, struct forge_arena *arena)
{
    const char *line = *cursor;
    size_t key_length = strlen(key);
    if (strncmp(line, "-- ", 3) != 0 || strncmp(line + 3, key, key_length) != 0 || line[3 + key_length] != ':')
        return NULL;
    const char *value = line + 3 + key_length + 1;
    value += strspn(value, " ");
    size_t length = strcspn(value, "\n");
    *cursor = value + length + (value[length] == '\n');
    while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\r'))
        length--;
    return forge_arena_strndup(arena, value, length);
}

static forge_code revision_set(char out[DB_REVISION_SIZE], const char *value, const char *file, const char *key, struct forge_error *error)
{
    if (!revision_is_valid(value, strlen(value)))
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s: \"-- %s:\" must hold 12 lower-case hexadecimal digits", file, key);
    memcpy(out, value, DB_REVISION_SIZE);
    return FORGE_OK;
}

/* The lines that may follow, in any order. *out_alone: it says `-- transaction: none`. */
static forge_code header_options(const char *file, const char *cursor, struct forge_arena *arena, struct db_migration *item,
                                 bool *out_alone, struct forge_error *error)
{
    for (;;) {
        const char *serves = header_value(&cursor, "serves", arena);
        const char *transaction = serves == NULL ? header_value(&cursor, "transaction", arena) : NULL;
        if (serves == NULL && transaction == NULL)
            return FORGE_OK;
        if (transaction != NULL && strcmp(transaction, "none") != 0)
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s: \"-- transaction:\" may only say none", file);
        *out_alone = *out_alone || transaction != NULL;
        forge_code rc = serves != NULL ? revision_set(item->serves, serves, file, "serves", error) : FORGE_OK;
        if (rc != FORGE_OK)
            return rc;
    }
}

/* Header of one file into *item: revision, revises, created, message and what may follow. */
static forge_code header_parse(const char *file, const char *text, struct forge_arena *arena, struct db_migration *item, bool *out_alone,
                               struct forge_error *error)
{
    static const char *const keys[] = {"revision", "revises", "created", "message"};
    const char *cursor = text;
    char *values[4];
    for (int i = 0; i < 4; i++) {
        values[i] = header_value(&cursor, keys[i], arena);
        if (values[i] == NULL)
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s: line %d must be \"-- %s: ...\"", file, i + 1, keys[i]);
    }
    forge_code rc = revision_set(item->revision, values[0], file, keys[0], error);
    if (rc == FORGE_OK && values[1][0] != '\0')
        rc = revision_set(item->revises, values[1], file, keys[1], error);
    if (rc == FORGE_OK)
        rc = header_options(file, cursor, arena, item, out_alone, error);
    item->created = values[2];
    item->message = values[3];
    return rc;
}

/* The migrator owns the transaction: a file that ends it would leave half a revision behind. */
static forge_code transaction_check(const char *file, const char *text, struct forge_error *error)
{
    static const char *const commands[] = {"COMMIT", "ROLLBACK", "START TRANSACTION", "BEGIN", "BEGIN TRANSACTION"};
    unsigned number = 1;
    for (const char *line = text; *line != '\0'; number++) {
        const char *word = line + strspn(line, " \t");
        for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
            size_t length = strlen(commands[i]);
            if (strncasecmp(word, commands[i], length) == 0 && word[length + strspn(word + length, " \t")] == ';')
                return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s line %u: %s is the migrator's to say", file, number, commands[i]);
        }
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    return FORGE_OK;
}

static struct db_migration *chain_find(const struct db_migration_chain *chain, const char *revision)
{
    for (size_t i = 0; i < chain->count; i++)
        if (strcmp(chain->items[i].revision, revision) == 0)
            return &chain->items[i];
    return NULL;
}

/* Both halves of a revision meet in one item; the header must say the same in both. */
static forge_code chain_add(struct db_migration_chain *chain, const struct db_migration *half, enum db_migration_direction direction,
                            const char *name, struct forge_error *error)
{
    struct db_migration *item = chain_find(chain, half->revision);
    if (item == NULL) {
        if (chain->count == DB_MIGRATIONS_MAX)
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "more than %d revisions", DB_MIGRATIONS_MAX);
        item = &chain->items[chain->count++];
        *item = *half;
        return FORGE_OK;
    }
    const char *present = direction == DB_MIGRATION_UP ? item->up_name : item->down_name;
    if (present != NULL)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "revision %s is there twice: %s and %s", half->revision, present, name);
    if (strcmp(item->revises, half->revises) != 0 || strcmp(item->serves, half->serves) != 0)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "the header lines of the two files of revision %s differ", half->revision);
    if (direction == DB_MIGRATION_UP) {
        item->up_name = half->up_name;
        item->up_sql = half->up_sql;
        item->up_is_alone = half->up_is_alone;
        memcpy(item->sha256, half->sha256, sizeof item->sha256);
    } else {
        item->down_name = half->down_name;
        item->down_sql = half->down_sql;
        item->down_is_alone = half->down_is_alone;
    }
    return FORGE_OK;
}

static forge_code file_add(struct db_migration_chain *chain, const char *folder, const char *name, struct forge_arena *arena,
                           struct forge_error *error)
{
    struct db_migration half = {0};
    char revision[DB_REVISION_SIZE];
    enum db_migration_direction direction;
    if (!db_migration_name_parse(name, revision, &direction))
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s: a migration is named <12 hexadecimal digits>_<slug>.up.sql or .down.sql",
                               name);
    char *text = NULL;
    size_t size = 0;
    forge_code rc = db_migration_file_read(folder, name, arena, &text, &size, error);
    if (rc == FORGE_OK)
        rc = header_parse(name, text, arena, &half, direction == DB_MIGRATION_UP ? &half.up_is_alone : &half.down_is_alone, error);
    if (rc == FORGE_OK)
        rc = transaction_check(name, text, error);
    if (rc != FORGE_OK)
        return rc;
    if (strcmp(half.revision, revision) != 0)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s: its header names revision %s", name, half.revision);
    if (direction == DB_MIGRATION_UP) {
        half.up_name = forge_arena_strdup(arena, name);
        half.up_sql = text;
        forge_sha256(text, size, half.sha256);
    } else {
        half.down_name = forge_arena_strdup(arena, name);
        half.down_sql = text;
    }
    if (forge_arena_has_overflowed(arena))
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "the migration files are over %zu bytes", arena->bytes_max);
    return chain_add(chain, &half, direction, name, error);
}

static int is_sql_file(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 4 && strcmp(entry->d_name + length - 4, ".sql") == 0 && strcmp(entry->d_name, "schema.sql") != 0 &&
           strcmp(entry->d_name, "template.sql") != 0;
}

/* Files in the order of their names, so that the same folder always gives the same error. */
static forge_code folder_read(const char *folder, struct forge_arena *arena, struct db_migration_chain *chain, struct forge_error *error)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, is_sql_file, alphasort);
    if (count < 0)
        return forge_error_set(error, FORGE_NOT_FOUND, "cannot read the migrations folder %s: %s", folder, strerror(errno));
    forge_code rc = FORGE_OK;
    for (int i = 0; i < count; i++) {
        if (rc == FORGE_OK)
            rc = file_add(chain, folder, entries[i]->d_name, arena, error);
        free(entries[i]);
    }
    free(entries);
    return rc;
}

static forge_code halves_check(const struct db_migration_chain *chain, struct forge_error *error)
{
    for (size_t i = 0; i < chain->count; i++) {
        const struct db_migration *item = &chain->items[i];
        if (item->up_name == NULL || item->down_name == NULL)
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s has no %s file",
                                   item->up_name != NULL ? item->up_name : item->down_name,
                                   item->up_name == NULL ? ".up.sql" : ".down.sql");
        if (item->revises[0] != '\0' && chain_find(chain, item->revises) == NULL)
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s revises %s, which is not in the folder", item->up_name,
                                   item->revises);
    }
    return FORGE_OK;
}

/* Puts the one revision that revises `previous` at place `position`. */
static forge_code chain_place(struct db_migration_chain *chain, size_t position, const char *previous, struct forge_error *error)
{
    struct db_migration *next = NULL;
    for (size_t i = position; i < chain->count; i++) {
        struct db_migration *item = &chain->items[i];
        if (strcmp(item->revises, previous) != 0)
            continue;
        if (next != NULL)
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "the chain branches: %s and %s both revise %s", next->up_name,
                                   item->up_name, previous[0] != '\0' ? previous : "nothing");
        next = item;
    }
    if (next == NULL)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "the chain is broken: %s is not reached from %s",
                               chain->items[position].up_name, previous[0] != '\0' ? previous : "a first revision");
    struct db_migration placed = *next;
    *next = chain->items[position];
    chain->items[position] = placed;
    return FORGE_OK;
}

forge_code db_migration_chain_read(const char *folder, struct forge_arena *arena, struct db_migration_chain *out, struct forge_error *error)
{
    struct db_migration_chain chain = {forge_arena_calloc(arena, DB_MIGRATIONS_MAX, sizeof *chain.items), 0};
    if (chain.items == NULL)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the migration files");
    forge_code rc = folder_read(folder, arena, &chain, error);
    if (rc == FORGE_OK && chain.count == 0)
        rc = forge_error_set(error, FORGE_NOT_FOUND, "no migrations in %s", folder);
    if (rc == FORGE_OK)
        rc = halves_check(&chain, error);
    const char *previous = "";
    for (size_t i = 0; rc == FORGE_OK && i < chain.count; i++) {
        rc = chain_place(&chain, i, previous, error);
        previous = chain.items[i].revision;
    }
    if (rc == FORGE_OK)
        *out = chain;
    return rc;
}
