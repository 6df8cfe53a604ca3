"""Fault rules: which requests they hit, how often, and which rules are refused."""

import pytest

from bank_messages import authorization, capture, inquiry, purchase, refund, reversal, void
from guilder.iso8583 import Message, Mti
from guilder.network.errors import BadRequest
from guilder.network.faults import RULES_MAX, FaultKind, Faults, OperationName, Rule, operation_of, read_rule


def hits(rule: Rule, *messages: Message) -> list[bool]:
    """Which of these requests the rule hits."""
    faults = Faults()
    faults.add(rule)
    return [faults.draw(message) is rule for message in messages]


@pytest.mark.parametrize(
    ("message", "operation"),
    [
        (authorization("A1"), OperationName.AUTHORIZE),
        (Message(Mti.AUTHORIZATION_ADVICE, {}), OperationName.AUTHORIZE),
        (purchase("A1"), OperationName.PURCHASE),
        (refund("A1", "A0"), OperationName.REFUND),
        (capture("A1", "A0"), OperationName.CAPTURE),
        (void("A1", "A0"), OperationName.VOID),
        (reversal("A1", "A0"), OperationName.REVERSAL),
        (Message(Mti.REVERSAL_REPEAT, {}), OperationName.REVERSAL),
        (inquiry("A1"), OperationName.QUERY),
        (Message(Mti.NETWORK, {70: "001"}), OperationName.NETWORK),
    ],
)
def test_every_request_has_an_operation_that_rules_can_name(message: Message, operation: OperationName) -> None:
    """A rule for that operation hits it, a rule for another does not."""
    assert operation_of(message) is operation
    other = next(name for name in OperationName if name is not operation)
    assert hits(Rule(kind=FaultKind.LOST_ANSWER, operation=operation), message) == [True]
    assert hits(Rule(kind=FaultKind.LOST_ANSWER, operation=other), message) == [False]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(kind=FaultKind.LOST_ANSWER), [True, True, True]),
        (Rule(kind=FaultKind.LOST_ANSWER, reference="A1"), [True, True, False]),
        (Rule(kind=FaultKind.LOST_ANSWER, amount=700), [False, True, False]),
        (Rule(kind=FaultKind.LOST_ANSWER, card="4242"), [True, False, False]),
        (Rule(kind=FaultKind.LOST_ANSWER, card="4242424242424242", amount=1), [False, False, False]),
        (Rule(kind=FaultKind.LOST_ANSWER, skip=1), [False, True, True]),
        (Rule(kind=FaultKind.LOST_ANSWER, count=2), [True, True, False]),
        (Rule(kind=FaultKind.LOST_ANSWER, probability=0), [False, False, False]),
        (Rule(kind=FaultKind.NOT_FOUND), [False, False, True]),
    ],
)
def test_a_rule_hits_only_what_fits_it(rule: Rule, expected: list[bool]) -> None:
    """By reference (also of the original), amount, card, operation, skip and count."""
    assert hits(rule, purchase("A1", 1050), capture("C1", "A1", 700), inquiry("Z9")) == expected


def test_the_same_seed_draws_the_same_hits() -> None:
    """About as many as the probability says, and others with another seed."""
    messages = [purchase(f"P{index}") for index in range(400)]
    first, again, other = (hits(Rule(kind=FaultKind.LOST_ANSWER, probability=0.25, seed=seed), *messages) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert 60 < sum(first) < 140


def test_the_first_rule_that_hits_wins() -> None:
    """In the order in which they were switched on; removed ones hit nothing."""
    faults = Faults()
    never = faults.add(Rule(kind=FaultKind.CLOSE, operation=OperationName.VOID))
    first = faults.add(Rule(kind=FaultKind.SLOW))
    faults.add(Rule(kind=FaultKind.MALFORMED))
    drawn = faults.draw(purchase("P1"))
    assert drawn is first.rule
    assert [(standing.id, standing.seen, standing.hits) for standing in faults.all()] == [
        ("fault_1", 0, 0), ("fault_2", 1, 1), ("fault_3", 0, 0),
    ]  # fmt: skip
    assert (faults.remove(never.id), faults.remove("fault_9"), faults.remove(), bool(faults)) == (1, 0, 2, False)
    assert faults.draw(purchase("P1")) is None


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"{", "not a fault rule"),
        (b'{"kind":"explode"}', "explode"),
        (b'{"kind":"slow","speed":1}', "speed"),
        (b'{"kind":"slow","operation":"pay"}', "pay"),
        (b'{"kind":"slow","probability":1.5}', "probability"),
        (b'{"kind":"slow","delay_ms":-1}', "delay_ms"),
        (b'{"kind":"slow","skip":-1}', "skip"),
        (b'{"kind":"slow","count":0}', "count"),
        (b'{"kind":"error","code":"9"}', "code"),
        (b'{"kind":"not_found","operation":"void"}', "query"),
        (b'{"kind":"key_ignored","operation":"purchase"}', "`capture` and `refund` only"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_the_reason(document: bytes, reason: str) -> None:
    """So that nobody waits for a fault that cannot come."""
    with pytest.raises(BadRequest, match=reason):
        Faults().add(read_rule(document))


def test_rules_are_not_collected_without_end() -> None:
    """Each costs time on every request."""
    faults = Faults()
    for _ in range(RULES_MAX):
        faults.add(Rule(kind=FaultKind.SLOW))
    with pytest.raises(BadRequest, match="at most"):
        faults.add(Rule(kind=FaultKind.SLOW))
