"""What becomes of a payment whose PSP is down, or whose risk service says nothing: each fallback, and that it is off otherwise."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web
from msgspec.structs import replace

from conftest import ACCOUNT, DECLARES, Answer, PaymentsWorld, ScriptedPsp, payments_world, root
from guilder.core.clock import MINUTE, SECOND
from guilder.core.ids import Ids
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.customers.payment_methods import NO_CARD
from guilder.metrics import Metrics
from guilder.payments.cancel import cancel
from guilder.payments.commands import CancelPayment, ConfirmPayment, CreatePayment
from guilder.payments.confirm import confirm
from guilder.payments.create import create
from guilder.payments.services import ExternalRisk
from guilder.payments.window import LEAST
from guilder.psp.measure import Measures
from guilder.psp.model import Operation, Order
from guilder.psp.router import Route, Rule
from guilder.risk import TEST_RULES, HttpRiskService, Opinion, Question, Silent
from guilder.shapes.facts import CardFacts
from guilder.tuning import Breaking, Fallback, RiskTuning, Tuning

DOWN = lambda _order: NotSent("connect")  # noqa: E731
DECLINED = Declined("generic_decline")


@asynccontextmanager
async def two_psps(database: str, fallback: Fallback) -> AsyncIterator[PaymentsWorld]:
    """A world whose payments may go to `cardnet`, and then to `backup`."""

    def change(world: PaymentsWorld) -> None:
        world.tuning = Tuning(fallback=fallback)
        world.connectors = {"backup": ScriptedPsp("backup")}
        world.routes.append(Route(connector="backup", psp_merchant="M2", livemode=False, declares=DECLARES))

    async with payments_world(database, change) as world:
        yield world


def bought(world: PaymentsWorld, amount: int = 1_000, **changes) -> CreatePayment:
    """A payment that is made and sent at once."""
    return CreatePayment(amount=amount, currency="eur", confirm=True, payment_method=world.card(), **changes)


async def pay(world: PaymentsWorld, **changes):
    """Make one; returns the answer."""
    return await create(world.services, world.claim(), bought(world, **changes))


async def attempts(world: PaymentsWorld) -> list[tuple[str, str | None]]:
    """Connector and state of all attempts, oldest first."""
    rows = await world.db.fetch("SELECT id, state FROM attempt ORDER BY id")
    return [((await world.store.attempt(row["id"])).facts.connector, row["state"]) for row in rows]


async def in_time(world: PaymentsWorld, condition: Callable[[], object]) -> None:
    """Let business time pass until it holds: what is stored a moment later has its wait counted from then.

    Slowly where a payment ends within a minute: else everything would have to be done in half a second of the machine's time.
    """
    step = 2 * SECOND if world.tuning.fallback.wait_seconds else SECOND // 5

    async def passing():
        world.clock.advance(step)
        found = condition()
        return await found if asyncio.iscoroutine(found) else found

    await world.until(passing)


async def test_payments_that_could_not_be_sent_are_no_declined_tries_of_their_card(database: str):
    """After an outage through which a buyer has tried again and again, the card pays at once."""
    async with payments_world(database) as world:
        world.psp.answer = DOWN
        tries_max = TEST_RULES.limits[0].tries_max
        unsent = await asyncio.gather(*(pay(world) for _ in range(tries_max + 1)))
        assert {answer.answer.error.code for answer in unsent} == {"processing_error"}
        world.psp.answer = lambda order: Approved(order.reference, "123456")
        assert root(await pay(world)).status == "succeeded"


# --- the next connector -----------------------------------------------------------------------------------------------


async def test_a_payment_that_could_not_be_sent_goes_on_at_the_next_connector(database: str):
    """One answer, one charge, one set of events; the attempt tells why it is where it is."""
    async with two_psps(database, Fallback(next_connector=True)) as world:
        world.psp.answer = DOWN
        answer = await pay(world)
        paid = root(answer)
        assert (answer.answer.status, paid.status) == (200, "succeeded")
        assert await attempts(world) == [("cardnet", "not_sent"), ("backup", "approved")]
        [order] = world.connectors["backup"].orders
        assert (order.psp_merchant, order.first) == ("M2", True)
        assert order.psp_key != world.psp.orders[0].psp_key
        assert await world.event_types() == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]
        last = await world.db.fetchval("SELECT id FROM attempt ORDER BY id DESC LIMIT 1")
        facts = (await world.store.attempt(last)).facts
        assert facts.fallen.notes == ("cardnet: not sent, connect",)
        assert "after cardnet" in facts.route_reason
        await world.books_agree()


async def test_the_operators_rules_choose_where_a_payment_goes_on(database: str):
    """Asked again of those that are left; the choice is stored with its reason, as any other."""

    def change(world: PaymentsWorld) -> None:
        world.tuning = Tuning(fallback=Fallback(next_connector=True))
        for name in ("backup", "third"):
            world.connectors[name] = ScriptedPsp(name)
            world.routes.append(Route(connector=name, psp_merchant="M2", livemode=False, declares=DECLARES))
        world.rules += [Rule(name="home", connectors=(("cardnet", 1),)), Rule(name="abroad", connectors=(("third", 1),))]

    async with payments_world(database, change) as world:
        world.psp.answer = DOWN
        assert root(await pay(world)).status == "succeeded"
        assert await attempts(world) == [("cardnet", "not_sent"), ("third", "approved")]
        rows = await world.db.fetch("SELECT id FROM attempt ORDER BY id")
        reasons = [(await world.store.attempt(row["id"])).facts.route_reason for row in rows]
        assert reasons == ['rule "home"', 'rule "abroad" after cardnet']


@pytest.mark.parametrize("answer", [DOWN, lambda _order: DECLINED])
async def test_a_payment_ends_as_its_psp_says_when_the_next_connector_cannot_be_chosen(database: str, monkeypatch, answer: Answer):
    """A defect in the choice costs the fallback, not the answer; nothing stays in the executor's hand."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("guilder.payments.ways.onward", broken)
    async with two_psps(database, Fallback(next_connector=True)) as world:
        world.psp.answer = answer
        assert (await pay(world)).answer.status == 402
        assert [state for _, state in await attempts(world)] in (["not_sent"], ["declined"])
        assert await world.db.fetchval("SELECT count(*) FROM attempt_open") == 0
        await world.books_agree()


