-- Tasks: one row for each piece of work somebody asked for.
-- `seq` rises with creation, parents before the tasks that depend on them: the order in which rows are locked,
-- and the order of lists.
CREATE TABLE tasks (
    id                   uuid PRIMARY KEY,
    seq                  bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    title                text NOT NULL,
    goal                 text NOT NULL,
    context              json,
    role                 text NOT NULL CHECK (role IN ('worker', 'tester', 'docser')),
    priority             integer NOT NULL CHECK (priority BETWEEN -100 AND 100),
    risk                 text NOT NULL CHECK (risk IN ('low', 'medium', 'high')),
    target_area          text CHECK (target_area <> ''),
    repository           json NOT NULL,
    base_branch          text,
    verification         json NOT NULL,
    timebox_ms           bigint CHECK (timebox_ms > 0),
    executor             text NOT NULL CHECK (executor IN ('claude_code', 'opencode')),
    model                text,
    max_attempts         integer NOT NULL CHECK (max_attempts >= 1),
    token_limit          bigint CHECK (token_limit >= 0),
    cost_limit_microusd  bigint CHECK (cost_limit_microusd >= 0),
    created_by           text NOT NULL,
    -- Smaller is taken earlier: microseconds of creation, moved ahead by the task's points.
    rank                 bigint NOT NULL,
    status               text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'running', 'done', 'failed', 'blocked', 'cancelled')),
    block_reason         text
        CHECK (block_reason IN ('dependency_failed', 'dependency_cancelled', 'quota_wait', 'login_required',
                                'attempts_exhausted')),
    attempts             integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    pending_dependencies integer NOT NULL DEFAULT 0 CHECK (pending_dependencies >= 0),
    -- Set while the task cools down or waits for a quota; cleared by whoever lets it go on.
    not_before           timestamptz,
    reason               text,
    lease_number         bigint NOT NULL DEFAULT 0 CHECK (lease_number >= 0),
    current_run          uuid,
    cancel_requested_at  timestamptz,
    cancel_reason        text,
    commit_id            text,
    branch               text,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    finished_at          timestamptz,
    CHECK ((status = 'blocked') = (block_reason IS NOT NULL)),
    CHECK ((status = 'running') = (current_run IS NOT NULL)),
    CHECK ((status IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- The safety net under the lanes: the database itself refuses a second running task of an area.
CREATE UNIQUE INDEX tasks_running_area ON tasks (target_area)
    WHERE status = 'running' AND target_area IS NOT NULL;
-- The line behind an area: who is next.
CREATE INDEX tasks_area_line ON tasks (target_area, rank, id)
    WHERE status = 'queued' AND pending_dependencies = 0 AND not_before IS NULL AND target_area IS NOT NULL;
-- Tasks that come back by time.
CREATE INDEX tasks_cooling ON tasks (not_before) WHERE not_before IS NOT NULL;
-- Lists, newest first.
CREATE INDEX tasks_by_status ON tasks (status, seq);
CREATE INDEX tasks_by_role ON tasks (role, seq);
CREATE INDEX tasks_by_status_and_role ON tasks (status, role, seq);

-- The primary key is the reverse edge: "who waits for this one" is what a finish asks.
CREATE TABLE task_dependencies (
    dependency uuid NOT NULL REFERENCES tasks (id),
    task       uuid NOT NULL REFERENCES tasks (id),
    PRIMARY KEY (dependency, task),
    CHECK (dependency <> task)
);
CREATE INDEX task_dependencies_by_task ON task_dependencies (task, dependency);

-- Only what may start now; one row for each area. Narrow, so that its churn is cheap.
CREATE TABLE ready (
    task uuid PRIMARY KEY,
    role text NOT NULL,
    rank bigint NOT NULL,
    area text
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_analyze_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ready_by_rank ON ready (role, rank, task);
CREATE UNIQUE INDEX ready_area ON ready (area) WHERE area IS NOT NULL;

-- One row for each target area ever named; it is locked, never changed.
CREATE TABLE lanes (
    area text PRIMARY KEY
);

-- One row that every claim locks, so that the limit on running tasks holds across dispatchers.
CREATE TABLE claim_gate (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row)
);
INSERT INTO claim_gate DEFAULT VALUES;

-- One row for each life of an agent process. `run` is null while it is idle.
CREATE TABLE agents (
    id            uuid PRIMARY KEY,
    name          text NOT NULL,
    role          text NOT NULL CHECK (role IN ('worker', 'tester', 'docser')),
    host          text NOT NULL,
    pid           integer NOT NULL,
    start_ticks   bigint NOT NULL,
    boot_id       text NOT NULL,
    version       text NOT NULL,
    run           uuid,
    idle_since    timestamptz,
    registered_at timestamptz NOT NULL,
    last_beat     timestamptz NOT NULL,
    retired_at    timestamptz,
    CHECK ((run IS NULL) = (idle_since IS NOT NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX agents_idle ON agents (role, idle_since, id) WHERE run IS NULL AND retired_at IS NULL;
CREATE INDEX agents_present ON agents (name, id) WHERE retired_at IS NULL;
CREATE INDEX agents_present_by_host ON agents (host, id) WHERE retired_at IS NULL;

-- One row for each life of a dispatcher; `paused` says why it claims nothing.
CREATE TABLE dispatchers (
    id          uuid PRIMARY KEY,
    host        text NOT NULL,
    pid         integer NOT NULL,
    start_ticks bigint NOT NULL,
    boot_id     text NOT NULL,
    version     text NOT NULL,
    paused      text,
    started_at  timestamptz NOT NULL,
    last_beat   timestamptz NOT NULL
) WITH (fillfactor = 50);

-- One row for each claim of a task.
CREATE TABLE runs (
    id                 uuid PRIMARY KEY,
    seq                bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    task               uuid NOT NULL REFERENCES tasks (id),
    lease_number       bigint NOT NULL CHECK (lease_number >= 1),
    agent              uuid REFERENCES agents (id),
    host               text,
    status             text NOT NULL CHECK (status IN ('launching', 'running', 'collecting', 'ended')),
    outcome            text CHECK (outcome IN ('succeeded', 'no_change', 'nothing_done', 'verification_failed',
        'agent_failed', 'tools_denied', 'login_required', 'key_rejected', 'quota_exceeded', 'provider_overloaded',
        'idle_timeout', 'timed_out', 'limit_reached', 'out_of_memory', 'cancelled', 'launch_failed',
        'checkout_failed', 'collect_failed', 'worker_lost', 'interrupted')),
    message            text,
    hint               text,
    retry_at           timestamptz,
    input_tokens       bigint NOT NULL DEFAULT 0,
    output_tokens      bigint NOT NULL DEFAULT 0,
    cache_read_tokens  bigint NOT NULL DEFAULT 0,
    cache_write_tokens bigint NOT NULL DEFAULT 0,
    cost_microusd      bigint NOT NULL DEFAULT 0,
    turns              bigint NOT NULL DEFAULT 0,
    session            text,
    commit_id          text,
    branch             text,
    base_commit        text,
    created_at         timestamptz NOT NULL,
    started_at         timestamptz,
    ended_at           timestamptz,
    -- What the end of the run meant for its task; the answer to a second finish.
    ending             json,
    UNIQUE (task, lease_number),
    CHECK ((status = 'ended') = (ended_at IS NOT NULL)),
    CHECK (status <> 'ended' OR (outcome IS NOT NULL AND ending IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX runs_by_status ON runs (status, seq);
CREATE INDEX runs_launching ON runs (created_at) WHERE status = 'launching';

-- One row for each run that somebody holds; gone when the run ends.
CREATE TABLE leases (
    run        uuid PRIMARY KEY REFERENCES runs (id),
    task       uuid NOT NULL UNIQUE REFERENCES tasks (id),
    number     bigint NOT NULL,
    agent      uuid,
    host       text,
    expires_at timestamptz NOT NULL,
    -- Set when the run was taken from its worker; only whoever recovers it may end it then.
    revoked_at timestamptz
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX leases_by_expiry ON leases (expires_at);
CREATE INDEX leases_by_host ON leases (host);
CREATE INDEX leases_revoked ON leases (revoked_at) WHERE revoked_at IS NOT NULL;

-- `json`, not `jsonb`: an agent may print the character NUL, which `jsonb` refuses.
CREATE TABLE run_events (
    run   uuid NOT NULL REFERENCES runs (id),
    seq   bigint NOT NULL CHECK (seq >= 1),
    at    timestamptz NOT NULL,
    kind  text NOT NULL,
    event json NOT NULL,
    PRIMARY KEY (run, seq)
);
