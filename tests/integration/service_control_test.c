/* ControlService over TLS: Ping, CheckHealth, Reflect, CancelCall. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include "google/protobuf/descriptor.pb-c.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct service_tenant alpha;
static struct forge_channel *nobody;

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    nobody = service_channel(NULL);
    return 0;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- Ping --- */

static forge_code ping(const char *payload, int64_t reply_bytes, Forge__V1__PingResponse **out)
{
    Forge__V1__PingRequest request = FORGE__V1__PING_REQUEST__INIT;
    request.payload.data = (uint8_t *)TEXT(payload);
    request.payload.len = strlen(payload);
    request.reply_bytes = reply_bytes;
    return forge_control_ping(nobody, NULL, &request, out, &service_error);
}

static void test_ping_echoes_cuts_and_fills(void **state)
{
    (void)state;
    Forge__V1__PingResponse *reply;
    service_ok(ping("hello", 0, &reply));
    assert_int_equal(reply->payload.len, 5);
    assert_memory_equal(reply->payload.data, "hello", 5);
    forge__v1__ping_response__free_unpacked(reply, NULL);
    service_ok(ping("hello", 2, &reply));
    assert_int_equal(reply->payload.len, 2);
    assert_memory_equal(reply->payload.data, "he", 2);
    forge__v1__ping_response__free_unpacked(reply, NULL);
    service_ok(ping("hello", 65536, &reply));
    assert_int_equal(reply->payload.len, 65536);
    assert_memory_equal(reply->payload.data, "hello\0\0", 7);
    for (size_t i = 5; i < 65536; i++)
        assert_int_equal(reply->payload.data[i], 0);
    forge__v1__ping_response__free_unpacked(reply, NULL);
    service_ok(ping("", 0, &reply));
    assert_int_equal(reply->payload.len, 0);
    forge__v1__ping_response__free_unpacked(reply, NULL);
    service_violates(ping("x", -1, &reply), "reply_bytes", "must be 0 to 65536");
    service_violates(ping("x", 65537, &reply), "reply_bytes", "must be 0 to 65536");
}

/* --- CheckHealth --- */

static forge_code health(struct forge_channel *channel, const char *service, Forge__V1__ServingStatus known, int64_t wait_ms,
                         uint32_t timeout_ms, Forge__V1__CheckHealthResponse **out)
{
    Forge__V1__CheckHealthRequest request = FORGE__V1__CHECK_HEALTH_REQUEST__INIT;
    const struct forge_call_options options = {.timeout_ms = timeout_ms};
    request.service = TEXT(service);
    request.last_known_status = known;
    request.wait_ms = wait_ms;
    return forge_control_check_health(channel, &options, &request, out, &service_error);
}

static const Forge__V1__ServingStatus UNKNOWN = FORGE__V1__SERVING_STATUS__SERVING_STATUS_UNSPECIFIED,
                                      SERVING = FORGE__V1__SERVING_STATUS__SERVING_STATUS_SERVING,
                                      NOT_SERVING = FORGE__V1__SERVING_STATUS__SERVING_STATUS_NOT_SERVING;

static void test_health_of_server_and_services(void **state)
{
    (void)state;
    Forge__V1__CheckHealthResponse *reply;
    static const char *const services[] = {"", "forge.v1.ControlService", "forge.v1.PromptService", "forge.v1.TraceService"};
    for (size_t i = 0; i < sizeof services / sizeof services[0]; i++) {
        service_ok(health(nobody, services[i], UNKNOWN, 0, 5000, &reply));
        assert_int_equal(reply->status, SERVING);
        assert_string_equal(reply->reason, "");
        assert_in_range(reply->server_time->seconds, time(NULL) - 5, time(NULL) + 5);
        forge__v1__check_health_response__free_unpacked(reply, NULL);
    }
    service_fails(health(nobody, "forge.v1.Prompt", UNKNOWN, 0, 5000, &reply), FORGE_NOT_FOUND, "service \"forge.v1.Prompt\" not found");
    service_violates(health(nobody, service_repeat("x", 129), UNKNOWN, 300001, 5000, &reply), "service", "at most 128 bytes", "wait_ms",
                     "must be 0 to 300000");
    service_violates(health(nobody, "", UNKNOWN, -1, 5000, &reply), "wait_ms", "must be 0 to 300000");
}

