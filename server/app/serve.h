/* forged serve: puts the parts together, waits for signals, takes them apart again. */
#ifndef SERVER_APP_SERVE_H
#define SERVER_APP_SERVE_H

/* The flags after "serve"; returns the exit code. */
int app_serve(int argument_count, char *const arguments[]);

#endif
