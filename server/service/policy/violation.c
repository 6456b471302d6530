/* PolicyService: violations, and what people say about them. They are written where prompt versions and spans are checked. */
#include "db/stmt.h"
#include "rpc/call.h"
#include "rpc/page.h"
#include "rpc/write.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/json.h"

#include "rpc_table.h"

#include <stdint.h>
#include <string.h>

enum {
    COMMENT_CHARACTERS_MAX = 4096,
    TRACE_ID_DIGITS = 32,
    LIST_BYTES_MAX = 2 << 20 /* of what callers wrote: the rest of 1,000 violations has room in the 4 MiB of a reply too */
};

/* --- names of columns ------------------------------------------------------------------------------------------------ */

/* By the number of the enum; requests hold no other numbers, the wire checks that. */
static const char *const actions[] = {NULL, "flag", "mask", "block"}, *const modes[] = {NULL, "enforce", "dry_run"},
                         *const stages[] = {NULL, "prompt", "input", "output"},
                         *const states[] = {NULL, "open", "acknowledged", "resolved"},
                         *const resolutions[] = {NULL, "fixed", "false_positive", "accepted"};
#define COUNT(names) (sizeof(names) / sizeof(names)[0])

/* The number of a column's name; 0, which is unspecified, for SQL NULL. */
static int find(const struct db_row *row, const char *column, const char *const *names, size_t count)
{
    const char *name = db_row_text_or_empty(row, column);
    for (size_t i = 1; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return (int)i;
    return 0;
}

/* --- rows ------------------------------------------------------------------------------------------------------------ */

static forge_code ranges_read(struct rpc_call *call, const struct db_row *row, Forge__V1__Violation *out)
{
    const char *text = db_row_text(row, "ranges");
    ProtobufCMessage *message;
    struct forge_error error = {0};
    if (text == NULL)
        return FORGE_OK;
    char *json = forge_arena_printf(call->arena, "{\"ranges\":%s}", text);
    forge_code rc = json == NULL
                        ? FORGE_RESOURCE_EXHAUSTED
                        : forge_json_to_message(json, strlen(json), &forge__v1__violation__descriptor, call->arena, &message, &error);
    if (rc == FORGE_RESOURCE_EXHAUSTED)
        return rpc_call_fail(call, rc, "the violation needs too much memory");
    if (rc != FORGE_OK)
        return rpc_call_fail(call, FORGE_DATA_LOSS, "the stored ranges of this violation cannot be read");
    const Forge__V1__Violation *violation = (const Forge__V1__Violation *)message;
    out->n_ranges = violation->n_ranges;
    out->ranges = violation->ranges;
    return FORGE_OK;
}

static char *hex(struct rpc_call *call, const struct db_row *row, const char *column)
{
    size_t size = 0;
    const uint8_t *bytes = db_row_bytes(row, column, &size);
    return reply_hex(call, bytes, size);
}

static void care_read(struct rpc_call *call, const struct db_row *row, Forge__V1__Violation *out)
{
    out->state = (Forge__V1__ViolationState)find(row, "state", states, COUNT(states));
    out->acknowledge_time = reply_time(call, row, "acknowledged_at");
    out->acknowledger_id = db_row_uuid_text(row, "acknowledged_by");
    out->acknowledge_comment = db_row_text_or_empty(row, "acknowledge_comment");
    out->resolve_time = reply_time(call, row, "resolved_at");
    out->resolver_id = db_row_uuid_text(row, "resolved_by");
    out->resolution = (Forge__V1__ViolationResolution)find(row, "resolution", resolutions, COUNT(resolutions));
    out->resolve_comment = db_row_text_or_empty(row, "resolve_comment");
    out->etag = reply_etag(call, row);
}

/* Columns of violation_get. */
static forge_code violation_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Violation *out)
{
    out->id = db_row_uuid_text(row, "id");
    out->project_id = db_row_uuid_text(row, "project_id");
    out->policy_id = db_row_uuid_text(row, "policy_id");
    out->policy_version = db_row_int32(row, "policy_version");
    out->policy_name = db_row_text(row, "policy_name");
    out->rule = db_row_text(row, "rule");
    out->action = (Forge__V1__PolicyAction)find(row, "action", actions, COUNT(actions));
    out->severity = (Forge__V1__Severity)db_row_int32(row, "severity");
    out->mode = (Forge__V1__PolicyMode)find(row, "mode", modes, COUNT(modes));
    out->stage = (Forge__V1__PolicyStage)find(row, "stage", stages, COUNT(stages));
    out->message = db_row_text(row, "message");
    out->prompt_id = db_row_uuid_text(row, "prompt_id");
    out->prompt_version = db_row_int32(row, "prompt_version");
    out->content_hash = hex(call, row, "content_hash");
    out->trace_id = hex(call, row, "trace_id");
    out->span_id = hex(call, row, "span_id");
    out->label = db_row_text_or_empty(row, "label");
    out->model = db_row_text_or_empty(row, "model");
    out->actor_id = db_row_uuid_text(row, "actor_id");
    out->create_time = reply_time(call, row, "created_at");
    care_read(call, row, out);
    return ranges_read(call, row, out);
}

