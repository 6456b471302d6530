#include "service/policy/book.h"

#include "service/policy/rules.h"
#include "wire/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BOOK_BYTES_MAX = 64 << 20,  /* names, attachments, rates */
    RULES_BYTES_MAX = 256 << 20 /* of all rules as messages, while they are compiled */
};

/* A book on its way. */
struct making {
    struct policy_book *book;
    struct forge_arena rules; /* messages; gone when the set is made */
    struct policy_source *sources;
};

struct policy_book *policy_book_ref(struct policy_book *book)
{
    atomic_fetch_add_explicit(&book->references, 1, memory_order_relaxed);
    return book;
}

void policy_book_unref(struct policy_book *book)
{
    if (book == NULL || atomic_fetch_sub_explicit(&book->references, 1, memory_order_acq_rel) > 1)
        return;
    policy_set_free(book->set);
    forge_arena_done(&book->arena);
    free(book);
}

/* --- rows ------------------------------------------------------------------------------------------------------------ */

/* "label:production", as policy_book_read writes it. False where the kind is none that we know, which the column's check excludes. */
static bool attachment_read(const char *text, struct policy_attachment *out)
{
    static const char *const kinds[] = {[POLICY_TARGET_ORGANIZATION] = "organization:",
                                        [POLICY_TARGET_PROJECT] = "project:",
                                        [POLICY_TARGET_LABEL] = "label:",
                                        [POLICY_TARGET_MODEL] = "model:"};
    for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++) {
        size_t length = strlen(kinds[kind]);
        if (strncmp(text, kinds[kind], length) != 0)
            continue;
        *out = (struct policy_attachment){.target = (enum policy_target)kind};
        if (kind == POLICY_TARGET_LABEL)
            out->label = text + length;
        return kind == POLICY_TARGET_ORGANIZATION || kind == POLICY_TARGET_LABEL || forge_uuid_parse(text + length, &out->id);
    }
    return false;
}

static forge_code attachments_read(struct policy_book *book, const struct db_row *row, struct policy_in_book *policy)
{
    size_t count = 0;
    char **texts = db_row_text_array(row, "attachments", &count);
    struct policy_attachment *attachments = forge_arena_calloc(&book->arena, count, sizeof *attachments);
    for (size_t i = 0; texts != NULL && attachments != NULL && i < count; i++) {
        const char *text = forge_arena_strdup(&book->arena, texts[i]);
        if (text != NULL && !attachment_read(text, &attachments[i]))
            return FORGE_DATA_LOSS;
        policy->asks_model |= attachments[i].target == POLICY_TARGET_MODEL;
    }
    policy->attachments = attachments;
    policy->attachment_count = count;
    return texts == NULL || forge_arena_has_overflowed(&book->arena) ? FORGE_RESOURCE_EXHAUSTED : FORGE_OK;
}

static void rate_note(struct policy_book *book, const Forge__V1__PolicyRule *rule, struct policy_in_book *policy,
                      struct policy_rate_rule *out)
{
    const Forge__V1__RateLimitRule *limit = rule->rate_limit;
    policy->asks_model |= limit->key == FORGE__V1__RATE_LIMIT_KEY__RATE_LIMIT_KEY_MODEL;
    const char *sentence =
        limit->tokens_max > 0 ? "More calls or tokens in a while than are allowed." : "More calls in a while than are allowed.";
    *out = (struct policy_rate_rule){
        .name = forge_arena_strdup(&book->arena, rule->name),
        .message = forge_arena_printf(&book->arena, "%s%s%s", sentence, rule->description[0] != '\0' ? " " : "", rule->description),
        .action = rule->action,
        .severity = rule->severity,
        .key = limit->key,
        .window_s = limit->window_s,
        .calls_max = limit->calls_max,
        .tokens_max = limit->tokens_max};
}

static int compare_rates(const void *left, const void *right)
{
    const struct policy_rate_rule *a = left, *b = right;
    return strcmp(a->name, b->name);
}

/* Which facts the rules of a policy ask for; and those about rates, by name, as answers tell what was found. */
static forge_code rules_note(struct policy_book *book, Forge__V1__PolicyRule *const *rules, size_t count, struct policy_in_book *policy)
{
    struct policy_rate_rule *rates = forge_arena_calloc(&book->arena, count, sizeof *rates);
    for (size_t i = 0; rates != NULL && i < count; i++) {
        Forge__V1__PolicyRule__KindCase kind = rules[i]->kind_case;
        policy->asks_model |= kind == FORGE__V1__POLICY_RULE__KIND_ALLOWED_MODELS;
        policy->asks_cost |= kind == FORGE__V1__POLICY_RULE__KIND_COST_LIMIT;
        policy->asks_tags |= kind == FORGE__V1__POLICY_RULE__KIND_REQUIRED_TAGS;
        if (kind == FORGE__V1__POLICY_RULE__KIND_RATE_LIMIT)
            rate_note(book, rules[i], policy, &rates[policy->rate_count++]);
    }
    policy->rates = rates;
    if (rates == NULL || forge_arena_has_overflowed(&book->arena))
        return FORGE_RESOURCE_EXHAUSTED;
    qsort(rates, policy->rate_count, sizeof *rates, compare_rates);
    return FORGE_OK;
}

