"""What a buyer was told at the payment page, and a till by its reader, held against the accounts of their cards at the bank.

Each card of these orders is used for one try (or for one form that is clicked twice), so its account alone tells what became of it: it
lacks the order's amount, or nothing. Pure functions, as in invariants.py.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from chaos.history import Line
from chaos.page import NOT_CHARGED, PAID
from chaos.records import Records

Finding = Iterator[str]

AT_PAGE: Final = frozenset({"buy", "bank", "other card"})
# Where the page still waits for the buyer.
MAY_PAY: Final = frozenset({"form", "action"})
NEVER: Final = 2**63


class Visit(Struct, frozen=True, kw_only=True):
    """What a buyer did with one order. `uses`: by card, when each of its requests began and was answered (NEVER where it was not)."""

    session: str
    amount: int
    currency: str
    uses: Mapping[str, Sequence[tuple[int, int]]]
    told: Sequence[Line]


def visits(r: Records) -> list[Visit]:
    """Every order that a buyer was sent to."""
    found: dict[str, list[Line]] = defaultdict(list)
    for line in r.lines:
        if line.op in AT_PAGE:
            found[line.object].append(line)
    return [_visit(session, lines) for session, lines in found.items()]


def _visit(session: str, lines: Sequence[Line]) -> Visit:
    answered = {(line.client, line.asked): line.at for line in lines if line.phase in ("ok", "fail")}
    uses: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for line in lines:
        if line.phase == "invoke" and line.params:
            uses[line.params["number"]].append((line.at, answered.get((line.client, line.at), NEVER)))
    told = [line for line in lines if line.phase == "ok"]
    return Visit(session=session, amount=lines[0].amount, currency=lines[0].currency, uses=uses, told=told)


def lacking(r: Records, visit: Visit) -> Mapping[str, Counter[str]]:
    """The cards of a visit whose accounts are not whole."""
    return {number: r.taken[number] for number in visit.uses if r.taken.get(number)}


def i1_one_order_one_charge(r: Records) -> Finding:
    """Whatever a buyer clicks, one of his cards is charged the order's amount at most, and no other."""
    for visit in visits(r):
        lacks = lacking(r, visit)
        if len(lacks) > 1 or any(taken != {visit.currency: visit.amount} for taken in lacks.values()):
            taken = {number[-6:]: dict(one) for number, one in lacks.items()}
            yield f"for the order {visit.session} of {visit.amount} {visit.currency} the bank has taken {taken}"


def i2_shown_as_paid(r: Records) -> Finding:
    """A page that said "paid" was right; in the end every page has a word, which is what the bank did, and the merchant hears the same."""
    for visit in visits(r):
        paid = bool(lacking(r, visit))
        if any(line.state == PAID for line in visit.told) and not paid:
            yield f"the buyer of {visit.session} was told that it is paid, and the bank has taken nothing"
        last = visit.told[-1].state if visit.told else ""
        if last not in ({PAID} if paid else {NOT_CHARGED, *MAY_PAY}):
            yield f"in the end the page of {visit.session} says {last or 'nothing'}, and the bank has {'' if paid else 'not '}taken it"
        status = r.sessions.get(visit.session, {}).get("status", "not there")
        if status not in ({"complete"} if paid else {"open", "expired"}):
            yield f"{visit.session} is {status}, and the bank has {'' if paid else 'not '}taken it"
    acknowledged = {line.object for line in r.lines if line.op == "order" and line.phase == "ok" and line.status == 200}
    yield from (f"{session} was acknowledged and does not exist" for session in sorted(acknowledged - r.sessions.keys()))


def i4_not_charged(r: Records) -> Finding:
    """Whenever a page said that nothing was charged, no card is charged that had been tried before, and was not used again since."""
    for visit in visits(r):
        lacks = lacking(r, visit)
        for line in visit.told:
            if line.state != NOT_CHARGED or line.op == "other card":
                continue
            wrong = [number for number in lacks if _was_over(visit.uses[number], line)]
            if wrong:
                yield f"the buyer of {visit.session} was told ({line.status}) that nothing was charged, and the card {wrong[0][-6:]} was"
                break


def _was_over(uses: Sequence[tuple[int, int]], line: Line) -> bool:
    """Whether all that was done with a card had been answered when this was asked; of a form that is this the answer itself counts."""
    return all(ended < line.asked or began == line.asked for began, ended in uses) and (
        line.method == "GET" or any(began == line.asked for began, _ in uses)
    )


class Held(Struct, frozen=True, kw_only=True):
    """A card that was held to a reader: the answers under its key, in their order. `left`: the till was only told 503, and went away."""

    number: str
    answers: Sequence[Line]
    left: bool


def held(r: Records) -> list[Held]:
    """Every card that was held to a reader."""
    lines: dict[tuple[int, str], list[Line]] = defaultdict(list)
    for line in r.lines:
        if line.op == "present":
            lines[line.merchant, line.key].append(line)
    return [_held(of_key) for of_key in lines.values()]


def _held(lines: Sequence[Line]) -> Held:
    params = next(line.params for line in lines if line.phase == "invoke")
    refused = {line.phase for line in lines if line.phase not in ("invoke", "left")} == {"fail"}
    return Held(
        number=(params or {})["card_present"]["number"], answers=[line for line in lines if line.phase == "ok"],
        left=refused and any(line.phase == "left" for line in lines),
    )  # fmt: skip


def till_told_the_truth(r: Records) -> Finding:
    """Told "paid" is paid, to the minor unit; after "not paid", canceled, refused, or 503 the buyer's account is whole in the end."""
    for one in held(r):
        taken = r.taken.get(one.number, Counter())
        for line in one.answers:
            paid = line.status == 200 and line.state == "succeeded"
            shown = r.shown.get(line.object)
            if paid and (shown is None or taken != {shown["currency"]: shown["amount"]}):
                yield f"the till was told that {line.object} is paid, and the bank has taken {dict(taken)}"
            elif not paid and taken:
                yield f"the till was told {line.state or line.error or 'canceled'} ({line.status}), and the bank has taken {dict(taken)}"
        if one.left and taken:
            yield f"the till was only told 503, and the bank has taken {dict(taken)}"


def tried_again(r: Records) -> set[str]:
    """Payments of which another card may have been tried when one had failed, as these flows allow: that is not their end.

    Of an order of which no visit is left (a restore has met it) nobody knows how many cards there were.
    """
    cards: Counter[str] = Counter()
    uses = {visit.session: len(visit.uses) for visit in visits(r)}
    for session, shown in r.sessions.items():
        if payment := shown.get("payment_intent"):
            cards[payment] = uses.get(session, 2)
    asked = {(line.key, line.params["payment_intent"]) for line in r.lines if line.op == "process" and line.params}
    cards.update(payment for _, payment in asked)
    return {payment for payment, count in cards.items() if count > 1}
