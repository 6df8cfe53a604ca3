-- The wallet: what each merchant has, pending and available, as a view of ledger accounts. Kinds of ledger accounts here:
-- `pending` (one per day on which its money becomes available), `available` (the successor of each of them), `authorized`.

-- What the merchant sees of each movement of its balance. Never changed.
CREATE TABLE balance_transaction (
    id          text COLLATE "C" PRIMARY KEY,
    account     text COLLATE "C" NOT NULL,
    livemode    boolean NOT NULL,
    -- It is available when this day's release row exists, never by the clock; 0: at once. A refund bears its charge's day.
    day         integer NOT NULL CHECK (day >= 0),
    created_at  bigint NOT NULL,
    -- Signed: what left the balance is negative. The balance moves by amount - fee.
    amount      bigint NOT NULL,
    fee         bigint NOT NULL CHECK (fee >= 0),
    currency    text COLLATE "C" NOT NULL,
    type        text COLLATE "C" NOT NULL,
    -- The charge or refund, and the payment, that it is about.
    source      text COLLATE "C",
    payment     text COLLATE "C",
    description text
);
CREATE INDEX balance_transaction_by_account ON balance_transaction (account, livemode, id);
CREATE INDEX balance_transaction_by_source ON balance_transaction (source);

-- A day of one merchant and currency whose funds have become available.
CREATE TABLE wallet_release (
    -- The day's ledger account.
    number      bigint PRIMARY KEY,
    account     text COLLATE "C" NOT NULL,
    livemode    boolean NOT NULL,
    owner       text COLLATE "C" NOT NULL,
    currency    text COLLATE "C" NOT NULL,
    day         integer NOT NULL,
    -- What moved to available; below zero when the day was overdrawn and available made up for it.
    amount      bigint NOT NULL,
    -- Null where nothing was left to move.
    transfer    text COLLATE "C" CHECK ((transfer IS NULL) = (amount = 0)),
    released_at bigint NOT NULL,
    -- balance.available has been announced for it.
    announced   boolean NOT NULL DEFAULT false,
    UNIQUE (account, day, currency, livemode, owner)
);
CREATE INDEX wallet_release_new ON wallet_release (account, livemode) WHERE NOT announced;

-- A balance transaction of a flush; item is the index into p_ok.
CREATE TYPE balance_in AS (
    item int, id text, account text, payment text, day int, created_at bigint, amount bigint, fee bigint, currency text, type text,
    source text, description text
);

