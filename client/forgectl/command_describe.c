/* describe: prints a definition from the server's descriptors as .proto text with its comments. */
#include "output.h"

#include <ctype.h>
#include <google/protobuf/descriptor.pb-c.h>
#include <string.h>

typedef Google__Protobuf__FileDescriptorProto File;
typedef Google__Protobuf__DescriptorProto Message;
typedef Google__Protobuf__EnumDescriptorProto Enum;
typedef Google__Protobuf__ServiceDescriptorProto Service;
typedef Google__Protobuf__FieldDescriptorProto Field;

enum { PATH_DEPTH_MAX = 16 };

/* Numbers of the fields that lead to a definition in descriptor.proto, as SourceCodeInfo.Location.path tells them. */
enum {
    FILE_MESSAGE = 4,
    FILE_ENUM = 5,
    FILE_SERVICE = 6,
    MESSAGE_FIELD = 2,
    MESSAGE_NESTED = 3,
    MESSAGE_ENUM = 4,
    ENUM_VALUE = 2,
    SERVICE_METHOD = 2
};

struct path {
    int32_t parts[PATH_DEPTH_MAX];
    size_t count;
};

static struct path below(const struct path *path, int32_t field, size_t index)
{
    struct path longer = *path;
    if (longer.count + 2 <= PATH_DEPTH_MAX) {
        longer.parts[longer.count++] = field;
        longer.parts[longer.count++] = (int32_t)index;
    }
    return longer;
}

static const char *comment_of(const File *file, const struct path *path)
{
    for (size_t i = 0; file->source_code_info && i < file->source_code_info->n_location; i++) {
        const Google__Protobuf__SourceCodeInfo__Location *location = file->source_code_info->location[i];
        if (location->n_path == path->count && !memcmp(location->path, path->parts, path->count * sizeof path->parts[0]))
            return location->leading_comments ? location->leading_comments : location->trailing_comments ? location->trailing_comments : "";
    }
    return "";
}

static void print_comment(const File *file, const struct path *path, const char *indent)
{
    const char *comment = comment_of(file, path);
    while (*comment) {
        size_t length = strcspn(comment, "\n");
        printf("%s//%.*s\n", indent, (int)length, comment);
        comment += length + (comment[length] == '\n');
    }
}

/* ".forge.v1.Prompt" inside package forge.v1 is "Prompt". */
static const char *type_name(const File *file, const char *name)
{
    size_t length = strlen(file->package);
    if (*name == '.')
        name++;
    return !strncmp(name, file->package, length) && name[length] == '.' ? name + length + 1 : name;
}

static const char *field_type(const File *file, const Field *field)
{
    static const char *const names[] = {"",        "double",   "float",    "int64",  "uint64",  "int32", "fixed64",
                                        "fixed32", "bool",     "string",   "group",  "message", "bytes", "uint32",
                                        "enum",    "sfixed32", "sfixed64", "sint32", "sint64"};
    if (field->type_name && *field->type_name)
        return type_name(file, field->type_name);
    return (size_t)field->type < sizeof names / sizeof names[0] ? names[field->type] : "?";
}

static void print_enum(const File *file, const Enum *type, const struct path *path)
{
    print_comment(file, path, "");
    printf("enum %s {\n", type->name);
    for (size_t i = 0; i < type->n_value; i++) {
        struct path value = below(path, ENUM_VALUE, i);
        print_comment(file, &value, "  ");
        printf("  %s = %d;\n", type->value[i]->name, type->value[i]->number);
    }
    printf("}\n");
}

static void print_field(const File *file, const Field *field, const struct path *path, const char *indent)
{
    print_comment(file, path, indent);
    printf("%s%s%s %s = %d;\n", indent, field->label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REPEATED ? "repeated " : "",
           field_type(file, field), field->name, field->number);
}

static void print_message(const File *file, const Message *type, const struct path *path)
{
    int32_t oneof = -1;
    print_comment(file, path, "");
    printf("message %s {\n", type->name);
    for (size_t i = 0; i < type->n_field; i++) {
        const Field *field = type->field[i];
        int32_t in = field->has_oneof_index ? field->oneof_index : -1;
        if (in != oneof && oneof >= 0)
            printf("  }\n");
        if (in != oneof && in >= 0)
            printf("  oneof %s {\n", type->oneof_decl[in]->name);
        oneof = in;
        struct path at = below(path, MESSAGE_FIELD, i);
        print_field(file, field, &at, in >= 0 ? "    " : "  ");
    }
    printf("%s}\n", oneof >= 0 ? "  }\n" : "");
}

