#include "wire/crypto.h"

#include <assert.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { NONCE_SIZE = 12, TAG_SIZE = 16 };
static_assert(FORGE_SEAL_OVERHEAD == NONCE_SIZE + TAG_SIZE, "layout of a sealed text");

/* What can fail here is a missing algorithm or memory: nothing sensible can go on without either. */
static void require(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "crypto: %s failed\n", what);
    abort();
}

/* Fetched once per process, never freed: calls may come until the process ends. */
static struct {
    EVP_MD *sha256;
    EVP_MAC *hmac;
    EVP_KDF *hkdf;
    EVP_CIPHER *aes_gcm;
    pthread_key_t thread_digest; /* the EVP_MD_CTX of forge_sha256 on this thread */
} algorithms;

static void free_digest(void *digest)
{
    EVP_MD_CTX_free(digest);
}

static void fetch_algorithms(void)
{
    algorithms.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    algorithms.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    algorithms.hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    algorithms.aes_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    require(algorithms.sha256 && algorithms.hmac && algorithms.hkdf && algorithms.aes_gcm, "fetching the algorithms");
    require(pthread_key_create(&algorithms.thread_digest, free_digest) == 0, "pthread_key_create");
}

static void init_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fetch_algorithms);
}

static EVP_MD_CTX *digest_new(void)
{
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    require(digest != NULL, "EVP_MD_CTX_new");
    return digest;
}

void forge_sha256(const void *data, size_t size, uint8_t out[FORGE_SHA256_SIZE])
{
    init_once();
    EVP_MD_CTX *digest = pthread_getspecific(algorithms.thread_digest);
    if (!digest) {
        digest = digest_new();
        require(pthread_setspecific(algorithms.thread_digest, digest) == 0, "pthread_setspecific");
    }
    require(EVP_DigestInit_ex2(digest, algorithms.sha256, NULL) && EVP_DigestUpdate(digest, data, size) &&
                EVP_DigestFinal_ex(digest, out, NULL),
            "SHA-256");
}

struct forge_sha256_state {
    EVP_MD_CTX *digest;
};

struct forge_sha256_state *forge_sha256_new(void)
{
    init_once();
    struct forge_sha256_state *state = malloc(sizeof *state);
    require(state != NULL, "malloc");
    state->digest = digest_new();
    require(EVP_DigestInit_ex2(state->digest, algorithms.sha256, NULL), "SHA-256");
    return state;
}

void forge_sha256_update(struct forge_sha256_state *state, const void *data, size_t size)
{
    require(EVP_DigestUpdate(state->digest, data, size), "SHA-256");
}

void forge_sha256_piece(struct forge_sha256_state *state, const void *data, size_t size)
{
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)size >> (56 - 8 * i));
    forge_sha256_update(state, length, sizeof length);
    forge_sha256_update(state, data, size);
}

void forge_sha256_final(struct forge_sha256_state *state, uint8_t out[FORGE_SHA256_SIZE])
{
    require(EVP_DigestFinal_ex(state->digest, out, NULL), "SHA-256");
    EVP_MD_CTX_free(state->digest);
    free(state);
}

void forge_hmac_sha256(const uint8_t key[FORGE_KEY_SIZE], const void *data, size_t size, uint8_t out[FORGE_SHA256_SIZE])
{
    init_once();
    char digest[] = "SHA256";
    OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
    EVP_MAC_CTX *mac = EVP_MAC_CTX_new(algorithms.hmac);
    size_t out_size;
    require(mac && EVP_MAC_init(mac, key, FORGE_KEY_SIZE, parameters) && EVP_MAC_update(mac, data, size) &&
                EVP_MAC_final(mac, out, &out_size, FORGE_SHA256_SIZE),
            "HMAC-SHA-256");
    EVP_MAC_CTX_free(mac);
}

