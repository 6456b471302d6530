/* audit verify, usage and user password: what is more than one call. */
#include "resolve.h"

#include <string.h>

/* ---- audit verify ---- */

static void print_progress(const Forge__V1__VerifyAuditLogResponse *part, int64_t total)
{
    fprintf(stderr, "%lld events verified%s\n", (long long)total, part->complete ? "" : " ...");
}

static int print_broken(struct cli *cli, const Forge__V1__VerifyAuditLogResponse *part)
{
    if (cli->format == CLI_FORMAT_JSON || cli->format == CLI_FORMAT_YAML)
        output_message(cli, &part->base);
    return cli_fail(CLI_FAILED, "the audit log is broken at event %lld: %s", (long long)part->broken_sequence, part->broken_reason);
}

static int print_verified(struct cli *cli, const Forge__V1__VerifyAuditLogResponse *last, int64_t total)
{
    if (cli->format == CLI_FORMAT_JSON || cli->format == CLI_FORMAT_YAML)
        return output_message(cli, &last->base);
    if (cli->format == CLI_FORMAT_TABLE)
        printf("%lld events, unbroken. Hash of the last one: ", (long long)total);
    for (size_t i = 0; i < last->last_hash.len; i++)
        printf("%02x", last->last_hash.data[i]);
    putchar('\n');
    return CLI_OK;
}

/* What the last part says, for all parts together: they begin with the first event, so it ends with as many. */
static int print_outcome(struct cli *cli, Forge__V1__VerifyAuditLogResponse *part, int64_t total)
{
    part->verified_count = part->last_sequence = total;
    return part->valid ? print_verified(cli, part, total) : print_broken(cli, part);
}

/* Part by part to the end that the log has by then. Each part must go further: a server that stands still would keep us for ever. */
int command_audit_verify(struct cli *cli)
{
    Forge__V1__VerifyAuditLogRequest request = FORGE__V1__VERIFY_AUDIT_LOG_REQUEST__INIT;
    int64_t total = 0;
    for (;;) {
        ProtobufCMessage *reply;
        int code = cli_call(cli, &forge_methods[FORGE_METHOD_ORGANIZATION_VERIFY_AUDIT_LOG], &request.base, &reply);
        if (code != CLI_OK)
            return code;
        Forge__V1__VerifyAuditLogResponse *part = (Forge__V1__VerifyAuditLogResponse *)reply;
        bool ends = !part->valid || part->complete, stands = !ends && part->verified_count <= 0;
        total += part->verified_count;
        if (part->valid && (!ends || request.start_sequence > 0))
            print_progress(part, total);
        request.start_sequence = part->last_sequence + 1;
        if (ends)
            code = print_outcome(cli, part, total);
        else if (stands)
            code = cli_fail(CLI_FAILED, "the server verified nothing behind event %lld", (long long)total);
        cli_free(reply);
        if (ends || stands)
            return code;
    }
}

/* ---- usage ---- */

static const struct output_column usage_columns[] = {
    {"DATE", "date"}, {"METRIC", "metric"}, {"VALUE", "value"}, {"PROJECT", "project_id"}, {NULL, NULL}};
static const struct output_column quota_columns[] = {{"QUOTA", "metric"}, {"PERIOD", "period"},      {"LIMIT", "limit"},
                                                     {"USED", "used"},    {"PROJECT", "project_id"}, {NULL, NULL}};

static char *text_option(struct cli *cli, const char *name)
{
    const char *value = cli_option(cli, name);
    return forge_arena_strdup(&cli->arena, value ? value : "");
}

int command_usage(struct cli *cli)
{
    Forge__V1__GetUsageRequest request = FORGE__V1__GET_USAGE_REQUEST__INIT;
    ProtobufCMessage *reply;
    const char *project = cli_option(cli, "project");
    request.start_date = text_option(cli, "from");
    request.end_date = text_option(cli, "to");
    request.by_project = cli_option(cli, "by-project") != NULL;
    int code = project ? resolve_project_text(cli, project, &request.project_id) : CLI_OK;
    if (code == CLI_OK)
        code = cli_call(cli, &forge_methods[FORGE_METHOD_ORGANIZATION_GET_USAGE], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    code = output_list(cli, reply, "rows", usage_columns, "metric");
    if (cli->format == CLI_FORMAT_TABLE && ((const Forge__V1__GetUsageResponse *)reply)->n_quotas > 0) {
        putchar('\n');
        code = output_list(cli, reply, "quotas", quota_columns, "metric");
    }
    cli_free(reply);
    return code;
}

/* ---- user password ---- */

int command_user_password(struct cli *cli)
{
    Forge__V1__ChangePasswordRequest request = FORGE__V1__CHANGE_PASSWORD_REQUEST__INIT;
    ProtobufCMessage *reply;
    request.current_password = cli_read_password(cli, "Present password");
    if (!request.current_password)
        return CLI_FAILED;
    request.new_password = cli_read_password(cli, "New password");
    int code =
        request.new_password ? cli_call(cli, &forge_methods[FORGE_METHOD_ORGANIZATION_CHANGE_PASSWORD], &request.base, &reply) : CLI_FAILED;
    explicit_bzero(request.current_password, strlen(request.current_password));
    if (request.new_password)
        explicit_bzero(request.new_password, strlen(request.new_password));
    if (code != CLI_OK)
        return code;
    cli_free(reply);
    fprintf(stderr, "The password is changed; your other sessions have ended.\n");
    return CLI_OK;
}
