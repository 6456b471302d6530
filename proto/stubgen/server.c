/* Prints the dispatch table of the server. */
#include "method.h"

#include <string.h>

static const char generated[] = "/* Made by stubgen from the services of forge.v1; do not edit. */\n";

static void print_prototypes(const struct method_list *list, FILE *out)
{
    fputs("/* The handlers; each is written by hand in server/service. */\n", out);
    for (size_t i = 0; i < list->count; i++) {
        const struct method *method = &list->methods[i];
        fprintf(out, "forge_code %s(struct rpc_call *call, const %s *request, %s *reply);\n", method->handler, method_input_type(method),
                method_output_type(method));
    }
}

void server_print_header(const struct method_list *list, FILE *out)
{
    fputs(generated, out);
    fputs("#ifndef RPC_TABLE_H\n#define RPC_TABLE_H\n\n", out);
    method_list_print_includes(list, out);
    fputs("#include \"wire/status.h\"\n\n#include <protobuf-c/protobuf-c.h>\n#include <stddef.h>\n\nstruct rpc_call;\n\n", out);
    fputs("/* One RPC. A row of rpc_methods, whose index is its enum rpc_method_id. */\n"
          "struct rpc_method_entry {\n"
          "    const char *name; /* \"forge.v1.PromptService/GetPrompt\" */\n"
          "    const ProtobufCMessageDescriptor *input, *output;\n"
          "    /* request and reply are of the types above. */\n"
          "    forge_code (*handler)(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage *reply);\n"
          "};\n\n"
          "enum rpc_method_id {\n",
          out);
    for (size_t i = 0; i < list->count; i++)
        fprintf(out, "    RPC_%s%s,\n", list->methods[i].constant, i == 0 ? " = 0" : "");
    fprintf(out, "    RPC_METHOD_COUNT = %zu\n};\n\n", list->count);
    fputs("/* Sorted by name. */\n"
          "extern const struct rpc_method_entry rpc_methods[RPC_METHOD_COUNT];\n\n"
          "/* The enum rpc_method_id of a full name of len bytes (no NUL needed), or -1. */\n"
          "int rpc_method_find(const char *name, size_t len);\n\n",
          out);
    print_prototypes(list, out);
    fputs("\n#endif\n", out);
}

static void print_thunk(const struct method *method, FILE *out)
{
    fprintf(out,
            "static forge_code call_%s(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage *reply)\n"
            "{\n"
            "    return %s(call, (const %s *)request, (%s *)reply);\n"
            "}\n\n",
            method->handler, method->handler, method_input_type(method), method_output_type(method));
}

static void print_row(const struct method *method, FILE *out)
{
    char input[METHOD_SYMBOL_MAX], output[METHOD_SYMBOL_MAX];
    method_descriptor_symbol(method->descriptor->input, input);
    method_descriptor_symbol(method->descriptor->output, output);
    fprintf(out, "    [RPC_%s] = {\"%s\", &%s, &%s, ", method->constant, method->full_name, input, output);
    fprintf(out, "call_%s},\n", method->handler);
}

/* Names of one length are few: a look-up goes to its length and halves those. */
static void print_lookup(const struct method_list *list, FILE *out)
{
    size_t longest = 0;
    for (size_t i = 0; i < list->count; i++)
        if (strlen(list->methods[i].full_name) > longest)
            longest = strlen(list->methods[i].full_name);
    fputs("/* Ids in the order of their names' lengths, those of one length by name. */\nstatic const unsigned short by_length[] = {\n",
          out);
    size_t printed = 0, starts[METHOD_NAME_MAX + 1] = {0};
    for (size_t length = 0; length <= longest; length++) {
        starts[length] = printed;
        for (size_t i = 0; i < list->count; i++) {
            if (strlen(list->methods[i].full_name) != length)
                continue;
            fprintf(out, "    RPC_%s,\n", list->methods[i].constant);
            printed++;
        }
    }
    fputs("};\n/* Where in by_length the ids of each length begin; those of the next length end them. */\n"
          "static const unsigned short first_of_length[] = {",
          out);
    for (size_t length = 0; length <= longest; length++)
        fprintf(out, "%s%zu,", length % 16 == 0 ? "\n    " : " ", starts[length]);
    fprintf(out, " %zu,\n};\n\n", printed);
    fprintf(out,
            "int rpc_method_find(const char *name, size_t len)\n"
            "{\n"
            "    if (len > %zu)\n"
            "        return -1;\n"
            "    unsigned low = first_of_length[len], high = first_of_length[len + 1];\n"
            "    while (low < high) {\n"
            "        unsigned middle = (low + high) / 2;\n"
            "        int order = memcmp(rpc_methods[by_length[middle]].name, name, len);\n"
            "        if (order == 0)\n"
            "            return by_length[middle];\n"
            "        if (order < 0)\n"
            "            low = middle + 1;\n"
            "        else\n"
            "            high = middle;\n"
            "    }\n"
            "    return -1;\n"
            "}\n",
            longest);
}

void server_print_source(const struct method_list *list, FILE *out)
{
    fputs(generated, out);
    fputs("#include \"rpc_table.h\"\n\n#include <string.h>\n\n", out);
    for (size_t i = 0; i < list->count; i++)
        print_thunk(&list->methods[i], out);
    fputs("const struct rpc_method_entry rpc_methods[RPC_METHOD_COUNT] = {\n", out);
    for (size_t i = 0; i < list->count; i++)
        print_row(&list->methods[i], out);
    fputs("};\n\n", out);
    print_lookup(list, out);
}
