/* PromptService over TLS: RecordExecution, RecordExecutions, ListExecutions, GetPromptStats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 1000 };

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static Forge__V1__RecordExecutionRequest execution_of(const char *prompt_id, int rating)
{
    Forge__V1__RecordExecutionRequest request = FORGE__V1__RECORD_EXECUTION_REQUEST__INIT;
    request.prompt_id = TEXT(prompt_id);
    request.rating = rating;
    return request;
}

static forge_code record(struct forge_channel *channel, const Forge__V1__RecordExecutionRequest *request, Forge__V1__Execution **out)
{
    return forge_prompt_record_execution(channel, NULL, request, out, &service_error);
}

static void add_version(const char *prompt_id, const char *content)
{
    Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
    Forge__V1__PromptVersion *version;
    request.prompt_id = TEXT(prompt_id);
    request.content = TEXT(content);
    service_ok(forge_prompt_create_version(alpha.admin, NULL, &request, &version, &service_error));
    forge__v1__prompt_version__free_unpacked(version, NULL);
}

static int64_t executions_of(const char *prompt_id)
{
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM executions WHERE prompt_id = '%s'", prompt_id);
    return strtoll(service_query(sql), NULL, 10);
}

/* ---- RecordExecution ---- */

static void test_an_execution_has_its_defaults(void **state)
{
    char id[37];
    Forge__V1__Execution *execution;
    service_prompt_make(alpha.admin, alpha.project_id, "defaults", "x", id);
    Forge__V1__RecordExecutionRequest request = execution_of(id, 0);
    time_t before = time(NULL);
    service_ok(record(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, alpha.project_id), &request, &execution));
    assert_true(execution->id > 0);
    assert_string_equal(execution->prompt_id, id);
    assert_int_equal(execution->version, 1);
    assert_int_equal(execution->rating, 0);
    assert_true(execution->success);
    assert_string_equal(execution->notes, "");
    assert_in_range(execution->execute_time->seconds, before - 5, before + 60);
    forge__v1__execution__free_unpacked(execution, NULL);
    assert_string_equal(service_query("SELECT rating IS NULL AND success AND notes IS NULL FROM executions ORDER BY id DESC LIMIT 1"), "t");
}

static void test_an_execution_keeps_what_is_given(void **state)
{
    char id[37];
    Google__Protobuf__BoolValue failed = GOOGLE__PROTOBUF__BOOL_VALUE__INIT;
    Google__Protobuf__Timestamp when = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Forge__V1__Execution *execution;
    service_prompt_make(alpha.admin, alpha.project_id, "given", "x", id);
    add_version(id, "y");
    Forge__V1__RecordExecutionRequest request = execution_of(id, 5);
    request.version = 2;
    request.success = &failed;
    request.notes = TEXT("it went on and on");
    when.seconds = 1700000000;
    when.nanos = 5000;
    request.execute_time = &when;
    service_ok(record(alpha.admin, &request, &execution));
    assert_int_equal(execution->version, 2);
    assert_int_equal(execution->rating, 5);
    assert_false(execution->success);
    assert_string_equal(execution->notes, "it went on and on");
    assert_int_equal(execution->execute_time->seconds, 1700000000);
    assert_int_equal(execution->execute_time->nanos, 5000);
    forge__v1__execution__free_unpacked(execution, NULL);
}

static void test_wrong_executions_are_refused(void **state)
{
    char id[37];
    Google__Protobuf__Timestamp ahead = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Forge__V1__Execution *execution;
    service_prompt_make(alpha.admin, alpha.project_id, "refused", "x", id);
    Forge__V1__RecordExecutionRequest request = execution_of("x", 6);
    request.version = -1;
    request.notes = service_repeat("x", 16385);
    ahead.seconds = time(NULL) + 660;
    request.execute_time = &ahead;
    service_violates(record(alpha.admin, &request, &execution), "prompt_id", "must be a UUID", "version", "0 or more", "rating",
                     "must be 1 to 5", "notes", "16384", "execute_time", "at most 10 minutes ahead");
    request = execution_of(id, -1);
    service_violates(record(alpha.admin, &request, &execution), "rating", "must be 1 to 5, or 0 for none");
    request = execution_of(id, 1);
    request.version = 2;
    service_fails(record(alpha.admin, &request, &execution), FORGE_NOT_FOUND, "version 2 of this prompt not found");
    request = execution_of(nobody_has, 1);
    service_fails(record(alpha.admin, &request, &execution), FORGE_NOT_FOUND, "prompt 01890000-0000-7000-8000-000000000000 not found");
    request = execution_of(id, 1);
    service_fails(record(beta.admin, &request, &execution), FORGE_NOT_FOUND, "not found");
    service_fails(record(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), &request, &execution), FORGE_PERMISSION_DENIED,
                  "developer");
    assert_int_equal(executions_of(id), 0);
}

