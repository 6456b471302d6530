/* Personal data. */
#include "policy/detect.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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
static char before(const struct scan *scan, size_t index)
{
    return index > 0 ? scan->text[index - 1] : '\0';
}

static void add(struct scan *scan, Forge__V1__PiiKind kind, size_t begin, size_t end)
{
    scan->no_memory |= !policy_ranges_add(scan->out, &(struct policy_place){.begin = begin, .end = end, .pii_kind = kind});
}

/* --- e-mail addresses --- */

enum { LOCAL_BYTES_MAX = 64, DOMAIN_BYTES_MAX = 253, LABEL_BYTES_MAX = 63 };

/* A byte of a Latin letter beyond ASCII (U+00C0 to U+024F), as RFC 6531 allows many more. Text in other scripts often has no space before
 * an address. */
static bool is_latin_byte(const struct scan *scan, size_t index)
{
    unsigned char byte = (unsigned char)at(scan, index), previous = (unsigned char)before(scan, index);
    return (byte >= 0xC3 && byte <= 0xC9) || (byte >= 0x80 && byte <= 0xBF && previous >= 0xC3 && previous <= 0xC9);
}

static bool is_local_byte(const struct scan *scan, size_t index)
{
    char c = at(scan, index);
    return policy_is_alnum(c) || (c != '\0' && strchr("!#$%&'*+/=?^_`{|}~.-", c) != NULL) || is_latin_byte(scan, index);
}

static size_t quoted_local_begin(const struct scan *scan, size_t sign)
{
    for (size_t begin = sign - 1; begin > 0 && sign - begin < LOCAL_BYTES_MAX && scan->text[begin - 1] != '\n';) {
        begin--;
        if (scan->text[begin] == '"' && before(scan, begin) != '\\')
            return sign - begin > 2 ? begin : sign;
    }
    return sign;
}

/* Where the local part of the address with this "@" begins; sign itself when there is none. */
static size_t local_begin(const struct scan *scan, size_t sign)
{
    if (before(scan, sign) == '"')
        return quoted_local_begin(scan, sign);
    size_t begin = sign;
    while (begin > 0 && sign - begin <= LOCAL_BYTES_MAX && is_local_byte(scan, begin - 1))
        begin--;
    /* Quotes, Markdown and query strings around it. */
    while (begin < sign && strchr("'*`/=?&|{}~.", scan->text[begin]) != NULL)
        begin++;
    bool is_wrong =
        sign - begin > LOCAL_BYTES_MAX || before(scan, sign) == '.' || memmem(scan->text + begin, sign - begin, "..", 2) != NULL;
    return is_wrong ? sign : begin;
}

static size_t label_end(const struct scan *scan, size_t begin)
{
    size_t end = begin;
    while (policy_is_alnum(at(scan, end)) || at(scan, end) == '-' || (end < scan->size && is_latin_byte(scan, end)))
        end++;
    while (end > begin && scan->text[end - 1] == '-')
        end--;
    return at(scan, begin) == '-' || end - begin > LABEL_BYTES_MAX ? begin : end;
}

