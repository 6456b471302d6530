/* B7: how long one check keeps its thread busy (processor time: what else runs on the machine is not ours): 100 policies (20 each of
 * pattern, keyword, PII, secret, JSON Schema) on an output of 4 KiB that is JSON and holds prose. usage: bench_policy SECONDS. Prints one
 * JSON object, with the same without vectorscan. */
#include "policy/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EACH = 20, KINDS = 5, POLICIES = EACH * KINDS, TEXT_BYTES = 4096, ARENA_BYTES = 8 << 20, CHECKS_MAX = 1 << 20, NS_PER_US = 1000 };

/* One rule, and what it points to. */
struct rule {
    Forge__V1__PolicyRule message;
    const Forge__V1__PolicyRule *list;
    Forge__V1__PatternRule pattern;
    Forge__V1__KeywordRule keyword;
    Forge__V1__PiiRule pii;
    Forge__V1__SecretRule secret;
    Forge__V1__OutputSchemaRule schema;
    char text[256], *texts;
};
static struct rule rules[POLICIES];
static double times_us[CHECKS_MAX];

static void rule_fill(struct rule *rule, size_t index)
{
    static char name[] = "rule", none[] = "";
    static const char *const forms[][2] = {{"\\b(?:project|codename)[ -]falcon", "\\b"},
                                           {"[A-Z]{2}", "-\\d{6}"},
                                           {"\\bdrop\\s+table\\s+t", "\\b"},
                                           {"(?i)ignore (?:all )?previous ", " instructions"}};
    size_t i = index % EACH;
    rule->message = (Forge__V1__PolicyRule)FORGE__V1__POLICY_RULE__INIT;
    rule->message.name = name;
    rule->message.description = none;
    rule->message.action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG;
    rule->list = &rule->message;
    rule->texts = rule->text;
    switch (index / EACH) {
    case 0:
        rule->pattern = (Forge__V1__PatternRule)FORGE__V1__PATTERN_RULE__INIT;
        snprintf(rule->text, sizeof rule->text, "%s%zu%s", forms[i % 4][0], i, forms[i % 4][1]);
        rule->pattern.patterns = &rule->texts;
        rule->pattern.n_patterns = 1;
        rule->message.kind_case = FORGE__V1__POLICY_RULE__KIND_PATTERN;
        rule->message.pattern = &rule->pattern;
        break;
    case 1:
        rule->keyword = (Forge__V1__KeywordRule)FORGE__V1__KEYWORD_RULE__INIT;
        snprintf(rule->text, sizeof rule->text, "confidential item %zu", i);
        rule->keyword.keywords = &rule->texts;
        rule->keyword.n_keywords = 1;
        rule->message.kind_case = FORGE__V1__POLICY_RULE__KIND_KEYWORD;
        rule->message.keyword = &rule->keyword;
        break;
    case 2:
        rule->pii = (Forge__V1__PiiRule)FORGE__V1__PII_RULE__INIT;
        rule->message.kind_case = FORGE__V1__POLICY_RULE__KIND_PII;
        rule->message.pii = &rule->pii;
        break;
    case 3:
        rule->secret = (Forge__V1__SecretRule)FORGE__V1__SECRET_RULE__INIT;
        rule->message.kind_case = FORGE__V1__POLICY_RULE__KIND_SECRET;
        rule->message.secret = &rule->secret;
        break;
    default:
        rule->schema = (Forge__V1__OutputSchemaRule)FORGE__V1__OUTPUT_SCHEMA_RULE__INIT;
        snprintf(rule->text, sizeof rule->text,
                 "{\"type\":\"object\",\"required\":[\"answer\"],\"properties\":{\"answer\":{\"type\":\"string\",\"minLength\":%zu}}}", i);
        rule->schema.schema = rule->text;
        rule->message.kind_case = FORGE__V1__POLICY_RULE__KIND_OUTPUT_SCHEMA;
        rule->message.output_schema = &rule->schema;
        break;
    }
}

