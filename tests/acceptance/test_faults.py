"""Everything that can go wrong between us and the acquirer, switched on at its control port: each ends right.

Faults that cost an answer timeout are all under way at once, told apart by their amounts; those that break a connection
come one by one, because they hit whatever else is on it.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from payments_system import NEW_PAYMENTS, OPERATIONS, Answer, Doing, Shop, running_shop, wait

pytestmark = pytest.mark.slow

# Past the connector's 8 s, and past the first question a second later.
LATE_MS, LATER_MS = 8_600, 20_000

DONE, UNDONE = "done", "undone"
# Name -> the fault, and what becomes of a new payment. A capture, void or refund is done in the end whatever happens.
QUIET: Mapping[str, tuple[dict[str, Any], str]] = {
    "an answer that is lost": ({"kind": "lost_answer"}, DONE),
    "an answer that is slow": ({"kind": "slow", "delay_ms": 5}, DONE),
    "an answer that comes late": ({"kind": "late_answer", "delay_ms": LATE_MS}, DONE),
    "an answer that comes twice": ({"kind": "duplicate_answer", "delay_ms": 300}, DONE),
    "an answer with another reference": ({"kind": "wrong_reference"}, DONE),
    "an answer with another amount": ({"kind": "wrong_amount"}, UNDONE),
    "an answer with another currency": ({"kind": "wrong_currency"}, UNDONE),
    "an error after it was done": ({"kind": "error", "code": "96", "effect": True}, DONE),
    "an error, and nothing was done": ({"kind": "error", "code": "91"}, UNDONE),
    "a request that is lost": ({"kind": "lost_request"}, UNDONE),
    "a request that comes twice": ({"kind": "duplicate_request"}, DONE),
    "a request that comes after its reversal": ({"kind": "late_request", "delay_ms": LATER_MS}, UNDONE),
    "a request that comes right after not found": ({"kind": "after_not_found"}, UNDONE),
    "a request that comes long after not found": ({"kind": "after_not_found", "delay_ms": 3_000}, UNDONE),
    "an answer that is lost, and a question whose answer is wrong": ({"kind": "lost_answer", "then": "not_found"}, UNDONE),
}  # fmt: skip
# The breaker of a group of operations opens at twenty failures in ten seconds, so two of one group do not suffer all of them.
FEWER = frozenset({
    "an answer that is lost", "an answer with another amount", "a request that is lost", "a request that comes twice",
    "a request that comes right after not found", "an answer that is lost, and a question whose answer is wrong",
})  # fmt: skip
# A void says no amount, so its answer has none that could be wrong.
WITHOUT_MONEY = frozenset({"an answer with another amount", "an answer with another currency"})
CASES = [
    (operation, name) for operation in OPERATIONS for name in QUIET
    if name in FEWER or operation not in ("authorize", "capture")
    if not (operation == "void" and name in WITHOUT_MONEY)
]  # fmt: skip
BREAKING: Mapping[str, tuple[dict[str, Any], str]] = {
    "a frame that is none": ({"kind": "malformed"}, DONE),
    "a connection that closes after it was done": ({"kind": "close"}, DONE),
    "a connection that closes before": ({"kind": "close", "effect": False}, UNDONE),
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system for all faults."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


Answered = tuple[Doing, Answer]


@pytest.fixture(scope="module")
def quiet(shop: Shop) -> Iterator[Mapping[tuple[str, str], "Future[Answered]"]]:
    """Each of CASES, begun at once with an amount of its own, and waited for before anything else happens."""
    with ThreadPoolExecutor(len(CASES)) as threads:
        running = {
            case: threads.submit(suffer, shop, *case, amount=2_000 + 10 * number) for number, case in enumerate(CASES)
        }
    yield running


def suffer(shop: Shop, operation: str, name: str, *, amount: int) -> Answered:
    """Do the operation with the fault on."""
    doing = Doing(shop, operation, amount=amount)
    rule = dict(QUIET[name][0])
    then = rule.pop("then", None)
    shop.fault(operation=operation, count=1, **which(doing), **rule)
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(doing.do)
        if then is not None:
            sql = "SELECT reference FROM attempt WHERE operation = $1 AND amount = $2 AND state IS NULL"
            [found] = wait(lambda: shop.rows(sql, operation, amount), "it is accepted")
            shop.fault(then, operation="query", count=1, reference=found["reference"])
        return doing, asked.result()


def which(doing: Doing) -> dict[str, Any]:
    """How the rule knows this request: by its amount; a void has none, and names what it voids."""
    if doing.operation != "void":
        return {"amount": doing.amount}
    [voided] = doing.shop.rows("SELECT reference FROM attempt WHERE payment = $1", doing.payment)
    return {"reference": voided["reference"]}


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("operation", "name"), CASES)
def test_it_ends_right_after(quiet: Mapping[tuple[str, str], "Future[Answered]"], operation: str, name: str) -> None:
    """The payment at rest, one answer under its key, the bank's truth in agreement with the books."""
    doing, answer = quiet[operation, name].result()
    payment = doing.check(answer, undone=operation in NEW_PAYMENTS and QUIET[name][1] == UNDONE)
    if operation == "refund":
        [refund] = doing.shop.get(f"/v1/refunds?payment_intent={payment['id']}")["data"]
        assert (refund["status"], refund["amount"]) == ("succeeded", doing.amount)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", BREAKING)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_it_ends_right_also_after(shop: Shop, operation: str, name: str) -> None:
    """What was under way on the connection is in doubt, is asked about, and comes to its end."""
    doing = Doing(shop, operation, amount=1_500)
    rule, ends = BREAKING[name]
    shop.fault(operation=operation, count=1, **which(doing), **rule)
    doing.check(doing.do(), undone=operation in NEW_PAYMENTS and ends == UNDONE)


