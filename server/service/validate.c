#include "service/validate.h"

#include "wire/utf8.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    CODE_POINT_MAX = 0x10FFFF,
    SURROGATE_FIRST = 0xD800,
    SURROGATE_LAST = 0xDFFF,
    EMAIL_LOCAL_MAX = 64,
    DNS_LABEL_MAX = 63,
    PORT_DIGITS_MAX = 5,
    DAYS_MAX = 366,
    DAYS_DEFAULT = 30,
    DATE_SIZE = 11,
    DAY_SECONDS = 86400
};

/* Reads one code point of well-formed UTF-8 and moves *cursor behind it. */
static uint32_t code_point_read(const char **cursor)
{
    const uint8_t *text = (const uint8_t *)*cursor;
    unsigned more = text[0] < 0x80 ? 0 : text[0] < 0xE0 ? 1 : text[0] < 0xF0 ? 2 : 3;
    uint32_t point = more == 0 ? text[0] : text[0] & (0x3Fu >> more);
    for (unsigned i = 1; i <= more; i++)
        point = point << 6 | (text[i] & 0x3F);
    *cursor += 1 + more;
    return point;
}

static size_t code_point_write(uint32_t point, char *out)
{
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    unsigned more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    for (unsigned i = more; i > 0; i--, point >>= 6)
        out[i] = (char)(0x80 | (point & 0x3F));
    out[0] = (char)(0xFF << (7 - more) | (int)point);
    return 1 + more;
}

/* Controls (category Cc), line and paragraph separators, and noncharacters cannot be printed. */
static bool code_point_is_printable(uint32_t point)
{
    bool control = point < 0x20 || (point >= 0x7F && point < 0xA0) || point == 0x2028 || point == 0x2029;
    bool noncharacter = (point & 0xFFFE) == 0xFFFE || (point >= 0xFDD0 && point <= 0xFDEF);
    return !control && !noncharacter;
}

size_t validate_characters(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++)
        count += ((uint8_t)*text & 0xC0) != 0x80;
    return count;
}

static bool text_is_printable(const char *text)
{
    while (*text != '\0')
        if (!code_point_is_printable(code_point_read(&text)))
            return false;
    return true;
}

bool validate_uuid(struct rpc_call *call, const char *field, const char *text, struct forge_uuid *out)
{
    bool valid = forge_uuid_parse(text, out);
    if (!valid)
        rpc_call_violation(call, field, text[0] == '\0' ? "is required" : "must be a UUID");
    return valid;
}

bool validate_name_or_empty(struct rpc_call *call, const char *field, const char *text)
{
    bool valid = validate_characters(text) <= VALIDATE_NAME_CHARACTERS_MAX && text_is_printable(text);
    if (!valid)
        rpc_call_violation(call, field, "must be at most %d printable characters", VALIDATE_NAME_CHARACTERS_MAX);
    return valid;
}

bool validate_name_of(struct rpc_call *call, const char *field, const char *text, size_t characters_max)
{
    bool valid = text[0] != '\0' && validate_characters(text) <= characters_max && text_is_printable(text);
    if (!valid)
        rpc_call_violation(call, field, "must be 1 to %zu printable characters", characters_max);
    return valid;
}

bool validate_name(struct rpc_call *call, const char *field, const char *text)
{
    return validate_name_of(call, field, text, VALIDATE_NAME_CHARACTERS_MAX);
}

bool validate_label(struct rpc_call *call, const char *field, const char *name)
{
    static const char digits[] = "0123456789", allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t length = strlen(name);
    if (length < 1 || length > VALIDATE_LABEL_BYTES_MAX || strspn(name, allowed) != length || strspn(name, digits) == length)
        rpc_call_violation(call, field, "must be 1 to %d of a-z, 0-9, _, . and -, not only digits", VALIDATE_LABEL_BYTES_MAX);
    else if (strcmp(name, "current") == 0)
        rpc_call_violation(call, field, "\"current\" is reserved for the current version");
    else
        return true;
    return false;
}

bool validate_text(struct rpc_call *call, const char *field, const char *text, size_t characters_max)
{
    bool valid = validate_characters(text) <= characters_max;
    if (!valid)
        rpc_call_violation(call, field, "must be at most %zu characters", characters_max);
    return valid;
}

bool validate_bytes(struct rpc_call *call, const char *field, const char *text, size_t bytes_max)
{
    if (strlen(text) <= bytes_max)
        return true;
    rpc_call_violation(call, field, "must be at most %zu bytes", bytes_max);
    return false;
}

bool validate_hex_digits(struct rpc_call *call, const char *field, const char *text, size_t digits)
{
    bool valid = text[0] == '\0' || (strlen(text) == digits && strspn(text, "0123456789abcdefABCDEF") == digits);
    if (!valid)
        rpc_call_violation(call, field, "must be %zu hexadecimal digits", digits);
    return valid;
}

