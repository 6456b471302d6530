/* Personal data and credentials: published vectors, and the labelled corpora of policy_corpus, of which every second line is held out: the
 * scanners were not changed to suit these. A line of a corpus is a label ("-": nothing is to be found), a tab and a text. Credentials are
 * made up and hold U+00A6 BROKEN BAR, which is taken out, so that no scanner of repositories takes them for real. */
#include "policy_test_support.h"

#include "auth/token.h"
#include "policy/detect.h"

#include <math.h>

static const double RECALL_MIN = 0.95, PRECISION_MIN = 0.9;

static const char *const kinds[] = {"-", "EMAIL", "PHONE", "IBAN", "CARD", "IP_ADDRESS"};

/* The kind that covers the whole text but for what stands around it; "-" when there is none. */
static const char *pii_kind_of(const char *text)
{
    static const char *found;
    struct policy_ranges ranges = {0};
    assert_true(policy_find_pii(text, strlen(text), &ranges));
    found = ranges.count > 0 ? kinds[ranges.places[0].pii_kind] : kinds[0];
    policy_ranges_free(&ranges);
    return found;
}

static void expect_pii(const char *kind, const char *const *texts)
{
    for (; *texts != NULL; texts++) {
        const char *found = pii_kind_of(*texts);
        if (strcmp(found, kind) != 0)
            print_error("\"%s\" is taken for %s\n", *texts, found);
        assert_string_equal(found, kind);
    }
}
#define EXPECT_PII(kind, ...) expect_pii(kind, (const char *const[]){__VA_ARGS__, NULL})

/* Addresses of RFC 5321, 5322, 6531 and 3696; not those without a domain of the Internet. */
static void test_email(void **state)
{
    EXPECT_PII("EMAIL", "Jones@xyz.com", "smith@foo.bar.example", "john.doe+tag@example.co.uk", "\"Joe Q. Public\"@example.com",
               "user@[192.0.2.1]", "user@[IPv6:2001:db8::1]", "customer/department=shipping@example.com", "$A12345@example.com",
               "!def!xyz%abc@example.com", "_somename@example.com", "j\u00FCrgen@b\u00FCcher.example", "<mary@x.test>, Smith",
               "a@b.technology.", "x@xn--80ak6aa92e.com");
    EXPECT_PII("-", "user@localhost", "a..b@example.com", "user@-x.com", "@example.com", "a@b", "foo@", "a@b.c",
               "https://user:pw@host.example.com/x", "this@Main.finish()", "image@2x.png", "git@example.com:org/repo", "user@[300.1.2.3]");
}

/* Examples of the IBAN registry. */
static void test_iban(void **state)
{
    EXPECT_PII("IBAN", "AD1200012030200359100100", "AE070331234567890123456", "AL47212110090000000235698741", "AT611904300234573201",
               "AZ21NABZ00000000137010001944", "BA391290079401028494", "BE68539007547034", "BG80BNBG96611020345678",
               "BH67BMAG00001299123456", "BR1800360305000010009795493C1", "CH9300762011623852957", "CY17002001280000001200527600",
               "CZ6508000000192000145399", "DE89370400440532013000", "DK5000400440116243", "DO28BAGR00000001212453611324",
               "EE382200221020145685", "ES9121000418450200051332", "FI2112345600000785", "FO6264600001631634",
               "FR1420041010050500013M02606", "GB29NWBK60161331926819", "GE29NB0000000101904917", "GI75NWBK000000007099453",
               "GR1601101250000000012300695", "HR1210010051863000160", "HU42117730161111101800000000", "IE29AIBK93115212345678",
               "IL620108000000099999999", "IS140159260076545510730339", "IT60X0542811101000000123456", "JO94CBJO0010000000000131000302",
               "KW81CBKU0000000000001234560101", "KZ86125KZT5004100100", "LB62099900000001001901229114", "LI21088100002324013AA",
               "LT121000011101001000", "LU280019400644750000", "LV80BANK0000435195001", "MC5811222000010123456789030",
               "MD24AG000225100013104168", "ME25505000012345678951", "MK07250120000058984", "MR1300020001010000123456753",
               "MT84MALT011000012345MTLCAST001S", "MU17BOMM0101101030300200000MUR", "NL91ABNA0417164300", "NO9386011117947",
               "PK36SCBL0000001123456702", "PL61109010140000071219812874", "PS92PALS000000000400123456702", "PT50000201231234567890154",
               "QA58DOHB00001234567890ABCDEFG", "RO49AAAA1B31007593840000", "RS35260005601001611379", "SA0380000000608010167519",
               "SE4550000000058398257466", "SI56263300012039086", "SK3112000000198742637541", "SM86U0322509800000000270100",
               "TN5910006035183598478831", "TR330006100519786457841326", "UA213223130000026007233566001", "VG96VPVG0000012345678901",
               "XK051212012345678906", "GB29 NWBK 6016 1331 9268 19", "de89 3704 0044 0532 0130 00", "NO93-8601-1117-947");
    EXPECT_PII("-", "DE89370400440532013001", "GB28NWBK60161331926819", "DE8937040044053201300", "XX89370400440532013000",
               "XDE89370400440532013000", "DE89370400440532013000X");
}

