/* Who calls: the outcome of checking a credential. */
#ifndef SERVER_AUTH_PRINCIPAL_H
#define SERVER_AUTH_PRINCIPAL_H

#include "wire/uuid.h"

#include <stdbool.h>
#include <stdint.h>

enum auth_kind { AUTH_NOBODY, AUTH_USER, AUTH_API_KEY, AUTH_SERVICE_ACCOUNT, AUTH_OPERATOR };
enum auth_role { AUTH_ROLE_NONE, AUTH_ROLE_VIEWER, AUTH_ROLE_DEVELOPER, AUTH_ROLE_ADMIN }; /* ordered: a higher one includes the lower */
enum auth_scope { AUTH_SCOPE_READ = 1, AUTH_SCOPE_WRITE = 2, AUTH_SCOPE_ADMIN = 4, AUTH_SCOPE_INGEST = 8 }; /* a set of bits */

struct auth_principal {
    enum auth_kind kind;
    enum auth_role role;               /* effective: the lower of the scope's and the owner's present role */
    unsigned scopes;                   /* API keys: enum auth_scope bits; others: 0 */
    struct forge_uuid organization_id; /* nil for operator tokens */
    struct forge_uuid id;              /* user, key, service account or operator token; never the session: retries may follow a new login */
    struct forge_uuid user_id;         /* the user, or the creator of the key; nil for others */
    struct forge_uuid service_account_id; /* the account, or the account a key acts for; nil for others */
    struct forge_uuid session_id;         /* login sessions only */
    struct forge_uuid project_id;         /* nil: every project of the organization */
    int64_t expires_us;                   /* 0 = never */
    unsigned calls_in_flight_max;         /* on a connection of this service account; 0 = the server's default */
};

/* Is work on this project allowed? (Keys may be bound to one project.) */
bool auth_principal_may_use_project(const struct auth_principal *principal, const struct forge_uuid *project_id);
/* The only project the credential may use, NULL for one that may use all: the parameter of statements that filter by it. */
const struct forge_uuid *auth_principal_bound_project(const struct auth_principal *principal);

#endif
