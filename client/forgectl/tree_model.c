/* The command tree: provider, model. */
#include "tree.h"

/* ---- provider ---- */

static const struct output_column provider_columns[] = {{"Id", "id"},
                                                        {"Name", "name"},
                                                        {"Key", "provider_key"},
                                                        {"URL", "base_url"},
                                                        {"Description", "description"},
                                                        {"Credential", "has_credential"},
                                                        {"Ends in", "credential_suffix"},
                                                        {"Created", "create_time"},
                                                        {"Updated", "update_time"},
                                                        {"Etag", "etag"},
                                                        {NULL, NULL}};
static const struct output_column provider_list_columns[] = {
    {"NAME", "name"}, {"KEY", "provider_key"}, {"URL", "base_url"}, {"CREDENTIAL", "has_credential"}, {"ID", "id"}, {NULL, NULL}};
static const struct cli_option provider_create_options[] = {
    {.name = "key", .value = "KEY", .help = "what spans call it in gen_ai.provider.name (made from the name)", .field = "provider_key"},
    {.name = "base-url", .value = "URL", .help = "where its API is, an https URL", .field = "base_url"},
    DESCRIPTION_OPTION,
    {.name = "credential-file",
     .value = "PATH",
     .help = "file with the credential for its API (- = standard input)",
     .field = "credential",
     .take = CLI_TAKE_SECRET},
    {.name = NULL}};
static const struct cli_action provider_create = {
    .method = FORGE_METHOD_ORGANIZATION_CREATE_MODEL_PROVIDER, .argument_fields = {"name"}, .columns = provider_columns, .name = "id"};
static const struct cli_action provider_get = {.method = FORGE_METHOD_ORGANIZATION_GET_MODEL_PROVIDER,
                                               .argument_fields = {"id"},
                                               .argument_takes = {CLI_TAKE_PROVIDER},
                                               .columns = provider_columns,
                                               .name = "id"};
static const struct cli_option provider_list_options[] = {
    {.name = "prefix", .value = "TEXT", .help = "only names that begin so", .field = "name_prefix"}, PAGE_OPTIONS, {.name = NULL}};
static const struct cli_action provider_list = {
    .method = FORGE_METHOD_ORGANIZATION_LIST_MODEL_PROVIDERS, .list = "model_providers", .columns = provider_list_columns, .name = "name"};
static const struct cli_option provider_update_options[] = {
    {.name = "name", .value = "TEXT", .help = "new name", .field = "name"},
    {.name = "key", .value = "KEY", .help = "what spans call it from now on", .field = "provider_key"},
    {.name = "base-url", .value = "URL", .help = "where its API is; \"\" = not known", .field = "base_url"},
    DESCRIPTION_OPTION,
    {.name = "credential-file",
     .value = "PATH",
     .help = "file with the new credential (- = standard input); an empty one takes it away",
     .field = "credential",
     .take = CLI_TAKE_SECRET},
    ETAG_OPTION,
    {.name = NULL}};
static const struct cli_action provider_update = {.method = FORGE_METHOD_ORGANIZATION_UPDATE_MODEL_PROVIDER,
                                                  .argument_fields = {"id"},
                                                  .argument_takes = {CLI_TAKE_PROVIDER},
                                                  .is_update = true,
                                                  .columns = provider_columns,
                                                  .name = "id"};
static const struct cli_option provider_delete_options[] = {YES_OPTION, ETAG_OPTION, {.name = NULL}};
static const struct cli_action provider_delete = {.method = FORGE_METHOD_ORGANIZATION_DELETE_MODEL_PROVIDER,
                                                  .argument_fields = {"id"},
                                                  .argument_takes = {CLI_TAKE_PROVIDER},
                                                  .deletes = "provider"};
static const char *const provider_create_examples[] = {"forgectl provider create OpenAI --base-url https://api.openai.com/v1",
                                                       "pass show openai | forgectl provider create OpenAI --credential-file -", NULL};
static const char *const provider_get_examples[] = {"forgectl provider get OpenAI", NULL};
static const char *const provider_list_examples[] = {"forgectl provider list", NULL};
static const char *const provider_update_examples[] = {"pass show openai | forgectl provider update OpenAI --credential-file -",
                                                       "forgectl provider update OpenAI --credential-file /dev/null", NULL};
