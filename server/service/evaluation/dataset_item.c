/* EvaluationService: the items of datasets, in immutable versions that are numbered without gaps. */
#include "db/stmt.h"
#include "rpc/page.h"
#include "service/evaluation/evaluation.h"
#include "service/reply.h"
#include "service/validate.h"
#include "text/json_object.h"
#include "wire/crypto.h"

#include "rpc_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ITEMS_PER_CALL_MAX = 1000,
    ITEMS_MAX = 100000,
    INPUT_BYTES_MAX = 256 << 10,
    METADATA_BYTES_MAX = 64 << 10,
    MESSAGE_CHARACTERS_MAX = 1024,
    PAGE_BYTES_MAX = 3 << 20, /* of contents, so that a page stays below the reply limit of 4 MiB */
    FIELD_SIZE = 64
};

static void version_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__DatasetVersion *out)
{
    size_t size = 0;
    const uint8_t *hash = db_row_bytes(row, "content_hash", &size);
    out->dataset_id = db_row_uuid_text(row, "dataset_id");
    out->version = db_row_int32(row, "version");
    out->content_hash = reply_hex(call, hash, size);
    out->item_count = db_row_int32(row, "item_count");
    out->message = db_row_text_or_empty(row, "message");
    out->author_id = db_row_uuid_text(row, "author");
    out->create_time = reply_time(call, row, "created_at");
}

/* --- AddDatasetItems: checks ----------------------------------------------------------------------------------------- */

static void object_check(struct rpc_call *call, const char *field, const char *json, size_t bytes_max)
{
    if (validate_bytes(call, field, json, bytes_max) && json[0] != '\0' && text_json_object_canonical(json, strlen(json), NULL, 0) == 0)
        rpc_call_violation(call, field, "must be a JSON object, each member once");
}

static void item_check(struct rpc_call *call, size_t index, const Forge__V1__DatasetItem *item)
{
    char field[FIELD_SIZE];
    snprintf(field, sizeof field, "items[%zu].key", index);
    validate_name_or_empty(call, field, item->key);
    snprintf(field, sizeof field, "items[%zu].input", index);
    object_check(call, field, item->input, INPUT_BYTES_MAX);
    snprintf(field, sizeof field, "items[%zu].expected_output", index);
    validate_bytes(call, field, item->expected_output, INPUT_BYTES_MAX);
    snprintf(field, sizeof field, "items[%zu].metadata", index);
    object_check(call, field, item->metadata, METADATA_BYTES_MAX);
    snprintf(field, sizeof field, "items[%zu].source_trace_id", index);
    validate_hex_digits(call, field, item->source_trace_id, EVALUATION_TRACE_ID_DIGITS);
    snprintf(field, sizeof field, "items[%zu].source_span_id", index);
    validate_hex_digits(call, field, item->source_span_id, EVALUATION_SPAN_ID_DIGITS);
}

/* A key of the request and the field it stands in. */
struct named_key {
    const char *key, *list;
    size_t index;
};

static int compare_keys(const void *a, const void *b)
{
    const struct named_key *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    if (order == 0)
        order = strcmp(x->list, y->list); /* "items" before "remove_keys" */
    return order != 0 ? order : (x->index > y->index) - (x->index < y->index);
}

static void keys_check_unique(struct rpc_call *call, const Forge__V1__AddDatasetItemsRequest *in)
{
    size_t count = 0;
    struct named_key *keys = forge_arena_calloc(call->arena, in->n_items + in->n_remove_keys + 1, sizeof *keys);
    if (keys == NULL)
        return; /* rpc sees the overflow */
    for (size_t i = 0; i < in->n_items; i++)
        if (in->items[i]->key[0] != '\0')
            keys[count++] = (struct named_key){in->items[i]->key, "items", i};
    for (size_t i = 0; i < in->n_remove_keys; i++)
        keys[count++] = (struct named_key){in->remove_keys[i], "remove_keys", i};
    qsort(keys, count, sizeof keys[0], compare_keys);
    for (size_t i = 1; i < count; i++) {
        char field[FIELD_SIZE];
        bool is_item = strcmp(keys[i].list, "items") == 0;
        snprintf(field, sizeof field, is_item ? "%s[%zu].key" : "%s[%zu]", keys[i].list, keys[i].index);
        if (strcmp(keys[i - 1].key, keys[i].key) == 0)
            rpc_call_violation(call, field, "is given twice");
    }
}

