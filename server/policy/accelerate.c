/* Vectorscan in prefilter mode: it says which patterns certainly have no match, for all of them in one pass over the text. */
#include "policy/policy_private.h"

#include "evaluate/text.h"

#include <hs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PATTERN_BYTES_MAX = 512, /* larger patterns and repeats take vectorscan long to compile */
    REPEAT_MAX = 64,
    SCRATCHES = 16 /* kept for the next check; scratch belongs to one scan at a time */
};

struct policy_accelerator {
    hs_database_t *database;
    hs_scratch_t *prototype;
    _Atomic(hs_scratch_t *) idle[SCRATCHES];
    unsigned *taken; /* patterns that are in the database */
    size_t taken_count;
};

/* --- what both read the same --- */

/* Vectorscan 5.4.9 knows letters, numbers and case of Unicode 6 and PCRE2 10.42 those of Unicode 14. True for characters about which they
 * agree: below U+0500, no letter, number or mark, or of the large unchanged blocks of Chinese, Japanese and Korean. The test
 * policy_accelerate_test holds it against both libraries for all characters. */
static bool is_settled(uint32_t point)
{
    return point < 0x500 || (point >= 0x3041 && point <= 0x3096) || (point >= 0x30A1 && point <= 0x30FA) ||
           (point >= 0x4E00 && point <= 0x9FA5) || (point >= 0xAC00 && point <= 0xD7A3) || !evaluate_is_word(point);
}

static bool is_settled_text(const char *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        if ((unsigned char)text[at] < 0x80)
            at++;
        else if (!is_settled(evaluate_code_point(text, size, &at)))
            return false;
    }
    return true;
}

/* Behind "(": a group that captures or not, atomic, an assertion, options i, m and s. */
static bool is_shared_group(const char *at)
{
    static const char *const known[] = {"?:", "?>", "?=", "?!", "?<=", "?<!", "?i)", "?i:", "?m)", "?m:", "?s)", "?s:"};
    if (*at != '?' && *at != '*')
        return true;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strncmp(at, known[i], strlen(known[i])) == 0)
            return true;
    return false;
}

