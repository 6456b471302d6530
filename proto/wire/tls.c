#include "wire/tls_private.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHAIN_DEPTH_MAX = 8 };

struct forge_tls {
    atomic_int references;
    bool server;
    SSL_CTX *context;
};

/* ---- loading ---- */

/* OpenSSL asks here for the password of an encrypted key; without a callback it would ask on the terminal. */
static int refuse_password(char *buffer, int size, int writing, void *was_asked)
{
    (void)buffer, (void)size, (void)writing;
    *(bool *)was_asked = true;
    return 0;
}

static const char *ssl_reason(void)
{
    unsigned long first = ERR_peek_error();
    const char *reason = first ? ERR_reason_error_string(first) : NULL;
    return reason ? reason : "not valid PEM";
}

static forge_code file_error(struct forge_error *error, const char *what, const char *path, const char *why)
{
    return forge_error_set(error, FORGE_FAILED_PRECONDITION, "%s %s: %s", what, path, why);
}

/* OpenSSL's own messages for a file that cannot be opened are hard to read. */
static forge_code check_readable(const char *what, const char *path, struct forge_error *error)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return file_error(error, what, path, strerror(errno));
    char first;
    bool readable = fread(&first, 1, 1, file) == 1;
    int failed = ferror(file) ? errno : 0;
    fclose(file);
    if (!readable)
        return file_error(error, what, path, failed ? strerror(failed) : "the file is empty");
    return FORGE_OK;
}

static forge_code load_certificate(SSL_CTX *context, const char *path, struct forge_error *error)
{
    forge_code code = check_readable("certificate file", path, error);
    if (code != FORGE_OK)
        return code;
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(context, path) != 1)
        return file_error(error, "certificate file", path, ssl_reason());
    return FORGE_OK;
}

static forge_code load_key(SSL_CTX *context, const char *path, const bool *was_asked, struct forge_error *error)
{
    forge_code code = check_readable("key file", path, error);
    if (code != FORGE_OK)
        return code;
    ERR_clear_error();
    int ok = SSL_CTX_use_PrivateKey_file(context, path, SSL_FILETYPE_PEM);
    if (*was_asked)
        return file_error(error, "key file", path, "the key is encrypted; give one without a password");
    if (ok == 1)
        ok = SSL_CTX_check_private_key(context);
    if (ok != 1 && ERR_GET_REASON(ERR_peek_error()) == X509_R_KEY_VALUES_MISMATCH)
        return file_error(error, "key file", path, "the key does not match the certificate");
    return ok == 1 ? FORGE_OK : file_error(error, "key file", path, ssl_reason());
}

static forge_code load_authorities(SSL_CTX *context, const char *path, bool server, struct forge_error *error)
{
    forge_code code = check_readable("CA file", path, error);
    if (code != FORGE_OK)
        return code;
    ERR_clear_error();
    if (SSL_CTX_load_verify_file(context, path) != 1)
        return file_error(error, "CA file", path, ssl_reason());
    if (!server)
        return FORGE_OK;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(path);
    if (!names)
        return file_error(error, "CA file", path, ssl_reason());
    SSL_CTX_set_client_CA_list(context, names); /* takes them */
    return FORGE_OK;
}

/* Loading revocations does nothing unless the check is switched on too. */
static forge_code load_revocations(SSL_CTX *context, const char *path, struct forge_error *error)
{
    forge_code code = check_readable("CRL file", path, error);
    if (code != FORGE_OK)
        return code;
    ERR_clear_error();
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    if (!lookup || X509_load_crl_file(lookup, path, X509_FILETYPE_PEM) < 1)
        return file_error(error, "CRL file", path, ssl_reason());
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return FORGE_OK;
}