static void add_check(struct rpc_call *call, const Forge__V1__AddDatasetItemsRequest *in, struct forge_uuid *dataset_id)
{
    validate_uuid(call, "dataset_id", in->dataset_id, dataset_id);
    validate_text(call, "message", in->message, MESSAGE_CHARACTERS_MAX);
    if (in->expected_version != NULL && in->expected_version->value < 0)
        rpc_call_violation(call, "expected_version", "must be 0 or more");
    if (in->n_items == 0 && in->n_remove_keys == 0)
        rpc_call_violation(call, "items", "items or remove_keys are required");
    if (in->n_items > ITEMS_PER_CALL_MAX)
        rpc_call_violation(call, "items", "must be at most %d", ITEMS_PER_CALL_MAX);
    if (in->n_remove_keys > ITEMS_PER_CALL_MAX)
        rpc_call_violation(call, "remove_keys", "must be at most %d", ITEMS_PER_CALL_MAX);
    if (in->n_items > ITEMS_PER_CALL_MAX || in->n_remove_keys > ITEMS_PER_CALL_MAX)
        return;
    for (size_t i = 0; i < in->n_items; i++)
        item_check(call, i, in->items[i]);
    for (size_t i = 0; i < in->n_remove_keys; i++) {
        char field[FIELD_SIZE];
        snprintf(field, sizeof field, "remove_keys[%zu]", i);
        validate_name(call, field, in->remove_keys[i]);
    }
    keys_check_unique(call, in);
}

/* --- AddDatasetItems: content ---------------------------------------------------------------------------------------- */

/* An object in the one spelling that all of the same content share; nothing for none. */
static void hash_object(struct rpc_call *call, struct forge_sha256_state *state, const char *json)
{
    size_t size = json[0] != '\0' ? text_json_object_canonical(json, strlen(json), NULL, 0) : 0;
    char *canonical = size > 0 ? forge_arena_alloc(call->arena, size) : NULL;
    if (canonical != NULL)
        text_json_object_canonical(json, strlen(json), canonical, size);
    forge_sha256_piece(state, canonical, canonical != NULL ? size : 0);
}

/* The items as columns. */
struct columns {
    struct forge_uuid *ids;
    const char **keys, **inputs, **expected_outputs, **metadata, **trace_ids, **span_ids, **hashes, **bytes;
};

static bool columns_new(struct rpc_call *call, size_t count, struct columns *out)
{
    enum { TEXTS = 8 };
    const char **texts = forge_arena_calloc(call->arena, TEXTS * count + 1, sizeof *texts),
               ***column[TEXTS] = {&out->keys,      &out->inputs,   &out->expected_outputs, &out->metadata,
                                   &out->trace_ids, &out->span_ids, &out->hashes,           &out->bytes};
    out->ids = forge_arena_calloc(call->arena, count + 1, sizeof *out->ids);
    for (size_t i = 0; i < TEXTS; i++)
        *column[i] = texts != NULL ? texts + i * count : NULL;
    return texts != NULL && out->ids != NULL;
}

static void columns_set(struct rpc_call *call, struct columns *columns, size_t i, const Forge__V1__DatasetItem *item)
{
    uint8_t hash[FORGE_SHA256_SIZE];
    forge_uuid_v7(&columns->ids[i]);
    columns->keys[i] = item->key[0] != '\0' ? item->key : reply_uuid(call, &columns->ids[i]);
    columns->inputs[i] = item->input;
    columns->expected_outputs[i] = item->expected_output;
    columns->metadata[i] = item->metadata;
    columns->trace_ids[i] = evaluation_lower_case(call, item->source_trace_id);
    columns->span_ids[i] = evaluation_lower_case(call, item->source_span_id);
    struct forge_sha256_state *state = forge_sha256_new();
    forge_sha256_piece(state, columns->keys[i], columns->keys[i] != NULL ? strlen(columns->keys[i]) : 0);
    hash_object(call, state, item->input);
    forge_sha256_piece(state, item->expected_output, strlen(item->expected_output));
    hash_object(call, state, item->metadata);
    forge_sha256_piece(state, columns->trace_ids[i], strlen(columns->trace_ids[i]));
    forge_sha256_piece(state, columns->span_ids[i], strlen(columns->span_ids[i]));
    forge_sha256_final(state, hash);
    columns->hashes[i] = reply_hex(call, hash, sizeof hash);
    columns->bytes[i] =
        forge_arena_printf(call->arena, "%zu", strlen(item->input) + strlen(item->expected_output) + strlen(item->metadata));
}

