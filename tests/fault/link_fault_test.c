/* Fault 11: what the link itself must survive, at gating counts. Each test prints one JSON line. Pauses in here are the load (a reader of
 * so many bytes a second, a server without descriptors for so long), never a way to wait for something. */
#include "support/link_peer.h"
#include "wire/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { WAIT_MS = 60000, HOSTILE_THREADS = 4, RESOLVER_MS = 10000 };

static struct tls_files *files;
static struct forge_tls *server_tls, *client_tls;
static SSL_CTX *raw_tls;
static struct link_server server;

/* ---- reporting ---- */

struct holdings {
    int fds, threads;
    long heap;
};

static struct holdings hold(void)
{
    return (struct holdings){link_count_fds(), link_count_threads(), link_heap_bytes()};
}

struct result {
    const char *id, *what, *bar;
    long tried, lost, duplicated;
    struct holdings before;
    long heap_max; /* growth that is no leak: what libraries and the allocator keep */
    bool ok;       /* what else the bar says */
};

/* Descriptors and threads that stayed behind; resolver threads end by themselves, so they get their time. */
static long leaked(const struct result *result)
{
    uint64_t until_ms = forge_clock_monotonic_ms() + RESOLVER_MS;
    while (link_count_threads() > result->before.threads && forge_clock_monotonic_ms() < until_ms)
        poll(NULL, 0, 50);
    struct holdings now = hold();
    long count = (now.fds - result->before.fds) + (now.threads - result->before.threads);
    if (now.heap - result->before.heap > result->heap_max)
        count += (now.heap - result->before.heap) / 1024;
    return count;
}

static void report(struct result result)
{
    long left = leaked(&result);
    bool ok = result.ok && result.lost == 0 && result.duplicated == 0 && left <= 0;
    printf("{\"id\":\"%s\",\"what\":\"%s\",\"tried\":%ld,\"lost\":%ld,\"duplicated\":%ld,\"leaked\":%ld,\"bar\":\"%s\",\"ok\":%s}\n",
           result.id, result.what, result.tried, result.lost, result.duplicated, left, result.bar, ok ? "true" : "false");
    fflush(stdout);
    assert_true(ok);
}

static bool server_is_empty(void)
{
    return LINK_WAIT(server.closed == server.accepted, WAIT_MS);
}

static unsigned next_random(unsigned *seed)
{
    return (unsigned)rand_r(seed);
}

/* ---- 4 MiB replies to a reader at 1 MB/s ---- */

enum { SLOW_READERS = 2, BYTES_PER_MS = 1000 };

static bool read_slowly(struct link_raw *raw, uint8_t *reply)
{
    const size_t size = LINK_PATTERN_MAX + 12;
    uint64_t began_ms = forge_clock_monotonic_ms();
    for (size_t at = 0; at < size;) {
        int got = SSL_read(raw->ssl, reply + at, size - at < 16384 ? (int)(size - at) : 16384);
        if (got <= 0)
            return false;
        at += (size_t)got;
        uint64_t due_ms = began_ms + at / BYTES_PER_MS, now_ms = forge_clock_monotonic_ms();
        if (due_ms > now_ms)
            poll(NULL, 0, (int)(due_ms - now_ms));
    }
    return true;
}

static void *slow_reader(void *wrong)
{
    struct link_raw raw;
    uint8_t request[112], *reply = malloc(LINK_PATTERN_MAX + 12);
    bool ok = link_raw_open(&raw, raw_tls, server.port, 64 << 10);
    for (uint32_t id = 1; ok && id <= 2; id++)
        ok = SSL_write(raw.ssl, request, (int)link_raw_request(request, id, LINK_PATTERN_MAX)) == sizeof request;
    for (uint32_t id = 1; id <= 2; id++) {
        ok = ok && read_slowly(&raw, reply) && link_get_u32(reply + 8) == (id | 0x80000000u) &&
             memcmp(reply + 12, link_pattern + id, LINK_PATTERN_MAX) == 0;
        atomic_fetch_add((atomic_int *)wrong, !ok);
    }
    link_raw_close(&raw);
    free(reply);
    return NULL;
}