static bool is_top_label(const struct scan *scan, size_t begin, size_t end)
{
    static const char *const files[] = {"png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "html", "json", "yaml", "tgz", NULL};
    size_t size = end - begin;
    if (size < 2)
        return false;
    for (const char *const *file = files; *file != NULL; file++)
        if (strlen(*file) == size && strncasecmp(scan->text + begin, *file, size) == 0)
            return false;
    if (size > 4 && strncasecmp(scan->text + begin, "xn--", 4) == 0)
        return true;
    for (size_t i = begin; i < end; i++)
        if (policy_is_digit(scan->text[i]) || scan->text[i] == '-')
            return false;
    return true;
}

/* Where the domain behind "@" ends: at the last label that can be a top-level domain; begin when there is none. */
static size_t domain_end(const struct scan *scan, size_t begin)
{
    size_t end = begin, label = begin, labels = 0;
    for (;;) {
        size_t next = label_end(scan, label);
        if (next == label || next - begin > DOMAIN_BYTES_MAX)
            return end;
        end = ++labels > 1 && is_top_label(scan, label, next) ? next : begin;
        if (at(scan, next) != '.')
            return end;
        label = next + 1;
        if (label_end(scan, label) == label)
            return end;
    }
}

static size_t literal_end(const struct scan *scan, size_t begin)
{
    char address[INET6_ADDRSTRLEN];
    size_t window = scan->size - begin < sizeof address + 8 ? scan->size - begin : sizeof address + 8;
    const char *close = memchr(scan->text + begin, ']', window);
    size_t from = begin + 1, size = close != NULL ? (size_t)(close - scan->text) - from : 0;
    bool is_v6 = size > 5 && strncasecmp(scan->text + from, "IPv6:", 5) == 0;
    from += is_v6 ? 5 : 0;
    size -= is_v6 ? 5 : 0;
    if (size == 0 || size >= sizeof address)
        return begin;
    memcpy(address, scan->text + from, size);
    address[size] = '\0';
    uint8_t bytes[16];
    return inet_pton(is_v6 ? AF_INET6 : AF_INET, address, bytes) == 1 ? from + size + 1 : begin;
}

/* user@host in a URL and in "scp file user@host:path", and a call of a method. */
static bool is_login_or_code(const struct scan *scan, size_t begin, size_t end)
{
    if (at(scan, end) == '(' ||
        (at(scan, end) == ':' && (at(scan, end + 1) == '/' || at(scan, end + 1) == '~' || policy_is_alnum(at(scan, end + 1)))))
        return true;
    size_t token = begin;
    while (token > 0 && begin - token < 256 && (unsigned char)scan->text[token - 1] > ' ')
        token--;
    const char *scheme = memmem(scan->text + token, begin - token, "://", 3);
    return scheme != NULL && memchr(scheme + 3, '/', (size_t)(scan->text + begin - scheme) - 3) == NULL &&
           memchr(scheme + 3, '?', (size_t)(scan->text + begin - scheme) - 3) == NULL;
}

static void scan_email(struct scan *scan)
{
    for (size_t sign = 0; sign < scan->size; sign++) {
        const char *found = memchr(scan->text + sign, '@', scan->size - sign);
        if (found == NULL)
            return;
        sign = (size_t)(found - scan->text);
        size_t begin = local_begin(scan, sign);
        if (begin == sign)
            continue;
        size_t end = at(scan, sign + 1) == '[' ? literal_end(scan, sign + 1) : domain_end(scan, sign + 1);
        if (end > sign + 1 && !is_login_or_code(scan, begin, end))
            add(scan, FORGE__V1__PII_KIND__PII_KIND_EMAIL, begin, end);
    }
}

/* --- IBANs --- */

/* Country and length, from the IBAN registry (ISO 13616-1). */
static const struct {
    char country[3];
    unsigned char length;
} iban_lengths[] = {
    {"AD", 24}, {"AE", 23}, {"AL", 28}, {"AT", 20}, {"AZ", 28}, {"BA", 20}, {"BE", 16}, {"BG", 22}, {"BH", 22}, {"BI", 27},
    {"BR", 29}, {"BY", 28}, {"CH", 21}, {"CR", 22}, {"CY", 28}, {"CZ", 24}, {"DE", 22}, {"DJ", 27}, {"DK", 18}, {"DO", 28},
    {"EE", 20}, {"EG", 29}, {"ES", 24}, {"FI", 18}, {"FK", 18}, {"FO", 18}, {"FR", 27}, {"GB", 22}, {"GE", 22}, {"GI", 23},
    {"GL", 18}, {"GR", 27}, {"GT", 28}, {"HN", 28}, {"HR", 21}, {"HU", 28}, {"IE", 22}, {"IL", 23}, {"IQ", 23}, {"IS", 26},
    {"IT", 27}, {"JO", 30}, {"KW", 30}, {"KZ", 20}, {"LB", 28}, {"LC", 32}, {"LI", 21}, {"LT", 20}, {"LU", 20}, {"LV", 21},
    {"LY", 25}, {"MC", 27}, {"MD", 24}, {"ME", 22}, {"MK", 19}, {"MN", 20}, {"MR", 27}, {"MT", 31}, {"MU", 30}, {"NI", 28},
    {"NL", 18}, {"NO", 15}, {"OM", 23}, {"PK", 24}, {"PL", 28}, {"PS", 29}, {"PT", 25}, {"QA", 29}, {"RO", 24}, {"RS", 22},
    {"RU", 33}, {"SA", 24}, {"SC", 31}, {"SD", 18}, {"SE", 24}, {"SI", 19}, {"SK", 24}, {"SM", 27}, {"SO", 23}, {"ST", 25},
    {"SV", 28}, {"TL", 23}, {"TN", 24}, {"TR", 26}, {"UA", 29}, {"VA", 22}, {"VG", 24}, {"XK", 20}, {"YE", 30},
};
enum { IBAN_LENGTH_MAX = 34 };

static size_t iban_length(const char *country)
{
    for (size_t i = 0; i < sizeof iban_lengths / sizeof iban_lengths[0]; i++)
        if (strncasecmp(iban_lengths[i].country, country, 2) == 0)
            return iban_lengths[i].length;
    return 0;
}

static unsigned iban_feed(unsigned remainder, char c)
{
    unsigned value = policy_is_digit(c) ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
    return value < 10 ? (remainder * 10 + value) % 97 : (remainder * 100 + value) % 97;
}

/* ISO 7064 mod 97-10: the country and the check number go to the end. */
static bool iban_is_right(const char *iban, size_t length)
{
    unsigned remainder = 0;
    for (size_t i = 4; i < length; i++)
        remainder = iban_feed(remainder, iban[i]);
    for (size_t i = 0; i < 4; i++)
        remainder = iban_feed(remainder, iban[i]);
    return remainder == 1;
}

/* Bytes of a separator between groups: a space, a no-break space, a hyphen; 0 where there is none. */
static size_t separator(const struct scan *scan, size_t index)
{
    char c = at(scan, index);
    if (c == ' ' || c == '-')
        return 1;
    return (unsigned char)c == 0xC2 && (unsigned char)at(scan, index + 1) == 0xA0 ? 2 : 0;
}

static bool iban_at(struct scan *scan, size_t begin, size_t *out_end)
{
    char iban[IBAN_LENGTH_MAX];
    size_t length = iban_length(scan->text + begin), count = 0, end = begin;
    while (count < length) {
        if (!policy_is_alnum(at(scan, end))) {
            size_t gap = count > 0 ? separator(scan, end) : 0;
            if (gap == 0 || !policy_is_alnum(at(scan, end + gap)))
                return false;
            end += gap;
        }
        iban[count++] = scan->text[end++];
    }
    *out_end = end;
    return length > 0 && !policy_is_alnum(at(scan, end)) && iban_is_right(iban, length);
}

static void scan_iban(struct scan *scan)
{
    for (size_t begin = 0; begin + 15 <= scan->size; begin++) {
        size_t end;
        bool begins =
            policy_is_letter(scan->text[begin]) && policy_is_letter(scan->text[begin + 1]) && !policy_is_alnum(before(scan, begin));
        if (begins && policy_is_digit(scan->text[begin + 2]) && policy_is_digit(scan->text[begin + 3]) && iban_at(scan, begin, &end)) {
            add(scan, FORGE__V1__PII_KIND__PII_KIND_IBAN, begin, end);
            begin = end - 1;
        }
    }
}

/* --- IP addresses --- */

/* One number of 0 to 255 without leading zeros; 0 when there is none. */
static size_t octet_size(const struct scan *scan, size_t begin)
{
    unsigned value = 0;
    size_t size = 0;
    while (size < 4 && policy_is_digit(at(scan, begin + size)))
        value = value * 10 + (unsigned)(scan->text[begin + size++] - '0');
    return size > 3 || value > 255 || (size > 1 && scan->text[begin] == '0') ? 0 : size;
}

static size_t ipv4_end(const struct scan *scan, size_t begin)
{
    size_t end = begin;
    for (int i = 0; i < 4; i++) {
        size_t size = octet_size(scan, end);
        if (size == 0 || (i < 3 && at(scan, end + size) != '.'))
            return begin;
        end += size + (i < 3);
    }
    return end;
}

static bool is_version(const struct scan *scan, size_t begin)
{
    static const char *const words[] = {"v",        "ver",      "version",  "versions",  "release", "build",   "firmware",
                                        "section",  "sections", "chapter",  "clause",    "oid",     "driver",  "upgrade",
                                        "upgraded", "rev",      "revision", "paragraph", "article", "package", "assembly",
                                        "update",   "patch",    "fw",       "versão",    "versión", NULL};
    char previous = before(scan, begin);
    if (previous == '/' && begin > 1 && policy_is_alnum(scan->text[begin - 2]))
        return true; /* a product and its version */
    if (previous == '=' && begin > 1 && scan->text[begin - 2] == '=')
        return true; /* a requirement */
    return policy_word_before(scan->text, begin, 16, words);
}

static void scan_ipv4(struct scan *scan)
{
    for (size_t begin = 0; begin + 7 <= scan->size; begin++) {
        char previous = before(scan, begin);
        if (!policy_is_digit(scan->text[begin]) || policy_is_alnum(previous) || previous == '.' || previous == '_')
            continue;
        size_t end = ipv4_end(scan, begin);
        if (end == begin || policy_is_alnum(at(scan, end)) || at(scan, end) == '_' ||
            (at(scan, end) == '.' && policy_is_alnum(at(scan, end + 1))) ||
            (previous == '-' && begin > 1 && policy_is_letter(scan->text[begin - 2])) ||
            (at(scan, end) == '-' && policy_is_letter(at(scan, end + 1))))
            continue;
        if (!is_version(scan, begin))
            add(scan, FORGE__V1__PII_KIND__PII_KIND_IP_ADDRESS, begin, end);
        begin = end;
    }
}

static bool is_hex(char c)
{
    return policy_is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* Hardware addresses of 64 bits are written as eight groups of two digits. */
static bool is_hardware_address(const char *address, size_t size)
{
    if (size != 23)
        return false;
    for (size_t i = 2; i < size; i += 3)
        if (address[i] != ':')
            return false;
    return true;
}

/* "a1::b" is how programs write names too: an address has a digit and, of two groups, a first one as long as "fe80". */
static bool is_ipv6(const char *address, size_t size)
{
    uint8_t bytes[16];
    char copy[INET6_ADDRSTRLEN];
    if (size >= sizeof copy || size < 3 || is_hardware_address(address, size))
        return false;
    memcpy(copy, address, size);
    copy[size] = '\0';
    size_t colons = 0, digits = 0;
    for (size_t i = 0; i < size; i++) {
        colons += copy[i] == ':';
        digits += policy_is_digit(copy[i]);
    }
    bool is_pair = colons == 2 && copy[0] != ':' && copy[size - 1] != ':';
    return digits > 0 && !(is_pair && strcspn(copy, ":") < 3) && inet_pton(AF_INET6, copy, bytes) == 1;
}

static void scan_ipv6(struct scan *scan)
{
    for (size_t begin = 0; begin < scan->size; begin++) {
        if ((!is_hex(scan->text[begin]) && scan->text[begin] != ':') || policy_is_alnum(before(scan, begin)) || before(scan, begin) == '_')
            continue;
        size_t end = begin, colons = 0;
        while (is_hex(at(scan, end)) || at(scan, end) == ':' || at(scan, end) == '.')
            colons += scan->text[end++] == ':';
        bool goes_on = policy_is_alnum(at(scan, end)) || at(scan, end) == '_';
        while (end > begin && (scan->text[end - 1] == '.' || (scan->text[end - 1] == ':' && before(scan, end - 1) != ':')))
            end--;
        if (colons >= 2 && !goes_on && is_ipv6(scan->text + begin, end - begin))
            add(scan, FORGE__V1__PII_KIND__PII_KIND_IP_ADDRESS, begin, end);
        begin = end > begin ? end : begin;
    }
}

/* --- numbers in groups: cards and telephones --- */

enum { GROUPS_MAX = 8, DIGITS_MAX = 20 };

struct number {
    size_t begin, end;
    char digits[DIGITS_MAX + 1]; /* one more tells that there are too many */
    size_t digit_count;
    size_t groups[GROUPS_MAX]; /* digits in each */
    size_t group_count;
    bool has_plus, has_parenthesis, dots, slash, hyphens, spaces;
};

static bool luhn_is_right(const char *digits, size_t count)
{
    unsigned sum = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned digit = (unsigned)(digits[count - 1 - i] - '0');
        if (i % 2 == 1)
            digit = digit > 4 ? 2 * digit - 9 : 2 * digit;
        sum += digit;
    }
    return sum % 10 == 0;
}

/* First digits and lengths that card networks give out (ISO/IEC 7812; Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay,
 * Maestro, Mir). */
static const struct {
    unsigned from, to; /* the first six digits */
    size_t shortest, longest;
} card_ranges[] = {
    {400000, 499999, 13, 13}, {400000, 499999, 16, 16}, {400000, 499999, 19, 19}, {510000, 559999, 16, 16}, {222100, 272099, 16, 16},
    {340000, 349999, 15, 15}, {370000, 379999, 15, 15}, {300000, 305999, 14, 19}, {309500, 309599, 14, 19}, {360000, 369999, 14, 19},
    {380000, 399999, 14, 19}, {601100, 601199, 16, 19}, {644000, 659999, 16, 19}, {352800, 358999, 16, 19}, {620000, 629999, 16, 19},
    {500000, 509999, 16, 19}, {560000, 589999, 16, 19}, {630400, 630499, 16, 19}, {675900, 676399, 16, 19}, {220000, 220499, 16, 19},
};

static bool card_is_right(const struct number *number)
{
    unsigned first = 0;
    for (size_t i = 0; i < 6 && i < number->digit_count; i++)
        first = first * 10 + (unsigned)(number->digits[i] - '0');
    for (size_t i = 0; i < sizeof card_ranges / sizeof card_ranges[0]; i++)
        if (first >= card_ranges[i].from && first <= card_ranges[i].to && number->digit_count >= card_ranges[i].shortest &&
            number->digit_count <= card_ranges[i].longest)
            return luhn_is_right(number->digits, number->digit_count);
    return false;
}

/* As cards are printed: 4-4-4-4(-3), 4-6-5, 4-6-4, 6-13, or in one. */
static bool card_is_grouped(const struct number *number)
{
    static const char *const forms[] = {"444", "4444", "44443", "465", "464", "4441", "4442", NULL};
    char form[GROUPS_MAX + 1] = "";
    if (number->group_count == 1)
        return true;
    for (size_t i = 0; i < number->group_count; i++)
        form[i] = (char)('0' + (number->groups[i] < 10 ? number->groups[i] : 9));
    for (const char *const *known = forms; *known != NULL; known++)
        if (strcmp(form, *known) == 0)
            return true;
    return false;
}

static bool is_card(const struct number *number)
{
    return number->digit_count >= 13 && !number->has_plus && !number->has_parenthesis && !number->dots && !number->slash &&
           !(number->hyphens && number->spaces) && card_is_grouped(number) && card_is_right(number);
}

static bool starts_with(const struct number *number, const char *digits)
{
    return strncmp(number->digits, digits, strlen(digits)) == 0;
}

/* "+" or "00" and up to 15 digits (E.164), no country begins with 0. */
static bool is_international(const struct number *number)
{
    if (number->has_plus)
        return number->digit_count >= 8 && number->digit_count <= 15 && number->digits[0] != '0';
    return starts_with(number, "00") && number->digit_count >= 11 && number->digit_count <= 17 && number->digits[2] != '0' &&
           number->group_count > 1;
}

static bool is_area_code(const char *digits)
{
    return digits[0] >= '2' && digits[1] != '9' && !(digits[1] == '1' && digits[2] == '1');
}

/* North America: NXX-NXX-XXXX, perhaps behind a 1. */
static bool is_north_american(const struct number *number)
{
    size_t skip = number->group_count == 4 && number->groups[0] == 1 && number->digits[0] == '1';
    const char *digits = number->digits + skip;
    return number->group_count == 3 + skip && number->groups[skip] == 3 && number->groups[skip + 1] == 3 && number->groups[skip + 2] == 4 &&
           is_area_code(digits) && digits[3] >= '2';
}

/* With a trunk prefix 0, as most of the world writes it. Nine-digit numbers in groups of 3, 2 and 4 are social security numbers. */
static bool is_national_trunk(const struct number *number)
{
    if (number->digits[0] != '0' || number->digits[1] == '0' || number->digit_count < 9 || number->digit_count > 12 ||
        number->group_count < 2 || number->group_count > 5 || number->groups[0] < 2 || number->groups[0] > 6)
        return false;
    for (size_t i = 1; i < number->group_count; i++)
        if (number->groups[i] < 2 || number->groups[i] > 8)
            return false;
    if (number->dots && number->group_count != 5 && number->group_count != 3)
        return false;
    return !(number->hyphens && number->group_count == 3 && number->groups[0] == 3 && number->groups[1] == 2 && number->groups[2] == 4);
}

/* Without a trunk prefix: a parenthesised area code, or groups of countries that have none. */
static bool is_national_plain(const struct number *number)
{
    if (number->has_parenthesis)
        return number->digit_count >= 8 && number->digit_count <= 12 && number->groups[0] >= 2 && number->groups[0] <= 5 &&
               number->group_count >= 2;
    bool spain = number->digit_count == 9 && strchr("6789", number->digits[0]) != NULL && number->spaces && !number->hyphens &&
                 ((number->group_count == 3 && number->groups[0] == 3 && number->groups[1] == 3) ||
                  (number->group_count == 4 && number->groups[0] == 3 && number->groups[1] == 2 && number->groups[2] == 2));
    bool china = number->digit_count == 11 && number->digits[0] == '1' && number->digits[1] >= '3' && number->group_count == 3 &&
                 number->groups[0] == 3 && number->groups[1] == 4;
    bool india = number->digit_count == 10 && number->digits[0] >= '6' && number->group_count == 2 && number->groups[0] == 5;
    return spain || china || india;
}

static bool is_phone(const struct scan *scan, const struct number *number)
{
    static const char *const words[] = {
        "phone",     "phones",   "tel",       "telephone",     "mobile",   "mob",   "cell",        "cellphone", "call",     "calls",
        "fax",       "whatsapp", "sms",       "dial",          "telefon",  "handy", "handynummer", "téléphone", "portable", "teléfono",
        "telefono",  "móvil",    "telefone",  "celular",       "telefoon", "gsm",   "ph",          "mobil",     "ring",     "hotline",
        "rufnummer", "landline", "cellulare", "telefonnummer", "电话",     "手机",  "電話",        "телефон",   NULL};
    if (number->has_plus || starts_with(number, "00"))
        return is_international(number);
    if (number->digit_count >= 7 && number->digit_count <= 13 && !number->dots && policy_word_before(scan->text, number->begin, 24, words))
        return true;
    return is_north_american(number) || is_national_trunk(number) || is_national_plain(number);
}

/* What may stand between two groups of a number at index: 0 bytes = the number ends. Notes which signs there were. */
static size_t gap_size(const struct scan *scan, size_t index, struct number *number)
{
    size_t end = index;
    while (end - index < 3) {
        char c = at(scan, end);
        size_t wide = c != '-' ? separator(scan, end) : 0;
        if (wide > 0)
            number->spaces = true;
        else if (c == '-')
            number->hyphens = true;
        else if (c == '.')
            number->dots = true;
        else if (c == '/')
            number->slash = true;
        else if (c == '(' || c == ')')
            number->has_parenthesis = true;
        else
            break;
        end += wide > 0 ? wide : 1;
    }
    return policy_is_digit(at(scan, end)) ? end - index : 0;
}

static size_t read_sign(const struct scan *scan, size_t index, struct number *out)
{
    for (char c = at(scan, index); c == '+' || c == '('; c = at(scan, ++index)) {
        if (c == '+' ? out->has_plus : out->has_parenthesis)
            break;
        out->has_plus |= c == '+';
        out->has_parenthesis |= c == '(';
    }
    return index;
}

static size_t read_group(const struct scan *scan, size_t index, struct number *out)
{
    size_t begin = index;
    for (; policy_is_digit(at(scan, index)); index++)
        if (out->digit_count < DIGITS_MAX + 1)
            out->digits[out->digit_count++] = scan->text[index];
    out->groups[out->group_count++] = index - begin;
    out->end = index;
    return index;
}

/* The number that begins there, with at most that many groups of digits. */
static void read_number(const struct scan *scan, size_t begin, size_t groups_max, struct number *out)
{
    *out = (struct number){.begin = begin};
    size_t index = read_group(scan, read_sign(scan, begin, out), out);
    while (out->group_count < groups_max) {
        struct number longer = *out;
        size_t gap = gap_size(scan, index, &longer);
        if (gap == 0)
            return;
        *out = longer;
        index = read_group(scan, index + gap, out);
    }
}

/* Part of something longer: an identifier, a decimal, an amount. */
static bool is_inside(const struct scan *scan, const struct number *number)
{
    char previous = before(scan, number->begin), next = at(scan, number->end);
    if (policy_is_alnum(previous) || previous == '_' || policy_is_alnum(next) || next == '_' || previous == '#' || previous == '$')
        return true;
    char far = number->begin > 1 ? scan->text[number->begin - 2] : '\0';
    if ((previous == '-' || previous == '.' || previous == '/' || previous == ',') && policy_is_alnum(far))
        return true;
    char behind = at(scan, number->end + 1);
    return (next == '-' || next == '/' || next == ',' || next == '.' || next == ':') && policy_is_alnum(behind) &&
           !(next == ',' && !policy_is_digit(behind));
}

/* Cards and international numbers may have other numbers beside them (a date, a check code); anything else must be all there is. */
static size_t number_at(struct scan *scan, size_t begin, bool is_first)
{
    struct number number;
    read_number(scan, begin, GROUPS_MAX, &number);
    size_t all = number.group_count;
    for (size_t groups = all; groups > 0; groups--) {
        read_number(scan, begin, groups, &number);
        if (number.digit_count > DIGITS_MAX || is_inside(scan, &number))
            continue;
        if (is_card(&number)) {
            add(scan, FORGE__V1__PII_KIND__PII_KIND_CARD, number.begin, number.end);
            return number.end;
        }
        if (((groups == all && is_first) || number.has_plus) && is_phone(scan, &number)) {
            add(scan, FORGE__V1__PII_KIND__PII_KIND_PHONE, number.begin, number.end);
            return number.end;
        }
    }
    return scan->text[begin] == '(' ? begin + 1 : number.end; /* of the first group */
}

static bool number_begins(const struct scan *scan, size_t begin)
{
    char c = scan->text[begin], next = at(scan, begin + 1);
    return policy_is_digit(c) || ((c == '+' || c == '(') && (policy_is_digit(next) || (c == '+' ? next == '(' : next == '+')));
}

static void scan_numbers(struct scan *scan)
{
    size_t run_end = 0;
    for (size_t begin = 0; begin < scan->size; begin++) {
        if (!number_begins(scan, begin))
            continue;
        bool is_first = begin >= run_end;
        if (is_first) {
            struct number run;
            read_number(scan, begin, GROUPS_MAX, &run);
            run_end = run.end;
        }
        size_t end = number_at(scan, begin, is_first);
        begin = end > begin ? end - 1 : begin;
    }
}

/* --- all --- */

static int rank(const struct policy_place *place)
{
    switch (place->pii_kind) {
    case FORGE__V1__PII_KIND__PII_KIND_EMAIL:
        return 0;
    case FORGE__V1__PII_KIND__PII_KIND_IBAN:
        return 1;
    case FORGE__V1__PII_KIND__PII_KIND_IP_ADDRESS:
        return 2;
    case FORGE__V1__PII_KIND__PII_KIND_CARD:
        return 3;
    case FORGE__V1__PII_KIND__PII_KIND_PHONE:
    case FORGE__V1__PII_KIND__PII_KIND_UNSPECIFIED:
    case _FORGE__V1__PII_KIND_IS_INT_SIZE:
    default:
        return 4;
    }
}

bool policy_find_pii(const char *text, size_t size, struct policy_ranges *out)
{
    struct scan scan = {.text = text, .size = size, .out = out};
    scan_email(&scan);
    scan_iban(&scan);
    scan_ipv4(&scan);
    scan_ipv6(&scan);
    scan_numbers(&scan);
    policy_keep_best(out, rank);
    return !scan.no_memory;
}
