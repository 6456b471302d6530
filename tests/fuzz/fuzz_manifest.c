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

/* The same bytes as the file of one message: a message or problems. */
static void read_as_message(const uint8_t *data, size_t size)
{
    static const struct manifest_shape shape = {.type = &forge__v1__create_evaluation_request__descriptor, .hidden = {"prompt_id"}};
    struct forge_arena arena;
    struct manifest manifest = {.arena = &arena};
    forge_arena_init(&arena, 64 << 20, NULL);
    const ProtobufCMessage *message = manifest_read_message(&manifest, "m", (const char *)data, size, &shape);
    FUZZ_REQUIRE((message != NULL) == (manifest.problem_count == 0));
    FUZZ_REQUIRE(!message || (message->descriptor == shape.type && protobuf_c_message_check(message)));
    forge_arena_done(&arena);
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
    read_as_message(data, size);
    return 0;
}
