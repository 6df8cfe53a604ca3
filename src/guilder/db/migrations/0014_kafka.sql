-- Kafka as the log (DESIGN section 5): what tells this outbox's messages from those of another one.

-- Positions mean something within one stream only. A database that was made anew or restored, or a rebuilt topic, begins a new
-- one, and whatever a topic still holds of the stream before is nobody's.
CREATE TABLE log_stream (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id       text COLLATE "C" NOT NULL
);

GRANT SELECT, INSERT, UPDATE ON log_stream TO guilder_app;
GRANT SELECT ON log_stream TO guilder_reader;
