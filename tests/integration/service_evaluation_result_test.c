/* EvaluationService over TLS: AddResults and ListResults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "evaluation_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ADD "EvaluationService/AddResults"
#define LIST "EvaluationService/ListResults"
#define GET "EvaluationService/GetEvaluation"

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static forge_code add(const char *evaluation_id, const char *results)
{
    return service_call(alpha.admin, ADD, NULL, "{'evaluation_id': '%s', 'results': [%s]}", evaluation_id, results);
}

static long results_of(const char *evaluation_id)
{
    char sql[160];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM evaluation_results WHERE evaluation_id = '%s'", evaluation_id);
    return strtol(service_query(sql), NULL, 10);
}

/* ---- judging ---- */

static void test_results_are_judged_kept_and_listed(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37];
    evaluation_ground_make(&alpha, "judged", 3, &ground);
    evaluation_make(&ground,
                    ", 'pass_threshold': 0.5, 'evaluators': [{'exact': {}}, {'latency': {'latency_max_ms': 2}, 'weight': 3},"
                    " {'name': 'judge', 'external': {}, 'threshold': 0.6}]",
                    id);
    service_ok(add(id, "{'item_key': 'k0001', 'output': '1', 'latency_us': 1500, 'usage': {'input_tokens': 7, 'output_tokens': 2},"
                       " 'cost_micros': 11, 'trace_id': '0AF7651916CD43DD8448EB211C80319C', 'span_id': 'b7ad6b7169203331',"
                       " 'evaluator_scores': [{'evaluator': 'judge', 'score': 0.5, 'explanation': 'so so'}]},"
                       "{'item_key': 'k0002', 'output': '1', 'latency_us': 2001, 'evaluator_scores': [{'evaluator': 'judge', 'score': 1}]},"
                       "{'item_key': 'k0003', 'error': 'timed out', 'latency_us': 9000}"));
    /* (1 + 3 + 0.5) / 5; (0 + 0 + 1) / 5 */
    service_shows("{'verdict':{'outcome':'ITEM_OUTCOME_ACCEPTED'},'score':0.9,'passed':true}",
                  "{'verdict':{'outcome':'ITEM_OUTCOME_ACCEPTED'},'score':0.2}", "{'verdict':{'outcome':'ITEM_OUTCOME_ACCEPTED'}}");
    service_ok(service_call(alpha.admin, LIST, NULL, "{'evaluation_id': '%s'}", id));
    service_shows("'item_key':'k0001'", "'repetition':1,'output':'1','latency_us':'1500','usage':{'input_tokens':'7','output_tokens':'2'},",
                  "'cost_micros':'11','trace_id':'0af7651916cd43dd8448eb211c80319c','span_id':'b7ad6b7169203331'",
                  "'evaluator_scores':[{'evaluator':'exact','score':1,'passed':true},{'evaluator':'latency','score':1,'passed':true,"
                  "'explanation':'1500 of at most 2000 microseconds'},{'evaluator':'judge','score':0.5,'explanation':'so so'}]",
                  "'score':0.9,'passed':true,'create_time'", "'item_key':'k0002'",
                  "{'evaluator':'exact','explanation':'differs from the expected output from character 1 on'}", "'score':0.2,'create_time'",
                  "'item_key':'k0003'", "'error':'timed out','latency_us':'9000','create_time'");
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id));
    /* by hand: mean of 0.9, 0.2 and 0; the middle and the last latency of three; two were judged */
    service_shows("'summary':{'expected_result_count':'3','result_count':'3','passed_count':'1','failed_count':'2','error_count':'1',",
                  "'pass_rate':0.33333333", "'average_score':0.36666666", "'latency_p50_us':'2001','latency_p95_us':'9000'",
                  "'usage':{'input_tokens':'7','output_tokens':'2'}", "'cost_micros':'11'",
                  "{'name':'exact','passed_count':'1','failed_count':'1','average_score':0.5}",
                  "{'name':'latency','passed_count':'1','failed_count':'1','average_score':0.5}",
                  "{'name':'judge','passed_count':'1','failed_count':'1','average_score':0.75}");
}

