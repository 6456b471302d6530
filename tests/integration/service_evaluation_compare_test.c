/* EvaluationService over TLS: CompareEvaluations, against figures from textbooks and by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "evaluation_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMPARE "EvaluationService/CompareEvaluations"
#define EXTERNAL ", 'evaluators': [{'name': 'judge', 'external': {}}]"

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

/* A completed evaluation where item k0001, k0002, ... has these scores; a negative one has no result. */
static void run(const struct evaluation_ground *ground, double pass_threshold, const double *scores, int count, char out_id[37])
{
    char more[128], *results = NULL;
    size_t size = 0;
    int written = 0;
    snprintf(more, sizeof more, "%s, 'pass_threshold': %g", EXTERNAL, pass_threshold);
    evaluation_make(ground, more, out_id);
    FILE *text = open_memstream(&results, &size);
    for (int i = 0; i < count; i++)
        if (scores[i] >= 0)
            fprintf(text, "%s{'item_key': 'k%04d', 'evaluator_scores': [{'evaluator': 'judge', 'score': %.17g}]}", written++ > 0 ? "," : "",
                    i + 1, scores[i]);
    fclose(text);
    service_ok(service_call(ground->tenant->admin, "EvaluationService/AddResults", NULL, "{'evaluation_id': '%s', 'results': [%s]}", out_id,
                            results));
    free(results);
    assert_null(strstr(service_reply(), "REJECTED"));
    evaluation_complete(ground, out_id);
}

static Forge__V1__CompareEvaluationsResponse *compare(char *baseline, char *candidate)
{
    Forge__V1__CompareEvaluationsRequest request = FORGE__V1__COMPARE_EVALUATIONS_REQUEST__INIT;
    Forge__V1__CompareEvaluationsResponse *reply;
    request.baseline_id = baseline;
    request.candidate_id = candidate;
    service_ok(forge_evaluation_compare(alpha.admin, NULL, &request, &reply, &service_error));
    return reply;
}

/* Hollander and Wolfe, Nonparametric Statistical Methods (1973), page 29: depression scores of nine patients before and after, here as a
 * share of 4. Published: V = 40, one-sided p = 0.01953, so 0.03906 two-sided. By hand for a threshold of 0.4: four broken and none fixed,
 * so McNemar's p = 2 / 2^4. */
static void test_nine_patients_as_published(void **state)
{
    (void)state;
    static const double before[] = {1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30};
    static const double after[] = {0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29};
    enum { PATIENTS = 9 };
    double baseline[PATIENTS], candidate[PATIENTS];
    struct evaluation_ground ground;
    char old_id[37], new_id[37];
    for (int i = 0; i < PATIENTS; i++) {
        baseline[i] = before[i] / 4;
        candidate[i] = after[i] / 4;
    }
    evaluation_ground_make(&alpha, "patients", PATIENTS, &ground);
    run(&ground, 0.4, baseline, PATIENTS, old_id);
    run(&ground, 0.4, candidate, PATIENTS, new_id);
    Forge__V1__CompareEvaluationsResponse *reply = compare(old_id, new_id);
    assert_int_equal(reply->fixed_count, 0);
    assert_int_equal(reply->broken_count, 4);
    assert_int_equal(reply->still_passing_count, 2);
    assert_int_equal(reply->still_failing_count, 3);
    assert_int_equal(reply->only_baseline_count + reply->only_candidate_count, 0);
    assert_true(fabs(reply->mean_score_difference - -3.887 / 36) < 1e-9);
    assert_int_equal(reply->mcnemar->baseline_only_count, 4);
    assert_int_equal(reply->mcnemar->candidate_only_count, 0);
    assert_true(fabs(reply->mcnemar->p_value - 0.125) < 1e-12);
    assert_int_equal(reply->mcnemar->method, FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_EXACT);
    assert_int_equal(reply->wilcoxon->sample_size, 9);
    assert_true(reply->wilcoxon->rank_sum_negative == 40);
    assert_true(reply->wilcoxon->rank_sum_positive == 5);
    assert_true(fabs(reply->wilcoxon->p_value - 0.0390625) < 1e-12);
    assert_int_equal(reply->wilcoxon->method, FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_EXACT);
    assert_false(reply->dataset_differs);
    assert_int_equal(reply->n_items, PATIENTS);
    assert_string_equal(reply->items[0]->item_key, "k0001");
    assert_int_equal(reply->items[0]->change, FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_BROKEN);
    assert_true(fabs(reply->items[0]->baseline_score - 0.4575) < 1e-12);
    assert_true(fabs(reply->items[0]->candidate_score - 0.2195) < 1e-12);
    assert_true(reply->items[0]->baseline_passed && !reply->items[0]->candidate_passed);
    forge__v1__compare_evaluations_response__free_unpacked(reply, NULL);
    reply = compare(new_id, old_id); /* the other way round */
    assert_int_equal(reply->fixed_count, 4);
    assert_true(reply->wilcoxon->rank_sum_positive == 40);
    assert_true(fabs(reply->wilcoxon->p_value - 0.0390625) < 1e-12);
    forge__v1__compare_evaluations_response__free_unpacked(reply, NULL);
}

