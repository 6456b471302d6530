-- revision: ${revision}
-- revises: ${revises}
-- created: ${created}
-- message: ${message}

-- The ${direction} half. Runs in one transaction as forge_owner. Header lines that may follow "message":
--   "serves: <revision>"      (both files) servers that know that revision go on serving after this one
--   "transaction: none"       for CREATE INDEX CONCURRENTLY; such a file must stand being run again from its start
-- New tenant tables: organization_id leads every key and index, row-level security is enabled and forced, policy "tenant", grants to
-- forge_app. Rows are changed between ALTER TABLE .. NO FORCE ROW LEVEL SECURITY and FORCE. migrations/README.md has the rules.

${statements}
