/* Build-time generator: named statements of .sql files -> enum sql_id and the table sql_statements[].
 *
 * usage: gen_sql <out.h> <out.c> <file.sql>...
 *
 * A statement is opened by a line `-- name: <name> :one|:optional|:many|:command` and reaches to the next such line. It is one SQL
 * statement; the semicolon at its end and lines that hold only a comment are left out. Every mistake is reported as file:line
 * and nothing is written. A file whose content would stay the same is not touched, so nothing is rebuilt for it. */
#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NAME_MAX_LENGTH = 63, /* prepared statements are PostgreSQL identifiers: NAMEDATALEN - 1 */
    PARAMETERS_MAX = 64,
    STATEMENTS_MAX = 4096
};

static const char *const kind_names[] = {"one", "optional", "many", "command"};
static const char *const kind_symbols[] = {"SQL_KIND_ONE", "SQL_KIND_OPTIONAL", "SQL_KIND_MANY", "SQL_KIND_COMMAND"};

struct text {
    char *data;
    size_t size, capacity;
};

struct statement {
    char name[NAME_MAX_LENGTH + 1];
    const char *file;
    int line;
    int kind;
    int parameter_count;
    struct text body;
};

static struct statement statements[STATEMENTS_MAX];
static int statement_count;
static int mistake_count;

static void mistake(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void mistake(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    mistake_count++;
}

static void text_append(struct text *text, const char *data, size_t size)
{
    if (text->size + size + 1 > text->capacity) {
        text->capacity = (text->size + size + 1) * 2;
        text->data = realloc(text->data, text->capacity);
        if (text->data == NULL) {
            fputs("gen_sql: out of memory\n", stderr);
            exit(1);
        }
    }
    memcpy(text->data + text->size, data, size);
    text->size += size;
    text->data[text->size] = '\0';
}

static void text_append_string(struct text *text, const char *string)
{
    text_append(text, string, strlen(string));
}

static bool name_is_valid(const char *name, size_t length)
{
    if (length == 0 || length > NAME_MAX_LENGTH || !islower((unsigned char)name[0]))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!islower((unsigned char)name[i]) && !isdigit((unsigned char)name[i]) && name[i] != '_')
            return false;
    /* SQL_COUNT and SQL_KIND_... are taken. */
    return !(length == 5 && memcmp(name, "count", 5) == 0) && strncmp(name, "kind_", 5) != 0;
}

static int kind_find(const char *kind)
{
    for (int i = 0; i < (int)(sizeof(kind_names) / sizeof(kind_names[0])); i++)
        if (strcmp(kind, kind_names[i]) == 0)
            return i;
    return -1;
}

/* The rest of a line after `-- name:`. Returns the new statement or NULL after a mistake. */
static struct statement *open_statement(const char *file, int line, const char *rest)
{
    char name[256] = "", kind[256] = "", more[2] = "";
    int fields = sscanf(rest, " %255s :%255s %1s", name, kind, more);
    if (fields != 2) {
        mistake(file, line, "expected `-- name: <name> :one|:optional|:many|:command`");
        return NULL;
    }
    if (!name_is_valid(name, strlen(name))) {
        mistake(file, line, "statement name \"%s\": lower-case letters, digits and _ (at most %d), not count or kind_...", name,
                NAME_MAX_LENGTH);
        return NULL;
    }
    int found = kind_find(kind);
    if (found < 0) {
        mistake(file, line, "unknown kind \":%s\" of statement %s: one, optional, many or command", kind, name);
        return NULL;
    }
    for (int i = 0; i < statement_count; i++)
        if (strcmp(statements[i].name, name) == 0) {
            mistake(file, line, "statement %s exists already at %s:%d", name, statements[i].file, statements[i].line);
            return NULL;
        }
    if (statement_count == STATEMENTS_MAX) {
        mistake(file, line, "more than %d statements", STATEMENTS_MAX);
        return NULL;
    }
    struct statement *statement = &statements[statement_count++];
    memcpy(statement->name, name, strlen(name) + 1); /* name_is_valid() measured it */
    statement->file = file;
    statement->line = line;
    statement->kind = found;
    return statement;
}