static void test_a_repeat_adds_no_execution(void **state)
{
    char id[37], request_id[37];
    const struct forge_call_options options = {.request_id = request_id};
    Forge__V1__Execution *first, *again;
    service_prompt_make(alpha.admin, alpha.project_id, "repeated", "x", id);
    snprintf(request_id, sizeof request_id, "%s", service_request_id());
    Forge__V1__RecordExecutionRequest request = execution_of(id, 4);
    service_ok(forge_prompt_record_execution(alpha.admin, &options, &request, &first, &service_error));
    service_ok(forge_prompt_record_execution(alpha.admin, &options, &request, &again, &service_error));
    assert_int_equal(first->id, again->id);
    forge__v1__execution__free_unpacked(first, NULL);
    forge__v1__execution__free_unpacked(again, NULL);
    request.rating = 3;
    service_fails(forge_prompt_record_execution(alpha.admin, &options, &request, &first, &service_error), FORGE_INVALID_ARGUMENT,
                  "request_id was used before with another request");
    assert_int_equal(executions_of(id), 1);
}

/* ---- RecordExecutions ---- */

static forge_code record_many(struct forge_channel *channel, size_t count, Forge__V1__RecordExecutionRequest **items,
                              Forge__V1__RecordExecutionsResponse **out)
{
    Forge__V1__RecordExecutionsRequest request = FORGE__V1__RECORD_EXECUTIONS_REQUEST__INIT;
    request.n_requests = count;
    request.requests = items;
    return forge_prompt_record_executions(channel, NULL, &request, out, &service_error);
}

static void expect_verdict(const Forge__V1__RecordExecutionsResult *result, Forge__V1__Code code, const char *message)
{
    assert_int_equal(result->verdict->code, code);
    assert_int_equal(result->verdict->outcome, code == FORGE__V1__CODE__CODE_OK ? FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED
                                                                                : FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED);
    assert_int_equal(result->execution_id > 0, code == FORGE__V1__CODE__CODE_OK);
    assert_non_null(strstr(result->verdict->message, message));
}

static void test_a_batch_keeps_the_good_items(void **state)
{
    char id[37], other[37], foreign[37];
    service_prompt_make(alpha.admin, alpha.project_id, "batch", "x", id);
    service_prompt_make(alpha.admin, alpha.project_id, "other of the batch", "x", other);
    service_prompt_make(beta.admin, beta.project_id, "foreign", "x", foreign);
    Forge__V1__RecordExecutionRequest items[6], *list[6];
    Forge__V1__RecordExecutionsResponse *reply;
    for (int i = 0; i < 6; i++)
        list[i] = &items[i];
    items[0] = execution_of(id, 3);
    items[1] = execution_of(id, 6);
    items[2] = execution_of(foreign, 3);
    items[3] = execution_of(other, 0);
    items[4] = execution_of(id, 1);
    items[4].version = 7;
    items[5] = execution_of("no id", 0);
    service_ok(record_many(alpha.admin, 6, list, &reply));
    assert_int_equal(reply->n_results, 6);
    expect_verdict(reply->results[0], FORGE__V1__CODE__CODE_OK, "");
    expect_verdict(reply->results[1], FORGE__V1__CODE__CODE_INVALID_ARGUMENT, "rating: must be 1 to 5");
    assert_int_equal(reply->results[1]->verdict->n_field_violations, 1);
    assert_string_equal(reply->results[1]->verdict->field_violations[0]->field, "rating");
    expect_verdict(reply->results[2], FORGE__V1__CODE__CODE_NOT_FOUND, "not found");
    expect_verdict(reply->results[3], FORGE__V1__CODE__CODE_OK, "");
    expect_verdict(reply->results[4], FORGE__V1__CODE__CODE_NOT_FOUND, "version 7 of this prompt not found");
    expect_verdict(reply->results[5], FORGE__V1__CODE__CODE_INVALID_ARGUMENT, "prompt_id: must be a UUID");
    forge__v1__record_executions_response__free_unpacked(reply, NULL);
    assert_int_equal(executions_of(id), 1);
    assert_int_equal(executions_of(other), 1);
    assert_int_equal(executions_of(foreign), 0);
}

