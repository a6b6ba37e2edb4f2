-- What a worker in a sandbox may do to the database: four functions, for its own run, by a token.
--
-- Whoever calls them is hostile. So everything it gives is bounded here: sizes, counts, times and numbers that the rest
-- of openTiger has to be able to read, add up and count on. What a run says of what it used, and of its result, is a
-- claim: nothing makes it smaller than before, and nothing rests on it before the host has looked.

-- The hash of the run's token, what it has to be collected, and the size of its events so far.
ALTER TABLE runs ADD COLUMN token_hash bytea CHECK (octet_length(token_hash) = 32);
ALTER TABLE runs ADD COLUMN result_claim json;
ALTER TABLE runs ADD COLUMN event_bytes bigint NOT NULL DEFAULT 0;

-- The login that sandboxes use, one for each database. Only the owner of the tables can read it.
CREATE TABLE sandbox_login (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    role     text NOT NULL,
    password text NOT NULL
);
REVOKE ALL ON sandbox_login FROM PUBLIC;

CREATE SCHEMA sandbox;
REVOKE ALL ON SCHEMA sandbox FROM PUBLIC;

-- Whether the run is held under this number and the token is its own; held against deletion and revocation as in the
-- owner's own statements. Served by the primary keys.
CREATE FUNCTION sandbox.held(its_run uuid, its_lease bigint, its_token text) RETURNS boolean
LANGUAGE sql AS $$
    SELECT count(*) > 0 FROM (
        SELECT FROM leases l JOIN runs r ON r.id = l.run
        WHERE l.run = its_run AND l.number = its_lease AND l.revoked_at IS NULL
            AND length(its_token) = 32 AND r.token_hash = sha256(convert_to(its_token, 'UTF8'))
        FOR KEY SHARE OF l
    ) AS held
$$;

