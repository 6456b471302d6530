#include "support/link_peer.h"

#include "wire/clock.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

uint8_t link_pattern[LINK_PATTERN_MAX + 256];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;

__attribute__((constructor)) static void set_up(void)
{
    uint32_t x = 12345; /* the generator of Numerical Recipes, section 7.1 */
    for (size_t i = 0; i < sizeof link_pattern; i++)
        link_pattern[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

void link_lock(void)
{
    pthread_mutex_lock(&lock);
}

void link_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

bool link_wait(uint64_t until_ms)
{
    struct timespec until = {.tv_sec = (time_t)(until_ms / 1000), .tv_nsec = (long)(until_ms % 1000) * 1000000};
    return pthread_cond_timedwait(&changed, &lock, &until) == 0;
}

void link_announce(void)
{
    pthread_cond_broadcast(&changed);
}

static void need(bool ok, const char *what, const char *why)
{
    if (ok)
        return;
    fprintf(stderr, "link_peer: %s: %s\n", what, why);
    abort();
}

void link_put_u32(uint8_t *out, uint32_t value)
{
    value = htonl(value);
    memcpy(out, &value, sizeof value);
}

uint32_t link_get_u32(const uint8_t *in)
{
    uint32_t value;
    memcpy(&value, in, sizeof value);
    return ntohl(value);
}

/* ---- settings ---- */

static struct forge_tls *load(const struct tls_files *files, const char *certificate, struct forge_tls_config config)
{
    char certificate_file[64], key_file[64];
    if (certificate) {
        snprintf(certificate_file, sizeof certificate_file, "%s.pem", certificate);
        snprintf(key_file, sizeof key_file, "%s.key", certificate);
        config.certificate_file = tls_files_path(files, certificate_file);
        config.key_file = tls_files_path(files, key_file);
    }
    config.ca_file = tls_files_path(files, "ca.pem");
    struct forge_tls *tls = NULL;
    struct forge_error error = {0};
    need(forge_tls_new(&config, &tls, &error) == FORGE_OK, "TLS settings", error.message);
    return tls;
}

struct forge_tls *link_server_tls(const struct tls_files *files, const char *certificate, enum forge_tls_client_auth client_auth)
{
    return load(files, certificate, (struct forge_tls_config){.server = true, .client_auth = client_auth});
}

struct forge_tls *link_client_tls(const struct tls_files *files, const char *certificate)
{
    return load(files, certificate, (struct forge_tls_config){0});
}

struct forge_link_options link_test_options(struct forge_tls *tls)
{
    return (struct forge_link_options){
        .tls = tls, .handshake_ms = 30000, .body_ms = 30000, .message_max = 8 << 20, .frame_max = 8 << 20, .pending_max = 24 << 20};
}

struct forge_loops *link_loops(int count)
{
    struct forge_loops *loops = NULL;
    struct forge_error error = {0};
    need(forge_loops_new(count, &loops, &error) == FORGE_OK, "loops", error.message);
    return loops;
}

/* ---- the server ---- */

static void server_accepted(struct forge_link *link, void *user)
{
    struct link_server *server = user;
    link_lock();
    server->accepted++;
    snprintf(server->last_address, sizeof server->last_address, "%s", forge_link_peer_address(link));
    link_announce();
    link_unlock();
}

static void server_opened(struct forge_link *link, void *user)
{
    struct link_server *server = user;
    if (server->proven)
        forge_link_set_proven(link);
    if (server->calls)
        forge_link_add_calls(link, server->calls);
    forge_link_ref(link);
    link_lock();
    server->opened++;
    struct forge_link *before = server->last;
    server->last = link;
    server->last_peer = *forge_link_peer(link);
    link_announce();
    link_unlock();
    forge_link_unref(before);
}

static bool answer(struct forge_link *link, const struct forge_frame *frame)
{
    uint32_t size = 0, seed = 0;
    if (frame->body_len >= 8 && !frame->truncated) {
        size = link_get_u32(frame->body);
        seed = link_get_u32(frame->body + 4);
    }
    if (size > LINK_PATTERN_MAX)
        size = LINK_PATTERN_MAX;
    struct forge_link_send send;
    if (forge_link_send_begin(link, frame->stack, frame->stack_len, size, &send) != FORGE_OK)
        return false;
    memcpy(send.body, link_pattern + (seed & 255), size);
    forge_link_send_commit(&send);
    return true;
}

static void server_frame(struct forge_link *link, void *user, const struct forge_frame *frame)
{
    struct link_server *server = user;
    uint64_t until_ns = forge_clock_monotonic_ns() + server->burn_us * 1000ull;
    while (server->burn_us && forge_clock_monotonic_ns() < until_ns)
        ;
    bool sent = answer(link, frame);
    link_lock();
    server->frames++;
    server->truncated += frame->truncated;
    server->unsent += !sent;
    server->last_body_len = frame->body_len;
    server->last_stack_len = frame->stack_len;
    link_announce();
    link_unlock();
    if (server->close_on_frame)
        forge_link_close(link);
}

static void server_closed(struct forge_link *link, void *user, enum forge_link_why why)
{
    (void)link;
    struct link_server *server = user;
    link_lock();
    server->closed++;
    server->why[why]++;
    link_announce();
    link_unlock();
}

static const struct forge_link_callbacks server_callbacks = {server_accepted, server_opened, server_frame, server_closed};

void link_server_start(struct link_server *server, const char *host, const struct forge_link_options *options, int loops)
{
    struct forge_error error = {0};
    struct forge_link_options own = *options;
    own.callbacks = &server_callbacks;
    own.user = server;
    server->loops = link_loops(loops);
    need(forge_link_listen(server->loops, host, 0, &own, &server->listener, &server->port, &error) == FORGE_OK, "listen", error.message);
}

void link_server_stop(struct link_server *server)
{
    if (server->listener)
        forge_link_listener_close(server->listener);
    forge_loops_free(server->loops);
    forge_link_unref(server->last);
    server->listener = NULL;
    server->loops = NULL;
    server->last = NULL;
}

/* ---- the client ---- */

forge_code link_caller_ask(struct link_caller *caller, uint32_t id)
{
    uint8_t stack[4];
    struct forge_link_send send;
    link_put_u32(stack, id | 0x80000000u);
    forge_code code = forge_link_send_begin(caller->link, stack, sizeof stack, LINK_REQUEST_SIZE, &send);
    if (code != FORGE_OK)
        return code;
    memset(send.body, 0, send.body_len);
    link_put_u32(send.body, caller->reply_size);
    link_put_u32(send.body + 4, id);
    forge_link_send_commit(&send);
    return FORGE_OK;
}

static void ask_more(struct link_caller *caller)
{
    int window = caller->window ? caller->window : 16;
    while (caller->sent < caller->calls && caller->sent - caller->frames < window) {
        if (link_caller_ask(caller, (uint32_t)caller->sent) != FORGE_OK) {
            caller->unsent++;
            return;
        }
        caller->sent++;
    }
}

static void caller_opened(struct forge_link *link, void *user)
{
    struct link_caller *caller = user;
    link_lock();
    if (!caller->link)
        caller->link = link; /* before link_caller_dial could; once it has, the dialling thread reads it without the lock */
    caller->opened++;
    caller->peer = *forge_link_peer(link);
    ask_more(caller);
    link_announce();
    link_unlock();
}

static void caller_frame(struct forge_link *link, void *user, const struct forge_frame *frame)
{
    (void)link;
    struct link_caller *caller = user;
    uint32_t id = link_get_u32(frame->stack) & 0x7fffffff;
    bool right = frame->stack_len == 4 && frame->body_len == caller->reply_size && !frame->truncated &&
                 memcmp(frame->body, link_pattern + (id & 255), frame->body_len) == 0;
    link_lock();
    caller->wrong += !right;
    caller->frames++;
    ask_more(caller);
    caller->done = caller->frames == caller->calls;
    if (caller->done || caller->calls == 0)
        link_announce();
    link_unlock();
}

static void caller_closed(struct forge_link *link, void *user, enum forge_link_why why)
{
    (void)link;
    struct link_caller *caller = user;
    link_lock();
    caller->closed++;
    caller->why = why;
    link_announce();
    link_unlock();
}

const struct forge_link_callbacks link_caller_callbacks = {NULL, caller_opened, caller_frame, caller_closed};

bool link_caller_dial(struct link_caller *caller, struct forge_loops *loops, const char *host, uint16_t port,
                      struct forge_link_options options)
{
    struct forge_error error = {0};
    struct forge_link *link;
    options.callbacks = &link_caller_callbacks;
    options.user = caller;
    if (forge_link_dial(loops, NULL, host, port, &options, &link, &error) != FORGE_OK)
        return false;
    link_lock();
    caller->link = link;
    link_unlock();
    return true;
}

bool link_caller_finish(struct link_caller *caller)
{
    forge_link_close(LINK_READ(caller->link));
    bool closed = LINK_WAIT(caller->closed, 60000);
    if (closed)
        forge_link_unref(caller->link);
    return closed;
}

bool link_good_calls(struct forge_loops *loops, uint16_t port, struct forge_tls *tls, int calls, unsigned timeout_ms)
{
    struct link_caller caller = {.calls = calls, .reply_size = 1024};
    if (!link_caller_dial(&caller, loops, "127.0.0.1", port, link_test_options(tls)))
        return false;
    bool done = LINK_WAIT(caller.done || caller.closed, timeout_ms) && LINK_READ(caller.done && !caller.wrong);
    need(link_caller_finish(&caller), "closed callback", "did not come within 60 s");
    return done;
}

/* ---- hostile peers ---- */

int link_tcp(uint16_t port, int receive_buffer)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (receive_buffer)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (fd >= 0 && connect(fd, (struct sockaddr *)(void *)&to, sizeof to)) {
        close(fd);
        return -1;
    }
    return fd;
}

void link_reset(int fd)
{
    struct linger linger = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

SSL_CTX *link_raw_context(const struct tls_files *files, const char *certificate)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    bool ok = context && SSL_CTX_load_verify_file(context, tls_files_path(files, "ca.pem")) == 1;
    char name[64];
    if (ok && certificate) {
        snprintf(name, sizeof name, "%s.pem", certificate);
        ok = SSL_CTX_use_certificate_chain_file(context, tls_files_path(files, name)) == 1;
        snprintf(name, sizeof name, "%s.key", certificate);
        ok = ok && SSL_CTX_use_PrivateKey_file(context, tls_files_path(files, name), SSL_FILETYPE_PEM) == 1;
    }
    need(ok, "raw context", "cannot load");
    return context;
}

bool link_raw_handshake(struct link_raw *raw, SSL_CTX *context, uint16_t port, int receive_buffer)
{
    raw->ssl = NULL;
    raw->fd = link_tcp(port, receive_buffer);
    if (raw->fd < 0)
        return false;
    raw->ssl = SSL_new(context);
    SSL_set_fd(raw->ssl, raw->fd);
    ERR_clear_error();
    return SSL_connect(raw->ssl) == 1;
}

bool link_raw_open(struct link_raw *raw, SSL_CTX *context, uint16_t port, int receive_buffer)
{
    const uint8_t header[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0}, expected[8] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};
    uint8_t got[8];
    return link_raw_handshake(raw, context, port, receive_buffer) && SSL_write(raw->ssl, header, 8) == 8 &&
           SSL_read(raw->ssl, got, 8) == 8 && memcmp(got, expected, 8) == 0;
}

