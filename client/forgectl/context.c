#include "context.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

struct setting {
    const char *key;
    size_t offset, size;
};
#define SETTING(member)                                                                                                                    \
    {                                                                                                                                      \
#member, offsetof(struct context, member), sizeof(((struct context *)0)->member)                                                   \
    }
static const struct setting settings[] = {SETTING(name), SETTING(server), SETTING(ca), SETTING(token), SETTING(project), SETTING(user)};
enum { SETTING_COUNT = sizeof settings / sizeof settings[0] };

static bool set_path(struct context_file *file)
{
    const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int length;
    if (base && *base == '/')
        length = snprintf(file->path, sizeof file->path, "%s/promptforge/contexts.yaml", base);
    else
        length = snprintf(file->path, sizeof file->path, "%s/.config/promptforge/contexts.yaml", home && *home ? home : ".");
    if (length > 0 && (size_t)length < sizeof file->path)
        return true;
    fprintf(stderr, "forgectl: the path of contexts.yaml has more than %zu bytes\n", sizeof file->path - 1);
    return false;
}

/* ---- reading ---- */

static bool complain(const struct context_file *file, const yaml_mark_t *mark, const char *what)
{
    fprintf(stderr, "forgectl: %s:%zu: %s\n", file->path, mark->line + 1, what);
    return false;
}

static const char *scalar(const yaml_node_t *node)
{
    return node && node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : NULL;
}

static bool take_setting(const struct context_file *file, struct context *context, const yaml_node_t *key, const yaml_node_t *value)
{
    const char *name = scalar(key), *text = scalar(value);
    for (size_t i = 0; name && i < SETTING_COUNT; i++) {
        if (strcmp(name, settings[i].key) != 0)
            continue;
        if (!text || strlen(text) >= settings[i].size)
            return complain(file, &value->start_mark, "the value must be text of less than 512 bytes");
        memcpy((char *)context + settings[i].offset, text, strlen(text) + 1);
        return true;
    }
    return complain(file, &key->start_mark, "a context has name, server, ca, token, project and user only");
}

static bool take_contexts(struct context_file *file, yaml_document_t *document, const yaml_node_t *list)
{
    if (list->type != YAML_SEQUENCE_NODE)
        return complain(file, &list->start_mark, "contexts must be a list");
    for (const yaml_node_item_t *item = list->data.sequence.items.start; item < list->data.sequence.items.top; item++) {
        const yaml_node_t *node = yaml_document_get_node(document, *item);
        if (node->type != YAML_MAPPING_NODE || file->count == CONTEXTS_MAX)
            return complain(file, &node->start_mark, "contexts must be a list of at most 64 mappings");
        struct context *context = &file->contexts[file->count++];
        for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++)
            if (!take_setting(file, context, yaml_document_get_node(document, pair->key), yaml_document_get_node(document, pair->value)))
                return false;
    }
    return true;
}

static bool take_document(struct context_file *file, yaml_document_t *document)
{
    const yaml_node_t *root = yaml_document_get_root_node(document);
    if (!root)
        return true;
    if (root->type != YAML_MAPPING_NODE)
        return complain(file, &root->start_mark, "must be a mapping with current and contexts");
    for (const yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(document, pair->key), *value = yaml_document_get_node(document, pair->value);
        const char *name = scalar(key), *text = scalar(value);
        if (name && !strcmp(name, "current") && text)
            snprintf(file->current, sizeof file->current, "%s", text);
        else if (!name || strcmp(name, "contexts") != 0)
            return complain(file, &key->start_mark, "only current and contexts may stand here");
        else if (!take_contexts(file, document, value))
            return false;
    }
    return true;
}