const char *validate_role(struct rpc_call *call, const char *field, Forge__V1__Role role)
{
    static const char *const names[] = {NULL, "viewer", "developer", "admin"};
    if (role >= FORGE__V1__ROLE__ROLE_VIEWER && role <= FORGE__V1__ROLE__ROLE_ADMIN)
        return names[role];
    rpc_call_violation(call, field, "must be ROLE_VIEWER, ROLE_DEVELOPER or ROLE_ADMIN");
    return NULL;
}

/* Labels of letters, digits and hyphens, 1 to 63 bytes each, no hyphen at an end, at least one dot (RFC 1123, section 2.1). */
static bool domain_is_valid(const char *domain)
{
    unsigned labels = 0;
    for (const char *label = domain;; label++) {
        size_t length = strcspn(label, ".");
        if (length == 0 || length > DNS_LABEL_MAX || label[0] == '-' || label[length - 1] == '-')
            return false;
        for (size_t i = 0; i < length; i++)
            if (!isalnum((unsigned char)label[i]) && label[i] != '-')
                return false;
        labels++;
        label += length;
        if (*label == '\0')
            return labels >= 2;
    }
}

/* A dot-atom (RFC 5321, section 4.1.2); quoted local parts are not used by anybody's mail. */
static bool local_part_is_valid(const char *text, size_t length)
{
    if (length == 0 || length > EMAIL_LOCAL_MAX || text[0] == '.' || text[length - 1] == '.')
        return false;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        bool atom = isalnum(c) || (c < 0x80 && strchr("!#$%&'*+/=?^_`{|}~-", c) != NULL);
        if (!atom && !(c == '.' && text[i - 1] != '.'))
            return false;
    }
    return true;
}

char *validate_email(struct rpc_call *call, const char *field, const char *text)
{
    size_t local = strcspn(text, "@");
    if (strlen(text) > VALIDATE_EMAIL_CHARACTERS_MAX || text[local] != '@' || !local_part_is_valid(text, local) ||
        !domain_is_valid(text + local + 1)) {
        rpc_call_violation(call, field, "must be an e-mail address of at most %d characters", VALIDATE_EMAIL_CHARACTERS_MAX);
        return NULL;
    }
    char *lower = forge_arena_strdup(call->arena, text);
    for (char *c = lower; c != NULL && *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    return lower;
}

/* A name, an IPv4 address or an IPv6 address in brackets, and a port. */
static bool authority_is_valid(const char *text, size_t length)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-", address[] = "0123456789abcdefABCDEF:.";
    bool is_bracketed = length > 0 && text[0] == '[';
    size_t begin = is_bracketed ? 1 : 0, host = strspn(text + begin, is_bracketed ? address : name), at = begin + host;
    if (host == 0 || (is_bracketed && text[at++] != ']'))
        return false;
    if (at == length)
        return true;
    size_t digits = text[at] == ':' ? strspn(text + at + 1, "0123456789") : 0;
    long port = digits >= 1 && digits <= PORT_DIGITS_MAX ? strtol(text + at + 1, NULL, 10) : 0;
    return at + 1 + digits == length && port >= 1 && port <= UINT16_MAX;
}

bool validate_https_url(struct rpc_call *call, const char *field, const char *text, size_t bytes_max)
{
    static const char scheme[] = "https://";
    const char *authority = text + sizeof scheme - 1;
    size_t length = strlen(text);
    bool valid = length <= bytes_max && strncmp(text, scheme, sizeof scheme - 1) == 0;
    for (size_t i = 0; valid && i < length; i++)
        valid = text[i] > 0x20 && text[i] < 0x7F && strchr("\"<>\\^`{|}", text[i]) == NULL;
    valid = valid && authority_is_valid(authority, strcspn(authority, "/?#"));
    if (!valid)
        rpc_call_violation(call, field, "must be an https URL of at most %zu bytes, without user name and password", bytes_max);
    return valid;
}

bool validate_time(struct rpc_call *call, const char *field, const Google__Protobuf__Timestamp *time, int64_t *out_unix_us)
{
    /* The range that timestamp.proto gives: 0001-01-01 to 9999-12-31. */
    bool valid =
        time->seconds >= INT64_C(-62135596800) && time->seconds <= INT64_C(253402300799) && time->nanos >= 0 && time->nanos < 1000000000;
    if (valid)
        *out_unix_us = time->seconds * 1000000 + time->nanos / 1000;
    else
        rpc_call_violation(call, field, "must be a time of the years 1 to 9999");
    return valid;
}

