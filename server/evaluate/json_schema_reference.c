/* URIs of schemas ($id) and references to them ($ref): RFC 3986, section 5.2, without dot segments; RFC 6901 for JSON Pointers. */
#include "evaluate/json_schema_private.h"
#include "wire/utf8.h"

#include <ctype.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { URI_BYTES_MAX = 2048 }; /* each reference keeps one */

/* --- URIs --- */

/* Size of "scheme:" at the beginning, 0 without one. */
static size_t scheme_size(const char *uri)
{
    size_t size = 0;
    if (!isalpha((unsigned char)uri[0]))
        return 0;
    while (isalnum((unsigned char)uri[size]) || (uri[size] != '\0' && strchr("+-.", uri[size]) != NULL))
        size++;
    return uri[size] == ':' ? size + 1 : 0;
}

/* How much of base stays in front of the reference. */
static size_t kept_of_base(const char *base, const char *reference)
{
    size_t whole = strcspn(base, "#"), scheme = scheme_size(base), root = scheme;
    if (scheme_size(reference) > 0)
        return 0;
    if (reference[0] == '\0' || reference[0] == '#')
        return whole;
    if (strncmp(reference, "//", 2) == 0)
        return scheme;
    if (strncmp(base + scheme, "//", 2) == 0)
        root = scheme + 2 + strcspn(base + scheme + 2, "/?#");
    if (reference[0] == '/')
        return root;
    for (whole = strcspn(base, "?#"); whole > root && base[whole - 1] != '/';)
        whole--;
    return whole;
}

/* The reference made absolute, as far as base is; an empty fragment is left out. To be freed; NULL without memory. */
static char *uri_resolve(const char *base, const char *reference)
{
    char *uri;
    if (asprintf(&uri, "%.*s%s", (int)kept_of_base(base, reference), base, reference) < 0)
        return NULL;
    size_t length = strlen(uri);
    if (length > 0 && uri[length - 1] == '#')
        uri[length - 1] = '\0';
    return uri;
}

/* --- what there is --- */

bool schema_resource_add(struct schema_compiler *compiler, const json_t *source, const char *id, const char *base, char **out_base)
{
    struct schema_resource *resource = calloc(1, sizeof *resource);
    *out_base = NULL;
    if (resource == NULL)
        return schema_compiler_no_memory(compiler);
    resource->next = compiler->resources;
    compiler->resources = resource;
    resource->source = source;
    resource->uri = uri_resolve(base, id);
    /* "#name" names a part of the document; the base stays. */
    *out_base = id[0] == '#' ? strdup(base) : uri_resolve(base, id);
    if (resource->uri == NULL || *out_base == NULL)
        return schema_compiler_no_memory(compiler);
    return strlen(resource->uri) <= URI_BYTES_MAX ||
           schema_compiler_fail(compiler, "the URI of $id must be at most %d bytes", URI_BYTES_MAX);
}

bool schema_reference_add(struct schema_compiler *compiler, struct schema_node *from, const char *text, const char *base)
{
    struct schema_reference *reference = calloc(1, sizeof *reference);
    if (reference == NULL)
        return schema_compiler_no_memory(compiler);
    reference->next = compiler->references;
    compiler->references = reference;
    reference->from = from;
    reference->text = text;
    reference->base = strdup(base);
    return reference->base != NULL || schema_compiler_no_memory(compiler);
}

static const json_t *resource_find(const struct schema_compiler *compiler, const char *uri, size_t size)
{
    for (const struct schema_resource *resource = compiler->resources; resource != NULL; resource = resource->next)
        if (strlen(resource->uri) == size && memcmp(resource->uri, uri, size) == 0)
            return resource->source;
    return size == 0 ? compiler->schema->document : NULL;
}

/* --- JSON Pointers --- */

static void percent_decode(char *text)
{
    char *out = text;
    for (const char *in = text; *in != '\0'; in++) {
        bool encoded = in[0] == '%' && isxdigit((unsigned char)in[1]) && isxdigit((unsigned char)in[2]);
        *out++ = encoded ? (char)strtoul((const char[]){in[1], in[2], '\0'}, NULL, 16) : *in;
        in += encoded ? 2 : 0;
    }
    *out = '\0';
}

