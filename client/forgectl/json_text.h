/* JSON values as the text that people would write. */
#ifndef FORGECTL_JSON_TEXT_H
#define FORGECTL_JSON_TEXT_H

#include <jansson.h>

/* An object or array without white space, its numbers with as few digits as tell them all: 0.1 and not 0.10000000000000001. The caller
 * frees it; NULL without memory. */
char *json_text(const json_t *value);

#endif
