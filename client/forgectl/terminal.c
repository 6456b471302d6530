#include "terminal.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { COLUMNS_MAX = 9999, EIGHTHS = 8 };

/* ---- what is decided ---- */

bool terminal_decide_colour(bool is_terminal, const char *term, const char *no_color)
{
    bool is_able = term && *term && strcmp(term, "dumb") != 0, is_unwanted = no_color && *no_color;
    return is_terminal && is_able && !is_unwanted;
}

unsigned terminal_decide_columns(const char *columns_variable, unsigned of_terminal)
{
    char *end = NULL;
    long columns = columns_variable ? strtol(columns_variable, &end, 10) : 0;
    if (columns >= 1 && columns <= COLUMNS_MAX && !*end)
        return (unsigned)columns;
    return of_terminal ? of_terminal : TERMINAL_COLUMNS;
}

void terminal_open(struct terminal *terminal)
{
    struct winsize size = {.ws_col = 0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
        size.ws_col = 0;
    terminal->columns = terminal_decide_columns(getenv("COLUMNS"), size.ws_col);
    terminal->has_blocks = setlocale(LC_CTYPE, "") && strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    /* What the server sends is UTF-8: the widths of its characters are needed for tables, whatever the terminal's language is. */
    if (!terminal->has_blocks)
        setlocale(LC_CTYPE, "C.UTF-8");
}

bool terminal_set_colour(struct terminal *terminal, const char *choice)
{
    bool is_auto = !choice || !strcmp(choice, "auto"), is_always = choice && !strcmp(choice, "always");
    terminal->has_colour = is_always;
    if (is_auto)
        terminal->has_colour = terminal_decide_colour(isatty(STDOUT_FILENO), getenv("TERM"), getenv("NO_COLOR"));
    return is_auto || is_always || !strcmp(choice, "never");
}

/* ---- what is printed ---- */

/* Select Graphic Rendition (ECMA-48) of each style. */
static const char *const codes[] = {
    [TERMINAL_PLAIN] = "",
    [TERMINAL_STRONG] = "\033[1m",
    [TERMINAL_GOOD] = "\033[32m",
    [TERMINAL_BAD] = "\033[31m",
    [TERMINAL_WARN] = "\033[33m",
    [TERMINAL_PLACE] = "\033[36m",
    [TERMINAL_MARK_BAD] = "\033[4;31m",
    [TERMINAL_MARK_WARN] = "\033[4;33m",
    [TERMINAL_MARK_PLACE] = "\033[4;36m",
};
static const char reset[] = "\033[0m";

void terminal_print(const struct terminal *terminal, FILE *out, enum terminal_style style, const char *text, size_t length)
{
    bool is_styled = terminal->has_colour && style != TERMINAL_PLAIN && length > 0;
    if (is_styled)
        fputs(codes[style], out);
    fwrite(text, 1, length, out);
    if (is_styled)
        fputs(reset, out);
}

const char *terminal_text(const struct terminal *terminal, struct forge_arena *arena, enum terminal_style style, const char *text)
{
    if (!terminal->has_colour || style == TERMINAL_PLAIN || !*text)
        return text;
    return forge_arena_printf(arena, "%s%s%s", codes[style], text, reset);
}

void terminal_print_bar(const struct terminal *terminal, FILE *out, enum terminal_style style, double share, unsigned width)
{
    static const char *const parts[EIGHTHS] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    char bar[TERMINAL_BAR_MAX * sizeof "█"] = "";
    width = width < TERMINAL_BAR_MAX ? width : TERMINAL_BAR_MAX;
    double steps_in_all = terminal->has_blocks ? width * EIGHTHS : width;
    double clipped = share < 0 ? 0 : share > 1 ? 1 : share;
    unsigned steps = (unsigned)(clipped * steps_in_all + 0.5);
    if (steps == 0 && share > 0 && width > 0)
        steps = 1;
    unsigned whole = terminal->has_blocks ? steps / EIGHTHS : steps, rest = terminal->has_blocks ? steps % EIGHTHS : 0;
    for (unsigned i = 0; i < whole; i++)
        strcat(bar, terminal->has_blocks ? "█" : "#");
    strcat(bar, parts[rest]);
    terminal_print(terminal, out, style, bar, strlen(bar));
    fprintf(out, "%*s", (int)(width - whole - (rest > 0)), "");
}

static unsigned column_at(double share, unsigned width)
{
    return share <= 0 ? 0 : share >= 1 ? width : (unsigned)(share * width);
}

void terminal_print_interval(const struct terminal *terminal, FILE *out, enum terminal_style style, double from, double to, unsigned width)
{
    unsigned first = column_at(from, width), behind = column_at(to, width);
    bool is_styled = terminal->has_colour && style != TERMINAL_PLAIN;
    if (width == 0)
        return;
    first = first < width ? first : width - 1;
    behind += behind < width && behind < to * width; /* a column that is begun counts */
    behind = behind > first ? behind : first + 1;
    fprintf(out, "%*s%s", (int)first, "", is_styled ? codes[style] : "");
    for (unsigned i = first; i < behind; i++)
        fputs(terminal->has_blocks ? "█" : "#", out);
    fprintf(out, "%s%*s", is_styled ? reset : "", (int)(width - behind), "");
}