/* As it is in this transaction. */
static forge_code violation_read(struct rpc_call *call, const struct forge_uuid *id, const char *id_text, Forge__V1__Violation *out)
{
    struct db_row row;
    struct db_stmt *q = db_stmt(call->db, SQL_VIOLATION_GET);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    forge_code rc = reply_run_found(call, q, "violation", id_text, &row);
    return rc == FORGE_OK ? violation_from_row(call, &row, out) : rc;
}

/* --- GetViolation, ListViolations ------------------------------------------------------------------------------------ */

forge_code policy_get_violation(struct rpc_call *call, const Forge__V1__GetViolationRequest *in, Forge__V1__Violation *out)
{
    struct forge_uuid id;
    return validate_uuid(call, "id", in->id, &id) ? violation_read(call, &id, in->id, out) : rpc_call_invalid(call);
}

/* What ListViolations is asked for, checked. Times are in microseconds. */
struct listing {
    struct forge_uuid project_id, policy_id, prompt_id;
    struct forge_uuid first_id, end_id; /* from and before which */
    int64_t start_us, end_us;
    char *filter;
    size_t filter_size;
    struct rpc_page page;
};

/* The years that timestamp.proto has: 0001 to 9999. */
static const int64_t first_time_us = INT64_C(-62135596800) * 1000000, end_time_us = INT64_C(253402300800) * 1000000;
/* How far a row's time may be from the one in its id: both are taken during one call, in any order. */
static const int64_t id_slack_us = INT64_C(60) * 1000000;

/* The least UUIDv7 of this time; times before 1970 have none and are as that. */
static void id_of_time(int64_t unix_us, struct forge_uuid *out)
{
    uint64_t ms = unix_us > 0 ? (uint64_t)unix_us / 1000 : 0;
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < 6; i++)
        out->bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    out->bytes[6] = 0x70;
    out->bytes[8] = 0x80;
}

static void times_check(struct rpc_call *call, const Forge__V1__ListViolationsRequest *in, struct listing *listing)
{
    listing->start_us = first_time_us;
    listing->end_us = end_time_us;
    bool valid = in->start_time == NULL || validate_time(call, "start_time", in->start_time, &listing->start_us);
    if (in->end_time != NULL && validate_time(call, "end_time", in->end_time, &listing->end_us) && valid &&
        listing->end_us <= listing->start_us)
        rpc_call_violation(call, "end_time", "must be after start_time");
    id_of_time(listing->start_us - id_slack_us, &listing->first_id);
    if (in->end_time != NULL)
        id_of_time(listing->end_us + id_slack_us, &listing->end_id);
    else
        memset(&listing->end_id, 0xFF, sizeof listing->end_id);
}

static forge_code list_check(struct rpc_call *call, const Forge__V1__ListViolationsRequest *in, struct listing *listing)
{
    validate_uuid(call, "project_id", in->project_id, &listing->project_id);
    if (in->policy_id[0] != '\0')
        validate_uuid(call, "policy_id", in->policy_id, &listing->policy_id);
    if (in->prompt_id[0] != '\0')
        validate_uuid(call, "prompt_id", in->prompt_id, &listing->prompt_id);
    if (in->prompt_version < 0)
        rpc_call_violation(call, "prompt_version", "must be 0 or more");
    else if (in->prompt_version > 0 && in->prompt_id[0] == '\0')
        rpc_call_violation(call, "prompt_version", "needs prompt_id");
    validate_hex_digits(call, "trace_id", in->trace_id, TRACE_ID_DIGITS);
    times_check(call, in, listing);
    listing->filter = forge_arena_printf(call->arena, "%s|%d|%s|%d|%d|%s|%d|%s|%lld|%lld", in->project_id, (int)in->state, in->policy_id,
                                         (int)in->severity_min, (int)in->action, in->prompt_id, in->prompt_version, in->trace_id,
                                         (long long)listing->start_us, (long long)listing->end_us);
    listing->filter_size = listing->filter != NULL ? strlen(listing->filter) : 0;
    rpc_page_read(call, in->page_size, in->page_token, listing->filter, listing->filter_size, &listing->page);
    return validate_end_in_project(call, &listing->project_id);
}