static void test_a_full_batch_and_its_limits(void **state)
{
    static Forge__V1__RecordExecutionRequest items[BATCH + 1], *list[BATCH + 1];
    char id[37];
    Forge__V1__RecordExecutionsResponse *reply;
    service_prompt_make(alpha.admin, alpha.project_id, "full", "x", id);
    for (int i = 0; i <= BATCH; i++) {
        items[i] = execution_of(id, i % 6);
        list[i] = &items[i];
    }
    service_ok(record_many(alpha.admin, BATCH, list, &reply));
    assert_int_equal(reply->n_results, BATCH);
    for (size_t i = 1; i < BATCH; i++)
        assert_true(reply->results[i]->execution_id > reply->results[i - 1]->execution_id); /* in the order of the items */
    for (size_t i = 0; i < BATCH; i += 97) {                                                /* each id is the row of its item */
        char sql[128], rating[2] = {(char)('0' + i % 6), 0};
        snprintf(sql, sizeof sql, "SELECT COALESCE(rating, 0) FROM executions WHERE id = %lld", (long long)reply->results[i]->execution_id);
        assert_string_equal(service_query(sql), rating);
    }
    forge__v1__record_executions_response__free_unpacked(reply, NULL);
    assert_int_equal(executions_of(id), BATCH);
    service_violates(record_many(alpha.admin, BATCH + 1, list, &reply), "requests", "must be 1 to 1000");
    service_violates(record_many(alpha.admin, 0, list, &reply), "requests", "must be 1 to 1000");
    service_fails(record_many(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), 1, list, &reply), FORGE_PERMISSION_DENIED,
                  "developer");
}

/* ---- ListExecutions ---- */

static void test_lists_are_filtered_and_paged_newest_first(void **state)
{
    char id[37];
    Forge__V1__ListExecutionsRequest request = FORGE__V1__LIST_EXECUTIONS_REQUEST__INIT;
    Forge__V1__ListExecutionsResponse *page;
    Google__Protobuf__BoolValue wanted = GOOGLE__PROTOBUF__BOOL_VALUE__INIT;
    Google__Protobuf__Timestamp when = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    service_prompt_make(alpha.admin, alpha.project_id, "listed", "x", id);
    add_version(id, "y");
    for (int i = 0; i < 7; i++) {
        Forge__V1__RecordExecutionRequest item = execution_of(id, i % 5 + 1);
        Google__Protobuf__BoolValue success = GOOGLE__PROTOBUF__BOOL_VALUE__INIT;
        Forge__V1__Execution *execution;
        success.value = i != 3;
        item.success = &success;
        item.version = i < 2 ? 2 : 1;
        when.seconds = 1700000000 + i / 2; /* two at a time */
        item.execute_time = &when;
        service_ok(record(alpha.admin, &item, &execution));
        forge__v1__execution__free_unpacked(execution, NULL);
    }
    request.prompt_id = id;
    request.page_size = 3;
    request.page_token = TEXT("");
    int64_t last_time = INT64_MAX, last_id = INT64_MAX;
    int seen = 0, pages = 0;
    char token[1024] = "";
    do {
        request.page_token = token;
        service_ok(forge_prompt_list_executions(alpha.admin, NULL, &request, &page, &service_error));
        for (size_t i = 0; i < page->n_executions; i++, seen++) {
            const Forge__V1__Execution *execution = page->executions[i];
            assert_true(execution->execute_time->seconds < last_time ||
                        (execution->execute_time->seconds == last_time && execution->id < last_id));
            last_time = execution->execute_time->seconds;
            last_id = execution->id;
        }
        snprintf(token, sizeof token, "%s", page->next_page_token);
        forge__v1__list_executions_response__free_unpacked(page, NULL);
        pages++;
    } while (*token);
    assert_int_equal(seen, 7);
    assert_int_equal(pages, 3);

    request = (Forge__V1__ListExecutionsRequest)FORGE__V1__LIST_EXECUTIONS_REQUEST__INIT;
    request.prompt_id = id;
    request.success = &wanted; /* failures */
    service_ok(forge_prompt_list_executions(alpha.admin, NULL, &request, &page, &service_error));
    assert_int_equal(page->n_executions, 1);
    assert_int_equal(page->executions[0]->rating, 4);
    forge__v1__list_executions_response__free_unpacked(page, NULL);
    request.success = NULL;
    request.version = 2;
    service_ok(forge_prompt_list_executions(alpha.admin, NULL, &request, &page, &service_error));
    assert_int_equal(page->n_executions, 2);
    forge__v1__list_executions_response__free_unpacked(page, NULL);
    request.version = 0;
    request.rating = 1;
    when.seconds = 1700000002;
    request.start_time = &when;
    service_ok(forge_prompt_list_executions(alpha.admin, NULL, &request, &page, &service_error));
    assert_int_equal(page->n_executions, 1);
    forge__v1__list_executions_response__free_unpacked(page, NULL);
    request.start_time = NULL;
    request.rating = 0;
    request.end_time = &when;
    service_ok(forge_prompt_list_executions(alpha.admin, NULL, &request, &page, &service_error));
    assert_int_equal(page->n_executions, 4);
    forge__v1__list_executions_response__free_unpacked(page, NULL);
}

