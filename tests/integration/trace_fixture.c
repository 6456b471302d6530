#include "trace_fixture.h"

#include "wire/clock.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

void trace_wait_for_partitions(void)
{
    static const char partitions[] = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'spans'::regclass";
    const struct timespec pause = {.tv_nsec = 10000000};
    for (int i = 0; i < 3000 && strcmp(service_query(partitions), "9") != 0; i++)
        nanosleep(&pause, NULL);
    assert_string_equal(service_query(partitions), "9");
}

int64_t trace_base_ns(void)
{
    static int64_t base_ns;
    if (base_ns == 0)
        base_ns = (forge_clock_wall_us() / 1000 - 600000) * 1000000;
    return base_ns;
}

void trace_send(const struct service_tenant *tenant, struct trace_span_sent span)
{
    char parent[64] = "";
    int64_t start_ns = trace_base_ns() + span.start_us * 1000, end_ns = start_ns + (span.length_us > 0 ? span.length_us : 1000) * 1000;
    if (span.parent != 0)
        snprintf(parent, sizeof parent, ", 'parent_span_id': '%016x'", span.parent);
    service_ok(service_call(tenant->admin, "TraceService/IngestSpans", NULL,
                            "{'project_id': '%s', 'spans': [{'trace_id': '" TRACE "%s', 'span_id': '%016x', 'name': 'step %u',"
                            " 'start_ns': '%" PRId64 "', 'end_ns': '%" PRId64 "'%s%s%s}]}",
                            tenant->project_id, span.trace, span.id, span.id, start_ns, end_ns, parent, span.more != NULL ? ", " : "",
                            span.more != NULL ? span.more : ""));
    if (strstr(service_reply(), "\"acceptedCount\":1") == NULL && strstr(service_reply(), "\"accepted_count\":1") == NULL)
        fail_msg("%s", service_reply());
}
