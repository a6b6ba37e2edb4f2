-- What each living process has in force, for people who wonder why two of them disagree. Nothing but reports depends on
-- these rows.
CREATE TABLE process_settings (
    id           uuid PRIMARY KEY,
    program      text NOT NULL,
    host         text NOT NULL,
    pid          integer NOT NULL,
    start_ticks  bigint NOT NULL,
    boot_id      text NOT NULL,
    version      text NOT NULL,
    revision     bigint,
    -- The keys its environment sets.
    environment  json NOT NULL,
    -- For each key a short salted sum of its value.
    fingerprints json NOT NULL,
    started_at   timestamptz NOT NULL,
    last_beat    timestamptz NOT NULL
);

-- What the sums of this database are salted with, so that those of another say nothing here.
CREATE TABLE settings_salt (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    salt     bytea NOT NULL
);
INSERT INTO settings_salt (salt) VALUES (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
