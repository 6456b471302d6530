/* Who may see what: every method of the server, called by its own organization, by another one, without a credential, with a revoked key
 * and with a key bound to another project, each before and after the server has the credential in its cache. Nothing of the first
 * organization may show in what the others are answered, and nothing of it may change. A method that is added needs a row here. */
#include "isolation_rows.h"
#include "support/world.h"
#include "wire/clock.h"
#include "wire/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(text) ((char *)(uintptr_t)(text)) /* protobuf-c has char * for what it only reads */

enum { REVOKED_WITHIN_MS = 1000 };

static struct world world;
static bool without_policies;
static struct forge_arena arena;
/* At home: a project and a prompt in it whose names and content stand nowhere else, a key, a user, a service account, a dataset,
 * an evaluation, a score, a model provider with a model, and a policy with a violation. */
static char project_id[WORLD_ID_SIZE], prompt_id[WORLD_ID_SIZE], key_id[WORLD_ID_SIZE], user_id[WORLD_ID_SIZE], account_id[WORLD_ID_SIZE];
static char dataset_id[WORLD_ID_SIZE], evaluation_id[WORLD_ID_SIZE], provider_id[WORLD_ID_SIZE], model_id[WORLD_ID_SIZE];
static char score_id[WORLD_ID_SIZE], policy_id[WORLD_ID_SIZE], violation_id[WORLD_ID_SIZE];
static char other_project_id[WORLD_ID_SIZE]; /* at home too: what the bound keys are bound to */
static unsigned fresh_number;

/* ---- calls ---- */

static char *fill_in(const char *template)
{
    char *text = forge_arena_strdup(&arena, "");
    for (const char *at = template; *at; at++) {
        char letter[2] = {*at, 0}, number[24];
        const char *part = letter;
        if (*at == '$') {
            snprintf(number, sizeof number, "%u", fresh_number);
            switch (*++at) {
            case 'o':
                part = world.home.organization_id;
                break;
            case 'p':
                part = project_id;
                break;
            case 'q':
                part = prompt_id;
                break;
            case 'a':
                part = account_id;
                break;
            case 'b':
                part = violation_id;
                break;
            case 'd':
                part = dataset_id;
                break;
            case 'e':
                part = evaluation_id;
                break;
            case 'k':
                part = key_id;
                break;
            case 'l':
                part = policy_id;
                break;
            case 'm':
                part = model_id;
                break;
            case 's':
                part = score_id;
                break;
            case 't':
                snprintf(number, sizeof number, "%lld000", (long long)forge_clock_wall_us());
                part = number;
                break;
            case 'u':
                part = user_id;
                break;
            case 'v':
                part = provider_id;
                break;
            case 'n':
                part = number;
                break;
            default:
                fail_msg("$%c in %s", *at, template);
            }
        }
        text = forge_arena_printf(&arena, "%s%s", text, part);
    }
    fresh_number++;
    return text;
}

/* What of home stands in this text and not in the request? NULL: nothing. */
static const char *leak_in(const char *text, const char *request)
{
    const char *const secrets[] = {world.home.organization_id,
                                   project_id,
                                   prompt_id,
                                   key_id,
                                   user_id,
                                   "spy@home.example",
                                   world.home.project_id,
                                   world.home.prompt_id,
                                   world.home.email,
                                   "Private",
                                   "PLUTONIUM",
                                   "Classified",
                                   "covert",
                                   "Organization home",
                                   "Confidential",
                                   evaluation_id,
                                   policy_id,
                                   violation_id,
                                   provider_id,
                                   model_id,
                                   score_id,
                                   "rendezvous",
                                   "Clandestine",
                                   "hidden-model"};
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++)
        if (strstr(text, secrets[i]) && !strstr(request, secrets[i]))
            return secrets[i];
    return NULL;
}

/* Calls and expects the code; with watch nothing of home in the answer. */
static void expect(struct forge_channel *channel, const struct isolation_row *row, forge_code expected, bool watch, const char *who)
{
    const struct forge_method *method = forge_method_find(row->method);
    const struct forge_json_options options = {.with_defaults = false};
    struct forge_error error = {0};
    ProtobufCMessage *request, *reply = NULL;
    char *json = fill_in(row->request);
    assert_non_null(method);
    world_check(&world, row->method, forge_json_to_message(json, strlen(json), method->input, &arena, &request, &error), &error);
    forge_code code = forge_channel_call(channel, method, NULL, request, &reply, &error);
    if (code != expected)
        fail_msg("%s %s, %s: %s \"%s\", not %s", row->method, json, who, forge_code_name(code), error.message, forge_code_name(expected));
    const char *text = reply ? forge_json_from_message(reply, &options, &arena) : error.message, *leak = NULL;
    assert_non_null(text);
    if (watch)
        leak = leak_in(text, json);
    for (const struct forge_violation *violation = error.violations; watch && !leak && violation; violation = violation->next)
        leak = leak_in(violation->description, json);
    if (leak)
        fail_msg("%s, %s: \"%s\" leaks in %s", row->method, who, leak, text);
    if (reply)
        protobuf_c_message_free_unpacked(reply, NULL);
    forge_error_free(&error);
    forge_arena_reset(&arena);
}

