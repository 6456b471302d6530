/* E. W. Myers, "An O(ND) Difference Algorithm and Its Variations", Algorithmica 1 (1986), 251-266: the refinement in linear space (section
 * 4b), on lines that are numbered first. Two things bound it. Lines that stand in one text only never match, so they are left out before.
 * And a search that has not met its counterpart after COST_MAX edits gives up there and is split where it came furthest. */
#include "text/diff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COST_MAX = 256, LINES_MAX = 1 << 16, NONE = -1 };

/* One of the two texts. */
struct side {
    const char *text;
    uint32_t *starts; /* count + 1: where each line begins, and where the last one ends */
    uint32_t count;
    bool *changed; /* per line: only this side has it */
    /* The lines that stand in both texts, between the common first and last ones. */
    uint32_t *ids;   /* equal for equal lines of both sides */
    uint32_t *lines; /* which ones they are */
    uint32_t matchable_count;
};

struct line {
    const char *text;
    uint32_t size;
    uint32_t place; /* number of the line, times two, plus one for the new text */
};

/* --- lines --- */

static struct line line_at(const struct side *side, uint32_t number)
{
    uint32_t start = side->starts[number], end = side->starts[number + 1];
    if (end > start && side->text[end - 1] == '\n')
        end--;
    return (struct line){.text = side->text + start, .size = end - start};
}

static bool lines_are_equal(struct line a, struct line b)
{
    return a.size == b.size && memcmp(a.text, b.text, a.size) == 0;
}

static bool ends_in_newline(struct text_diff_text text)
{
    return text.size > 0 && text.text[text.size - 1] == '\n';
}

/* with_end: what follows the last newline is a line although it is empty. */
static bool side_split(struct side *side, struct text_diff_text text, bool with_end)
{
    uint32_t newlines = 0, line = 0;
    for (size_t i = 0; i < text.size; i++)
        newlines += text.text[i] == '\n';
    side->text = text.text;
    side->count = newlines + (with_end || (text.size > 0 && !ends_in_newline(text)));
    side->starts = malloc(((size_t)side->count + 1) * sizeof side->starts[0]);
    side->changed = calloc((size_t)side->count + 1, sizeof side->changed[0]);
    if (!side->starts || !side->changed)
        return false;
    side->starts[0] = 0;
    for (size_t i = 0; i < text.size && line < side->count; i++)
        if (text.text[i] == '\n')
            side->starts[++line] = (uint32_t)(i + 1);
    side->starts[side->count] = (uint32_t)text.size;
    return true;
}

static void side_free(struct side *side)
{
    free(side->starts);
    free(side->changed);
    free(side->ids);
    free(side->lines);
}

/* By bytes, then by place: equal lines stand together, in the order of their numbers. */
static int compare_lines(const void *left, const void *right)
{
    const struct line *a = left, *b = right;
    uint32_t common = a->size < b->size ? a->size : b->size;
    int order = common > 0 ? memcmp(a->text, b->text, common) : 0;
    if (order == 0)
        order = (a->size > b->size) - (a->size < b->size);
    return order != 0 ? order : (a->place > b->place) - (a->place < b->place);
}

/* Gives each line of a group of equal ones the group's number; a group of one side only is changed. */
static void group_number(const struct line *group, size_t count, uint32_t id, uint32_t *const ids[2])
{
    bool in_old = false, in_new = false;
    for (size_t i = 0; i < count; i++)
        *((group[i].place & 1) != 0 ? &in_new : &in_old) = true;
    for (size_t i = 0; i < count; i++)
        ids[group[i].place & 1][group[i].place / 2] = in_old && in_new ? id : UINT32_MAX;
}