static const char *const provider_delete_examples[] = {"forgectl provider delete OpenAI --yes", NULL};
const struct cli_command tree_provider[] = {{.name = "create",
                                             .summary = "Register a provider of models",
                                             .arguments = "<name>",
                                             .arguments_min = 1,
                                             .arguments_max = 1,
                                             .description = "The credential is stored sealed; no command shows more of it than its end.",
                                             .options = provider_create_options,
                                             .examples = provider_create_examples,
                                             .run = command_action,
                                             .action = &provider_create},
                                            {.name = "get",
                                             .summary = "Show a provider",
                                             .arguments = "<id or name>",
                                             .arguments_min = 1,
                                             .arguments_max = 1,
                                             .examples = provider_get_examples,
                                             .run = command_action,
                                             .action = &provider_get},
                                            {.name = "list",
                                             .summary = "List providers by name",
                                             .options = provider_list_options,
                                             .examples = provider_list_examples,
                                             .run = command_action,
                                             .action = &provider_list},
                                            {.name = "update",
                                             .summary = "Change a provider or its credential",
                                             .arguments = "<id or name>",
                                             .arguments_min = 1,
                                             .arguments_max = 1,
                                             .options = provider_update_options,
                                             .examples = provider_update_examples,
                                             .run = command_action,
                                             .action = &provider_update},
                                            {.name = "delete",
                                             .summary = "Delete a provider with its models and their prices",
                                             .arguments = "<id or name>",
                                             .arguments_min = 1,
                                             .arguments_max = 1,
                                             .description = "Refused while a version of a prompt uses one of its models.",
                                             .options = provider_delete_options,
                                             .examples = provider_delete_examples,
                                             .run = command_action,
                                             .action = &provider_delete},
                                            {.name = NULL}};

/* ---- model ---- */

#define PROVIDER_OPTION                                                                                                                    \
    {                                                                                                                                      \
        .name = "provider", .value = "ID|NAME", .help = "its provider, where several have a model of this name"                            \
    }

static const struct output_column model_columns[] = {{"Id", "id"},
                                                     {"Name", "name"},
                                                     {"Display name", "display_name"},
                                                     {"Provider", "provider_name"},
                                                     {"Aliases", "aliases"},
                                                     {"Description", "description"},
                                                     {"Context window", "context_window_tokens"},
                                                     {"Longest output", "max_output_tokens"},
                                                     {"Deprecated", "deprecated"},
                                                     {"Created", "create_time"},
                                                     {"Updated", "update_time"},
                                                     {"Etag", "etag"},
                                                     {NULL, NULL}};
static const struct output_column model_list_columns[] = {{"NAME", "name"},
                                                          {"PROVIDER", "provider_name"},
                                                          {"CONTEXT", "context_window_tokens"},
                                                          {"OUTPUT", "max_output_tokens"},
                                                          {"DEPRECATED", "deprecated"},
                                                          {"ID", "id"},
                                                          {NULL, NULL}};
static const struct cli_option model_create_options[] = {
    {.name = "provider",
     .value = "ID|NAME",
     .help = "the provider that serves it (required)",
     .field = "provider_id",
     .take = CLI_TAKE_PROVIDER},
    {.name = "display-name", .value = "TEXT", .help = "name for people (the name)", .field = "display_name"},
    {.name = "alias", .value = "NAME", .help = "another name that spans report it by", .is_repeated = true, .field = "aliases"},
    DESCRIPTION_OPTION,
    {.name = "context-window",
     .value = "TOKENS",
     .help = "most tokens of prompt and completion together",
     .field = "context_window_tokens",
     .take = CLI_TAKE_NUMBER},
    {.name = "max-output", .value = "TOKENS", .help = "most tokens of a completion", .field = "max_output_tokens", .take = CLI_TAKE_NUMBER},
    {.name = NULL}};
static const struct cli_action model_create = {
    .method = FORGE_METHOD_ORGANIZATION_CREATE_AI_MODEL, .argument_fields = {"name"}, .columns = model_columns, .name = "id"};
static const struct cli_option model_get_options[] = {PROVIDER_OPTION, {.name = NULL}};
static const struct cli_action model_get = {.method = FORGE_METHOD_ORGANIZATION_GET_AI_MODEL,
                                            .argument_fields = {"id"},
                                            .argument_takes = {CLI_TAKE_MODEL},
                                            .columns = model_columns,
                                            .name = "id"};