static void test_link_slow_reader_gets_large_replies_byte_for_byte(void **state)
{
    (void)state;
    struct result result = {
        .id = "11.slow_reader", .what = "4 MiB replies to readers at 1 MB/s, compared", .bar = "all whole", .heap_max = 1 << 20};
    pthread_t threads[SLOW_READERS];
    atomic_int wrong = 0;
    result.before = hold();
    for (int i = 0; i < SLOW_READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, slow_reader, &wrong), 0);
    for (int i = 0; i < SLOW_READERS; i++)
        pthread_join(threads[i], NULL);
    result.tried = SLOW_READERS * 2L;
    result.lost = wrong;
    result.ok = server_is_empty();
    report(result);
}

/* ---- connects and resets at random points of the handshake ---- */

static atomic_int cuts_left, cuts_unexpected, cuts_in_frames;

/* The client's side of TLS in memory; its bytes go out until the budget is used up. True when it got as far as frames. */
static bool talk_until_cut(int fd, SSL *ssl, long budget, unsigned *seed)
{
    BIO *in = SSL_get_rbio(ssl), *out = SSL_get_wbio(ssl);
    bool spoken = false;
    for (;;) {
        uint8_t bytes[4096], frames[8 + 112 * 16] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
        ERR_clear_error();
        if (!spoken && SSL_do_handshake(ssl) == 1) {
            for (uint32_t i = 0; i < 16; i++)
                link_raw_request(frames + 8 + i * 112, i, next_random(seed) % 20000);
            SSL_write(ssl, frames, sizeof frames);
            spoken = true;
        }
        int size = BIO_read(out, bytes, sizeof bytes);
        if (size > 0) {
            size = size > budget ? (int)budget : size;
            budget -= size;
            if ((size && send(fd, bytes, (size_t)size, MSG_NOSIGNAL) != size) || budget == 0)
                return spoken;
            continue;
        }
        if (spoken)
            return true;
        ssize_t got = recv(fd, bytes, sizeof bytes, 0);
        if (got <= 0) {
            cuts_unexpected++;
            return false;
        }
        BIO_write(in, bytes, (int)got);
    }
}

static void *cutter(void *argument)
{
    unsigned seed = (unsigned)(uintptr_t)argument;
    while (atomic_fetch_sub(&cuts_left, 1) > 0) {
        long budget = next_random(&seed) % 3 ? next_random(&seed) % 700 : next_random(&seed) % 4000;
        int fd = link_tcp(server.port, 0);
        if (fd < 0) {
            cuts_unexpected++;
            continue;
        }
        SSL *ssl = SSL_new(raw_tls);
        SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        SSL_set_connect_state(ssl);
        cuts_in_frames += talk_until_cut(fd, ssl, budget, &seed);
        if (next_random(&seed) % 2)
            link_reset(fd);
        else
            close(fd);
        SSL_free(ssl);
    }
    ERR_clear_error();
    return NULL;
}

static void test_link_survives_connections_cut_at_random_points(void **state)
{
    (void)state;
    enum { CUTS = 5000 };
    struct result result = {
        .id = "11.cut", .what = "connects reset or closed at random points of handshake and first frames", .heap_max = 2 << 20};
    struct forge_loops *loops = link_loops(1);
    assert_true(link_good_calls(loops, server.port, client_tls, 50, WAIT_MS));
    assert_true(server_is_empty());
    pthread_t threads[HOSTILE_THREADS];
    cuts_left = CUTS;
    result.before = hold();
    for (int i = 0; i < HOSTILE_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, cutter, (void *)(uintptr_t)(i + 1)), 0);
    for (int i = 0; i < HOSTILE_THREADS; i++)
        pthread_join(threads[i], NULL);
    result.tried = CUTS;
    result.lost = cuts_unexpected;
    result.bar = "all taken, all gone, 1,000 good calls after";
    result.ok =
        cuts_in_frames > 100 && server_is_empty() && link_good_calls(loops, server.port, client_tls, 1000, WAIT_MS) && server_is_empty();
    report(result);
    forge_loops_free(loops);
}

/* ---- dials that fail ---- */

struct traps { /* where to dial without success */
    int refused_fd, full_fd, reset_fd, fill[8];
    uint16_t refused, full, reset;
    pthread_t resetter;
    int stop[2];
};

