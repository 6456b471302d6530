/* Words of texts, as a search compares them. Pure functions, any thread.
 *
 * A word is a longest run of letters, marks and numbers of Unicode (general categories L, M and N), in simple case folding and composed
 * (NFC), so that neither case nor the spelling of an accent matters, but the accent does. It is cut after TEXT_WORD_CHARACTERS_MAX code
 * points. Ideographs and Hiragana, which are written without spaces, are each a word of their own. */
#ifndef SERVER_TEXT_WORDS_H
#define SERVER_TEXT_WORDS_H

#include "wire/arena.h"

#include <stdbool.h>
#include <stddef.h>

enum { TEXT_WORD_CHARACTERS_MAX = 64 };

struct text_words {
    size_t count;
    char **words;  /* each once, ascending by code point */
    bool has_more; /* than count_max */
};
/* The words of these texts (well-formed UTF-8), of different ones the first count_max; in the arena. False when there is no memory. */
bool text_words(const char *const *texts, size_t text_count, size_t count_max, struct forge_arena *arena,
                struct text_words *out) FORGE_MUST_CHECK;

#endif
