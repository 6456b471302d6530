/* Commands that are one call. The request is built as proto3 JSON from the arguments and options that name a field, so that enums, times,
 * masks and wrappers are read as `forgectl call` reads them; the reply is printed by the columns of the action. */
#include "apply_fields.h"
#include "duration.h"
#include "evaluator.h"
#include "fields_file.h"
#include "resolve.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    SECONDS_PER_DAY = 86400,
    DAYS_MAX = 36500,
    NUMBER_SIZE = 32,
    MICRO_DIGITS = 6,
    DOLLAR_DIGITS_MAX = 12,
    ARGUMENTS_MAX = 3,
    NS_PER_MS = 1000000,
    NS_PER_S = 1000000000
};

/* Fields of requests that are wiped once they are sent. */
static const char *const secret_fields[] = {"admin_password", "credential", "password"};
enum { SECRET_FIELDS = sizeof secret_fields / sizeof secret_fields[0] };

static const struct forge_method *method_of(const struct cli *cli)
{
    return &forge_methods[cli->command->action->method];
}

/* The message that options and arguments fill. */
static const ProtobufCMessageDescriptor *filled_type(const struct cli *cli)
{
    const ProtobufCMessageDescriptor *request = method_of(cli)->input;
    const char *item = cli->command->action->item;
    return item ? protobuf_c_message_descriptor_get_field_by_name(request, item)->descriptor : request;
}

/* ---- values ---- */

static int take_number(const char *what, const char *text, const struct cli_option *option, json_t **out)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return cli_fail(CLI_USAGE, "%s must be a whole number, not \"%s\"", what, text);
    if (option && option->most && (number < option->least || number > option->most))
        return cli_fail(CLI_USAGE, "%s must be a number from %ld to %ld, not \"%s\"", what, option->least, option->most, text);
    *out = json_integer(number);
    return CLI_OK;
}

static int take_decimal(const char *what, const char *text, json_t **out)
{
    char *end;
    double number = strtod(text, &end);
    *out = *text && !*end ? json_real(number) : NULL; /* NULL too for infinity and NaN */
    return *out ? CLI_OK : cli_fail(CLI_USAGE, "%s must be a number, not \"%s\"", what, text);
}

static int take_pair(const char *what, const char *text, json_t **out)
{
    size_t length = strcspn(text, "=");
    if (!length || !text[length])
        return cli_fail(CLI_USAGE, "%s must be key=value, not \"%s\"", what, text);
    *out = json_pack("{s:s%, s:s}", "key", text, length, "value", text + length + 1);
    return *out ? CLI_OK : cli_fail(CLI_USAGE, "the text is not UTF-8");
}

/* The enum's value whose name ends in the text: "admin" is ROLE_ADMIN. The choices are named when there is none. */
static int take_enum(struct cli *cli, const char *what, const char *field_name, const char *text, json_t **out)
{
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(filled_type(cli), field_name);
    const ProtobufCEnumDescriptor *type = field->descriptor;
    const char *zero = type->values[0].name, *choices = "";
    size_t prefix = (size_t)(strstr(zero, "UNSPECIFIED") - zero), length = strlen(text);
    for (unsigned i = 0; i < type->n_values; i++) {
        const char *name = type->values[i].name + prefix;
        if (type->values[i].value == 0)
            continue;
        if (strlen(name) == length && strcasecmp(name, text) == 0) {
            *out = json_string(type->values[i].name);
            return CLI_OK;
        }
        choices = forge_arena_printf(&cli->arena, "%s%s%s", choices, *choices ? ", " : "", name);
    }
    char *lower = forge_arena_strdup(&cli->arena, choices);
    for (char *c = lower; c && *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return cli_fail(CLI_USAGE, "%s must be one of %s, not \"%s\"", what, lower ? lower : "", text);
}

static void format_time(time_t when, char out[NUMBER_SIZE])
{
    struct tm parts;
    strftime(out, NUMBER_SIZE, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&when, &parts));
}