@pytest.mark.parametrize("answer", [DOWN, lambda _order: Declined("processing_error")])
async def test_a_payment_for_a_psps_own_page_goes_nowhere_else(database: str, answer: Answer):
    """Its buyer is sent to that page, and may be paying there."""
    async with two_psps(database, Fallback(next_connector=True)) as world:
        world.routes[:] = [replace(route, declares=replace(DECLARES, own_page=True)) for route in world.routes]
        world.psp.answer = answer
        method = world.card(card=NO_CARD)
        command = CreatePayment(
            amount=1_000, currency="eur", confirm=True, payment_method=method, payment_method_types=("psp_page",),
        )  # fmt: skip
        assert (await create(world.services, world.claim(), command)).answer.status == 402
        assert world.connectors["backup"].orders == []


async def test_without_the_setting_nobody_else_is_asked(database: str):
    """402, nothing was charged."""
    async with two_psps(database, Fallback()) as world:
        world.psp.answer = DOWN
        assert (await pay(world)).answer.status == 402
        assert world.connectors["backup"].orders == []


@pytest.mark.parametrize(
    ("outcome", "goes_on"),
    [
        (NotSent("connect"), True),
        (NotSent("breaker_open"), True),
        (NotSent("no_cvc"), False),
        (NotSent("fenced"), False),
        (Declined("processing_error"), True),
        (DECLINED, False),
        (Declined("insufficient_funds"), False),
    ],
)
async def test_only_what_lies_in_the_way_lets_a_payment_go_on(database: str, outcome, goes_on: bool):
    """A decline that is about the card holds everywhere."""
    async with two_psps(database, Fallback(next_connector=True)) as world:
        world.psp.answer = lambda _order: outcome
        answer = await pay(world)
        assert answer.answer.status == (200 if goes_on else 402)
        assert len(world.connectors["backup"].orders) == goes_on