/* ---- credentials ---- */

static void new_key(struct forge_channel *admin, const char *project, char out_id[WORLD_ID_SIZE], char out_token[WORLD_TOKEN_SIZE])
{
    Forge__V1__CreateApiKeyRequest request = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Forge__V1__Scope scope = FORGE__V1__SCOPE__SCOPE_ADMIN;
    Forge__V1__ApiKey *key;
    struct forge_error error = {0};
    request.name = TEXT("isolation");
    request.scopes = &scope;
    request.n_scopes = 1;
    if (project)
        request.project_id = TEXT(project);
    world_check(&world, "CreateApiKey", forge_organization_create_api_key(admin, NULL, &request, &key, &error), &error);
    snprintf(out_id, WORLD_ID_SIZE, "%s", key->id);
    snprintf(out_token, WORLD_TOKEN_SIZE, "%s", key->token);
    forge__v1__api_key__free_unpacked(key, NULL);
}

static void new_account(struct forge_channel *admin)
{
    Forge__V1__CreateServiceAccountRequest request = FORGE__V1__CREATE_SERVICE_ACCOUNT_REQUEST__INIT;
    Forge__V1__ServiceAccount *account;
    struct forge_error error = {0};
    request.name = TEXT("Confidential account");
    request.role = FORGE__V1__ROLE__ROLE_VIEWER;
    request.project_id = project_id;
    world_check(&world, "CreateServiceAccount", forge_organization_create_service_account(admin, NULL, &request, &account, &error), &error);
    snprintf(account_id, sizeof account_id, "%s", account->id);
    forge__v1__service_account__free_unpacked(account, NULL);
}

/* With one item. */
static void new_dataset(struct forge_channel *admin)
{
    Forge__V1__CreateDatasetRequest request = FORGE__V1__CREATE_DATASET_REQUEST__INIT;
    Forge__V1__Dataset *dataset;
    Forge__V1__DatasetItem item = FORGE__V1__DATASET_ITEM__INIT, *items[] = {&item};
    Forge__V1__AddDatasetItemsRequest add = FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT;
    Forge__V1__DatasetVersion *version;
    struct forge_error error = {0};
    request.project_id = project_id;
    request.name = TEXT("Confidential cases");
    world_check(&world, "CreateDataset", forge_evaluation_create_dataset(admin, NULL, &request, &dataset, &error), &error);
    snprintf(dataset_id, sizeof dataset_id, "%s", dataset->id);
    forge__v1__dataset__free_unpacked(dataset, NULL);
    item.key = TEXT("Confidential case");
    item.expected_output = TEXT("PLUTONIUM");
    add.dataset_id = dataset_id;
    add.n_items = 1;
    add.items = items;
    world_check(&world, "AddDatasetItems", forge_evaluation_add_dataset_items(admin, NULL, &add, &version, &error), &error);
    forge__v1__dataset_version__free_unpacked(version, NULL);
}

/* With one result. */
static void new_evaluation(struct forge_channel *admin)
{
    Forge__V1__CreateEvaluationRequest request = FORGE__V1__CREATE_EVALUATION_REQUEST__INIT;
    Forge__V1__Evaluator evaluator = FORGE__V1__EVALUATOR__INIT, *evaluators[] = {&evaluator};
    Forge__V1__ExactEvaluator exact = FORGE__V1__EXACT_EVALUATOR__INIT;
    Forge__V1__EvaluationResult result = FORGE__V1__EVALUATION_RESULT__INIT, *results[] = {&result};
    Forge__V1__AddResultsRequest add = FORGE__V1__ADD_RESULTS_REQUEST__INIT;
    Forge__V1__Evaluation *evaluation;
    Forge__V1__AddResultsResponse *verdicts;
    struct forge_error error = {0};
    request.project_id = project_id;
    request.name = TEXT("Confidential run");
    request.prompt_id = prompt_id;
    request.dataset_id = dataset_id;
    evaluator.config_case = FORGE__V1__EVALUATOR__CONFIG_EXACT;
    evaluator.exact = &exact;
    request.n_evaluators = 1;
    request.evaluators = evaluators;
    world_check(&world, "CreateEvaluation", forge_evaluation_create(admin, NULL, &request, &evaluation, &error), &error);
    snprintf(evaluation_id, sizeof evaluation_id, "%s", evaluation->id);
    forge__v1__evaluation__free_unpacked(evaluation, NULL);
    result.item_key = TEXT("Confidential case");
    result.output = TEXT("PLUTONIUM");
    add.evaluation_id = evaluation_id;
    add.n_results = 1;
    add.results = results;
    world_check(&world, "AddResults", forge_evaluation_add_results(admin, NULL, &add, &verdicts, &error), &error);
    forge__v1__add_results_response__free_unpacked(verdicts, NULL);
}

