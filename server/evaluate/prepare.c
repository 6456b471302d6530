/* Checks and prepares the evaluators of an evaluation. */
#include "evaluate/evaluate_private.h"
#include "evaluate/json_schema.h"
#include "evaluate/pattern.h"
#include "evaluate/text.h"
#include "wire/utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One evaluator on its way in. */
struct preparation {
    struct forge_arena *arena;
    struct forge_error *error;
    size_t index;
    struct evaluator *evaluator;
    bool is_wrong, no_memory;
};

/* field: within the evaluator. */
__attribute__((format(printf, 3, 4))) static void refuse(struct preparation *preparation, const char *field, const char *format, ...)
{
    char path[96], said[512];
    va_list arguments;
    va_start(arguments, format);
    forge_utf8_vprint(said, sizeof said, format, arguments);
    va_end(arguments);
    snprintf(path, sizeof path, "evaluators[%zu]%s%s", preparation->index, field[0] != '\0' ? "." : "", field);
    forge_error_add_violation(preparation->error, preparation->arena, path, "%s", said);
    preparation->is_wrong = true;
}

/* --- configs --- */

/* What a compiler that gave nothing has said; "" stands for no memory. */
static void refuse_or_no_memory(struct preparation *preparation, const char *field, const char *said)
{
    if (said[0] == '\0')
        preparation->no_memory = true;
    else
        refuse(preparation, field, "%s", said);
}

static void add_value(struct preparation *preparation, const char *text)
{
    struct evaluator *evaluator = preparation->evaluator;
    struct evaluate_value *value = &evaluator->values[evaluator->value_count++];
    value->size = strlen(text);
    value->text = evaluator->ignore_case ? evaluate_fold(text, value->size, &value->size) : strdup(text);
    preparation->no_memory |= value->text == NULL;
}

static void prepare_contains(struct preparation *preparation, const Forge__V1__ContainsEvaluator *config)
{
    struct evaluator *evaluator = preparation->evaluator;
    evaluator->any = config->any;
    evaluator->ignore_case = config->ignore_case;
    evaluator->negate = config->negate;
    if (config->n_values > EVALUATE_VALUES_MAX) {
        refuse(preparation, "contains.values", "must be at most %d texts", EVALUATE_VALUES_MAX);
        return;
    }
    evaluator->values = calloc(config->n_values + 1, sizeof evaluator->values[0]);
    preparation->no_memory |= evaluator->values == NULL;
    for (size_t i = 0; i < config->n_values && !preparation->no_memory; i++) {
        size_t characters = evaluate_characters(config->values[i], strlen(config->values[i]));
        char field[48];
        snprintf(field, sizeof field, "contains.values[%zu]", i);
        if (characters < 1 || characters > EVALUATE_VALUE_CHARACTERS_MAX)
            refuse(preparation, field, "must be 1 to %d characters", EVALUATE_VALUE_CHARACTERS_MAX);
        else
            add_value(preparation, config->values[i]);
    }
}

static void prepare_regex(struct preparation *preparation, const Forge__V1__RegexEvaluator *config)
{
    char said[256];
    size_t size = strlen(config->pattern);
    if (size < 1 || size > EVALUATE_PATTERN_BYTES_MAX) {
        refuse(preparation, "regex.pattern", size < 1 ? "is required" : "must be at most %d bytes", EVALUATE_PATTERN_BYTES_MAX);
        return;
    }
    unsigned options = (config->full_match ? EVALUATE_PATTERN_FULL : 0) | (config->ignore_case ? EVALUATE_PATTERN_IGNORE_CASE : 0);
    preparation->evaluator->pattern = evaluate_pattern_compile(config->pattern, options, said, sizeof said);
    if (preparation->evaluator->pattern == NULL)
        refuse_or_no_memory(preparation, "regex.pattern", said);
}