static int bound_socket(int backlog, uint16_t *out_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)(void *)&address, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)(void *)&address, &length), 0);
    *out_port = ntohs(address.sin_port);
    if (backlog >= 0)
        assert_int_equal(listen(fd, backlog), 0);
    return fd;
}

static void *reset_all(void *argument)
{
    struct traps *traps = argument;
    for (;;) {
        struct pollfd ready[2] = {{.fd = traps->reset_fd, .events = POLLIN}, {.fd = traps->stop[0], .events = POLLIN}};
        poll(ready, 2, -1);
        if (ready[1].revents)
            return NULL;
        int fd = accept(traps->reset_fd, NULL, NULL);
        if (fd >= 0)
            link_reset(fd);
    }
}

static void traps_open(struct traps *traps)
{
    traps->refused_fd = bound_socket(-1, &traps->refused);
    traps->full_fd = bound_socket(0, &traps->full);
    traps->reset_fd = bound_socket(512, &traps->reset);
    for (int i = 0; i < 8; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(traps->full), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        traps->fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_true(connect(traps->fill[i], (struct sockaddr *)(void *)&to, sizeof to) == 0 || errno == EINPROGRESS);
    }
    assert_int_equal(pipe(traps->stop), 0);
    assert_int_equal(pthread_create(&traps->resetter, NULL, reset_all, traps), 0);
}

static void traps_close(struct traps *traps)
{
    close(traps->stop[1]);
    pthread_join(traps->resetter, NULL);
    close(traps->stop[0]);
    close(traps->refused_fd);
    close(traps->full_fd);
    close(traps->reset_fd);
    for (int i = 0; i < 8; i++)
        close(traps->fill[i]);
}

static void dial_into(const struct traps *traps, struct link_caller *caller, struct forge_loops *loops, int number, unsigned *seed)
{
    static const char *hosts[] = {"127.0.0.1", "127.0.0.1", "127.0.0.1", "bad..name"};
    const uint16_t ports[] = {traps->refused, traps->full, traps->reset, 7443};
    struct forge_link_options options = link_test_options(client_tls);
    options.handshake_ms = number % 4 == 3 ? 5000 : 1 + next_random(seed) % 60;
    assert_true(link_caller_dial(caller, loops, hosts[number % 4], ports[number % 4], options));
    if (next_random(seed) % 8 == 0)
        forge_link_close(LINK_READ(caller->link));
}

static void test_link_failed_dials_all_end_once(void **state)
{
    (void)state;
    enum { DIALS = 1000, AT_ONCE = 128 };
    struct result result = {.id = "11.dial", .what = "dials refused, unanswered, reset, unresolvable or closed", .heap_max = 2 << 20};
    struct forge_loops *loops = link_loops(1);
    assert_true(link_good_calls(loops, server.port, client_tls, 10, WAIT_MS));
    assert_true(server_is_empty());
    result.before = hold();
    struct traps traps;
    traps_open(&traps);
    struct link_caller *callers = calloc(DIALS, sizeof *callers);
    unsigned seed = 7;
    long opened = 0;
    for (int i = 0; i < DIALS + AT_ONCE; i++) {
        if (i >= AT_ONCE) {
            struct link_caller *caller = &callers[i - AT_ONCE];
            result.lost += !LINK_WAIT(caller->closed, WAIT_MS);
            result.duplicated += LINK_READ(caller->closed) > 1;
            opened += LINK_READ(caller->opened);
            forge_link_unref(caller->link);
        }
        if (i < DIALS)
            dial_into(&traps, &callers[i], loops, i, &seed);
    }
    traps_close(&traps);
    result.tried = DIALS;
    result.bar = "each told once, none opened, 100 good calls after";
    result.ok = opened == 0 && link_good_calls(loops, server.port, client_tls, 100, WAIT_MS) && server_is_empty();
    free(callers);
    report(result);
    forge_loops_free(loops);
}

/* ---- a server in a process of its own ---- */

struct child {
    pid_t pid;
    int commands; /* closed: it ends */
    uint16_t port;
};
static struct child child;

static void child_main(int commands, int answers)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct forge_tls *tls = link_server_tls(files, "server", FORGE_TLS_CLIENT_NONE);
    struct forge_link_options options = link_test_options(tls);
    options.handshake_ms = 300000; /* never what ends a link here */
    static struct link_server own;
    link_server_start(&own, "127.0.0.1", &options, 2);
    char byte;
    bool ok = write(answers, &own.port, sizeof own.port) == sizeof own.port && read(commands, &byte, 1) == 0;
    link_server_stop(&own);
    forge_tls_unref(tls);
    _exit(ok && own.closed == own.accepted ? 0 : 1);
}