static void test_a_required_evaluator_decides(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37];
    evaluation_ground_make(&alpha, "required", 2, &ground);
    evaluation_make(&ground, ", 'pass_threshold': 0, 'evaluators': [{'exact': {}, 'required': true}, {'json_valid': {}, 'weight': 9}]", id);
    service_ok(add(id, "{'item_key': 'k0001', 'output': '7'}, {'item_key': 'k0002', 'output': '2'}"));
    service_shows("'score':0.9}", "'score':1,'passed':true}");
}

static void test_cost_comes_from_usage_and_the_price_in_force(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char provider[37], model[37], id[37], more[160], sql[320];
    evaluation_ground_make(&alpha, "cost", 4, &ground);
    service_ok(service_call(alpha.admin, "OrganizationService/CreateModelProvider", NULL, "{'name': 'Priced'}"));
    service_reply_text("id", provider, sizeof provider);
    service_ok(service_call(alpha.admin, "OrganizationService/CreateAiModel", NULL, "{'provider_id': '%s', 'name': 'priced-1'}", provider));
    service_reply_text("id", model, sizeof model);
    service_ok(service_call(alpha.admin, "OrganizationService/SetModelPrice", NULL,
                            "{'model_id': '%s', 'effective_time': '2020-01-01T00:00:00Z', 'usage_prices': [{'usage_type':"
                            " 'USAGE_TYPE_INPUT', 'micros_per_million_tokens': 9000000}]}",
                            model));
    service_ok(service_call(alpha.admin, "OrganizationService/SetModelPrice", NULL,
                            "{'model_id': '%s', 'effective_time': '2021-01-01T00:00:00Z', 'usage_prices':"
                            " [{'usage_type': 'USAGE_TYPE_INPUT', 'micros_per_million_tokens': 2500000},"
                            " {'usage_type': 'USAGE_TYPE_OUTPUT', 'micros_per_million_tokens': 10000000}]}",
                            model));
    service_ok(service_call(alpha.admin, "OrganizationService/SetModelPrice", NULL,
                            "{'model_id': '%s', 'effective_time': '2200-01-01T00:00:00Z', 'usage_prices': [{'usage_type':"
                            " 'USAGE_TYPE_INPUT', 'micros_per_million_tokens': 1}]}",
                            model));
    snprintf(more, sizeof more, ", 'model_id': '%s', 'evaluators': [{'cost': {'cost_max_micros': 28}}]", model);
    evaluation_make(&ground, more, id);
    /* 3 * 2.5 + 2 * 10 = 27.5, which is 28; 5 * 2.5 + 2 * 10 = 32.5, which is 33 */
    service_ok(add(id, "{'item_key': 'k0001', 'usage': {'input_tokens': 3, 'output_tokens': 2, 'reasoning_tokens': 50}},"
                       "{'item_key': 'k0002', 'usage': {'input_tokens': 5, 'output_tokens': 2}},"
                       "{'item_key': 'k0003', 'usage': {'input_tokens': 5, 'output_tokens': 2}, 'cost_micros': 4}, {'item_key': 'k0004'}"));
    service_shows("'score':1,'passed':true", "'ITEM_OUTCOME_ACCEPTED'}}", "'score':1,'passed':true", "'ITEM_OUTCOME_ACCEPTED'}}");
    service_ok(service_call(alpha.admin, LIST, NULL, "{'evaluation_id': '%s'}", id));
    service_shows("'k0001'", "'cost_micros':'28'", "'k0002'", "'cost_micros':'33'", "'k0003'", "'cost_micros':'4'", "'k0004'",
                  "'explanation':'not given'");
    snprintf(sql, sizeof sql,
             "SELECT string_agg(COALESCE((SELECT p.input_price::text FROM model_prices p WHERE p.id = r.price_id), '-'), ' '"
             " ORDER BY r.item_key) FROM evaluation_results r WHERE r.evaluation_id = '%s'",
             id);
    assert_string_equal(service_query(sql), "2500000 2500000 - -");
}

/* ---- identity ---- */

