/* OrganizationService over TLS: GetUsage, and what is counted: calls, prompt reads, executions, the last use of keys and accounts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"
#include "wire/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WRITTEN_WITHIN_MS = 20000, STEP_US = 100000 };

#define METRIC(name) FORGE__V1__USAGE_METRIC__USAGE_METRIC_##name

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static forge_code get_usage(struct forge_channel *channel, const Forge__V1__GetUsageRequest *request, Forge__V1__GetUsageResponse **out)
{
    return forge_organization_get_usage(channel, NULL, request, out, &service_error);
}

/* Blocks until this query answers this. */
static void wait_for(const char *sql, const char *expected)
{
    uint64_t until_ms = forge_clock_monotonic_ms() + WRITTEN_WITHIN_MS;
    while (strcmp(service_query(sql), expected) != 0 && forge_clock_monotonic_ms() < until_ms)
        usleep(STEP_US);
    assert_string_equal(service_query(sql), expected);
}

/* What the database has of a metric of a project, over all days: a test may run over midnight. */
static const char *written_sql(const char *organization_id, const char *project_id, const char *metric)
{
    static char sql[512];
    snprintf(sql, sizeof sql,
             "SELECT COALESCE(sum(value), 0) FROM usage_daily WHERE organization_id = '%s' AND project_id = '%s' AND metric = '%s'",
             organization_id, project_id, metric);
    return sql;
}

/* Gives a new project of alpha its own key, so that nothing but the test is counted there. */
static struct forge_channel *project_make(const char *name, Forge__V1__Scope scope, char out_id[37])
{
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *project;
    request.name = TEXT(name);
    service_ok(forge_project_create(alpha.admin, NULL, &request, &project, &service_error));
    snprintf(out_id, 37, "%s", project->id);
    forge__v1__project__free_unpacked(project, NULL);
    return service_key_channel(&alpha, scope, out_id);
}

static void render(struct forge_channel *channel, const char *prompt_id)
{
    Forge__V1__GetPromptRequest prompt = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__RenderPromptRequest request = FORGE__V1__RENDER_PROMPT_REQUEST__INIT;
    Forge__V1__RenderPromptResponse *reply;
    prompt.id = TEXT(prompt_id);
    request.prompt = &prompt;
    service_ok(forge_prompt_render(channel, NULL, &request, &reply, &service_error));
    forge__v1__render_prompt_response__free_unpacked(reply, NULL);
}

static forge_code get_prompt(struct forge_channel *channel, const char *prompt_id)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    request.id = TEXT(prompt_id);
    forge_code rc = forge_prompt_get(channel, NULL, &request, &prompt, &service_error);
    if (rc == FORGE_OK)
        forge__v1__prompt__free_unpacked(prompt, NULL);
    return rc;
}

static forge_code record(struct forge_channel *channel, const char *prompt_id, const char *request_id)
{
    const struct forge_call_options options = {.request_id = request_id};
    Forge__V1__RecordExecutionRequest request = FORGE__V1__RECORD_EXECUTION_REQUEST__INIT;
    Forge__V1__Execution *execution;
    request.prompt_id = TEXT(prompt_id);
    forge_code rc = forge_prompt_record_execution(channel, &options, &request, &execution, &service_error);
    if (rc == FORGE_OK)
        forge__v1__execution__free_unpacked(execution, NULL);
    return rc;
}

/* ---- what is counted ---- */

static void test_reads_count_where_the_prompt_is(void **state)
{
    (void)state;
    char project_id[37], id[37];
    struct forge_channel *key = project_make("reads", FORGE__V1__SCOPE__SCOPE_READ, project_id);
    service_prompt_make(alpha.admin, project_id, "read", "x", id);
    service_ok(get_prompt(key, id));
    service_ok(get_prompt(alpha.admin, id));
    render(key, id);
    service_fails(get_prompt(key, nobody_has), FORGE_NOT_FOUND, "not found");
    Forge__V1__GetPromptRequest there = FORGE__V1__GET_PROMPT_REQUEST__INIT, absent = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__GetPromptRequest *items[] = {&there, &absent, &there};
    Forge__V1__BatchGetPromptsRequest batch = FORGE__V1__BATCH_GET_PROMPTS_REQUEST__INIT;
    Forge__V1__BatchGetPromptsResponse *reply;
    there.id = id;
    absent.id = TEXT(nobody_has);
    batch.n_requests = 3;
    batch.requests = items;
    service_ok(forge_prompt_batch_get(key, NULL, &batch, &reply, &service_error));
    forge__v1__batch_get_prompts_response__free_unpacked(reply, NULL);
    wait_for(written_sql(alpha.organization_id, project_id, "prompt_reads"), "5");
    wait_for(written_sql(alpha.organization_id, project_id, "calls"), "5"); /* the first is libforge's own WhoAmI */
}

