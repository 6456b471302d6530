/* The commands of forged that are not serve: they connect, do one thing, say what they did and end. */
#ifndef SERVER_APP_ADMIN_H
#define SERVER_APP_ADMIN_H

/* Each takes the words and flags after the command's name and returns the exit code. */
int app_migrate(int argument_count, char *const arguments[]);
int app_bootstrap(int argument_count, char *const arguments[]);

#endif
