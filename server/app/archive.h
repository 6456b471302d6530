/* `forged maintain archive-executions` and `restore-executions` (db/archive.h). */
#ifndef SERVER_APP_ARCHIVE_H
#define SERVER_APP_ARCHIVE_H

/* Each takes the words and flags after its name and returns the exit code. */
int app_archive_executions(int argument_count, char *const arguments[]);
int app_restore_executions(int argument_count, char *const arguments[]);

#endif
