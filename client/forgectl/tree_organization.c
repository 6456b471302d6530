/* The command tree: organization, user, key, service-account, audit. */
#include "tree.h"

/* ---- organization ---- */

static const struct output_column organization_columns[] = {{"Id", "id"},
                                                            {"Slug", "slug"},
                                                            {"Name", "name"},
                                                            {"Description", "description"},
                                                            {"Created", "create_time"},
                                                            {"Updated", "update_time"},
                                                            {"Deleted", "delete_time"},
                                                            {"Etag", "etag"},
                                                            {NULL, NULL}};
static const struct output_column organization_list_columns[] = {{"SLUG", "slug"},           {"NAME", "name"},           {"ID", "id"},
                                                                 {"CREATED", "create_time"}, {"DELETED", "delete_time"}, {NULL, NULL}};
static const struct cli_option organization_create_options[] = {
    {.name = "admin-email", .value = "EMAIL", .help = "e-mail of the first admin (required)", .field = "admin_email"},
    {.name = "admin-name", .value = "TEXT", .help = "name of the first admin", .field = "admin_display_name"},
    {.name = "password-stdin", .help = "read the admin's password from standard input instead of asking"},
    {.name = "slug", .value = "SLUG", .help = "short name (made from the name)", .field = "slug"},
    DESCRIPTION_OPTION,
    {.name = NULL}};
static const struct cli_action organization_create = {.method = FORGE_METHOD_ORGANIZATION_CREATE,
                                                      .argument_fields = {"name"},
                                                      .needs_operator = true,
                                                      .password = "admin_password",
                                                      .columns = organization_columns,
                                                      .name = "id"};
static const struct cli_action organization_get = {.method = FORGE_METHOD_ORGANIZATION_GET, .columns = organization_columns, .name = "id"};
static const struct cli_option organization_list_options[] = {
    {.name = "prefix", .value = "TEXT", .help = "only slugs that begin so", .field = "slug_prefix"},
    {.name = "deleted", .help = "also those that were deleted", .field = "show_deleted", .take = CLI_TAKE_TRUE},
    PAGE_OPTIONS,
    {.name = NULL}};
static const struct cli_action organization_list = {.method = FORGE_METHOD_ORGANIZATION_LIST,
                                                    .needs_operator = true,
                                                    .list = "organizations",
                                                    .columns = organization_list_columns,
                                                    .name = "slug"};
static const struct cli_option organization_update_options[] = {
    {.name = "name", .value = "TEXT", .help = "new name", .field = "name"},
    {.name = "slug", .value = "SLUG", .help = "new short name", .field = "slug"},
    DESCRIPTION_OPTION,
    ETAG_OPTION,
    {.name = NULL}};
static const struct cli_action organization_update = {
    .method = FORGE_METHOD_ORGANIZATION_UPDATE, .is_update = true, .columns = organization_columns, .name = "id"};
static const struct cli_option organization_delete_options[] = {
    {.name = "confirm", .value = "NAME", .help = "its name, as a guard (asked for on a terminal)", .field = "confirm_name"},
    ETAG_OPTION,
    {.name = NULL}};
static const struct cli_action organization_delete = {
    .method = FORGE_METHOD_ORGANIZATION_DELETE, .deletes = "organization", .confirm = "confirm_name"};
static const char *const organization_create_examples[] = {
    "FORGE_OPERATOR_TOKEN=$(forged bootstrap token) forgectl organization create Acme --admin-email ada@acme.example", NULL};
static const char *const organization_get_examples[] = {"forgectl organization get", NULL};
static const char *const organization_list_examples[] = {"FORGE_OPERATOR_TOKEN=$(forged bootstrap token) forgectl organization list", NULL};
static const char *const organization_update_examples[] = {"forgectl organization update --description 'Everything for the road runner'",
                                                           NULL};
static const char *const organization_delete_examples[] = {"forgectl organization delete --confirm Acme", NULL};
const struct cli_command tree_organization[] = {
    {.name = "create",
     .summary = "Create an organization and its first admin",
     .arguments = "<name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description = "Needs an operator token: FORGE_OPERATOR_TOKEN or --token.",
     .options = organization_create_options,
     .examples = organization_create_examples,
     .run = command_action,
     .action = &organization_create},
    {.name = "get",
     .summary = "Show the caller's organization",
     .examples = organization_get_examples,
     .run = command_action,
     .action = &organization_get},
    {.name = "list",
     .summary = "List all organizations",
     .description = "Needs an operator token: FORGE_OPERATOR_TOKEN or --token.",
     .options = organization_list_options,
     .examples = organization_list_examples,
     .run = command_action,
     .action = &organization_list},
    {.name = "update",
     .summary = "Change the caller's organization",
     .options = organization_update_options,
     .examples = organization_update_examples,
     .run = command_action,
     .action = &organization_update},
    {.name = "delete",
     .summary = "Delete the caller's organization with everything in it",
     .description = "Its credentials are refused at once, its rows are removed in the background. The audit log stays.",
     .options = organization_delete_options,
     .examples = organization_delete_examples,
     .run = command_action,
     .action = &organization_delete},
    {.name = NULL}};

