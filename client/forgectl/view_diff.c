#include "view.h"

#include <string.h>

static enum terminal_style style_of_line(char first)
{
    return first == '+' ? TERMINAL_GOOD : first == '-' ? TERMINAL_BAD : first == '@' ? TERMINAL_PLACE : TERMINAL_PLAIN;
}

static void print_line(FILE *out, const struct terminal *terminal, enum terminal_style style, const char *line, size_t length)
{
    terminal_print(terminal, out, style, line, length);
    fputc('\n', out);
}

static void print_head(FILE *out, const struct terminal *terminal, const char *sign, const char *field, int version)
{
    char line[128];
    int length = snprintf(line, sizeof line, "%s %.80s (version %d)", sign, field, version);
    print_line(out, terminal, TERMINAL_STRONG, line, (size_t)length);
}

void view_diff(FILE *out, const struct terminal *terminal, const Forge__V1__DiffPromptVersionsResponse *diff)
{
    if (diff->n_diffs == 0)
        fprintf(out, "Versions %d and %d are the same.\n", (int)diff->base_version, (int)diff->target_version);
    for (size_t i = 0; i < diff->n_diffs; i++) {
        const Forge__V1__FieldDiff *field = diff->diffs[i];
        print_head(out, terminal, "---", field->field, (int)diff->base_version);
        print_head(out, terminal, "+++", field->field, (int)diff->target_version);
        for (const char *line = field->unified_diff; *line;) {
            size_t length = strcspn(line, "\n");
            print_line(out, terminal, style_of_line(*line), line, length);
            line += length + (line[length] == '\n');
        }
    }
}