static void test_a_watch_ends_with_its_wait_or_before_its_deadline(void **state)
{
    (void)state;
    Forge__V1__CheckHealthResponse *reply;
    uint64_t began = now_ms();
    service_ok(health(nobody, "", SERVING, 300, 10000, &reply));
    assert_in_range(now_ms() - began, 250, 5000);
    assert_int_equal(reply->status, SERVING);
    forge__v1__check_health_response__free_unpacked(reply, NULL);
    began = now_ms();
    service_ok(health(nobody, "", SERVING, 300000, 800, &reply)); /* OK, not DEADLINE_EXCEEDED */
    assert_in_range(now_ms() - began, 300, 800);
    forge__v1__check_health_response__free_unpacked(reply, NULL);
    began = now_ms();
    service_ok(health(nobody, "", NOT_SERVING, 10000, 20000, &reply)); /* it is another one already */
    assert_in_range(now_ms() - began, 0, 5000);
    assert_int_equal(reply->status, SERVING);
    forge__v1__check_health_response__free_unpacked(reply, NULL);
}

struct watch {
    struct forge_channel *channel;
    Forge__V1__ServingStatus known, told;
    char reason[128];
    forge_code rc;
};

static void *watch_health(void *argument)
{
    struct watch *watch = argument;
    Forge__V1__CheckHealthRequest request = FORGE__V1__CHECK_HEALTH_REQUEST__INIT;
    const struct forge_call_options options = {.timeout_ms = 60000};
    Forge__V1__CheckHealthResponse *reply;
    struct forge_error error = {0};
    request.last_known_status = watch->known;
    request.wait_ms = 50000;
    watch->rc = forge_control_check_health(watch->channel, &options, &request, &reply, &error);
    if (watch->rc == FORGE_OK) {
        watch->told = reply->status;
        snprintf(watch->reason, sizeof watch->reason, "%s", reply->reason);
        forge__v1__check_health_response__free_unpacked(reply, NULL);
    }
    forge_error_free(&error);
    return NULL;
}

static void test_a_watch_tells_that_the_database_went_and_came_back(void **state)
{
    (void)state;
    static struct watch watch; /* static: a failed assertion leaves the thread behind */
    watch = (struct watch){.channel = nobody, .known = SERVING};
    Forge__V1__CheckHealthResponse *reply;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, watch_health, &watch), 0);
    uint64_t began = now_ms();
    pg_cluster_stop(service_cluster());
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_in_range(now_ms() - began, 0, 10000); /* the wait would be 50 s */
    assert_int_equal(watch.rc, FORGE_OK);
    assert_int_equal(watch.told, NOT_SERVING);
    assert_string_not_equal(watch.reason, "");
    service_ok(health(nobody, "forge.v1.ControlService", UNKNOWN, 0, 5000, &reply)); /* needs no database */
    assert_int_equal(reply->status, SERVING);
    forge__v1__check_health_response__free_unpacked(reply, NULL);
    watch.known = NOT_SERVING;
    assert_int_equal(pthread_create(&thread, NULL, watch_health, &watch), 0);
    pg_cluster_start(service_cluster());
    began = now_ms();
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_in_range(now_ms() - began, 0, 10000);
    assert_int_equal(watch.rc, FORGE_OK);
    assert_int_equal(watch.told, SERVING);
}

