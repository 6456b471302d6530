/* forgectl apply: from a manifest to a plan, and from the plan to calls.
 *
 * A plan is made before anything is changed, and what exists is found by its name, never by what an earlier run remembered. So applying
 * again changes nothing, and applying again after an interruption does what was left:
 *  - Objects with a name (organization, user, project, tag, prompt) are created where the name is missing. Fields that the manifest
 *    gives and that differ are updated; others are left alone. A user's password is set when the user is created, never after.
 *  - A model gets the prices it does not have yet, found by the time they begin at. A price on the server is never another one: where the
 *    manifest wants that, it is a problem.
 *  - A prompt gets the versions it does not have yet, in their order, compared by what content_hash covers. The one with make_current, else
 *    the last, becomes current. Where the manifest gives tags the prompt has exactly these. Prompts that others refer to come first, with
 *    the labels that they are named by.
 *  - A label points where the manifest says, by the server's numbers of versions. Rules that protect labels
 *    are made, never taken away; a gate that the manifest gives replaces the one that is there, another one stays.
 *  - A dataset gets the items it does not have so, as its next version; it keeps those that the manifest does not have.
 *  - An evaluation, found by its name, prompt and dataset, gets its results and is completed; one that has ended is left alone. Without
 *    results in the manifest it is left running.
 *  - A policy, found by its project (or the organization) and name, gets the draft of the manifest, which is published unless the manifest
 * says "publish: false". Before traces are sent, and at the end, apply waits until the server has the published versions in force.
 *  - A trace, found by its id, is there or not: its spans are sent together, at the times that the manifest gives from now. Now is the
 * beginning of the hour, so that spans that are sent again, after an apply that was killed while the server was at it, are the same.
 *  - A score is found by what it is about, its name and author, and given anew where its value differs.
 *  - Executions have no name. One is there when the prompt has one that is the same in every field that the manifest gives (version,
 *    rating, success, notes, execute_time); equal ones are counted, so that two in the manifest need two on the server. All that are
 *    missing go in one transaction per 1,000, with a request_id that follows from what is sent and what was found. */
#ifndef FORGECTL_APPLY_H
#define FORGECTL_APPLY_H

#include "cli.h"
#include "manifest.h"

enum apply_action { APPLY_UNCHANGED, APPLY_CREATE, APPLY_UPDATE };

/* An object of the manifest, all executions of one prompt together, or something that the manifest only refers to. */
struct apply_object {
    struct apply_object *next; /* as they are applied */
    const struct manifest_kind *kind;
    const struct manifest_object *manifest; /* the first one for executions; NULL = only referred to */
    const char *name;                       /* of the prompt for executions */
    struct apply_object *references[MANIFEST_REFERENCES_MAX];
    enum apply_action action;
    const char *details;              /* what differs, for people */
    const char *id;                   /* NULL until it exists on the server */
    ProtobufCMessage *found, *update; /* what the server has, the Update request; NULL = none */
    bool *is_missing;                 /* for each version of a prompt, price of a model, item of a dataset */
    struct apply_object **models;     /* for each version of a prompt, or the one of an evaluation; NULL = any model */
    /* A prompt's. */
    bool is_other_current;        /* the wanted version is there and not current */
    const char **tags, **no_tags; /* to put on and to take off, ended by NULL; NULL = none */
    size_t found_count;           /* executions of the prompt, evaluations of prompt and dataset */
    /* Executions. */
    const struct manifest_object **members; /* those that are missing come first once the plan is made */
    size_t member_count, missing_count;
};

struct apply {
    struct cli *cli;
    struct manifest manifest;
    struct apply_object *objects;
    struct apply_object *default_project; /* NULL until it is needed */
    bool is_create_only;                  /* what exists stays as it is */
    bool is_new_organization;             /* nothing else can exist yet */
    const char *session;                  /* token of the login as the manifest's admin, NULL = none */
};

/* apply_plan.c: fills apply->objects. CLI_OK or an exit code after printing what is wrong. Changes nothing on the server. What
 * the manifest has wrong beside the server is added to its problems. */
int apply_plan(struct apply *apply);
/* The object that is named so, from the manifest or from the server; *out NULL when there is none. */
int apply_find(struct apply *apply, const struct manifest_kind *kind, struct apply_object *const references[], const char *name,
               struct apply_object **out);
