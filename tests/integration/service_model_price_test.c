/* OrganizationService over TLS: what models cost, from a time on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <stdio.h>
#include <string.h>

#define SET "OrganizationService/SetModelPrice"
#define LIST "OrganizationService/ListModelPrices"
#define INPUT(micros) "{'usage_type': 'USAGE_TYPE_INPUT', 'micros_per_million_tokens': " micros "}"

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

/* A model at a provider of its own. */
static void model_make(const struct service_tenant *tenant, const char *name, char out_id[37])
{
    char provider_id[37];
    service_ok(service_call(tenant->admin, "OrganizationService/CreateModelProvider", NULL, "{'name': '%s'}", name));
    service_reply_text("id", provider_id, sizeof provider_id);
    service_ok(
        service_call(tenant->admin, "OrganizationService/CreateAiModel", NULL, "{'provider_id': '%s', 'name': '%s'}", provider_id, name));
    service_reply_text("id", out_id, 37);
}

static void price_set(const char *model_id, const char *time, int micros)
{
    service_ok(service_call(alpha.admin, SET, NULL,
                            "{'model_id': '%s', 'effective_time': '%s', 'usage_prices': [{'usage_type': 'USAGE_TYPE_INPUT',"
                            " 'micros_per_million_tokens': %d}]}",
                            model_id, time, micros));
}

