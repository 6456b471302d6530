/* OrganizationService over TLS: the audit log, listed, recomputed from what is listed, verified by the server, and tampered with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"
#include "wire/crypto.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { EVENTS_MAX = 64 };

static struct service_tenant alpha, beta;
static struct forge_channel *key; /* of alpha, with scope admin */
static char key_id[37], account_id[37], admin_id[37], create_request_id[37], account_request_id[37];
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

/* --- calls --- */

static forge_code list(struct forge_channel *channel, const Forge__V1__ListAuditEventsRequest *request,
                       Forge__V1__ListAuditEventsResponse **out)
{
    return forge_organization_list_audit_events(channel, NULL, request, out, &service_error);
}

static forge_code verify(struct forge_channel *channel, int64_t start, int32_t count, Forge__V1__VerifyAuditLogResponse **out)
{
    Forge__V1__VerifyAuditLogRequest request = FORGE__V1__VERIFY_AUDIT_LOG_REQUEST__INIT;
    request.start_sequence = start;
    request.event_count_max = count;
    return forge_organization_verify_audit_log(channel, NULL, &request, out, &service_error);
}

static int64_t number(const char *sql)
{
    int64_t value = -1;
    assert_int_equal(sscanf(service_query(sql), "%" SCNd64, &value), 1);
    return value;
}

/* The text with the organization's id for each $o. */
static const char *of_alpha(const char *text)
{
    static char sql[4096];
    size_t length = 0;
    for (; *text != '\0'; text++) {
        assert_in_range(length, 0, sizeof sql - 40);
        if (strncmp(text, "$o", 2) != 0) {
            sql[length++] = *text;
            continue;
        }
        length += (size_t)sprintf(sql + length, "%s", alpha.organization_id);
        text++;
    }
    sql[length] = '\0';
    return sql;
}

static void read_id(const char *sql, char out[37])
{
    snprintf(out, 37, "%s", service_query(sql));
    assert_int_equal(strlen(out), 36);
}

/* A key by a user with a session, then an account by that key. */
static void make_events(void)
{
    Forge__V1__CreateApiKeyRequest request = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Forge__V1__CreateServiceAccountRequest account_request = FORGE__V1__CREATE_SERVICE_ACCOUNT_REQUEST__INIT;
    Forge__V1__Scope scope = FORGE__V1__SCOPE__SCOPE_ADMIN;
    Forge__V1__ApiKey *made;
    Forge__V1__ServiceAccount *account;
    strcpy(create_request_id, service_request_id());
    strcpy(account_request_id, service_request_id());
    const struct forge_call_options options = {.request_id = create_request_id}, account_options = {.request_id = account_request_id};
    request.name = TEXT("Schlüssel \"1\"");
    request.scopes = &scope;
    request.n_scopes = 1;
    service_ok(forge_organization_create_api_key(alpha.admin, &options, &request, &made, &service_error));
    strcpy(key_id, made->id);
    key = service_channel(made->token);
    account_request.name = TEXT("robot");
    account_request.role = FORGE__V1__ROLE__ROLE_VIEWER;
    service_ok(forge_organization_create_service_account(key, &account_options, &account_request, &account, &service_error));
    strcpy(account_id, account->id);
    forge__v1__api_key__free_unpacked(made, NULL);
    forge__v1__service_account__free_unpacked(account, NULL);
}

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    read_id(of_alpha("SELECT id FROM users WHERE organization_id = '$o'"), admin_id);
    make_events();
    service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL);
    service_user_make(&alpha, "dev@alpha.example", FORGE__V1__ROLE__ROLE_DEVELOPER, NULL);
    service_user_make(&alpha, "viewer@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, NULL);
    return 0;
}

/* The sequences on every page, "3 2 1". */
static const char *listed(struct forge_channel *channel, Forge__V1__ListAuditEventsRequest request)
{
    static char text[1024];
    Forge__V1__ListAuditEventsResponse *page;
    char token[2048] = "";
    size_t length = 0;
    text[0] = '\0';
    do {
        request.page_token = token;
        service_ok(list(channel, &request, &page));
        assert_true(request.page_size == 0 || page->n_audit_events <= (size_t)request.page_size);
        for (size_t i = 0; i < page->n_audit_events; i++)
            length +=
                (size_t)snprintf(text + length, sizeof text - length, "%s%d", length > 0 ? " " : "", (int)page->audit_events[i]->sequence);
        snprintf(token, sizeof token, "%s", page->next_page_token);
        forge__v1__list_audit_events_response__free_unpacked(page, NULL);
    } while (token[0] != '\0');
    return text;
}

