/* TLS contexts from files, with live reload, and the peer's identity. */
#ifndef FORGE_WIRE_TLS_H
#define FORGE_WIRE_TLS_H

#include "wire/status.h"

#include <stdbool.h>
#include <stdint.h>

enum forge_tls_client_auth { FORGE_TLS_CLIENT_NONE, FORGE_TLS_CLIENT_OPTIONAL, FORGE_TLS_CLIENT_REQUIRED };

struct forge_tls_config {
    bool server;
    const char *certificate_file;           /* PEM, the whole chain; client: NULL = no client certificate */
    const char *key_file;                   /* PEM, not encrypted */
    const char *ca_file;                    /* PEM; server: who may sign client certificates; client: NULL = the system's roots */
    const char *crl_file;                   /* PEM or NULL */
    bool allow_tls12;                       /* default: TLS 1.3 only */
    enum forge_tls_client_auth client_auth; /* server */
};

/* A reference-counted, immutable set of TLS settings. Links keep the one they began with. */
struct forge_tls;

/* Loads and checks the files: FAILED_PRECONDITION names the file and what is wrong (missing, unreadable, not PEM, encrypted, key does not
 * match the certificate). The one call of this header that reads files. */
forge_code forge_tls_new(const struct forge_tls_config *config, struct forge_tls **out, struct forge_error *error) FORGE_MUST_CHECK;
struct forge_tls *forge_tls_ref(struct forge_tls *tls);
void forge_tls_unref(struct forge_tls *tls); /* accepts NULL */

enum { FORGE_TLS_URI_MAX = 2048 /* bytes: the longest SPIFFE ID */ };

/* Who is on the other end, from its verified certificate. */
struct forge_tls_peer {
    bool verified;                         /* a certificate was sent and its chain verified */
    char spiffe_id[FORGE_TLS_URI_MAX + 1]; /* the first SAN URI, "" if there is none */
    char common_name[128];                 /* of the subject, for logs */
    uint8_t key_sha256[32];                /* SHA-256 of its DER SubjectPublicKeyInfo */
};

#endif