-- Notes what the run used where that is more than it said before, on its row and in the sum of the day. At most a
-- trillion of each and a million turns, so that no sum overflows.
CREATE FUNCTION sandbox.note_usage(its_run uuid, its_usage bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    used bigint[];
BEGIN
    SELECT array_agg(least(greatest(coalesce(u.amount, 0), 0),
            CASE u.place WHEN 6 THEN 1000000 ELSE 1000000000000 END) ORDER BY u.place)
        INTO used FROM unnest(its_usage) WITH ORDINALITY AS u (amount, place) WHERE u.place <= 7;
    IF cardinality(used) IS DISTINCT FROM 6 THEN
        RAISE EXCEPTION 'a usage has six numbers' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM FROM runs r WHERE r.id = its_run FOR NO KEY UPDATE;
    INSERT INTO spend AS s (day, executor, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
            cost_microusd, turns)
        SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date, t.executor,
            greatest(used[1] - r.input_tokens, 0), greatest(used[2] - r.output_tokens, 0),
            greatest(used[3] - r.cache_read_tokens, 0), greatest(used[4] - r.cache_write_tokens, 0),
            greatest(used[5] - r.cost_microusd, 0), greatest(used[6] - r.turns, 0)
        FROM runs r JOIN tasks t ON t.id = r.task
        WHERE r.id = its_run AND (used[1] > r.input_tokens OR used[2] > r.output_tokens
            OR used[3] > r.cache_read_tokens OR used[4] > r.cache_write_tokens
            OR used[5] > r.cost_microusd OR used[6] > r.turns)
        ON CONFLICT (day, executor) DO UPDATE SET
            input_tokens = s.input_tokens + excluded.input_tokens,
            output_tokens = s.output_tokens + excluded.output_tokens,
            cache_read_tokens = s.cache_read_tokens + excluded.cache_read_tokens,
            cache_write_tokens = s.cache_write_tokens + excluded.cache_write_tokens,
            cost_microusd = s.cost_microusd + excluded.cost_microusd,
            turns = s.turns + excluded.turns;
    IF FOUND THEN
        UPDATE runs r SET
            input_tokens = greatest(r.input_tokens, used[1]), output_tokens = greatest(r.output_tokens, used[2]),
            cache_read_tokens = greatest(r.cache_read_tokens, used[3]),
            cache_write_tokens = greatest(r.cache_write_tokens, used[4]),
            cost_microusd = greatest(r.cost_microusd, used[5]), turns = greatest(r.turns, used[6])
        WHERE r.id = its_run;
    END IF;
END
$$;

-- Accepts the run. Again changes nothing: the first answer may have been lost. False: leave it alone.
CREATE FUNCTION sandbox.start(its_run uuid, its_lease bigint, its_token text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NOT sandbox.held(its_run, its_lease, its_token) THEN
        RETURN false;
    END IF;
    UPDATE runs r SET status = 'running', started_at = coalesce(r.started_at, clock_timestamp())
        WHERE r.id = its_run AND r.status IN ('launching', 'running');
    RETURN FOUND;
END
$$;

-- Renews the lease for 30 s, notes what was used, and tells whether somebody asked to cancel and what is left of task
-- and day. No row: the run is not this worker's any more.
CREATE FUNCTION sandbox.heartbeat(its_run uuid, its_lease bigint, its_token text, its_usage bigint[])
RETURNS TABLE (
    cancel_requested boolean,
    input_tokens bigint, output_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint,
    cost_microusd bigint, turns bigint, own_reserved bigint,
    tokens bigint, cost bigint, reserved bigint, ends_at timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
BEGIN
    IF NOT sandbox.held(its_run, its_lease, its_token) THEN
        RETURN;
    END IF;
    UPDATE leases l SET expires_at = clock_timestamp() + interval '30 seconds' WHERE l.run = its_run;
    PERFORM sandbox.note_usage(its_run, its_usage);
    RETURN QUERY
        SELECT t.cancel_requested_at IS NOT NULL, before.input_tokens, before.output_tokens, before.cache_read_tokens,
            before.cache_write_tokens, before.cost_microusd, before.turns, l.cost_reserved_microusd,
            day.tokens, day.cost, day.reserved, day.ends_at
        FROM runs r
        JOIN tasks t ON t.id = r.task
        JOIN leases l ON l.run = r.id
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(o.input_tokens), 0)::bigint AS input_tokens,
                coalesce(sum(o.output_tokens), 0)::bigint AS output_tokens,
                coalesce(sum(o.cache_read_tokens), 0)::bigint AS cache_read_tokens,
                coalesce(sum(o.cache_write_tokens), 0)::bigint AS cache_write_tokens,
                coalesce(sum(o.cost_microusd), 0)::bigint AS cost_microusd,
                coalesce(sum(o.turns), 0)::bigint AS turns
            FROM runs o WHERE o.task = r.task AND o.lease_number < r.lease_number
        ) AS before
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(s.input_tokens + s.output_tokens + s.cache_read_tokens + s.cache_write_tokens), 0)::bigint
                    AS tokens,
                coalesce(sum(s.cost_microusd), 0)::bigint AS cost,
                (SELECT coalesce(sum(greatest(h.cost_reserved_microusd - hr.cost_microusd, 0)), 0)::bigint
                 FROM leases h JOIN runs hr ON hr.id = h.run WHERE h.cost_reserved_microusd > 0) AS reserved,
                (((clock_timestamp() AT TIME ZONE 'UTC')::date + 1)::timestamp AT TIME ZONE 'UTC') AS ends_at
            FROM spend s WHERE s.day = (clock_timestamp() AT TIME ZONE 'UTC')::date
        ) AS day
        WHERE r.id = its_run;
END
$$;

-- Writes events of a run that works; those that are there already stay as they are. `written`, `fenced`, or `full`
-- where the run has used up what it may keep: numbers up to a million, 256 MiB.
--
-- The end and the commit are the host's to tell. A time far from now is replaced: not every reader can express it.
CREATE FUNCTION sandbox.events(its_run uuid, its_lease bigint, its_token text, its_seqs bigint[],
    its_times timestamptz[], its_kinds text[], its_bodies json[]) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    count_of bigint := coalesce(cardinality(its_seqs), 0);
    bytes bigint;