static int take_days(const char *what, const char *text, json_t **out)
{
    char *end, formatted[NUMBER_SIZE];
    long days = strtol(text, &end, 10);
    if (end == text || *end || days < 1 || days > DAYS_MAX)
        return cli_fail(CLI_USAGE, "%s must be a number of days from 1 to %d, not \"%s\"", what, DAYS_MAX, text);
    format_time(time(NULL) + (time_t)days * SECONDS_PER_DAY, formatted);
    *out = json_string(formatted);
    return CLI_OK;
}

static int take_text(const char *text, json_t **out)
{
    *out = text ? json_string(text) : NULL;
    return *out ? CLI_OK : cli_fail(text ? CLI_USAGE : CLI_FAILED, "the text is not UTF-8");
}

/* What is no duration is left to the reader of times. */
static int take_time(const char *text, json_t **out)
{
    char formatted[NUMBER_SIZE];
    int64_t ago_ns;
    if (!duration_parse(text, &ago_ns) || ago_ns < 0)
        return take_text(text, out);
    time_t when = time(NULL) - (time_t)(ago_ns / NS_PER_S);
    if (when < 0)
        return take_text(text, out);
    format_time(when, formatted);
    *out = json_string(formatted);
    return CLI_OK;
}

static int take_duration(const char *what, const char *text, int64_t unit_ns, const char *unit, json_t **out)
{
    int64_t ns;
    if (!duration_parse(text, &ns) || ns < 0 || ns % unit_ns != 0)
        return cli_fail(CLI_USAGE, "%s must be whole %s, such as 90s, 15m or 1h, not \"%s\"", what, unit, text);
    *out = json_integer(ns / unit_ns);
    return CLI_OK;
}

static int take_span(const char *what, const char *text, json_t **out)
{
    const char *slash = strchr(text, '/');
    *out = slash ? json_pack("{s:s%, s:s}", "trace_id", text, (size_t)(slash - text), "span_id", slash + 1) : NULL;
    return *out ? CLI_OK : cli_fail(CLI_USAGE, "%s must be trace id/span id, not \"%s\"", what, text);
}

static int take_file(struct cli *cli, const char *path, json_t **out)
{
    size_t size;
    const char *text = cli_read_file(cli, path, &size);
    return text ? take_text(text, out) : CLI_FAILED;
}

static int take_password(struct cli *cli, json_t **out)
{
    char *password = cli_read_password(cli, "Password");
    if (!password)
        return CLI_FAILED;
    int code = take_text(password, out);
    explicit_bzero(password, strlen(password));
    return code;
}

static int take_secret(struct cli *cli, const char *path, json_t **out)
{
    size_t size;
    char *text = cli_read_file(cli, path, &size);
    if (!text)
        return CLI_FAILED;
    if (size && text[size - 1] == '\n')
        text[size - 1 - (size > 1 && text[size - 2] == '\r')] = '\0';
    int code = strlen(text) + 2 < size ? cli_fail(CLI_FAILED, "%s holds a NUL character", path) : take_text(text, out);
    explicit_bzero(text, size);
    return code;
}

/* Exact: "2.5" dollars are 2,500,000 millionths. */
static int take_price(const struct cli_option *option, const char *text, json_t **out)
{
    size_t dollars = strspn(text, "0123456789"), cents = text[dollars] == '.' ? strspn(text + dollars + 1, "0123456789") : 0;
    bool has_point = text[dollars] == '.';
    char digits[DOLLAR_DIGITS_MAX + MICRO_DIGITS + 1], type[NUMBER_SIZE] = "USAGE_TYPE_";
    if (!dollars || dollars > DOLLAR_DIGITS_MAX || cents > MICRO_DIGITS || has_point != (cents > 0) || text[dollars + has_point + cents])
        return cli_fail(CLI_USAGE, "--%s must be dollars for a million tokens, such as 2.50, not \"%s\"", option->name, text);
    snprintf(digits, sizeof digits, "%.*s%.*s%0*d", (int)dollars, text, (int)cents, text + dollars + has_point, (int)(MICRO_DIGITS - cents),
             0);
    digits[dollars + MICRO_DIGITS] = '\0';
    for (const char *c = option->name; strcmp(c, "-price") != 0; c++)
        snprintf(type + strlen(type), sizeof type - strlen(type), "%c", *c == '-' ? '_' : toupper((unsigned char)*c));
    *out = json_pack("{s:s, s:s}", "usage_type", type, "micros_per_million_tokens", digits);
    return *out ? CLI_OK : cli_fail(CLI_FAILED, "no memory for the request");
}

