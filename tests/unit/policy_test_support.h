/* What the tests of policies share: rules are prepared as one policy and check a text once. */
#ifndef TESTS_UNIT_POLICY_TEST_SUPPORT_H
#define TESTS_UNIT_POLICY_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT(literal) ((char *)(uintptr_t)(literal))
#define FLAG FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG
#define MASK FORGE__V1__POLICY_ACTION__POLICY_ACTION_MASK
#define BLOCK FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK
#define PROMPT FORGE__V1__POLICY_STAGE__POLICY_STAGE_PROMPT
#define INPUT FORGE__V1__POLICY_STAGE__POLICY_STAGE_INPUT
#define OUTPUT FORGE__V1__POLICY_STAGE__POLICY_STAGE_OUTPUT
#define ENFORCE FORGE__V1__POLICY_MODE__POLICY_MODE_ENFORCE
#define DRY_RUN FORGE__V1__POLICY_MODE__POLICY_MODE_DRY_RUN

#define RULE(rule_name, rule_action, kind_name, field, ...)                                                                                \
    {                                                                                                                                      \
        .base = PROTOBUF_C_MESSAGE_INIT(&forge__v1__policy_rule__descriptor), .name = TEXT(rule_name), .description = TEXT(""),            \
        .action = (rule_action), .kind_case = FORGE__V1__POLICY_RULE__KIND_##kind_name, .field = (__VA_ARGS__)                             \
    }
#define PATTERNS(...)                                                                                                                      \
    {                                                                                                                                      \
        .base = PROTOBUF_C_MESSAGE_INIT(&forge__v1__pattern_rule__descriptor), .patterns = (char *[]){__VA_ARGS__},                        \
        .n_patterns = sizeof(char *[]){__VA_ARGS__} / sizeof(char *)                                                                       \
    }
#define KEYWORDS(...)                                                                                                                      \
    {                                                                                                                                      \
        .base = PROTOBUF_C_MESSAGE_INIT(&forge__v1__keyword_rule__descriptor), .keywords = (char *[]){__VA_ARGS__},                        \
        .n_keywords = sizeof(char *[]){__VA_ARGS__} / sizeof(char *)                                                                       \
    }

enum { POLICY_ARENA_BYTES = 64 << 20 };

struct policy_fixture {
    struct forge_arena arena;
    struct policy_set *set;
    struct policy_decision decision;
};

static inline void fixture_open_many(struct policy_fixture *fixture, const struct policy_source *policies, size_t count)
{
    struct forge_error error = {0};
    forge_arena_init(&fixture->arena, POLICY_ARENA_BYTES, NULL);
    forge_code code = policy_set_prepare(policies, count, &fixture->arena, &error, &fixture->set);
    if (code != FORGE_OK && error.violations != NULL)
        print_error("%s: %s\n", error.violations->field, error.violations->description);
    assert_int_equal(code, FORGE_OK);
}

/* One policy that enforces. */
static inline void fixture_open(struct policy_fixture *fixture, const Forge__V1__PolicyRule *const *rules, size_t count)
{
    const struct policy_source policy = {.id = "policy", .version = 3, .mode = ENFORCE, .rules = rules, .rule_count = count};
    fixture_open_many(fixture, &policy, 1);
}

static inline void fixture_check(struct policy_fixture *fixture, const struct policy_subject *subject)
{
    assert_int_equal(policy_set_check(fixture->set, subject, &fixture->arena, &fixture->decision), FORGE_OK);
}

static inline void fixture_check_text(struct policy_fixture *fixture, Forge__V1__PolicyStage stage, const char *text)
{
    const struct policy_text texts[] = {{stage, text, strlen(text)}};
    fixture_check(fixture, &(struct policy_subject){.texts = texts, .text_count = 1});
}

static inline void fixture_close(struct policy_fixture *fixture)
{
    policy_set_free(fixture->set);
    forge_arena_done(&fixture->arena);
}

/* The input as this rule masks it; NULL when it has nothing to mask. Valid until the next call. */
static inline const char *masked_by(const Forge__V1__PolicyRule *rule, const char *input)
{
    static char masked[8192];
    struct policy_fixture fixture;
    fixture_open(&fixture, &rule, 1);
    fixture_check_text(&fixture, INPUT, input);
    const char *text = fixture.decision.masked[0];
    snprintf(masked, sizeof masked, "%s", text != NULL ? text : "");
    fixture_close(&fixture);
    return text != NULL ? masked : NULL;
}

#endif