static void test_a_draining_server_answers_watches_at_once(void **state)
{
    (void)state;
    struct forged_child *other = forged_world_serve(service_world(), NULL);
    const struct forge_channel_options options = {.addresses = forged_child_address(other),
                                                  .ca_file = tls_files_path(forged_world_tls(service_world()), "ca.pem")};
    static struct watch watch;
    Forge__V1__CheckHealthResponse *reply;
    pthread_t thread;
    watch = (struct watch){.known = SERVING};
    service_ok(forge_channel_open(&options, &watch.channel, &service_error));
    service_ok(health(watch.channel, "", UNKNOWN, 0, 5000, &reply)); /* it is connected now */
    forge__v1__check_health_response__free_unpacked(reply, NULL);
    assert_int_equal(pthread_create(&thread, NULL, watch_health, &watch), 0);
    char *metrics = NULL;
    do { /* until the watch has parked */
        free(metrics);
        assert_int_equal(forged_child_http(other, "/metrics", &metrics), 200);
    } while (strstr(metrics, "forged_parked_calls 1") == NULL && strstr(metrics, "parked 1") == NULL &&
             strstr(metrics, "waiting 1") == NULL);
    free(metrics);
    uint64_t began = now_ms();
    forged_child_signal(other, SIGTERM);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_in_range(now_ms() - began, 0, 10000);
    assert_int_equal(watch.rc, FORGE_OK);
    assert_int_equal(watch.told, NOT_SERVING);
    assert_string_equal(watch.reason, "draining");
    forge_channel_close(watch.channel);
    assert_int_equal(forged_child_wait(other, 30000), 0); /* a second signal would cut the drain short */
    forged_child_kill(other);
}

/* --- Reflect --- */

static forge_code reflect(struct forge_channel *channel, const char *symbol, Forge__V1__ReflectResponse **out)
{
    Forge__V1__ReflectRequest request = FORGE__V1__REFLECT_REQUEST__INIT;
    request.symbol = TEXT(symbol);
    return forge_control_reflect(channel, NULL, &request, out, &service_error);
}

static const Forge__V1__MethodInfo *method_of(const Forge__V1__ReflectResponse *reply, const char *name)
{
    for (size_t i = 0; i < reply->n_services; i++)
        for (size_t j = 0; j < reply->services[i]->n_methods; j++)
            if (strcmp(reply->services[i]->methods[j]->name, name) == 0)
                return reply->services[i]->methods[j];
    fail_msg("%s is not listed", name);
    return NULL;
}

static void test_reflect_lists_every_method_with_its_rule(void **state)
{
    (void)state;
    Forge__V1__ReflectResponse *reply;
    service_ok(reflect(alpha.admin, "", &reply));
    assert_int_equal(reply->n_services, 7);
    assert_string_equal(reply->services[0]->name, "forge.v1.ControlService");
    assert_string_equal(reply->server_version, forge_version());
    size_t count = 0;
    for (size_t i = 0; i < reply->n_services; i++)
        count += reply->services[i]->n_methods;
    for (size_t i = 0; i < count; i++) {
        const struct forge_method *method = forge_method_at(i);
        const Forge__V1__MethodInfo *info = method_of(reply, method->name);
        assert_string_equal(info->request_type, method->input->name);
        assert_string_equal(info->response_type, method->output->name);
        assert_int_equal(info->access == FORGE__V1__METHOD_ACCESS__METHOD_ACCESS_PUBLIC, !method->needs_credential);
        assert_true(info->default_timeout_ms > 0);
        assert_int_not_equal(info->worker_class, FORGE__V1__WORKER_CLASS__WORKER_CLASS_UNSPECIFIED);
    }
    assert_null(forge_method_at(count));
    const Forge__V1__MethodInfo *info = method_of(reply, "forge.v1.PromptService/CreatePrompt");
    assert_int_equal(info->access, FORGE__V1__METHOD_ACCESS__METHOD_ACCESS_DEVELOPER);
    assert_true(info->writes);
    assert_int_equal(info->worker_class, FORGE__V1__WORKER_CLASS__WORKER_CLASS_WRITE);
    assert_false(info->slow);
    info = method_of(reply, "forge.v1.TraceService/IngestSpans");
    assert_true(info->ingest_scope);
    assert_int_equal(info->worker_class, FORGE__V1__WORKER_CLASS__WORKER_CLASS_INGEST);
    assert_true(method_of(reply, "forge.v1.OrganizationService/Login")->slow);
    forge__v1__reflect_response__free_unpacked(reply, NULL);
}