static void new_score(struct forge_channel *admin)
{
    Forge__V1__RecordScoresRequest request = FORGE__V1__RECORD_SCORES_REQUEST__INIT;
    Forge__V1__Score score = FORGE__V1__SCORE__INIT, *scores[] = {&score};
    Forge__V1__RecordScoresResponse *verdicts;
    struct forge_error error = {0};
    score.target_case = FORGE__V1__SCORE__TARGET_SESSION_ID;
    score.session_id = TEXT("rendezvous");
    score.name = TEXT("Confidential");
    score.value_case = FORGE__V1__SCORE__VALUE_TEXT;
    score.text = TEXT("PLUTONIUM");
    score.source = FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_HUMAN;
    request.project_id = project_id;
    request.n_scores = 1;
    request.scores = scores;
    world_check(&world, "RecordScores", forge_trace_record_scores(admin, NULL, &request, &verdicts, &error), &error);
    snprintf(score_id, sizeof score_id, "%s", verdicts->results[0]->score_id);
    forge__v1__record_scores_response__free_unpacked(verdicts, NULL);
}

/* A price too, so that its list has something to hide. */
static void new_model(struct forge_channel *admin)
{
    Forge__V1__CreateModelProviderRequest provider_request = FORGE__V1__CREATE_MODEL_PROVIDER_REQUEST__INIT;
    Forge__V1__CreateAiModelRequest request = FORGE__V1__CREATE_AI_MODEL_REQUEST__INIT;
    Forge__V1__SetModelPriceRequest price_request = FORGE__V1__SET_MODEL_PRICE_REQUEST__INIT;
    Forge__V1__UsagePrice input = FORGE__V1__USAGE_PRICE__INIT, *inputs[] = {&input};
    Forge__V1__ModelProvider *provider;
    Forge__V1__AiModel *model;
    Forge__V1__ModelPrice *price;
    struct forge_error error = {0};
    provider_request.name = TEXT("Clandestine");
    world_check(&world, "CreateModelProvider", forge_organization_create_model_provider(admin, NULL, &provider_request, &provider, &error),
                &error);
    snprintf(provider_id, sizeof provider_id, "%s", provider->id);
    request.provider_id = provider_id;
    request.name = TEXT("hidden-model");
    world_check(&world, "CreateAiModel", forge_organization_create_ai_model(admin, NULL, &request, &model, &error), &error);
    snprintf(model_id, sizeof model_id, "%s", model->id);
    price_request.model_id = model_id;
    price_request.n_usage_prices = 1;
    price_request.usage_prices = inputs;
    input.usage_type = FORGE__V1__USAGE_TYPE__USAGE_TYPE_INPUT;
    world_check(&world, "SetModelPrice", forge_organization_set_model_price(admin, NULL, &price_request, &price, &error), &error);
    forge__v1__model_provider__free_unpacked(provider, NULL);
    forge__v1__ai_model__free_unpacked(model, NULL);
    forge__v1__model_price__free_unpacked(price, NULL);
}

/* A trace of one span. The server makes the partitions of spans in its first pass, which need not be over. */
static void new_trace(struct forge_channel *admin)
{
    Forge__V1__IngestSpansRequest request = FORGE__V1__INGEST_SPANS_REQUEST__INIT;
    Forge__V1__Span span = FORGE__V1__SPAN__INIT, *spans[] = {&span};
    Forge__V1__IngestSpansResponse *reply;
    struct forge_error error = {0};
    request.project_id = project_id;
    request.n_spans = 1;
    request.spans = spans;
    span.trace_id = TEXT(HIDDEN_TRACE);
    span.span_id = TEXT("b7ad6b7169203331");
    span.name = span.input = TEXT("PLUTONIUM");
    span.session_id = TEXT("covert");
    span.start_ns = span.end_ns = forge_clock_wall_us() * 1000;
    for (bool is_stored = false; !is_stored;) {
        world_check(&world, "IngestSpans", forge_trace_ingest_spans(admin, NULL, &request, &reply, &error), &error);
        is_stored = reply->accepted_count == 1;
        forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
        if (!is_stored)
            world_sleep_ms(10);
    }
}

