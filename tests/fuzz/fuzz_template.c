/* Templates are written by everybody who may write a prompt: whatever they hold, they are refused with a place, or rendered with what
 * stands for each name and reference. */
#include "fuzz.h"

#include "wire/template.h"

#include <stdbool.h>
#include <string.h>

enum { TEXT_MAX = 4096, ARENA_MAX = 16 << 20 };

/* Each placeholder stands for itself, so that what is rendered says again what was scanned. With a space, as a prompt's name may end in }.
 */
static struct forge_template_variable *stand_for_themselves(struct forge_arena *arena, const char *opening, const char *const *names,
                                                            size_t count)
{
    struct forge_template_variable *values = forge_arena_calloc(arena, count, sizeof *values);
    FUZZ_REQUIRE(values != NULL);
    for (size_t i = 0; i < count; i++)
        values[i] = (struct forge_template_variable){names[i], forge_arena_printf(arena, "%s%s }}", opening, names[i])};
    return values;
}

static void check_references(const struct forge_template_names *names)
{
    for (size_t i = 0; i < names->reference_count; i++) {
        const struct forge_template_reference *reference = &names->references[i];
        size_t length = strlen(reference->name);
        FUZZ_REQUIRE(length > 0 && strncmp(reference->text, reference->name, length) == 0);
        FUZZ_REQUIRE(reference->version >= 0 && (reference->version == 0 || reference->label == NULL));
        FUZZ_REQUIRE(reference->label == NULL || (reference->label[0] != '\0' && reference->text[length] == '@'));
    }
}

/* Scans the result again and finds the same names in the same order. */
static void check_result(struct forge_arena *arena, const char *result, const struct forge_template_names *names)
{
    struct forge_template_names again;
    struct forge_error error;
    FUZZ_REQUIRE(forge_template_scan(result, arena, &again, &error) == FORGE_OK);
    FUZZ_REQUIRE(again.count == names->count && again.reference_count == names->reference_count);
    for (size_t i = 0; i < names->count; i++)
        FUZZ_REQUIRE(strcmp(again.names[i], names->names[i]) == 0);
    for (size_t i = 0; i < names->reference_count; i++)
        FUZZ_REQUIRE(strcmp(again.references[i].text, names->references[i].text) == 0);
}

static void check(struct forge_arena *arena, const char *text)
{
    struct forge_template_names names;
    struct forge_error error = {0};
    char *result = NULL;
    if (forge_template_scan(text, arena, &names, &error) != FORGE_OK) {
        FUZZ_REQUIRE(error.code == FORGE_INVALID_ARGUMENT && strncmp(error.message, "template: ", 10) == 0);
        return;
    }
    check_references(&names);
    const char **texts = forge_arena_calloc(arena, names.reference_count, sizeof *texts);
    FUZZ_REQUIRE(texts != NULL);
    for (size_t i = 0; i < names.reference_count; i++)
        texts[i] = names.references[i].text;
    const struct forge_template_values values = {stand_for_themselves(arena, "{{", names.names, names.count),
                                                 stand_for_themselves(arena, "{{> ", texts, names.reference_count), names.count,
                                                 names.reference_count};
    FUZZ_REQUIRE(forge_template_render(text, &values, 2 * TEXT_MAX, arena, &result, &error) == FORGE_OK);
    if (strchr(text, '\\') == NULL) /* an escape becomes a brace that the second scan would take for a placeholder */
        check_result(arena, result, &names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[TEXT_MAX + 1];
    struct forge_arena arena;
    size_t length = size < TEXT_MAX ? size : TEXT_MAX;
    memcpy(text, data, length);
    text[length] = '\0';
    forge_arena_init(&arena, ARENA_MAX, NULL);
    check(&arena, text);
    forge_arena_done(&arena);
    return 0;
}
