-- The log: an outbox with gapless positions (DESIGN section 5). Topics: 1 attempts (wakes the executors), 2 events.

-- Who may send, and who reads: one heartbeat, one takeover. A taken-over sender never comes back; it goes on under a new id.
CREATE TABLE sender (
    id       text COLLATE "C" PRIMARY KEY,
    role     text NOT NULL,
    epoch    bigint NOT NULL,
    beat     bigint NOT NULL,
    lost     boolean NOT NULL DEFAULT false,
    -- Since when; a day later the row is deleted, which says the same to whoever asks for it.
    lost_at  bigint CHECK (lost = (lost_at IS NOT NULL))
) WITH (fillfactor = 35);

-- The position of the last entry of each partition; locked last of all, so positions become visible in commit order.
CREATE TABLE log_head (
    topic     smallint NOT NULL,
    partition smallint NOT NULL,
    head      bigint NOT NULL,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 20);
INSERT INTO log_head SELECT topic, partition, 0 FROM generate_series(1, 2) topic, generate_series(0, 15) partition;

CREATE TABLE log_entry (
    topic      smallint NOT NULL,
    partition  smallint NOT NULL,
    position   bigint NOT NULL,
    key        text COLLATE "C" NOT NULL,
    payload    bytea NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (topic, partition, position)
);

-- What a consumer has applied, and who holds the partition for it. At or below applied_to is a duplicate, a jump is a loss.
CREATE TABLE log_consumer (
    consumer   text COLLATE "C" NOT NULL,
    topic      smallint NOT NULL,
    partition  smallint NOT NULL,
    applied_to bigint NOT NULL,
    sender     text COLLATE "C",
    epoch      bigint,
    -- Where its holder reads: from Kafka if its process has one, or from the outbox in any case. `guilder log move` changes it.
    log        text NOT NULL DEFAULT 'kafka' CHECK (log IN ('kafka', 'postgres')),
    -- Whether entries wait for it. The relay only copies them: nothing is kept and nobody is held up for what it has not published.
    awaited    boolean NOT NULL DEFAULT true,
    PRIMARY KEY (consumer, partition)
) WITH (fillfactor = 20);
INSERT INTO log_consumer SELECT 'executor', 1, partition, 0, NULL, NULL FROM generate_series(0, 15) partition;
INSERT INTO log_consumer SELECT 'refunds', 2, partition, 0, NULL, NULL FROM generate_series(0, 15) partition;

-- A key whose entry failed: later entries of that key wait behind it, others pass.
CREATE TABLE log_parked (
    consumer   text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    partition  smallint NOT NULL,
    position   bigint NOT NULL,
    topic      smallint NOT NULL,
    -- What is handled when its time comes: what the entry says, or what a person has put in its place. The log may be tidied meanwhile.
    payload    bytea NOT NULL,
    -- Only a key's first waiting entry is tried; the others have tries 0 and wait.
    tries      integer NOT NULL DEFAULT 0,
    retry_at   bigint NOT NULL,
    reason     text NOT NULL DEFAULT '',
    -- Set when the schedule has run out: the key stays closed until a person replays or discards the entry.
    dead_letter text COLLATE "C" UNIQUE,
    PRIMARY KEY (consumer, key, position)
);
CREATE INDEX log_parked_due ON log_parked (consumer, retry_at);

CREATE TABLE dead_letter (
    id         text COLLATE "C" PRIMARY KEY,
    consumer   text COLLATE "C" NOT NULL,
    topic      smallint NOT NULL,
    partition  smallint NOT NULL,
    position   bigint NOT NULL,
    key        text COLLATE "C" NOT NULL,
    payload    bytea NOT NULL,
    reason     text NOT NULL,
    trace      text NOT NULL,
    tries      integer NOT NULL,
    created_at bigint NOT NULL,
    state      text NOT NULL CHECK (state IN ('open', 'replayed', 'discarded')),
    closed_at  bigint
);
CREATE INDEX dead_letter_open ON dead_letter (created_at) WHERE state = 'open';

-- Each account counts its own events; `/v1/events` reads by that number.
CREATE TABLE event_head (
    account  text COLLATE "C" NOT NULL,
    livemode boolean NOT NULL,
    head     bigint NOT NULL,
    PRIMARY KEY (account, livemode)
) WITH (fillfactor = 20);

