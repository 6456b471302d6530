#include "support/forged_child.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FLAGS_MAX = 48, PATH_SIZE = 512 };

struct forged_world {
    struct tls_files *tls;
    char folder[PATH_SIZE], database[64], token[128], migrations[PATH_SIZE];
};

/* Runs forged with these words (up to NULL) in the world's folder; its output, or the end of the program. */
static char *run(struct forged_world *world, ...)
{
    const char *arguments[FLAGS_MAX] = {NULL};
    va_list words;
    va_start(words, world);
    for (size_t i = 0; i + 1 < FLAGS_MAX && (arguments[i] = va_arg(words, const char *)) != NULL; i++)
        ;
    va_end(words);
    struct child_output output;
    child_run("forged", arguments, NULL, world->folder, &output);
    if (output.exit_code != 0) {
        fprintf(stderr, "forged_world: forged %s %s ended with %d: %s\n", arguments[0], arguments[1], output.exit_code, output.err);
        exit(1);
    }
    free(output.err);
    return output.out;
}

struct forged_world *forged_world_new(struct pg_cluster *cluster)
{
    static unsigned worlds;
    struct forged_world *world = calloc(1, sizeof *world);
    const char *base = getenv("TMPDIR"), *source = getenv("FORGE_SOURCE_DIR");
    if (world == NULL)
        exit(1);
    snprintf(world->folder, sizeof world->folder, "%s/forged-world-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(world->folder) == NULL) {
        fprintf(stderr, "forged_world: cannot make %s\n", world->folder);
        exit(1);
    }
    world->tls = tls_files_new();
    snprintf(world->database, sizeof world->database, "world_%u", ++worlds);
    snprintf(world->migrations, sizeof world->migrations, "%s/migrations", source != NULL ? source : ".");
    free(run(world, "bootstrap", "roles", "--database-superuser-url", pg_cluster_url(cluster, "postgres", "postgres"), "--database-name",
             world->database, "--env-file", ".env", "--key-file", "forge.key", NULL));
    free(run(world, "migrate", "upgrade", "head", "--migrations-folder", world->migrations, NULL));
    return world;
}

void forged_world_free(struct forged_world *world)
{
    static const char *const FILES[] = {".env", "forge.key"};
    char path[PATH_SIZE + 16];
    if (world == NULL)
        return;
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", world->folder, FILES[i]);
        unlink(path);
    }
    rmdir(world->folder);
    tls_files_free(world->tls);
    free(world);
}

struct tls_files *forged_world_tls(struct forged_world *world)
{
    return world->tls;
}

const char *forged_world_folder(const struct forged_world *world)
{
    return world->folder;
}

const char *forged_world_database(const struct forged_world *world)
{
    return world->database;
}

const char *forged_world_operator_token(struct forged_world *world)
{
    char *output = run(world, "bootstrap", "token", NULL);
    snprintf(world->token, sizeof world->token, "%.*s", (int)strcspn(output, "\n"), output);
    free(output);
    return world->token;
}

struct forged_child *forged_world_listen(struct forged_world *world, const char *const flags[])
{
    const char *arguments[FLAGS_MAX] = {
        "serve",
        "--mode",
        "development",
        "--listen-host",
        "127.0.0.1",
        "--listen-port",
        "0",
        "--http-port",
        "0",
        "--key-file",
        "forge.key",
        "--tls-certificate-file",
        tls_files_path(world->tls, "server.pem"),
        "--tls-key-file",
        tls_files_path(world->tls, "server.key"),
    };
    size_t count = 0;
    while (arguments[count] != NULL)
        count++;
    for (size_t i = 0; flags != NULL && flags[i] != NULL && count + 1 < FLAGS_MAX; i++)
        arguments[count++] = flags[i];
    return forged_child_start(world->folder, arguments, NULL);
}

struct forged_child *forged_world_serve(struct forged_world *world, const char *const flags[])
{
    struct forged_child *child = forged_world_listen(world, flags);
    forged_child_wait_ready(child);
    return child;
}