static void test_the_same_again_is_a_duplicate_and_another_is_refused(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37], sql[160], item_id[37], results[512];
    evaluation_ground_make(&alpha, "identity", 3, &ground);
    evaluation_make(&ground, ", 'repetitions': 2", id);
    service_ok(add(id, "{'item_key': 'k0001', 'output': '1', 'trace_id': '0af7651916cd43dd8448eb211c80319c'}"));
    snprintf(sql, sizeof sql, "SELECT id FROM dataset_items WHERE dataset_id = '%s' AND key = 'k0001'", ground.dataset_id);
    snprintf(item_id, sizeof item_id, "%s", service_query(sql));
    /* by its id and with its repetition and trace spelled another way; another output; the other repetition */
    snprintf(results, sizeof results,
             "{'item_id': '%s', 'repetition': 1, 'output': '1', 'trace_id': '0AF7651916CD43DD8448EB211C80319C'},"
             "{'item_key': 'k0001', 'output': '2'}, {'item_id': '%s', 'item_key': 'k0001', 'repetition': 2, 'output': 'x'}",
             item_id, item_id);
    service_ok(add(id, results));
    service_shows("{'verdict':{'outcome':'ITEM_OUTCOME_DUPLICATE'},'score':1,'passed':true}",
                  "{'verdict':{'outcome':'ITEM_OUTCOME_REJECTED','code':'CODE_ALREADY_EXISTS','message':'repetition 1 of this item",
                  "{'verdict':{'outcome':'ITEM_OUTCOME_ACCEPTED'}}");
    /* copies within one call: the first counts */
    service_ok(add(id, "{'item_key': 'k0002', 'output': '2'}, {'item_key': 'k0002', 'output': '7'}, {'item_key': 'k0002', 'output': '2'},"
                       "{'item_key': 'k0001', 'repetition': 2, 'output': 'x'}"));
    service_shows("'ITEM_OUTCOME_ACCEPTED'},'score':1", "'CODE_ALREADY_EXISTS'", "'ITEM_OUTCOME_DUPLICATE'},'score':1",
                  "'ITEM_OUTCOME_DUPLICATE'");
    assert_int_equal(results_of(id), 3);
    /* 0 is not the same as not given */
    service_ok(add(id, "{'item_key': 'k0003', 'usage': {}}, {'item_key': 'k0003'}, {'item_key': 'k0003', 'usage': {}, 'cost_micros': 0}"));
    service_shows("'ITEM_OUTCOME_ACCEPTED'", "'CODE_ALREADY_EXISTS'", "'CODE_ALREADY_EXISTS'");
}

static void test_a_repeat_gets_the_stored_verdicts(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37], request_id[37];
    evaluation_ground_make(&alpha, "replayed", 1, &ground);
    evaluation_make(&ground, "", id);
    snprintf(request_id, sizeof request_id, "%s", service_request_id());
    for (int i = 0; i < 2; i++) {
        service_ok(service_call(alpha.admin, ADD, request_id, "{'evaluation_id': '%s', 'results': [{'item_key': 'k0001'}]}", id));
        service_shows("'ITEM_OUTCOME_ACCEPTED'");
        assert_int_equal(service_reply_is_stored(), i);
    }
    assert_int_equal(results_of(id), 1);
}

/* ---- what is refused ---- */

