/* Answers and entries of the prompt cache. */
#include "prompt_cache_private.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ENTRY_OVERHEAD = 1024, /* roughly what allocations, tree and empty fields take beside the texts */
    KEY_TEXT_MAX = 2048    /* an id or a project's, a name of 255 characters and a label are far shorter */
};

/* ---- answers ---- */

struct forge__prompt_value *forge__prompt_value_new(Forge__V1__Prompt *message)
{
    struct forge__prompt_value *value = calloc(1, sizeof *value);
    if (!value) {
        forge__v1__prompt__free_unpacked(message, NULL);
        return NULL;
    }
    atomic_init(&value->refs, 1);
    value->message = message;
    return value;
}

struct forge__prompt_value *forge__prompt_value_blend(struct forge__prompt_value *by_label, struct forge__prompt_value *by_version)
{
    struct forge__prompt_value *value = calloc(1, sizeof *value);
    if (!value)
        return NULL;
    const Forge__V1__Prompt *label = by_label->message;
    atomic_init(&value->refs, 1);
    value->by_label = forge__prompt_value_ref(by_label);
    value->by_version = forge__prompt_value_ref(by_version);
    value->blend = *by_version->message;
    value->blend.name = label->name;
    value->blend.description = label->description;
    value->blend.n_tags = label->n_tags;
    value->blend.tags = label->tags;
    value->blend.current_version = label->current_version;
    value->blend.latest_version = label->latest_version;
    value->blend.label = label->label;
    value->blend.n_label_targets = label->n_label_targets;
    value->blend.label_targets = label->label_targets;
    value->blend.update_time = label->update_time;
    value->blend.etag = label->etag;
    value->blend.reply_etag = label->reply_etag;
    return value;
}

struct forge__prompt_value *forge__prompt_value_ref(struct forge__prompt_value *value)
{
    atomic_fetch_add_explicit(&value->refs, 1, memory_order_relaxed);
    return value;
}

