-- The words of a prompt become these, by deleting what went and inserting what came: most words stay when a prompt changes. Whoever runs this
-- holds the prompt's lock. In order, so that neighbours in the index are written together.
-- name: prompt_words_store :command
WITH removed AS (
    DELETE FROM prompt_words WHERE organization_id = $1 AND prompt_id = $2 AND word NOT IN (SELECT unnest($4::text[]))
)
INSERT INTO prompt_words (organization_id, project_id, word, prompt_id)
SELECT $1, $3, w.word, $2
FROM unnest($4) w (word)
WHERE w.word NOT IN (SELECT word FROM prompt_words WHERE organization_id = $1 AND prompt_id = $2)
ORDER BY w.word;