/* Numbers the lines [first, first + counts[side]) of both sides, counted from first. */
static bool lines_number(const struct side sides[2], uint32_t first, const uint32_t counts[2], uint32_t *const ids[2])
{
    size_t total = (size_t)counts[0] + counts[1], end;
    struct line *lines = malloc(total * sizeof lines[0]);
    if (!lines)
        return false;
    for (uint32_t side = 0, at = 0; side < 2; side++)
        for (uint32_t i = 0; i < counts[side]; i++, at++) {
            lines[at] = line_at(&sides[side], first + i);
            lines[at].place = 2 * i + side;
        }
    qsort(lines, total, sizeof lines[0], compare_lines);
    for (size_t begin = 0; begin < total; begin = end) {
        for (end = begin + 1; end < total && lines_are_equal(lines[begin], lines[end]); end++)
            ;
        group_number(lines + begin, end - begin, (uint32_t)begin, ids);
    }
    free(lines);
    return true;
}

/* Keeps the lines that may match; the others are changed. */
static void side_keep(struct side *side, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (side->ids[i] == UINT32_MAX) {
            side->changed[first + i] = true;
            continue;
        }
        side->ids[side->matchable_count] = side->ids[i];
        side->lines[side->matchable_count++] = first + i;
    }
}

static bool side_reserve(struct side *side, uint32_t count)
{
    side->ids = malloc(((size_t)count + 1) * sizeof side->ids[0]);
    side->lines = malloc(((size_t)count + 1) * sizeof side->lines[0]);
    return side->ids && side->lines;
}

/* --- the shortest script --- */

struct search {
    struct side *old_side, *new_side;
    /* Furthest reached on each diagonal, as a distance in the old text from the begin (forward) or the end (backward) of the box. */
    int32_t forward_room[2 * COST_MAX + 3], backward_room[2 * COST_MAX + 3];
};

/* A part of both texts: old lines [a, a + n), new lines [b, b + m). */
struct box {
    const uint32_t *a, *b;
    int32_t n, m;
};

/* Where one more edit leads to on diagonal k (old minus new), and the equal lines behind it; NONE when that is outside the box. */
static int32_t extend(const struct box *box, const int32_t *reached, int32_t k, bool backward)
{
    int32_t right = reached[k - 1] != NONE && reached[k - 1] < box->n ? reached[k - 1] + 1 : NONE;
    int32_t down = reached[k + 1] != NONE && reached[k + 1] - k <= box->m ? reached[k + 1] : NONE;
    int32_t x = right > down ? right : down, y = x - k;
    if (x == NONE)
        return NONE;
    if (backward)
        while (x < box->n && y < box->m && box->a[box->n - 1 - x] == box->b[box->m - 1 - y])
            x++, y++;
    else
        while (x < box->n && y < box->m && box->a[x] == box->b[y])
            x++, y++;
    return x;
}

struct point {
    int32_t x, y; /* lines of the box before it */
};

/* After COST_MAX edits: where the forward search came furthest. */
static struct point furthest(const int32_t *forward)
{
    struct point best = {0, 0};
    for (int32_t k = -COST_MAX; k <= COST_MAX; k += 2) {
        int32_t x = forward[k];
        if (x != NONE && 2 * x - k > best.x + best.y)
            best = (struct point){x, x - k};
    }
    return best;
}

/* A point that a shortest script passes, found by searching from both ends in turn. The box differs in its first and in its last line. */
static struct point middle(struct search *search, const struct box *box)
{
    int32_t *forward = search->forward_room + COST_MAX + 1, *backward = search->backward_room + COST_MAX + 1;
    int32_t delta = box->n - box->m;
    bool odd = delta % 2 != 0;
    forward[-1] = backward[-1] = NONE;
    forward[1] = backward[1] = 0; /* the edit before the first one */
    for (int32_t d = 0; d <= COST_MAX; d++) {
        if (d > 0)
            forward[-d - 1] = forward[d + 1] = backward[-d - 1] = backward[d + 1] = NONE;
        for (int32_t k = -d; k <= d; k += 2) {
            int32_t x = forward[k] = extend(box, forward, k, false), other = delta - k;
            if (odd && x != NONE && abs(other) < d && backward[other] != NONE && x + backward[other] >= box->n)
                return (struct point){x, x - k};
        }
        for (int32_t k = -d; k <= d; k += 2) {
            int32_t x = backward[k] = extend(box, backward, k, true), other = delta - k;
            if (!odd && x != NONE && abs(other) <= d && forward[other] != NONE && x + forward[other] >= box->n)
                return (struct point){box->n - x, box->m - (x - k)};
        }
    }
    return furthest(forward);
}

