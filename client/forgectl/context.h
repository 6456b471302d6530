/* Contexts: named servers with their credentials, in $XDG_CONFIG_HOME/promptforge/contexts.yaml (default ~/.config), mode 0600. */
#ifndef FORGECTL_CONTEXT_H
#define FORGECTL_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>

enum { CONTEXTS_MAX = 64, CONTEXT_VALUE_MAX = 512 };

struct context {
    char name[64];
    char server[CONTEXT_VALUE_MAX];
    char ca[CONTEXT_VALUE_MAX];
    char token[CONTEXT_VALUE_MAX];
    char project[CONTEXT_VALUE_MAX];
    char user[CONTEXT_VALUE_MAX]; /* e-mail of the login, for people */
};

struct context_file {
    char path[1024];
    char current[64]; /* "" = none */
    struct context contexts[CONTEXTS_MAX];
    size_t count;
};

/* A missing file is an empty one. False after printing what is wrong with the file. */
bool context_file_load(struct context_file *file);
/* Replaces the file as a whole: a reader sees the old or the new one. False after printing why not. */
bool context_file_save(const struct context_file *file);
/* NULL if there is none of this name. */
struct context *context_file_find(struct context_file *file, const char *name);
/* The one of this name, added if need be. NULL when there are too many or the name is not [A-Za-z0-9._-]{1,63}. */
struct context *context_file_add(struct context_file *file, const char *name);
/* Keeps the absolute path of a file that exists ("" for NULL and ""). False after printing what is wrong. */
bool context_set_ca(struct context *context, const char *path);
bool context_file_remove(struct context_file *file, const char *name);

#endif