/* Ids of things that people call by name. */
static int take_id(struct cli *cli, enum cli_take take, const char *text, json_t **out)
{
    char *id = NULL;
    int code = take == CLI_TAKE_PROJECT    ? resolve_project_text(cli, text, &id)
               : take == CLI_TAKE_PROMPT   ? resolve_prompt_id(cli, text, &id)
               : take == CLI_TAKE_DATASET  ? resolve_dataset_id(cli, text, &id)
               : take == CLI_TAKE_USER     ? resolve_user_id(cli, text, &id)
               : take == CLI_TAKE_PROVIDER ? resolve_provider_id(cli, text, &id)
               : take == CLI_TAKE_MODEL    ? resolve_model_id(cli, text, &id)
               : take == CLI_TAKE_POLICY   ? resolve_policy_id(cli, text, &id)
                                           : resolve_account_id(cli, text, &id);
    return code == CLI_OK ? take_text(id, out) : code;
}

/* "7=90" as a target. */
static int take_target(const char *text, json_t *targets)
{
    char *end;
    errno = 0;
    long version = strtol(text, &end, 10), weight = *end == '=' ? strtol(end + 1, &end, 10) : 0;
    if (*end || errno || version < 1 || version > INT32_MAX || weight < 1 || weight > INT32_MAX)
        return cli_fail(CLI_USAGE, "a share is version=weight, two numbers from 1, not \"%s\"", text);
    json_t *target = json_pack("{s:I,s:I}", "version", (json_int_t)version, "weight", (json_int_t)weight);
    return json_array_append_new(targets, target) == 0 ? CLI_OK : cli_fail(CLI_FAILED, "no memory for the request");
}

/* The argument of this text and all behind it. */
static int take_split(struct cli *cli, const char *text, json_t **out)
{
    json_t *targets = json_array();
    int code = CLI_OK;
    size_t first = 0;
    while (cli->positionals[first] != text)
        first++;
    for (size_t i = first; i < cli->positional_count && code == CLI_OK; i++)
        code = take_target(cli->positionals[i], targets);
    if (code != CLI_OK)
        json_decref(targets);
    else
        *out = json_pack("{s:o}", "targets", targets);
    return code;
}

/* option: NULL for an argument. */
static int take_value(struct cli *cli, enum cli_take take, const char *what, const char *field, const char *text,
                      const struct cli_option *option, json_t **out)
{
    switch (take) {
    case CLI_TAKE_TEXT:
        return take_text(text, out);
    case CLI_TAKE_FILE:
        return take_file(cli, text, out);
    case CLI_TAKE_NUMBER:
        return take_number(what, text, option, out);
    case CLI_TAKE_DECIMAL:
        return take_decimal(what, text, out);
    case CLI_TAKE_PAIR:
        return take_pair(what, text, out);
    case CLI_TAKE_TRUE:
        *out = json_true();
        return CLI_OK;
    case CLI_TAKE_FALSE:
        *out = json_false();
        return CLI_OK;
    case CLI_TAKE_SWITCH:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return cli_fail(CLI_USAGE, "%s must be true or false, not \"%s\"", what, text);
        *out = json_boolean(text[0] == 't');
        return CLI_OK;
    case CLI_TAKE_ENUM:
        return take_enum(cli, what, field, text, out);
    case CLI_TAKE_DAYS:
        return take_days(what, text, out);
    case CLI_TAKE_TIME:
        return take_time(text, out);
    case CLI_TAKE_SECONDS:
        return take_duration(what, text, NS_PER_S, "seconds", out);
    case CLI_TAKE_MILLIS:
        return take_duration(what, text, NS_PER_MS, "milliseconds", out);
    case CLI_TAKE_SPAN:
        return take_span(what, text, out);
    case CLI_TAKE_SPLIT:
        return take_split(cli, text, out);
    case CLI_TAKE_PASSWORD:
        return take_password(cli, out);
    case CLI_TAKE_SECRET:
        return take_secret(cli, text, out);
    case CLI_TAKE_PRICE:
        return take_price(option, text, out);
    case CLI_TAKE_EVALUATOR:
        return evaluator_take(cli, text, out);
    case CLI_TAKE_FIELDS:
        return fields_file_take(cli, method_of(cli)->input, text, out);
    case CLI_TAKE_PROJECT:
    case CLI_TAKE_PROMPT:
    case CLI_TAKE_DATASET:
    case CLI_TAKE_USER:
    case CLI_TAKE_ACCOUNT:
    case CLI_TAKE_PROVIDER:
    case CLI_TAKE_MODEL:
    case CLI_TAKE_POLICY:
        return take_id(cli, take, text, out);
    }
    return CLI_FAILED;
}

