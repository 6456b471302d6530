/* A manifest: objects or problems, each problem with its text; whatever it holds, reading it ends. */
#include "fuzz.h"

#include "manifest.h"

#include <string.h>

static void require_object(const struct manifest_object *object)
{
    FUZZ_REQUIRE(object->kind && object->request && object->request->descriptor == object->kind->shape.type);
    FUZZ_REQUIRE(object->name && object->position.line && object->position.column);
    FUZZ_REQUIRE(protobuf_c_message_check(object->request));
    for (size_t i = 0; i < object->part_count; i++)
        FUZZ_REQUIRE(object->parts[i]->descriptor == object->kind->list_shape.type && protobuf_c_message_check(object->parts[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct forge_arena arena;
    struct manifest manifest = {.arena = &arena};
    forge_arena_init(&arena, 64 << 20, NULL);
    manifest_read(&manifest, "m", (const char *)data, size);
    if (!manifest.problem_count)
        manifest_check(&manifest);
    FUZZ_REQUIRE(manifest.problem_count || manifest.object_count);
    size_t problems = 0, objects = 0;
    for (const struct manifest_problem *problem = manifest.problems; problem; problem = problem->next, problems++)
        FUZZ_REQUIRE(strncmp(problem->text, "m:", 2) == 0 || strncmp(problem->text, "the manifest:", 13) == 0);
    FUZZ_REQUIRE(problems <= MANIFEST_PROBLEMS_MAX && problems <= manifest.problem_count);
    for (const struct manifest_object *object = manifest.objects; object; object = object->next, objects++)
        if (!manifest.problem_count)
            require_object(object);
    FUZZ_REQUIRE(objects == manifest.object_count);
    forge_arena_done(&arena);
    return 0;
}
