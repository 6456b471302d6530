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
/* A callout belongs to one search, the limits to all of them: hence a context of its own. */
struct evaluate_search {
    const struct evaluate_pattern *pattern;
    const char *text;
    size_t size;
    uint64_t *work;
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack; /* NULL until a match needs more than PCRE2 takes by itself */
    size_t start;           /* of what is still to be searched */
    uint32_t options;
    size_t walked_to; /* by the callouts of the match in progress */
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

size_t evaluate_pattern_bytes(const struct evaluate_pattern *pattern)
{
    size_t code = 0, machine_code = 0;
    pcre2_pattern_info(pattern->code, PCRE2_INFO_SIZE, &code);
    pcre2_pattern_info(pattern->code, PCRE2_INFO_JITSIZE, &machine_code);
    return code + machine_code;
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
    struct evaluate_search *search = data;
    size_t position = block->current_position;
    uint64_t cost = position > search->walked_to ? position - search->walked_to : search->walked_to - position;
    cost += search->pattern->item_work;
    if (search->pattern->has_backreference)
        cost += longest_group(block);
    search->walked_to = position;
    if (cost > *search->work) {
        *search->work = 0;
        return STOPPED_BY_WORK;
    }
    *search->work -= cost;
    return 0;
}

static const char *limit_name(int error)
{
    switch (error) {
    case STOPPED_BY_WORK:
        return "limit of bytes walked";
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

struct evaluate_search *evaluate_search_begin(const struct evaluate_pattern *pattern, const char *text, size_t size, uint64_t *work)
{
    struct evaluate_search *search = calloc(1, sizeof *search);
    if (search == NULL)
        return NULL;
    *search = (struct evaluate_search){.pattern = pattern, .text = text, .size = size, .work = work};
    search->data = pcre2_match_data_create(1, NULL);
    search->context = pcre2_match_context_copy(pattern->limits);
    if (search->data == NULL || search->context == NULL) {
        evaluate_search_end(search);
        return NULL;
    }
    pcre2_set_callout(search->context, count_work, search);
    return search;
}

void evaluate_search_end(struct evaluate_search *search)
{
    if (search == NULL)
        return;
    pcre2_match_data_free(search->data);
    pcre2_match_context_free(search->context);
    pcre2_jit_stack_free(search->stack);
    free(search);
}

static int match_once(struct evaluate_search *search)
{
    search->walked_to = search->start;
    return pcre2_match(search->pattern->code, (PCRE2_SPTR)search->text, search->size, search->start, search->options, search->data,
                       search->context);
}

static int match_next(struct evaluate_search *search)
{
    uint64_t work_before = *search->work;
    int found = match_once(search);
    if (found != PCRE2_ERROR_JIT_STACKLIMIT || search->stack != NULL)
        return found;
    search->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
    if (search->stack == NULL)
        return PCRE2_ERROR_NOMEMORY;
    pcre2_jit_stack_assign(search->context, NULL, search->stack);
    *search->work = work_before; /* the first attempt was ours */
    return match_once(search);
}

/* The text was found to be UTF-8 by now: looking again at each of many matches would take the square of it. */
static void search_move_behind(struct evaluate_search *search, size_t begin, size_t end)
{
    search->start = end;
    search->options = PCRE2_NO_UTF_CHECK | (begin == end ? PCRE2_NOTEMPTY_ATSTART : 0);
    *search->work -= *search->work < ITEM_WORK ? *search->work : ITEM_WORK;
}

enum evaluate_match evaluate_search_next(struct evaluate_search *search, size_t *out_begin, size_t *out_end, const char **out_limit)
{
    int found = match_next(search);
    if (found >= 0) {
        const PCRE2_SIZE *matched = pcre2_get_ovector_pointer(search->data);
        *out_begin = matched[0];
        *out_end = matched[1];
        search_move_behind(search, matched[0], matched[1]);
        return EVALUATE_MATCH_YES;
    }
    *out_limit = limit_name(found);
    if (*out_limit != NULL) {
        *out_begin = search->start;
        *out_end = search->size;
        return EVALUATE_MATCH_LIMIT;
    }
    /* What else there is: no match, an endless recursion of the pattern, text that is no UTF-8. */
    return found == PCRE2_ERROR_NOMEMORY ? EVALUATE_MATCH_NO_MEMORY : EVALUATE_MATCH_NO;
}

enum evaluate_match evaluate_pattern_match(const struct evaluate_pattern *pattern, const char *text, size_t size, uint64_t *work,
                                           const char **out_limit)
{
    size_t begin, end;
    struct evaluate_search *search = evaluate_search_begin(pattern, text, size, work);
    enum evaluate_match found = search != NULL ? evaluate_search_next(search, &begin, &end, out_limit) : EVALUATE_MATCH_NO_MEMORY;
    evaluate_search_end(search);
    return found;
}