/* --- ListAuditEvents --- */

static void test_events_tell_who_did_what(void **state)
{
    (void)state;
    Forge__V1__ListAuditEventsRequest request = FORGE__V1__LIST_AUDIT_EVENTS_REQUEST__INIT;
    Forge__V1__ListAuditEventsResponse *page;
    service_ok(list(alpha.admin, &request, &page));
    assert_int_equal(page->n_audit_events, 6);
    assert_string_equal(page->next_page_token, "");

    const Forge__V1__AuditEvent *event = page->audit_events[5]; /* the oldest */
    assert_int_equal(event->sequence, 1);
    assert_string_equal(event->action, "organization.create");
    assert_string_equal(event->target_kind, "organization");
    assert_string_equal(event->target_id, alpha.organization_id);
    assert_int_equal(event->actor_kind, FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_OPERATOR);
    assert_string_equal(event->actor_id, service_query("SELECT id FROM operator_tokens"));
    assert_string_equal(event->actor_name, "");
    assert_int_equal(event->actor_role, FORGE__V1__ROLE__ROLE_UNSPECIFIED);
    assert_string_equal(event->request_id, alpha.organization_id);
    assert_non_null(strstr(event->details, "\"slug\": \"alpha\""));

    event = page->audit_events[4];
    assert_int_equal(event->sequence, 2);
    assert_string_equal(event->action, "api_key.create");
    assert_string_equal(event->target_kind, "api_key");
    assert_string_equal(event->target_id, key_id);
    assert_int_equal(event->actor_kind, FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_USER);
    assert_string_equal(event->actor_id, admin_id);
    assert_string_equal(event->actor_name, "admin@alpha.example");
    assert_int_equal(event->actor_role, FORGE__V1__ROLE__ROLE_ADMIN);
    assert_true(strcmp(event->peer_address, "127.0.0.1") == 0 || strcmp(event->peer_address, "::1") == 0);
    assert_string_equal(event->request_id, create_request_id);
    assert_non_null(strstr(event->details, "\"name\": \"Schlüssel \\\"1\\\"\""));
    assert_null(strstr(event->details, "\"token\""));
    assert_int_equal(event->hash.len, FORGE_SHA256_SIZE);
    assert_int_equal(event->canonical.len, 0);
    int64_t us =
        number(of_alpha("SELECT extract(epoch FROM created_at) * 1000000 FROM audit_log WHERE sequence = 2 AND organization_id = '$o'"));
    assert_int_equal(event->event_time->seconds * 1000000 + event->event_time->nanos / 1000, us);

    event = page->audit_events[3];
    assert_string_equal(event->action, "service_account.create");
    assert_string_equal(event->target_id, account_id);
    assert_int_equal(event->actor_kind, FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_API_KEY);
    assert_string_equal(event->actor_id, key_id);
    assert_string_equal(event->actor_name, "Schlüssel \"1\"");
    assert_int_equal(event->actor_role, FORGE__V1__ROLE__ROLE_ADMIN);
    assert_string_equal(event->request_id, account_request_id);
    forge__v1__list_audit_events_response__free_unpacked(page, NULL);
}

