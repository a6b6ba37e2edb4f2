-- Lists: one index for each filter that may stand alone and leaves much out. What else is asked for is looked at row by
-- row, over a bounded stretch of one of these.
CREATE INDEX tasks_by_area ON tasks (target_area, seq) WHERE target_area IS NOT NULL;
-- The beginning only: an index takes no text of any length.
CREATE INDEX tasks_by_repository ON tasks ((left(coalesce(repository ->> 'path', repository ->> 'url'), 600)), seq);
CREATE INDEX tasks_by_creation ON tasks (created_at);
CREATE INDEX runs_by_creation ON runs (created_at);
CREATE INDEX runs_by_task ON runs (task, seq);
CREATE INDEX runs_by_outcome ON runs (outcome, seq) WHERE outcome IS NOT NULL;
CREATE INDEX runs_by_agent ON runs (agent, seq) WHERE agent IS NOT NULL;

-- The few events that say how a run went, among the many that say what its agent did.
CREATE INDEX run_events_milestones ON run_events (run, seq) WHERE kind IN ('phase', 'verification', 'ended');

-- Cleaning up: what is over, by when it ended.
CREATE INDEX tasks_finished ON tasks (finished_at, seq) WHERE finished_at IS NOT NULL;
CREATE INDEX agents_retired ON agents (retired_at, id) WHERE retired_at IS NOT NULL;

-- What people shall be told. A row is written in the transaction that makes it true, so that neither is there without
-- the other; who wants to hear of it, and how, is decided when it is delivered.
-- No reference to `tasks` and `runs`: a notice may outlive what it is about.
CREATE TABLE notices (
    id              uuid PRIMARY KEY,
    seq             bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    event           text NOT NULL CHECK (event IN ('done', 'failed', 'blocked', 'paused', 'resumed', 'test')),
    task            uuid,
    run             uuid,
    title           text,
    -- What is paused or goes on again.
    subject         text,
    block_reason    text,
    reason          text,
    commit_id       text,
    branch          text,
    -- When what is paused goes on by itself.
    until           timestamptz,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'unwanted', 'failed')),
    -- Which way it went out already; the other one may still be open.
    webhook_sent_at timestamptz,
    command_sent_at timestamptz,
    attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    last_error      text,
    -- When it is tried next. Whoever tries it moves this ahead by its lease, and what it writes carries `attempts`.
    next_at         timestamptz,
    created_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    CHECK ((state = 'pending') = (next_at IS NOT NULL)),
    CHECK ((state = 'pending') = (ended_at IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX notices_due ON notices (next_at, seq) WHERE next_at IS NOT NULL;
CREATE INDEX notices_by_state ON notices (state, seq);
CREATE INDEX notices_ended ON notices (ended_at, seq) WHERE ended_at IS NOT NULL;

-- In the database and not in the code that moves tasks, because there are several such places and none may forget it.
-- A wait for a quota ends by itself and is none of these; neither is a retry, which leaves the task queued.
CREATE FUNCTION note_task_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO notices (id, event, task, run, title, block_reason, reason, commit_id, branch, next_at, created_at)
    VALUES (gen_random_uuid(), NEW.status, NEW.id, OLD.current_run, NEW.title, NEW.block_reason, NEW.reason,
        NEW.commit_id, NEW.branch, clock_timestamp(), clock_timestamp());
    RETURN NULL;
END $$;

CREATE TRIGGER tasks_note_end AFTER UPDATE OF status ON tasks FOR EACH ROW
    WHEN (NEW.status IN ('done', 'failed', 'blocked')
        AND (OLD.status, OLD.block_reason) IS DISTINCT FROM (NEW.status, NEW.block_reason)
        AND NEW.block_reason IS DISTINCT FROM 'quota_wait')
    EXECUTE FUNCTION note_task_end();
