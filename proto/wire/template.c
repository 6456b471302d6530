#include "wire/template.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_BYTES = 64 };

enum token_kind { TOKEN_END, TOKEN_TEXT, TOKEN_NAME };
struct token {
    enum token_kind kind;
    const char *start; /* of the text, or of the name without braces and spaces */
    size_t length;
};

static bool is_name_start(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

static bool is_name_part(char c)
{
    return is_name_start(c) || (c >= '0' && c <= '9') || c == '.' || c == '-';
}

static bool is_opening(const char *at)
{
    return at[0] == '{' && at[1] == '{';
}

static bool is_escaped_opening(const char *at)
{
    return at[0] == '\\' && is_opening(at + 1);
}

/* Reads the placeholder at *at; NULL, or what is wrong with it. */
static const char *read_placeholder(const char **at, struct token *token)
{
    const char *p = *at + 2;
    p += strspn(p, " ");
    token->kind = TOKEN_NAME;
    token->start = p;
    if (*p == '\0')
        return "{{ is not closed by }}";
    if (!is_name_start(*p))
        return "{{ must be followed by a name that begins with a letter or _ (\\{{ stands for the text {{)";
    while (is_name_part(*p))
        p++;
    token->length = (size_t)(p - token->start);
    if (token->length > NAME_MAX_BYTES)
        return "the name is longer than 64 characters";
    p += strspn(p, " ");
    if (p[0] != '}' || p[1] != '}')
        return *p ? "the name may hold letters, digits, _ . - and must be followed by }}" : "{{ is not closed by }}";
    *at = p + 2;
    return NULL;
}

/* Reads what comes next and moves *at behind it; NULL, or what is wrong at *at. */
static const char *next_token(const char **at, struct token *token)
{
    const char *p = *at;
    *token = (struct token){.kind = *p ? TOKEN_TEXT : TOKEN_END, .start = p};
    if (is_opening(p))
        return read_placeholder(at, token);
    if (is_escaped_opening(p)) {
        token->start = p + 1;
        token->length = 2;
        *at = p + 3;
        return NULL;
    }
    while (*p && !is_opening(p) && !is_escaped_opening(p)) {
        p++;
        p += strcspn(p, "{\\");
    }
    token->length = (size_t)(p - token->start);
    *at = p;
    return NULL;
}

static forge_code fail_at(const char *text, const char *at, const char *what, struct forge_error *error)
{
    size_t line = 1, column = 1;
    for (const char *p = text; p < at; p++) {
        if (*p == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)*p & 0xC0) != 0x80) { /* characters, not bytes */
            column++;
        }
    }
    return forge_error_set(error, FORGE_INVALID_ARGUMENT, "template: line %zu, column %zu: %s", line, column, what);
}

/* The names of a template by hash: open addressing, at most half full. */
struct name_table {
    const char **names;
    size_t count;
    uint32_t *slots; /* index + 1 into names, 0 = free */
    size_t mask;
};

/* FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/). */
static uint32_t hash(const char *name, size_t length)
{
    uint32_t value = 2166136261u;
    for (size_t i = 0; i < length; i++)
        value = (value ^ (unsigned char)name[i]) * 16777619u;
    return value;
}

/* Where the name is or would have to be. */
static uint32_t *find_slot(const struct name_table *table, const char *name, size_t length)
{
    for (size_t i = hash(name, length);; i++) {
        uint32_t *slot = &table->slots[i & table->mask];
        if (*slot == 0)
            return slot;
        const char *known = table->names[*slot - 1];
        if (strncmp(known, name, length) == 0 && known[length] == '\0')
            return slot;
    }
}

static forge_code no_memory(struct forge_error *error)
{
    return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory to read a template");
}

/* Checks the whole text and counts its placeholders. */
static forge_code count_placeholders(const char *text, size_t *out_count, struct forge_error *error)
{
    struct token token;
    size_t count = 0;
    const char *at = text;
    do {
        const char *fault = next_token(&at, &token);
        if (fault)
            return fail_at(text, at, fault, error);
        count += token.kind == TOKEN_NAME;
    } while (token.kind != TOKEN_END);
    *out_count = count;
    return FORGE_OK;
}

