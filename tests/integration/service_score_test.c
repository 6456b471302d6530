/* TraceService over TLS: RecordScores, ListScores and DeleteScore. What they cost: score_plans_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 1000, WRITERS = 16, ROUNDS = 5, SHARED = 40, TEXT_SIZE = 8192 };
#define TRACE "0af7651916cd43dd8448eb211c8031"

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

/* ---- requests ---- */

/* A number about a trace. */
static Forge__V1__Score score_about(const char *trace_id, const char *name, double number)
{
    Forge__V1__Score score = FORGE__V1__SCORE__INIT;
    score.target_case = FORGE__V1__SCORE__TARGET_TRACE_ID;
    score.trace_id = TEXT(trace_id);
    score.name = TEXT(name);
    score.value_case = FORGE__V1__SCORE__VALUE_NUMBER;
    score.number = number;
    score.source = FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_CODE;
    score.author = TEXT("judge");
    return score;
}

/* trace: the last two digits of its id. */
static Forge__V1__Score score_of(const char *trace, const char *name, double number)
{
    static char ids[100][33];
    char *id = ids[strtoul(trace, NULL, 10)];
    snprintf(id, sizeof ids[0], TRACE "%s", trace);
    return score_about(id, name, number);
}

static forge_code record_in(struct forge_channel *channel, const char *project_id, const struct forge_call_options *options,
                            Forge__V1__Score *scores, size_t count, Forge__V1__RecordScoresResponse **out, struct forge_error *error)
{
    Forge__V1__RecordScoresRequest request = FORGE__V1__RECORD_SCORES_REQUEST__INIT;
    Forge__V1__Score **list = calloc(count + 1, sizeof(Forge__V1__Score *));
    for (size_t i = 0; i < count; i++)
        list[i] = &scores[i];
    request.project_id = TEXT(project_id);
    request.n_scores = count;
    request.scores = list;
    forge_code code = forge_trace_record_scores(channel, options, &request, out, error);
    free(list);
    return code;
}

/* The verdicts of a call that is answered, as one letter each: accepted, duplicate, rejected; kept until the next call. */
static const char *record(Forge__V1__Score *scores, size_t count)
{
    static char letters[BATCH + 1];
    Forge__V1__RecordScoresResponse *reply;
    service_ok(record_in(alpha.admin, alpha.project_id, NULL, scores, count, &reply, &service_error));
    assert_int_equal(reply->n_results, count);
    for (size_t i = 0; i < count; i++) {
        letters[i] = " adr"[reply->results[i]->verdict->outcome];
        assert_int_equal(strlen(reply->results[i]->score_id), letters[i] == 'r' ? 0 : 36);
    }
    letters[count] = '\0';
    forge__v1__record_scores_response__free_unpacked(reply, NULL);
    return letters;
}

/* A score of which one field is wrong. */
static void expect_wrong(Forge__V1__Score score, const char *field, const char *part)
{
    Forge__V1__RecordScoresResponse *reply;
    service_ok(record_in(alpha.admin, alpha.project_id, NULL, &score, 1, &reply, &service_error));
    const Forge__V1__ItemVerdict *verdict = reply->results[0]->verdict;
    assert_int_equal(verdict->outcome, FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED);
    assert_int_equal(verdict->code, FORGE__V1__CODE__CODE_INVALID_ARGUMENT);
    assert_false(verdict->retryable);
    assert_int_equal(verdict->n_field_violations, 1);
    assert_string_equal(verdict->field_violations[0]->field, field);
    if (strstr(verdict->field_violations[0]->description, part) == NULL)
        fail_msg("%s: %s", field, verdict->field_violations[0]->description);
    assert_string_equal(reply->results[0]->score_id, "");
    forge__v1__record_scores_response__free_unpacked(reply, NULL);
}

static Forge__V1__ListScoresRequest of_trace(char id[33], const char *trace)
{
    Forge__V1__ListScoresRequest request = FORGE__V1__LIST_SCORES_REQUEST__INIT;
    snprintf(id, 33, TRACE "%s", trace);
    request.project_id = alpha.project_id;
    request.target_case = FORGE__V1__LIST_SCORES_REQUEST__TARGET_TRACE_ID;
    request.trace_id = id;
    return request;
}

/* Scores as "name=number", earlier values in brackets, page by page with bars between; kept until the next call. */
static const char *list(Forge__V1__ListScoresRequest request)
{
    static char text[TEXT_SIZE], token[1024];
    size_t length = 0;
    text[0] = token[0] = '\0';
    do {
        Forge__V1__ListScoresResponse *reply;
        request.page_token = token;
        service_ok(forge_trace_list_scores(alpha.admin, NULL, &request, &reply, &service_error));
        length += (size_t)snprintf(text + length, sizeof text - length, "%s", length > 0 ? " |" : "");
        for (size_t i = 0; i < reply->n_scores; i++) {
            const Forge__V1__Score *score = reply->scores[i];
            double number = score->value_case == FORGE__V1__SCORE__VALUE_NUMBER ? score->number : NAN;
            length += (size_t)snprintf(text + length, sizeof text - length, score->replaced ? "%s(%s=%g)" : "%s%s=%g",
                                       length > 0 ? " " : "", score->name, number);
        }
        snprintf(token, sizeof token, "%s", reply->next_page_token);
        forge__v1__list_scores_response__free_unpacked(reply, NULL);
        assert_in_range(length, 0, sizeof text - 1);
    } while (token[0] != '\0');
    return text;
}