static void test_one_bad_result_of_many_is_told(void **state)
{
    (void)state;
    enum { ITEMS = 1000, BAD = 500 };
    struct evaluation_ground ground;
    Forge__V1__EvaluationResult results[ITEMS], *pointers[ITEMS];
    Forge__V1__AddResultsRequest request = FORGE__V1__ADD_RESULTS_REQUEST__INIT;
    Forge__V1__AddResultsResponse *reply;
    static char keys[ITEMS][16], outputs[ITEMS][16];
    char id[37];
    evaluation_ground_make(&alpha, "thousand", ITEMS, &ground);
    evaluation_make(&ground, "", id);
    for (int i = 0; i < ITEMS; i++) {
        forge__v1__evaluation_result__init(&results[i]);
        snprintf(keys[i], sizeof keys[i], "k%04d", ITEMS - i);
        snprintf(outputs[i], sizeof outputs[i], "%d", i % 2 == 0 ? ITEMS - i : 0);
        results[i].item_key = keys[i];
        results[i].output = outputs[i];
        pointers[i] = &results[i];
    }
    results[BAD].repetition = 2;
    request.evaluation_id = id;
    request.n_results = ITEMS;
    request.results = pointers;
    for (int attempt = 0; attempt < 2; attempt++) {
        service_ok(forge_evaluation_add_results(alpha.admin, NULL, &request, &reply, &service_error));
        assert_int_equal(reply->n_verdicts, ITEMS);
        for (int i = 0; i < ITEMS; i++) {
            const Forge__V1__AddResultsVerdict *verdict = reply->verdicts[i];
            int good = attempt == 0 ? FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED : FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_DUPLICATE;
            assert_int_equal(verdict->verdict->outcome, i == BAD ? FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED : good);
            assert_int_equal(verdict->passed, i != BAD && i % 2 == 0);
        }
        assert_int_equal(reply->verdicts[BAD]->verdict->code, FORGE_INVALID_ARGUMENT);
        assert_string_equal(reply->verdicts[BAD]->verdict->message, "repetition: must be at most 1");
        assert_string_equal(reply->verdicts[BAD]->verdict->field_violations[0]->field, "repetition");
        assert_false(reply->verdicts[BAD]->verdict->retryable);
        forge__v1__add_results_response__free_unpacked(reply, NULL);
    }
    assert_int_equal(results_of(id), ITEMS - 1);
}

static void test_every_wrong_field_is_named(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37], results[1024];
    evaluation_ground_make(&alpha, "fields", 2, &ground);
    evaluation_make(&ground, ", 'evaluators': [{'name': 'judge', 'external': {}}, {'exact': {}}]", id);
    service_ok(add(id, "{'repetition': -1, 'latency_us': -1, 'usage': {'output_tokens': -1}, 'cost_micros': -1, 'trace_id': 'x',"
                       " 'span_id': '01'}"));
    static const char *const fields[] = {"item_key",    "repetition", "latency_us", "usage.output_tokens",
                                         "cost_micros", "trace_id",   "span_id"};
    service_shows("'code':'CODE_INVALID_ARGUMENT','message':'item_key: must be 1 to 255");
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        char part[64];
        snprintf(part, sizeof part, "{'field':'%s','description':", fields[i]);
        service_shows(part);
    }
    snprintf(results, sizeof results, "{'item_key': 'none'}, {'item_id': '%s'}, {'item_id': 'x'}", nobody_has);
    service_ok(add(id, results));
    service_shows("'CODE_NOT_FOUND','message':'the dataset version has no item none'",
                  "'CODE_NOT_FOUND','message':'the dataset version has no item 0", "'field':'item_id'");
    /* the longest key, in letters of three bytes, of which no multiple fills a message */
    service_ok(service_call(alpha.admin, ADD, NULL, "{'evaluation_id': '%s', 'results': [{'item_key': 'k%s'}]}", id,
                            service_repeat("\u4e00", 254)));
    service_shows("'CODE_NOT_FOUND','message':'the dataset version has no item k\u4e00");
    service_ok(add(id,
                   "{'item_key': 'k0001'},"
                   "{'item_key': 'k0001', 'evaluator_scores': [{'evaluator': 'judge', 'score': 1.5}]},"
                   "{'item_key': 'k0001', 'evaluator_scores': [{'evaluator': 'judge'}, {'evaluator': 'exact'}, {'evaluator': 'judge'}]},"
                   "{'item_key': 'k0001', 'error': 'x', 'evaluator_scores': [{'evaluator': 'judge', 'score': 1}]}"));
    service_shows("'the score of \\'judge\\' is required'", "'evaluator_scores[0].score','description':'must be 0 to 1'",
                  "'evaluator_scores[1].evaluator','description':'is no external",
                  "'evaluator_scores[2].evaluator','description':'is given twice'", "with an error nothing is judged");
    assert_int_equal(results_of(id), 0);
    service_violates(add("x", ""), "evaluation_id", "must be a UUID", "results", "must be 1 to 1000");
    service_fails(add(nobody_has, "{'item_key': 'k0001'}"), FORGE_NOT_FOUND, "evaluation");
}