/* What anybody can do who has kept a hash: the chain from the oldest event to the newest, from nothing but the replies. */
static void test_the_chain_can_be_recomputed_from_the_pages(void **state)
{
    (void)state;
    static uint8_t hashes[EVENTS_MAX + 1][FORGE_SHA256_SIZE], after[EVENTS_MAX + 1][FORGE_SHA256_SIZE];
    Forge__V1__ListAuditEventsRequest request = FORGE__V1__LIST_AUDIT_EVENTS_REQUEST__INIT;
    Forge__V1__ListAuditEventsResponse *page;
    Forge__V1__VerifyAuditLogResponse *verified;
    char token[2048] = "", member[128];
    uint8_t *canonical[EVENTS_MAX + 1];
    size_t sizes[EVENTS_MAX + 1];
    int64_t newest = 0;
    request.page_size = 2;
    request.include_canonical = true;
    do {
        request.page_token = token;
        service_ok(list(alpha.admin, &request, &page));
        for (size_t i = 0; i < page->n_audit_events; i++) {
            const Forge__V1__AuditEvent *event = page->audit_events[i];
            assert_in_range(event->sequence, 1, EVENTS_MAX);
            newest = event->sequence > newest ? event->sequence : newest;
            memcpy(hashes[event->sequence], event->hash.data, FORGE_SHA256_SIZE);
            sizes[event->sequence] = event->canonical.len;
            char *copy = service_repeat(" ", event->canonical.len);
            memcpy(copy, event->canonical.data, event->canonical.len);
            canonical[event->sequence] = (uint8_t *)copy;
            snprintf(member, sizeof member, "\"request_id\": \"%s\"", event->request_id);
            assert_non_null(strstr(copy, member));
            snprintf(member, sizeof member, "\"event_time_us\": %lld",
                     (long long)event->event_time->seconds * 1000000 + event->event_time->nanos / 1000);
            assert_non_null(strstr(copy, member));
            assert_non_null(strstr(copy, event->details));
            assert_non_null(strstr(copy, "\"format\": \"forge.audit.v1\""));
        }
        snprintf(token, sizeof token, "%s", page->next_page_token);
        forge__v1__list_audit_events_response__free_unpacked(page, NULL);
    } while (token[0] != '\0');
    assert_true(newest >= 6);
    for (int64_t sequence = 1; sequence <= newest; sequence++) {
        struct forge_sha256_state *hash = forge_sha256_new();
        forge_sha256_update(hash, after[sequence - 1], FORGE_SHA256_SIZE); /* 32 zero bytes before the first */
        forge_sha256_update(hash, canonical[sequence], sizes[sequence]);
        forge_sha256_final(hash, after[sequence]);
        assert_memory_equal(after[sequence], hashes[sequence], FORGE_SHA256_SIZE);
    }
    service_ok(verify(alpha.admin, 0, 0, &verified));
    assert_memory_equal(verified->last_hash.data, after[newest], FORGE_SHA256_SIZE);
    forge__v1__verify_audit_log_response__free_unpacked(verified, NULL);
}

static void test_lists_are_filtered_and_paged(void **state)
{
    (void)state;
    Forge__V1__ListAuditEventsRequest request = FORGE__V1__LIST_AUDIT_EVENTS_REQUEST__INIT, none = request;
    for (int size = 0; size <= 4; size++) {
        request = none;
        request.page_size = size;
        assert_string_equal(listed(alpha.admin, request), "6 5 4 3 2 1");
        request.actor_id = admin_id;
        assert_string_equal(listed(alpha.admin, request), "6 5 4 2");
        request.action = TEXT("api_key");
        assert_string_equal(listed(alpha.admin, request), "4 2");
        request.actor_id = TEXT("");
        assert_string_equal(listed(alpha.admin, request), "4 2");
        request.action = TEXT("api_key.create");
        assert_string_equal(listed(alpha.admin, request), "4 2");
        request.action = TEXT("api"); /* a word, not the beginning of one */
        assert_string_equal(listed(alpha.admin, request), "");
        request.action = TEXT("");
        request.target_kind = TEXT("user");
        assert_string_equal(listed(alpha.admin, request), "6 5");
        request.action = TEXT("organization");
        assert_string_equal(listed(alpha.admin, request), "");
        request.target_kind = TEXT("organization");
        assert_string_equal(listed(alpha.admin, request), "1");
        request = none;
        request.page_size = size;
        request.target_id = account_id;
        assert_string_equal(listed(alpha.admin, request), "3");
        request.actor_id = key_id;
        assert_string_equal(listed(alpha.admin, request), "3");
        request.actor_id = admin_id;
        assert_string_equal(listed(alpha.admin, request), "");
        request.actor_id = TEXT(nobody_has);
        request.target_id = TEXT("");
        assert_string_equal(listed(alpha.admin, request), "");
    }
}

static Google__Protobuf__Timestamp time_of(int64_t us)
{
    Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    time.seconds = us / 1000000;
    time.nanos = (int32_t)(us % 1000000) * 1000;
    return time;
}

