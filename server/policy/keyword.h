/* All keywords of a set in one pass over a text: the automaton of Aho and Corasick (Efficient string matching, 1975) over code points with
 * simple case folding. Immutable when it is built: any thread, many at once. */
#ifndef SERVER_POLICY_KEYWORD_H
#define SERVER_POLICY_KEYWORD_H

#include "policy/ranges.h"

#include <stdint.h>

struct policy_keyword {
    const char *text; /* outlives the automaton; 1 to POLICY_KEYWORD_CHARACTERS_MAX characters */
    size_t size;
    size_t list; /* which of the lists of ranges gets its places */
    bool match_case, inside_words;
};
struct policy_keywords;

/* NULL: no memory. count may be 0. */
struct policy_keywords *policy_keywords_build(const struct policy_keyword *keywords, size_t count);
/* Accepts NULL. */
void policy_keywords_free(struct policy_keywords *keywords);

enum policy_keyword_result { POLICY_KEYWORD_OK, POLICY_KEYWORD_NO_MEMORY, POLICY_KEYWORD_DEADLINE };

/* Adds every place of a keyword to its list, those of a list that overlap as one. A whole word has no letter, number, mark or low line next
 * to it, unless its own character there is none of these: "C++" is in "C++17". deadline_ns: 0 = none. */
enum policy_keyword_result policy_keywords_find(const struct policy_keywords *keywords, const char *text, size_t size, uint64_t deadline_ns,
                                                struct policy_ranges *lists);

#endif
