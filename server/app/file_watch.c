#include "app/file_watch.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

static void watch_folder(int fd, const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        snprintf(folder, sizeof folder, ".");
    else
        snprintf(folder, sizeof folder, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    inotify_add_watch(fd, folder, IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE);
}

static void look(const char *path, struct stat *out)
{
    memset(out, 0, sizeof *out);
    if (path != NULL && stat(path, out) != 0)
        memset(out, 0, sizeof *out);
}

void app_file_watch_init(struct app_file_watch *watch, const char *const paths[APP_FILE_WATCH_MAX])
{
    watch->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    for (int i = 0; i < APP_FILE_WATCH_MAX; i++) {
        watch->paths[i] = paths[i];
        look(paths[i], &watch->seen[i]);
        if (watch->fd >= 0 && paths[i] != NULL)
            watch_folder(watch->fd, paths[i]);
    }
}

void app_file_watch_done(struct app_file_watch *watch)
{
    if (watch->fd >= 0)
        close(watch->fd);
    watch->fd = -1;
}

void app_file_watch_drain(struct app_file_watch *watch)
{
    char events[4096];
    while (watch->fd >= 0 && read(watch->fd, events, sizeof events) > 0)
        ;
}

bool app_file_watch_has_changed(struct app_file_watch *watch)
{
    bool changed = false;
    for (int i = 0; i < APP_FILE_WATCH_MAX; i++) {
        struct stat now;
        look(watch->paths[i], &now);
        const struct stat *seen = &watch->seen[i];
        changed = changed || now.st_ino != seen->st_ino || now.st_dev != seen->st_dev || now.st_size != seen->st_size ||
                  now.st_mtim.tv_sec != seen->st_mtim.tv_sec || now.st_mtim.tv_nsec != seen->st_mtim.tv_nsec;
        watch->seen[i] = now;
    }
    return changed;
}