/* Published, with a violation. */
static void new_policy(struct forge_channel *admin)
{
    Forge__V1__CreatePolicyRequest request = FORGE__V1__CREATE_POLICY_REQUEST__INIT;
    Forge__V1__PublishPolicyRequest publish = FORGE__V1__PUBLISH_POLICY_REQUEST__INIT;
    Forge__V1__KeywordRule keyword = FORGE__V1__KEYWORD_RULE__INIT;
    Forge__V1__PolicyRule rule = FORGE__V1__POLICY_RULE__INIT, *rules[] = {&rule};
    Forge__V1__PolicyAttachment attachment = FORGE__V1__POLICY_ATTACHMENT__INIT, *attachments[] = {&attachment};
    Forge__V1__Policy *policy;
    char *keywords[] = {TEXT("PLUTONIUM")};
    struct forge_error error = {0};
    request.project_id = project_id;
    request.name = TEXT("Confidential policy");
    rule.name = TEXT("words");
    rule.action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG;
    rule.kind_case = FORGE__V1__POLICY_RULE__KIND_KEYWORD;
    rule.keyword = &keyword;
    keyword.n_keywords = 1;
    keyword.keywords = keywords;
    request.n_rules = 1;
    request.rules = rules;
    attachment.target_case = FORGE__V1__POLICY_ATTACHMENT__TARGET_LABEL;
    attachment.label = TEXT("covert");
    request.n_attachments = 1;
    request.attachments = attachments;
    world_check(&world, "CreatePolicy", forge_policy_create(admin, NULL, &request, &policy, &error), &error);
    snprintf(policy_id, sizeof policy_id, "%s", policy->id);
    forge__v1__policy__free_unpacked(policy, NULL);
    publish.id = policy_id;
    world_check(&world, "PublishPolicy", forge_policy_publish(admin, NULL, &publish, &policy, &error), &error);
    forge__v1__policy__free_unpacked(policy, NULL);
    snprintf(violation_id, sizeof violation_id, "01890000-0000-7000-8000-00000000000b");
    world_execute(&world,
                  "INSERT INTO policy_violations (organization_id, id, project_id, policy_id, policy_version, policy_name, rule, action,"
                  " severity, mode, stage, message, prompt_id, prompt_version, trace_id, actor_id, finding_hash) VALUES ('%s', '%s', '%s',"
                  " '%s', 1, 'Confidential policy', 'words', 'flag', 2, 'enforce', 'prompt', 'Confidential', '%s', 1,"
                  " decode('0af7651916cd43dd8448eb211c80319c', 'hex'), '%s', sha256('x'))",
                  world.home.organization_id, violation_id, project_id, policy_id, prompt_id, user_id);
}

static void new_session(const struct world_tenant *tenant, char out_token[WORLD_TOKEN_SIZE])
{
    Forge__V1__LoginRequest request = FORGE__V1__LOGIN_REQUEST__INIT;
    Forge__V1__LoginResponse *session;
    struct forge_error error = {0};
    struct forge_channel *channel = world_channel(&world, 0, NULL);
    request.email = TEXT(tenant->email);
    request.password = TEXT(tenant->password);
    world_check(&world, "Login", forge_organization_login(channel, NULL, &request, &session, &error), &error);
    snprintf(out_token, WORLD_TOKEN_SIZE, "%s", session->token);
    forge__v1__login_response__free_unpacked(session, NULL);
    forge_channel_close(channel);
}

/* A channel with a credential that the server has not seen yet; home: of the organization at home. */
static struct forge_channel *fresh_channel(const struct isolation_row *row, bool home)
{
    const struct world_tenant *tenant = home ? &world.home : &world.foreign;
    char id[WORLD_ID_SIZE], token[WORLD_TOKEN_SIZE];
    if (row->need == OPERATOR && home)
        return world_channel(&world, 0, world.operator_token);
    if (row->need == SESSION) {
        new_session(tenant, token);
        return world_channel(&world, 0, token);
    }
    struct forge_channel *admin = world_channel(&world, 0, tenant->session_token);
    new_key(admin, NULL, id, token);
    forge_channel_close(admin);
    return world_channel(&world, 0, token);
}

/* The first call may find the credential unknown, later ones know it. Logout ends it, wrong passwords are counted, what is deleted is gone.
 */
