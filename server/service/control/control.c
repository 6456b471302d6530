/* ControlService: the server itself. Memory only: its methods answer while the database is away. */
#include "auth/rules.h"
#include "rpc/call.h"
#include "service/control/descriptors.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/clock.h"

#include "rpc_table.h"

#include <string.h>

enum { PING_REPLY_BYTES_MAX = 65536, WATCH_DEFAULT_MS = 30000, WATCH_MAX_MS = 300000, SYMBOL_BYTES_MAX = 255, SERVICE_BYTES_MAX = 128 };

forge_code control_ping(struct rpc_call *call, const Forge__V1__PingRequest *in, Forge__V1__PingResponse *out)
{
    if (in->reply_bytes < 0 || in->reply_bytes > PING_REPLY_BYTES_MAX) {
        rpc_call_violation(call, "reply_bytes", "must be 0 to %d", PING_REPLY_BYTES_MAX);
        return rpc_call_invalid(call);
    }
    out->payload = in->payload;
    size_t size = (size_t)in->reply_bytes;
    if (size == 0)
        return FORGE_OK;
    out->payload.data = forge_arena_alloc(call->arena, size); /* zeroed */
    if (out->payload.data == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the reply needs too much memory");
    out->payload.len = size;
    if (in->payload.len > 0)
        memcpy(out->payload.data, in->payload.data, in->payload.len < size ? in->payload.len : size);
    return FORGE_OK;
}

/* Length of the service's name in a method's full name. */
static size_t service_length(const char *method)
{
    return strcspn(method, "/");
}

static bool service_exists(const char *service)
{
    size_t length = strlen(service);
    for (size_t i = 0; i < RPC_METHOD_COUNT; i++)
        if (service_length(rpc_methods[i].name) == length && memcmp(rpc_methods[i].name, service, length) == 0)
            return true;
    return false;
}

/* Control itself answers without a database. */
static Forge__V1__ServingStatus health_now(struct rpc_call *call, const char *service, const char **out_reason)
{
    if (rpc_server_is_draining(call->server)) {
        *out_reason = "draining";
        return FORGE__V1__SERVING_STATUS__SERVING_STATUS_NOT_SERVING;
    }
    if (strcmp(service, "forge.v1.ControlService") == 0 || rpc_server_is_ready(call->server, out_reason)) {
        *out_reason = "";
        return FORGE__V1__SERVING_STATUS__SERVING_STATUS_SERVING;
    }
    return FORGE__V1__SERVING_STATUS__SERVING_STATUS_NOT_SERVING;
}

static forge_code health_check(struct rpc_call *call, const Forge__V1__CheckHealthRequest *in)
{
    if (strlen(in->service) > SERVICE_BYTES_MAX)
        rpc_call_violation(call, "service", "must be at most %d bytes", SERVICE_BYTES_MAX);
    if (in->wait_ms < 0 || in->wait_ms > WATCH_MAX_MS)
        rpc_call_violation(call, "wait_ms", "must be 0 to %d", WATCH_MAX_MS);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    if (in->service[0] != '\0' && !service_exists(in->service))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "service \"%s\" not found", in->service);
    return FORGE_OK;
}

/* Waits until the status is another one than the caller knows. Whoever changes the status calls rpc_wake(server, "health"). */
forge_code control_check_health(struct rpc_call *call, const Forge__V1__CheckHealthRequest *in, Forge__V1__CheckHealthResponse *out)
{
    forge_code rc = health_check(call, in);
    if (rc != FORGE_OK)
        return rc;
    bool watches = in->last_known_status != FORGE__V1__SERVING_STATUS__SERVING_STATUS_UNSPECIFIED && !call->woken;
    if (watches) { /* in the table before the status is looked at, so that no change is missed */
        uint64_t wait_ms = in->wait_ms != 0 ? (uint64_t)in->wait_ms : WATCH_DEFAULT_MS;
        rc = rpc_call_park(call, "health", forge_clock_monotonic_ms() + wait_ms);
        if (rc == FORGE_UNAVAILABLE) { /* draining: nothing waits any more */
            call->error = (struct forge_error){0};
            watches = false;
        } else if (rc != FORGE_OK) {
            return rc;
        }
    }
    const char *reason = "";
    Forge__V1__ServingStatus status = health_now(call, in->service, &reason);
    if (watches && status == in->last_known_status)
        return FORGE_PARKED;
    if (watches)
        rpc_call_unpark(call);
    out->status = status;
    out->reason = forge_arena_strdup(call->arena, reason);
    out->server_time = reply_time_us(call, forge_clock_wall_us());
    return FORGE_OK;
}