static void print_method(const File *file, const Service *service, size_t index, const struct path *path, const char *indent)
{
    const Google__Protobuf__MethodDescriptorProto *method = service->method[index];
    struct path at = below(path, SERVICE_METHOD, index);
    print_comment(file, &at, indent);
    printf("%srpc %s(%s) returns (%s);\n", indent, method->name, type_name(file, method->input_type), type_name(file, method->output_type));
}

static void print_service(const File *file, const Service *service, const struct path *path)
{
    print_comment(file, path, "");
    printf("service %s {\n", service->name);
    for (size_t i = 0; i < service->n_method; i++) {
        if (i)
            printf("\n");
        print_method(file, service, i, path, "  ");
    }
    printf("}\n");
}

/* ---- finding a symbol ---- */

static bool describe_in_message(const File *file, const Message *type, const struct path *path, const char *name)
{
    size_t length = strlen(type->name);
    if (strncmp(name, type->name, length) != 0)
        return false;
    if (!name[length]) {
        print_message(file, type, path);
        return true;
    }
    if (name[length] != '.')
        return false;
    name += length + 1;
    for (size_t i = 0; i < type->n_nested_type; i++) {
        struct path at = below(path, MESSAGE_NESTED, i);
        if (describe_in_message(file, type->nested_type[i], &at, name))
            return true;
    }
    for (size_t i = 0; i < type->n_enum_type; i++) {
        struct path at = below(path, MESSAGE_ENUM, i);
        if (!strcmp(type->enum_type[i]->name, name)) {
            print_enum(file, type->enum_type[i], &at);
            return true;
        }
    }
    return false;
}

static bool describe_in_service(const File *file, const Service *service, const struct path *path, const char *name)
{
    size_t length = strlen(service->name);
    if (strncmp(name, service->name, length) != 0)
        return false;
    if (!name[length]) {
        print_service(file, service, path);
        return true;
    }
    for (size_t i = 0; strchr("./", name[length]) && i < service->n_method; i++)
        if (!strcmp(service->method[i]->name, name + length + 1)) {
            print_method(file, service, i, path, "");
            return true;
        }
    return false;
}

/* name is without the package. */
static bool describe_in_file(const File *file, const char *name)
{
    const struct path root = {.count = 0};
    for (size_t i = 0; i < file->n_service; i++) {
        struct path at = below(&root, FILE_SERVICE, i);
        if (describe_in_service(file, file->service[i], &at, name))
            return true;
    }
    for (size_t i = 0; i < file->n_message_type; i++) {
        struct path at = below(&root, FILE_MESSAGE, i);
        if (describe_in_message(file, file->message_type[i], &at, name))
            return true;
    }
    for (size_t i = 0; i < file->n_enum_type; i++) {
        struct path at = below(&root, FILE_ENUM, i);
        if (!strcmp(file->enum_type[i]->name, name)) {
            print_enum(file, file->enum_type[i], &at);
            return true;
        }
    }
    return false;
}

static int print_definition(const char *symbol, const Forge__V1__ReflectResponse *reply)
{
    Google__Protobuf__FileDescriptorSet *set =
        google__protobuf__file_descriptor_set__unpack(NULL, reply->file_descriptor_set.len, reply->file_descriptor_set.data);
    if (!set || !set->n_file) {
        google__protobuf__file_descriptor_set__free_unpacked(set, NULL);
        return cli_fail(CLI_FAILED, "the server sent no descriptors");
    }
    const File *file = set->file[set->n_file - 1];
    size_t package = strlen(file->package);
    const char *name = !strncmp(symbol, file->package, package) && symbol[package] == '.' ? symbol + package + 1 : symbol;
    printf("// %s\n", file->name);
    int code = describe_in_file(file, name) ? CLI_OK : cli_fail(CLI_FAILED, "the server's descriptors do not hold %s", symbol);
    google__protobuf__file_descriptor_set__free_unpacked(set, NULL);
    return code;
}

int command_describe(struct cli *cli)
{
    Forge__V1__ReflectRequest request = FORGE__V1__REFLECT_REQUEST__INIT;
    const char *symbol = cli->positionals[0];
    bool has_package = strchr(symbol, '.') && islower((unsigned char)*symbol);
    request.symbol = forge_arena_printf(&cli->arena, "%s%s", has_package ? "" : "forge.v1.", symbol);
    ProtobufCMessage *reply;
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_CONTROL_REFLECT], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    code = print_definition(request.symbol, (const Forge__V1__ReflectResponse *)reply);
    cli_free(reply);
    return code;
}