static void prepare_numeric(struct preparation *preparation, const Forge__V1__NumericEvaluator *config)
{
    preparation->evaluator->absolute_tolerance = config->absolute_tolerance;
    preparation->evaluator->relative_tolerance = config->relative_tolerance;
    if (!isfinite(config->absolute_tolerance) || config->absolute_tolerance < 0)
        refuse(preparation, "numeric.absolute_tolerance", "must be a number of 0 or more");
    if (!isfinite(config->relative_tolerance) || config->relative_tolerance < 0)
        refuse(preparation, "numeric.relative_tolerance", "must be a number of 0 or more");
}

static void prepare_json_schema(struct preparation *preparation, const Forge__V1__JsonSchemaEvaluator *config)
{
    char said[480];
    preparation->evaluator->schema = json_schema_prepare(config->schema, strlen(config->schema), said, sizeof said);
    if (preparation->evaluator->schema == NULL)
        refuse_or_no_memory(preparation, "json_schema.schema", said);
}

static void prepare_latency(struct preparation *preparation, const Forge__V1__LatencyEvaluator *config)
{
    preparation->evaluator->latency_max_ms = config->latency_max_ms;
    if (config->latency_max_ms < 1)
        refuse(preparation, "latency.latency_max_ms", "must be 1 or more");
}

static void prepare_cost(struct preparation *preparation, const Forge__V1__CostEvaluator *config)
{
    preparation->evaluator->cost_max_micros = config->cost_max_micros;
    if (config->cost_max_micros < 0)
        refuse(preparation, "cost.cost_max_micros", "must be 0 or more");
}

static void prepare_external(struct preparation *preparation, const Forge__V1__ExternalEvaluator *config)
{
    if (evaluate_characters(config->description, strlen(config->description)) > EVALUATE_DESCRIPTION_CHARACTERS_MAX)
        refuse(preparation, "external.description", "must be at most %d characters", EVALUATE_DESCRIPTION_CHARACTERS_MAX);
}

static void prepare_config(struct preparation *preparation, const Forge__V1__Evaluator *message)
{
    struct evaluator *evaluator = preparation->evaluator;
    evaluator->kind = message->config_case;
    switch (message->config_case) {
    case FORGE__V1__EVALUATOR__CONFIG_EXACT:
        evaluator->ignore_case = message->exact->ignore_case;
        evaluator->trim = message->exact->trim;
        break;
    case FORGE__V1__EVALUATOR__CONFIG_CONTAINS:
        prepare_contains(preparation, message->contains);
        break;
    case FORGE__V1__EVALUATOR__CONFIG_REGEX:
        prepare_regex(preparation, message->regex);
        break;
    case FORGE__V1__EVALUATOR__CONFIG_NUMERIC:
        prepare_numeric(preparation, message->numeric);
        break;
    case FORGE__V1__EVALUATOR__CONFIG_LEVENSHTEIN:
        evaluator->ignore_case = message->levenshtein->ignore_case;
        break;
    case FORGE__V1__EVALUATOR__CONFIG_JSON_VALID:
        break;
    case FORGE__V1__EVALUATOR__CONFIG_JSON_SCHEMA:
        prepare_json_schema(preparation, message->json_schema);
        break;
    case FORGE__V1__EVALUATOR__CONFIG_LATENCY:
        prepare_latency(preparation, message->latency);
        break;
    case FORGE__V1__EVALUATOR__CONFIG_COST:
        prepare_cost(preparation, message->cost);
        break;
    case FORGE__V1__EVALUATOR__CONFIG_EXTERNAL:
        prepare_external(preparation, message->external);
        break;
    case FORGE__V1__EVALUATOR__CONFIG__NOT_SET:
    case _FORGE__V1__EVALUATOR__CONFIG__CASE_IS_INT_SIZE:
    default:
        refuse(preparation, "", "needs a config, such as exact");
        break;
    }
}

/* --- what all have --- */

