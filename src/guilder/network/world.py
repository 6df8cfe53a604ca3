"""The bank world as one thing: what a message does, what stands in the file, what the memory holds.

`carry_out` changes the memory and collects the line at once; nobody may hear of it before `truth.sync` has returned
True. That includes the answers to inquiries: what they tell may not be durable yet.
"""

from collections.abc import Callable
from hmac import compare_digest
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from guilder.core.clock import Clock
from guilder.iso8583 import Code, FrameError, Message, Mti, Network
from guilder.network.answers import Proving, answer_of, bare_answer, status_of
from guilder.network.authenticate import mark, proof_of
from guilder.network.books import Authentication, Books, Operation
from guilder.network.decide import Refused, answer_challenge, decide, read_order, settle_refund
from guilder.network.entries import (
    FORMAT,
    AccountsAdded,
    Entry,
    Kind,
    Line,
    Opened,
    PageEnded,
    PageOpened,
    decode_line,
    encode_line,
)
from guilder.network.errors import TruthUnreadable
from guilder.network.hosted import HostedPages
from guilder.network.issuer import Terms
from guilder.network.scheme import Scheme, mask
from guilder.network.truth_file import TruthFile

DIGEST_KEY_BYTES: Final = 32
# An inquiry settles what is in progress when it is this one in a row.
SETTLING_INQUIRY: Final = 2

Answer = tuple[str, dict[int, str]]
"""Message type and fields of an answer."""


class Challenge(Struct, frozen=True):
    """A challenge that a buyer was sent to."""

    acquirer: str
    reference: str
    operation: Operation
    standing: Authentication


