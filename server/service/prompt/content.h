/* What a prompt version consists of: checked as a request gives it, made ready for the database, read back.
 * Private to the prompt service. */
#ifndef SERVER_SERVICE_PROMPT_CONTENT_H
#define SERVER_SERVICE_PROMPT_CONTENT_H

#include "db/stmt.h"
#include "rpc/call.h"
#include "wire/crypto.h"
#include "wire/template.h"

#include "forge/v1/prompt.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PROMPT_TEXT_BYTES_MAX = 1 << 20, /* content, or all messages together; also a rendered prompt */
    PROMPT_SYSTEM_BYTES_MAX = 256 << 10,
    PROMPT_PARAMETERS_BYTES_MAX = 64 << 10,
    PROMPT_DEFAULT_BYTES_MAX = 64 << 10,
    PROMPT_MESSAGES_MAX = 500,
    PROMPT_VARIABLES_MAX = 256,
    PROMPT_REFERENCES_MAX = 64,       /* different ones of one version */
    PROMPT_NOTE_CHARACTERS_MAX = 1024 /* version messages and descriptions of variables */
};

/* The fields that CreatePromptRequest and CreatePromptVersionRequest share. */
struct prompt_content_input {
    const char *content;
    size_t message_count;
    Forge__V1__ChatMessage **messages;
    const char *system_prompt;
    size_t variable_count;
    Forge__V1__PromptVariable **variables;
    const char *model_id;
    const char *parameters;
    const char *message;
};

/* A reference of a version to another prompt, and the field in which it stands first. */
struct prompt_reference {
    struct forge_template_reference parts;
    const char *field;
};
/* Those of a version, each once, in the order of content, system prompt and messages; zeroed = none. */
struct prompt_references {
    size_t count;
    struct prompt_reference list[PROMPT_REFERENCES_MAX + 1]; /* one more tells that there are too many */
};

/* The same, checked, as prompt_versions holds it. */
struct prompt_content {
    const char *content;       /* "" for chat */
    const char *messages_json; /* {"messages": [...]}, NULL for text */
    const char *system_prompt; /* NULL for none, as the next two */
    const char *parameters;
    const char *message;
    const char *variables_json; /* {"variables": [...]} by name, {} for none */
    bool has_model;
    struct forge_uuid model_id;
    uint8_t hash[FORGE_SHA256_SIZE];
    int32_t bytes; /* of content, messages, system prompt, variables and parameters */
    size_t variable_count;
    Forge__V1__PromptVariable **variables; /* declared, or else the placeholders that were found */
    struct prompt_references references;
};

/* Adds the references of one template that are not there yet. */
void prompt_references_add(struct prompt_references *references, const char *field, const struct forge_template_names *names);

/* Notes every violation on the call. Fills variables, model_id and references of *out only. */
void prompt_content_check(struct rpc_call *call, const struct prompt_content_input *input, struct prompt_content *out);
/* After a check without violations: the rest of *out. */
forge_code prompt_content_make(struct rpc_call *call, const struct prompt_content_input *input,
                               struct prompt_content *out) FORGE_MUST_CHECK;
/* Binds content, messages, system_prompt, variables, parameters, content_hash, content_bytes, message: eight parameters. */
void prompt_content_bind(struct db_stmt *stmt, const struct prompt_content *content);
/* Binds model_id. */
void prompt_content_bind_model(struct db_stmt *stmt, const struct prompt_content *content);
/* Of the statement that stores the content, which ended with rc and, where that is OK, gave a row with column is_deprecated: NOT_FOUND when
 * the model does not exist, FAILED_PRECONDITION when a new version would use one that is deprecated, else rc. */
forge_code prompt_content_check_model(struct rpc_call *call, const char *model_id, forge_code rc,
                                      const struct db_row *row) FORGE_MUST_CHECK;

/* What a row's columns is_chat, content, messages, system_prompt, variables, model_id, model_name and parameters hold, as the messages have
 * it. */
struct prompt_content_row {
    Forge__V1__PromptFormat format;
    char *content;
    size_t message_count;
    Forge__V1__ChatMessage **messages;
    char *system_prompt;
    size_t variable_count;
    Forge__V1__PromptVariable **variables;
    char *model_id, *model_name; /* NULL for any */
    char *parameters;
    char *content_hash; /* 64 hexadecimal digits */
};
forge_code prompt_content_read(struct rpc_call *call, const struct db_row *row, struct prompt_content_row *out) FORGE_MUST_CHECK;
/* The same of a row that has only the columns content and variables, of a text prompt. */
forge_code prompt_content_read_text(struct rpc_call *call, const struct db_row *row, struct prompt_content_row *out) FORGE_MUST_CHECK;

#endif