/* By hand: 20 differences of 0.5, ranks 7 to 26, so 16.5 each; 6 of -0.25, 3.5 each; 4 of nothing. Mean 26 * 27 / 4 = 175.5, variance
 * 26 * 27 * 53 / 24 - (6^3 - 6 + 20^3 - 20) / 48 = 1379.625, z = 154.5 / sqrt(1379.625), p = erfc(z / sqrt(2)). */
static void test_ties_and_the_normal_approximation(void **state)
{
    (void)state;
    enum { ITEMS = 30 };
    double baseline[ITEMS], candidate[ITEMS];
    struct evaluation_ground ground;
    char old_id[37], new_id[37];
    for (int i = 0; i < ITEMS; i++) {
        baseline[i] = 0.5;
        candidate[i] = i < 20 ? 1 : i < 26 ? 0.25 : 0.5;
    }
    evaluation_ground_make(&alpha, "ties", ITEMS, &ground);
    run(&ground, 0.5, baseline, ITEMS, old_id);
    run(&ground, 0.5, candidate, ITEMS, new_id);
    Forge__V1__CompareEvaluationsResponse *reply = compare(old_id, new_id);
    assert_int_equal(reply->wilcoxon->sample_size, 26);
    assert_true(reply->wilcoxon->rank_sum_positive == 330);
    assert_true(reply->wilcoxon->rank_sum_negative == 21);
    assert_true(fabs(reply->wilcoxon->p_value - erfc(154.5 / sqrt(2 * 1379.625))) < 1e-12);
    assert_int_equal(reply->wilcoxon->method, FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_NORMAL_APPROXIMATION);
    assert_int_equal(reply->broken_count, 6);
    assert_int_equal(reply->still_passing_count, 24);
    assert_true(fabs(reply->mcnemar->p_value - 2.0 / 64) < 1e-12);
    forge__v1__compare_evaluations_response__free_unpacked(reply, NULL);
    reply = compare(old_id, old_id);
    assert_int_equal(reply->wilcoxon->sample_size, 0);
    assert_true(reply->wilcoxon->p_value == 1 && reply->mcnemar->p_value == 1);
    assert_int_equal(reply->wilcoxon->method, FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_UNSPECIFIED);
    assert_int_equal(reply->mcnemar->method, FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_UNSPECIFIED);
    forge__v1__compare_evaluations_response__free_unpacked(reply, NULL);
}

