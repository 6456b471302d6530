#include "maintain_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINE_SIZE = 1024 };

void fault_shell(const struct world *world, const char *format, ...)
{
    char line[LINE_SIZE], programs[LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    const char *folder = getenv("PG_BINDIR");
    snprintf(programs, sizeof programs, "PG_BINDIR=%s", folder ? folder : "");
    const char *const words[] = {"-c", line, NULL}, *const environment[] = {programs, NULL};
    struct child_output output;
    child_run("/bin/sh", words, environment, forged_world_folder(world->files), &output);
    if (output.exit_code != 0)
        world_fail(world, "%s\nended with %d:\n%s%s", line, output.exit_code, output.out, output.err);
    child_output_done(&output);
}

pid_t fault_maintain_start(const struct world *world, const char *words)
{
    char line[LINE_SIZE];
    pid_t child = fork();
    if (child < 0)
        world_fail(world, "no process for forged maintain");
    if (child > 0)
        return child;
    snprintf(line, sizeof line, "exec '%s/bin/forged' maintain %s", getenv("FORGE_BINARY_DIR"), words);
    if (chdir(forged_world_folder(world->files)) != 0 || freopen("/dev/null", "w", stdout) == NULL)
        _exit(125);
    execl("/bin/sh", "sh", "-c", line, (char *)NULL);
    _exit(126);
}

int fault_maintain_end(const struct world *world, pid_t child)
{
    int status;
    if (waitpid(child, &status, 0) != child)
        world_fail(world, "forged maintain cannot be waited for");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
