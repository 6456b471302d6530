#include "output.h"

#include "amount.h"
#include "view_text.h"

#include <google/protobuf/timestamp.pb-c.h>
#include <google/protobuf/wrappers.pb-c.h>
#include <string.h>
#include <time.h>

/* ---- fields by name ---- */

/* Not another one of its oneof? */
static bool is_chosen(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    return !(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) ||
           *(const int *)((const char *)message + field->quantifier_offset) == (int)field->id;
}

/* Follows "user.email" down to the message that holds the last part. */
static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessage **message, const char *path)
{
    const char *dot;
    char part[64];
    while (*message && (dot = strchr(path, '.'))) {
        snprintf(part, sizeof part, "%.*s", (int)(dot - path), path);
        const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name((*message)->descriptor, part);
        if (!field || field->type != PROTOBUF_C_TYPE_MESSAGE || field->label == PROTOBUF_C_LABEL_REPEATED || !is_chosen(*message, field))
            return NULL;
        *message = *(const ProtobufCMessage *const *)((const char *)*message + field->offset);
        path = dot + 1;
    }
    return *message ? protobuf_c_message_descriptor_get_field_by_name((*message)->descriptor, path) : NULL;
}

static const char *time_text(struct cli *cli, const Google__Protobuf__Timestamp *timestamp)
{
    time_t seconds = (time_t)timestamp->seconds;
    struct tm parts;
    char text[32];
    if (!gmtime_r(&seconds, &parts) || !strftime(text, sizeof text, "%Y-%m-%d %H:%M:%SZ", &parts))
        return "";
    return forge_arena_strdup(&cli->arena, text);
}

/* "input 2.50": dollars and at least two digits behind the point. */
static const char *price_text(struct cli *cli, const Forge__V1__UsagePrice *price)
{
    char fraction[8];
    long long micros = (long long)price->micros_per_million_tokens;
    snprintf(fraction, sizeof fraction, "%06lld", micros % 1000000);
    for (size_t length = strlen(fraction); length > 2 && fraction[length - 1] == '0'; length--)
        fraction[length - 1] = '\0';
    return forge_arena_printf(&cli->arena, "%s %lld.%s",
                              view_text_enum(&cli->arena, &forge__v1__usage_type__descriptor, (int)price->usage_type), micros / 1000000,
                              fraction);
}

/* A name or message from the server must not drive the terminal. */
static const char *printable(struct cli *cli, const char *text)
{
    char *copy = forge_arena_strdup(&cli->arena, text);
    for (char *p = copy; p && *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = ' ';
    return copy;
}

/* A share of a label as `label split` takes it; of a label with one version the weight says nothing. */
static const char *target_text(struct cli *cli, const Forge__V1__LabelTarget *target, size_t count)
{
    return count == 1 ? forge_arena_printf(&cli->arena, "%d", (int)target->version)
                      : forge_arena_printf(&cli->arena, "%d=%d", (int)target->version, (int)target->weight);
}

static const char *value_text(struct cli *cli, const ProtobufCFieldDescriptor *field, const void *at)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return printable(cli, *(char *const *)at);
    case PROTOBUF_C_TYPE_BOOL:
        return *(const protobuf_c_boolean *)at ? "yes" : "no";
    case PROTOBUF_C_TYPE_ENUM:
        return view_text_enum(&cli->arena, field->descriptor, *(const int *)at);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return forge_arena_printf(&cli->arena, "%d", *(const int32_t *)at);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return forge_arena_printf(&cli->arena, "%lld", (long long)*(const int64_t *)at);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return forge_arena_printf(&cli->arena, "%u", *(const uint32_t *)at);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return forge_arena_printf(&cli->arena, "%llu", (unsigned long long)*(const uint64_t *)at);
    case PROTOBUF_C_TYPE_FLOAT:
        return forge_arena_printf(&cli->arena, "%g", (double)*(const float *)at);
    case PROTOBUF_C_TYPE_DOUBLE:
        return forge_arena_printf(&cli->arena, "%g", *(const double *)at);
    case PROTOBUF_C_TYPE_MESSAGE:
        if (*(const ProtobufCMessage *const *)at && field->descriptor == &google__protobuf__timestamp__descriptor)
            return time_text(cli, *(const Google__Protobuf__Timestamp *const *)at);
        if (*(const ProtobufCMessage *const *)at && field->descriptor == &google__protobuf__int64_value__descriptor)
            return forge_arena_printf(&cli->arena, "%lld", (long long)(*(const Google__Protobuf__Int64Value *const *)at)->value);
        if (*(const ProtobufCMessage *const *)at && field->descriptor == &forge__v1__usage_price__descriptor)
            return price_text(cli, *(const Forge__V1__UsagePrice *const *)at);
        return "";
    case PROTOBUF_C_TYPE_BYTES:
        break;
    }
    return "";
}

size_t output_element_size(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_ENUM:
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        break;
    }
    return 4;
}