static const char *list_trace(const char *trace, bool show_history)
{
    char id[33];
    Forge__V1__ListScoresRequest request = of_trace(id, trace);
    request.show_history = show_history;
    return list(request);
}

/* ---- what is stored ---- */

static void test_every_target_and_value(void **state)
{
    (void)state;
    char prompt_id[37], execution_id[24];
    service_prompt_make(alpha.admin, alpha.project_id, "scored", "x", prompt_id);
    service_ok(service_call(alpha.admin, "PromptService/RecordExecution", NULL, "{'prompt_id': '%s'}", prompt_id));
    service_reply_text("id", execution_id, sizeof execution_id);
    service_ok(service_call(alpha.admin, "TraceService/RecordScores", NULL,
                            "{'project_id': '%s', 'scores': ["
                            "{'trace_id': '0AF7651916CD43DD8448EB211C803101', 'name': 'quality', 'number': -0.25, 'source':"
                            " 'SCORE_SOURCE_HUMAN', 'author': 'someone', 'comment': 'why'},"
                            "{'span': {'trace_id': '0af7651916cd43dd8448eb211c803101', 'span_id': 'B7AD6B7169203331'}, 'name': 'tone',"
                            " 'category': 'polite', 'source': 'SCORE_SOURCE_MODEL'},"
                            "{'session_id': 'talk|1', 'name': 'solved', 'boolean': false, 'source': 'SCORE_SOURCE_CODE'},"
                            "{'execution_id': '%s', 'name': 'note', 'text': 'said', 'source': 'SCORE_SOURCE_HUMAN'}]}",
                            alpha.project_id, execution_id));
    service_shows("ACCEPTED", "'score_id':", "ACCEPTED", "ACCEPTED", "ACCEPTED");
    service_ok(service_call(alpha.admin, "TraceService/ListScores", NULL,
                            "{'project_id': '%s', 'trace_id': '0AF7651916CD43DD8448EB211C803101'}", alpha.project_id));
    service_shows("'id':'", "'project_id':'", alpha.project_id, "'trace_id':'0af7651916cd43dd8448eb211c803101'", "'name':'quality'",
                  "'number':-0.25", "'source':'SCORE_SOURCE_HUMAN'", "'author':'someone'", "'comment':'why'", "'create_time':'");
    assert_null(strstr(service_reply(), "tone")); /* of a span of it */
    assert_null(strstr(service_reply(), "update_time"));
    service_ok(service_call(alpha.admin, "TraceService/ListScores", NULL,
                            "{'project_id': '%s', 'span': {'trace_id': '0af7651916cd43dd8448eb211c803101', 'span_id': 'b7ad6b7169203331'}}",
                            alpha.project_id));
    service_shows("'span':{'trace_id':'0af7651916cd43dd8448eb211c803101','span_id':'b7ad6b7169203331'}", "'category':'polite'",
                  "'source':'SCORE_SOURCE_MODEL'", "'author':'");
    service_ok(
        service_call(alpha.admin, "TraceService/ListScores", NULL, "{'project_id': '%s', 'session_id': 'talk|1'}", alpha.project_id));
    service_shows("'session_id':'talk|1'", "'boolean':false", "'source':'SCORE_SOURCE_CODE'");
    service_ok(service_call(alpha.admin, "TraceService/ListScores", NULL, "{'project_id': '%s', 'execution_id': '%s'}", alpha.project_id,
                            execution_id));
    service_shows("'execution_id':'", execution_id, "'text':'said'");
    /* Who gives no author is the author. */
    assert_string_equal(
        service_query("SELECT count(*) FROM scores s JOIN users u ON u.id::text = s.author WHERE s.name IN ('tone', 'solved')"), "2");
}

