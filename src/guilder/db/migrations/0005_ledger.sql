-- The ledger: append-only double entry. A transfer debits one account and credits one account with one positive amount.
-- Only the functions below write here; the application's role may read and may execute ledger_open and ledger_book (and
-- the wallet's functions). No trigger per row, no foreign key on the hot path: the functions check what they store.

-- One book per mode. Its row is locked by the first statement of whoever books, so that only later statements read ids,
-- balances and limits: under READ COMMITTED a statement's snapshot is older than the lock that it waited for.
CREATE TABLE ledger_head (
    livemode   boolean PRIMARY KEY,
    -- The index of the newest transfer: gapless, and the index of the Merkle log.
    last_index bigint NOT NULL,
    -- The time of the newest flush; a flush's time is max(clock, last + 1 us), so times order as indexes do.
    last_at    bigint NOT NULL,
    -- Every pending transfer whose time limit is at or before this moment is resolved.
    expired_to bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO ledger_head VALUES (false, 0, 0, 0), (true, 0, 0, 0);

-- What an account is.
CREATE TABLE ledger_account (
    -- What transfers name, because it is small; the API shows id.
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text COLLATE "C" NOT NULL UNIQUE,
    -- The merchant, and within its books whose account it is: the merchant, later a seller, a connector, 'guilder'.
    account     text COLLATE "C" NOT NULL,
    livemode    boolean NOT NULL,
    owner       text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    currency    text COLLATE "C" NOT NULL,
    -- The UTC day (since 1970) of accounts that exist per day; 0 for all others.
    day         integer NOT NULL CHECK (day >= 0),
    -- Where its money goes when it closes: a day's goes to available. Null for accounts that never close.
    successor   bigint,
    created_at  bigint NOT NULL,
    closed_at   bigint CHECK (closed_at IS NULL OR successor IS NOT NULL),
    -- The merchant's words about an account of its own.
    description text,
    metadata    bytea,
    UNIQUE (owner, account, kind, day, currency, livemode)
);
CREATE INDEX ledger_account_by_merchant ON ledger_account (account, livemode, id);
-- What the release of pending funds has to do.
CREATE INDEX ledger_account_open_days ON ledger_account (day) WHERE day > 0 AND closed_at IS NULL;

-- What stands on an account now and what it allows: all that booking has to read of it, in a narrow row of its own.
CREATE TABLE ledger_standing (
    number           bigint PRIMARY KEY,
    debits_pending   bigint NOT NULL DEFAULT 0 CHECK (debits_pending >= 0),
    debits_posted    bigint NOT NULL DEFAULT 0 CHECK (debits_posted >= 0),
    credits_pending  bigint NOT NULL DEFAULT 0 CHECK (credits_pending >= 0),
    credits_posted   bigint NOT NULL DEFAULT 0 CHECK (credits_posted >= 0),
    -- How far a limited account may be beyond its limit.
    overdraft        bigint NOT NULL CHECK (overdraft BETWEEN 0 AND 100000000000000000),
    -- Its balance rows are in the chunks from the first to the last; before it has moved the last is below the first.
    first_chunk      integer NOT NULL,
    last_chunk       integer NOT NULL,
    -- Debits (pending ones too) must not exceed posted credits plus the overdraft; the same the other way round.
    debits_limited   boolean NOT NULL,
    credits_limited  boolean NOT NULL,
    -- As in ledger_account, which see.
    closed           boolean NOT NULL DEFAULT false,
    livemode         boolean NOT NULL,
    account          text COLLATE "C" NOT NULL,
    currency         text COLLATE "C" NOT NULL
-- 30: each flush rewrites the row, and the update must stay on the page (HOT), beside the versions that a flush which waits for the
-- head may still see. No index holds any of what changes.
) WITH (fillfactor = 30, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE ledger_transfer (
    index      bigint NOT NULL,
    created_at  bigint NOT NULL,
    debit      bigint NOT NULL,
    credit     bigint NOT NULL,
    amount     bigint NOT NULL CHECK (amount > 0),
    -- A pending transfer that is neither posted nor voided by then can only expire.
    expires_at bigint,
    -- 0 posted, 1 pending, 2 post, 3 void, 4 expire; the last three resolve the pending transfer that they name.
    kind       smallint NOT NULL CHECK (kind BETWEEN 0 AND 4 AND (kind >= 2) = (pending_id IS NOT NULL)),
    -- The business event (docs/ledger.md); the merchant's own code on its own accounts.
    code       smallint NOT NULL,
    livemode   boolean NOT NULL,
    -- It reports what has already happened outside, so no limit was asked.
    fact       boolean NOT NULL,
    -- The transfer with the next index belongs to the same chain.
    linked     boolean NOT NULL,
    id         text COLLATE "C" PRIMARY KEY,
    account    text COLLATE "C" NOT NULL,
    currency   text COLLATE "C" NOT NULL,
    pending_id text COLLATE "C",
    -- What it is about: a charge, a refund.
    reference  text COLLATE "C",
    UNIQUE (index, livemode),
    CHECK (debit <> credit)
);
CREATE INDEX ledger_transfer_by_reference ON ledger_transfer (reference) WHERE reference IS NOT NULL;
-- A pending transfer is resolved once.
CREATE UNIQUE INDEX ledger_transfer_resolution ON ledger_transfer (pending_id) WHERE pending_id IS NOT NULL;
CREATE INDEX ledger_transfer_expiring ON ledger_transfer (livemode, expires_at) WHERE expires_at IS NOT NULL;

-- What stood on an account after each flush that touched it: a balance as of any moment is one row, which never changes. It is also
-- the index from accounts to transfers. A row belongs to its ledger account, whose merchant and mode are its own.
CREATE TABLE ledger_balance (
    -- base >> 18: which quarter million of the book it is in. It leads the key so that new rows go into a small, warm part of the
    -- index however large the books are (docs/ledger.md has the figures).
    chunk           integer NOT NULL,
    number          bigint NOT NULL,
    created_at      bigint NOT NULL,
    -- The flush's transfers have the indexes base + 1 .. index.
    base            bigint NOT NULL,
    index           bigint NOT NULL,
    debits_pending  bigint NOT NULL,
    debits_posted   bigint NOT NULL,
    credits_pending bigint NOT NULL,
    credits_posted  bigint NOT NULL,
    -- Which of the flush's transfers touched the account, as index - base, in no order. Null when it was at least every 32nd: then
    -- reading the flush is cheap enough, and the array would be long.
    places          integer[],
    PRIMARY KEY (chunk, number, created_at)
);

-- Every account with what stands on it now.
CREATE VIEW ledger_account_balance AS
SELECT a.*, s.debits_pending, s.debits_posted, s.credits_pending, s.credits_posted, s.debits_limited, s.credits_limited, s.overdraft,
       s.first_chunk, s.last_chunk
FROM ledger_account a CROSS JOIN LATERAL (SELECT z.* FROM ledger_standing z WHERE z.number = a.number OFFSET 0) s;

-- The newest balance row of an account at or before a moment; none when nothing had moved yet.
CREATE FUNCTION ledger_balance_at(p_number bigint, p_at bigint) RETURNS SETOF ledger_balance
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT b.*
    -- Sorted in a subquery that comes first, so that the planner knows that it may stop at the first chunk that has a row.
    FROM (SELECT g AS chunk
          FROM generate_series((SELECT s.first_chunk FROM ledger_standing s WHERE s.number = p_number),
                               (SELECT s.last_chunk FROM ledger_standing s WHERE s.number = p_number)) g
          ORDER BY g DESC) c
    CROSS JOIN LATERAL (
        SELECT z.* FROM ledger_balance z
        WHERE z.chunk = c.chunk AND z.number = p_number AND z.created_at <= p_at ORDER BY z.created_at DESC LIMIT 1) b
    ORDER BY c.chunk DESC LIMIT 1;
$$;

-- sum() of bigint goes by way of numeric; this one stays bigint and raises when it does not fit.
CREATE AGGREGATE ledger_sum(bigint) (sfunc = int8pl, stype = bigint, initcond = '0', combinefunc = int8pl, parallel = safe);

-- Open accounts, or find those that exist, by key. Returns number and id in the order of the arrays. Safe to repeat; what an
-- existing account allows is not changed.
CREATE FUNCTION ledger_open(
    p_livemode boolean, p_now bigint, p_id text[], p_account text[], p_owner text[], p_kind text[], p_currency text[], p_day int[],
    p_debits_limited boolean[], p_credits_limited boolean[], p_overdraft bigint[], p_successor bigint[], p_description text[],
    p_metadata bytea[]
) RETURNS TABLE (number bigint, id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    WITH opened AS (
        INSERT INTO ledger_account AS a (created_at, livemode, id, account, owner, kind, currency, day, successor, description, metadata)
        SELECT p_now, p_livemode, x.id, x.account, x.owner, x.kind, x.currency, x.day, x.successor, x.description, x.metadata
        FROM unnest(p_id, p_account, p_owner, p_kind, p_currency, p_day, p_successor, p_description, p_metadata)
             AS x(id, account, owner, kind, currency, day, successor, description, metadata)
        ORDER BY x.owner, x.account, x.kind, x.day, x.currency
        ON CONFLICT (owner, account, kind, day, currency, livemode) DO NOTHING
        RETURNING a.number, a.id, a.account, a.currency
    )
    INSERT INTO ledger_standing (number, first_chunk, last_chunk, livemode, account, currency, debits_limited, credits_limited, overdraft)
    SELECT o.number, h.last_index >> 18, (h.last_index >> 18) - 1, p_livemode, o.account, o.currency, x.debits_limited,
           x.credits_limited, x.overdraft
    FROM opened o
    JOIN unnest(p_id, p_debits_limited, p_credits_limited, p_overdraft) AS x(id, debits_limited, credits_limited, overdraft) ON x.id = o.id
    JOIN ledger_head h ON h.livemode = p_livemode;
    RETURN QUERY
    SELECT a.number, a.id
    FROM unnest(p_account, p_owner, p_kind, p_currency, p_day) WITH ORDINALITY AS x(account, owner, kind, currency, day, ord)
    CROSS JOIN LATERAL (
        SELECT z.number, z.id FROM ledger_account z
        WHERE z.owner = x.owner AND z.account = x.account AND z.kind = x.kind AND z.day = x.day AND z.currency = x.currency
          AND z.livemode = p_livemode OFFSET 0) a
    ORDER BY x.ord;
END $$;

-- Store transfers, the new balances and the head, in one statement. Amounts and accounts are final
-- here, p_release is what a resolution takes off the pending side. With p_guard it stores only what is certain without looking
-- at one item after the other, and returns false, having done nothing, when anything is in doubt:
--   no id repeats or exists, all fields are sound, accounts exist, are open and fit, no accumulator can overflow, and every limited
--   account would keep its limit if all of its debits counted and none of its credits (or the other way round).
CREATE FUNCTION ledger_store(
    p_livemode boolean, p_guard boolean, p_base bigint, p_at bigint, p_id text[], p_chain int[], p_debit bigint[], p_credit bigint[],
    p_amount bigint[], p_release bigint[], p_kind smallint[], p_pending_id text[], p_fact boolean[], p_code smallint[],
    p_reference text[], p_timeout bigint[]
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_fine boolean;
BEGIN
    -- Arrays are read by subscript: unnest would write every column to a tuplestore first (a twentieth of a large batch).
    WITH item AS NOT MATERIALIZED (
        -- 1e15: AMOUNT_MAX. What cannot be counts as 0, which is not sound, so that no sum of it can fail.
        SELECT i AS place, p_debit[i] AS debit, p_credit[i] AS credit,
               CASE WHEN p_amount[i] BETWEEN 1 AND 1000000000000000 THEN p_amount[i] ELSE 0 END AS amount, p_kind[i] AS kind, p_release[i] AS release,
               p_fact[i] AS fact, p_timeout[i] AS timeout
        FROM generate_series(1, cardinality(p_id)) AS x(i) OFFSET 0
    ), side AS (
        SELECT x.debit AS number, x.place,
               CASE WHEN x.kind IN (0, 2) THEN x.amount ELSE 0 END AS debits_posted,
               CASE WHEN x.kind = 1 THEN x.amount ELSE 0 END AS debits_pending,
               coalesce(x.release, 0) AS debits_released,
               0::bigint AS credits_posted, 0::bigint AS credits_pending, 0::bigint AS credits_released,
               x.kind < 2 AND x.fact IS NOT TRUE AS debits_asked, false AS credits_asked,
               x.debit <> x.credit AND x.amount > 0
               AND (x.kind BETWEEN 0 AND 1 OR (x.kind IN (2, 3) AND p_release IS NOT NULL))
               AND (x.timeout IS NULL OR (x.kind = 1 AND x.timeout > 0)) AS sound
        FROM item x
        UNION ALL
        SELECT x.credit, x.place, 0, 0, 0,
               CASE WHEN x.kind IN (0, 2) THEN x.amount ELSE 0 END,
               CASE WHEN x.kind = 1 THEN x.amount ELSE 0 END,
               coalesce(x.release, 0),
               false, x.kind < 2 AND x.fact IS NOT TRUE, true
        FROM item x
    ), total AS (
        SELECT s.number,
               ledger_sum(s.debits_posted) AS debits_posted, ledger_sum(s.debits_pending) AS debits_pending,
               ledger_sum(s.debits_released) AS debits_released,
               ledger_sum(s.credits_posted) AS credits_posted, ledger_sum(s.credits_pending) AS credits_pending,
               ledger_sum(s.credits_released) AS credits_released,
               bool_or(s.debits_asked) AS debits_asked, bool_or(s.credits_asked) AS credits_asked,
               bool_and(s.sound IS TRUE) AS sound,
               -- 32: see ledger_balance.places.
               CASE WHEN count(*) * 32 < cardinality(p_id) THEN array_agg(s.place) END AS places
        -- In order: neighbours in the tables are then looked up, updated and inserted one after the other (15% of a large batch).
        FROM side s GROUP BY s.number ORDER BY s.number
    ), seen AS MATERIALIZED (
        SELECT t.number, t.places, a.spot, a.account, a.currency,
               -- Cut to what fits (see below), because adding up must not fail where the verdict is still to come. What is stored
               -- was not cut. Behind the careful path everything fits, and a release may be of what the same batch reserved.
               a.debits_pending - t.debits_released + CASE WHEN p_guard THEN
                   least(t.debits_pending, 9000000000000000000 - (a.debits_pending - t.debits_released)) ELSE t.debits_pending
                   END AS debits_pending,
               a.debits_posted + least(t.debits_posted, 9000000000000000000 - a.debits_posted) AS debits_posted,
               a.credits_pending - t.credits_released + CASE WHEN p_guard THEN
                   least(t.credits_pending, 9000000000000000000 - (a.credits_pending - t.credits_released)) ELSE t.credits_pending
                   END AS credits_pending,
               a.credits_posted + least(t.credits_posted, 9000000000000000000 - a.credits_posted) AS credits_posted,
               -- 9e18: the largest round number that a bigint holds; pending and posted together stay below it on each side.
               t.sound AND a.spot IS NOT NULL AND NOT a.closed
               AND t.debits_posted + t.debits_pending <= 9000000000000000000 - (a.debits_posted + a.debits_pending)
               AND t.credits_posted + t.credits_pending <= 9000000000000000000 - (a.credits_posted + a.credits_pending)
               AND (NOT (a.debits_limited AND t.debits_asked)
                    OR t.debits_posted + t.debits_pending <= a.credits_posted - (a.debits_posted + a.debits_pending) + a.overdraft)
               AND (NOT (a.credits_limited AND t.credits_asked)
                    OR t.credits_posted + t.credits_pending <= a.debits_posted - (a.credits_posted + a.credits_pending) + a.overdraft)
               AS fine
        FROM total t LEFT JOIN LATERAL (
            SELECT z.ctid AS spot, z.* FROM ledger_standing z WHERE z.number = t.number AND z.livemode = p_livemode OFFSET 0) a ON true
    ), common AS MATERIALIZED (
        -- The one merchant and currency of the batch, null when there are several.
        SELECT CASE WHEN c.same THEN f.account END AS account, CASE WHEN c.same THEN f.currency END AS currency
        FROM (SELECT s.account, s.currency FROM seen s LIMIT 1) f
        CROSS JOIN LATERAL (SELECT bool_and(s.account = f.account AND s.currency = f.currency) AS same FROM seen s) c
    ), verdict AS MATERIALIZED (
        SELECT k.account, k.currency, NOT p_guard OR (
            (SELECT bool_and(s.fine) FROM seen s)
            AND (SELECT count(*) FROM (SELECT FROM unnest(p_id) AS x(id) WHERE x.id <> '' GROUP BY x.id) d) = cardinality(p_id)
            -- Ids are time-ordered, so hardly one of a new batch is below the highest that is stored.
            AND NOT EXISTS (
                SELECT FROM unnest(p_id) AS x(id)
                CROSS JOIN LATERAL (SELECT FROM ledger_transfer z WHERE z.id = x.id OFFSET 0) e
                WHERE x.id <= (SELECT max(z.id) FROM ledger_transfer z))
            AND (k.account IS NOT NULL OR NOT EXISTS (
                SELECT FROM unnest(p_debit, p_credit) AS x(debit, credit)
                CROSS JOIN LATERAL (SELECT z.account, z.currency FROM ledger_standing z WHERE z.number = x.debit OFFSET 0) d
                CROSS JOIN LATERAL (SELECT z.account, z.currency FROM ledger_standing z WHERE z.number = x.credit OFFSET 0) c
                WHERE d.account <> c.account OR d.currency <> c.currency))
        ) AS fine
        FROM common k
    ), moved AS (
        UPDATE ledger_standing a SET
            debits_pending = s.debits_pending, debits_posted = s.debits_posted, credits_pending = s.credits_pending,
            credits_posted = s.credits_posted, last_chunk = p_base >> 18
        FROM seen s, verdict v WHERE v.fine AND a.ctid = s.spot
    ), kept AS (
        INSERT INTO ledger_balance (chunk, number, created_at, base, index, debits_pending, debits_posted, credits_pending,
                                    credits_posted, places)
        SELECT p_base >> 18, s.number, p_at, p_base, p_base + cardinality(p_id), s.debits_pending, s.debits_posted, s.credits_pending,
               s.credits_posted, s.places
        FROM seen s, verdict v WHERE v.fine
    ), head AS (
        UPDATE ledger_head h SET last_index = p_base + cardinality(p_id), last_at = p_at
        FROM verdict v WHERE v.fine AND h.livemode = p_livemode
    ), stored AS (
        INSERT INTO ledger_transfer (index, created_at, debit, credit, amount, expires_at, kind, code, livemode, fact, linked, id,
                                     account, currency, pending_id, reference)
        SELECT p_base + x.i, p_at, p_debit[x.i], p_credit[x.i], p_amount[x.i], p_at + p_timeout[x.i], p_kind[x.i], p_code[x.i], p_livemode,
               p_fact[x.i] IS TRUE, coalesce(p_chain[x.i] = p_chain[x.i + 1], false), p_id[x.i],
               coalesce(v.account, (SELECT z.account FROM ledger_standing z WHERE z.number = p_debit[x.i])),
               coalesce(v.currency, (SELECT z.currency FROM ledger_standing z WHERE z.number = p_debit[x.i])),
               p_pending_id[x.i], p_reference[x.i]
        FROM verdict v, generate_series(1, cardinality(p_id)) AS x(i)
        WHERE v.fine
    )
    SELECT v.fine INTO v_fine FROM verdict v;
    RETURN coalesce(v_fine, false);
END $$;

-- The fast path: true when the whole batch is stored, false when nothing is. Locks the head first.
CREATE FUNCTION ledger_fast(
    p_livemode boolean, p_now bigint, p_id text[], p_chain int[], p_debit bigint[], p_credit bigint[], p_amount bigint[],
    p_kind smallint[], p_pending_id text[], p_fact boolean[], p_code smallint[], p_reference text[], p_timeout bigint[]
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_base bigint;
    v_at bigint;
    v_debit bigint[] := p_debit;
    v_credit bigint[] := p_credit;
    v_amount bigint[] := p_amount;
    v_release bigint[];
    v_sound boolean;
BEGIN
    SELECT h.last_index, greatest(p_now, h.last_at + 1) INTO v_base, v_at
    FROM ledger_head h WHERE h.livemode = p_livemode FOR UPDATE;
    -- 8189: the largest batch, as in the field; it bounds how long the head is locked (about 0.1 s).
    IF cardinality(p_id) > 8189 THEN
        RAISE EXCEPTION 'a batch has at most 8189 transfers, not %', cardinality(p_id) USING ERRCODE = 'program_limit_exceeded';
    END IF;
    IF p_pending_id IS NOT NULL AND EXISTS (SELECT FROM unnest(p_pending_id) x WHERE x IS NOT NULL) THEN
        -- Resolutions: what they name must be in the books, pending, without a time limit, and named once.
        SELECT array_agg(CASE WHEN x.kind < 2 THEN x.debit ELSE q.debit END ORDER BY x.ord),
               array_agg(CASE WHEN x.kind < 2 THEN x.credit ELSE q.credit END ORDER BY x.ord),
               array_agg(CASE WHEN x.kind = 3 OR (x.kind = 2 AND x.amount = 0) THEN q.amount ELSE x.amount END ORDER BY x.ord),
               array_agg(CASE WHEN x.kind >= 2 THEN q.amount ELSE 0 END ORDER BY x.ord),
               bool_and(CASE WHEN x.kind < 2 THEN x.pending_id IS NULL
                             ELSE x.kind < 4 AND q.kind = 1 AND q.expires_at IS NULL AND r.kind IS NULL
                                  AND x.debit IN (0, q.debit) AND x.credit IN (0, q.credit)
                                  AND CASE WHEN x.kind = 2 THEN x.amount BETWEEN 0 AND q.amount ELSE x.amount IN (0, q.amount) END
                             END IS TRUE)
               AND count(x.pending_id) = count(DISTINCT x.pending_id)
        INTO v_debit, v_credit, v_amount, v_release, v_sound
        FROM unnest(p_debit, p_credit, p_amount, p_kind, p_pending_id) WITH ORDINALITY AS x(debit, credit, amount, kind, pending_id, ord)
        LEFT JOIN LATERAL (
            SELECT z.debit, z.credit, z.amount, z.kind, z.expires_at FROM ledger_transfer z
            WHERE z.id = x.pending_id AND z.livemode = p_livemode OFFSET 0) q ON true
        LEFT JOIN LATERAL (SELECT z.kind FROM ledger_transfer z WHERE z.pending_id = x.pending_id OFFSET 0) r ON true;
        IF NOT v_sound THEN
            RETURN false;
        END IF;
    END IF;
    RETURN ledger_store(p_livemode, true, v_base, v_at, p_id, p_chain, v_debit, v_credit, v_amount, v_release, p_kind, p_pending_id,
                        p_fact, p_code, p_reference, p_timeout);
END $$;

-- The careful path: item by item, as if each chain had come alone, in memory; then one ledger_store of what passed.
-- Returns the exceptions: the item's ordinal and a code of docs/ledger.md, in the documented precedence. A chain is booked whole
-- or not at all. Locks the head.
CREATE FUNCTION ledger_careful(
    p_livemode boolean, p_now bigint, p_id text[], p_chain int[], p_debit bigint[], p_credit bigint[], p_amount bigint[],
    p_kind smallint[], p_pending_id text[], p_fact boolean[], p_code smallint[], p_reference text[], p_timeout bigint[]
) RETURNS TABLE (ord int, result text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    c_room constant bigint := 9000000000000000000;
    n int := cardinality(p_id);
    v_base bigint;
    v_at bigint;
    -- By item, from the database: the comparison with a stored transfer of this id; the pending transfer that it names (q) and
    -- how that one was resolved.
    v_known text[];
    q_kind smallint[];
    q_debit bigint[];
    q_credit bigint[];
    q_amount bigint[];
    q_expires bigint[];
    q_resolved smallint[];
    -- By item: which distinct id of the batch it has and names, and which slots of the account arrays it moves.
    v_name int[];
    v_named int[];
    v_debit_slot int[];
    v_credit_slot int[];
    -- By slot: the accounts.
    a_number bigint[];
    a_merchant text[];
    a_currency text[];
    a_debits_pending bigint[];
    a_debits_posted bigint[];
    a_credits_pending bigint[];
    a_credits_posted bigint[];
    a_debits_limited boolean[];
    a_credits_limited boolean[];
    a_overdraft bigint[];
    -- By distinct id: the item of this batch that holds it, and the item that resolved it.
    v_holder int[] := array_fill(0, ARRAY[2 * n + 1]);
    v_resolver int[] := array_fill(0, ARRAY[2 * n + 1]);
    -- By item: what is stored in the end.
    v_debit bigint[] := p_debit;
    v_credit bigint[] := p_credit;
    v_amount bigint[] := p_amount;
    v_release bigint[] := array_fill(0::bigint, ARRAY[n]);
    v_chain int[] := array_fill(0, ARRAY[n]);
    v_result text[] := array_fill(NULL::text, ARRAY[n]);
    v_first int := 1;
    v_last int;
    v_current int;
    v_exists int;
    v_code text;
    v_refused boolean;
    j int;
    d int;
    c int;
    v_pending_kind smallint;
    v_expires bigint;
    v_resolution smallint;
BEGIN
    SELECT h.last_index, greatest(p_now, h.last_at + 1) INTO v_base, v_at
    FROM ledger_head h WHERE h.livemode = p_livemode FOR UPDATE;
    IF n = 0 THEN
        RETURN;
    END IF;

    SELECT array_agg(CASE
               WHEN e.id IS NULL THEN NULL
               WHEN e.livemode <> p_livemode OR e.kind IS DISTINCT FROM x.kind OR e.fact <> (x.fact IS TRUE)
                   THEN 'exists_with_different_kind'
               WHEN e.pending_id IS DISTINCT FROM x.pending_id THEN 'exists_with_different_pending_id'
               WHEN e.expires_at - e.created_at IS DISTINCT FROM x.timeout THEN 'exists_with_different_timeout'
               WHEN x.debit IS DISTINCT FROM e.debit AND NOT (x.kind >= 2 AND x.debit = 0) THEN 'exists_with_different_debit_account'
               WHEN x.credit IS DISTINCT FROM e.credit AND NOT (x.kind >= 2 AND x.credit = 0)
                   THEN 'exists_with_different_credit_account'
               WHEN x.amount IS DISTINCT FROM e.amount
                    AND NOT (x.kind >= 2 AND x.amount = 0 AND e.amount = q.amount) THEN 'exists_with_different_amount'
               WHEN e.code IS DISTINCT FROM x.code THEN 'exists_with_different_code'
               WHEN e.reference IS DISTINCT FROM x.reference THEN 'exists_with_different_reference'
               ELSE 'exists' END ORDER BY x.ord),
           array_agg(q.kind ORDER BY x.ord), array_agg(q.debit ORDER BY x.ord), array_agg(q.credit ORDER BY x.ord),
           array_agg(q.amount ORDER BY x.ord), array_agg(q.expires_at ORDER BY x.ord), array_agg(r.kind ORDER BY x.ord)
    INTO v_known, q_kind, q_debit, q_credit, q_amount, q_expires, q_resolved
    FROM unnest(p_id, p_debit, p_credit, p_amount, p_kind, p_pending_id, p_fact, p_code, p_reference, p_timeout) WITH ORDINALITY
         AS x(id, debit, credit, amount, kind, pending_id, fact, code, reference, timeout, ord)
    LEFT JOIN LATERAL (SELECT z.* FROM ledger_transfer z WHERE z.id = x.id OFFSET 0) e ON true
    LEFT JOIN LATERAL (
        SELECT z.debit, z.credit, z.amount, z.kind, z.expires_at FROM ledger_transfer z
        WHERE z.id = x.pending_id AND z.livemode = p_livemode OFFSET 0) q ON true
    LEFT JOIN LATERAL (SELECT z.kind FROM ledger_transfer z WHERE z.pending_id = x.pending_id OFFSET 0) r ON true;

    SELECT array_agg(y.name ORDER BY y.ord) FILTER (WHERE y.side = 1), array_agg(y.name ORDER BY y.ord) FILTER (WHERE y.side = 2)
    INTO v_name, v_named
    FROM (SELECT s.ord, s.side, dense_rank() OVER (ORDER BY s.id)::int AS name
          FROM (SELECT x.id, x.ord, 1 AS side FROM unnest(p_id) WITH ORDINALITY AS x(id, ord)
                UNION ALL
                SELECT p_pending_id[x.i], x.i, 2 FROM generate_series(1, n) AS x(i)) s) y;

    SELECT array_agg(y.slot ORDER BY y.ord) FILTER (WHERE y.side = 1), array_agg(y.slot ORDER BY y.ord) FILTER (WHERE y.side = 2)
    INTO v_debit_slot, v_credit_slot
    FROM (SELECT s.ord, s.side, dense_rank() OVER (ORDER BY s.number)::int AS slot
          FROM (SELECT CASE WHEN x.kind >= 2 THEN x.pending ELSE x.number END AS number, x.ord, 1 AS side
                FROM unnest(p_debit, q_debit, p_kind) WITH ORDINALITY AS x(number, pending, kind, ord)
                UNION ALL
                SELECT CASE WHEN x.kind >= 2 THEN x.pending ELSE x.number END, x.ord, 2
                FROM unnest(p_credit, q_credit, p_kind) WITH ORDINALITY AS x(number, pending, kind, ord)) s) y;

    -- The same distinct numbers in the same order, a null last, so that positions are the slots from above.
    SELECT array_agg(a.number ORDER BY t.number), array_agg(a.account ORDER BY t.number), array_agg(a.currency ORDER BY t.number),
           array_agg(a.debits_pending ORDER BY t.number), array_agg(a.debits_posted ORDER BY t.number),
           array_agg(a.credits_pending ORDER BY t.number), array_agg(a.credits_posted ORDER BY t.number),
           array_agg(a.debits_limited ORDER BY t.number), array_agg(a.credits_limited ORDER BY t.number),
           array_agg(a.overdraft ORDER BY t.number)
    INTO a_number, a_merchant, a_currency, a_debits_pending, a_debits_posted, a_credits_pending, a_credits_posted,
         a_debits_limited, a_credits_limited, a_overdraft
    FROM (SELECT CASE WHEN x.kind >= 2 THEN x.pending ELSE x.number END AS number FROM unnest(p_debit, q_debit, p_kind) AS x(number, pending, kind)
          UNION
          SELECT CASE WHEN x.kind >= 2 THEN x.pending ELSE x.number END FROM unnest(p_credit, q_credit, p_kind) AS x(number, pending, kind)) t
    LEFT JOIN LATERAL (SELECT z.* FROM ledger_standing z WHERE z.number = t.number AND z.livemode = p_livemode OFFSET 0) a ON true;

    WHILE v_first <= n LOOP
        v_last := v_first;
        WHILE v_last < n AND p_chain[v_last + 1] = p_chain[v_first] LOOP
            v_last := v_last + 1;
        END LOOP;
        v_exists := 0;
        v_code := NULL;
        FOR i IN v_first .. v_last LOOP
            v_current := i;
            v_chain[i] := v_first;
            j := v_holder[v_name[i]];
            -- The order of these tests is the documented precedence of the codes.
            v_code := CASE
                WHEN (p_id[i] <> '') IS NOT TRUE THEN 'id_must_not_be_empty'
                WHEN v_known[i] IS NOT NULL THEN v_known[i]
                WHEN j > 0 THEN CASE
                    WHEN p_kind[j] IS DISTINCT FROM p_kind[i] OR (p_fact[j] IS TRUE) <> (p_fact[i] IS TRUE)
                        THEN 'exists_with_different_kind'
                    WHEN p_pending_id[j] IS DISTINCT FROM p_pending_id[i] THEN 'exists_with_different_pending_id'
                    WHEN p_timeout[j] IS DISTINCT FROM p_timeout[i] THEN 'exists_with_different_timeout'
                    WHEN p_debit[i] IS DISTINCT FROM v_debit[j] AND NOT (p_kind[i] >= 2 AND p_debit[i] = 0)
                        THEN 'exists_with_different_debit_account'
                    WHEN p_credit[i] IS DISTINCT FROM v_credit[j] AND NOT (p_kind[i] >= 2 AND p_credit[i] = 0)
                        THEN 'exists_with_different_credit_account'
                    WHEN p_amount[i] IS DISTINCT FROM v_amount[j]
                         AND NOT (p_kind[i] >= 2 AND p_amount[i] = 0 AND v_amount[j] = v_release[j])
                        THEN 'exists_with_different_amount'
                    WHEN p_code[j] IS DISTINCT FROM p_code[i] THEN 'exists_with_different_code'
                    WHEN p_reference[j] IS DISTINCT FROM p_reference[i] THEN 'exists_with_different_reference'
                    ELSE 'exists' END
                WHEN (p_kind[i] BETWEEN 0 AND 4) IS NOT TRUE OR p_code[i] IS NULL THEN 'kind_unknown'
                WHEN p_kind[i] >= 2 AND p_pending_id[i] IS NULL THEN 'pending_id_must_be_set'
                WHEN p_kind[i] < 2 AND p_pending_id[i] IS NOT NULL THEN 'pending_id_must_not_be_set'
                WHEN p_timeout[i] IS NOT NULL AND p_kind[i] <> 1 THEN 'timeout_reserved_for_pending_transfer'
                WHEN p_timeout[i] <= 0 THEN 'timeout_must_be_positive'
                WHEN (p_amount[i] >= CASE WHEN p_kind[i] < 2 THEN 1 ELSE 0 END) IS NOT TRUE THEN 'amount_must_be_positive'
                WHEN p_amount[i] > 1000000000000000 THEN 'amount_too_large'
                WHEN p_kind[i] < 2 AND p_debit[i] = p_credit[i] THEN 'accounts_must_be_different'
            END;
            IF v_code = 'exists' THEN
                v_result[i] := v_code;
                v_exists := v_exists + 1;
                CONTINUE;
            END IF;
            EXIT WHEN v_code IS NOT NULL;

            IF p_kind[i] < 2 THEN
                d := v_debit_slot[i];
                c := v_credit_slot[i];
                v_code := CASE
                    WHEN a_number[d] IS NULL THEN 'debit_account_not_found'
                    WHEN a_number[c] IS NULL THEN 'credit_account_not_found'
                    WHEN a_merchant[d] <> a_merchant[c] THEN 'accounts_must_have_the_same_merchant'
                    WHEN a_currency[d] <> a_currency[c] THEN 'accounts_must_have_the_same_currency'
                    WHEN p_amount[i] > c_room - (a_debits_posted[d] + a_debits_pending[d]) THEN 'overflows_debits'
                    WHEN p_amount[i] > c_room - (a_credits_posted[c] + a_credits_pending[c]) THEN 'overflows_credits'
                    WHEN p_fact[i] IS TRUE THEN NULL
                    WHEN a_debits_limited[d] AND p_amount[i]
                         > a_credits_posted[d] - (a_debits_posted[d] + a_debits_pending[d]) + a_overdraft[d] THEN 'exceeds_credits'
                    WHEN a_credits_limited[c] AND p_amount[i]
                         > a_debits_posted[c] - (a_credits_posted[c] + a_credits_pending[c]) + a_overdraft[c] THEN 'exceeds_debits'
                END;
                EXIT WHEN v_code IS NOT NULL;
            ELSE
                -- What it resolves stands in the books, or earlier in this batch.
                j := v_holder[v_named[i]];
                IF q_kind[i] IS NULL AND j > 0 THEN
                    q_debit[i] := v_debit[j];
                    q_credit[i] := v_credit[j];
                    q_amount[i] := v_amount[j];
                    v_pending_kind := p_kind[j];
                    v_expires := v_at + p_timeout[j];
                    v_debit_slot[i] := v_debit_slot[j];
                    v_credit_slot[i] := v_credit_slot[j];
                ELSE
                    v_pending_kind := q_kind[i];
                    v_expires := q_expires[i];
                END IF;
                v_resolution := q_resolved[i];
                IF v_resolver[v_named[i]] > 0 THEN
                    v_resolution := p_kind[v_resolver[v_named[i]]];
                END IF;
                v_code := CASE
                    WHEN v_pending_kind IS NULL THEN 'pending_transfer_not_found'
                    WHEN v_pending_kind <> 1 THEN 'pending_transfer_not_pending'
                    WHEN p_debit[i] IS DISTINCT FROM q_debit[i] AND p_debit[i] IS DISTINCT FROM 0
                        THEN 'pending_transfer_has_different_debit_account'
                    WHEN p_credit[i] IS DISTINCT FROM q_credit[i] AND p_credit[i] IS DISTINCT FROM 0
                        THEN 'pending_transfer_has_different_credit_account'
                    WHEN p_amount[i] > q_amount[i] THEN 'exceeds_pending_transfer_amount'
                    WHEN p_kind[i] > 2 AND p_amount[i] NOT IN (0, q_amount[i]) THEN 'pending_transfer_has_different_amount'
                    WHEN v_resolution = 2 THEN 'pending_transfer_already_posted'
                    WHEN v_resolution = 3 THEN 'pending_transfer_already_voided'
                    WHEN v_resolution = 4 THEN 'pending_transfer_expired'
                    WHEN p_kind[i] < 4 AND v_expires <= v_at THEN 'pending_transfer_expired'
                    WHEN p_kind[i] = 4 AND (v_expires <= v_at) IS NOT TRUE THEN 'pending_transfer_not_expired'
                END;
                EXIT WHEN v_code IS NOT NULL;
                v_resolver[v_named[i]] := i;
                d := v_debit_slot[i];
                c := v_credit_slot[i];
                v_debit[i] := q_debit[i];
                v_credit[i] := q_credit[i];
                v_release[i] := q_amount[i];
                IF p_kind[i] > 2 OR p_amount[i] = 0 THEN
                    v_amount[i] := q_amount[i];
                END IF;
                a_debits_pending[d] := a_debits_pending[d] - v_release[i];
                a_credits_pending[c] := a_credits_pending[c] - v_release[i];
            END IF;
            v_holder[v_name[i]] := i;
            IF p_kind[i] = 1 THEN
                a_debits_pending[d] := a_debits_pending[d] + v_amount[i];
                a_credits_pending[c] := a_credits_pending[c] + v_amount[i];
            ELSIF p_kind[i] < 3 THEN
                a_debits_posted[d] := a_debits_posted[d] + v_amount[i];
                a_credits_posted[c] := a_credits_posted[c] + v_amount[i];
            END IF;
        END LOOP;

        v_refused := v_code IS NOT NULL AND v_code <> 'exists';
        IF v_refused OR v_exists NOT IN (0, v_last - v_first + 1) THEN
            -- Take back what the chain's members did, and say why it was refused.
            FOR i IN v_first .. v_last LOOP
                IF v_holder[v_name[i]] = i THEN
                    d := v_debit_slot[i];
                    c := v_credit_slot[i];
                    v_holder[v_name[i]] := 0;
                    IF p_kind[i] = 1 THEN
                        a_debits_pending[d] := a_debits_pending[d] - v_amount[i];
                        a_credits_pending[c] := a_credits_pending[c] - v_amount[i];
                    ELSIF p_kind[i] < 3 THEN
                        a_debits_posted[d] := a_debits_posted[d] - v_amount[i];
                        a_credits_posted[c] := a_credits_posted[c] - v_amount[i];
                    END IF;
                    IF p_kind[i] >= 2 THEN
                        v_resolver[v_named[i]] := 0;
                        a_debits_pending[d] := a_debits_pending[d] + v_release[i];
                        a_credits_pending[c] := a_credits_pending[c] + v_release[i];
                    END IF;
                END IF;
                v_result[i] := CASE
                    WHEN v_refused AND i = v_current THEN v_code
                    WHEN NOT v_refused AND v_result[i] = 'exists' THEN 'chain_exists_in_part'
                    ELSE 'linked_event_failed' END;
            END LOOP;
        END IF;
        v_first := v_last + 1;
    END LOOP;

    IF array_position(v_result, NULL) IS NOT NULL THEN
        PERFORM ledger_store(p_livemode, false, v_base, v_at, s.id, s.chain, s.debit, s.credit, s.amount, s.release, s.kind, s.pending_id,
                             s.fact, s.code, s.reference, s.timeout)
        FROM (SELECT array_agg(x.id ORDER BY x.ord) AS id, array_agg(x.chain ORDER BY x.ord) AS chain,
                     array_agg(x.debit ORDER BY x.ord) AS debit, array_agg(x.credit ORDER BY x.ord) AS credit,
                     array_agg(x.amount ORDER BY x.ord) AS amount, array_agg(x.release ORDER BY x.ord) AS release,
                     array_agg(x.kind ORDER BY x.ord) AS kind, array_agg(x.pending_id ORDER BY x.ord) AS pending_id,
                     array_agg(x.fact ORDER BY x.ord) AS fact, array_agg(x.code ORDER BY x.ord) AS code,
                     array_agg(x.reference ORDER BY x.ord) AS reference, array_agg(x.timeout ORDER BY x.ord) AS timeout
              FROM unnest(p_id, v_chain, v_debit, v_credit, v_amount, v_release, p_kind, p_pending_id, p_fact, p_code, p_reference,
                          p_timeout, v_result) WITH ORDINALITY
                   AS x(id, chain, debit, credit, amount, release, kind, pending_id, fact, code, reference, timeout, result, ord)
              WHERE x.result IS NULL) s;
    END IF;
    RETURN QUERY SELECT x.ord::int, x.result FROM unnest(v_result) WITH ORDINALITY AS x(result, ord) WHERE x.result IS NOT NULL ORDER BY 1;
END $$;

-- Book a batch, each chain whole or not at all; members of a chain are adjacent and bear the same number in p_chain (null: no chains).
-- p_timeout: microseconds. Returns one row: the exceptions (ordinals from 1, and their codes; null when there are none), the index of
-- the newest transfer and the flush's time. Whatever is not listed was stored, so the indexes of what was stored can be counted.
-- 32 MB: a full batch is aggregated in memory (measured: it spills at the default).
CREATE FUNCTION ledger_book(
    p_livemode boolean, p_now bigint, p_id text[], p_chain int[], p_debit bigint[], p_credit bigint[], p_amount bigint[],
    p_kind smallint[], p_pending_id text[], p_fact boolean[], p_code smallint[], p_reference text[], p_timeout bigint[],
    OUT ords int[], OUT results text[], OUT last_index bigint, OUT created_at bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET work_mem = '32MB' AS $$
#variable_conflict use_column
BEGIN
    IF NOT ledger_fast(p_livemode, p_now, p_id, p_chain, p_debit, p_credit, p_amount, p_kind, p_pending_id, p_fact, p_code,
                       p_reference, p_timeout) THEN
        SELECT array_agg(r.ord), array_agg(r.result) INTO ords, results
        FROM ledger_careful(p_livemode, p_now, p_id, p_chain, p_debit, p_credit, p_amount, p_kind, p_pending_id, p_fact, p_code,
                            p_reference, p_timeout) r;
    END IF;
    SELECT h.last_index, h.last_at INTO last_index, created_at FROM ledger_head h WHERE h.livemode = p_livemode;
END $$;

-- Let pending transfers expire whose time limit has passed, at most one for each id handed in (for the transfers that resolve them).
-- Returns how many; fewer than ids means that nothing is left to do. Safe to repeat and to run twice at once.
CREATE FUNCTION ledger_expire(p_livemode boolean, p_now bigint, p_id text[]) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_at bigint;
    v_from bigint;
    v_due text[];
    v_code smallint[];
    v_count int;
    v_refused text;
BEGIN
    SELECT greatest(p_now, h.last_at), h.expired_to INTO v_at, v_from FROM ledger_head h WHERE h.livemode = p_livemode FOR UPDATE;
    SELECT array_agg(d.id), array_agg(d.code) INTO v_due, v_code
    FROM (SELECT t.id, t.code FROM ledger_transfer t
          WHERE t.expires_at > v_from AND t.expires_at <= v_at AND t.livemode = p_livemode
            AND NOT EXISTS (SELECT FROM ledger_transfer r WHERE r.pending_id = t.id)
          ORDER BY t.expires_at LIMIT cardinality(p_id)) d;
    v_count := coalesce(cardinality(v_due), 0);
    IF v_count > 0 THEN
        SELECT min(r.result) INTO v_refused
        FROM ledger_careful(p_livemode, p_now, p_id[1:v_count], NULL, array_fill(0::bigint, ARRAY[v_count]),
                            array_fill(0::bigint, ARRAY[v_count]), array_fill(0::bigint, ARRAY[v_count]),
                            array_fill(4::smallint, ARRAY[v_count]), v_due, NULL, v_code, NULL, NULL) r;
        IF v_refused IS NOT NULL THEN
            RAISE EXCEPTION 'what is due to expire was refused: %', v_refused;
        END IF;
    END IF;
    IF v_count < cardinality(p_id) THEN
        -- Later flushes get a later time than v_at, so no time limit at or before it can appear any more.
        UPDATE ledger_head h SET expired_to = v_at, last_at = greatest(h.last_at, v_at) WHERE h.livemode = p_livemode AND h.expired_to < v_at;
    END IF;
    RETURN v_count;
END $$;

-- Per merchant, mode and currency: debits equal credits, posted and pending, at all times.
CREATE VIEW ledger_trial_balance AS
SELECT account, livemode, currency,
       sum(debits_posted) AS debits_posted, sum(credits_posted) AS credits_posted,
       sum(debits_pending) AS debits_pending, sum(credits_pending) AS credits_pending
FROM ledger_account_balance GROUP BY account, livemode, currency;

-- What Guilder's operator earned, per merchant, currency and UTC day (since 1970): the movement of its fee accounts, read from
-- the balance rows at the ends of the day. From the day before the account was opened, because clocks of processes differ.
CREATE VIEW ledger_revenue AS
SELECT a.account, a.livemode, a.currency, d.day, c.credits_posted - c.debits_posted - coalesce(o.credits_posted - o.debits_posted, 0) AS amount
FROM ledger_account a
JOIN ledger_head h ON h.livemode = a.livemode
CROSS JOIN LATERAL generate_series(a.created_at / 86400000000 - 1, h.last_at / 86400000000) AS d(day)
CROSS JOIN LATERAL ledger_balance_at(a.number, (d.day + 1) * 86400000000 - 1) c
LEFT JOIN LATERAL ledger_balance_at(a.number, d.day * 86400000000 - 1) o ON true
WHERE a.kind = 'fees' AND a.owner = 'guilder'
  AND c.credits_posted - c.debits_posted IS DISTINCT FROM coalesce(o.credits_posted - o.debits_posted, 0);

REVOKE ALL ON FUNCTION ledger_open, ledger_store, ledger_fast, ledger_careful, ledger_book, ledger_expire FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger_open, ledger_book, ledger_expire TO guilder_app;
GRANT EXECUTE ON FUNCTION ledger_balance_at TO guilder_app, guilder_reader;
GRANT SELECT ON ledger_head, ledger_account, ledger_standing, ledger_transfer, ledger_balance, ledger_account_balance, ledger_trial_balance, ledger_revenue
    TO guilder_app, guilder_reader;
