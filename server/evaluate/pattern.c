#include "evaluate/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ITEM_WORK = 8,                   /* a callout takes about as long as walking so many bytes */
    JIT_STACK_MIN = 32 * 1024,       /* bytes; PCRE2 takes that much of the thread's own stack when it is given none */
    JIT_STACK_MAX = 4 * 1024 * 1024, /* for the rare pattern that needs more */
    STOPPED_BY_WORK = -32000         /* returned by the callout; none of PCRE2's own codes */
};

struct evaluate_pattern {
    pcre2_code *code;
    pcre2_match_context *limits;
    uint32_t item_work;     /* most bytes that one item walks without moving on, above what the callouts see */
    bool has_backreference; /* each may walk as much as its group holds without moving on */
};
struct walk {
    const struct evaluate_pattern *pattern;
    uint64_t *work;
    size_t position;
};

/* The largest repeat count in the pattern: a{1000} may walk 999 bytes, fail and leave no trace. Any number behind a brace will do: too much
 * is counted at worst. */
static uint32_t largest_repeat(const char *text)
{
    uint32_t largest = 0;
    for (const char *brace = strchr(text, '{'); brace != NULL; brace = strchr(brace + 1, '{')) {
        unsigned long count = strtoul(brace + 1, NULL, 10);
        if (count > largest)
            largest = count > UINT16_MAX ? UINT16_MAX : (uint32_t)count;
    }
    return largest;
}

static uint32_t compile_options(unsigned options)
{
    uint32_t flags = PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_AUTO_CALLOUT;
    if (options & EVALUATE_PATTERN_ECMA)
        flags |= PCRE2_DOLLAR_ENDONLY | PCRE2_ALT_BSUX | PCRE2_MATCH_UNSET_BACKREF | PCRE2_ALLOW_EMPTY_CLASS;
    else
        flags |= PCRE2_UCP;
    if (options & EVALUATE_PATTERN_IGNORE_CASE)
        flags |= PCRE2_CASELESS;
    if (options & EVALUATE_PATTERN_FULL)
        flags |= PCRE2_ANCHORED | PCRE2_ENDANCHORED;
    return flags;
}

static pcre2_code *code_compile(const char *text, unsigned options, char *out_message, size_t message_size)
{
    int error = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, compile_options(options), &error, &offset, NULL);
    if (code == NULL && error != PCRE2_ERROR_NOMEMORY && error != PCRE2_ERROR_HEAP_FAILED) {
        char said[160] = "";
        pcre2_get_error_message(error, (PCRE2_UCHAR *)said, sizeof said);
        snprintf(out_message, message_size, "%s (at byte %zu)", said, (size_t)offset);
    }
    return code;
}

struct evaluate_pattern *evaluate_pattern_compile(const char *text, unsigned options, char *out_message, size_t message_size)
{
    out_message[0] = '\0';
    struct evaluate_pattern *pattern = calloc(1, sizeof *pattern);
    if (pattern == NULL)
        return NULL;
    pattern->code = code_compile(text, options, out_message, message_size);
    pattern->limits = pattern->code != NULL ? pcre2_match_context_create(NULL) : NULL;
    if (pattern->limits == NULL) {
        evaluate_pattern_free(pattern);
        return NULL;
    }
    pcre2_set_match_limit(pattern->limits, EVALUATE_PATTERN_MATCH_LIMIT);
    pcre2_set_depth_limit(pattern->limits, EVALUATE_PATTERN_MATCH_LIMIT);
    pcre2_set_heap_limit(pattern->limits, EVALUATE_PATTERN_HEAP_KIB);
    uint32_t highest_backreference = 0;
    pcre2_pattern_info(pattern->code, PCRE2_INFO_BACKREFMAX, &highest_backreference);
    pattern->has_backreference = highest_backreference > 0;
    pattern->item_work = ITEM_WORK + largest_repeat(text);
    /* Where memory cannot be made executable (MemoryDenyWriteExecute of systemd), this fails and matching is interpreted. */
    pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE);
    return pattern;
}

void evaluate_pattern_free(struct evaluate_pattern *pattern)
{
    if (pattern == NULL)
        return;
    pcre2_code_free(pattern->code);
    pcre2_match_context_free(pattern->limits);
    free(pattern);
}

static size_t longest_group(const pcre2_callout_block *block)
{
    size_t longest = 0;
    for (uint32_t i = 1; i < block->capture_top; i++) {
        size_t begin = block->offset_vector[(size_t)2 * i], end = block->offset_vector[(size_t)2 * i + 1];
        if (begin != PCRE2_UNSET && end != PCRE2_UNSET && end > begin && end - begin > longest)
            longest = end - begin;
    }
    return longest;
}

static int count_work(pcre2_callout_block *block, void *data)
{
    struct walk *walk = data;
    size_t position = block->current_position;
    uint64_t cost = position > walk->position ? position - walk->position : walk->position - position;
    cost += walk->pattern->item_work;
    if (walk->pattern->has_backreference)
        cost += longest_group(block);
    walk->position = position;
    if (cost > *walk->work) {
        *walk->work = 0;
        return STOPPED_BY_WORK;
    }
    *walk->work -= cost;
    return 0;
}

/* A callout belongs to one match, the limits to all of them: hence the copy. */
static int match_once(const struct evaluate_pattern *pattern, const char *text, size_t size, uint64_t *work, pcre2_match_data *data,
                      pcre2_jit_stack *stack)
{
    struct walk walk = {.pattern = pattern, .work = work};
    pcre2_match_context *context = pcre2_match_context_copy(pattern->limits);
    if (context == NULL)
        return PCRE2_ERROR_NOMEMORY;
    pcre2_set_callout(context, count_work, &walk);
    if (stack != NULL)
        pcre2_jit_stack_assign(context, NULL, stack);
    int found = pcre2_match(pattern->code, (PCRE2_SPTR)text, size, 0, 0, data, context);
    pcre2_match_context_free(context);
    return found;
}

static const char *limit_name(int error)
{
    switch (error) {
    case STOPPED_BY_WORK:
        return "work limit of 50,000,000 bytes walked";
    case PCRE2_ERROR_MATCHLIMIT:
        return "match limit of 10,000,000 steps";
    case PCRE2_ERROR_DEPTHLIMIT:
        return "depth limit of 10,000,000";
    case PCRE2_ERROR_HEAPLIMIT:
        return "memory limit of 16 MiB";
    case PCRE2_ERROR_JIT_STACKLIMIT:
        return "stack limit of 4 MiB";
    default:
        return NULL;
    }
}

enum evaluate_match evaluate_pattern_match(const struct evaluate_pattern *pattern, const char *text, size_t size, uint64_t *work,
                                           const char **out_limit)
{
    uint64_t work_before = *work;
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    int found = data != NULL ? match_once(pattern, text, size, work, data, NULL) : PCRE2_ERROR_NOMEMORY;
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
        pcre2_jit_stack *stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
        found = PCRE2_ERROR_NOMEMORY;
        if (stack != NULL) {
            *work = work_before; /* the first attempt was ours */
            found = match_once(pattern, text, size, work, data, stack);
        }
        pcre2_jit_stack_free(stack);
    }
    pcre2_match_data_free(data);
    if (found >= 0)
        return EVALUATE_MATCH_YES;
    *out_limit = limit_name(found);
    if (*out_limit != NULL)
        return EVALUATE_MATCH_LIMIT;
    /* What else there is: no match, an endless recursion of the pattern, text that is no UTF-8. */
    return found == PCRE2_ERROR_NOMEMORY ? EVALUATE_MATCH_NO_MEMORY : EVALUATE_MATCH_NO;
}
