/* `forged migrate revision`: two files from template.sql, empty or with the draft of a diff command. */
#include "db/migrate_scratch.h"
#include "db/url.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ID_BYTES = 6, SLUG_MAX = 40, DRAFT_BYTES_MAX = DB_MIGRATION_FILE_BYTES_MAX / 2, DIFFERENT = 2 };

struct draft {
    char id[DB_REVISION_SIZE];
    char created[32];
    char slug[SLUG_MAX + 1];
    const char *message, *revises;
    const char *statements[2]; /* of enum db_migration_direction */
};

static forge_code no_memory(struct forge_error *error)
{
    return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the revision");
}

/* One line that can stand in a comment. */
static forge_code message_check(const char *message, struct forge_error *error)
{
    if (message == NULL || message[strspn(message, " ")] == '\0')
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "a revision needs a message: migrate revision -m \"what it does\"");
    for (const char *c = message; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7F)
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "the message of a revision is one line without control characters");
    return FORGE_OK;
}

/* "Add notes, at last" -> "add_notes_at_last". */
static void slug_make(const char *message, char out[SLUG_MAX + 1])
{
    size_t length = 0;
    for (const char *c = message; *c != '\0' && length < SLUG_MAX; c++) {
        bool is_upper = *c >= 'A' && *c <= 'Z';
        bool is_kept = is_upper || (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9');
        if (is_kept)
            out[length++] = is_upper ? (char)(*c - 'A' + 'a') : *c;
        else if (length > 0 && out[length - 1] != '_')
            out[length++] = '_';
    }
    while (length > 0 && out[length - 1] == '_')
        length--;
    out[length] = '\0';
    if (length == 0)
        memcpy(out, "revision", sizeof "revision");
}

static forge_code draft_begin(const struct db_migrator *m, const char *message, struct draft *draft, struct forge_error *error)
{
    uint8_t random[ID_BYTES];
    time_t now = time(NULL);
    struct tm utc;
    *draft = (struct draft){.message = message, .revises = m->chain.items[m->chain.count - 1].revision, .statements = {"", ""}};
    forge_random(random, sizeof random);
    for (int i = 0; i < ID_BYTES; i++)
        snprintf(draft->id + 2 * i, 3, "%02x", random[i]);
    if (gmtime_r(&now, &utc) == NULL || strftime(draft->created, sizeof draft->created, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
        return forge_error_set(error, FORGE_INTERNAL, "this machine's time is out of range");
    slug_make(message, draft->slug);
    return FORGE_OK;
}

/* The template with its ${...} filled in. */
static forge_code template_write(const char *template, const struct draft *draft, enum db_migration_direction direction, FILE *out,
                                 struct forge_error *error)
{
    const char *const values[][2] = {{"revision", draft->id},
                                     {"revises", draft->revises},
                                     {"created", draft->created},
                                     {"message", draft->message},
                                     {"direction", direction == DB_MIGRATION_UP ? "up" : "down"},
                                     {"statements", draft->statements[direction]}};
    while (*template != '\0') {
        size_t plain = strncmp(template, "${", 2) == 0 ? 0 : 1 + strcspn(template + 1, "$");
        if (plain > 0) {
            fwrite(template, 1, plain, out);
            template += plain;
            continue;
        }
        size_t length = strcspn(template + 2, "}"), i = 0;
        while (i < sizeof values / sizeof values[0] && (strlen(values[i][0]) != length || strncmp(values[i][0], template + 2, length) != 0))
            i++;
        if (i == sizeof values / sizeof values[0] || template[2 + length] == '\0')
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "template.sql: ${%.*s} is not known", length > 40 ? 40 : (int)length,
                                   template + 2);
        fputs(values[i][1], out);
        template += length + 3;
    }
    return FORGE_OK;
}

static forge_code file_make(struct db_migrator *m, const char *folder, const char *template, const struct draft *draft,
                            enum db_migration_direction direction, struct forge_error *error)
{
    char *path =
        forge_arena_printf(&m->arena, "%s/%s_%s.%s.sql", folder, draft->id, draft->slug, direction == DB_MIGRATION_UP ? "up" : "down");
    if (path == NULL)
        return no_memory(error);
    FILE *file = fopen(path, "wxe");
    if (file == NULL)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "cannot write %s: %s", path, strerror(errno));
    forge_code rc = template_write(template, draft, direction, file, error);
    bool failed = ferror(file) != 0;
    failed = fclose(file) != 0 || failed;
    if (rc == FORGE_OK && failed)
        rc = forge_error_set(error, FORGE_UNAVAILABLE, "cannot write %s: %s", path, strerror(errno));
    if (rc != FORGE_OK)
        unlink(path);
    else
        db_migrator_tell(m, "Generating %s ...  done", path);
    return rc;
}

/* Both files or none. */
static forge_code files_make(struct db_migrator *m, const char *folder, const struct draft *draft, struct forge_error *error)
{
    char *template = NULL;
    size_t size;
    forge_code rc = db_migration_file_read(folder, "template.sql", &m->arena, &template, &size, error);
    if (rc == FORGE_OK)
        rc = file_make(m, folder, template, draft, DB_MIGRATION_UP, error);
    if (rc != FORGE_OK)
        return rc;
    rc = file_make(m, folder, template, draft, DB_MIGRATION_DOWN, error);
    char *up = rc != FORGE_OK ? forge_arena_printf(&m->arena, "%s/%s_%s.up.sql", folder, draft->id, draft->slug) : NULL;
    if (up != NULL)
        unlink(up);
    return rc;
}

/* What the command prints, given both URLs as its last arguments. As of diff tools, 0 and 2 are no failures. Its standard error is ours. */
static forge_code command_run(struct db_migrator *m, const char *command, const char *from, const char *to, const char **out,
                              struct forge_error *error)
{
    char *script = forge_arena_printf(&m->arena, "%s \"$FORGE_DIFF_FROM\" \"$FORGE_DIFF_TO\"", command);
    char *text = forge_arena_alloc(&m->arena, DRAFT_BYTES_MAX + 1);
    if (script == NULL || text == NULL || setenv("FORGE_DIFF_FROM", from, 1) != 0 || setenv("FORGE_DIFF_TO", to, 1) != 0)
        return no_memory(error);
    FILE *pipe = popen(script, "re");
    if (pipe == NULL)
        return forge_error_set(error, FORGE_UNAVAILABLE, "cannot run schema_diff_command: %s", strerror(errno));
    size_t size = fread(text, 1, DRAFT_BYTES_MAX, pipe);
    bool complete = fgetc(pipe) == EOF;
    int status = pclose(pipe);
    if (!complete)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "schema_diff_command printed over %d bytes", DRAFT_BYTES_MAX);
    if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != DIFFERENT))
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "schema_diff_command failed (%s %d): %s",
                               WIFEXITED(status) ? "exit code" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
                               command);
    text[size] = '\0';
    *out = text;
    return FORGE_OK;
}

