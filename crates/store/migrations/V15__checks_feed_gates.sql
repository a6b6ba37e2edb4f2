-- What providers last told of their accounts' limits; for people, and nothing is decided by it.
CREATE TABLE account_quotas (
    environment text NOT NULL CHECK (environment IN ('host', 'sandbox')),
    executor    text NOT NULL CHECK (executor IN ('claude_code', 'opencode')),
    provider    text NOT NULL,
    windows     jsonb NOT NULL,
    told_at     timestamptz NOT NULL,
    PRIMARY KEY (environment, executor, provider)
);

-- Whether an agent's command line works in an environment of a host: what a self-test without a model last found there.
-- `subject` names all that decides about it, so that another image or program is tested anew. A row without a verdict
-- was only asked for.
CREATE TABLE self_tests (
    host        text NOT NULL,
    environment text NOT NULL CHECK (environment IN ('host', 'sandbox')),
    executor    text NOT NULL CHECK (executor IN ('claude_code', 'opencode')),
    subject     text,
    passed      boolean,
    verdict     jsonb,
    tested_at   timestamptz,
    -- Failures in a row of this subject.
    failures    integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    -- When one that failed is done again by itself.
    retry_at    timestamptz,
    -- When somebody asked for it, until it is done.
    asked_at    timestamptz,
    PRIMARY KEY (host, environment, executor),
    CHECK ((passed IS NULL) = (tested_at IS NULL)),
    CHECK ((passed IS NULL) = (verdict IS NULL)),
    CHECK ((passed IS NULL) = (subject IS NULL))
);