/* The names of the files of a set, in their order. */
static const char *files_of(const Forge__V1__ReflectResponse *reply)
{
    static char names[1024];
    Google__Protobuf__FileDescriptorSet *set =
        google__protobuf__file_descriptor_set__unpack(NULL, reply->file_descriptor_set.len, reply->file_descriptor_set.data);
    assert_non_null(set);
    names[0] = '\0';
    for (size_t i = 0; i < set->n_file; i++) {
        strcat(strcat(names, set->file[i]->name), " ");
        for (size_t j = 0; j < set->file[i]->n_dependency; j++) { /* imports come first */
            bool before = false;
            for (size_t k = 0; k < i; k++)
                before = before || strcmp(set->file[k]->name, set->file[i]->dependency[j]) == 0;
            assert_true(before);
        }
    }
    google__protobuf__file_descriptor_set__free_unpacked(set, NULL);
    return names;
}

static void test_reflect_gives_the_file_that_defines_a_symbol(void **state)
{
    (void)state;
    Forge__V1__ReflectResponse *reply;
    static const char *const symbols[][2] = {
        {"forge.v1.ControlService", "google/protobuf/timestamp.proto forge/v1/control.proto "},
        {"forge.v1.ControlService/Ping", "google/protobuf/timestamp.proto forge/v1/control.proto "},
        {"forge.v1.ControlService.Ping", "google/protobuf/timestamp.proto forge/v1/control.proto "},
        {"forge.v1.PingRequest", "google/protobuf/timestamp.proto forge/v1/control.proto "},
        {"forge.v1.ServingStatus", "google/protobuf/timestamp.proto forge/v1/control.proto "},
        {"forge.v1.KeyValue", "forge/v1/common.proto "},
        {"google.protobuf.Timestamp", "google/protobuf/timestamp.proto "},
    };
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        service_ok(reflect(alpha.admin, symbols[i][0], &reply));
        assert_string_equal(files_of(reply), symbols[i][1]);
        assert_int_equal(reply->n_services, 0);
        forge__v1__reflect_response__free_unpacked(reply, NULL);
    }
    service_ok(reflect(alpha.admin, "forge.v1.PromptService/CreatePrompt", &reply));
    assert_non_null(strstr(files_of(reply), "forge/v1/common.proto "));
    assert_non_null(strstr(files_of(reply), "forge/v1/prompt.proto "));
    forge__v1__reflect_response__free_unpacked(reply, NULL);
}

static void test_reflect_says_what_it_does_not_have(void **state)
{
    (void)state;
    Forge__V1__ReflectResponse *reply;
    static const char *const wrong[] = {"forge",
                                        "forge.v1",
                                        "forge.v1.",
                                        "forge.v1.Ping",
                                        "forge.v1.PingRequest.payload",
                                        "forge.v1.ControlService/",
                                        "forge.v1.ControlService/Pin",
                                        "forge.v1.ControlService/Ping/x",
                                        "PingRequest",
                                        "."};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        service_fails(reflect(alpha.admin, wrong[i], &reply), FORGE_NOT_FOUND, "not found");
    service_violates(reflect(alpha.admin, service_repeat("x", 256), &reply), "symbol", "must be at most 255 bytes");
    service_fails(reflect(nobody, "", &reply), FORGE_UNAUTHENTICATED, "");
}

/* --- CancelCall --- */