static void test_a_value_replaces_the_one_before(void **state)
{
    (void)state;
    char id[33];
    Forge__V1__Score score = score_of("02", "quality", 1);
    Forge__V1__ListScoresRequest request = of_trace(id, "02");
    Forge__V1__ListScoresResponse *reply;
    assert_string_equal(record(&score, 1), "a");
    assert_string_equal(record(&score, 1), "d"); /* the same again */
    score.number = 2;
    assert_string_equal(record(&score, 1), "a");
    score.comment = TEXT("because"); /* a reason is part of what was said */
    assert_string_equal(record(&score, 1), "a");
    score.source = FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_HUMAN;
    assert_string_equal(record(&score, 1), "a");
    assert_string_equal(record(&score, 1), "d");
    score.value_case = FORGE__V1__SCORE__VALUE_BOOLEAN; /* another kind of value */
    score.boolean = true;
    assert_string_equal(record(&score, 1), "a");
    assert_string_equal(list_trace("02", false), "quality=nan");
    request.show_history = true;
    service_ok(forge_trace_list_scores(alpha.admin, NULL, &request, &reply, &service_error));
    assert_int_equal(reply->n_scores, 5);
    assert_int_equal(reply->scores[0]->value_case, FORGE__V1__SCORE__VALUE_BOOLEAN);
    assert_int_equal(reply->scores[1]->source, FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_HUMAN);
    assert_string_equal(reply->scores[2]->comment, "because");
    assert_int_equal(reply->scores[2]->source, FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_CODE);
    assert_string_equal(reply->scores[3]->comment, "");
    assert_true(reply->scores[4]->number == 1 && reply->scores[3]->number == 2);
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(reply->scores[i]->id, reply->scores[0]->id);
        assert_int_equal(reply->scores[i]->replaced, i > 0);
        assert_int_equal(reply->scores[i]->create_time->seconds, reply->scores[0]->create_time->seconds);
        assert_int_equal(reply->scores[i]->update_time == NULL, i == 4);
    }
    forge__v1__list_scores_response__free_unpacked(reply, NULL);
    /* Each value lasts until the next. */
    assert_string_equal(
        service_query("SELECT bool_and(h.replaced_at = COALESCE((SELECT min(n.changed_at) FROM score_history n WHERE n.score_id ="
                      " h.score_id AND n.changed_at > h.changed_at), s.changed_at) AND h.replaced_at > h.changed_at) FROM"
                      " score_history h JOIN scores s ON s.id = h.score_id"),
        "t");
}

static void test_several_of_one_identity_in_a_batch(void **state)
{
    (void)state;
    Forge__V1__Score scores[] = {score_of("03", "a", 1), score_of("03", "b", 7), score_of("03", "a", 1), score_of("03", "a", 2),
                                 score_of("03", "a", 3), score_of("03", "a", 3), score_of("03", "a", 1)};
    assert_string_equal(record(scores, 7), "aadaada");
    assert_string_equal(list_trace("03", false), "a=1 b=7");
    assert_string_equal(list_trace("03", true), "a=1 (a=3) (a=2) b=7 (a=1)");
    /* What is there is the first that they are compared with. */
    assert_string_equal(record(scores, 7), "dddaada");
    assert_string_equal(list_trace("03", true), "a=1 (a=3) (a=2) (a=1) (a=3) (a=2) b=7 (a=1)");
    assert_string_equal(record(&scores[3], 3), "aad");
    assert_string_equal(list_trace("03", true), "a=3 (a=2) (a=1) (a=3) (a=2) (a=1) (a=3) (a=2) b=7 (a=1)");
    assert_string_equal(service_query("SELECT bool_and(changed_at < replaced_at) FROM score_history"), "t");
}

/* A server whose clock is behind does not write a value before the one it replaces. */
static void test_times_of_a_score_rise(void **state)
{
    (void)state;
    Forge__V1__Score score = score_of("04", "a", 1);
    assert_string_equal(record(&score, 1), "a");
    service_execute("UPDATE scores SET created_at = '2100-01-01', changed_at = '2100-01-01' WHERE target = '" TRACE "04'");
    score.number = 2;
    assert_string_equal(record(&score, 1), "a");
    assert_string_equal(list_trace("04", true), "a=2 (a=1)");
    assert_string_equal(service_query("SELECT (changed_at - timestamptz '2100-01-01')::text FROM scores WHERE target = '" TRACE "04'"),
                        "00:00:00.000001");
    service_execute("DELETE FROM scores WHERE target = '" TRACE "04'");
}

/* ---- refused ---- */

static void test_each_field_is_checked(void **state)
{
    (void)state;
    Forge__V1__SpanReference span = FORGE__V1__SPAN_REFERENCE__INIT;
    const Forge__V1__Score good = score_of("05", "a", 1);
    Forge__V1__Score bad = good;
    bad.target_case = FORGE__V1__SCORE__TARGET__NOT_SET;
    expect_wrong(bad, "trace_id", "exactly one of");
    bad = good;
    bad.trace_id = TEXT("");
    expect_wrong(bad, "trace_id", "is required");
    bad.trace_id = TEXT("0af7651916cd43dd8448eb211c80310g");
    expect_wrong(bad, "trace_id", "32 hexadecimal digits");
    bad.trace_id = TEXT("00000000000000000000000000000000");
    expect_wrong(bad, "trace_id", "not all zero");
    bad.target_case = FORGE__V1__SCORE__TARGET_SPAN;
    bad.span = &span;
    span.trace_id = good.trace_id;
    span.span_id = TEXT("b7ad6b716920333");
    expect_wrong(bad, "span.span_id", "16 hexadecimal digits");
    span.trace_id = TEXT("x");
    span.span_id = TEXT("b7ad6b7169203331");
    expect_wrong(bad, "span.trace_id", "32 hexadecimal digits");
    bad.target_case = FORGE__V1__SCORE__TARGET_SESSION_ID;
    bad.session_id = TEXT("");
    expect_wrong(bad, "session_id", "is required");
    bad.session_id = service_repeat("s", 256);
    expect_wrong(bad, "session_id", "at most 255 characters");
    bad.target_case = FORGE__V1__SCORE__TARGET_EXECUTION_ID;
    bad.execution_id = 0;
    expect_wrong(bad, "execution_id", "1 or more");
    bad = good;
    bad.name = TEXT("");
    expect_wrong(bad, "name", "1 to 100 printable");
    bad.name = service_repeat("n", 101);
    expect_wrong(bad, "name", "1 to 100 printable");
    bad = good;
    bad.author = TEXT("a\nb");
    expect_wrong(bad, "author", "printable");
    bad = good;
    bad.comment = service_repeat("c", 16385);
    expect_wrong(bad, "comment", "16384 characters");
    bad = good;
    bad.source = FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_UNSPECIFIED;
    expect_wrong(bad, "source", "is required");
    assert_string_equal(list_trace("05", true), "");
}

