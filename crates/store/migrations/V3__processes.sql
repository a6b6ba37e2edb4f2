-- What somebody wants of a managed process, other than what the settings say. Each start and each restart raises its
-- number, so that whoever manages sees a request once, however often it is asked or looked at.
CREATE TABLE process_wishes (
    name           text PRIMARY KEY,
    wanted         text NOT NULL CHECK (wanted IN ('settings', 'running', 'stopped')),
    start_number   bigint NOT NULL DEFAULT 0 CHECK (start_number >= 0),
    restart_number bigint NOT NULL DEFAULT 0 CHECK (restart_number >= 0),
    changed_at     timestamptz NOT NULL
);

-- How each managed process stands, by the host whose launches it is one of. What is here belongs to the generation:
-- it is written before that generation is launched, and only whoever manages writes it.
CREATE TABLE processes (
    host         text NOT NULL,
    name         text NOT NULL,
    generation   bigint NOT NULL CHECK (generation >= 1),
    state        text NOT NULL CHECK (state IN ('starting', 'running', 'stopping', 'backing_off', 'failed', 'stopped')),
    -- While it is stopping: it ends when it has nothing to do, and is not asked before.
    draining     boolean NOT NULL,
    launch       text NOT NULL,
    -- How to attach to the launch; null until it was accepted.
    record       json,
    pid          integer,
    started_at   timestamptz,
    -- Starts after an end that nobody asked for, ever and since `window_began`.
    restarts     bigint NOT NULL CHECK (restarts >= 0),
    attempts     integer NOT NULL CHECK (attempts >= 0),
    window_began timestamptz,
    next_start   timestamptz,
    -- The requests of `process_wishes` that were followed.
    start_seen   bigint NOT NULL,
    restart_seen bigint NOT NULL,
    exit_outcome text,
    exit_at      timestamptz,
    exit_unasked boolean,
    exit_lines   text,
    message      text,
    hint         text,
    changed_at   timestamptz NOT NULL,
    PRIMARY KEY (host, name),
    CHECK ((exit_outcome IS NULL) = (exit_at IS NULL) AND (exit_outcome IS NULL) = (exit_unasked IS NULL)),
    CHECK ((state = 'backing_off') = (next_start IS NOT NULL)),
    CHECK (NOT draining OR state = 'stopping')
) WITH (fillfactor = 50);

-- Who manages: the epoch rises with each taking of the advisory lock and fences the writes of who held it before.
-- `instance` tells the launches of this database from those of another one with the same state directory.
CREATE TABLE process_manager (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    instance text NOT NULL,
    epoch    bigint NOT NULL,
    host     text,
    since    timestamptz
);
INSERT INTO process_manager (instance, epoch) VALUES (md5(random()::text || clock_timestamp()::text), 0);

-- The agent that a managed process is.
CREATE INDEX agents_by_process ON agents (host, pid);
