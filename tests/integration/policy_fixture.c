#include "policy_fixture.h"

#include "wire/uuid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SQL_SIZE = 64 * 1024 };

static const char NOBODY[] = "01890000-0000-7000-8000-000000000001";

static void new_id(char out[37])
{
    struct forge_uuid id;
    forge_uuid_v7(&id);
    forge_uuid_format(&id, out);
}

/* A literal of SQL for JSON that has ' for ". */
static void literal(const char *json, char *out, size_t size)
{
    snprintf(out, size, "$json$%s$json$", json);
    for (char *at = out; *at != '\0'; at++)
        if (*at == '\'')
            *at = '"';
}

void policy_fixture_tell(policy_execute *execute, const char *organization_id, const char *id)
{
    char sql[512], change_id[37];
    new_id(change_id);
    snprintf(sql, sizeof sql, "INSERT INTO changes (change_id, organization_id, kind, object_id) VALUES ('%s', '%s', 'policy', '%s')",
             change_id, organization_id, id);
    execute(sql);
}

static void version_add(policy_execute *execute, const char *organization_id, const char *id, int version, const char *mode,
                        const char *rules)
{
    char *sql = malloc(SQL_SIZE), *json = malloc(SQL_SIZE / 2);
    literal(rules, json, SQL_SIZE / 2);
    snprintf(sql, SQL_SIZE,
             "INSERT INTO policy_versions (organization_id, policy_id, version, mode, rules, content_hash, published_by)"
             " VALUES ('%s', '%s', %d, '%s', %s, sha256('%d'), '%s');"
             " UPDATE policies SET published_version = %d WHERE organization_id = '%s' AND id = '%s'",
             organization_id, id, version, mode != NULL ? mode : "enforce", json, version, NOBODY, version, organization_id, id);
    execute(sql);
    free(json);
    free(sql);
}

void policy_fixture_put(policy_execute *execute, const struct policy_put *policy, char out_id[37])
{
    char sql[2048], project[48] = "NULL";
    new_id(out_id);
    if (policy->project_id != NULL)
        snprintf(project, sizeof project, "'%s'", policy->project_id);
    snprintf(sql, sizeof sql,
             "INSERT INTO policies (organization_id, id, project_id, name, draft_hash, created_by) VALUES ('%s', '%s', %s, '%s', '', '%s')",
             policy->organization_id, out_id, project, policy->name, NOBODY);
    execute(sql);
    if (policy->attachments != NULL) {
        snprintf(sql, sizeof sql,
                 "INSERT INTO policy_attachments (organization_id, policy_id, position, target_kind, project_id, label, model_id)"
                 " SELECT '%s', '%s', v.position, v.kind, v.project::uuid, v.label, v.model::uuid FROM (VALUES %s)"
                 " AS v (position, kind, project, label, model)",
                 policy->organization_id, out_id, policy->attachments);
        execute(sql);
    }
    policy_fixture_publish(execute, policy->organization_id, out_id, 1, policy->mode, policy->rules);
}

void policy_fixture_publish(policy_execute *execute, const char *organization_id, const char *id, int version, const char *mode,
                            const char *rules)
{
    version_add(execute, organization_id, id, version, mode, rules);
    policy_fixture_tell(execute, organization_id, id);
}