static void test_wrong_lists(void **state)
{
    char id[37];
    Forge__V1__ListExecutionsRequest request = FORGE__V1__LIST_EXECUTIONS_REQUEST__INIT;
    Forge__V1__ListExecutionsResponse *page;
    Google__Protobuf__Timestamp when = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    service_prompt_make(alpha.admin, alpha.project_id, "not listed", "x", id);
    request.prompt_id = TEXT("x");
    request.page_size = -1;
    request.version = -1;
    request.rating = 6;
    request.start_time = request.end_time = &when;
    service_violates(forge_prompt_list_executions(alpha.admin, NULL, &request, &page, &service_error), "prompt_id", "must be a UUID",
                     "end_time", "must be after start_time", "page_size", "negative", "version", "0 or more", "rating", "must be 1 to 5");
    request = (Forge__V1__ListExecutionsRequest)FORGE__V1__LIST_EXECUTIONS_REQUEST__INIT;
    request.prompt_id = id;
    service_fails(forge_prompt_list_executions(beta.admin, NULL, &request, &page, &service_error), FORGE_NOT_FOUND, "not found");
    service_ok(forge_prompt_list_executions(alpha.admin, NULL, &request, &page, &service_error));
    assert_int_equal(page->n_executions, 0);
    forge__v1__list_executions_response__free_unpacked(page, NULL);
}

/* ---- GetPromptStats ---- */

static void test_stats_per_version(void **state)
{
    static const struct {
        int version, rating;
        bool success;
    } uses[] = {{1, 5, true}, {1, 2, true}, {1, 0, false}, {2, 4, true}};
    char id[37];
    Forge__V1__GetPromptStatsRequest request = FORGE__V1__GET_PROMPT_STATS_REQUEST__INIT;
    Google__Protobuf__Timestamp when = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Forge__V1__PromptStats *stats;
    service_prompt_make(alpha.admin, alpha.project_id, "counted", "x", id);
    add_version(id, "y");
    request.prompt_id = id;
    service_ok(forge_prompt_get_stats(alpha.admin, NULL, &request, &stats, &service_error));
    assert_int_equal(stats->total->execution_count, 0);
    assert_int_equal(stats->total->n_rating_counts, 5);
    assert_int_equal(stats->n_versions, 0);
    forge__v1__prompt_stats__free_unpacked(stats, NULL);
    for (size_t i = 0; i < sizeof uses / sizeof uses[0]; i++) {
        Forge__V1__RecordExecutionRequest item = execution_of(id, uses[i].rating);
        Google__Protobuf__BoolValue success = GOOGLE__PROTOBUF__BOOL_VALUE__INIT;
        Forge__V1__Execution *execution;
        success.value = uses[i].success;
        item.success = &success;
        item.version = uses[i].version;
        when.seconds = 1700000000 + (int64_t)i;
        item.execute_time = &when;
        service_ok(record(alpha.admin, &item, &execution));
        forge__v1__execution__free_unpacked(execution, NULL);
    }
    service_ok(forge_prompt_get_stats(alpha.admin, NULL, &request, &stats, &service_error));
    assert_int_equal(stats->n_versions, 2);
    const Forge__V1__PromptVersionStats *first = stats->versions[0];
    assert_int_equal(first->version, 1);
    assert_int_equal(first->execution_count, 3);
    assert_int_equal(first->success_count, 2);
    assert_int_equal(first->rated_count, 2);
    assert_true(first->average_rating > 3.499 && first->average_rating < 3.501);
    assert_true(first->success_rate > 0.666 && first->success_rate < 0.667);
    assert_int_equal(first->rating_counts[1], 1);
    assert_int_equal(first->rating_counts[4], 1);
    assert_int_equal(first->first_execute_time->seconds, 1700000000);
    assert_int_equal(first->last_execute_time->seconds, 1700000002);
    assert_int_equal(stats->versions[1]->version, 2);
    assert_int_equal(stats->total->version, 0);
    assert_int_equal(stats->total->execution_count, 4);
    forge__v1__prompt_stats__free_unpacked(stats, NULL);
    when.seconds = 1700000001;
    request.start_time = &when;
    request.end_time = &when;
    service_violates(forge_prompt_get_stats(alpha.admin, NULL, &request, &stats, &service_error), "end_time", "must be after start_time");
    request.start_time = request.end_time = NULL;
    service_fails(forge_prompt_get_stats(beta.admin, NULL, &request, &stats, &service_error), FORGE_NOT_FOUND, "not found");
}

