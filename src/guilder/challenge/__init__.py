"""The buyer's ways to others' pages and back, on the checkout origin: to the issuer of the card (3-D Secure), and to the PSP's own page.

Plain GETs without cookies or script: /authenticate/ID leads to the issuer's page, which leads back to /authenticate/ID/return;
/page/ATTEMPT/SECRET to the PSP's. What the browser says is a reason to ask, and never believed. Where the buyer is led or what
he is told is decided here; the page that tells it is checkout's.

Owns:       no table.
Announces:  nothing.
May import: payments, core.
Start with: way.py, page_way.py.
"""

from guilder.challenge.page_way import PAGES, PageWay
from guilder.challenge.way import CHALLENGES, ChallengeWay, Leads, News, Tells

__all__ = ["CHALLENGES", "PAGES", "ChallengeWay", "Leads", "News", "PageWay", "Tells"]
