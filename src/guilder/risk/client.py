"""An external risk service over HTTP: POST the question as JSON, read the opinion as JSON.

Slow: given up after the timeout, and once more where the policy and its budget allow. Answering twice is no matter: it is asked for
an opinion and changes nothing. When it is away the fallback decides, after a refused connection or a timeout at first; when its
breaker has opened at once, but for single questions that find out whether it is back.
"""

import asyncio
from typing import Final

import aiohttp
import msgspec
import structlog

from guilder.breaker import Breaker, BreakerState
from guilder.core.clock import Clock, sleep
from guilder.core.ids import Ids
from guilder.core.retry import Budget, Retry
from guilder.metrics import Metrics, Sample
from guilder.risk.external import Opinion, Question, Silent
from guilder.tuning import RiskTuning

# An opinion is a line.
ANSWER_BYTES_MAX: Final = 16 * 1024
# Questions under way at once: a service that hangs for a second at 250 payments/s.
ASKED_MAX: Final = 256

_encode = msgspec.json.Encoder().encode
_opinion = msgspec.json.Decoder(Opinion)
log = structlog.get_logger(__name__)


class HttpRiskService:
    """Implements RiskService. Made inside its loop; one per process."""

    def __init__(self, tuning: RiskTuning, retry: Retry, ids: Ids, clock: Clock) -> None:
        self._url = tuning.url or ""
        self._timeout = tuning.timeout_seconds
        self._retry = retry
        self._ids = ids
        self._budget = None if retry.budget_share is None else Budget(retry.budget_share, clock.boot)
        self._breaker = Breaker(tuning.breaker, _moved)
        self._asked = asyncio.Semaphore(ASKED_MAX)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if tuning.secret is not None:
            headers["Authorization"] = f"Bearer {tuning.secret}"
        self._session = aiohttp.ClientSession(
            headers=headers, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False,
            timeout=aiohttp.ClientTimeout(total=self._timeout, ceil_threshold=self._timeout + 1),
        )  # fmt: skip

    def expose(self, metrics: Metrics) -> None:
        """Register what is measured here."""
        metrics.gauge(
            "risk_breaker_state", "1 for the state that the risk service's breaker is in.", ("state",),
            lambda: [Sample((state.value,), self._breaker.state is state) for state in BreakerState],
        )  # fmt: skip

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def ask(self, question: Question) -> Opinion:
        """See RiskService."""
        if self._budget is not None:
            self._budget.earn()
        tries = 0
        while True:
            tries += 1
            try:
                return await self._guarded(question)
            except Silent as silent:
                wait = self._retry.delay_after(tries, self._ids.uniform, error=(silent.why,))
                if wait is None or not (self._budget is None or self._budget.spend()):
                    log.warning("risk_service_silent", why=silent.why, payment=question.payment, tries=tries)
                    raise
            await sleep(wait)

    async def _guarded(self, question: Question) -> Opinion:
        """One question, if the breaker lets it through. A word that is no opinion is no answer either."""
        now = asyncio.get_running_loop().time
        if not self._breaker.allows(now()):
            raise Silent("breaker_open")
        try:
            opinion = await self._once(question)
        except Silent:
            self._breaker.failed(now())
            raise
        self._breaker.succeeded(now())
        return opinion

    async def _once(self, question: Question) -> Opinion:
        try:
            async with (
                asyncio.timeout(self._timeout), self._asked,
                self._session.post(self._url, data=_encode(question), allow_redirects=False) as response,
            ):  # fmt: skip
                if response.status != 200:
                    raise Silent("refused" if 400 <= response.status < 500 and response.status != 429 else "status")
                return _opinion.decode(await response.content.read(ANSWER_BYTES_MAX))
        except TimeoutError as error:
            raise Silent("timeout") from error
        except msgspec.MsgspecError as error:
            raise Silent("unreadable") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Silent("connect") from error


def _moved(_before: BreakerState, after: BreakerState) -> None:
    log.warning("risk_breaker_moved", state=after.value)