/* ---- user ---- */

static const struct output_column user_columns[] = {{"Id", "id"},
                                                    {"E-mail", "email"},
                                                    {"Name", "display_name"},
                                                    {"Role", "role"},
                                                    {"Disabled", "disabled"},
                                                    {"Created", "create_time"},
                                                    {"Updated", "update_time"},
                                                    {"Password set", "password_change_time"},
                                                    {"Last login", "last_login_time"},
                                                    {"Etag", "etag"},
                                                    {NULL, NULL}};
static const struct output_column user_list_columns[] = {{"E-MAIL", "email"},
                                                         {"NAME", "display_name"},
                                                         {"ROLE", "role"},
                                                         {"DISABLED", "disabled"},
                                                         {"LAST LOGIN", "last_login_time"},
                                                         {"ID", "id"},
                                                         {NULL, NULL}};
static const struct cli_option user_create_options[] = {
    {.name = "role", .value = "ROLE", .help = "viewer, developer or admin (required)", .field = "role", .take = CLI_TAKE_ENUM},
    {.name = "name", .value = "TEXT", .help = "name for people (the e-mail)", .field = "display_name"},
    {.name = "password-stdin", .help = "read the password from standard input instead of asking"},
    {.name = NULL}};
static const struct cli_action user_create = {.method = FORGE_METHOD_ORGANIZATION_CREATE_USER,
                                              .argument_fields = {"email"},
                                              .password = "password",
                                              .columns = user_columns,
                                              .name = "id"};
static const struct cli_action user_get = {.method = FORGE_METHOD_ORGANIZATION_GET_USER,
                                           .argument_fields = {"id"},
                                           .argument_takes = {CLI_TAKE_USER},
                                           .columns = user_columns,
                                           .name = "id"};
static const struct cli_option user_list_options[] = {
    {.name = "prefix", .value = "TEXT", .help = "only e-mails that begin so", .field = "email_prefix"},
    {.name = "role", .value = "ROLE", .help = "only this role: viewer, developer or admin", .field = "role", .take = CLI_TAKE_ENUM},
    {.name = "disabled",
     .value = "BOOL",
     .help = "only those who are (true) or are not (false)",
     .field = "disabled",
     .take = CLI_TAKE_SWITCH},
    PAGE_OPTIONS,
    {.name = NULL}};
static const struct cli_action user_list = {
    .method = FORGE_METHOD_ORGANIZATION_LIST_USERS, .list = "users", .columns = user_list_columns, .name = "email"};
static const struct cli_option user_update_options[] = {
    {.name = "name", .value = "TEXT", .help = "new name", .field = "display_name"},
    {.name = "role", .value = "ROLE", .help = "new role: viewer, developer or admin", .field = "role", .take = CLI_TAKE_ENUM},
    {.name = "disabled",
     .value = "BOOL",
     .help = "true: may not log in, and sessions end; false: may again",
     .field = "disabled",
     .take = CLI_TAKE_SWITCH},
    {.name = "password", .help = "set a new password: from standard input, or asked for", .field = "password", .take = CLI_TAKE_PASSWORD},
    ETAG_OPTION,
    {.name = NULL}};
static const struct cli_action user_update = {.method = FORGE_METHOD_ORGANIZATION_UPDATE_USER,
                                              .argument_fields = {"id"},
                                              .argument_takes = {CLI_TAKE_USER},
                                              .is_update = true,
                                              .columns = user_columns,
                                              .name = "id"};
static const struct cli_option user_delete_options[] = {YES_OPTION, ETAG_OPTION, {.name = NULL}};
static const struct cli_action user_delete = {
    .method = FORGE_METHOD_ORGANIZATION_DELETE_USER, .argument_fields = {"id"}, .argument_takes = {CLI_TAKE_USER}, .deletes = "user"};