static unsigned times(const struct isolation_row *row)
{
    bool once = strcmp(row->method, ORGANIZATION "Logout") == 0 || strcmp(row->method, ORGANIZATION "ChangePassword") == 0 ||
                strcmp(row->method, ORGANIZATION "DeleteServiceAccount") == 0 || strcmp(row->method, TRACE "DeleteTrace") == 0 ||
                strcmp(row->method, TRACE "DeleteScore") == 0;
    return row->need == PUBLIC || once ? 1 : 3;
}

/* ---- setting up ---- */

/* As superuser: the statements' own filters alone keep the tenants apart. */
static void drop_policies(void)
{
    world_execute(&world,
                  "DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT c.oid FROM pg_class c WHERE c.relrowsecurity LOOP"
                  " EXECUTE format('DROP POLICY tenant ON %%s', t); EXECUTE format('ALTER TABLE %%s DISABLE ROW LEVEL SECURITY', t);"
                  " END LOOP; END $$");
    assert_int_equal(world_number(&world, "SELECT count(*) FROM pg_policy"), 0);
}

static void new_user(struct forge_channel *admin, char out_id[WORLD_ID_SIZE])
{
    Forge__V1__CreateUserRequest request = FORGE__V1__CREATE_USER_REQUEST__INIT;
    Forge__V1__User *user;
    struct forge_error error = {0};
    request.email = TEXT("spy@home.example");
    request.role = FORGE__V1__ROLE__ROLE_VIEWER;
    request.password = TEXT("long enough");
    world_check(&world, "CreateUser", forge_organization_create_user(admin, NULL, &request, &user, &error), &error);
    snprintf(out_id, WORLD_ID_SIZE, "%s", user->id);
    forge__v1__user__free_unpacked(user, NULL);
}

static void tag_secret(struct forge_channel *admin)
{
    Forge__V1__CreateTagRequest create = FORGE__V1__CREATE_TAG_REQUEST__INIT;
    Forge__V1__TagPromptRequest link = FORGE__V1__TAG_PROMPT_REQUEST__INIT;
    Forge__V1__Tag *tag;
    Forge__V1__TagPromptResponse *tags;
    struct forge_error error = {0};
    create.name = link.tag = TEXT("Classified");
    link.prompt_id = prompt_id;
    world_check(&world, "CreateTag", forge_prompt_create_tag(admin, NULL, &create, &tag, &error), &error);
    world_check(&world, "TagPrompt", forge_prompt_tag(admin, NULL, &link, &tags, &error), &error);
    forge__v1__tag__free_unpacked(tag, NULL);
    forge__v1__tag_prompt_response__free_unpacked(tags, NULL);
}

/* A label of the secret prompt, and a rule for it. */
static void label_secret(struct forge_channel *admin)
{
    Forge__V1__SetLabelRequest set = FORGE__V1__SET_LABEL_REQUEST__INIT;
    Forge__V1__ProtectLabelRequest protect = FORGE__V1__PROTECT_LABEL_REQUEST__INIT;
    Forge__V1__Label *label;
    Forge__V1__LabelProtection *rule;
    struct forge_error error = {0};
    set.prompt_id = prompt_id;
    set.label = protect.label = TEXT("covert");
    set.target_case = FORGE__V1__SET_LABEL_REQUEST__TARGET_VERSION;
    set.version = 1;
    protect.project_id = project_id;
    protect.protected_ = 1;
    world_check(&world, "SetLabel", forge_prompt_set_label(admin, NULL, &set, &label, &error), &error);
    world_check(&world, "ProtectLabel", forge_prompt_protect_label(admin, NULL, &protect, &rule, &error), &error);
    forge__v1__label__free_unpacked(label, NULL);
    forge__v1__label_protection__free_unpacked(rule, NULL);
}

static int open_world(void **state)
{
    const struct world_options options = {.servers = 2};
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *project;
    struct forge_error error = {0};
    char token[WORLD_TOKEN_SIZE];
    world_open(&world, &options);
    if (without_policies)
        drop_policies();
    forge_arena_init(&arena, 1 << 20, NULL);
    struct forge_channel *admin = world_channel(&world, 0, world.home.session_token);
    request.name = TEXT("Private");
    request.description = TEXT("Confidential");
    world_check(&world, "CreateProject", forge_project_create(admin, NULL, &request, &project, &error), &error);
    snprintf(project_id, sizeof project_id, "%s", project->id);
    forge__v1__project__free_unpacked(project, NULL);
    struct world_tenant in_private = world.home;
    memcpy(in_private.project_id, project_id, sizeof project_id);
    world_create_prompt(&world, admin, &in_private, "secret", "PLUTONIUM {{name}}", prompt_id);
    tag_secret(admin);
    label_secret(admin);
    new_key(admin, project_id, key_id, token);
    new_user(admin, user_id);
    new_account(admin);
    new_dataset(admin);
    new_evaluation(admin);
    new_score(admin);
    new_model(admin);
    new_trace(admin);
    new_policy(admin);
    request.name = TEXT("Other");
    request.description = TEXT("");
    world_check(&world, "CreateProject", forge_project_create(admin, NULL, &request, &project, &error), &error);
    snprintf(other_project_id, sizeof other_project_id, "%s", project->id);
    forge__v1__project__free_unpacked(project, NULL);
    forge_channel_close(admin);
    return 0;
}