/* Servers' clocks differ: times need not rise with the sequence. */
static void test_lists_of_a_time_hold_every_event_of_it(void **state)
{
    (void)state;
    static const int64_t day_us = INT64_C(86400000000);
    Forge__V1__ListAuditEventsRequest request = FORGE__V1__LIST_AUDIT_EVENTS_REQUEST__INIT;
    Google__Protobuf__Timestamp from = time_of(2 * day_us), to = time_of(5 * day_us);
    service_execute(
        of_alpha("CREATE TABLE kept AS SELECT sequence, created_at FROM audit_log WHERE organization_id = '$o';"
                 "UPDATE audit_log SET created_at = timestamptz 'epoch' + (ARRAY[1, 4, 3, 2, 5, 6])[sequence] * interval '1 day'"
                 " WHERE organization_id = '$o'"));
    for (int size = 0; size <= 2; size++) {
        request.page_size = size;
        request.start_time = &from;
        request.end_time = NULL;
        assert_string_equal(listed(alpha.admin, request), "6 5 4 3 2");
        request.end_time = &to;
        assert_string_equal(listed(alpha.admin, request), "4 3 2");
        request.action = TEXT("service_account");
        assert_string_equal(listed(alpha.admin, request), "3");
        request.action = TEXT("");
        request.actor_id = admin_id;
        assert_string_equal(listed(alpha.admin, request), "4 2");
        request.actor_id = TEXT("");
        request.start_time = NULL;
        assert_string_equal(listed(alpha.admin, request), "4 3 2 1");
        request.start_time = &to;
        request.end_time = &(Google__Protobuf__Timestamp){.base = from.base, .seconds = to.seconds, .nanos = 1000};
        assert_string_equal(listed(alpha.admin, request), "5");
        request.start_time = &(Google__Protobuf__Timestamp){.base = from.base, .seconds = to.seconds * 3};
        request.end_time = NULL;
        assert_string_equal(listed(alpha.admin, request), "");
    }
    service_execute(of_alpha("UPDATE audit_log l SET created_at = kept.created_at FROM kept WHERE l.sequence = kept.sequence"
                             " AND l.organization_id = '$o'; DROP TABLE kept"));
}

/* Long events make a page short and not the reply too long. */
static void test_long_events_make_short_pages(void **state)
{
    (void)state;
    Forge__V1__UpdateOrganizationRequest update = FORGE__V1__UPDATE_ORGANIZATION_REQUEST__INIT;
    Forge__V1__ListAuditEventsRequest request = FORGE__V1__LIST_AUDIT_EVENTS_REQUEST__INIT;
    Forge__V1__ListAuditEventsResponse *page;
    Forge__V1__Organization *changed;
    struct service_tenant long_winded;
    service_tenant_make("long", &long_winded);
    for (int i = 0; i < 100; i++) {
        update.description = service_repeat(i % 2 != 0 ? "\U0001F511" : "\U0001F512", 4096);
        service_ok(forge_organization_update(long_winded.admin, NULL, &update, &changed, &service_error));
        forge__v1__organization__free_unpacked(changed, NULL);
    }
    request.page_size = 1000;
    request.include_canonical = true;
    service_ok(list(long_winded.admin, &request, &page));
    assert_in_range(page->n_audit_events, 20, 60);
    assert_string_not_equal(page->next_page_token, "");
    forge__v1__list_audit_events_response__free_unpacked(page, NULL);
    assert_int_equal(strncmp(listed(long_winded.admin, request), "101 100 99 98", 13), 0);
    assert_non_null(strstr(listed(long_winded.admin, request), " 4 3 2 1"));
}

