/* protobuf-c message <-> proto3 JSON (https://protobuf.dev/programming-guides/json/), driven by descriptors.
 *
 * Well-known types Timestamp, FieldMask, Empty and the wrappers have their special forms; int64 is written as a string;
 * bytes are base64; enum values are names; fields with default values are left out unless asked for.
 * Field names are written as in the .proto file (snake_case) and read in snake_case or lowerCamelCase. */
#ifndef FORGE_WIRE_JSON_H
#define FORGE_WIRE_JSON_H

#include "wire/arena.h"
#include "wire/status.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

struct forge_json_options {
    bool pretty;        /* two spaces per level, a line per member */
    bool with_defaults; /* also members that hold their default */
};

/* Returns a NUL-terminated text in the arena, NULL when it overflowed. */
char *forge_json_from_message(const ProtobufCMessage *message, const struct forge_json_options *options, struct forge_arena *arena);

/* INVALID_ARGUMENT names line and column for a syntax error, the field path for an unknown field or a wrong type. */
forge_code forge_json_to_message(const char *json, size_t len, const ProtobufCMessageDescriptor *type, struct forge_arena *arena,
                                 ProtobufCMessage **out, struct forge_error *error) FORGE_MUST_CHECK;

#endif