/* For other programs. The password goes by PGPASSWORD: arguments can be read by everybody on the machine. */
static forge_code scratch_url_make(struct db_migrator *m, PGconn *conn, const char **out, struct forge_error *error)
{
    if (PQpass(conn)[0] != '\0' && setenv("PGPASSWORD", PQpass(conn), 1) != 0)
        return no_memory(error);
    *out = db_url_of(conn, &m->arena);
    return *out != NULL ? FORGE_OK : no_memory(error);
}

static forge_code draft_fill(struct db_migrator *m, const struct db_migrate_revision *request, struct draft *draft, bool *out_empty,
                             struct forge_error *error)
{
    struct db_scratch scratch;
    const char *wanted = NULL, *chain = NULL;
    forge_code rc = db_scratch_open(&scratch, m, request->scratch_url, request->folder, error);
    if (rc == FORGE_OK)
        rc = scratch_url_make(m, scratch.wanted, &wanted, error);
    if (rc == FORGE_OK)
        rc = scratch_url_make(m, scratch.chain, &chain, error);
    if (rc == FORGE_OK)
        rc = command_run(m, request->diff_command, chain, wanted, &draft->statements[DB_MIGRATION_UP], error);
    if (rc == FORGE_OK)
        rc = command_run(m, request->diff_command, wanted, chain, &draft->statements[DB_MIGRATION_DOWN], error);
    db_scratch_done(&scratch);
    if (rc != FORGE_OK)
        return rc;
    const char *up = draft->statements[DB_MIGRATION_UP];
    *out_empty = up[strspn(up, " \t\r\n")] == '\0';
    return FORGE_OK;
}

static forge_code request_check(const struct db_migrate_revision *request, struct forge_error *error)
{
    if (request->autogenerate && request->diff_command == NULL)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION,
                               "--autogenerate needs a program that compares databases: npm install --global @pgkit/migra, then set"
                               " FORGE_SCHEMA_DIFF_COMMAND=\"migra --unsafe true --with-privileges true\"");
    return message_check(request->message, error);
}

forge_code db_migrate_revision(const struct db_migrate_revision *request, db_migrate_progress progress, void *user,
                               struct forge_error *error)
{
    struct db_migrator m = {.progress = progress, .user = user};
    struct draft draft;
    bool is_empty = false;
    forge_code rc = request_check(request, error);
    if (rc == FORGE_OK)
        rc = db_migrator_read_files(&m, request->folder, error);
    if (rc == FORGE_OK)
        rc = draft_begin(&m, request->message, &draft, error);
    if (rc == FORGE_OK && request->autogenerate)
        rc = draft_fill(&m, request, &draft, &is_empty, error);
    if (rc == FORGE_OK && is_empty)
        db_migrator_tell(&m, "Nothing to do: the migrations make what schema.sql wants");
    else if (rc == FORGE_OK)
        rc = files_make(&m, request->folder, &draft, error);
    db_migrator_close(&m);
    return rc;
}