static void test_texts_have_their_limits(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    Forge__V1__EvaluationResult result = FORGE__V1__EVALUATION_RESULT__INIT, *pointers[] = {&result};
    Forge__V1__AddResultsRequest request = FORGE__V1__ADD_RESULTS_REQUEST__INIT;
    Forge__V1__AddResultsResponse *reply;
    char id[37];
    evaluation_ground_make(&alpha, "limits", 1, &ground);
    evaluation_make(&ground, "", id);
    result.item_key = TEXT("k0001");
    result.output = service_repeat("x", (1 << 20) + 1);
    result.error = service_repeat("x", 4097);
    request.evaluation_id = id;
    request.n_results = 1;
    request.results = pointers;
    service_ok(forge_evaluation_add_results(alpha.admin, NULL, &request, &reply, &service_error));
    assert_int_equal(reply->verdicts[0]->verdict->n_field_violations, 2);
    assert_string_equal(reply->verdicts[0]->verdict->field_violations[0]->field, "output");
    assert_string_equal(reply->verdicts[0]->verdict->field_violations[1]->field, "error");
    forge__v1__add_results_response__free_unpacked(reply, NULL);
    result.output[1 << 20] = '\0';
    result.error[4096] = '\0';
    service_ok(forge_evaluation_add_results(alpha.admin, NULL, &request, &reply, &service_error));
    assert_int_equal(reply->verdicts[0]->verdict->outcome, FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED);
    forge__v1__add_results_response__free_unpacked(reply, NULL);
}

/* Patterns that meet their own limit take 50 million units each: after six results the call has done its share. */
static void test_the_work_of_a_call_is_bounded(void **state)
{
    (void)state;
    enum { RESULTS = 10 };
    struct evaluation_ground ground;
    Forge__V1__EvaluationResult results[RESULTS], *pointers[RESULTS];
    Forge__V1__AddResultsRequest request = FORGE__V1__ADD_RESULTS_REQUEST__INIT;
    Forge__V1__AddResultsResponse *reply;
    char id[37], keys[RESULTS][16], *output = service_repeat("a", 40000);
    output[39999] = 'd'; /* else PCRE2 sees at once that nothing matches */
    evaluation_ground_make(&alpha, "work", RESULTS, &ground);
    evaluation_make(&ground, ", 'evaluators': [{'regex': {'pattern': 'a*[bc]d'}}]", id);
    for (int i = 0; i < RESULTS; i++) {
        forge__v1__evaluation_result__init(&results[i]);
        snprintf(keys[i], sizeof keys[i], "k%04d", i + 1);
        results[i].item_key = keys[i];
        results[i].output = output;
        pointers[i] = &results[i];
    }
    request.evaluation_id = id;
    request.n_results = RESULTS;
    request.results = pointers;
    for (int attempt = 0; attempt < 2; attempt++) {
        int accepted = 0, duplicates = 0;
        service_ok(forge_evaluation_add_results(alpha.admin, NULL, &request, &reply, &service_error));
        for (int i = 0; i < RESULTS; i++) {
            const Forge__V1__ItemVerdict *verdict = reply->verdicts[i]->verdict;
            accepted += verdict->outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED;
            duplicates += verdict->outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_DUPLICATE;
            if (verdict->outcome != FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED)
                continue;
            assert_int_equal(verdict->code, FORGE_RESOURCE_EXHAUSTED);
            assert_true(verdict->retryable);
            assert_non_null(strstr(verdict->message, "too much work: send this one again"));
        }
        assert_int_equal(duplicates, attempt == 0 ? 0 : 6);
        assert_int_equal(accepted, attempt == 0 ? 6 : RESULTS - 6); /* what is stored costs nothing any more */
        forge__v1__add_results_response__free_unpacked(reply, NULL);
    }
    /* A result that alone takes more than a call may spend can never be judged. */
    char *more = NULL;
    size_t size = 0;
    FILE *text = open_memstream(&more, &size);
    for (int i = 0; i < 25; i++)
        fprintf(text, "%s{'name': 'r%d', 'regex': {'pattern': 'a*[bc]d'}}", i == 0 ? ", 'evaluators': [" : ", ", i);
    fprintf(text, "]");
    fclose(text);
    evaluation_make(&ground, more, id);
    free(more);
    request.n_results = 1;
    service_ok(forge_evaluation_add_results(alpha.admin, NULL, &request, &reply, &service_error));
    assert_int_equal(reply->verdicts[0]->verdict->code, FORGE_RESOURCE_EXHAUSTED);
    assert_false(reply->verdicts[0]->verdict->retryable);
    forge__v1__add_results_response__free_unpacked(reply, NULL);
    assert_int_equal(results_of(id), 0);
}

