/* What every part of forgectl shares: the command tree as data, the state of one invocation, exit codes.
 * One thread; texts live in the invocation's arena until the program ends. */
#ifndef FORGECTL_CLI_H
#define FORGECTL_CLI_H

#include "context.h"
#include "forge/forge.h"
#include "terminal.h"
#include "wire/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum {
    CLI_OK = 0,
    CLI_FAILED = 1,  /* something on this machine: a file, the terminal, the context */
    CLI_USAGE = 2,   /* the command line */
    CLI_BLOCKED = 3, /* policy check: a policy refuses it */
    CLI_STATUS = 64, /* + code of the server's answer */
    CLI_POSITIONALS_MAX = 18,
    CLI_OPTIONS_MAX = 256, /* given on one command line */
    CLI_DATA_MAX = 4 << 20 /* bytes of a file or of standard input */
};

enum cli_format { CLI_FORMAT_TABLE, CLI_FORMAT_JSON, CLI_FORMAT_YAML, CLI_FORMAT_NAME };

struct cli;
struct output_column;

/* How the value of an option, or an argument, becomes a field of the request; see command_action in action.c. */
enum cli_take {
    CLI_TAKE_TEXT,
    CLI_TAKE_FILE,      /* the content of a file, "-" = standard input */
    CLI_TAKE_NUMBER,    /* a whole number */
    CLI_TAKE_DECIMAL,   /* a number */
    CLI_TAKE_PAIR,      /* key=value */
    CLI_TAKE_TRUE,      /* a flag: true */
    CLI_TAKE_FALSE,     /* a flag: false */
    CLI_TAKE_SWITCH,    /* true or false */
    CLI_TAKE_ENUM,      /* a value of the field's enum without its prefix, in lower case */
    CLI_TAKE_DAYS,      /* so many days from now, as a time */
    CLI_TAKE_TIME,      /* a time, or how long ago: 15m, 2h, 7d */
    CLI_TAKE_SECONDS,   /* how long (15m), in whole seconds */
    CLI_TAKE_MILLIS,    /* how long (1.5s), in whole milliseconds */
    CLI_TAKE_SPAN,      /* trace id/span id */
    CLI_TAKE_SPLIT,     /* this argument and all behind it: version=weight each */
    CLI_TAKE_PASSWORD,  /* a flag: read from standard input, or asked for */
    CLI_TAKE_SECRET,    /* the content of a file, "-" = standard input, without a line break at its end */
    CLI_TAKE_PRICE,     /* dollars for a million tokens, added to a list of UsagePrice; the option is called <kind of tokens>-price */
    CLI_TAKE_EVALUATOR, /* kind or kind=value, see evaluator.h */
    CLI_TAKE_FIELDS,    /* a file with fields of the request */
    CLI_TAKE_PROJECT,   /* ids of what has a name: a project, ... */
    CLI_TAKE_PROMPT,    /* a prompt of --project */
    CLI_TAKE_DATASET,   /* a dataset of --project */
    CLI_TAKE_USER,      /* a user, by e-mail */
    CLI_TAKE_ACCOUNT,   /* a service account */
    CLI_TAKE_PROVIDER,  /* a provider of models */
    CLI_TAKE_MODEL,     /* a model, of --provider where several have one of this name */
    CLI_TAKE_POLICY     /* a policy, of --project where several have this name */
};

/* "--name VALUE", or a flag when value is NULL. */
struct cli_option {
    const char *name;
    char letter;       /* short form, 0 = none */
    const char *value; /* what stands for the value in help */
    const char *help;
    bool is_repeated;
    const char *field; /* of the request that an action makes ("gate.min_score": inside another one); NULL: the command itself asks for the
                          option */
    enum cli_take take;
    long least, most;      /* of a number; most 0 = the server judges */
    const char *otherwise; /* value of an action's option that is not given; NULL = the field stays at its default */
};

