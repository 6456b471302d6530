#include "support/pg_cluster.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sched.h>
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

enum { START_MS_MAX = 60000, STOP_MS_MAX = 60000, PATH_SIZE = 256, STRINGS_MAX = 4096, START_ATTEMPTS = 5, CHILDREN_MAX = 512 };

struct pg_cluster {
    char folder[PATH_SIZE]; /* data, sockets and log lie in it */
    uint16_t port;
    pid_t postmaster; /* 0 while stopped */
    pid_t keeper;
    int keeper_pipe; /* its end tells the keeper that the program is over */
    int database_count;
    char *strings[STRINGS_MAX]; /* what was handed out */
    int string_count;
};

/* --- failing and small helpers ------------------------------------------------------------------- */

static void print_log_end(const char *folder)
{
    char path[PATH_SIZE + 16];
    snprintf(path, sizeof(path), "%s/log", folder);
    FILE *log = fopen(path, "r");
    if (log == NULL)
        return;
    char text[4096];
    if (fseek(log, -(long)sizeof(text), SEEK_END) != 0)
        rewind(log);
    size_t size = fread(text, 1, sizeof(text), log);
    fwrite(text, 1, size, stderr);
    fclose(log);
}

_Noreturn __attribute__((format(printf, 2, 3))) static void fail(const struct pg_cluster *cluster, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("pg_cluster: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    if (cluster != NULL)
        print_log_end(cluster->folder);
    exit(1); /* the keeper cleans up */
}

__attribute__((format(printf, 2, 3))) static const char *keep(struct pg_cluster *cluster, const char *format, ...)
{
    if (cluster->string_count == STRINGS_MAX)
        fail(cluster, "more than %d names, URLs and values", STRINGS_MAX);
    va_list arguments;
    va_start(arguments, format);
    char *string = NULL;
    if (vasprintf(&string, format, arguments) < 0)
        fail(cluster, "out of memory");
    va_end(arguments);
    cluster->strings[cluster->string_count++] = string;
    return string;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
    struct timespec pause = {.tv_nsec = ms * 1000000};
    nanosleep(&pause, NULL);
}

/* The newest installed version's folder of programs. */
static void find_programs(char out[PATH_SIZE])
{
    const char *given = getenv("PG_BINDIR");
    int newest = 0;
    if (given != NULL) {
        snprintf(out, PATH_SIZE, "%s", given);
        return;
    }
    DIR *folder = opendir("/usr/lib/postgresql");
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
        if (atoi(entry->d_name) > newest)
            newest = atoi(entry->d_name);
    if (folder != NULL)
        closedir(folder);
    if (newest == 0)
        fail(NULL, "no PostgreSQL in /usr/lib/postgresql (set PG_BINDIR)");
    snprintf(out, PATH_SIZE, "/usr/lib/postgresql/%d/bin", newest);
}

/* PostgreSQL refuses to run as root. */
static const struct passwd *server_user(void)
{
    if (geteuid() != 0)
        return NULL;
    const struct passwd *user = getpwnam("postgres");
    if (user == NULL)
        fail(NULL, "runs as root, and there is no user postgres to run PostgreSQL as");
    return user;
}

/* In the child: becomes the server's user, output to the log, and a program. */
_Noreturn static void child_run(const struct pg_cluster *cluster, const struct passwd *user, const char *const *arguments, pid_t parent)
{
    char path[PATH_SIZE + 16];
    snprintf(path, sizeof(path), "%s/log", cluster->folder);
    if (user != NULL && (setgroups(0, NULL) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0))
        _exit(126);
    /* After setuid(), which clears it. The keeper does the rest; this catches a killed keeper. */
    if (prctl(PR_SET_PDEATHSIG, SIGQUIT) != 0 || getppid() != parent)
        _exit(126);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    dup2(log, 1);
    dup2(log, 2);
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    const char *const environment[] = {"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin", NULL};
    execve(arguments[0], (char *const *)(uintptr_t)arguments, (char *const *)(uintptr_t)environment);
    _exit(127);
}

static pid_t child_start(const struct pg_cluster *cluster, const char *const *arguments)
{
    const struct passwd *user = server_user();
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        fail(cluster, "fork: %s", strerror(errno));
    if (pid == 0)
        child_run(cluster, user, arguments, parent);
    return pid;
}

/* --- processes of the cluster -------------------------------------------------------------------- */

/* Parent (0: no such process) and state of a process: "pid (name) state ppid ...". */
static pid_t read_stat(pid_t pid, char *out_state)
{
    char path[64], text[512];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[size > 0 ? size : 0] = '\0';
    const char *behind_name = strrchr(text, ')');
    int parent = 0;
    return behind_name != NULL && sscanf(behind_name + 1, " %c %d", out_state, &parent) == 2 ? parent : 0;
}

static pid_t parent_of(pid_t pid)
{
    char state;
    return read_stat(pid, &state);
}

static int children_of(pid_t parent, pid_t out[CHILDREN_MAX])
{
    int count = 0;
    DIR *processes = opendir("/proc");
    for (struct dirent *entry; processes != NULL && (entry = readdir(processes)) != NULL;) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        if (pid > 1 && count < CHILDREN_MAX && parent_of(pid) == parent)
            out[count++] = pid;
    }
    if (processes != NULL)
        closedir(processes);
    return count;
}

