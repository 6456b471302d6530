/* The snapshot file of the prompt cache: what is found again at the next start, what is refused, and what a write that fails leaves. */
#include "prompt_cache_support.h"

#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/forge-prompt-cache-XXXXXX";
static char file[64];

static int make_folder(void **state)
{
    if (!mkdtemp(folder))
        return -1;
    snprintf(file, sizeof file, "%s/prompts", folder);
    return 0;
}

static int remove_folder(void **state)
{
    unlink(file);
    return rmdir(folder); /* also: no temporary file was left behind */
}

static struct client client_of_file(const char *address, const char *token)
{
    return client_open_with(address, token, (struct forge_prompt_cache_options){.snapshot_file = file, .snapshot_interval_ms = 1});
}

/* Leaves a snapshot of the current version and version 5, and the address of a server that is away. */
static void make_snapshot(char out_address[64])
{
    struct server server = SERVER_INIT;
    unlink(file);
    server_start(&server, 0);
    snprintf(out_address, 64, "%s", rpc_peer_address(server.peer));
    struct client client = client_of_file(out_address, "pfk_one");
    expect(&client, current(), "text 1", false);
    wait_for_stat(&client, snapshots_written, 1); /* in the background */
    expect(&client, version(5), "text 5", false);
    client_close(&client); /* and at the end */
    rpc_peer_stop(server.peer);
    struct stat status;
    assert_int_equal(stat(file, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void test_a_start_while_the_server_is_away(void **state)
{
    char address[64];
    make_snapshot(address);
    struct client client = client_of_file(address, "pfk_one");
    assert_int_equal(stats_of(&client).snapshot_entries, 2);
    expect(&client, current(), "text 1", false); /* a moment old: still good */
    pass(TTL_MS + STALE_MS);
    expect(&client, current(), "text 1", true);
    pass(AWAY_MS);
    expect(&client, version(5), "text 5", true);
    expect_error(&client, current(), FORGE_DEADLINE_EXCEEDED);
    client_close(&client);
}

static void test_a_cache_without_limit_reads_what_it_wrote(void **state)
{
    const struct forge_prompt_cache_options options = {.bytes_max = SIZE_MAX, .snapshot_file = file};
    struct server server = SERVER_INIT;
    unlink(file);
    server.content_bytes = 2 << 20;
    server_start(&server, 0);
    for (unsigned entries = 0; entries < 2; entries++) {
        struct client client = client_open_with(rpc_peer_address(server.peer), "pfk_one", options);
        assert_int_equal(stats_of(&client).snapshot_entries, entries);
        struct forge_cached_prompt prompt = get(&client, current());
        forge_cached_prompt_release(&prompt);
        client_close(&client);
    }
    rpc_peer_stop(server.peer);
}

/* The snapshot says that it was confirmed in an hour: the clock of the machine was put back since. */
static void test_what_was_confirmed_in_the_future_is_old(void **state)
{
    struct server server = SERVER_INIT;
    unlink(file);
    server_start(&server, 0);
    struct client client =
        client_open_with(rpc_peer_address(server.peer), "pfk_one", (struct forge_prompt_cache_options){.snapshot_file = file});
    expect(&client, current(), "text 1", false);
    wait_for_stat(&client, snapshots_written, 1); /* the next one is at the end */
    expect(&client, version(5), "text 5", false);
    pass((uint64_t)-3600000);
    client_close(&client);
    client = client_of_file(rpc_peer_address(server.peer), "pfk_one");
    assert_int_equal(stats_of(&client).snapshot_entries, 2);
    set_version(&server, 2);
    expect(&client, current(), "text 2", false); /* asked for */
    expect(&client, version(5), "text 5", true);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

static void expect_refused(const char *address, const char *token)
{
    struct client client = client_of_file(address, token);
    assert_int_equal(stats_of(&client).snapshot_entries, 0);
    assert_int_equal(stats_of(&client).snapshots_refused, 1);
    client_close(&client);
}

static void change_byte(long at)
{
    FILE *stream = fopen(file, "r+b");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    int byte = fgetc(stream);
    assert_int_equal(fseek(stream, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    fputc(byte ^ 1, stream);
    fclose(stream);
}

static void test_a_damaged_or_foreign_snapshot_is_ignored(void **state)
{
    static const long places[] = {0, 11, 12, 100, -1}; /* magic, version, nonce, text, tag */
    char address[64];
    make_snapshot(address);
    expect_refused(address, "pfk_two");
    expect_refused(address, NULL);
    expect_refused("127.0.0.1:1", "pfk_one");
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        change_byte(places[i]);
        expect_refused(address, "pfk_one");
        change_byte(places[i]);
    }
    struct client client = client_of_file(address, "pfk_one"); /* nobody has overwritten it */
    assert_int_equal(stats_of(&client).snapshot_entries, 2);
    client_close(&client);
    assert_int_equal(truncate(file, 50), 0);
    expect_refused(address, "pfk_one");
    assert_int_equal(truncate(file, 0), 0);
    expect_refused(address, "pfk_one");
    unlink(file);
    client = client_of_file(address, "pfk_one");
    assert_int_equal(stats_of(&client).snapshots_refused, 0); /* none is not a damaged one */
    client_close(&client);
}

static void test_a_snapshot_forgets_a_refused_credential(void **state)
{
    struct server server = SERVER_INIT;
    unlink(file);
    server_start(&server, 0);
    struct client client = client_of_file(rpc_peer_address(server.peer), "pfk_one");
    expect(&client, current(), "text 1", false);
    set_code(&server, FORGE__V1__CODE__CODE_UNAUTHENTICATED);
    expect_error(&client, version(2), FORGE_UNAUTHENTICATED);
    client_close(&client);
    client = client_of_file(rpc_peer_address(server.peer), "pfk_one");
    assert_int_equal(stats_of(&client).snapshot_entries, 0);
    assert_int_equal(stats_of(&client).snapshots_refused, 0);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

static void test_a_snapshot_that_cannot_be_written_is_written_later(void **state)
{
    char later[80], missing[96];
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    snprintf(later, sizeof later, "%s/later", folder);
    snprintf(missing, sizeof missing, "%s/prompts", later);
    const struct forge_prompt_cache_options options = {.snapshot_file = missing};
    struct client client = client_open_with(rpc_peer_address(server.peer), "pfk_one", options);
    expect(&client, current(), "text 1", false);
    wait_for_stat(&client, snapshots_failed, 1);
    expect(&client, current(), "text 1", false); /* harms nobody */
    assert_int_equal(mkdir(later, 0700), 0);
    client_close(&client); /* nothing is new since */
    client = client_open_with(rpc_peer_address(server.peer), "pfk_one", options);
    assert_int_equal(stats_of(&client).snapshot_entries, 1);
    client_close(&client);
    rpc_peer_stop(server.peer);
    assert_int_equal(unlink(missing), 0);
    assert_int_equal(rmdir(later), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_start_while_the_server_is_away),
        cmocka_unit_test(test_a_cache_without_limit_reads_what_it_wrote),
        cmocka_unit_test(test_what_was_confirmed_in_the_future_is_old),
        cmocka_unit_test(test_a_damaged_or_foreign_snapshot_is_ignored),
        cmocka_unit_test(test_a_snapshot_forgets_a_refused_credential),
        cmocka_unit_test(test_a_snapshot_that_cannot_be_written_is_written_later),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