static struct db_stmt *add_statement(struct rpc_call *call, const Forge__V1__AddDatasetItemsRequest *in,
                                     const struct forge_uuid *dataset_id, const struct columns *columns)
{
    struct db_stmt *lock = db_stmt(call->db, SQL_DATASET_LOCK);
    db_bind_uuid(lock, &call->principal.organization_id);
    db_bind_uuid(lock, dataset_id);
    db_queue(lock);
    struct db_stmt *q = db_stmt(call->db, SQL_DATASET_ADD_ITEMS);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, dataset_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_time_us(q, call->now_us);
    db_bind_uuid(q, &call->principal.id);
    db_bind_text(q, in->message[0] != '\0' ? in->message : NULL);
    db_bind_uuid_array(q, columns->ids, in->n_items);
    db_bind_text_array(q, columns->keys, in->n_items);
    db_bind_text_array(q, columns->inputs, in->n_items);
    db_bind_text_array(q, columns->expected_outputs, in->n_items);
    db_bind_text_array(q, columns->metadata, in->n_items);
    db_bind_text_array(q, columns->trace_ids, in->n_items);
    db_bind_text_array(q, columns->span_ids, in->n_items);
    db_bind_text_array(q, columns->hashes, in->n_items);
    db_bind_text_array(q, columns->bytes, in->n_items);
    db_bind_text_array(q, (const char *const *)in->remove_keys, in->n_remove_keys);
    return q;
}

/* What only the row can tell. */
static forge_code add_refuse(struct rpc_call *call, const Forge__V1__AddDatasetItemsRequest *in, const struct db_row *row)
{
    int32_t previous = db_row_int32(row, "previous_version");
    if (in->expected_version != NULL && in->expected_version->value != previous)
        return rpc_call_fail(call, FORGE_ABORTED, "version %d is the latest, not %d", previous, in->expected_version->value);
    if (!db_row_is_null(row, "missing_key"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "the dataset has no item \"%s\" to remove", db_row_text_or_empty(row, "missing_key"));
    if (db_row_int32(row, "item_count") > ITEMS_MAX)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "a dataset holds at most %d items", ITEMS_MAX);
    return FORGE_OK;
}