bool context_file_load(struct context_file *file)
{
    memset(file, 0, sizeof *file);
    if (!set_path(file))
        return false;
    FILE *input = fopen(file->path, "re");
    if (!input && errno == ENOENT)
        return true;
    if (!input) {
        fprintf(stderr, "forgectl: cannot read %s: %s\n", file->path, strerror(errno));
        return false;
    }
    yaml_parser_t parser;
    yaml_document_t document;
    bool ok = yaml_parser_initialize(&parser);
    yaml_parser_set_input_file(&parser, input);
    if (ok && !yaml_parser_load(&parser, &document)) {
        ok = complain(file, &parser.problem_mark, parser.problem ? parser.problem : "cannot be read");
    } else if (ok) {
        ok = take_document(file, &document);
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
    fclose(input);
    return ok;
}

/* ---- writing ---- */

static int add_text(yaml_document_t *document, const char *text)
{
    return yaml_document_add_scalar(document, NULL, (const yaml_char_t *)text, (int)strlen(text), YAML_ANY_SCALAR_STYLE);
}

static bool append(yaml_document_t *document, int mapping, const char *key, int value)
{
    int key_node = add_text(document, key);
    return key_node && value && yaml_document_append_mapping_pair(document, mapping, key_node, value);
}

static int add_context(yaml_document_t *document, const struct context *context)
{
    int mapping = yaml_document_add_mapping(document, NULL, YAML_BLOCK_MAPPING_STYLE);
    for (size_t i = 0; mapping && i < SETTING_COUNT; i++) {
        const char *value = (const char *)context + settings[i].offset;
        if (*value && !append(document, mapping, settings[i].key, add_text(document, value)))
            return 0;
    }
    return mapping;
}

static bool fill_document(yaml_document_t *document, const struct context_file *file)
{
    int root = yaml_document_add_mapping(document, NULL, YAML_BLOCK_MAPPING_STYLE);
    int list = yaml_document_add_sequence(document, NULL, YAML_BLOCK_SEQUENCE_STYLE);
    if (!root || !list || (file->current[0] && !append(document, root, "current", add_text(document, file->current))))
        return false;
    for (size_t i = 0; i < file->count; i++) {
        int context = add_context(document, &file->contexts[i]);
        if (!context || !yaml_document_append_sequence_item(document, list, context))
            return false;
    }
    return append(document, root, "contexts", list);
}

static bool write_yaml(const struct context_file *file, FILE *out)
{
    yaml_emitter_t emitter;
    yaml_document_t document;
    if (!yaml_emitter_initialize(&emitter))
        return false;
    yaml_emitter_set_output_file(&emitter, out);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1);
    bool ok = yaml_document_initialize(&document, NULL, NULL, NULL, 1, 1) != 0;
    if (ok && !fill_document(&document, file)) {
        yaml_document_delete(&document);
        ok = false;
    }
    ok = ok && yaml_emitter_open(&emitter) && yaml_emitter_dump(&emitter, &document) && yaml_emitter_close(&emitter);
    yaml_emitter_delete(&emitter);
    return ok;
}

static void make_folders(const char *path)
{
    char folder[1024];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = folder + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(folder, 0700); /* those that exist stay as they are; what fails shows when the file is opened */
        *slash = '/';
    }
}

bool context_file_save(const struct context_file *file)
{
    char temporary[1100];
    make_folders(file->path);
    snprintf(temporary, sizeof temporary, "%s.%d", file->path, (int)getpid());
    int descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    FILE *out = descriptor < 0 ? NULL : fdopen(descriptor, "w");
    bool ok = out && write_yaml(file, out);
    if (out)
        ok = fflush(out) == 0 && fsync(descriptor) == 0 && ok;
    if (out && fclose(out))
        ok = false;
    if (ok && rename(temporary, file->path) == 0)
        return true;
    fprintf(stderr, "forgectl: cannot write %s: %s\n", file->path, strerror(errno));
    unlink(temporary);
    return false;
}

/* ---- the list ---- */

struct context *context_file_find(struct context_file *file, const char *name)
{
    for (size_t i = 0; i < file->count; i++)
        if (!strcmp(file->contexts[i].name, name))
            return &file->contexts[i];
    return NULL;
}

struct context *context_file_add(struct context_file *file, const char *name)
{
    struct context *found = context_file_find(file, name);
    if (found)
        return found;
    size_t length = strlen(name);
    if (file->count == CONTEXTS_MAX || !length || length >= sizeof file->contexts[0].name ||
        name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")])
        return NULL;
    struct context *context = &file->contexts[file->count++];
    memset(context, 0, sizeof *context);
    memcpy(context->name, name, length + 1);
    return context;
}

bool context_set_ca(struct context *context, const char *path)
{
    char absolute[PATH_MAX] = "";
    if (path && *path && !realpath(path, absolute)) {
        fprintf(stderr, "forgectl: cannot find %s: %s\n", path, strerror(errno));
        return false;
    }
    if (strlen(absolute) >= sizeof context->ca) {
        fprintf(stderr, "forgectl: the path of the ca file has more than %zu bytes\n", sizeof context->ca - 1);
        return false;
    }
    memcpy(context->ca, absolute, strlen(absolute) + 1);
    return true;
}

bool context_file_remove(struct context_file *file, const char *name)
{
    struct context *found = context_file_find(file, name);
    if (!found)
        return false;
    size_t index = (size_t)(found - file->contexts);
    memmove(found, found + 1, (file->count - index - 1) * sizeof *found);
    file->count--;
    if (!strcmp(file->current, name))
        file->current[0] = '\0';
    return true;
}
