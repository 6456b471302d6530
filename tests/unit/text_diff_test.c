/* server/text/diff: what it writes is held against Debian's diff and applied again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text/diff.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A text that grows. */
struct text {
    char *data;
    size_t size, room;
};

static void append(void *user, const char *bytes, size_t size)
{
    struct text *text = user;
    if (text->size + size + 1 > text->room) {
        text->room = 2 * (text->size + size + 1);
        text->data = realloc(text->data, text->room);
        assert_non_null(text->data);
    }
    memcpy(text->data + text->size, bytes, size);
    text->size += size;
    text->data[text->size] = '\0';
}

static struct text diff(struct text old_text, struct text new_text, unsigned context, struct text_diff_counts *counts)
{
    struct text out = {0};
    append(&out, "", 0);
    assert_true(text_diff_unified((struct text_diff_text){old_text.data, old_text.size},
                                  (struct text_diff_text){new_text.data, new_text.size}, context, append, &out, counts));
    return out;
}

static struct text text_of(const char *literal)
{
    struct text text = {0};
    append(&text, literal, strlen(literal));
    return text;
}

static void expect(const char *old_literal, const char *new_literal, unsigned context, const char *expected)
{
    struct text old_text = text_of(old_literal), new_text = text_of(new_literal);
    struct text_diff_counts counts;
    struct text out = diff(old_text, new_text, context, &counts);
    assert_string_equal(out.data, expected);
    free(out.data);
    free(old_text.data);
    free(new_text.data);
}

static void test_small_texts(void **state)
{
    (void)state;
    expect("", "", 3, "");
    expect("a", "a", 3, "");
    expect("a\nb\n", "a\nb\n", 3, "");
    expect("", "a", 3, "@@ -0,0 +1 @@\n+a\n");
    expect("", "a\nb\n", 3, "@@ -0,0 +1,2 @@\n+a\n+b\n");
    expect("a\nb", "", 3, "@@ -1,2 +0,0 @@\n-a\n-b\n");
    expect("", "\n", 3, "@@ -0,0 +1 @@\n+\n");
    expect("a\nb\nc", "a\nB\nc", 1, "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n");
    expect("a\nb\nc", "a\nB\nc", 0, "@@ -2 +2 @@\n-b\n+B\n");
    expect("a\nc\n", "a\nb\nc\n", 0, "@@ -1,0 +2 @@\n+b\n");
    expect("a\r\n", "a\n", 3, "@@ -1 +1 @@\n-a\r\n+a\n");
    expect("a\nb", "b\na", 3, "@@ -1,2 +1,2 @@\n-a\n b\n+a\n");
}

/* Neither marker nor silence: the line that follows the last newline. */
static void test_a_newline_at_the_end_shows(void **state)
{
    (void)state;
    expect("a", "a\n", 3, "@@ -1 +1,2 @@\n a\n+\n");
    expect("a\n", "a", 3, "@@ -1,2 +1 @@\n a\n-\n");
    expect("a\nb", "a\nc\n", 3, "@@ -1,2 +1,3 @@\n a\n-b\n+c\n+\n");
}

static void test_hunks_join_where_their_contexts_touch(void **state)
{
    (void)state;
    expect("1\n2\n3\n4\n5\n6\n", "x\n2\n3\n4\n5\ny\n", 2, "@@ -1,6 +1,6 @@\n-1\n+x\n 2\n 3\n 4\n 5\n-6\n+y\n");
    expect("1\n2\n3\n4\n5\n6\n7\n", "x\n2\n3\n4\n5\n6\ny\n", 2, "@@ -1,3 +1,3 @@\n-1\n+x\n 2\n 3\n@@ -5,3 +5,3 @@\n 5\n 6\n-7\n+y\n");
}

/* --- generated texts --- */

static uint32_t random_state;

static uint32_t random_below(uint32_t bound)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(random_state >> 8) * bound >> 24);
}

static void append_line(struct text *text, const char *kind, uint32_t number)
{
    char line[48];
    append(text, line, (size_t)snprintf(line, sizeof line, "%s %u\n", kind, number));
}

