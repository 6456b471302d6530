#include "text/words.h"

#include "text/fold.h"

#include <search.h>
#include <stdint.h>
#include <string.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/uscript.h>
#include <unicode/ustring.h>
#include <unicode/utf8.h>

enum {
    COMPOSED_GROWTH_MAX = 3, /* of UTF-16 under NFC; a code point is at most two units of it, a unit at most three bytes of UTF-8 */
    UNITS_MAX = 2 * TEXT_WORD_CHARACTERS_MAX,
    COMPOSED_UNITS_MAX = UNITS_MAX * COMPOSED_GROWTH_MAX,
    WORD_BYTES_MAX = 4 * TEXT_WORD_CHARACTERS_MAX,
    FIRST_UNCOMPOSED = 0x300 /* below it every text is its own NFC */
};

/* A word while it is read: at most TEXT_WORD_CHARACTERS_MAX code points of it, as they stand there. */
struct word {
    UChar units[UNITS_MAX];
    int32_t unit_count, character_count;
    bool may_compose;
};

struct collector {
    void *tree; /* of terminated words, by strcmp: bytes of UTF-8 are in the order of code points */
    size_t count_max;
    struct forge_arena *arena;
    struct text_words *out;
    bool failed;
};

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int32_t compose(const UChar *units, int32_t count, UChar out[COMPOSED_UNITS_MAX])
{
    UErrorCode status = U_ZERO_ERROR;
    int32_t size = unorm2_normalize(unorm2_getNFCInstance(&status), units, count, out, COMPOSED_UNITS_MAX, &status);
    return U_SUCCESS(status) ? size : 0;
}

static int32_t fold(const UChar *units, int32_t count, UChar out[UNITS_MAX])
{
    int32_t at = 0, size = 0;
    for (int characters = 0; at < count && characters < TEXT_WORD_CHARACTERS_MAX; characters++) {
        UChar32 point;
        U16_NEXT(units, at, count, point);
        point = text_fold(point);
        U16_APPEND_UNSAFE(out, size, point);
    }
    return size;
}

/* Copies the word as UTF-8. It is composed before it is folded, or a letter would be folded without its mark and become another one (U+0130
 * and U+1FB3 in two code points), and again behind that, as a small letter may be one code point where the capital is two (U+1E96).
 * Composing makes it shorter or longer, so it is cut again. */
static void word_spell(const struct word *word, char out[WORD_BYTES_MAX + 1])
{
    UChar composed[COMPOSED_UNITS_MAX], folded[UNITS_MAX];
    int32_t count = word->may_compose ? compose(word->units, word->unit_count, composed) : word->unit_count;
    count = fold(word->may_compose ? composed : word->units, count, folded);
    const UChar *units = folded;
    if (word->may_compose) {
        count = compose(folded, count, composed);
        units = composed;
    }
    size_t size = 0;
    int32_t at = 0;
    for (int characters = 0; at < count && characters < TEXT_WORD_CHARACTERS_MAX; characters++) {
        UChar32 point;
        U16_NEXT(units, at, count, point);
        U8_APPEND_UNSAFE((uint8_t *)out, size, (uint32_t)point);
    }
    out[size] = '\0';
}

static void word_end(struct collector *collector, struct word *word)
{
    char spelled[WORD_BYTES_MAX + 1];
    if (word->character_count == 0 || collector->failed)
        return;
    word_spell(word, spelled);
    *word = (struct word){.unit_count = 0};
    if (tfind(spelled, &collector->tree, compare) != NULL)
        return;
    if (collector->out->count == collector->count_max) {
        collector->out->has_more = true;
        return;
    }
    char *kept = forge_arena_strdup(collector->arena, spelled);
    collector->failed = kept == NULL || tsearch(kept, &collector->tree, compare) == NULL;
    collector->out->count += !collector->failed;
}

static void word_add(struct word *word, UChar32 point)
{
    if (word->character_count == TEXT_WORD_CHARACTERS_MAX)
        return;
    U16_APPEND_UNSAFE(word->units, word->unit_count, point);
    word->character_count++;
    word->may_compose |= point >= FIRST_UNCOMPOSED;
}

static bool is_of_words(UChar32 point)
{
    return (U_MASK(u_charType(point)) & (U_GC_L_MASK | U_GC_M_MASK | U_GC_N_MASK)) != 0;
}

/* Those marks that follow belong to it. */
static bool is_word_by_itself(UChar32 point)
{
    UErrorCode status = U_ZERO_ERROR;
    return point >= FIRST_UNCOMPOSED && (U_MASK(u_charType(point)) & U_GC_M_MASK) == 0 &&
           (u_hasBinaryProperty(point, UCHAR_IDEOGRAPHIC) || uscript_getScript(point, &status) == USCRIPT_HIRAGANA);
}

static void text_read(struct collector *collector, const char *text)
{
    struct word word = {.unit_count = 0};
    bool stands_alone = false;
    size_t size = strlen(text);
    for (size_t at = 0; at < size && !collector->failed;) {
        UChar32 point;
        U8_NEXT(text, at, size, point);
        bool is_single = point >= 0 && is_word_by_itself(point);
        bool is_mark = point >= 0 && (U_MASK(u_charType(point)) & U_GC_M_MASK) != 0;
        if (point < 0 || !is_of_words(point) || is_single || (stands_alone && !is_mark))
            word_end(collector, &word);
        if (point >= 0 && is_of_words(point))
            word_add(&word, point);
        stands_alone = is_single || (stands_alone && is_mark);
    }
    word_end(collector, &word);
}

static void list(const void *node, VISIT visit, void *user)
{
    struct text_words *out = user;
    if (visit == postorder || visit == leaf)
        out->words[out->count++] = *(char *const *)node;
}

static void keep(void *word)
{
    (void)word; /* the arena's */
}

bool text_words(const char *const *texts, size_t text_count, size_t count_max, struct forge_arena *arena, struct text_words *out)
{
    struct collector collector = {.count_max = count_max, .arena = arena, .out = out};
    *out = (struct text_words){.count = 0};
    for (size_t i = 0; i < text_count; i++)
        text_read(&collector, texts[i]);
    out->words = forge_arena_calloc(arena, out->count + 1, sizeof out->words[0]);
    out->count = 0;
    if (out->words != NULL)
        twalk_r(collector.tree, list, out);
    tdestroy(collector.tree, keep);
    return !collector.failed && out->words != NULL;
}
