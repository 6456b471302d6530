/* dataset add: items from JSON Lines (https://jsonlines.org), however many. */
#include "resolve.h"

#include <errno.h>
#include <google/protobuf/wrappers.pb-c.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Of one call, below the server's limits. */
enum { BATCH_ITEMS = 1000, BATCH_BYTES = 3 << 20, LINE_BYTES_MAX = 1 << 20, ITEM_ARENA_MAX = 32 << 20 };

static const struct output_column version_columns[] = {{"Dataset", "dataset_id"},
                                                       {"Version", "version"},
                                                       {"Items", "item_count"},
                                                       {"Existing", "existing"},
                                                       {"Hash", "content_hash"},
                                                       {"Message", "message"},
                                                       {NULL, NULL}};

struct adding {
    struct cli *cli;
    Forge__V1__AddDatasetItemsRequest request;
    Google__Protobuf__Int32Value expected;
    Forge__V1__DatasetItem *items[BATCH_ITEMS];
    struct forge_arena arena; /* of the items of one call */
    size_t bytes, added;
    unsigned calls;
    ProtobufCMessage *reply; /* of the last call */
};

/* Sends what is gathered: one version more. */
static int send_batch(struct adding *adding)
{
    cli_free(adding->reply);
    adding->reply = NULL;
    adding->request.items = adding->items;
    int code = cli_call(adding->cli, &forge_methods[FORGE_METHOD_EVALUATION_ADD_DATASET_ITEMS], &adding->request.base, &adding->reply);
    if (code != CLI_OK)
        return code;
    const Forge__V1__DatasetVersion *version = (const Forge__V1__DatasetVersion *)adding->reply;
    adding->added += adding->request.n_items;
    if (adding->calls++ > 0 || adding->request.n_items == BATCH_ITEMS)
        fprintf(stderr, "%zu items sent, version %d\n", adding->added, version->version);
    adding->expected.value = version->version; /* nobody comes between */
    adding->request.n_items = 0;
    adding->request.n_remove_keys = 0;
    adding->bytes = 0;
    forge_arena_reset(&adding->arena);
    return CLI_OK;
}

/* The API takes these as JSON text; people write them as the objects they are. */
static void stringify(json_t *item, const char *name)
{
    const json_t *value = json_object_get(item, name);
    char *text = json_is_object(value) ? json_dumps(value, JSON_COMPACT) : NULL;
    if (text)
        json_object_set_new(item, name, json_string(text));
    free(text);
}

static int read_item(struct adding *adding, const char *path, size_t number, const char *line, size_t size)
{
    json_error_t json_error;
    struct forge_error error = {0};
    ProtobufCMessage *item = NULL;
    json_t *json = json_loadb(line, size, JSON_REJECT_DUPLICATES, &json_error);
    if (!json)
        return cli_fail(CLI_FAILED, "%s:%zu: %s", path, number, json_error.text);
    stringify(json, "input");
    stringify(json, "metadata");
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(json);
    forge_code code = text ? forge_json_to_message(text, strlen(text), &forge__v1__dataset_item__descriptor, &adding->arena, &item, &error)
                           : FORGE_RESOURCE_EXHAUSTED;
    free(text);
    if (code != FORGE_OK)
        return cli_fail(CLI_FAILED, "%s:%zu: %s", path, number, text ? error.message : "no memory");
    adding->items[adding->request.n_items++] = (Forge__V1__DatasetItem *)item;
    adding->bytes += size;
    return CLI_OK;
}

static bool is_blank(const char *line)
{
    return line[strspn(line, " \t\r\n")] == '\0';
}

static int read_items(struct adding *adding, const char *path, FILE *input)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    int code = CLI_OK;
    for (size_t number = 1; code == CLI_OK && (size = getline(&line, &room, input)) >= 0; number++) {
        if (is_blank(line))
            continue;
        if (size > LINE_BYTES_MAX)
            code = cli_fail(CLI_FAILED, "%s:%zu: the line has more than %d bytes", path, number, LINE_BYTES_MAX);
        else if (adding->request.n_items == BATCH_ITEMS || adding->bytes + (size_t)size > BATCH_BYTES)
            code = send_batch(adding);
        if (code == CLI_OK)
            code = read_item(adding, path, number, line, (size_t)size);
    }
    if (code == CLI_OK && ferror(input))
        code = cli_fail(CLI_FAILED, "cannot read %s: %s", path, strerror(errno));
    free(line);
    return code;
}

static int read_file(struct adding *adding, const char *path)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *input = is_stdin ? stdin : fopen(path, "re");
    if (!input)
        return cli_fail(CLI_FAILED, "cannot read %s: %s", path, strerror(errno));
    int code = read_items(adding, path, input);
    if (!is_stdin)
        fclose(input);
    return code;
}

/* Keys to leave out go with the first call. */
static void take_removed(struct adding *adding)
{
    struct cli *cli = adding->cli;
    size_t count = cli_option_count(cli, "remove");
    char **keys = forge_arena_calloc(&cli->arena, count + 1, sizeof *keys);
    for (size_t i = 0; keys && i < count; i++)
        keys[i] = forge_arena_strdup(&cli->arena, cli_option_at(cli, "remove", i));
    adding->request.n_remove_keys = keys ? count : 0;
    adding->request.remove_keys = keys;
}

static int start(struct adding *adding)
{
    struct cli *cli = adding->cli;
    const char *message = cli_option(cli, "message");
    long expected;
    if (cli_option(cli, "request-id"))
        return cli_fail(CLI_USAGE, "dataset add may make many calls: --request-id is of no use; add again instead");
    if (!cli_option_number(cli, "expected", 0, INT32_MAX, -1, &expected))
        return CLI_USAGE;
    google__protobuf__int32_value__init(&adding->expected);
    adding->expected.value = (int32_t)expected;
    adding->request.expected_version = expected >= 0 ? &adding->expected : NULL;
    adding->request.message = forge_arena_strdup(&cli->arena, message ? message : "");
    take_removed(adding);
    if (!cli_option(cli, "file") && adding->request.n_remove_keys == 0)
        return cli_fail(CLI_USAGE, "what shall change? --file PATH (- for standard input), --remove KEY, or both");
    return resolve_dataset_id(cli, cli->positionals[0], &adding->request.dataset_id);
}

int command_dataset_add(struct cli *cli)
{
    struct adding *adding = calloc(1, sizeof *adding);
    const char *path = cli_option(cli, "file");
    if (!adding)
        return cli_fail(CLI_FAILED, "no memory");
    adding->cli = cli;
    forge__v1__add_dataset_items_request__init(&adding->request);
    forge_arena_init(&adding->arena, ITEM_ARENA_MAX, NULL);
    int code = start(adding);
    if (code == CLI_OK && path)
        code = read_file(adding, path);
    if (code == CLI_OK && (adding->request.n_items > 0 || adding->request.n_remove_keys > 0))
        code = send_batch(adding);
    else if (code == CLI_OK && adding->calls == 0)
        code = cli_fail(CLI_FAILED, "%s has no items", path);
    if (code == CLI_OK)
        code = output_resource(cli, adding->reply, version_columns, "version");
    else if (adding->calls > 0)
        fprintf(stderr, "%zu items were added before; the same command adds the rest.\n", adding->added);
    cli_free(adding->reply);
    forge_arena_done(&adding->arena);
    free(adding);
    return code;
}
