#include "enforcement_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { WAIT_S = 30, POLICIES_MAX = 64 };

/* How often a policy was evaluated by the fixture itself, all passed: their texts are empty. */
static struct own_checks {
    char policy_id[37];
    long count;
} own[POLICIES_MAX];
static size_t own_count;

static struct own_checks *own_of(const char *policy_id)
{
    for (size_t i = 0; i < own_count; i++)
        if (strcmp(own[i].policy_id, policy_id) == 0)
            return &own[i];
    assert_true(own_count < POLICIES_MAX);
    snprintf(own[own_count].policy_id, sizeof own[own_count].policy_id, "%s", policy_id);
    return &own[own_count++];
}

void enforcement_project_make(const struct service_tenant *tenant, const char *name, char out_id[37])
{
    service_ok(service_call(tenant->admin, "ProjectService/CreateProject", NULL, "{'name': '%s'}", name));
    service_reply_text("id", out_id, 37);
}

static bool is_in_force(const struct service_tenant *tenant, const char *project_id, const char *where, const char *policy_id)
{
    service_ok(service_call(tenant->admin, "PolicyService/CheckPolicies", NULL, "{'project_id': '%s'%s%s}", project_id,
                            where[0] != '\0' ? ", " : "", where));
    bool is = strstr(service_reply(), policy_id) != NULL;
    for (size_t i = 0; i < own_count; i++)
        own[i].count += strstr(service_reply(), own[i].policy_id) != NULL;
    return is;
}

static void wait_until(const struct service_tenant *tenant, const char *project_id, const char *where, const char *policy_id, bool wanted)
{
    time_t latest = time(NULL) + WAIT_S;
    while (is_in_force(tenant, project_id, where, policy_id) != wanted)
        assert_true(time(NULL) < latest);
}

void enforcement_begin(const struct service_tenant *tenant, const char *project_id, const char *name, const char *mode,
                       const char *attachments, const char *where, const char *rules, char out_id[37])
{
    const struct policy_put policy = {.organization_id = tenant->organization_id,
                                      .project_id = project_id,
                                      .name = name,
                                      .mode = mode,
                                      .rules = rules,
                                      .attachments = attachments};
    policy_fixture_put(service_execute, &policy, out_id);
    own_of(out_id);
    wait_until(tenant, project_id, where, out_id, true);
}

void enforcement_end(const struct service_tenant *tenant, const char *project_id, const char *policy_id, const char *where)
{
    char sql[128];
    snprintf(sql, sizeof sql, "UPDATE policies SET disabled = true WHERE id = '%s'", policy_id);
    service_execute(sql);
    policy_fixture_tell(service_execute, tenant->organization_id, policy_id);
    wait_until(tenant, project_id, where, policy_id, false);
}

const char enforcement_ranges[] =
    "(SELECT string_agg(concat(r ->> 'field', ' ', COALESCE(r ->> 'start_byte', '0'), '-', r ->> 'end_byte'), ', ')"
    " FROM jsonb_array_elements(ranges) r)";

const char *enforcement_violations(const char *policy_id, const char *expression)
{
    char sql[2048];
    snprintf(sql, sizeof sql,
             "SELECT COALESCE(string_agg(%s, '; ' ORDER BY rule, prompt_version NULLS FIRST, trace_id, span_id), '') FROM policy_violations"
             " WHERE policy_id = '%s'",
             expression, policy_id);
    return service_query(sql);
}

const char *enforcement_counts(const char *policy_id, long evaluated)
{
    time_t latest = time(NULL) + WAIT_S;
    char sql[1024];
    long all = evaluated + own_of(policy_id)->count;
    snprintf(sql, sizeof sql, "SELECT COALESCE(sum(evaluated_count), 0) FROM policy_daily_stats WHERE policy_id = '%s'", policy_id);
    while (strtol(service_query(sql), NULL, 10) < all) /* counted once a second */
        assert_true(time(NULL) < latest);
    snprintf(sql, sizeof sql,
             "SELECT concat_ws(' ', sum(evaluated_count) - %ld, sum(passed_count) - %ld, sum(flagged_count), sum(masked_count),"
             " sum(blocked_count)) FROM policy_daily_stats WHERE policy_id = '%s'",
             own_of(policy_id)->count, own_of(policy_id)->count, policy_id);
    return service_query(sql);
}
