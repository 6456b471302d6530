/* bench_server: the product as tests/bench/run measures it. Prints one line of JSON when it is ready: {"address","ca","certificate","key",
 * "token","project","prompt","ingest_token","database"}: the prompt has content of about 1 KiB, the database is the superuser's URL of a
 * PostgreSQL that flushes to disk. Ends when standard input does. */
#include "support/world.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CONTENT_BYTES = 1024 };

static const char SENTENCE[] = "You review changes to {{language}} code: name each defect, its line and how to mend it. ";

/* Sentences up to the size of a usual prompt. */
static void make_content(char out[CONTENT_BYTES + 1])
{
    size_t length = 0;
    while (length + sizeof SENTENCE - 1 <= CONTENT_BYTES) {
        memcpy(out + length, SENTENCE, sizeof SENTENCE - 1);
        length += sizeof SENTENCE - 1;
    }
    memset(out + length, '.', CONTENT_BYTES - length);
    out[CONTENT_BYTES] = '\0';
}

int main(void)
{
    static struct world world;
    char content[CONTENT_BYTES + 1], prompt_id[WORLD_ID_SIZE], input[256];
    const struct world_options options = {.checksums = true};
    world_open(&world, &options);
    while (world_number(&world, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'spans'::regclass") == 0)
        world_sleep_ms(10); /* the server makes them in its first pass */
    struct forge_channel *channel = world_channel(&world, 0, world.home.session_token);
    make_content(content);
    world_create_prompt(&world, channel, &world.home, "code-review", content, prompt_id);
    forge_channel_close(channel);
    struct tls_files *tls = forged_world_tls(world.files);
    /* A literal address: a name may stand for two, and then libforge opens two connections. */
    printf("{\"address\":\"127.0.0.1:%u\",\"ca\":\"%s\",\"certificate\":\"%s\",\"key\":\"%s\",\"token\":\"%s\",\"project\":\"%s\","
           "\"prompt\":\"code-review\",\"ingest_token\":\"%s\",\"database\":\"%s\"}\n",
           (unsigned)world.servers[0].port, tls_files_path(tls, "ca.pem"), tls_files_path(tls, "server.pem"),
           tls_files_path(tls, "server.key"), world.home.read_key, world.home.project_id, world.home.ingest_key, world.superuser_url);
    fflush(stdout);
    while (read(STDIN_FILENO, input, sizeof input) > 0)
        ;
    world_close(&world);
    return 0;
}