struct pending {
    unsigned ended, ok, cancelled;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

static void note_end(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error,
                     const struct forge_reply_info *info)
{
    (void)error;
    (void)info;
    struct pending *pending = user;
    if (reply != NULL)
        protobuf_c_message_free_unpacked(reply, NULL);
    pthread_mutex_lock(&pending->lock);
    pending->ended++;
    pending->ok += code == FORGE_OK;
    pending->cancelled += code == FORGE_CANCELLED;
    pthread_cond_signal(&pending->changed);
    pthread_mutex_unlock(&pending->lock);
}

static bool cancel(struct forge_channel *channel, const char *request_id)
{
    Forge__V1__CancelCallRequest request = FORGE__V1__CANCEL_CALL_REQUEST__INIT;
    Forge__V1__CancelCallResponse *reply;
    request.request_id = TEXT(request_id);
    service_ok(forge_control_cancel_call(channel, NULL, &request, &reply, &service_error));
    bool cancelled = reply->cancelled;
    forge__v1__cancel_call_response__free_unpacked(reply, NULL);
    return cancelled;
}

/* Of two equal calls one runs into a lock and the other is parked until it ends: that one can be cancelled. */
static void test_a_parked_call_is_cancelled_by_its_own_connection_only(void **state)
{
    (void)state;
    static struct pending pending = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    char request_id[37], *metrics = NULL;
    strcpy(request_id, service_request_id());
    const struct forge_call_options options = {.request_id = request_id, .timeout_ms = 60000};
    struct forge_channel *stranger = service_channel(alpha.token);
    PGconn *lock = PQconnectdb(pg_cluster_url(service_cluster(), "postgres", forged_world_database(service_world())));
    PQclear(PQexec(lock, "BEGIN; LOCK TABLE projects IN EXCLUSIVE MODE"));
    assert_int_equal(PQtransactionStatus(lock), PQTRANS_INTRANS);
    assert_false(cancel(alpha.admin, request_id));
    request.name = TEXT("cancelled");
    for (int i = 0; i < 2; i++)
        service_ok(forge_project_create_async(alpha.admin, &options, &request, note_end, &pending, &service_error));
    do {
        free(metrics);
        assert_int_equal(forged_child_http(service_child(), "/metrics", &metrics), 200);
    } while (strstr(metrics, "\nforged_parked_calls 1\n") == NULL);
    free(metrics);
    assert_false(cancel(stranger, request_id)); /* the same principal, another connection */
    assert_false(cancel(alpha.admin, service_request_id()));
    uint64_t began = now_ms();
    while (!cancel(alpha.admin, request_id)) /* the running one gives up its lock after a second, and then they change places */
        assert_in_range(now_ms() - began, 0, 30000);
    PQfinish(lock);
    pthread_mutex_lock(&pending.lock);
    while (pending.ended < 2)
        pthread_cond_wait(&pending.changed, &pending.lock);
    pthread_mutex_unlock(&pending.lock);
    assert_int_equal(pending.cancelled, 1);
    assert_int_equal(pending.ok, 1);
    assert_false(cancel(alpha.admin, request_id));
    Forge__V1__CancelCallRequest bad = FORGE__V1__CANCEL_CALL_REQUEST__INIT;
    Forge__V1__CancelCallResponse *reply;
    bad.request_id = TEXT("x");
    service_violates(forge_control_cancel_call(alpha.admin, NULL, &bad, &reply, &service_error), "request_id", "must be a UUID");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ping_echoes_cuts_and_fills),
        cmocka_unit_test(test_health_of_server_and_services),
        cmocka_unit_test(test_a_watch_ends_with_its_wait_or_before_its_deadline),
        cmocka_unit_test(test_a_watch_tells_that_the_database_went_and_came_back),
        cmocka_unit_test(test_a_draining_server_answers_watches_at_once),
        cmocka_unit_test(test_reflect_lists_every_method_with_its_rule),
        cmocka_unit_test(test_reflect_gives_the_file_that_defines_a_symbol),
        cmocka_unit_test(test_reflect_says_what_it_does_not_have),
        cmocka_unit_test(test_a_parked_call_is_cancelled_by_its_own_connection_only),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
