-- Readers at the merchant's tills, and where they stand. Facts are shapes.facts structs as bytes.

CREATE TABLE terminal_location (
    id         text COLLATE "C" PRIMARY KEY,
    account    text COLLATE "C" NOT NULL,
    livemode   boolean NOT NULL,
    created_at bigint NOT NULL,
    facts      bytea NOT NULL
);
CREATE INDEX terminal_location_by_account ON terminal_location (account, livemode, id);

CREATE TABLE terminal_reader (
    id         text COLLATE "C" PRIMARY KEY,
    account    text COLLATE "C" NOT NULL,
    livemode   boolean NOT NULL,
    location   text COLLATE "C" REFERENCES terminal_location ON DELETE RESTRICT,
    created_at bigint NOT NULL,
    facts      bytea NOT NULL
);
CREATE INDEX terminal_reader_by_account ON terminal_reader (account, livemode, id);
CREATE INDEX terminal_reader_by_location ON terminal_reader (location);

GRANT SELECT, INSERT, UPDATE, DELETE ON terminal_location, terminal_reader TO guilder_app;
GRANT SELECT ON terminal_location, terminal_reader TO guilder_reader;