static const char *const user_create_examples[] = {
    "forgectl user create grace@acme.example --role developer",
    "pass show grace | forgectl user create grace@acme.example --role viewer --password-stdin", NULL};
static const char *const user_get_examples[] = {"forgectl user get grace@acme.example", NULL};
static const char *const user_list_examples[] = {"forgectl user list --role admin -o name", NULL};
static const char *const user_update_examples[] = {"forgectl user update grace@acme.example --role admin",
                                                   "forgectl user update grace@acme.example --disabled true", NULL};
static const char *const user_delete_examples[] = {"forgectl user delete grace@acme.example --yes", NULL};
static const char *const user_password_examples[] = {"forgectl user password", NULL};
const struct cli_command tree_user[] = {
    {.name = "create",
     .summary = "Create a user",
     .arguments = "<email>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description = "Asks for the password without showing it.",
     .options = user_create_options,
     .examples = user_create_examples,
     .run = command_action,
     .action = &user_create},
    {.name = "get",
     .summary = "Show a user",
     .arguments = "<id or email>",
     .arguments_min = 1,
     .arguments_max = 1,
     .examples = user_get_examples,
     .run = command_action,
     .action = &user_get},
    {.name = "list",
     .summary = "List users by e-mail",
     .options = user_list_options,
     .examples = user_list_examples,
     .run = command_action,
     .action = &user_list},
    {.name = "update",
     .summary = "Change a user",
     .arguments = "<id or email>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = user_update_options,
     .examples = user_update_examples,
     .run = command_action,
     .action = &user_update},
    {.name = "delete",
     .summary = "Delete a user; the keys that act for the user are refused",
     .arguments = "<id or email>",
     .arguments_min = 1,
     .arguments_max = 1,
     .options = user_delete_options,
     .examples = user_delete_examples,
     .run = command_action,
     .action = &user_delete},
    {.name = "password",
     .summary = "Change your own password and end your other sessions",
     .description = "Asks for the present password and the new one; without a terminal they are two lines of standard input.",
     .examples = user_password_examples,
     .run = command_user_password},
    {.name = NULL}};

/* ---- key ---- */

static const struct output_column key_columns[] = {{"Id", "id"},
                                                   {"Name", "name"},
                                                   {"Scopes", "scopes"},
                                                   {"Project", "project_id"},
                                                   {"Service account", "service_account_id"},
                                                   {"Token", "token"},
                                                   {"Token prefix", "token_prefix"},
                                                   {"Created", "create_time"},
                                                   {"Expires", "expire_time"},
                                                   {"Revoked", "revoke_time"},
                                                   {NULL, NULL}};
static const struct output_column key_list_columns[] = {{"NAME", "name"},
                                                        {"SCOPES", "scopes"},
                                                        {"PREFIX", "token_prefix"},
                                                        {"CREATED", "create_time"},
                                                        {"EXPIRES", "expire_time"},
                                                        {"LAST USE", "last_use_time"},
                                                        {"REVOKED", "revoke_time"},
                                                        {"ID", "id"},
                                                        {NULL, NULL}};

static void tell_once(struct cli *cli, const ProtobufCMessage *reply)
{
    if (*output_field_text(cli, reply, "token"))
        fprintf(stderr, "The token is shown only this once.\n");
}

static const struct cli_option key_create_options[] = {
    {.name = "scope",
     .value = "SCOPE",
     .help = "read, write, admin or ingest (read)",
     .is_repeated = true,
     .field = "scopes",
     .take = CLI_TAKE_ENUM,
     .otherwise = "read"},
    {.name = "expires-days", .value = "N", .help = "days until it expires (never)", .field = "expire_time", .take = CLI_TAKE_DAYS},
    {.name = "project",
     .value = "ID|NAME",
     .help = "bind it to one project (all projects)",
     .field = "project_id",
     .take = CLI_TAKE_PROJECT},
    {.name = "service-account",
     .value = "ID|NAME",
     .help = "it acts for this account (for you)",
     .field = "service_account_id",
     .take = CLI_TAKE_ACCOUNT},
    {.name = NULL}};
static const struct cli_action key_create = {.method = FORGE_METHOD_ORGANIZATION_CREATE_API_KEY,
                                             .argument_fields = {"name"},
                                             .columns = key_columns,
                                             .name = "token",
                                             .after = tell_once};