/* A command that is one call: the request is made from arguments and options, the reply is printed. */
struct cli_action {
    int method;                     /* FORGE_METHOD_... */
    const char *argument_fields[3]; /* what the arguments fill */
    enum cli_take argument_takes[3];
    const char *fixed_true;              /* field that is true unless an option says otherwise; NULL = none */
    const char *item;                    /* repeated field that holds the one message which options and arguments fill; NULL = they fill the
                                            request. Columns and name are of the one message of the reply, whose verdict must not reject it. */
    bool needs_project;                  /* project_id is --project or the context's */
    const char *project_unless;          /* ... except where this field is given; NULL = always */
    bool is_update;                      /* the options given are the update_mask */
    bool needs_operator;                 /* FORGE_OPERATOR_TOKEN or --token */
    const char *password;                /* field of a password that is always asked for; NULL = none */
    const char *deletes;                 /* asks before it deletes such a thing: "user"; NULL = does not ask */
    const char *confirm;                 /* field that repeats the name of what is deleted; then that is asked for */
    const char *list;                    /* repeated field of the reply, printed as a table */
    const struct output_column *columns; /* ended by a NULL title; NULL: nothing is printed but names */
    const char *name;                    /* what "-o name" prints of the reply or of each in the list */
    void (*view)(struct cli *cli, const ProtobufCMessage *reply);  /* prints the reply instead of a table; may be NULL */
    void (*after)(struct cli *cli, const ProtobufCMessage *reply); /* what people are told besides; may be NULL */
};

/* A command, or a group of commands. The whole tree is in tree.c. */
struct cli_command {
    const char *name;
    const char *summary;   /* one line */
    const char *arguments; /* "<id or name>", NULL = none */
    unsigned arguments_min, arguments_max;
    const char *description;            /* a paragraph, NULL = the summary says it all */
    const struct cli_option *options;   /* ended by a NULL name; may be NULL */
    const char *const *examples;        /* ended by NULL */
    int (*run)(struct cli *cli);        /* NULL for a group */
    const struct cli_action *action;    /* with run = command_action */
    const struct cli_command *commands; /* of a group, ended by a NULL name */
};
extern const struct cli_command cli_root;
/* Groups of it, a file each. */
extern const struct cli_command tree_organization[], tree_user[], tree_key[], tree_service_account[], tree_audit[];
extern const struct cli_command tree_project[], tree_prompt[], tree_label[], tree_tag[], tree_execution[], tree_dataset[], tree_eval[];
extern const struct cli_command tree_policy[], tree_violation[];
extern const struct cli_command tree_provider[], tree_model[], tree_trace[], tree_session[];
extern const struct cli_option cli_global_options[];

struct cli_given {
    const struct cli_option *option;
    const char *value; /* "" for a flag */
};

struct cli {
    const struct cli_command *command;
    char path[128]; /* "forgectl prompt create" */
    struct cli_given given[CLI_OPTIONS_MAX];
    size_t given_count;
    const char *positionals[CLI_POSITIONALS_MAX];
    size_t positional_count;
    enum cli_format format;
    bool has_format; /* -o was given */
    uint32_t timeout_ms;
    struct terminal terminal;
    bool wants_help;
    struct context_file contexts;
    struct forge_channel *channel;
    struct forge_arena arena;
};

/* parse.c: fills command, options and positionals. CLI_USAGE after printing what is wrong. */
int cli_parse(struct cli *cli, int argc, char **argv);
/* The (last) value of an option, NULL if it was not given. Flags: "" if given. */
const char *cli_option(const struct cli *cli, const char *name);
/* The value number index of a repeated option, NULL behind the last. */
const char *cli_option_at(const struct cli *cli, const char *name, size_t index);
size_t cli_option_count(const struct cli *cli, const char *name);
/* An option that must be a number from least to most; otherwise if it was not given. False after printing what is wrong. */
bool cli_option_number(const struct cli *cli, const char *name, long least, long most, long otherwise, long *out);

