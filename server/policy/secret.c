/* Credentials. */
#include "policy/detect.h"

#include "auth/token.h"

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

enum {
    RANDOM_BYTES_MIN = 8,
    RANDOM_BYTES_MAX = 512,
    DISTINCT_MIN = 6,          /* characters that differ in what follows a prefix: "xxxxxxxx" in a manual is no key */
    KEY_BODY_MIN = 32,         /* base64 characters of a private key, below which only its name is there */
    KEY_BYTES_MAX = 64 * 1024, /* of a private key block without an end */
    ENTROPY_BITS_MIN = 2       /* what the mildest rule asks for */
};

struct scan {
    const char *text;
    size_t size;
    struct policy_ranges *out;
    bool no_memory;
};

static char at(const struct scan *scan, size_t index)
{
    return index < scan->size ? scan->text[index] : '\0';
}

static void add(struct scan *scan, size_t begin, size_t end, double entropy)
{
    scan->no_memory |= !policy_ranges_add(scan->out, &(struct policy_place){.begin = begin, .end = end, .entropy = entropy});
}

/* --- known formats --- */

enum alphabet { UPPER_DIGITS, ALNUM, LOWER_HEX, URL_SAFE, URL_SAFE_DOTS, BASE64, ALPHABETS };

/* Prefix and what follows, as the providers document their tokens. A prefix is followed by shortest to longest characters; a longest of 0
 * stands for any number. */
static const struct format {
    const char *prefix;
    enum alphabet alphabet;
    unsigned short shortest, longest;
} formats[] = {
    {"A3T", UPPER_DIGITS, 17, 17},    {"ABIA", UPPER_DIGITS, 16, 16},
    {"ACCA", UPPER_DIGITS, 16, 16},   {"AGE-SECRET-KEY-1", UPPER_DIGITS, 58, 58},
    {"AIza", URL_SAFE, 35, 35},       {"AKIA", UPPER_DIGITS, 16, 16},
    {"ASIA", UPPER_DIGITS, 16, 16},   {"ATATT3", URL_SAFE, 50, 0},
    {"EAACEdEose0cBA", ALNUM, 20, 0}, {"GOCSPX-", URL_SAFE, 28, 28},
    {"NRAK-", UPPER_DIGITS, 27, 27},  {"PMAK-", URL_SAFE, 59, 59},
    {"SG.", URL_SAFE_DOTS, 66, 66},   {"SK", LOWER_HEX, 32, 32},
    {"dapi", LOWER_HEX, 32, 34},      {"doo_v1_", LOWER_HEX, 64, 64},
    {"dop_v1_", LOWER_HEX, 64, 64},   {"dor_v1_", LOWER_HEX, 64, 64},
    {"dp.pt.", ALNUM, 40, 44},        {"figd_", URL_SAFE, 40, 0},
    {"ghp_", ALNUM, 36, 255},         {"gho_", ALNUM, 36, 255},
    {"ghr_", ALNUM, 36, 255},         {"ghs_", ALNUM, 36, 255},
    {"ghu_", ALNUM, 36, 255},         {"github_pat_", URL_SAFE, 82, 82},
    {"glpat-", URL_SAFE, 20, 0},      {"gldt-", URL_SAFE, 20, 0},
    {"glrt-", URL_SAFE, 20, 0},       {"gsk_", ALNUM, 40, 0},
    {"hf_", ALNUM, 34, 40},           {"hvb.", URL_SAFE, 24, 0},
    {"hvs.", URL_SAFE, 24, 0},        {"key-", LOWER_HEX, 32, 32},
    {"lin_api_", ALNUM, 40, 40},      {"npm_", ALNUM, 36, 36},
    {"ntn_", ALNUM, 40, 0},           {"pscale_oauth_", URL_SAFE, 32, 64},
    {"pscale_pw_", URL_SAFE, 32, 64}, {"pscale_tkn_", URL_SAFE, 32, 64},
    {"pul-", LOWER_HEX, 40, 40},      {"pypi-AgEIcHlwaS5vcmc", URL_SAFE, 50, 0},
    {"rk_live_", ALNUM, 24, 0},       {"rk_test_", ALNUM, 24, 0},
    {"rubygems_", LOWER_HEX, 48, 48}, {"sbp_", LOWER_HEX, 40, 40},
    {"secret_", ALNUM, 43, 43},       {"shpat_", LOWER_HEX, 32, 32},
    {"shpca_", LOWER_HEX, 32, 32},    {"shppa_", LOWER_HEX, 32, 32},
    {"shpss_", LOWER_HEX, 32, 32},    {"sk-", URL_SAFE, 40, 0},
    {"sk_live_", ALNUM, 24, 0},       {"sk_test_", ALNUM, 24, 0},
    {"sq0atp-", URL_SAFE, 22, 22},    {"sq0csp-", URL_SAFE, 43, 43},
    {"tfp_", ALNUM, 40, 0},           {"whsec_", BASE64, 24, 0},
    {"xapp-", URL_SAFE, 40, 0},       {"xoxa-", URL_SAFE, 20, 0},
    {"xoxb-", URL_SAFE, 20, 0},       {"xoxe-", URL_SAFE, 20, 0},
    {"xoxp-", URL_SAFE, 20, 0},       {"xoxr-", URL_SAFE, 20, 0},
    {"xoxs-", URL_SAFE, 20, 0},       {"ya29.", URL_SAFE, 30, 0},
};

