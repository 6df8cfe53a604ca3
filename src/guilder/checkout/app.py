"""The application: one request of a buyer's browser, from its address to its answer. Whatever goes wrong is a page too."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

import structlog

from guilder.challenge import CHALLENGES, ChallengeWay, PageWay
from guilder.challenge import PAGES as PSP_PAGES
from guilder.checkout import colors
from guilder.checkout.assets import PREFIX
from guilder.checkout.http import file, page
from guilder.checkout.languages import USUAL, language
from guilder.checkout.notice import notice, on_the_way
from guilder.checkout.services import Services
from guilder.checkout.show import Shown, html
from guilder.checkout.submit import submit
from guilder.core.errors import Refusal, ResultUnknown, Unavailable
from guilder.db.errors import Again
from guilder.http_server import HungUpError, Incoming, Outgoing
from guilder.metrics import Answered
from guilder.orders import Standing, stand

_log = structlog.get_logger()

PAGES: Final = "/c/"
BRANDS: Final = "/brand/"
LOGOS: Final = "/logo/"
QUERY_FIELDS_MAX: Final = 10
# No id of ours is longer.
ID_CHARACTERS_MAX: Final = 64


class Page:
    """The application. Built once per process by bootstrap. `challenges` and `psp_pages` know what is below their own paths."""

    def __init__(self, services: Services, challenges: ChallengeWay, psp_pages: PageWay) -> None:
        self._services = services
        self._challenges = challenges
        self._psp_pages = psp_pages
        self.answered = Answered()

    async def answer(self, incoming: Incoming) -> Outgoing:
        """Answer one request, whatever it is. Raises HungUpError when there is nobody to answer."""
        return self.answered.note(await self._guarded(incoming))

    async def _guarded(self, incoming: Incoming) -> Outgoing:
        """The answer, whatever happens."""
        tongue = language(asked=None, session=None, accepted=_accepted(incoming))
        try:
            found = await self._found(incoming)
            return found or notice(self._services, "missing", 404, tongue)
        except Refusal as refusal:
            if refusal.status == 404:
                return notice(self._services, "missing", 404, tongue)
            return notice(self._services, "unknown", refusal.status, tongue, look=incoming.path)
        except Unavailable as error:
            _log.warning("page_unavailable", problem=str(error), method=incoming.method)
            return self._down(incoming, tongue)
        except (ResultUnknown, Again) as error:
            _log.warning("page_result_unknown", problem=str(error), method=incoming.method)
        except HungUpError:
            raise
        except Exception:
            _log.exception("page_failed", method=incoming.method)
        if incoming.method == "POST":
            return notice(self._services, "unknown", 500, tongue, look=incoming.path)
        return self._down(incoming, tongue)

    def refuse(self, refusal: Refusal) -> Outgoing:
        """The answer to what is no request, or cannot be taken."""
        return self.answered.note(notice(self._services, "down" if refusal.status >= 500 else "missing", refusal.status, USUAL))

    def _down(self, incoming: Incoming, tongue: str) -> Outgoing:
        """Not now. Who only looks is shown it as soon as it goes; a form is never sent again by itself."""
        query = incoming.query.decode("latin-1")
        here = f"{incoming.path}?{query}" if query else incoming.path
        return notice(self._services, "down", 503, tongue, again=here if incoming.method == "GET" else None)

    async def _found(self, incoming: Incoming) -> Outgoing | None:
        """The answer of whatever is at this address; None when nothing is."""
        method, path = incoming.method, incoming.path
        if path.startswith(PAGES):
            session = path.removeprefix(PAGES)
            if not (session.isascii() and session.replace("_", "").isalnum() and len(session) <= ID_CHARACTERS_MAX):
                return None
            if method in ("GET", "HEAD"):
                return await self._show(incoming, session)
            if method == "POST":
                self._services.must_be_writable()
                return await submit(self._services, incoming, session, lambda standing, asked: _language(incoming, standing, asked))
            return None
        if method not in ("GET", "HEAD"):
            return None
        if path.startswith(CHALLENGES):
            return await self._on_the_way(incoming, self._challenges)
        if path.startswith(PSP_PAGES):
            return await self._on_the_way(incoming, self._psp_pages)
        return await self._file(path)

    async def _show(self, incoming: Incoming, session: str) -> Outgoing | None:
        standing = await stand(self._services.orders, session)
        if standing is None:
            return None
        query = _query(incoming)
        shown = Shown(
            language=_language(incoming, standing, query.get("lang")), step=_step(query), other_card=query.get("card") == "other",
        )  # fmt: skip
        body = await html(self._services, standing, shown)
        return page(body, https=self._services.https, language=shown.language)

    async def _on_the_way(self, incoming: Incoming, way: ChallengeWay | PageWay) -> Outgoing | None:
        self._services.must_be_writable()
        step = await way.go(incoming.path)
        if step is None:
            return None
        tongue = language(asked=_query(incoming).get("lang"), session=None, accepted=_accepted(incoming))
        return await on_the_way(self._services, step, incoming.path, tongue)

    async def _file(self, path: str) -> Outgoing | None:
        services = self._services
        if path.startswith(PREFIX):
            asset = services.assets.find(path)
            return None if asset is None else file(asset.content, asset.content_type, https=services.https)
        if path.startswith(BRANDS) and path.endswith(".css"):
            digits = path[len(BRANDS) : -len(".css")]
            if colors.is_color(digits):
                return file(colors.stylesheet(f"#{digits}"), b"text/css; charset=utf-8", https=services.https)
        if path.startswith(LOGOS):
            return await self._logo(path.removeprefix(LOGOS))
        return None

    async def _logo(self, session: str) -> Outgoing | None:
        found = await self._services.orders.store.find(session)
        if found is None:
            return None
        brand = await self._services.merchants.brand(found.account)
        if brand.logo is None or brand.logo_type is None:
            return None
        return file(brand.logo, brand.logo_type.encode(), https=self._services.https)


def _language(incoming: Incoming, standing: Standing, asked: str | None) -> str:
    wanted = standing.session.facts.locale
    return language(asked=asked, session=None if wanted == "auto" else wanted, accepted=_accepted(incoming))


def _accepted(incoming: Incoming) -> str:
    return incoming.headers.get(b"accept-language", b"").decode("latin-1")


def _step(query: Mapping[str, str]) -> str | None:
    """Where the buyer comes from; who comes from a bank that has refused him stays and pays otherwise."""
    return None if query.get("redirect_status") == "failed" else query.get("step")


def _query(incoming: Incoming) -> Mapping[str, str]:
    try:
        return dict(parse_qsl(incoming.query.decode("latin-1"), max_num_fields=QUERY_FIELDS_MAX))
    except ValueError:
        return {}
