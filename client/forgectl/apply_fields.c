#include "apply_fields.h"

#include "output.h"

#include <google/protobuf/field_mask.pb-c.h>
#include <jansson.h>
#include <string.h>

ProtobufCMessage *field_message_new(struct forge_arena *arena, const ProtobufCMessageDescriptor *type)
{
    ProtobufCMessage *message = forge_arena_alloc(arena, type->sizeof_message);
    if (message)
        protobuf_c_message_init(type, message);
    return message;
}

ProtobufCMessage *field_message_copy(struct forge_arena *arena, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = forge_arena_alloc(arena, size);
    if (!packed)
        return NULL;
    protobuf_c_message_pack(message, packed);
    return protobuf_c_message_unpack(message->descriptor, forge_arena_allocator(arena), size, packed);
}

bool field_is_same_json(const char *a, const char *b)
{
    if (!strcmp(a, b))
        return true;
    json_t *left = json_loads(a, JSON_REJECT_DUPLICATES, NULL), *right = json_loads(b, JSON_REJECT_DUPLICATES, NULL);
    bool is_same = left && right && json_equal(left, right);
    json_decref(left);
    json_decref(right);
    return is_same;
}

static const ProtobufCFieldDescriptor *find(const ProtobufCMessage *message, const char *name)
{
    return protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name);
}

static void *at(const ProtobufCMessage *message, size_t offset)
{
    return (char *)(uintptr_t)message + offset;
}

const char *field_text(const ProtobufCMessage *message, const char *name)
{
    const ProtobufCFieldDescriptor *field = find(message, name);
    if (!field || field->type != PROTOBUF_C_TYPE_STRING || field->label == PROTOBUF_C_LABEL_REPEATED)
        return "";
    return *(const char *const *)at(message, field->offset);
}

const ProtobufCMessage *field_message(const ProtobufCMessage *message, const char *name)
{
    const ProtobufCFieldDescriptor *field = find(message, name);
    if (!field || field->type != PROTOBUF_C_TYPE_MESSAGE || field->label == PROTOBUF_C_LABEL_REPEATED)
        return NULL;
    return *(const ProtobufCMessage *const *)at(message, field->offset);
}

void field_set_text(ProtobufCMessage *message, const char *name, const char *text)
{
    const ProtobufCFieldDescriptor *field = find(message, name);
    if (field && field->type == PROTOBUF_C_TYPE_STRING && field->label != PROTOBUF_C_LABEL_REPEATED)
        *(const char **)at(message, field->offset) = text;
}

void field_set_number(ProtobufCMessage *message, const char *name, int32_t number)
{
    const ProtobufCFieldDescriptor *field = find(message, name);
    if (field && field->type == PROTOBUF_C_TYPE_INT32 && field->label != PROTOBUF_C_LABEL_REPEATED)
        *(int32_t *)at(message, field->offset) = number;
}

ProtobufCMessage *const *field_list(const ProtobufCMessage *message, const char *name, size_t *out_count)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    *out_count = 0;
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        if (field->label != PROTOBUF_C_LABEL_REPEATED || field->type != PROTOBUF_C_TYPE_MESSAGE || (name && strcmp(field->name, name) != 0))
            continue;
        *out_count = *(const size_t *)at(message, field->quantifier_offset);
        return *(ProtobufCMessage *const *const *)at(message, field->offset);
    }
    return NULL;
}

/* Can a value go from one field into the other as it is? */
static bool is_same_field(const ProtobufCFieldDescriptor *a, const ProtobufCFieldDescriptor *b)
{
    return a && b && a->type == b->type && a->descriptor == b->descriptor &&
           (a->label == PROTOBUF_C_LABEL_REPEATED) == (b->label == PROTOBUF_C_LABEL_REPEATED) &&
           !((a->flags | b->flags) & PROTOBUF_C_FIELD_FLAG_ONEOF);
}

