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

size_t text_width(const char *text)
{
    mbstate_t state;
    size_t width = 0, left = strlen(text);
    memset(&state, 0, sizeof state);
    while (left) {
        wchar_t character;
        if (*text == '\033') { /* a style of terminal_text: what comes from a server has no control characters */
            size_t length = strcspn(text, "m") + 1;
            length = length < left ? length : left;
            text += length;
            left -= length;
            continue;
        }
        size_t used = mbrtowc(&character, text, left, &state);
        if (used == 0 || used > left) { /* not UTF-8: count bytes */
            memset(&state, 0, sizeof state);
            used = 1;
            width++;
        } else {
            int columns = wcwidth(character);
            width += columns > 0 ? (size_t)columns : 0;
        }
        text += used;
        left -= used;
    }
    return width;
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
