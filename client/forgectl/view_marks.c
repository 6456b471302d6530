#include "view_marks.h"

#include "output.h"
#include "view_text.h"

#include <stdlib.h>
#include <string.h>

/* Columns shown before the first mark of a row, and the least that a row has whatever the terminal's width. */
enum { LEAD = 16, WIDTH_LEAST = 32 };

/* Bytes of the text, from up to before to. A mark may take in the end of the text, as if a character stood there. */
struct span {
    size_t from, to;
};

struct marked {
    FILE *out;
    const struct terminal *terminal;
    struct forge_arena *arena;
    enum terminal_style style;
    const char *text;
    size_t size;
    struct span *marks;      /* ascending, none touches the next */
    size_t mark_count, next; /* next: the first that does not end before the line in hand */
    int number_width;
    unsigned width;      /* columns of a row's text */
    size_t rows, hidden; /* rows with marks: shown, and lines with some that are not */
};

/* ---- characters ---- */

static bool is_inside(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

static size_t character_begin(const char *text, size_t at)
{
    while (at > 0 && is_inside(text[at]))
        at--;
    return at;
}

/* Behind the character at this byte; the end of the text counts as one. */
static size_t character_end(const struct marked *marked, size_t at)
{
    at++;
    while (at < marked->size && is_inside(marked->text[at]))
        at++;
    return at;
}

static size_t columns_of(const struct marked *marked, size_t from, size_t to)
{
    return text_width(view_text_visible(marked->arena, marked->text + from, to - from));
}

/* ---- marks ---- */

static int compare_spans(const void *a, const void *b)
{
    const struct span *left = a, *right = b;
    return (left->from > right->from) - (left->from < right->from);
}

/* Whole characters; an empty range stands for the character that it is at. False for what lies outside of the text. */
static bool take_range(const struct marked *marked, const Forge__V1__TextRange *range, struct span *out)
{
    if (range->start_byte < 0 || (uint64_t)range->start_byte > marked->size || range->end_byte < range->start_byte)
        return false;
    size_t to = (uint64_t)range->end_byte < marked->size ? (size_t)range->end_byte : marked->size;
    out->from = character_begin(marked->text, (size_t)range->start_byte);
    out->to = character_end(marked, to > out->from ? to - 1 : out->from);
    return true;
}

static void take_ranges(struct marked *marked, Forge__V1__TextRange *const *ranges, size_t count)
{
    marked->marks = forge_arena_calloc(marked->arena, count + 1, sizeof *marked->marks);
    for (size_t i = 0; marked->marks && i < count; i++)
        marked->mark_count += take_range(marked, ranges[i], &marked->marks[marked->mark_count]);
    if (!marked->mark_count)
        return;
    qsort(marked->marks, marked->mark_count, sizeof *marked->marks, compare_spans);
    size_t last = 0;
    for (size_t i = 1; i < marked->mark_count; i++) {
        if (marked->marks[i].from > marked->marks[last].to)
            marked->marks[++last] = marked->marks[i];
        else if (marked->marks[i].to > marked->marks[last].to)
            marked->marks[last].to = marked->marks[i].to;
    }
    marked->mark_count = last + 1;
}

/* The first mark that reaches behind from and begins before to; NULL = none. */
static const struct span *mark_between(const struct marked *marked, size_t from, size_t to)
{
    size_t i = marked->next;
    while (i < marked->mark_count && marked->marks[i].to <= from)
        i++;
    return i < marked->mark_count && marked->marks[i].from < to ? &marked->marks[i] : NULL;
}

/* ---- a row ---- */

/* What stands below a row. */
struct carets {
    size_t column, printed; /* of the text above so far, of the carets */
    bool has_any;
};

static void print_gutter(const struct marked *marked, size_t line)
{
    if (line)
        fprintf(marked->out, "  %*zu | ", marked->number_width, line);
    else
        fprintf(marked->out, "  %*s | ", marked->number_width, "");
}

/* A piece that is marked or not as a whole. */
static void print_piece(const struct marked *marked, const char *visible, bool is_marked)
{
    terminal_print(marked->terminal, marked->out, is_marked ? marked->style : TERMINAL_PLAIN, visible, strlen(visible));
}

/* A mark without columns (accents alone, the end of the text) has its caret at the column it belongs to. */
static void print_carets(const struct marked *marked, struct carets *carets, size_t columns, bool is_marked, bool is_accent)
{
    if (is_marked) {
        size_t from = columns || !is_accent || !carets->column ? carets->column : carets->column - 1;
        for (; carets->printed < from; carets->printed++)
            fputc(' ', marked->out);
        for (size_t i = 0; i < (columns ? columns : 1); i++, carets->printed++)
            fputc('^', marked->out);
    }
    carets->column += columns;
}

/* Is a line break worth a sign? Where a mark begins or ends with it; not where a mark goes on in the next line. */
static bool shows_break(const struct marked *marked, size_t at)
{
    const struct span *mark = mark_between(marked, at, at + 1);
    return mark && (mark->from == at || mark->to == at + 1);
}

/* Goes through the pieces of a row: for the text itself, or for the carets below it. */
static void print_pieces(const struct marked *marked, size_t from, size_t to, struct carets *carets)
{
    while (from < to) {
        const struct span *mark = mark_between(marked, from, to);
        bool is_marked = mark && mark->from <= from;
        size_t end = !mark ? to : is_marked ? mark->to : mark->from;
        end = end < to ? end : to;
        end = from < marked->size && end > marked->size ? marked->size : end;
        bool is_end = from == marked->size, is_accent = !is_end;
        const char *visible = is_end ? " " : view_text_visible(marked->arena, marked->text + from, end - from);
        if (carets)
            print_carets(marked, carets, is_end ? 0 : text_width(visible), is_marked, is_accent);
        else if (!is_end || marked->terminal->has_colour)
            print_piece(marked, visible, is_marked);
        from = end;
    }
}

static void print_row(const struct marked *marked, size_t line, size_t from, size_t to, bool is_cut_before, bool is_cut_behind)
{
    const char *dots = marked->terminal->has_blocks ? "…" : "...";
    struct carets carets = {.column = is_cut_before ? text_width(dots) : 0};
    print_gutter(marked, line);
    fputs(is_cut_before ? dots : "", marked->out);
    print_pieces(marked, from, to, NULL);
    fprintf(marked->out, "%s\n", is_cut_behind ? dots : "");
    if (marked->terminal->has_colour || from == to || !mark_between(marked, from, to))
        return;
    print_gutter(marked, 0);
    print_pieces(marked, from, to, &carets);
    fputc('\n', marked->out);
}

/* ---- a line ---- */

/* The end of the longest piece from here on, at least a character, that takes no more columns. */
static size_t fit(const struct marked *marked, size_t from, size_t to, size_t columns)
{
    size_t used = 0, at = from;
    while (at < to) {
        size_t next = character_end(marked, at);
        next = next < to ? next : to;
        used += at < marked->size ? columns_of(marked, at, next) : 1;
        if (used > columns && at > from)
            return at;
        at = next;
    }
    return to;
}

/* So far before a mark, not before least, that its surroundings can be seen. */
static size_t lead_in(const struct marked *marked, size_t mark, size_t least)
{
    size_t at = mark;
    while (at > least) {
        size_t before = character_begin(marked->text, at - 1);
        if (before < least || columns_of(marked, before, mark) > LEAD)
            break;
        at = before;
    }
    return at;
}

/* A line that does not fit, cut around its marks. */
static void print_long_line(struct marked *marked, size_t line, size_t from, size_t to)
{
    size_t dots = text_width(marked->terminal->has_blocks ? "…" : "...");
    for (size_t at = from; at < to;) {
        const struct span *mark = mark_between(marked, at, to);
        if (!mark)
            return;
        if (marked->rows == VIEW_MARKS_ROWS) {
            marked->hidden++;
            return;
        }
        size_t begin = lead_in(marked, mark->from > at ? mark->from : at, at), end = fit(marked, begin, to, marked->width - 2 * dots);
        print_row(marked, line, begin, end, begin > from, end < to);
        marked->rows++;
        at = end;
    }
}

static void print_line(struct marked *marked, size_t line, size_t from, size_t to)
{
    bool is_marked = mark_between(marked, from, to);
    size_t dots = text_width(marked->terminal->has_blocks ? "…" : "..."), end = fit(marked, from, to, marked->width);
    if (is_marked && end < to) {
        print_long_line(marked, line, from, to);
        return;
    }
    if (is_marked && marked->rows == VIEW_MARKS_ROWS) {
        marked->hidden++;
        return;
    }
    marked->rows += is_marked;
    if (end < to)
        print_row(marked, line, from, fit(marked, from, to, marked->width - dots), false, true);
    else
        print_row(marked, line, from, to, false, false);
}

/* ---- the text ---- */

/* Where the line that begins here ends, without its break. */
static size_t line_end(const struct marked *marked, size_t from)
{
    const char *end = from < marked->size ? memchr(marked->text + from, '\n', marked->size - from) : NULL;
    return end ? (size_t)(end - marked->text) : marked->size;
}

/* What is shown of the line: its break, or the end of the text, where a mark asks for it. */
static size_t shown_end(const struct marked *marked, size_t end)
{
    return shows_break(marked, end) ? end + 1 : end;
}

static void print_lines(struct marked *marked)
{
    bool was_marked = false;
    size_t line = 1, from = 0;
    for (;; line++) {
        size_t end = line_end(marked, from), next = end + 1;
        while (marked->next < marked->mark_count && marked->marks[marked->next].to <= from)
            marked->next++;
        bool is_last = next > marked->size, is_marked = mark_between(marked, from, next);
        bool is_before = !is_last && mark_between(marked, next, line_end(marked, next) + 1);
        bool is_shown = is_marked || ((was_marked || is_before) && marked->rows < VIEW_MARKS_ROWS && (from < end || !is_last));
        if (is_shown)
            print_line(marked, line, from, shown_end(marked, end));
        if (is_last)
            return;
        was_marked = is_marked;
        from = next;
    }
}

static int digits_of(size_t number)
{
    int digits = 1;
    for (; number >= 10; number /= 10)
        digits++;
    return digits;
}

void view_marks(FILE *out, const struct terminal *terminal, struct forge_arena *arena, enum terminal_style style, const char *text,
                Forge__V1__TextRange *const *ranges, size_t count)
{
    enum { AROUND_NUMBER = 5 };
    struct marked marked = {.out = out, .terminal = terminal, .arena = arena, .style = style, .text = text, .size = strlen(text)};
    size_t line, character;
    take_ranges(&marked, ranges, count);
    if (!marked.mark_count)
        return;
    view_marks_position(text, marked.marks[marked.mark_count - 1].to, &line, &character);
    marked.number_width = digits_of(line + 1); /* that of a line behind it too */
    unsigned gutter = (unsigned)marked.number_width + AROUND_NUMBER;
    marked.width = terminal->columns >= gutter + WIDTH_LEAST ? terminal->columns - gutter : WIDTH_LEAST;
    print_lines(&marked);
    if (marked.hidden)
        fprintf(out, "  and %zu more line%s with marks\n", marked.hidden, marked.hidden == 1 ? "" : "s");
}

void view_marks_position(const char *text, size_t byte, size_t *out_line, size_t *out_character)
{
    *out_line = *out_character = 1;
    for (size_t i = 0; i < byte && text[i]; i++) {
        if (text[i] == '\n') {
            ++*out_line;
            *out_character = 1;
        } else if (!is_inside(text[i + 1])) {
            ++*out_character;
        }
    }
}
