#include "support/tls_files.h"

#include <dirent.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DAY_S = 86400, SERIAL_REVOKED = 666, SERIAL_CLIENT_REVOKED = 667, PATHS_KEPT = 16, DIRECTORY_MAX = 256, PATH_SIZE = 512 };

struct tls_files {
    char directory[DIRECTORY_MAX];
};

struct identity {
    X509 *certificate;
    EVP_PKEY *key;
};

struct request {
    const char *name; /* of the files */
    const char *common_name;
    const char *alternative_names;
    const struct identity *issuer; /* NULL: itself */
    bool authority, expired;
    long serial;
    const struct identity *chain; /* written behind the certificate */
};

static void need(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "tls_files: %s failed\n", what);
    ERR_print_errors_fp(stderr);
    abort();
}

static FILE *open_file(const struct tls_files *files, const char *name, const char *suffix)
{
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s%s", files->directory, name, suffix);
    FILE *file = fopen(path, "w");
    need(file != NULL, path);
    return file;
}

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    need(extension && X509_add_ext(certificate, extension, -1), value);
    X509_EXTENSION_free(extension);
}

static void write_identity(const struct tls_files *files, const struct request *request, const struct identity *identity)
{
    FILE *file = open_file(files, request->name, ".pem");
    need(PEM_write_X509(file, identity->certificate), request->name);
    if (request->chain)
        need(PEM_write_X509(file, request->chain->certificate), request->name);
    fclose(file);
    file = open_file(files, request->name, ".key");
    need(PEM_write_PrivateKey(file, identity->key, NULL, NULL, 0, NULL, NULL), request->name);
    fclose(file);
}

