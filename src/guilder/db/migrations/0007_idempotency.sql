-- One request that was begun under a key. The answer is written once, by compare-and-set (DESIGN section 3, "One answer").
-- The key comes first in the primary key: it alone is selective on a fresh, never analysed table.
-- fillfactor 35: the answer is written into the row, and the update must stay on the page (HOT).
CREATE TABLE idempotency_key (
    key          text COLLATE "C" NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    account      text COLLATE "C" NOT NULL,
    livemode     boolean NOT NULL,
    fingerprint  bytea NOT NULL,
    request_id   text COLLATE "C" NOT NULL,
    -- The payment or refund that the request works on, so that a retry can show its present state; null where nothing can be pending.
    object       text COLLATE "C",
    -- The request's expand list, comma separated, as it was accepted.
    expand       text NOT NULL DEFAULT '',
    created_at   bigint NOT NULL,
    answer       bytea,
    PRIMARY KEY (key, account, livemode)
) WITH (fillfactor = 35);

-- Keys of requests that belong to no payment are kept for 30 days.
CREATE INDEX idempotency_key_old ON idempotency_key (created_at) WHERE object IS NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_key TO guilder_app;
GRANT SELECT ON idempotency_key TO guilder_reader;