void validate_time_range(struct rpc_call *call, const Google__Protobuf__Timestamp *start, const Google__Protobuf__Timestamp *end,
                         int64_t *out_start_us, int64_t *out_end_us)
{
    *out_start_us = INT64_C(-62135596800) * 1000000;
    *out_end_us = INT64_C(253402300800) * 1000000;
    bool valid = start == NULL || validate_time(call, "start_time", start, out_start_us);
    if (end != NULL && validate_time(call, "end_time", end, out_end_us) && valid && *out_end_us <= *out_start_us)
        rpc_call_violation(call, "end_time", "must be after start_time");
}

static unsigned mask_path_bits(const char *path, const char *const *fields, size_t field_count)
{
    if (strcmp(path, "*") == 0)
        return (1u << field_count) - 1;
    for (size_t i = 0; i < field_count; i++)
        if (strcmp(path, fields[i]) == 0)
            return 1u << i;
    return 0;
}

/* "YYYY-MM-DD" exactly, a day that exists. */
static bool date_read(struct rpc_call *call, const char *field, const char *text, int32_t *out_day)
{
    struct tm date = {0};
    char again[DATE_SIZE] = "";
    const char *end = strlen(text) == DATE_SIZE - 1 ? strptime(text, "%Y-%m-%d", &date) : NULL;
    time_t seconds = timegm(&date); /* the 30th of February becomes a day of March, which is another text */
    if (end == NULL || strftime(again, sizeof again, "%Y-%m-%d", &date) == 0 || strcmp(again, text) != 0) {
        rpc_call_violation(call, field, "must be a date, YYYY-MM-DD");
        return false;
    }
    *out_day = (int32_t)(seconds / DAY_SECONDS);
    return true;
}

bool validate_days(struct rpc_call *call, const char *start_date, const char *end_date, int32_t *out_first, int32_t *out_last)
{
    bool valid = true;
    *out_last = (int32_t)(call->now_us / 1000000 / DAY_SECONDS);
    if (end_date[0] != '\0')
        valid = date_read(call, "end_date", end_date, out_last);
    *out_first = *out_last - (DAYS_DEFAULT - 1);
    if (start_date[0] != '\0')
        valid = date_read(call, "start_date", start_date, out_first) && valid;
    if (!valid)
        return false;
    if (*out_first > *out_last)
        rpc_call_violation(call, "start_date", "must not be after end_date");
    else if (*out_last - *out_first >= DAYS_MAX)
        rpc_call_violation(call, "start_date", "must be at most %d days before end_date", DAYS_MAX - 1);
    return *out_first <= *out_last && *out_last - *out_first < DAYS_MAX;
}

unsigned validate_update_mask(struct rpc_call *call, const Google__Protobuf__FieldMask *mask, const char *const *fields, size_t field_count,
                              unsigned given)
{
    size_t path_count = mask != NULL ? mask->n_paths : 0;
    unsigned named = path_count == 0 ? given : 0;
    bool known = true;
    for (size_t i = 0; i < path_count; i++) {
        unsigned bits = mask_path_bits(mask->paths[i], fields, field_count);
        if (bits == 0)
            rpc_call_violation(call, "update_mask", "\"%.*s\" is not a field that can be updated", forge_utf8_precision(mask->paths[i], 64),
                               mask->paths[i]);
        known &= bits != 0;
        named |= bits;
    }
    if (known && named == 0)
        rpc_call_violation(call, "update_mask", "names nothing to change");
    return named;
}

bool validate_etag(struct rpc_call *call, const char *field, const char *etag)
{
    bool valid = strlen(etag) <= VALIDATE_ETAG_BYTES_MAX;
    if (!valid)
        rpc_call_violation(call, field, "must be at most %d bytes", VALIDATE_ETAG_BYTES_MAX);
    return valid;
}

char *validate_prefix_end(const char *prefix, struct forge_arena *arena)
{
    size_t length = strlen(prefix);
    char *end = forge_arena_alloc(arena, length + 5);
    if (end == NULL)
        return NULL;
    memcpy(end, prefix, length);
    while (length > 0) {
        do
            length--;
        while (((uint8_t)end[length] & 0xC0) == 0x80);
        const char *last = prefix + length;
        uint32_t point = code_point_read(&last);
        if (point == CODE_POINT_MAX)
            continue;
        point = point + 1 == SURROGATE_FIRST ? SURROGATE_LAST + 1 : point + 1;
        end[length + code_point_write(point, end + length)] = '\0';
        return end;
    }
    end[code_point_write(CODE_POINT_MAX, end)] = '\0';
    return end;
}

forge_code validate_end_in_project(struct rpc_call *call, const struct forge_uuid *project_id)
{
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    if (!auth_principal_may_use_project(&call->principal, project_id))
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "this key is bound to another project");
    return FORGE_OK;
}
