/* call and services: any method by name. */
#include "output.h"

#include <assert.h>
#include <string.h>

/* "GetPrompt" for ".../GetPrompt". */
static const char *short_name(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

static int unknown_method(const char *name)
{
    const char *names[256];
    size_t count = 0;
    const struct forge_method *method;
    for (size_t i = 0; (method = forge_method_at(i)) && count < 256; i++)
        names[count++] = short_name(method->name);
    const char *nearest = cli_nearest(short_name(name), names, count);
    return cli_fail(CLI_USAGE, "unknown method \"%s\"%s%s%s", name, nearest ? "; did you mean " : "; see forgectl services",
                    nearest ? nearest : "", nearest ? "?" : "");
}

/* A full name ("forge.v1.PromptService/GetPrompt"), one without the package, or a method name that only one service has. */
static int find_method(const char *name, const struct forge_method **out)
{
    const struct forge_method *method, *found = NULL;
    size_t length = strlen(name);
    for (size_t i = 0; (method = forge_method_at(i)); i++) {
        size_t full = strlen(method->name);
        bool ends_so = full > length && !strcmp(method->name + full - length, name) && strchr("/.", method->name[full - length - 1]);
        if (!ends_so && strcmp(method->name, name) != 0)
            continue;
        if (found)
            return cli_fail(CLI_USAGE, "\"%s\" is a method of several services: %s, %s", name, found->name, method->name);
        found = method;
    }
    if (!found)
        return unknown_method(name);
    *out = found;
    return CLI_OK;
}

static int read_request(struct cli *cli, const struct forge_method *method, ProtobufCMessage **out)
{
    const char *data = cli_option(cli, "data");
    size_t size = 2;
    if (!data)
        data = "{}";
    else if (*data == '@')
        data = cli_read_file(cli, data + 1, &size);
    else
        size = strlen(data);
    if (!data)
        return CLI_FAILED;
    struct forge_error error = {.code = FORGE_OK};
    if (forge_json_to_message(data, size, method->input, &cli->arena, out, &error) == FORGE_OK)
        return CLI_OK;
    cli_fail(CLI_USAGE, "the data is no %s: %s", method->input->name, error.message);
    for (const struct forge_violation *violation = error.violations; violation; violation = violation->next)
        fprintf(stderr, "  %s: %s\n", violation->field, violation->description);
    return CLI_USAGE;
}

int command_call(struct cli *cli)
{
    const struct forge_method *method = NULL;
    ProtobufCMessage *request, *reply;
    int code = find_method(cli->positionals[0], &method);
    if (code != CLI_OK)
        return code;
    assert(method);
    code = read_request(cli, method, &request);
    if (code == CLI_OK)
        code = cli_call(cli, method, request, &reply);
    if (code != CLI_OK)
        return code;
    code = output_message(cli, reply);
    cli_free(reply);
    return code;
}

static const struct output_column method_columns[] = {
    {"METHOD", "name"}, {"ACCESS", "access"}, {"WRITES", "writes"}, {"CLASS", "worker_class"}, {"TIMEOUT MS", "default_timeout_ms"},
    {NULL, NULL}};

static int print_services(struct cli *cli, const Forge__V1__ReflectResponse *reply)
{
    for (size_t i = 0; i < reply->n_services; i++) {
        if (cli->format == CLI_FORMAT_TABLE && i)
            printf("\n");
        int code = output_list(cli, &reply->services[i]->base, "methods", method_columns, "name");
        if (code != CLI_OK)
            return code;
    }
    return CLI_OK;
}

int command_services(struct cli *cli)
{
    Forge__V1__ReflectRequest request = FORGE__V1__REFLECT_REQUEST__INIT;
    ProtobufCMessage *reply;
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_CONTROL_REFLECT], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    if (cli->format == CLI_FORMAT_JSON || cli->format == CLI_FORMAT_YAML)
        code = output_message(cli, reply);
    else
        code = print_services(cli, (const Forge__V1__ReflectResponse *)reply);
    cli_free(reply);
    return code;
}
