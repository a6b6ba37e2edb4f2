-- What somebody said when they asked for a task once more.
-- `attempts_before` are the attempts used up before that: a retry has a budget of its own.
ALTER TABLE tasks
    ADD COLUMN retries          integer NOT NULL DEFAULT 0 CHECK (retries >= 0),
    ADD COLUMN attempts_before  integer NOT NULL DEFAULT 0 CHECK (attempts_before >= 0),
    ADD COLUMN feedback         text,
    ADD COLUMN continue_session boolean NOT NULL DEFAULT false;