static void test_wrong_lists_are_named(void **state)
{
    (void)state;
    Forge__V1__ListAuditEventsRequest request = FORGE__V1__LIST_AUDIT_EVENTS_REQUEST__INIT, none = request;
    Forge__V1__ListAuditEventsResponse *page, *refused;
    Google__Protobuf__Timestamp bad = time_of(0), early = time_of(1000000), late = time_of(2000000);
    bad.nanos = -1;
    request.page_size = -1;
    request.start_time = &bad;
    request.actor_id = TEXT("x");
    request.action = service_repeat("a", 65);
    request.target_kind = TEXT("api.key");
    request.target_id = TEXT("z");
    service_violates(list(alpha.admin, &request, &refused), "start_time", "years 1 to 9999", "actor_id", "must be a UUID", "action",
                     "at most 64 of a-z, 0-9, _ and .", "target_kind", "at most 32 of a-z, 0-9 and _", "target_id", "must be a UUID",
                     "page_size", "");
    request = none;
    request.end_time = &bad;
    request.action = TEXT("api key");
    request.target_kind = service_repeat("a", 33);
    service_violates(list(alpha.admin, &request, &refused), "end_time", "", "action", "", "target_kind", "");
    request = none;
    request.start_time = &late;
    request.end_time = &early;
    service_violates(list(alpha.admin, &request, &refused), "end_time", "after start_time");
    request.start_time = &early;
    service_violates(list(alpha.admin, &request, &refused), "end_time", "after start_time");
    request = none;
    request.page_size = 1;
    service_ok(list(alpha.admin, &request, &page));
    request.page_token = page->next_page_token;
    request.action = TEXT("user");
    service_violates(list(alpha.admin, &request, &refused), "page_token", "another query");
    request.action = TEXT("");
    service_violates(list(beta.admin, &request, &refused), "page_token", "");
    forge__v1__list_audit_events_response__free_unpacked(page, NULL);
}

/* --- who may --- */

static void refused_both(struct forge_channel *channel, const char *why)
{
    Forge__V1__ListAuditEventsRequest request = FORGE__V1__LIST_AUDIT_EVENTS_REQUEST__INIT;
    Forge__V1__ListAuditEventsResponse *page;
    Forge__V1__VerifyAuditLogResponse *verified;
    service_fails(list(channel, &request, &page), FORGE_PERMISSION_DENIED, why);
    service_fails(verify(channel, 0, 0, &verified), FORGE_PERMISSION_DENIED, why);
}

static void test_admins_alone_see_their_own_log(void **state)
{
    (void)state;
    Forge__V1__ListAuditEventsRequest request = FORGE__V1__LIST_AUDIT_EVENTS_REQUEST__INIT;
    assert_string_equal(listed(beta.admin, request), "1");
    request.target_id = key_id;
    assert_string_equal(listed(beta.admin, request), "");
    struct forge_channel *viewer = service_user_make(&beta, "viewer@beta.example", FORGE__V1__ROLE__ROLE_VIEWER, NULL);
    struct forge_channel *developer = service_user_make(&beta, "dev@beta.example", FORGE__V1__ROLE__ROLE_DEVELOPER, NULL);
    refused_both(viewer, "admin");
    refused_both(developer, "admin");
    refused_both(service_key_channel(&beta, FORGE__V1__SCOPE__SCOPE_WRITE, NULL), "admin");
    refused_both(service_key_channel(&beta, FORGE__V1__SCOPE__SCOPE_ADMIN, beta.project_id), "bound to one project");
    refused_both(service_operator(), "");
    request.target_id = TEXT("");
    assert_string_equal(listed(service_key_channel(&beta, FORGE__V1__SCOPE__SCOPE_ADMIN, NULL), request), "6 5 4 3 2 1");
}

/* Its row is gone when the event is written. */
static void test_who_deletes_itself_is_named(void **state)
{
    (void)state;
    Forge__V1__ListAuditEventsRequest request = FORGE__V1__LIST_AUDIT_EVENTS_REQUEST__INIT;
    Forge__V1__DeleteUserRequest delete = FORGE__V1__DELETE_USER_REQUEST__INIT;
    Forge__V1__ListAuditEventsResponse *page;
    Google__Protobuf__Empty *empty;
    char id[37];
    struct forge_channel *leaver = service_user_make(&beta, "leaver@beta.example", FORGE__V1__ROLE__ROLE_ADMIN, id);
    delete.id = id;
    service_ok(forge_organization_delete_user(leaver, NULL, &delete, &empty, &service_error));
    google__protobuf__empty__free_unpacked(empty, NULL);
    request.actor_id = id;
    service_ok(list(beta.admin, &request, &page));
    assert_int_equal(page->n_audit_events, 1);
    assert_string_equal(page->audit_events[0]->action, "user.delete");
    assert_string_equal(page->audit_events[0]->actor_name, "leaver@beta.example");
    forge__v1__list_audit_events_response__free_unpacked(page, NULL);
}

/* --- VerifyAuditLog --- */