/* Marks what differs between the old lines [a, a_end) and the new ones [b, b_end). Calls itself for the half before the middle, whose
 * script is half as long, at most COST_MAX edits: nine deep. */
static void compare(struct search *search, uint32_t a, uint32_t a_end, uint32_t b, uint32_t b_end)
{
    const uint32_t *old_ids = search->old_side->ids, *new_ids = search->new_side->ids;
    for (;;) {
        while (a < a_end && b < b_end && old_ids[a] == new_ids[b])
            a++, b++;
        while (a < a_end && b < b_end && old_ids[a_end - 1] == new_ids[b_end - 1])
            a_end--, b_end--;
        if (a == a_end || b == b_end)
            break;
        const struct box box = {old_ids + a, new_ids + b, (int32_t)(a_end - a), (int32_t)(b_end - b)};
        struct point split = middle(search, &box);
        compare(search, a, a + (uint32_t)split.x, b, b + (uint32_t)split.y);
        a += (uint32_t)split.x;
        b += (uint32_t)split.y;
    }
    for (; a < a_end; a++)
        search->old_side->changed[search->old_side->lines[a]] = true;
    for (; b < b_end; b++)
        search->new_side->changed[search->new_side->lines[b]] = true;
}

/* Marks the changed lines of both sides. */
static bool sides_compare(struct side sides[2])
{
    uint32_t first = 0, last = 0;
    while (first < sides[0].count && first < sides[1].count && lines_are_equal(line_at(&sides[0], first), line_at(&sides[1], first)))
        first++;
    while (last < sides[0].count - first && last < sides[1].count - first &&
           lines_are_equal(line_at(&sides[0], sides[0].count - 1 - last), line_at(&sides[1], sides[1].count - 1 - last)))
        last++;
    const uint32_t counts[2] = {sides[0].count - first - last, sides[1].count - first - last};
    if (counts[0] == 0 || counts[1] == 0 || counts[0] > LINES_MAX || counts[1] > LINES_MAX) {
        memset(sides[0].changed + first, true, counts[0]);
        memset(sides[1].changed + first, true, counts[1]);
        return true;
    }
    struct search *search = malloc(sizeof *search);
    bool done = search && side_reserve(&sides[0], counts[0]) && side_reserve(&sides[1], counts[1]) &&
                lines_number(sides, first, counts, (uint32_t *const[2]){sides[0].ids, sides[1].ids});
    if (done) {
        search->old_side = &sides[0];
        search->new_side = &sides[1];
        side_keep(&sides[0], first, counts[0]);
        side_keep(&sides[1], first, counts[1]);
        compare(search, 0, sides[0].matchable_count, 0, sides[1].matchable_count);
    }
    free(search);
    return done;
}

/* --- hunks --- */

struct output {
    text_diff_write *write;
    void *user;
};

static void write_line(const struct output *output, char sign, struct line line)
{
    output->write(output->user, &sign, 1);
    output->write(output->user, line.text, line.size);
    output->write(output->user, "\n", 1);
}

/* A position in both texts, between two lines. */
struct position {
    uint32_t a, b;
};

static bool is_change(const struct side sides[2], struct position at)
{
    return (at.a < sides[0].count && sides[0].changed[at.a]) || (at.b < sides[1].count && sides[1].changed[at.b]);
}