forge_code evaluation_add_dataset_items(struct rpc_call *call, const Forge__V1__AddDatasetItemsRequest *in, Forge__V1__DatasetVersion *out)
{
    struct forge_uuid dataset_id;
    struct columns columns;
    struct db_row row;
    add_check(call, in, &dataset_id);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    if (columns_new(call, in->n_items, &columns))
        for (size_t i = 0; i < in->n_items; i++)
            columns_set(call, &columns, i, in->items[i]);
    if (forge_arena_has_overflowed(call->arena))
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the items need too much memory");
    forge_code rc = reply_run_found(call, add_statement(call, in, &dataset_id, &columns), "dataset", in->dataset_id, &row);
    if (rc == FORGE_OK)
        rc = add_refuse(call, in, &row);
    if (rc != FORGE_OK)
        return rc;
    version_from_row(call, &row, out);
    out->existing = db_row_bool(&row, "existing");
    return FORGE_OK;
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

static void version_check(struct rpc_call *call, int32_t version)
{
    if (version < 0)
        rpc_call_violation(call, "version", "must be 0 or more");
}

static forge_code version_not_found(struct rpc_call *call, int32_t version)
{
    if (version == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "the dataset has no version yet");
    return rpc_call_fail(call, FORGE_NOT_FOUND, "the dataset has no version %d", version);
}

forge_code evaluation_get_dataset_version(struct rpc_call *call, const Forge__V1__GetDatasetVersionRequest *in,
                                          Forge__V1__DatasetVersion *out)
{
    struct forge_uuid dataset_id;
    struct db_row row;
    validate_uuid(call, "dataset_id", in->dataset_id, &dataset_id);
    version_check(call, in->version);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    struct db_stmt *q = db_stmt(call->db, SQL_DATASET_GET_VERSION);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &dataset_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_int32(q, in->version);
    forge_code rc = reply_run_found(call, q, "dataset", in->dataset_id, &row);
    if (rc != FORGE_OK)
        return rc;
    if (db_row_is_null(&row, "version"))
        return version_not_found(call, in->version);
    version_from_row(call, &row, out);
    return FORGE_OK;
}

static struct db_stmt *list_statement(struct rpc_call *call, const Forge__V1__ListDatasetItemsRequest *in,
                                      const struct forge_uuid *dataset_id, const struct rpc_page *page)
{
    struct db_stmt *q = db_stmt(call->db, SQL_DATASET_LIST_ITEMS);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, dataset_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_int32(q, page->has_key ? (int32_t)page->last_number : in->version);
    db_bind_text(q, in->key_prefix);
    db_bind_text(q, validate_prefix_end(in->key_prefix, call->arena));
    db_bind_text(q, page->has_key ? page->last_name : "");
    db_bind_int32(q, page->size + 1);
    db_bind_int64(q, PAGE_BYTES_MAX);
    return q;
}

static void list_fill(struct rpc_call *call, const struct db_rows *rows, int count, Forge__V1__ListDatasetItemsResponse *out)
{
    out->items = forge_arena_calloc(call->arena, (size_t)count + 1, sizeof out->items[0]);
    for (int i = 0; out->items != NULL && i < count; i++) {
        struct db_row row = db_rows_at(rows, i);
        Forge__V1__DatasetItem *item = reply_message(call, &forge__v1__dataset_item__descriptor);
        if (item == NULL || db_row_is_null(&row, "id"))
            return; /* rpc sees an overflow; or the one row of a version without items */
        item->id = db_row_uuid_text(&row, "id");
        item->key = db_row_text(&row, "key");
        item->input = db_row_text(&row, "input");
        item->expected_output = db_row_text(&row, "expected_output");
        item->metadata = db_row_text_or_empty(&row, "metadata");
        item->source_trace_id = db_row_text_or_empty(&row, "trace_id");
        item->source_span_id = db_row_text_or_empty(&row, "span_id");
        out->items[out->n_items++] = item;
    }
}

forge_code evaluation_list_dataset_items(struct rpc_call *call, const Forge__V1__ListDatasetItemsRequest *in,
                                         Forge__V1__ListDatasetItemsResponse *out)
{
    struct forge_uuid dataset_id;
    struct rpc_page page;
    struct db_rows rows;
    const char *filter = forge_arena_printf(call->arena, "%s|%d|%s", in->dataset_id, in->version, in->key_prefix);
    size_t filter_size = filter != NULL ? strlen(filter) : 0;
    validate_uuid(call, "dataset_id", in->dataset_id, &dataset_id);
    version_check(call, in->version);
    rpc_page_read(call, in->page_size, in->page_token, filter, filter_size, &page);
    validate_name_or_empty(call, "key_prefix", in->key_prefix);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    forge_code rc = db_run_many(list_statement(call, in, &dataset_id, &page), &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "dataset %s not found", in->dataset_id);
    struct db_row first = db_rows_at(&rows, 0);
    if (db_row_is_null(&first, "version") && in->version > 0)
        return version_not_found(call, in->version);
    out->version = db_row_int32(&first, "version");
    list_fill(call, &rows, rows.count < page.size ? rows.count : page.size, out);
    if (out->n_items > 0 && db_row_int64(&first, "found") > (int64_t)out->n_items)
        out->next_page_token =
            rpc_page_next(call, filter, filter_size, out->items[out->n_items - 1]->key, out->version, &(struct forge_uuid){0});
    return FORGE_OK;
}
