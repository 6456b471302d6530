/* Judges an output by one evaluator, and a result by all. */
#include "evaluate/evaluate.h"
#include "evaluate/edit_distance.h"
#include "evaluate/evaluate_private.h"
#include "evaluate/json_schema.h"
#include "evaluate/json_value.h"
#include "evaluate/number.h"
#include "evaluate/pattern.h"
#include "evaluate/text.h"
#include "wire/utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTE_WORK = 4 }; /* of reading, folding or decoding a byte */

struct text {
    const char *bytes;
    size_t size;
};
/* One judgement: score and explanation are filled in. */
struct judgement {
    const struct evaluator *evaluator;
    struct text output, expected;
    const struct evaluate_subject *subject;
    struct forge_arena *arena;
    double score;
    const char *explanation; /* in the arena; NULL: no memory there */
    uint64_t work;
};

/* Sets both; fails when there is no memory for the explanation. */
__attribute__((format(printf, 3, 4))) static forge_code judge(struct judgement *judgement, double score, const char *format, ...)
{
    char said[640];
    va_list arguments;
    va_start(arguments, format);
    size_t size = forge_utf8_vprint(said, sizeof said, format, arguments);
    va_end(arguments);
    judgement->score = score;
    judgement->explanation = forge_arena_strndup(judgement->arena, said, size);
    return judgement->explanation != NULL ? FORGE_OK : FORGE_RESOURCE_EXHAUSTED;
}

static forge_code judge_yes(struct judgement *judgement)
{
    return judge(judgement, 1, "%s", "");
}

/* The text with case folded; *out_copy is to be freed. False: no memory. */
static bool fold_text(struct text *text, char **out_copy)
{
    *out_copy = evaluate_fold(text->bytes, text->size, &text->size);
    text->bytes = *out_copy;
    return *out_copy != NULL;
}

/* --- texts --- */

/* The first difference tells people more than two long texts. */
static forge_code judge_different(struct judgement *judgement, struct text output, struct text expected)
{
    size_t common = 0;
    while (common < output.size && common < expected.size && output.bytes[common] == expected.bytes[common])
        common++;
    size_t character = evaluate_characters(output.bytes, forge_utf8_cut(output.bytes, output.size, common));
    if (common == output.size)
        return judge(judgement, 0, "the output ends after %zu characters, the expected one goes on", character);
    if (common == expected.size)
        return judge(judgement, 0, "the output goes on after the %zu characters that are expected", character);
    return judge(judgement, 0, "differs from the expected output from character %zu on", character + 1);
}

static forge_code judge_exact(struct judgement *judgement)
{
    struct text output = judgement->output, expected = judgement->expected;
    char *output_copy = NULL, *expected_copy = NULL;
    forge_code code = FORGE_RESOURCE_EXHAUSTED;
    if (judgement->evaluator->trim) {
        evaluate_trim(&output.bytes, &output.size);
        evaluate_trim(&expected.bytes, &expected.size);
    }
    if (!judgement->evaluator->ignore_case || (fold_text(&output, &output_copy) && fold_text(&expected, &expected_copy)))
        code = output.size == expected.size && memcmp(output.bytes, expected.bytes, output.size) == 0
                   ? judge_yes(judgement)
                   : judge_different(judgement, output, expected);
    free(output_copy);
    free(expected_copy);
    return code;
}

static forge_code judge_contained(struct judgement *judgement, size_t found, size_t count)
{
    const struct evaluator *evaluator = judgement->evaluator;
    double score = evaluator->any ? found > 0 : (double)found / (double)count;
    if (evaluator->negate)
        score = 1 - score;
    return judge(judgement, score, "the output holds %zu of %zu texts%s", found, count,
                 evaluator->negate ? " that it should not hold" : "");
}

static size_t count_contained(struct text output, const struct evaluate_value *values, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        found += memmem(output.bytes, output.size, values[i].text, values[i].size) != NULL;
    return found;
}

static forge_code judge_contains(struct judgement *judgement)
{
    const struct evaluator *evaluator = judgement->evaluator;
    struct text output = judgement->output, expected = judgement->expected;
    char *output_copy = NULL, *expected_copy = NULL;
    forge_code code = FORGE_RESOURCE_EXHAUSTED;
    if (!evaluator->ignore_case ||
        (fold_text(&output, &output_copy) && (evaluator->value_count > 0 || fold_text(&expected, &expected_copy)))) {
        judgement->work += evaluator->value_count * output.size;
        if (evaluator->value_count > 0)
            code = judge_contained(judgement, count_contained(output, evaluator->values, evaluator->value_count), evaluator->value_count);
        else
            code = judge_contained(judgement, memmem(output.bytes, output.size, expected.bytes, expected.size) != NULL, 1);
    }
    free(output_copy);
    free(expected_copy);
    return code;
}

