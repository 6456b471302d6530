/* What the handlers of organizations and users share. Private to the organization service. */
#ifndef SERVER_SERVICE_ORGANIZATION_ORGANIZATION_H
#define SERVER_SERVICE_ORGANIZATION_ORGANIZATION_H

#include "db/row.h"
#include "rpc/call.h"

#include "forge/v1/organization.pb-c.h"

#include <stdbool.h>

enum { ORGANIZATION_SLUG_MAX = 63 };
#define ORGANIZATION_SLUG_CHARACTERS "abcdefghijklmnopqrstuvwxyz0123456789-"

/* Columns organization_id, slug, name, description, created_at, updated_at, row_version. */
void organization_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Organization *out);

/* Notes a violation of "slug". */
bool organization_slug_check(struct rpc_call *call, const char *slug);
/* A short name made from a name, for people to read and type: lower case, every run of characters other than a-z, 0-9 and those of also
 * a hyphen, none at an end, at most size - 1 characters; "" when nothing is left. */
void organization_short_name_make(const char *name, const char *also, char *out, size_t size);
/* The organization a request is about, "" = the caller's own. Notes a violation of "id". */
void organization_id_check(struct rpc_call *call, const char *text, struct forge_uuid *out);
/* NOT_FOUND for every organization but the caller's. */
forge_code organization_check_own(struct rpc_call *call, const struct forge_uuid *id) FORGE_MUST_CHECK;
/* What ends the checks of a write to the organization or its users: a violation, or a key that is bound to one project. */
forge_code organization_check_end(struct rpc_call *call) FORGE_MUST_CHECK;

/* The audit row of a write, with what was made or deleted, or with what it was and is, as JSON. The messages hold no secrets. */
void organization_audit(struct rpc_call *call, const char *action, const char *kind, const struct forge_uuid *id,
                        const ProtobufCMessage *made);
void organization_audit_change(struct rpc_call *call, const char *action, const char *kind, const struct forge_uuid *id,
                               const ProtobufCMessage *before, const ProtobufCMessage *after);

/* Queues the lock that changes of the organization and of its users take before anything else of their own, so that the statement after
 * it sees what the others did. */
void organization_lock(struct rpc_call *call);

#endif
