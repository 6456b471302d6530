/* OrganizationService: the audit log. What writes it is rpc/write.c. */
#include "rpc/page.h"
#include "service/organization/organization.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <inttypes.h>
#include <string.h>

enum {
    ACTION_CHARACTERS_MAX = 64,
    TARGET_KIND_CHARACTERS_MAX = 32,
    REPLY_EVENT_BYTES_MAX = 2 << 20, /* with the last event well below what a reply may have */
    VERIFY_DEFAULT = 10000,
    VERIFY_MAX = 100000
};

/* --- ListAuditEvents --- */

/* What is asked for, checked. */
struct filter {
    int64_t start_us, end_us, first_sequence, last_sequence;
    struct forge_uuid actor_id, target_id;
    const char *text; /* all of it, for page tokens */
};

static void word_check(struct rpc_call *call, const char *field, const char *word, const char *characters, size_t length_max)
{
    size_t length = strlen(word);
    if (length > length_max || strspn(word, characters) != length)
        rpc_call_violation(call, field, "must be at most %zu of %s", length_max,
                           strchr(characters, '.') != NULL ? "a-z, 0-9, _ and ." : "a-z, 0-9 and _");
}

static void filter_check(struct rpc_call *call, const Forge__V1__ListAuditEventsRequest *in, struct filter *filter)
{
    validate_time_range(call, in->start_time, in->end_time, &filter->start_us, &filter->end_us);
    if (in->actor_id[0] != '\0')
        validate_uuid(call, "actor_id", in->actor_id, &filter->actor_id);
    word_check(call, "action", in->action, "abcdefghijklmnopqrstuvwxyz0123456789_.", ACTION_CHARACTERS_MAX);
    word_check(call, "target_kind", in->target_kind, "abcdefghijklmnopqrstuvwxyz0123456789_", TARGET_KIND_CHARACTERS_MAX);
    if (in->target_id[0] != '\0')
        validate_uuid(call, "target_id", in->target_id, &filter->target_id);
    filter->text = forge_arena_printf(call->arena, "%" PRId64 "|%" PRId64 "|%s|%s|%s|%s|%d", filter->start_us, filter->end_us, in->actor_id,
                                      in->action, in->target_kind, in->target_id, in->include_canonical != 0);
}

