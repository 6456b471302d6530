/* SQL text taken apart into statements, for files that run without a transaction. Pure of the database. */
#ifndef SERVER_DB_MIGRATE_STATEMENT_H
#define SERVER_DB_MIGRATE_STATEMENT_H

/* Where the first statement of text ends: behind its semicolon, or at the end of the text. Knows quotes, dollar quotes, comments and
 * parentheses, not the semicolons of a BEGIN ATOMIC body. Always moves on unless text is empty. Fuzzed. */
const char *db_statement_end(const char *text);

#endif
