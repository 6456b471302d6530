/* dataset add: items from JSON Lines, however many. */
#include "json_lines.h"
#include "resolve.h"

#include <google/protobuf/wrappers.pb-c.h>
#include <string.h>

static const struct output_column version_columns[] = {{"Dataset", "dataset_id"},
                                                       {"Version", "version"},
                                                       {"Items", "item_count"},
                                                       {"Existing", "existing"},
                                                       {"Hash", "content_hash"},
                                                       {"Message", "message"},
                                                       {NULL, NULL}};

struct adding {
    struct cli *cli;
    const char *path;
    Forge__V1__AddDatasetItemsRequest request;
    Google__Protobuf__Int32Value expected;
    size_t added;
    unsigned calls;
    ProtobufCMessage *reply; /* of the last call */
};

/* One version more. */
static int call(struct adding *adding)
{
    cli_free(adding->reply);
    adding->reply = NULL;
    int code = cli_call(adding->cli, &forge_methods[FORGE_METHOD_EVALUATION_ADD_DATASET_ITEMS], &adding->request.base, &adding->reply);
    if (code != CLI_OK)
        return code;
    const Forge__V1__DatasetVersion *version = (const Forge__V1__DatasetVersion *)adding->reply;
    adding->added += adding->request.n_items;
    if (adding->calls++ > 0 || adding->request.n_items == JSON_LINES_BATCH)
        fprintf(stderr, "%zu items sent, version %d\n", adding->added, version->version);
    adding->expected.value = version->version; /* nobody comes between */
    adding->request.n_items = 0;
    adding->request.n_remove_keys = 0;
    return CLI_OK;
}

static int send_batch(void *context, const struct json_lines_batch *batch)
{
    struct adding *adding = context;
    Forge__V1__DatasetItem *items[JSON_LINES_BATCH];
    for (size_t i = 0; i < batch->count; i++)
        items[i] = (Forge__V1__DatasetItem *)batch->messages[i];
    adding->request.items = items;
    adding->request.n_items = batch->count;
    int code = call(adding);
    adding->request.items = NULL;
    return code;
}

/* A version with some of the items would be a wrong one. */
static int refuse_line(void *context, size_t line, const char *why)
{
    const struct adding *adding = context;
    return cli_fail(CLI_FAILED, "%s:%zu: %s", adding->path, line, why);
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
    if (!adding->path && adding->request.n_remove_keys == 0)
        return cli_fail(CLI_USAGE, "what shall change? --file PATH (- for standard input), --remove KEY, or both");
    return resolve_dataset_id(cli, cli->positionals[0], &adding->request.dataset_id);
}

int command_dataset_add(struct cli *cli)
{
    static const char *const texts[] = {"input", "metadata", NULL};
    struct adding adding = {.cli = cli, .path = cli_option(cli, "file"), .request = FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT};
    const struct json_lines lines = {
        .type = &forge__v1__dataset_item__descriptor, .texts = texts, .send = send_batch, .refuse = refuse_line, .context = &adding};
    int code = start(&adding);
    if (code == CLI_OK && adding.path)
        code = json_lines_read(cli, adding.path, &lines);
    if (code == CLI_OK && adding.request.n_remove_keys > 0)
        code = call(&adding); /* nothing was added */
    if (code == CLI_OK && adding.calls == 0)
        code = cli_fail(CLI_FAILED, "%s has no items", adding.path);
    if (code == CLI_OK)
        code = output_resource(cli, adding.reply, version_columns, "version");
    else if (adding.calls > 0)
        fprintf(stderr, "%zu items were added before; the same command adds the rest.\n", adding.added);
    cli_free(adding.reply);
    return code;
}
