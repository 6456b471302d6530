/* Vectorscan makes checks faster and never changes an answer: every answer is asked for twice. */
#include "policy_test_support.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

enum { RANDOM_ROUNDS = 6, RANDOM_PATTERNS = 16, RANDOM_TEXTS = 150, THREADS = 3 };

/* Two sets of the same rules, of which one is accelerated. */
struct pair {
    struct policy_fixture plain, fast;
};

static void pair_open(struct pair *pair, const Forge__V1__PolicyRule *rules, size_t count)
{
    char said[256] = "";
    const Forge__V1__PolicyRule **list = calloc(count, sizeof list[0]);
    assert_non_null(list);
    for (size_t i = 0; i < count; i++)
        list[i] = &rules[i];
    fixture_open(&pair->plain, list, count);
    fixture_open(&pair->fast, list, count);
    free(list);
    bool accelerated = policy_set_accelerate(pair->fast.set, said, sizeof said);
    if (!accelerated)
        print_error("%s\n", said);
    assert_true(accelerated);
    assert_int_equal(policy_set_accelerated(pair->plain.set), 0);
}

static void pair_close(struct pair *pair)
{
    fixture_close(&pair->plain);
    fixture_close(&pair->fast);
}

static bool findings_are_equal(const struct policy_finding *a, const struct policy_finding *b)
{
    bool equal = strcmp(a->rule, b->rule) == 0 && strcmp(a->message, b->message) == 0 && a->range_count == b->range_count;
    for (size_t i = 0; equal && i < a->range_count; i++)
        equal = a->ranges[i].begin == b->ranges[i].begin && a->ranges[i].end == b->ranges[i].end;
    return equal;
}

static void expect_same(const struct policy_decision *plain, const struct policy_decision *fast, const char *text)
{
    bool same = plain->action == fast->action && plain->finding_count == fast->finding_count &&
                (plain->masked[0] == NULL) == (fast->masked[0] == NULL) &&
                (plain->masked[0] == NULL || strcmp(plain->masked[0], fast->masked[0]) == 0);
    for (size_t i = 0; same && i < plain->finding_count; i++)
        same = findings_are_equal(&plain->findings[i], &fast->findings[i]);
    if (!same)
        print_error("text: %.200s\nplain: %zu findings, accelerated: %zu\n", text, plain->finding_count, fast->finding_count);
    assert_true(same);
}

static size_t pair_check(struct pair *pair, const char *text)
{
    forge_arena_reset(&pair->plain.arena);
    forge_arena_reset(&pair->fast.arena);
    fixture_check_text(&pair->plain, INPUT, text);
    fixture_check_text(&pair->fast, INPUT, text);
    expect_same(&pair->plain.decision, &pair->fast.decision, text);
    return pair->plain.decision.finding_count;
}

/* Each pattern is a rule of its own, so that findings tell which. */
static void rules_make(Forge__V1__PolicyRule *rules, Forge__V1__PatternRule *configs, char (*names)[24], char **patterns, size_t count,
                       bool ignore_case)
{
    for (size_t i = 0; i < count; i++) {
        configs[i] = (Forge__V1__PatternRule)FORGE__V1__PATTERN_RULE__INIT;
        configs[i].patterns = &patterns[i];
        configs[i].n_patterns = 1;
        configs[i].ignore_case = ignore_case;
        snprintf(names[i], sizeof names[i], "r%zu", i);
        rules[i] = (Forge__V1__PolicyRule)RULE(names[i], MASK, PATTERN, pattern, &configs[i]);
    }
}

/* --- characters --- */

static void character_text(UChar32 point, char text[8])
{
    size_t size = 0;
    U8_APPEND_UNSAFE((uint8_t *)text, size, (uint32_t)point);
    text[size] = '\0';
}

