/* The command tree: what help, parsing and the manual page are made of. */
#include "tree.h"

const struct cli_option cli_global_options[] = {
    {.name = "server", .value = "HOST[:PORT],...", .help = "server addresses (FORGE_SERVER, then the context, then localhost:7443)"},
    {.name = "ca", .value = "FILE", .help = "PEM file with the server's authority (FORGE_CA, then the context, then the system's)"},
    {.name = "token", .value = "TOKEN", .help = "credential (FORGE_TOKEN, then the context); other users of this machine can see flags"},
    {.name = "context", .value = "NAME", .help = "context to use instead of the current one"},
    {.name = "output", .letter = 'o', .value = "FORMAT", .help = "table, json, yaml or name (table; call: json)"},
    {.name = "color", .value = "WHEN", .help = "colours: auto (on a terminal, unless NO_COLOR is set), always or never (auto)"},
    {.name = "timeout", .value = "MS", .help = "deadline of a call in milliseconds, all attempts together (10000)"},
    {.name = "request-id",
     .value = "UUID",
     .help = "request id (UUID version 7) of a write that is repeated because its outcome is unknown"},
    {.name = "help", .letter = 'h', .help = "show help"},
    {.name = NULL}};

/* ---- credentials ---- */

static const struct cli_option login_options[] = {
    {.name = "password-stdin", .help = "read the password from standard input instead of asking"}, {.name = NULL}};
static const char *const login_examples[] = {"forgectl login ada@example.com --server forge.example.com --ca ca.pem",
                                             "pass show forge | forgectl login ada@example.com --password-stdin", NULL};
static const struct cli_option logout_options[] = {{.name = "all", .help = "end all sessions of the user, not only this one"},
                                                   {.name = NULL}};
static const char *const logout_examples[] = {"forgectl logout", NULL};
static const char *const whoami_examples[] = {"forgectl whoami", "forgectl whoami -o name", NULL};

static const char *const context_list_examples[] = {"forgectl context list", NULL};
static const char *const context_use_examples[] = {"forgectl context use production", NULL};
static const struct cli_option context_set_options[] = {PROJECT_OPTION, {.name = NULL}};
static const char *const context_set_examples[] = {"forgectl context set production --server forge.example.com:7443 --ca /etc/forge/ca.pem",
                                                   "forgectl context set production --project checkout", NULL};
static const char *const context_delete_examples[] = {"forgectl context delete production", NULL};
static const struct cli_command context_commands[] = {
    {.name = "list", .summary = "List the contexts", .examples = context_list_examples, .run = command_context_list},
    {.name = "use",
     .summary = "Make a context the current one",
     .arguments = "<name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .examples = context_use_examples,
     .run = command_context_use},
    {.name = "set",
     .summary = "Create a context or change it",
     .arguments = "<name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description = "Keeps --server, --ca, --token and --project under the name; what is not given stays as it was.",
     .options = context_set_options,
     .examples = context_set_examples,
     .run = command_context_set},
    {.name = "delete",
     .summary = "Forget a context and its credential",
     .arguments = "<name>",
     .arguments_min = 1,
     .arguments_max = 1,
     .examples = context_delete_examples,
     .run = command_context_delete},
    {.name = NULL}};

/* ---- any method ---- */

static const struct cli_option call_options[] = {
    {.name = "data", .letter = 'd', .value = "JSON|@FILE", .help = "the request as JSON, or @ and a file with it (@- = standard input)"},
    {.name = NULL}};
static const char *const call_examples[] = {
    "forgectl call Ping", "forgectl call PromptService/GetPrompt -d '{\"project_id\": \"...\", \"name\": \"code-review\"}'",
    "forgectl call CreatePrompt -d @prompt.json", NULL};
static const char *const services_examples[] = {"forgectl services", "forgectl services -o name | grep Prompt", NULL};
static const char *const describe_examples[] = {"forgectl describe forge.v1.PromptService",
                                                "forgectl describe forge.v1.PromptService/GetPrompt",
                                                "forgectl describe CreatePromptRequest", NULL};
static const struct cli_option health_options[] = {{.name = "watch", .help = "print every change until interrupted"},
                                                   {.name = "wait", .help = "wait until the server serves, at most --timeout"},
                                                   {.name = NULL}};
static const char *const health_examples[] = {"forgectl health", "forgectl health --watch", "forgectl health --wait --timeout 60000", NULL};
static const struct cli_option ping_options[] = {{.name = "count", .value = "N", .help = "how often (1)"}, {.name = NULL}};
static const char *const ping_examples[] = {"forgectl ping --count 5", NULL};