static void test_changes_are_filtered_and_paged_with_the_same_figures(void **state)
{
    (void)state;
    /* fixed, fixed, broken, still passing, still failing, only baseline, only candidate, in neither */
    static const double baseline[] = {0, 0, 1, 1, 0, 1, -1, -1}, candidate[] = {1, 1, 0, 1, 0, -1, 0, -1};
    struct evaluation_ground ground;
    char old_id[37], new_id[37], token[512];
    static const char figures[] = "'fixed_count':'2','broken_count':'1','still_passing_count':'1','still_failing_count':'1',"
                                  "'only_baseline_count':'1','only_candidate_count':'1','mean_score_difference':0.2";
    evaluation_ground_make(&alpha, "changes", 8, &ground);
    run(&ground, 1, baseline, 8, old_id);
    run(&ground, 1, candidate, 8, new_id);
    service_ok(service_call(alpha.admin, COMPARE, NULL, "{'baseline_id': '%s', 'candidate_id': '%s', 'page_size': 4}", old_id, new_id));
    service_shows("'k0001','change':'ITEM_CHANGE_FIXED','candidate_score':1,'candidate_passed':true",
                  "'k0002','change':'ITEM_CHANGE_FIXED'", "'k0003','change':'ITEM_CHANGE_BROKEN'",
                  "'k0004','change':'ITEM_CHANGE_STILL_PASSING'", "'next_page_token'", figures);
    service_reply_text("next_page_token", token, sizeof token);
    service_ok(service_call(alpha.admin, COMPARE, NULL, "{'baseline_id': '%s', 'candidate_id': '%s', 'page_size': 4, 'page_token': '%s'}",
                            old_id, new_id, token));
    service_shows("{'items':[{'item_key':'k0005','change':'ITEM_CHANGE_STILL_FAILING'}",
                  "'k0006','change':'ITEM_CHANGE_ONLY_BASELINE','baseline_score':1,'baseline_passed':true",
                  "'k0007','change':'ITEM_CHANGE_ONLY_CANDIDATE'}]", figures);
    assert_null(strstr(service_reply(), "next_page_token"));
    service_ok(service_call(alpha.admin, COMPARE, NULL,
                            "{'baseline_id': '%s', 'candidate_id': '%s', 'changes': ['ITEM_CHANGE_BROKEN', 'ITEM_CHANGE_ONLY_CANDIDATE']}",
                            old_id, new_id));
    service_shows("{'items':[{'item_key':'k0003'", "{'item_key':'k0007'", "]", figures);
    assert_null(strstr(service_reply(), "k0001"));
    service_violates(service_call(alpha.admin, COMPARE, NULL,
                                  "{'baseline_id': '%s', 'candidate_id': '%s', 'changes': ['ITEM_CHANGE_FIXED'], 'page_token': '%s'}",
                                  old_id, new_id, token),
                     "page_token", "another query");
}

static void test_an_item_passes_when_all_its_repetitions_do(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char old_id[37], new_id[37];
    evaluation_ground_make(&alpha, "repetitions", 1, &ground);
    evaluation_make(&ground, ", 'repetitions': 2", old_id);
    evaluation_make(&ground, ", 'repetitions': 2", new_id);
    service_ok(evaluation_add(&ground, old_id, "'item_key': 'k0001', 'output': '1'"));
    service_ok(evaluation_add(&ground, old_id, "'item_key': 'k0001', 'repetition': 2, 'output': '9'"));
    service_ok(evaluation_add(&ground, new_id, "'item_key': 'k0001', 'output': '1'"));
    service_ok(evaluation_add(&ground, new_id, "'item_key': 'k0001', 'repetition': 2, 'output': '1'"));
    evaluation_complete(&ground, old_id);
    evaluation_complete(&ground, new_id);
    service_ok(service_call(alpha.admin, COMPARE, NULL, "{'baseline_id': '%s', 'candidate_id': '%s'}", old_id, new_id));
    service_shows("'change':'ITEM_CHANGE_FIXED','baseline_score':0.5,'candidate_score':1,'candidate_passed':true", "'fixed_count':'1'",
                  "'mean_score_difference':0.5");
}