static Forge__V1__MethodAccess method_access(enum auth_access access)
{
    switch (access) {
    case AUTH_ACCESS_PUBLIC:
        return FORGE__V1__METHOD_ACCESS__METHOD_ACCESS_PUBLIC;
    case AUTH_ACCESS_OPERATOR:
        return FORGE__V1__METHOD_ACCESS__METHOD_ACCESS_OPERATOR;
    case AUTH_ACCESS_ANY:
    case AUTH_ACCESS_SESSION:
    case AUTH_ACCESS_VIEWER:
        return FORGE__V1__METHOD_ACCESS__METHOD_ACCESS_VIEWER;
    case AUTH_ACCESS_DEVELOPER:
        return FORGE__V1__METHOD_ACCESS__METHOD_ACCESS_DEVELOPER;
    case AUTH_ACCESS_ADMIN:
        break;
    }
    return FORGE__V1__METHOD_ACCESS__METHOD_ACCESS_ADMIN;
}

static Forge__V1__MethodInfo *method_info(struct rpc_call *call, const struct rpc_method_entry *method)
{
    Forge__V1__MethodInfo *info = reply_message(call, &forge__v1__method_info__descriptor);
    const struct auth_rule *rule = auth_rule_find(method->name);
    if (info == NULL || rule == NULL)
        return info;
    info->name = forge_arena_strdup(call->arena, method->name);
    info->request_type = forge_arena_strdup(call->arena, method->input->name);
    info->response_type = forge_arena_strdup(call->arena, method->output->name);
    info->access = method_access(rule->access);
    info->ingest_scope = rule->ingest;
    info->writes = rule->write != AUTH_READ;
    info->worker_class = (Forge__V1__WorkerClass)(rule->queue_class + 1); /* the same order, behind UNSPECIFIED */
    info->slow = rule->slow;
    info->default_timeout_ms = rule->timeout_ms;
    return info;
}

static Forge__V1__ServiceInfo *service_add(struct rpc_call *call, const char *method, Forge__V1__ReflectResponse *out)
{
    Forge__V1__ServiceInfo *service = reply_message(call, &forge__v1__service_info__descriptor);
    if (service == NULL)
        return NULL;
    service->name = forge_arena_strndup(call->arena, method, service_length(method));
    service->methods = forge_arena_calloc(call->arena, RPC_METHOD_COUNT, sizeof service->methods[0]);
    if (service->name == NULL || service->methods == NULL)
        return NULL;
    out->services[out->n_services++] = service;
    return service;
}

/* rpc_methods is sorted by name, so the methods of a service stand together. */
static void services_list(struct rpc_call *call, Forge__V1__ReflectResponse *out)
{
    Forge__V1__ServiceInfo *service = NULL;
    out->services = forge_arena_calloc(call->arena, RPC_METHOD_COUNT, sizeof out->services[0]);
    for (size_t i = 0; out->services != NULL && i < RPC_METHOD_COUNT; i++) {
        const char *name = rpc_methods[i].name;
        if (service == NULL || strlen(service->name) != service_length(name) || strncmp(service->name, name, service_length(name)) != 0)
            service = service_add(call, name, out);
        Forge__V1__MethodInfo *info = service != NULL ? method_info(call, &rpc_methods[i]) : NULL;
        if (info == NULL)
            return; /* rpc sees the overflow */
        service->methods[service->n_methods++] = info;
    }
}

forge_code control_reflect(struct rpc_call *call, const Forge__V1__ReflectRequest *in, Forge__V1__ReflectResponse *out)
{
    if (strlen(in->symbol) > SYMBOL_BYTES_MAX) {
        rpc_call_violation(call, "symbol", "must be at most %d bytes", SYMBOL_BYTES_MAX);
        return rpc_call_invalid(call);
    }
    out->server_version = forge_arena_strdup(call->arena, FORGE_VERSION_TEXT);
    if (in->symbol[0] == '\0') {
        services_list(call, out);
        return FORGE_OK;
    }
    uint8_t *set;
    size_t size;
    if (!descriptors_find(in->symbol, call->arena, &set, &size))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "symbol \"%s\" not found", in->symbol);
    out->file_descriptor_set.data = set;
    out->file_descriptor_set.len = size;
    return FORGE_OK;
}

forge_code control_cancel_call(struct rpc_call *call, const Forge__V1__CancelCallRequest *in, Forge__V1__CancelCallResponse *out)
{
    struct forge_uuid request_id;
    if (!validate_uuid(call, "request_id", in->request_id, &request_id))
        return rpc_call_invalid(call);
    out->cancelled = rpc_call_cancel_other(call, &request_id);
    return FORGE_OK;
}