/* One of many that are alike: ideographs, characters for private use, those that are not defined. */
static bool is_left_out(UChar32 point)
{
    bool is_alike =
        !u_isdefined(point) || u_charType(point) == U_PRIVATE_USE_CHAR || point > 0x1FFFF || (point >= 0x3400 && point <= 0xD7FF);
    return U_IS_SURROGATE(point) || (is_alike && point % 257 != 0);
}

/* Vectorscan's Unicode is older than PCRE2's: no character may show it. */
static void test_classes_of_all_characters(void **state)
{
    static char *const classes[] = {TEXT("\\w"), TEXT("\\d"),  TEXT("\\s"), TEXT("\\W"),   TEXT("\\D"),
                                    TEXT("\\S"), TEXT("[^a]"), TEXT("."),   TEXT("[^\\w]")};
    enum { COUNT = sizeof classes / sizeof classes[0] };
    Forge__V1__PolicyRule rules[COUNT];
    Forge__V1__PatternRule configs[COUNT];
    char names[COUNT][24], text[8];
    struct pair pair;
    size_t findings = 0;
    rules_make(rules, configs, names, (char **)(uintptr_t)classes, COUNT, false);
    pair_open(&pair, rules, COUNT);
    assert_int_equal(policy_set_accelerated(pair.fast.set), COUNT);
    for (UChar32 point = 1; point <= UCHAR_MAX_VALUE; point++) {
        if (is_left_out(point))
            continue;
        character_text(point, text);
        findings += pair_check(&pair, text);
    }
    assert_true(findings > 50000);
    pair_close(&pair);
}

/* Every character that has a case as a pattern, against all that are the same but for case. */
static void test_case_of_all_characters(void **state)
{
    enum { AT_ONCE = 64 };
    Forge__V1__PolicyRule rules[AT_ONCE];
    Forge__V1__PatternRule configs[AT_ONCE];
    char names[AT_ONCE][24], texts[AT_ONCE][8], text[8], *patterns[AT_ONCE];
    UChar32 points[AT_ONCE], point = 'A';
    size_t all = 0, findings = 0;
    struct pair pair;
    while (point < 0x1F000) {
        size_t count = 0;
        for (; point < 0x1F000 && count < AT_ONCE; point++)
            if (u_foldCase(point, U_FOLD_CASE_DEFAULT) != point || u_toupper(point) != point) {
                character_text(point, texts[count]);
                patterns[count] = texts[count];
                points[count++] = point;
            }
        rules_make(rules, configs, names, patterns, count, true);
        pair_open(&pair, rules, count);
        for (size_t i = 0; i < count; i++) {
            UChar32 folded = u_foldCase(points[i], U_FOLD_CASE_DEFAULT);
            const UChar32 same[] = {points[i], folded, u_toupper(folded), u_toupper(points[i]), u_tolower(points[i]), u_totitle(points[i])};
            for (size_t j = 0; j < sizeof same / sizeof same[0]; j++) {
                character_text(same[j], text);
                findings += pair_check(&pair, text);
            }
        }
        pair_close(&pair);
        all += count;
    }
    assert_true(all > 2500 && findings >= 4 * all);
}

/* --- patterns --- */

static unsigned next_random(unsigned *seed, unsigned below)
{
    *seed = *seed * 1664525 + 1013904223;
    return (*seed >> 10) % below;
}