/* Of a field that is there. */
static const char *amount_text(struct cli *cli, const ProtobufCFieldDescriptor *field, const void *at, const char *form)
{
    char text[AMOUNT_SIZE] = "";
    if (!strcmp(form, "tokens"))
        snprintf(text, sizeof text, "%lld", (long long)amount_tokens(*(const Forge__V1__TokenUsage *const *)at));
    else if (field->type == PROTOBUF_C_TYPE_INT64 && !strcmp(form, "ns"))
        amount_duration(*(const int64_t *)at, text);
    else if (field->type == PROTOBUF_C_TYPE_INT64 && !strcmp(form, "micros"))
        amount_cost(*(const int64_t *)at, text);
    const char *copy = forge_arena_strdup(&cli->arena, text);
    return copy ? copy : "";
}

static const char *path_text(struct cli *cli, const ProtobufCMessage *message, const char *path)
{
    const char *form = strchr(path, ':');
    const char *name = form ? forge_arena_strndup(&cli->arena, path, (size_t)(form - path)) : path;
    const ProtobufCFieldDescriptor *field = name ? find_field(&message, name) : NULL;
    if (!field)
        return "";
    if (form)
        return amount_text(cli, field, (const char *)message + field->offset, form + 1);
    const char *base = (const char *)message;
    if (!is_chosen(message, field))
        return "";
    if (field->label != PROTOBUF_C_LABEL_REPEATED)
        return value_text(cli, field, base + field->offset);
    size_t count = *(const size_t *)(base + field->quantifier_offset);
    const char *elements = *(const char *const *)(base + field->offset), *text = "";
    for (size_t i = 0; i < count && text; i++) {
        const char *element = elements + i * output_element_size(field);
        bool is_target = field->type == PROTOBUF_C_TYPE_MESSAGE && field->descriptor == &forge__v1__label_target__descriptor;
        text = forge_arena_printf(&cli->arena, "%s%s%s", text, i ? ", " : "",
                                  is_target ? target_text(cli, *(const Forge__V1__LabelTarget *const *)element, count)
                                            : value_text(cli, field, element));
    }
    return text ? text : "";
}

const char *output_field_text(struct cli *cli, const ProtobufCMessage *message, const char *paths)
{
    const char *text = "";
    while (!*text && *paths) {
        size_t length = strcspn(paths, "|");
        const char *path = forge_arena_strndup(&cli->arena, paths, length);
        text = path ? path_text(cli, message, path) : "";
        paths += length + (paths[length] == '|');
    }
    return text;
}

/* ---- formats ---- */

static int print_json(struct cli *cli, const ProtobufCMessage *message)
{
    const struct forge_json_options options = {.pretty = true};
    const char *json = forge_json_from_message(message, &options, &cli->arena);
    if (!json)
        return cli_fail(CLI_FAILED, "no memory to print the answer");
    if (cli->format == CLI_FORMAT_YAML)
        return yaml_print_json(json, stdout) ? CLI_OK : cli_fail(CLI_FAILED, "cannot print the answer as YAML");
    printf("%s\n", json);
    return CLI_OK;
}

int output_message(struct cli *cli, const ProtobufCMessage *message)
{
    return print_json(cli, message);
}

int output_resource(struct cli *cli, const ProtobufCMessage *message, const struct output_column *columns, const char *name_field)
{
    if (cli->format == CLI_FORMAT_JSON || cli->format == CLI_FORMAT_YAML)
        return print_json(cli, message);
    if (cli->format == CLI_FORMAT_NAME) {
        printf("%s\n", output_field_text(cli, message, name_field));
        return CLI_OK;
    }
    struct table table = {.columns = 2};
    for (const struct output_column *column = columns; column->title; column++) {
        const char *text = output_field_text(cli, message, column->field);
        const char **row = *text ? table_add_row(&table) : NULL;
        if (row) {
            row[0] = column->title;
            row[1] = text;
        }
    }
    table_print(&table, stdout);
    table_free(&table);
    return CLI_OK;
}

static void fill_row(struct cli *cli, struct table *table, const ProtobufCMessage *message, const struct output_column *columns)
{
    const char **row = table_add_row(table);
    for (size_t i = 0; row && i < table->columns; i++)
        row[i] = message ? output_field_text(cli, message, columns[i].field) : columns[i].title;
}

int output_list(struct cli *cli, const ProtobufCMessage *reply, const char *list_field, const struct output_column *columns,
                const char *name_field)
{
    if (cli->format == CLI_FORMAT_JSON || cli->format == CLI_FORMAT_YAML)
        return print_json(cli, reply);
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(reply->descriptor, list_field);
    size_t count = *(const size_t *)((const char *)reply + field->quantifier_offset);
    const ProtobufCMessage *const *items = *(const ProtobufCMessage *const *const *)((const char *)reply + field->offset);
    struct table table = {.columns = 0};
    while (columns[table.columns].title)
        table.columns++;
    if (cli->format == CLI_FORMAT_TABLE)
        fill_row(cli, &table, NULL, columns);
    for (size_t i = 0; i < count; i++) {
        if (cli->format == CLI_FORMAT_NAME)
            printf("%s\n", output_field_text(cli, items[i], name_field));
        else
            fill_row(cli, &table, items[i], columns);
    }
    table_print(&table, stdout);
    table_free(&table);
    return CLI_OK;
}
