/* Fields of messages by name, so that one piece of code applies every kind of object. A field that a message does not have is left
 * alone by the functions that set and is not there for those that read. */
#ifndef FORGECTL_APPLY_FIELDS_H
#define FORGECTL_APPLY_FIELDS_H

#include "wire/arena.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A message at its defaults in the arena; NULL without memory. */
ProtobufCMessage *field_message_new(struct forge_arena *arena, const ProtobufCMessageDescriptor *type);
/* A copy in the arena, NULL without memory. */
ProtobufCMessage *field_message_copy(struct forge_arena *arena, const ProtobufCMessage *message);
/* Text of a string field; "" if there is none. */
const char *field_text(const ProtobufCMessage *message, const char *name);
/* A message in a message, NULL if there is none. */
const ProtobufCMessage *field_message(const ProtobufCMessage *message, const char *name);
/* Sets a string field (not copied) or a whole number. */
void field_set_text(ProtobufCMessage *message, const char *name, const char *text);
void field_set_number(ProtobufCMessage *message, const char *name, int32_t number);
/* The messages of a repeated field; NULL name = of the first one that holds messages. */
ProtobufCMessage *const *field_list(const ProtobufCMessage *message, const char *name, size_t *out_count);
/* Are two JSON texts the same but for spaces and the order of members? */
bool field_is_same_json(const char *a, const char *b);
/* Sets every field that both have under one name and type. What it points to is shared. */
void field_copy_all(ProtobufCMessage *to, const ProtobufCMessage *from);
/* Sets every field outside of oneofs that is at its default, from another message of this type. What it points to is shared. */
void field_fill(struct forge_arena *arena, ProtobufCMessage *to, const ProtobufCMessage *from);
/* Fills update, a fresh Update request, with what wanted has, not at its default, and found has otherwise; update_mask too. The names of
 * these fields, joined by commas, in the arena: "" when there is no difference, NULL without memory. */
const char *field_difference(struct forge_arena *arena, ProtobufCMessage *update, const ProtobufCMessage *wanted,
                             const ProtobufCMessage *found);

#endif
