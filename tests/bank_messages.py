"""Requests to the card network as its peers would write them, for the tests of codec and bank world."""

from typing import Any

from guilder.core.clock import SECOND, Micros
from guilder.iso8583 import Message, Mti, Processing, Tag, fit, pack_tags
from guilder.network.answers import Proving, answer_of, bare_answer
from guilder.network.authenticate import proof_of
from guilder.network.books import Books
from guilder.network.decide import Refused, decide, read_order, settle_refund
from guilder.network.entries import Entry, encode_line
from guilder.network.scheme import Scheme

VISA = "4242424242424242"
ACQUIRER = "10000000001"
EUR, JPY, KWD = "978", "392", "414"
SENT = "0102030405"
# 2026-01-01.
NOON = 1_767_225_600 * SECOND


def card_payment(mti: str, reference: str, amount: int = 1050, **changes: Any) -> Message:
    """An authorization or a purchase."""
    options = {"number": VISA, "currency": EUR, "sent": SENT, "expiry": "3012", "cvc": "123", "postal_code": None} | changes
    tags = {Tag.PSP_KEY: f"key_{reference}"}
    if options["cvc"]:
        tags[Tag.CVC] = options["cvc"]
    if options["postal_code"]:
        tags[Tag.POSTAL_CODE] = options["postal_code"]
    return Message(mti, {
        2: options["number"], 3: Processing.PURCHASE, 4: f"{amount:012d}", 7: options["sent"], 11: "000042",
        14: options["expiry"], 22: "812", 25: "59", 32: ACQUIRER, 37: reference,
        42: fit("psp_merchant", 15), 43: fit("Guilder Demo", 40), 48: pack_tags(tags), 49: options["currency"],
    })  # fmt: skip


def purchase(reference: str, amount: int = 1050, **changes: Any) -> Message:
    """0200."""
    return card_payment(Mti.PURCHASE, reference, amount, **changes)


def authorization(reference: str, amount: int = 1050, **changes: Any) -> Message:
    """0100."""
    return card_payment(Mti.AUTHORIZATION, reference, amount, **changes)


def on_original(mti: str, reference: str, original: str, amount: int | None = None, **changes: Any) -> Message:
    """A message that acts on an original."""
    options = {"currency": EUR, "sent": SENT, "original_data": None} | changes
    fields = {7: options["sent"], 11: "000043", 32: ACQUIRER, 37: reference}
    if amount is not None:
        fields |= {4: f"{amount:012d}", 49: options["currency"]}
    if original:
        fields[48] = pack_tags({Tag.ORIGINAL: original})
    if options["original_data"]:
        fields[90] = options["original_data"]
    return Message(mti, fields)


def capture(reference: str, original: str, amount: int = 1050, **changes: Any) -> Message:
    """0220."""
    return on_original(Mti.CAPTURE, reference, original, amount, **changes)


def void(reference: str, original: str, **changes: Any) -> Message:
    """0400."""
    return on_original(Mti.VOID, reference, original, **changes)


def reversal(reference: str, original: str, **changes: Any) -> Message:
    """0420."""
    return on_original(Mti.REVERSAL, reference, original, **changes)


def refund(reference: str, original: str, amount: int = 1050, **changes: Any) -> Message:
    """0200 with processing code 20."""
    message = on_original(Mti.PURCHASE, reference, original, amount, **changes)
    message.fields[3] = Processing.REFUND
    return message


def inquiry(reference: str, sent: str = "0102030499") -> Message:
    """0600."""
    return Message(Mti.INQUIRY, {7: sent, 11: "000099", 32: ACQUIRER, 37: reference})


class Bank:
    """The rules without file, network or clock: what `World` does to one order, with the entries kept in a list."""

    def __init__(self) -> None:
        self.books = Books(Scheme())
        self.entries: list[Entry] = []
        self.now = Micros(NOON)

    def ask(self, message: Message) -> dict[int, str]:
        """The answer's fields."""
        order = read_order(message)
        if isinstance(order, Refused):
            return bare_answer(message.fields, order.code)
        decision = decide(order, self.books, self.now)
        if isinstance(decision, Refused):
            return bare_answer(message.fields, decision.code)
        operation = self.make_true(decision) if isinstance(decision, Entry) else decision
        standing = self.books.authentication(ACQUIRER, message.fields[37])
        proof = proof_of(self.books, ACQUIRER, message.fields[37])
        return answer_of(message.fields, operation, standing and Proving(standing, "http://bank/challenge/x", proof))

    def code(self, message: Message) -> str:
        """The answer's response code."""
        return self.ask(message)[39]

    def settle(self, reference: str) -> None:
        """Move a refund to its next state."""
        entry = settle_refund(ACQUIRER, reference, self.books, self.now)
        assert entry is not None
        self.make_true(entry)

    def make_true(self, entry: Entry) -> Any:
        """Apply an entry."""
        self.entries.append(entry)
        return self.books.apply(entry)

    def lines(self) -> list[bytes]:
        """What would stand in the truth file."""
        return [encode_line(entry) for entry in self.entries]

    def spent(self, name: str = "visa", currency: str = "eur") -> int:
        """By how much an account's balance is below its opening."""
        account = self.account(name)
        account.balance(currency)
        fresh = Scheme().named(name)
        assert fresh is not None
        return fresh.balance(currency) - account.posted[currency]

    def held(self, name: str = "visa", currency: str = "eur") -> int:
        """What authorizations hold on an account."""
        return self.account(name).held.get(currency, 0)

    def account(self, name: str) -> Any:
        """An account by its name."""
        account = self.books.scheme.named(name)
        assert account is not None
        return account
