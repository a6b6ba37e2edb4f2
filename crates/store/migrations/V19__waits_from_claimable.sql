-- Since when a task could be taken: what it depends on is done, it does not cool down, its area is free. How long a
-- queue made it wait is counted from there, for each of its runs.
ALTER TABLE ready ADD COLUMN since timestamptz NOT NULL DEFAULT clock_timestamp();
-- The same of the task when this run was claimed; absent for runs of before.
ALTER TABLE runs ADD COLUMN claimable_at timestamptz;

CREATE OR REPLACE FUNCTION keep_measures_of_removed_runs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO removed_runs AS m (measure, environment, executor, role, outcome, bucket, runs, seconds)
    SELECT x.measure, r.environment, t.executor, t.role, r.outcome,
        CASE x.measure WHEN 'ended' THEN 0 ELSE width_bucket(x.seconds, run_time_bounds()) END,
        count(*), sum(x.seconds)
    FROM removed r JOIN tasks t ON t.id = r.task
    CROSS JOIN LATERAL (VALUES
        ('ended', 0::float8),
        ('wait', extract(epoch FROM r.created_at - coalesce(r.claimable_at,
            CASE WHEN r.lease_number = 1 THEN t.created_at END))::float8),
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