static void expect_part(int64_t start, int32_t count, int64_t verified, int64_t last, bool complete)
{
    Forge__V1__VerifyAuditLogResponse *part;
    service_ok(verify(alpha.admin, start, count, &part));
    assert_true(part->valid);
    assert_string_equal(part->broken_reason, "");
    assert_int_equal(part->broken_sequence, 0);
    assert_int_equal(part->verified_count, verified);
    assert_int_equal(part->last_sequence, last);
    assert_int_equal(part->last_hash.len, last > 0 ? FORGE_SHA256_SIZE : 0);
    assert_int_equal(part->complete, complete);
    forge__v1__verify_audit_log_response__free_unpacked(part, NULL);
}

static void test_a_whole_log_is_verified_in_one_or_in_parts(void **state)
{
    (void)state;
    expect_part(0, 0, 6, 6, true);
    expect_part(1, 100000, 6, 6, true);
    expect_part(1, 6, 6, 6, true);
    expect_part(1, 5, 5, 5, false);
    expect_part(1, 1, 1, 1, false);
    expect_part(2, 1, 1, 2, false);
    expect_part(3, 3, 3, 5, false);
    expect_part(6, 1, 1, 6, true);
    expect_part(7, 0, 0, 0, true);
}

static void test_wrong_ranges_are_named(void **state)
{
    (void)state;
    Forge__V1__VerifyAuditLogResponse *part;
    service_violates(verify(alpha.admin, -1, -1, &part), "start_sequence", "1 or more", "event_count_max", "1 to 100000");
    service_violates(verify(alpha.admin, 1, 100001, &part), "event_count_max", "1 to 100000");
    service_fails(verify(alpha.admin, 8, 0, &part), FORGE_OUT_OF_RANGE, "the log ends with event 6");
    service_fails(verify(alpha.admin, INT64_MAX, 100000, &part), FORGE_OUT_OF_RANGE, "the log ends with event 6");
}

/* The hash of event $n as it follows from what is stored, in SQL. */
#define CHAIN(n)                                                                                                                           \
    "UPDATE audit_log l SET hash = sha256(COALESCE((SELECT hash FROM audit_log p WHERE p.organization_id = l.organization_id AND"          \
    " p.sequence = " #n " - 1), decode(repeat('00', 32), 'hex')) || l.canonical) WHERE l.sequence = " #n " AND l.organization_id = '$o';"
#define ONE " AND organization_id = '$o';"
/* canonical as the columns are now. */
#define CANONICAL                                                                                                                          \
    "UPDATE audit_log l SET canonical = convert_to(jsonb_build_object('format', 'forge.audit.v1', 'organization_id', l.organization_id,"   \
    " 'event_time_us', trunc(extract(epoch FROM l.created_at) * 1000000), 'actor_kind', l.principal_kind, 'actor_id', l.principal_id,"     \
    " 'actor_name', l.principal_name, 'actor_role', l.principal_role, 'peer_address', l.peer_address, 'request_id', l.request_id,"         \
    " 'action', l.action, 'target_kind', l.target_kind, 'target_id', l.target_id, 'details', l.details)::text, 'UTF8')"                    \
    " WHERE organization_id = '$o';"

