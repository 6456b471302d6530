/* Traces with their spans, and what is said about them. */
#include "apply.h"
#include "apply_fields.h"
#include "span_batch.h"

#include <string.h>
#include <time.h>

enum { PROJECT, PROMPT, SECONDS_PER_HOUR = 3600, PART_SIZE = 32 };

static const int64_t second_ns = 1000000000;

/* ---- traces ---- */

/* One call stores all of them or none: a trace that is there is there as a whole. */
static bool check_spans(struct apply *apply, const struct apply_object *object)
{
    size_t count = object->manifest->part_count;
    if (count >= 1 && count <= SPAN_BATCH)
        return true;
    manifest_add_problem(&apply->manifest, &object->manifest->position, "spans: a trace of a manifest has 1 to %d", SPAN_BATCH);
    return false;
}

int apply_plan_trace(struct apply *apply, struct apply_object *object)
{
    Forge__V1__GetTraceRequest request = FORGE__V1__GET_TRACE_REQUEST__INIT;
    const char *project_id = object->references[PROJECT]->id;
    size_t count = object->manifest->part_count;
    int code = CLI_OK;
    if (!check_spans(apply, object))
        return CLI_OK;
    request.page_size = 1;
    field_set_text(&request.base, "project_id", project_id);
    field_set_text(&request.base, "trace_id", object->name);
    if (project_id)
        code = apply_call_optional(apply, object->kind->lookup, &request.base, &object->found);
    if (code != CLI_OK)
        return code;
    object->action = object->found ? APPLY_UNCHANGED : APPLY_CREATE;
    object->details = forge_arena_printf(&apply->cli->arena, "%zu span%s", count, count == 1 ? "" : "s");
    return object->details ? CLI_OK : cli_fail(CLI_FAILED, "no memory");
}

/* A span of the manifest as it is sent: with what holds for all of the trace, and a prompt where it names its version or label. NULL
 * without memory. */
static Forge__V1__Span *make_span(struct apply *apply, const struct apply_object *object, const ProtobufCMessage *part, int64_t now_ns)
{
    struct forge_arena *arena = &apply->cli->arena;
    const Forge__V1__Span *common = (const Forge__V1__Span *)object->manifest->request, *wanted = (const Forge__V1__Span *)part;
    Forge__V1__Span *span = (Forge__V1__Span *)field_message_copy(arena, part);
    if (!span)
        return NULL;
    field_fill(arena, &span->base, &common->base);
    span->start_ns = now_ns + common->start_ns + wanted->start_ns;
    span->end_ns = span->start_ns + wanted->end_ns;
    if (object->references[PROMPT] && (span->prompt_version || *span->prompt_label))
        field_set_text(&span->base, "prompt_id", object->references[PROMPT]->id);
    return span;
}

struct settling {
    const struct apply_object *object;
    int rejection; /* exit code of a rejected span, CLI_OK = none */
};

static void settle(void *context, size_t place, const Forge__V1__SpanVerdict *span)
{
    struct settling *settling = context;
    char part[PART_SIZE];
    snprintf(part, sizeof part, "spans[%zu]: ", place);
    int code = apply_check_verdict(&settling->object->manifest->position, part, span->verdict);
    settling->rejection = code != CLI_OK ? code : settling->rejection;
}

int apply_run_trace(struct apply *apply, struct apply_object *object)
{
    struct span_sender sender = {.cli = apply->cli, .project_id = forge_arena_strdup(&apply->cli->arena, object->references[PROJECT]->id)};
    struct settling settling = {.object = object};
    struct span_batch batch = {.count = 0};
    int64_t now_ns = (int64_t)(time(NULL) / SECONDS_PER_HOUR * SECONDS_PER_HOUR) * second_ns;
    for (; batch.count < object->manifest->part_count; batch.count++) {
        batch.spans[batch.count] = make_span(apply, object, object->manifest->parts[batch.count], now_ns);
        batch.places[batch.count] = batch.count;
        if (!batch.spans[batch.count])
            return cli_fail(CLI_FAILED, "no memory");
    }
    int code = sender.project_id ? span_batch_send(&sender, &batch, settle, &settling) : cli_fail(CLI_FAILED, "no memory");
    return code == CLI_OK ? settling.rejection : code;
}

/* ---- scores ---- */

static const Forge__V1__Score *score_of(const struct manifest_object *wanted)
{
    return (const Forge__V1__Score *)wanted->request;
}

static const char *target_name(struct apply *apply, const Forge__V1__Score *score)
{
    switch (score->target_case) {
    case FORGE__V1__SCORE__TARGET_TRACE_ID:
        return score->trace_id;
    case FORGE__V1__SCORE__TARGET_SPAN:
        return forge_arena_printf(&apply->cli->arena, "%s/%s", score->span->trace_id, score->span->span_id);
    case FORGE__V1__SCORE__TARGET_SESSION_ID:
        return forge_arena_printf(&apply->cli->arena, "session %s", score->session_id);
    case FORGE__V1__SCORE__TARGET_EXECUTION_ID: /* hidden: an id that the server gives */
    case FORGE__V1__SCORE__TARGET__NOT_SET:
    case _FORGE__V1__SCORE__TARGET__CASE_IS_INT_SIZE:
        break;
    }
    return "";
}