class World:
    """Acquirer, scheme and issuers over one truth file."""

    def __init__(self, truth: TruthFile, clock: Clock) -> None:
        self.truth = truth
        self.scheme = Scheme()
        self.books = Books(self.scheme)
        self.hosted = HostedPages()
        self._clock = clock
        # Where the issuers' challenge pages are: the control port's address, once it is known.
        self.pages = ""

    def recover(self, draw_key: Callable[[int], bytes]) -> None:
        """Rebuild the memory from the file; start the file if it is new. Raises TruthUnreadable."""
        number = 0
        for number, line in enumerate(self.truth.recover(), start=1):
            try:
                self._replay(decode_line(line))
            except msgspec.MsgspecError as error:
                raise TruthUnreadable(f"line {number} of {self.truth.path} is none of ours: {error}") from error
        if number == 0:
            opened = Opened(FORMAT, draw_key(DIGEST_KEY_BYTES).hex())
            self.truth.append(encode_line(opened))
            self._replay(opened)

    def carry_out(self, message: Message, *, repeats: str = "") -> Answer:
        """Do what a request asks and say what to answer. Raises FrameError for a message type that is no request.

        `repeats`: the message is one that was carried out under this reference, and now has one of its own.
        """
        mti, fields = message.mti, message.fields
        answer_mti = Mti.ANSWERS.get(mti)
        if answer_mti is None:
            raise FrameError("the message type is no request")
        if mti == Mti.INQUIRY:
            return answer_mti, self._inquire(fields)
        if mti == Mti.NETWORK:
            return answer_mti, _manage(fields)
        order = read_order(message)
        if isinstance(order, Refused):
            return answer_mti, bare_answer(fields, order.code)
        decision = decide(order, self.books, self._clock.now())
        if isinstance(decision, Entry):
            decision = self._record(replace(decision, repeats=repeats) if repeats else decision)
        elif isinstance(decision, Refused):
            return answer_mti, bare_answer(fields, decision.code)
        return answer_mti, answer_of(fields, decision, self._proving(fields[32], fields[37], decision))

    def try_card(self, message: Message) -> str:
        """What the issuer says to a card that a buyer tries on a page; the response code. Only an approval leaves a trace.

        Nobody may hear of it before `truth.sync`.
        """
        order = read_order(message)
        decision = order if isinstance(order, Refused) else decide(order, self.books, self._clock.now())
        if isinstance(decision, Entry) and decision.code == Code.APPROVED:
            self._record(decision)
        return decision.code

    def note_page(self, line: PageOpened | PageEnded) -> None:
        """Open a page, or end it unpaid. Nobody may hear of it before `truth.sync`."""
        self.hosted.apply(line)
        self.truth.append(encode_line(line))

    def keep_house(self) -> None:
        """Move the refunds whose time has come, and forget what is old."""
        now = self._clock.now()
        for acquirer, reference in self.books.due_refunds(now):
            self._settle(acquirer, reference)
        self.books.sweep(now)
        self.hosted.sweep(now)

    def open_run(self, bin_: str, count: int, terms: Terms) -> list[str]:
        """Open accounts with generated numbers; returns the numbers. Raises BadRequest."""
        first = self.scheme.plan_run(bin_, count)
        added = AccountsAdded(self._clock.now(), terms, bin=bin_, first=first, count=count)
        self.truth.append(encode_line(added))
        return self.scheme.add(added)

    def open_given(self, number: str, terms: Terms) -> list[str]:
        """Open an account with this number, which is not written anywhere; returns it. Raises BadRequest."""
        self.scheme.plan_given(number)
        digest = self.scheme.digest(number)
        added = AccountsAdded(self._clock.now(), terms, name=f"given-{digest}", masked=mask(number), digest=digest)
        self.truth.append(encode_line(added))
        self.scheme.add(added)
        return [number]

    def _replay(self, line: Line) -> None:
        if isinstance(line, Entry):
            self.books.apply(line)
        elif isinstance(line, AccountsAdded):
            self.scheme.add(line)
        elif isinstance(line, PageOpened | PageEnded):
            self.hosted.apply(line)
        else:
            if line.format != FORMAT:
                raise TruthUnreadable(f"{self.truth.path} has format {line.format}; this version reads {FORMAT}")
            self.scheme.use_key(bytes.fromhex(line.digest_key))

    def _record(self, entry: Entry) -> Operation:
        operation = self.books.apply(entry)
        self.truth.append(encode_line(entry))
        return operation

    def _inquire(self, fields: dict[int, str]) -> dict[int, str]:
        """Status inquiry. The second one in a row settles what is in progress, as asking a bank again does."""
        if not (7 in fields and 32 in fields and 37 in fields):
            return bare_answer(fields, Code.FORMAT_ERROR)
        acquirer, reference = fields[32], fields[37]
        operation = self.books.find(acquirer, reference)
        if operation is None:
            return bare_answer(fields, Code.NOT_FOUND)
        operation.asked += 1
        moving = self.books.moving(acquirer, reference)
        # What is due has happened, also where nobody has come by yet to write it down.
        if operation.asked >= SETTLING_INQUIRY or (moving is not None and moving.due <= self._clock.now()):
            self._settle(acquirer, reference)
        return status_of(fields, operation, self._proving(acquirer, reference, operation))

    def _proving(self, acquirer: str, reference: str, operation: Operation) -> Proving | None:
        if operation.kind != Kind.AUTHENTICATION:
            return None
        standing = self.books.authentication(acquirer, reference)
        if standing is None:
            return None
        token = f"{acquirer}-{reference}-{mark(self.books, 'page', acquirer, reference)}"
        return Proving(standing, f"{self.pages}/challenge/{token}", proof_of(self.books, acquirer, reference))

    def challenge(self, token: str) -> Challenge | None:
        """The challenge of a page's address, open or answered; None for an address that we never gave out."""
        acquirer, _, rest = token.partition("-")
        reference, _, given = rest.partition("-")
        operation, standing = self.books.find(acquirer, reference), self.books.authentication(acquirer, reference)
        known = compare_digest(given.encode(), mark(self.books, "page", acquirer, reference).encode())
        if not known or operation is None or standing is None or not standing.challenged:
            return None
        return Challenge(acquirer, reference, operation, standing)

    def answer_challenge(self, challenge: Challenge, *, passed: bool) -> None:
        """The buyer's answer; the first one counts. Nobody may hear of it before `truth.sync`."""
        entry = answer_challenge(challenge.acquirer, challenge.reference, self.books, self._clock.now(), passed=passed)
        if entry is not None:
            self._record(entry)

    def _settle(self, acquirer: str, reference: str) -> None:
        entry = settle_refund(acquirer, reference, self.books, self._clock.now())
        if entry is not None:
            self._record(entry)


def _manage(fields: dict[int, str]) -> dict[int, str]:
    """Sign on, sign off, echo: all are answered; nothing depends on them."""
    known = fields.get(70) in (Network.SIGN_ON, Network.SIGN_OFF, Network.ECHO)
    return bare_answer(fields, Code.APPROVED if known and 7 in fields else Code.FORMAT_ERROR)
