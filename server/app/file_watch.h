/* Notices that one of a few files was changed or replaced: certificates that somebody renews. */
#ifndef SERVER_APP_FILE_WATCH_H
#define SERVER_APP_FILE_WATCH_H

#include <stdbool.h>
#include <sys/stat.h>

enum { APP_FILE_WATCH_MAX = 4 };

struct app_file_watch {
    int fd; /* readable when something happened in one of the folders; -1: not watching */
    const char *paths[APP_FILE_WATCH_MAX];
    struct stat seen[APP_FILE_WATCH_MAX];
};

/* Watches the folders of these files (NULL ones are left out), so that files replaced by rename, and the swapped symbolic links of
 * Kubernetes, are seen. paths must outlive the watch. Without inotify fd is -1 and changes are not noticed. */
void app_file_watch_init(struct app_file_watch *watch, const char *const paths[APP_FILE_WATCH_MAX]);
void app_file_watch_done(struct app_file_watch *watch);

/* Reads what fd holds. */
void app_file_watch_drain(struct app_file_watch *watch);
/* True when a file is another one, or has other content, than at the last look. */
bool app_file_watch_has_changed(struct app_file_watch *watch);

#endif