static const char *query(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *query(const char *format, ...)
{
    char sql[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sql, sizeof sql, format, arguments);
    va_end(arguments);
    return service_query(sql);
}

static void test_a_price_is_set_for_each_kind_of_tokens(void **state)
{
    (void)state;
    char model_id[37], id[37];
    model_make(&alpha, "priced", model_id);
    service_ok(service_call(alpha.admin, SET, NULL,
                            "{'model_id': '%s', 'effective_time': '2026-01-02T03:04:05.000006Z', 'currency': 'USD', 'usage_prices': ["
                            "{'usage_type': 'USAGE_TYPE_OUTPUT', 'micros_per_million_tokens': 60000000},"
                            "{'usage_type': 'USAGE_TYPE_CACHE_READ'}," INPUT("30000000") "]}",
                            model_id));
    service_reply_text("id", id, sizeof id);
    service_shows(model_id,
                  "'effective_time':'2026-01-02T03:04:05.000006Z','currency':'USD','usage_prices':["
                  "{'usage_type':'USAGE_TYPE_INPUT','micros_per_million_tokens':'30000000'},"
                  "{'usage_type':'USAGE_TYPE_OUTPUT','micros_per_million_tokens':'60000000'}],'creator_id':",
                  "'create_time'");
    assert_string_equal(query("SELECT input_price || '|' || cache_read_price || '|' || cache_write_price || '|' || output_price || '|' ||"
                              " reasoning_price FROM model_prices WHERE id = '%s'",
                              id),
                        "30000000|0|0|60000000|0");
    assert_string_equal(query("SELECT action || '|' || (details->>'model_id' = '%s') FROM audit_log WHERE target_id = '%s'", model_id, id),
                        "model_price.set|true");
    assert_string_equal(
        query("SELECT count(*) FROM changes WHERE kind = 'model_price' AND object_id = '%s' AND parent_id = '%s'", id, model_id), "1");
    service_ok(service_call(alpha.admin, SET, NULL, "{'model_id': '%s', 'usage_prices': [" INPUT("0") "]}", model_id));
    service_shows("'currency':'USD','creator_id'"); /* free from now on */
    assert_string_equal(query("SELECT count(*) FROM model_prices WHERE model_id = '%s' AND effective_at = created_at", model_id), "1");
    service_ok(service_call(alpha.admin, SET, NULL,
                            "{'model_id': '%s', 'effective_time': '2099-01-01T00:00:00Z', 'usage_prices': [" INPUT("1000000000000") "]}",
                            model_id));
}

static void test_every_wrong_field_is_named(void **state)
{
    (void)state;
    service_violates(service_call(alpha.admin, SET, NULL, "{'currency': 'EUR'}"), "model_id", "is required", "currency", "must be USD",
                     "usage_prices", "at least one is required");
    service_violates(
        service_call(alpha.admin, SET, NULL,
                     "{'model_id': '%s', 'usage_prices': [{'micros_per_million_tokens': -1}," INPUT("1000000000001") "," INPUT("1") "]}",
                     nobody_has),
        "usage_prices[0].usage_type", "must be USAGE_TYPE_INPUT", "usage_prices[0].micros_per_million_tokens", "must be 0 to 1000000000000",
        "usage_prices[1].micros_per_million_tokens", "must be 0 to", "usage_prices[2].usage_type", "is given twice");
    service_violates(service_call(alpha.admin, SET, NULL, "{'model_id': '%s', 'usage_prices': [{}, {}, {}, {}, {}, {}]}", nobody_has),
                     "usage_prices", "at most 5", "usage_prices[0].usage_type", "", "usage_prices[1].usage_type", "",
                     "usage_prices[2].usage_type", "", "usage_prices[3].usage_type", "", "usage_prices[4].usage_type", "");
    service_violates(service_call(alpha.admin, LIST, NULL, "{'page_size': -1, 'model_id': 'x'}"), "model_id", "must be a UUID", "page_size",
                     "");
    Forge__V1__SetModelPriceRequest request = FORGE__V1__SET_MODEL_PRICE_REQUEST__INIT;
    Forge__V1__ListModelPricesRequest list = FORGE__V1__LIST_MODEL_PRICES_REQUEST__INIT;
    Google__Protobuf__Timestamp never = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Forge__V1__UsagePrice price = FORGE__V1__USAGE_PRICE__INIT, *prices[] = {&price};
    Forge__V1__ModelPrice *made;
    Forge__V1__ListModelPricesResponse *listed;
    never.nanos = -1;
    price.usage_type = FORGE__V1__USAGE_TYPE__USAGE_TYPE_INPUT;
    request.model_id = TEXT(nobody_has);
    request.effective_time = list.effective_at = &never;
    request.n_usage_prices = 1;
    request.usage_prices = prices;
    service_violates(forge_organization_set_model_price(alpha.admin, NULL, &request, &made, &service_error), "effective_time",
                     "must be a time");
    service_violates(forge_organization_list_model_prices(alpha.admin, NULL, &list, &listed, &service_error), "effective_at",
                     "must be a time");
}

static void test_a_model_has_one_price_from_a_time_on(void **state)
{
    (void)state;
    char model_id[37], foreign_id[37];
    model_make(&alpha, "once", model_id);
    model_make(&beta, "once", foreign_id);
    price_set(model_id, "2026-05-01T00:00:00Z", 1);
    service_fails(service_call(alpha.admin, SET, NULL,
                               "{'model_id': '%s', 'effective_time': '2026-05-01T00:00:00Z', 'usage_prices': [" INPUT("2") "]}", model_id),
                  FORGE_ALREADY_EXISTS, "has a price from this time on already");
    service_fails(service_call(alpha.admin, SET, NULL, "{'model_id': '%s', 'usage_prices': [" INPUT("2") "]}", nobody_has), FORGE_NOT_FOUND,
                  "model 01890000-0000-7000-8000-000000000000 not found");
    service_fails(service_call(alpha.admin, SET, NULL, "{'model_id': '%s', 'usage_prices': [" INPUT("2") "]}", foreign_id), FORGE_NOT_FOUND,
                  "not found");
    struct forge_channel *refused[] = {service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, NULL),
                                       service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, alpha.project_id)};
    static const char *const why[] = {"admin", "bound to one project"};
    for (size_t i = 0; i < 2; i++)
        service_fails(service_call(refused[i], SET, NULL, "{'model_id': '%s', 'usage_prices': [" INPUT("2") "]}", model_id),
                      FORGE_PERMISSION_DENIED, why[i]);
    service_ok(service_call(refused[1], LIST, NULL, "{'model_id': '%s'}", model_id));
    service_shows(model_id);
    service_ok(service_call(beta.admin, LIST, NULL, "{'model_id': '%s'}", model_id));
    assert_string_equal(service_reply(), "{}");
}

