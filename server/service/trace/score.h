/* Scores between the wire and the database. Private to the trace service. */
#ifndef SERVER_SERVICE_TRACE_SCORE_H
#define SERVER_SERVICE_TRACE_SCORE_H

#include "rpc/call.h"

#include "forge/v1/trace.pb-c.h"

enum { SCORE_NAME_CHARACTERS_MAX = 100 };

/* How values travel between server and statements. */
enum score_value { SCORE_NUMBER = 1, SCORE_CATEGORY, SCORE_FLAG, SCORE_TEXT };

/* What a score is about, as its columns have it: ids of traces and spans in lower case. */
struct score_target {
    const char *kind, *text;
    int64_t execution_id; /* 0 = the target is something else */
};

/* A target, given as one of a oneof that has the same members wherever it stands. Each notes what is wrong with it. */
void score_target_trace(struct rpc_call *call, const char *trace_id, struct score_target *out);
void score_target_span(struct rpc_call *call, const Forge__V1__SpanReference *span, struct score_target *out);
void score_target_session(struct rpc_call *call, const char *session_id, struct score_target *out);
void score_target_execution(struct rpc_call *call, int64_t execution_id, struct score_target *out);

/* A source as its column has it, NULL where it is not given. */
const char *score_source(Forge__V1__ScoreSource source);

/* A checked score; texts are those of the request. */
struct score {
    struct score_target target;
    const char *name, *author, *source;
    int32_t value; /* enum score_value */
    double number; /* of a flag 1 or 0 */
    const char *words;
    const char *comment; /* NULL = none */
};
/* Notes what the contract does not allow. */
void score_check(struct rpc_call *call, const Forge__V1__Score *in, struct score *out);

#endif