void link_raw_close(struct link_raw *raw)
{
    SSL_free(raw->ssl);
    if (raw->fd >= 0)
        close(raw->fd);
    raw->ssl = NULL;
    raw->fd = -1;
    ERR_clear_error();
}

bool link_raw_is_closed(struct link_raw *raw, unsigned timeout_ms)
{
    uint64_t until_ms = forge_clock_monotonic_ms() + timeout_ms;
    for (uint64_t now_ms; (now_ms = forge_clock_monotonic_ms()) < until_ms;) {
        uint8_t dropped[16384];
        struct pollfd ready = {.fd = raw->fd, .events = POLLIN};
        if (poll(&ready, 1, (int)(until_ms - now_ms)) == 1 && recv(raw->fd, dropped, sizeof dropped, 0) <= 0)
            return true;
    }
    return false;
}

size_t link_raw_request(uint8_t *out, uint32_t id, uint32_t reply_size)
{
    memset(out, 0, 12 + LINK_REQUEST_SIZE);
    out[7] = 4 + LINK_REQUEST_SIZE;
    link_put_u32(out + 8, id | 0x80000000u);
    link_put_u32(out + 12, reply_size);
    link_put_u32(out + 16, id);
    return 12 + LINK_REQUEST_SIZE;
}

/* ---- what a process holds ---- */

int link_count_entries(const char *path)
{
    DIR *directory = opendir(path);
    int count = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    if (directory)
        closedir(directory);
    return count;
}

int link_count_fds(void)
{
    return link_count_entries("/proc/self/fd") - 1;
} /* without the directory itself */

int link_count_threads(void)
{
    return link_count_entries("/proc/self/task");
}

long link_heap_bytes(void)
{
    struct mallinfo2 info = mallinfo2();
    return (long)(info.uordblks + info.hblkhd);
}

double link_cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}