/* Before this process has threads. */
static void child_start(void)
{
    int commands[2], answers[2];
    assert_int_equal(pipe(commands), 0);
    assert_int_equal(pipe(answers), 0);
    child.pid = fork();
    if (child.pid == 0) {
        close(commands[1]);
        close(answers[0]);
        child_main(commands[0], answers[1]);
    }
    assert_true(child.pid > 0);
    close(commands[0]);
    close(answers[1]);
    assert_int_equal(read(answers[0], &child.port, sizeof child.port), sizeof child.port);
    close(answers[0]);
    child.commands = commands[1];
    fcntl(child.commands, F_SETFD, FD_CLOEXEC);
}

static double child_cpu_seconds(void)
{
    char path[64], line[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)child.pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    sscanf(strrchr(line, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static int child_fds(void)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)child.pid);
    return link_count_entries(path);
}

/* The child's descriptors are seen from outside only, so they are looked at until they are right. */
static bool child_holds_again(int fds)
{
    uint64_t until_ms = forge_clock_monotonic_ms() + WAIT_MS;
    while (child_fds() > fds && forge_clock_monotonic_ms() < until_ms)
        poll(NULL, 0, 10);
    return child_fds() <= fds;
}

static void test_link_server_without_descriptors_comes_back(void **state)
{
    (void)state;
    enum { DIALS = 100, OUT_MS = 1000, CALLS = 20 };
    struct result result = {.id = "11.descriptors", .what = "dials while the server has no descriptor for 1 s", .heap_max = 1 << 20};
    struct forge_loops *loops = link_loops(1);
    assert_true(link_good_calls(loops, child.port, client_tls, 10, WAIT_MS));
    result.before = hold();
    struct rlimit before, low;
    int fds = child_fds();
    assert_int_equal(prlimit(child.pid, RLIMIT_NOFILE, NULL, &before), 0);
    low = before;
    low.rlim_cur = 3; /* whatever it has open stays open; nothing more can be */
    assert_int_equal(prlimit(child.pid, RLIMIT_NOFILE, &low, NULL), 0);
    static struct link_caller callers[DIALS];
    double cpu = child_cpu_seconds();
    for (int i = 0; i < DIALS; i++) {
        struct forge_link_options options = link_test_options(client_tls);
        options.handshake_ms = WAIT_MS;
        callers[i] = (struct link_caller){.calls = CALLS, .reply_size = 1024};
        assert_true(link_caller_dial(&callers[i], loops, "127.0.0.1", child.port, options));
    }
    poll(NULL, 0, OUT_MS);
    cpu = child_cpu_seconds() - cpu;
    int early = 0;
    for (int i = 0; i < DIALS; i++)
        early += LINK_READ(callers[i].opened);
    assert_int_equal(prlimit(child.pid, RLIMIT_NOFILE, &before, NULL), 0);
    for (int i = 0; i < DIALS; i++) {
        result.lost += !LINK_WAIT(callers[i].done, WAIT_MS) || LINK_READ(callers[i].wrong);
        assert_true(link_caller_finish(&callers[i]));
    }
    result.tried = DIALS;
    result.bar = "all served afterwards, server CPU below 0.3 s meanwhile";
    result.ok = early == 0 && cpu < 0.3 && child_holds_again(fds);
    report(result);
    forge_loops_free(loops);
}

/* Handshakes of both ends in memory, one thread: what this machine, with this build, needs for each. */
static double handshake_seconds(void)
{
    enum { ROUNDS = 50 };
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate_chain_file(context, tls_files_path(files, "server.pem")), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(context, tls_files_path(files, "server.key"), SSL_FILETYPE_PEM), 1);
    uint64_t began_ns = forge_clock_monotonic_ns();
    for (int i = 0; i < ROUNDS; i++) {
        SSL *left = SSL_new(raw_tls), *right = SSL_new(context);
        BIO *a, *b;
        assert_int_equal(BIO_new_bio_pair(&a, 0, &b, 0), 1);
        SSL_set_bio(left, a, a);
        SSL_set_bio(right, b, b);
        SSL_set_connect_state(left);
        SSL_set_accept_state(right);
        while (SSL_do_handshake(left) != 1 || SSL_do_handshake(right) != 1)
            SSL_do_handshake(right);
        SSL_free(left);
        SSL_free(right);
    }
    SSL_CTX_free(context);
    return (double)(forge_clock_monotonic_ns() - began_ns) / 1e9 / ROUNDS;
}