/* Of what was archived only sums are left: they count in a range that holds all of it, and are told where it holds a part. */
static void test_stats_of_archived_executions(void **state)
{
    char id[37], sql[1024];
    Google__Protobuf__Timestamp when = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Forge__V1__GetPromptStatsRequest request = FORGE__V1__GET_PROMPT_STATS_REQUEST__INIT;
    Forge__V1__PromptStats *stats;
    service_prompt_make(alpha.admin, alpha.project_id, "archived", "x", id);
    add_version(id, "y");
    snprintf(sql, sizeof sql,
             "INSERT INTO executions (organization_id, prompt_id, version, executed_at) SELECT organization_id, id, v,"
             " to_timestamp(1700000000 + v) FROM prompts, unnest(ARRAY[1, 1, 2]) v WHERE id = '%s'",
             id);
    service_execute(sql);
    request.prompt_id = id;
    snprintf(sql, sizeof sql,
             "INSERT INTO execution_totals SELECT organization_id, id, 1, 10, 9, ARRAY[1, 0, 0, 0, 0], to_timestamp(1600000000),"
             " to_timestamp(1600000009) FROM prompts WHERE id = '%s'",
             id);
    service_execute(sql);
    service_ok(forge_prompt_get_stats(alpha.admin, NULL, &request, &stats, &service_error));
    assert_int_equal(stats->versions[0]->execution_count, 12);
    assert_int_equal(stats->versions[0]->rating_counts[0], 1);
    assert_int_equal(stats->total->first_execute_time->seconds, 1600000000);
    forge__v1__prompt_stats__free_unpacked(stats, NULL);
    when.seconds = 1700000002;
    request.start_time = &when;
    service_ok(forge_prompt_get_stats(alpha.admin, NULL, &request, &stats, &service_error));
    assert_int_equal(stats->total->execution_count, 1);
    assert_int_equal(stats->total->archived_left_out_count, 0);
    forge__v1__prompt_stats__free_unpacked(stats, NULL);
    when.seconds = 1600000000;
    service_ok(forge_prompt_get_stats(alpha.admin, NULL, &request, &stats, &service_error));
    assert_int_equal(stats->total->execution_count, 13);
    assert_int_equal(stats->total->archived_left_out_count, 0);
    forge__v1__prompt_stats__free_unpacked(stats, NULL);
    when.seconds = 1600000001;
    service_ok(forge_prompt_get_stats(alpha.admin, NULL, &request, &stats, &service_error));
    assert_int_equal(stats->total->execution_count, 3);
    assert_int_equal(stats->total->archived_left_out_count, 10);
    assert_int_equal(stats->versions[0]->archived_left_out_count, 10);
    assert_int_equal(stats->versions[1]->archived_left_out_count, 0);
    forge__v1__prompt_stats__free_unpacked(stats, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_execution_has_its_defaults),
        cmocka_unit_test(test_an_execution_keeps_what_is_given),
        cmocka_unit_test(test_wrong_executions_are_refused),
        cmocka_unit_test(test_a_repeat_adds_no_execution),
        cmocka_unit_test(test_a_batch_keeps_the_good_items),
        cmocka_unit_test(test_a_full_batch_and_its_limits),
        cmocka_unit_test(test_lists_are_filtered_and_paged_newest_first),
        cmocka_unit_test(test_wrong_lists),
        cmocka_unit_test(test_stats_per_version),
        cmocka_unit_test(test_stats_of_archived_executions),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
