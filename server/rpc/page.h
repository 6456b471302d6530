/* Page tokens: opaque, authenticated (HMAC under a key derived from the key-encryption key), bound to method, organization and filter. */
#ifndef SERVER_RPC_PAGE_H
#define SERVER_RPC_PAGE_H

#include "rpc/call.h"

enum { RPC_PAGE_SIZE_DEFAULT = 50, RPC_PAGE_SIZE_MAX = 1000, RPC_PAGE_KEY_MAX = 1020 };

struct rpc_page {
    int32_t size; /* rows wanted; ask the database for size + 1 to know whether there is more */
    bool has_key;
    const char *last_name; /* the keyset: what the previous page ended with; meaning is the handler's */
    int64_t last_number;
    struct forge_uuid last_id;
};
/* Reads page_size and page_token; wrong ones become violations (negative size; a token that is damaged, expired or belongs to another
 * query: "page_token belongs to another query"). filter: bytes that identify everything of the request but page_size and page_token. */
void rpc_page_read(struct rpc_call *call, int32_t page_size, const char *page_token, const void *filter, size_t filter_size,
                   struct rpc_page *out);
/* The token for the page after this row, in the arena. name may be NULL. */
char *rpc_page_next(struct rpc_call *call, const void *filter, size_t filter_size, const char *name, int64_t number,
                    const struct forge_uuid *id);

/* A token that is made by rpc_page_next() but is not a page's (WatchPrompts.resume_token): read as above, at any age, which it tells in
 * seconds. False after noting what is wrong with it under this field; *out untouched then. */
bool rpc_page_token_read(struct rpc_call *call, const char *field, const char *token, const void *filter, size_t filter_size,
                         struct rpc_page *out, int64_t *out_age_s) FORGE_MUST_CHECK;

#endif
