/* A real forged with its database, tenants in it and channels of libforge to it: for tests of the services, method by method. One per test
 * program. What a test cannot go on without fails it with the error. */
#ifndef TESTS_INTEGRATION_SERVICE_FIXTURE_H
#define TESTS_INTEGRATION_SERVICE_FIXTURE_H

#include "forge/calls.h"
#include "support/forged_child.h"
#include "support/pg_cluster.h"

#include <stdbool.h>
#include <stdint.h>

/* Request messages have char * members, which nobody writes through. */
#define TEXT(text) ((char *)(uintptr_t)(text))

struct service_tenant {
    char organization_id[37], project_id[37], email[64], token[128]; /* of the admin's session */
    struct forge_channel *admin;
};

/* Group setup and teardown of cmocka. */
int service_start(void **state);
int service_end(void **state);

struct forged_child *service_child(void);
struct forged_world *service_world(void);
struct pg_cluster *service_cluster(void);
/* First column of the first row, as superuser: row-level security does not hide anything. */
const char *service_query(const char *sql);
void service_execute(const char *sql);

/* Holds the locks of this statement, as superuser, so that calls which need them meet there. */
struct service_lock;
struct service_lock *service_lock_take(const char *sql);
/* Until so many calls wait for a lock; fails after 30 s. */
void service_lock_wait(struct service_lock *lock, int count);
/* Lets go, and frees. */
void service_lock_release(struct service_lock *lock);

/* A channel with this credential (NULL = none); closed by service_end. */
struct forge_channel *service_channel(const char *token);
/* Operator token; one channel for the program. */
struct forge_channel *service_operator(void);
/* An organization with an admin who is logged in (password "admin123") and a project "main". name: lower case, used as slug. */
void service_tenant_make(const char *name, struct service_tenant *out);
/* A session's token, or why there is none. */
forge_code service_login(const char *email, const char *password, char out_token[128]);
/* A user of this tenant with password "user1234", logged in; id may be NULL. */
struct forge_channel *service_user_make(const struct service_tenant *tenant, const char *email, Forge__V1__Role role, char out_id[37]);
/* A call that every member may make: is the credential still good? */
forge_code service_ask(struct forge_channel *channel);
/* Channel of a new API key of this tenant with one scope, bound to a project (NULL = none). */
struct forge_channel *service_key_channel(const struct service_tenant *tenant, Forge__V1__Scope scope, const char *project_id);
/* Creates a text prompt and gives its id. */
void service_prompt_make(struct forge_channel *channel, const char *project_id, const char *name, const char *content, char out_id[37]);

/* A call of a method, such as "OrganizationService/GetUser", with a request in JSON, where ' stands for ". request_id NULL = a fresh one.
 */
forge_code service_call(struct forge_channel *channel, const char *method, const char *request_id, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Of the last service_call: the reply in JSON ("" after an error), a text field of it ("" where there is none), is it one that was stored.
 */
const char *service_reply(void);
void service_reply_text(const char *field, char *out, size_t size);
bool service_reply_is_stored(void);
/* Every part, with ' for ", stands in it: part, ..., in their order. */
#define service_shows(...) service_shows_at(__FILE__, __LINE__, __VA_ARGS__, NULL)
void service_shows_at(const char *file, int line, ...);

/* The error of the last call in the tests. */
extern struct forge_error service_error;
/* rc is OK; else the test fails with the error. */
#define service_ok(rc) service_ok_at(rc, __FILE__, __LINE__)
void service_ok_at(forge_code rc, const char *file, int line);
/* rc and a part of the message are as expected. Frees the error. */
#define service_fails(rc, code, part) service_fails_at(rc, code, part, __FILE__, __LINE__)
void service_fails_at(forge_code rc, forge_code code, const char *part, const char *file, int line);
/* INVALID_ARGUMENT with exactly these violations: field, part of the description, ..., NULL. Frees the error. */
#define service_violates(rc, ...) service_violates_at(__FILE__, __LINE__, rc, __VA_ARGS__, NULL)
void service_violates_at(const char *file, int line, forge_code rc, ...);

/* A text of n times this text; kept until the program ends. */
char *service_repeat(const char *text, size_t n);
/* A fresh request_id as text. */
const char *service_request_id(void);

#endif