/* A pattern of a small grammar; often wrong on purpose, which the caller finds out. */
static void random_pattern(unsigned *seed, char *out, size_t size)
{
    static const char *const parts[] = {
        "a",      "b",        "c",       "1",      " ",      "\u00E9", "\u00C9", "k",      "\u212A",      "\u017F",    ".",
        "\\w",    "\\d",      "\\s",     "\\W",    "\\S",    "\\b",    "\\B",    "^",      "$",           "[abc]",     "[^a]",
        "[a-c1]", "[\\d\\s]", "(?:a|b)", "(ab|c)", "(?=a)",  "(?!b)",  "(?<=a)", "(?<!1)", "(?i:aB)",     "(?>a+)",    "\\.",
        "\\-",    "\\A",      "\\z",     "\\Z",    "(?s:.)", "(?m:^)", "(a)\\1", "\\x61",  "[[:digit:]]", "\\p{L}",    "(?|a|b)",
        "\\R",    "\\Qa\\E",  "[]a]",    "\\h",    "\\N",    "\\K",    "\\n",    "\u4E2D", "\u0561",      "(?x: a b)", "#"};
    static const char *const repeats[] = {"", "", "", "", "*", "+", "?", "*?", "+?", "{2}", "{1,3}", "{2,}", "++", "{0,70}"};
    out[0] = '\0';
    unsigned count = 1 + next_random(seed, 6);
    for (unsigned i = 0; i < count; i++) {
        const char *part = parts[next_random(seed, sizeof parts / sizeof parts[0])];
        const char *repeat = repeats[next_random(seed, sizeof repeats / sizeof repeats[0])];
        size_t used = strlen(out);
        snprintf(out + used, size - used, "%s%s%s", part, repeat, next_random(seed, 12) == 0 ? "|" : "");
    }
}

static void random_text(unsigned *seed, char *out)
{
    static const char *const letters[] = {"a",      "b",      "c", "A", "B",      "1", "2",      " ",      "\n",     ".",          "-",
                                          "\u00E9", "\u00C9", "k", "K", "\u212A", "s", "\u017F", "\u4E2D", "\u0561", "\U0001F600", "_"};
    out[0] = '\0';
    for (unsigned count = next_random(seed, 24); count > 0; count--)
        strcat(out, letters[next_random(seed, sizeof letters / sizeof letters[0])]);
}

static bool is_pattern(char *pattern)
{
    struct forge_arena arena;
    struct forge_error error = {0};
    struct policy_set *set;
    Forge__V1__PatternRule config = PATTERNS(pattern);
    Forge__V1__PolicyRule rule = RULE("r", FLAG, PATTERN, pattern, &config), *rules = &rule;
    const struct policy_source policy = {"p", 1, ENFORCE, (const Forge__V1__PolicyRule *const *)&rules, 1};
    forge_arena_init(&arena, POLICY_ARENA_BYTES, NULL);
    bool prepared = policy_set_prepare(&policy, 1, &arena, &error, &set) == FORGE_OK;
    policy_set_free(set);
    forge_arena_done(&arena);
    return prepared;
}

static void test_random_patterns(void **state)
{
    unsigned seed = 20240229;
    size_t findings = 0, accelerated = 0;
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        Forge__V1__PolicyRule rules[RANDOM_PATTERNS];
        Forge__V1__PatternRule configs[RANDOM_PATTERNS];
        char names[RANDOM_PATTERNS][24], texts[RANDOM_PATTERNS][256], text[128], *patterns[RANDOM_PATTERNS];
        struct pair pair;
        for (size_t i = 0; i < RANDOM_PATTERNS; i++) {
            do
                random_pattern(&seed, texts[i], sizeof texts[i]);
            while (!is_pattern(texts[i]));
            patterns[i] = texts[i];
        }
        rules_make(rules, configs, names, patterns, RANDOM_PATTERNS, round % 2);
        pair_open(&pair, rules, RANDOM_PATTERNS);
        accelerated += policy_set_accelerated(pair.fast.set);
        for (int i = 0; i < RANDOM_TEXTS; i++) {
            random_text(&seed, text);
            findings += pair_check(&pair, text);
        }
        pair_close(&pair);
    }
    print_message("%zu of %d patterns accelerated, %zu findings\n", accelerated, RANDOM_ROUNDS * RANDOM_PATTERNS, findings);
    assert_true(accelerated > RANDOM_ROUNDS * RANDOM_PATTERNS / 10);
    assert_true(findings > 2000);
}

