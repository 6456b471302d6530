/* Private part of tls.h, for link*.c alone: what is behind struct forge_tls, and questions about certificates. */
#ifndef FORGE_WIRE_TLS_PRIVATE_H
#define FORGE_WIRE_TLS_PRIVATE_H

#include "wire/tls.h"

#include <openssl/ssl.h>

SSL_CTX *forge_tls_context(const struct forge_tls *tls); /* borrowed */
bool forge_tls_is_server(const struct forge_tls *tls);
/* A new connection; host (client only) is the name or address the server's certificate must carry. NULL without memory. */
SSL *forge_tls_connection(const struct forge_tls *tls, const char *host);
/* Reads the peer's certificate after the handshake; *out is zeroed when there is none. */
void forge_tls_peer_read(const SSL *ssl, struct forge_tls_peer *out);
/* Would the certificate that the peer sent on ssl verify under these settings? True when it sent none. */
bool forge_tls_peer_verifies(const SSL *ssl, const struct forge_tls *tls);

#endif
