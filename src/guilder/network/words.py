"""What the bank's page says, in each of its languages. A table of its own: the bank world shares nothing with the payment page."""

from typing import Final

from msgspec import Struct

# More preferences than any browser sends.
PREFERENCES_MAX: Final = 20


class Words(Struct, frozen=True, kw_only=True):
    """One language. `{card}` in `waits` is the place of the card's last digits."""

    tag: str
    thousands: str
    decimal: str
    question: str
    waits: str
    yes: str
    no: str
    back: str
    answered: str
    answered_text: str
    nothing: str
    nothing_text: str
    impossible: str
    impossible_text: str
    moment: str
    moment_text: str
    sandbox: str


ENGLISH: Final = Words(
    tag="en", thousands=",", decimal=".", question="Is this you?",
    waits="A payment over the internet with your card {card} waits for your yes.",
    yes="Yes, it is me", no="No, refuse it", back="Back to the shop",
    answered="Already answered", answered_text="You have answered this.",
    nothing="Nothing to confirm", nothing_text="This address is not one of ours, or it is too old.",
    impossible="Not possible", impossible_text="Open this address in a browser.",
    moment="One moment", moment_text="The bank cannot store your answer now. Reload this page.",
    sandbox="A bank of the sandbox. No money moves here.",
)  # fmt: skip
GERMAN: Final = Words(
    tag="de", thousands=".", decimal=",", question="Sind Sie das?",
    waits="Eine Zahlung im Internet mit Ihrer Karte {card} wartet auf Ihr Ja.",
    yes="Ja, das bin ich", no="Nein, ablehnen", back="Zurück zum Shop",
    answered="Schon beantwortet", answered_text="Sie haben diese Frage beantwortet.",
    nothing="Nichts zu bestätigen", nothing_text="Diese Adresse ist keine von unseren, oder sie ist zu alt.",
    impossible="Nicht möglich", impossible_text="Öffnen Sie diese Adresse in einem Browser.",
    moment="Einen Moment", moment_text="Die Bank kann Ihre Antwort jetzt nicht speichern. Laden Sie diese Seite neu.",
    sandbox="Eine Bank der Sandbox. Hier fließt kein Geld.",
)  # fmt: skip
_KNOWN: Final = {one.tag: one for one in (ENGLISH, GERMAN)}


def words_for(accepted: str) -> Words:
    """The words that an Accept-Language header wants most (RFC 9110, section 12.5.4); English when it wants none that are here."""
    best, most = ENGLISH, 0.0
    for one in accepted.split(",")[:PREFERENCES_MAX]:
        tag, _, parameter = one.strip().partition(";")
        known = _KNOWN.get(tag.partition("-")[0].strip().lower())
        try:
            weight = float(parameter.replace(" ", "").removeprefix("q=") or "1")
        except ValueError:
            continue
        if known is not None and weight > most:
            best, most = known, weight
    return best