static void test_executions_count_once(void **state)
{
    (void)state;
    char project_id[37], id[37], request_id[37];
    struct forge_channel *key = project_make("executions", FORGE__V1__SCOPE__SCOPE_WRITE, project_id);
    service_prompt_make(alpha.admin, project_id, "executed", "x", id);
    strcpy(request_id, service_request_id());
    service_ok(record(key, id, request_id));
    service_ok(record(key, id, request_id)); /* the stored reply */
    service_fails(record(key, nobody_has, NULL), FORGE_NOT_FOUND, "not found");
    Forge__V1__RecordExecutionRequest good = FORGE__V1__RECORD_EXECUTION_REQUEST__INIT, bad = FORGE__V1__RECORD_EXECUTION_REQUEST__INIT;
    Forge__V1__RecordExecutionRequest *items[] = {&good, &bad, &good};
    Forge__V1__RecordExecutionsRequest batch = FORGE__V1__RECORD_EXECUTIONS_REQUEST__INIT;
    Forge__V1__RecordExecutionsResponse *reply;
    good.prompt_id = id;
    bad.prompt_id = TEXT(nobody_has);
    batch.n_requests = 3;
    batch.requests = items;
    service_ok(forge_prompt_record_executions(key, NULL, &batch, &reply, &service_error));
    forge__v1__record_executions_response__free_unpacked(reply, NULL);
    wait_for(written_sql(alpha.organization_id, project_id, "calls"), "5");
    wait_for(written_sql(alpha.organization_id, project_id, "executions"), "3");
}

static void test_calls_count_when_their_caller_is_known(void **state)
{
    (void)state;
    char project_id[37], token[128];
    struct forge_channel *key = project_make("refused", FORGE__V1__SCOPE__SCOPE_READ, project_id);
    service_fails(record(key, nobody_has, NULL), FORGE_PERMISSION_DENIED, "");
    service_ok(service_ask(key));
    strcpy(token, alpha.token);
    token[strlen(token) - 8] = token[strlen(token) - 8] == 'a' ? 'b' : 'a';
    service_fails(service_ask(service_channel(token)), FORGE_UNAUTHENTICATED, "");
    wait_for(written_sql(alpha.organization_id, project_id, "calls"), "3");
}

static void test_what_cannot_be_written_is_kept(void **state)
{
    (void)state;
    char project_id[37], id[37];
    struct forge_channel *key = project_make("kept", FORGE__V1__SCOPE__SCOPE_READ, project_id);
    service_prompt_make(alpha.admin, project_id, "kept", "x", id);
    struct service_lock *lock = service_lock_take("LOCK TABLE usage_daily IN ACCESS EXCLUSIVE MODE");
    service_ok(get_prompt(key, id));
    assert_true(forged_child_wait_log(service_child(), "usage was not written"));
    service_ok(get_prompt(key, id));
    service_lock_release(lock);
    wait_for(written_sql(alpha.organization_id, project_id, "prompt_reads"), "2");
}

static void test_a_server_that_ends_writes_what_it_holds(void **state)
{
    (void)state;
    static const char *const flags[] = {"--usage-flush-interval", "1m", NULL};
    char project_id[37], id[37];
    project_make("ended", FORGE__V1__SCOPE__SCOPE_READ, project_id);
    service_prompt_make(alpha.admin, project_id, "ended", "x", id);
    struct forged_child *second = forged_world_serve(service_world(), flags);
    const struct forge_channel_options options = {.addresses = forged_child_address(second),
                                                  .token = alpha.token,
                                                  .ca_file = tls_files_path(forged_world_tls(service_world()), "ca.pem")};
    struct forge_channel *channel;
    service_ok(forge_channel_open(&options, &channel, &service_error));
    service_ok(get_prompt(channel, id));
    forge_channel_close(channel);
    assert_string_equal(service_query(written_sql(alpha.organization_id, project_id, "prompt_reads")), "0");
    forged_child_stop(second);
    assert_string_equal(service_query(written_sql(alpha.organization_id, project_id, "prompt_reads")), "1");
}