static bool is_in(enum alphabet alphabet, char c)
{
    switch (alphabet) {
    case UPPER_DIGITS:
        return policy_is_digit(c) || (c >= 'A' && c <= 'Z');
    case ALNUM:
        return policy_is_alnum(c);
    case LOWER_HEX:
        return policy_is_digit(c) || (c >= 'a' && c <= 'f');
    case URL_SAFE:
        return policy_is_alnum(c) || c == '_' || c == '-';
    case URL_SAFE_DOTS:
        return policy_is_alnum(c) || c == '_' || c == '-' || c == '.';
    case BASE64:
        return policy_is_alnum(c) || c == '+' || c == '/' || c == '=';
    case ALPHABETS:
    default:
        return false;
    }
}

static unsigned distinct_characters(const char *text, size_t size)
{
    bool seen[256] = {false};
    unsigned distinct = 0;
    for (size_t i = 0; i < size; i++) {
        distinct += !seen[(unsigned char)text[i]];
        seen[(unsigned char)text[i]] = true;
    }
    return distinct;
}

static size_t format_end(const struct scan *scan, size_t begin, const struct format *format)
{
    size_t prefix = strlen(format->prefix);
    if (scan->size - begin < prefix + format->shortest || memcmp(scan->text + begin, format->prefix, prefix) != 0)
        return begin;
    size_t body = begin + prefix, end = body;
    while (is_in(format->alphabet, at(scan, end)))
        end++;
    while (end > body && strchr("-._", scan->text[end - 1]) != NULL && end - body > format->shortest)
        end--; /* punctuation of the sentence */
    size_t size = end - body;
    if (size < format->shortest || (format->longest > 0 && size > format->longest) ||
        distinct_characters(scan->text + body, size) < DISTINCT_MIN)
        return begin;
    return end;
}

/* "sk-" begins names of classes in style sheets too: keys hold digits and capitals. */
static bool is_mixed(const char *text, size_t size)
{
    bool digit = false, upper = false, lower = false;
    for (size_t i = 0; i < size; i++) {
        digit |= policy_is_digit(text[i]);
        upper |= text[i] >= 'A' && text[i] <= 'Z';
        lower |= text[i] >= 'a' && text[i] <= 'z';
    }
    return digit && upper && lower;
}