@pytest.mark.parametrize("last", [Approved("REF"), Declined("processing_error")])
async def test_the_cvc_goes_with_the_payment_to_the_next_connector(database: str, last: Approved | Declined):
    """It is dropped when the last of them has answered."""
    async with two_psps(database, Fallback(next_connector=True)) as world:
        backup = world.connectors["backup"]
        world.psp.answer = lambda _order: Declined("processing_error")
        backup.answer = lambda _order: None
        card = CardFacts("visa", "4242", 12, 2040, "fingerprint", iin="424242", cvc_check="unchecked")
        method = world.card(card=card)
        command = CreatePayment(amount=1_000, currency="eur", confirm=True, payment_method=method)
        paying = asyncio.create_task(create(world.services, world.claim(), command))
        await world.until(lambda: backup.held)
        assert (backup.orders[0].send_cvc, world.forgotten) == (True, [])
        order, deliver = backup.held[0]
        deliver(order, last)
        assert (await paying).answer.status == (200 if isinstance(last, Approved) else 402)
        await world.until(lambda: world.forgotten == [method.id])


async def test_an_attempt_in_doubt_is_settled_at_its_own_psp_before_anything_else(database: str):
    """However long that takes: no two PSPs are ever in doubt. Undone is not *not sent*: the buyer is asked again."""
    async with two_psps(database, Fallback(next_connector=True)) as world:
        answers = {Operation.PURCHASE: Unknown("timeout"), Operation.QUERY: Unknown("timeout"), Operation.REVERSAL: Approved("r")}
        world.psp.answer = lambda order: answers[order.operation]
        assert root(await pay(world)).status == "processing"
        for _ in range(3):
            asked = len(world.psp.orders)
            await in_time(world, lambda asked=asked: len(world.psp.orders) > asked)
        assert world.connectors["backup"].orders == []
        answers[Operation.QUERY] = NotFound()
        await in_time(world, lambda: world.psp.sent(Operation.REVERSAL))
        id_ = await world.db.fetchval("SELECT id FROM payment")

        async def asked_again() -> bool:
            return (await world.payment(id_)).status == "requires_payment_method"

        await world.until(asked_again)
        assert world.connectors["backup"].orders == []
        assert await attempts(world) == [("cardnet", "undone")]


async def test_each_connector_is_tried_once(database: str):
    """All down: 402, nothing was charged; a new confirm begins anew."""
    async with two_psps(database, Fallback(next_connector=True)) as world:
        world.psp.answer = world.connectors["backup"].answer = DOWN
        answer = await pay(world)
        assert answer.answer.status == 402
        assert await attempts(world) == [("cardnet", "not_sent"), ("backup", "not_sent")]
        world.connectors["backup"].answer = lambda order: Approved(order.reference)
        again = ConfirmPayment(payment=root(answer).id, payment_method=world.card())
        assert root(await confirm(world.services, world.claim(), again)).status == "succeeded"


async def test_a_psp_that_does_not_answer_holds_up_nobody_elses_payments(database: str):
    """Its own orders wait for it; those of another connector are sent and answered beside them."""

    def change(world: PaymentsWorld) -> None:
        world.connectors = {"backup": ScriptedPsp("backup")}
        euros, dollars = frozenset({"eur"}), frozenset({"usd"})
        world.routes[:] = [
            Route(connector=name, psp_merchant="M", livemode=False, declares=DECLARES, currencies=currencies)
            for name, currencies in (("cardnet", euros), ("backup", dollars))
        ]

    async with payments_world(database, change) as world:
        world.psp.answer = lambda _order: None
        stuck = [asyncio.create_task(pay(world)) for _ in range(100)]
        await world.until(lambda: len(world.psp.held) == 100)
        for _ in range(3):
            command = CreatePayment(amount=1_000, currency="usd", confirm=True, payment_method=world.card())
            assert root(await create(world.services, world.claim(), command)).status == "succeeded"
        for order, deliver in world.psp.held:
            deliver(order, Approved(order.reference))
        assert {root(one).status for one in await asyncio.gather(*stuck)} == {"succeeded"}