static void signal_all(pid_t postmaster, int signal_number)
{
    pid_t children[CHILDREN_MAX];
    kill(postmaster, signal_number); /* first, so that it starts no more */
    int count = children_of(postmaster, children);
    for (int i = 0; i < count; i++)
        kill(children[i], signal_number);
}

static bool wait_for_end(pid_t pid)
{
    uint64_t until = now_ms() + STOP_MS_MAX;
    while (now_ms() < until) {
        if (waitpid(pid, NULL, WNOHANG) == pid)
            return true;
        pause_ms(2);
    }
    return false;
}

static void remove_tree(const char *path)
{
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char inner[4096];
        struct stat status;
        snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
        if (lstat(inner, &status) == 0 && S_ISDIR(status.st_mode))
            remove_tree(inner);
        else
            unlink(inner);
    }
    if (folder != NULL)
        closedir(folder);
    rmdir(path);
}

/* --- keeper -------------------------------------------------------------------------------------- */

/* Ends every process that works in this folder, as all of PostgreSQL's do; returns how many there were. Not by parent: the postmaster
 * may be dead before this looks, and its children are init's then, or stand still if the cluster is paused. */
static int end_processes_in(const char *folder)
{
    struct stat wanted, found;
    int count = 0;
    DIR *processes = stat(folder, &wanted) == 0 ? opendir("/proc") : NULL;
    for (struct dirent *entry; processes != NULL && (entry = readdir(processes)) != NULL;) {
        char path[PATH_SIZE];
        pid_t pid = (pid_t)atoi(entry->d_name);
        snprintf(path, sizeof(path), "/proc/%d/cwd", pid);
        if (pid > 1 && stat(path, &found) == 0 && found.st_dev == wanted.st_dev && found.st_ino == wanted.st_ino && kill(pid, SIGKILL) == 0)
            count++;
    }
    if (processes != NULL)
        closedir(processes);
    return count;
}

/* Waits for the end of the test program, then leaves nothing behind. */
_Noreturn static void keeper_run(const char *folder, int pipe_end)
{
    for (int fd = 3; fd < 256; fd++)
        if (fd != pipe_end)
            close(fd);
    for (int number = 1; number < 32; number++)
        signal(number, SIG_IGN);
    prctl(PR_SET_NAME, "pg-keeper");
    char byte;
    while (read(pipe_end, &byte, 1) < 0 && errno == EINTR)
        ;
    char data[PATH_SIZE + 16];
    snprintf(data, sizeof(data), "%s/data", folder);
    for (uint64_t until = now_ms() + 5000; end_processes_in(data) > 0 && now_ms() < until;)
        pause_ms(5);
    remove_tree(folder);
    _exit(0);
}