/* Numbers that networks and payment providers publish for tests. */
static void test_card(void **state)
{
    EXPECT_PII("CARD", "4111111111111111", "4111 1111 1111 1111", "4012888888881881", "4222222222222", "5555555555554444",
               "5105-1051-0510-5100", "2223003122003222", "378282246310005", "3714 496353 98431", "30569309025904", "3852 000002 3237",
               "6011111111111117", "6011000990139424", "3530111333300000", "3566002020360505", "6200000000000005",
               "4111 1111 1111 1111 12/27");
    EXPECT_PII("-", "4111111111111112", "5555 5555 5555 4445", "0000000000000000", "1111111111111117", "41111111111111111111",
               "4111-1111 11111111", "id-4111111111111111", "4111111111111111a", "0.4111111111111111");
}

static void test_ip_address(void **state)
{
    EXPECT_PII("IP_ADDRESS", "192.0.2.1", "http://10.0.0.1:80/", "255.255.255.255.", "198.51.100.0/24", "2001:db8::1", "::1",
               "fe80::1%eth0", "2001:DB8:0:0:8:800:200C:417A", "FF01::101", "::ffff:192.0.2.128", "[2001:db8::2]:443", "2001:db8::/32",
               "64:ff9b::192.0.2.33");
    EXPECT_PII("-", "256.1.1.1", "1.2.3", "1.2.3.4.5", "01.02.03.04", "version 1.2.3.4", "Chrome/120.0.0.0", "foo==1.2.3.4", "12:30:45",
               "std::a", "a::b", "00:1a:2b:3c:4d:5e", "00:1a:2b:ff:fe:3c:4d:5e", "1:2:3:4:5:6:7", "::");
}

static void test_phone(void **state)
{
    EXPECT_PII("PHONE", "+49 30 901820", "+14155552671", "+44 (0)20 7946 0958", "(415) 555-2671", "415-555-2671", "020 7946 0958",
               "01 23 45 67 89", "0049 30 901820", "phone: 5552671", "Tel. 901820 45", "+86 138 1234 5678");
    EXPECT_PII("-", "2023-11-28", "078-05-1120", "12345678", "1.234.567,89", "order 1234567890", "0.123456789", "+1", "978-3-16-148410-0",
               "10:20:30", "20231128120000", "192.168.1");
}

/* --- credentials --- */

static size_t count_secrets(const char *text, double entropy_min)
{
    size_t found = 0;
    struct policy_ranges ranges = {0};
    assert_true(policy_find_secrets(text, strlen(text), &ranges));
    for (size_t i = 0; i < ranges.count; i++)
        found += ranges.places[i].entropy >= entropy_min;
    policy_ranges_free(&ranges);
    return found;
}

static void test_own_tokens(void **state)
{
    char token[AUTH_TOKEN_SIZE], text[200];
    struct forge_uuid organization = {.bytes = {1, 2, 3}};
    for (int kind = AUTH_TOKEN_API_KEY; kind <= AUTH_TOKEN_OPERATOR; kind++) {
        auth_token_make((enum auth_token_kind)kind, kind == AUTH_TOKEN_OPERATOR ? &(struct forge_uuid){0} : &organization, token);
        snprintf(text, sizeof text, "use %s, please", token);
        assert_int_equal(count_secrets(text, INFINITY), 1);
        text[20] = text[20] == 'a' ? 'b' : 'a'; /* the checksum tells */
        assert_int_equal(count_secrets(text, INFINITY), 0);
    }
}

/* The token of RFC 7519, section 3.1, with a signature; and a rule's threshold. */
static void test_jwt_and_entropy(void **state)
{
    assert_int_equal(count_secrets("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODB9."
                                   "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
                                   INFINITY),
                     1);
    assert_int_equal(count_secrets("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.notanobject.dBjftJeZ4CVP", INFINITY), 0);
    assert_int_equal(count_secrets("password: abcd1234abcd1234", 3.0), 1); /* eight characters, each as often: 3 bits */
    assert_int_equal(count_secrets("password: abcd1234abcd1234", 3.01), 0);
    assert_int_equal(count_secrets("password: abcd1234efgh5678", 4.0), 1);
    assert_int_equal(count_secrets("password: abcd1234efgh5678", INFINITY), 0);
    assert_int_equal(count_secrets("username: abcd1234efgh5678", 2.0), 0);
}