static struct identity make(const struct tls_files *files, const struct request *request)
{
    static long next_serial = 1;
    struct identity made = {X509_new(), EVP_EC_gen("P-256")};
    X509 *certificate = made.certificate;
    need(certificate && made.key, "a key");
    const struct identity *issuer = request->issuer ? request->issuer : &made;
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), request->serial ? request->serial : next_serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -2L * DAY_S);
    X509_gmtime_adj(X509_getm_notAfter(certificate), request->expired ? -1L * DAY_S : 30L * DAY_S);
    X509_set_pubkey(certificate, made.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8, (const unsigned char *)request->common_name, -1, -1,
                               0);
    X509_set_issuer_name(certificate, X509_get_subject_name(issuer->certificate));
    add_extension(certificate, issuer->certificate, NID_basic_constraints, request->authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    add_extension(certificate, issuer->certificate, NID_key_usage,
                  request->authority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
    if (request->alternative_names)
        add_extension(certificate, issuer->certificate, NID_subject_alt_name, request->alternative_names);
    need(X509_sign(certificate, issuer->key, EVP_sha256()) > 0, "signing");
    write_identity(files, request, &made);
    return made;
}

static void release(struct identity identity)
{
    X509_free(identity.certificate);
    EVP_PKEY_free(identity.key);
}

static void add_revoked(X509_CRL *list, long serial)
{
    X509_REVOKED *entry = X509_REVOKED_new();
    ASN1_INTEGER *number = ASN1_INTEGER_new();
    ASN1_TIME *now = X509_gmtime_adj(NULL, -DAY_S);
    ASN1_INTEGER_set(number, serial);
    X509_REVOKED_set_serialNumber(entry, number);
    X509_REVOKED_set_revocationDate(entry, now);
    need(X509_CRL_add0_revoked(list, entry), "a revocation");
    ASN1_INTEGER_free(number);
    ASN1_TIME_free(now);
}

static void make_revocations(const struct tls_files *files, const struct identity *ca, const char *name, bool empty)
{
    X509_CRL *list = X509_CRL_new();
    ASN1_TIME *last = X509_gmtime_adj(NULL, -DAY_S), *next = X509_gmtime_adj(NULL, 30L * DAY_S);
    X509_CRL_set_version(list, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(list, X509_get_subject_name(ca->certificate));
    X509_CRL_set1_lastUpdate(list, last);
    X509_CRL_set1_nextUpdate(list, next);
    if (!empty) {
        add_revoked(list, SERIAL_REVOKED);
        add_revoked(list, SERIAL_CLIENT_REVOKED);
    }
    X509_CRL_sort(list);
    need(X509_CRL_sign(list, ca->key, EVP_sha256()) > 0, "signing a revocation list");
    FILE *file = open_file(files, name, ".pem");
    need(PEM_write_X509_CRL(file, list), name);
    fclose(file);
    ASN1_TIME_free(last);
    ASN1_TIME_free(next);
    X509_CRL_free(list);
}

static void make_odd_files(const struct tls_files *files, const struct identity *server)
{
    static char password[] = "secret";
    FILE *file = open_file(files, "encrypted", ".key");
    need(PEM_write_PKCS8PrivateKey(file, server->key, EVP_aes_256_cbc(), NULL, 0, NULL, password), "encrypting");
    fclose(file);
    file = open_file(files, "garbage", ".pem");
    fputs("-----BEGIN NOTHING-----\nthis is no certificate\n", file);
    fclose(file);
    fclose(open_file(files, "empty", ".pem"));
}

struct tls_files *tls_files_new(void)
{
    static const char local[] = "DNS:localhost,IP:127.0.0.1,IP:::1";
    struct tls_files *files = calloc(1, sizeof *files);
    need(files != NULL, "memory");
    const char *base = getenv("TMPDIR");
    snprintf(files->directory, sizeof files->directory, "%s/forge-tls-XXXXXX", base && *base ? base : "/tmp");
    need(mkdtemp(files->directory) != NULL, files->directory);

    struct identity ca = make(files, &(struct request){.name = "ca", .common_name = "Test CA", .authority = true});
    struct identity other = make(files, &(struct request){.name = "other-ca", .common_name = "Other CA", .authority = true});
    struct identity middle =
        make(files, &(struct request){.name = "intermediate", .common_name = "Test Intermediate", .authority = true, .issuer = &ca});
    struct identity server =
        make(files, &(struct request){.name = "server", .common_name = "localhost", .alternative_names = local, .issuer = &ca});
    const struct request others[] = {
        {.name = "server-new", .common_name = "localhost", .alternative_names = local, .issuer = &ca},
        {.name = "server-chain", .common_name = "localhost", .alternative_names = local, .issuer = &middle, .chain = &middle},
        {.name = "expired", .common_name = "localhost", .alternative_names = local, .issuer = &ca, .expired = true},
        {.name = "wrong-name", .common_name = "localhost", .alternative_names = "DNS:other.example", .issuer = &ca},
        {.name = "wrong-ca", .common_name = "localhost", .alternative_names = local, .issuer = &other},
        {.name = "self-signed", .common_name = "localhost", .alternative_names = local},
        {.name = "revoked", .common_name = "localhost", .alternative_names = local, .issuer = &ca, .serial = SERIAL_REVOKED},
        {.name = "client", .common_name = "alpha", .alternative_names = "URI:spiffe://example.org/service/alpha", .issuer = &ca},
        {.name = "client-plain", .common_name = "plain", .issuer = &ca},
        {.name = "client-revoked", .common_name = "revoked", .issuer = &ca, .serial = SERIAL_CLIENT_REVOKED},
        {.name = "client-wrong-ca", .common_name = "stranger", .issuer = &other},
        {.name = "client-expired", .common_name = "late", .issuer = &ca, .expired = true},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        release(make(files, &others[i]));
    make_revocations(files, &ca, "crl", false);
    make_revocations(files, &ca, "crl-empty", true);
    make_odd_files(files, &server);
    release(ca);
    release(other);
    release(middle);
    release(server);
    return files;
}

void tls_files_free(struct tls_files *files)
{
    if (!files)
        return;
    DIR *directory = opendir(files->directory);
    struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        char path[PATH_SIZE + NAME_MAX];
        snprintf(path, sizeof path, "%s/%s", files->directory, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(path);
    }
    if (directory)
        closedir(directory);
    rmdir(files->directory);
    free(files);
}

const char *tls_files_directory(const struct tls_files *files)
{
    return files->directory;
}

const char *tls_files_path(const struct tls_files *files, const char *name)
{
    static __thread char paths[PATHS_KEPT][PATH_SIZE];
    static __thread unsigned next;
    char *path = paths[next++ % PATHS_KEPT];
    snprintf(path, PATH_SIZE, "%s/%s", files->directory, name);
    return path;
}
