-- One customer paying one merchant once: payment, its attempts at PSPs, its charges and refunds.
-- The payment is the root: each commit that changes any of its rows names the version that it was decided on, under the
-- payment's row lock, and moves it by one. Facts are shapes.facts / payments.model structs as bytes; the columns beside
-- them are what SQL checks, filters or sums.

CREATE TABLE payment (
    id            text COLLATE "C" PRIMARY KEY,
    account       text COLLATE "C" NOT NULL,
    livemode      boolean NOT NULL,
    version       integer NOT NULL,
    state         text COLLATE "C" NOT NULL,
    confirmations integer NOT NULL,
    customer      text COLLATE "C",
    created_at    bigint NOT NULL,
    facts         bytea NOT NULL
-- 50: the outcome rewrites the facts, and the update must stay on the page (HOT). No index on what an outcome changes.
) WITH (fillfactor = 50);
CREATE INDEX payment_by_account ON payment (account, livemode, id);
CREATE INDEX payment_by_customer ON payment (customer, id) WHERE customer IS NOT NULL;

CREATE TABLE attempt (
    id          text COLLATE "C" PRIMARY KEY,
    payment     text COLLATE "C" NOT NULL,
    account     text COLLATE "C" NOT NULL,
    livemode    boolean NOT NULL,
    operation   text COLLATE "C" NOT NULL,
    slot        text COLLATE "C" NOT NULL,
    refund      text COLLATE "C",
    amount      bigint NOT NULL CHECK (amount > 0),
    currency    text COLLATE "C" NOT NULL,
    reference   text COLLATE "C" NOT NULL,
    execute_by  bigint NOT NULL,
    created_at  bigint NOT NULL,
    facts       bytea NOT NULL,
    -- Null while the attempt is open: then attempt_open has its state.
    state       text COLLATE "C" CHECK (state IN ('approved', 'declined', 'action_required', 'not_sent', 'undone')),
    finished_at bigint,
    -- The last outcome, a late answer, or one whose booking failed (core.outcome, msgpack); or how much of a surplus has been booked.
    noted       bytea
-- 50: as above, each attempt is updated once, by its outcome.
) WITH (fillfactor = 50);
CREATE INDEX attempt_by_payment ON attempt (payment);

