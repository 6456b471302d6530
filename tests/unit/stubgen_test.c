/* stubgen: its rule for names, what it prints for one service, the look-up it generates, and every input it refuses. */
#include "method.h"
#include "rpc_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct method_list list;

/* --- names --- */

static void test_names(void **state)
{
    static const char *const cases[][3] = {
        {"PromptService", "CreatePrompt", "prompt_create"},
        {"PromptService", "CreatePromptVersion", "prompt_create_version"},
        {"PromptService", "ListPrompts", "prompt_list"},
        {"PromptService", "BatchGetPrompts", "prompt_batch_get"},
        {"PromptService", "RenderPrompt", "prompt_render"},
        {"PromptService", "SetLabel", "prompt_set_label"},
        {"OrganizationService", "Login", "organization_login"},
        {"OrganizationService", "WhoAmI", "organization_who_am_i"},
        {"OrganizationService", "CreateApiKey", "organization_create_api_key"},
        {"ControlService", "Ping", "control_ping"},
        {"PolicyService", "CheckPolicies", "policy_check"},
        {"PolicyService", "GetPolicyStats", "policy_get_stats"},
        {"PromptService", "ListPrompters", "prompt_list_prompters"}, /* whole words only */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char handler[METHOD_NAME_MAX];
        assert_true(method_handler_name(cases[i][0], cases[i][1], handler));
        assert_string_equal(handler, cases[i][2]);
    }
}

static void test_names_refused(void **state)
{
    char handler[METHOD_NAME_MAX];
    assert_false(method_handler_name("PromptService", "Prompts", handler));
    assert_false(method_handler_name("AuditLogService", "ListEvents", handler));
    assert_false(method_handler_name("Prompts", "ListPrompts", handler));
    assert_false(method_handler_name("Service", "Ping", handler));
}

static void test_descriptor_symbols(void **state)
{
    char symbol[METHOD_SYMBOL_MAX];
    assert_true(method_list_collect(&list));
    const struct method *method = method_list_find(&list, "forge.v1.OrganizationService/WhoAmI");
    assert_non_null(method);
    method_descriptor_symbol(method->descriptor->input, symbol);
    assert_string_equal(symbol, "forge__v1__who_am_irequest__descriptor"); /* as protoc-gen-c writes it */
}

/* --- the generated table --- */

static void test_table_is_sorted_and_found(void **state)
{
    assert_true(method_list_collect(&list));
    assert_int_equal(list.count, RPC_METHOD_COUNT);
    for (int id = 0; id < RPC_METHOD_COUNT; id++) {
        const char *name = rpc_methods[id].name;
        char copy[METHOD_NAME_MAX];
        size_t length = strlen(name);
        assert_string_equal(name, list.methods[id].full_name);
        assert_ptr_equal(rpc_methods[id].input, list.methods[id].descriptor->input);
        assert_ptr_equal(rpc_methods[id].output, list.methods[id].descriptor->output);
        assert_true(id == 0 || strcmp(rpc_methods[id - 1].name, name) < 0);
        assert_int_equal(rpc_method_find(name, length), id);
        assert_int_equal(rpc_method_find(name, strcspn(name, "/")), -1);
        for (size_t i = 0; i < length; i++) {
            memcpy(copy, name, length);
            copy[i] ^= 1;
            int found = rpc_method_find(copy, length);
            assert_true(found == -1 || memcmp(rpc_methods[found].name, copy, length) == 0);
        }
    }
}

static void test_table_does_not_find(void **state)
{
    static char long_name[5000];
    memset(long_name, 'a', sizeof long_name);
    assert_int_equal(rpc_method_find("", 0), -1);
    assert_int_equal(rpc_method_find(long_name, sizeof long_name), -1);
    assert_int_equal(rpc_method_find("forge.v1.ControlService/Pong", 28), -1);
    assert_int_equal(rpc_method_find("forge.v1.ControlService/ping", 28), -1);
    assert_int_equal(rpc_method_find("/forge.v1.ControlService/Ping", 29), -1);
    assert_int_equal(rpc_method_find("forge.v1.ControlService/Ping\0", 29), -1);
    assert_int_equal(rpc_method_find("forge.v1.ControlService/Ping?", 28), RPC_CONTROL_PING);
}

/* --- what is printed --- */

/* Runs a printer into memory. */
static char *print(void (*printer)(const struct method_list *methods, FILE *out))
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    printer(&list, out);
    fclose(out);
    return text;
}

