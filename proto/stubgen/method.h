/* The methods of all services, read from the descriptors that protobuf-c generated, and what other files say about them. */
#ifndef STUBGEN_METHOD_H
#define STUBGEN_METHOD_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { METHODS_MAX = 512, METHOD_NAME_MAX = 128, METHOD_SYMBOL_MAX = 256 };

struct method {
    const ProtobufCServiceDescriptor *service;
    const ProtobufCMethodDescriptor *descriptor;
    const char *header;              /* of the generated types: "forge/v1/prompt.pb-c.h" */
    char full_name[METHOD_NAME_MAX]; /* "forge.v1.PromptService/CreatePrompt" */
    char handler[METHOD_NAME_MAX];   /* "prompt_create" */
    char constant[METHOD_NAME_MAX];  /* "PROMPT_CREATE" */
    char *comment;                   /* the RPC's comment in the .proto file; NULL = none */
    bool in_readme;                  /* the two below were read */
    bool writes;
    bool needs_credential;
};

struct method_list {
    struct method methods[METHODS_MAX]; /* by full name */
    size_t count;
};

/* All functions print what is wrong, with file and line where there is one, and return false. */

/* Names after the rule at the top of main.c. handler has room for METHOD_NAME_MAX bytes. */
bool method_handler_name(const char *service, const char *method, char *handler);
/* Fills the list from the services of forge.v1. */
bool method_list_collect(struct method_list *list);
struct method *method_list_find(struct method_list *list, const char *full_name);

/* The tables of proto/README.md whose first column is "method": sets writes and needs_credential; every method must have a row. */
bool method_list_read_readme(struct method_list *list, const char *path);
/* A FileDescriptorSet with source information: sets comment. */
bool method_list_read_comments(struct method_list *list, const char *path);

/* The C types: "Forge__V1__CreatePromptRequest". */
const char *method_input_type(const struct method *method);
const char *method_output_type(const struct method *method);
/* The variable that holds a descriptor: "forge__v1__create_prompt_request__descriptor". */
void method_descriptor_symbol(const ProtobufCMessageDescriptor *type, char symbol[METHOD_SYMBOL_MAX]);

/* The dispatch table of the server: rpc_table.h and rpc_table.c. The typed calls of libforge: forge/calls.h and calls.c. */
void server_print_header(const struct method_list *list, FILE *out);
void server_print_source(const struct method_list *list, FILE *out);
void client_print_header(const struct method_list *list, FILE *out);
void client_print_source(const struct method_list *list, FILE *out);
/* One #include line per generated header that the methods need. */
void method_list_print_includes(const struct method_list *list, FILE *out);

#endif