static int close_world(void **state)
{
    forge_arena_done(&arena);
    world_close(&world);
    return 0;
}

/* Everything of home that a stranger could have changed. */
static int64_t state_of_home(void)
{
    const char *id = world.home.organization_id;
    return world_number(
        &world,
        "SELECT hashtext((SELECT string_agg(p::text, ',' ORDER BY p.id) FROM projects p WHERE organization_id = '%s') || "
        "(SELECT string_agg(p::text, ',' ORDER BY p.id) FROM prompts p WHERE organization_id = '%s') || "
        "(SELECT string_agg(v::text, ',' ORDER BY v.prompt_id, v.version) FROM prompt_versions v WHERE organization_id = '%s') || "
        "COALESCE((SELECT string_agg(l::text, ',' ORDER BY l.prompt_id, l.tag_id) FROM prompt_tags l WHERE organization_id = '%s'), '') || "
        "(SELECT string_agg(l::text, ',' ORDER BY l.prompt_id, l.name) FROM labels l WHERE organization_id = '%s') || "
        "(SELECT string_agg(t::text, ',' ORDER BY t.prompt_id, t.label, t.version) FROM label_targets t WHERE organization_id = '%s') || "
        "(SELECT string_agg(g::text, ',' ORDER BY g.id) FROM label_gates g WHERE organization_id = '%s') || "
        "(SELECT count(*)::text FROM label_history WHERE organization_id = '%s') || "
        "(SELECT count(*)::text FROM executions WHERE organization_id = '%s') || "
        "(SELECT string_agg(d::text, ',' ORDER BY d.id) FROM datasets d WHERE organization_id = '%s') || "
        "(SELECT count(*)::text FROM dataset_items WHERE organization_id = '%s') || "
        "(SELECT string_agg(e::text, ',' ORDER BY e.id) FROM evaluations e WHERE organization_id = '%s') || "
        "(SELECT string_agg(r::text, ',' ORDER BY r.evaluation_id, r.item_key) FROM evaluation_results r WHERE organization_id = '%s') || "
        "(SELECT count(*)::text FROM spans WHERE organization_id = '%s') || (SELECT count(*)::text FROM traces WHERE organization_id = "
        "'%s') || "
        "COALESCE((SELECT string_agg(r::text, ',' ORDER BY r.project_id) FROM retention_settings r WHERE organization_id = '%s'), '') || "
        "(SELECT string_agg(s::text, ',' ORDER BY s.id) FROM scores s WHERE organization_id = '%s') || "
        "(SELECT string_agg(p::text, ',' ORDER BY p.id) FROM policies p WHERE organization_id = '%s') || "
        "(SELECT count(*)::text FROM policy_versions WHERE organization_id = '%s') || "
        "(SELECT string_agg(a::text, ',' ORDER BY a.policy_id, a.position) FROM policy_attachments a WHERE organization_id = '%s') || "
        "(SELECT string_agg(v::text, ',' ORDER BY v.id) FROM policy_violations v WHERE organization_id = '%s') || "
        "(SELECT o::text FROM organizations o WHERE organization_id = '%s') || "
        "(SELECT u::text FROM users u WHERE organization_id = '%s' AND id = '%s') || "
        "(SELECT v::text FROM model_providers v WHERE organization_id = '%s' AND id = '%s') || "
        "(SELECT string_agg(m::text, ',' ORDER BY m.id) FROM ai_models m WHERE organization_id = '%s') || "
        "(SELECT string_agg(n::text, ',' ORDER BY n.name) FROM ai_model_names n WHERE organization_id = '%s') || "
        "(SELECT string_agg(c::text, ',' ORDER BY c.id) FROM model_prices c WHERE organization_id = '%s') || "
        "(SELECT a::text FROM service_accounts a WHERE organization_id = '%s' AND id = '%s') || "
        "(SELECT k::text FROM api_keys k WHERE organization_id = '%s' AND id = '%s'))",
        id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, user_id, id, provider_id, id, id, id,
        id, account_id, id, key_id);
}