static const struct cli_option model_list_options[] = {
    {.name = "provider", .value = "ID|NAME", .help = "only models of this provider", .field = "provider_id", .take = CLI_TAKE_PROVIDER},
    {.name = "prefix", .value = "TEXT", .help = "only names that begin so", .field = "name_prefix"},
    PAGE_OPTIONS,
    {.name = NULL}};
static const struct cli_action model_list = {
    .method = FORGE_METHOD_ORGANIZATION_LIST_AI_MODELS, .list = "ai_models", .columns = model_list_columns, .name = "name"};
static const struct cli_option model_update_options[] = {
    {.name = "name", .value = "TEXT", .help = "new name", .field = "name"},
    {.name = "display-name", .value = "TEXT", .help = "new name for people; \"\" = the name", .field = "display_name"},
    {.name = "alias",
     .value = "NAME",
     .help = "another name that spans report it by; these replace the old ones",
     .is_repeated = true,
     .field = "aliases"},
    DESCRIPTION_OPTION,
    {.name = "context-window",
     .value = "TOKENS",
     .help = "most tokens of prompt and completion together; 0 = not known",
     .field = "context_window_tokens",
     .take = CLI_TAKE_NUMBER},
    {.name = "max-output",
     .value = "TOKENS",
     .help = "most tokens of a completion; 0 = not known",
     .field = "max_output_tokens",
     .take = CLI_TAKE_NUMBER},
    {.name = "deprecated",
     .value = "BOOL",
     .help = "true: new versions of prompts may not use it; false: they may again",
     .field = "deprecated",
     .take = CLI_TAKE_SWITCH},
    PROVIDER_OPTION,
    ETAG_OPTION,
    {.name = NULL}};
static const struct cli_action model_update = {.method = FORGE_METHOD_ORGANIZATION_UPDATE_AI_MODEL,
                                               .argument_fields = {"id"},
                                               .argument_takes = {CLI_TAKE_MODEL},
                                               .is_update = true,
                                               .columns = model_columns,
                                               .name = "id"};
static const struct cli_option model_delete_options[] = {YES_OPTION, PROVIDER_OPTION, ETAG_OPTION, {.name = NULL}};
static const struct cli_action model_delete = {
    .method = FORGE_METHOD_ORGANIZATION_DELETE_AI_MODEL, .argument_fields = {"id"}, .argument_takes = {CLI_TAKE_MODEL}, .deletes = "model"};

/* ---- model price ---- */

static const struct output_column price_columns[] = {{"Id", "id"},
                                                     {"Model", "model_id"},
                                                     {"From", "effective_time"},
                                                     {"Currency", "currency"},
                                                     {"Per 1M tokens", "usage_prices"},
                                                     {"Set by", "creator_id"},
                                                     {"Set", "create_time"},
                                                     {NULL, NULL}};
static const struct output_column price_list_columns[] = {
    {"MODEL", "model_id"}, {"FROM", "effective_time"}, {"CURRENCY", "currency"}, {"PER 1M TOKENS", "usage_prices"}, {NULL, NULL}};
static const struct cli_option price_set_options[] = {
    {.name = "input-price",
     .value = "USD",
     .help = "dollars for a million prompt tokens, such as 2.50",
     .field = "usage_prices",
     .take = CLI_TAKE_PRICE},
    {.name = "cache-read-price",
     .value = "USD",
     .help = "for prompt tokens read from the provider's cache",
     .field = "usage_prices",
     .take = CLI_TAKE_PRICE},
    {.name = "cache-write-price",
     .value = "USD",
     .help = "for prompt tokens written into it",
     .field = "usage_prices",
     .take = CLI_TAKE_PRICE},
    {.name = "output-price",
     .value = "USD",
     .help = "for completion tokens without reasoning",
     .field = "usage_prices",
     .take = CLI_TAKE_PRICE},
    {.name = "reasoning-price",
     .value = "USD",
     .help = "for completion tokens spent on reasoning",
     .field = "usage_prices",
     .take = CLI_TAKE_PRICE},
    {.name = "from", .value = "TIME", .help = "when it begins, such as 2026-11-28T00:00:00Z (now)", .field = "effective_time"},
    PROVIDER_OPTION,
    {.name = NULL}};
