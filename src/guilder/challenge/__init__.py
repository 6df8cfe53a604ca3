"""The buyer's way to the issuer of the card and back (3-D Secure), on the checkout origin.

Plain GETs without cookies or script: /authenticate/ID leads to the issuer's page, which leads back to
/authenticate/ID/return. What the browser says is a reason to ask the issuer, and never believed. Where the buyer is led
or what he is told is decided here; the page that tells it is checkout's.

Owns:       no table.
Announces:  nothing.
May import: payments, core.
Start with: way.py.
"""

from guilder.challenge.way import CHALLENGES, ChallengeWay, Leads, News, Tells

__all__ = ["CHALLENGES", "ChallengeWay", "Leads", "News", "Tells"]
