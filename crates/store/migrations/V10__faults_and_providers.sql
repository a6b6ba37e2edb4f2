-- A fault of the host that carries a run is no word about the agent's program.
ALTER TABLE runs DROP CONSTRAINT runs_outcome_check;
ALTER TABLE runs ADD CONSTRAINT runs_outcome_check CHECK (outcome IN ('succeeded', 'no_change', 'nothing_done',
    'verification_failed', 'agent_failed', 'tools_denied', 'login_required', 'key_rejected', 'quota_exceeded',
    'provider_overloaded', 'idle_timeout', 'timed_out', 'limit_reached', 'out_of_memory', 'cancelled',
    'launch_failed', 'checkout_failed', 'collect_failed', 'worker_lost', 'interrupted', 'repository_missing',
    'repository_denied', 'host_not_trusted', 'base_branch_missing', 'remote_unreachable', 'remote_hung_up',
    'push_refused', 'branch_taken', 'repository_too_large', 'disk_full', 'host_failed'));

-- The provider of a task's model, where its executor has several. Empty: the settings name it, or nobody does.
ALTER TABLE tasks ADD COLUMN provider text NOT NULL GENERATED ALWAYS AS (
    CASE WHEN executor = 'opencode' AND position('/' IN model) > 1 THEN left(split_part(model, '/', 1), 100) ELSE '' END
) STORED;
-- The one whose gate the end of the run concerns, as the claim saw it.
ALTER TABLE runs ADD COLUMN provider text NOT NULL DEFAULT '';
UPDATE runs r SET provider = t.provider FROM tasks t
WHERE t.id = r.task AND r.status <> 'ended' AND t.provider <> '';

-- A gate for each provider. The row of one is made when there is something to say about it.
ALTER TABLE executor_gates ADD COLUMN provider text NOT NULL DEFAULT '';
ALTER TABLE executor_gates DROP CONSTRAINT executor_gates_pkey;
ALTER TABLE executor_gates ADD PRIMARY KEY (environment, executor, provider);
CREATE OR REPLACE FUNCTION note_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO notices (id, event, subject, reason, until, next_at, created_at)
    VALUES (gen_random_uuid(), CASE WHEN NEW.state = 'open' THEN 'resumed' ELSE 'paused' END,
        concat_ws('/', NEW.environment, NEW.executor, nullif(NEW.provider, '')),
        CASE WHEN NEW.state <> 'open' THEN coalesce(NEW.message, NEW.cause) END,
        CASE WHEN NEW.state <> 'open' THEN NEW.retry_at END, clock_timestamp(), clock_timestamp());
    RETURN NULL;
END $$;

-- And a line for each, and for each in an area.
ALTER TABLE ready ADD COLUMN provider text NOT NULL DEFAULT '';
UPDATE ready r SET provider = t.provider FROM tasks t WHERE t.id = r.task AND t.provider <> '';
ALTER TABLE ready ALTER COLUMN provider DROP DEFAULT;
DROP INDEX ready_by_rank;
CREATE INDEX ready_by_rank ON ready (role, executor, provider, rank, task);
DROP INDEX ready_area;
CREATE UNIQUE INDEX ready_area ON ready (area, executor, provider) WHERE area IS NOT NULL;
DROP INDEX tasks_area_line;
CREATE INDEX tasks_area_line ON tasks (target_area, executor, provider, rank, id)
    WHERE status = 'queued' AND pending_dependencies = 0 AND not_before IS NULL AND target_area IS NOT NULL;
INSERT INTO ready (task, role, executor, provider, rank, area)
SELECT DISTINCT ON (t.target_area, t.executor, t.provider) t.id, t.role, t.executor, t.provider, t.rank, t.target_area
FROM tasks t
WHERE t.status = 'queued' AND t.pending_dependencies = 0 AND t.not_before IS NULL AND t.target_area IS NOT NULL
    AND NOT EXISTS (SELECT FROM tasks o WHERE o.target_area = t.target_area AND o.status = 'running')
    AND NOT EXISTS (
        SELECT FROM ready r WHERE r.area = t.target_area AND r.executor = t.executor AND r.provider = t.provider
    )
ORDER BY t.target_area, t.executor, t.provider, t.rank, t.id;