static void keeper_start(struct pg_cluster *cluster)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        fail(cluster, "pipe: %s", strerror(errno));
    cluster->keeper = fork();
    if (cluster->keeper < 0)
        fail(cluster, "fork: %s", strerror(errno));
    if (cluster->keeper == 0)
        keeper_run(cluster->folder, ends[0]);
    close(ends[0]);
    cluster->keeper_pipe = ends[1];
}

/* --- start and stop ------------------------------------------------------------------------------ */

static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 || getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        fail(NULL, "no free port: %s", strerror(errno));
    close(fd);
    return ntohs(address.sin_port);
}

static void make_data(struct pg_cluster *cluster, const struct pg_cluster_options *options)
{
    char programs[PATH_SIZE], initdb[PATH_SIZE + 16], data[PATH_SIZE + 16];
    find_programs(programs);
    snprintf(initdb, sizeof(initdb), "%s/initdb", programs);
    snprintf(data, sizeof(data), "%s/data", cluster->folder);
    const char *arguments[] = {initdb,      "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
                               "--no-sync", NULL, NULL};
    if (options != NULL && options->checksums)
        arguments[11] = "--data-checksums";
    int status;
    if (waitpid(child_start(cluster, arguments), &status, 0) < 0 || status != 0)
        fail(cluster, "initdb failed");
    char path[PATH_SIZE + 64];
    snprintf(path, sizeof(path), "%s/data/postgresql.conf", cluster->folder);
    FILE *file = fopen(path, "a");
    if (file == NULL)
        fail(cluster, "%s: %s", path, strerror(errno));
    fprintf(file, "unix_socket_directories = '%s'\nlisten_addresses = '127.0.0.1'\nshared_buffers = 32MB\nautovacuum = off\n",
            cluster->folder);
    if (options == NULL || !options->durable)
        fputs("fsync = off\nfull_page_writes = off\n", file);
    if (options != NULL && options->settings != NULL)
        fprintf(file, "%s\n", options->settings);
    fclose(file);
}

/* False when the postmaster ended, which a taken port makes it do. */
static bool wait_for_start(struct pg_cluster *cluster)
{
    uint64_t until = now_ms() + START_MS_MAX;
    const char *url = keep(cluster, "host=%s port=%u user=postgres dbname=postgres", cluster->folder, cluster->port);
    while (now_ms() < until) {
        if (PQping(url) == PQPING_OK)
            return true;
        if (waitpid(cluster->postmaster, NULL, WNOHANG) == cluster->postmaster)
            return false;
        pause_ms(5);
    }
    fail(cluster, "PostgreSQL did not start within %d ms", START_MS_MAX);
}

static bool postmaster_start(struct pg_cluster *cluster)
{
    char programs[PATH_SIZE], postgres[PATH_SIZE + 16], data[PATH_SIZE + 16], port[16];
    find_programs(programs);
    snprintf(postgres, sizeof(postgres), "%s/postgres", programs);
    snprintf(data, sizeof(data), "%s/data", cluster->folder);
    snprintf(port, sizeof(port), "%u", cluster->port);
    const char *arguments[] = {postgres, "-D", data, "-p", port, NULL};
    cluster->postmaster = child_start(cluster, arguments);
    if (wait_for_start(cluster))
        return true;
    cluster->postmaster = 0;
    return false;
}

struct pg_cluster *pg_cluster_new(const struct pg_cluster_options *options)
{
    struct pg_cluster *cluster = calloc(1, sizeof(*cluster));
    if (cluster == NULL)
        fail(NULL, "out of memory");
    snprintf(cluster->folder, sizeof(cluster->folder), "/tmp/forge-pg-XXXXXX"); /* short: socket paths have 107 bytes */
    if (mkdtemp(cluster->folder) == NULL)
        fail(NULL, "%s: %s", cluster->folder, strerror(errno));
    keeper_start(cluster);
    const struct passwd *user = server_user();
    if (user != NULL && chown(cluster->folder, user->pw_uid, user->pw_gid) != 0)
        fail(cluster, "%s: %s", cluster->folder, strerror(errno));
    make_data(cluster, options);
    for (int attempt = 0; attempt < START_ATTEMPTS; attempt++) {
        cluster->port = free_port(); /* somebody may take it before PostgreSQL does */
        if (postmaster_start(cluster))
            return cluster;
    }
    fail(cluster, "PostgreSQL does not start");
}