static forge_code load_files(SSL_CTX *context, const struct forge_tls_config *config, struct forge_error *error)
{
    bool was_asked = false;
    SSL_CTX_set_default_passwd_cb(context, refuse_password);
    SSL_CTX_set_default_passwd_cb_userdata(context, &was_asked);
    forge_code code = FORGE_OK;
    if (config->certificate_file)
        code = load_certificate(context, config->certificate_file, error);
    if (code == FORGE_OK && config->certificate_file)
        code = load_key(context, config->key_file, &was_asked, error);
    if (code == FORGE_OK && config->ca_file)
        code = load_authorities(context, config->ca_file, config->server, error);
    else if (code == FORGE_OK && !config->server && SSL_CTX_set_default_verify_paths(context) != 1)
        code = forge_error_set(error, FORGE_FAILED_PRECONDITION, "the system's root certificates cannot be loaded");
    if (code == FORGE_OK && config->crl_file)
        code = load_revocations(context, config->crl_file, error);
    SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
    return code;
}

static forge_code check_config(const struct forge_tls_config *config, struct forge_error *error)
{
    const char *problem = NULL;
    if (config->server && !config->certificate_file)
        problem = "certificate file: required for a server";
    else if (config->certificate_file && !config->key_file)
        problem = "key file: required with a certificate file";
    else if (config->server && config->client_auth != FORGE_TLS_CLIENT_NONE && !config->ca_file)
        problem = "CA file: required to verify client certificates";
    else if (config->crl_file && !config->ca_file)
        problem = "CA file: required with a CRL file";
    return problem ? forge_error_set(error, FORGE_FAILED_PRECONDITION, "%s", problem) : FORGE_OK;
}

static int verify_mode(const struct forge_tls_config *config)
{
    if (!config->server)
        return SSL_VERIFY_PEER;
    switch (config->client_auth) {
    case FORGE_TLS_CLIENT_NONE:
        return SSL_VERIFY_NONE;
    case FORGE_TLS_CLIENT_OPTIONAL:
        return SSL_VERIFY_PEER;
    case FORGE_TLS_CLIENT_REQUIRED:
        return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
    return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
}

static bool set_up(SSL_CTX *context, const struct forge_tls_config *config)
{
    static const unsigned char session_context[] = "promptforge";
    /* Connections live long, so resumption saves nothing; without it every connection's certificate is verified anew. */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
    /* RELEASE_BUFFERS: an idle connection needs 9 kB instead of 42 kB. */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_verify(context, verify_mode(config), NULL);
    SSL_CTX_set_verify_depth(context, CHAIN_DEPTH_MAX);
    return SSL_CTX_set_min_proto_version(context, config->allow_tls12 ? TLS1_2_VERSION : TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1 && /* TLS 1.2; 1.3 keeps OpenSSL's list */
           SSL_CTX_set_num_tickets(context, 0) == 1 &&
           SSL_CTX_set_session_id_context(context, session_context, sizeof session_context - 1) == 1;
}

forge_code forge_tls_new(const struct forge_tls_config *config, struct forge_tls **out, struct forge_error *error)
{
    forge_code code = check_config(config, error);
    if (code != FORGE_OK)
        return code;
    struct forge_tls *tls = calloc(1, sizeof *tls);
    SSL_CTX *context = tls ? SSL_CTX_new(config->server ? TLS_server_method() : TLS_client_method()) : NULL;
    if (!context || !set_up(context, config))
        code = forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "TLS settings: out of memory");
    if (code == FORGE_OK)
        code = load_files(context, config, error);
    ERR_clear_error();
    if (code != FORGE_OK) {
        SSL_CTX_free(context);
        free(tls);
        return code;
    }
    assert(tls && context);
    atomic_init(&tls->references, 1);
    tls->server = config->server;
    tls->context = context;
    *out = tls;
    return FORGE_OK;
}

struct forge_tls *forge_tls_ref(struct forge_tls *tls)
{
    atomic_fetch_add_explicit(&tls->references, 1, memory_order_relaxed);
    return tls;
}

void forge_tls_unref(struct forge_tls *tls)
{
    if (!tls || atomic_fetch_sub_explicit(&tls->references, 1, memory_order_acq_rel) != 1)
        return;
    SSL_CTX_free(tls->context);
    free(tls);
}

/* ---- connections ---- */

SSL_CTX *forge_tls_context(const struct forge_tls *tls)
{
    return tls->context;
}

bool forge_tls_is_server(const struct forge_tls *tls)
{
    return tls->server;
}

/* The certificate must name host; server name indication exists for names only (RFC 6066, section 3). */
static bool expect_host(SSL *ssl, const char *host)
{
    uint8_t address[sizeof(struct in6_addr)];
    char bare[INET6_ADDRSTRLEN + 1];
    size_t length = strcspn(host, "%"); /* without the zone of a link-local address */
    snprintf(bare, sizeof bare, "%.*s", (int)(length < sizeof bare ? length : sizeof bare - 1), host);
    if (inet_pton(AF_INET, bare, address) == 1 || inet_pton(AF_INET6, bare, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), bare) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

SSL *forge_tls_connection(const struct forge_tls *tls, const char *host)
{
    ERR_clear_error();
    SSL *ssl = SSL_new(tls->context);
    if (!ssl)
        return NULL;
    if (tls->server) {
        SSL_set_accept_state(ssl);
        return ssl;
    }
    SSL_set_connect_state(ssl);
    if (expect_host(ssl, host))
        return ssl;
    SSL_free(ssl);
    return NULL;
}

/* ---- the peer's identity ---- */

static void read_common_name(X509 *certificate, char *out, size_t out_size)
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    unsigned char *text = NULL;
    int length = at < 0 ? -1 : ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    bool printable = length >= 0 && (size_t)length < out_size;
    for (int i = 0; printable && i < length; i++)
        printable = text[i] >= 0x20 && text[i] != 0x7f;
    if (printable)
        memcpy(out, text, (size_t)length); /* out was zeroed */
    OPENSSL_free(text);
}

/* A URI with bytes that a URI cannot have (RFC 3986, section 2), or too long, counts as none: no identity rather than half of one. */
static void copy_uri(const ASN1_IA5STRING *uri, char *out, size_t out_size)
{
    const unsigned char *text = ASN1_STRING_get0_data(uri);
    size_t length = (size_t)ASN1_STRING_length(uri);
    if (length >= out_size)
        return;
    for (size_t i = 0; i < length; i++)
        if (text[i] <= 0x20 || text[i] >= 0x7f)
            return;
    memcpy(out, text, length);
}

static void read_spiffe_id(X509 *certificate, char *out, size_t out_size)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) { /* -1 for no names */
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        copy_uri(name->d.uniformResourceIdentifier, out, out_size);
        break;
    }
    GENERAL_NAMES_free(names);
}