/* Old: `count` lines, each its own. New: some left out, some new ones put in, alone and in runs. Only one script is the shortest. */
static void generate_distinct(uint32_t count, uint32_t edits_of_100, struct text *old_text, struct text *new_text)
{
    for (uint32_t i = 0; i < count; i++) {
        append_line(old_text, "line", i);
        if (random_below(100) >= edits_of_100) {
            append_line(new_text, "line", i);
            continue;
        }
        for (uint32_t n = random_below(4), j = 0; j < n; j++)
            append_line(new_text, "new", 10 * i + j);
        if (random_below(2) == 0)
            append_line(new_text, "line", i);
    }
}

/* Lines out of a few, so that most stand in many places; new is old with edits. */
static void generate_alike(uint32_t count, uint32_t kinds, uint32_t edits_of_100, struct text *old_text, struct text *new_text)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t kind = random_below(kinds);
        append_line(old_text, "kind", kind);
        if (random_below(100) >= edits_of_100)
            append_line(new_text, "kind", kind);
        else if (random_below(2) == 0)
            append_line(new_text, "kind", random_below(kinds));
    }
}

static void write_file(char *path, struct text text)
{
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, text.data ? text.data : "", text.size), (ssize_t)text.size);
    close(file);
}

/* What `diff <options>` writes below the names of the files. */
static struct text debian_diff(const char *options, struct text old_text, struct text new_text)
{
    char old_path[] = "/tmp/text_diff_old_XXXXXX", new_path[] = "/tmp/text_diff_new_XXXXXX", command[256], line[512];
    struct text out = {0};
    write_file(old_path, old_text);
    write_file(new_path, new_text);
    snprintf(command, sizeof command, "diff %s %s %s", options, old_path, new_path);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    append(&out, "", 0);
    for (unsigned i = 0; fgets(line, sizeof line, pipe); i++)
        if (i >= 2)
            append(&out, line, strlen(line));
    int status = pclose(pipe);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    unlink(old_path);
    unlink(new_path);
    return out;
}

static void counts_of(struct text hunks, struct text_diff_counts *out)
{
    *out = (struct text_diff_counts){0};
    for (const char *line = hunks.data; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        out->added += *line == '+';
        out->removed += *line == '-';
    }
}

/* Walks old along the hunks: what they say of it must be true, and the result is returned. */
static struct text apply(struct text old_text, struct text hunks)
{
    struct text out = {0};
    size_t at = 0, lines_before = 0;
    append(&out, "", 0);
    for (char *line = hunks.data, *next; *line; line = next) {
        next = strchr(line, '\n') + 1;
        size_t size = (size_t)(next - line) - 1;
        if (line[0] == '@') {
            unsigned begin, count = 1;
            assert_true(sscanf(line, "@@ -%u,%u", &begin, &count) >= 1);
            for (size_t skip = begin - (count > 0); lines_before < skip; lines_before++) {
                size_t length = strcspn(old_text.data + at, "\n") + 1;
                append(&out, old_text.data + at, length);
                at += length;
            }
            continue;
        }
        if (line[0] != '+') {
            assert_true(at + size <= old_text.size);
            assert_memory_equal(old_text.data + at, line + 1, size);
            at += size;
            lines_before++;
        }
        if (line[0] != '-')
            append(&out, line + 1, size);
    }
    append(&out, old_text.data + at, old_text.size - at);
    return out;
}

static void check_applies(struct text old_text, struct text new_text, struct text hunks)
{
    struct text result = apply(old_text, hunks);
    assert_int_equal(result.size, new_text.size);
    assert_memory_equal(result.data, new_text.data, new_text.size);
    free(result.data);
}

