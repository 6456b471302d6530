#include "wire/json_types.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum json_form json_form_of(const ProtobufCMessageDescriptor *type)
{
    static const char package[] = "google.protobuf.";
    if (strncmp(type->name, package, sizeof package - 1) != 0)
        return JSON_FORM_OBJECT;
    const char *name = type->name + sizeof package - 1;
    size_t length = strlen(name), suffix = strlen("Value");
    if (strcmp(name, "Timestamp") == 0)
        return JSON_FORM_TIMESTAMP;
    if (strcmp(name, "FieldMask") == 0)
        return JSON_FORM_FIELD_MASK;
    if (length > suffix && strcmp(name + length - suffix, "Value") == 0 && type->n_fields == 1)
        return JSON_FORM_WRAPPER; /* StringValue, Int64Value, ... */
    return JSON_FORM_OBJECT;
}

size_t json_value_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    }
    return 0;
}

static const int64_t seconds_min = -62135596800; /* 0001-01-01T00:00:00Z */
static const int64_t seconds_max = 253402300799; /* 9999-12-31T23:59:59Z */

/* Days between 1970-01-01 and a date of the proleptic Gregorian calendar, and back: Howard Hinnant,
 * "chrono-Compatible Low-Level Date Algorithms", days_from_civil and civil_from_days. */
static int64_t days_from_date(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static void date_from_days(int64_t days, int *year, int *month, int *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted_month = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * shifted_month + 2) / 5 + 1);
    *month = (int)(shifted_month < 10 ? shifted_month + 3 : shifted_month - 9);
    *year = (int)(year_of_era + era * 400 + (*month <= 2));
}

bool json_format_timestamp(int64_t seconds, int32_t nanos, char out[JSON_TIMESTAMP_SIZE])
{
    if (seconds < seconds_min || seconds > seconds_max || nanos < 0 || nanos > 999999999)
        return false;
    int64_t days = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    int year, month, day, second_of_day = (int)rest;
    date_from_days(days, &year, &month, &day);
    int length = snprintf(out, JSON_TIMESTAMP_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d", (int)(year % 10000u), month, day, second_of_day / 3600,
                          second_of_day / 60 % 60, second_of_day % 60);
    char *end = out + length;
    size_t room = JSON_TIMESTAMP_SIZE - (size_t)length;
    if (nanos == 0)
        snprintf(end, room, "Z");
    else if (nanos % 1000000 == 0)
        snprintf(end, room, ".%03dZ", nanos / 1000000);
    else if (nanos % 1000 == 0)
        snprintf(end, room, ".%06dZ", nanos / 1000);
    else
        snprintf(end, room, ".%09dZ", nanos);
    return true;
}

/* Reads exactly count digits. */
static bool read_number(const char **at, int count, int *out)
{
    int value = 0;
    for (int i = 0; i < count; i++, (*at)++) {
        if (!isdigit((unsigned char)**at))
            return false;
        value = value * 10 + (**at - '0');
    }
    *out = value;
    return true;
}

static bool read_char(const char **at, const char *allowed)
{
    if (!**at || !strchr(allowed, **at))
        return false;
    (*at)++;
    return true;
}

static bool read_fraction(const char **at, int32_t *out_nanos)
{
    int digits = 0;
    int32_t nanos = 0;
    for (; isdigit((unsigned char)**at) && digits < 9; digits++, (*at)++)
        nanos = nanos * 10 + (**at - '0');
    if (digits == 0)
        return false;
    for (; digits < 9; digits++)
        nanos *= 10;
    *out_nanos = nanos;
    return true;
}

/* Z or +hh:mm; minutes east of UTC. */
static bool read_offset(const char **at, int *out_minutes)
{
    int hours, minutes;
    char sign = **at;
    *out_minutes = 0;
    if (read_char(at, "Zz"))
        return true;
    if (!read_char(at, "+-") || !read_number(at, 2, &hours) || !read_char(at, ":") || !read_number(at, 2, &minutes))
        return false;
    *out_minutes = (hours * 60 + minutes) * (sign == '-' ? -1 : 1);
    return hours <= 23 && minutes <= 59;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month == 2 && leap ? 29 : days[month - 1];
}

