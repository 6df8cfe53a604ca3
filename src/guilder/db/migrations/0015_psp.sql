-- Notifications of PSPs, as they came, once each: a reason to ask, and the proof that somebody told us.
CREATE TABLE psp_notification (
    connector   text COLLATE "C" NOT NULL,
    -- The PSP's own id; a repeated one is the same notification.
    id          text COLLATE "C" NOT NULL,
    reference   text COLLATE "C" NOT NULL,
    attempt     text COLLATE "C",
    -- The body whose signature was checked.
    body        bytea NOT NULL,
    received_at bigint NOT NULL,
    -- When the PSP was about to be asked because of it; null: whoever took it in died before, and the PSP sends it again.
    heeded_at   bigint,
    PRIMARY KEY (connector, id)
);
CREATE INDEX psp_notification_received ON psp_notification (received_at);

GRANT SELECT, INSERT, DELETE ON psp_notification TO guilder_app;
GRANT UPDATE (heeded_at) ON psp_notification TO guilder_app;
GRANT SELECT (connector, id, reference, attempt, received_at, heeded_at) ON psp_notification TO guilder_reader;
