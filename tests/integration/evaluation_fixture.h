/* Prompts, datasets and evaluations of a tenant, for the tests of evaluations. */
#ifndef TESTS_INTEGRATION_EVALUATION_FIXTURE_H
#define TESTS_INTEGRATION_EVALUATION_FIXTURE_H

#include "service_fixture.h"

/* A prompt and a dataset to evaluate it on. */
struct evaluation_ground {
    const struct service_tenant *tenant;
    char prompt_id[37], dataset_id[37];
};

/* With so many items, 1 to 1,000: keys k0001, k0002, ..., the expected output of each is its number. name: of both. */
void evaluation_ground_make(const struct service_tenant *tenant, const char *name, int items, struct evaluation_ground *out);
/* More members of the request in JSON, such as ", 'repetitions': 2", where ' stands for "; "" has one exact evaluator. */
void evaluation_make(const struct evaluation_ground *ground, const char *more, char out_id[37]);
/* AddResults with one result: members of it in JSON. */
forge_code evaluation_add(const struct evaluation_ground *ground, const char *evaluation_id, const char *result);
/* Completes it although results are missing. */
void evaluation_complete(const struct evaluation_ground *ground, const char *evaluation_id);

#endif