/* Behind "\": the letters whose meaning they share, and signs that stand for themselves. */
static bool is_shared_escape(char c)
{
    bool is_sign = (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
    return is_sign || (c != '\0' && strchr("dDwWsSbBAzZntr", c) != NULL);
}

static bool is_small_repeat(const char *brace)
{
    for (const char *at = brace + 1; *at == ',' || (*at >= '0' && *at <= '9'); at++)
        if (*at != ',' && strtoul(at, NULL, 10) > REPEAT_MAX)
            return false;
    return true;
}

/* One step over a pattern; returns what comes next, NULL where the two may differ. */
static const char *next_shared(const char *at, bool *in_class)
{
    char c = *at;
    if (c == '\\') {
        bool shared = is_shared_escape(at[1]) && !(*in_class && strchr("bBAzZ", at[1]) != NULL);
        return shared ? at + 2 : NULL;
    }
    if (*in_class) {
        *in_class = c != ']';
        return c != '[' ? at + 1 : NULL;
    }
    if (c == '[') { /* "[]" and "[^]": a bracket as a member */
        *in_class = true;
        at += at[1] == '^';
        return at[1] != ']' ? at + 1 : NULL;
    }
    if ((c == '(' && !is_shared_group(at + 1)) || (c == '{' && !is_small_repeat(at)))
        return NULL;
    return at + 1;
}

/* Only syntax that means the same in both: what vectorscan read otherwise, it might exclude wrongly. */
static bool is_shared_syntax(const char *pattern)
{
    bool in_class = false;
    if (strlen(pattern) > PATTERN_BYTES_MAX || !is_settled_text(pattern, strlen(pattern)))
        return false;
    for (const char *at = pattern; *at != '\0';) {
        at = next_shared(at, &in_class);
        if (at == NULL)
            return false;
    }
    return true;
}

/* --- databases --- */

static unsigned flags_of(const struct policy_pattern *pattern)
{
    return HS_FLAG_UTF8 | HS_FLAG_UCP | HS_FLAG_PREFILTER | HS_FLAG_SINGLEMATCH | (pattern->ignore_case ? HS_FLAG_CASELESS : 0);
}

/* Whether vectorscan can read the pattern, which matches no empty text; that it is too large for it, only compiling tells. */
static bool is_readable(const struct policy_pattern *pattern)
{
    hs_expr_info_t *info = NULL;
    hs_compile_error_t *error = NULL;
    if (!is_shared_syntax(pattern->text))
        return false;
    bool readable = hs_expression_info(pattern->text, flags_of(pattern), &info, &error) == HS_SUCCESS && info->min_width > 0;
    hs_free_compile_error(error);
    free(info);
    return readable;
}

struct database_source {
    const char **texts;
    unsigned *flags, *ids;
    size_t count;
};

static void source_remove(struct database_source *source, size_t index)
{
    size_t behind = --source->count - index;
    memmove(source->texts + index, source->texts + index + 1, behind * sizeof source->texts[0]);
    memmove(source->flags + index, source->flags + index + 1, behind * sizeof source->flags[0]);
    memmove(source->ids + index, source->ids + index + 1, behind * sizeof source->ids[0]);
}

/* Leaves out what vectorscan refuses. */
static bool database_compile(struct policy_accelerator *accelerator, struct database_source *source, char *said, size_t said_size)
{
    while (source->count > 0) {
        hs_compile_error_t *error = NULL;
        if (hs_compile_multi(source->texts, source->flags, source->ids, (unsigned)source->count, HS_MODE_BLOCK, NULL,
                             &accelerator->database, &error) == HS_SUCCESS)
            return hs_alloc_scratch(accelerator->database, &accelerator->prototype) == HS_SUCCESS;
        int refused = error != NULL ? error->expression : -1;
        snprintf(said, said_size, "%s", error != NULL ? error->message : "no memory");
        hs_free_compile_error(error);
        if (refused < 0)
            return false;
        source_remove(source, (size_t)refused);
    }
    return true;
}

/* Of those patterns that vectorscan takes. NULL: it failed, said is why. */
static struct policy_accelerator *accelerator_make(const struct policy_pattern *patterns, size_t count, char *said, size_t said_size)
{
    struct policy_accelerator *accelerator = calloc(1, sizeof *accelerator);
    struct database_source source = {calloc(count + 1, sizeof source.texts[0]), calloc(count + 1, sizeof source.flags[0]),
                                     calloc(count + 1, sizeof source.ids[0]), 0};
    snprintf(said, said_size, "no memory");
    bool made = accelerator != NULL && source.texts != NULL && source.flags != NULL && source.ids != NULL;
    for (size_t i = 0; made && i < count; i++)
        if (is_readable(&patterns[i])) {
            source.texts[source.count] = patterns[i].text;
            source.flags[source.count] = flags_of(&patterns[i]);
            source.ids[source.count++] = (unsigned)i;
        }
    made = made && database_compile(accelerator, &source, said, said_size);
    free(source.texts);
    free(source.flags);
    if (made) {
        accelerator->taken = source.ids;
        accelerator->taken_count = source.count;
        return accelerator;
    }
    free(source.ids);
    policy_accelerator_free(accelerator);
    return NULL;
}

void policy_accelerator_free(struct policy_accelerator *accelerator)
{
    if (accelerator == NULL)
        return;
    for (size_t i = 0; i < SCRATCHES; i++)
        hs_free_scratch(atomic_load_explicit(&accelerator->idle[i], memory_order_acquire));
    hs_free_scratch(accelerator->prototype);
    hs_free_database(accelerator->database);
    free(accelerator->taken);
    free(accelerator);
}

bool policy_set_accelerate(struct policy_set *set, char *said, size_t said_size)
{
    struct policy_accelerator *accelerator = accelerator_make(set->patterns, set->pattern_count, said, said_size);
    if (accelerator != NULL)
        atomic_store_explicit(&set->accelerator, accelerator, memory_order_release);
    return accelerator != NULL;
}

size_t policy_set_accelerated(const struct policy_set *set)
{
    const struct policy_accelerator *accelerator = atomic_load_explicit(&set->accelerator, memory_order_acquire);
    return accelerator != NULL ? accelerator->taken_count : 0;
}

/* --- scanning --- */

static hs_scratch_t *scratch_take(struct policy_accelerator *accelerator)
{
    hs_scratch_t *scratch = NULL;
    for (size_t i = 0; i < SCRATCHES && scratch == NULL; i++)
        scratch = atomic_exchange_explicit(&accelerator->idle[i], NULL, memory_order_acq_rel);
    if (scratch == NULL && hs_clone_scratch(accelerator->prototype, &scratch) != HS_SUCCESS)
        return NULL;
    return scratch;
}

static void scratch_give(struct policy_accelerator *accelerator, hs_scratch_t *scratch)
{
    for (size_t i = 0; i < SCRATCHES; i++) {
        hs_scratch_t *expected = NULL;
        if (atomic_compare_exchange_strong_explicit(&accelerator->idle[i], &expected, scratch, memory_order_acq_rel, memory_order_relaxed))
            return;
    }
    hs_free_scratch(scratch);
}

static int note_match(unsigned id, unsigned long long from, unsigned long long to, unsigned flags, void *may_match)
{
    (void)from, (void)to, (void)flags;
    ((bool *)may_match)[id] = true;
    return 0;
}

bool policy_accelerator_scan(struct policy_accelerator *accelerator, const char *text, size_t size, bool *may_match)
{
    if (accelerator->taken_count == 0 || size > UINT32_MAX || !is_settled_text(text, size))
        return false;
    hs_scratch_t *scratch = scratch_take(accelerator);
    if (scratch == NULL)
        return false;
    for (size_t i = 0; i < accelerator->taken_count; i++)
        may_match[accelerator->taken[i]] = false;
    hs_error_t result = hs_scan(accelerator->database, text, (unsigned)size, 0, scratch, note_match, may_match);
    scratch_give(accelerator, scratch);
    for (size_t i = 0; result != HS_SUCCESS && i < accelerator->taken_count; i++)
        may_match[accelerator->taken[i]] = true;
    return result == HS_SUCCESS;
}

bool policy_pattern_is_excluded(const struct policy_pattern *pattern, const char *text, size_t size)
{
    char said[64];
    bool may_match = true;
    struct policy_accelerator *alone = accelerator_make(pattern, 1, said, sizeof said);
    if (alone != NULL)
        policy_accelerator_scan(alone, text, size, &may_match);
    policy_accelerator_free(alone);
    return !may_match;
}