static forge_code list_run(struct rpc_call *call, const Forge__V1__ListViolationsRequest *in, const struct listing *listing,
                           struct db_rows *rows)
{
    static const char *const severities[] = {"1", "2", "3", "4"};
    bool any_state = in->state == 0, any_action = in->action == 0;
    size_t skipped = in->severity_min > FORGE__V1__SEVERITY__SEVERITY_LOW ? (size_t)in->severity_min - 1 : 0;
    struct db_stmt *q = db_stmt(call->db, SQL_VIOLATION_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &listing->project_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_uuid(q, &listing->first_id);
    db_bind_uuid(q, listing->page.has_key ? &listing->page.last_id : &listing->end_id);
    db_bind_time_us(q, listing->start_us);
    db_bind_time_us(q, listing->end_us);
    db_bind_text_array(q, any_state ? states + 1 : &states[in->state], any_state ? COUNT(states) - 1 : 1);
    db_bind_text_array(q, severities + skipped, COUNT(severities) - skipped);
    db_bind_text_array(q, any_action ? actions + 1 : &actions[in->action], any_action ? COUNT(actions) - 1 : 1);
    db_bind_uuid(q, in->policy_id[0] != '\0' ? &listing->policy_id : NULL);
    db_bind_uuid(q, in->prompt_id[0] != '\0' ? &listing->prompt_id : NULL);
    db_bind_int32(q, in->prompt_version);
    db_bind_text(q, in->trace_id[0] != '\0' ? in->trace_id : NULL);
    db_bind_int32(q, listing->page.size + 1);
    db_bind_int32(q, LIST_BYTES_MAX);
    return db_run_many(q, rows, &call->error);
}

static forge_code list_fill(struct rpc_call *call, const struct db_rows *rows, int count, Forge__V1__ListViolationsResponse *out)
{
    out->violations = forge_arena_calloc(call->arena, (size_t)count + 1, sizeof out->violations[0]);
    for (int i = 0; out->violations != NULL && i < count; i++) {
        struct db_row row = db_rows_at(rows, i);
        Forge__V1__Violation *violation = reply_message(call, &forge__v1__violation__descriptor);
        if (violation == NULL || db_row_is_null(&row, "id"))
            return FORGE_OK; /* rpc sees an overflow; or the one row of a project without violations */
        forge_code rc = violation_from_row(call, &row, violation);
        if (rc != FORGE_OK)
            return rc;
        out->violations[out->n_violations++] = violation;
    }
    return FORGE_OK;
}

forge_code policy_list_violations(struct rpc_call *call, const Forge__V1__ListViolationsRequest *in, Forge__V1__ListViolationsResponse *out)
{
    struct listing listing = {0};
    struct db_rows rows;
    struct forge_uuid last;
    forge_code rc = list_check(call, in, &listing);
    if (rc == FORGE_OK)
        rc = list_run(call, in, &listing, &rows);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    rc = list_fill(call, &rows, rows.count < listing.page.size ? rows.count : listing.page.size, out);
    struct db_row first = db_rows_at(&rows, 0);
    if (rc == FORGE_OK && out->n_violations > 0 && db_row_int64(&first, "found") > (int64_t)out->n_violations &&
        forge_uuid_parse(out->violations[out->n_violations - 1]->id, &last))
        out->next_page_token = rpc_page_next(call, listing.filter, listing.filter_size, NULL, 0, &last);
    return rc;
}

/* --- AcknowledgeViolation, ResolveViolation -------------------------------------------------------------------------- */

/* Locks the violation and reads it, for a change that this etag was read for. */
static forge_code change_begin(struct rpc_call *call, const struct forge_uuid *id, const char *id_text, const char *etag,
                               Forge__V1__Violation *out)
{
    struct db_stmt *lock = db_stmt(call->db, SQL_VIOLATION_LOCK);
    db_bind_uuid(lock, &call->principal.organization_id);
    db_bind_uuid(lock, id);
    db_queue(lock);
    forge_code rc = violation_read(call, id, id_text, out);
    if (rc == FORGE_OK && etag[0] != '\0' && strcmp(etag, out->etag) != 0)
        return rpc_call_fail(call, FORGE_ABORTED, "the violation has changed since this etag was read");
    return rc;
}

/* The parameters that both changes begin with. */
static struct db_stmt *change_statement(struct rpc_call *call, enum sql_id statement, const struct forge_uuid *id, const char *comment)
{
    struct db_stmt *q = db_stmt(call->db, statement);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, id);
    db_bind_time_us(q, call->now_us);
    db_bind_uuid(q, &call->principal.id);
    db_bind_text(q, comment[0] != '\0' ? comment : NULL);
    return q;
}