# --- waiting ----------------------------------------------------------------------------------------------------------

WAITS = Fallback(next_connector=True, wait_seconds=3_600, wait_seconds_of={"acct_other": 60})


async def test_a_payment_without_a_buyer_waits_for_whichever_psp_is_back(database: str):
    """The caller is told `processing` at once; what was tried before is tried again when it can be reached."""
    async with two_psps(database, WAITS) as world:
        backup = world.connectors["backup"]
        world.psp.answer = backup.answer = DOWN
        answer = await pay(world, off_session=True)
        assert (answer.answer.status, root(answer).status) == (200, "processing")
        for _ in range(5):
            asked = len(backup.orders)
            await in_time(world, lambda asked=asked: len(backup.orders) > asked)
        assert await attempts(world) == [("cardnet", "not_sent"), ("backup", None)]
        world.psp.answer, world.up = (lambda order: Approved(order.reference)), {"cardnet"}
        await in_time(world, lambda: len(world.psp.orders) == 2)

        async def paid() -> bool:
            return (await world.payment(root(answer).id)).status == "succeeded"

        await world.until(paid)
        assert await attempts(world) == [("cardnet", "not_sent"), ("backup", "not_sent"), ("cardnet", "approved")]
        assert (await world.event_types()).count("payment_intent.created") == 1
        await world.books_agree()


async def test_a_psp_is_found_to_be_back_though_nobody_but_payments_that_wait_elsewhere_would_ask_it(database: str):
    """Its breaker has opened, and opens no way back by itself."""
    async with two_psps(database, WAITS) as world:
        down = {"cardnet", "backup"}
        measured = {name: Measures(name) for name in down}
        limits = Breaking(failures_min=1, cool_down_seconds=0.1, probe_interval_seconds=0.1)
        watches = {name: one.watch(Operation.PURCHASE, limits) for name, one in measured.items()}
        now = asyncio.get_running_loop().time

        def guarded(name: str) -> Answer:
            def answer(order: Order) -> Outcome:
                if not watches[name].breaker.allows(now()):
                    return NotSent("breaker_open")
                outcome = NotSent("connect") if name in down else Approved(order.reference)
                watches[name].ended(outcome, now(), submitted=0, left=None, answered=name not in down)
                return outcome

            return answer

        world.is_up = lambda name, operation: measured[name].is_up(operation, now())
        world.psp.answer, world.connectors["backup"].answer = guarded("cardnet"), guarded("backup")
        answers = [await pay(world, off_session=True) for _ in range(3)]
        assert {root(answer).status for answer in answers} == {"processing"}
        down.discard("cardnet")

        async def paid() -> bool:
            return {(await world.payment(root(answer).id)).status for answer in answers} == {"succeeded"}

        await in_time(world, paid)


async def test_a_connector_that_has_declined_is_not_asked_again_however_long_the_payment_waits(database: str):
    """It waits for those at which nothing was sent."""
    async with two_psps(database, WAITS) as world:
        backup = world.connectors["backup"]
        world.up = {"cardnet", "backup"}
        world.psp.answer, backup.answer = (lambda _order: Declined("processing_error")), DOWN
        answer = await pay(world, off_session=True)
        await in_time(world, lambda: len(backup.orders) >= 2)
        backup.answer = lambda order: Approved(order.reference)

        async def paid() -> bool:
            return (await world.payment(root(answer).id)).status == "succeeded"

        await in_time(world, paid)
        assert len(world.psp.orders) == 1
        assert await attempts(world) == [("cardnet", "declined"), ("backup", "approved")]


async def test_a_decline_that_lies_in_the_way_takes_up_one_invitation_only(database: str):
    """A breaker that is open invites one payment in a cool-down: it goes there, and has not been asked for in vain before."""
    async with two_psps(database, WAITS) as world:
        backup, invitations = world.connectors["backup"], []

        def declines(_order: Order) -> Declined:
            invitations.append("cardnet")
            return Declined("processing_error")

        world.psp.answer = backup.answer = DOWN
        answer = await pay(world, off_session=True)
        await in_time(world, lambda: backup.orders)
        world.is_up = lambda name, _operation: name in invitations and not invitations.remove(name)
        world.psp.answer, backup.answer = (lambda order: Approved(order.reference)), declines

        async def ended() -> bool:
            return (await world.payment(root(answer).id)).status != "processing"

        await in_time(world, ended)
        assert await attempts(world) == [("cardnet", "not_sent"), ("backup", "declined"), ("cardnet", "approved")]