/* ---- tests ---- */

static bool has_row(const char *method)
{
    for (size_t i = 0; i < isolation_row_count; i++)
        if (strcmp(isolation_rows[i].method, method) == 0)
            return true;
    return false;
}

static void test_every_method_has_a_row(void **state)
{
    for (size_t i = 0; forge_method_at(i); i++)
        if (!has_row(forge_method_at(i)->name))
            fail_msg("%s has no row in this test", forge_method_at(i)->name);
}

static void test_other_organization(void **state)
{
    int64_t before = state_of_home();
    for (size_t i = 0; i < isolation_row_count; i++) {
        struct forge_channel *channel = fresh_channel(&isolation_rows[i], false);
        for (unsigned time = 0; time < times(&isolation_rows[i]); time++)
            expect(channel, &isolation_rows[i], isolation_rows[i].foreign, true,
                   time ? "another organization, known" : "another organization, new");
        forge_channel_close(channel);
    }
    assert_int_equal(state_of_home(), before);
}

static void test_no_credential(void **state)
{
    struct forge_channel *channel = world_channel(&world, 0, NULL);
    int64_t before = state_of_home();
    for (size_t i = 0; i < isolation_row_count; i++)
        for (int time = 0; time < 2; time++)
            expect(channel, &isolation_rows[i], isolation_rows[i].need == PUBLIC ? isolation_rows[i].foreign : FORGE_UNAUTHENTICATED, true,
                   "without a credential");
    assert_int_equal(state_of_home(), before);
    forge_channel_close(channel);
}

/* What every member of the organization may know of it. */
static bool is_known_to_members(const char *method)
{
    static const char *const methods[] = {ORGANIZATION "GetOrganization",
                                          ORGANIZATION "WhoAmI",
                                          ORGANIZATION "GetUser",
                                          ORGANIZATION "ListUsers",
                                          ORGANIZATION "GetModelProvider",
                                          ORGANIZATION "GetAiModel",
                                          ORGANIZATION "ListModelPrices",
                                          PROJECT "ListProjects",
                                          ORGANIZATION "ListModelProviders",
                                          ORGANIZATION "ListAiModels",
                                          PROMPT "ListTags"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(method, methods[i]) == 0)
            return true;
    return false;
}

static void test_key_of_another_project(void **state)
{
    struct forge_channel *admin = world_channel(&world, 0, world.home.session_token);
    int64_t before = state_of_home();
    for (size_t i = 0; i < isolation_row_count; i++) {
        bool own = is_known_to_members(isolation_rows[i].method);
        char id[WORLD_ID_SIZE], token[WORLD_TOKEN_SIZE];
        new_key(admin, other_project_id, id, token);
        struct forge_channel *channel = world_channel(&world, 0, token);
        for (int time = 0; time < 3; time++)
            expect(channel, &isolation_rows[i], isolation_rows[i].bound, !own,
                   time ? "a key of another project, known" : "a key of another project, new");
        forge_channel_close(channel);
    }
    assert_int_equal(state_of_home(), before);
    forge_channel_close(admin);
}

/* ListProjects shows a bound key its own project and no other. */
static void test_list_of_a_bound_key(void **state)
{
    struct forge_channel *admin = world_channel(&world, 0, world.home.session_token);
    Forge__V1__ListProjectsRequest request = FORGE__V1__LIST_PROJECTS_REQUEST__INIT;
    Forge__V1__ListProjectsResponse *list;
    struct forge_error error = {0};
    char id[WORLD_ID_SIZE], token[WORLD_TOKEN_SIZE];
    new_key(admin, other_project_id, id, token);
    struct forge_channel *channel = world_channel(&world, 0, token);
    for (int time = 0; time < 2; time++) {
        world_check(&world, "ListProjects", forge_project_list(channel, NULL, &request, &list, &error), &error);
        assert_int_equal(list->n_projects, 1);
        assert_string_equal(list->projects[0]->id, other_project_id);
        forge__v1__list_projects_response__free_unpacked(list, NULL);
    }
    forge_channel_close(channel);
    forge_channel_close(admin);
}