static void test_each_value_is_checked(void **state)
{
    (void)state;
    Forge__V1__Score bad = score_of("06", "a", NAN);
    expect_wrong(bad, "number", "finite");
    bad.number = INFINITY;
    expect_wrong(bad, "number", "finite");
    bad.value_case = FORGE__V1__SCORE__VALUE__NOT_SET;
    expect_wrong(bad, "number", "exactly one of");
    bad.value_case = FORGE__V1__SCORE__VALUE_CATEGORY;
    bad.category = TEXT("");
    expect_wrong(bad, "category", "1 to 100 printable");
    bad.value_case = FORGE__V1__SCORE__VALUE_TEXT;
    bad.text = service_repeat("t", 16385);
    expect_wrong(bad, "text", "16384 characters");
    assert_string_equal(list_trace("06", true), "");
}

static void test_one_bad_score_of_a_thousand(void **state)
{
    (void)state;
    static Forge__V1__Score scores[BATCH + 1];
    static char names[BATCH + 1][16];
    Forge__V1__RecordScoresResponse *reply;
    for (int i = 0; i <= BATCH; i++) {
        snprintf(names[i], sizeof names[i], "n%d", i);
        scores[i] = score_of("07", names[i], i);
    }
    scores[500].name = TEXT("");
    service_ok(record_in(alpha.admin, alpha.project_id, NULL, scores, BATCH, &reply, &service_error));
    for (size_t i = 0; i < BATCH; i++)
        assert_int_equal(reply->results[i]->verdict->outcome,
                         i == 500 ? FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED : FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED);
    forge__v1__record_scores_response__free_unpacked(reply, NULL);
    assert_string_equal(service_query("SELECT count(*) FROM scores WHERE target = '" TRACE "07' AND 'n' || number = name"), "999");
    service_violates(record_in(alpha.admin, alpha.project_id, NULL, scores, BATCH + 1, &reply, &service_error), "scores",
                     "must be 1 to 1000");
    service_violates(record_in(alpha.admin, "x", NULL, scores, 0, &reply, &service_error), "project_id", "must be a UUID", "scores",
                     "must be 1 to 1000");
}

static void test_executions_must_exist(void **state)
{
    (void)state;
    char prompt_id[37], foreign_id[24], gone_id[24], sql[256];
    service_prompt_make(beta.admin, beta.project_id, "scored", "x", prompt_id);
    service_ok(service_call(beta.admin, "PromptService/RecordExecution", NULL, "{'prompt_id': '%s'}", prompt_id));
    service_reply_text("id", foreign_id, sizeof foreign_id);
    service_prompt_make(alpha.admin, alpha.project_id, "archived", "x", prompt_id);
    service_ok(service_call(alpha.admin, "PromptService/RecordExecution", NULL, "{'prompt_id': '%s'}", prompt_id));
    service_reply_text("id", gone_id, sizeof gone_id);
    static const char request[] =
        "{'project_id': '%s', 'scores': [{'execution_id': '%s', 'name': 'a', 'number': 1, 'source':"
        " 'SCORE_SOURCE_CODE'}, {'execution_id': '%s', 'name': 'a', 'number': 2, 'source': 'SCORE_SOURCE_CODE'}]}";
    service_ok(service_call(alpha.admin, "TraceService/RecordScores", NULL, request, alpha.project_id, gone_id, foreign_id));
    service_shows("ACCEPTED", "score_id", "REJECTED", "'code':'CODE_NOT_FOUND'", "'message':'execution ", foreign_id, " not found'");
    /* As an archive leaves it: a sum and no row. What was said of it stays, and takes nothing new. */
    snprintf(sql, sizeof sql, "DELETE FROM executions WHERE id = %s", gone_id);
    service_execute(sql);
    service_ok(service_call(alpha.admin, "TraceService/RecordScores", NULL, request, alpha.project_id, gone_id, gone_id));
    service_shows("REJECTED", "CODE_NOT_FOUND", "REJECTED", "CODE_NOT_FOUND");
    service_ok(service_call(alpha.admin, "TraceService/ListScores", NULL, "{'project_id': '%s', 'execution_id': '%s'}", alpha.project_id,
                            gone_id));
    service_shows("'number':1");
}