@pytest.mark.parametrize("reason", ["closed", "fenced", "vault"])
async def test_a_payment_that_may_wait_waits_for_us_too(database: str, reason: str):
    """A process that ends, a right to send that has lapsed, a vault that is away: nothing was sent, and all of them pass."""
    async with two_psps(database, WAITS) as world:
        answers = [NotSent(reason)]
        world.psp.answer = lambda order: answers.pop() if answers else Approved(order.reference)
        answer = await pay(world, off_session=True)
        assert root(answer).status == "processing"

        async def paid() -> bool:
            return (await world.payment(root(answer).id)).status == "succeeded"

        await in_time(world, paid)
        assert await attempts(world) == [("cardnet", "approved")]


async def test_a_payment_for_a_connector_that_nobody_has_any_more_goes_on_at_the_next_one(database: str):
    """Nothing of it was sent, and nobody could ever ask."""
    async with two_psps(database, Fallback(next_connector=True)) as world:
        world.routes.insert(0, Route(connector="gone", psp_merchant="M0", livemode=False, declares=DECLARES))
        assert root(await pay(world)).status == "succeeded"
        assert await attempts(world) == [("gone", "not_sent"), ("cardnet", "approved")]


async def test_a_payment_that_waited_too_long_is_given_up(database: str):
    """At the time that its merchant set: nothing was charged, and an event says so."""
    async with two_psps(database, WAITS) as world:
        world.psp.answer = world.connectors["backup"].answer = DOWN
        answer = await pay(world, off_session=True)
        world.clock.advance(3_601 * SECOND)

        async def ended() -> bool:
            return (await world.payment(root(answer).id)).status == "requires_payment_method"

        await world.until(ended)
        assert (await world.event_types())[-1] == "payment_intent.payment_failed"
        assert await world.db.fetchval("SELECT count(*) FROM attempt_open") == 0


async def test_a_buyer_who_is_there_does_not_wait(database: str):
    """He is told at once that nothing was charged."""
    async with two_psps(database, WAITS) as world:
        world.psp.answer = world.connectors["backup"].answer = DOWN
        assert (await pay(world)).answer.status == 402


async def test_a_payment_that_waits_can_be_canceled(database: str):
    """Nothing was sent, so nothing has to be undone."""
    async with two_psps(database, WAITS) as world:
        world.psp.answer = world.connectors["backup"].answer = DOWN
        answer = await pay(world, off_session=True)
        canceled = await cancel(world.services, world.claim(), CancelPayment(payment=root(answer).id))
        assert root(canceled).status == "canceled"
        sent = len(world.psp.orders)
        world.psp.answer, world.up = (lambda order: Approved(order.reference)), {"cardnet"}
        world.clock.advance(10 * MINUTE)
        await asyncio.sleep(0.6)
        assert len(world.psp.orders) == sent


async def test_a_payment_that_waits_is_announced_once_whatever_becomes_of_it(database: str):
    """When it is put off, and not again when it is canceled."""

    def change(world: PaymentsWorld) -> None:
        world.tuning = Tuning(fallback=Fallback(wait_seconds=3_600))

    async with payments_world(database, change) as world:
        world.psp.answer = DOWN
        answer = await pay(world, off_session=True)
        await cancel(world.services, world.claim(), CancelPayment(payment=root(answer).id))
        assert await world.event_types() == ["payment_intent.created", "payment_intent.canceled"]