/* "Now" is the time of the first attempt. */
static void test_a_repeat_gets_the_first_reply(void **state)
{
    (void)state;
    char model_id[37], request_id[37], first[1024];
    model_make(&alpha, "repeated", model_id);
    strcpy(request_id, service_request_id());
    for (int i = 0; i < 3; i++) {
        service_ok(service_call(alpha.admin, SET, request_id, "{'model_id': '%s', 'usage_prices': [" INPUT("2") "]}", model_id));
        assert_int_equal(service_reply_is_stored(), i > 0);
        if (i == 0)
            snprintf(first, sizeof first, "%s", service_reply());
        assert_string_equal(service_reply(), first);
    }
    service_fails(service_call(alpha.admin, SET, request_id, "{'model_id': '%s', 'usage_prices': [" INPUT("3") "]}", model_id),
                  FORGE_INVALID_ARGUMENT, "request_id");
}

/* Pages of one, until there is no more: the prices in micro-units in their order. */
static void listed(const char *filter, const char *expected)
{
    char token[1024] = "", found[256] = "", micros[32];
    do {
        service_ok(service_call(alpha.admin, LIST, NULL, "{'page_size': 1, 'page_token': '%s'%s}", token, filter));
        service_reply_text("micros_per_million_tokens", micros, sizeof micros);
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", *found != '\0' ? "," : "", micros);
        service_reply_text("next_page_token", token, sizeof token);
    } while (*token != '\0');
    assert_string_equal(found, expected);
}

static void test_prices_are_listed_by_model_and_time(void **state)
{
    (void)state;
    char first[37], second[37], filter[160];
    service_execute("DELETE FROM model_prices");
    model_make(&alpha, "list 1", first); /* ids ascend by the time they are made */
    model_make(&alpha, "list 2", second);
    price_set(first, "2026-01-01T00:00:00Z", 11);
    price_set(second, "2025-01-01T00:00:00Z", 21);
    price_set(first, "2027-01-01T00:00:00Z", 13);
    price_set(first, "2026-06-01T00:00:00Z", 12);
    price_set(second, "9999-12-31T23:59:59.999999Z", 22);
    price_set(first, "0001-01-01T00:00:00Z", 10);
    listed("", "13,12,11,10,22,21");
    snprintf(filter, sizeof filter, ", 'model_id': '%s'", first);
    listed(filter, "13,12,11,10");
    snprintf(filter, sizeof filter, ", 'model_id': '%s'", second);
    listed(filter, "22,21");
    listed(", 'effective_at': '2026-06-01T00:00:00Z'", "12,21");
    listed(", 'effective_at': '2026-05-31T23:59:59.999999Z'", "11,21");
    listed(", 'effective_at': '2024-05-01T00:00:00Z'", "10");
    snprintf(filter, sizeof filter, ", 'model_id': '%s', 'effective_at': '2026-07-01T00:00:00Z'", first);
    listed(filter, "12");
    snprintf(filter, sizeof filter, ", 'model_id': '%s'", nobody_has);
    listed(filter, "");
    char token[1024];
    service_ok(service_call(alpha.admin, LIST, NULL, "{'page_size': 1}"));
    service_reply_text("next_page_token", token, sizeof token);
    service_violates(service_call(alpha.admin, LIST, NULL, "{'page_token': '%s', 'model_id': '%s'}", token, first), "page_token",
                     "belongs to another query");
}

static void test_prices_go_with_their_model(void **state)
{
    (void)state;
    char model_id[37];
    model_make(&alpha, "doomed", model_id);
    price_set(model_id, "2026-01-01T00:00:00Z", 1);
    service_ok(service_call(alpha.admin, "OrganizationService/GetAiModel", NULL, "{'id': '%s'}", model_id));
    service_shows("'etag':'1'"); /* prices do not count */
    service_ok(service_call(alpha.admin, "OrganizationService/DeleteAiModel", NULL, "{'id': '%s'}", model_id));
    assert_string_equal(query("SELECT count(*) FROM model_prices WHERE model_id = '%s'", model_id), "0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_price_is_set_for_each_kind_of_tokens), cmocka_unit_test(test_every_wrong_field_is_named),
        cmocka_unit_test(test_a_model_has_one_price_from_a_time_on),   cmocka_unit_test(test_a_repeat_gets_the_first_reply),
        cmocka_unit_test(test_prices_are_listed_by_model_and_time),    cmocka_unit_test(test_prices_go_with_their_model),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