static void test_who_may_and_where(void **state)
{
    (void)state;
    char deleted[37] = "01890000-0000-7000-8000-0000000000dd", sql[256];
    Forge__V1__Score score = score_of("08", "a", 1), bad = score_of("08", "", 1);
    Forge__V1__RecordScoresResponse *reply;
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_INGEST, alpha.project_id),
                         *reader = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL);
    service_fails(record_in(beta.admin, alpha.project_id, NULL, &score, 1, &reply, &service_error), FORGE_NOT_FOUND, "project");
    service_fails(record_in(beta.admin, alpha.project_id, NULL, &bad, 1, &reply, &service_error), FORGE_NOT_FOUND, "project");
    service_fails(record_in(reader, alpha.project_id, NULL, &score, 1, &reply, &service_error), FORGE_PERMISSION_DENIED, "developer");
    service_fails(record_in(bound, beta.project_id, NULL, &score, 1, &reply, &service_error), FORGE_PERMISSION_DENIED,
                  "bound to another project");
    service_violates(record_in(alpha.admin, "", NULL, &score, 1, &reply, &service_error), "project_id", "is required");
    snprintf(sql, sizeof sql, "INSERT INTO projects (organization_id, id, name, deleted_at) VALUES ('%s', '%s', 'gone', now())",
             alpha.organization_id, deleted);
    service_execute(sql);
    service_fails(record_in(alpha.admin, deleted, NULL, &score, 1, &reply, &service_error), FORGE_NOT_FOUND, "not found");
    assert_string_equal(service_query("SELECT count(*) FROM scores WHERE target = '" TRACE "08'"), "0");
    service_ok(record_in(bound, "", NULL, &score, 1, &reply, &service_error));
    forge__v1__record_scores_response__free_unpacked(reply, NULL);
    assert_string_equal(list_trace("08", false), "a=1");
    service_fails(service_call(bound, "TraceService/ListScores", NULL, "{'project_id': '%s'}", alpha.project_id), FORGE_PERMISSION_DENIED,
                  "viewer");
    service_fails(service_call(beta.admin, "TraceService/ListScores", NULL, "{'project_id': '%s'}", alpha.project_id), FORGE_NOT_FOUND,
                  "project");
    service_ok(service_call(reader, "TraceService/ListScores", NULL, "{'project_id': '%s'}", alpha.project_id));
}

/* ---- repeats ---- */

static void test_a_repeated_request_gets_the_stored_reply(void **state)
{
    (void)state;
    const struct forge_call_options options = {.request_id = service_request_id()};
    Forge__V1__Score score = score_of("09", "a", 1), other = score_of("09", "a", 2);
    Forge__V1__RecordScoresResponse *first, *again;
    service_ok(record_in(alpha.admin, alpha.project_id, &options, &score, 1, &first, &service_error));
    assert_string_equal(record(&other, 1), "a");
    service_ok(record_in(alpha.admin, alpha.project_id, &options, &score, 1, &again, &service_error));
    assert_int_equal(again->results[0]->verdict->outcome, FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED);
    assert_string_equal(again->results[0]->score_id, first->results[0]->score_id);
    forge__v1__record_scores_response__free_unpacked(first, NULL);
    forge__v1__record_scores_response__free_unpacked(again, NULL);
    assert_string_equal(list_trace("09", true), "a=2 (a=1)");
}

/* ---- lists ---- */

static void test_filters_and_their_order(void **state)
{
    (void)state;
    Forge__V1__ListScoresRequest request = FORGE__V1__LIST_SCORES_REQUEST__INIT;
    Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT, later = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    service_execute("DELETE FROM scores");
    Forge__V1__Score scores[] = {score_of("10", "a", 1), score_of("10", "b", 2), score_of("11", "a", 3), score_of("11", "b", 4)};
    scores[1].author = scores[2].author = TEXT("critic");
    scores[3].source = FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_HUMAN;
    for (int i = 0; i < 4; i++)
        assert_string_equal(record(&scores[i], 1), "a");
    scores[0].number = 5; /* now the newest */
    assert_string_equal(record(scores, 1), "a");
    request.project_id = alpha.project_id;
    assert_string_equal(list(request), "a=5 b=4 a=3 b=2");
    request.show_history = true;
    assert_string_equal(list(request), "a=5 b=4 a=3 b=2 (a=1)");
    request.page_size = 2;
    assert_string_equal(list(request), "a=5 b=4 | a=3 b=2 | (a=1)");
    request.name = TEXT("a");
    assert_string_equal(list(request), "a=5 a=3 | (a=1)");
    request.author = TEXT("judge");
    assert_string_equal(list(request), "a=5 (a=1)");
    request.name = TEXT("");
    request.page_size = 0;
    assert_string_equal(list(request), "a=5 b=4 (a=1)");
    request.source = FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_HUMAN;
    assert_string_equal(list(request), "b=4");
    request.author = TEXT("");
    assert_string_equal(list(request), "b=4");
    request.source = FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_CODE;
    assert_string_equal(list(request), "a=5 a=3 b=2 (a=1)");
    request.source = FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_UNSPECIFIED;
    service_execute("UPDATE scores SET changed_at = timestamptz '2026-01-01 00:00:00+00' + number * interval '1 second'");
    service_execute("UPDATE score_history SET changed_at = '2026-01-01 00:00:01+00'");
    time.seconds = 1767225602; /* 2026-01-01 00:00:02 */
    request.start_time = &time;
    assert_string_equal(list(request), "a=5 b=4 a=3 b=2");
    later.seconds = time.seconds + 2;
    request.end_time = &later;
    assert_string_equal(list(request), "a=3 b=2");
    request.name = TEXT("b");
    assert_string_equal(list(request), "b=2");
}

