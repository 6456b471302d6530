/* Manifests: what an organization should hold, as YAML. A file has any number of documents; each is one object with a kind and the
 * fields of that kind's Create request, by their names in the .proto files:
 *
 *     kind: prompt
 *     project: Checkout
 *     name: code-review
 *     versions:
 *     - content: "Review this {{language}} change: {{diff}}"
 *
 * Where a request has the id of another object the manifest has its name ("project" for project_id; a model's name stands beside its
 * provider's: "model: {provider: OpenAI, name: gpt-4}"), also inside policies. Everything is checked against the
 * protobuf descriptors. No server is asked here. */
#ifndef FORGECTL_MANIFEST_H
#define FORGECTL_MANIFEST_H

#include "forge/forge.h"
#include "wire/arena.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    MANIFEST_REFERENCES_MAX = 3,  /* of one kind */
    MANIFEST_HIDDEN_MAX = 10,     /* fields of a message that a manifest cannot set */
    MANIFEST_PROBLEMS_MAX = 20,   /* told; later ones are counted */
    MANIFEST_OBJECTS_MAX = 10000, /* of one manifest */
    MANIFEST_DEPTH_MAX = 32,      /* levels of lists and mappings */
    MANIFEST_ANCHORS_MAX = 1000,  /* of one file */
    MANIFEST_NODES_MAX = 1000000, /* of one document, aliases followed */
    MANIFEST_TEXT_MAX = 16 << 20, /* bytes of one document, aliases followed */
    MANIFEST_FILE_BYTES_MAX = 4 << 20
};

/* How a kind is looked up and applied (apply_plan.c, apply_run.c). */
enum manifest_style {
    MANIFEST_RESOURCE,     /* listed by name, created, updated */
    MANIFEST_ORGANIZATION, /* by the operator, then as its admin */
    MANIFEST_MODEL,        /* a resource with prices */
    MANIFEST_PROMPT,       /* a resource with versions and tags */
    MANIFEST_EXECUTION,    /* has no name */
    MANIFEST_LABEL,        /* of a prompt, set as a whole */
    MANIFEST_PROTECTION,   /* of labels, set as a whole */
    MANIFEST_DATASET,      /* a resource with items */
    MANIFEST_EVALUATION,   /* made, filled, completed */
    MANIFEST_TRACE,        /* has spans and an id that the manifest gives */
    MANIFEST_POLICY,       /* a draft and its publication */
    MANIFEST_SCORE         /* about a trace, span or session, by its name and author */
};

/* A field that names another object. */
struct manifest_reference {
    const char *field;    /* of the manifest, such as "project"; NULL ends the list */
    const char *id_field; /* of requests, which takes that object's id; it cannot be given itself */
    const char *kind;     /* of the object it names */
    bool is_scope;        /* names of this kind are unique inside that object only */
    bool is_optional;     /* without it there is none */
    bool is_required;     /* else what --project says, or the first project */
};

/* A message whose fields a manifest gives, without some. */
struct manifest_shape {
    const ProtobufCMessageDescriptor *type;
    const char *hidden[MANIFEST_HIDDEN_MAX];
    const char *texts[MANIFEST_HIDDEN_MAX]; /* fields that take JSON as text: a mapping or list becomes that */
    bool has_interval; /* "start: -2h", "duration: 4.2s": nanoseconds in start_ns and end_ns, which are hidden; of a duration in end_ns */
    bool has_model;    /* "model: {provider: P, name: N}" takes the place of model_id, which then holds "P\nN": names have no line breaks */
    bool has_models;   /* "models: [{provider: P, name: N}]" takes the place of model_ids in the same way */
    bool has_project;  /* "project: N" takes the place of project_id, which then holds N */
};
/* The shape of messages of this type wherever they stand inside others, NULL = all their fields as they are. */
const struct manifest_shape *manifest_nested_shape(const ProtobufCMessageDescriptor *type);

/* A kind of objects: a row of manifest_kinds.c, in the order in which kinds depend on each other. */
struct manifest_kind {
    const char *name;
    enum manifest_style style;
    struct manifest_shape shape; /* the Create request */
    const char *key;             /* field that names an object; NULL = objects have no name */
    struct manifest_reference references[MANIFEST_REFERENCES_MAX + 1];
    const char *list;                 /* field with a list of parts, NULL = none */
    struct manifest_shape list_shape; /* of each part */
    int create, lookup, update;       /* FORGE_METHOD_*; lookup is the List method, -1 = none */
    const char *prefix;               /* field of the List request that bounds it to names with this beginning */
    const char *step;                 /* field of the manifest that is false where the kind's last step is left out, NULL = none */
};
extern const struct manifest_kind manifest_kinds[]; /* ended by a NULL name */
const struct manifest_kind *manifest_kind_find(const char *name);

struct manifest_position {
    const char *file;
    unsigned long line, column; /* from 1 */
};

struct manifest_object {
    struct manifest_object *next; /* in the order of the files */
    size_t number;                /* in that order */
    const struct manifest_kind *kind;
    struct manifest_position position;
    const char *name;                                /* value of the key; "" without one */
    ProtobufCMessage *request;                       /* of shape.type; references are not filled in */
    const char *references[MANIFEST_REFERENCES_MAX]; /* names, NULL = not given */
    struct manifest_position reference_positions[MANIFEST_REFERENCES_MAX];
    bool is_without_step;
    ProtobufCMessage **parts; /* of list_shape.type. A prompt always has at least one: a text of its own becomes version 1. */
    size_t part_count;
};

struct manifest_problem {
    struct manifest_problem *next;
    const char *text; /* "file:line:column: what is wrong" */
};

struct manifest {
    struct forge_arena *arena; /* everything lives there; set it, zero the rest */
    struct manifest_object *objects, **end;
    size_t object_count;
    struct manifest_problem *problems, **problems_end;
    size_t problem_count; /* all, also those that were too many to keep */
};

/* Adds the objects of a file, or problems. Call it for each file. */
void manifest_read(struct manifest *manifest, const char *file, const char *text, size_t size);
/* The first document of a file as a message of this shape, which is no object of a kind; NULL after problems. */
ProtobufCMessage *manifest_read_message(struct manifest *manifest, const char *file, const char *text, size_t size,
                                        const struct manifest_shape *shape);
/* What can be checked only when all files are read: nothing at all, the same object twice. */
void manifest_check(struct manifest *manifest);
void manifest_add_problem(struct manifest *manifest, const struct manifest_position *position, const char *format, ...) FORGE_PRINTF(3, 4);

#endif