static const struct cli_action price_set = {.method = FORGE_METHOD_ORGANIZATION_SET_MODEL_PRICE,
                                            .argument_fields = {"model_id"},
                                            .argument_takes = {CLI_TAKE_MODEL},
                                            .columns = price_columns,
                                            .name = "id"};
static const struct cli_option price_list_options[] = {
    {.name = "at", .value = "TIME", .help = "only the price of each model that is in force at this time", .field = "effective_at"},
    PROVIDER_OPTION,
    PAGE_OPTIONS,
    {.name = NULL}};
static const struct cli_action price_list = {.method = FORGE_METHOD_ORGANIZATION_LIST_MODEL_PRICES,
                                             .argument_fields = {"model_id"},
                                             .argument_takes = {CLI_TAKE_MODEL},
                                             .list = "model_prices",
                                             .columns = price_list_columns,
                                             .name = "id"};
static const char *const price_set_examples[] = {
    "forgectl model price set gpt-4 --input-price 30 --output-price 60",
    "forgectl model price set gpt-4 --input-price 20 --output-price 40 --from 2027-01-01T00:00:00Z", NULL};
static const char *const price_list_examples[] = {"forgectl model price list gpt-4", "forgectl model price list --at 2026-11-28T00:00:00Z",
                                                  NULL};
static const struct cli_command price_commands[] = {
    {.name = "set",
     .summary = "Set what a model costs from a time on",
     .arguments = "<id or name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description = "In US dollars for a million tokens, exact to six digits. A kind that is not given costs nothing. A price is never\n"
                    "changed: the next one of the model ends it.",
     .options = price_set_options,
     .examples = price_set_examples,
     .run = command_action,
     .action = &price_set},
    {.name = "list",
     .summary = "List prices by model, the newest first",
     .arguments = "[id or name]",
     .arguments_max = 1,
     .options = price_list_options,
     .examples = price_list_examples,
     .run = command_action,
     .action = &price_list},
    {.name = NULL}};
static const char *const model_create_examples[] = {"forgectl model create gpt-4 --provider OpenAI --alias gpt-4-0613", NULL};
static const char *const model_get_examples[] = {"forgectl model get gpt-4", NULL};
static const char *const model_list_examples[] = {"forgectl model list --provider OpenAI", NULL};
static const char *const model_update_examples[] = {"forgectl model update gpt-4 --deprecated true", NULL};
static const char *const model_delete_examples[] = {"forgectl model delete gpt-4 --yes", NULL};
const struct cli_command tree_model[] = {{.name = "create",
                                          .summary = "Register a model of a provider",
                                          .arguments = "<name>",
                                          .arguments_min = 1,
                                          .arguments_max = 1,
                                          .description = "The name is what the provider's API calls it.",
                                          .options = model_create_options,
                                          .examples = model_create_examples,
                                          .run = command_action,
                                          .action = &model_create},
                                         {.name = "get",
                                          .summary = "Show a model",
                                          .arguments = "<id or name>",
                                          .arguments_min = 1,
                                          .arguments_max = 1,
                                          .options = model_get_options,
                                          .examples = model_get_examples,
                                          .run = command_action,
                                          .action = &model_get},
                                         {.name = "list",
                                          .summary = "List models by name",
                                          .options = model_list_options,
                                          .examples = model_list_examples,
                                          .run = command_action,
                                          .action = &model_list},
                                         {.name = "update",
                                          .summary = "Change a model",
                                          .arguments = "<id or name>",
                                          .arguments_min = 1,
                                          .arguments_max = 1,
                                          .options = model_update_options,
                                          .examples = model_update_examples,
                                          .run = command_action,
                                          .action = &model_update},
                                         {.name = "delete",
                                          .summary = "Delete a model with its prices",
                                          .arguments = "<id or name>",
                                          .arguments_min = 1,
                                          .arguments_max = 1,
                                          .description = "Refused while a version of a prompt uses it.",
                                          .options = model_delete_options,
                                          .examples = model_delete_examples,
                                          .run = command_action,
                                          .action = &model_delete},
                                         {.name = "price", .summary = "What models cost", .commands = price_commands},
                                         {.name = NULL}};
