/* Certificates for tests, made anew in a directory of their own under $TMPDIR (default /tmp). Keys are P-256; every NAME.pem has its
 * NAME.key.
 *
 *   ca, other-ca              authorities
 *   server                    by ca for DNS:localhost, IP:127.0.0.1, IP:::1
 *   server-new                the same once more, with another key
 *   server-chain              the same by an intermediate authority; the file holds both certificates
 *   expired, wrong-name       by ca, ended yesterday; by ca for DNS:other.example
 *   wrong-ca, self-signed     by other-ca; by itself
 *   revoked                   by ca, named in crl.pem
 *   client                    by ca, SAN URI:spiffe://example.org/service/alpha, CN "alpha"
 *   client-plain              by ca, no URI, CN "plain"
 *   client-revoked            by ca, named in crl.pem
 *   client-wrong-ca           by other-ca
 *   client-expired            by ca, ended yesterday
 *   crl.pem, crl-empty.pem    revocation lists of ca
 *   encrypted.key             server's key under a password
 *   garbage.pem, empty.pem    no PEM; no bytes */
#ifndef FORGE_TEST_TLS_FILES_H
#define FORGE_TEST_TLS_FILES_H

struct tls_files;

/* Aborts with a message when something is missing: no test makes sense then. */
struct tls_files *tls_files_new(void);
/* Removes the directory. */
void tls_files_free(struct tls_files *files);
const char *tls_files_directory(const struct tls_files *files);
/* The path of a file in it; valid until 16 calls later on the same thread. */
const char *tls_files_path(const struct tls_files *files, const char *name);

#endif
