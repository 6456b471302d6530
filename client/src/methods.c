/* The table of all RPCs, for tools that call by name. */
#include "forge/calls.h"

#include <stdlib.h>
#include <string.h>

static int compare_name(const void *name, const void *method)
{
    return strcmp(name, ((const struct forge_method *)method)->name);
}

const struct forge_method *forge_method_find(const char *name)
{
    return name ? bsearch(name, forge_methods, FORGE_METHOD_COUNT, sizeof forge_methods[0], compare_name) : NULL;
}

const struct forge_method *forge_method_at(size_t index)
{
    return index < FORGE_METHOD_COUNT ? &forge_methods[index] : NULL;
}
