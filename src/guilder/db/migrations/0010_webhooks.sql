-- Webhooks: endpoints, the deliveries that each event makes, and what came of every try.

CREATE TABLE webhook_endpoint (
    id              text COLLATE "C" PRIMARY KEY,
    account         text COLLATE "C" NOT NULL,
    livemode        boolean NOT NULL,
    url             text NOT NULL,
    -- Types by name, or '*': all of Stripe's. Types of our own are sent only when they are named.
    enabled_events  text[] NOT NULL CHECK (cardinality(enabled_events) > 0),
    description     text,
    -- Pairs in the merchant's order, msgpack.
    metadata        bytea NOT NULL,
    api_version     text COLLATE "C",
    -- Deleted endpoints stay, so that their deliveries can be shown.
    state           text COLLATE "C" NOT NULL CHECK (state IN ('enabled', 'disabled', 'deleted')),
    -- Null: the merchant did it. Else why we did.
    disabled_reason text COLLATE "C" CHECK (disabled_reason IN ('failing', 'gone')),
    -- Sealed, bound to merchant, mode and endpoint. After a rotation both sign until previous_until.
    secret          bytea NOT NULL,
    previous_secret bytea,
    previous_until  bigint,
    -- Raised by every change, so that whoever delivers reads again what has changed.
    version         integer NOT NULL DEFAULT 1,
    created_at      bigint NOT NULL,
    CHECK ((previous_secret IS NULL) = (previous_until IS NULL))
);
CREATE INDEX webhook_endpoint_by_account ON webhook_endpoint (account, livemode, id);

-- One row for each endpoint that is not deleted or still has deliveries to call off: its counter, and who delivers.
CREATE TABLE webhook_lane (
    endpoint      text COLLATE "C" PRIMARY KEY REFERENCES webhook_endpoint ON DELETE RESTRICT,
    -- The number of its last delivery; locked before numbers are given, so that they have no gaps.
    head          bigint NOT NULL DEFAULT 0,
    -- Up to here no delivery waits for its first try. Only saves reading: what was delivered says so itself.
    done_to       bigint NOT NULL DEFAULT 0,
    -- Who delivers: one sender at a time, so no two processes ever send the same delivery at once. Lost senders are tidied away.
    sender        text COLLATE "C" REFERENCES sender ON DELETE SET NULL,
    epoch         bigint,
    -- The first failure since the last success, and how many there were.
    failing_since bigint,
    failures      integer NOT NULL DEFAULT 0
) WITH (fillfactor = 20);
CREATE INDEX webhook_lane_failing ON webhook_lane (failing_since) WHERE failing_since IS NOT NULL;

-- One event for one endpoint. No index on anything that a success changes, so that it stays HOT.
CREATE TABLE webhook_delivery (
    id           text COLLATE "C" NOT NULL,
    account      text COLLATE "C" NOT NULL,
    livemode     boolean NOT NULL,
    endpoint     text COLLATE "C" NOT NULL,
    number       bigint NOT NULL,
    event        text COLLATE "C" NOT NULL,
    type         text COLLATE "C" NOT NULL,
    -- How many endpoints the event goes to: `pending_webhooks` of the body, the same in every delivery of it.
    fanout       smallint NOT NULL,
    state        text COLLATE "C" NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'exhausted', 'canceled')),
    tries        smallint NOT NULL DEFAULT 0,
    created_at   bigint NOT NULL,
    -- Of the try that succeeded; the others are in webhook_attempt.
    sent_at      bigint,
    status       smallint,
    milliseconds integer,
    answer       text,
    -- Where it went: the endpoint's address may be another one by now.
    url          text,
    PRIMARY KEY (account, livemode, id),
    -- The receiver counts by this: no number twice, none left out.
    CONSTRAINT webhook_delivery_number UNIQUE (endpoint, number),
    -- Each event once for each endpoint.
    CONSTRAINT webhook_delivery_event UNIQUE (event, endpoint)
) WITH (fillfactor = 70);