static void test_other_contents_of_an_item_are_told(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char first[37], second[37], third[37];
    static const char change[] = "{'dataset_id': '%s', 'items': [{'key': 'k0001', 'expected_output': '%s'}]}";
    evaluation_ground_make(&alpha, "contents", 2, &ground);
    static const double scores[] = {1, 0};
    run(&ground, 1, scores, 2, first);
    service_ok(service_call(alpha.admin, "EvaluationService/AddDatasetItems", NULL, change, ground.dataset_id, "other"));
    run(&ground, 1, scores, 2, second);
    service_ok(service_call(alpha.admin, "EvaluationService/AddDatasetItems", NULL, change, ground.dataset_id, "1"));
    run(&ground, 1, scores, 2, third);
    Forge__V1__CompareEvaluationsResponse *reply = compare(first, second);
    assert_true(reply->dataset_differs);
    forge__v1__compare_evaluations_response__free_unpacked(reply, NULL);
    reply = compare(first, third); /* another row, the same content */
    assert_false(reply->dataset_differs);
    forge__v1__compare_evaluations_response__free_unpacked(reply, NULL);
}

static void test_what_cannot_be_compared_is_refused(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char first[37], second[37], running[37], project[37];
    static const double left[] = {1, -1}, right[] = {-1, 1};
    evaluation_ground_make(&alpha, "refused", 2, &ground);
    run(&ground, 1, left, 2, first);
    run(&ground, 1, right, 2, second);
    evaluation_make(&ground, "", running);
    service_fails(service_call(alpha.admin, COMPARE, NULL, "{'baseline_id': '%s', 'candidate_id': '%s'}", first, second),
                  FORGE_FAILED_PRECONDITION, "no item in common");
    service_fails(service_call(alpha.admin, COMPARE, NULL, "{'baseline_id': '%s', 'candidate_id': '%s'}", first, running),
                  FORGE_FAILED_PRECONDITION, "the candidate is still running");
    service_fails(service_call(alpha.admin, COMPARE, NULL, "{'baseline_id': '%s', 'candidate_id': '%s'}", running, first),
                  FORGE_FAILED_PRECONDITION, "the baseline is still running");
    service_fails(service_call(alpha.admin, COMPARE, NULL, "{'baseline_id': '%s', 'candidate_id': '%s'}", first, nobody_has),
                  FORGE_NOT_FOUND, nobody_has);
    service_violates(service_call(alpha.admin, COMPARE, NULL, "{'candidate_id': 'x', 'changes': [0], 'page_size': -1}"), "baseline_id",
                     "is required", "candidate_id", "must be a UUID", "changes[0]", "ITEM_CHANGE_FIXED", "page_size", "");
    service_ok(service_call(alpha.admin, "ProjectService/CreateProject", NULL, "{'name': 'elsewhere'}"));
    service_reply_text("id", project, sizeof project);
    struct forge_channel *strangers[] = {beta.admin, service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, project)};
    for (size_t i = 0; i < 2; i++)
        service_fails(service_call(strangers[i], COMPARE, NULL, "{'baseline_id': '%s', 'candidate_id': '%s'}", first, first),
                      FORGE_NOT_FOUND, "evaluation");
    service_ok(service_call(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), COMPARE, NULL,
                            "{'baseline_id': '%s', 'candidate_id': '%s'}", first, first));
    service_shows("'still_passing_count':'1'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nine_patients_as_published),
        cmocka_unit_test(test_ties_and_the_normal_approximation),
        cmocka_unit_test(test_changes_are_filtered_and_paged_with_the_same_figures),
        cmocka_unit_test(test_an_item_passes_when_all_its_repetitions_do),
        cmocka_unit_test(test_other_contents_of_an_item_are_told),
        cmocka_unit_test(test_what_cannot_be_compared_is_refused),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
