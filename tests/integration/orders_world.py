"""The orders room on top of a payments room: sessions, and what the page does with them but for the card itself."""

from guilder import orders
from guilder.customers import Personal
from guilder.orders import CreateSession, Line
from guilder.orders.expire import payment_of
from guilder.orders.model import Session, Standing
from guilder.orders.pay import _make_payment
from guilder.payments import confirm
from guilder.payments.commands import ConfirmPayment
from guilder.security import PurposeKeys

KEYS = PurposeKeys(b"k" * 32)


def orders_on(world) -> orders.Services:
    """The verbs' dependencies; nobody here types a card, so there is no vault behind them."""
    personal = Personal(world.db, KEYS, world.clock, world.ids)
    return orders.Services(
        db=world.db, payments=world.services, methods=None, personal=personal, keys=KEYS, clock=world.clock, ids=world.ids,
        checkout_url="http://pay.example",
    )  # fmt: skip


async def asked(services, world, **changes) -> Session:
    """A new open session over 10.00 EUR."""
    line = Line(name="Coffee", unit_amount=1000, quantity=1)
    command = CreateSession(**{"currency": "eur", "lines": (line,), "success_url": "https://shop.example", **changes})
    result = await orders.create(services, world.claim(), command)
    return await services.store.find(result.answer.root.id)


async def placed(services, world, **changes) -> Session:
    """A session whose payment exists and was never tried."""
    session = await asked(services, world, **changes)
    await _make_payment(services, session)
    return await services.store.find(session.facts.id)


async def tried(services, world, session, number=1):
    """One confirmation of its payment, as the page makes it; whatever comes of it."""
    command = ConfirmPayment(
        payment=session.facts.payment_intent, payment_method=world.card(), checkout_session=session.facts.id, number=number,
    )  # fmt: skip
    return await confirm(world.services, world.claim(), command)


async def standing(services, session) -> Standing:
    """The session and its payment as they are now."""
    session = await services.store.find(session.facts.id)
    return Standing(session=session, payment=await payment_of(services, session))
