#include "db/url.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Length of the scheme in front of "://" (RFC 3986), 0 for a keyword string. */
static size_t scheme_length(const char *url)
{
    if (!isalpha((unsigned char)url[0]))
        return 0;
    size_t length = 1;
    while (isalnum((unsigned char)url[length]) || strchr("+.-_", url[length] == '\0' ? ' ' : url[length]) != NULL)
        length++;
    return strncmp(url + length, "://", 3) == 0 ? length : 0;
}

static bool scheme_is_ours(const char *url, size_t length)
{
    return (length == 10 && memcmp(url, "postgresql", 10) == 0) || (length == 8 && memcmp(url, "postgres", 8) == 0) ||
           (length > 11 && memcmp(url, "postgresql+", 11) == 0);
}

forge_code db_url_parse(const char *url, PQconninfoOption **out, struct forge_error *error)
{
    if (url == NULL || url[0] == '\0')
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "the database URL is empty");
    size_t scheme = scheme_length(url);
    if (scheme > 0 && !scheme_is_ours(url, scheme))
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "the database URL has scheme \"%.*s\": only postgresql:// is supported",
                               scheme > 64 ? 64 : (int)scheme, url);
    char *plain = NULL;
    if (scheme > 11) {
        size_t rest = strlen(url + scheme);
        plain = malloc(10 + rest + 1);
        if (plain == NULL)
            return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "out of memory");
        memcpy(plain, "postgresql", 10);
        memcpy(plain + 10, url + scheme, rest + 1);
    }
    char *reason = NULL;
    PQconninfoOption *options = PQconninfoParse(plain != NULL ? plain : url, &reason);
    PQfreemem(reason); /* may quote the password */
    free(plain);
    if (options == NULL)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT,
                               "the database URL cannot be read: postgresql://user:password@host:port/database?parameter=value with "
                               "parameters that libpq knows, special characters as %%XX");
    *out = options;
    return FORGE_OK;
}

char *db_url_encode(struct forge_arena *arena, const char *path)
{
    char *out = forge_arena_alloc(arena, 3 * strlen(path) + 1);
    size_t length = 0;
    for (; out != NULL && *path != '\0'; path++) {
        if ((*path >= 'a' && *path <= 'z') || (*path >= 'A' && *path <= 'Z') || (*path >= '0' && *path <= '9') ||
            strchr("/._-", *path) != NULL)
            out[length++] = *path;
        else
            length += (size_t)snprintf(out + length, 4, "%%%02X", (unsigned char)*path);
    }
    return out;
}

char *db_url_of(const PGconn *conn, struct forge_arena *arena)
{
    const char *host = PQhost(conn), *user = db_url_encode(arena, PQuser(conn)), *database = db_url_encode(arena, PQdb(conn));
    const char *encoded = db_url_encode(arena, host);
    if (user == NULL || database == NULL || encoded == NULL)
        return NULL;
    if (host[0] == '/')
        return forge_arena_printf(arena, "postgresql://%s@/%s?host=%s&port=%s", user, database, encoded, PQport(conn));
    bool is_ipv6 = strchr(host, ':') != NULL;
    return forge_arena_printf(arena, "postgresql://%s@%s%s%s:%s/%s%s", user, is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "", PQport(conn),
                              database, PQsslInUse((PGconn *)(uintptr_t)conn) ? "?sslmode=require" : "");
}