/* ---- at once ---- */

struct adder {
    pthread_t thread;
    const char *evaluation_id, *output;
    forge_code rc;
    int accepted, duplicates, rejected;
};

static void *add_main(void *argument)
{
    struct adder *adder = argument;
    struct forge_error error;
    Forge__V1__EvaluationResult first = FORGE__V1__EVALUATION_RESULT__INIT, second = FORGE__V1__EVALUATION_RESULT__INIT;
    Forge__V1__EvaluationResult *pointers[] = {&first, &second};
    Forge__V1__AddResultsRequest request = FORGE__V1__ADD_RESULTS_REQUEST__INIT;
    Forge__V1__AddResultsResponse *reply;
    first.item_key = TEXT("k0001");
    second.item_key = TEXT("k0002");
    first.output = second.output = TEXT(adder->output);
    request.evaluation_id = TEXT(adder->evaluation_id);
    request.n_results = 2;
    request.results = pointers;
    adder->rc = forge_evaluation_add_results(alpha.admin, NULL, &request, &reply, &error);
    for (size_t i = 0; adder->rc == FORGE_OK && i < reply->n_verdicts; i++) {
        int outcome = (int)reply->verdicts[i]->verdict->outcome;
        adder->accepted += outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED;
        adder->duplicates += outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_DUPLICATE;
        adder->rejected += outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED;
    }
    if (adder->rc == FORGE_OK)
        forge__v1__add_results_response__free_unpacked(reply, NULL);
    forge_error_free(&error);
    return NULL;
}

/* All of them have judged and wait for the evaluation's row: each item is taken by one. */
static void test_callers_at_once_store_each_result_once(void **state)
{
    (void)state;
    enum { ADDERS = 4 };
    struct evaluation_ground ground;
    struct adder adders[ADDERS];
    char id[37], sql[128];
    int accepted = 0, duplicates = 0, rejected = 0;
    evaluation_ground_make(&alpha, "at once", 2, &ground);
    evaluation_make(&ground, "", id);
    snprintf(sql, sizeof sql, "SELECT id FROM evaluations WHERE id = '%s' FOR UPDATE", id);
    struct service_lock *lock = service_lock_take(sql);
    for (int i = 0; i < ADDERS; i++) {
        adders[i] = (struct adder){.evaluation_id = id, .output = i == 0 ? "other" : "same"};
        assert_int_equal(pthread_create(&adders[i].thread, NULL, add_main, &adders[i]), 0);
    }
    service_lock_wait(lock, ADDERS);
    service_lock_release(lock);
    for (int i = 0; i < ADDERS; i++) {
        assert_int_equal(pthread_join(adders[i].thread, NULL), 0);
        assert_int_equal(adders[i].rc, FORGE_OK);
        accepted += adders[i].accepted;
        duplicates += adders[i].duplicates;
        rejected += adders[i].rejected;
    }
    assert_int_equal(accepted, 2);
    assert_true(adders[0].accepted > 0 ? duplicates == 0 && rejected == 6 : duplicates == 4 && rejected == 2);
    assert_int_equal(results_of(id), 2);
}

struct completer {
    pthread_t thread;
    const char *evaluation_id;
    forge_code rc;
    long counted;
};

static void *complete_main(void *argument)
{
    struct completer *completer = argument;
    struct forge_error error;
    Forge__V1__CompleteEvaluationRequest request = FORGE__V1__COMPLETE_EVALUATION_REQUEST__INIT;
    Forge__V1__Evaluation *reply;
    request.id = TEXT(completer->evaluation_id);
    request.allow_incomplete = 1;
    completer->rc = forge_evaluation_complete(alpha.admin, NULL, &request, &reply, &error);
    if (completer->rc == FORGE_OK) {
        completer->counted = (long)reply->summary->result_count;
        forge__v1__evaluation__free_unpacked(reply, NULL);
    }
    forge_error_free(&error);
    return NULL;
}