void forge_hkdf_sha256(const uint8_t key[FORGE_KEY_SIZE], const char *label, uint8_t *out, size_t out_size)
{
    init_once();
    char digest[] = "SHA256";
    uint8_t secret[FORGE_KEY_SIZE];
    char info[128];
    size_t info_size = strlen(label);
    assert(info_size < sizeof info && out_size <= 255 * FORGE_SHA256_SIZE);
    memcpy(secret, key, sizeof secret); /* OSSL_PARAM takes no const data */
    snprintf(info, sizeof info, "%s", label);
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret, sizeof secret),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, info_size),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF_CTX *kdf = EVP_KDF_CTX_new(algorithms.hkdf);
    require(kdf && EVP_KDF_derive(kdf, out, out_size, parameters) > 0, "HKDF-SHA-256");
    EVP_KDF_CTX_free(kdf);
    forge_cleanse(secret, sizeof secret);
}

static EVP_CIPHER_CTX *cipher_new(void)
{
    init_once();
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    require(cipher != NULL, "EVP_CIPHER_CTX_new");
    return cipher;
}

/* OpenSSL counts in int; what is sealed are replies and secrets far below it. */
static int cipher_length(size_t size)
{
    require(size <= 1 << 30, "sealing more than 1 GiB");
    return (int)size;
}

void forge_seal(const uint8_t key[FORGE_KEY_SIZE], const void *associated, size_t associated_size, const void *plain, size_t size,
                uint8_t *out)
{
    EVP_CIPHER_CTX *cipher = cipher_new();
    uint8_t *nonce = out, *text = out + NONCE_SIZE, *tag = text + size;
    int length;
    forge_random(nonce, NONCE_SIZE);
    require(EVP_EncryptInit_ex2(cipher, algorithms.aes_gcm, key, nonce, NULL) &&
                (!associated_size || EVP_EncryptUpdate(cipher, NULL, &length, associated, cipher_length(associated_size))) &&
                (!size || EVP_EncryptUpdate(cipher, text, &length, plain, cipher_length(size))) &&
                EVP_EncryptFinal_ex(cipher, tag, &length) && EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, TAG_SIZE, tag),
            "AES-256-GCM");
    EVP_CIPHER_CTX_free(cipher);
}

bool forge_unseal(const uint8_t key[FORGE_KEY_SIZE], const void *associated, size_t associated_size, const uint8_t *sealed,
                  size_t sealed_size, uint8_t *out)
{
    if (sealed_size < FORGE_SEAL_OVERHEAD)
        return false;
    size_t size = sealed_size - FORGE_SEAL_OVERHEAD;
    const uint8_t *nonce = sealed, *text = sealed + NONCE_SIZE;
    uint8_t tag[TAG_SIZE], rest[TAG_SIZE];
    int length;
    memcpy(tag, text + size, TAG_SIZE); /* the control call takes no const data */
    EVP_CIPHER_CTX *cipher = cipher_new();
    require(EVP_DecryptInit_ex2(cipher, algorithms.aes_gcm, key, nonce, NULL) &&
                (!associated_size || EVP_DecryptUpdate(cipher, NULL, &length, associated, cipher_length(associated_size))) &&
                (!size || EVP_DecryptUpdate(cipher, out, &length, text, cipher_length(size))) &&
                EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, TAG_SIZE, tag),
            "AES-256-GCM");
    bool genuine = EVP_DecryptFinal_ex(cipher, rest, &length) > 0;
    EVP_CIPHER_CTX_free(cipher);
    if (!genuine)
        forge_cleanse(out, size);
    return genuine;
}

void forge_random(void *out, size_t size)
{
    uint8_t *next = out;
    while (size > 0) {
        ssize_t got = getrandom(next, size, 0);
        require(got > 0 || (got < 0 && errno == EINTR), "getrandom");
        if (got > 0) {
            next += got;
            size -= (size_t)got;
        }
    }
}

void forge_cleanse(void *secret, size_t size)
{
    OPENSSL_cleanse(secret, size);
}

bool forge_equal_secret(const void *a, const void *b, size_t size)
{
    return CRYPTO_memcmp(a, b, size) == 0;
}