/* Behind the quoted text that begins at text ('..', "..", $tag$..$tag$) or text itself when none begins there. */
static const char *skip_quoted(const char *text)
{
    if (*text == '\'' || *text == '"') {
        const char *end = strchr(text + 1, *text);
        return end == NULL ? text + strlen(text) : end + 1; /* a doubled quote opens the next piece at once */
    }
    if (*text != '$' || isdigit((unsigned char)text[1]))
        return text;
    size_t tag = 1;
    while (isalnum((unsigned char)text[tag]) || text[tag] == '_')
        tag++;
    if (text[tag] != '$')
        return text;
    tag++;
    for (const char *end = text + tag; *end != '\0'; end++)
        if (strncmp(end, text, tag) == 0)
            return end + tag;
    return text + strlen(text);
}

/* Behind the comment that begins at text, or text itself. */
static const char *skip_comment(const char *text)
{
    if (text[0] == '-' && text[1] == '-')
        return text + strcspn(text, "\n");
    if (text[0] == '/' && text[1] == '*') {
        const char *end = strstr(text + 2, "*/");
        return end == NULL ? text + strlen(text) : end + 2;
    }
    return text;
}

static void check_parameters(struct statement *statement, const bool used[PARAMETERS_MAX + 1])
{
    int newest = PARAMETERS_MAX;
    while (newest > 0 && !used[newest])
        newest--;
    for (int i = 1; i < newest; i++)
        if (!used[i])
            mistake(statement->file, statement->line, "statement %s uses $%d but not $%d", statement->name, newest, i);
    statement->parameter_count = newest;
}

/* Counts the parameters; refuses an empty statement and a second one behind a semicolon. */
static void check_body(struct statement *statement)
{
    struct text *body = &statement->body;
    while (body->size > 0 && (isspace((unsigned char)body->data[body->size - 1]) || body->data[body->size - 1] == ';'))
        body->data[--body->size] = '\0';
    if (body->size == 0) {
        mistake(statement->file, statement->line, "statement %s is empty", statement->name);
        return;
    }
    bool used[PARAMETERS_MAX + 1] = {false};
    for (const char *at = body->data; *at != '\0';) {
        const char *behind = skip_quoted(skip_comment(at));
        if (behind != at) {
            at = behind;
            continue;
        }
        if (*at == ';')
            mistake(statement->file, statement->line, "statement %s holds more than one SQL statement", statement->name);
        if (*at == '$') {
            long number = strtol(at + 1, NULL, 10);
            if (number < 1 || number > PARAMETERS_MAX)
                mistake(statement->file, statement->line, "statement %s: parameters are $1 to $%d", statement->name, PARAMETERS_MAX);
            else
                used[number] = true;
        }
        at++;
    }
    check_parameters(statement, used);
}

static void read_line(const char *file, int line, const char *text, struct statement **current, bool *skipping)
{
    const char *start = text + strspn(text, " \t");
    bool is_comment = strncmp(start, "--", 2) == 0;
    const char *word = start + (is_comment ? 2 : 0);
    word += strspn(word, " \t");
    if (is_comment && strncmp(word, "name:", 5) == 0) {
        *current = open_statement(file, line, word + 5);
        *skipping = *current == NULL;
    } else if (is_comment || *start == '\n' || *start == '\0') {
        return;
    } else if (*current != NULL) {
        text_append_string(&(*current)->body, text);
    } else if (!*skipping) {
        mistake(file, line, "SQL before the first `-- name:` line");
        *skipping = true;
    }
}

static void read_sql(const char *file)
{
    FILE *stream = fopen(file, "r");
    if (stream == NULL) {
        mistake(file, 0, "cannot be read");
        return;
    }
    int first = statement_count;
    struct statement *current = NULL;
    bool skipping = false;
    char *text = NULL;
    size_t capacity = 0;
    for (int line = 1; getline(&text, &capacity, stream) >= 0; line++)
        read_line(file, line, text, &current, &skipping);
    free(text);
    fclose(stream);
    for (int i = first; i < statement_count; i++)
        check_body(&statements[i]);
}

