/* forgectl export: what its files share. */
#ifndef FORGECTL_EXPORT_H
#define FORGECTL_EXPORT_H

#include "apply.h"

#include <jansson.h>

/* A manifest's object with its kind, and its project where that is not NULL. NULL without memory. */
json_t *export_new_object(const char *kind, const char *project);
/* A field that the manifest has besides those of the request. The value is taken over, NULL included. */
bool export_add(json_t *object, const char *name, json_t *value);
/* A request of this type with what the resource has of its fields, as JSON fields of object; no ids, names stand for them. */
bool export_add_resource(struct apply *apply, json_t *object, const ProtobufCMessageDescriptor *type, const ProtobufCMessage *resource);
/* Prints the object, when it is there and whole, and frees it. */
int export_print_object(struct apply *apply, json_t *object, bool is_whole);

/* The message whose "id" is this one; NULL when there is none. */
const ProtobufCMessage *export_find(ProtobufCMessage *const *messages, size_t count, const char *id);

/* Prints the labels of a prompt and the rules that protect them in it alone. */
int export_labels(struct apply *apply, const Forge__V1__Prompt *prompt, const char *project);
/* Prints the rules that protect labels in all prompts of a project. */
int export_project_rules(struct apply *apply, const char *project_id, const char *project);

/* Models that are to be exported; zeroed = none. */
struct export_models {
    struct export_model *first;
};
/* Adds the model of this id, unless it is there or the id is "". */
int export_models_add(struct apply *apply, struct export_models *models, const char *id);
/* NULL when it is none of them. */
const Forge__V1__AiModel *export_models_find(const struct export_models *models, const char *id);
/* Prints them with their prices, after their providers. */
int export_models_print(struct apply *apply, const struct export_models *models);
/* Prints all that the organization has. */
int export_models_all(struct apply *apply);

/* The datasets of a project and its evaluations that are completed; zeroed = none. */
struct export_evaluations {
    struct apply *apply;
    const char *project; /* its name; set these three before printing */
    ProtobufCMessage *const *prompts;
    size_t prompt_count;
    ProtobufCMessage **datasets, **evaluations;
    size_t dataset_count, evaluation_count;
};
/* Reads them and adds the models of evaluations. */
int export_evaluations_read(struct apply *apply, const char *project_id, struct export_models *models, struct export_evaluations *out);
/* Prints datasets with the items of their latest version, then the evaluations on these with their results. Which are left out is told on
 * standard error. */
int export_evaluations_print(const struct export_evaluations *all, const struct export_models *models);

/* The policies of a project, or of the organization; zeroed = none. */
struct export_policies {
    struct apply *apply;
    const char *project;                               /* its name, NULL = of the organization; set it before printing */
    ProtobufCMessage **policies, **projects, **models; /* the latter two: all that there are */
    size_t policy_count, project_count, model_count;
};
/* Reads them and adds the models that they name. project_id "": those of the organization. */
int export_policies_read(struct apply *apply, const char *project_id, struct export_models *models, struct export_policies *out);
/* Prints them. Which are left out, or not published, is told on standard error. */
int export_policies_print(struct export_policies *all);
/* Prints those of the organization with the models that they name. */
int export_policies_all(struct apply *apply);

#endif
