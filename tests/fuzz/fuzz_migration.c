/* Files of a migrations folder: a name is taken for a migration only when it can be written again from what was read, and text is taken
 * apart into statements that together are the text. */
#include "fuzz.h"

#include "db/migrate_statement.h"
#include "db/migration_files.h"

#include <string.h>

enum { TEXT_MAX = 4096 };

static void check_name(const char *name)
{
    char revision[DB_REVISION_SIZE];
    enum db_migration_direction direction;
    if (!db_migration_name_parse(name, revision, &direction))
        return;
    const char *suffix = direction == DB_MIGRATION_UP ? ".up.sql" : ".down.sql";
    size_t length = strlen(name), digits = DB_REVISION_SIZE - 1;
    FUZZ_REQUIRE(strlen(revision) == digits && strspn(revision, "0123456789abcdef") == digits);
    FUZZ_REQUIRE(memcmp(name, revision, digits) == 0 && name[digits] == '_');
    FUZZ_REQUIRE(length > digits + 1 + strlen(suffix) && strcmp(name + length - strlen(suffix), suffix) == 0);
    FUZZ_REQUIRE(strchr(name, '/') == NULL);
}

static void check_statements(const char *text)
{
    while (*text != '\0') {
        const char *end = db_statement_end(text);
        FUZZ_REQUIRE(end > text && end <= text + strlen(text));
        FUZZ_REQUIRE(*end == '\0' || end[-1] == ';');
        text = end;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[TEXT_MAX + 1];
    size_t length = size < TEXT_MAX ? size : TEXT_MAX;
    memcpy(text, data, length);
    text[length] = '\0';
    check_name(text);
    check_statements(text);
    return 0;
}
