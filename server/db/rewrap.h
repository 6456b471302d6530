/* Sealing stored secrets anew, after the key-encryption key was changed: `forged rewrap`. */
#ifndef SERVER_DB_REWRAP_H
#define SERVER_DB_REWRAP_H

#include "wire/status.h"
#include "wire/uuid.h"

#include <stddef.h>
#include <stdint.h>

struct db_rewrap_config {
    const char *url;          /* of forge_maint, which becomes forge_owner for it */
    int32_t key_id;           /* what secrets are to be sealed under: the key in use */
    const uint8_t *key_check; /* its value in encryption_keys */
    size_t key_check_size;
    /* Opens a secret that is sealed under the key old_key_id and seals it under key_id, in out (as long as sealed). NOT_FOUND: that key is
     * not in the key file; DATA_LOSS: it does not open. */
    forge_code (*reseal)(void *user, int32_t old_key_id, const struct forge_uuid *organization_id, const struct forge_uuid *row_id,
                         const uint8_t *sealed, size_t size, uint8_t *out, struct forge_error *error);
    void *user;
};

struct db_rewrap_report {
    int64_t secrets;             /* sealed anew */
    int64_t stored_replies_left; /* that only another key can read or compare; they go by themselves after 48 h */
    int64_t left_until_us;       /* when the last of those is over; 0 when there is none */
};

/* Walks the organizations, binding one at a time. Repeatable; beside running servers. A secret that cannot be opened is left as it is
 * and fails the run after the others were done. FAILED_PRECONDITION: no server has used the key yet, or the database knows another
 * one by that id. *out counts what was done also when it fails. Blocks. */
forge_code db_rewrap(const struct db_rewrap_config *config, struct db_rewrap_report *out, struct forge_error *error) FORGE_MUST_CHECK;

#endif