-- Store the balance transactions of those items of a flush that passed.
CREATE FUNCTION balance_transaction_append(p_livemode boolean, p_now bigint, p_entries balance_in[], p_ok boolean[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO balance_transaction (id, account, livemode, day, created_at, amount, fee, currency, type, source, payment, description)
    SELECT x.id, x.account, p_livemode, x.day, coalesce(x.created_at, p_now), x.amount, x.fee, x.currency, x.type, x.source, x.payment, x.description
    FROM unnest(p_entries) x WHERE p_ok[x.item];
$$;

-- Book as ledger_book does, with the wallet's rules. While no released day is touched the two are the same. Otherwise:
--   a new debit of a released day is drawn from its successor (available) instead;
--   what is credited to a released day, and what a resolution frees there, moves on to the successor in the same chain, as a fact
--   whose id is the item's with '.on' (credited) or '.back' (freed) behind it.
-- Repeating a batch gives `exists`, however the day stood when it was first booked.
CREATE FUNCTION wallet_book(
    p_livemode boolean, p_now bigint, p_id text[], p_chain int[], p_debit bigint[], p_credit bigint[], p_amount bigint[],
    p_kind smallint[], p_pending_id text[], p_fact boolean[], p_code smallint[], p_reference text[]
) RETURNS TABLE (ord int, result text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_origin int[];
    v_id text[];
    v_chain int[];
    v_debit bigint[];
    v_credit bigint[];
    v_amount bigint[];
    v_kind smallint[];
    v_pending_id text[];
    v_fact boolean[];
    v_code smallint[];
    v_reference text[];
BEGIN
    -- Locks the head; stores nothing when an account of the batch is closed, which a day is once it is released.
    IF ledger_fast(p_livemode, p_now, p_id, p_chain, p_debit, p_credit, p_amount, p_kind, p_pending_id, p_fact, p_code, p_reference,
                   NULL) THEN
        RETURN;
    END IF;
    WITH item AS (
        SELECT x.*, coalesce(x.chain, -x.ord::int) AS chain_number,
               -- How it was booked, if it was; its accounts; the pending transfer that it resolves, and that one's accounts.
               e.id IS NOT NULL AS known, e.debit AS known_debit, d.successor AS debit_successor, c.successor AS credit_successor,
               q.amount AS q_amount, q.debit AS q_debit, q.credit AS q_credit,
               qd.successor AS q_debit_successor, qc.successor AS q_credit_successor
        FROM unnest(p_id, p_chain, p_debit, p_credit, p_amount, p_kind, p_pending_id, p_fact, p_code, p_reference) WITH ORDINALITY
             AS x(id, chain, debit, credit, amount, kind, pending_id, fact, code, reference, ord)
        LEFT JOIN LATERAL (SELECT z.id, z.debit FROM ledger_transfer z WHERE z.id = x.id OFFSET 0) e ON true
        LEFT JOIN LATERAL (
            SELECT z.amount, z.debit, z.credit FROM ledger_transfer z WHERE z.id = x.pending_id AND x.kind >= 2 OFFSET 0) q ON true
        LEFT JOIN LATERAL (
            SELECT z.successor FROM ledger_account z WHERE z.number = x.debit AND z.closed_at IS NOT NULL AND x.kind < 2 OFFSET 0) d ON true
        LEFT JOIN LATERAL (
            SELECT z.successor FROM ledger_account z WHERE z.number = x.credit AND z.closed_at IS NOT NULL AND x.kind = 0 OFFSET 0) c ON true
        LEFT JOIN LATERAL (
            SELECT z.successor FROM ledger_account z WHERE z.number = q.debit AND z.closed_at IS NOT NULL OFFSET 0) qd ON true
        LEFT JOIN LATERAL (
            SELECT z.successor FROM ledger_account z WHERE z.number = q.credit AND z.closed_at IS NOT NULL AND x.kind = 2 OFFSET 0) qc ON true
    ), settled AS (
        SELECT i.*, CASE WHEN i.kind = 2 AND i.amount <> 0 THEN i.amount WHEN i.kind > 2 THEN 0 ELSE i.q_amount END AS posted FROM item i
    ), line AS (
        SELECT s.ord, 0 AS part, s.ord::int AS origin, s.id, s.chain_number,
               CASE WHEN NOT s.known OR s.known_debit = s.debit_successor THEN coalesce(s.debit_successor, s.debit) ELSE s.debit END AS debit,
               s.credit, s.amount, s.kind, s.pending_id, s.fact, s.code, s.reference, s.known
        FROM settled s
        UNION ALL
        SELECT s.ord, 1, s.ord::int, s.id || '.on', s.chain_number, s.credit, s.credit_successor, s.amount, 0::smallint, NULL, true, 12::smallint,
               s.reference, s.known
        FROM settled s WHERE s.credit_successor IS NOT NULL
        UNION ALL
        SELECT s.ord, 1, s.ord::int, s.id || '.on', s.chain_number, s.q_credit, s.q_credit_successor, s.posted, 0::smallint, NULL, true, 12::smallint,
               s.reference, s.known
        FROM settled s WHERE s.q_credit_successor IS NOT NULL AND s.posted > 0
        UNION ALL
        SELECT s.ord, 2, s.ord::int, s.id || '.back', s.chain_number, s.q_debit, s.q_debit_successor, s.q_amount - s.posted, 0::smallint, NULL, true,
               12::smallint, s.reference, s.known
        FROM settled s WHERE s.q_debit_successor IS NOT NULL AND s.q_amount > s.posted
    ), kept AS (
        SELECT l.* FROM line l
        WHERE l.part = 0 OR NOT l.known OR EXISTS (SELECT FROM ledger_transfer z WHERE z.id = l.id)
    )
    SELECT array_agg(k.origin ORDER BY k.ord, k.part), array_agg(k.id ORDER BY k.ord, k.part),
           array_agg(k.chain_number ORDER BY k.ord, k.part), array_agg(k.debit ORDER BY k.ord, k.part),
           array_agg(k.credit ORDER BY k.ord, k.part), array_agg(k.amount ORDER BY k.ord, k.part),
           array_agg(k.kind ORDER BY k.ord, k.part), array_agg(k.pending_id ORDER BY k.ord, k.part),
           array_agg(k.fact ORDER BY k.ord, k.part), array_agg(k.code ORDER BY k.ord, k.part),
           array_agg(k.reference ORDER BY k.ord, k.part)
    INTO v_origin, v_id, v_chain, v_debit, v_credit, v_amount, v_kind, v_pending_id, v_fact, v_code, v_reference
    FROM kept k;
    -- What was added to an item is refused with the item's name: its code is the reason, where there is one.
    RETURN QUERY
    SELECT v_origin[r.ord], coalesce(min(r.result) FILTER (WHERE r.result <> 'linked_event_failed'), 'linked_event_failed')
    FROM ledger_careful(p_livemode, p_now, coalesce(v_id, '{}'), v_chain, v_debit, v_credit, v_amount, v_kind, v_pending_id, v_fact,
                        v_code, v_reference, NULL) r
    GROUP BY 1 ORDER BY 1;
END $$;

-- Release the pending funds of every day that has come, at most one day account for each id handed in (for the transfers).
-- The amount is what the day holds, posted minus reserved, read under the head's lock: no transfer at zero, the other direction below
-- zero. Returns what was released; fewer rows than ids means that nothing is left to do. Safe to repeat and to run twice at once.
CREATE FUNCTION wallet_release_due(p_livemode boolean, p_now bigint, p_id text[])
RETURNS TABLE (account text, owner text, currency text, day int, amount bigint, transfer text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_number bigint[];
    v_successor bigint[];
    v_amount bigint[];
    v_refused text;
BEGIN
    PERFORM 1 FROM ledger_head h WHERE h.livemode = p_livemode FOR UPDATE;
    SELECT array_agg(d.number), array_agg(d.successor), array_agg(d.amount) INTO v_number, v_successor, v_amount
    FROM (SELECT a.number, a.successor, a.credits_posted - a.debits_posted - a.debits_pending AS amount
          FROM ledger_account_balance a
          WHERE a.day > 0 AND a.day <= p_now / 86400000000 AND a.closed_at IS NULL AND a.successor IS NOT NULL AND a.livemode = p_livemode
          ORDER BY a.number LIMIT cardinality(p_id)) d;
    IF v_number IS NULL THEN
        RETURN;
    END IF;
    SELECT array_to_string(r.results, ', ') INTO v_refused
    FROM (SELECT array_agg(p_id[x.ord] ORDER BY x.ord) AS id,
                 array_agg(CASE WHEN x.amount > 0 THEN x.number ELSE x.successor END ORDER BY x.ord) AS debit,
                 array_agg(CASE WHEN x.amount > 0 THEN x.successor ELSE x.number END ORDER BY x.ord) AS credit,
                 array_agg(abs(x.amount) ORDER BY x.ord) AS amount,
                 array_agg(0::smallint) AS kind, array_agg(true) AS fact, array_agg(11::smallint) AS code
          FROM unnest(v_number, v_successor, v_amount) WITH ORDINALITY AS x(number, successor, amount, ord)
          WHERE x.amount <> 0) t
    CROSS JOIN LATERAL ledger_book(p_livemode, p_now, t.id, NULL, t.debit, t.credit, t.amount, t.kind, NULL, t.fact, t.code, NULL, NULL) r
    WHERE t.id IS NOT NULL;
    IF v_refused IS NOT NULL THEN
        RAISE EXCEPTION 'a release is a fact and was refused: %', v_refused;
    END IF;
    UPDATE ledger_account a SET closed_at = p_now WHERE a.number = ANY (v_number);
    UPDATE ledger_standing s SET closed = true WHERE s.number = ANY (v_number);
    RETURN QUERY
    INSERT INTO wallet_release AS w (number, account, livemode, owner, currency, day, amount, transfer, released_at)
    SELECT a.number, a.account, a.livemode, a.owner, a.currency, a.day, x.amount, CASE WHEN x.amount <> 0 THEN p_id[x.ord] END, p_now
    FROM unnest(v_number, v_amount) WITH ORDINALITY AS x(number, amount, ord)
    CROSS JOIN LATERAL (SELECT z.* FROM ledger_account z WHERE z.number = x.number OFFSET 0) a
    RETURNING w.account, w.owner, w.currency, w.day, w.amount, w.transfer;
END $$;

-- How far a merchant's wallet may be overdrawn in a currency, from now on, on the accounts that it has; under the head's lock, so
-- that no flush decides on the old value afterwards. Returns how many accounts changed.
CREATE FUNCTION wallet_set_overdraft(p_livemode boolean, p_account text, p_currency text, p_overdraft bigint) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_count int;
BEGIN
    PERFORM 1 FROM ledger_head h WHERE h.livemode = p_livemode FOR UPDATE;
    UPDATE ledger_standing s SET overdraft = p_overdraft
    FROM ledger_account a
    WHERE a.account = p_account AND a.livemode = p_livemode AND a.currency = p_currency AND a.kind IN ('pending', 'available')
      AND a.closed_at IS NULL AND s.number = a.number AND s.overdraft <> p_overdraft;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;

-- What each merchant has: per ledger account of its wallet, what is there and not reserved.
CREATE VIEW wallet_funds AS
SELECT a.account, a.livemode, a.owner, a.currency, a.day, a.number, a.closed_at IS NOT NULL AS released,
       a.credits_posted - a.debits_posted - a.debits_pending AS amount
FROM ledger_account_balance a WHERE a.kind IN ('pending', 'available');

-- The balance: pending is what stands on days that are not released, available all the rest.
CREATE VIEW wallet_balance AS
SELECT f.account, f.livemode, f.currency,
       (coalesce(sum(f.amount) FILTER (WHERE f.day > 0 AND NOT f.released), 0))::bigint AS pending,
       (coalesce(sum(f.amount) FILTER (WHERE f.day = 0 OR f.released), 0))::bigint AS available
FROM wallet_funds f GROUP BY f.account, f.livemode, f.currency;

-- What a merchant owes: wallet accounts below zero. A fact (or an overdraft) took them there.
CREATE VIEW wallet_receivable AS
SELECT f.account, f.livemode, f.currency, (-sum(f.amount))::bigint AS amount
FROM wallet_funds f WHERE f.amount < 0 GROUP BY f.account, f.livemode, f.currency;

-- Where the wallet, the ledger and the balance transactions disagree: no rows, ever.
--   day: a day that is not released, against its balance transactions;
--   available: the available account, against the balance transactions that are available;
--   residue: money that a released day still holds.
CREATE VIEW wallet_difference AS
WITH entry AS (
    SELECT b.account, b.livemode, b.currency,
           CASE WHEN b.day > 0 AND NOT EXISTS (
                    SELECT FROM wallet_release w
                    WHERE w.account = b.account AND w.day = b.day AND w.currency = b.currency AND w.livemode = b.livemode)
                THEN b.day ELSE 0 END AS day,
           sum(b.amount - b.fee) AS amount
    FROM balance_transaction b GROUP BY 1, 2, 3, 4
), fund AS (
    SELECT f.account, f.livemode, f.currency, CASE WHEN f.released THEN 0 ELSE f.day END AS day, sum(f.amount) AS amount
    FROM wallet_funds f GROUP BY 1, 2, 3, 4
)
SELECT coalesce(e.account, f.account) AS account, coalesce(e.livemode, f.livemode) AS livemode,
       coalesce(e.currency, f.currency) AS currency, coalesce(e.day, f.day) AS day,
       CASE WHEN coalesce(e.day, f.day) > 0 THEN 'day' ELSE 'available' END AS what,
       coalesce(e.amount, 0) AS balance_transactions, coalesce(f.amount, 0) AS ledger
FROM entry e FULL JOIN fund f USING (account, livemode, currency, day)
WHERE coalesce(e.amount, 0) <> coalesce(f.amount, 0)
UNION ALL
SELECT f.account, f.livemode, f.currency, f.day, 'residue', 0, f.amount FROM wallet_funds f WHERE f.released AND f.amount <> 0;

REVOKE ALL ON FUNCTION balance_transaction_append, wallet_book, wallet_release_due, wallet_set_overdraft FROM PUBLIC;
GRANT EXECUTE ON FUNCTION balance_transaction_append, wallet_book, wallet_release_due, wallet_set_overdraft TO guilder_app;
GRANT SELECT, INSERT ON balance_transaction TO guilder_app;
GRANT SELECT ON wallet_release, wallet_funds, wallet_balance, wallet_receivable, wallet_difference TO guilder_app;
GRANT UPDATE (announced) ON wallet_release TO guilder_app;
GRANT SELECT ON balance_transaction, wallet_release, wallet_funds, wallet_balance, wallet_receivable, wallet_difference TO guilder_reader;