/* Our own: the checksum tells. */
static size_t own_token_end(const struct scan *scan, size_t begin)
{
    char token[AUTH_TOKEN_SIZE];
    enum auth_token_kind kind;
    struct forge_uuid organization;
    if (scan->size - begin < AUTH_TOKEN_LENGTH || policy_is_alnum(at(scan, begin + AUTH_TOKEN_LENGTH)))
        return begin;
    memcpy(token, scan->text + begin, AUTH_TOKEN_LENGTH);
    token[AUTH_TOKEN_LENGTH] = '\0';
    return auth_token_parse(token, &kind, &organization) ? begin + AUTH_TOKEN_LENGTH : begin;
}

/* A JSON Web Token (RFC 7519): both parts are objects, whose base64url begins with "eyJ", and there is a signature. */
static size_t jwt_end(const struct scan *scan, size_t begin)
{
    size_t end = begin;
    for (int part = 0; part < 3; part++) {
        size_t from = end;
        if (part < 2 && (scan->size - from < 3 || memcmp(scan->text + from, "eyJ", 3) != 0))
            return begin;
        while (is_in(URL_SAFE, at(scan, end)))
            end++;
        if (end - from < 10 || (part < 2 && at(scan, end++) != '.'))
            return begin;
    }
    return end;
}

/* A bot of Telegram: its number, a colon and 35 characters that begin with AA. */
static size_t telegram_end(const struct scan *scan, size_t begin)
{
    size_t colon = begin;
    while (policy_is_digit(at(scan, colon)) && colon - begin <= 10)
        colon++;
    size_t end = colon + 1;
    if (colon - begin < 8 || at(scan, colon) != ':' || at(scan, end) != 'A' || at(scan, end + 1) != 'A')
        return begin;
    while (is_in(URL_SAFE, at(scan, end)))
        end++;
    return end - colon - 1 == 35 ? end : begin;
}

static size_t webhook_end(const struct scan *scan, size_t begin)
{
    static const char host[] = "hooks.slack.com/services/";
    if (scan->size - begin < sizeof host - 1 || memcmp(scan->text + begin, host, sizeof host - 1) != 0)
        return begin;
    size_t path = begin + sizeof host - 1, end = path;
    while (policy_is_alnum(at(scan, end)) || at(scan, end) == '/')
        end++;
    return end - path >= 40 && distinct_characters(scan->text + path, end - path) >= DISTINCT_MIN ? end : begin;
}

static size_t known_end(const struct scan *scan, size_t begin)
{
    char first = scan->text[begin];
    size_t end = begin;
    for (size_t i = 0; i < sizeof formats / sizeof formats[0] && end == begin; i++)
        if (formats[i].prefix[0] == first) {
            end = format_end(scan, begin, &formats[i]);
            if (end > begin && strcmp(formats[i].prefix, "sk-") == 0 && !is_mixed(scan->text + begin, end - begin))
                end = begin;
        }
    if (end == begin && first == 'p')
        end = own_token_end(scan, begin);
    if (end == begin && first == 'e')
        end = jwt_end(scan, begin);
    if (end == begin && first == 'h')
        end = webhook_end(scan, begin);
    if (end == begin && policy_is_digit(first))
        end = telegram_end(scan, begin);
    return end;
}

static void scan_known(struct scan *scan)
{
    for (size_t begin = 0; begin < scan->size; begin++) {
        char c = scan->text[begin], previous = begin > 0 ? scan->text[begin - 1] : '\0';
        if (!policy_is_alnum(c) || policy_is_alnum(previous) || previous == '_')
            continue;
        size_t end = known_end(scan, begin);
        if (end == begin)
            continue;
        add(scan, begin, end, INFINITY);
        begin = end - 1;
    }
}

/* --- private keys --- */