/* ---- last use ---- */

static void test_keys_and_accounts_tell_their_last_use(void **state)
{
    (void)state;
    Forge__V1__CreateServiceAccountRequest request = FORGE__V1__CREATE_SERVICE_ACCOUNT_REQUEST__INIT;
    Forge__V1__CreateApiKeyRequest key_request = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Forge__V1__Scope scope = FORGE__V1__SCOPE__SCOPE_READ;
    Forge__V1__ServiceAccount *account;
    Forge__V1__ApiKey *key;
    char account_sql[256], key_sql[256], age_sql[256];
    request.name = TEXT("used");
    request.role = FORGE__V1__ROLE__ROLE_VIEWER;
    service_ok(forge_organization_create_service_account(alpha.admin, NULL, &request, &account, &service_error));
    assert_null(account->last_use_time);
    key_request.name = TEXT("used");
    key_request.n_scopes = 1;
    key_request.scopes = &scope;
    service_ok(forge_organization_create_api_key(alpha.admin, NULL, &key_request, &key, &service_error));
    assert_null(key->last_use_time);
    snprintf(account_sql, sizeof account_sql, "SELECT last_used_at IS NOT NULL FROM service_accounts WHERE id = '%s'", account->id);
    snprintf(key_sql, sizeof key_sql, "SELECT last_used_at IS NOT NULL FROM api_keys WHERE id = '%s'", key->id);
    assert_string_equal(service_query(account_sql), "f");
    service_ok(service_ask(service_channel(account->token)));
    service_ok(service_ask(service_channel(key->token)));
    wait_for(account_sql, "t");
    wait_for(key_sql, "t");
    snprintf(age_sql, sizeof age_sql, "SELECT abs(extract(epoch FROM now() - last_used_at)) < 60 FROM api_keys WHERE id = '%s'", key->id);
    assert_string_equal(service_query(age_sql), "t");
    forge__v1__service_account__free_unpacked(account, NULL);
    forge__v1__api_key__free_unpacked(key, NULL);
}

static void test_a_key_of_an_account_uses_both(void **state)
{
    (void)state;
    Forge__V1__CreateServiceAccountRequest request = FORGE__V1__CREATE_SERVICE_ACCOUNT_REQUEST__INIT;
    Forge__V1__CreateApiKeyRequest key_request = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Forge__V1__ListServiceAccountsRequest list_request = FORGE__V1__LIST_SERVICE_ACCOUNTS_REQUEST__INIT;
    Forge__V1__ListServiceAccountsResponse *list;
    Forge__V1__Scope scope = FORGE__V1__SCOPE__SCOPE_READ;
    Forge__V1__ServiceAccount *account;
    Forge__V1__ApiKey *key;
    char sql[512];
    request.name = TEXT("behind a key");
    request.role = FORGE__V1__ROLE__ROLE_VIEWER;
    service_ok(forge_organization_create_service_account(beta.admin, NULL, &request, &account, &service_error));
    key_request.name = TEXT("of the account");
    key_request.n_scopes = 1;
    key_request.scopes = &scope;
    key_request.service_account_id = account->id;
    service_ok(forge_organization_create_api_key(beta.admin, NULL, &key_request, &key, &service_error));
    service_ok(service_ask(service_channel(key->token)));
    snprintf(sql, sizeof sql,
             "SELECT a.last_used_at = k.last_used_at FROM service_accounts a JOIN api_keys k ON k.service_account_id = a.id"
             " WHERE a.id = '%s'",
             account->id);
    wait_for(sql, "t");
    service_ok(forge_organization_list_service_accounts(beta.admin, NULL, &list_request, &list, &service_error));
    assert_int_equal(list->n_service_accounts, 1);
    assert_in_range(list->service_accounts[0]->last_use_time->seconds, time(NULL) - 60, time(NULL) + 5);
    forge__v1__list_service_accounts_response__free_unpacked(list, NULL);
    forge__v1__service_account__free_unpacked(account, NULL);
    forge__v1__api_key__free_unpacked(key, NULL);
}

/* ---- GetUsage ---- */

/* Days of 2001, in which nothing else was counted. */
static void usage_put(const struct service_tenant *tenant, const char *day, const char *project_id, const char *metric, int value)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "INSERT INTO usage_daily (organization_id, day, project_id, metric, value) VALUES ('%s', '%s', '%s', '%s', %d)",
             tenant->organization_id, day, project_id, metric, value);
    service_execute(sql);
}

