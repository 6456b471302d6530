/* What statements read on a PostgreSQL of the test's own, as forge_app plans and runs them under row-level security. What tests assert is
 * what is read, not time. */
#ifndef TESTS_SUPPORT_PLAN_FIXTURE_H
#define TESTS_SUPPORT_PLAN_FIXTURE_H

#include "sql_statements.h"

#include <stdbool.h>
#include <stddef.h>

/* Organizations, as SQL: forge_app is bound to the first. */
#define HOME "'01890000-0000-7000-8000-00000000000a'"
#define FOREIGN "'01890000-0000-7000-8000-00000000000b'"

/* A database with the schema and what these commands of a superuser make, NULL at their end; statistics are fresh. */
void plan_fixture_open(const char *const *commands);
void plan_fixture_close(void);
/* As forge_app. */
void plan_fixture_execute(const char *sql);

enum { PLAN_DAYS_MAX = 64 };
struct plan_reading {
    double rows;                  /* that scans of tables gave or threw away */
    double buffers;               /* pages of the whole statement */
    double found;                 /* rows of the answer */
    char days[PLAN_DAYS_MAX][32]; /* partitions of spans that were opened */
    size_t day_count;
};
/* Which plan: PostgreSQL may take the one for the values of a call as well as the one for any. */
enum plan_mode { PLAN_CUSTOM, PLAN_GENERIC, PLAN_MODES };
extern const char *const plan_mode_names[PLAN_MODES];
/* Runs a statement with the organization and these arguments, which are SQL. Fails where a table is read from end to end; the plan for any
 * values must be without such a step, that for some may have it where these values never lead. Of a day of spans it counts where more than
 * a few rows are read. */
struct plan_reading plan_read(enum plan_mode mode, enum sql_id id, const char *arguments);
/* Either plan finds so many rows, reads no more than this, and opens so many days. */
void plan_expect(enum sql_id id, const char *arguments, unsigned found, unsigned rows_max, unsigned buffers_max, unsigned days);

#endif
