-- A gate that closes pauses its executor, one that opens lets it go on. A trial in between, and what comes of it, is no
-- news: whoever was told of the pause is told of its end.
CREATE FUNCTION note_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO notices (id, event, subject, reason, until, next_at, created_at)
    VALUES (gen_random_uuid(), CASE WHEN NEW.state = 'open' THEN 'resumed' ELSE 'paused' END,
        NEW.environment || '/' || NEW.executor,
        CASE WHEN NEW.state <> 'open' THEN coalesce(NEW.message, NEW.cause) END,
        CASE WHEN NEW.state <> 'open' THEN NEW.retry_at END, clock_timestamp(), clock_timestamp());
    RETURN NULL;
END $$;

CREATE TRIGGER executor_gates_note AFTER UPDATE OF state ON executor_gates FOR EACH ROW
    WHEN ((OLD.state = 'open') <> (NEW.state = 'open'))
    EXECUTE FUNCTION note_gate();