static void expect_row(const Forge__V1__GetUsageResponse *reply, size_t i, const char *date, const char *project_id,
                       Forge__V1__UsageMetric metric, int64_t value)
{
    assert_true(i < reply->n_rows);
    assert_string_equal(reply->rows[i]->date, date);
    assert_string_equal(reply->rows[i]->project_id, project_id);
    assert_int_equal(reply->rows[i]->metric, metric);
    assert_int_equal(reply->rows[i]->value, value);
}

static void test_days_metrics_and_projects_are_told_apart(void **state)
{
    (void)state;
    static const char *const no_project = "00000000-0000-0000-0000-000000000000";
    Forge__V1__GetUsageRequest request = FORGE__V1__GET_USAGE_REQUEST__INIT;
    Forge__V1__GetUsageResponse *reply;
    Forge__V1__UsageMetric only_calls[] = {METRIC(CALLS)};
    usage_put(&alpha, "2001-02-28", alpha.project_id, "calls", 7);
    usage_put(&alpha, "2001-03-01", no_project, "calls", 1);
    usage_put(&alpha, "2001-03-01", alpha.project_id, "calls", 2);
    usage_put(&alpha, "2001-03-01", alpha.project_id, "executions", 0);
    usage_put(&alpha, "2001-03-01", alpha.project_id, "prompt_reads", 5);
    usage_put(&alpha, "2001-03-02", alpha.project_id, "calls", 9);
    usage_put(&beta, "2001-03-01", beta.project_id, "calls", 1000);
    request.start_date = TEXT("2001-03-01");
    request.end_date = TEXT("2001-03-01");
    service_ok(get_usage(alpha.admin, &request, &reply));
    assert_int_equal(reply->n_rows, 2);
    expect_row(reply, 0, "2001-03-01", "", METRIC(CALLS), 3);
    expect_row(reply, 1, "2001-03-01", "", METRIC(PROMPT_READS), 5);
    forge__v1__get_usage_response__free_unpacked(reply, NULL);
    request.start_date = TEXT("2001-02-28");
    request.by_project = true;
    request.n_metrics = 1;
    request.metrics = only_calls;
    service_ok(get_usage(alpha.admin, &request, &reply));
    assert_int_equal(reply->n_rows, 3);
    expect_row(reply, 0, "2001-02-28", alpha.project_id, METRIC(CALLS), 7);
    expect_row(reply, 1, "2001-03-01", "", METRIC(CALLS), 1);
    expect_row(reply, 2, "2001-03-01", alpha.project_id, METRIC(CALLS), 2);
    forge__v1__get_usage_response__free_unpacked(reply, NULL);
    request.by_project = false;
    request.project_id = alpha.project_id;
    request.end_date = TEXT("2001-03-29");
    request.start_date = TEXT(""); /* 29 days before: the 28th of February is the first */
    service_ok(get_usage(alpha.admin, &request, &reply));
    assert_int_equal(reply->n_rows, 3);
    expect_row(reply, 0, "2001-02-28", alpha.project_id, METRIC(CALLS), 7);
    expect_row(reply, 2, "2001-03-02", alpha.project_id, METRIC(CALLS), 9);
    forge__v1__get_usage_response__free_unpacked(reply, NULL);
}

static void test_today_is_in_the_default_range(void **state)
{
    (void)state;
    char project_id[37], id[37];
    Forge__V1__GetUsageRequest request = FORGE__V1__GET_USAGE_REQUEST__INIT;
    Forge__V1__GetUsageResponse *reply;
    struct forge_channel *key = project_make("today", FORGE__V1__SCOPE__SCOPE_READ, project_id);
    service_prompt_make(alpha.admin, project_id, "today", "x", id);
    service_ok(get_prompt(key, id));
    wait_for(written_sql(alpha.organization_id, project_id, "prompt_reads"), "1");
    request.project_id = project_id;
    service_ok(get_usage(alpha.admin, &request, &reply));
    assert_int_equal(reply->n_rows, 2);
    assert_int_equal(reply->rows[0]->metric, METRIC(CALLS));
    assert_int_equal(reply->rows[1]->metric, METRIC(PROMPT_READS));
    assert_int_equal(reply->rows[1]->value, 1);
    forge__v1__get_usage_response__free_unpacked(reply, NULL);
}

