"""Ask the issuer what came of a challenge, when the buyer is back; and give up on those who do not come back.

What the buyer's browser says is only a reason to ask: the executor asks the issuer, server to server.
"""

from typing import Final

from guilder.core.ensure import present
from guilder.db.errors import Again
from guilder.payments.alone import each_alone
from guilder.payments.challenge import abandoned, asked
from guilder.payments.model import challenge_slot
from guilder.payments.services import Services
from guilder.payments.store import FoundChallenge

# Challenges that are given up in one round.
ROUND_MAX: Final = 100
# Each time somebody else has moved the payment, which has few more moves than this in all.
TRIES_MAX: Final = 5


async def ask_issuer(services: Services, challenge: FoundChallenge) -> None:
    """See to it that the issuer is asked, where that is still of use and not under way. Commits at most once; safe to repeat.

    Raises Again when the payment was moved under every try, or the commits lost their answers.
    """
    for _ in range(TRIES_MAX):
        payment = await services.store.read(challenge.payment, challenge.account, challenge.livemode)
        if payment is None or payment.challenge is None or payment.challenge.attempt != challenge.attempt:
            return
        if payment.open_in(challenge_slot(challenge.attempt)) is not None:
            return
        if await services.store.commit(asked(payment, payment.challenge, services.clock.now())) is None:
            return
    raise Again("a challenge could not be asked about")


async def expire_challenges(services: Services, limit: int = ROUND_MAX) -> int:
    """Give up challenges whose time has passed, at most so many; returns how many. Safe to repeat."""

    async def ended(found: tuple[str, str, bool]) -> bool:
        payment = await services.store.read(*found)
        if payment is None or payment.challenge is None or payment.challenge.expires_at > services.clock.now():
            return False
        attempt = present(await services.store.attempt(payment.challenge.attempt), "a challenge has its attempt", payment=payment.facts.id)
        # Whoever else moves the payment first wins; the next round looks again.
        return await services.store.commit(abandoned(payment, attempt, ids=services.ids)) is None

    found = await services.store.abandoned(services.clock.now(), limit)
    return await each_alone(found, ended, problem="challenge_not_abandoned", field="payment")