static const struct tampering {
    const char *sql;
    int64_t start, broken; /* 0: the log counts as whole */
    const char *reason;
    int64_t verified;
} tamperings[] = {
    {"SELECT '$o'", 1, 0, "", 6},
    {CANONICAL, 1, 0, "", 6}, /* the test's own expression is the server's */
    /* A column, canonical and hash left alone. */
    {"UPDATE audit_log SET details = details || '{\"name\": \"harmless\"}' WHERE sequence = 3" ONE, 1, 3, "canonical", 2},
    {"UPDATE audit_log SET principal_kind = 'operator' WHERE sequence = 3" ONE, 1, 3, "canonical", 2},
    {"UPDATE audit_log SET principal_id = gen_random_uuid() WHERE sequence = 3" ONE, 1, 3, "canonical", 2},
    {"UPDATE audit_log SET principal_name = 'somebody' WHERE sequence = 1" ONE, 1, 1, "canonical", 0},
    {"UPDATE audit_log SET principal_role = 'viewer' WHERE sequence = 6" ONE, 1, 6, "canonical", 5},
    {"UPDATE audit_log SET peer_address = '' WHERE sequence = 3" ONE, 1, 3, "canonical", 2},
    {"UPDATE audit_log SET request_id = NULL WHERE sequence = 3" ONE, 1, 3, "canonical", 2},
    {"UPDATE audit_log SET action = 'user.delete' WHERE sequence = 3" ONE, 1, 3, "canonical", 2},
    {"UPDATE audit_log SET target_kind = 'user' WHERE sequence = 3" ONE, 1, 3, "canonical", 2},
    {"UPDATE audit_log SET target_id = NULL WHERE sequence = 3" ONE, 1, 3, "canonical", 2},
    {"UPDATE audit_log SET created_at = created_at + interval '1 microsecond' WHERE sequence = 3" ONE, 1, 3, "canonical", 2},
    {"UPDATE audit_log SET created_at = 'infinity' WHERE sequence = 3" ONE, 1, 3, "canonical", 2},
    {"UPDATE audit_log SET created_at = '294276-12-31 23:59:59Z' WHERE sequence = 3" ONE, 1, 3, "canonical", 2},
    {"UPDATE audit_log SET canonical = '\\xff00' WHERE sequence = 3" ONE, 1, 3, "canonical", 2},
    /* Column and canonical together; then its hash too: the next one shows it, and behind the last one the head. */
    {"UPDATE audit_log SET action = 'user.delete' WHERE sequence = 3" ONE CANONICAL, 1, 3, "hash before it", 2},
    {"UPDATE audit_log SET action = 'user.delete' WHERE sequence = 3" ONE CANONICAL CHAIN(3), 1, 4, "hash before it", 3},
    {"UPDATE audit_log SET action = 'user.delete' WHERE sequence = 6" ONE CANONICAL CHAIN(6), 1, 6, "head of the log has another hash", 5},
    {"UPDATE audit_log SET hash = '' WHERE sequence = 3" ONE, 1, 3, "hash before it", 2},
    {"UPDATE audit_log SET hash = sha256('') WHERE sequence = 6" ONE, 1, 6, "hash before it", 5},
    /* Removed, moved, added. */
    {"DELETE FROM audit_log WHERE sequence = 3" ONE, 1, 3, "the event is missing", 2},
    {"DELETE FROM audit_log WHERE sequence = 1" ONE, 1, 1, "the event is missing", 0},
    {"DELETE FROM audit_log WHERE sequence = 6" ONE, 1, 6, "the event is missing", 5},
    {"DELETE FROM audit_log WHERE sequence > 0" ONE, 1, 1, "the event is missing", 0},
    {"UPDATE audit_log SET sequence = 7 WHERE sequence = 6" ONE, 1, 6, "the event is missing", 5},
    {"UPDATE audit_heads SET sequence = 5 WHERE true" ONE, 1, 5, "head of the log has another hash", 4},
    {"UPDATE audit_heads h SET sequence = 5, hash = l.hash FROM audit_log l WHERE l.sequence = 5 AND l.organization_id ="
     " h.organization_id AND h.organization_id = '$o'",
     1, 6, "events after the head", 5},
    {"UPDATE audit_heads SET sequence = 9223372036854775807 WHERE true" ONE, 1, 7, "the event is missing", 6},
    {"UPDATE audit_heads SET sequence = -9223372036854775808 WHERE true" ONE, 1, 1, "head of the log has another hash", 0},
    {"UPDATE audit_heads SET hash = sha256('') WHERE true" ONE, 1, 6, "head of the log has another hash", 5},
    {"DELETE FROM audit_heads WHERE true" ONE, 1, 1, "the head of the log is missing", 0},
    {"CREATE TEMP TABLE copy AS SELECT * FROM audit_log WHERE sequence = 6" ONE "UPDATE copy SET sequence = 7;"
     "INSERT INTO audit_log SELECT * FROM copy",
     1, 7, "events after the head", 6},
    {"CREATE TEMP TABLE copy AS SELECT * FROM audit_log WHERE sequence = 6" ONE "UPDATE copy SET sequence = 0;"
     "INSERT INTO audit_log SELECT * FROM copy",
     1, 1, "events before the first", 0},
    /* From the middle: what lies before is not looked at, but for the hash it begins with. */
    {"UPDATE audit_log SET action = 'user.delete' WHERE sequence = 2" ONE, 4, 0, "", 3},
    {"UPDATE audit_log SET action = 'user.delete' WHERE sequence = 3" ONE, 4, 0, "", 3},
    {"UPDATE audit_log SET hash = sha256('') WHERE sequence = 3" ONE, 4, 4, "hash before it", 0},
    {"DELETE FROM audit_log WHERE sequence = 2" ONE, 4, 0, "", 3},
    {"DELETE FROM audit_log WHERE sequence = 3" ONE, 4, 3, "the event is missing", 0},
    {"DELETE FROM audit_log WHERE sequence = 5" ONE, 4, 5, "the event is missing", 1},
    /* Behind the last: nothing but the end of the log. */
    {"UPDATE audit_heads SET hash = sha256('') WHERE true" ONE, 7, 6, "head of the log has another hash", 0},
    {"DELETE FROM audit_log WHERE sequence = 6" ONE, 7, 6, "the event is missing", 0},
    /* A log that was emptied with its head is that of an organization where nothing has happened. */
    {"DELETE FROM audit_log WHERE sequence > 0" ONE
     "UPDATE audit_heads SET sequence = 0, hash = decode(repeat('00', 32), 'hex') WHERE true" ONE,
     1, 0, "", 0},
};

