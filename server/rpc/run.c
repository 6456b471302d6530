#include "rpc/run.h"

#include "rpc/group.h"
#include "rpc/reply.h"
#include "rpc/write_private.h"
#include "wire/clock.h"
#include "wire/envelope.h"

#include <assert.h>
#include <inttypes.h>

enum {
    DECODED_FACTOR = 16, /* times the wire size: 1,000 spans with 12 attributes need 6.5, 1,000 short results 11.6 */
    DECODED_EXTRA = 64 << 10,
    DEPTH_MAX = 16,
    UNKNOWN_MAX = 64 << 10,
    REQUEST_ID_OLD_MS = 24 * 3600 * 1000,
    REQUEST_ID_AHEAD_MS = 10 * 60 * 1000
};

static forge_code unpack(struct rpc_active *active)
{
    size_t decoded_max = DECODED_FACTOR * active->payload_len + DECODED_EXTRA, most = rpc_active_server(active)->config.decoded_max;
    const struct forge_message_limits limits = {
        .decoded_max = decoded_max < most ? decoded_max : most, .depth_max = DEPTH_MAX, .unknown_max = UNKNOWN_MAX};
    return forge_message_unpack(rpc_methods[active->method].input, active->payload, active->payload_len, &limits, &active->arena,
                                &active->request, &active->call.error);
}

static forge_code check_request_id(struct rpc_active *active)
{
    const struct forge_uuid *id = &active->call.request_id;
    if (forge_uuid_is_nil(id))
        return rpc_active_refuse(active, FORGE_INVALID_ARGUMENT, "this method writes: the header needs a request_id (UUID version 7)");
    if (!forge_uuid_is_v7(id))
        return rpc_active_refuse(active, FORGE_INVALID_ARGUMENT, "request_id must be a UUID version 7");
    int64_t age_ms = active->call.now_us / 1000 - forge_uuid_v7_ms(id);
    if (age_ms > REQUEST_ID_OLD_MS)
        return rpc_active_refuse(active, FORGE_INVALID_ARGUMENT, "request_id is older than 24 hours");
    if (age_ms < -REQUEST_ID_AHEAD_MS)
        return rpc_active_refuse(active, FORGE_INVALID_ARGUMENT, "request_id is more than 10 minutes ahead of this server's clock");
    return FORGE_OK;
}

forge_code rpc_run_prepare(struct rpc_active *active)
{
    forge_code code = active->request ? FORGE_OK : unpack(active);
    if (code == FORGE_OK && active->rule->write == AUTH_WRITE_ONCE)
        code = check_request_id(active);
    return code;
}

forge_code rpc_run_handler(struct rpc_active *active)
{
    const struct rpc_method_entry *method = &rpc_methods[active->method];
    ProtobufCMessage *reply = forge_arena_alloc(&active->arena, method->output->sizeof_message);
    if (!reply)
        return rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED, "no memory for the reply");
    protobuf_c_message_init(method->output, reply);
    active->reply = reply;
    active->usage = NULL;
    active->join.kind = NULL;
    active->handler_ran = true;
    forge_code code = method->handler(&active->call, active->request, reply);
    active->call.error.not_executed = false;
    if (code == FORGE_OK && forge_arena_has_overflowed(&active->arena))
        return rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED, "the call needs more than %zu bytes", active->arena.bytes_max);
    return code;
}

static forge_code authenticate(struct rpc_active *active)
{
    struct auth_principal_cache *cache = rpc_active_server(active)->config.principals;
    forge_code code = auth_certificate_find(active->call.db, &active->credential, &active->call.error);
    if (code != FORGE_OK)
        return code;
    uint64_t generation = auth_principal_cache_generation(cache, &active->credential.organization_id);
    code = auth_authenticate(active->call.db, &active->credential, active->call.now_us, &active->call.principal, &active->call.error);
    if (code != FORGE_OK)
        return code;
    active->authenticated = true;
    if (active->call.calls_in_flight_max == 0)
        active->call.calls_in_flight_max = rpc_calls_in_flight_max(rpc_active_server(active), &active->call.principal);
    auth_principal_cache_put(cache, active->credential.hash, &active->call.principal, generation);
    return auth_rule_check(active->rule, &active->call.principal, &active->call.error);
}

static forge_code run(struct rpc_active *active)
{
    forge_code code = rpc_run_prepare(active);
    if (code != FORGE_OK)
        return code;
    if (active->rule->write == AUTH_WRITE_ONCE || active->rule->write == AUTH_WRITE_REPEATABLE)
        return rpc_write_run(active);
    code = rpc_run_handler(active);
    return code == FORGE_OK ? rpc_reply_pack(active) : code;
}

forge_code rpc_call_connect(struct rpc_call *call)
{
    if (call->db)
        return FORGE_OK;
    forge_code code = db_pool_lease(rpc_active_of(call)->pool, call->arena, call->deadline_ns, &call->db, &call->error);
    if (code == FORGE_OK)
        db_session_bind_tenant(call->db, &call->principal.organization_id);
    return code;
}

static forge_code work(struct rpc_active *active, struct db_pool *pool, enum rpc_step *out_step)
{
    struct rpc_call *call = &active->call;
    if (atomic_load(&rpc_active_server(active)->stopping))
        return rpc_active_refuse(active, FORGE_UNAVAILABLE, "the server is stopping");
    if (rpc_active_left_ns(active) == 0)
        return rpc_active_refuse(active, FORGE_DEADLINE_EXCEEDED, "the deadline was over after %" PRIu64 " ms in the queue",
                                 active->queue_ns / 1000000);
    forge_code code = FORGE_OK;
    active->pool = pool;
    call->now_us = forge_clock_wall_us();
    if (active->authenticated && active->rule->way == AUTH_WAY_COMPUTE)
        return run(active);
    code = db_pool_lease(pool, &active->arena, call->deadline_ns, &call->db, &call->error);
    if (code != FORGE_OK)
        return code;
    if (active->rule->access == AUTH_ACCESS_PUBLIC)
        return run(active);
    if (!active->authenticated) {
        code = authenticate(active);
        if (code == FORGE_OK && active->rule->way == AUTH_WAY_INLINE) {
            *out_step = RPC_STEP_INLINE;
            return FORGE_OK;
        }
    } else {
        db_session_bind_tenant(call->db, &call->principal.organization_id);
    }
    return code == FORGE_OK ? run(active) : code;
}

void rpc_run_on_worker(struct rpc_active *active, struct db_pool *pool)
{
    enum rpc_step step = RPC_STEP_FINISH;
    active->queue_ns += forge_clock_monotonic_ns() - active->queued_ns;
    active->code = work(active, pool, &step);
    db_pool_release(active->call.db);
    active->call.db = NULL;
    if (active->code == FORGE_PARKED && active->join.kind) {
        rpc_groups_put(rpc_active_server(active)->groups, active);
        return; /* it is not ours any more */
    }
    rpc_active_hand_back(active, active->code == FORGE_PARKED ? RPC_STEP_SETTLE : step);
}