CREATE TABLE event (
    id              text COLLATE "C" PRIMARY KEY,
    account         text COLLATE "C" NOT NULL,
    livemode        boolean NOT NULL,
    number          bigint NOT NULL,
    type            text COLLATE "C" NOT NULL,
    created_at      bigint NOT NULL,
    request_id      text COLLATE "C",
    idempotency_key text COLLATE "C",
    -- shapes.facts.EventFacts
    facts           bytea NOT NULL,
    UNIQUE (account, livemode, number)
);

-- One announcement: what the outbox entry of topic 2 and the account's event list hold.
CREATE TYPE event_in AS (
    item int, id text, account text, type text, facts bytea, request_id text, idempotency_key text
);

-- Append events to their accounts' lists. p_ok tells which items of the flush stand. Commits nothing by itself.
CREATE FUNCTION event_append(p_livemode boolean, p_now bigint, p_events event_in[], p_ok boolean[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_account text;
    v_count int;
    v_base bigint;
    v_accounts text[];
    v_bases bigint[];
BEGIN
    -- One statement an account, which locks, reads and counts at once: whoever waited counts on from what the other left.
    FOR v_account, v_count IN
        SELECT account, count(*) FROM unnest(p_events) WHERE p_ok[item] GROUP BY account ORDER BY account
    LOOP
        INSERT INTO event_head AS h VALUES (v_account, p_livemode, v_count)
        ON CONFLICT (account, livemode) DO UPDATE SET head = h.head + v_count RETURNING h.head - v_count INTO v_base;
        v_accounts := v_accounts || v_account;
        v_bases := v_bases || v_base;
    END LOOP;
    INSERT INTO event (id, account, livemode, number, type, created_at, request_id, idempotency_key, facts)
    SELECT e.id, e.account, p_livemode, v_bases[array_position(v_accounts, e.account)] + row_number() OVER (PARTITION BY e.account ORDER BY e.ord),
           e.type, p_now, e.request_id, e.idempotency_key, e.facts
    FROM unnest(p_events) WITH ORDINALITY AS e(item, id, account, type, facts, request_id, idempotency_key, ord)
    WHERE p_ok[e.item];
END $$;

CREATE TYPE log_in AS (item int, topic smallint, partition smallint, key text, payload bytea);

-- Append entries to the log with the next positions of their partitions. Must be a flush's last lock.
CREATE FUNCTION log_append(p_now bigint, p_entries log_in[], p_ok boolean[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM (SELECT DISTINCT topic, partition FROM unnest(p_entries) WHERE p_ok[item] ORDER BY 1, 2) e
    CROSS JOIN LATERAL (
        SELECT 1 FROM log_head z WHERE z.topic = e.topic AND z.partition = e.partition FOR UPDATE OFFSET 0) h;
    WITH incoming AS (
        SELECT e.*, row_number() OVER (PARTITION BY e.topic, e.partition ORDER BY e.ord) AS n
        FROM unnest(p_entries) WITH ORDINALITY AS e(item, topic, partition, key, payload, ord)
        WHERE p_ok[e.item]
    ), counted AS (
        SELECT topic, partition, max(n) AS n FROM incoming GROUP BY topic, partition
    ), found AS (
        SELECT c.n, h.t FROM counted c CROSS JOIN LATERAL (
            SELECT z.ctid AS t FROM log_head z WHERE z.topic = c.topic AND z.partition = c.partition OFFSET 0) h
    ), moved AS (
        UPDATE log_head h SET head = h.head + f.n FROM found f WHERE h.ctid = f.t
        RETURNING h.topic, h.partition, h.head - f.n AS base
    )
    INSERT INTO log_entry (topic, partition, position, key, payload, created_at)
    SELECT i.topic, i.partition, m.base + i.n, i.key, i.payload, p_now
    FROM incoming i JOIN moved m ON m.topic = i.topic AND m.partition = i.partition;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON sender, log_head, log_consumer, log_parked, event_head TO guilder_app;
GRANT SELECT, INSERT, DELETE ON log_entry TO guilder_app;
GRANT SELECT, INSERT ON event TO guilder_app;
GRANT SELECT, INSERT, UPDATE ON dead_letter TO guilder_app;
GRANT SELECT ON sender, log_head, log_consumer, log_parked, event_head, log_entry, event, dead_letter TO guilder_reader;
GRANT EXECUTE ON FUNCTION event_append, log_append TO guilder_app;