static void test_link_many_dials_at_once_all_open(void **state)
{
    (void)state;
    enum { DIALS = 2000 };
    static char what[160], bar[80];
    static struct link_caller callers[DIALS];
    struct result result = {.id = "11.storm", .what = what, .bar = bar, .heap_max = 4 << 20};
    struct forge_loops *loops = link_loops(1);
    assert_true(link_good_calls(loops, child.port, client_tls, 10, WAIT_MS));
    result.before = hold();
    int fds = child_fds();
    double needed = handshake_seconds() * DIALS;
    double limit = needed * 3 > 3.0 ? needed * 3 : 3.0;
    uint64_t began_ms = forge_clock_monotonic_ms();
    for (int i = 0; i < DIALS; i++) {
        struct forge_link_options options = link_test_options(client_tls);
        options.handshake_ms = (unsigned)(limit * 1000) + WAIT_MS;
        callers[i] = (struct link_caller){0};
        assert_true(link_caller_dial(&callers[i], loops, "127.0.0.1", child.port, options));
    }
    for (int i = 0; i < DIALS; i++)
        result.lost +=
            !LINK_WAIT(callers[i].opened || callers[i].closed, (unsigned)(limit * 1000) + WAIT_MS) || !LINK_READ(callers[i].opened);
    double took = (double)(forge_clock_monotonic_ms() - began_ms) / 1e3;
    for (int i = 0; i < DIALS; i++)
        assert_true(link_caller_finish(&callers[i]));
    snprintf(what, sizeof what, "TLS dials at once, all open after %.2f s; their handshakes alone need %.2f s of one core", took, needed);
    snprintf(bar, sizeof bar, "all open within %.1f s", limit);
    result.tried = DIALS;
    result.ok = took <= limit && child_holds_again(fds);
    report(result);
    forge_loops_free(loops);
}

/* ---- KeyUpdates ---- */

static void test_link_key_update_flood_is_bounded_and_spread_ones_are_served(void **state)
{
    (void)state;
    enum { FLOOD = 20000, SPREAD = 2000 };
    struct result result = {
        .id = "11.key_update", .what = "KeyUpdates in a row from a peer that never reads, then with calls", .heap_max = 1 << 20};
    struct link_raw raw;
    uint8_t request[112], reply[12 + 100];
    assert_true(server_is_empty());
    result.before = hold();
    long protocol = LINK_READ(server.why[FORGE_LINK_PROTOCOL]), peak = 0;
    assert_true(link_raw_open(&raw, raw_tls, server.port, 4096));
    int sent = 0;
    for (; sent < FLOOD; sent++) {
        ERR_clear_error();
        SSL_key_update(raw.ssl, SSL_KEY_UPDATE_REQUESTED);
        if (SSL_do_handshake(raw.ssl) != 1)
            break;
        long grown = sent % 500 ? 0 : link_heap_bytes() - result.before.heap;
        peak = grown > peak ? grown : peak;
    }
    bool ended = LINK_WAIT(server.why[FORGE_LINK_PROTOCOL] == protocol + 1, WAIT_MS);
    link_raw_close(&raw);

    assert_true(link_raw_open(&raw, raw_tls, server.port, 0));
    int served = 0;
    for (uint32_t i = 0; i < SPREAD; i++) {
        ERR_clear_error();
        SSL_key_update(raw.ssl, SSL_KEY_UPDATE_REQUESTED);
        SSL_write(raw.ssl, request, (int)link_raw_request(request, i, 100));
        served += SSL_read(raw.ssl, reply, sizeof reply) == sizeof reply && memcmp(reply + 12, link_pattern + (i & 255), 100) == 0;
    }
    link_raw_close(&raw);
    result.tried = FLOOD + SPREAD;
    result.lost = SPREAD - served;
    result.bar = "flood ended, memory below 300 kB, spread ones served";
    result.ok = ended && sent < FLOOD && peak < 300000 && server_is_empty();
    report(result);
}