static forge_code collect(const char *text, struct forge_arena *arena, struct name_table *table, struct forge_error *error)
{
    size_t placeholders = 0;
    forge_code code = count_placeholders(text, &placeholders, error);
    if (code != FORGE_OK)
        return code;
    size_t room = placeholders < FORGE_TEMPLATE_NAMES_MAX ? placeholders : FORGE_TEMPLATE_NAMES_MAX, slots = 2;
    while (slots < 2 * room)
        slots *= 2;
    table->count = 0;
    table->mask = slots - 1;
    table->names = forge_arena_calloc(arena, room, sizeof *table->names);
    table->slots = forge_arena_calloc(arena, slots, sizeof *table->slots);
    if (!table->names || !table->slots)
        return no_memory(error);
    struct token token;
    for (const char *at = text; !next_token(&at, &token) && token.kind != TOKEN_END;) {
        if (token.kind != TOKEN_NAME)
            continue;
        uint32_t *slot = find_slot(table, token.start, token.length);
        if (*slot)
            continue;
        if (table->count == room)
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "template: more than %d different names", FORGE_TEMPLATE_NAMES_MAX);
        char *name = forge_arena_strndup(arena, token.start, token.length);
        if (!name)
            return no_memory(error);
        table->names[table->count++] = name;
        *slot = (uint32_t)table->count;
    }
    return FORGE_OK;
}

forge_code forge_template_scan(const char *text, struct forge_arena *arena, struct forge_template_names *names, struct forge_error *error)
{
    struct name_table table;
    forge_code code = collect(text, arena, &table, error);
    if (code != FORGE_OK)
        return code;
    names->names = table.names;
    names->count = table.count;
    return FORGE_OK;
}

struct value {
    const char *text; /* NULL = none given */
    size_t length;
};

/* The value of each name of the table; every name without one becomes a violation. */
static forge_code assign_values(const struct name_table *table, const struct forge_template_variable *variables, size_t variable_count,
                                struct value *values, struct forge_arena *arena, struct forge_error *error)
{
    for (size_t i = 0; i < variable_count; i++) {
        uint32_t slot = *find_slot(table, variables[i].name, strlen(variables[i].name));
        if (slot && variables[i].value)
            values[slot - 1] = (struct value){variables[i].value, strlen(variables[i].value)};
    }
    forge_code code = FORGE_OK;
    for (size_t i = 0; i < table->count; i++) {
        if (values[i].text)
            continue;
        char field[sizeof "variables." + NAME_MAX_BYTES];
        snprintf(field, sizeof field, "variables.%s", table->names[i]);
        if (code == FORGE_OK)
            code = forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s: the template needs a value for it", field);
        forge_error_add_violation(error, arena, field, "the template needs a value for it");
    }
    return code;
}

/* Bytes of the result; above result_max counting stops. */
static size_t measure(const char *text, const struct name_table *table, const struct value *values, size_t result_max)
{
    struct token token;
    size_t size = 0;
    for (const char *at = text; size <= result_max && !next_token(&at, &token) && token.kind != TOKEN_END;)
        size += token.kind == TOKEN_TEXT ? token.length : values[*find_slot(table, token.start, token.length) - 1].length;
    return size;
}

forge_code forge_template_render(const char *text, const struct forge_template_variable *variables, size_t variable_count,
                                 size_t result_max, struct forge_arena *arena, char **out, struct forge_error *error)
{
    struct name_table table;
    forge_code code = collect(text, arena, &table, error);
    if (code != FORGE_OK)
        return code;
    struct value *values = forge_arena_calloc(arena, table.count, sizeof *values);
    if (!values)
        return no_memory(error);
    code = assign_values(&table, variables, variable_count, values, arena, error);
    if (code != FORGE_OK)
        return code;
    size_t size = measure(text, &table, values, result_max);
    if (size > result_max)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "the rendered text would be longer than %zu bytes", result_max);
    char *result = forge_arena_alloc(arena, size + 1), *end = result;
    if (!result)
        return no_memory(error);
    struct token token;
    for (const char *at = text; !next_token(&at, &token) && token.kind != TOKEN_END;) {
        struct value piece = {token.start, token.length};
        if (token.kind == TOKEN_NAME)
            piece = values[*find_slot(&table, token.start, token.length) - 1];
        memcpy(end, piece.text, piece.length);
        end += piece.length;
    }
    *out = result;
    return FORGE_OK;
}
