#include "db/sqlstate.h"

#include <stdio.h>
#include <string.h>

struct mapping {
    const char *sqlstate; /* five characters, or the two of a class */
    forge_code code;
    bool ends_connection;
    uint32_t retry_after_ms;
    const char *message;
};

/* The first match counts: single states stand before their class. */
static const struct mapping mappings[] = {
    {"23505", FORGE_ALREADY_EXISTS, false, 0, "already exists"},
    {"23503", FORGE_FAILED_PRECONDITION, false, 0, "refers to something that does not exist, or is still referred to"},
    {"23514", FORGE_INVALID_ARGUMENT, false, 0, "a value is outside its allowed range"},
    {"57014", FORGE_DEADLINE_EXCEEDED, false, 0, "the deadline passed while the database was working"},
    {"55P03", FORGE_UNAVAILABLE, false, 50, "another call holds a lock that this one needs"},
    {"40001", FORGE_ABORTED, false, 0, "another call changed the same data at the same time"},
    {"40P01", FORGE_ABORTED, false, 0, "this call and another one waited for each other"},
    {"53", FORGE_RESOURCE_EXHAUSTED, false, 250, "the database is out of disk space, memory or connections"},
    {"08", FORGE_UNAVAILABLE, true, 250, "the connection to the database failed"},
    {"57P", FORGE_UNAVAILABLE, true, 250, "the database is shutting down or starting"},
    {"25P03", FORGE_UNAVAILABLE, true, 250, "the database ended a transaction that had stood still for too long"},
    {"25006", FORGE_UNAVAILABLE, true, 250, "the database is a standby and cannot write"},
    /* "cached plan must not change result type": a migration ran; a new connection prepares afresh. */
    {"0A000", FORGE_UNAVAILABLE, true, 50, "the schema changed while the connection was open"},
    {"26000", FORGE_UNAVAILABLE, true, 50, "the database lost a prepared statement"},
};

static const struct mapping *mapping_find(const char *sqlstate)
{
    for (size_t i = 0; i < sizeof(mappings) / sizeof(mappings[0]); i++)
        if (strncmp(sqlstate, mappings[i].sqlstate, strlen(mappings[i].sqlstate)) == 0)
            return &mappings[i];
    return NULL;
}

forge_code db_sqlstate_to_error(const char *sqlstate, struct forge_error *error)
{
    const struct mapping *mapping = mapping_find(sqlstate);
    snprintf(error->sqlstate, sizeof(error->sqlstate), "%s", sqlstate);
    if (mapping == NULL)
        return forge_error_set(error, FORGE_INTERNAL, "the database refused a statement (SQLSTATE %s)", error->sqlstate);
    error->retry_after_ms = mapping->retry_after_ms;
    return forge_error_set(error, mapping->code, "%s", mapping->message);
}

bool db_sqlstate_ends_connection(const char *sqlstate)
{
    const struct mapping *mapping = mapping_find(sqlstate);
    return mapping != NULL && mapping->ends_connection;
}