static void test_every_wrong_field_is_named(void **state)
{
    (void)state;
    static const char *const wrong_dates[] = {"2001-3-1",   "2001-02-30", "yesterday", "2001-03-011",
                                              "2001/03/01", " 001-03-01", "-001-03-01"};
    Forge__V1__GetUsageRequest request = FORGE__V1__GET_USAGE_REQUEST__INIT;
    Forge__V1__GetUsageResponse *reply;
    Forge__V1__UsageMetric unspecified[] = {METRIC(UNSPECIFIED)};
    for (size_t i = 0; i < sizeof wrong_dates / sizeof wrong_dates[0]; i++) {
        request.start_date = TEXT(wrong_dates[i]);
        service_violates(get_usage(alpha.admin, &request, &reply), "start_date", "must be a date, YYYY-MM-DD");
    }
    request.end_date = TEXT("x");
    request.project_id = TEXT("x");
    request.n_metrics = 1;
    request.metrics = unspecified;
    service_violates(get_usage(alpha.admin, &request, &reply), "end_date", "YYYY-MM-DD", "start_date", "YYYY-MM-DD", "metrics",
                     "there is no metric 0", "project_id", "must be a UUID");
    request = (Forge__V1__GetUsageRequest)FORGE__V1__GET_USAGE_REQUEST__INIT;
    request.start_date = TEXT("2001-03-02");
    request.end_date = TEXT("2001-03-01");
    service_violates(get_usage(alpha.admin, &request, &reply), "start_date", "must not be after end_date");
    request.start_date = TEXT("2000-02-29");
    service_violates(get_usage(alpha.admin, &request, &reply), "start_date", "at most 365 days before end_date");
    request.start_date = TEXT("2000-03-01");
    service_ok(get_usage(alpha.admin, &request, &reply));
    forge__v1__get_usage_response__free_unpacked(reply, NULL);
}

static void test_usage_is_the_tenant_s_and_for_admins(void **state)
{
    (void)state;
    Forge__V1__GetUsageRequest request = FORGE__V1__GET_USAGE_REQUEST__INIT;
    Forge__V1__GetUsageResponse *reply;
    struct forge_channel *viewer = service_user_make(&alpha, "usage-viewer@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, NULL);
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, alpha.project_id);
    service_fails(get_usage(viewer, &request, &reply), FORGE_PERMISSION_DENIED, "");
    service_fails(get_usage(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, NULL), &request, &reply), FORGE_PERMISSION_DENIED,
                  "");
    service_fails(get_usage(bound, &request, &reply), FORGE_PERMISSION_DENIED, "bound to one project: name it in project_id");
    request.project_id = beta.project_id;
    service_fails(get_usage(bound, &request, &reply), FORGE_PERMISSION_DENIED, "bound to one project");
    service_fails(get_usage(alpha.admin, &request, &reply), FORGE_NOT_FOUND, "project");
    request.project_id = alpha.project_id;
    service_fails(get_usage(beta.admin, &request, &reply), FORGE_NOT_FOUND, "project");
    service_ok(get_usage(bound, &request, &reply));
    forge__v1__get_usage_response__free_unpacked(reply, NULL);
}

static void test_usage_outlives_its_project_and_too_much_is_refused(void **state)
{
    (void)state;
    Forge__V1__GetUsageRequest request = FORGE__V1__GET_USAGE_REQUEST__INIT;
    Forge__V1__GetUsageResponse *reply;
    char sql[512];
    usage_put(&beta, "2002-01-01", "01890000-0000-7000-8000-000000000001", "executions", 4);
    request.start_date = TEXT("2002-01-01");
    request.end_date = TEXT("2002-12-31");
    request.project_id = TEXT("01890000-0000-7000-8000-000000000001");
    service_ok(get_usage(beta.admin, &request, &reply));
    assert_int_equal(reply->n_rows, 1);
    expect_row(reply, 0, "2002-01-01", request.project_id, METRIC(EXECUTIONS), 4);
    forge__v1__get_usage_response__free_unpacked(reply, NULL);
    snprintf(sql, sizeof sql,
             "INSERT INTO usage_daily (organization_id, day, project_id, metric, value)"
             " SELECT '%s', date '2002-02-01' + n %% 100, gen_random_uuid(), 'calls', 1 FROM generate_series(1, 20000) n",
             beta.organization_id);
    service_execute(sql);
    request.project_id = TEXT("");
    request.by_project = true;
    service_fails(get_usage(beta.admin, &request, &reply), FORGE_OUT_OF_RANGE, "more than 20000 rows: ask for fewer days");
    request.by_project = false;
    service_ok(get_usage(beta.admin, &request, &reply));
    assert_int_equal(reply->n_rows, 101);
    forge__v1__get_usage_response__free_unpacked(reply, NULL);
}