/* ---- usage ---- */

static const struct cli_option usage_options[] = {
    {.name = "from", .value = "DATE", .help = "first day, YYYY-MM-DD in UTC (29 days before the last)"},
    {.name = "to", .value = "DATE", .help = "last day, included (today)"},
    {.name = "project", .value = "ID|NAME", .help = "only this project (the whole organization)"},
    {.name = "by-project", .help = "a row per project"},
    {.name = NULL}};
static const char *const usage_examples[] = {"forgectl usage", "forgectl usage --from 2026-11-01 --to 2026-11-30 --by-project", NULL};

/* ---- manifests ---- */

static const struct cli_option apply_options[] = {
    {.name = "file",
     .letter = 'f',
     .value = "PATH",
     .help = "manifest: a file, a folder (its .yaml and .yml files by name), - for standard input",
     .is_repeated = true},
    {.name = "dry-run", .help = "print the plan and change nothing"},
    {.name = "create-only", .help = "create what is missing and leave everything else as it is"},
    {.name = "project",
     .value = "ID|NAME",
     .help = "project of what names none (FORGE_PROJECT, then the context, then the first by name, else a new \"Prompt Library\")"},
    {.name = NULL}};
static const char *const apply_examples[] = {"forgectl apply -f prompts/ --dry-run", "forgectl apply -f prompts/",
                                             "FORGE_OPERATOR_TOKEN=$(forged bootstrap token) forgectl apply -f seeds/promptforge_demo.yaml",
                                             NULL};
static const struct cli_option export_options[] = {
    {.name = "executions", .help = "with the recorded executions"},
    {.name = "evaluations", .help = "with the datasets of the project and what was completed on their latest versions"},
    {.name = "models", .help = "all providers and models with their prices instead"},
    {.name = "policies", .help = "all policies of the organization, with the models that they name, instead"},
    PROJECT_OPTION,
    {.name = NULL}};
static const char *const export_examples[] = {"forgectl export --project checkout > checkout.yaml",
                                              "forgectl export code-review | forgectl apply -f - --project other",
                                              "forgectl export --models > models.yaml", "forgectl export --policies > policies.yaml", NULL};

/* ---- the rest ---- */

static const struct cli_option help_options[] = {{.name = "markdown", .help = "the whole reference as Markdown"}, {.name = NULL}};
static const char *const help_examples[] = {"forgectl help prompt render", NULL};
static const char *const version_examples[] = {"forgectl version", NULL};
static const char *const root_examples[] = {"forgectl login ada@example.com --server forge.example.com",
                                            "forgectl prompt list --project checkout",
                                            "forgectl prompt render code-review --var language=C --var diff=@change.diff", NULL};

