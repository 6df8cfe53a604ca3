-- 3-D Secure: a buyer who was sent to the issuer of the card. Written by payments_flush (0009), under the payment's lock.

CREATE TABLE challenge (
    -- The secret of the buyer's way there and back: whoever has it may go it.
    id         text COLLATE "C" PRIMARY KEY,
    payment    text COLLATE "C" NOT NULL,
    account    text COLLATE "C" NOT NULL,
    livemode   boolean NOT NULL,
    -- The authentication that ended as action_required.
    attempt    text COLLATE "C" NOT NULL,
    state      text COLLATE "C" NOT NULL CHECK (state IN ('open', 'passed', 'attempted', 'failed', 'abandoned', 'discarded')),
    -- The issuer's page.
    url        text NOT NULL,
    opened_at  bigint NOT NULL,
    expires_at bigint NOT NULL,
    ended_at   bigint,
    -- What the issuer said in the end, also when it came too late to move anything (core.outcome, msgpack).
    result     bytea,
    CHECK ((state = 'open') = (ended_at IS NULL))
) WITH (fillfactor = 80);
-- A payment waits for one buyer.
CREATE UNIQUE INDEX challenge_open ON challenge (payment) WHERE state = 'open';
-- Open in other words than above, so that no plan ever looks for a payment's own challenge here.
CREATE INDEX challenge_expiring ON challenge (expires_at) WHERE ended_at IS NULL;
CREATE INDEX challenge_by_attempt ON challenge (attempt);

GRANT SELECT, INSERT, UPDATE ON challenge TO guilder_app;
GRANT SELECT (payment, account, livemode, attempt, state, opened_at, expires_at, ended_at) ON challenge TO guilder_reader;