async def test_a_payment_ends_by_its_time_though_its_psp_has_room_for_none(world: PaymentsWorld):
    """Nothing of it was sent, so nobody has to be asked, and the buyer may try again."""
    world.psp.answer = lambda _order: None
    stuck = [asyncio.create_task(pay(world)) for _ in range(LEAST)]
    await in_time(world, lambda: len(world.psp.held) == LEAST)
    beyond = [asyncio.create_task(pay(world)) for _ in range(40)]

    async def all_accepted() -> bool:
        return await world.db.fetchval("SELECT count(*) FROM attempt_open") == LEAST + len(beyond)

    async def all_ended() -> bool:
        return await world.db.fetchval("SELECT count(*) FROM attempt WHERE state = 'not_sent'") == len(beyond)

    await world.until(all_accepted)
    world.clock.advance(61 * SECOND)
    await world.until(all_ended)
    assert {root(one).status for one in await asyncio.gather(*beyond)} <= {"processing", "requires_payment_method"}
    assert len(world.psp.held) == LEAST
    for order, deliver in world.psp.held:
        deliver(order, Approved(order.reference))
    await asyncio.gather(*stuck)
    await world.books_agree()


async def test_a_full_bulkhead_is_waited_for_whoever_the_buyer_is(world: PaymentsWorld):
    """There is room again soon: the attempt stays, and is sent when there is."""
    answers = [NotSent("bulkhead")]
    world.psp.answer = lambda order: answers.pop() if answers else Approved(order.reference)
    paying = asyncio.create_task(pay(world))
    await world.until(lambda: not answers)
    await in_time(world, paying.done)
    assert root(await paying).status == "succeeded"
    assert await attempts(world) == [("cardnet", "approved")]


# --- the external risk service ----------------------------------------------------------------------------------------


QUESTION = Question(
    payment="pi_1", account=ACCOUNT, livemode=False, amount=1_000, currency="eur", brand="visa", iin="424242", last4="4242",
    fingerprint="f", customer=None, off_session=False, score=0,
)  # fmt: skip


class RiskDesk:
    """A risk service over HTTP. `say` gives the answer to each question."""

    def __init__(self) -> None:
        self.questions: list[dict] = []
        self.say: Callable[[dict], web.Response] = lambda _question: web.json_response({"verdict": "allow", "score": 20})
        self.tokens: list[str | None] = []
        self.answer_in: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """POST /score."""
        if self.answer_in is not None:
            return await self.answer_in(request)
        self.questions.append(await request.json())
        self.tokens.append(request.headers.get("authorization"))
        return self.say(self.questions[-1])


def silent(_question: dict) -> web.Response:
    """What a broken one says."""
    return web.Response(status=503)