/* --- corpora --- */

struct score {
    size_t positives, found, wrong, lines;
};

static bool pii_is_found(const char *label, const char *text, bool *out_wrong)
{
    bool found = false;
    struct policy_ranges ranges = {0};
    assert_true(policy_find_pii(text, strlen(text), &ranges));
    *out_wrong = false;
    for (size_t i = 0; i < ranges.count; i++) {
        bool is_right = strcmp(kinds[ranges.places[i].pii_kind], label) == 0;
        found |= is_right;
        *out_wrong |= !is_right;
    }
    policy_ranges_free(&ranges);
    return found;
}

static bool secret_is_found(const char *label, const char *text, bool *out_wrong)
{
    bool found = count_secrets(text, 4.0) > 0;
    *out_wrong = found && label[0] == '-';
    return found && label[0] == '+';
}

static void remove_marks(char *text)
{
    for (char *mark = text; (mark = strstr(mark, "\u00A6")) != NULL;)
        memmove(mark, mark + 2, strlen(mark + 2) + 1);
}

static void expect_score(const char *name, const char *half, const struct score *score)
{
    double recall = (double)score->found / (double)score->positives;
    double precision = (double)score->found / (double)(score->found + score->wrong);
    print_message("%s, %s: %zu lines, %zu positive, recall %.3f, precision %.3f\n", name, half, score->lines, score->positives, recall,
                  precision);
    assert_true(recall >= RECALL_MIN);
    assert_true(precision >= PRECISION_MIN);
}

static void judge_corpus(const char *name, bool (*is_found)(const char *label, const char *text, bool *out_wrong))
{
    char path[512], *line = NULL;
    size_t capacity = 0, number = 0;
    ssize_t length;
    struct score halves[2] = {0};
    snprintf(path, sizeof path, "%s/tests/unit/policy_corpus/%s.txt", getenv("FORGE_SOURCE_DIR"), name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    for (; (length = getline(&line, &capacity, file)) > 0; number++) {
        bool is_wrong;
        line[length - 1] = '\0';
        char *text = strchr(line, '\t');
        assert_non_null(text);
        *text++ = '\0';
        remove_marks(text);
        struct score *score = &halves[number % 2];
        bool found = is_found(line, text, &is_wrong);
        score->lines++;
        score->positives += line[0] != '-';
        score->found += found;
        score->wrong += is_wrong;
        if (number % 2 == 0 && ((line[0] != '-' && !found) || is_wrong))
            print_message("  %s %s: %s\n", is_wrong ? "wrong" : "missed", line, text);
    }
    free(line);
    fclose(file);
    assert_true(number >= 500);
    expect_score(name, "half worked on", &halves[0]);
    expect_score(name, "half held out", &halves[1]);
}

static void test_pii_corpus(void **state)
{
    judge_corpus("pii", pii_is_found);
}

static void test_secret_corpus(void **state)
{
    judge_corpus("secret", secret_is_found);
}

/* Time grows with the text, whatever it holds; a quadratic scanner would take minutes. */
static void test_long_texts(void **state)
{
    enum { SIZE = 1 << 20 };
    static const char *const units[] = {"a@",    "@[",  "1 ",  "1.",  "a:",  "DE89", "password=", "-----BEGIN PRIVATE KEY-----",
                                        "://a:", "eyJ", "\"@", "(+1", "AKIA"};
    char *text = malloc(SIZE + 1);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t unit = strlen(units[i]);
        struct policy_ranges pii = {0}, secrets = {0};
        for (size_t at = 0; at < SIZE; at++)
            text[at] = units[i][at % unit];
        assert_true(policy_find_pii(text, SIZE, &pii));
        assert_true(policy_find_secrets(text, SIZE, &secrets));
        policy_ranges_free(&pii);
        policy_ranges_free(&secrets);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_email),           cmocka_unit_test(test_iban),       cmocka_unit_test(test_card),
        cmocka_unit_test(test_ip_address),      cmocka_unit_test(test_phone),      cmocka_unit_test(test_own_tokens),
        cmocka_unit_test(test_jwt_and_entropy), cmocka_unit_test(test_pii_corpus), cmocka_unit_test(test_secret_corpus),
        cmocka_unit_test(test_long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
