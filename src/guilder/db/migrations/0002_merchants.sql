-- Who may call, and on what terms.

CREATE TABLE merchant (
    id                   text COLLATE "C" PRIMARY KEY,
    name                 text NOT NULL,
    -- ISO 3166 and ISO 4217, lower case for the currency, as the API writes them.
    country              text COLLATE "C" NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    default_currency     text COLLATE "C" NOT NULL CHECK (default_currency ~ '^[a-z]{3}$'),
    email                text,
    statement_descriptor text,
    created_at           bigint NOT NULL
);

-- What differs between a merchant's two modes.
CREATE TABLE merchant_mode (
    account         text COLLATE "C" NOT NULL REFERENCES merchant ON DELETE RESTRICT,
    livemode        boolean NOT NULL,
    -- How far refunds may overdraw, in whole units of each currency.
    overdraft_units bigint NOT NULL CHECK (overdraft_units >= 0),
    PRIMARY KEY (account, livemode)
);

-- Prices, never changed: a new price is a new version, and a fee names the version by which it was computed.
CREATE TABLE price_list (
    account      text COLLATE "C" NOT NULL REFERENCES merchant ON DELETE RESTRICT,
    livemode     boolean NOT NULL,
    version      integer NOT NULL CHECK (version >= 1),
    -- Hundredths of a percent of the amount, rounded half up.
    basis_points integer NOT NULL CHECK (basis_points BETWEEN 0 AND 10000),
    valid_from_at bigint NOT NULL,
    PRIMARY KEY (account, livemode, version)
);

-- API keys, as keyed hashes. A key is 256 random bits, so nothing slower is needed (security is in the app key as well).
CREATE TABLE api_key (
    hash       bytea PRIMARY KEY,
    id         text COLLATE "C" NOT NULL UNIQUE,
    account    text COLLATE "C" NOT NULL REFERENCES merchant ON DELETE RESTRICT,
    livemode   boolean NOT NULL,
    kind       text COLLATE "C" NOT NULL CHECK (kind IN ('secret', 'publishable')),
    -- So that people can tell their keys apart.
    last4      text NOT NULL CHECK (length(last4) = 4),
    created_at bigint NOT NULL,
    revoked_at bigint
);
CREATE INDEX api_key_by_account ON api_key (account, livemode, created_at, id);

-- How a merchant's payment page looks; null means the usual one.
CREATE TABLE merchant_brand (
    account   text COLLATE "C" PRIMARY KEY REFERENCES merchant ON DELETE RESTRICT,
    -- Instead of the merchant's name.
    name      text,
    -- As CSS writes it, lower case.
    color     text COLLATE "C" CHECK (color ~ '^#[0-9a-f]{6}$'),
    -- A PNG, JPEG or WebP picture; small, because each buyer loads it.
    logo      bytea CHECK (octet_length(logo) <= 30000),
    logo_type text COLLATE "C" CHECK ((logo IS NULL) = (logo_type IS NULL))
);

GRANT SELECT, INSERT ON merchant, merchant_mode, price_list, api_key TO guilder_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON merchant_brand TO guilder_app;
GRANT SELECT ON merchant_brand TO guilder_reader;
GRANT UPDATE (overdraft_units) ON merchant_mode TO guilder_app;
GRANT UPDATE (revoked_at) ON api_key TO guilder_app;
GRANT SELECT ON merchant, merchant_mode, price_list TO guilder_reader;
GRANT SELECT (id, account, livemode, kind, last4, created_at, revoked_at) ON api_key TO guilder_reader;