@asynccontextmanager
async def screened(database: str, **changes) -> AsyncIterator[tuple[PaymentsWorld, RiskDesk]]:
    """A world that asks a risk service before it pays."""
    desk = RiskDesk()
    app = web.Application()
    app.router.add_post("/score", desk.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    tuning = RiskTuning(url=f"http://127.0.0.1:{runner.addresses[0][1]}/score", secret="token", pass_up_to={"eur": 1_000}, **changes)

    def change(world: PaymentsWorld) -> None:
        world.tuning = Tuning(risk=tuning)
        service = HttpRiskService(tuning, world.tuning.policy("risk-ask"), Ids(world.clock), world.clock)
        world.risk = ExternalRisk(service, tuning)

    try:
        async with payments_world(database, change) as world:
            try:
                yield world, desk
            finally:
                await world.risk.service.close()
    finally:
        await runner.cleanup()


async def test_the_risk_service_is_asked_and_the_stricter_verdict_holds(database: str):
    """It is told no more of the card than a receipt shows; a repeated key asks nobody."""
    async with screened(database) as (world, desk):
        claim = world.claim()
        assert root(await create(world.services, claim, bought(world))).status == "succeeded"
        await create(world.services, claim, bought(world))
        [question] = desk.questions
        assert (question["amount"], question["iin"], question["last4"], question["account"]) == (1_000, "424242", "4242", ACCOUNT)
        assert desk.tokens == ["Bearer token"]
        desk.say = lambda _question: web.json_response({"verdict": "refuse", "score": 97})
        refused = await pay(world)
        assert (refused.answer.status, refused.answer.error.decline_code) == (402, "fraudulent")
        assert len(world.psp.orders) == 1


@pytest.mark.parametrize("broken", [silent, lambda _q: web.Response(text="<html>"), lambda _q: web.json_response({"verdict": "maybe"})])
async def test_a_silent_risk_service_lets_small_amounts_pass_and_refuses_larger_ones(database: str, broken):
    """The payment tells that nobody was heard."""
    async with screened(database) as (world, desk):
        desk.say = broken
        assert root(await pay(world, amount=1_000)).status == "succeeded"
        facts = (await world.store.attempt(await world.db.fetchval("SELECT id FROM attempt"))).facts
        assert facts.fallen.notes == ("risk service: no answer, passed by its amount",)
        larger = await pay(world, amount=1_001)
        assert (larger.answer.status, larger.answer.error.decline_code) == (402, "try_again_later")
        assert len(world.psp.orders) == 1


async def test_a_risk_service_that_stays_silent_is_left_alone_until_it_is_back(database: str):
    """Its breaker opens: payments go by the fallback and nobody waits; single questions find out that it answers again."""
    breaker = Breaking(failures_min=3, cool_down_seconds=60, probe_interval_seconds=0.05)
    async with screened(database, breaker=breaker) as (world, desk):
        metrics = Metrics("api")
        world.risk.service.expose(metrics)
        desk.say = silent
        for _ in range(3):
            assert root(await pay(world)).status == "succeeded"
        asked = len(desk.questions)
        assert b'guilder_risk_breaker_state{state="open"} 1.0' in metrics.text()
        with pytest.raises(Silent, match="breaker_open"):
            await world.risk.service.ask(QUESTION)
        assert len(desk.questions) == asked
        desk.say = lambda _question: web.json_response({"verdict": "allow"})
        # As if the cool-down were over.
        world.risk.service._breaker.sign_of_life(asyncio.get_running_loop().time())

        async def answers():
            with suppress(Silent):
                return await world.risk.service.ask(QUESTION)

        await world.until(answers)
        assert b'guilder_risk_breaker_state{state="closed"} 1.0' in metrics.text()


async def test_an_answer_that_comes_in_pieces_is_read_whole(database: str):
    """As networks bring them."""

    async def in_pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (b'{"verdict":', b'"refuse"}'):
            await response.write(piece)
            await asyncio.sleep(0.05)
        return response

    async with screened(database) as (world, desk):
        desk.answer_in = in_pieces
        assert (await pay(world)).answer.error.decline_code == "fraudulent"


class Moody:
    """A risk service that says what it is told to, errors of its own included."""

    def __init__(self, *says: Exception | Opinion) -> None:
        self.says = list(says)

    async def ask(self, _question: Question) -> Opinion:
        """See RiskService."""
        said = self.says.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


async def test_a_payment_that_waits_for_a_risk_service_that_breaks_in_any_way_goes_on_waiting(database: str):
    """It is looked at again, and sent when the service has spoken."""

    def change(world: PaymentsWorld) -> None:
        says = Silent("connect"), ZeroDivisionError("its own"), Opinion(verdict="allow")
        world.risk = ExternalRisk(Moody(*says), RiskTuning(url="http://risk", larger="wait"))

    async with payments_world(database, change) as world:
        paying = asyncio.create_task(pay(world))
        await in_time(world, paying.done)
        assert root(await paying).status == "succeeded"


@pytest.mark.parametrize(("verdict", "status"), [("allow", 200), ("refuse", 402)])
async def test_a_larger_payment_waits_until_the_risk_service_answers(database: str, verdict: str, status: int):
    """Nothing is sent before it has; what it says then holds."""
    async with screened(database, larger="wait") as (world, desk):
        desk.say = silent
        paying = asyncio.create_task(pay(world, amount=5_000))
        await world.until(lambda: len(desk.questions) >= 4)
        assert world.psp.orders == []
        desk.say = lambda _question: web.json_response({"verdict": verdict})
        await in_time(world, paying.done)
        answer = await paying
        assert answer.answer.status == status
        assert len(world.psp.orders) == (status == 200)
        assert await world.db.fetchval("SELECT count(*) FROM attempt_open") == 0
        await world.books_agree()
