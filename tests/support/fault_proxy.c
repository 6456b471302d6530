#include "support/fault_proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE_BYTES = 16 << 10, STALL_LOOK_MS = 5 };

struct connection;

struct pump {
    struct connection *connection;
    enum fault_direction direction;
    int from, to;
    size_t passed;
    bool started;     /* PostgreSQL: the untyped first message of the client is over */
    size_t body_left; /* PostgreSQL: bytes of the present message that are still to come */
    uint8_t head[5];
    size_t head_len;
    pthread_t thread;
};

struct connection {
    struct connection *next;
    struct fault_proxy *proxy;
    int client, target; /* closed by the pump that ends last */
    struct pump pumps[FAULT_DIRECTIONS];
    int running; /* pumps; the proxy's mutex guards it and the next */
    bool is_reset;
};

struct fault_proxy {
    int listener;
    uint16_t port, target_port;
    pthread_t thread;
    pthread_mutex_t mutex; /* guards everything below */
    struct connection *connections;
    struct fault_settings settings[FAULT_DIRECTIONS];
    bool ending, postgresql, cut;
    enum fault_direction cut_direction;
    unsigned cut_count; /* 0 = not armed */
    unsigned messages[FAULT_DIRECTIONS];
    unsigned random;
};

static void pause_ms(unsigned ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

/* Holds the mutex. Wakes the pumps; the last one closes the sockets, and lingering for no time makes that a reset. */
static void reset_connection(struct connection *connection)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    if (connection->running == 0)
        return;
    connection->is_reset = true;
    setsockopt(connection->client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    setsockopt(connection->target, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    shutdown(connection->client, SHUT_RD);
    shutdown(connection->target, SHUT_RD);
}

static bool connection_is_reset(struct connection *connection)
{
    pthread_mutex_lock(&connection->proxy->mutex);
    bool is_reset = connection->is_reset;
    pthread_mutex_unlock(&connection->proxy->mutex);
    return is_reset;
}

static void reset_all(struct fault_proxy *proxy)
{
    for (struct connection *c = proxy->connections; c; c = c->next)
        reset_connection(c);
}

/* Counts a passed message; true when it was the one to cut after. */
static bool count_message(struct fault_proxy *proxy, enum fault_direction direction)
{
    pthread_mutex_lock(&proxy->mutex);
    proxy->messages[direction]++;
    bool cut = proxy->cut_count && !proxy->cut && proxy->cut_direction == direction && proxy->messages[direction] == proxy->cut_count;
    if (cut) {
        proxy->cut = true;
        reset_all(proxy);
    }
    pthread_mutex_unlock(&proxy->mutex);
    return cut;
}

static bool send_all(struct pump *pump, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(pump->to, data, size, MSG_NOSIGNAL);
        if (n < 0 && (errno == EINTR || (errno == EAGAIN && !connection_is_reset(pump->connection)))) /* SO_SNDTIMEO: look again */
            continue;
        if (n <= 0)
            return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

/* Waits as the settings say; false when the connection has been cut meanwhile. */
static bool wait_for_turn(struct pump *pump, size_t size, size_t *out_piece)
{
    struct fault_proxy *proxy = pump->connection->proxy;
    pthread_mutex_lock(&proxy->mutex);
    while (proxy->settings[pump->direction].stall && !pump->connection->is_reset) {
        pthread_mutex_unlock(&proxy->mutex);
        pause_ms(STALL_LOOK_MS);
        pthread_mutex_lock(&proxy->mutex);
    }
    struct fault_settings settings = proxy->settings[pump->direction];
    unsigned jitter = settings.jitter_ms ? (proxy->random = proxy->random * 1103515245 + 12345) / 65536 % (settings.jitter_ms + 1) : 0;
    bool is_reset = pump->connection->is_reset;
    pthread_mutex_unlock(&proxy->mutex);

    size_t piece = settings.slice_bytes && settings.slice_bytes < size ? settings.slice_bytes : size;
    unsigned wait_ms = settings.latency_ms + jitter;
    if (settings.bytes_per_second) {
        if (piece > settings.bytes_per_second / 20 + 1)
            piece = settings.bytes_per_second / 20 + 1; /* twenty pieces a second keep the flow even */
        wait_ms += (unsigned)(piece * 1000 / settings.bytes_per_second);
    }
    if (settings.limit_bytes && pump->passed + piece > settings.limit_bytes)
        piece = settings.limit_bytes > pump->passed ? settings.limit_bytes - pump->passed : 0;
    if (wait_ms)
        pause_ms(wait_ms);
    *out_piece = piece;
    return !is_reset && piece > 0;
}

static bool pass_bytes(struct pump *pump, const uint8_t *data, size_t size)
{
    while (size > 0) {
        size_t piece;
        if (!wait_for_turn(pump, size, &piece) || !send_all(pump, data, piece))
            return false;
        pump->passed += piece;
        data += piece;
        size -= piece;
    }
    return true;
}

/* Length of the message whose head is complete, without the bytes of the head. */
static size_t message_body(const struct pump *pump, size_t head_size)
{
    const uint8_t *length = pump->head + head_size - 4;
    size_t total = (size_t)length[0] << 24 | (size_t)length[1] << 16 | (size_t)length[2] << 8 | length[3];
    return total > 4 ? total - 4 : 0;
}

/* Passes whole messages of PostgreSQL's protocol (a type byte but for the client's first, then a length that counts itself). */
static bool pass_messages(struct pump *pump, const uint8_t *data, size_t size)
{
    while (size > 0) {
        size_t head_size = pump->direction == FAULT_UPSTREAM && !pump->started ? 4 : 5, taken = 0;
        bool in_head = pump->body_left == 0;
        if (in_head) {
            while (pump->head_len < head_size && taken < size)
                pump->head[pump->head_len++] = data[taken++];
            if (pump->head_len < head_size)
                return pass_bytes(pump, data, taken);
            pump->body_left = message_body(pump, head_size);
            pump->head_len = 0;
            pump->started = true;
        } else {
            taken = size < pump->body_left ? size : pump->body_left;
            pump->body_left -= taken;
        }
        if (!pass_bytes(pump, data, taken))
            return false;
        if (pump->body_left == 0 && count_message(pump->connection->proxy, pump->direction))
            return false;
        data += taken;
        size -= taken;
    }
    return true;
}

/* Forwards until the stream ends; false when the connection is to be reset. */
static bool forward(struct pump *pump)
{
    uint8_t data[PIECE_BYTES];
    for (;;) {
        ssize_t n = recv(pump->from, data, sizeof data, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 && !connection_is_reset(pump->connection);
        if (!(pump->connection->proxy->postgresql ? pass_messages(pump, data, (size_t)n) : pass_bytes(pump, data, (size_t)n)))
            return false;
    }
}

static void *pump_main(void *argument)
{
    struct pump *pump = argument;
    struct connection *connection = pump->connection;
    struct fault_proxy *proxy = connection->proxy;
    bool ended_well = forward(pump);

    pthread_mutex_lock(&proxy->mutex);
    unsigned delay_ms = ended_well ? proxy->settings[pump->direction].close_delay_ms : 0;
    pthread_mutex_unlock(&proxy->mutex);
    if (delay_ms)
        pause_ms(delay_ms);

    pthread_mutex_lock(&proxy->mutex);
    if (!ended_well)
        reset_connection(connection);
    else if (!connection->is_reset)
        shutdown(pump->to, SHUT_WR);
    if (--connection->running == 0) {
        close(connection->client);
        close(connection->target);
    }
    pthread_mutex_unlock(&proxy->mutex);
    return NULL;
}

static int connect_to_target(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address)) {
        close(fd);
        return -1;
    }
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void start_connection(struct fault_proxy *proxy, int client)
{
    int one = 1, target = connect_to_target(proxy->target_port);
    struct connection *connection = target >= 0 ? calloc(1, sizeof *connection) : NULL;
    if (!connection) { /* the target is away: so are we */
        const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
        setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(client);
        if (target >= 0)
            close(target);
        return;
    }
    const struct timeval look_again = {.tv_usec = 50000};
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &look_again, sizeof look_again);
    setsockopt(target, SOL_SOCKET, SO_SNDTIMEO, &look_again, sizeof look_again);
    *connection = (struct connection){.proxy = proxy, .client = client, .target = target, .running = FAULT_DIRECTIONS};
    pthread_mutex_lock(&proxy->mutex);
    for (int direction = 0; direction < FAULT_DIRECTIONS; direction++) {
        struct pump *pump = &connection->pumps[direction];
        pump->connection = connection;
        pump->direction = (enum fault_direction)direction;
        pump->from = direction == FAULT_UPSTREAM ? client : target;
        pump->to = direction == FAULT_UPSTREAM ? target : client;
        if (pthread_create(&pump->thread, NULL, pump_main, pump))
            abort();
    }
    connection->next = proxy->connections;
    proxy->connections = connection;
    pthread_mutex_unlock(&proxy->mutex);
}

static void *listener_main(void *argument)
{
    struct fault_proxy *proxy = argument;
    for (;;) {
        int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_mutex_lock(&proxy->mutex);
        bool ending = proxy->ending;
        pthread_mutex_unlock(&proxy->mutex);
        if (ending) {
            if (client >= 0)
                close(client);
            return NULL;
        }
        if (client >= 0)
            start_connection(proxy, client);
    }
}

struct fault_proxy *fault_proxy_new(uint16_t target_port, bool postgresql)
{
    struct fault_proxy *proxy = calloc(1, sizeof *proxy);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (!proxy)
        return NULL;
    proxy->target_port = target_port;
    proxy->postgresql = postgresql;
    pthread_mutex_init(&proxy->mutex, NULL);
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (proxy->listener < 0 || bind(proxy->listener, (const struct sockaddr *)&address, sizeof address) || listen(proxy->listener, 128) ||
        getsockname(proxy->listener, (struct sockaddr *)&address, &size) || pthread_create(&proxy->thread, NULL, listener_main, proxy)) {
        if (proxy->listener >= 0)
            close(proxy->listener);
        free(proxy);
        return NULL;
    }
    proxy->port = ntohs(address.sin_port);
    return proxy;
}

void fault_proxy_free(struct fault_proxy *proxy)
{
    if (!proxy)
        return;
    pthread_mutex_lock(&proxy->mutex);
    proxy->ending = true;
    reset_all(proxy);
    pthread_mutex_unlock(&proxy->mutex);
    shutdown(proxy->listener, SHUT_RDWR); /* wakes accept */
    pthread_join(proxy->thread, NULL);
    close(proxy->listener);
    pthread_mutex_lock(&proxy->mutex);
    reset_all(proxy); /* the listener may have made one more */
    pthread_mutex_unlock(&proxy->mutex);
    while (proxy->connections) {
        struct connection *connection = proxy->connections;
        proxy->connections = connection->next;
        for (int direction = 0; direction < FAULT_DIRECTIONS; direction++)
            pthread_join(connection->pumps[direction].thread, NULL);
        free(connection);
    }
    pthread_mutex_destroy(&proxy->mutex);
    free(proxy);
}

uint16_t fault_proxy_port(const struct fault_proxy *proxy)
{
    return proxy->port;
}

void fault_proxy_set(struct fault_proxy *proxy, enum fault_direction direction, const struct fault_settings *settings)
{
    pthread_mutex_lock(&proxy->mutex);
    proxy->settings[direction] = *settings;
    pthread_mutex_unlock(&proxy->mutex);
}

void fault_proxy_cut(struct fault_proxy *proxy)
{
    pthread_mutex_lock(&proxy->mutex);
    reset_all(proxy);
    pthread_mutex_unlock(&proxy->mutex);
}

static void arm(struct fault_proxy *proxy, enum fault_direction direction, unsigned count)
{
    pthread_mutex_lock(&proxy->mutex);
    proxy->cut = false;
    proxy->cut_direction = direction;
    proxy->cut_count = count;
    memset(proxy->messages, 0, sizeof proxy->messages);
    pthread_mutex_unlock(&proxy->mutex);
}

void fault_proxy_cut_after_messages(struct fault_proxy *proxy, enum fault_direction direction, unsigned count)
{
    arm(proxy, direction, count);
}

void fault_proxy_disarm(struct fault_proxy *proxy)
{
    arm(proxy, FAULT_UPSTREAM, 0);
}

bool fault_proxy_has_cut(struct fault_proxy *proxy)
{
    pthread_mutex_lock(&proxy->mutex);
    bool cut = proxy->cut;
    pthread_mutex_unlock(&proxy->mutex);
    return cut;
}

unsigned fault_proxy_messages(struct fault_proxy *proxy, enum fault_direction direction)
{
    pthread_mutex_lock(&proxy->mutex);
    unsigned messages = proxy->messages[direction];
    pthread_mutex_unlock(&proxy->mutex);
    return messages;
}
