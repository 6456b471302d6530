#include "service/prompt/content.h"

#include "service/reply.h"
#include "service/validate.h"
#include "text/json_object.h"
#include "wire/json.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VARIABLE_NAME_MAX = 64, PLACEHOLDERS_REPORTED_MAX = 8 };

static bool role_is_known(const char *role)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(role, roles[i]) == 0)
            return true;
    return false;
}

/* [A-Za-z_][A-Za-z0-9_.-]{0,63}, as wire/template.h has it. */
static bool variable_name_is_valid(const char *name)
{
    if (!isalpha((unsigned char)name[0]) && name[0] != '_')
        return false;
    size_t length = 1;
    while (isalnum((unsigned char)name[length]) || (name[length] != '\0' && strchr("_.-", name[length]) != NULL))
        length++;
    return name[length] == '\0' && length <= VARIABLE_NAME_MAX;
}

static void messages_check(struct rpc_call *call, const struct prompt_content_input *input)
{
    size_t total = 0;
    if (input->message_count > PROMPT_MESSAGES_MAX)
        rpc_call_violation(call, "messages", "must be at most %d", PROMPT_MESSAGES_MAX);
    for (size_t i = 0; i < input->message_count && i < PROMPT_MESSAGES_MAX; i++) {
        char field[48];
        snprintf(field, sizeof field, "messages[%zu].role", i);
        if (!role_is_known(input->messages[i]->role))
            rpc_call_violation(call, field, "must be system, developer, user, assistant or tool");
        total += strlen(input->messages[i]->content);
    }
    if (total > PROMPT_TEXT_BYTES_MAX)
        rpc_call_violation(call, "messages", "must be at most %d bytes together", PROMPT_TEXT_BYTES_MAX);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names every variable that is declared a second time. */
static void variables_check_unique(struct rpc_call *call, const struct prompt_content_input *input, size_t count)
{
    const char *names[PROMPT_VARIABLES_MAX];
    for (size_t i = 0; i < count; i++)
        names[i] = input->variables[i]->name;
    qsort(names, count, sizeof names[0], compare_names);
    for (size_t i = 1; i < count; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            rpc_call_violation(call, "variables", "\"%.*s\" is declared twice", VARIABLE_NAME_MAX, names[i]);
}

static void variables_check(struct rpc_call *call, const struct prompt_content_input *input)
{
    size_t count = input->variable_count;
    if (count > PROMPT_VARIABLES_MAX) {
        rpc_call_violation(call, "variables", "must be at most %d", PROMPT_VARIABLES_MAX);
        count = PROMPT_VARIABLES_MAX;
    }
    for (size_t i = 0; i < count; i++) {
        const Forge__V1__PromptVariable *variable = input->variables[i];
        char field[48];
        snprintf(field, sizeof field, "variables[%zu].name", i);
        if (!variable_name_is_valid(variable->name))
            rpc_call_violation(call, field, "must be a letter or _ and up to 63 letters, digits, _ . or -");
        snprintf(field, sizeof field, "variables[%zu].description", i);
        validate_text(call, field, variable->description, PROMPT_NOTE_CHARACTERS_MAX);
        snprintf(field, sizeof field, "variables[%zu].default_value", i);
        if (variable->default_value != NULL)
            validate_bytes(call, field, variable->default_value->value, PROMPT_DEFAULT_BYTES_MAX);
    }
    variables_check_unique(call, input, count);
}

static void parameters_check(struct rpc_call *call, const char *parameters)
{
    if (parameters[0] == '\0' || !validate_bytes(call, "parameters", parameters, PROMPT_PARAMETERS_BYTES_MAX))
        return;
    if (text_json_object_canonical(parameters, strlen(parameters), NULL, 0) == 0)
        rpc_call_violation(call, "parameters", "must be a JSON object, each member once");
}

/* The placeholders of all templates of one version, each once. */
struct placeholders {
    const char **names;
    size_t count, room;
};

static bool placeholder_is_noted(const struct placeholders *found, const char *name)
{
    for (size_t i = 0; i < found->count; i++)
        if (strcmp(found->names[i], name) == 0)
            return true;
    return false;
}

static bool reference_is_noted(const struct prompt_references *references, const char *text)
{
    for (size_t i = 0; i < references->count; i++)
        if (strcmp(references->list[i].parts.text, text) == 0)
            return true;
    return false;
}

void prompt_references_add(struct prompt_references *references, const char *field, const struct forge_template_names *names)
{
    for (size_t i = 0; i < names->reference_count && references->count <= PROMPT_REFERENCES_MAX; i++)
        if (!reference_is_noted(references, names->references[i].text))
            references->list[references->count++] = (struct prompt_reference){names->references[i], field};
}

static void template_scan(struct rpc_call *call, const char *field, const char *text, struct placeholders *found,
                          struct prompt_references *references)
{
    struct forge_template_names names = {0};
    struct forge_error error = {0};
    if (forge_template_scan(text, call->arena, &names, &error) != FORGE_OK) {
        rpc_call_violation(call, field, "%s", error.message);
        return;
    }
    for (size_t i = 0; i < names.count && found->count < found->room; i++)
        if (!placeholder_is_noted(found, names.names[i]))
            found->names[found->count++] = names.names[i];
    if (references->count > PROMPT_REFERENCES_MAX)
        return; /* told already */
    prompt_references_add(references, field, &names);
    if (references->count > PROMPT_REFERENCES_MAX)
        rpc_call_violation(call, field, "more than %d different references", PROMPT_REFERENCES_MAX);
}

static void templates_scan(struct rpc_call *call, const struct prompt_content_input *input, struct placeholders *found,
                           struct prompt_references *references)
{
    template_scan(call, "content", input->content, found, references);
    template_scan(call, "system_prompt", input->system_prompt, found, references);
    for (size_t i = 0; i < input->message_count && i < PROMPT_MESSAGES_MAX; i++) {
        const char *field = forge_arena_printf(call->arena, "messages[%zu].content", i);
        template_scan(call, field != NULL ? field : "messages", input->messages[i]->content, found, references);
    }
}

static int compare_variables(const void *a, const void *b)
{
    const Forge__V1__PromptVariable *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

static bool is_declared(const struct prompt_content_input *input, const char *name)
{
    for (size_t i = 0; i < input->variable_count; i++)
        if (strcmp(input->variables[i]->name, name) == 0)
            return true;
    return false;
}

/* Every placeholder must be declared; where nothing is declared each one found is. */
static void variables_settle(struct rpc_call *call, const struct prompt_content_input *input, const struct placeholders *found,
                             struct prompt_content *out)
{
    size_t undeclared = 0;
    for (size_t i = 0; input->variable_count > 0 && i < found->count; i++)
        if (!is_declared(input, found->names[i]) && ++undeclared <= PLACEHOLDERS_REPORTED_MAX)
            rpc_call_violation(call, "variables", "{{%s}} is used and not declared", found->names[i]);
    if (found->count > PROMPT_VARIABLES_MAX)
        rpc_call_violation(call, "variables", "more than %d placeholders", PROMPT_VARIABLES_MAX);
    size_t count = input->variable_count > 0 ? input->variable_count : found->count;
    out->variables = forge_arena_calloc(call->arena, count + 1, sizeof out->variables[0]);
    for (size_t i = 0; out->variables != NULL && i < count; i++) {
        Forge__V1__PromptVariable *variable =
            input->variable_count > 0 ? input->variables[i] : reply_message(call, &forge__v1__prompt_variable__descriptor);
        if (variable == NULL)
            return;
        if (input->variable_count == 0)
            variable->name = forge_arena_strdup(call->arena, found->names[i]);
        out->variables[out->variable_count++] = variable;
    }
    if (out->variables != NULL && !forge_arena_has_overflowed(call->arena))
        qsort(out->variables, out->variable_count, sizeof out->variables[0], compare_variables);
}

void prompt_content_check(struct rpc_call *call, const struct prompt_content_input *input, struct prompt_content *out)
{
    *out = (struct prompt_content){0};
    bool is_text = input->content[0] != '\0', is_chat = input->message_count > 0;
    if (is_text == is_chat)
        rpc_call_violation(call, "content", "exactly one of content and messages is required");
    validate_bytes(call, "content", input->content, PROMPT_TEXT_BYTES_MAX);
    messages_check(call, input);
    validate_bytes(call, "system_prompt", input->system_prompt, PROMPT_SYSTEM_BYTES_MAX);
    variables_check(call, input);
    out->has_model = input->model_id[0] != '\0' && validate_uuid(call, "model_id", input->model_id, &out->model_id);
    parameters_check(call, input->parameters);
    validate_text(call, "message", input->message, PROMPT_NOTE_CHARACTERS_MAX);
    const char *names[PROMPT_VARIABLES_MAX + 1]; /* one more tells that there are too many */
    struct placeholders found = {names, 0, PROMPT_VARIABLES_MAX + 1};
    templates_scan(call, input, &found, &out->references);
    variables_settle(call, input, &found, out);
}

/* Each piece behind a tag: pieces may be left out. */
static void hash_piece(struct forge_sha256_state *state, char tag, const char *data, size_t size)
{
    forge_sha256_update(state, &tag, 1);
    forge_sha256_piece(state, data, size);
}

static void hash_text(struct forge_sha256_state *state, char tag, const char *text)
{
    hash_piece(state, tag, text, strlen(text));
}

/* The one spelling of the parameters, NULL when the arena is full. */
static char *parameters_canonical(struct rpc_call *call, const char *parameters, size_t *out_size)
{
    size_t size = strlen(parameters);
    *out_size = text_json_object_canonical(parameters, size, NULL, 0);
    char *text = forge_arena_alloc(call->arena, *out_size + 1);
    if (text != NULL)
        text_json_object_canonical(parameters, size, text, *out_size);
    return text;
}

static forge_code content_hash(struct rpc_call *call, const struct prompt_content_input *input, struct prompt_content *out)
{
    size_t parameters_size = 0;
    char *parameters = out->parameters != NULL ? parameters_canonical(call, out->parameters, &parameters_size) : NULL;
    if (out->parameters != NULL && parameters == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the prompt needs too much memory");
    struct forge_sha256_state *state = forge_sha256_new();
    hash_text(state, 'c', input->content);
    for (size_t i = 0; i < input->message_count; i++) {
        hash_text(state, 'r', input->messages[i]->role);
        hash_text(state, 'm', input->messages[i]->content);
    }
    hash_text(state, 's', input->system_prompt);
    for (size_t i = 0; i < out->variable_count; i++) {
        const Forge__V1__PromptVariable *variable = out->variables[i];
        hash_text(state, 'n', variable->name);
        hash_text(state, 'd', variable->description);
        if (variable->default_value != NULL)
            hash_text(state, 'v', variable->default_value->value);
    }
    char model_id[FORGE_UUID_TEXT_SIZE] = ""; /* one spelling of it */
    if (out->has_model)
        forge_uuid_format(&out->model_id, model_id);
    hash_text(state, 'o', model_id);
    if (parameters != NULL)
        hash_piece(state, 'p', parameters, parameters_size);
    forge_sha256_final(state, out->hash);
    return FORGE_OK;
}

static const char *text_or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static size_t length_or_zero(const char *text)
{
    return text != NULL ? strlen(text) : 0;
}

forge_code prompt_content_make(struct rpc_call *call, const struct prompt_content_input *input, struct prompt_content *out)
{
    /* A PromptVersion that holds one list only gives {"<list>": [...]}; the statement takes the list out of it. */
    Forge__V1__PromptVersion part = FORGE__V1__PROMPT_VERSION__INIT;
    const struct forge_json_options options = {0};
    out->content = input->content;
    out->system_prompt = text_or_null(input->system_prompt);
    out->parameters = text_or_null(input->parameters);
    out->message = text_or_null(input->message);
    part.n_variables = out->variable_count;
    part.variables = out->variables;
    out->variables_json = forge_json_from_message(&part.base, &options, call->arena);
    if (input->message_count > 0) {
        Forge__V1__PromptVersion messages = FORGE__V1__PROMPT_VERSION__INIT;
        messages.n_messages = input->message_count;
        messages.messages = input->messages;
        out->messages_json = forge_json_from_message(&messages.base, &options, call->arena);
    }
    if (forge_arena_has_overflowed(call->arena))
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the prompt needs too much memory");
    /* A request is at most 4 MiB, so the sum fits. */
    out->bytes = (int32_t)(strlen(out->content) + length_or_zero(out->messages_json) + length_or_zero(out->system_prompt) +
                           strlen(out->variables_json) + length_or_zero(out->parameters));
    return content_hash(call, input, out);
}

void prompt_content_bind(struct db_stmt *stmt, const struct prompt_content *content)
{
    db_bind_text(stmt, content->content);
    db_bind_text(stmt, content->messages_json);
    db_bind_text(stmt, content->system_prompt);
    db_bind_text(stmt, content->variables_json);
    db_bind_text(stmt, content->parameters);
    db_bind_bytes(stmt, content->hash, sizeof content->hash);
    db_bind_int32(stmt, content->bytes);
    db_bind_text(stmt, content->message);
}

void prompt_content_bind_model(struct db_stmt *stmt, const struct prompt_content *content)
{
    db_bind_uuid(stmt, content->has_model ? &content->model_id : NULL);
}

forge_code prompt_content_check_model(struct rpc_call *call, const char *model_id, forge_code rc, const struct db_row *row)
{
    if (rc == FORGE_FAILED_PRECONDITION && reply_violates(call, "prompt_versions_model_id_fkey"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "model %s not found", model_id);
    if (rc == FORGE_OK && db_row_bool(row, "is_deprecated"))
        return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "model %s is deprecated", model_id);
    return rc;
}

/* The lists back from JSON. */
static forge_code lists_read(struct rpc_call *call, const char *messages, const char *variables, struct prompt_content_row *out)
{
    char *json = forge_arena_printf(call->arena, "{\"messages\":%s,\"variables\":%s}", messages != NULL ? messages : "[]",
                                    variables != NULL ? variables : "[]");
    if (json == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the prompt needs too much memory");
    ProtobufCMessage *message;
    struct forge_error error = {0};
    forge_code rc = forge_json_to_message(json, strlen(json), &forge__v1__prompt_version__descriptor, call->arena, &message, &error);
    if (rc == FORGE_RESOURCE_EXHAUSTED)
        return rpc_call_fail(call, rc, "the prompt needs too much memory");
    if (rc != FORGE_OK)
        return rpc_call_fail(call, FORGE_DATA_LOSS, "the stored messages or variables of this prompt cannot be read");
    const Forge__V1__PromptVersion *version = (const Forge__V1__PromptVersion *)message;
    out->message_count = version->n_messages;
    out->messages = version->messages;
    out->variable_count = version->n_variables;
    out->variables = version->variables;
    return FORGE_OK;
}

forge_code prompt_content_read(struct rpc_call *call, const struct db_row *row, struct prompt_content_row *out)
{
    size_t hash_size = 0;
    const uint8_t *hash = db_row_bytes(row, "content_hash", &hash_size);
    *out = (struct prompt_content_row){0};
    out->format = db_row_bool(row, "is_chat") ? FORGE__V1__PROMPT_FORMAT__PROMPT_FORMAT_CHAT : FORGE__V1__PROMPT_FORMAT__PROMPT_FORMAT_TEXT;
    out->content = db_row_text_or_empty(row, "content");
    out->system_prompt = db_row_text_or_empty(row, "system_prompt");
    out->model_id = db_row_uuid_text(row, "model_id");
    out->model_name = db_row_text(row, "model_name");
    out->parameters = db_row_text_or_empty(row, "parameters");
    out->content_hash = reply_hex(call, hash, hash_size);
    const char *messages = db_row_text(row, "messages"), *variables = db_row_text(row, "variables");
    if (messages == NULL && (variables == NULL || strcmp(variables, "[]") == 0))
        return FORGE_OK;
    return lists_read(call, messages, variables, out);
}

forge_code prompt_content_read_text(struct rpc_call *call, const struct db_row *row, struct prompt_content_row *out)
{
    const char *variables = db_row_text(row, "variables");
    *out = (struct prompt_content_row){.format = FORGE__V1__PROMPT_FORMAT__PROMPT_FORMAT_TEXT,
                                       .content = db_row_text_or_empty(row, "content")};
    return variables == NULL || strcmp(variables, "[]") == 0 ? FORGE_OK : lists_read(call, NULL, variables, out);
}
