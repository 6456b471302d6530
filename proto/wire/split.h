/* Splits: which of the versions that a label points at a subject gets. Server and clients choose alike, so the choice is part of the
 * protocol (proto/README.md, Splits): SHA-256 (FIPS 180-4) of "<prompt id>|<label>|<subject>", its first 8 bytes as a big-endian number,
 * modulo the total of the weights, walked through the versions in ascending order. The statements prompt_get_by_label and
 * reference_resolve do the same in SQL.
 */
#ifndef FORGE_WIRE_SPLIT_H
#define FORGE_WIRE_SPLIT_H

#include <stddef.h>
#include <stdint.h>

struct forge_split_target {
    int32_t version, weight; /* weight 1 or more */
};

/* The number that stands for the subject, the same for all weights. prompt_id: 36 characters, in lower case. */
uint64_t forge_split_number(const char *prompt_id, const char *label, const char *subject);
/* The version that a number falls on; targets ascending by version, at least one. */
int32_t forge_split_version(uint64_t number, const struct forge_split_target *targets, size_t count);

#endif
