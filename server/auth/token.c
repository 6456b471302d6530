#include "auth/token.h"

#include <string.h>

enum {
    PREFIX_LENGTH = 4,
    ORGANIZATION_LENGTH = 22, /* 62^22 > 2^128 */
    SECRET_LENGTH = 43,       /* 62^43 > 2^256 */
    CHECKSUM_LENGTH = 6,      /* 62^6 > 2^32 */
    SECRET_BYTES = 32,
    BASE = 62
};
static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static const char *const prefixes[] = {
    [AUTH_TOKEN_API_KEY] = "pfk_",
    [AUTH_TOKEN_SESSION] = "pfs_",
    [AUTH_TOKEN_OPERATOR] = "pfo_",
};

/* Writes a big-endian number in base 62, schoolbook division. number is used up. */
static void base62_write(uint8_t *number, size_t size, char *out, size_t length)
{
    while (length > 0) {
        unsigned remainder = 0;
        for (size_t i = 0; i < size; i++) {
            unsigned part = remainder << 8 | number[i];
            number[i] = (uint8_t)(part / BASE);
            remainder = part % BASE;
        }
        out[--length] = digits[remainder];
    }
}

static int digit_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'A' && digit <= 'Z')
        return digit - 'A' + 10;
    if (digit >= 'a' && digit <= 'z')
        return digit - 'a' + 36;
    return -1;
}

/* False for a foreign character and for a number that does not fit size bytes. */
static bool base62_read(const char *text, size_t length, uint8_t *out, size_t size)
{
    memset(out, 0, size);
    for (size_t i = 0; i < length; i++) {
        int digit = digit_value(text[i]);
        if (digit < 0)
            return false;
        unsigned carry = (unsigned)digit;
        for (size_t j = size; j-- > 0;) {
            carry += out[j] * (unsigned)BASE;
            out[j] = (uint8_t)carry;
            carry >>= 8;
        }
        if (carry != 0)
            return false;
    }
    return true;
}

/* CRC-32 of ISO 3309 and zlib: reflected polynomial 0xEDB88320, bit by bit because a token has 69 bytes and is checked once. */
static uint32_t crc32(const char *text, size_t length)
{
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < length; i++) {
        crc ^= (uint8_t)text[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xEDB88320 & (0 - (crc & 1)));
    }
    return ~crc;
}

static void checksum_write(const char *text, char out[CHECKSUM_LENGTH])
{
    uint32_t crc = crc32(text, AUTH_TOKEN_LENGTH - CHECKSUM_LENGTH);
    uint8_t bytes[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8), (uint8_t)crc};
    base62_write(bytes, sizeof bytes, out, CHECKSUM_LENGTH);
}

void auth_token_make(enum auth_token_kind kind, const struct forge_uuid *organization_id, char out_text[AUTH_TOKEN_SIZE])
{
    struct forge_uuid organization = *organization_id;
    uint8_t secret[SECRET_BYTES];
    char *at = out_text;
    memcpy(at, prefixes[kind], PREFIX_LENGTH);
    at += PREFIX_LENGTH;
    base62_write(organization.bytes, sizeof organization.bytes, at, ORGANIZATION_LENGTH);
    at += ORGANIZATION_LENGTH;
    forge_random(secret, sizeof secret);
    base62_write(secret, sizeof secret, at, SECRET_LENGTH);
    checksum_write(out_text, at + SECRET_LENGTH);
    out_text[AUTH_TOKEN_LENGTH] = '\0';
    forge_cleanse(secret, sizeof secret);
}

static bool prefix_read(const char *text, enum auth_token_kind *out)
{
    for (unsigned kind = 0; kind < sizeof prefixes / sizeof prefixes[0]; kind++) {
        if (memcmp(text, prefixes[kind], PREFIX_LENGTH) == 0) {
            *out = kind;
            return true;
        }
    }
    return false;
}

bool auth_token_parse(const char *text, enum auth_token_kind *out_kind, struct forge_uuid *out_organization_id)
{
    enum auth_token_kind kind;
    struct forge_uuid organization;
    uint8_t secret[SECRET_BYTES];
    char checksum[CHECKSUM_LENGTH];
    if (strnlen(text, AUTH_TOKEN_SIZE) != AUTH_TOKEN_LENGTH || !prefix_read(text, &kind))
        return false;
    checksum_write(text, checksum);
    const char *organization_text = text + PREFIX_LENGTH, *secret_text = organization_text + ORGANIZATION_LENGTH;
    bool valid = memcmp(checksum, text + AUTH_TOKEN_LENGTH - CHECKSUM_LENGTH, CHECKSUM_LENGTH) == 0 &&
                 base62_read(organization_text, ORGANIZATION_LENGTH, organization.bytes, sizeof organization.bytes) &&
                 base62_read(secret_text, SECRET_LENGTH, secret, sizeof secret);
    forge_cleanse(secret, sizeof secret);
    if (!valid || forge_uuid_is_nil(&organization) != (kind == AUTH_TOKEN_OPERATOR))
        return false;
    *out_kind = kind;
    *out_organization_id = organization;
    return true;
}

void auth_token_hash(const char *text, uint8_t out[FORGE_SHA256_SIZE])
{
    forge_sha256(text, strlen(text), out);
}