/* Both wait for the evaluation's row and get it in either order: the results count, or they are refused. */
static void test_completion_counts_a_result_or_it_is_refused(void **state)
{
    (void)state;
    enum { ROUNDS = 6 };
    struct evaluation_ground ground;
    evaluation_ground_make(&alpha, "completion", 2, &ground);
    for (int round = 0; round < ROUNDS; round++) {
        char id[37], sql[128];
        evaluation_make(&ground, "", id);
        struct adder adder = {.evaluation_id = id, .output = "1"};
        struct completer completer = {.evaluation_id = id};
        snprintf(sql, sizeof sql, "SELECT id FROM evaluations WHERE id = '%s' FOR UPDATE", id);
        struct service_lock *lock = service_lock_take(sql);
        /* The first to wait is the first to get it. */
        assert_int_equal(round % 2 == 0 ? pthread_create(&adder.thread, NULL, add_main, &adder)
                                        : pthread_create(&completer.thread, NULL, complete_main, &completer),
                         0);
        service_lock_wait(lock, 1);
        assert_int_equal(round % 2 == 0 ? pthread_create(&completer.thread, NULL, complete_main, &completer)
                                        : pthread_create(&adder.thread, NULL, add_main, &adder),
                         0);
        service_lock_wait(lock, 2);
        service_lock_release(lock);
        assert_int_equal(pthread_join(adder.thread, NULL), 0);
        assert_int_equal(pthread_join(completer.thread, NULL), 0);
        assert_int_equal(completer.rc, FORGE_OK);
        assert_int_equal(adder.rc, round % 2 == 0 ? FORGE_OK : FORGE_FAILED_PRECONDITION);
        assert_int_equal(completer.counted, round % 2 == 0 ? 2 : 0);
        assert_int_equal(results_of(id), completer.counted);
    }
}

/* ---- ListResults ---- */

static void test_a_list_is_sorted_filtered_and_paged(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37], token[512];
    evaluation_ground_make(&alpha, "listed", 3, &ground);
    evaluation_make(&ground, ", 'repetitions': 2", id);
    service_ok(service_call(alpha.admin, LIST, NULL, "{'evaluation_id': '%s'}", id));
    assert_string_equal(service_reply(), "{}");
    service_ok(add(id, "{'item_key': 'k0003', 'output': '3'}, {'item_key': 'k0001', 'repetition': 2, 'output': '2'},"
                       "{'item_key': 'k0001', 'output': '1'}, {'item_key': 'k0002', 'output': '9'}"));
    service_ok(service_call(alpha.admin, LIST, NULL, "{'evaluation_id': '%s', 'page_size': 3}", id));
    service_shows("'item_key':'k0001'", "'repetition':1", "'item_key':'k0001'", "'repetition':2", "'item_key':'k0002'");
    service_reply_text("next_page_token", token, sizeof token);
    service_ok(service_call(alpha.admin, LIST, NULL, "{'evaluation_id': '%s', 'page_size': 3, 'page_token': '%s'}", id, token));
    service_shows("{'results':[{'item_key':'k0003'");
    assert_null(strstr(service_reply(), "next_page_token"));
    service_violates(service_call(alpha.admin, LIST, NULL, "{'evaluation_id': '%s', 'passed': true, 'page_token': '%s'}", id, token),
                     "page_token", "another query");
    service_ok(service_call(alpha.admin, LIST, NULL, "{'evaluation_id': '%s', 'passed': true}", id));
    service_shows("'k0001'", "'repetition':1", "'k0003'");
    service_ok(service_call(alpha.admin, LIST, NULL, "{'evaluation_id': '%s', 'passed': false, 'item_key': 'k0001'}", id));
    service_shows("'k0001'", "'repetition':2");
    assert_null(strstr(service_reply(), "k0002"));
    service_violates(
        service_call(alpha.admin, LIST, NULL, "{'evaluation_id': 'x', 'page_size': -1, 'item_key': '%s'}", service_repeat("k", 256)),
        "evaluation_id", "must be a UUID", "page_size", "", "item_key", "at most 255");
    service_fails(service_call(alpha.admin, LIST, NULL, "{'evaluation_id': '%s'}", nobody_has), FORGE_NOT_FOUND, "evaluation");
}

