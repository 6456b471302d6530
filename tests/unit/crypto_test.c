/* Published vectors for each algorithm, and what a wrong key, text or associated data does. */
#include "wire/crypto.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_hex(const uint8_t *bytes, size_t size, const char *expected)
{
    char text[256];
    assert_true(size * 2 < sizeof text);
    for (size_t i = 0; i < size; i++)
        sprintf(text + 2 * i, "%02x", bytes[i]);
    assert_string_equal(text, expected);
}

/* FIPS 180-2, appendix B. */
static void test_sha256_vectors(void **state)
{
    uint8_t hash[FORGE_SHA256_SIZE];
    forge_sha256("", 0, hash);
    assert_hex(hash, sizeof hash, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    forge_sha256("abc", 3, hash);
    assert_hex(hash, sizeof hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_sha256_in_pieces(void **state)
{
    uint8_t hash[FORGE_SHA256_SIZE];
    struct forge_sha256_state *sha = forge_sha256_new();
    forge_sha256_update(sha, "a", 1);
    forge_sha256_update(sha, "", 0);
    forge_sha256(hash, 4, hash); /* does not disturb the one in progress */
    forge_sha256_update(sha, "bc", 2);
    forge_sha256_final(sha, hash);
    assert_hex(hash, sizeof hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_sha256_of_pieces_behind_their_lengths(void **state)
{
    (void)state;
    uint8_t hash[FORGE_SHA256_SIZE], plain[FORGE_SHA256_SIZE];
    struct forge_sha256_state *sha = forge_sha256_new();
    forge_sha256_piece(sha, "abc", 3);
    forge_sha256_piece(sha, "", 0);
    forge_sha256_final(sha, hash);
    forge_sha256("\0\0\0\0\0\0\0\3abc\0\0\0\0\0\0\0\0", 19, plain);
    assert_memory_equal(hash, plain, sizeof hash);
}

static void *hash_often(void *argument)
{
    uint8_t first[FORGE_SHA256_SIZE], again[FORGE_SHA256_SIZE];
    forge_sha256(argument, 8, first);
    for (int i = 0; i < 2000; i++) {
        forge_sha256(argument, 8, again);
        if (memcmp(first, again, sizeof first) != 0)
            return argument; /* a fault */
    }
    return NULL;
}

static void test_sha256_on_threads(void **state)
{
    static char texts[4][9] = {"aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd"};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hash_often, texts[i]), 0);
    for (int i = 0; i < 4; i++) {
        void *fault;
        pthread_join(threads[i], &fault);
        assert_null(fault);
    }
}

/* RFC 4231, test case 1, whose 20 byte key HMAC pads with zeros to the block size: the same as our 32 byte key. */
static void test_hmac_vector(void **state)
{
    uint8_t key[FORGE_KEY_SIZE] = {0}, mac[FORGE_SHA256_SIZE];
    memset(key, 0x0b, 20);
    forge_hmac_sha256(key, "Hi There", 8, mac);
    assert_hex(mac, sizeof mac, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
}

/* HKDF by its definition (RFC 5869, sections 2.2 and 2.3), from our own HMAC: PRK = HMAC(zeros, key), T(i) = HMAC(PRK, T(i-1) | info | i).
 */
static void test_hkdf_definition(void **state)
{
    static const uint8_t label[10] = {'p', 'a', 'g', 'e', ' ', 't', 'o', 'k', 'e', 'n'};
    uint8_t key[FORGE_KEY_SIZE], zeros[FORGE_KEY_SIZE] = {0}, prk[FORGE_SHA256_SIZE], derived[50], expected[64], block[64];
    for (int i = 0; i < FORGE_KEY_SIZE; i++)
        key[i] = (uint8_t)i;
    forge_hkdf_sha256(key, "page token", derived, sizeof derived);
    forge_hmac_sha256(zeros, key, sizeof key, prk);
    memcpy(block, label, sizeof label);
    block[sizeof label] = 1;
    forge_hmac_sha256(prk, block, 11, expected);
    memcpy(block, expected, 32);
    memcpy(block + 32, label, sizeof label);
    block[32 + sizeof label] = 2;
    forge_hmac_sha256(prk, block, 43, expected + 32);
    assert_memory_equal(derived, expected, sizeof derived);
    forge_hkdf_sha256(key, "other label", derived, sizeof derived);
    assert_memory_not_equal(derived, expected, 16);
}

static void test_seal_roundtrip(void **state)
{
    uint8_t key[FORGE_KEY_SIZE], sealed[1000 + FORGE_SEAL_OVERHEAD], again[1000 + FORGE_SEAL_OVERHEAD], plain[1000], out[1000];
    forge_random(key, sizeof key);
    forge_random(plain, sizeof plain);
    for (size_t size = 0; size <= sizeof plain; size += 125) {
        forge_seal(key, "context", 7, plain, size, sealed);
        assert_true(forge_unseal(key, "context", 7, sealed, size + FORGE_SEAL_OVERHEAD, out));
        assert_memory_equal(out, plain, size);
        forge_seal(key, "context", 7, plain, size, again);
        assert_memory_not_equal(sealed, again, size + FORGE_SEAL_OVERHEAD); /* a fresh nonce each time */
    }
    forge_seal(key, NULL, 0, plain, 10, sealed);
    assert_true(forge_unseal(key, NULL, 0, sealed, 10 + FORGE_SEAL_OVERHEAD, out));
}

/* Test case 14 of "The Galois/Counter Mode of Operation" (McGrew, Viega): a zero key, nonce and block. */
static void test_unseal_vector(void **state)
{
    static const uint8_t text_and_tag[32] = {0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e, 0xc5,
                                             0xd3, 0xba, 0xf3, 0x9d, 0x18, 0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99,
                                             0x6b, 0xf0, 0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19};
    static const uint8_t zeros[FORGE_KEY_SIZE];
    uint8_t sealed[12 + sizeof text_and_tag] = {0}, plain[16];
    memcpy(sealed + 12, text_and_tag, sizeof text_and_tag);
    assert_true(forge_unseal(zeros, NULL, 0, sealed, sizeof sealed, plain));
    assert_memory_equal(plain, zeros, sizeof plain);
}

static void test_unseal_refuses(void **state)
{
    uint8_t key[FORGE_KEY_SIZE], sealed[20 + FORGE_SEAL_OVERHEAD], out[20];
    static const uint8_t zeros[20];
    forge_random(key, sizeof key);
    forge_seal(key, "reply", 5, "twenty bytes of text", 20, sealed);
    assert_false(forge_unseal(key, "reply2", 6, sealed, sizeof sealed, out));
    assert_memory_equal(out, zeros, sizeof out); /* nothing of the text is left behind */
    assert_false(forge_unseal(key, NULL, 0, sealed, sizeof sealed, out));
    for (size_t i = 0; i < sizeof sealed; i++) {
        sealed[i] ^= 1;
        assert_false(forge_unseal(key, "reply", 5, sealed, sizeof sealed, out));
        sealed[i] ^= 1;
    }
    assert_false(forge_unseal(key, "reply", 5, sealed, FORGE_SEAL_OVERHEAD - 1, out));
    assert_false(forge_unseal(key, "reply", 5, sealed, 0, out));
    assert_false(forge_unseal(key, "reply", 5, sealed, sizeof sealed - 1, out));
    assert_true(forge_unseal(key, "reply", 5, sealed, sizeof sealed, out));
    key[0] ^= 1;
    assert_false(forge_unseal(key, "reply", 5, sealed, sizeof sealed, out));
}

static void test_random_differs(void **state)
{
    uint8_t a[64] = {0}, b[64] = {0}, *large = calloc(1, 100000);
    forge_random(a, sizeof a);
    forge_random(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    forge_random(large, 100000); /* more than getrandom() gives without a loop under signals */
    assert_memory_not_equal(large, large + 99968, 32);
    free(large);
    forge_random(a, 0);
}

static void test_cleanse_and_compare(void **state)
{
    char secret[] = "hunter2", same[] = "hunter2";
    assert_true(forge_equal_secret(secret, same, sizeof secret));
    same[6] = '3';
    assert_false(forge_equal_secret(secret, same, sizeof secret));
    assert_true(forge_equal_secret(secret, same, 0));
    forge_cleanse(secret, sizeof secret);
    assert_memory_equal(secret, "\0\0\0\0\0\0\0\0", 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_vectors),
        cmocka_unit_test(test_sha256_in_pieces),
        cmocka_unit_test(test_sha256_of_pieces_behind_their_lengths),
        cmocka_unit_test(test_sha256_on_threads),
        cmocka_unit_test(test_hmac_vector),
        cmocka_unit_test(test_hkdf_definition),
        cmocka_unit_test(test_seal_roundtrip),
        cmocka_unit_test(test_unseal_vector),
        cmocka_unit_test(test_unseal_refuses),
        cmocka_unit_test(test_random_differs),
        cmocka_unit_test(test_cleanse_and_compare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
