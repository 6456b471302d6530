/* EvaluationService over TLS: requests and replies as large as the contract allows them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "evaluation_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RESULTS = 70 };

static struct service_tenant alpha;

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    return 0;
}

/* Results for the items k0001 and so on. */
struct results {
    Forge__V1__EvaluationResult results[RESULTS], *pointers[RESULTS];
    char keys[RESULTS][24];
    Forge__V1__AddResultsRequest request;
};

static void results_fill(struct results *results, char *evaluation_id, size_t count, char *output)
{
    forge__v1__add_results_request__init(&results->request);
    results->request.evaluation_id = evaluation_id;
    results->request.results = results->pointers;
    results->request.n_results = count;
    for (size_t i = 0; i < count; i++) {
        forge__v1__evaluation_result__init(&results->results[i]);
        snprintf(results->keys[i], sizeof results->keys[i], "k%04zu", i + 1);
        results->results[i].item_key = results->keys[i];
        results->results[i].output = output;
        results->pointers[i] = &results->results[i];
    }
}

/* Sends them; how many were accepted. The others are put off or duplicates. */
static size_t results_send(const struct results *results, size_t *out_duplicates)
{
    Forge__V1__AddResultsResponse *reply;
    size_t accepted = 0;
    *out_duplicates = 0;
    service_ok(forge_evaluation_add_results(alpha.admin, NULL, &results->request, &reply, &service_error));
    assert_int_equal(reply->n_verdicts, results->request.n_results);
    for (size_t i = 0; i < reply->n_verdicts; i++) {
        const Forge__V1__ItemVerdict *verdict = reply->verdicts[i]->verdict;
        accepted += verdict->outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED;
        *out_duplicates += verdict->outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_DUPLICATE;
        if (verdict->outcome != FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED)
            continue;
        assert_int_equal(verdict->code, FORGE_RESOURCE_EXHAUSTED);
        assert_true(verdict->retryable);
    }
    forge__v1__add_results_response__free_unpacked(reply, NULL);
    return accepted;
}

/* A call takes 16 MiB of expected outputs, which are 64 of the largest. Sent again as they are, the others have their turn. */
static void test_expected_outputs_of_what_is_stored_cost_nothing(void **state)
{
    (void)state;
    enum { ITEMS = RESULTS, TAKEN = 64 };
    struct evaluation_ground ground;
    char id[37];
    size_t duplicates;
    struct results *results = calloc(1, sizeof *results);
    evaluation_ground_make(&alpha, "expected", ITEMS, &ground);
    service_execute("UPDATE dataset_items SET expected_output = repeat('x', 256 << 10), content_bytes = 256 << 10");
    evaluation_make(&ground, "", id);
    results_fill(results, id, ITEMS, TEXT("y"));
    assert_int_equal(results_send(results, &duplicates), TAKEN);
    assert_int_equal(duplicates, 0);
    assert_int_equal(results_send(results, &duplicates), ITEMS - TAKEN);
    assert_int_equal(duplicates, TAKEN);
    free(results);
}

/* As many results with the longest explanations as a request has room for; a page has fewer. */
static void test_explanations_have_room(void **state)
{
    (void)state;
    enum { EXPLAINED = 7, EVALUATORS = 32 };
    struct evaluation_ground ground;
    Forge__V1__EvaluatorScore scores[EVALUATORS], *pointers[EVALUATORS];
    char id[37], names[EVALUATORS][16], *evaluators = NULL;
    size_t size, duplicates;
    struct results *results = calloc(1, sizeof *results);
    evaluation_ground_make(&alpha, "explained", EXPLAINED, &ground);
    FILE *text = open_memstream(&evaluators, &size);
    for (int i = 0; i < EVALUATORS; i++) {
        snprintf(names[i], sizeof names[i], "s%d", i);
        fprintf(text, "%s{'name': '%s', 'external': {}}", i > 0 ? ", " : ", 'evaluators': [", names[i]);
        forge__v1__evaluator_score__init(&scores[i]);
        scores[i].evaluator = names[i];
        scores[i].explanation = service_repeat("\U0001F600", 4096);
        pointers[i] = &scores[i];
    }
    fprintf(text, "]");
    fclose(text);
    evaluation_make(&ground, evaluators, id);
    results_fill(results, id, EXPLAINED, TEXT(""));
    for (int i = 0; i < EXPLAINED; i++) {
        results->results[i].evaluator_scores = pointers;
        results->results[i].n_evaluator_scores = EVALUATORS;
    }
    assert_int_equal(results_send(results, &duplicates), EXPLAINED);
    service_ok(service_call(alpha.admin, "EvaluationService/ListResults", NULL, "{'evaluation_id': '%s'}", id));
    service_shows("'k0005'", "'next_page_token'");
    service_ok(service_call(alpha.admin, "EvaluationService/CompleteEvaluation", NULL, "{'id': '%s'}", id));
    service_shows("'result_count':'7'");
    free(evaluators);
    free(results);
}

static void test_a_page_of_evaluations_is_cut_by_size(void **state)
{
    (void)state;
    enum { EVALUATIONS = 300 };
    struct evaluation_ground ground;
    Forge__V1__ListEvaluationsRequest list = FORGE__V1__LIST_EVALUATIONS_REQUEST__INIT;
    Forge__V1__ListEvaluationsResponse *page;
    char id[37], token[1024] = "";
    size_t found = 0, pages = 0;
    evaluation_ground_make(&alpha, "described", 1, &ground);
    for (int i = 0; i < EVALUATIONS; i++)
        evaluation_make(&ground, "", id);
    service_execute("UPDATE evaluations SET description = repeat(U&'\\+01F600', 4096)");
    list.project_id = alpha.project_id;
    list.prompt_id = ground.prompt_id;
    list.page_size = 1000;
    list.page_token = token;
    do {
        service_ok(forge_evaluation_list(alpha.admin, NULL, &list, &page, &service_error));
        found += page->n_evaluations;
        pages++;
        snprintf(token, sizeof token, "%s", page->next_page_token);
        forge__v1__list_evaluations_response__free_unpacked(page, NULL);
    } while (token[0] != '\0');
    assert_int_equal(found, EVALUATIONS);
    assert_true(pages > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expected_outputs_of_what_is_stored_cost_nothing),
        cmocka_unit_test(test_explanations_have_room),
        cmocka_unit_test(test_a_page_of_evaluations_is_cut_by_size),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
