/* Regular expressions: PCRE2 on UTF-8 with bounds on time and memory. A compiled pattern is immutable: any thread, many at once.
 *
 * PCRE2's match limit counts backtracking per start position, which leaves room for the square of the text. So every item of a pattern has
 * a callout, which counts the bytes that were walked since the one before. */
#ifndef SERVER_EVALUATE_PATTERN_H
#define SERVER_EVALUATE_PATTERN_H

#include <stddef.h>
#include <stdint.h>

enum {
    EVALUATE_PATTERN_BYTES_MAX = 4096,
    EVALUATE_PATTERN_WORK = 50 * 1000 * 1000, /* bytes walked by one evaluation of an output, 8 more for each item tried */
    EVALUATE_PATTERN_MATCH_LIMIT = 10 * 1000 * 1000,
    EVALUATE_PATTERN_HEAP_KIB = 16 * 1024 /* for backtracking, where there is no just-in-time compiler */
};
enum evaluate_pattern_option {
    EVALUATE_PATTERN_FULL = 1,        /* the whole text must match */
    EVALUATE_PATTERN_IGNORE_CASE = 2, /* simple case folding */
    EVALUATE_PATTERN_ECMA = 4         /* as close to ECMA 262 as PCRE2 comes; else as Perl, with \w, \d and \s by Unicode properties */
};
enum evaluate_match { EVALUATE_MATCH_YES, EVALUATE_MATCH_NO, EVALUATE_MATCH_LIMIT, EVALUATE_MATCH_NO_MEMORY };

struct evaluate_pattern;
struct evaluate_search;

/* The caller frees it. NULL when the pattern is wrong or there is no memory: *out_message, which the caller provides with room for
 * message_size bytes, says what and at which byte; it is empty when there is no memory. text: terminated, UTF-8. */
struct evaluate_pattern *evaluate_pattern_compile(const char *text, unsigned options, char *out_message, size_t message_size);
/* Accepts NULL. */
void evaluate_pattern_free(struct evaluate_pattern *pattern);
/* What it takes in memory: 20 bytes of text may take a megabyte, and milliseconds to compile. */
size_t evaluate_pattern_bytes(const struct evaluate_pattern *pattern);

/* Takes what it costs from *work (at first EVALUATE_PATTERN_WORK; several matches may share it). With EVALUATE_MATCH_LIMIT, *out_limit
 * names the limit that was met (static storage). */
enum evaluate_match evaluate_pattern_match(const struct evaluate_pattern *pattern, const char *text, size_t size, uint64_t *work,
                                           const char **out_limit);

/* Looks for the matches of a pattern in a text from left to right; none overlaps another. An empty match counts, and the next one is not
 * the same. Pattern, text and *work outlive the search, which belongs to one thread; work is taken as above. The caller ends it. NULL: no
 * memory. */
struct evaluate_search *evaluate_search_begin(const struct evaluate_pattern *pattern, const char *text, size_t size, uint64_t *work);
/* EVALUATE_MATCH_YES: the next match is from *out_begin to before *out_end. EVALUATE_MATCH_LIMIT: *out_limit is named, and nothing is
 * known of the text from *out_begin to *out_end, its end. After any other answer than YES there is no next match. */
enum evaluate_match evaluate_search_next(struct evaluate_search *search, size_t *out_begin, size_t *out_end, const char **out_limit);
/* Accepts NULL. */
void evaluate_search_end(struct evaluate_search *search);

#endif