const char *apply_score_name(struct apply *apply, const struct manifest_object *wanted)
{
    const Forge__V1__Score *score = score_of(wanted);
    const char *target = target_name(apply, score);
    return target ? forge_arena_printf(&apply->cli->arena, "%s by %s of %s", score->name, score->author, target) : NULL;
}

/* What it is found by. */
static bool check_identity(struct apply *apply, const struct apply_object *object)
{
    const Forge__V1__Score *score = score_of(object->manifest);
    const char *missing = !*score->name                                             ? "name"
                          : !*score->author                                         ? "author"
                          : score->target_case == FORGE__V1__SCORE__TARGET__NOT_SET ? "trace_id, span or session_id"
                                                                                    : NULL;
    if (missing)
        manifest_add_problem(&apply->manifest, &object->manifest->position, "%s is missing: a manifest finds a score by it", missing);
    return !missing;
}

static bool has_same_value(const Forge__V1__Score *wanted, const Forge__V1__Score *found)
{
    if (wanted->value_case != found->value_case)
        return false;
    switch (wanted->value_case) {
    case FORGE__V1__SCORE__VALUE_NUMBER:
        return wanted->number == found->number;
    case FORGE__V1__SCORE__VALUE_CATEGORY:
        return !strcmp(wanted->category, found->category);
    case FORGE__V1__SCORE__VALUE_BOOLEAN:
        return wanted->boolean == found->boolean;
    case FORGE__V1__SCORE__VALUE_TEXT:
        return !strcmp(wanted->text, found->text);
    case FORGE__V1__SCORE__VALUE__NOT_SET:
    case _FORGE__V1__SCORE__VALUE__CASE_IS_INT_SIZE:
        break;
    }
    return true;
}

static void set_target(Forge__V1__ListScoresRequest *request, const Forge__V1__Score *score)
{
    if (score->target_case == FORGE__V1__SCORE__TARGET_TRACE_ID) {
        request->target_case = FORGE__V1__LIST_SCORES_REQUEST__TARGET_TRACE_ID;
        request->trace_id = score->trace_id;
    } else if (score->target_case == FORGE__V1__SCORE__TARGET_SPAN) {
        request->target_case = FORGE__V1__LIST_SCORES_REQUEST__TARGET_SPAN;
        request->span = score->span;
    } else {
        request->target_case = FORGE__V1__LIST_SCORES_REQUEST__TARGET_SESSION_ID;
        request->session_id = score->session_id;
    }
}

static int find_score(struct apply *apply, struct apply_object *object)
{
    Forge__V1__ListScoresRequest request = FORGE__V1__LIST_SCORES_REQUEST__INIT;
    const Forge__V1__Score *wanted = score_of(object->manifest);
    ProtobufCMessage *reply;
    if (!object->references[PROJECT]->id)
        return CLI_OK;
    field_set_text(&request.base, "project_id", object->references[PROJECT]->id);
    request.page_size = 1;
    request.name = wanted->name;
    request.author = wanted->author;
    set_target(&request, wanted);
    int code = apply_call(apply, object->kind->lookup, &request.base, &reply);
    if (code != CLI_OK)
        return code;
    size_t count;
    ProtobufCMessage *const *scores = field_list(reply, NULL, &count);
    object->found = count ? scores[0] : NULL;
    return CLI_OK;
}

int apply_plan_score(struct apply *apply, struct apply_object *object)
{
    const Forge__V1__Score *wanted = score_of(object->manifest);
    if (!check_identity(apply, object))
        return CLI_OK;
    int code = find_score(apply, object);
    if (code != CLI_OK)
        return code;
    const Forge__V1__Score *found = (const Forge__V1__Score *)object->found;
    object->action = found ? APPLY_UNCHANGED : APPLY_CREATE;
    if (!found || apply->is_create_only)
        return CLI_OK;
    bool ok = has_same_value(wanted, found) || apply_add_detail(apply, object, "value");
    ok = ok && (wanted->source == found->source || apply_add_detail(apply, object, "source"));
    ok = ok && (!*wanted->comment || !strcmp(wanted->comment, found->comment) || apply_add_detail(apply, object, "comment"));
    return ok ? CLI_OK : cli_fail(CLI_FAILED, "no memory");
}

int apply_run_score(struct apply *apply, struct apply_object *object)
{
    Forge__V1__RecordScoresRequest request = FORGE__V1__RECORD_SCORES_REQUEST__INIT;
    Forge__V1__Score *scores[] = {(Forge__V1__Score *)object->manifest->request};
    ProtobufCMessage *reply;
    field_set_text(&request.base, "project_id", object->references[PROJECT]->id);
    request.scores = scores;
    request.n_scores = 1;
    int code = apply_call(apply, object->kind->create, &request.base, &reply);
    if (code != CLI_OK)
        return code;
    const Forge__V1__RecordScoresResponse *results = (const Forge__V1__RecordScoresResponse *)reply;
    return results->n_results ? apply_check_verdict(&object->manifest->position, "", results->results[0]->verdict) : CLI_OK;
}
