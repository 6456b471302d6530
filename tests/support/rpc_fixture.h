/* The RPC server in the test's own process, on a real PostgreSQL with the migrated schema, called through a source of the test
 * (rpc/source.h): every byte but TLS is the real one. One organization with an admin, a developer and a viewer, keys of every scope, an
 * operator token. */
#ifndef TESTS_SUPPORT_RPC_FIXTURE_H
#define TESTS_SUPPORT_RPC_FIXTURE_H

#include "auth/key_file.h"
#include "auth/principal_cache.h"
#include "auth/token.h"
#include "base/metrics.h"
#include "db/pool.h"
#include "forge/v1/common.pb-c.h"
#include "rpc/server.h"
#include "support/pg_cluster.h"

#include <pthread.h>
#include <stdatomic.h>

struct rpc_fixture {
    struct pg_cluster *cluster;
    const char *database, *url; /* of forge_app */
    struct auth_keys keys;
    struct auth_principal_cache *principals;
    struct forge_uuid organization_id, admin_id, developer_id, viewer_id, project_id, api_key_id, session_id;
    char admin[AUTH_TOKEN_SIZE], developer[AUTH_TOKEN_SIZE], viewer[AUTH_TOKEN_SIZE]; /* sessions */
    char read_key[AUTH_TOKEN_SIZE], write_key[AUTH_TOKEN_SIZE], ingest_key[AUTH_TOKEN_SIZE], operator_token[AUTH_TOKEN_SIZE];
    atomic_bool feed_is_fresh; /* false: the principal cache is not used */
    atomic_uint changes;       /* announced by writes that committed */
};
/* Cluster, database, organization and tokens; ends the program when that fails. */
void rpc_fixture_open(struct rpc_fixture *fixture);
void rpc_fixture_close(struct rpc_fixture *fixture);
/* A row of api_keys or sessions for a fresh token. user_id: creator. */
void rpc_fixture_add_api_key(struct rpc_fixture *fixture, const struct forge_uuid *id, const struct forge_uuid *user_id, unsigned scopes,
                             const char *more_columns, const char *more_values, char out_token[AUTH_TOKEN_SIZE]);
void rpc_fixture_execute(struct rpc_fixture *fixture, const char *format, ...) FORGE_PRINTF(2, 3);
int rpc_fixture_number(struct rpc_fixture *fixture, const char *format, ...) FORGE_PRINTF(2, 3);

/* A server with a pool and metrics of its own. */
struct rpc_fixture_server {
    struct rpc_fixture *fixture;
    struct base_metrics *metrics;
    struct db_pool *pool;
    struct rpc_server *server;
};
/* Settings that tests change before they start it; two loops, four workers. */
void rpc_fixture_config(struct rpc_server_config *config);
/* url NULL = the fixture's. Waits until the database is there. */
void rpc_fixture_start(struct rpc_fixture *fixture, const struct rpc_server_config *config, const char *url,
                       struct rpc_fixture_server *out);
void rpc_fixture_stop(struct rpc_fixture_server *server);

/* A connection. */
struct rpc_caller;
struct rpc_caller *rpc_caller_open(struct rpc_fixture_server *server, int loop); /* NULL when the server refuses it */
/* Closes it and waits until its calls have ended. */
void rpc_caller_close(struct rpc_caller *caller);
bool rpc_caller_is_verified(struct rpc_caller *caller);
unsigned rpc_caller_dropped(struct rpc_caller *caller); /* calls that ended without a reply */

/* One call. Zero it, then set what is needed. */
struct rpc_request {
    const char *method; /* without "forge.v1." */
    const char *token;  /* NULL = none */
    const struct forge_uuid *request_id;
    const ProtobufCMessage *message; /* NULL = empty payload */
    int64_t timeout_us;              /* 0 = 20 s */
    int64_t max_reply_bytes;
    const Forge__V1__RequestHeader *header; /* used instead of the fields above, but message, when set */
    bool truncated;
};
struct rpc_answer {
    const Forge__V1__ReplyHeader *header;
    const uint8_t *payload;
    size_t payload_len;
};
struct rpc_pending;
struct rpc_pending *rpc_caller_send(struct rpc_caller *caller, const struct rpc_request *request);
struct rpc_pending *rpc_caller_send_raw(struct rpc_caller *caller, const void *body, size_t size);
bool rpc_pending_is_answered(struct rpc_pending *pending);
/* Waits; NULL when the call was dropped. The answer lives until rpc_caller_close. Fails the test after 30 s. */
const struct rpc_answer *rpc_pending_wait(struct rpc_pending *pending);
/* Sends and waits. */
const struct rpc_answer *rpc_caller_call(struct rpc_caller *caller, const struct rpc_request *request);
/* The answer has this code, the code's name as the reason, and its message contains this text (NULL: any). */
void rpc_answer_expect(const struct rpc_answer *answer, forge_code code, const char *text);
/* The same with a reason of its own. */
void rpc_answer_expect_reason(const struct rpc_answer *answer, forge_code code, const char *reason, const char *text);
/* The payload, unpacked; protobuf_c_message_free_unpacked. */
ProtobufCMessage *rpc_answer_unpack(const struct rpc_answer *answer, const ProtobufCMessageDescriptor *type);

/* A door that handlers of the test stand before. */
struct rpc_gate {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    unsigned inside; /* handlers that came and have not gone */
    bool open;
};
#define RPC_GATE_INIT                                                                                                                      \
    {                                                                                                                                      \
        .lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER                                                               \
    }
void rpc_gate_pass(struct rpc_gate *gate);                           /* a handler: waits until it is open */
void rpc_gate_wait_inside(struct rpc_gate *gate, unsigned handlers); /* the test: waits until so many are inside */
void rpc_gate_open(struct rpc_gate *gate);
void rpc_gate_close(struct rpc_gate *gate);

#endif