BEGIN
    IF NOT sandbox.held(its_run, its_lease, its_token) THEN
        RETURN 'fenced';
    END IF;
    IF count_of NOT BETWEEN 1 AND 256 OR cardinality(its_times) IS DISTINCT FROM count_of
        OR cardinality(its_kinds) IS DISTINCT FROM count_of OR cardinality(its_bodies) IS DISTINCT FROM count_of THEN
        RAISE EXCEPTION 'between 1 and 256 events, please' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (
        SELECT FROM unnest(its_seqs, its_kinds, its_bodies) AS e (seq, kind, body)
        WHERE e.seq IS NULL OR e.seq < 1 OR e.body IS NULL OR e.kind IS NULL OR e.kind NOT IN (
                'phase', 'agent_started', 'text', 'tool_call', 'tool_result', 'tool_denied', 'model_retry',
                'rate_limit', 'agent_result', 'agent_exited', 'output', 'output_gap', 'verification', 'notice')
            -- Looking into JSON refuses all of it for a NUL anywhere in it, which agents do print.
            OR (replace(e.body::text, '\u0000', '')::json -> 'kind')::text IS DISTINCT FROM '"' || e.kind || '"'
            OR octet_length(e.body::text) > 1048576
    ) THEN
        RAISE EXCEPTION 'not an event of a run in a sandbox' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM unnest(its_seqs) AS e (seq) WHERE e.seq > 1000000) THEN
        RETURN 'full';
    END IF;
    SELECT sum(octet_length(e.body::text)) INTO bytes FROM unnest(its_bodies) AS e (body);
    UPDATE runs r SET event_bytes = r.event_bytes + bytes
        WHERE r.id = its_run AND r.status = 'running' AND r.event_bytes + bytes <= 268435456;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM runs r WHERE r.id = its_run AND r.status = 'running') THEN
            RETURN 'full';
        END IF;
        RETURN 'fenced';
    END IF;
    INSERT INTO run_events (run, seq, at, kind, event)
        SELECT its_run, e.seq,
            CASE WHEN e.at BETWEEN clock_timestamp() - interval '1 day' AND clock_timestamp() + interval '1 day'
                THEN e.at ELSE clock_timestamp() END,
            e.kind, e.body
        FROM unnest(its_seqs, its_times, its_kinds, its_bodies) AS e (seq, at, kind, body)
        ON CONFLICT (run, seq) DO NOTHING;
    RETURN 'written';
END
$$;

-- Notes what the run says of itself, and what is to be collected: `running` to `collecting`. The first report counts;
-- another one is answered as the first was, and changes nothing. False: the run is not this worker's any more.
CREATE FUNCTION sandbox.report(its_run uuid, its_lease bigint, its_token text, its_outcome text, its_message text,
    its_hint text, its_retry_at timestamptz, its_usage bigint[], its_session text, its_commit text, its_pack text,
    its_pack_bytes bigint, its_files_changed bigint, its_insertions bigint, its_deletions bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NOT sandbox.held(its_run, its_lease, its_token) THEN
        RETURN false;
    END IF;
    IF its_outcome IS NULL OR (its_outcome = 'succeeded') IS DISTINCT FROM (its_commit IS NOT NULL) THEN
        RAISE EXCEPTION 'success comes with a result, and nothing else does'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF its_commit IS NOT NULL AND (
        its_commit !~ '^([0-9a-f]{40}|[0-9a-f]{64})$' OR coalesce(its_pack, '') !~ '^pack-([0-9a-f]{40}|[0-9a-f]{64})[.]pack$'
        OR coalesce(its_pack_bytes, -1) NOT BETWEEN 0 AND 1000000000000
        OR coalesce(its_files_changed, -1) NOT BETWEEN 0 AND 4294967295
        OR coalesce(its_insertions, -1) NOT BETWEEN 0 AND 1000000000000
        OR coalesce(its_deletions, -1) NOT BETWEEN 0 AND 1000000000000
    ) THEN
        RAISE EXCEPTION 'not a result' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM sandbox.note_usage(its_run, its_usage);
    UPDATE runs r SET status = 'collecting', outcome = its_outcome, message = left(its_message, 4000),
        hint = left(its_hint, 4000), session = left(its_session, 200),
        retry_at = CASE WHEN its_retry_at BETWEEN clock_timestamp() - interval '1 day'
            AND clock_timestamp() + interval '31 days' THEN its_retry_at END,
        result_claim = CASE WHEN its_commit IS NOT NULL THEN json_build_object('commit', its_commit, 'pack', its_pack,
            'pack_bytes', its_pack_bytes, 'files_changed', its_files_changed, 'insertions', its_insertions,
            'deletions', its_deletions) END
        WHERE r.id = its_run AND r.status = 'running';
    RETURN FOUND OR EXISTS (SELECT FROM runs r WHERE r.id = its_run AND r.status = 'collecting');
END
$$;

-- Names mean what they mean here, whatever the caller's session says; and nobody may call any of it yet.
DO $$
DECLARE
    one regprocedure;
BEGIN
    FOR one IN SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'sandbox'::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp', one, current_schema());
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', one);
    END LOOP;
END
$$;