static void expect_tampered(const struct tampering *tampering)
{
    Forge__V1__VerifyAuditLogResponse *reply;
    service_execute(of_alpha("CREATE SCHEMA kept; CREATE TABLE kept.log AS SELECT * FROM audit_log WHERE organization_id = '$o';"
                             "CREATE TABLE kept.heads AS SELECT * FROM audit_heads WHERE organization_id = '$o'"));
    service_execute(of_alpha(tampering->sql));
    service_ok(verify(alpha.admin, tampering->start, 0, &reply));
    bool fits = reply->broken_sequence == tampering->broken && reply->verified_count == tampering->verified &&
                strstr(reply->broken_reason, tampering->reason) != NULL && reply->valid == (tampering->broken == 0) &&
                reply->complete == reply->valid && (reply->broken_reason[0] == '\0') == (bool)reply->valid &&
                reply->last_sequence == (tampering->verified > 0 ? tampering->start + tampering->verified - 1 : 0) &&
                reply->last_hash.len == (tampering->verified > 0 ? FORGE_SHA256_SIZE : 0);
    if (!fits)
        fail_msg("%s\nfrom %d: broken at %d: %s, %d fit, the last %d", tampering->sql, (int)tampering->start, (int)reply->broken_sequence,
                 reply->broken_reason, (int)reply->verified_count, (int)reply->last_sequence);
    forge__v1__verify_audit_log_response__free_unpacked(reply, NULL);
    service_execute(of_alpha("DELETE FROM audit_log WHERE organization_id = '$o'; INSERT INTO audit_log SELECT * FROM kept.log;"
                             "DELETE FROM audit_heads WHERE organization_id = '$o'; INSERT INTO audit_heads SELECT * FROM kept.heads;"
                             "DROP SCHEMA kept CASCADE"));
}

static void test_what_was_tampered_with_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof tamperings / sizeof tamperings[0]; i++)
        expect_tampered(&tamperings[i]);
    expect_part(1, 0, 6, 6, true); /* all is as it was */
}

/* A part that ends before the log does says nothing of its end. */
static void test_a_part_does_not_look_behind_itself(void **state)
{
    (void)state;
    service_execute(of_alpha("UPDATE audit_heads SET sequence = 9 WHERE organization_id = '$o'"));
    expect_part(1, 5, 5, 5, false);
    service_execute(of_alpha("UPDATE audit_heads SET sequence = 6 WHERE organization_id = '$o'"));
    expect_part(1, 0, 6, 6, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_tell_who_did_what),
        cmocka_unit_test(test_the_chain_can_be_recomputed_from_the_pages),
        cmocka_unit_test(test_lists_are_filtered_and_paged),
        cmocka_unit_test(test_lists_of_a_time_hold_every_event_of_it),
        cmocka_unit_test(test_wrong_lists_are_named),
        cmocka_unit_test(test_a_whole_log_is_verified_in_one_or_in_parts),
        cmocka_unit_test(test_wrong_ranges_are_named),
        cmocka_unit_test(test_what_was_tampered_with_is_found),
        cmocka_unit_test(test_a_part_does_not_look_behind_itself),
        cmocka_unit_test(test_long_events_make_short_pages),
        cmocka_unit_test(test_admins_alone_see_their_own_log),
        cmocka_unit_test(test_who_deletes_itself_is_named),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
