#include "output.h"

#include <stdlib.h>
#include <string.h>
#include <wchar.h>

enum { COLUMNS_MAX = 16 };

const char **table_add_row(struct table *table)
{
    if (table->rows == table->capacity) {
        size_t capacity = table->capacity ? table->capacity * 2 : 32;
        const char **grown = realloc(table->cells, capacity * table->columns * sizeof(*grown));
        if (!grown)
            return NULL;
        table->cells = grown;
        table->capacity = capacity;
    }
    const char **row = table->cells + table->rows++ * table->columns;
    for (size_t i = 0; i < table->columns; i++)
        row[i] = "";
    return row;
}

/* One character, or one style of terminal_text: what comes from a server has no control characters. Its bytes, and its columns. */
static size_t take_character(const char *text, size_t left, mbstate_t *state, size_t *out_columns)
{
    wchar_t character;
    *out_columns = 0;
    if (*text == '\033') {
        size_t length = strcspn(text, "m") + 1;
        return length < left ? length : left;
    }
    size_t used = mbrtowc(&character, text, left, state);
    if (used == 0 || used > left) { /* not UTF-8: count bytes */
        memset(state, 0, sizeof *state);
        *out_columns = 1;
        return 1;
    }
    int columns = wcwidth(character);
    *out_columns = columns > 0 ? (size_t)columns : 0;
    return used;
}

size_t text_width(const char *text)
{
    mbstate_t state;
    size_t width = 0, columns;
    memset(&state, 0, sizeof state);
    for (size_t left = strlen(text); left;) {
        size_t used = take_character(text, left, &state, &columns);
        text += used;
        left -= used;
        width += columns;
    }
    return width;
}

size_t text_fit(const char *text, size_t columns, size_t *out_used)
{
    mbstate_t state;
    size_t length = strlen(text), fits = 0, wide;
    *out_used = 0;
    memset(&state, 0, sizeof state);
    while (fits < length) {
        size_t used = take_character(text + fits, length - fits, &state, &wide);
        if (wide > columns - *out_used)
            break;
        fits += used;
        *out_used += wide;
    }
    return fits;
}

void table_print(const struct table *table, FILE *out)
{
    size_t widths[COLUMNS_MAX] = {0};
    for (size_t row = 0; row < table->rows; row++)
        for (size_t i = 0; i < table->columns && i < COLUMNS_MAX; i++) {
            size_t width = text_width(table->cells[row * table->columns + i]);
            widths[i] = width > widths[i] ? width : widths[i];
        }
    for (size_t row = 0; row < table->rows; row++) {
        for (size_t i = 0; i < table->columns && i < COLUMNS_MAX; i++) {
            const char *cell = table->cells[row * table->columns + i];
            bool is_last = i + 1 == table->columns;
            fprintf(out, "%s%*s", cell, is_last ? 0 : (int)(widths[i] - text_width(cell) + 2), "");
        }
        fputc('\n', out);
    }
}

void table_free(struct table *table)
{
    free(table->cells);
    memset(table, 0, sizeof *table);
}