void pg_cluster_start(struct pg_cluster *cluster)
{
    for (int attempt = 0; attempt < START_ATTEMPTS; attempt++)
        if (postmaster_start(cluster))
            return;
    fail(cluster, "PostgreSQL does not start again");
}

void pg_cluster_stop(struct pg_cluster *cluster)
{
    kill(cluster->postmaster, SIGINT);
    if (!wait_for_end(cluster->postmaster))
        fail(cluster, "PostgreSQL did not stop");
    cluster->postmaster = 0;
}

void pg_cluster_kill(struct pg_cluster *cluster)
{
    pid_t children[CHILDREN_MAX];
    int count = children_of(cluster->postmaster, children);
    kill(cluster->postmaster, SIGKILL);
    if (!wait_for_end(cluster->postmaster))
        fail(cluster, "PostgreSQL survived SIGKILL");
    cluster->postmaster = 0;
    /* They notice the postmaster's end at once; a new one must not start before the last of them is gone. */
    uint64_t until = now_ms() + STOP_MS_MAX;
    for (int i = 0; i < count; i++)
        while (kill(children[i], 0) == 0 && now_ms() < until)
            pause_ms(2);
}

/* A signalled process may still finish what it is doing, and a postmaster a fork. */
static void stop_process(pid_t pid)
{
    char state = '?';
    kill(pid, SIGSTOP);
    uint64_t until = now_ms() + STOP_MS_MAX;
    while (read_stat(pid, &state) > 0 && state != 'T' && state != 'Z' && now_ms() < until)
        sched_yield();
}

void pg_cluster_pause(struct pg_cluster *cluster)
{
    pid_t children[CHILDREN_MAX];
    stop_process(cluster->postmaster);
    int count = children_of(cluster->postmaster, children);
    for (int i = 0; i < count; i++)
        stop_process(children[i]);
}

void pg_cluster_resume(struct pg_cluster *cluster)
{
    signal_all(cluster->postmaster, SIGCONT);
}

void pg_cluster_free(struct pg_cluster *cluster)
{
    if (cluster == NULL)
        return;
    if (cluster->postmaster > 0) {
        signal_all(cluster->postmaster, SIGKILL);
        wait_for_end(cluster->postmaster);
    }
    close(cluster->keeper_pipe); /* deletes the folder */
    waitpid(cluster->keeper, NULL, 0);
    for (int i = 0; i < cluster->string_count; i++)
        free(cluster->strings[i]);
    free(cluster);
}

uint16_t pg_cluster_port(const struct pg_cluster *cluster)
{
    return cluster->port;
}

const char *pg_cluster_folder(const struct pg_cluster *cluster)
{
    return cluster->folder;
}

/* --- SQL ----------------------------------------------------------------------------------------- */

const char *pg_cluster_url(struct pg_cluster *cluster, const char *role, const char *database)
{
    return keep(cluster, "postgresql:///%s?host=%s&port=%u&user=%s", database, cluster->folder, cluster->port, role);
}

const char *pg_cluster_tcp_url(struct pg_cluster *cluster, const char *role, const char *database, uint16_t port)
{
    return keep(cluster, "postgresql://%s@127.0.0.1:%u/%s?sslmode=disable&gssencmode=disable", role, port, database);
}

static void notice_ignore(void *user, const char *message)
{
    (void)user;
    (void)message;
}