/* ---- the request ---- */

/* The object that a path such as "gate.min_score" ends in, made where it is not there yet; *field becomes the last name. */
static json_t *object_at(json_t *request, const char **field)
{
    for (const char *dot; (dot = strchr(*field, '.')) != NULL; *field = dot + 1) {
        size_t length = (size_t)(dot - *field);
        json_t *inner = json_object_getn(request, *field, length);
        if (!inner)
            json_object_setn_new(request, *field, length, inner = json_object());
        request = inner;
    }
    return request;
}

static int set(json_t *request, const char *field, json_t *value, bool appends)
{
    request = object_at(request, &field);
    json_t *list = json_object_get(request, field);
    if (!appends && list) {
        json_decref(value);
        return cli_fail(CLI_USAGE, "%s is given twice, in two ways", field);
    }
    if (appends && !list)
        json_object_set_new(request, field, list = json_array());
    return (appends ? json_array_append_new(list, value) : json_object_set_new(request, field, value)) == 0
               ? CLI_OK
               : cli_fail(CLI_FAILED, "no memory for the request");
}

static int add_to_mask(struct cli *cli, char **mask, const char *field)
{
    *mask = forge_arena_printf(&cli->arena, "%s%s%s", *mask, **mask ? "," : "", field);
    return *mask ? CLI_OK : cli_fail(CLI_FAILED, "no memory for the request");
}

/* Each field of a file as if it were given by an option. */
static int set_fields(struct cli *cli, json_t *request, json_t *fields, char **mask)
{
    const char *name;
    json_t *value;
    int code = CLI_OK;
    json_object_foreach(fields, name, value)
    {
        size_t index;
        json_t *element;
        code = code == CLI_OK ? add_to_mask(cli, mask, name) : code;
        if (!json_is_array(value)) {
            code = code == CLI_OK ? set(request, name, json_incref(value), false) : code;
            continue;
        }
        json_array_foreach(value, index, element) code = code == CLI_OK ? set(request, name, json_incref(element), true) : code;
    }
    json_decref(fields);
    return code;
}

/* mask: the names of the fields that are set, joined by commas. */
static int set_option(struct cli *cli, json_t *request, const struct cli_option *option, const char *text, char **mask)
{
    json_t *value = NULL;
    const char *what = forge_arena_printf(&cli->arena, "--%s", option->name);
    int code = take_value(cli, option->take, what, option->field, text, option, &value);
    if (code == CLI_OK && option->take == CLI_TAKE_FIELDS)
        return set_fields(cli, request, value, mask);
    if (code == CLI_OK && strcmp(option->field, "etag") != 0)
        code = add_to_mask(cli, mask, option->field);
    return code == CLI_OK ? set(request, option->field, value, option->is_repeated || option->take == CLI_TAKE_PRICE) : code;
}