static void test_wrong_lists_are_refused(void **state)
{
    (void)state;
    service_violates(service_call(alpha.admin, "TraceService/ListScores", NULL,
                                  "{'project_id': 'x', 'trace_id': 'y', 'name': '%s', 'author': '%s', 'page_size': -1,"
                                  " 'start_time': '2026-01-02T00:00:00Z', 'end_time': '2026-01-01T00:00:00Z'}",
                                  service_repeat("n", 101), service_repeat("a", 256)),
                     "project_id", "UUID", "trace_id", "hexadecimal", "name", "1 to 100", "author", "at most 255", "end_time",
                     "after start_time", "page_size", "negative");
    service_violates(
        service_call(alpha.admin, "TraceService/ListScores", NULL, "{'project_id': '%s', 'execution_id': '-1'}", alpha.project_id),
        "execution_id", "1 or more");
    service_fails(service_call(alpha.admin, "TraceService/ListScores", NULL, "{'project_id': '%s'}", nobody_has), FORGE_NOT_FOUND,
                  "project 01890000-0000-7000-8000-000000000000 not found");
}

static void test_a_page_token_belongs_to_its_filter(void **state)
{
    (void)state;
    char token[1024];
    Forge__V1__Score scores[] = {score_of("12", "a", 1), score_of("12", "b", 2)};
    assert_string_equal(record(scores, 2), "aa");
    service_ok(service_call(alpha.admin, "TraceService/ListScores", NULL, "{'project_id': '%s', 'author': 'judge', 'page_size': 1}",
                            alpha.project_id));
    service_reply_text("next_page_token", token, sizeof token);
    assert_string_not_equal(token, "");
    service_ok(service_call(alpha.admin, "TraceService/ListScores", NULL,
                            "{'project_id': '%s', 'author': 'judge', 'page_size': 5, 'page_token': '%s'}", alpha.project_id, token));
    service_violates(service_call(alpha.admin, "TraceService/ListScores", NULL,
                                  "{'project_id': '%s', 'author': 'judge', 'show_history': true, 'page_token': '%s'}", alpha.project_id,
                                  token),
                     "page_token", "another query");
    service_violates(service_call(alpha.admin, "TraceService/ListScores", NULL, "{'project_id': '%s', 'name': 'judge', 'page_token': '%s'}",
                                  alpha.project_id, token),
                     "page_token", "another query");
}

/* Pages are cut where their texts would not fit a reply. */
static void test_long_texts_cut_pages(void **state)
{
    (void)state;
    static Forge__V1__Score scores[45];
    static char names[45][16];
    /* The server's limit of 4 MiB, and one of the caller: 31 and two of 131 kB a page. */
    static const struct {
        uint32_t reply_bytes_max;
        size_t pages;
    } cases[] = {{0, 2}, {300000, 23}};
    char id[33];
    Forge__V1__ListScoresRequest request = of_trace(id, "13");
    for (int i = 0; i < 45; i++) {
        snprintf(names[i], sizeof names[i], "n%02d", i);
        scores[i] = score_of("13", names[i], 0);
        scores[i].value_case = FORGE__V1__SCORE__VALUE_TEXT;
        scores[i].text = scores[i].comment = service_repeat("\xF0\x9F\x99\x82", 16384); /* 4 bytes each */
    }
    assert_string_equal(record(scores, 15), "aaaaaaaaaaaaaaa");
    assert_string_equal(record(scores + 15, 15), "aaaaaaaaaaaaaaa");
    assert_string_equal(record(scores + 30, 15), "aaaaaaaaaaaaaaa");
    request.page_size = 1000;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct forge_call_options options = {.reply_bytes_max = cases[i].reply_bytes_max};
        Forge__V1__ListScoresResponse *reply;
        size_t found = 0, pages = 0;
        char token[1024] = "";
        do {
            request.page_token = token;
            service_ok(forge_trace_list_scores(alpha.admin, &options, &request, &reply, &service_error));
            found += reply->n_scores;
            pages++;
            snprintf(token, sizeof token, "%s", reply->next_page_token);
            forge__v1__list_scores_response__free_unpacked(reply, NULL);
        } while (token[0] != '\0');
        assert_int_equal(found, 45);
        assert_int_equal(pages, cases[i].pages);
    }
    service_execute("DELETE FROM scores WHERE target = '" TRACE "13'");
}

/* ---- deletion ---- */

static void score_id_of(const char *trace, char out_id[37])
{
    service_ok(service_call(alpha.admin, "TraceService/ListScores", NULL, "{'project_id': '%s', 'trace_id': '" TRACE "%s'}",
                            alpha.project_id, trace));
    service_reply_text("id", out_id, 37);
}

