/* Files with fields of a request, in the form of manifests. */
#ifndef FORGECTL_FIELDS_FILE_H
#define FORGECTL_FIELDS_FILE_H

#include "cli.h"

#include <jansson.h>

/* A YAML (or JSON) file with fields of a request of this type, other than those that arguments and options give; names in it have become
 * ids. CLI_OK or an exit code after printing. */
int fields_file_take(struct cli *cli, const ProtobufCMessageDescriptor *request, const char *path, json_t **out);

#endif
