/* Prints the typed calls of libforge. */
#include "method.h"

#include <string.h>

static const char generated[] = "/* Made by stubgen from the services of forge.v1; do not edit. */\n";

/* The text of a .proto comment, line by line behind " *", with what would end or nest a C comment taken apart. */
static void print_comment(const char *comment, FILE *out)
{
    for (const char *line = comment; *line;) {
        size_t length = strcspn(line, "\n"), end = length;
        while (end > 0 && line[end - 1] == ' ')
            end--;
        fputs(" *", out);
        for (size_t i = 0; i < end; i++) {
            bool delimiter = i > 0 && ((line[i - 1] == '*' && line[i] == '/') || (line[i - 1] == '/' && line[i] == '*'));
            fprintf(out, delimiter ? " %c" : "%c", line[i]);
        }
        fputc('\n', out);
        line += length + (line[length] == '\n');
    }
}

static void print_sync_signature(const struct method *method, const char *prefix, FILE *out)
{
    fprintf(out,
            "%sforge_code forge_%s(struct forge_channel *channel, const struct forge_call_options *options,\n"
            "    const %s *request, %s **out_reply, struct forge_error *error)",
            prefix, method->handler, method_input_type(method), method_output_type(method));
}

static void print_async_signature(const struct method *method, const char *prefix, FILE *out)
{
    fprintf(out,
            "%sforge_code forge_%s_async(struct forge_channel *channel, const struct forge_call_options *options,\n"
            "    const %s *request, forge_call_done done, void *user, struct forge_error *error)",
            prefix, method->handler, method_input_type(method));
}

static void print_declarations(const struct method *method, FILE *out)
{
    fprintf(out, "/* %s\n", method->full_name);
    print_comment(method->comment, out);
    fprintf(out, " * Needs %s credential%s. */\n", method->needs_credential ? "a" : "no",
            method->writes ? "; a write: sent with a request_id, safe to repeat with the same one" : "");
    print_sync_signature(method, "FORGE_API ", out);
    fprintf(out, ";\n/* The same without waiting: done gets the reply, a %s. */\n", method_output_type(method));
    print_async_signature(method, "FORGE_API ", out);
    fputs(";\n\n", out);
}

void client_print_header(const struct method_list *list, FILE *out)
{
    fputs(generated, out);
    fputs("/* A typed call per RPC over forge_channel_call() and forge_channel_call_async() (forge/channel.h), which say all about\n"
          " * options, threads, errors and who owns the reply. Free a reply with the type's own free_unpacked(reply, NULL). */\n"
          "#ifndef FORGE_CALLS_H\n#define FORGE_CALLS_H\n\n#include \"forge/channel.h\"\n",
          out);
    method_list_print_includes(list, out);
    fputs("\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n/* Index into forge_methods. */\nenum forge_method_id {\n", out);
    for (size_t i = 0; i < list->count; i++)
        fprintf(out, "    FORGE_METHOD_%s%s,\n", list->methods[i].constant, i == 0 ? " = 0" : "");
    fprintf(out, "    FORGE_METHOD_COUNT = %zu\n};\n", list->count);
    fputs("/* Every RPC, sorted by name. */\nFORGE_API extern const struct forge_method forge_methods[FORGE_METHOD_COUNT];\n\n", out);
    for (size_t i = 0; i < list->count; i++)
        print_declarations(&list->methods[i], out);
    fputs("#ifdef __cplusplus\n}\n#endif\n#endif\n", out);
}

static void print_definitions(const struct method *method, FILE *out)
{
    print_sync_signature(method, "", out);
    fprintf(out,
            "\n{\n"
            "    ProtobufCMessage *reply = NULL;\n"
            "    forge_code code = forge_channel_call(channel, &forge_methods[FORGE_METHOD_%s], options, &request->base, &reply, error);\n"
            "    if (code == FORGE_OK)\n"
            "        *out_reply = (%s *)reply;\n"
            "    return code;\n"
            "}\n\n",
            method->constant, method_output_type(method));
    print_async_signature(method, "", out);
    fprintf(out,
            "\n{\n"
            "    return forge_channel_call_async(channel, &forge_methods[FORGE_METHOD_%s], options, &request->base, done, user, error);\n"
            "}\n\n",
            method->constant);
}

static const char *literal(bool value)
{
    return value ? "true" : "false";
}

void client_print_source(const struct method_list *list, FILE *out)
{
    fputs(generated, out);
    fputs("#include \"forge/calls.h\"\n\nconst struct forge_method forge_methods[FORGE_METHOD_COUNT] = {\n", out);
    for (size_t i = 0; i < list->count; i++) {
        const struct method *method = &list->methods[i];
        char input[METHOD_SYMBOL_MAX], output[METHOD_SYMBOL_MAX];
        method_descriptor_symbol(method->descriptor->input, input);
        method_descriptor_symbol(method->descriptor->output, output);
        fprintf(out, "    [FORGE_METHOD_%s] = {.name = \"%s\", .input = &%s, .output = &%s, .writes = %s, .needs_credential = %s},\n",
                method->constant, method->full_name, input, output, literal(method->writes), literal(method->needs_credential));
    }
    fputs("};\n\n", out);
    for (size_t i = 0; i < list->count; i++)
        print_definitions(&list->methods[i], out);
}