static void test_a_score_is_deleted_with_its_history(void **state)
{
    (void)state;
    char id[37];
    const char *request_id = service_request_id();
    struct forge_channel *elsewhere = service_key_channel(&beta, FORGE__V1__SCOPE__SCOPE_WRITE, beta.project_id);
    Forge__V1__Score score = score_of("14", "a", 1);
    assert_string_equal(record(&score, 1), "a");
    score.number = 2;
    assert_string_equal(record(&score, 1), "a");
    score_id_of("14", id);
    service_fails(service_call(beta.admin, "TraceService/DeleteScore", NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "score");
    service_fails(service_call(elsewhere, "TraceService/DeleteScore", NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "score");
    service_violates(service_call(alpha.admin, "TraceService/DeleteScore", NULL, "{}"), "id", "is required");
    service_fails(service_call(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_INGEST, NULL), "TraceService/DeleteScore", NULL,
                               "{'id': '%s'}", id),
                  FORGE_PERMISSION_DENIED, "developer");
    assert_string_equal(list_trace("14", true), "a=2 (a=1)");
    service_ok(service_call(alpha.admin, "TraceService/DeleteScore", request_id, "{'id': '%s'}", id));
    assert_false(service_reply_is_stored());
    service_ok(service_call(alpha.admin, "TraceService/DeleteScore", request_id, "{'id': '%s'}", id));
    assert_true(service_reply_is_stored());
    service_fails(service_call(alpha.admin, "TraceService/DeleteScore", NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, id);
    assert_string_equal(list_trace("14", true), "");
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM score_history WHERE score_id = '%s'", id);
    assert_string_equal(service_query(sql), "0");
    assert_string_equal(record(&score, 1), "a"); /* a new one */
    assert_string_equal(list_trace("14", true), "a=2");
}

/* ---- together ---- */

struct writer {
    pthread_t thread;
    pthread_barrier_t *barrier;
    struct forge_channel *channel;
    unsigned number;
    unsigned accepted, other;
};

static void count_verdicts(struct writer *writer, forge_code rc, Forge__V1__RecordScoresResponse *reply, struct forge_error *error)
{
    if (rc != FORGE_OK) {
        fprintf(stderr, "%s: %s\n", forge_code_name(rc), error->message);
        forge_error_free(error);
        writer->other++;
        return;
    }
    for (size_t i = 0; i < reply->n_results; i++) {
        bool is_accepted = reply->results[i]->verdict->outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED;
        writer->accepted += is_accepted;
        writer->other += !is_accepted;
    }
    forge__v1__record_scores_response__free_unpacked(reply, NULL);
}

/* One score, each time with a value that nobody else gives. */
static void *write_one(void *argument)
{
    struct writer *writer = argument;
    for (unsigned round = 0; round < ROUNDS; round++) {
        Forge__V1__Score score = score_about(TRACE "20", "a", writer->number * ROUNDS + round);
        Forge__V1__RecordScoresResponse *reply = NULL;
        struct forge_error error = {0};
        pthread_barrier_wait(writer->barrier);
        forge_code rc = record_in(writer->channel, alpha.project_id, NULL, &score, 1, &reply, &error);
        count_verdicts(writer, rc, reply, &error);
    }
    return NULL;
}

/* The same scores, each from another one on; values that nobody else gives. */
static void *write_shared(void *argument)
{
    struct writer *writer = argument;
    for (unsigned round = 0; round < ROUNDS; round++) {
        Forge__V1__Score scores[SHARED];
        char names[SHARED][16];
        Forge__V1__RecordScoresResponse *reply = NULL;
        struct forge_error error = {0};
        for (unsigned i = 0; i < SHARED; i++) {
            snprintf(names[i], sizeof names[i], "n%02u", (i + 5 * writer->number) % SHARED);
            scores[i] = score_about(TRACE "21", names[i], writer->number * ROUNDS + round);
        }
        pthread_barrier_wait(writer->barrier);
        forge_code rc = record_in(writer->channel, alpha.project_id, NULL, scores, SHARED, &reply, &error);
        count_verdicts(writer, rc, reply, &error);
    }
    return NULL;
}

static void write_together(void *(*write)(void *argument), unsigned expected)
{
    static struct forge_channel *channels[WRITERS];
    struct writer writers[WRITERS];
    pthread_barrier_t barrier;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, WRITERS), 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        channels[i] = channels[i] != NULL ? channels[i] : service_channel(alpha.token);
        writers[i] = (struct writer){.barrier = &barrier, .channel = channels[i], .number = i};
    }
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write, &writers[i]), 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        assert_int_equal(writers[i].other, 0);
        assert_int_equal(writers[i].accepted, expected);
    }
    pthread_barrier_destroy(&barrier);
}

/* One row, and every other value in its history, each until the next one. */
static void expect_complete(const char *trace, int scores)
{
    char sql[1024], expected[64];
    snprintf(
        sql, sizeof sql,
        "SELECT concat_ws(',', count(DISTINCT score_id), count(*), count(DISTINCT (score_id, number)), bool_and(is_seamless)) FROM (SELECT"
        " v.score_id, v.number, v.replaced_at IS NOT DISTINCT FROM lead(v.changed_at) OVER (PARTITION BY v.score_id ORDER BY"
        " v.changed_at) AS is_seamless FROM (SELECT s.id AS score_id, s.number, s.changed_at, NULL::timestamptz AS replaced_at FROM"
        " scores s WHERE s.target = '" TRACE "%s' UNION ALL SELECT h.score_id, h.number, h.changed_at, h.replaced_at FROM score_history h"
        " JOIN scores s ON s.id = h.score_id WHERE s.target = '" TRACE "%s') v) w",
        trace, trace);
    snprintf(expected, sizeof expected, "%d,%d,%d,t", scores, scores * WRITERS * ROUNDS, scores * WRITERS * ROUNDS);
    assert_string_equal(service_query(sql), expected);
}