-- The open attempts, and nothing else, so that it stays small whatever is in the books. The primary key is the slot:
-- at most one open operation of those that share it. A row without a sender in state `created` was certainly not sent.
CREATE TABLE attempt_open (
    payment  text COLLATE "C" NOT NULL,
    slot     text COLLATE "C" NOT NULL,
    attempt  text COLLATE "C" NOT NULL,
    state    text COLLATE "C" NOT NULL CHECK (state IN ('created', 'in_doubt', 'awaiting_buyer', 'reversing', 'recheck')),
    sender   text COLLATE "C",
    epoch    bigint,
    tries    integer NOT NULL DEFAULT 0,
    -- Its first claim, before which no byte of it left; until then its accept.
    since_at bigint NOT NULL,
    retry_at bigint NOT NULL,
    -- Its attempt's, while it is certain that no byte of it left: past it the attempt ends without its PSP. Null otherwise.
    execute_by bigint,
    -- The breaker that its PSP's orders were last stopped by: it waits for that one, beside its time.
    breaker  text COLLATE "C",
    PRIMARY KEY (payment, slot),
    CHECK (breaker IS NULL OR state = 'created')
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.0,
        autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX attempt_open_due ON attempt_open (retry_at) WHERE breaker IS NULL;
-- A claim changes nothing of what these three hold, so it stays on its page.
CREATE INDEX attempt_open_late ON attempt_open (execute_by) WHERE execute_by IS NOT NULL;
CREATE INDEX attempt_open_waiting ON attempt_open (breaker, retry_at) WHERE breaker IS NOT NULL;

CREATE TABLE charge (
    id         text COLLATE "C" PRIMARY KEY,
    account    text COLLATE "C" NOT NULL,
    livemode   boolean NOT NULL,
    payment    text COLLATE "C" NOT NULL,
    customer   text COLLATE "C",
    succeeded  boolean NOT NULL,
    captured   bigint NOT NULL,
    refunded   bigint NOT NULL,
    refunding  bigint NOT NULL,
    -- The day whose release makes its money available; 0: at once; null: not captured.
    day        integer,
    capture_before bigint,
    -- The ledger's pending transfer that holds an authorization.
    hold       text COLLATE "C",
    created_at bigint NOT NULL,
    facts      bytea NOT NULL,
    -- A refund reserves its amount before it is sent: never more back than was taken.
    CHECK (refunded >= 0 AND refunding >= 0 AND refunded + refunding <= captured)
) WITH (fillfactor = 80);
CREATE INDEX charge_by_payment ON charge (payment);
CREATE INDEX charge_by_account ON charge (account, livemode, id);
CREATE INDEX charge_by_customer ON charge (customer, id) WHERE customer IS NOT NULL;
-- At most one charge of a payment ever succeeds.
CREATE UNIQUE INDEX charge_succeeded_once ON charge (payment) WHERE succeeded;
CREATE INDEX charge_expiring ON charge (capture_before) WHERE capture_before IS NOT NULL;

CREATE TABLE refund (
    id         text COLLATE "C" PRIMARY KEY,
    account    text COLLATE "C" NOT NULL,
    livemode   boolean NOT NULL,
    payment    text COLLATE "C" NOT NULL,
    charge     text COLLATE "C" NOT NULL,
    state      text COLLATE "C" NOT NULL,
    amount     bigint NOT NULL CHECK (amount > 0),
    -- It waits for money: accepted, nothing reserved, nothing sent; the worker offers it again when money arrives.
    waiting    boolean NOT NULL,
    created_at bigint NOT NULL,
    facts      bytea NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX refund_by_payment ON refund (payment);
CREATE INDEX refund_by_charge ON refund (charge);
CREATE INDEX refund_by_account ON refund (account, livemode, id);
CREATE INDEX refund_waiting ON refund (account, livemode, id) WHERE waiting;

-- Accounts that have got money while refunds of theirs wait for some; worked off by the worker.
CREATE TABLE refund_offer (
    account  text COLLATE "C" NOT NULL,
    livemode boolean NOT NULL,
    PRIMARY KEY (account, livemode)
);

-- What passed between us and a PSP, masked, for `guilder payments show`. Written by the executor beside the outcome.
CREATE TABLE attempt_message (
    attempt text COLLATE "C" NOT NULL,
    at      bigint NOT NULL,
    text    text NOT NULL
);
CREATE INDEX attempt_message_by_attempt ON attempt_message (attempt);

CREATE TYPE key_in AS (
    item int, key text, account text, fingerprint bytea, request_id text, expand text, object text, answer bytea
);
CREATE TYPE answer_in AS (item int, key text, account text, answer bytea);
CREATE TYPE payment_in AS (
    item int, id text, account text, expected int, state text, confirmations int, customer text, facts bytea, created_at bigint
);
CREATE TYPE attempt_in AS (
    item int, id text, payment text, account text, operation text, slot text, refund text, amount bigint, currency text,
    reference text, execute_by bigint, retry_at bigint, facts bytea
);
-- A slot of its own for an attempt that has ended: asked about again, or undone once more.
CREATE TYPE open_in AS (item int, payment text, slot text, attempt text, state text, retry_at bigint);
CREATE TYPE move_in AS (
    item int, attempt text, payment text, slot text, before text, reporter text, after text, final boolean, retry_at bigint,
    tries int, noted bytea, breaker text
);
-- A challenge that is opened (attempt, url, expires_at), or one that moves (before, after), or keeps a result (neither).
CREATE TYPE challenge_in AS (
    item int, id text, payment text, account text, attempt text, url text, expires_at bigint, before text, after text, result bytea
);
CREATE TYPE charge_in AS (
    item int, id text, account text, payment text, customer text, succeeded boolean, captured bigint, refunded bigint,
    refunding bigint, day int, capture_before bigint, hold text, created_at bigint, facts bytea
);
CREATE TYPE refund_in AS (
    item int, id text, account text, payment text, charge text, state text, amount bigint, waiting boolean, created_at bigint,
    facts bytea
);

-- Store a list of changes, each to one payment, each whole or not at all. Returns the exceptions only:
--   key_taken       the idempotency key stands already
--   stale           the payment has moved on since the change was decided: read again, decide again
--   attempt_moved   an attempt that the change moves is not where it was, or another sender holds it
--   slot_taken      the slot has an open attempt
--   funds:<code>    the ledger refused the item's transfers
-- One item per payment and per key in a call. Commits with the caller's statement. Locks in the order of DESIGN section 4.
CREATE FUNCTION payments_flush(
    p_livemode boolean, p_now bigint,
    p_keys key_in[], p_payments payment_in[], p_attempts attempt_in[], p_opens open_in[],
    p_moves move_in[], p_charges charge_in[], p_refunds refund_in[], p_entries balance_in[],
    t_item int[], t_id text[], t_chain int[], t_debit bigint[], t_credit bigint[], t_amount bigint[], t_kind smallint[],
    t_pending_id text[], t_fact boolean[], t_code smallint[], t_reference text[],
    p_events event_in[], p_log log_in[], p_answers answer_in[], p_challenges challenge_in[]
) RETURNS TABLE (item int, result text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_items int := cardinality(p_payments);
    v_ok boolean[] := array_fill(true, ARRAY[v_items]);
    v_failed int[];
    v_taken int[] := '{}';
    v_results text[];
    v_count int;
BEGIN
    -- Keys: claimed by insertion; a concurrent claim of the same key is waited for.
    IF cardinality(p_keys) > 0 THEN
        WITH claimed AS (
            INSERT INTO idempotency_key AS k (key, account, livemode, fingerprint, request_id, object, expand, created_at, answer)
            SELECT i.key, i.account, p_livemode, i.fingerprint, i.request_id, i.object, i.expand, p_now, i.answer
            FROM unnest(p_keys) i ORDER BY i.key COLLATE "C"
            ON CONFLICT DO NOTHING RETURNING k.key, k.account
        )
        SELECT array_agg(i.item) INTO v_failed FROM unnest(p_keys) i
        WHERE NOT EXISTS (SELECT FROM claimed c WHERE c.key = i.key AND c.account = i.account);
        IF v_failed IS NOT NULL THEN
            v_ok := flush_fail(v_ok, v_failed);
            v_taken := v_failed;
            RETURN QUERY SELECT f, 'key_taken'::text FROM unnest(v_failed) f;
        END IF;
    END IF;
    IF cardinality(p_answers) > 0 THEN
        PERFORM 1 FROM (SELECT * FROM unnest(p_answers) ORDER BY key COLLATE "C") i CROSS JOIN LATERAL (
            SELECT 1 FROM idempotency_key z
            WHERE z.key = i.key AND z.account = i.account AND z.livemode = p_livemode FOR UPDATE OFFSET 0) k;
    END IF;

    -- Payments: lock, and compare the version. A new one has nothing to lock.
    IF EXISTS (SELECT FROM unnest(p_payments) i WHERE i.expected IS NOT NULL) THEN
        SELECT array_agg(i.item) INTO v_failed
        FROM (SELECT * FROM unnest(p_payments) WHERE expected IS NOT NULL ORDER BY id COLLATE "C") i
        LEFT JOIN LATERAL (SELECT z.version FROM payment z WHERE z.id = i.id FOR UPDATE OFFSET 0) p ON true
        WHERE p.version IS DISTINCT FROM i.expected AND v_ok[i.item];
        IF v_failed IS NOT NULL THEN
            v_ok := flush_fail(v_ok, v_failed);
            RETURN QUERY SELECT f, 'stale'::text FROM unnest(v_failed) f;
        END IF;
    END IF;

    -- Attempts that move: still where they were, and still the reporter's where it must be.
    IF cardinality(p_moves) > 0 THEN
        SELECT array_agg(DISTINCT i.item) INTO v_failed
        FROM (SELECT * FROM unnest(p_moves) ORDER BY attempt COLLATE "C") i
        LEFT JOIN LATERAL (
            SELECT z.attempt, z.state, z.sender FROM attempt_open z WHERE z.payment = i.payment AND z.slot = i.slot
            FOR UPDATE OFFSET 0) o ON true
        WHERE v_ok[i.item] AND (o.attempt IS DISTINCT FROM i.attempt OR o.state IS DISTINCT FROM i.before
                                OR (i.reporter IS NOT NULL AND o.sender IS DISTINCT FROM nullif(i.reporter, '')));
        IF v_failed IS NOT NULL THEN
            v_ok := flush_fail(v_ok, v_failed);
            RETURN QUERY SELECT f, 'attempt_moved'::text FROM unnest(v_failed) f;
        END IF;
    END IF;
    -- Slots: looked at under the payment's lock, which whoever opens one holds; the primary key stands behind it.
    IF cardinality(p_attempts) > 0 AND EXISTS (SELECT FROM unnest(p_payments) i WHERE i.expected IS NOT NULL) THEN
        SELECT array_agg(DISTINCT i.item) INTO v_failed
        FROM unnest(p_attempts) i CROSS JOIN LATERAL (
            SELECT z.attempt FROM attempt_open z WHERE z.payment = i.payment AND z.slot = i.slot OFFSET 0) o
        WHERE v_ok[i.item] AND NOT EXISTS (
            SELECT FROM unnest(p_moves) m WHERE m.final AND m.attempt = o.attempt AND m.slot = i.slot);
        IF v_failed IS NOT NULL THEN
            v_ok := flush_fail(v_ok, v_failed);
            RETURN QUERY SELECT f, 'slot_taken'::text FROM unnest(v_failed) f;
        END IF;
    END IF;

    -- Challenges that move are still where they were: the payment's version says so, and this stands behind it.
    IF cardinality(p_challenges) > 0 THEN
        SELECT array_agg(DISTINCT i.item) INTO v_failed
        FROM (SELECT * FROM unnest(p_challenges) WHERE before IS NOT NULL ORDER BY id COLLATE "C") i
        LEFT JOIN LATERAL (SELECT z.state FROM challenge z WHERE z.id = i.id FOR UPDATE OFFSET 0) c ON true
        WHERE v_ok[i.item] AND c.state IS DISTINCT FROM i.before;
        IF v_failed IS NOT NULL THEN
            v_ok := flush_fail(v_ok, v_failed);
            RETURN QUERY SELECT f, 'stale'::text FROM unnest(v_failed) f;
        END IF;
    END IF;

    -- Ledger: refuses whole chains, and an item is one chain; what it refuses left nothing behind.
    IF cardinality(t_id) > 0 THEN
        IF false = ANY (v_ok) THEN
            SELECT array_agg(x.i), array_agg(x.id), array_agg(x.chain), array_agg(x.debit), array_agg(x.credit), array_agg(x.amount),
                   array_agg(x.kind), array_agg(x.pending), array_agg(x.fact), array_agg(x.code), array_agg(x.reference)
            INTO t_item, t_id, t_chain, t_debit, t_credit, t_amount, t_kind, t_pending_id, t_fact, t_code, t_reference
            FROM (SELECT * FROM unnest(t_item, t_id, t_chain, t_debit, t_credit, t_amount, t_kind, t_pending_id, t_fact, t_code,
                                       t_reference) WITH ORDINALITY
                  AS y(i, id, chain, debit, credit, amount, kind, pending, fact, code, reference, ord)
                  WHERE v_ok[y.i] ORDER BY y.ord) x;
        END IF;
        IF cardinality(t_id) > 0 THEN
            SELECT array_agg(t_item[r.ord]), array_agg(r.result) INTO v_failed, v_results
            FROM wallet_book(p_livemode, p_now, t_id, t_chain, t_debit, t_credit, t_amount, t_kind, t_pending_id, t_fact, t_code,
                             t_reference) r;
            IF v_failed IS NOT NULL THEN
                v_ok := flush_fail(v_ok, v_failed);
                RETURN QUERY SELECT f.item, 'funds:' || coalesce(min(f.result) FILTER (WHERE f.result <> 'linked_event_failed'), 'linked_event_failed')
                             FROM unnest(v_failed, v_results) f(item, result) GROUP BY f.item;
            END IF;
        END IF;
    END IF;

    -- A refused item's claim goes again: its key is free. Never one that stood before: it may be this very request's, from a
    -- flush whose answer was lost while it was still under way.
    IF cardinality(p_keys) > 0 AND false = ANY (v_ok) THEN
        DELETE FROM idempotency_key k USING unnest(p_keys) i
        WHERE k.key = i.key AND k.account = i.account AND k.livemode = p_livemode AND NOT v_ok[i.item] AND i.item <> ALL (v_taken);
    END IF;

    INSERT INTO payment (id, account, livemode, version, state, confirmations, customer, created_at, facts)
    SELECT i.id, i.account, p_livemode, 1, i.state, i.confirmations, i.customer, i.created_at, i.facts
    FROM unnest(p_payments) i WHERE i.expected IS NULL AND v_ok[i.item];
    IF EXISTS (SELECT FROM unnest(p_payments) i WHERE i.expected IS NOT NULL) THEN
        UPDATE payment p SET version = x.expected + 1, state = x.state, confirmations = x.confirmations, customer = x.customer, facts = x.facts
        FROM (SELECT i.*, z.t FROM unnest(p_payments) i CROSS JOIN LATERAL (
                  SELECT y.ctid AS t FROM payment y WHERE y.id = i.id OFFSET 0) z
              WHERE i.expected IS NOT NULL AND v_ok[i.item]) x
        WHERE p.ctid = x.t;
    END IF;

    IF cardinality(p_moves) > 0 THEN
        DELETE FROM attempt_open o
        USING (SELECT z.t FROM unnest(p_moves) i CROSS JOIN LATERAL (
                   SELECT y.ctid AS t FROM attempt_open y WHERE y.payment = i.payment AND y.slot = i.slot OFFSET 0) z
               WHERE i.final AND v_ok[i.item]) x
        WHERE o.ctid = x.t;
        UPDATE attempt_open o
        SET state = x.after, sender = NULL, epoch = NULL, retry_at = x.retry_at, tries = x.tries,
            execute_by = CASE x.after WHEN 'created' THEN o.execute_by END, breaker = x.breaker
        FROM (SELECT i.*, z.t FROM unnest(p_moves) i CROSS JOIN LATERAL (
                  SELECT y.ctid AS t FROM attempt_open y WHERE y.payment = i.payment AND y.slot = i.slot OFFSET 0) z
              WHERE NOT i.final AND v_ok[i.item]) x
        WHERE o.ctid = x.t;
        -- The attempt's own row is written when it ends, when it is found to have been approved after all, or when something is kept on it.
        UPDATE attempt a
        SET state = CASE WHEN x.final AND (a.state IS NULL OR x.after = 'approved') THEN x.after ELSE a.state END,
            finished_at = CASE WHEN x.final AND (a.state IS NULL OR x.after = 'approved') THEN p_now ELSE a.finished_at END,
            noted = coalesce(x.noted, a.noted)
        FROM (SELECT i.*, z.t FROM unnest(p_moves) i CROSS JOIN LATERAL (
                  SELECT y.ctid AS t FROM attempt y WHERE y.id = i.attempt OFFSET 0) z
              WHERE (i.final OR i.noted IS NOT NULL) AND v_ok[i.item]) x
        WHERE a.ctid = x.t;
    END IF;
    IF cardinality(p_attempts) > 0 THEN
        INSERT INTO attempt (id, payment, account, livemode, operation, slot, refund, amount, currency, reference, execute_by, created_at, facts)
        SELECT i.id, i.payment, i.account, p_livemode, i.operation, i.slot, i.refund, i.amount, i.currency, i.reference, i.execute_by, p_now, i.facts
        FROM unnest(p_attempts) i WHERE v_ok[i.item];
        INSERT INTO attempt_open (payment, slot, attempt, state, since_at, retry_at, execute_by)
        SELECT i.payment, i.slot, i.id, 'created', p_now, i.retry_at, i.execute_by FROM unnest(p_attempts) i WHERE v_ok[i.item];
    END IF;
    IF cardinality(p_opens) > 0 THEN
        INSERT INTO attempt_open (payment, slot, attempt, state, since_at, retry_at)
        SELECT i.payment, i.slot, i.attempt, i.state, p_now, i.retry_at FROM unnest(p_opens) i WHERE v_ok[i.item];
    END IF;

    IF cardinality(p_challenges) > 0 THEN
        UPDATE challenge c
        SET state = coalesce(i.after, c.state), result = coalesce(i.result, c.result),
            ended_at = CASE WHEN i.after IS NULL THEN c.ended_at ELSE p_now END
        FROM unnest(p_challenges) i WHERE c.id = i.id AND i.url IS NULL AND v_ok[i.item];
        INSERT INTO challenge (id, payment, account, livemode, attempt, state, url, opened_at, expires_at)
        SELECT i.id, i.payment, i.account, p_livemode, i.attempt, i.after, i.url, p_now, i.expires_at
        FROM unnest(p_challenges) i WHERE i.url IS NOT NULL AND v_ok[i.item];
    END IF;

    IF cardinality(p_charges) > 0 THEN
        INSERT INTO charge AS c (id, account, livemode, payment, customer, succeeded, captured, refunded, refunding, day, capture_before, hold, created_at, facts)
        SELECT i.id, i.account, p_livemode, i.payment, i.customer, i.succeeded, i.captured, i.refunded, i.refunding, i.day, i.capture_before,
               i.hold, i.created_at, i.facts
        FROM unnest(p_charges) i WHERE v_ok[i.item]
        ON CONFLICT (id) DO UPDATE SET captured = excluded.captured, refunded = excluded.refunded, refunding = excluded.refunding,
            day = excluded.day, capture_before = excluded.capture_before, customer = excluded.customer, facts = excluded.facts;
    END IF;
    IF cardinality(p_refunds) > 0 THEN
        INSERT INTO refund (id, account, livemode, payment, charge, state, amount, waiting, created_at, facts)
        SELECT i.id, i.account, p_livemode, i.payment, i.charge, i.state, i.amount, i.waiting, i.created_at, i.facts
        FROM unnest(p_refunds) i WHERE v_ok[i.item]
        ON CONFLICT (id) DO UPDATE SET state = excluded.state, waiting = excluded.waiting, facts = excluded.facts;
    END IF;
    IF cardinality(p_entries) > 0 THEN
        PERFORM balance_transaction_append(p_livemode, p_now, p_entries, v_ok);
    END IF;

    IF cardinality(p_answers) > 0 THEN
        UPDATE idempotency_key k SET answer = x.answer
        FROM (SELECT i.*, z.t FROM unnest(p_answers) i CROSS JOIN LATERAL (
                  SELECT y.ctid AS t FROM idempotency_key y
                  WHERE y.key = i.key AND y.account = i.account AND y.livemode = p_livemode AND y.answer IS NULL OFFSET 0) z
              WHERE v_ok[i.item]) x
        WHERE k.ctid = x.t;
    END IF;

    -- Counters come last of all locks, so that positions become visible in commit order.
    IF cardinality(p_events) > 0 THEN
        PERFORM event_append(p_livemode, p_now, p_events, v_ok);
    END IF;
    IF cardinality(p_log) > 0 THEN
        PERFORM log_append(p_now, p_log, v_ok);
    END IF;

    -- One notification a flush: it takes one lock of the whole server at commit.
    IF cardinality(p_attempts) > 0 THEN
        PERFORM pg_notify('guilder_accepted', CASE WHEN EXISTS (
            SELECT FROM unnest(p_attempts) i WHERE i.retry_at <= p_now) THEN 'due' ELSE '' END);
    END IF;
    IF cardinality(p_answers) > 0 THEN
        -- Below 8,000 bytes by PostgreSQL's limit; '*' makes every waiter look.
        PERFORM pg_notify('guilder_answered', CASE WHEN octet_length(a.keys) < 7900 THEN a.keys ELSE '*' END)
        FROM (SELECT string_agg(i.key, E'\n') AS keys FROM unnest(p_answers) i) a;
    END IF;
END $$;

-- The flags with these items' set to false.
CREATE FUNCTION flush_fail(p_ok boolean[], p_failed int[]) RETURNS boolean[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(o AND NOT (n::int = ANY (p_failed)) ORDER BY n) FROM unnest(p_ok) WITH ORDINALITY x(o, n)
$$;

-- Claim what this sender may work on: new entries of its partitions, and rows whose retry_at has come, so many that were begun
-- (p_due) and so many that were not (p_new), which ask for more of a PSP than those do. Positions move
-- in the same commit. Every byte about an attempt leaves under a claim of its row. Returns nothing once the sender has lost its
-- epoch. Entries that another log than the outbox has brought are handed in, each partition's without a gap from
-- the consumer's position on; with NULL they are read here.
CREATE FUNCTION payments_claim(
    p_sender text, p_epoch bigint, p_now bigint, p_each int, p_due int, p_new int,
    p_partitions smallint[], p_positions bigint[], p_payments text[], p_attempts text[],
    p_breakers text[], p_until bigint[], p_through int[]
)
RETURNS TABLE (
    attempt text, payment text, account text, livemode boolean, operation text, slot text, refund text, amount bigint, currency text,
    execute_by bigint, created_at bigint, facts bytea, noted bytea, open_state text, tries int, since_at bigint,
    payment_facts bytea, version int, confirmations int, fresh boolean
)
LANGUAGE plpgsql
-- The oldest rows of an index, in its order: a bitmap would gather and sort all that wait, which after an outage is 100,000.
SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_partitions smallint[];
    v_positions bigint[];
    v_payments text[];
    v_attempts text[];
    v_rows tid[];
    v_due tid[];
    v_new tid[];
    v_waiting tid[];
    v_late tid[];
BEGIN
    IF p_attempts IS NULL THEN
        -- Ids and positions are taken from this one look: a second one would see newer entries and move past them unclaimed. Whatever an
        -- entry holds can be escaped; what names no attempt claims nothing.
        SELECT array_agg(e.partition), array_agg(e.position), array_agg(e.key), array_agg(encode(e.payload, 'escape'))
        INTO v_partitions, v_positions, v_payments, v_attempts
        FROM log_consumer c CROSS JOIN LATERAL (
            SELECT l.partition, l.position, l.key, l.payload FROM log_entry l
            WHERE l.topic = 1 AND l.partition = c.partition AND l.position > c.applied_to ORDER BY l.position LIMIT p_each) e
        WHERE c.consumer = 'executor' AND c.sender = p_sender;
    ELSIF cardinality(p_attempts) > 0 THEN
        v_partitions := p_partitions;
        v_positions := p_positions;
        v_payments := p_payments;
        v_attempts := p_attempts;
    END IF;
    -- Nothing to do is the usual answer to a poll: it takes no lock, so it needs no transaction id and no flush of the WAL.
    IF v_attempts IS NULL AND (p_due = 0 OR NOT EXISTS (
        SELECT FROM attempt_open z WHERE z.retry_at <= p_now AND z.sender IS NULL AND z.breaker IS NULL
    ) AND NOT EXISTS (
        SELECT FROM attempt_open z WHERE z.execute_by <= p_now AND z.sender IS NULL
    ) AND NOT EXISTS (
        SELECT FROM unnest(p_breakers, p_until, p_through) w(breaker, until, through) CROSS JOIN LATERAL (
            SELECT FROM attempt_open z WHERE z.breaker = w.breaker AND z.retry_at <= w.until AND z.sender IS NULL LIMIT w.through) o
    )) THEN
        RETURN;
    END IF;
    -- A database that has gone back may hold as new what was sent long ago.
    IF EXISTS (SELECT FROM installation i WHERE i.only_row AND i.quarantined_at IS NOT NULL) THEN
        RETURN;
    END IF;
    -- Against a takeover, which locks it for update; the heartbeat goes on beside it.
    PERFORM 1 FROM sender s WHERE s.id = p_sender AND s.epoch = p_epoch AND NOT s.lost FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF v_attempts IS NOT NULL THEN
        SELECT array_agg(x.t) INTO v_rows FROM (
            SELECT o.t FROM (SELECT * FROM unnest(v_payments, v_attempts) u(p, a) ORDER BY a COLLATE "C") i CROSS JOIN LATERAL (
                SELECT z.ctid AS t FROM attempt_open z
                WHERE z.payment = i.p AND z.attempt = i.a AND z.sender IS NULL FOR UPDATE OFFSET 0) o) x;
    END IF;
    IF p_due > 0 THEN
        SELECT array_agg(x.t) INTO v_due FROM (
            SELECT z.ctid AS t FROM attempt_open z
            WHERE z.retry_at <= p_now AND z.breaker IS NULL AND z.sender IS NULL AND z.state <> 'created'
            ORDER BY z.retry_at LIMIT p_due FOR UPDATE SKIP LOCKED) x;
        -- What will not be sent any more takes no PSP's room.
        SELECT array_agg(x.t) INTO v_late FROM (
            SELECT z.ctid AS t FROM attempt_open z WHERE z.execute_by <= p_now AND z.sender IS NULL
            ORDER BY z.execute_by LIMIT p_due FOR UPDATE SKIP LOCKED) x;
        -- Half of the room at most, so that a long line behind one PSP holds up nobody else.
        SELECT array_agg(x.t) INTO v_waiting FROM (
            SELECT o.t FROM unnest(p_breakers, p_until, p_through) w(breaker, until, through) CROSS JOIN LATERAL (
                SELECT z.ctid AS t FROM attempt_open z WHERE z.breaker = w.breaker AND z.retry_at <= w.until AND z.sender IS NULL
                ORDER BY z.retry_at LIMIT w.through FOR UPDATE SKIP LOCKED) o
            LIMIT (p_new + 1) / 2) x;
        SELECT array_agg(x.t) INTO v_new FROM (
            SELECT z.ctid AS t FROM attempt_open z
            WHERE z.retry_at <= p_now AND z.breaker IS NULL AND z.sender IS NULL AND z.state = 'created'
            ORDER BY z.retry_at LIMIT p_new - coalesce(cardinality(v_waiting), 0) FOR UPDATE SKIP LOCKED) x;
        v_rows := coalesce(v_rows, '{}') || ARRAY(
            SELECT DISTINCT d FROM unnest(v_late || v_due || v_waiting || v_new) d WHERE d <> ALL (coalesce(v_rows, '{}')));
    END IF;
    IF v_attempts IS NOT NULL THEN
        PERFORM 1 FROM (SELECT DISTINCT partition FROM unnest(v_partitions) u(partition) ORDER BY 1) i CROSS JOIN LATERAL (
            SELECT 1 FROM log_consumer z WHERE z.consumer = 'executor' AND z.partition = i.partition FOR UPDATE OFFSET 0) c;
    END IF;
    RETURN QUERY
        WITH claimed AS (
            UPDATE attempt_open o
            SET sender = p_sender, epoch = p_epoch, since_at = CASE o.state WHEN 'created' THEN p_now ELSE o.since_at END
            WHERE o.ctid = ANY (v_rows)
            RETURNING o.payment, o.attempt, o.state, o.slot, o.tries, o.since_at
        )
        SELECT a.id, a.payment, a.account, a.livemode, a.operation, c.slot, a.refund, a.amount, a.currency, a.execute_by, a.created_at,
               a.facts, a.noted, c.state, c.tries, c.since_at, p.facts, p.version, p.confirmations, a.id = ANY (coalesce(v_attempts, ARRAY[]::text[]))
        FROM claimed c
        CROSS JOIN LATERAL (SELECT z.* FROM attempt z WHERE z.id = c.attempt OFFSET 0) a
        CROSS JOIN LATERAL (SELECT z.* FROM payment z WHERE z.id = c.payment OFFSET 0) p;
    IF v_attempts IS NOT NULL THEN
        UPDATE log_consumer c SET applied_to = m.position
        FROM (SELECT u.partition, max(u.position) AS position FROM unnest(v_partitions, v_positions) u(partition, position)
              GROUP BY u.partition) m
        CROSS JOIN LATERAL (
            SELECT z.ctid AS t FROM log_consumer z
            WHERE z.consumer = 'executor' AND z.partition = m.partition AND z.sender = p_sender AND z.applied_to < m.position OFFSET 0) x
        WHERE c.ctid = x.t;
    END IF;
END $$;

-- Set a sender's rows free: what it had begun may have been sent, so it is in doubt. Rows whose call is in hand stay.
CREATE FUNCTION attempts_set_free(p_sender text, p_in_hand text[], p_now bigint) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
    v_count int;
BEGIN
    PERFORM 1 FROM attempt_open o WHERE o.sender = p_sender AND o.attempt <> ALL (p_in_hand) ORDER BY o.attempt FOR UPDATE;
    UPDATE attempt_open SET sender = NULL, epoch = NULL, retry_at = least(retry_at, p_now),
        state = CASE state WHEN 'created' THEN 'in_doubt' ELSE state END, execute_by = NULL, breaker = NULL
    WHERE sender = p_sender AND attempt <> ALL (p_in_hand);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;

-- Give back what a sender has claimed and not sent: as it was before its claim, and due at once.
CREATE FUNCTION attempts_give_back(p_sender text, p_attempts text[], p_now bigint) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
    v_count int;
BEGIN
    PERFORM 1 FROM attempt_open o WHERE o.sender = p_sender AND o.attempt = ANY (p_attempts) ORDER BY o.attempt FOR UPDATE;
    UPDATE attempt_open SET sender = NULL, epoch = NULL, retry_at = least(retry_at, p_now)
    WHERE sender = p_sender AND attempt = ANY (p_attempts);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count > 0 THEN
        PERFORM pg_notify('guilder_accepted', 'due');
    END IF;
    RETURN v_count;
END $$;

-- Take over from a sender whose (epoch, beat) has stood still: it is lost for ever, and what it held is free, in one commit.
-- False when it has moved since it was looked at.
CREATE FUNCTION sender_take_over(p_sender text, p_epoch bigint, p_beat bigint, p_now bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    -- FOR UPDATE: an update alone would not wait for a claim that is under way, which holds the row's key only.
    PERFORM 1 FROM sender WHERE id = p_sender AND epoch = p_epoch AND beat = p_beat AND NOT lost FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE sender SET epoch = epoch + 1, lost = true, lost_at = p_now WHERE id = p_sender;
    PERFORM attempts_set_free(p_sender, '{}', p_now);
    PERFORM 1 FROM log_consumer WHERE sender = p_sender ORDER BY consumer, partition FOR UPDATE;
    UPDATE log_consumer SET sender = NULL, epoch = NULL WHERE sender = p_sender;
    PERFORM pg_notify('guilder_accepted', '');
    RETURN true;
END $$;

-- End a quarantine. What stands as certainly not sent in a database that has gone back may well have been sent: it is in doubt now.
-- Its positions mean something else now than in what Kafka has of the time that is lost: a new stream begins, where there is one.
CREATE FUNCTION installation_lift_quarantine(p_now bigint, p_stream text) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
    v_count int;
BEGIN
    PERFORM 1 FROM installation WHERE quarantined_at IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    PERFORM 1 FROM attempt_open ORDER BY attempt FOR UPDATE;
    UPDATE attempt_open SET sender = NULL, epoch = NULL, retry_at = least(retry_at, p_now),
        state = CASE state WHEN 'created' THEN 'in_doubt' ELSE state END, execute_by = NULL, breaker = NULL;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    UPDATE log_stream SET id = p_stream;
    UPDATE installation SET quarantined_at = NULL, quarantine_reason = NULL;
    PERFORM pg_notify('guilder_accepted', 'due');
    RETURN v_count;
END $$;

-- Take partitions that nobody reads, up to this sender's share among the living ones of its role, and let go of those beyond it.
CREATE FUNCTION log_hold_partitions(p_consumer text, p_sender text, p_epoch bigint, p_role text, p_partitions int) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
    v_held int;
    v_share int;
BEGIN
    PERFORM 1 FROM sender WHERE id = p_sender AND epoch = p_epoch AND NOT lost FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    SELECT ceil(p_partitions::numeric / count(*)) INTO v_share FROM sender WHERE role = p_role AND NOT lost;
    PERFORM 1 FROM log_consumer WHERE consumer = p_consumer ORDER BY partition FOR UPDATE;
    SELECT count(*) INTO v_held FROM log_consumer WHERE consumer = p_consumer AND sender = p_sender;
    UPDATE log_consumer SET sender = NULL, epoch = NULL WHERE consumer = p_consumer AND partition IN (
        SELECT partition FROM log_consumer WHERE consumer = p_consumer AND sender = p_sender ORDER BY partition
        LIMIT greatest(v_held - v_share, 0));
    UPDATE log_consumer SET sender = p_sender, epoch = p_epoch WHERE consumer = p_consumer AND partition IN (
        SELECT partition FROM log_consumer WHERE consumer = p_consumer AND sender IS NULL ORDER BY partition
        LIMIT greatest(v_share - v_held, 0));
    SELECT count(*) INTO v_held FROM log_consumer WHERE consumer = p_consumer AND sender = p_sender;
    RETURN v_held;
END $$;

GRANT SELECT, INSERT, UPDATE ON payment, attempt, charge, refund TO guilder_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON attempt_open, attempt_message, refund_offer TO guilder_app;
GRANT SELECT ON payment, attempt, attempt_open, charge, refund, attempt_message, refund_offer TO guilder_reader;
GRANT EXECUTE ON FUNCTION payments_flush, flush_fail, payments_claim, attempts_set_free, attempts_give_back, sender_take_over, installation_lift_quarantine, log_hold_partitions
    TO guilder_app;
