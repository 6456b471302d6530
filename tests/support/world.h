/* The running product for tests: real forged processes on a throw-away PostgreSQL (support/forged_child.h), and in it two organizations
 * that know nothing of each other, each with an admin, a project, a prompt and a key per scope. One world per program.
 *
 * What cannot be set up ends the program with the reason. Children die with the thread that started them: call world_open and
 * world_server_start on the main thread. */
#ifndef TESTS_SUPPORT_WORLD_H
#define TESTS_SUPPORT_WORLD_H

#include "forge/forge.h"
#include "support/fault_proxy.h"
#include "support/forged_child.h"
#include "support/pg_cluster.h"
#include "support/tls_files.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WORLD_SERVERS_MAX = 2, WORLD_TOKEN_SIZE = 76, WORLD_ID_SIZE = 37, WORLD_FLAGS_MAX = 24 };

/* Zeroed = one server on the unix socket of a PostgreSQL without fsync. */
struct world_options {
    unsigned servers;                /* forged processes on one database (1) */
    bool database_proxy;             /* they reach PostgreSQL over TCP through world.database_proxy */
    bool checksums;                  /* PostgreSQL with fsync and data checksums */
    const char *postgresql_settings; /* more lines for postgresql.conf */
    const char *const *flags;        /* more flags for forged serve, NULL at the end */
};

/* An organization and credentials in it. */
struct world_tenant {
    char organization_id[WORLD_ID_SIZE], project_id[WORLD_ID_SIZE], prompt_id[WORLD_ID_SIZE]; /* the prompt is called "greeting" */
    char email[64], password[64];                                                             /* of the admin */
    char session_token[WORLD_TOKEN_SIZE];
    char read_key[WORLD_TOKEN_SIZE], write_key[WORLD_TOKEN_SIZE], admin_key[WORLD_TOKEN_SIZE], ingest_key[WORLD_TOKEN_SIZE];
};

struct world_server {
    struct forged_child *child; /* NULL = not running */
    uint16_t port, http_port;
};

struct world {
    struct pg_cluster *cluster;
    struct forged_world *files; /* database, key file, certificates */
    const char *database, *superuser_url;
    struct fault_proxy *database_proxy; /* NULL without */
    const char *flags[WORLD_FLAGS_MAX]; /* of forged serve, behind those of forged_world_listen */
    char operator_token[WORLD_TOKEN_SIZE];
    struct world_tenant home, foreign;
    struct world_server servers[WORLD_SERVERS_MAX];
    unsigned server_count;
};

/* options may be NULL. Takes about two seconds. */
void world_open(struct world *world, const struct world_options *options);
/* Stops the servers (a sanitizer's complaint ends the program), then the cluster. */
void world_close(struct world *world);
/* Ends the program: prints the reason and the servers' logs. */
_Noreturn void world_fail(const struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- servers ---- */

/* Starts a server on the port it had before and returns when it listens; with wait_ready when the database is there too. */
void world_server_start(struct world *world, unsigned server, bool wait_ready);
/* SIGKILL, and waits for the end. */
void world_server_kill(struct world *world, unsigned server);
/* SIGTERM, and waits for the end. */
void world_server_stop(struct world *world, unsigned server);
/* SIGSTOP and SIGCONT. */
void world_server_pause(struct world *world, unsigned server);
void world_server_resume(struct world *world, unsigned server);
/* "localhost:port", valid until 8 calls later on the same thread; also while the server does not run. */
const char *world_address(const struct world *world, unsigned server);

/* ---- what they say of themselves; the server must be running ---- */

/* A value of /metrics by name with its labels, e.g. "forged_database_connections{state=\"leased\"}"; -1 when it is not there. */
double world_metric(const struct world *world, unsigned server, const char *name);
/* Waits for /readyz to say 200; false after timeout_ms. */
bool world_wait_ready(const struct world *world, unsigned server, unsigned timeout_ms);
/* Nothing is left over from earlier calls: no call in flight, no connection to PostgreSQL leased or waited for. Waits up to timeout_ms. */
bool world_is_at_rest(const struct world *world, unsigned server, unsigned timeout_ms);

/* ---- the database, as superuser, past every proxy; thread safe, ends the program when it fails ---- */

int64_t world_number(const struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_execute(const struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- calls ---- */

/* A channel to the addresses ("localhost:port[,...]"); token may be NULL. */
struct forge_channel *world_channel_to(const struct world *world, const char *addresses, const char *token);
struct forge_channel *world_channel(const struct world *world, unsigned server, const char *token);
/* Ends the program unless code is OK. */
void world_check(const struct world *world, const char *what, forge_code code, const struct forge_error *error);
/* A prompt of this name and content in the tenant's project; writes its id. */
void world_create_prompt(const struct world *world, struct forge_channel *channel, const struct world_tenant *tenant, const char *name,
                         const char *content, char out_id[WORLD_ID_SIZE]);

/* Between two looks at something that cannot be waited for. */
void world_sleep_ms(unsigned ms);

#endif
