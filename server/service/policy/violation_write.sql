-- $1: the organization, $2: now. A finding that was written before stays as it is, whatever became of it. The arrays stand in the order of
-- finding_hash.
-- name: violation_write :command
INSERT INTO policy_violations (organization_id, id, project_id, policy_id, policy_version, policy_name, rule, action, severity, mode, stage,
                               message, ranges, prompt_id, prompt_version, content_hash, trace_id, span_id, label, model, actor_id,
                               finding_hash, created_at)
SELECT $1, v.id, v.project_id, v.policy_id, v.policy_version, v.policy_name, v.rule, v.action, v.severity, v.mode, v.stage, v.message,
       v.ranges::jsonb -> 'ranges', v.prompt_id, NULLIF(v.prompt_version, 0), v.content_hash, v.trace_id, v.span_id, v.label, v.model,
       v.actor_id, v.finding_hash, $2
FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::integer[], $7::text[], $8::text[], $9::text[], $10::integer[], $11::text[], $12::text[],
            $13::text[], $14::text[], $15::uuid[], $16::integer[], $17::bytea[], $18::bytea[], $19::bytea[], $20::text[], $21::text[],
            $22::uuid[], $23::bytea[])
     WITH ORDINALITY AS v (id, project_id, policy_id, policy_version, policy_name, rule, action, severity, mode, stage, message, ranges,
                           prompt_id, prompt_version, content_hash, trace_id, span_id, label, model, actor_id, finding_hash, ordinal)
ORDER BY v.ordinal
ON CONFLICT (organization_id, finding_hash) DO NOTHING;