static struct policy_set *set_make(void)
{
    static char ids[POLICIES][8];
    struct policy_source policies[POLICIES];
    struct forge_arena arena;
    struct forge_error error = {0};
    struct policy_set *set;
    forge_arena_init(&arena, ARENA_BYTES, NULL);
    for (size_t i = 0; i < POLICIES; i++) {
        rule_fill(&rules[i], i);
        snprintf(ids[i], sizeof ids[i], "p%03zu", i);
        policies[i] = (struct policy_source){ids[i], 1, FORGE__V1__POLICY_MODE__POLICY_MODE_ENFORCE, &rules[i].list, 1};
    }
    if (policy_set_prepare(policies, POLICIES, &arena, &error, &set) != FORGE_OK) {
        fprintf(stderr, "bench_policy: %s\n", error.violations != NULL ? error.violations->description : "no memory");
        exit(1);
    }
    forge_arena_done(&arena);
    return set;
}

/* Words of prose with a number now and then, and one e-mail address, as a JSON string. */
static void text_fill(char text[TEXT_BYTES + 1])
{
    static const char *const words[] = {"the",        "model",        "answers", "with",  "a",       "short",    "summary",
                                        "of",         "confidential", "project", "order", "AB17-12", "previous", "table",
                                        "2023-11-28", "item",         "token",   "phone", "3.14",    "drop"};
    size_t size = (size_t)snprintf(text, TEXT_BYTES, "{\"answer\":\"mail ann@example.com ");
    for (unsigned i = 1; size < TEXT_BYTES - 32; i = i * 1103515245 + 12345)
        size += (size_t)snprintf(text + size, TEXT_BYTES - size, "%s ", words[(i >> 16) % (sizeof words / sizeof words[0])]);
    while (size < TEXT_BYTES - 2)
        text[size++] = '.';
    strcpy(text + size, "\"}");
}

static int compare_times(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double thread_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / NS_PER_US;
}

/* Sorts times_us; returns how many there are. */
static size_t measure(const struct policy_set *set, double seconds)
{
    char text[TEXT_BYTES + 1];
    struct forge_arena arena;
    struct policy_decision decision;
    size_t count = 0;
    text_fill(text);
    const struct policy_text texts[] = {{FORGE__V1__POLICY_STAGE__POLICY_STAGE_OUTPUT, text, TEXT_BYTES}};
    const struct policy_subject subject = {.texts = texts, .text_count = 1};
    forge_arena_init(&arena, ARENA_BYTES, NULL);
    for (double begin = thread_us(), now = begin; now - begin < seconds * 1e6 && count < CHECKS_MAX;) {
        double before = thread_us();
        if (policy_set_check(set, &subject, &arena, &decision) != FORGE_OK || decision.finding_count != EACH)
            exit(1); /* each of the 20 rules about personal data finds the address */
        now = thread_us();
        times_us[count++] = now - before;
        forge_arena_reset(&arena);
    }
    forge_arena_done(&arena);
    qsort(times_us, count, sizeof times_us[0], compare_times);
    return count;
}

int main(int argc, char **argv)
{
    char said[256];
    double seconds = argc == 2 ? strtod(argv[1], NULL) : 0;
    if (seconds <= 0)
        return fprintf(stderr, "usage: bench_policy SECONDS\n"), 2;
    struct policy_set *set = set_make();
    size_t plain = measure(set, seconds);
    double plain_p50 = times_us[plain / 2], plain_p99 = times_us[plain * 99 / 100];
    if (!policy_set_accelerate(set, said, sizeof said))
        return fprintf(stderr, "bench_policy: %s\n", said), 1;
    size_t count = measure(set, seconds);
    printf("{\"p50_us\": %.1f, \"p99_us\": %.1f, \"plain_p50_us\": %.1f, \"plain_p99_us\": %.1f, \"accelerated\": %zu}\n",
           times_us[count / 2], times_us[count * 99 / 100], plain_p50, plain_p99, policy_set_accelerated(set));
    policy_set_free(set);
    return 0;
}
