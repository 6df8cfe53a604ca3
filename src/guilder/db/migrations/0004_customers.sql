-- Customers, their PaymentMethods, and the sealed records that hold what is personal.

-- Names, addresses, mails: one immutable sealed record each. Facts elsewhere hold its id. A change is a new record, so that
-- what an event or a stored answer points to stays what it was.
CREATE TABLE personal (
    id         text COLLATE "C" PRIMARY KEY,
    account    text COLLATE "C" NOT NULL,
    livemode   boolean NOT NULL,
    -- Null after an erasure: whatever points here then shows null.
    sealed     bytea,
    created_at bigint NOT NULL
);

CREATE TABLE customer (
    id                     text COLLATE "C" PRIMARY KEY,
    account                text COLLATE "C" NOT NULL,
    livemode               boolean NOT NULL,
    personal               text COLLATE "C",
    -- A keyed hash of the mail address, by which it can be found without standing here.
    email_lookup           bytea,
    -- Pairs in the merchant's order, msgpack.
    metadata               bytea NOT NULL,
    default_payment_method text COLLATE "C",
    invoice_prefix         text COLLATE "C" NOT NULL,
    created_at             bigint NOT NULL,
    -- Deleted customers stay, so that payments can name them; they answer `deleted` and are on no list.
    deleted_at             bigint
);
CREATE INDEX customer_by_account ON customer (account, livemode, id) WHERE deleted_at IS NULL;
CREATE INDEX customer_by_email ON customer (email_lookup, id) WHERE email_lookup IS NOT NULL AND deleted_at IS NULL;

CREATE TABLE payment_method (
    id          text COLLATE "C" PRIMARY KEY,
    account     text COLLATE "C" NOT NULL,
    livemode    boolean NOT NULL,
    -- What may be known of the card outside the vault: shapes.facts.CardFacts, msgpack.
    card        bytea NOT NULL,
    customer    text COLLATE "C" REFERENCES customer ON DELETE RESTRICT,
    -- The personal record of billing_details.
    billing     text COLLATE "C",
    metadata    bytea NOT NULL,
    allow_redisplay text COLLATE "C" NOT NULL CHECK (allow_redisplay IN ('always', 'limited', 'unspecified')),
    created_at  bigint NOT NULL,
    attached_at bigint,
    -- Detached once, it cannot be used again.
    detached_at bigint,
    CHECK (customer IS NULL OR (attached_at IS NOT NULL AND detached_at IS NULL))
);
CREATE INDEX payment_method_by_customer ON payment_method (customer, id) WHERE customer IS NOT NULL;
CREATE INDEX payment_method_attached ON payment_method (account, livemode, id) WHERE customer IS NOT NULL;

GRANT SELECT, INSERT ON personal, customer, payment_method TO guilder_app;
GRANT UPDATE (sealed) ON personal TO guilder_app;
GRANT UPDATE (personal, email_lookup, metadata, default_payment_method, deleted_at) ON customer TO guilder_app;
GRANT UPDATE (card, customer, billing, metadata, allow_redisplay, attached_at, detached_at) ON payment_method TO guilder_app;
GRANT SELECT ON customer, payment_method TO guilder_reader;
GRANT SELECT (id, account, livemode, created_at) ON personal TO guilder_reader;