bool json_parse_timestamp(const char *text, int64_t *out_seconds, int32_t *out_nanos)
{
    int year, month, day, hour, minute, second, offset_minutes;
    int32_t nanos = 0;
    const char *at = text;
    if (!read_number(&at, 4, &year) || !read_char(&at, "-") || !read_number(&at, 2, &month) || !read_char(&at, "-") ||
        !read_number(&at, 2, &day) || !read_char(&at, "Tt") || !read_number(&at, 2, &hour) || !read_char(&at, ":") ||
        !read_number(&at, 2, &minute) || !read_char(&at, ":") || !read_number(&at, 2, &second))
        return false;
    if (read_char(&at, ".") && !read_fraction(&at, &nanos))
        return false;
    if (!read_offset(&at, &offset_minutes) || *at)
        return false;
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59 || second > 59)
        return false;
    int64_t seconds = days_from_date(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset_minutes * 60;
    if (seconds < seconds_min || seconds > seconds_max)
        return false;
    *out_seconds = seconds;
    *out_nanos = nanos;
    return true;
}

void json_to_camel(const char *name, size_t length, char out[JSON_NAME_MAX])
{
    size_t used = 0;
    bool raise = false;
    for (size_t i = 0; i < length && used < JSON_NAME_MAX - 1; i++) {
        if (name[i] == '_') {
            raise = true;
            continue;
        }
        out[used++] = (char)(raise ? toupper((unsigned char)name[i]) : name[i]);
        raise = false;
    }
    out[used] = '\0';
}

void json_to_snake(const char *name, size_t length, char out[JSON_NAME_MAX])
{
    size_t used = 0;
    for (size_t i = 0; i < length && used < JSON_NAME_MAX - 2; i++) {
        if (isupper((unsigned char)name[i]))
            out[used++] = '_';
        out[used++] = (char)tolower((unsigned char)name[i]);
    }
    out[used] = '\0';
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t json_base64_encode(const uint8_t *data, size_t size, char *out)
{
    char *end = out;
    for (size_t i = 0; i < size; i += 3) {
        uint32_t group = (uint32_t)data[i] << 16 | (i + 1 < size ? (uint32_t)data[i + 1] << 8 : 0) | (i + 2 < size ? data[i + 2] : 0);
        *end++ = base64_digits[group >> 18];
        *end++ = base64_digits[group >> 12 & 63];
        *end++ = i + 1 < size ? base64_digits[group >> 6 & 63] : '=';
        *end++ = i + 2 < size ? base64_digits[group & 63] : '=';
    }
    return (size_t)(end - out);
}

static int base64_value(char c)
{
    if (c == '-')
        return 62;
    if (c == '_')
        return 63;
    const char *digit = c ? strchr(base64_digits, c) : NULL;
    return digit ? (int)(digit - base64_digits) : -1;
}

bool json_base64_decode(const char *text, size_t length, uint8_t *out, size_t *out_size)
{
    size_t padding = 0, used = 0;
    while (length > 0 && padding < 2 && text[length - 1] == '=') {
        length--;
        padding++;
    }
    if (length % 4 == 1 || (padding > 0 && (length + padding) % 4 != 0))
        return false;
    uint32_t bits = 0;
    int count = 0;
    for (size_t i = 0; i < length; i++) {
        int value = base64_value(text[i]);
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count >= 8) {
            count -= 8;
            out[used++] = (uint8_t)(bits >> count);
        }
    }
    if (bits & ((1u << count) - 1))
        return false; /* bits that belong to no byte must be zero, so that one text stands for the bytes */
    *out_size = used;
    return true;
}