static void test_sixteen_writers_of_one_score(void **state)
{
    (void)state;
    write_together(write_one, ROUNDS);
    expect_complete("20", 1);
}

static void test_sixteen_writers_of_the_same_scores(void **state)
{
    (void)state;
    write_together(write_shared, ROUNDS * SHARED);
    expect_complete("21", SHARED);
}

static void *delete_main(void *argument)
{
    struct forge_error error = {0};
    Forge__V1__DeleteScoreRequest request = FORGE__V1__DELETE_SCORE_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    request.id = argument;
    forge_code rc = forge_trace_delete_score(alpha.admin, NULL, &request, &empty, &error);
    if (rc == FORGE_OK)
        google__protobuf__empty__free_unpacked(empty, NULL);
    forge_error_free(&error);
    return (void *)(uintptr_t)rc;
}

static void *replace_main(void *argument)
{
    Forge__V1__RecordScoresResponse **reply = argument;
    struct forge_error error = {0};
    Forge__V1__Score scores[] = {score_about(TRACE "22", "a", 2), score_about(TRACE "22", "b", 2), score_about(TRACE "22", "a", 3)};
    forge_code rc = record_in(alpha.admin, alpha.project_id, NULL, scores, 3, reply, &error);
    forge_error_free(&error);
    return (void *)(uintptr_t)rc;
}

/* Both wait for the row; the one who deletes came first. */
static void test_a_score_that_is_deleted_meanwhile(void **state)
{
    (void)state;
    char id[37];
    pthread_t deleter, replacer;
    void *deleted, *replaced;
    Forge__V1__RecordScoresResponse *reply = NULL;
    Forge__V1__Score score = score_of("22", "a", 1);
    assert_string_equal(record(&score, 1), "a");
    score_id_of("22", id);
    struct service_lock *lock = service_lock_take("SELECT id FROM scores WHERE target = '" TRACE "22' FOR UPDATE");
    assert_int_equal(pthread_create(&deleter, NULL, delete_main, id), 0);
    service_lock_wait(lock, 1);
    assert_int_equal(pthread_create(&replacer, NULL, replace_main, &reply), 0);
    service_lock_wait(lock, 2);
    service_lock_release(lock);
    pthread_join(deleter, &deleted);
    pthread_join(replacer, &replaced);
    assert_int_equal((uintptr_t)deleted, FORGE_OK);
    assert_int_equal((uintptr_t)replaced, FORGE_OK);
    for (size_t i = 0; i < 3; i++) {
        const Forge__V1__ItemVerdict *verdict = reply->results[i]->verdict;
        assert_int_equal(verdict->code, i == 1 ? FORGE__V1__CODE__CODE_OK : FORGE__V1__CODE__CODE_ABORTED);
        assert_int_equal(verdict->retryable, i != 1);
    }
    forge__v1__record_scores_response__free_unpacked(reply, NULL);
    assert_string_equal(list_trace("22", true), "b=2");
}

static void test_usage_is_counted(void **state)
{
    (void)state;
    const struct timespec pause = {.tv_nsec = 50000000};
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT COALESCE(sum(value), 0) FROM usage_daily WHERE metric = 'scores' AND project_id = '%s'",
             beta.project_id);
    Forge__V1__Score scores[] = {score_of("30", "a", 1), score_of("30", "a", 1), score_of("30", "a", 2), score_of("30", "", 1)};
    Forge__V1__RecordScoresResponse *reply;
    service_ok(record_in(beta.admin, beta.project_id, NULL, scores, 4, &reply, &service_error));
    forge__v1__record_scores_response__free_unpacked(reply, NULL);
    for (int i = 0; i < 600 && strcmp(service_query(sql), "0") == 0; i++)
        nanosleep(&pause, NULL);
    assert_string_equal(service_query(sql), "2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_target_and_value),
        cmocka_unit_test(test_a_value_replaces_the_one_before),
        cmocka_unit_test(test_several_of_one_identity_in_a_batch),
        cmocka_unit_test(test_times_of_a_score_rise),
        cmocka_unit_test(test_each_field_is_checked),
        cmocka_unit_test(test_each_value_is_checked),
        cmocka_unit_test(test_one_bad_score_of_a_thousand),
        cmocka_unit_test(test_executions_must_exist),
        cmocka_unit_test(test_who_may_and_where),
        cmocka_unit_test(test_a_repeated_request_gets_the_stored_reply),
        cmocka_unit_test(test_filters_and_their_order),
        cmocka_unit_test(test_wrong_lists_are_refused),
        cmocka_unit_test(test_a_page_token_belongs_to_its_filter),
        cmocka_unit_test(test_long_texts_cut_pages),
        cmocka_unit_test(test_a_score_is_deleted_with_its_history),
        cmocka_unit_test(test_sixteen_writers_of_one_score),
        cmocka_unit_test(test_sixteen_writers_of_the_same_scores),
        cmocka_unit_test(test_a_score_that_is_deleted_meanwhile),
        cmocka_unit_test(test_usage_is_counted),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