/* Only the methods of one service, as if there were no others. */
static void collect_service(const char *name)
{
    size_t kept = 0;
    assert_true(method_list_collect(&list));
    for (size_t i = 0; i < list.count; i++)
        if (strcmp(list.methods[i].service->name, name) == 0)
            list.methods[kept++] = list.methods[i];
    list.count = kept;
}

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        print_error("missing: %s\n", part);
    assert_non_null(strstr(text, part));
}

static void test_server_output(void **state)
{
    collect_service("forge.v1.ControlService");
    char *header = print(server_print_header), *source = print(server_print_source);
    assert_contains(header, "enum rpc_method_id {\n"
                            "    RPC_CONTROL_CANCEL_CALL = 0,\n"
                            "    RPC_CONTROL_CHECK_HEALTH,\n"
                            "    RPC_CONTROL_PING,\n"
                            "    RPC_CONTROL_REFLECT,\n"
                            "    RPC_METHOD_COUNT = 4\n"
                            "};\n");
    assert_contains(
        header, "forge_code control_ping(struct rpc_call *call, const Forge__V1__PingRequest *request, Forge__V1__PingResponse *reply);\n");
    assert_contains(source,
                    "static forge_code call_control_ping(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage *reply)\n"
                    "{\n"
                    "    return control_ping(call, (const Forge__V1__PingRequest *)request, (Forge__V1__PingResponse *)reply);\n"
                    "}\n");
    assert_contains(source,
                    "const struct rpc_method_entry rpc_methods[RPC_METHOD_COUNT] = {\n"
                    "    [RPC_CONTROL_CANCEL_CALL] = {\"forge.v1.ControlService/CancelCall\", &forge__v1__cancel_call_request__descriptor, "
                    "&forge__v1__cancel_call_response__descriptor, call_control_cancel_call},\n");
    assert_contains(source, "    [RPC_CONTROL_REFLECT] = {\"forge.v1.ControlService/Reflect\", &forge__v1__reflect_request__descriptor, "
                            "&forge__v1__reflect_response__descriptor, call_control_reflect},\n"
                            "};\n");
    free(header);
    free(source);
}

static void test_client_output(void **state)
{
    char comment[] = " Echoes */ bytes /* and more.  \n\n Second line.\n";
    collect_service("forge.v1.ControlService");
    for (size_t i = 0; i < list.count; i++)
        list.methods[i].comment = comment;
    method_list_find(&list, "forge.v1.ControlService/Reflect")->needs_credential = true;
    method_list_find(&list, "forge.v1.ControlService/Reflect")->writes = true;
    char *header = print(client_print_header), *source = print(client_print_source);
    assert_contains(header,
                    "/* forge.v1.ControlService/Ping\n"
                    " * Echoes * / bytes / * and more.\n"
                    " *\n"
                    " * Second line.\n"
                    " * Needs no credential. */\n"
                    "FORGE_API forge_code forge_control_ping(struct forge_channel *channel, const struct forge_call_options *options,\n"
                    "    const Forge__V1__PingRequest *request, Forge__V1__PingResponse **out_reply, struct forge_error *error);\n"
                    "/* The same without waiting: done gets the reply, a Forge__V1__PingResponse. */\n"
                    "FORGE_API forge_code forge_control_ping_async(struct forge_channel *channel, "
                    "const struct forge_call_options *options,\n"
                    "    const Forge__V1__PingRequest *request, forge_call_done done, void *user, struct forge_error *error);\n");
    assert_contains(source, "    ProtobufCMessage *reply = NULL;\n"
                            "    forge_code code = forge_channel_call(channel, &forge_methods[FORGE_METHOD_CONTROL_PING], options, "
                            "&request->base, &reply, error);\n");
    assert_contains(source, "    [FORGE_METHOD_CONTROL_REFLECT] = {.name = \"forge.v1.ControlService/Reflect\", "
                            ".input = &forge__v1__reflect_request__descriptor, .output = &forge__v1__reflect_response__descriptor, "
                            ".writes = true, .needs_credential = true},\n");
    free(header);
    free(source);
}

/* --- the program on its inputs --- */

struct inputs {
    char directory[64];
    char *readme; /* the real one */
};

static char *read_text(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "r"), *out = open_memstream(&text, &size);
    assert_non_null(file);
    for (int c; (c = fgetc(file)) != EOF;)
        fputc(c, out);
    fclose(file);
    fclose(out);
    return text;
}