void forge__prompt_value_unref(struct forge__prompt_value *value)
{
    if (!value || atomic_fetch_sub_explicit(&value->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (value->message)
        forge__v1__prompt__free_unpacked(value->message, NULL);
    forge__prompt_value_unref(value->by_label);
    forge__prompt_value_unref(value->by_version);
    free(value);
}

const Forge__V1__Prompt *forge__prompt_value_message(const struct forge__prompt_value *value)
{
    return value->message ? value->message : &value->blend;
}

/* ---- keys ---- */

bool forge__prompt_key(const uint8_t credential[FORGE_KEY_SIZE], const Forge__V1__GetPromptRequest *request, uint8_t out[FORGE_SHA256_SIZE])
{
    char text[FORGE_KEY_SIZE + KEY_TEXT_MAX];
    bool has_label = request->selector_case == FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL;
    bool has_version = request->selector_case == FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION;
    memcpy(text, credential, FORGE_KEY_SIZE);
    /* Lengths first: no two requests make the same text. */
    int length =
        snprintf(text + FORGE_KEY_SIZE, KEY_TEXT_MAX, "%zu %zu %zu %d %d %d %s%s%s%s", strlen(request->id), strlen(request->project_id),
                 strlen(request->name), has_label, has_version, has_version ? (int)request->version : 0, request->id, request->project_id,
                 request->name, has_label ? request->label : "");
    if (length < 0 || length >= KEY_TEXT_MAX)
        return false;
    forge_sha256(text, FORGE_KEY_SIZE + (size_t)length, out);
    return true;
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, FORGE_SHA256_SIZE); /* the key is the first member */
}

/* ---- the table ---- */

static void unlink_entry(struct forge__prompt_table *table, struct forge__prompt_entry *entry)
{
    *(entry->newer ? &entry->newer->older : &table->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &table->oldest) = entry->newer;
}

static void link_newest(struct forge__prompt_table *table, struct forge__prompt_entry *entry)
{
    entry->newer = NULL;
    entry->older = table->newest;
    *(table->newest ? &table->newest->newer : &table->oldest) = entry;
    table->newest = entry;
}

struct forge__prompt_entry *forge__prompt_table_find(const struct forge__prompt_table *table, const uint8_t key[FORGE_SHA256_SIZE])
{
    struct forge__prompt_entry *const *found = tfind(key, &table->tree, compare);
    return found ? *found : NULL;
}

static ProtobufCMessage *copy_of(const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(size + 1);
    if (!packed)
        return NULL;
    protobuf_c_message_pack(message, packed);
    ProtobufCMessage *copy = protobuf_c_message_unpack(message->descriptor, NULL, size, packed);
    free(packed);
    return copy;
}

struct forge__prompt_asked *forge__prompt_asked_ref(struct forge__prompt_asked *asked)
{
    atomic_fetch_add_explicit(&asked->refs, 1, memory_order_relaxed);
    return asked;
}

void forge__prompt_asked_unref(struct forge__prompt_asked *asked)
{
    if (!asked || atomic_fetch_sub_explicit(&asked->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (asked->request)
        forge__v1__get_prompt_request__free_unpacked(asked->request, NULL);
    free(asked);
}

struct forge__prompt_asked *forge__prompt_asked_new(const Forge__V1__GetPromptRequest *whole)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    request.id = whole->id;
    request.project_id = whole->project_id;
    request.name = whole->name;
    request.selector_case = whole->selector_case;
    if (whole->selector_case == FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION)
        request.version = whole->version;
    else if (whole->selector_case == FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL)
        request.label = whole->label;
    else
        request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR__NOT_SET;
    struct forge__prompt_asked *asked = calloc(1, sizeof *asked);
    if (!asked)
        return NULL;
    atomic_init(&asked->refs, 1);
    asked->request = (Forge__V1__GetPromptRequest *)copy_of(&request.base);
    if (asked->request)
        return asked;
    forge__prompt_asked_unref(asked);
    return NULL;
}

struct forge__prompt_entry *forge__prompt_table_add(struct forge__prompt_table *table, const uint8_t key[FORGE_SHA256_SIZE],
                                                    const Forge__V1__GetPromptRequest *request)
{
    struct forge__prompt_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    memcpy(entry->key, key, sizeof entry->key);
    entry->is_fixed = request->selector_case == FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION;
    entry->asked = forge__prompt_asked_new(request);
    if (!entry->asked || !tsearch(entry, &table->tree, compare)) {
        forge__prompt_asked_unref(entry->asked);
        free(entry);
        return NULL;
    }
    link_newest(table, entry);
    table->count++;
    return entry;
}

void forge__prompt_table_use(struct forge__prompt_table *table, struct forge__prompt_entry *entry)
{
    unlink_entry(table, entry);
    link_newest(table, entry);
}

void forge__prompt_table_set(struct forge__prompt_table *table, struct forge__prompt_entry *entry, struct forge__prompt_value *value)
{
    table->bytes -= entry->bytes;
    forge__prompt_value_unref(entry->value);
    entry->value = value;
    entry->bytes = value ? ENTRY_OVERHEAD + protobuf_c_message_get_packed_size(&value->message->base) : 0;
    table->bytes += entry->bytes;
}

void forge__prompt_table_remove(struct forge__prompt_table *table, struct forge__prompt_entry *entry)
{
    forge__prompt_table_set(table, entry, NULL);
    unlink_entry(table, entry);
    tdelete(entry, &table->tree, compare);
    table->count--;
    forge__prompt_asked_unref(entry->asked);
    free(entry);
}

void forge__prompt_table_drop(struct forge__prompt_table *table, struct forge__prompt_entry *entry)
{
    if (!entry->is_asked) {
        forge__prompt_table_remove(table, entry);
        return;
    }
    forge__prompt_table_set(table, entry, NULL);
    entry->is_overtaken = true;
}

size_t forge__prompt_table_shrink(struct forge__prompt_table *table, size_t bytes_max)
{
    size_t removed = 0;
    struct forge__prompt_entry *newer;
    for (struct forge__prompt_entry *entry = table->oldest; entry && table->bytes > bytes_max; entry = newer) {
        newer = entry->newer;
        if (entry->is_asked)
            continue;
        forge__prompt_table_remove(table, entry);
        removed++;
    }
    return removed;
}
