/* A throw-away PostgreSQL cluster for one test program: own data folder, unix socket and free loopback port, run as user
 * postgres when the test runs as root. One per program (initdb takes a second), a fresh database per test.
 *
 * A keeper process kills the cluster and deletes its folder when the test program ends in any way. Failures of the cluster itself
 * print why, with the end of the server's log, and end the program: no test can go on then. Not thread safe, but pg_cluster_pause()
 * and pg_cluster_resume(); start it before the first thread. */
#ifndef TESTS_SUPPORT_PG_CLUSTER_H
#define TESTS_SUPPORT_PG_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pg_cluster;
struct pg_cluster_options {
    bool durable;         /* fsync on; off by default, tests then survive a crash of PostgreSQL but not of the machine */
    bool checksums;       /* data checksums */
    const char *settings; /* more lines for postgresql.conf; NULL = none */
};
/* The superuser is postgres; authentication is trust. options may be NULL. Returns when connections are accepted. */
struct pg_cluster *pg_cluster_new(const struct pg_cluster_options *options);
/* Stops it at once and deletes the folder. Accepts NULL. */
void pg_cluster_free(struct pg_cluster *cluster);

void pg_cluster_stop(struct pg_cluster *cluster);   /* fast shutdown: open transactions are rolled back, sessions ended */
void pg_cluster_kill(struct pg_cluster *cluster);   /* SIGKILL of the postmaster; its children end by themselves, waited for */
void pg_cluster_start(struct pg_cluster *cluster);  /* after stop or kill, same port and data */
void pg_cluster_pause(struct pg_cluster *cluster);  /* SIGSTOP of every process: silent, sockets stay open */
void pg_cluster_resume(struct pg_cluster *cluster); /* SIGCONT */

uint16_t pg_cluster_port(const struct pg_cluster *cluster);      /* on 127.0.0.1 */
const char *pg_cluster_folder(const struct pg_cluster *cluster); /* of the unix socket, for host= */

/* Roles forge_owner, forge_app, forge_maint and forge_backup as `forged bootstrap roles` makes them, without passwords. */
void pg_cluster_create_roles(struct pg_cluster *cluster);
/* A new empty database owned by owner ("postgres", "forge_owner"); its name is kept by the cluster. */
const char *pg_cluster_create_database(struct pg_cluster *cluster, const char *owner);
/* A database like this one, with its tables (no session may be in the original). */
const char *pg_cluster_copy_database(struct pg_cluster *cluster, const char *original, const char *owner);
/* postgresql:// URL of a role, over the unix socket or over TCP to 127.0.0.1:port without TLS. Kept by the cluster. */
const char *pg_cluster_url(struct pg_cluster *cluster, const char *role, const char *database);
const char *pg_cluster_tcp_url(struct pg_cluster *cluster, const char *role, const char *database, uint16_t port);

/* Runs SQL text (several statements allowed) on a connection of its own; the program ends when it fails. */
void pg_cluster_execute(struct pg_cluster *cluster, const char *role, const char *database, const char *sql);
/* The same for a file. */
void pg_cluster_execute_file(struct pg_cluster *cluster, const char *role, const char *database, const char *path);
/* First column of the first row as text, "" for none or NULL; kept by the cluster. */
const char *pg_cluster_query(struct pg_cluster *cluster, const char *role, const char *database, const char *sql);
/* `pg_dump --schema-only` of a database, the same bytes for the same schema; free(). */
char *pg_cluster_dump_schema(struct pg_cluster *cluster, const char *database);
/* Like execute, but gives the SQLSTATE ("00000" when it succeeded) instead of ending the program. Kept by the cluster. */
const char *pg_cluster_try(struct pg_cluster *cluster, const char *role, const char *database, const char *sql);

#endif