static void test_a_page_is_cut_by_size(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    Forge__V1__EvaluationResult result = FORGE__V1__EVALUATION_RESULT__INIT, *pointers[] = {&result};
    Forge__V1__AddResultsRequest request = FORGE__V1__ADD_RESULTS_REQUEST__INIT;
    Forge__V1__AddResultsResponse *reply;
    Forge__V1__ListResultsRequest list = FORGE__V1__LIST_RESULTS_REQUEST__INIT;
    Forge__V1__ListResultsResponse *page;
    char id[37], key[16];
    evaluation_ground_make(&alpha, "large", 4, &ground);
    evaluation_make(&ground, "", id);
    result.output = service_repeat("x", 1 << 20);
    request.evaluation_id = list.evaluation_id = id;
    request.n_results = 1;
    request.results = pointers;
    for (int i = 1; i <= 4; i++) {
        snprintf(key, sizeof key, "k%04d", i);
        result.item_key = key;
        service_ok(forge_evaluation_add_results(alpha.admin, NULL, &request, &reply, &service_error));
        forge__v1__add_results_response__free_unpacked(reply, NULL);
    }
    /* The scores have their bytes too: not three. */
    service_ok(forge_evaluation_list_results(alpha.admin, NULL, &list, &page, &service_error));
    assert_int_equal(page->n_results, 2);
    char *token = strdup(page->next_page_token);
    forge__v1__list_results_response__free_unpacked(page, NULL);
    list.page_token = token;
    service_ok(forge_evaluation_list_results(alpha.admin, NULL, &list, &page, &service_error));
    assert_int_equal(page->n_results, 2);
    assert_string_equal(page->results[1]->item_key, "k0004");
    assert_string_equal(page->next_page_token, "");
    forge__v1__list_results_response__free_unpacked(page, NULL);
    free(token);
}

static void test_others_neither_add_nor_list(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37], project[37];
    evaluation_ground_make(&alpha, "private results", 1, &ground);
    evaluation_make(&ground, "", id);
    service_ok(service_call(alpha.admin, "ProjectService/CreateProject", NULL, "{'name': 'elsewhere'}"));
    service_reply_text("id", project, sizeof project);
    struct forge_channel *strangers[] = {beta.admin, service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, project)};
    for (size_t i = 0; i < 2; i++) {
        service_fails(service_call(strangers[i], ADD, NULL, "{'evaluation_id': '%s', 'results': [{'item_key': 'k0001'}]}", id),
                      FORGE_NOT_FOUND, "evaluation");
        service_fails(service_call(strangers[i], LIST, NULL, "{'evaluation_id': '%s'}", id), FORGE_NOT_FOUND, "evaluation");
    }
    struct forge_channel *viewer = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL);
    service_fails(service_call(viewer, ADD, NULL, "{'evaluation_id': '%s', 'results': [{'item_key': 'k0001'}]}", id),
                  FORGE_PERMISSION_DENIED, "developer");
    service_ok(service_call(viewer, LIST, NULL, "{'evaluation_id': '%s'}", id));
    assert_int_equal(results_of(id), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results_are_judged_kept_and_listed),
        cmocka_unit_test(test_a_required_evaluator_decides),
        cmocka_unit_test(test_cost_comes_from_usage_and_the_price_in_force),
        cmocka_unit_test(test_the_same_again_is_a_duplicate_and_another_is_refused),
        cmocka_unit_test(test_a_repeat_gets_the_stored_verdicts),
        cmocka_unit_test(test_one_bad_result_of_many_is_told),
        cmocka_unit_test(test_every_wrong_field_is_named),
        cmocka_unit_test(test_texts_have_their_limits),
        cmocka_unit_test(test_the_work_of_a_call_is_bounded),
        cmocka_unit_test(test_callers_at_once_store_each_result_once),
        cmocka_unit_test(test_completion_counts_a_result_or_it_is_refused),
        cmocka_unit_test(test_a_list_is_sorted_filtered_and_paged),
        cmocka_unit_test(test_a_page_is_cut_by_size),
        cmocka_unit_test(test_others_neither_add_nor_list),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
