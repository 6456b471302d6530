/* apply: files in, plan out, then the calls. */
#include "apply.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- reading ---- */

static int read_file(struct apply *apply, const char *path)
{
    size_t size;
    char *text = cli_read_file(apply->cli, path, &size);
    if (!text)
        return CLI_FAILED;
    manifest_read(&apply->manifest, strcmp(path, "-") != 0 ? path : "standard input", text, size);
    return CLI_OK;
}

static int is_manifest(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return entry->d_name[0] != '.' && dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml"));
}

/* The manifests of a folder, by name; folders inside it are not read. */
static int read_folder(struct apply *apply, const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, is_manifest, alphasort), code = CLI_OK;
    if (count < 0)
        return cli_fail(CLI_FAILED, "cannot read %s: %s", path, strerror(errno));
    if (!count)
        code = cli_fail(CLI_FAILED, "%s has no file that ends in .yaml or .yml", path);
    size_t length = strlen(path);
    for (int i = 0; i < count; i++) {
        const char *file =
            forge_arena_printf(&apply->cli->arena, "%s%s%s", path, length && path[length - 1] == '/' ? "" : "/", entries[i]->d_name);
        if (code == CLI_OK)
            code = file ? read_file(apply, file) : cli_fail(CLI_FAILED, "no memory");
        free(entries[i]);
    }
    free(entries);
    return code;
}

static int print_problems(const struct apply *apply)
{
    const struct manifest *manifest = &apply->manifest;
    for (const struct manifest_problem *problem = manifest->problems; problem; problem = problem->next)
        cli_fail(CLI_FAILED, "%s", problem->text);
    if (manifest->problem_count > MANIFEST_PROBLEMS_MAX)
        cli_fail(CLI_FAILED, "and %zu more", manifest->problem_count - MANIFEST_PROBLEMS_MAX);
    return manifest->problem_count ? CLI_FAILED : CLI_OK;
}

static int read_all(struct apply *apply)
{
    const char *path;
    if (!cli_option(apply->cli, "file"))
        return cli_fail(CLI_USAGE, "which manifest? --file PATH (a file, a folder, - for standard input)");
    for (size_t i = 0; (path = cli_option_at(apply->cli, "file", i)); i++) {
        struct stat status;
        bool is_folder = strcmp(path, "-") != 0 && stat(path, &status) == 0 && S_ISDIR(status.st_mode);
        int code = is_folder ? read_folder(apply, path) : read_file(apply, path);
        if (code != CLI_OK)
            return code;
    }
    manifest_check(&apply->manifest);
    return print_problems(apply);
}

/* ---- the command ---- */

static int plan_and_run(struct apply *apply)
{
    int code = apply_plan(apply);
    if (code == CLI_OK)
        code = print_problems(apply);
    if (code == CLI_OK)
        code = apply_print(apply);
    if (code != CLI_OK || cli_option(apply->cli, "dry-run"))
        return code;
    return apply_run(apply);
}

int command_apply(struct cli *cli)
{
    struct apply apply = {.cli = cli, .manifest = {.arena = &cli->arena}, .is_create_only = cli_option(cli, "create-only") != NULL};
    if (cli_option(cli, "request-id"))
        return cli_fail(CLI_USAGE, "apply makes many calls: --request-id is of no use; apply again instead");
    int code = read_all(&apply);
    if (code == CLI_OK)
        code = plan_and_run(&apply);
    apply_end_session(&apply);
    return code;
}