static bool read_key_digest(X509 *certificate, uint8_t out[32])
{
    unsigned char *encoded = NULL;
    int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &encoded);
    bool ok = length > 0 && EVP_Digest(encoded, (size_t)length, out, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(encoded);
    return ok;
}

void forge_tls_peer_read(const SSL *ssl, struct forge_tls_peer *out)
{
    memset(out, 0, sizeof *out);
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    /* The result alone says X509_V_OK when no certificate came. */
    if (!certificate || SSL_get_verify_result(ssl) != X509_V_OK || !(SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER))
        return;
    ERR_clear_error();
    read_common_name(certificate, out->common_name, sizeof out->common_name);
    read_spiffe_id(certificate, out->spiffe_id, sizeof out->spiffe_id);
    out->verified = read_key_digest(certificate, out->key_sha256);
    ERR_clear_error();
}

bool forge_tls_peer_verifies(const SSL *ssl, const struct forge_tls *tls)
{
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    if (!certificate)
        return true;
    ERR_clear_error();
    X509_STORE_CTX *check = X509_STORE_CTX_new();
    bool ok = check && X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(tls->context), certificate, SSL_get_peer_cert_chain(ssl)) == 1 &&
              X509_STORE_CTX_set_default(check, tls->server ? "ssl_client" : "ssl_server") == 1 &&
              X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(check), SSL_CTX_get0_param(tls->context)) == 1 &&
              X509_verify_cert(check) == 1;
    X509_STORE_CTX_free(check);
    ERR_clear_error();
    return ok;
}
