/* `forged rewrap`: secrets are sealed anew after the key-encryption key was changed. */
#ifndef SERVER_APP_REWRAP_H
#define SERVER_APP_REWRAP_H

/* Takes the words and flags after the command's name and returns the exit code. */
int app_rewrap(int argument_count, char *const arguments[]);

#endif
