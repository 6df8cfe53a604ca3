-- How long PSPs take, added up by day: `guilder psp latency` reads it. Bucket -1 counts what was never answered.
CREATE TABLE psp_latency (
    connector text COLLATE "C" NOT NULL,
    -- Empty for connecting.
    operation text COLLATE "C" NOT NULL,
    wait      text COLLATE "C" NOT NULL CHECK (wait IN ('connect', 'read', 'total')),
    -- Since 1970.
    day       integer NOT NULL,
    bucket    smallint NOT NULL,
    -- A late answer takes one from bucket -1, which may have been counted the day before.
    count     bigint NOT NULL,
    PRIMARY KEY (connector, operation, wait, day, bucket)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON psp_latency TO guilder_app;
GRANT SELECT ON psp_latency TO guilder_reader;

-- What became of each try: when, and why it failed.
ALTER TABLE log_parked
    ADD COLUMN history jsonb NOT NULL DEFAULT '[]';
-- Whose entry it was; null when nobody can tell, because it cannot be read.
ALTER TABLE dead_letter
    ADD COLUMN account text COLLATE "C",
    ADD COLUMN livemode boolean,
    ADD COLUMN history jsonb NOT NULL DEFAULT '[]',
    -- What it was replayed with, where a person had mended it.
    ADD COLUMN edited bytea;
CREATE INDEX dead_letter_of_account ON dead_letter (account, livemode, id);
