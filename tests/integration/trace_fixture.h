/* Spans for tests of the trace service, sent as callers send them. */
#ifndef TESTS_INTEGRATION_TRACE_FIXTURE_H
#define TESTS_INTEGRATION_TRACE_FIXTURE_H

#include "service_fixture.h"

/* Trace ids are this and two digits more. */
#define TRACE "0af7651916cd43dd8448eb211c8031"

/* Until the server has made the partitions of spans, in its first pass. */
void trace_wait_for_partitions(void);

struct trace_span_sent {
    const char *trace;           /* the two digits */
    unsigned id, parent;         /* parent 0: a root */
    int64_t start_us, length_us; /* from trace_base_ns() on; length 0: 1 ms */
    const char *more;            /* members in JSON, where ' stands for "; NULL: none */
};
/* Ten minutes before the first call, a whole millisecond. */
int64_t trace_base_ns(void);
/* Stores a span in the tenant's project, named "step <id>". */
void trace_send(const struct service_tenant *tenant, struct trace_span_sent span);

#endif