static const struct cli_option key_list_options[] = {
    {.name = "project", .value = "ID|NAME", .help = "only keys bound to it", .field = "project_id", .take = CLI_TAKE_PROJECT},
    {.name = "creator", .value = "ID|EMAIL", .help = "only keys this user created", .field = "creator_user_id", .take = CLI_TAKE_USER},
    {.name = "service-account",
     .value = "ID|NAME",
     .help = "only keys of this account",
     .field = "service_account_id",
     .take = CLI_TAKE_ACCOUNT},
    {.name = "revoked", .help = "also revoked and expired ones", .field = "show_revoked", .take = CLI_TAKE_TRUE},
    PAGE_OPTIONS,
    {.name = NULL}};
static const struct cli_action key_list = {
    .method = FORGE_METHOD_ORGANIZATION_LIST_API_KEYS, .list = "api_keys", .columns = key_list_columns, .name = "id"};
static const struct cli_action key_revoke = {
    .method = FORGE_METHOD_ORGANIZATION_REVOKE_API_KEY, .argument_fields = {"id"}, .columns = key_columns, .name = "id"};
static const char *const key_create_examples[] = {"forgectl key create ci --scope write --project checkout --expires-days 90",
                                                  "FORGE_TOKEN=$(forgectl key create review-service -o name)", NULL};
static const char *const key_list_examples[] = {"forgectl key list", "forgectl key list --revoked", NULL};
static const char *const key_revoke_examples[] = {"forgectl key revoke 0190163d-8694-739b-aea5-966c26f8ad91", NULL};
const struct cli_command tree_key[] = {{.name = "create",
                                        .summary = "Create an API key and show its token, this once",
                                        .arguments = "<name>",
                                        .arguments_min = 1,
                                        .arguments_max = 1,
                                        .description = "With -o name the token alone is printed.",
                                        .options = key_create_options,
                                        .examples = key_create_examples,
                                        .run = command_action,
                                        .action = &key_create},
                                       {.name = "list",
                                        .summary = "List API keys, newest first",
                                        .options = key_list_options,
                                        .examples = key_list_examples,
                                        .run = command_action,
                                        .action = &key_list},
                                       {.name = "revoke",
                                        .summary = "Revoke an API key for ever",
                                        .arguments = "<id>",
                                        .arguments_min = 1,
                                        .arguments_max = 1,
                                        .examples = key_revoke_examples,
                                        .run = command_action,
                                        .action = &key_revoke},
                                       {.name = NULL}};

/* ---- service-account ---- */

static const struct output_column account_columns[] = {{"Id", "id"},
                                                       {"Name", "name"},
                                                       {"Description", "description"},
                                                       {"Role", "role"},
                                                       {"Project", "project_id"},
                                                       {"SAN URI", "san_uri"},
                                                       {"Public key", "public_key_sha256"},
                                                       {"Certificate login", "certificate_login"},
                                                       {"Token", "token"},
                                                       {"Token prefix", "token_prefix"},
                                                       {"Created", "create_time"},
                                                       {"Expires", "expire_time"},
                                                       {NULL, NULL}};
static const struct output_column account_list_columns[] = {{"NAME", "name"},
                                                            {"ROLE", "role"},
                                                            {"SAN URI", "san_uri"},
                                                            {"PREFIX", "token_prefix"},
                                                            {"CREATED", "create_time"},
                                                            {"LAST USE", "last_use_time"},
                                                            {"ID", "id"},
                                                            {NULL, NULL}};
static const struct cli_option account_create_options[] = {
    {.name = "role", .value = "ROLE", .help = "viewer, developer or admin (required)", .field = "role", .take = CLI_TAKE_ENUM},
    DESCRIPTION_OPTION,
    {.name = "project",
     .value = "ID|NAME",
     .help = "bind it to one project (all projects)",
     .field = "project_id",
     .take = CLI_TAKE_PROJECT},
    {.name = "san-uri", .value = "URI", .help = "client certificates with this URI are this account", .field = "san_uri"},
    {.name = "public-key",
     .value = "HEX",
     .help = "client certificates with this public key are this account (SHA-256 of SubjectPublicKeyInfo)",
     .field = "public_key_sha256"},
    {.name = "certificate-login", .help = "such a certificate alone is enough", .field = "certificate_login", .take = CLI_TAKE_TRUE},
    {.name = "without-token", .help = "make no token; needs --certificate-login", .field = "without_token", .take = CLI_TAKE_TRUE},
    {.name = "calls-in-flight",
     .value = "N",
     .help = "most calls in flight on one connection (the server's default)",
     .field = "calls_in_flight_max",
     .take = CLI_TAKE_NUMBER},
    {.name = "expires-days", .value = "N", .help = "days until the token expires (never)", .field = "expire_time", .take = CLI_TAKE_DAYS},
    {.name = NULL}};