static bool is_end(const struct side sides[2], struct position at)
{
    return at.a == sides[0].count && at.b == sides[1].count;
}

static struct position behind_change(const struct side sides[2], struct position at)
{
    while (at.a < sides[0].count && sides[0].changed[at.a])
        at.a++;
    while (at.b < sides[1].count && sides[1].changed[at.b])
        at.b++;
    return at;
}

/* The unchanged lines from here to the next change or the end. */
static uint32_t unchanged_count(const struct side sides[2], struct position at)
{
    uint32_t count = 0;
    for (; !is_end(sides, at) && !is_change(sides, at); at.a++, at.b++)
        count++;
    return count;
}

/* "3,2", or "3" for one line; an empty range is named by the line before it. */
static void range_print(char *out, size_t size, uint32_t begin, uint32_t end)
{
    if (end - begin == 1)
        snprintf(out, size, "%u", begin + 1);
    else
        snprintf(out, size, "%u,%u", end > begin ? begin + 1 : begin, end - begin);
}

static void hunk_write(const struct output *output, const struct side sides[2], struct position begin, struct position end)
{
    char old_range[24], new_range[24], header[64];
    range_print(old_range, sizeof old_range, begin.a, end.a);
    range_print(new_range, sizeof new_range, begin.b, end.b);
    int size = snprintf(header, sizeof header, "@@ -%s +%s @@\n", old_range, new_range);
    output->write(output->user, header, (size_t)size);
    for (struct position at = begin; at.a < end.a || at.b < end.b;) {
        struct position next = behind_change(sides, at);
        for (; at.a < next.a; at.a++)
            write_line(output, '-', line_at(&sides[0], at.a));
        for (; at.b < next.b; at.b++)
            write_line(output, '+', line_at(&sides[1], at.b));
        for (; at.a < end.a && !is_change(sides, at); at.a++, at.b++)
            write_line(output, ' ', line_at(&sides[0], at.a));
    }
}

/* Changes with at most 2 * context unchanged lines between them share a hunk. */
static void hunks_write(const struct output *output, const struct side sides[2], uint32_t context)
{
    struct position at = {0, 0};
    uint32_t before = 0; /* unchanged lines since the last hunk, or the begin */
    for (;;) {
        uint32_t gap = unchanged_count(sides, at);
        before += gap;
        at = (struct position){at.a + gap, at.b + gap};
        if (is_end(sides, at))
            return;
        uint32_t lead = before < context ? before : context, trail;
        struct position begin = {at.a - lead, at.b - lead};
        for (;;) {
            at = behind_change(sides, at);
            trail = unchanged_count(sides, at);
            if (trail > 2 * context || is_end(sides, (struct position){at.a + trail, at.b + trail}))
                break;
            at = (struct position){at.a + trail, at.b + trail};
        }
        trail = trail < context ? trail : context;
        at = (struct position){at.a + trail, at.b + trail};
        hunk_write(output, sides, begin, at);
        before = 0;
    }
}

static uint32_t changed_count(const struct side *side)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < side->count; i++)
        count += side->changed[i];
    return count;
}

bool text_diff_unified(struct text_diff_text old_text, struct text_diff_text new_text, unsigned context, text_diff_write *write, void *user,
                       struct text_diff_counts *out_counts)
{
    struct side sides[2] = {0};
    const struct output output = {write, user};
    bool old_ends = ends_in_newline(old_text), new_ends = ends_in_newline(new_text), both = old_text.size > 0 && new_text.size > 0;
    bool done = side_split(&sides[0], old_text, both && old_ends && !new_ends) &&
                side_split(&sides[1], new_text, both && new_ends && !old_ends) && sides_compare(sides);
    if (done) {
        *out_counts = (struct text_diff_counts){.added = changed_count(&sides[1]), .removed = changed_count(&sides[0])};
        hunks_write(&output, sides, context);
    }
    side_free(&sides[0]);
    side_free(&sides[1]);
    return done;
}
