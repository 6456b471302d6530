/* Real forged processes for tests: run a command to its end, or serve with a migrated database and TLS certificates of its own.
 *
 * Children get an empty environment but for PATH and sanitizer options, a working folder of their own, and die with the test program.
 * What a test cannot go on without ends the program with a message and the child's log. */
#ifndef TESTS_SUPPORT_FORGED_CHILD_H
#define TESTS_SUPPORT_FORGED_CHILD_H

#include "support/pg_cluster.h"
#include "support/tls_files.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- any program of the build ---- */

struct child_output {
    int exit_code; /* 128 + signal when it was killed */
    char *out, *err;
};
/* Runs build/bin/<program> (or an absolute path) with these arguments (NULL-terminated) in folder (NULL: the present one) and waits, at
 * most 60 s. environment: more "NAME=value" strings, NULL-terminated, may be NULL. Free with child_output_done. */
void child_run(const char *program, const char *const arguments[], const char *const environment[], const char *folder,
               struct child_output *out);
void child_output_done(struct child_output *output);

/* ---- forged serve ---- */

struct forged_child;
/* arguments as after "forged". Returns when it listens. */
struct forged_child *forged_child_start(const char *folder, const char *const arguments[], const char *const environment[]);
/* Blocks until the database is there too ("ready"). Ends the program when that takes over 30 s. */
void forged_child_wait_ready(struct forged_child *child);
uint16_t forged_child_port(const struct forged_child *child);
uint16_t forged_child_http_port(const struct forged_child *child);
/* "localhost:port", for channels and forgectl. */
const char *forged_child_address(const struct forged_child *child);
pid_t forged_child_pid(const struct forged_child *child);
void forged_child_signal(struct forged_child *child, int signal_number); /* SIGTERM, SIGKILL, SIGSTOP, SIGCONT, SIGHUP */
/* Its exit code (128 + signal), -1 when it still runs after timeout_ms. */
int forged_child_wait(struct forged_child *child, unsigned timeout_ms);
/* Standard error up to now; the caller frees it. */
char *forged_child_log(const struct forged_child *child);
/* Blocks until the log has this text, at most 30 s. */
bool forged_child_wait_log(struct forged_child *child, const char *text);
/* SIGTERM and wait, so that leak checks run; SIGKILL when it does not end within 30 s. Ends the program when a sanitizer complained (exit
 * code other than 0 after SIGTERM). Accepts NULL. */
void forged_child_stop(struct forged_child *child);
/* SIGKILL, wait, free. Accepts NULL. */
void forged_child_kill(struct forged_child *child);

/* GET of http://127.0.0.1:http_port/<path>; the status code, the body in *out_body (freed by the caller; may be NULL). -1 when nobody
 * answers. */
int forged_child_http(const struct forged_child *child, const char *path, char **out_body);

/* ---- a world: database, roles, key file, certificates, operator token, made by forged's own commands ---- */

struct forged_world;
struct forged_world *forged_world_new(struct pg_cluster *cluster);
/* Removes its folder and certificates; the database stays with the cluster. Accepts NULL. */
void forged_world_free(struct forged_world *world);
struct tls_files *forged_world_tls(struct forged_world *world);
const char *forged_world_folder(const struct forged_world *world);   /* holds .env and forge.key */
const char *forged_world_database(const struct forged_world *world); /* its name */
const char *forged_world_operator_token(struct forged_world *world); /* a fresh one at each call; valid until the next */
/* forged serve on free ports in development mode; flags (NULL-terminated, may be NULL) come last and so win. Waits until ready. */
struct forged_child *forged_world_serve(struct forged_world *world, const char *const flags[]);
/* The same, but returns as soon as it listens. */
struct forged_child *forged_world_listen(struct forged_world *world, const char *const flags[]);

#endif