static int set_options(struct cli *cli, json_t *request, char **mask)
{
    int code = CLI_OK;
    for (size_t i = 0; i < cli->given_count && code == CLI_OK; i++) {
        const struct cli_option *option = cli->given[i].option;
        if (!option->field)
            continue;
        code = set_option(cli, request, option, cli->given[i].value, mask);
    }
    for (const struct cli_option *option = cli->command->options; option && option->name && code == CLI_OK; option++)
        if (option->otherwise && !json_object_get(request, option->field))
            code = set_option(cli, request, option, option->otherwise, mask);
    return code;
}

static int set_arguments(struct cli *cli, json_t *request)
{
    const struct cli_action *action = cli->command->action;
    int code = CLI_OK;
    for (size_t i = 0; i < cli->positional_count && i < ARGUMENTS_MAX && action->argument_fields[i] && code == CLI_OK; i++) {
        const char *text = cli->positionals[i], *field = action->argument_fields[i];
        enum cli_take take = action->argument_takes[i];
        json_t *value = NULL;
        code = take_value(cli, take, field, field, text, NULL, &value);
        if (code == CLI_OK)
            code = set(request, field, value, false);
    }
    return code;
}

static int set_rest(struct cli *cli, json_t *request, const char *mask)
{
    const struct cli_action *action = cli->command->action;
    json_t *value = NULL;
    char *project_id;
    int code = CLI_OK;
    if (action->is_update && !*mask)
        return cli_fail(CLI_USAGE, "nothing to change is given; see %s --help", cli->path);
    if (action->is_update)
        json_object_set_new(request, "update_mask", json_string(mask));
    if (action->fixed_true && !json_object_get(request, action->fixed_true))
        json_object_set_new(request, action->fixed_true, json_true());
    if (action->needs_project && !(action->project_unless && json_object_get(request, action->project_unless))) {
        code = resolve_project_id(cli, &project_id);
        if (code == CLI_OK)
            json_object_set_new(request, "project_id", json_string(project_id));
    }
    if (code == CLI_OK && action->password) {
        code = take_password(cli, &value);
        if (code == CLI_OK)
            code = set(request, action->password, value, false);
    }
    return code;
}

/* Before anything is deleted: the name again where much hangs on it, else yes or no. */
static int confirm(struct cli *cli, json_t *request)
{
    const struct cli_action *action = cli->command->action;
    const char *what = cli->positional_count ? cli->positionals[cli->positional_count - 1] : "";
    if (!action->deletes || (action->confirm ? json_object_get(request, action->confirm) != NULL : cli_option(cli, "yes") != NULL))
        return CLI_OK;
    const char *question = action->confirm
                               ? forge_arena_printf(&cli->arena, "This deletes the %s with everything in it. Its name: ", action->deletes)
                               : forge_arena_printf(&cli->arena, "Delete %s %s? [y/N] ", action->deletes, what);
    char *answer = cli_ask(cli, question);
    if (!answer)
        return action->confirm ? cli_fail(CLI_USAGE, "--confirm NAME is needed where nobody can be asked")
                               : cli_fail(CLI_USAGE, "--yes is needed where nobody can be asked");
    if (action->confirm)
        return set(request, action->confirm, json_string(answer), false);
    return strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0 ? CLI_OK : cli_fail(CLI_FAILED, "not deleted");
}

/* Jansson frees without cleansing. */
static void wipe(json_t *secret)
{
    if (json_is_string(secret))
        explicit_bzero((char *)(uintptr_t)json_string_value(secret), json_string_length(secret));
}

static void wipe_request(const ProtobufCMessage *request)
{
    for (size_t i = 0; i < SECRET_FIELDS; i++) {
        const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(request->descriptor, secret_fields[i]);
        char *secret = field ? *(char *const *)((const char *)request + field->offset) : NULL;
        if (secret && *secret)
            explicit_bzero(secret, strlen(secret));
    }
}

/* {item: [filled]}; takes filled over. */
static json_t *wrap_item(const struct cli_action *action, json_t *filled)
{
    return action->item ? json_pack("{s:[o]}", action->item, filled) : filled;
}

