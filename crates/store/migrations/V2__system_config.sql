-- Settings that people changed; what is not here has its default.
CREATE TABLE system_config (
    key        text PRIMARY KEY,
    value      json NOT NULL,
    updated_at timestamptz NOT NULL,
    updated_by text NOT NULL
);

-- Rises with each change: the token of the optimistic lock.
CREATE TABLE config_revision (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint NOT NULL
);
INSERT INTO config_revision (revision) VALUES (0);

-- Who changed what, when; secrets are masked before they get here.
CREATE TABLE config_audit (
    seq       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    revision  bigint NOT NULL,
    at        timestamptz NOT NULL,
    who       text NOT NULL,
    key       text NOT NULL,
    old_value json,
    new_value json
);
CREATE INDEX config_audit_by_key ON config_audit (key, seq);