@pytest.mark.usefixtures("quiet")
def test_a_buyer_may_try_another_card_as_soon_as_the_first_try_is_undone(shop: Shop) -> None:
    """Not before: while the first attempt is in doubt the slot is taken. And the second try is charged once."""
    doing = Doing(shop, "purchase", amount=1_700)
    shop.fault("close", operation="purchase", amount=1_700, count=1, effect=False)
    closed = shop.fault("close", operation="reversal", effect=False)
    payment = doing.payment_of(doing.do())
    second = {"payment_method": "pm_card_mastercard"}
    during = shop.request("POST", f"/v1/payment_intents/{payment}/confirm", second, key=f"{doing.key}-during")
    assert during.status in (400, 409), during.raw
    shop.no_fault(closed)
    shop.at_rest(payment)
    again = shop.insist("POST", f"/v1/payment_intents/{payment}/confirm", second, key=f"{doing.key}-after")
    assert again.body["status"] == "succeeded"
    shop.audit(payment)


@pytest.mark.usefixtures("quiet")
def test_a_refund_that_comes_back_fails_late_and_gives_the_money_back(shop: Shop) -> None:
    """The bank returns it days later; a merchant sees `failed`, and the books agree with the bank."""
    payment = shop.paid(payment_method="pm_card_refundFail")["id"]
    refund = shop.insist("POST", "/v1/refunds", {"payment_intent": payment}).body
    assert refund["status"] == "succeeded"
    wait(lambda: shop.get(f"/v1/refunds/{refund['id']}")["status"] == "failed", "the refund has come back")
    found = shop.get(f"/v1/payment_intents/{payment}?expand[]=latest_charge")["latest_charge"]
    assert (found["refunded"], found["amount_refunded"]) == (False, 0)
    assert shop.rows("SELECT * FROM wallet_difference") == []


@pytest.mark.usefixtures("quiet")
def test_a_refund_that_the_bank_has_in_progress_is_pending_and_then_succeeds(shop: Shop) -> None:
    """Nobody tells: it is asked about until it is done."""
    payment = shop.paid(payment_method="pm_card_pendingRefund")["id"]
    refund = shop.insist("POST", "/v1/refunds", {"payment_intent": payment}).body
    assert refund["status"] == "pending"
    wait(lambda: shop.get(f"/v1/refunds/{refund['id']}")["status"] == "succeeded", "the refund is done")
    shop.audit(payment)