/* Behind the "-----END ...-----" line, or where the text stops to look like a key. */
static size_t key_end(const struct scan *scan, size_t body, size_t *out_characters)
{
    size_t end = body;
    *out_characters = 0;
    for (; end < scan->size && end - body < KEY_BYTES_MAX; end++) {
        char c = scan->text[end];
        if (c == '-' && scan->size - end >= 8 && memcmp(scan->text + end, "-----END", 8) == 0) {
            const char *line = memmem(scan->text + end + 8, scan->size - end - 8 < 64 ? scan->size - end - 8 : 64, "-----", 5);
            return line != NULL ? (size_t)(line - scan->text) + 5 : end + 8;
        }
        if (!is_in(BASE64, c) && strchr("\r\n\t \\-:,\"", c) == NULL)
            break;
        *out_characters += is_in(BASE64, c);
    }
    return end;
}

static void scan_private_keys(struct scan *scan)
{
    static const char begins[] = "-----BEGIN ";
    for (size_t from = 0; from < scan->size;) {
        const char *found = memmem(scan->text + from, scan->size - from, begins, sizeof begins - 1);
        if (found == NULL)
            return;
        size_t begin = (size_t)(found - scan->text), label = begin + sizeof begins - 1, characters;
        size_t left = scan->size - label < 64 ? scan->size - label : 64;
        const char *close = memmem(scan->text + label, left, "-----", 5);
        from = label;
        if (close == NULL || memmem(scan->text + label, (size_t)(close - scan->text) - label, "PRIVATE KEY", 11) == NULL)
            continue;
        size_t end = key_end(scan, (size_t)(close - scan->text) + 5, &characters);
        if (characters >= KEY_BODY_MIN) {
            add(scan, begin, end, INFINITY);
            from = end;
        }
    }
}

/* --- random text behind a word --- */

/* Bits per character, by Shannon, of the text as a source of its own characters. */
static double entropy(const char *text, size_t size)
{
    unsigned counts[256] = {0};
    double bits = 0;
    for (size_t i = 0; i < size; i++)
        counts[(unsigned char)text[i]]++;
    for (size_t i = 0; i < 256; i++)
        if (counts[i] > 0)
            bits -= counts[i] * log2((double)counts[i] / (double)size);
    return bits / (double)size;
}

static bool is_value_byte(char c)
{
    return policy_is_alnum(c) || (c != '\0' && strchr("+/=_-.~!@#$%^&*?:|", c) != NULL);
}

static size_t value_end(const struct scan *scan, size_t begin)
{
    size_t end = begin;
    while (end - begin <= RANDOM_BYTES_MAX && is_value_byte(at(scan, end)))
        end++;
    while (end > begin && strchr(".:!?", scan->text[end - 1]) != NULL)
        end--; /* punctuation of the sentence */
    return end;
}

/* A reference to a secret or a stand-in for one: ${NAME}, <your key>, a call, an address, a path. */
static bool is_reference(const struct scan *scan, size_t begin, size_t end)
{
    static const char *const signs[] = {"://",  "${",   "...",  "***",      "example",  "EXAMPLE", "your",
                                        "YOUR", "xxxx", "XXXX", "changeme", "process.", "environ", "config."};
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (memmem(scan->text + begin, end - begin, signs[i], strlen(signs[i])) != NULL)
            return true;
    char behind = at(scan, end);
    return behind == '(' || behind == '[' || behind == '{' || behind == '<' || strchr("$%*/.", scan->text[begin]) != NULL;
}

/* Words of people have no digits, numbers no letters. */
static bool is_random(const char *text, size_t size)
{
    bool digit = false, letter = false;
    for (size_t i = 0; i < size; i++) {
        digit |= policy_is_digit(text[i]);
        letter |= policy_is_letter(text[i]);
    }
    return digit && letter;
}

