#include "support/forged_child.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RUN_MS_MAX = 60000, START_MS_MAX = 30000, ARGUMENTS_MAX = 64, PATH_SIZE = 512, STEP_MS = 5 };

struct forged_child {
    pid_t pid;
    int out; /* its standard output */
    char log_path[PATH_SIZE], text[512], address[64];
    size_t text_len;
    uint16_t port, http_port;
    bool ended;
    int exit_code;
};

static void die(const char *log, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
static void die(const char *log, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("forged_child: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n%s\n", log != NULL ? log : "");
    exit(1);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Between two looks at something that cannot be waited for (a process with a time limit, a file that grows). */
static void pause_briefly(void)
{
    nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000L}, NULL);
}

static char *read_all(const char *path)
{
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t size = 0;
    if (file == NULL || getdelim(&text, &size, '\0', file) < 0) {
        free(text);
        text = strdup("");
    }
    if (file != NULL)
        fclose(file);
    return text;
}

static const char *binary_folder(void)
{
    const char *folder = getenv("FORGE_BINARY_DIR");
    return folder != NULL ? folder : "build/dev";
}

static void program_path(const char *program, char out[PATH_SIZE])
{
    const char *server = getenv("FORGE_TEST_SERVER"); /* another build of forged */
    if (program[0] == '/')
        snprintf(out, PATH_SIZE, "%s", program);
    else if (strcmp(program, "forged") == 0 && server != NULL)
        snprintf(out, PATH_SIZE, "%s", server);
    else
        snprintf(out, PATH_SIZE, "%s/bin/%s", binary_folder(), program);
}