static const struct cli_action account_create = {.method = FORGE_METHOD_ORGANIZATION_CREATE_SERVICE_ACCOUNT,
                                                 .argument_fields = {"name"},
                                                 .columns = account_columns,
                                                 .name = "token",
                                                 .after = tell_once};
static const struct cli_option account_list_options[] = {
    {.name = "prefix", .value = "TEXT", .help = "only names that begin so", .field = "name_prefix"}, PAGE_OPTIONS, {.name = NULL}};
static const struct cli_action account_list = {
    .method = FORGE_METHOD_ORGANIZATION_LIST_SERVICE_ACCOUNTS, .list = "service_accounts", .columns = account_list_columns, .name = "name"};
static const struct cli_option account_delete_options[] = {YES_OPTION, {.name = NULL}};
static const struct cli_action account_delete = {.method = FORGE_METHOD_ORGANIZATION_DELETE_SERVICE_ACCOUNT,
                                                 .argument_fields = {"id"},
                                                 .argument_takes = {CLI_TAKE_ACCOUNT},
                                                 .deletes = "service account"};
static const char *const account_create_examples[] = {
    "forgectl service-account create billing --role viewer --project checkout",
    "forgectl service-account create billing --role viewer --san-uri spiffe://example.org/billing --certificate-login --without-token",
    NULL};
static const char *const account_list_examples[] = {"forgectl service-account list", NULL};
static const char *const account_delete_examples[] = {"forgectl service-account delete billing --yes", NULL};
const struct cli_command tree_service_account[] = {{.name = "create",
                                                    .summary = "Create an identity for a program and show its token, this once",
                                                    .arguments = "<name>",
                                                    .arguments_min = 1,
                                                    .arguments_max = 1,
                                                    .description = "With -o name the token alone is printed.",
                                                    .options = account_create_options,
                                                    .examples = account_create_examples,
                                                    .run = command_action,
                                                    .action = &account_create},
                                                   {.name = "list",
                                                    .summary = "List service accounts by name",
                                                    .options = account_list_options,
                                                    .examples = account_list_examples,
                                                    .run = command_action,
                                                    .action = &account_list},
                                                   {.name = "delete",
                                                    .summary = "Delete a service account with its keys",
                                                    .arguments = "<id or name>",
                                                    .arguments_min = 1,
                                                    .arguments_max = 1,
                                                    .options = account_delete_options,
                                                    .examples = account_delete_examples,
                                                    .run = command_action,
                                                    .action = &account_delete},
                                                   {.name = NULL}};

/* ---- audit ---- */

static const struct output_column audit_columns[] = {
    {"SEQUENCE", "sequence"}, {"TIME", "event_time"},  {"ACTION", "action"},     {"ACTOR", "actor_name"},
    {"ROLE", "actor_role"},   {"TARGET", "target_id"}, {"FROM", "peer_address"}, {NULL, NULL}};
static const struct cli_option audit_list_options[] = {
    {.name = "action", .value = "ACTION", .help = "only this action, or those below it: api_key, api_key.create", .field = "action"},
    {.name = "actor", .value = "ID", .help = "only what this user, key or account did", .field = "actor_id"},
    {.name = "target-kind", .value = "KIND", .help = "only what was done to such a thing: user", .field = "target_kind"},
    {.name = "target", .value = "ID", .help = "only what was done to this one", .field = "target_id"},
    RANGE_OPTIONS,
    PAGE_OPTIONS,
    {.name = NULL}};
static const struct cli_action audit_list = {
    .method = FORGE_METHOD_ORGANIZATION_LIST_AUDIT_EVENTS, .list = "audit_events", .columns = audit_columns, .name = "sequence"};
static const char *const audit_list_examples[] = {"forgectl audit list --action api_key", "forgectl audit list -o json --page-size 1000",
                                                  NULL};
static const char *const audit_verify_examples[] = {"forgectl audit verify", NULL};
const struct cli_command tree_audit[] = {
    {.name = "list",
     .summary = "List administrative changes, newest first",
     .options = audit_list_options,
     .examples = audit_list_examples,
     .run = command_action,
     .action = &audit_list},
    {.name = "verify",
     .summary = "Recompute the hash chain of the audit log",
     .description =
         "Prints the hash of the last event: keep it elsewhere to prove later that the log was not rewritten. Ends with 1 when the\n"
         "chain is broken.",
     .examples = audit_verify_examples,
     .run = command_audit_verify},
    {.name = NULL}};