/* Patterns that PCRE2 gives up on: where vectorscan knows that there is no match, there is none, with it and without. */
static void test_bombs(void **state)
{
    static char *patterns[] = {TEXT("(a+)+b"),           TEXT("(a|aa)+$"),  TEXT("(\\w+\\s?)+@"),
                               TEXT("(?:a?){30}a{30}c"), TEXT("(a*)*\\1d"), TEXT("^(([a-z])+.)+[A-Z]")};
    enum { COUNT = sizeof patterns / sizeof patterns[0] };
    Forge__V1__PolicyRule rules[COUNT];
    Forge__V1__PatternRule configs[COUNT];
    char names[COUNT][24], text[4096];
    struct pair pair;
    size_t findings = 0;
    rules_make(rules, configs, names, patterns, COUNT, false);
    pair_open(&pair, rules, COUNT);
    assert_true(policy_set_accelerated(pair.fast.set) >= 3);
    static const char *const ends[] = {"", "!", "b", " b@", "c", "X", "\u0561!"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        memset(text, 'a', 3000);
        strcpy(text + 3000, ends[i]);
        findings += pair_check(&pair, text);
    }
    assert_true(findings > 0);
    pair_close(&pair);
}

/* --- threads --- */

struct checker {
    const struct policy_set *set;
    atomic_bool stop;
    atomic_size_t checks;
};

static void *check_again_and_again(void *user)
{
    struct checker *checker = user;
    struct forge_arena arena;
    const struct policy_text texts[] = {{INPUT, "order 123-45 of ann", 19}};
    const struct policy_subject subject = {.texts = texts, .text_count = 1};
    forge_arena_init(&arena, POLICY_ARENA_BYTES, NULL);
    while (!atomic_load(&checker->stop)) {
        struct policy_decision decision = {0};
        forge_code code = policy_set_check(checker->set, &subject, &arena, &decision);
        if (code != FORGE_OK || decision.finding_count != 1 || strcmp(decision.masked[0], "order [r0] of ann") != 0)
            abort();
        forge_arena_reset(&arena);
        atomic_fetch_add(&checker->checks, 1);
    }
    forge_arena_done(&arena);
    return NULL;
}

static void wait_for_checks(struct checker *checker, size_t more)
{
    for (size_t target = atomic_load(&checker->checks) + more; atomic_load(&checker->checks) < target;)
        sched_yield();
}

/* A set is accelerated while others check. */
static void test_threads(void **state)
{
    char *patterns[] = {TEXT("\\d{3}-\\d{2}"), TEXT("bob"), TEXT("\\bx+y")}, names[3][24], said[128];
    Forge__V1__PolicyRule rules[3];
    const Forge__V1__PolicyRule *list[] = {&rules[0], &rules[1], &rules[2]};
    Forge__V1__PatternRule configs[3];
    struct policy_fixture fixture;
    pthread_t threads[THREADS];
    rules_make(rules, configs, names, patterns, 3, false);
    fixture_open(&fixture, list, 3);
    struct checker checker = {.set = fixture.set};
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, check_again_and_again, &checker), 0);
    wait_for_checks(&checker, 100);
    assert_true(policy_set_accelerate(fixture.set, said, sizeof said));
    wait_for_checks(&checker, 1000);
    atomic_store(&checker.stop, true);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(policy_set_accelerated(fixture.set), 3);
    fixture_close(&fixture);
}

static void test_nothing_to_accelerate(void **state)
{
    char said[128];
    struct policy_fixture fixture;
    fixture_open_many(&fixture, NULL, 0);
    assert_true(policy_set_accelerate(fixture.set, said, sizeof said));
    assert_int_equal(policy_set_accelerated(fixture.set), 0);
    fixture_check_text(&fixture, INPUT, "text");
    assert_int_equal(fixture.decision.finding_count, 0);
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes_of_all_characters),
        cmocka_unit_test(test_case_of_all_characters),
        cmocka_unit_test(test_random_patterns),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_nothing_to_accelerate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
