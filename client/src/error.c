#include "channel_private.h"

#include <stdlib.h>
#include <string.h>

void forge_error_free(struct forge_error *error)
{
    if (!error)
        return;
    struct forge_violation *next;
    for (struct forge_violation *violation = error->violations; violation; violation = next) {
        next = violation->next;
        free(violation);
    }
    struct forge_fact *rest;
    for (struct forge_fact *fact = error->facts; fact; fact = rest) {
        rest = fact->next;
        free(fact);
    }
    memset(error, 0, sizeof *error);
}
