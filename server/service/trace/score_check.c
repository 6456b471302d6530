/* TraceService: what a score may hold. */
#include "service/trace/score.h"

#include "service/reply.h"
#include "service/trace/span.h"
#include "service/validate.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>

enum { TEXT_CHARACTERS_MAX = 16384 };

/* --- targets --------------------------------------------------------------------------------------------------------- */

static char *lower_case(struct rpc_call *call, const char *digits)
{
    char *lower = forge_arena_strdup(call->arena, digits);
    for (char *c = lower; c != NULL && *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    return lower;
}

void score_target_trace(struct rpc_call *call, const char *trace_id, struct score_target *out)
{
    trace_id_check(call, "", trace_id);
    *out = (struct score_target){.kind = "trace", .text = lower_case(call, trace_id)};
}

void score_target_span(struct rpc_call *call, const Forge__V1__SpanReference *span, struct score_target *out)
{
    trace_id_check(call, "span.", span->trace_id);
    trace_span_id_check(call, "span.", span->span_id);
    const char *text = forge_arena_printf(call->arena, "%s/%s", span->trace_id, span->span_id);
    *out = (struct score_target){.kind = "span", .text = text != NULL ? lower_case(call, text) : NULL};
}

void score_target_session(struct rpc_call *call, const char *session_id, struct score_target *out)
{
    *out = (struct score_target){.kind = "session", .text = session_id};
    if (session_id[0] == '\0')
        rpc_call_violation(call, "session_id", "is required");
    validate_text(call, "session_id", session_id, VALIDATE_NAME_CHARACTERS_MAX);
}

void score_target_execution(struct rpc_call *call, int64_t execution_id, struct score_target *out)
{
    *out = (struct score_target){
        .kind = "execution", .text = forge_arena_printf(call->arena, "%" PRId64, execution_id), .execution_id = execution_id};
    if (execution_id < 1)
        rpc_call_violation(call, "execution_id", "must be 1 or more");
}

static void target_check(struct rpc_call *call, const Forge__V1__Score *in, struct score_target *out)
{
    switch (in->target_case) {
    case FORGE__V1__SCORE__TARGET_TRACE_ID:
        score_target_trace(call, in->trace_id, out);
        return;
    case FORGE__V1__SCORE__TARGET_SPAN:
        score_target_span(call, in->span, out);
        return;
    case FORGE__V1__SCORE__TARGET_SESSION_ID:
        score_target_session(call, in->session_id, out);
        return;
    case FORGE__V1__SCORE__TARGET_EXECUTION_ID:
        score_target_execution(call, in->execution_id, out);
        return;
    case FORGE__V1__SCORE__TARGET__NOT_SET:
    case _FORGE__V1__SCORE__TARGET__CASE_IS_INT_SIZE:
        rpc_call_violation(call, "trace_id", "exactly one of trace_id, span, session_id and execution_id is required");
    }
}

/* --- values ---------------------------------------------------------------------------------------------------------- */

const char *score_source(Forge__V1__ScoreSource source)
{
    static const char *const names[] = {NULL, "human", "code", "model"};
    return names[source]; /* the wire lets no other in */
}

static void value_check(struct rpc_call *call, const Forge__V1__Score *in, struct score *out)
{
    switch (in->value_case) {
    case FORGE__V1__SCORE__VALUE_NUMBER:
        out->value = SCORE_NUMBER;
        out->number = in->number;
        if (!isfinite(in->number))
            rpc_call_violation(call, "number", "must be a finite number");
        return;
    case FORGE__V1__SCORE__VALUE_CATEGORY:
        out->value = SCORE_CATEGORY;
        out->words = in->category;
        validate_name_of(call, "category", in->category, SCORE_NAME_CHARACTERS_MAX);
        return;
    case FORGE__V1__SCORE__VALUE_BOOLEAN:
        out->value = SCORE_FLAG;
        out->number = in->boolean ? 1 : 0;
        return;
    case FORGE__V1__SCORE__VALUE_TEXT:
        out->value = SCORE_TEXT;
        out->words = in->text;
        validate_text(call, "text", in->text, TEXT_CHARACTERS_MAX);
        return;
    case FORGE__V1__SCORE__VALUE__NOT_SET:
    case _FORGE__V1__SCORE__VALUE__CASE_IS_INT_SIZE:
        rpc_call_violation(call, "number", "exactly one of number, category, boolean and text is required");
    }
}

void score_check(struct rpc_call *call, const Forge__V1__Score *in, struct score *out)
{
    *out = (struct score){.name = in->name, .author = in->author, .comment = in->comment[0] != '\0' ? in->comment : NULL};
    target_check(call, in, &out->target);
    validate_name_of(call, "name", in->name, SCORE_NAME_CHARACTERS_MAX);
    value_check(call, in, out);
    out->source = score_source(in->source);
    if (out->source == NULL)
        rpc_call_violation(call, "source", "is required");
    if (in->author[0] == '\0')
        out->author = reply_uuid(call, &call->principal.id);
    validate_name_or_empty(call, "author", in->author);
    validate_text(call, "comment", in->comment, TEXT_CHARACTERS_MAX);
}
