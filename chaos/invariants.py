"""The invariants I1 to I20, as far as their parts exist: pure functions over the three records, each yielding what is wrong.

I13 without settlement files, which come with reconciliation; I14 (Merkle proofs) comes with its part; I16, a part of I17 and I19 are
judged where their faults are (final.py); I18 by the drain.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from chaos.claims import i1_one_order_one_charge, i2_shown_as_paid, i4_not_charged, till_told_the_truth, tried_again
from chaos.history import Line
from chaos.http_proxy import FIRST_PATHS
from chaos.proxy import FIRST
from chaos.reads import replica
from chaos.records import EFFECTS, Records
from chaos.risk import PASS_UP_TO

FAILED_STATES: Final = frozenset({"requires_payment_method", "canceled"})
FINAL_STATES: Final = frozenset({"succeeded", "canceled"})
AT_REST: Final = FINAL_STATES | {"requires_payment_method", "requires_capture", "requires_action"}
# Orders of which all is captured at once, or nothing.
WHOLE: Final = frozenset({"pay", "pay_3ds", "page", "order", "till"})
# First sends and resends for each payment's operation; queries and reversals apart.
AMPLIFICATION_MAX: Final = 1.1
FINAL_EVENTS: Final = frozenset({
    "payment_intent.succeeded", "payment_intent.canceled", "payment_intent.payment_failed", "charge.captured", "charge.refunded",
})  # fmt: skip
CLEARING: Final = "psp_clearing"
# A key's second use is refused; what acts on something that is not there (since a restore took it) is refused before its key is looked at.
MISUSED: Final = frozenset({"idempotency_error", "exists_with_different_amount", "resource_missing"})
# The ledger knows a merchant's transfer as ID.ACCOUNT.MODE.
SCOPE: Final = "."

Finding = Iterator[str]


def i1_no_double_charge(r: Records) -> Finding:
    """For each payment at most one capture at the bank that was not reversed, and never more back than was taken."""
    taken: dict[str, list[tuple[str, int]]] = defaultdict(list)
    authorized: Counter[str] = Counter()
    returned: Counter[str] = Counter()
    for attempt in r.books.attempts:
        reference, payment = attempt["reference"], attempt["payment"]
        if amount := r.truth.taken(reference, "capture"):
            taken[payment].append((reference, amount))
        authorized[payment] += r.truth.taken(reference, "authorization")
        returned[payment] += r.truth.taken(reference, "refund")
    for payment, captures in taken.items():
        total = sum(amount for _, amount in captures)
        if len(captures) > 1:
            yield f"{payment} was captured {len(captures)} times: {captures}"
        if total > authorized[payment]:
            yield f"{payment}: {total} captured, {authorized[payment]} authorized"
    for payment, amount in returned.items():
        if amount > sum(one for _, one in taken[payment]):
            yield f"{payment}: {amount} refunded, {sum(one for _, one in taken[payment])} captured"
    yield from orders_taken_twice(r)


def orders_taken_twice(r: Records) -> Finding:
    """By the amounts alone, which no two orders share: whatever our books say belongs together."""
    whole = {(line.amount, line.currency) for line in r.lines if line.op in WHOLE and line.object.startswith(("pi_", "cs_"))}
    twice: Counter[tuple[int, str]] = Counter()
    for reference in r.truth.net:
        effects = r.truth.of(reference)
        for (kind, amount, currency), times in effects.items():
            # A purchase is both in one; the capture of a part may have any amount.
            if kind == "capture" and ("authorization", amount, currency) in effects and (amount, currency) in whole:
                twice[amount, currency] += times
    yield from (f"an order of {amount} {currency} was captured {times} times" for (amount, currency), times in twice.items() if times > 1)


def i2_no_loss(r: Records) -> Finding:
    """Each acknowledged payment exists, is at rest, and is what the bank did, to the minor unit."""
    attempts: dict[str, list[Any]] = defaultdict(list)
    for attempt in r.books.attempts:
        attempts[attempt["payment"]].append(attempt)
    acknowledged = {line.object: line for line in r.lines if line.phase == "ok" and line.object.startswith("pi_")}
    for payment, line in acknowledged.items():
        if payment not in r.shown:
            yield f"{payment} was acknowledged under the key {line.key} and does not exist"
    for payment, shown in r.shown.items():
        yield from _as_the_bank(r, payment, shown, attempts[payment], acknowledged.get(payment))
    for attempt in r.books.attempts:
        approved = attempt["state"] == "approved"
        money = attempt["amount"], attempt["currency"]
        wanted = Counter((kind, *money) for kind in EFFECTS[attempt["operation"]] if approved)
        found = r.truth.of(attempt["reference"])
        if attempt["operation"] != "refund" and found != wanted:
            yield f"the {attempt['operation']} {attempt['id']} is {attempt['state']}, and at the bank stands {dict(found)}"
    yield from _refunds(r)


def _as_the_bank(r: Records, payment: str, shown: Mapping[str, Any], attempts: list[Any], line: Line | None) -> Finding:
    if shown["status"] not in AT_REST:
        yield f"{payment} is {shown['status']} when everything has come to rest"
    captured = sum(r.truth.taken(one["reference"], "capture") for one in attempts)
    if captured != shown["amount_received"]:
        yield f"{payment} shows {shown['amount_received']} received, the bank took {captured}"
    if line and line.amount and (line.amount, line.currency) != (shown["amount"], shown["currency"]):
        yield f"{payment} was acknowledged with {line.amount} {line.currency} and shows {shown['amount']} {shown['currency']}"
    for effect in (effect for one in attempts for effect in r.truth.of(one["reference"])):
        if effect[2] != shown["currency"]:
            yield f"{payment} in {shown['currency']} moved {effect}"


def _refunds(r: Records) -> Finding:
    paid: Counter[str] = Counter()
    for attempt in r.books.attempts:
        if attempt["operation"] == "refund":
            paid[attempt["refund"]] += r.truth.taken(attempt["reference"], "refund")
    # What the bank paid beyond what was asked for is known, and booked as that.
    adjusted = {row["source"]: row["amount"] for row in r.books.adjustments}
    for refund in r.books.refunds:
        wanted = (refund["amount"] if refund["state"] == "succeeded" else 0) + adjusted.get(refund["id"], 0)
        if refund["state"] in ("succeeded", "failed", "canceled") and paid[refund["id"]] != wanted:
            yield f"the refund {refund['id']} of {refund['amount']} is {refund['state']}, the bank paid {paid[refund['id']]}"
    known = {refund["id"] for refund in r.books.refunds}
    for line in r.lines:
        if line.phase == "ok" and line.object.startswith("re_") and line.object not in known:
            yield f"the refund {line.object} was acknowledged and does not exist"


def i3_no_phantom(r: Records) -> Finding:
    """Each effect at the bank has its intent, written before it."""
    intents = {attempt["reference"]: attempt["created_at"] for attempt in r.books.attempts}
    for reference, time in r.truth.first.items():
        if reference not in intents:
            yield f"the bank did {dict(r.truth.of(reference))} under {reference}, which nobody intended"
        elif r.clocks_agree and intents[reference] > time:
            yield f"the intent of {reference} is younger than its effect"


def i4_never_reported_failed(r: Records) -> Finding:
    """What the bank has taken was at no time shown as failed; where another card may be tried, claims.py looks at each of them."""
    failed: dict[str, Line] = {}
    again = tried_again(r)
    for line in r.lines:
        if line.object.startswith("pi_") and line.phase == "ok" and line.state in FAILED_STATES:
            failed.setdefault(line.object, line)
    for payment, line in failed.items():
        if (shown := r.shown.get(payment)) and shown["amount_received"] and line.op not in ("misuse", "till"):
            yield f"{payment} was shown as {line.state} ({line.status}) and was paid"
    for name, deliveries in r.webhooks.items():
        for seen in deliveries:
            shown = r.shown.get(seen.object)
            failing = {"payment_intent.canceled"} if seen.object in again else {"payment_intent.canceled", "payment_intent.payment_failed"}
            if seen.type in failing and shown and shown["amount_received"]:
                yield f"{name} was told {seen.type} of {seen.object}, which was paid"


def i5_double_entry(r: Records) -> Finding:
    """Every transfer moves one currency, and all of them together make what the ledger accounts show; i11 adds them up."""
    posted: dict[str, int] = defaultdict(int)
    pending: dict[str, int] = defaultdict(int)
    for row in r.books.standing:
        posted[row["currency"]] += row["debits_posted"] - row["credits_posted"]
        pending[row["currency"]] += row["debits_pending"] - row["credits_pending"]
    for currency, amount in posted.items():
        if amount or pending[currency]:
            yield f"the trial balance of {currency} is {amount} posted, {pending[currency]} pending"
    for row in r.books.transfers:
        if row["debit_currency"] != row["credit_currency"]:
            yield f"transfer {row['id']} moves from {row['debit_currency']} to {row['credit_currency']}"


def i6_wallets(r: Records) -> Finding:
    """Transfers between wallets are as they were acknowledged; limits hold unless a fact went beyond them."""
    asked = {line.key: line.params for line in r.lines if line.op == "transfer" and line.phase == "invoke" and line.params}
    stored = {row["id"].rsplit(SCOPE, 2)[0]: row for row in r.books.transfers}
    accounts = {row["number"]: row["id"] for row in r.books.standing}
    for line in r.lines:
        if line.op != "transfer" or line.phase != "ok" or line.status != 200:
            continue
        params, row = asked[line.key], stored.get(line.object)
        if row is None:
            yield f"the transfer {line.object} was acknowledged and does not exist"
        elif (accounts[row["debit"]], accounts[row["credit"]], row["amount"]) != (params["debit"], params["credit"], params["amount"]):
            yield f"the transfer {line.object} was asked for as {params}, and {row['amount']} moved"
    facts = {row[side] for row in r.books.transfers if row["fact"] for side in ("debit", "credit")}
    for row in r.books.standing:
        below = row["debits_posted"] + row["debits_pending"] - row["credits_posted"] - row["overdraft"]
        if row["debits_limited"] and below > 0 and row["number"] not in facts:
            yield f"ledger account {row['id']} is {below} below its limit, by intents"


def i7_each_entry_once(r: Records) -> Finding:
    """Positions have no gap, and each consumer has applied all of them."""
    for row in r.books.log:
        if row["count"] and (row["last"] != row["head"] or row["last"] - row["first"] + 1 != row["count"]):
            yield f"topic {row['topic']} partition {row['partition']}: {row['count']} entries up to {row['last']}, head {row['head']}"
    for row in r.books.consumers:
        if row["applied_to"] != row["head"]:
            yield f"{row['consumer']} has applied {row['applied_to']} of {row['head']} in partition {row['partition']}"


def i8_forward_only(r: Records) -> Finding:
    """Whoever has seen the end of a payment sees nothing else later: by what clients saw one after the other."""
    ended: dict[str, tuple[int, str]] = {}
    began: dict[tuple[int, str, str], int] = {}
    for line in r.lines:
        place = (line.client, line.key, line.path)
        if line.phase == "invoke":
            began[place] = line.at
        elif line.op == "read" and line.phase == "ok" and line.object.startswith("pi_"):
            at, state = ended.get(line.object, (0, ""))
            if state and began.get(place, 0) > at and line.state != state:
                yield f"{line.object} was seen {state} and later {line.state}"
        if line.phase == "ok" and line.state in FINAL_STATES and line.object.startswith("pi_") and not line.replayed:
            ended.setdefault(line.object, (line.at, line.state))


def i9_idempotency(r: Records) -> Finding:
    """One key, one answer, byte for byte; another request under it is refused and has no effect."""
    answers: dict[tuple[int, str], Line] = {}
    for line in r.lines:
        if line.phase != "ok" or not line.key:
            continue
        if line.op == "misuse":
            if line.status != 400 or line.error not in MISUSED:
                yield f"the key {line.key} was used for something else and answered {line.status} {line.error}"
        elif line.error != "lock_timeout":
            first = answers.setdefault((line.merchant, line.key), line)
            if (first.status, first.digest) != (line.status, line.digest):
                yield f"the key {line.key} was answered {first.status} {first.object} and {line.status} {line.object} {line.error}"
    yield from _owned_once(answers.values())
    if r.books.keys_open:
        yield f"{r.books.keys_open} keys have no answer when everything has come to rest"


def _owned_once(answers: Iterable[Line]) -> Finding:
    """No two keys made the same object."""
    owners: dict[str, str] = {}
    for line in answers:
        if line.method == "POST" and line.status == 200 and line.op in WHOLE | {"authorize", "refund"}:
            other = owners.setdefault(line.object, line.key)
            if other != line.key:
                yield f"two keys, {line.key} and {other}, were answered with the same {line.object}"


def i10_one_attempt(r: Records) -> Finding:
    """At most one attempt of a slot is open at a time, by the dates that processes of one clock gave them."""
    if not r.clocks_agree:
        return
    slots: dict[tuple[str, str], list[tuple[int, int, str]]] = defaultdict(list)
    for attempt in r.books.attempts:
        ended = attempt["finished_at"] if attempt["finished_at"] is not None else 2**62
        slots[attempt["payment"], attempt["slot"]].append((attempt["created_at"], ended, attempt["id"]))
    for (payment, slot), spans in slots.items():
        for (_, ended, first), (began, _, second) in pairwise(sorted(spans)):
            if began < ended:
                yield f"{payment}: {second} began in the slot {slot} before {first} had ended"


def i11_replay(r: Records) -> Finding:
    """The ledger replayed in its order gives the balances that it shows, and an order that clients could have seen."""
    balances: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    stored: dict[str, Any] = {}
    resolved: dict[str, str] = {}
    for before, row in enumerate(r.books.transfers):
        if row["index"] != before + 1:
            yield f"the ledger's index jumps to {row['index']} after {before}"
            return
        stored[row["id"]] = row
        debit, credit = balances[row["debit"]], balances[row["credit"]]
        if row["kind"] == 1:
            debit[0] += row["amount"]
            credit[2] += row["amount"]
            continue
        if row["pending_id"] is not None:
            pending = stored.get(row["pending_id"])
            if pending is None or row["pending_id"] in resolved:
                yield f"{row['id']} resolves {row['pending_id']}, which is {'resolved' if pending else 'not there'}"
                continue
            resolved[row["pending_id"]] = row["id"]
            debit[0] -= pending["amount"]
            credit[2] -= pending["amount"]
        if row["kind"] in (0, 2):
            debit[1] += row["amount"]
            credit[3] += row["amount"]
    for row in r.books.standing:
        shown = [row["debits_pending"], row["debits_posted"], row["credits_pending"], row["credits_posted"]]
        if balances[row["number"]] != shown:
            yield f"ledger account {row['id']} shows {shown}, its transfers make {balances[row['number']]}"
    yield from _real_time(r)


def _real_time(r: Records) -> Finding:
    """If one transfer was answered before another was asked for, it comes before it."""
    index = {row["id"]: row["index"] for row in r.books.transfers}
    invoked: dict[str, int] = {}
    spans: dict[str, tuple[int, int]] = {}
    for line in r.lines:
        if line.op == "transfer" and line.phase == "invoke":
            invoked.setdefault(line.key, line.at)
        elif line.op == "transfer" and line.phase == "ok" and line.status == 200:
            spans.setdefault(line.object, (invoked[line.key], line.at))
    known = sorted((span, index[id_], id_) for id_, span in spans.items() if id_ in index)
    done = sorted((span[1], place, id_) for span, place, id_ in known)
    latest, at, last = 0, 0, ""
    for (began, _), place, id_ in known:
        while at < len(done) and done[at][0] < began:
            if done[at][1] > latest:
                latest, last = done[at][1], done[at][2]
            at += 1
        if place < latest:
            yield f"the transfer {id_} was asked for after {last} had been answered, and stands before it"


def i12_webhooks(r: Records) -> Finding:
    """Every event that an endpoint is to hear of arrived there, under numbers without gaps, each number one event."""
    lanes = {row["endpoint"]: row for row in r.books.lanes}
    for name, deliveries in r.webhooks.items():
        lane = lanes[r.endpoints[name][0]]
        missing = sorted(set(range(1, lane["head"] + 1)) - {seen.number for seen in deliveries})
        if missing:
            yield f"{name} has not received the numbers {missing[:5]} of {lane['head']}"
        got = {seen.event for seen in deliveries}
        lost = [row for row in r.books.events if row["account"] == lane["account"] and row["type"] in FINAL_EVENTS and row["id"] not in got]
        if lost:
            yield f"{name} never got {len(lost)} events, {lost[0]['id']} {lost[0]['type']} among them"
        once: dict[int, str] = {}
        for seen in deliveries:
            if once.setdefault(seen.number, seen.event) != seen.event:
                yield f"{name} got two events under the number {seen.number}"


def i13_ledger_as_the_bank(r: Records) -> Finding:
    """What PSPs owe by the ledger is, in each currency, what the bank took less what it gave back: added up, not attempt by attempt."""
    moved: Counter[str] = Counter()
    for reference in r.truth.net:
        for (kind, amount, currency), times in r.truth.of(reference).items():
            moved[currency] += amount * times * {"capture": 1, "refund": -1}.get(kind, 0)
    owed: Counter[str] = Counter()
    for row in r.books.standing:
        if row["kind"] == CLEARING:
            owed[row["currency"]] += row["debits_posted"] - row["credits_posted"]
    for currency in moved.keys() | owed.keys():
        if moved[currency] != owed[currency]:
            yield f"the ledger has {owed[currency]} {currency} taken by PSPs, the bank {moved[currency]}"


def i2_honest_503(r: Records) -> Finding:
    """Who was only ever told 503, and left, left nothing behind."""
    phases: dict[tuple[int, str], set[str]] = defaultdict(set)
    left: dict[tuple[int, str], Line] = {}
    for line in r.lines:
        if line.phase == "left":
            left[line.merchant, line.key] = line
        elif line.phase != "invoke" and line.key:
            phases[line.merchant, line.key].add(line.phase)
    orders = {(shown.get("metadata") or {}).get("order"): id_ for id_, shown in (*r.shown.items(), *r.sessions.items())}
    for place, line in left.items():
        order = ((line.params or {}).get("metadata") or {}).get("order")
        if phases[place] == {"fail"} and order in orders and order is not None:
            yield f"the key {line.key} was told 503, and {orders[order]} was made"


def i17_sent_once(r: Records) -> Finding:
    """The first request for a new payment leaves once: what may have arrived is asked about, not sent again."""
    new = {attempt["reference"] for attempt in r.books.attempts if attempt["operation"] in ("purchase", "authorize")}
    for reference, times in r.sent.items():
        if times > 1 and reference in new:
            yield f"the first request of {reference} left {times} times"


def risk_heeded(r: Records) -> Finding:
    """What is sent was allowed by the risk service, or is small enough to pass while it says nothing, and its payment tells so."""
    passed = {attempt["payment"] for attempt in r.books.attempts if attempt["passed"]}
    for attempt in r.books.attempts:
        payment, amount, currency = attempt["payment"], attempt["amount"], attempt["currency"]
        if attempt["operation"] not in ("purchase", "authorize"):
            continue
        if payment not in passed and r.opinions.get(payment) != "allow":
            yield f"{payment} was tried, and the risk service said {r.opinions.get(payment, 'nothing')}"
        elif payment in passed and amount > PASS_UP_TO.get(currency, 0):
            yield f"{payment} of {amount} {currency} passed without a word of the risk service"


def i20_bounded(r: Records) -> Finding:
    """No storm: at most 1.1 requests for each operation, queries and reversals apart."""
    sends = sum(count for kind, count in r.counted.items() if kind in FIRST | FIRST_PATHS)
    operations = sum(attempt["operation"] != "void" for attempt in (*r.books.attempts, *r.lost))
    if operations and sends > AMPLIFICATION_MAX * operations + 10:
        yield f"{sends} requests for {operations} operations"


INVARIANTS: Final[Mapping[str, Callable[[Records], Finding]]] = {
    "I1": i1_no_double_charge, "I2": i2_no_loss, "I3": i3_no_phantom, "I4": i4_never_reported_failed, "I5": i5_double_entry,
    "I6": i6_wallets, "I7": i7_each_entry_once, "I8": i8_forward_only, "I9": i9_idempotency, "I10": i10_one_attempt, "I11": i11_replay,
    "I12": i12_webhooks, "I13": i13_ledger_as_the_bank, "I2 503": i2_honest_503, "I17": i17_sent_once, "I20": i20_bounded,
    "risk": risk_heeded, "I1 page": i1_one_order_one_charge, "I2 page": i2_shown_as_paid, "I4 page": i4_not_charged,
    "I4 till": till_told_the_truth,
    "replica": replica,
}  # fmt: skip