static void append_symbol(struct text *out, const char *name)
{
    text_append_string(out, "SQL_");
    for (; *name != '\0'; name++) {
        char upper = (char)toupper((unsigned char)*name);
        text_append(out, &upper, 1);
    }
}

static void write_header(struct text *out)
{
    text_append_string(out, "/* Generated by gen_sql from the .sql files of the server: do not edit. */\n"
                            "#ifndef SERVER_SQL_STATEMENTS_H\n#define SERVER_SQL_STATEMENTS_H\n\nenum sql_id {\n");
    for (int i = 0; i < statement_count; i++) {
        text_append_string(out, "    ");
        append_symbol(out, statements[i].name);
        text_append_string(out, ",\n");
    }
    text_append_string(out,
                       "    SQL_COUNT\n};\n\n"
                       "/* How many rows a statement gives: exactly one, one or none, any number, or rows are not its purpose. */\n"
                       "enum sql_kind { SQL_KIND_ONE, SQL_KIND_OPTIONAL, SQL_KIND_MANY, SQL_KIND_COMMAND };\n\n"
                       "struct sql_statement {\n    const char *name;\n    const char *text;\n    enum sql_kind kind;\n"
                       "    unsigned parameter_count;\n};\n\nextern const struct sql_statement sql_statements[SQL_COUNT];\n\n#endif\n");
}

static void append_literal(struct text *out, const char *text)
{
    text_append_string(out, "\"");
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            text_append_string(out, "\\n\"\n        \"");
            continue;
        }
        if (*text == '"' || *text == '\\')
            text_append_string(out, "\\");
        if (*text == '?') /* no trigraphs */
            text_append_string(out, "\\");
        text_append(out, text, 1);
    }
    text_append_string(out, "\"");
}

static void write_source(struct text *out)
{
    text_append_string(out, "/* Generated by gen_sql from the .sql files of the server: do not edit. */\n"
                            "#include \"sql_statements.h\"\n\nconst struct sql_statement sql_statements[SQL_COUNT] = {\n");
    for (int i = 0; i < statement_count; i++) {
        char end[64];
        text_append_string(out, "    [");
        append_symbol(out, statements[i].name);
        text_append_string(out, "] = {\"");
        text_append_string(out, statements[i].name);
        text_append_string(out, "\",\n        ");
        append_literal(out, statements[i].body.data);
        snprintf(end, sizeof(end), ",\n        %s, %d},\n", kind_symbols[statements[i].kind], statements[i].parameter_count);
        text_append_string(out, end);
    }
    text_append_string(out, "};\n");
}

static bool is_unchanged(const char *path, const struct text *content)
{
    FILE *stream = fopen(path, "r");
    if (stream == NULL)
        return false;
    struct text old = {NULL, 0, 0};
    char block[4096];
    for (size_t size; (size = fread(block, 1, sizeof(block), stream)) > 0;)
        text_append(&old, block, size);
    fclose(stream);
    bool same = old.size == content->size && (old.size == 0 || memcmp(old.data, content->data, old.size) == 0);
    free(old.data);
    return same;
}

static void replace_file(const char *path, const struct text *content)
{
    if (is_unchanged(path, content))
        return;
    FILE *stream = fopen(path, "w");
    if (stream == NULL || fwrite(content->data, 1, content->size, stream) != content->size || fclose(stream) != 0)
        mistake(path, 0, "cannot be written");
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fputs("usage: gen_sql <out.h> <out.c> <file.sql>...\n", stderr);
        return 2;
    }
    for (int i = 3; i < argc; i++)
        read_sql(argv[i]);
    if (statement_count == 0 && mistake_count == 0)
        mistake(argv[1], 0, "no statement in %d files", argc - 3);
    if (mistake_count == 0) {
        struct text header = {NULL, 0, 0}, source = {NULL, 0, 0};
        write_header(&header);
        write_source(&source);
        replace_file(argv[1], &header);
        replace_file(argv[2], &source);
        free(header.data);
        free(source.data);
    }
    for (int i = 0; i < statement_count; i++)
        free(statements[i].body.data);
    return mistake_count == 0 ? 0 : 1;
}