/* PATH, sanitizer options and the given ones; strings made here are never freed: the child execs or the test ends. */
static void build_environment(const char *const given[], char *out[ARGUMENTS_MAX])
{
    static const char *const PASSED[] = {"PATH", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"};
    static char passed[sizeof PASSED / sizeof PASSED[0]][2048], tsan[PATH_SIZE];
    size_t count = 0;
    for (size_t i = 0; i < sizeof PASSED / sizeof PASSED[0]; i++) {
        if (getenv(PASSED[i]) == NULL)
            continue;
        snprintf(passed[i], sizeof passed[i], "%s=%s", PASSED[i], getenv(PASSED[i]));
        out[count++] = passed[i];
    }
    const char *source = getenv("FORGE_SOURCE_DIR");
    snprintf(tsan, sizeof tsan, "TSAN_OPTIONS=suppressions=%s/tests/support/tsan.supp", source != NULL ? source : ".");
    out[count++] = tsan;
    for (size_t i = 0; given != NULL && given[i] != NULL && count + 1 < ARGUMENTS_MAX; i++)
        out[count++] = (char *)(uintptr_t)given[i];
    out[count] = NULL;
}

/* Both outputs go to these descriptors. */
static pid_t spawn(const char *program, const char *const arguments[], const char *const environment[], const char *folder, int out,
                   int err)
{
    char path[PATH_SIZE], *argv[ARGUMENTS_MAX] = {path}, *envp[ARGUMENTS_MAX];
    size_t count = 1;
    program_path(program, path);
    for (size_t i = 0; arguments[i] != NULL && count + 1 < ARGUMENTS_MAX; i++)
        argv[count++] = (char *)(uintptr_t)arguments[i];
    build_environment(environment, envp);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        die(NULL, "fork: %s", strerror(errno));
    if (pid > 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (getppid() != parent || dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0 || (folder != NULL && chdir(folder) != 0))
        _exit(125);
    execve(path, argv, envp);
    fprintf(stderr, "cannot run %s: %s\n", path, strerror(errno));
    _exit(126);
}

static int exit_code_of(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* -1 when the time is over. */
static int wait_for(pid_t pid, unsigned timeout_ms)
{
    uint64_t deadline = now_ms() + timeout_ms;
    for (;;) {
        int status;
        pid_t done = waitpid(pid, &status, WNOHANG);
        if (done == pid)
            return exit_code_of(status);
        if (done < 0 && errno != EINTR)
            die(NULL, "waitpid: %s", strerror(errno));
        if (now_ms() >= deadline)
            return -1;
        pause_briefly();
    }
}

static int open_temporary(char path[PATH_SIZE])
{
    const char *base = getenv("TMPDIR");
    snprintf(path, PATH_SIZE, "%s/forged-child-XXXXXX", base != NULL ? base : "/tmp");
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        die(NULL, "%s: %s", path, strerror(errno));
    return fd;
}

void child_run(const char *program, const char *const arguments[], const char *const environment[], const char *folder,
               struct child_output *out)
{
    char out_path[PATH_SIZE], err_path[PATH_SIZE];
    int out_fd = open_temporary(out_path), err_fd = open_temporary(err_path);
    pid_t pid = spawn(program, arguments, environment, folder, out_fd, err_fd);
    close(out_fd);
    close(err_fd);
    out->exit_code = wait_for(pid, RUN_MS_MAX);
    out->out = read_all(out_path);
    out->err = read_all(err_path);
    unlink(out_path);
    unlink(err_path);
    if (out->exit_code < 0) {
        kill(pid, SIGKILL);
        die(out->err, "%s %s did not end", program, arguments[0]);
    }
}

void child_output_done(struct child_output *output)
{
    free(output->out);
    free(output->err);
    output->out = output->err = NULL;
}

/* ---- forged serve ---- */

/* Reads standard output until it holds text; false when the child ended or the time is over. */
static bool read_until(struct forged_child *child, const char *text)
{
    uint64_t deadline = now_ms() + START_MS_MAX;
    while (strstr(child->text, text) == NULL) {
        uint64_t now = now_ms();
        struct pollfd event = {.fd = child->out, .events = POLLIN};
        if (now >= deadline || child->text_len + 1 >= sizeof child->text || poll(&event, 1, (int)(deadline - now)) <= 0)
            return false;
        ssize_t len = read(child->out, child->text + child->text_len, sizeof child->text - 1 - child->text_len);
        if (len <= 0)
            return false;
        child->text_len += (size_t)len;
        child->text[child->text_len] = '\0';
    }
    return true;
}

struct forged_child *forged_child_start(const char *folder, const char *const arguments[], const char *const environment[])
{
    struct forged_child *child = calloc(1, sizeof *child);
    int ends[2];
    unsigned port, http_port;
    if (child == NULL || pipe2(ends, O_CLOEXEC) != 0)
        die(NULL, "no memory or pipe");
    int log = open_temporary(child->log_path);
    child->pid = spawn("forged", arguments, environment, folder, ends[1], log);
    child->out = ends[0];
    close(ends[1]);
    close(log);
    if (!read_until(child, "\n") || sscanf(child->text, "listening port=%u http_port=%u", &port, &http_port) != 2)
        die(forged_child_log(child), "forged did not listen");
    child->port = (uint16_t)port;
    child->http_port = (uint16_t)http_port;
    snprintf(child->address, sizeof child->address, "localhost:%u", port);
    return child;
}

void forged_child_wait_ready(struct forged_child *child)
{
    if (!read_until(child, "ready\n"))
        die(forged_child_log(child), "forged did not become ready");
}

uint16_t forged_child_port(const struct forged_child *child)
{
    return child->port;
}

uint16_t forged_child_http_port(const struct forged_child *child)
{
    return child->http_port;
}

const char *forged_child_address(const struct forged_child *child)
{
    return child->address;
}

pid_t forged_child_pid(const struct forged_child *child)
{
    return child->pid;
}

void forged_child_signal(struct forged_child *child, int signal_number)
{
    if (!child->ended)
        kill(child->pid, signal_number);
}

int forged_child_wait(struct forged_child *child, unsigned timeout_ms)
{
    if (child->ended)
        return child->exit_code;
    int exit_code = wait_for(child->pid, timeout_ms);
    if (exit_code >= 0) {
        child->ended = true;
        child->exit_code = exit_code;
    }
    return exit_code;
}

char *forged_child_log(const struct forged_child *child)
{
    return read_all(child->log_path);
}

bool forged_child_wait_log(struct forged_child *child, const char *text)
{
    for (uint64_t deadline = now_ms() + START_MS_MAX; now_ms() < deadline; pause_briefly()) {
        char *log = forged_child_log(child);
        bool found = strstr(log, text) != NULL;
        free(log);
        if (found)
            return true;
    }
    return false;
}

static void child_free(struct forged_child *child)
{
    close(child->out);
    unlink(child->log_path);
    free(child);
}

void forged_child_stop(struct forged_child *child)
{
    if (child == NULL)
        return;
    forged_child_signal(child, SIGCONT);
    forged_child_signal(child, SIGTERM);
    bool was_running = !child->ended;
    int exit_code = forged_child_wait(child, START_MS_MAX);
    if (exit_code < 0)
        forged_child_signal(child, SIGKILL);
    if (was_running && exit_code != 0)
        die(forged_child_log(child), "forged ended with exit code %d after SIGTERM", exit_code);
    child_free(child);
}

void forged_child_kill(struct forged_child *child)
{
    if (child == NULL)
        return;
    forged_child_signal(child, SIGKILL);
    forged_child_wait(child, START_MS_MAX);
    child_free(child);
}

int forged_child_http(const struct forged_child *child, const char *path, char **out_body)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(child->http_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 10};
    char request[256], *reply = NULL;
    size_t size = 0;
    int status = -1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    FILE *stream = NULL;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 && write(fd, request, (size_t)len) == len &&
        (stream = fdopen(fd, "r")) != NULL && getdelim(&reply, &size, '\0', stream) > 0)
        sscanf(reply, "HTTP/1.1 %d", &status);
    if (out_body != NULL) {
        const char *body = reply != NULL ? strstr(reply, "\r\n\r\n") : NULL;
        *out_body = strdup(body != NULL ? body + 4 : "");
    }
    free(reply);
    if (stream != NULL)
        fclose(stream);
    else
        close(fd);
    return status;
}
