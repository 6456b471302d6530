/* The script of `forged migrate upgrade <target> --sql`. Each revision begins with a guard, so that a script which is run twice, from the
 * wrong revision or past a failed step stops by itself. */
#include "db/migrate_core.h"

#include <stdio.h>

void db_migrate_script_begin(FILE *out)
{
    fputs("-- Made by `forged migrate upgrade --sql`. Run it as the owner of the database:\n"
          "--   psql \"$DATABASE_OWNER_URL\" --no-psqlrc --set ON_ERROR_STOP=1 --file <this file>\n\n"
          "SET search_path = public;\n"
          "SET client_min_messages = warning;\n\n",
          out);
    fputs(DB_SCHEMA_REVISIONS_SQL, out);
}

static void guard_write(const struct db_migration *item, FILE *out)
{
    fprintf(out,
            "DO $guard$\n"
            "BEGIN\n"
            "    PERFORM pg_advisory_xact_lock(" DB_MIGRATOR_LOCK ");\n"
            "    IF coalesce((SELECT revision FROM public.schema_revisions ORDER BY position DESC LIMIT 1), '') <> '%s' THEN\n"
            "        RAISE EXCEPTION 'revision %s comes after %s, and the database is not there';\n"
            "    END IF;\n"
            "END\n"
            "$guard$;\n",
            item->revises, item->revision, item->revises[0] != '\0' ? item->revises : "an empty database");
}

void db_migrate_script_revision(const struct db_migration_chain *chain, size_t index, FILE *out)
{
    const struct db_migration *item = &chain->items[index];
    char hash[DB_SHA256_TEXT_SIZE];
    db_migration_sha256_text(item, hash);
    fprintf(out, "\n-- Running upgrade %s -> %s, %s\n\n", item->revises, item->revision, item->message);
    if (!item->up_is_alone)
        fputs("BEGIN;\nSET LOCAL lock_timeout = '900ms';\n", out);
    guard_write(item, out);
    fprintf(out, "\n%s\n\n", item->up_sql);
    fprintf(out, "INSERT INTO public.schema_revisions (revision, position, sha256, serves) VALUES ('%s', %zu, '\\x%s', ", item->revision,
            index + 1, hash);
    if (item->serves[0] != '\0')
        fprintf(out, "'%s');\n", item->serves);
    else
        fputs("NULL);\n", out);
    if (!item->up_is_alone)
        fputs("COMMIT;\n", out);
}