static int request_make(struct cli *cli, ProtobufCMessage **out)
{
    json_t *request = json_object();
    struct forge_error error = {0};
    char *mask = forge_arena_strdup(&cli->arena, "");
    int code = set_options(cli, request, &mask);
    if (code == CLI_OK)
        code = set_arguments(cli, request);
    request = wrap_item(cli->command->action, request);
    if (!request)
        return cli_fail(CLI_FAILED, "no memory for the request");
    if (code == CLI_OK)
        code = set_rest(cli, request, mask);
    if (code == CLI_OK)
        code = confirm(cli, request);
    char *text = code == CLI_OK ? json_dumps(request, JSON_COMPACT) : NULL;
    if (text && forge_json_to_message(text, strlen(text), method_of(cli)->input, &cli->arena, out, &error) != FORGE_OK) {
        code = cli_fail(CLI_USAGE, "%s", error.message);
        for (const struct forge_violation *violation = error.violations; violation; violation = violation->next)
            fprintf(stderr, "  %s: %s\n", violation->field, violation->description);
    }
    if (text)
        explicit_bzero(text, strlen(text)); /* it may hold a password */
    free(text);
    for (size_t i = 0; i < SECRET_FIELDS; i++)
        wipe(json_object_get(request, secret_fields[i]));
    json_decref(request);
    return code;
}

/* ---- the reply ---- */

/* What became of the one item that was sent. */
static int item_print(struct cli *cli, const ProtobufCMessage *reply)
{
    const struct cli_action *action = cli->command->action;
    size_t count;
    ProtobufCMessage *const *results = field_list(reply, NULL, &count);
    const Forge__V1__ItemVerdict *verdict = count ? (const Forge__V1__ItemVerdict *)field_message(results[0], "verdict") : NULL;
    if (!verdict)
        return cli_fail(CLI_FAILED, "the server did not tell what became of it");
    if (verdict->outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED)
        return cli_print_verdict("", verdict);
    return output_resource(cli, results[0], action->columns, action->name);
}

static int reply_print(struct cli *cli, const ProtobufCMessage *reply)
{
    const struct cli_action *action = cli->command->action;
    const char *argument = cli->positional_count ? cli->positionals[cli->positional_count - 1] : action->deletes;
    if (!action->columns) { /* a deletion: there is nothing to show but that it is done */
        if (cli->format == CLI_FORMAT_JSON || cli->format == CLI_FORMAT_YAML)
            return output_message(cli, reply);
        if (cli->format == CLI_FORMAT_NAME)
            printf("%s\n", argument);
        else
            printf("Deleted %s\n", argument);
        return CLI_OK;
    }
    if (action->view && cli->format == CLI_FORMAT_TABLE) {
        action->view(cli, reply);
        return CLI_OK;
    }
    if (action->item)
        return item_print(cli, reply);
    if (!action->list)
        return output_resource(cli, reply, action->columns, action->name);
    int code = output_list(cli, reply, action->list, action->columns, action->name);
    resolve_next_page(cli, output_field_text(cli, reply, "next_page_token"));
    return code;
}

static int connect_as_operator(struct cli *cli)
{
    const char *token = cli_setting(cli, "token", "FORGE_OPERATOR_TOKEN", NULL);
    if (!token)
        return cli_fail(CLI_USAGE, "an operator token is needed: FORGE_OPERATOR_TOKEN or --token (forged bootstrap token makes one)");
    return cli_connect_as(cli, token);
}

int command_action(struct cli *cli)
{
    const struct cli_action *action = cli->command->action;
    ProtobufCMessage *request, *reply;
    int code = action->needs_operator ? connect_as_operator(cli) : CLI_OK;
    if (code == CLI_OK)
        code = request_make(cli, &request);
    if (code == CLI_OK) {
        code = cli_call(cli, method_of(cli), request, &reply);
        wipe_request(request);
    }
    if (code != CLI_OK)
        return code;
    code = reply_print(cli, reply);
    if (code == CLI_OK && action->after && cli->format == CLI_FORMAT_TABLE)
        action->after(cli, reply);
    cli_free(reply);
    return code;
}
