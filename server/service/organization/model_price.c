/* OrganizationService: what models cost. A price is never changed: the next one of the model ends it. */
#include "rpc/page.h"
#include "rpc/write.h"
#include "service/organization/organization.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { KINDS = FORGE__V1__USAGE_TYPE__USAGE_TYPE_REASONING, FIELD_SIZE = 64 };
static const int64_t micros_max = INT64_C(1000000000000);         /* a dollar a token: more is a mistake in the unit */
static const int64_t year_10000_us = INT64_C(253402300800000000); /* after every time there is */

/* A column for each kind of tokens, by USAGE_TYPE_* - 1. */
static const char *const columns[KINDS] = {"input_price", "cache_read_price", "cache_write_price", "output_price", "reasoning_price"};

static void usage_prices_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__ModelPrice *out)
{
    out->usage_prices = forge_arena_calloc(call->arena, KINDS, sizeof *out->usage_prices);
    for (int kind = 0; out->usage_prices != NULL && kind < KINDS; kind++) {
        int64_t micros = db_row_int64(row, columns[kind]);
        Forge__V1__UsagePrice *price = micros > 0 ? reply_message(call, &forge__v1__usage_price__descriptor) : NULL;
        if (price == NULL)
            continue;
        price->usage_type = (Forge__V1__UsageType)(kind + 1);
        price->micros_per_million_tokens = micros;
        out->usage_prices[out->n_usage_prices++] = price;
    }
}

static void price_from_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    Forge__V1__ModelPrice *out = message;
    out->id = db_row_uuid_text(row, "id");
    out->model_id = db_row_uuid_text(row, "model_id");
    out->effective_time = reply_time(call, row, "effective_at");
    out->currency = db_row_text(row, "currency");
    usage_prices_from_row(call, row, out);
    out->creator_id = db_row_uuid_text(row, "created_by");
    out->create_time = reply_time(call, row, "created_at");
}

/* --- SetModelPrice --- */

/* What SetModelPrice stores, checked. */
struct creation {
    struct forge_uuid id, model_id;
    int64_t effective_us, micros[KINDS];
};

static void usage_prices_check(struct rpc_call *call, const Forge__V1__SetModelPriceRequest *in, struct creation *creation)
{
    bool is_given[KINDS] = {false};
    if (in->n_usage_prices == 0)
        rpc_call_violation(call, "usage_prices", "at least one is required");
    if (in->n_usage_prices > KINDS)
        rpc_call_violation(call, "usage_prices", "must be at most %d, one of a kind", KINDS);
    for (size_t i = 0; i < in->n_usage_prices && i < KINDS; i++) {
        const Forge__V1__UsagePrice *price = in->usage_prices[i];
        char field[FIELD_SIZE];
        bool is_known = price->usage_type >= FORGE__V1__USAGE_TYPE__USAGE_TYPE_INPUT && (int)price->usage_type <= KINDS;
        snprintf(field, sizeof field, "usage_prices[%zu].usage_type", i);
        if (!is_known)
            rpc_call_violation(call, field, "must be USAGE_TYPE_INPUT, _CACHE_READ, _CACHE_WRITE, _OUTPUT or _REASONING");
        else if (is_given[price->usage_type - 1])
            rpc_call_violation(call, field, "is given twice");
        snprintf(field, sizeof field, "usage_prices[%zu].micros_per_million_tokens", i);
        if (price->micros_per_million_tokens < 0 || price->micros_per_million_tokens > micros_max)
            rpc_call_violation(call, field, "must be 0 to %" PRId64, micros_max);
        if (!is_known)
            continue;
        is_given[price->usage_type - 1] = true;
        creation->micros[price->usage_type - 1] = price->micros_per_million_tokens;
    }
}

static forge_code create_check(struct rpc_call *call, const Forge__V1__SetModelPriceRequest *in, struct creation *creation)
{
    validate_uuid(call, "model_id", in->model_id, &creation->model_id);
    creation->effective_us = call->now_us;
    if (in->effective_time != NULL)
        validate_time(call, "effective_time", in->effective_time, &creation->effective_us);
    if (in->currency[0] != '\0' && strcmp(in->currency, "USD") != 0)
        rpc_call_violation(call, "currency", "must be USD");
    usage_prices_check(call, in, creation);
    return organization_check_end(call);
}

