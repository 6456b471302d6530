#include "service/policy/violation_write.h"

#include "service/policy/rules.h"
#include "wire/crypto.h"
#include "wire/json.h"

#include <stdlib.h>
#include <string.h>

/* --- from findings to rows ------------------------------------------------------------------------------------------- */

static const char *action_name(Forge__V1__PolicyAction action)
{
    return action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK  ? "block"
           : action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_MASK ? "mask"
                                                                    : "flag";
}

static const char *stage_name(Forge__V1__PolicyStage stage)
{
    return stage == FORGE__V1__POLICY_STAGE__POLICY_STAGE_PROMPT   ? "prompt"
           : stage == FORGE__V1__POLICY_STAGE__POLICY_STAGE_OUTPUT ? "output"
                                                                   : "input";
}

static bool is_same_rule(const struct policy_finding *a, const struct policy_finding *b)
{
    return a->policy == b->policy && strcmp(a->rule, b->rule) == 0;
}

/* The ranges of findings of one rule, as {"ranges": [...]}; NULL without any, or without memory. */
static const char *ranges_write(struct forge_arena *arena, const struct policy_finding *findings, size_t count,
                                const struct policy_checked *checked)
{
    const struct forge_json_options options = {0};
    Forge__V1__Violation holder = FORGE__V1__VIOLATION__INIT;
    Forge__V1__TextRange ranges[POLICY_RANGES_MAX], *list[POLICY_RANGES_MAX];
    holder.ranges = list;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < findings[i].range_count && holder.n_ranges < POLICY_RANGES_MAX; j++) {
            const struct policy_range *from = &findings[i].ranges[j];
            Forge__V1__TextRange *to = &ranges[holder.n_ranges];
            forge__v1__text_range__init(to);
            to->start_byte = (int64_t)from->begin;
            to->end_byte = (int64_t)from->end;
            to->pii_kind = from->pii_kind;
            to->field = (char *)(uintptr_t)checked->fields[from->text]; /* protobuf-c has char * where nothing is written through it */
            list[holder.n_ranges++] = to;
        }
    return holder.n_ranges > 0 ? forge_json_from_message(&holder.base, &options, arena) : NULL;
}

static struct db_bytes finding_hash(struct forge_arena *arena, const struct policy_checked *checked,
                                    const struct policy_violation *violation)
{
    uint8_t *hash = forge_arena_alloc(arena, FORGE_SHA256_SIZE), version[4];
    if (hash == NULL)
        return (struct db_bytes){0};
    for (size_t i = 0; i < sizeof version; i++)
        version[i] = (uint8_t)((uint32_t)violation->policy_version >> (24 - 8 * i));
    struct forge_sha256_state *state = forge_sha256_new();
    forge_sha256_piece(state, checked->identity.data, checked->identity.size);
    forge_sha256_piece(state, violation->policy_id.bytes, sizeof violation->policy_id.bytes);
    forge_sha256_piece(state, version, sizeof version);
    forge_sha256_piece(state, violation->rule, strlen(violation->rule));
    forge_sha256_final(state, hash);
    return (struct db_bytes){hash, FORGE_SHA256_SIZE};
}

/* findings: of one rule. */
static void violation_make(const struct policy_review *review, const struct policy_finding *findings, size_t count,
                           const struct policy_checked *checked, struct policy_violation *out)
{
    struct rpc_call *call = review->call;
    struct policy_reference policy;
    policy_review_reference(review, findings->policy, &policy);
    *out = (struct policy_violation){.project_id = review->project_id,
                                     .policy_id = policy.id,
                                     .policy_version = policy.version,
                                     .policy_name = policy.name,
                                     .rule = findings->rule,
                                     .action = action_name(findings->action),
                                     .severity = (int32_t)findings->severity,
                                     .mode = policy_mode_name(findings->mode),
                                     .stage = stage_name(findings->stage),
                                     .message = findings->message,
                                     .ranges = ranges_write(call->arena, findings, count, checked),
                                     .prompt_id = checked->prompt_id,
                                     .prompt_version = checked->prompt_version,
                                     .content_hash = checked->content_hash,
                                     .trace_id = checked->trace_id,
                                     .span_id = checked->span_id,
                                     .label = checked->label,
                                     .model = checked->model,
                                     .actor_id = call->principal.id};
    forge_uuid_v7(&out->id);
    out->finding_hash = finding_hash(call->arena, checked, out);
}

forge_code policy_violations_make(const struct policy_review *review, const struct policy_decision *decision,
                                  const struct policy_checked *checked, struct policy_violations *out)
{
    struct forge_arena *arena = review->call->arena;
    *out = (struct policy_violations){.list = forge_arena_calloc(arena, decision->finding_count + 1, sizeof *out->list)};
    for (size_t i = 0, end; out->list != NULL && i < decision->finding_count; i = end) {
        end = i + 1;
        while (end < decision->finding_count && is_same_rule(&decision->findings[i], &decision->findings[end]))
            end++;
        violation_make(review, &decision->findings[i], end - i, checked, &out->list[out->count++]);
    }
    if (forge_arena_has_overflowed(arena))
        return rpc_call_fail(review->call, FORGE_RESOURCE_EXHAUSTED, "no memory for what the policies found");
    return FORGE_OK;
}

/* --- writing --------------------------------------------------------------------------------------------------------- */

struct column {
    enum db_member member;
    size_t offset;
};
#define COLUMN(member, name)                                                                                                               \
    {                                                                                                                                      \
        DB_MEMBER_##member, offsetof(struct policy_violation, name)                                                                        \
    }
static const struct column columns[] = {
    COLUMN(UUID, id),
    COLUMN(UUID, project_id),
    COLUMN(UUID, policy_id),
    COLUMN(INT32, policy_version),
    COLUMN(TEXT, policy_name),
    COLUMN(TEXT, rule),
    COLUMN(TEXT, action),
    COLUMN(INT32, severity),
    COLUMN(TEXT, mode),
    COLUMN(TEXT, stage),
    COLUMN(TEXT, message),
    COLUMN(TEXT, ranges),
    COLUMN(UUID, prompt_id),
    COLUMN(INT32, prompt_version),
    COLUMN(BYTES, content_hash),
    COLUMN(BYTES, trace_id),
    COLUMN(BYTES, span_id),
    COLUMN(TEXT, label),
    COLUMN(TEXT, model),
    COLUMN(UUID, actor_id),
    COLUMN(BYTES, finding_hash),
};

static int compare_violations(const void *a, const void *b)
{
    const struct policy_violation *const *left = a, *const *right = b;
    return memcmp((*left)->finding_hash.data, (*right)->finding_hash.data, FORGE_SHA256_SIZE);
}

void policy_violations_queue(struct db_session *db, const struct forge_uuid *organization_id, int64_t now_us,
                             const struct policy_violation **violations, size_t count)
{
    if (count == 0)
        return;
    qsort(violations, count, sizeof(const struct policy_violation *), compare_violations);
    struct db_stmt *q = db_stmt(db, SQL_VIOLATION_WRITE);
    db_bind_uuid(q, organization_id);
    db_bind_time_us(q, now_us);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        db_bind_column(q, columns[i].member, columns[i].offset, (const void *const *)violations, count);
    db_queue(q);
}