static void write_text(const struct inputs *inputs, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", inputs->directory, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static int set_up(void **state)
{
    struct inputs *inputs = calloc(1, sizeof *inputs);
    char path[4096];
    strcpy(inputs->directory, "/tmp/stubgen_test.XXXXXX");
    assert_non_null(mkdtemp(inputs->directory));
    snprintf(path, sizeof path, "%s/forge", inputs->directory);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/proto/README.md", getenv("FORGE_SOURCE_DIR"));
    inputs->readme = read_text(path);
    write_text(inputs, "README.md", inputs->readme);
    *state = inputs;
    return 0;
}

static int tear_down(void **state)
{
    struct inputs *inputs = *state;
    static const char *const names[] = {"README.md", "rpc_table.h", "rpc_table.c", "forge/calls.h", "calls.c", "forge", "."};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", inputs->directory, names[i]);
        (void)remove(path);
    }
    (void)rmdir(inputs->directory);
    free(inputs->readme);
    free(inputs);
    return 0;
}

/* Runs the program; its exit status and what it says. */
static int run(const struct inputs *inputs, const char *descriptors, char said[4096])
{
    char command[8192];
    const char *d = inputs->directory, *binary = getenv("FORGE_BINARY_DIR");
    snprintf(command, sizeof command, "cd %s && '%s/bin/forge_stubgen' README.md '%s/gen/%s' . . 2>&1", d, binary, binary, descriptors);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    said[fread(said, 1, 4095, pipe)] = '\0';
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void assert_fails(const struct inputs *inputs, const char *message)
{
    char said[4096];
    assert_int_equal(run(inputs, "forge.descriptors", said), 1);
    assert_string_equal(said, message);
}

static void test_run_on_the_real_inputs(void **state)
{
    char said[4096];
    assert_int_equal(run(*state, "forge.descriptors", said), 0);
    assert_string_equal(said, "");
}

static void test_readme_refused(void **state)
{
    const struct inputs *inputs = *state;
    static const char *const cases[][2] = {
        {"", "README.md: no row for forge.v1.ControlService/CancelCall\n"},
        {"| method | role |\n", "README.md:1: method: a table of methods needs the columns role and write\n"},
        {"| method | role | write |\n|---|---|---|\n| `forge.v1.ControlService/Ping` | - |\n",
         "README.md:3: `forge.v1.ControlService/Ping`: the row has more or fewer cells than its table\n"},
        {"| method | role | write |\n| `forge.v1.ControlService/Pong` | - | no |\n",
         "README.md:2: forge.v1.ControlService/Pong: not a method of any service\n"},
        {"| method | role | write |\n| forge.v1.ControlService/Ping | - | maybe |\n",
         "README.md:2: forge.v1.ControlService/Ping: column write must be yes or no\n"},
        {"| method | role | write |\n| forge.v1.ControlService/Ping | | no |\n",
         "README.md:2: forge.v1.ControlService/Ping: column role is empty\n"},
        {"| method | role | write |\n| forge.v1.ControlService/Ping | - | no |\n| forge.v1.ControlService/Ping | - | no |\n",
         "README.md:3: forge.v1.ControlService/Ping: has a second row\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_text(inputs, "README.md", cases[i][0]);
        assert_fails(inputs, cases[i][1]);
    }
    char *row = strstr(inputs->readme, "forge.v1.PromptService/GetPrompt`");
    assert_non_null(row);
    row[0] = 'F';
    write_text(inputs, "README.md", inputs->readme);
    char said[4096];
    assert_int_equal(run(inputs, "forge.descriptors", said), 1);
    assert_contains(said, "not a method of any service\n");
}

static void test_missing_files_refused(void **state)
{
    const struct inputs *inputs = *state;
    char said[4096], path[256];
    assert_int_equal(run(inputs, "no_such_file", said), 1);
    assert_contains(said, "no_such_file: No such file or directory\n");
    assert_int_equal(run(inputs, "server/rpc_table.h", said), 1);
    assert_contains(said, "rpc_table.h: not a FileDescriptorSet\n");
    snprintf(path, sizeof path, "%s/README.md", inputs->directory);
    assert_int_equal(remove(path), 0);
    assert_fails(inputs, "stubgen: README.md: No such file or directory\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_names_refused),
        cmocka_unit_test(test_descriptor_symbols),
        cmocka_unit_test(test_table_is_sorted_and_found),
        cmocka_unit_test(test_table_does_not_find),
        cmocka_unit_test(test_server_output),
        cmocka_unit_test(test_client_output),
        cmocka_unit_test_setup_teardown(test_run_on_the_real_inputs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_readme_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_missing_files_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
