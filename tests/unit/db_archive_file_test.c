#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "db/archive_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINES = 5000, LONG = 3 << 20, PATH_SIZE = 256 };

static char folder[] = "/tmp/forge-archive-XXXXXX";
static char path[PATH_SIZE], partial[PATH_SIZE];
static struct forge_error error;

static int enter(void **state)
{
    memcpy(folder + strlen(folder) - 6, "XXXXXX", 6);
    if (mkdtemp(folder) == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/lines.zst", folder);
    snprintf(partial, sizeof partial, "%s/lines.zst.partial", folder);
    return 0;
}

static int leave(void **state)
{
    unlink(path);
    return rmdir(folder);
}

static void ok(forge_code code)
{
    if (code != FORGE_OK)
        fail_msg("%s", error.message);
}

/* The n-th line: one is empty, one longer than every buffer, the others do not compress to nothing. */
static char *line_of(int n, size_t *out_size)
{
    *out_size = n == 7 ? 0 : n == 8 ? LONG : 300;
    char *line = malloc(*out_size + 1);
    uint32_t word = (uint32_t)n * 2654435761u + 1;
    for (size_t i = 0; i < *out_size; i++) {
        word = word * 1664525u + 1013904223u;
        line[i] = (char)(' ' + (word >> 24) % 90);
    }
    return line;
}

static void write_lines(uint8_t sha256[FORGE_SHA256_SIZE])
{
    struct db_archive_writer *writer;
    ok(db_archive_writer_open(path, &writer, &error));
    for (int i = 0; i < LINES; i++) {
        size_t size;
        char *line = line_of(i, &size);
        ok(db_archive_writer_add(writer, line, size, &error));
        free(line);
    }
    assert_int_equal(access(path, F_OK), -1);
    ok(db_archive_writer_close(writer, sha256, &error));
    assert_int_equal(access(partial, F_OK), -1);
}

/* How many lines are read, all as they were written, until the end or *out_code. */
static int read_lines(struct db_archive_reader *reader, forge_code *out_code)
{
    char *line;
    size_t size, expected_size;
    int count = 0;
    while ((*out_code = db_archive_reader_next(reader, &line, &size, &error)) == FORGE_OK && line != NULL) {
        char *expected = line_of(count++, &expected_size);
        assert_int_equal(size, expected_size);
        assert_memory_equal(line, expected, size);
        assert_int_equal(line[size], '\0');
        free(expected);
    }
    return count;
}

static void test_archive_file_gives_back_its_lines(void **state)
{
    uint8_t written[FORGE_SHA256_SIZE], read[FORGE_SHA256_SIZE];
    struct db_archive_reader *reader;
    forge_code code;
    struct stat status;
    write_lines(written);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    ok(db_archive_reader_open(path, &reader, &error));
    assert_int_equal(read_lines(reader, &code), LINES);
    ok(code);
    ok(db_archive_reader_hash(reader, read, &error)); /* and from the first line again */
    assert_memory_equal(written, read, sizeof read);
    assert_int_equal(read_lines(reader, &code), LINES);
    ok(code);
    db_archive_reader_close(reader);
}

static void test_archive_file_tells_a_cut_and_a_wrong_byte(void **state)
{
    uint8_t written[FORGE_SHA256_SIZE], read[FORGE_SHA256_SIZE];
    struct db_archive_reader *reader;
    struct stat status;
    forge_code code;
    write_lines(written);
    assert_int_equal(stat(path, &status), 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    char byte;
    assert_int_equal(pread(fd, &byte, 1, status.st_size / 2), 1);
    byte = (char)(byte ^ 1);
    assert_int_equal(pwrite(fd, &byte, 1, status.st_size / 2), 1);
    ok(db_archive_reader_open(path, &reader, &error));
    ok(db_archive_reader_hash(reader, read, &error));
    assert_memory_not_equal(written, read, sizeof read);
    db_archive_reader_close(reader);
    byte = (char)(byte ^ 1);
    assert_int_equal(pwrite(fd, &byte, 1, status.st_size / 2), 1);
    assert_int_equal(ftruncate(fd, status.st_size - 1), 0);
    ok(db_archive_reader_open(path, &reader, &error));
    read_lines(reader, &code);
    assert_int_equal(code, FORGE_DATA_LOSS);
    assert_non_null(strstr(error.message, "ends in the middle"));
    db_archive_reader_close(reader);
    assert_int_equal(pwrite(fd, "no zstd", 7, 0), 7);
    close(fd);
    ok(db_archive_reader_open(path, &reader, &error));
    assert_int_equal(read_lines(reader, &code), 0);
    assert_int_equal(code, FORGE_DATA_LOSS);
    assert_non_null(strstr(error.message, "does not decompress"));
    db_archive_reader_close(reader);
}

static void test_archive_file_that_is_abandoned_or_refused_leaves_nothing(void **state)
{
    struct db_archive_writer *writer;
    struct db_archive_reader *reader;
    char missing[PATH_SIZE + 16];
    ok(db_archive_writer_open(path, &writer, &error));
    ok(db_archive_writer_add(writer, "x", 1, &error));
    db_archive_writer_abandon(writer);
    assert_int_equal(access(partial, F_OK), -1);
    assert_int_equal(access(path, F_OK), -1);
    snprintf(missing, sizeof missing, "%s/none/x.zst", folder);
    assert_int_equal(db_archive_writer_open(missing, &writer, &error), FORGE_FAILED_PRECONDITION);
    assert_non_null(strstr(error.message, "No such file or directory"));
    assert_int_equal(db_archive_reader_open(missing, &reader, &error), FORGE_NOT_FOUND);
    ok(db_archive_delete(missing, &error));
}

static void test_archive_replace_and_delete(void **state)
{
    char text[8] = "";
    ok(db_archive_replace(path, "first", 5, &error));
    ok(db_archive_replace(path, "2nd", 3, &error));
    FILE *file = fopen(path, "re");
    assert_int_equal(fread(text, 1, sizeof text, file), 3);
    fclose(file);
    assert_memory_equal(text, "2nd", 3);
    ok(db_archive_delete(path, &error));
    ok(db_archive_delete(path, &error));
    assert_int_equal(access(path, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_archive_file_gives_back_its_lines, enter, leave),
        cmocka_unit_test_setup_teardown(test_archive_file_tells_a_cut_and_a_wrong_byte, enter, leave),
        cmocka_unit_test_setup_teardown(test_archive_file_that_is_abandoned_or_refused_leaves_nothing, enter, leave),
        cmocka_unit_test_setup_teardown(test_archive_replace_and_delete, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