static void copy(ProtobufCMessage *to, const ProtobufCFieldDescriptor *to_field, const ProtobufCMessage *from,
                 const ProtobufCFieldDescriptor *from_field)
{
    if (to_field->label == PROTOBUF_C_LABEL_REPEATED) {
        memcpy(at(to, to_field->quantifier_offset), at(from, from_field->quantifier_offset), sizeof(size_t));
        memcpy(at(to, to_field->offset), at(from, from_field->offset), sizeof(void *));
    } else {
        memcpy(at(to, to_field->offset), at(from, from_field->offset), output_element_size(from_field));
    }
}

/* The field alone, as protobuf writes it: nothing for a default. */
static const uint8_t *packed_field(struct forge_arena *arena, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                                   size_t *out_size)
{
    ProtobufCMessage *alone = field_message_new(arena, message->descriptor);
    *out_size = 0;
    if (!alone)
        return NULL;
    copy(alone, field, message, field);
    *out_size = protobuf_c_message_get_packed_size(alone);
    uint8_t *bytes = forge_arena_alloc(arena, *out_size);
    if (bytes)
        protobuf_c_message_pack(alone, bytes);
    return bytes;
}

void field_copy_all(ProtobufCMessage *to, const ProtobufCMessage *from)
{
    for (unsigned i = 0; i < from->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *from_field = &from->descriptor->fields[i], *to_field = find(to, from_field->name);
        if (is_same_field(to_field, from_field))
            copy(to, to_field, from, from_field);
    }
}

void field_fill(struct forge_arena *arena, ProtobufCMessage *to, const ProtobufCMessage *from)
{
    for (unsigned i = 0; i < to->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &to->descriptor->fields[i];
        size_t size;
        if (!(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) && packed_field(arena, to, field, &size) && size == 0)
            copy(to, field, from, field);
    }
}

/* Does wanted have a value, and found another one? Both are of one type apart from the number of the field. */
static bool differs(struct forge_arena *arena, ProtobufCMessage *update, const ProtobufCFieldDescriptor *field,
                    const ProtobufCMessage *wanted, const ProtobufCMessage *found)
{
    const ProtobufCFieldDescriptor *wanted_field = find(wanted, field->name), *found_field = find(found, field->name);
    if (!is_same_field(field, wanted_field) || !is_same_field(field, found_field))
        return false;
    size_t wanted_size, found_size;
    ProtobufCMessage *other = field_message_new(arena, update->descriptor);
    if (!other)
        return false;
    copy(other, field, found, found_field);
    const uint8_t *found_bytes = packed_field(arena, other, field, &found_size);
    copy(other, field, wanted, wanted_field);
    const uint8_t *wanted_bytes = packed_field(arena, other, field, &wanted_size);
    if (!wanted_size || !wanted_bytes || !found_bytes)
        return false;
    if (wanted_size == found_size && !memcmp(wanted_bytes, found_bytes, wanted_size))
        return false;
    copy(update, field, wanted, wanted_field);
    return true;
}

const char *field_difference(struct forge_arena *arena, ProtobufCMessage *update, const ProtobufCMessage *wanted,
                             const ProtobufCMessage *found)
{
    const ProtobufCMessageDescriptor *type = update->descriptor;
    const ProtobufCFieldDescriptor *mask_field = find(update, "update_mask");
    Google__Protobuf__FieldMask *mask = (Google__Protobuf__FieldMask *)field_message_new(arena, &google__protobuf__field_mask__descriptor);
    char **paths = forge_arena_calloc(arena, type->n_fields, sizeof(*paths));
    const char *names = "";
    if (!mask || !paths || !mask_field)
        return NULL;
    mask->paths = paths;
    for (unsigned i = 0; i < type->n_fields && names; i++) {
        const char *name = type->fields[i].name;
        if (!strcmp(name, "id") || !strcmp(name, "etag") || !differs(arena, update, &type->fields[i], wanted, found))
            continue;
        paths[mask->n_paths++] = forge_arena_strdup(arena, name);
        names = forge_arena_printf(arena, "%s%s%s", names, *names ? ", " : "", name);
    }
    *(ProtobufCMessage **)at(update, mask_field->offset) = &mask->base;
    return names;
}