/* ---- closes from other threads ---- */

static atomic_int closes_left, closes_failed, closes_opened;

struct racer {
    pthread_t thread;
    struct forge_loops *loops;
    unsigned seed;
};

static void *race(void *argument)
{
    enum { AT_ONCE = 10 };
    struct racer *racer = argument;
    while (atomic_fetch_sub(&closes_left, AT_ONCE) > 0) {
        struct link_caller callers[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++) {
            callers[i] = (struct link_caller){.calls = 1000000, .reply_size = 2000};
            if (!link_caller_dial(&callers[i], racer->loops, "127.0.0.1", server.port, link_test_options(client_tls)))
                abort();
        }
        for (int i = 0; i < AT_ONCE; i++) {
            struct forge_link *link = LINK_READ(callers[i].link);
            long frames = next_random(&racer->seed) % 8;
            if (next_random(&racer->seed) % 2) /* else wherever it is */
                LINK_WAIT(callers[i].frames >= frames || callers[i].closed, WAIT_MS);
            link_caller_ask(&callers[i], 5);
            forge_link_close(link);
            forge_link_close(link);
            link_caller_ask(&callers[i], 6);
        }
        for (int i = 0; i < AT_ONCE; i++) {
            closes_failed += !LINK_WAIT(callers[i].closed, WAIT_MS) || LINK_READ(callers[i].closed != 1 || callers[i].wrong);
            closes_opened += LINK_READ(callers[i].opened);
            forge_link_unref(callers[i].link);
        }
    }
    return NULL;
}

static void test_link_closes_from_other_threads_end_once(void **state)
{
    (void)state;
    enum { CLOSES = 2000 };
    struct result result = {
        .id = "11.close", .what = "closes from other threads while dialling, calling and answering", .heap_max = 2 << 20};
    struct forge_loops *loops = link_loops(2);
    assert_true(link_good_calls(loops, server.port, client_tls, 10, WAIT_MS));
    assert_true(server_is_empty());
    result.before = hold();
    struct racer racers[HOSTILE_THREADS];
    closes_left = CLOSES;
    for (int i = 0; i < HOSTILE_THREADS; i++) {
        racers[i] = (struct racer){.loops = loops, .seed = (unsigned)i + 3};
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < HOSTILE_THREADS; i++)
        pthread_join(racers[i].thread, NULL);
    result.tried = CLOSES;
    result.lost = closes_failed;
    result.bar = "each told once, no wrong byte, 1,000 good calls after";
    result.ok = closes_opened > CLOSES / 4 && link_good_calls(loops, server.port, client_tls, 1000, WAIT_MS) && server_is_empty();
    report(result);
    forge_loops_free(loops);
}

/* ---- channels ---- */

static void test_link_channels_opened_and_closed_leave_nothing(void **state)
{
    (void)state;
    enum { CHANNELS = 500 };
    struct result result = {.id = "11.channel", .what = "loops made, 3 calls, loops ended", .bar = "nothing left", .heap_max = 256 << 10};
    for (int i = -20; i < CHANNELS; i++) {
        if (i == 0) {
            assert_true(server_is_empty());
            result.before = hold();
        }
        struct forge_loops *loops = link_loops(1);
        result.lost += !link_good_calls(loops, server.port, client_tls, 3, WAIT_MS);
        forge_loops_free(loops);
    }
    result.tried = CHANNELS;
    result.ok = server_is_empty();
    report(result);
}

/* ---- forks ---- */