static forge_code judge_regex(struct judgement *judgement)
{
    uint64_t work = EVALUATE_PATTERN_WORK;
    const char *limit = NULL;
    enum evaluate_match match =
        evaluate_pattern_match(judgement->evaluator->pattern, judgement->output.bytes, judgement->output.size, &work, &limit);
    judgement->work += EVALUATE_PATTERN_WORK - work;
    switch (match) {
    case EVALUATE_MATCH_YES:
        return judge_yes(judgement);
    case EVALUATE_MATCH_NO:
        return judge(judgement, 0, "the output has no match");
    case EVALUATE_MATCH_LIMIT:
        return judge(judgement, 0, "matching met the %s", limit);
    case EVALUATE_MATCH_NO_MEMORY:
    default:
        return FORGE_RESOURCE_EXHAUSTED;
    }
}

static forge_code judge_levenshtein(struct judgement *judgement)
{
    size_t output_count = 0, expected_count = 0;
    bool fold = judgement->evaluator->ignore_case;
    uint32_t *output = evaluate_code_points(judgement->output.bytes, judgement->output.size, fold, &output_count);
    uint32_t *expected = evaluate_code_points(judgement->expected.bytes, judgement->expected.size, fold, &expected_count);
    struct edit_distance found = {0};
    forge_code code = FORGE_RESOURCE_EXHAUSTED;
    if (output != NULL && expected != NULL && edit_distance(output, output_count, expected, expected_count, &found)) {
        judgement->work += found.work;
        size_t longer = output_count > expected_count ? output_count : expected_count;
        double score = longer > 0 ? (double)(longer - found.distance) / (double)longer : 1;
        code = judge(judgement, score,
                     found.exact ? "edit distance %zu of %zu" : "edit distance at most %zu of %zu: too long to be compared in full",
                     found.distance, longer);
    }
    free(output);
    free(expected);
    return code;
}

/* --- numbers --- */

static forge_code judge_numeric(struct judgement *judgement)
{
    const struct evaluator *evaluator = judgement->evaluator;
    const struct {
        const char *whose, *text;
    } sides[2] = {{"expected output", judgement->expected.bytes}, {"output", judgement->output.bytes}};
    double numbers[2] = {0};
    for (int i = 0; i < 2; i++) {
        enum evaluate_number found = evaluate_number_find(sides[i].text, &numbers[i]);
        if (found != EVALUATE_NUMBER_FOUND)
            return judge(judgement, 0, found == EVALUATE_NUMBER_NONE ? "the %s has no number" : "the first number of the %s is too large",
                         sides[i].whose);
    }
    double difference = fabs(numbers[1] - numbers[0]);
    double tolerance = fmax(evaluator->absolute_tolerance, evaluator->relative_tolerance * fabs(numbers[0]));
    return judge(judgement, difference <= tolerance, "%.17g, expected %.17g: difference %.6g, tolerance %.6g", numbers[1], numbers[0],
                 difference, tolerance);
}

/* Within the limit or not; unit: of all figures. */
static forge_code judge_limit(struct judgement *judgement, bool is_known, int64_t value, int64_t most, const char *unit)
{
    if (!is_known)
        return judge(judgement, 0, "not given");
    return judge(judgement, value <= most, "%lld of at most %lld %s", (long long)value, (long long)most, unit);
}

static forge_code judge_latency(struct judgement *judgement)
{
    const struct evaluate_subject *subject = judgement->subject;
    int64_t most;
    if (__builtin_mul_overflow(judgement->evaluator->latency_max_ms, 1000, &most))
        most = INT64_MAX;
    return judge_limit(judgement, subject->has_latency, subject->latency_us, most, "microseconds");
}

/* --- JSON --- */

static forge_code judge_json_valid(struct judgement *judgement)
{
    json_t *value = NULL;
    char said[JSON_ERROR_TEXT_LENGTH + 32] = "";
    enum evaluate_json read = evaluate_json_read(judgement->output.bytes, judgement->output.size, &value, said, sizeof said);
    json_decref(value);
    if (read == EVALUATE_JSON_NO_MEMORY)
        return FORGE_RESOURCE_EXHAUSTED;
    return read == EVALUATE_JSON_READ ? judge_yes(judgement) : judge(judgement, 0, "not JSON: %s", said);
}