/* A page token of one organization is worth nothing in another. */
static void test_page_token_of_another_organization(void **state)
{
    struct forge_channel *admin = world_channel(&world, 0, world.home.session_token);
    struct forge_channel *stranger = world_channel(&world, 0, world.foreign.session_token);
    Forge__V1__ListProjectsRequest request = FORGE__V1__LIST_PROJECTS_REQUEST__INIT;
    Forge__V1__ListProjectsResponse *list, *none = NULL;
    struct forge_error error = {0};
    request.page_size = 1;
    world_check(&world, "ListProjects", forge_project_list(admin, NULL, &request, &list, &error), &error);
    request.page_token = list->next_page_token;
    assert_true(strlen(request.page_token) > 0);
    assert_int_equal(forge_project_list(stranger, NULL, &request, &none, &error), FORGE_INVALID_ARGUMENT);
    assert_int_equal(error.violation_count, 1);
    assert_string_equal(error.violations->field, "page_token");
    forge_error_free(&error);
    forge__v1__list_projects_response__free_unpacked(list, NULL);
    forge_channel_close(stranger);
    forge_channel_close(admin);
}

static void revoke(struct forge_channel *admin, const char *id)
{
    Forge__V1__RevokeApiKeyRequest request = FORGE__V1__REVOKE_API_KEY_REQUEST__INIT;
    Forge__V1__ApiKey *key;
    struct forge_error error = {0};
    request.id = TEXT(id);
    world_check(&world, "RevokeApiKey", forge_organization_revoke_api_key(admin, NULL, &request, &key, &error), &error);
    forge__v1__api_key__free_unpacked(key, NULL);
}

/* Keys that the first server has never seen, and keys that it knows well and that are revoked on the second one. */
static void test_revoked_keys(void **state)
{
    static char tokens[2][ISOLATION_ROWS_MAX][WORLD_TOKEN_SIZE], ids[2][ISOLATION_ROWS_MAX][WORLD_ID_SIZE];
    const struct isolation_row who_am_i = {ORGANIZATION "WhoAmI", "{}", ANY_KEY, FORGE_OK, FORGE_OK};
    struct forge_channel *admin = world_channel(&world, 1, world.home.session_token);
    int64_t before = state_of_home();
    for (int known = 0; known < 2; known++)
        for (size_t i = 0; i < isolation_row_count; i++)
            new_key(admin, NULL, ids[known][i], tokens[known][i]);
    for (size_t i = 0; i < isolation_row_count; i++) {
        struct forge_channel *channel = world_channel(&world, 0, tokens[1][i]);
        for (int time = 0; time < 3; time++)
            expect(channel, &who_am_i, FORGE_OK, false, "a key before it is revoked");
        forge_channel_close(channel);
    }
    for (int known = 0; known < 2; known++)
        for (size_t i = 0; i < isolation_row_count; i++)
            revoke(admin, ids[known][i]);
    world_sleep_ms(REVOKED_WITHIN_MS); /* what is promised: within a second on every server */
    for (int known = 0; known < 2; known++)
        for (size_t i = 0; i < isolation_row_count; i++) {
            struct forge_channel *channel = world_channel(&world, 0, tokens[known][i]);
            for (int time = 0; time < 2; time++)
                expect(channel, &isolation_rows[i], isolation_rows[i].need == PUBLIC ? isolation_rows[i].foreign : FORGE_UNAUTHENTICATED,
                       true, known ? "a revoked key that was known" : "a revoked key that was never used");
            forge_channel_close(channel);
        }
    assert_int_equal(state_of_home(), before);
    forge_channel_close(admin);
}

static forge_code expected_at_home(const struct isolation_row *row)
{
    for (size_t i = 0; i < isolation_refusal_count; i++)
        if (strcmp(row->method, isolation_refusals[i].method) == 0 && strstr(row->request, isolation_refusals[i].part))
            return isolation_refusals[i].code;
    return FORGE_OK;
}

/* Last, because it changes things: the same requests succeed where they belong, so that a refusal above is one of the caller. */
static void test_own_organization(void **state)
{
    for (size_t i = 0; i < isolation_row_count; i++) {
        struct forge_channel *channel = fresh_channel(&isolation_rows[i], true);
        for (unsigned time = 0; time < times(&isolation_rows[i]); time++)
            expect(channel, &isolation_rows[i], expected_at_home(&isolation_rows[i]), false,
                   time ? "the own organization, known" : "the own organization, new");
        forge_channel_close(channel);
    }
}

/* Argument "without-policies": row-level security is taken away first. The same tests also run against a server whose statements have lost
 * their filters (tests/CMakeLists.txt, forged_unfiltered). Either lock holds alone. */
int main(int argc, char **argv)
{
    without_policies = argc > 1 && strcmp(argv[1], "without-policies") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_method_has_a_row), cmocka_unit_test(test_other_organization),
        cmocka_unit_test(test_no_credential),          cmocka_unit_test(test_key_of_another_project),
        cmocka_unit_test(test_list_of_a_bound_key),    cmocka_unit_test(test_page_token_of_another_organization),
        cmocka_unit_test(test_revoked_keys),           cmocka_unit_test(test_own_organization),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
