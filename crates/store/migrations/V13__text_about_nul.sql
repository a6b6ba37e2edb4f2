-- `sandbox.events` took the text `\u0000`, which source code holds, for the character, and refused what was left.

-- Writes events of a run that works; those that are there already stay as they are. `written`, `fenced`, or `full`
-- where the run has used up what it may keep: numbers up to a million, 256 MiB.
--
-- The end and the commit are the host's to tell. A time far from now is replaced: not every reader can express it.
CREATE OR REPLACE FUNCTION sandbox.events(its_run uuid, its_lease bigint, its_token text, its_seqs bigint[],
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
            -- Looking into JSON refuses all of it for a NUL anywhere in it, which agents do print. After an even number
            -- of backslashes it is one; after an odd number it is text about one, as in a regular expression.
            OR (regexp_replace(e.body::text, '(?<!\\)((?:\\\\)*)\\u0000', '\1', 'g')::json -> 'kind')::text
                IS DISTINCT FROM '"' || e.kind || '"'
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

-- The body is new and with it what belongs to it; who owns the function and who may call it stays.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp',
        'sandbox.events(uuid, bigint, text, bigint[], timestamptz[], text[], json[])'::regprocedure, current_schema());
END
$$;
