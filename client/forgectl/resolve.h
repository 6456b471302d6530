/* Names that people give for things that the API knows by id. */
#ifndef FORGECTL_RESOLVE_H
#define FORGECTL_RESOLVE_H

#include "output.h"

/* 36 characters of a UUID? */
bool resolve_is_id(const char *text);
/* The project of this id or name. CLI_OK and a reply (a Project), or an exit code after printing why not. */
int resolve_project(struct cli *cli, const char *id_or_name, ProtobufCMessage **out_reply);
/* The id of the project in --project or the context, in the arena. */
int resolve_project_id(struct cli *cli, char **out_id);
/* The id of a project, of a prompt or dataset (of --project where it is a name), of a user by e-mail, of a service account, a provider, a
 * model or a policy by name; in the arena. Each costs a call unless it is an id already. */
int resolve_project_text(struct cli *cli, const char *id_or_name, char **out_id);
int resolve_prompt_id(struct cli *cli, const char *id_or_name, char **out_id);
int resolve_dataset_id(struct cli *cli, const char *id_or_name, char **out_id);
int resolve_user_id(struct cli *cli, const char *id_or_email, char **out_id);
int resolve_account_id(struct cli *cli, const char *id_or_name, char **out_id);
int resolve_provider_id(struct cli *cli, const char *id_or_name, char **out_id);
int resolve_model_id(struct cli *cli, const char *id_or_name, char **out_id);
int resolve_policy_id(struct cli *cli, const char *id_or_name, char **out_id);
/* The id of the model of this name, of the provider of this id or name; NULL = any. */
int resolve_model_of(struct cli *cli, const char *provider, const char *name, char **out_id);
/* Fills id, or name and project_id, of a prompt given by id or name, and the version that --version or --label selects. */
int resolve_prompt(struct cli *cli, const char *id_or_name, Forge__V1__GetPromptRequest *request);
/* Tells how to go on when a page was not the last. */
void resolve_next_page(const struct cli *cli, const char *next_page_token);

#endif
