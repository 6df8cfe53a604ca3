-- The vault's tables. guilder_vault alone may touch them: no other role can even read a sealed card number.

-- Data keys, one per merchant, mode and purpose, sealed under the master key, which is never in the database.
CREATE TABLE vault_key (
    -- The merchant; '' for the key that all merchants share (fingerprints of requests).
    account     text COLLATE "C" NOT NULL,
    livemode    boolean NOT NULL,
    -- card: seals card numbers. fingerprint: tells that two cards are the same one, without telling which.
    purpose     text COLLATE "C" NOT NULL CHECK (purpose IN ('card', 'fingerprint')),
    version     integer NOT NULL CHECK (version >= 1),
    -- Which master key sealed it; a vault that is started with another one says so instead of failing card by card.
    root_key_id text COLLATE "C" NOT NULL,
    sealed      bytea NOT NULL,
    created_at  bigint NOT NULL,
    PRIMARY KEY (account, livemode, purpose, version)
);

-- One row per PaymentMethod that is a card. The number and the postal code are sealed, each bound to its merchant, mode,
-- PaymentMethod, field and key version, so that a value that is moved to another row does not open there.
-- There is no column for a CVC and never will be (PCI DSS 3.3.1). No hash of the number stands here either.
CREATE TABLE vault_card (
    payment_method_id text COLLATE "C" PRIMARY KEY,
    account           text COLLATE "C" NOT NULL,
    livemode          boolean NOT NULL,
    key_version       integer NOT NULL,
    number_sealed     bytea NOT NULL,
    postal_sealed     bytea,
    exp_month         smallint NOT NULL CHECK (exp_month BETWEEN 1 AND 12),
    exp_year          smallint NOT NULL CHECK (exp_year BETWEEN 2000 AND 2199),
    created_at        bigint NOT NULL
);

GRANT SELECT, INSERT ON vault_key TO guilder_vault;
GRANT SELECT, INSERT ON vault_card TO guilder_vault;
GRANT UPDATE (exp_month, exp_year, key_version, postal_sealed) ON vault_card TO guilder_vault;
