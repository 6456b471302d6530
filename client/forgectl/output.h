/* Answers on standard output, as table, JSON, YAML or names. */
#ifndef FORGECTL_OUTPUT_H
#define FORGECTL_OUTPUT_H

#include "cli.h"

/* A column of a table, or a line of one resource: a title, and a field of the message ("user.email" for one inside another). Some are shown
 * as amounts: "field:ns" nanoseconds as a duration, "field:micros" micro-units as dollars, "field:tokens" a usage added up. Of fields with
 * a | between them the first one counts that has a text. */
struct output_column {
    const char *title;
    const char *field;
};

/* One resource. name_field is what "-o name" prints. */
int output_resource(struct cli *cli, const ProtobufCMessage *message, const struct output_column *columns, const char *name_field);
/* The messages of a repeated field of reply: a row each. Columns end with a NULL title. */
int output_list(struct cli *cli, const ProtobufCMessage *reply, const char *list_field, const struct output_column *columns,
                const char *name_field);
/* A message without a table of its own: JSON unless YAML was asked for. */
int output_message(struct cli *cli, const ProtobufCMessage *message);

/* Text of a field for people, in the arena: enum values without their prefix in lower case, times in UTC, lists with commas,
 * control characters replaced. "" for a field that is not there. */
const char *output_field_text(struct cli *cli, const ProtobufCMessage *message, const char *paths);

/* Bytes of a value of this field in a message, or of one element of a list. */
size_t output_element_size(const ProtobufCFieldDescriptor *field);

/* yaml.c: prints a JSON text as YAML. False when libyaml fails. */
bool yaml_print_json(const char *json, FILE *out);

/* table.c: cells are UTF-8; the last column is not padded. */
struct table {
    size_t columns;
    const char **cells; /* rows x columns, the first row is the head */
    size_t rows, capacity;
};
/* Adds a row of columns cells, all NULL. NULL without memory. */
const char **table_add_row(struct table *table);
void table_print(const struct table *table, FILE *out);
void table_free(struct table *table);
/* Columns that a text takes on a terminal. */
size_t text_width(const char *text);
/* Bytes of the longest beginning of a text that takes no more than so many columns, and how many it takes. */
size_t text_fit(const char *text, size_t columns, size_t *out_used);

#endif
