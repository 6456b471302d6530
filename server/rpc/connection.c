#include "rpc/dispatch.h"

#include <stdlib.h>
#include <string.h>

static void list_add(struct rpc_connection *connection)
{
    struct rpc_loop *loop = connection->loop;
    connection->next = loop->connections;
    if (connection->next)
        connection->next->previous = connection;
    loop->connections = connection;
}

static void list_remove(struct rpc_connection *connection)
{
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        connection->loop->connections = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
}

static bool copy_peer(struct rpc_connection *connection, const struct rpc_source *source)
{
    strncpy(connection->peer_address, source->peer_address, sizeof connection->peer_address - 1);
    if (!source->peer || !source->peer->verified)
        return true;
    connection->peer = malloc(sizeof *connection->peer);
    if (!connection->peer)
        return false;
    *connection->peer = *source->peer;
    auth_credential_of_certificate(connection->peer, &connection->certificate);
    return true;
}

struct rpc_connection *rpc_source_open(struct rpc_server *server, struct forge_loop *loop, const struct rpc_source *source)
{
    if (atomic_fetch_add(&server->connections, 1) >= server->config.connections_max) {
        atomic_fetch_sub(&server->connections, 1);
        return NULL;
    }
    struct rpc_connection *connection = calloc(1, sizeof *connection);
    if (connection) {
        connection->server = server;
        connection->loop = &server->loop_states[forge_loop_index(loop)];
        connection->functions = source->functions;
        connection->user = source->user;
    }
    if (!connection || !copy_peer(connection, source)) {
        free(connection);
        atomic_fetch_sub(&server->connections, 1);
        return NULL;
    }
    list_add(connection);
    return connection;
}

void rpc_connection_free_if_done(struct rpc_connection *connection)
{
    if (!connection->closed || connection->calls || connection->submitting)
        return;
    list_remove(connection);
    atomic_fetch_sub(&connection->server->connections, 1);
    forge_cleanse(connection->token, sizeof connection->token);
    free(connection->peer);
    free(connection);
}

void rpc_source_submit(struct rpc_connection *connection, const struct rpc_message *message)
{
    connection->submitting = true;
    rpc_dispatch_message(connection, message);
    connection->submitting = false;
    rpc_connection_free_if_done(connection);
}

void rpc_source_close(struct rpc_connection *connection)
{
    bool submitting = connection->submitting;
    connection->closed = true;
    connection->submitting = true; /* dropping its last call must not free it under our feet */
    rpc_active_drop_waiting(connection);
    connection->submitting = submitting;
    rpc_connection_free_if_done(connection);
}

unsigned rpc_calls_in_flight_max(const struct rpc_server *server, const struct auth_principal *principal)
{
    return principal->calls_in_flight_max > 0 ? principal->calls_in_flight_max : server->config.calls_per_connection;
}

void rpc_connection_set_verified(struct rpc_connection *connection, const struct auth_principal *principal)
{
    if (connection->verified || connection->closed)
        return;
    connection->verified = true;
    connection->calls_max = rpc_calls_in_flight_max(connection->server, principal);
    if (connection->functions->verified)
        connection->functions->verified(connection->user);
}
