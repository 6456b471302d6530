#include "auth/key_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define KEY_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEY_B "ffeeddccbbaa99887766554433221100FFEEDDCCBBAA99887766554433221100"

static void assert_refused(const char *text, const char *part)
{
    struct auth_keys keys;
    struct forge_error error = {0};
    assert_int_equal(auth_key_file_parse("the.key", text, strlen(text), &keys, &error), FORGE_FAILED_PRECONDITION);
    assert_non_null(strstr(error.message, "key file the.key"));
    if (!strstr(error.message, part))
        fail_msg("\"%s\" does not say \"%s\"", error.message, part);
}

static void test_key_file_current_and_previous(void **state)
{
    static const char text[] = "# comment\n7 " KEY_A "\r\n\n3 " KEY_B "\n";
    struct auth_keys keys;
    struct forge_error error = {0};
    assert_int_equal(auth_key_file_parse("the.key", text, strlen(text), &keys, &error), FORGE_OK);
    assert_int_equal(keys.current.id, 7);
    assert_int_equal(keys.current.seal[31], 0x1f);
    assert_true(keys.has_previous);
    assert_int_equal(keys.previous.id, 3);
    assert_int_equal(keys.previous.seal[0], 0xff);
    assert_ptr_equal(auth_keys_find(&keys, 7), &keys.current);
    assert_ptr_equal(auth_keys_find(&keys, 3), &keys.previous);
    assert_null(auth_keys_find(&keys, 4));
    uint8_t derived[FORGE_KEY_SIZE];
    forge_hkdf_sha256(keys.current.seal, "page_token", derived, sizeof derived);
    assert_memory_equal(keys.current.page_token, derived, sizeof derived);
    assert_memory_not_equal(keys.current.page_token, keys.current.request_hash, sizeof derived);
    assert_memory_not_equal(keys.current.page_token, keys.previous.page_token, sizeof derived);
    forge_hkdf_sha256(keys.current.seal, "key_check", derived, sizeof derived);
    assert_memory_equal(keys.current.check, derived, sizeof derived);
    auth_keys_done(&keys);
    assert_int_equal(keys.current.seal[31], 0);
}

static void test_key_file_malformed(void **state)
{
    assert_refused("", "holds no key");
    assert_refused("# nothing\n", "holds no key");
    assert_refused(KEY_A "\n", "line 1 must be a key id, a space and 64 hexadecimal digits");
    assert_refused("x " KEY_A, "line 1 must begin with the key id");
    assert_refused("0 " KEY_A, "line 1 must begin with the key id");
    assert_refused("2147483648 " KEY_A, "line 1 must begin with the key id");
    assert_refused("\n1 abcdef", "line 2 must hold a key of 32 bytes");
    assert_refused("1 " KEY_A "0", "line 1 must hold a key of 32 bytes");
    assert_refused("1 g" KEY_A, "must hold a key of 32 bytes");
    assert_refused("1 " KEY_A "\n1 " KEY_B "\n", "both keys have the id 1");
    assert_refused("1 " KEY_A "\n2 " KEY_B "\n3 " KEY_B "\n", "line 3 is a third key");
}

static char folder[] = "/tmp/key_file_test.XXXXXX", path[64];

static int make_folder(void **state)
{
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/the.key", folder);
    return 0;
}

static int remove_folder(void **state)
{
    unlink(path);
    return rmdir(folder);
}

static void test_key_file_created_and_loaded(void **state)
{
    struct auth_keys first, second;
    struct forge_error error = {0};
    struct stat status;
    assert_int_equal(auth_key_file_create(path, &error), FORGE_OK);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(auth_key_file_load(path, &first, &error), FORGE_OK);
    assert_int_equal(first.current.id, 1);
    assert_false(first.has_previous);
    assert_int_equal(auth_key_file_create(path, &error), FORGE_ALREADY_EXISTS);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(auth_key_file_create(path, &error), FORGE_OK);
    assert_int_equal(auth_key_file_load(path, &second, &error), FORGE_OK);
    assert_memory_not_equal(first.current.seal, second.current.seal, FORGE_KEY_SIZE);
}

static void assert_load_refused(const char *file, const char *part)
{
    struct auth_keys keys;
    struct forge_error error = {0};
    assert_int_equal(auth_key_file_load(file, &keys, &error), FORGE_FAILED_PRECONDITION);
    assert_non_null(strstr(error.message, file));
    if (!strstr(error.message, part))
        fail_msg("\"%s\" does not say \"%s\"", error.message, part);
}

static void test_key_file_that_cannot_be_used(void **state)
{
    char missing[96];
    snprintf(missing, sizeof missing, "%s/missing.key", folder);
    assert_load_refused(missing, "No such file or directory (made by forged bootstrap roles)");
    assert_load_refused(folder, "is not a regular file");
    assert_int_equal(chmod(path, 0640), 0);
    assert_load_refused(path, "may be read by others: run chmod 600 on it");
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, AUTH_KEY_FILE_BYTES_MAX + 1), 0);
    assert_load_refused(path, "is larger than 4096 bytes");
    struct forge_error error = {0};
    snprintf(missing, sizeof missing, "%s/no/such.key", folder);
    assert_int_equal(auth_key_file_create(missing, &error), FORGE_FAILED_PRECONDITION);
}

/* A secret that Kubernetes mounts: root's, readable by the group of the server that runs as somebody else. */
static void test_key_file_mounted_for_our_group(void **state)
{
    enum { SOMEBODY = 12345 };
    struct auth_keys keys;
    struct forge_error error = {0};
    if (geteuid() != 0)
        skip();
    assert_int_equal(unlink(path), 0);
    assert_int_equal(auth_key_file_create(path, &error), FORGE_OK);
    assert_int_equal(chmod(folder, 0711), 0);
    assert_int_equal(chown(path, 0, SOMEBODY), 0);
    static const mode_t modes[] = {0440, 0640, 0444, 0460};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_int_equal(setegid(SOMEBODY) | seteuid(SOMEBODY), 0);
        forge_code code = auth_key_file_load(path, &keys, &error);
        assert_int_equal(seteuid(0) | setegid(0), 0);
        assert_int_equal(code, i < 2 ? FORGE_OK : FORGE_FAILED_PRECONDITION);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_file_current_and_previous),  cmocka_unit_test(test_key_file_malformed),
        cmocka_unit_test(test_key_file_created_and_loaded),    cmocka_unit_test(test_key_file_that_cannot_be_used),
        cmocka_unit_test(test_key_file_mounted_for_our_group),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