static void test_link_forks_with_open_links_do_no_harm(void **state)
{
    (void)state;
    enum { FORKS = 20, CALLS = 200 };
    struct result result = {.id = "11.fork", .what = "forks with open links, whose sockets the children keep", .heap_max = 1 << 20};
    struct forge_loops *loops = link_loops(1);
    assert_true(link_good_calls(loops, server.port, client_tls, 10, WAIT_MS));
    assert_true(server_is_empty());
    result.before = hold();
    pid_t pids[FORKS];
    int gate[2];
    assert_int_equal(pipe(gate), 0);
    for (int i = 0; i < FORKS; i++) {
        struct link_caller caller = {.calls = CALLS, .reply_size = 3000};
        assert_true(link_caller_dial(&caller, loops, "127.0.0.1", server.port, link_test_options(client_tls)));
        assert_true(LINK_WAIT(caller.frames > 0 || caller.closed, WAIT_MS));
        pids[i] = fork();
        if (pids[i] == 0) {
            char byte;
            close(gate[1]);
            _exit(read(gate[0], &byte, 1) == 0 ? 0 : 1);
        }
        assert_true(pids[i] > 0);
        result.lost += !LINK_WAIT(caller.done, WAIT_MS) || LINK_READ(caller.wrong);
        assert_true(link_caller_finish(&caller)); /* the child still has the socket */
    }
    result.ok = link_good_calls(loops, server.port, client_tls, 100, WAIT_MS);
    close(gate[0]);
    close(gate[1]);
    for (int i = 0; i < FORKS; i++) {
        int status;
        result.ok = waitpid(pids[i], &status, 0) == pids[i] && WIFEXITED(status) && WEXITSTATUS(status) == 0 && result.ok;
    }
    result.tried = FORKS;
    result.bar = "calls go on, links end, children end";
    result.ok = server_is_empty() && result.ok;
    report(result);
    forge_loops_free(loops);
}

/* ---- afterwards ---- */

static void test_link_idle_links_cost_no_cpu(void **state)
{
    (void)state;
    enum { LINKS = 100, REST_MS = 2000, SETTLE_MS = 1500 };
    static char what[120];
    static struct link_caller callers[LINKS];
    struct result result = {.id = "11.idle", .what = what, .bar = "below 1 % of a core", .heap_max = 1 << 20};
    struct forge_loops *loops = link_loops(1);
    result.before = hold();
    for (int i = 0; i < LINKS; i++) {
        callers[i] = (struct link_caller){.calls = 5, .reply_size = 100};
        assert_true(link_caller_dial(&callers[i], loops, "127.0.0.1", server.port, link_test_options(client_tls)));
        result.lost += !LINK_WAIT(callers[i].done, WAIT_MS);
    }
    poll(NULL, 0, SETTLE_MS); /* buffers are given back after a second without traffic */
    double cpu = link_cpu_seconds();
    poll(NULL, 0, REST_MS);
    cpu = (link_cpu_seconds() - cpu) * 1000 / REST_MS;
    for (int i = 0; i < LINKS; i++)
        assert_true(link_caller_finish(&callers[i]));
    snprintf(what, sizeof what, "both ends of open idle links, in this process: %.2f %% of a core", cpu * 100);
    result.tried = LINKS;
    result.ok = cpu < 0.01 && server_is_empty();
    report(result);
    forge_loops_free(loops);
}

static int set_up(void **state)
{
    (void)state;
    files = tls_files_new();
    child_start();
    server_tls = link_server_tls(files, "server", FORGE_TLS_CLIENT_NONE);
    client_tls = link_client_tls(files, NULL);
    raw_tls = link_raw_context(files, NULL);
    struct forge_link_options options = link_test_options(server_tls);
    link_server_start(&server, "127.0.0.1", &options, 2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    int status;
    close(child.commands);
    bool ended = waitpid(child.pid, &status, 0) == child.pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    link_server_stop(&server);
    SSL_CTX_free(raw_tls);
    forge_tls_unref(server_tls);
    forge_tls_unref(client_tls);
    tls_files_free(files);
    return ended ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_link_slow_reader_gets_large_replies_byte_for_byte),
        cmocka_unit_test(test_link_survives_connections_cut_at_random_points),
        cmocka_unit_test(test_link_failed_dials_all_end_once),
        cmocka_unit_test(test_link_server_without_descriptors_comes_back),
        cmocka_unit_test(test_link_key_update_flood_is_bounded_and_spread_ones_are_served),
        cmocka_unit_test(test_link_closes_from_other_threads_end_once),
        cmocka_unit_test(test_link_channels_opened_and_closed_leave_nothing),
        cmocka_unit_test(test_link_many_dials_at_once_all_open),
        cmocka_unit_test(test_link_forks_with_open_links_do_no_harm),
        cmocka_unit_test(test_link_idle_links_cost_no_cpu),
    };
    signal(SIGPIPE, SIG_IGN); /* of the hostile peers' SSL_write; links never raise it */
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