/* Narrows the sequences to those that the times leave. */
static forge_code range_read(struct rpc_call *call, struct filter *filter)
{
    struct db_row row;
    struct db_stmt *q = db_stmt(call->db, SQL_AUDIT_RANGE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_time_us(q, filter->start_us);
    db_bind_time_us(q, filter->end_us);
    forge_code rc = db_run_one(q, &row, &call->error);
    if (rc != FORGE_OK)
        return rc;
    int64_t first = db_row_int64(&row, "first_sequence"), last = db_row_int64(&row, "last_sequence"); /* 0 without any */
    if (first > filter->first_sequence)
        filter->first_sequence = first;
    if (last < filter->last_sequence)
        filter->last_sequence = last;
    return FORGE_OK;
}

static const char *text_or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static forge_code list_run(struct rpc_call *call, const Forge__V1__ListAuditEventsRequest *in, struct filter *filter, int32_t limit,
                           struct db_rows *rows)
{
    if (in->start_time != NULL || in->end_time != NULL) {
        forge_code rc = range_read(call, filter);
        if (rc != FORGE_OK)
            return rc;
    }
    struct db_stmt *q = db_stmt(call->db, SQL_AUDIT_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_int64(q, filter->first_sequence);
    db_bind_int64(q, filter->last_sequence);
    if (in->start_time != NULL)
        db_bind_time_us(q, filter->start_us);
    else
        db_bind_null(q);
    if (in->end_time != NULL)
        db_bind_time_us(q, filter->end_us);
    else
        db_bind_null(q);
    db_bind_uuid(q, in->actor_id[0] != '\0' ? &filter->actor_id : NULL);
    db_bind_text(q, text_or_null(in->action));
    db_bind_text(q, text_or_null(in->target_kind));
    db_bind_uuid(q, in->target_id[0] != '\0' ? &filter->target_id : NULL);
    db_bind_int32(q, limit);
    db_bind_bool(q, in->include_canonical);
    db_bind_int64(q, in->include_canonical ? REPLY_EVENT_BYTES_MAX / 2 : REPLY_EVENT_BYTES_MAX); /* details stand in both */
    return db_run_many(q, rows, &call->error);
}

static Forge__V1__PrincipalKind actor_kind(const char *kind)
{
    static const struct {
        const char *name;
        Forge__V1__PrincipalKind kind;
    } kinds[] = {{"user", FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_USER},
                 {"api_key", FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_API_KEY},
                 {"service_account", FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_SERVICE_ACCOUNT},
                 {"operator", FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_OPERATOR}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kind != NULL && strcmp(kind, kinds[i].name) == 0)
            return kinds[i].kind;
    return FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_UNSPECIFIED;
}

static void bytes_from_row(const struct db_row *row, const char *column, ProtobufCBinaryData *out)
{
    out->data = db_row_bytes(row, column, &out->len);
    if (out->data == NULL)
        out->len = 0;
}

static void event_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__AuditEvent *out)
{
    const char *role = db_row_text_or_empty(row, "principal_role");
    out->sequence = db_row_int64(row, "sequence");
    out->event_time = reply_time(call, row, "created_at");
    out->action = db_row_text(row, "action");
    out->target_kind = db_row_text(row, "target_kind");
    out->target_id = db_row_uuid_text(row, "target_id");
    out->actor_kind = actor_kind(db_row_text(row, "principal_kind"));
    out->actor_id = db_row_uuid_text(row, "principal_id");
    out->actor_name = db_row_text(row, "principal_name");
    out->actor_role = reply_role(role != NULL ? text_or_null(role) : NULL);
    out->peer_address = db_row_text(row, "peer_address");
    out->request_id = db_row_uuid_text(row, "request_id");
    out->details = db_row_text(row, "details");
    bytes_from_row(row, "hash", &out->hash);
    bytes_from_row(row, "canonical", &out->canonical);
}

forge_code organization_list_audit_events(struct rpc_call *call, const Forge__V1__ListAuditEventsRequest *in,
                                          Forge__V1__ListAuditEventsResponse *out)
{
    struct filter filter = {.first_sequence = 1, .last_sequence = INT64_MAX};
    struct rpc_page page;
    struct db_rows rows;
    filter_check(call, in, &filter);
    size_t filter_size = filter.text != NULL ? strlen(filter.text) : 0;
    rpc_page_read(call, in->page_size, in->page_token, filter.text, filter_size, &page);
    forge_code rc = organization_check_end(call);
    if (rc != FORGE_OK)
        return rc;
    if (page.has_key)
        filter.last_sequence = page.last_number - 1;
    rc = list_run(call, in, &filter, page.size + 1, &rows);
    if (rc != FORGE_OK)
        return rc;
    int count = rows.count < page.size ? rows.count : page.size;
    out->audit_events = forge_arena_calloc(call->arena, (size_t)count + 1, sizeof *out->audit_events);
    for (int i = 0; out->audit_events != NULL && i < count; i++) {
        Forge__V1__AuditEvent *event = reply_message(call, &forge__v1__audit_event__descriptor);
        if (event == NULL)
            break;
        struct db_row row = db_rows_at(&rows, i);
        event_from_row(call, &row, event);
        out->audit_events[out->n_audit_events++] = event;
    }
    if (out->n_audit_events == 0)
        return FORGE_OK;
    struct db_row first = db_rows_at(&rows, 0);
    if (db_row_int64(&first, "found") > count) /* also where the page was cut */
        out->next_page_token =
            rpc_page_next(call, filter.text, filter_size, NULL, out->audit_events[count - 1]->sequence, &(struct forge_uuid){0});
    return FORGE_OK;
}

/* --- VerifyAuditLog --- */

/* What to verify: first to last event. */
struct range {
    int64_t first, last;
};

static forge_code verify_check(struct rpc_call *call, const Forge__V1__VerifyAuditLogRequest *in, struct range *range)
{
    int64_t count = in->event_count_max == 0 ? VERIFY_DEFAULT : in->event_count_max;
    range->first = in->start_sequence == 0 ? 1 : in->start_sequence;
    if (in->start_sequence < 0)
        rpc_call_violation(call, "start_sequence", "must be 1 or more, or 0 for the first");
    if (count < 0 || count > VERIFY_MAX)
        rpc_call_violation(call, "event_count_max", "must be 1 to %d, or 0 for %d", VERIFY_MAX, VERIFY_DEFAULT);
    forge_code rc = organization_check_end(call);
    if (rc == FORGE_OK)
        range->last = range->first > INT64_MAX - count ? INT64_MAX : range->first + count - 1;
    return rc;
}

static void verify_fill(const struct db_row *row, const struct range *range, int64_t head, Forge__V1__VerifyAuditLogResponse *out)
{
    out->valid = db_row_is_null(row, "broken_sequence");
    out->complete = out->valid && head <= range->last;
    out->broken_sequence = db_row_int64(row, "broken_sequence");
    out->broken_reason = db_row_text(row, "broken_reason");
    if (db_row_is_null(row, "last_sequence"))
        return;
    out->last_sequence = db_row_int64(row, "last_sequence");
    out->verified_count = out->last_sequence - range->first + 1;
    bytes_from_row(row, "last_hash", &out->last_hash);
}

forge_code organization_verify_audit_log(struct rpc_call *call, const Forge__V1__VerifyAuditLogRequest *in,
                                         Forge__V1__VerifyAuditLogResponse *out)
{
    struct range range;
    struct db_row row;
    forge_code rc = verify_check(call, in, &range);
    if (rc != FORGE_OK)
        return rc;
    struct db_stmt *q = db_stmt(call->db, SQL_AUDIT_VERIFY);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_int64(q, range.first);
    db_bind_int64(q, range.last);
    rc = db_run_one(q, &row, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (db_row_is_null(&row, "head_sequence")) {
        out->broken_sequence = range.first;
        out->broken_reason = forge_arena_strdup(call->arena, "the head of the log is missing");
        return FORGE_OK;
    }
    int64_t head = db_row_int64(&row, "head_sequence");
    if (range.first > 1 && range.first - 1 > head)
        return rpc_call_fail(call, FORGE_OUT_OF_RANGE, "the log ends with event %" PRId64, head > 0 ? head : 0);
    verify_fill(&row, &range, head, out);
    return FORGE_OK;
}
