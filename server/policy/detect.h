/* Personal data and credentials in texts: scanners by hand, in time linear in the text. They find forms that carry proof of what they are
 * (check digits, prefixes of providers) by themselves, and those that look like any number or word (telephone numbers, passwords) by the
 * form or by a word before them. Pure functions, any thread. */
#ifndef SERVER_POLICY_DETECT_H
#define SERVER_POLICY_DETECT_H

#include "policy/ranges.h"

/* Adds places with their kind, ascending, none overlapping: e-mail addresses (RFC 5321, with a dot in the domain; RFC 6531's letters of
 * Latin script), IBANs (length by country, ISO 7064 mod 97-10), IPv4 and IPv6 addresses, payment cards (number ranges of the networks,
 * Luhn), telephone numbers (E.164 with "+" or "00"; national forms with separators; any digits behind a word such as "phone"). Where
 * several would fit, the first of this list counts. False: no memory. */
bool policy_find_pii(const char *text, size_t size, struct policy_ranges *out);

/* Adds places, ascending, none overlapping. Entropy is infinite for known formats, private keys and JSON Web Tokens, and otherwise that of
 * the text behind a word such as "password". False: no memory. */
bool policy_find_secrets(const char *text, size_t size, struct policy_ranges *out);

/* What both go by. Bytes beyond ASCII are neither. */
static inline bool policy_is_digit(char c)
{
    return c >= '0' && c <= '9';
}
static inline bool policy_is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static inline bool policy_is_alnum(char c)
{
    return policy_is_digit(c) || policy_is_letter(c);
}
/* Whether one of the words (in lower case; ended by NULL) stands in the same line, in the `before` bytes before at. */
bool policy_word_before(const char *text, size_t at, size_t before, const char *const *words);

/* The places by precedence: of those that overlap the one whose rank is lower stays. Sorts. */
void policy_keep_best(struct policy_ranges *ranges, int (*rank)(const struct policy_place *place));

#endif
