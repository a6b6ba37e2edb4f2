-- What people see of runs in numbers only ever grows, though old runs are removed: what is removed is added up here.
-- One row for each measure of runs that are alike: that they ended, and how long they waited, took to start, and lasted.
CREATE TABLE removed_runs (
    measure     text NOT NULL CHECK (measure IN ('ended', 'wait', 'start', 'duration')),
    environment text NOT NULL,
    executor    text NOT NULL,
    role        text NOT NULL,
    outcome     text NOT NULL,
    -- The place of the time among `run_time_bounds()`; 0 for `ended`.
    bucket      integer NOT NULL,
    runs        bigint NOT NULL,
    seconds     float8 NOT NULL,
    PRIMARY KEY (measure, environment, executor, role, outcome, bucket)
);

-- Seconds that tell apart what is soon, slow, and stuck.
CREATE FUNCTION run_time_bounds() RETURNS float8[] LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY[0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400]::float8[]
$$;

-- In the database and not in the code that removes runs, so that no other way of removing them forgets it. The task goes
-- after its runs, so it is there to be asked.
CREATE FUNCTION keep_measures_of_removed_runs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO removed_runs AS m (measure, environment, executor, role, outcome, bucket, runs, seconds)
    SELECT x.measure, r.environment, t.executor, t.role, r.outcome,
        CASE x.measure WHEN 'ended' THEN 0 ELSE width_bucket(x.seconds, run_time_bounds()) END,
        count(*), sum(x.seconds)
    FROM removed r JOIN tasks t ON t.id = r.task
    CROSS JOIN LATERAL (VALUES
        ('ended', 0::float8),
        ('wait', CASE WHEN r.lease_number = 1 THEN extract(epoch FROM r.created_at - t.created_at)::float8 END),
        ('start', extract(epoch FROM r.started_at - r.created_at)::float8),
        ('duration', extract(epoch FROM r.ended_at - r.started_at)::float8)
    ) AS x (measure, seconds)
    WHERE r.status = 'ended' AND x.seconds IS NOT NULL
    GROUP BY 1, 2, 3, 4, 5, 6
    ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (measure, environment, executor, role, outcome, bucket) DO UPDATE SET
        runs = m.runs + excluded.runs, seconds = m.seconds + excluded.seconds;
    RETURN NULL;
END $$;

CREATE TRIGGER runs_keep_measures AFTER DELETE ON runs REFERENCING OLD TABLE AS removed FOR EACH STATEMENT
    EXECUTE FUNCTION keep_measures_of_removed_runs();

-- A sandbox's login may call neither.
REVOKE ALL ON FUNCTION run_time_bounds(), keep_measures_of_removed_runs() FROM PUBLIC;

-- How far the runs that ended were told to a collector of traces. Whoever tells holds the row.
CREATE TABLE trace_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    ended_at timestamptz NOT NULL,
    run      uuid NOT NULL
);
INSERT INTO trace_cursor (ended_at, run) VALUES (clock_timestamp(), '00000000-0000-0000-0000-000000000000');
CREATE INDEX runs_by_end ON runs (ended_at, id) WHERE ended_at IS NOT NULL;