/* ---- quotas ---- */

static void quota_put(const char *project_id, const char *metric, const char *period, int limit)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "INSERT INTO quotas (organization_id, project_id, metric, period, limit_value) VALUES ('%s', '%s', '%s', '%s', %d)",
             alpha.organization_id, project_id, metric, period, limit);
    service_execute(sql);
}

static void test_quotas_tell_what_is_used(void **state)
{
    (void)state;
    static const char *const whole = "00000000-0000-0000-0000-000000000000";
    char project_id[37], id[37];
    Forge__V1__GetUsageRequest request = FORGE__V1__GET_USAGE_REQUEST__INIT;
    Forge__V1__GetUsageResponse *reply;
    struct forge_channel *bound = project_make("quotas", FORGE__V1__SCOPE__SCOPE_ADMIN, project_id);
    service_prompt_make(alpha.admin, project_id, "one", "x", id);
    service_prompt_make(alpha.admin, project_id, "two", "x", id);
    service_ok(get_prompt(alpha.admin, id));
    wait_for(written_sql(alpha.organization_id, project_id, "prompt_reads"), "1");
    quota_put(whole, "users", "total", 3);
    quota_put(project_id, "prompts", "total", 10);
    quota_put(project_id, "prompt_reads", "month", 100);
    quota_put(alpha.project_id, "prompts", "total", 20);
    service_ok(get_usage(alpha.admin, &request, &reply));
    assert_int_equal(reply->n_quotas, 1);
    assert_int_equal(reply->quotas[0]->metric, METRIC(USERS));
    assert_int_equal(reply->quotas[0]->period, FORGE__V1__QUOTA_PERIOD__QUOTA_PERIOD_TOTAL);
    assert_string_equal(reply->quotas[0]->project_id, "");
    assert_int_equal(reply->quotas[0]->limit, 3);
    char users[64];
    snprintf(users, sizeof users, "%lld", (long long)reply->quotas[0]->used);
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM users WHERE organization_id = '%s'", alpha.organization_id);
    assert_string_equal(service_query(sql), users);
    forge__v1__get_usage_response__free_unpacked(reply, NULL);
    request.project_id = project_id;
    service_ok(get_usage(bound, &request, &reply));
    assert_int_equal(reply->n_quotas, 2);
    assert_int_equal(reply->quotas[0]->metric, METRIC(PROMPT_READS));
    assert_int_equal(reply->quotas[0]->period, FORGE__V1__QUOTA_PERIOD__QUOTA_PERIOD_MONTH);
    assert_string_equal(reply->quotas[0]->project_id, project_id);
    assert_int_equal(reply->quotas[0]->used, 1);
    assert_int_equal(reply->quotas[1]->metric, METRIC(PROMPTS));
    assert_int_equal(reply->quotas[1]->used, 2);
    forge__v1__get_usage_response__free_unpacked(reply, NULL);
    service_ok(get_usage(alpha.admin, &request, &reply));
    assert_int_equal(reply->n_quotas, 3);
    forge__v1__get_usage_response__free_unpacked(reply, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_count_where_the_prompt_is),
        cmocka_unit_test(test_executions_count_once),
        cmocka_unit_test(test_calls_count_when_their_caller_is_known),
        cmocka_unit_test(test_what_cannot_be_written_is_kept),
        cmocka_unit_test(test_a_server_that_ends_writes_what_it_holds),
        cmocka_unit_test(test_keys_and_accounts_tell_their_last_use),
        cmocka_unit_test(test_a_key_of_an_account_uses_both),
        cmocka_unit_test(test_days_metrics_and_projects_are_told_apart),
        cmocka_unit_test(test_today_is_in_the_default_range),
        cmocka_unit_test(test_every_wrong_field_is_named),
        cmocka_unit_test(test_usage_is_the_tenant_s_and_for_admins),
        cmocka_unit_test(test_usage_outlives_its_project_and_too_much_is_refused),
        cmocka_unit_test(test_quotas_tell_what_is_used),
    };
    return cmocka_run_group_tests_name("service_usage", tests, start, service_end);
}