static const struct cli_command root_commands[] = {
    {.name = "login",
     .summary = "Open a session and keep it in a context",
     .arguments = "<email>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description = "Asks for the password without showing it. Server, authority and session are kept in the context (--context, else the\n"
                    "current one, else \"default\"), which becomes the current one.",
     .options = login_options,
     .examples = login_examples,
     .run = command_login},
    {.name = "logout",
     .summary = "End the session and forget it",
     .options = logout_options,
     .examples = logout_examples,
     .run = command_logout},
    {.name = "whoami", .summary = "Show whose credential is used and what it may do", .examples = whoami_examples, .run = command_whoami},
    {.name = "context", .summary = "Servers and credentials kept on this machine", .commands = context_commands},
    {.name = "prompt", .summary = "Prompts and their versions", .commands = tree_prompt},
    {.name = "label", .summary = "Labels that point at versions of prompts", .commands = tree_label},
    {.name = "tag", .summary = "Tags of prompts", .commands = tree_tag},
    {.name = "execution", .summary = "Uses of prompts and how they went", .commands = tree_execution},
    {.name = "dataset", .summary = "Cases that prompts are evaluated on", .commands = tree_dataset},
    {.name = "eval", .summary = "Evaluations of prompt versions on datasets", .commands = tree_eval},
    {.name = "trace", .summary = "What models, tools and agents did, and how it was judged", .commands = tree_trace},
    {.name = "session", .summary = "Conversations: traces with the same session id", .commands = tree_session},
    {.name = "policy", .summary = "Rules about what goes to models and comes back", .commands = tree_policy},
    {.name = "violation", .summary = "What was found against policies", .commands = tree_violation},
    {.name = "project", .summary = "Projects of the organization", .commands = tree_project},
    {.name = "provider", .summary = "Providers of models and their credentials", .commands = tree_provider},
    {.name = "model", .summary = "Models and what they cost", .commands = tree_model},
    {.name = "organization", .summary = "Organizations", .commands = tree_organization},
    {.name = "user", .summary = "People of the organization", .commands = tree_user},
    {.name = "key", .summary = "API keys", .commands = tree_key},
    {.name = "service-account", .summary = "Identities of programs", .commands = tree_service_account},
    {.name = "audit", .summary = "The log of administrative changes", .commands = tree_audit},
    {.name = "usage",
     .summary = "Show daily usage and the quotas",
     .options = usage_options,
     .examples = usage_examples,
     .run = command_usage},
    {.name = "apply",
     .summary = "Make what manifests describe: create what is missing, update what differs",
     .description =
         "A manifest is YAML, one object a document: kind (organization, user, project, tag, provider, model, prompt, label, execution,\n"
         "dataset, evaluation, protection, policy, trace, score) and the fields of that kind's Create request as forgectl describe shows\n"
         "them, with names where the request has ids. A trace has spans with start (of the trace from now, of a span from there) and\n"
         "duration, such as -2h and 4.2s. All of it is checked first, then the plan is printed (+ create, ~ update), then it is carried\n"
         "out. Objects are found by name, so applying again changes nothing, and after an interruption it does the rest. Policies are\n"
         "published, unless they say publish: false, and waited for until they are in force. A manifest with an organization is applied\n"
         "as its admin, whom it names; to create the organization set FORGE_OPERATOR_TOKEN. Nothing is ever deleted; tags that a\n"
         "manifest lists replace those of the prompt.\n"
         "-o json and -o yaml print the plan as data, -o name what is to be created or updated, as kind/name.",
     .options = apply_options,
     .examples = apply_examples,
     .run = command_apply},
    {.name = "export",
     .summary = "Write a project, one of its prompts, or the models as a manifest",
     .arguments = "[prompt]",
     .arguments_max = 1,
     .description =
         "With all versions, tags, labels and policies, and with the models that these name, their providers and prices. apply takes it\n"
         "as it is; of a single prompt it leaves the project out. Credentials are never written, traces and scores neither: forgectl "
         "trace\n"
         "show --full -o json has all of a trace.",
     .options = export_options,
     .examples = export_examples,
     .run = command_export},
    {.name = "call",
     .summary = "Call any method with JSON",
     .arguments = "<method>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description = "A method is named in full (forge.v1.PromptService/GetPrompt) or by an ending that only one method has (GetPrompt).\n"
                    "Request and reply are proto3 JSON.",
     .options = call_options,
     .examples = call_examples,
     .run = command_call},
    {.name = "services",
     .summary = "List the methods of the server with who may call them",
     .examples = services_examples,
     .run = command_services},
    {.name = "describe",
     .summary = "Show the definition of a service, method, message or enum with its comments",
     .arguments = "<symbol>",
     .arguments_min = 1,
     .arguments_max = 1,
     .description = "The definition comes from the server. forge.v1. may be left out.",
     .examples = describe_examples,
     .run = command_describe},
    {.name = "health",
     .summary = "Show whether the server, or one of its services, can answer",
     .arguments = "[service]",
     .arguments_max = 1,
     .description = "Ends with 0 when it serves and with 78 (UNAVAILABLE) when it does not.",
     .options = health_options,
     .examples = health_examples,
     .run = command_health},
    {.name = "ping",
     .summary = "Measure the round trip to the server",
     .options = ping_options,
     .examples = ping_examples,
     .run = command_ping},
    {.name = "help",
     .summary = "Show help of a command",
     .arguments = "[command]...",
     .arguments_max = 4,
     .options = help_options,
     .examples = help_examples,
     .run = command_help},
    {.name = "version", .summary = "Show the version of forgectl", .examples = version_examples, .run = command_version},
    {.name = NULL}};

const struct cli_command cli_root = {
    .name = "forgectl",
    .summary = "command line of PromptForge",
    .description =
        "PromptForge keeps prompts, evaluations, traces and policies of AI teams. forgectl calls a server with the credential of the\n"
        "current context, of FORGE_TOKEN or of --token, and prints tables, JSON or YAML.",
    .examples = root_examples,
    .commands = root_commands,
};