static void pointer_step_unescape(char *step)
{
    char *out = step;
    for (const char *in = step; *in != '\0'; in++)
        *out++ = in[0] == '~' && (in[1] == '0' || in[1] == '1') ? (*++in == '0' ? '~' : '/') : *in;
    *out = '\0';
}

static const json_t *pointer_step(const json_t *value, const char *step)
{
    if (json_is_object(value))
        return json_object_get(value, step);
    if (!json_is_array(value) || step[0] == '\0' || strspn(step, "0123456789") != strlen(step))
        return NULL;
    return json_array_get(value, strtoul(step, NULL, 10));
}

/* Walks the pointer, which is changed. *base (to be freed) follows the $ids on the way. NULL where it leads nowhere; or without memory,
 * then *base is NULL. */
static const json_t *pointer_walk(const json_t *value, char *pointer, char **base)
{
    while (*pointer == '/' && value != NULL) {
        char *step = pointer + 1;
        size_t size = strcspn(step, "/");
        bool is_last = step[size] == '\0';
        step[size] = '\0';
        pointer_step_unescape(step);
        value = pointer_step(value, step);
        pointer = step + size;
        if (!is_last)
            *pointer = '/';
        const json_t *id = json_object_get(value, "$id");
        if (is_last || !json_is_string(id) || json_string_value(id)[0] == '#')
            continue;
        char *inner = uri_resolve(*base, json_string_value(id));
        free(*base);
        *base = inner;
        if (inner == NULL)
            return NULL;
    }
    return value;
}

/* --- references --- */

static const json_t *reference_target(struct schema_compiler *compiler, char *uri, char **base)
{
    size_t size = strcspn(uri, "#");
    const json_t *document = resource_find(compiler, uri, size);
    if (uri[size] == '\0' || uri[size + 1] == '/') {
        if (document != NULL && uri[size] == '#') {
            percent_decode(uri + size + 1);
            document = pointer_walk(document, uri + size + 1, base);
            if (document == NULL)
                schema_compiler_fail(compiler, "there is nothing at this JSON Pointer");
        }
    } else {
        document = resource_find(compiler, uri, strlen(uri));
    }
    return document;
}

static bool reference_resolve(struct schema_compiler *compiler, struct schema_reference *reference)
{
    char *uri = uri_resolve(reference->base, reference->text);
    char *base = uri != NULL ? strndup(uri, strcspn(uri, "#")) : NULL;
    bool resolved = base != NULL || schema_compiler_no_memory(compiler);
    if (resolved) {
        const json_t *target = reference_target(compiler, uri, &base);
        if (target == NULL && base == NULL)
            schema_compiler_no_memory(compiler);
        else if (target == NULL)
            schema_compiler_fail(compiler, "references to other documents are refused: nothing in this one has that $id");
        else
            reference->from->reference = schema_compile_node(compiler, target, base);
        resolved = reference->from->reference != NULL;
    }
    free(base);
    free(uri);
    return resolved;
}

static void reference_free(struct schema_reference *reference)
{
    free(reference->base);
    free(reference);
}

bool schema_references_resolve(struct schema_compiler *compiler)
{
    bool resolved = true;
    /* What a reference leads to may have references again. */
    while (resolved && compiler->references != NULL) {
        struct schema_reference *reference = compiler->references;
        compiler->references = reference->next;
        compiler->path = (struct json_path){.text = ""};
        compiler->path.size = forge_utf8_cut(reference->text, strlen(reference->text), JSON_SCHEMA_PATH_MAX / 2);
        memcpy(compiler->path.text, reference->text, compiler->path.size);
        resolved = reference_resolve(compiler, reference);
        reference_free(reference);
    }
    return resolved;
}

static void keep_node(void *node)
{
    (void)node; /* it belongs to the schema */
}

void schema_compiler_done(struct schema_compiler *compiler)
{
    for (struct schema_reference *reference = compiler->references, *next; reference != NULL; reference = next) {
        next = reference->next;
        reference_free(reference);
    }
    for (struct schema_resource *resource = compiler->resources, *next; resource != NULL; resource = next) {
        next = resource->next;
        free(resource->uri);
        free(resource);
    }
    tdestroy(compiler->nodes_by_source, keep_node);
}