/* Notes one more thing that is to be changed. False without memory. */
bool apply_add_detail(struct apply *apply, struct apply_object *object, const char *detail);

/* apply_model.c, apply_prompt.c, apply_execution.c: the kinds that have more than fields. */
int apply_plan_prices(struct apply *apply, struct apply_object *object);
int apply_run_prices(struct apply *apply, struct apply_object *object);
/* The model of a manifest's model_id (see manifest_shape), NULL after a problem with the object that names it. */
int apply_find_model(struct apply *apply, const struct apply_object *object, const char *model_id, struct apply_object **out);
int apply_plan_prompt(struct apply *apply, struct apply_object *object);
int apply_run_prompt(struct apply *apply, struct apply_object *object);
/* apply_reference.c, when all else is planned: puts prompts behind the prompts and labels that they refer to; what is missing and circles
 * are problems. */
int apply_order_prompts(struct apply *apply);
int apply_plan_executions(struct apply *apply, struct apply_object *object);
int apply_run_executions(struct apply *apply, struct apply_object *object);

/* apply_label.c, apply_evaluation.c: the kinds that hang on prompts and on datasets. */
int apply_plan_label(struct apply *apply, struct apply_object *object);
int apply_run_label(struct apply *apply, struct apply_object *object);
int apply_plan_protection(struct apply *apply, struct apply_object *object);
int apply_run_protection(struct apply *apply, struct apply_object *object);
int apply_plan_dataset(struct apply *apply, struct apply_object *object);
int apply_run_items(struct apply *apply, struct apply_object *object);
int apply_plan_evaluation(struct apply *apply, struct apply_object *object);
int apply_run_evaluation(struct apply *apply, struct apply_object *object);

/* apply_policy.c */
int apply_plan_policy(struct apply *apply, struct apply_object *object);
int apply_run_policy(struct apply *apply, struct apply_object *object);
/* Waits until the server has the published versions of the manifest's policies in force. */
int apply_await_policies(struct apply *apply);

/* apply_trace.c: traces with their spans, and scores. */
int apply_plan_trace(struct apply *apply, struct apply_object *object);
int apply_run_trace(struct apply *apply, struct apply_object *object);
/* What a score is called in a plan, in the arena; NULL without memory. */
const char *apply_score_name(struct apply *apply, const struct manifest_object *wanted);
int apply_plan_score(struct apply *apply, struct apply_object *object);
int apply_run_score(struct apply *apply, struct apply_object *object);

/* apply_organization.c: looks for it with FORGE_OPERATOR_TOKEN, then goes on as its admin. */
int apply_plan_organization(struct apply *apply, struct apply_object *object);
int apply_run_organization(struct apply *apply, struct apply_object *object);
void apply_end_session(struct apply *apply);

/* apply_run.c: carries the plan out and tells of each step. CLI_OK or an exit code after printing what failed. */
int apply_run(struct apply *apply);
/* The Create request of an object with the ids of what it refers to. */
ProtobufCMessage *apply_create_request(struct apply *apply, const struct apply_object *object);

/* apply_call.c: as cli_call, with the reply in the arena. method is a FORGE_METHOD_*. */
int apply_call(struct apply *apply, int method, const ProtobufCMessage *request, ProtobufCMessage **out_reply);
/* The same with a NULL reply where the server answers NOT_FOUND. */
int apply_call_optional(struct apply *apply, int method, const ProtobufCMessage *request, ProtobufCMessage **out_reply);
/* The same for a write, with a request_id that follows from request and salt: when an apply that was killed has sent this very call and the
 * server is still at it, or has done it after this run looked, it happens once. A call must have been made on the connection before. */
int apply_call_once(struct apply *apply, int method, const ProtobufCMessage *request, uint64_t salt, ProtobufCMessage **out_reply);
/* CLI_OK unless the verdict rejects its item; then an exit code after printing where that stands (part: behind the position) and why. */
int apply_check_verdict(const struct manifest_position *at, const char *part, const Forge__V1__ItemVerdict *verdict);
/* All items of a list, over all pages: request is a List request of the method. */
int apply_list(struct apply *apply, int method, ProtobufCMessage *request, ProtobufCMessage ***out_items, size_t *out_count);

/* apply_print.c: the plan in the wanted format. */
int apply_print(struct apply *apply);

#endif