/* help.c */
void cli_print_help(FILE *out, const struct cli_command *command, const char *path);
/* The reference of the whole tree in Markdown: client/man/forgectl.1.md. */
void cli_print_markdown(FILE *out);
/* The name nearest to word among commands (ended by a NULL name), NULL when none is near. */
const char *cli_nearest(const char *word, const char *const names[], size_t count);

/* connect.c: a setting from flag, environment or context, in this order; NULL if it is nowhere. */
const char *cli_setting(struct cli *cli, const char *option, const char *variable, const char *in_context);
/* The context in use (never NULL; empty when there is none). */
const struct context *cli_context(struct cli *cli);
/* Calls a method by its table entry with the global options. CLI_OK and a reply (free with cli_free), or an exit code after printing the
 * error. */
int cli_call(struct cli *cli, const struct forge_method *method, const ProtobufCMessage *request, ProtobufCMessage **out_reply);
/* Opens the channel, unless it is open. CLI_OK or an exit code. */
int cli_connect(struct cli *cli);
/* The same without printing, on an open channel, for callers that go on after an error. timeout_ms 0 = the global one. */
forge_code cli_try_call(struct cli *cli, const struct forge_method *method, const ProtobufCMessage *request, uint32_t timeout_ms,
                        ProtobufCMessage **out_reply, struct forge_error *error, struct forge_reply_info *info);
/* Prints code, message, each violated field and what to do next; the exit code. Frees the error. */
int cli_print_error(struct forge_error *error, const struct forge_reply_info *info);
/* Prints why an item of a call is rejected, behind where it stands ("file:3: "), and each violated field; the exit code. */
int cli_print_verdict(const char *where, const Forge__V1__ItemVerdict *verdict);
void cli_free(void *reply);
/* Opens the channel with another credential than the context's (NULL = none) from now on. CLI_OK or an exit code. */
int cli_connect_as(struct cli *cli, const char *token);
/* Prints "forgectl: " and the text; code. */
int cli_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* input.c: a whole file ("-" = standard input) in the arena, NUL-terminated; NULL after printing what is wrong. */
char *cli_read_file(struct cli *cli, const char *path, size_t *out_size);
/* Asks a person on the terminal for a line; NULL without a terminal. */
char *cli_ask(struct cli *cli, const char *question);
/* A line from the terminal without echo, or from standard input when that is no terminal. */
char *cli_read_password(struct cli *cli, const char *prompt);

/* The commands, one file per group. */
int command_apply(struct cli *cli);
int command_export(struct cli *cli);
int command_login(struct cli *cli);
int command_logout(struct cli *cli);
int command_whoami(struct cli *cli);
int command_context_list(struct cli *cli);
int command_context_use(struct cli *cli);
int command_context_set(struct cli *cli);
int command_context_delete(struct cli *cli);
int command_call(struct cli *cli);
int command_services(struct cli *cli);
int command_describe(struct cli *cli);
int command_health(struct cli *cli);
int command_ping(struct cli *cli);
/* Every command that is one call; see struct cli_action. */
int command_action(struct cli *cli);
int command_audit_verify(struct cli *cli);
int command_dataset_add(struct cli *cli);
int command_eval_add(struct cli *cli);
int command_eval_compare(struct cli *cli);
int command_policy_check(struct cli *cli);
int command_prompt_create(struct cli *cli);
int command_prompt_diff(struct cli *cli);
int command_prompt_get(struct cli *cli);
int command_prompt_render(struct cli *cli);
int command_prompt_watch(struct cli *cli);
int command_usage(struct cli *cli);
int command_trace_ingest(struct cli *cli);
int command_trace_show(struct cli *cli);
int command_user_password(struct cli *cli);
int command_help(struct cli *cli);
int command_version(struct cli *cli);

#endif
