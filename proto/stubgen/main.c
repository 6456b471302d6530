/* stubgen: prints, at build time, the server's dispatch table and libforge's typed calls from the services of forge.v1.
 *
 * Names. An RPC Service/Method is <service>_<verb> everywhere in C (the handler prompt_create, the call forge_prompt_create):
 *   service  the service's name without "Service", in lower case; it is one word
 *   verb     the method's name in snake_case without the words that are the service's own noun, singular or plural
 * so PromptService/CreatePrompt is prompt_create, CreatePromptVersion prompt_create_version, BatchGetPrompts prompt_batch_get,
 * OrganizationService/CreateApiKey organization_create_api_key, PolicyService/CheckPolicies policy_check. Two methods that
 * get the same name, or one of which nothing is left, stop the build.
 *
 * Usage: forge_stubgen <README of the protocol> <descriptor set> <server directory> <client directory>
 *   README          proto/README.md: its tables of methods say which ones write and which need no credential
 *   descriptor set  forge.descriptors with source information: the RPCs' comments
 * Writes rpc_table.h and rpc_table.c into the server directory, forge/calls.h and calls.c into the client directory.
 * Exit status 1 with a message (file:line where there is one) when something does not fit. */
#include "method.h"

#include <errno.h>
#include <string.h>

static struct method_list list;

static bool write_file(const char *directory, const char *name, void (*print)(const struct method_list *list, FILE *out))
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path) {
        fprintf(stderr, "stubgen: path too long: %s/%s\n", directory, name);
        return false;
    }
    FILE *out = fopen(path, "we");
    bool ok = out != NULL;
    if (out) {
        print(&list, out);
        ok = !ferror(out);
        ok = fclose(out) == 0 && ok;
    }
    if (!ok)
        fprintf(stderr, "stubgen: %s: %s\n", path, strerror(errno));
    return ok;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fputs("usage: forge_stubgen <README> <descriptor set> <server directory> <client directory>\n", stderr);
        return 1;
    }
    const char *readme = argv[1], *descriptors = argv[2], *server = argv[3], *client = argv[4];
    bool ok = method_list_collect(&list) && method_list_read_readme(&list, readme) && method_list_read_comments(&list, descriptors);
    ok = ok && write_file(server, "rpc_table.h", server_print_header) && write_file(server, "rpc_table.c", server_print_source) &&
         write_file(client, "forge/calls.h", client_print_header) && write_file(client, "calls.c", client_print_source);
    return ok ? 0 : 1;
}
