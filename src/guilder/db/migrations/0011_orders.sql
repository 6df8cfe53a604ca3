-- The payment event: one buyer placing one order. Its PaymentIntent belongs to it, and to nobody else.
-- Like a payment a session has a version: a commit names the one that it was decided on, under the row's lock, and moves it.

CREATE TABLE checkout_session (
    id         text COLLATE "C" PRIMARY KEY,
    account    text COLLATE "C" NOT NULL,
    livemode   boolean NOT NULL,
    version    integer NOT NULL,
    state      text COLLATE "C" NOT NULL CHECK (state IN ('open', 'complete', 'expired')),
    payment    text COLLATE "C",
    customer   text COLLATE "C",
    -- When the worker looks at it next: its end, or the moment at which news of its payment came. Null: nothing is to come.
    due_at     bigint,
    created_at bigint NOT NULL,
    -- shapes.facts.CheckoutSessionFacts
    facts      bytea NOT NULL
) WITH (fillfactor = 60);
CREATE INDEX checkout_session_by_account ON checkout_session (account, livemode, id);
CREATE INDEX checkout_session_by_customer ON checkout_session (customer, id) WHERE customer IS NOT NULL;
-- One payment belongs to one session; a session has one payment, or none yet.
CREATE UNIQUE INDEX checkout_session_by_payment ON checkout_session (payment) WHERE payment IS NOT NULL;
CREATE INDEX checkout_session_due ON checkout_session (due_at) WHERE due_at IS NOT NULL;

-- Lock a session and say whether it still has the version that a change was decided on.
CREATE FUNCTION checkout_session_lock(p_id text, p_expected int) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM checkout_session WHERE id = p_id AND version = p_expected FOR UPDATE;
    RETURN FOUND;
END $$;

-- Write a session whose lock is held, unless what was to be stored before it was refused; returns that refusal.
CREATE FUNCTION checkout_session_write(
    p_results text[], p_id text, p_state text, p_payment text, p_due_at bigint, p_facts bytea
) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(p_results) > 0 THEN
        RETURN p_results[1];
    END IF;
    UPDATE checkout_session SET version = version + 1, state = p_state, payment = p_payment, due_at = p_due_at, facts = p_facts
    WHERE id = p_id;
    RETURN NULL;
END $$;

-- Store a change of a session that does not touch its payment, in one statement. Locks in the order of DESIGN section 4.
-- Returns null when stored; else `stale` (read again, decide again) or `key_taken`.
CREATE FUNCTION checkout_session_store(
    p_livemode boolean, p_now bigint, p_key key_in, p_id text, p_expected int, p_state text, p_payment text, p_due_at bigint,
    p_facts bytea, p_events event_in[], p_log log_in[]
) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT checkout_session_lock(p_id, p_expected) THEN
        RETURN 'stale';
    END IF;
    IF (p_key).key IS NOT NULL THEN
        INSERT INTO idempotency_key (key, account, livemode, fingerprint, request_id, expand, created_at, answer)
        VALUES ((p_key).key, (p_key).account, p_livemode, (p_key).fingerprint, (p_key).request_id, (p_key).expand, p_now, (p_key).answer)
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RETURN 'key_taken';
        END IF;
    END IF;
    PERFORM checkout_session_write('{}', p_id, p_state, p_payment, p_due_at, p_facts);
    IF cardinality(p_events) > 0 THEN
        PERFORM event_append(p_livemode, p_now, p_events, '{t}');
        PERFORM log_append(p_now, p_log, '{t}');
    END IF;
    RETURN NULL;
END $$;

INSERT INTO log_consumer SELECT 'orders', 2, partition, 0, NULL, NULL FROM generate_series(0, 15) partition;

GRANT SELECT, INSERT, UPDATE ON checkout_session TO guilder_app;
GRANT SELECT ON checkout_session TO guilder_reader;
GRANT EXECUTE ON FUNCTION checkout_session_lock, checkout_session_write, checkout_session_store TO guilder_app;