/* The field of the oneof that is set names the kind. */
static const char *kind_name(Forge__V1__Evaluator__ConfigCase kind)
{
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(&forge__v1__evaluator__descriptor, (unsigned)kind);
    return field != NULL ? field->name : "";
}

static void prepare_name(struct preparation *preparation, const Forge__V1__Evaluator *message, const struct evaluate_set *set)
{
    const char *name = message->name[0] != '\0' ? message->name : kind_name(message->config_case);
    size_t length = strlen(name);
    if (length > EVALUATE_NAME_BYTES_MAX || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != length) {
        refuse(preparation, "name", "must be 1 to %d of a-z, 0-9, _, . and -", EVALUATE_NAME_BYTES_MAX);
        return;
    }
    memcpy(preparation->evaluator->name, name, length + 1);
    for (size_t i = 0; i < preparation->index && length > 0; i++)
        if (strcmp(set->evaluators[i].name, name) == 0) {
            refuse(preparation, "name", "\"%s\" is the name of evaluators[%zu] too", name, i);
            return;
        }
}

static void prepare_judgement(struct preparation *preparation, const Forge__V1__Evaluator *message)
{
    struct evaluator *evaluator = preparation->evaluator;
    evaluator->weight = message->weight == 0 ? 1 : message->weight;
    evaluator->threshold = message->threshold == 0 ? 1 : message->threshold;
    evaluator->required = message->required;
    /* Written so that NaN is refused. */
    if (!(evaluator->weight > 0 && evaluator->weight <= EVALUATE_WEIGHT_MAX))
        refuse(preparation, "weight", "must be over 0 and at most %d, or 0 for 1", EVALUATE_WEIGHT_MAX);
    if (!(evaluator->threshold > 0 && evaluator->threshold <= 1))
        refuse(preparation, "threshold", "must be over 0 and at most 1, or 0 for 1");
}

forge_code evaluate_prepare(const Forge__V1__Evaluator *const *evaluators, size_t count, struct forge_arena *arena,
                            struct forge_error *error, struct evaluate_set **out)
{
    *out = NULL;
    if (count < 1 || count > EVALUATE_EVALUATORS_MAX) {
        forge_error_add_violation(error, arena, "evaluators", "must be 1 to %d", EVALUATE_EVALUATORS_MAX);
        return FORGE_INVALID_ARGUMENT;
    }
    struct evaluate_set *set = calloc(1, sizeof *set);
    struct preparation preparation = {.arena = arena, .error = error, .no_memory = set == NULL};
    for (size_t i = 0; i < count && !preparation.no_memory; i++) {
        preparation.index = i;
        preparation.evaluator = &set->evaluators[i];
        set->count = i + 1;
        prepare_name(&preparation, evaluators[i], set);
        prepare_judgement(&preparation, evaluators[i]);
        prepare_config(&preparation, evaluators[i]);
    }
    if (!preparation.no_memory && !preparation.is_wrong) {
        *out = set;
        return FORGE_OK;
    }
    evaluate_set_free(set);
    return preparation.no_memory ? FORGE_RESOURCE_EXHAUSTED : FORGE_INVALID_ARGUMENT;
}

void evaluate_set_free(struct evaluate_set *set)
{
    for (size_t i = 0; set != NULL && i < set->count; i++) {
        struct evaluator *evaluator = &set->evaluators[i];
        for (size_t j = 0; j < evaluator->value_count; j++)
            free(evaluator->values[j].text);
        free(evaluator->values);
        evaluate_pattern_free(evaluator->pattern);
        json_schema_free(evaluator->schema);
    }
    free(set);
}

size_t evaluate_count(const struct evaluate_set *set)
{
    return set->count;
}

const char *evaluate_name(const struct evaluate_set *set, size_t index)
{
    return set->evaluators[index].name;
}

bool evaluate_is_external(const struct evaluate_set *set, size_t index)
{
    return set->evaluators[index].kind == FORGE__V1__EVALUATOR__CONFIG_EXTERNAL;
}
