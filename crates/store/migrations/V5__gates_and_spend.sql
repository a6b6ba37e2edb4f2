-- One row for each executor in each environment: whether its runs are handed out. A missing row is an open gate.
-- `retry_at` is when a closed gate lets one run through to try; `trial_run` is that run while it is under way.
CREATE TABLE executor_gates (
    environment text NOT NULL CHECK (environment IN ('host', 'sandbox')),
    executor    text NOT NULL CHECK (executor IN ('claude_code', 'opencode')),
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed', 'trial')),
    cause       text CHECK (cause IN ('quota', 'login', 'overload', 'launch')),
    -- Failures in a row while it is open.
    failures    integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    -- How often it closed in a row.
    closures    integer NOT NULL DEFAULT 0 CHECK (closures >= 0),
    message     text,
    hint        text,
    closed_at   timestamptz,
    retry_at    timestamptz,
    trial_run   uuid,
    trial_since timestamptz,
    -- When it was last opened, or asked to be tried anew.
    renewed_at  timestamptz NOT NULL,
    changed_at  timestamptz NOT NULL,
    PRIMARY KEY (environment, executor),
    CHECK (state = 'open' OR (cause IS NOT NULL AND closed_at IS NOT NULL)),
    CHECK ((state = 'closed') = (retry_at IS NOT NULL)),
    CHECK ((state = 'trial') = (trial_run IS NOT NULL)),
    CHECK ((state = 'trial') = (trial_since IS NOT NULL))
);
INSERT INTO executor_gates (environment, executor, renewed_at, changed_at)
SELECT environment, executor, clock_timestamp(), clock_timestamp()
FROM (VALUES ('host'), ('sandbox')) AS e (environment), (VALUES ('claude_code'), ('opencode')) AS x (executor);

-- Where a run is, and with that which gate its end concerns.
ALTER TABLE runs ADD COLUMN environment text NOT NULL DEFAULT 'host'
    CHECK (environment IN ('host', 'sandbox'));

-- Runs that cost no attempt because their executor was at fault; not held against the task either.
ALTER TABLE tasks ADD COLUMN excused integer NOT NULL DEFAULT 0 CHECK (excused >= 0);

-- Such a task waits in the queue now, at its executor's gate.
UPDATE tasks SET not_before = clock_timestamp() WHERE status = 'blocked' AND block_reason = 'login_required';

-- The claim passes over closed executors by index, so each has a line of its own; an area has one row for each.
ALTER TABLE ready ADD COLUMN executor text;
UPDATE ready r SET executor = t.executor FROM tasks t WHERE t.id = r.task;
ALTER TABLE ready ALTER COLUMN executor SET NOT NULL;
DROP INDEX ready_by_rank;
CREATE INDEX ready_by_rank ON ready (role, executor, rank, task);
DROP INDEX ready_area;
CREATE UNIQUE INDEX ready_area ON ready (area, executor) WHERE area IS NOT NULL;
DROP INDEX tasks_area_line;
CREATE INDEX tasks_area_line ON tasks (target_area, executor, rank, id)
    WHERE status = 'queued' AND pending_dependencies = 0 AND not_before IS NULL AND target_area IS NOT NULL;
INSERT INTO ready (task, role, executor, rank, area)
SELECT DISTINCT ON (t.target_area, t.executor) t.id, t.role, t.executor, t.rank, t.target_area
FROM tasks t
WHERE t.status = 'queued' AND t.pending_dependencies = 0 AND t.not_before IS NULL AND t.target_area IS NOT NULL
    AND NOT EXISTS (SELECT FROM tasks o WHERE o.target_area = t.target_area AND o.status = 'running')
    AND NOT EXISTS (SELECT FROM ready r WHERE r.area = t.target_area AND r.executor = t.executor)
ORDER BY t.target_area, t.executor, t.rank, t.id;

-- What was used on each day of UTC, summed up as runs tell it.
CREATE TABLE spend (
    day                date NOT NULL,
    executor           text NOT NULL,
    input_tokens       bigint NOT NULL DEFAULT 0,
    output_tokens      bigint NOT NULL DEFAULT 0,
    cache_read_tokens  bigint NOT NULL DEFAULT 0,
    cache_write_tokens bigint NOT NULL DEFAULT 0,
    cost_microusd      bigint NOT NULL DEFAULT 0,
    turns              bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (day, executor)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

-- The share of the day's money that a run may use up; gone with the lease.
ALTER TABLE leases ADD COLUMN cost_reserved_microusd bigint NOT NULL DEFAULT 0 CHECK (cost_reserved_microusd >= 0);
