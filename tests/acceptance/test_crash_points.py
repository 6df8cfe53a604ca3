"""SIGKILL at every crash point of every operation: each ends in PSP truth = books, and each key in one answer."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from payments_system import NEW_PAYMENTS, OPERATIONS, Answer, Doing, Shop, running_shop, wait

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undisturbed")]

# In the process that accepts.
ACCEPT = ("accept.before", "accept.after")
# In the process that executes, with the detail of each.
EXECUTE = ("claim.before", "claim.after", "send.before", "send.after", "answer", "outcome.before", "outcome.after")
# A death after the claim and before the first byte looks like one after it: a new payment is asked about, and reversed.
UNSENT = ("claim.after", "send.before")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system for all of these deaths."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
def ask() -> Iterator[Callable[..., "Future[Answer]"]]:
    """Makes a request beside the test."""
    with ThreadPoolExecutor(4) as threads:
        yield threads.submit


APPROVED = {"outcome.before": "outcome.before approved", "outcome.after": "outcome.after approved"}


@pytest.mark.parametrize("point", ACCEPT)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_api_dies_around_the_accept(shop: Shop, operation: str, point: str) -> None:
    """Before the commit nothing is stored and the retry does it; after it the retry finds it done. Once either way."""
    doing = Doing(shop, operation)
    shop.crash_at(f"{point} {operation}")
    answer = doing.do()
    doing.check(answer)


@pytest.mark.parametrize("point", EXECUTE[1:])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_executor_dies_with_an_operation_in_hand(shop: Shop, operation: str, point: str) -> None:
    """Whoever replaces it asks the PSP before anything is sent again."""
    doing = Doing(shop, operation)
    shop.crash_at(APPROVED.get(point, f"{point} {operation}"))
    answer = doing.do()
    doing.check(answer, undone=operation in NEW_PAYMENTS and point in UNSENT)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_executor_dies_before_it_claims(shop: Shop, operation: str, ask: Callable[..., "Future[Answer]"]) -> None:
    """Accepted and not claimed is certainly not sent: the next executor sends it as if nothing had been."""
    doing = Doing(shop, operation)
    with shop.stopped("executor"):
        asked = ask(doing.do)
        wait(lambda: shop.rows("SELECT 1 FROM attempt_open WHERE state = 'created' AND sender IS NULL"), "it is accepted")
        shop.crash_at("claim.before")
    doing.check(asked.result())


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("point", ["outcome.before in_doubt", "outcome.after in_doubt"])
def test_the_executor_dies_around_the_commit_of_a_doubt(shop: Shop, point: str, effect: bool) -> None:
    """The connection broke after the request: whether the bank did it or not, asking tells."""
    doing = Doing(shop, "purchase")
    shop.fault("close", operation="purchase", count=1, effect=effect)
    shop.crash_at(point)
    answer = doing.do()
    doing.check(answer, undone=not effect)


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("point", ["send.before", "send.after", "answer"])
def test_the_executor_dies_while_it_asks(shop: Shop, point: str, operation: str, effect: bool) -> None:
    """A question that was lost is asked again."""
    doing = Doing(shop, operation)
    shop.fault("close", operation=operation, count=1, effect=effect)
    shop.crash_at(f"{point} query")
    answer = doing.do()
    doing.check(answer, undone=operation in NEW_PAYMENTS and not effect)


@pytest.mark.parametrize("operation", ["capture", "void", "refund"])
@pytest.mark.parametrize("point", ["send.before", "send.after", "answer"])
def test_the_executor_dies_while_it_sends_again(shop: Shop, point: str, operation: str) -> None:
    """The resend has the key of the first request: however often it is sent, it is done once."""
    doing = Doing(shop, operation)
    shop.fault("close", operation=operation, count=1, effect=False)
    # The first request passes this point too. The one that dies there is the second, which is not sent while questions are closed.
    closed = shop.fault("close", operation="query")
    asked = doing.do()
    shop.crash_at(f"{point} {operation}")
    shop.no_fault(closed)
    doing.check(asked)


@pytest.mark.parametrize(
    "point",
    [
        "outcome.before reversing", "outcome.after reversing", "send.before reversal", "send.after reversal", "answer reversal",
        "outcome.before undone", "outcome.after undone",
    ],
)  # fmt: skip
@pytest.mark.parametrize("operation", ["purchase", "authorize"])
def test_the_executor_dies_while_it_reverses(shop: Shop, point: str, operation: str) -> None:
    """The request never arrived. The reversal is intent, call, outcome like everything else: repeated until acknowledged."""
    doing = Doing(shop, operation)
    shop.fault("close", operation=operation, count=1, effect=False)
    shop.crash_at(point)
    answer = doing.do()
    doing.check(answer, undone=True)


def test_the_executor_dies_with_a_claimed_reversal(shop: Shop) -> None:
    """The claim of a reversal is a claim like any other."""
    doing = Doing(shop, "purchase")
    shop.fault("close", operation="purchase", count=1, effect=False)
    closed = shop.fault("close", operation="reversal", effect=False)
    answer = doing.do()
    payment = doing.payment_of(answer)
    wait(lambda: shop.rows("SELECT 1 FROM attempt_open WHERE payment = $1 AND state = 'reversing' AND tries > 0", payment), "it reverses")
    shop.crash_at("claim.after purchase")
    shop.no_fault(closed)
    doing.check(answer, undone=True)