/* What was said, and about what; the violation itself stays to be read. */
static void audit(struct rpc_call *call, const char *action, const struct forge_uuid *id, const Forge__V1__Violation *violation)
{
    const struct forge_json_options options = {.with_defaults = false};
    Forge__V1__Violation said = FORGE__V1__VIOLATION__INIT;
    said.project_id = violation->project_id;
    said.policy_id = violation->policy_id;
    said.policy_version = violation->policy_version;
    said.rule = violation->rule;
    said.state = violation->state;
    said.resolution = violation->resolution;
    bool is_resolved = violation->state == FORGE__V1__VIOLATION_STATE__VIOLATION_STATE_RESOLVED;
    said.acknowledge_comment = is_resolved ? said.acknowledge_comment : violation->acknowledge_comment;
    said.resolve_comment = violation->resolve_comment;
    rpc_write_audit(call, action, "policy_violation", id, forge_json_from_message(&said.base, &options, call->arena));
}

forge_code policy_acknowledge_violation(struct rpc_call *call, const Forge__V1__AcknowledgeViolationRequest *in, Forge__V1__Violation *out)
{
    struct forge_uuid id;
    Forge__V1__Violation old = FORGE__V1__VIOLATION__INIT;
    validate_uuid(call, "id", in->id, &id);
    validate_text(call, "comment", in->comment, COMMENT_CHARACTERS_MAX);
    validate_etag(call, "etag", in->etag);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    forge_code rc = change_begin(call, &id, in->id, in->etag, &old);
    if (rc == FORGE_OK && old.state != FORGE__V1__VIOLATION_STATE__VIOLATION_STATE_OPEN)
        rc = rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "the violation is %s already", states[old.state]);
    if (rc != FORGE_OK)
        return rc;
    db_queue(change_statement(call, SQL_VIOLATION_ACKNOWLEDGE, &id, in->comment));
    rc = violation_read(call, &id, in->id, out);
    if (rc == FORGE_OK)
        audit(call, "policy_violation.acknowledge", &id, out);
    return rc;
}

forge_code policy_resolve_violation(struct rpc_call *call, const Forge__V1__ResolveViolationRequest *in, Forge__V1__Violation *out)
{
    struct forge_uuid id;
    Forge__V1__Violation old = FORGE__V1__VIOLATION__INIT;
    validate_uuid(call, "id", in->id, &id);
    if (in->resolution == FORGE__V1__VIOLATION_RESOLUTION__VIOLATION_RESOLUTION_UNSPECIFIED)
        rpc_call_violation(call, "resolution", "is required");
    validate_text(call, "comment", in->comment, COMMENT_CHARACTERS_MAX);
    validate_etag(call, "etag", in->etag);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    forge_code rc = change_begin(call, &id, in->id, in->etag, &old);
    if (rc == FORGE_OK && old.state == FORGE__V1__VIOLATION_STATE__VIOLATION_STATE_RESOLVED)
        rc = rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "the violation is resolved already");
    if (rc != FORGE_OK)
        return rc;
    struct db_stmt *q = change_statement(call, SQL_VIOLATION_RESOLVE, &id, in->comment);
    db_bind_text(q, resolutions[in->resolution]);
    db_queue(q);
    rc = violation_read(call, &id, in->id, out);
    if (rc == FORGE_OK)
        audit(call, "policy_violation.resolve", &id, out);
    return rc;
}