static PGresult *query(struct pg_cluster *cluster, const char *role, const char *database, const char *sql, PGconn **out_pg)
{
    PGconn *pg = PQconnectdb(pg_cluster_url(cluster, role, database));
    if (PQstatus(pg) != CONNECTION_OK)
        fail(cluster, "connection of %s to %s: %s", role, database, PQerrorMessage(pg));
    PQsetNoticeProcessor(pg, notice_ignore, NULL);
    *out_pg = pg;
    return PQexec(pg, sql);
}

static bool succeeded(const PGresult *result)
{
    return PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK;
}

const char *pg_cluster_query(struct pg_cluster *cluster, const char *role, const char *database, const char *sql)
{
    PGconn *pg;
    PGresult *result = query(cluster, role, database, sql, &pg);
    if (!succeeded(result))
        fail(cluster, "%s: %s", sql, PQerrorMessage(pg));
    bool has_value = PQntuples(result) > 0 && PQnfields(result) > 0;
    const char *value = keep(cluster, "%s", has_value ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    PQfinish(pg);
    return value;
}

void pg_cluster_execute(struct pg_cluster *cluster, const char *role, const char *database, const char *sql)
{
    (void)pg_cluster_query(cluster, role, database, sql);
}

const char *pg_cluster_try(struct pg_cluster *cluster, const char *role, const char *database, const char *sql)
{
    PGconn *pg;
    PGresult *result = query(cluster, role, database, sql, &pg);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *kept = keep(cluster, "%s", succeeded(result) ? "00000" : sqlstate != NULL ? sqlstate : "08006");
    PQclear(result);
    PQfinish(pg);
    return kept;
}

void pg_cluster_execute_file(struct pg_cluster *cluster, const char *role, const char *database, const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail(cluster, "%s: %s", path, strerror(errno));
    char *text = NULL;
    size_t capacity = 0;
    ssize_t size = getdelim(&text, &capacity, '\0', file);
    fclose(file);
    if (size < 0)
        fail(cluster, "%s is empty", path);
    pg_cluster_execute(cluster, role, database, text);
    free(text);
}

char *pg_cluster_dump_schema(struct pg_cluster *cluster, const char *database)
{
    const char *command = keep(cluster, "pg_dump --schema-only --restrict-key=x '%s'", pg_cluster_url(cluster, "postgres", database));
    FILE *pipe = popen(command, "re");
    char *text = NULL;
    size_t capacity = 0;
    ssize_t size = pipe != NULL ? getdelim(&text, &capacity, '\0', pipe) : -1;
    if (pipe == NULL || pclose(pipe) != 0 || size < 0)
        fail(cluster, "%s failed", command);
    return text;
}

void pg_cluster_create_roles(struct pg_cluster *cluster)
{
    pg_cluster_execute(cluster, "postgres", "postgres",
                       "CREATE ROLE forge_owner LOGIN CREATEDB; CREATE ROLE forge_app LOGIN NOBYPASSRLS;"
                       "CREATE ROLE forge_maint LOGIN NOINHERIT; GRANT forge_owner TO forge_maint;"
                       "CREATE ROLE forge_backup LOGIN BYPASSRLS; GRANT pg_read_all_data TO forge_backup");
}

static const char *create_database(struct pg_cluster *cluster, const char *original, const char *owner)
{
    const char *name = keep(cluster, "test_%d", ++cluster->database_count);
    const char *sql = keep(cluster, "CREATE DATABASE %s TEMPLATE %s OWNER %s", name, original, owner);
    pg_cluster_execute(cluster, "postgres", "postgres", sql);
    if (strcmp(owner, "postgres") != 0) /* a database's owner does not own its schema public (PostgreSQL 15) */
        pg_cluster_execute(cluster, "postgres", name, keep(cluster, "ALTER SCHEMA public OWNER TO %s", owner));
    return name;
}

const char *pg_cluster_create_database(struct pg_cluster *cluster, const char *owner)
{
    return create_database(cluster, "template0", owner);
}

const char *pg_cluster_copy_database(struct pg_cluster *cluster, const char *original, const char *owner)
{
    return create_database(cluster, original, owner);
}
