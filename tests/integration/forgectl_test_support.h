/* Running forgectl in tests: a home of its own, its output with ids and times replaced, so that it can be compared. */
#ifndef FORGECTL_TEST_SUPPORT_H
#define FORGECTL_TEST_SUPPORT_H

#include "support/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Sets "NAME=value" in the environment of the next runs, which has nothing else but PATH; NULL = "". */
void forgectl_set(const char *name, const char *value);
/* The folder that is HOME and where lines run. */
void forgectl_make_home(void);
void forgectl_remove_home(void);
/* The path of a file of the home. */
void forgectl_home_path(const char *name, char *out, size_t size);
/* Writes a file of the home. */
void forgectl_write_file(const char *name, const char *text);

/* Group setup and teardown of cmocka: a world with one server, a home, and the environment to reach it as the admin of world.home. */
extern struct world world;
int forgectl_open_world(void **state);
/* The same with so many servers; the first is the one of the environment. */
void forgectl_open_servers(unsigned count);
int forgectl_close_world(void **state);

/* Runs a shell line in the home; "forgectl" in it is the one of the build. */
void forgectl_shell(struct child_output *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Runs a line and compares all of it; NULL texts are not compared. */
void expect_output(int exit_code, const char *out_text, const char *error_text, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Applies a manifest that is refused: exit code 1, nothing printed, and the message among the problems. */
void expect_apply_refused(const char *manifest, const char *message);
/* Ids become <id>, times <time>; the text shrinks in place. */
char *normalise(char *text);

/* Runs forgectl on a terminal of 80 columns of its own to its end; the exit code. seen gets what the terminal shows, with "\r\n" as line
 * breaks. on_output, unless NULL, is called whenever there is more of it, to type on the terminal. */
int forgectl_on_terminal(const char *const arguments[], char *seen, size_t size, void (*on_output)(int terminal, const char *seen));

#endif