static void check_case(struct text old_text, struct text new_text, unsigned context, bool exactly)
{
    char options[48];
    struct text_diff_counts counts, theirs_counts, written;
    struct text ours = diff(old_text, new_text, context, &counts);
    snprintf(options, sizeof options, "-d -U %u", context);
    struct text theirs = debian_diff(options, old_text, new_text);
    counts_of(theirs, &theirs_counts);
    counts_of(ours, &written);
    if (exactly)
        assert_string_equal(ours.data, theirs.data);
    assert_int_equal(counts.added, theirs_counts.added);
    assert_int_equal(counts.removed, theirs_counts.removed);
    assert_int_equal(counts.added, written.added);
    assert_int_equal(counts.removed, written.removed);
    check_applies(old_text, new_text, ours);
    free(ours.data);
    free(theirs.data);
    free(old_text.data);
    free(new_text.data);
}

static struct text empty_text(void)
{
    return text_of("");
}

static void test_distinct_lines_give_what_diff_gives(void **state)
{
    (void)state;
    for (random_state = 1; random_state < 151;) {
        uint32_t seed = random_state;
        struct text old_text = empty_text(), new_text = empty_text();
        generate_distinct(random_below(120), 1 + random_below(60), &old_text, &new_text);
        check_case(old_text, new_text, seed % 6, true);
        random_state = seed + 1;
    }
}

static void test_lines_alike_give_as_short_a_script(void **state)
{
    (void)state;
    for (random_state = 1; random_state < 151;) {
        uint32_t seed = random_state;
        struct text old_text = empty_text(), new_text = empty_text();
        generate_alike(1 + random_below(200), 2 + random_below(20), 1 + random_below(70), &old_text, &new_text);
        check_case(old_text, new_text, seed % 6, false);
        random_state = seed + 1;
    }
}

/* More edits than one search makes: still a script, not everything replaced. */
static void test_many_edits_still_give_a_script(void **state)
{
    (void)state;
    struct text_diff_counts counts;
    struct text old_text = empty_text(), new_text = empty_text();
    random_state = 7;
    generate_alike(20000, 5000, 30, &old_text, &new_text);
    struct text out = diff(old_text, new_text, 3, &counts);
    check_applies(old_text, new_text, out);
    assert_in_range(counts.removed, 1000, 10000);
    free(out.data);
    free(old_text.data);
    free(new_text.data);
}

/* 1 MiB on each side in shapes that cost most. What bounds time here is the timeout of the test. */
static void test_large_texts_come_to_an_end(void **state)
{
    (void)state;
    static const struct {
        uint32_t lines, kinds;
    } shapes[] = {{65000, 2}, {65000, 300}, {65000, 60000}, {150000, 10}, {500, 500}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct text_diff_counts counts;
        struct text old_text = empty_text(), new_text = empty_text();
        random_state = 11;
        for (uint32_t line = 0; line < shapes[i].lines; line++) {
            append_line(&old_text, "k", random_below(shapes[i].kinds));
            append_line(&new_text, "k", random_below(shapes[i].kinds));
        }
        struct text out = diff(old_text, new_text, 3, &counts);
        check_applies(old_text, new_text, out);
        free(out.data);
        free(old_text.data);
        free(new_text.data);
    }
    struct text newlines = empty_text(), letters = empty_text();
    struct text_diff_counts counts;
    for (uint32_t i = 0; i < 1 << 20; i++)
        append(&newlines, "\n", 1);
    for (uint32_t i = 0; i < 1 << 20; i++)
        append(&letters, i % 2 ? "\n" : "x", 1);
    struct text out = diff(newlines, letters, 3, &counts);
    assert_int_equal(counts.removed, 1 << 20);
    assert_int_equal(counts.added, 1 << 19);
    free(out.data);
    free(newlines.data);
    free(letters.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_texts),
        cmocka_unit_test(test_a_newline_at_the_end_shows),
        cmocka_unit_test(test_hunks_join_where_their_contexts_touch),
        cmocka_unit_test(test_distinct_lines_give_what_diff_gives),
        cmocka_unit_test(test_lines_alike_give_as_short_a_script),
        cmocka_unit_test(test_many_edits_still_give_a_script),
        cmocka_unit_test(test_large_texts_come_to_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