static struct db_stmt *create_statement(struct rpc_call *call, const struct creation *creation)
{
    struct db_stmt *q = db_stmt(call->db, SQL_MODEL_PRICE_CREATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &creation->id);
    db_bind_uuid(q, &creation->model_id);
    db_bind_time_us(q, creation->effective_us);
    db_bind_text(q, "USD");
    for (int kind = 0; kind < KINDS; kind++)
        db_bind_int64(q, creation->micros[kind]);
    db_bind_uuid(q, &call->principal.id);
    db_bind_time_us(q, call->now_us);
    return q;
}

forge_code organization_set_model_price(struct rpc_call *call, const Forge__V1__SetModelPriceRequest *in, Forge__V1__ModelPrice *out)
{
    struct creation creation = {0};
    struct db_row row;
    forge_code rc = create_check(call, in, &creation);
    if (rc != FORGE_OK)
        return rc;
    forge_uuid_v7(&creation.id);
    rc = db_run_one(create_statement(call, &creation), &row, &call->error);
    if (rc == FORGE_FAILED_PRECONDITION && reply_violates(call, "model_prices_model_id_fkey"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "model %s not found", in->model_id);
    if (rc == FORGE_ALREADY_EXISTS && reply_violates(call, "ix_model_prices_effective_at"))
        return rpc_call_fail(call, rc, "the model has a price from this time on already");
    if (rc != FORGE_OK)
        return rc;
    price_from_row(call, &row, out);
    organization_audit(call, "model_price.set", "model_price", &creation.id, &out->base);
    rpc_write_change(call, "model_price", &creation.id, &creation.model_id);
    return FORGE_OK;
}

/* --- ListModelPrices --- */

/* What ListModelPrices filters by, checked. */
struct filter {
    struct forge_uuid first_model, last_model;
    bool is_effective; /* only what is in force at effective_us */
    int64_t effective_us;
    const char *text; /* all of it, for page tokens */
};

static void filter_check(struct rpc_call *call, const Forge__V1__ListModelPricesRequest *in, struct filter *filter)
{
    memset(&filter->last_model, 0xFF, sizeof filter->last_model);
    if (in->model_id[0] != '\0' && validate_uuid(call, "model_id", in->model_id, &filter->first_model))
        filter->last_model = filter->first_model;
    filter->is_effective = in->effective_at != NULL && validate_time(call, "effective_at", in->effective_at, &filter->effective_us);
    filter->text = forge_arena_printf(call->arena, "%s|%d|%" PRId64, in->model_id, filter->is_effective, filter->effective_us);
}

static forge_code list_run(struct rpc_call *call, const struct filter *filter, const struct rpc_page *page, struct db_rows *rows)
{
    struct db_stmt *q = db_stmt(call->db, filter->is_effective ? SQL_MODEL_PRICE_LIST_EFFECTIVE : SQL_MODEL_PRICE_LIST);
    struct forge_uuid before_all = {0};
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, page->has_key && !filter->is_effective ? &page->last_id : &filter->first_model);
    db_bind_uuid(q, &filter->last_model);
    if (filter->is_effective) {
        db_bind_uuid(q, page->has_key ? &page->last_id : &before_all);
        db_bind_time_us(q, filter->effective_us);
    } else {
        db_bind_time_us(q, page->has_key ? page->last_number : year_10000_us);
    }
    db_bind_int32(q, page->size + 1);
    return db_run_many(q, rows, &call->error);
}

forge_code organization_list_model_prices(struct rpc_call *call, const Forge__V1__ListModelPricesRequest *in,
                                          Forge__V1__ListModelPricesResponse *out)
{
    struct filter filter = {0};
    struct rpc_page page;
    struct db_rows rows;
    struct forge_uuid last;
    filter_check(call, in, &filter);
    size_t filter_size = filter.text != NULL ? strlen(filter.text) : 0;
    rpc_page_read(call, in->page_size, in->page_token, filter.text, filter_size, &page);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    forge_code rc = list_run(call, &filter, &page, &rows);
    if (rc != FORGE_OK)
        return rc;
    out->model_prices = reply_list(call, &rows, page.size, &forge__v1__model_price__descriptor, price_from_row, &out->n_model_prices);
    if (rows.count <= page.size || out->n_model_prices == 0)
        return FORGE_OK;
    struct db_row row = db_rows_at(&rows, (int)out->n_model_prices - 1);
    db_row_uuid(&row, "model_id", &last);
    out->next_page_token = rpc_page_next(call, filter.text, filter_size, NULL, db_row_time_us(&row, "effective_at"), &last);
    return FORGE_OK;
}