static forge_code judge_json_schema(struct judgement *judgement)
{
    char said[480];
    uint64_t work = 0;
    enum json_schema_result result =
        json_schema_apply(judgement->evaluator->schema, judgement->output.bytes, judgement->output.size, said, sizeof said, &work);
    judgement->work += work;
    switch (result) {
    case JSON_SCHEMA_FITS:
        return judge_yes(judgement);
    case JSON_SCHEMA_NOT_JSON:
        return judge(judgement, 0, "not JSON: %s", said);
    case JSON_SCHEMA_DIFFERS:
    case JSON_SCHEMA_LIMIT:
        return judge(judgement, 0, "%s", said);
    case JSON_SCHEMA_NO_MEMORY:
    default:
        return FORGE_RESOURCE_EXHAUSTED;
    }
}

/* --- all of them --- */

static forge_code judge_by_kind(struct judgement *judgement)
{
    const struct evaluate_subject *subject = judgement->subject;
    switch (judgement->evaluator->kind) {
    case FORGE__V1__EVALUATOR__CONFIG_EXACT:
        return judge_exact(judgement);
    case FORGE__V1__EVALUATOR__CONFIG_CONTAINS:
        return judge_contains(judgement);
    case FORGE__V1__EVALUATOR__CONFIG_REGEX:
        return judge_regex(judgement);
    case FORGE__V1__EVALUATOR__CONFIG_NUMERIC:
        return judge_numeric(judgement);
    case FORGE__V1__EVALUATOR__CONFIG_LEVENSHTEIN:
        return judge_levenshtein(judgement);
    case FORGE__V1__EVALUATOR__CONFIG_JSON_VALID:
        return judge_json_valid(judgement);
    case FORGE__V1__EVALUATOR__CONFIG_JSON_SCHEMA:
        return judge_json_schema(judgement);
    case FORGE__V1__EVALUATOR__CONFIG_LATENCY:
        return judge_latency(judgement);
    case FORGE__V1__EVALUATOR__CONFIG_COST:
        return judge_limit(judgement, subject->has_cost, subject->cost_micros, judgement->evaluator->cost_max_micros, "micro-units");
    case FORGE__V1__EVALUATOR__CONFIG_EXTERNAL:
    case FORGE__V1__EVALUATOR__CONFIG__NOT_SET:
    case _FORGE__V1__EVALUATOR__CONFIG__CASE_IS_INT_SIZE:
    default:
        return FORGE_INTERNAL; /* the caller asked an external one */
    }
}

static struct text text_of(const char *bytes)
{
    return (struct text){.bytes = bytes != NULL ? bytes : "", .size = bytes != NULL ? strlen(bytes) : 0};
}

forge_code evaluate_output(const struct evaluate_set *set, size_t index, const struct evaluate_subject *subject, struct forge_arena *arena,
                           struct evaluate_score *out)
{
    struct judgement judgement = {.evaluator = &set->evaluators[index],
                                  .output = text_of(subject->output),
                                  .expected = text_of(subject->expected),
                                  .subject = subject,
                                  .arena = arena};
    judgement.work = BYTE_WORK * (judgement.output.size + judgement.expected.size);
    forge_code code = judge_by_kind(&judgement);
    if (code == FORGE_OK)
        *out = (struct evaluate_score){.score = judgement.score,
                                       .passed = judgement.score >= judgement.evaluator->threshold,
                                       .explanation = judgement.explanation,
                                       .work = judgement.work};
    return code;
}

bool evaluate_external_passes(const struct evaluate_set *set, size_t index, double score)
{
    return score >= set->evaluators[index].threshold;
}

struct evaluate_total evaluate_total(const struct evaluate_set *set, const struct evaluate_score *scores, double pass_threshold)
{
    /* Thrice 0.7 must be 0.7 on average, not a rounding below. */
    long double sum = 0, weights = 0;
    struct evaluate_total total = {.passed = true};
    for (size_t i = 0; i < set->count; i++) {
        sum += (long double)set->evaluators[i].weight * scores[i].score;
        weights += set->evaluators[i].weight;
        total.passed &= scores[i].passed || !set->evaluators[i].required;
    }
    total.score = fmin((double)(sum / weights), 1);
    total.passed &= total.score >= pass_threshold;
    return total;
}
