#include "db/migrate_statement.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || ((unsigned char)c & 0x80) != 0;
}

/* Behind the quoted text that begins at text; a doubled quote is one of it. escapes: as in E'it\'s'. */
static const char *quoted_end(const char *text, bool escapes)
{
    char quote = *text++;
    for (; *text != '\0'; text++) {
        if (escapes && *text == '\\' && text[1] != '\0')
            text++;
        else if (*text == quote && text[1] == quote)
            text++;
        else if (*text == quote)
            return text + 1;
    }
    return text;
}

/* Behind the text quoted by $$ or $tag$; behind the dollar sign when it is none, as in $1. */
static const char *dollar_end(const char *text)
{
    size_t length = 1;
    if (!isdigit((unsigned char)text[1]))
        while (is_word(text[length]))
            length++;
    if (text[length] != '$')
        return text + 1;
    length++;
    for (const char *end = strchr(text + length, '$'); end != NULL; end = strchr(end + 1, '$'))
        if (strncmp(end, text, length) == 0)
            return end + length;
    return text + strlen(text);
}

/* Behind the comment that begins at text; they nest. */
static const char *comment_end(const char *text)
{
    unsigned depth = 0;
    while (*text != '\0') {
        if (strncmp(text, "/*", 2) == 0) {
            depth++;
            text += 2;
        } else if (strncmp(text, "*/", 2) == 0) {
            text += 2;
            if (--depth == 0)
                return text;
        } else {
            text++;
        }
    }
    return text;
}

const char *db_statement_end(const char *text)
{
    int depth = 0;
    char before = ' ', second = ' '; /* what stands before text */
    while (*text != '\0') {
        const char *from = text;
        if (*text == '\'')
            text = quoted_end(text, (before == 'E' || before == 'e') && !is_word(second));
        else if (*text == '"')
            text = quoted_end(text, false);
        else if (*text == '$' && !is_word(before))
            text = dollar_end(text);
        else if (strncmp(text, "--", 2) == 0)
            text += strcspn(text, "\n");
        else if (strncmp(text, "/*", 2) == 0)
            text = comment_end(text);
        else if (*text == ';' && depth <= 0)
            return text + 1;
        else
            depth += (*text == '(') - (*text == ')'), text++;
        second = text - from > 1 ? ' ' : before;
        before = text[-1];
    }
    return text;
}