-- Deliveries that have failed at least once: when the next try is due; null when there is none any more.
CREATE TABLE webhook_retry (
    endpoint text COLLATE "C" NOT NULL,
    number   bigint NOT NULL,
    account  text COLLATE "C" NOT NULL,
    livemode boolean NOT NULL,
    due_at   bigint,
    PRIMARY KEY (endpoint, number)
);
CREATE INDEX webhook_retry_due ON webhook_retry (endpoint, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX webhook_retry_by_account ON webhook_retry (account, livemode);

-- Tries that failed, and successes that a delivery by hand came after.
CREATE TABLE webhook_attempt (
    endpoint     text COLLATE "C" NOT NULL,
    number       bigint NOT NULL,
    try          smallint NOT NULL,
    sent_at      bigint NOT NULL,
    milliseconds integer NOT NULL,
    -- Null: no answer came; `failure` says why.
    status       smallint,
    failure      text,
    answer       text,
    -- Where it went; null: nothing could be sent.
    url          text,
    PRIMARY KEY (endpoint, number, try)
);

INSERT INTO log_consumer SELECT 'webhooks', topic, partition, head, NULL, NULL FROM log_head WHERE topic = 2;

-- `wildcard` is '*' for a type that '*' means, null for one that must be named.
CREATE TYPE webhook_event_in AS (account text, livemode boolean, event text, type text, wildcard text);

-- Write the deliveries of these events, numbered in their order; returns how many. Commits nothing by itself.
-- A delivery's id follows from event and endpoint: ordered by the event's time, and the same however often it is computed.
CREATE FUNCTION webhook_fan_out(p_now bigint, p_events webhook_event_in[]) RETURNS int
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_endpoints text[];
    v_count int;
BEGIN
    v_endpoints := ARRAY(
        SELECT e.id FROM (SELECT DISTINCT account, livemode FROM unnest(p_events)) a
        JOIN webhook_endpoint e ON e.account = a.account AND e.livemode = a.livemode AND e.state = 'enabled'
        WHERE EXISTS (SELECT FROM unnest(p_events) x
                      WHERE x.account = e.account AND x.livemode = e.livemode AND e.enabled_events && ARRAY[x.type, x.wildcard])
        ORDER BY e.id);
    IF cardinality(v_endpoints) = 0 THEN
        RETURN 0;
    END IF;
    -- Locked in a statement of its own: the next one's snapshot is younger than the lock that this one waited for.
    PERFORM 1 FROM webhook_lane WHERE endpoint = ANY(v_endpoints) ORDER BY endpoint FOR UPDATE;
    WITH matched AS (
        SELECT x.*, e.id AS endpoint, count(*) OVER (PARTITION BY x.event) AS fanout,
               row_number() OVER (PARTITION BY e.id ORDER BY x.ord) AS n
        FROM unnest(p_events) WITH ORDINALITY AS x(account, livemode, event, type, wildcard, ord)
        JOIN webhook_endpoint e ON e.id = ANY(v_endpoints) AND e.account = x.account AND e.livemode = x.livemode
        WHERE e.enabled_events && ARRAY[x.type, x.wildcard]
    ), counted AS (
        SELECT endpoint, max(n) AS n FROM matched GROUP BY endpoint
    ), moved AS (
        UPDATE webhook_lane l SET head = l.head + c.n FROM counted c WHERE l.endpoint = c.endpoint
        RETURNING l.endpoint, l.head - c.n AS base
    )
    INSERT INTO webhook_delivery (id, account, livemode, endpoint, number, event, type, fanout, created_at)
    SELECT 'whd_' || substr(split_part(m.event, '_', 2), 1, 9) || substr(md5(m.event || ' ' || m.endpoint), 1, 15),
           m.account, m.livemode, m.endpoint, b.base + m.n, m.event, m.type, m.fanout, p_now
    FROM matched m JOIN moved b ON b.endpoint = m.endpoint
    ORDER BY m.endpoint, m.n;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;

-- Take endpoints that nobody delivers to, up to this sender's share among the living ones of its role, and say which it has.
-- p_done: how far those that it has are done; p_read and p_events: the last delivery of each that it has read, null for none yet.
-- Where that is not there any more a failover has taken it back: the lane is `lost`, what is said of it does not count, and it has to
-- be read anew. A sender that was taken over gets nothing, and so learns that it has lost all.
CREATE FUNCTION webhook_hold(
    p_sender text, p_epoch bigint, p_role text, p_endpoints text[], p_done bigint[], p_read bigint[], p_events text[]
)
RETURNS TABLE (endpoint text, done_to bigint, version int, share int, lost boolean)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    v_share int;
    v_held int;
    v_lost text[];
BEGIN
    PERFORM 1 FROM sender s WHERE s.id = p_sender AND s.epoch = p_epoch AND NOT s.lost FOR SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- Lanes are always locked by id, here, when deliveries are written, and when results are stored.
    PERFORM 1 FROM webhook_lane l WHERE l.endpoint = ANY(p_endpoints) ORDER BY l.endpoint FOR UPDATE;
    v_lost := ARRAY(
        SELECT l.endpoint FROM unnest(p_endpoints, p_done, p_read, p_events) AS d(endpoint, done, read, event)
        JOIN webhook_lane l ON l.endpoint = d.endpoint
        WHERE CASE WHEN d.read IS NULL THEN l.done_to < d.done ELSE coalesce((
            SELECT z.event <> d.event FROM webhook_delivery z WHERE z.endpoint = d.endpoint AND z.number = d.read), true) END);
    UPDATE webhook_lane l SET done_to = d.done FROM unnest(p_endpoints, p_done) AS d(endpoint, done)
    WHERE l.endpoint = d.endpoint AND l.sender = p_sender AND l.epoch = p_epoch AND l.done_to < d.done AND l.endpoint <> ALL (v_lost);
    SELECT ceil((SELECT count(*) FROM webhook_lane)::numeric / greatest(count(*), 1)) INTO v_share
    FROM sender s WHERE s.role = p_role AND NOT s.lost;
    SELECT count(*) INTO v_held FROM webhook_lane l WHERE l.sender = p_sender AND l.epoch = p_epoch;
    UPDATE webhook_lane l SET sender = p_sender, epoch = p_epoch WHERE l.endpoint IN (
        SELECT f.endpoint FROM webhook_lane f
        WHERE f.sender IS NULL OR EXISTS (SELECT FROM sender s WHERE s.id = f.sender AND (s.lost OR s.epoch <> f.epoch))
        ORDER BY f.endpoint LIMIT greatest(v_share - v_held, 0) FOR UPDATE SKIP LOCKED);
    RETURN QUERY SELECT l.endpoint, l.done_to, e.version, v_share, l.endpoint = ANY (v_lost)
        FROM webhook_lane l JOIN webhook_endpoint e ON e.id = l.endpoint
        WHERE l.sender = p_sender AND l.epoch = p_epoch ORDER BY l.endpoint;
END $$;

-- What is next for some endpoints: the deliveries behind `after` whatever their state, and those whose next try is due.
CREATE FUNCTION webhook_next(p_now bigint, p_endpoints text[], p_after bigint[], p_room int[], p_due int[])
RETURNS TABLE (endpoint text, number bigint, event text, fanout smallint, tries smallint, account text, livemode boolean, created_at bigint,
               state text)
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    RETURN QUERY
    SELECT d.endpoint, d.number, d.event, d.fanout, d.tries, d.account, d.livemode, d.created_at, d.state
    FROM unnest(p_endpoints, p_after, p_room) AS m(endpoint, after, room)
    CROSS JOIN LATERAL (
        SELECT * FROM webhook_delivery z WHERE z.endpoint = m.endpoint AND z.number > m.after ORDER BY z.number LIMIT m.room) d
    WHERE m.room > 0;
    RETURN QUERY
    SELECT d.endpoint, d.number, d.event, d.fanout, d.tries, d.account, d.livemode, d.created_at, 'due'
    FROM unnest(p_endpoints, p_due) AS m(endpoint, room)
    CROSS JOIN LATERAL (
        SELECT r.number FROM webhook_retry r WHERE r.endpoint = m.endpoint AND r.due_at <= p_now ORDER BY r.due_at LIMIT m.room) r
    JOIN webhook_delivery d ON d.endpoint = m.endpoint AND d.number = r.number
    WHERE m.room > 0 AND d.state = 'pending';
END $$;

-- What came of one try. `due_at` null on a failure: there is no further try. After a failover a number may be another event's.
CREATE TYPE webhook_result_in AS (
    endpoint text, number bigint, event text, try smallint, ok boolean, sent_at bigint, milliseconds int, status smallint, failure text, answer text,
    due_at bigint, url text
);

-- Store what came of these tries; one that is stored already, or that another has overtaken, changes nothing.
CREATE FUNCTION webhook_results(p_results webhook_result_in[]) RETURNS int
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_count int;
    v_failed boolean := EXISTS (SELECT FROM unnest(p_results) WHERE NOT ok);
BEGIN
    IF v_failed THEN
        INSERT INTO webhook_attempt (endpoint, number, try, sent_at, milliseconds, status, failure, answer, url)
        SELECT r.endpoint, r.number, r.try, r.sent_at, r.milliseconds, r.status, r.failure, r.answer, r.url
        FROM unnest(p_results) r JOIN webhook_delivery d ON d.endpoint = r.endpoint AND d.number = r.number AND d.event = r.event
        WHERE NOT r.ok AND d.state = 'pending' AND d.tries = r.try - 1
        ON CONFLICT DO NOTHING;
        INSERT INTO webhook_retry (endpoint, number, account, livemode, due_at)
        SELECT r.endpoint, r.number, d.account, d.livemode, r.due_at
        FROM unnest(p_results) r JOIN webhook_delivery d ON d.endpoint = r.endpoint AND d.number = r.number AND d.event = r.event
        WHERE NOT r.ok AND d.state = 'pending' AND d.tries = r.try - 1
        ON CONFLICT (endpoint, number) DO UPDATE SET due_at = excluded.due_at;
    END IF;
    UPDATE webhook_delivery d
    SET state = CASE WHEN r.ok THEN 'delivered' WHEN r.due_at IS NULL THEN 'exhausted' ELSE 'pending' END, tries = r.try,
        sent_at = CASE WHEN r.ok THEN r.sent_at END, milliseconds = CASE WHEN r.ok THEN r.milliseconds END,
        status = CASE WHEN r.ok THEN r.status END, answer = CASE WHEN r.ok THEN r.answer END,
        url = CASE WHEN r.ok THEN r.url END
    FROM unnest(p_results) r
    WHERE d.endpoint = r.endpoint AND d.number = r.number AND d.event = r.event AND d.state = 'pending' AND d.tries = r.try - 1;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    DELETE FROM webhook_retry q USING unnest(p_results) r
    WHERE r.ok AND r.try > 1 AND q.endpoint = r.endpoint AND q.number = r.number AND EXISTS (
        SELECT FROM webhook_delivery d WHERE d.endpoint = r.endpoint AND d.number = r.number AND d.event = r.event);
    IF v_failed OR EXISTS (SELECT FROM unnest(p_results) r JOIN webhook_lane l ON l.endpoint = r.endpoint AND l.failing_since IS NOT NULL) THEN
        PERFORM 1 FROM webhook_lane l WHERE l.endpoint = ANY(ARRAY(SELECT r.endpoint FROM unnest(p_results) r)) ORDER BY l.endpoint FOR UPDATE;
    END IF;
    UPDATE webhook_lane l SET failing_since = NULL, failures = 0
    FROM (SELECT DISTINCT r.endpoint FROM unnest(p_results) r WHERE r.ok) g
    WHERE l.endpoint = g.endpoint AND l.failing_since IS NOT NULL;
    IF v_failed THEN
        UPDATE webhook_lane l SET failing_since = coalesce(l.failing_since, g.since), failures = l.failures + g.count
        FROM (SELECT r.endpoint, min(r.sent_at) AS since, count(*) AS count FROM unnest(p_results) r
              GROUP BY r.endpoint HAVING NOT bool_or(r.ok)) g
        WHERE l.endpoint = g.endpoint;
    END IF;
    RETURN v_count;
END $$;

-- Have a delivery tried now, whatever became of it so far. False when there is none, or its endpoint takes none.
CREATE FUNCTION webhook_retry_now(p_account text, p_livemode boolean, p_id text, p_now bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v webhook_delivery;
BEGIN
    SELECT d.* INTO v FROM webhook_delivery d JOIN webhook_endpoint e ON e.id = d.endpoint AND e.state = 'enabled'
    WHERE d.account = p_account AND d.livemode = p_livemode AND d.id = p_id FOR UPDATE OF d;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF v.state = 'delivered' THEN
        INSERT INTO webhook_attempt (endpoint, number, try, sent_at, milliseconds, status, answer, url)
        VALUES (v.endpoint, v.number, v.tries, v.sent_at, v.milliseconds, v.status, v.answer, v.url) ON CONFLICT DO NOTHING;
    END IF;
    IF v.state <> 'pending' OR v.tries > 0 THEN
        UPDATE webhook_delivery d SET state = 'pending', sent_at = NULL, status = NULL, milliseconds = NULL, answer = NULL, url = NULL
        WHERE d.account = p_account AND d.livemode = p_livemode AND d.id = p_id;
        INSERT INTO webhook_retry (endpoint, number, account, livemode, due_at)
        VALUES (v.endpoint, v.number, v.account, v.livemode, p_now)
        ON CONFLICT (endpoint, number) DO UPDATE SET due_at = p_now;
    END IF;
    -- Somebody wants it now: whoever delivers reads the endpoint again, and its rest ends.
    UPDATE webhook_endpoint SET version = version + 1 WHERE id = v.endpoint;
    RETURN true;
END $$;

GRANT SELECT, INSERT ON webhook_endpoint TO guilder_app;
GRANT UPDATE (url, enabled_events, description, metadata, state, disabled_reason, secret, previous_secret, previous_until, version)
    ON webhook_endpoint TO guilder_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_lane, webhook_delivery, webhook_retry, webhook_attempt TO guilder_app;
GRANT SELECT (id, account, livemode, url, enabled_events, description, metadata, api_version, state, disabled_reason, previous_until,
              version, created_at) ON webhook_endpoint TO guilder_reader;
GRANT SELECT ON webhook_lane, webhook_delivery, webhook_retry, webhook_attempt TO guilder_reader;
GRANT EXECUTE ON FUNCTION webhook_fan_out, webhook_hold, webhook_next, webhook_results, webhook_retry_now TO guilder_app;