static forge_code policy_read(struct making *making, size_t index, const struct db_row *row)
{
    struct policy_book *book = making->book;
    struct policy_in_book *policy = &book->policies[index];
    Forge__V1__PolicyRule **rules;
    size_t count;
    db_row_uuid(row, "id", &policy->id);
    if (!db_row_is_null(row, "project_id"))
        db_row_uuid(row, "project_id", &policy->project_id);
    forge_uuid_format(&policy->id, policy->id_text);
    policy->name = forge_arena_strdup(&book->arena, db_row_text_or_empty(row, "name"));
    policy->version = db_row_int32(row, "published_version");
    policy->mode = policy_mode_find(db_row_text_or_empty(row, "mode"));
    forge_code code = attachments_read(book, row, policy);
    if (code == FORGE_OK)
        code = policy_rules_read(&making->rules, db_row_text_or_empty(row, "rules"), &rules, &count);
    if (code != FORGE_OK)
        return code;
    policy_rules_fill_in(rules, count);
    code = rules_note(book, rules, count, policy);
    if (code != FORGE_OK)
        return code;
    making->sources[index] = (struct policy_source){.id = policy->id_text,
                                                    .version = policy->version,
                                                    .mode = policy->mode,
                                                    .rules = (const Forge__V1__PolicyRule *const *)rules,
                                                    .rule_count = count};
    return FORGE_OK;
}

/* --- compiling ------------------------------------------------------------------------------------------------------- */

static void fail(struct policy_book *book, const char *where, const char *said)
{
    forge_error_set(&book->failure, FORGE_FAILED_PRECONDITION, "%s: %s", where, said);
}

static forge_code compile(struct rpc_call *call, struct making *making)
{
    struct policy_book *book = making->book;
    struct forge_error error = {0};
    uint64_t begun_ns = forge_clock_monotonic_ns();
    forge_code code = policy_set_prepare(making->sources, book->policy_count, &making->rules, &error, &book->set);
    book->prepare_ns = forge_clock_monotonic_ns() - begun_ns;
    if (code == FORGE_INVALID_ARGUMENT) {
        const struct forge_violation *first = error.violations;
        fail(book, first != NULL ? first->field : "policies", first != NULL ? first->description : "");
        return FORGE_OK;
    }
    return code == FORGE_OK ? code : rpc_call_fail(call, code, "no memory to compile the policies");
}

static forge_code fill(struct rpc_call *call, struct making *making, const struct db_rows *rows)
{
    struct policy_book *book = making->book;
    book->policies = forge_arena_calloc(&book->arena, (size_t)rows->count, sizeof *book->policies);
    making->sources = forge_arena_calloc(&making->rules, (size_t)rows->count, sizeof *making->sources);
    if (book->policies == NULL || making->sources == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "no memory for %d policies", rows->count);
    for (int i = 0; i < rows->count; i++) {
        struct db_row row = db_rows_at(rows, i);
        if (db_row_is_null(&row, "id"))
            break; /* there is none: only the digest was told */
        forge_code code = policy_read(making, book->policy_count, &row);
        if (code == FORGE_RESOURCE_EXHAUSTED)
            return rpc_call_fail(call, code, "no memory for %d policies", rows->count);
        if (code != FORGE_OK) {
            fail(book, book->policies[book->policy_count].id_text, "it cannot be read");
            return FORGE_OK;
        }
        book->policy_count++;
    }
    return compile(call, making);
}

static forge_code make(struct rpc_call *call, const struct db_rows *rows, const char *digest, struct policy_book **out_book)
{
    struct making making = {.book = calloc(1, sizeof *making.book)};
    if (making.book == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "no memory for the policies");
    atomic_init(&making.book->references, 1);
    snprintf(making.book->digest, sizeof making.book->digest, "%s", digest);
    forge_arena_init(&making.book->arena, BOOK_BYTES_MAX, NULL);
    forge_arena_init(&making.rules, RULES_BYTES_MAX, NULL);
    forge_code code = fill(call, &making, rows);
    forge_arena_done(&making.rules);
    if (code == FORGE_OK)
        *out_book = making.book;
    else
        policy_book_unref(making.book);
    return code;
}

forge_code policy_book_load(struct rpc_call *call, struct policy_book *known, struct policy_book **out_book)
{
    struct db_rows rows;
    forge_code code = rpc_call_connect(call);
    if (code != FORGE_OK)
        return code;
    struct db_stmt *q = db_stmt(call->db, SQL_POLICY_BOOK_READ);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_text(q, known != NULL ? known->digest : NULL);
    code = db_run_many(q, &rows, &call->error);
    if (code != FORGE_OK)
        return code;
    struct db_row first = db_rows_at(&rows, 0);
    const char *digest = db_row_text_or_empty(&first, "digest");
    if (digest == NULL) /* the call's arena is full */
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "no memory for the policies");
    if (known != NULL && strcmp(known->digest, digest) == 0) {
        *out_book = policy_book_ref(known);
        return FORGE_OK;
    }
    return make(call, &rows, digest, out_book);
}
