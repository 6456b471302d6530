#include "wire/template.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_BYTES = 64, PROMPT_NAME_MAX_CHARACTERS = 255, LABEL_MAX_BYTES = 64, VERSION_MAX_DIGITS = 10 };

enum token_kind { TOKEN_END, TOKEN_TEXT, TOKEN_NAME, TOKEN_REFERENCE };
struct token {
    enum token_kind kind;
    const char *start; /* of the text, or of the name or reference without braces and spaces */
    size_t length;
    size_t name_length; /* of a reference: of its prompt's name, which it begins with */
    int32_t version;    /* of a reference: 0 = none is given */
    bool has_label;     /* of a reference: what follows the @ is a label */
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

static bool is_label(const char *text, size_t length)
{
    return length > 0 && length <= LABEL_MAX_BYTES && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_.-") >= length;
}

/* A number from 1 to INT32_MAX in its one spelling, else 0. */
static int32_t version_of(const char *text, size_t length)
{
    int64_t version = 0;
    if (length > VERSION_MAX_DIGITS || *text == '0')
        return 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        version = 10 * version + (text[i] - '0');
    }
    return version <= INT32_MAX ? (int32_t)version : 0;
}

static size_t characters_of(const char *text, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

/* Takes a reference apart; NULL, or what is wrong with it. */
static const char *split_reference(struct token *token)
{
    const char *at = memrchr(token->start, '@', token->length);
    token->name_length = at ? (size_t)(at - token->start) : token->length;
    if (token->name_length == 0)
        return "{{> must be followed by the name of a prompt";
    if (characters_of(token->start, token->name_length) > PROMPT_NAME_MAX_CHARACTERS)
        return "the name of a prompt has at most 255 characters";
    if (!at)
        return NULL;
    const char *selector = at + 1;
    size_t length = token->length - token->name_length - 1;
    token->version = version_of(selector, length);
    bool is_number = strspn(selector, "0123456789") >= length;
    token->has_label = !is_number && !(length == strlen("current") && strncmp(selector, "current", length) == 0);
    if (at[-1] == ' ' || (is_number && token->version == 0) || !is_label(selector, length))
        return "@ must stand between the name of a prompt and a version from 1 on, a label or \"current\"";
    return NULL;
}

/* Reads the reference whose > is at p; NULL, or what is wrong with it. */
static const char *read_reference(const char *p, const char **at, struct token *token)
{
    p += 1 + strspn(p + 1, " ");
    token->kind = TOKEN_REFERENCE;
    token->start = p;
    while (*p && !(p[0] == '}' && p[1] == '}')) {
        if ((unsigned char)*p < ' ' || *p == 0x7F)
            return "the name of a prompt has no line breaks and other control characters";
        p++;
    }
    if (*p == '\0')
        return "{{> is not closed by }}";
    token->length = (size_t)(p - token->start);
    while (token->length > 0 && token->start[token->length - 1] == ' ')
        token->length--;
    const char *fault = split_reference(token);
    if (!fault)
        *at = p + 2;
    return fault;
}

/* Reads the placeholder or reference at *at; NULL, or what is wrong with it. */
static const char *read_placeholder(const char **at, struct token *token)
{
    const char *p = *at + 2;
    p += strspn(p, " ");
    token->kind = TOKEN_NAME;
    token->start = p;
    if (*p == '\0')
        return "{{ is not closed by }}";
    if (*p == '>')
        return read_reference(p, at, token);
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

/* The names or references of a template by hash: open addressing, at most half full. */
struct name_table {
    const char **names;
    size_t count, room;
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

/* Checks the whole text and counts its tokens of each kind. */
static forge_code count_tokens(const char *text, size_t *counts, struct forge_error *error)
{
    struct token token;
    const char *at = text;
    do {
        const char *fault = next_token(&at, &token);
        if (fault)
            return fail_at(text, at, fault, error);
        counts[token.kind]++;
    } while (token.kind != TOKEN_END);
    return FORGE_OK;
}

static bool table_init(struct name_table *table, size_t count, size_t count_max, struct forge_arena *arena)
{
    size_t slots = 2;
    table->room = count < count_max ? count : count_max;
    while (slots < 2 * table->room)
        slots *= 2;
    table->count = 0;
    table->mask = slots - 1;
    table->names = forge_arena_calloc(arena, table->room, sizeof *table->names);
    table->slots = forge_arena_calloc(arena, slots, sizeof *table->slots);
    return table->names && table->slots;
}

/* What a template uses. */
struct uses {
    struct name_table names, references; /* of references the texts */
    struct forge_template_reference *parts;
};

static bool note_reference(struct uses *uses, const struct token *token, struct forge_arena *arena)
{
    struct forge_template_reference *parts = &uses->parts[uses->references.count - 1];
    parts->text = uses->references.names[uses->references.count - 1];
    parts->name = forge_arena_strndup(arena, token->start, token->name_length);
    parts->version = token->version;
    parts->label = token->has_label ? parts->text + token->name_length + 1 : NULL;
    return parts->name != NULL;
}

static forge_code note(struct uses *uses, const struct token *token, struct forge_arena *arena, struct forge_error *error)
{
    bool is_reference = token->kind == TOKEN_REFERENCE;
    struct name_table *table = is_reference ? &uses->references : &uses->names;
    uint32_t *slot = find_slot(table, token->start, token->length);
    if (*slot)
        return FORGE_OK;
    if (table->count == table->room)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "template: more than %zu different %s", table->room,
                               is_reference ? "references" : "names");
    char *name = forge_arena_strndup(arena, token->start, token->length);
    if (!name)
        return no_memory(error);
    table->names[table->count++] = name;
    *slot = (uint32_t)table->count;
    return !is_reference || note_reference(uses, token, arena) ? FORGE_OK : no_memory(error);
}

static forge_code collect(const char *text, struct forge_arena *arena, struct uses *uses, struct forge_error *error)
{
    size_t counts[TOKEN_REFERENCE + 1] = {0};
    forge_code code = count_tokens(text, counts, error);
    if (code != FORGE_OK)
        return code;
    if (!table_init(&uses->names, counts[TOKEN_NAME], FORGE_TEMPLATE_NAMES_MAX, arena) ||
        !table_init(&uses->references, counts[TOKEN_REFERENCE], FORGE_TEMPLATE_REFERENCES_MAX, arena))
        return no_memory(error);
    uses->parts = forge_arena_calloc(arena, uses->references.room, sizeof *uses->parts);
    if (!uses->parts)
        return no_memory(error);
    struct token token;
    for (const char *at = text; code == FORGE_OK && !next_token(&at, &token) && token.kind != TOKEN_END;)
        if (token.kind != TOKEN_TEXT)
            code = note(uses, &token, arena, error);
    return code;
}

forge_code forge_template_scan(const char *text, struct forge_arena *arena, struct forge_template_names *names, struct forge_error *error)
{
    struct uses uses;
    forge_code code = collect(text, arena, &uses, error);
    if (code != FORGE_OK)
        return code;
    *names = (struct forge_template_names){uses.names.names, uses.names.count, uses.parts, uses.references.count};
    return FORGE_OK;
}

struct value {
    const char *text; /* NULL = none given */
    size_t length;
};

/* The value of each name of the table that is given one. */
static struct value *match_values(const struct name_table *table, const struct forge_template_variable *given, size_t given_count,
                                  struct forge_arena *arena)
{
    struct value *values = forge_arena_calloc(arena, table->count, sizeof *values);
    for (size_t i = 0; values && i < given_count; i++) {
        uint32_t slot = *find_slot(table, given[i].name, strlen(given[i].name));
        if (slot && given[i].value)
            values[slot - 1] = (struct value){given[i].value, strlen(given[i].value)};
    }
    return values;
}

/* Every name without a value becomes a violation. */
static forge_code require_values(const struct uses *uses, const struct value *names, const struct value *references,
                                 struct forge_arena *arena, struct forge_error *error)
{
    forge_code code = FORGE_OK;
    for (size_t i = 0; i < uses->names.count; i++) {
        if (names[i].text)
            continue;
        char field[sizeof "variables." + NAME_MAX_BYTES];
        snprintf(field, sizeof field, "variables.%s", uses->names.names[i]);
        if (code == FORGE_OK)
            code = forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s: the template needs a value for it", field);
        forge_error_add_violation(error, arena, field, "the template needs a value for it");
    }
    for (size_t i = 0; code == FORGE_OK && i < uses->references.count; i++)
        if (!references[i].text)
            code = forge_error_set(error, FORGE_INVALID_ARGUMENT, "template: nothing stands for {{> %s}}", uses->references.names[i]);
    return code;
}

/* What stands for a token. */
static struct value value_of(const struct uses *uses, const struct value *names, const struct value *references, const struct token *token)
{
    if (token->kind == TOKEN_TEXT)
        return (struct value){token->start, token->length};
    bool is_name = token->kind == TOKEN_NAME;
    return (is_name ? names : references)[*find_slot(is_name ? &uses->names : &uses->references, token->start, token->length) - 1];
}

forge_code forge_template_render(const char *text, const struct forge_template_values *values, size_t result_max, struct forge_arena *arena,
                                 char **out, struct forge_error *error)
{
    struct uses uses;
    struct token token;
    forge_code code = collect(text, arena, &uses, error);
    if (code != FORGE_OK)
        return code;
    const struct value *names = match_values(&uses.names, values->variables, values->variable_count, arena);
    const struct value *references = match_values(&uses.references, values->references, values->reference_count, arena);
    if (!names || !references)
        return no_memory(error);
    code = require_values(&uses, names, references, arena, error);
    if (code != FORGE_OK)
        return code;
    size_t size = 0;
    for (const char *at = text; size <= result_max && !next_token(&at, &token) && token.kind != TOKEN_END;)
        size += value_of(&uses, names, references, &token).length;
    if (size > result_max)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "the rendered text would be longer than %zu bytes", result_max);
    char *result = forge_arena_alloc(arena, size + 1), *end = result;
    if (!result)
        return no_memory(error);
    for (const char *at = text; !next_token(&at, &token) && token.kind != TOKEN_END;) {
        struct value piece = value_of(&uses, names, references, &token);
        memcpy(end, piece.text, piece.length);
        end += piece.length;
    }
    *out = result;
    return FORGE_OK;
}