static void add_value(struct scan *scan, size_t begin, size_t end)
{
    size_t size = end - begin;
    if (size < RANDOM_BYTES_MIN || size > RANDOM_BYTES_MAX || !is_random(scan->text + begin, size) || is_reference(scan, begin, end))
        return;
    double bits = entropy(scan->text + begin, size);
    if (bits >= ENTROPY_BITS_MIN)
        add(scan, begin, end, bits);
}

static bool is_name_byte(char c)
{
    return policy_is_alnum(c) || c == '_' || c == '-' || c == '.';
}

/* Whether a name such as DB_PASSWORD, clientSecret or api-key says that a secret follows. */
static bool names_secret(const char *name, size_t size)
{
    static const char *const words[] = {"password",      "passwd",     "passphrase", "passwort",  "pwd",       "secret",     "token",
                                        "credential",    "bearer",     "apikey",     "accesskey", "secretkey", "privatekey", "signingkey",
                                        "encryptionkey", "accountkey", "authkey",    "masterkey", "contrase",  "motdepasse", "kennwort"};
    char plain[64];
    size_t length = 0;
    for (size_t i = 0; i < size && length < sizeof plain; i++)
        if (policy_is_letter(name[i]))
            plain[length++] = (char)(name[i] | 0x20);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t word = strlen(words[i]);
        if (word <= length && memmem(plain, length, words[i], word) != NULL)
            return true;
    }
    return false;
}

/* Where the value behind a name begins: behind signs and words such as "is". */
static size_t value_begin(const struct scan *scan, size_t name_end)
{
    static const char *const fillers[] = {"is", "was", "key", "token", "value", "bearer", "basic",
                                          "to", "now", "be",  "of",    "for",   "set",    "new"};
    size_t index = name_end;
    for (int words = 0; words < 3; words++) {
        while (index - name_end < 24 && at(scan, index) != '\0' && strchr(" \t:=>\"'`,", scan->text[index]) != NULL)
            index++;
        size_t end = index;
        while (policy_is_letter(at(scan, end)))
            end++;
        bool is_filler = false;
        for (size_t i = 0; i < sizeof fillers / sizeof fillers[0] && !is_value_byte(at(scan, end)); i++)
            is_filler |= strlen(fillers[i]) == end - index && strncasecmp(fillers[i], scan->text + index, end - index) == 0;
        if (!is_filler)
            return index;
        index = end;
    }
    return index;
}

static void scan_named(struct scan *scan)
{
    for (size_t begin = 0; begin < scan->size;) {
        size_t end = begin;
        while (is_name_byte(at(scan, end)))
            end++;
        if (end - begin >= 3 && end - begin <= 64 && names_secret(scan->text + begin, end - begin)) {
            size_t value = value_begin(scan, end);
            if (value > end)
                add_value(scan, value, value_end(scan, value));
        }
        begin = end + (end == begin);
    }
}

/* scheme://user:password@host */
static void scan_urls(struct scan *scan)
{
    for (size_t from = 0; from < scan->size;) {
        const char *found = memmem(scan->text + from, scan->size - from, "://", 3);
        if (found == NULL)
            return;
        size_t user = (size_t)(found - scan->text) + 3, end = user, colon = 0;
        while (end - user < RANDOM_BYTES_MAX && is_value_byte(at(scan, end)) && scan->text[end] != '@' && scan->text[end] != '/') {
            if (scan->text[end] == ':' && colon == 0)
                colon = end;
            end++;
        }
        if (colon != 0 && at(scan, end) == '@')
            add_value(scan, colon + 1, end);
        from = user;
    }
}

/* --- all --- */

static int rank(const struct policy_place *place)
{
    return isinf(place->entropy) ? 0 : 1;
}

bool policy_find_secrets(const char *text, size_t size, struct policy_ranges *out)
{
    struct scan scan = {.text = text, .size = size, .out = out};
    scan_known(&scan);
    scan_private_keys(&scan);
    scan_named(&scan);
    scan_urls(&scan);
    policy_keep_best(out, rank);
    return !scan.no_memory;
}
