"""What the experiment judges of replicas, failovers and restores can fail: each judge is shown what it must see, and what it must let be."""

from collections.abc import Mapping, Sequence
from typing import Any

from chaos.final import refused_without_need
from chaos.history import Line, told
from chaos.lab import Window
from chaos.reads import replica, unknown_claims
from chaos.records import Books, Effects, Records
from chaos.restored import Restore, incomplete, lost_attempts, not_this_check, quarantine_kept, sent_meanwhile, strangers
from msgspec.structs import replace

SECOND = 1_000_000_000
LIST, PAYMENTS = "/v1/payment_intents?limit=20", "/v1/payment_intents"
BOOKS = Books(
    attempts=[], open=[], charges=[], refunds=[], adjustments=[], payments=[], transfers=[], standing=[], log=[], consumers=[], events=[],
    lanes=[], keys_open=0,
)  # fmt: skip
RECORDS = Records(
    lines=[], truth=Effects([]), books=BOOKS, shown={}, webhooks={}, endpoints={}, counted={}, sent={}, opinions={}, sessions={}, taken={},
)  # fmt: skip


def acknowledged(at: int, id_: str, state: str = "succeeded", *, key: str = "k", method: str = "POST") -> Line:
    """A client was told of a payment so many seconds after the beginning."""
    return Line(at * SECOND, 1, "ok", "pay", key=key, method=method, path=PAYMENTS, status=200, object=id_, state=state)


def listed(asked: int, *shown: tuple[str, str], age: float | None = None, more: bool = False) -> tuple[Line, Line]:
    """A list that was asked for so many seconds after the beginning."""
    rows = [list(one) for one in shown]
    return (
        Line(asked * SECOND, 1, "invoke", "list", method="GET", path=LIST),
        Line(asked * SECOND + 1_000, 1, "ok", "list", method="GET", path=LIST, status=200, age=age, listed=rows, more=more),
    )


def judged(*lines: Line, shown: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with lists, where payments end in these states."""
    ends = {"pi_1": "succeeded", "pi_2": "succeeded"} if shown is None else shown
    return list(replica(replace(RECORDS, lines=lines, shown={id_: {"status": state} for id_, state in ends.items()})))


def test_a_list_may_lack_what_is_younger_than_its_age_and_nothing_older() -> None:
    """A payment of four seconds ago: missing in a list of five seconds, not in one of three, and not in one of now."""
    assert judged(acknowledged(6, "pi_1"), *listed(10, age=5.0)) == []
    assert len(judged(acknowledged(6, "pi_1"), *listed(10, age=3.0))) == 1
    assert len(judged(acknowledged(6, "pi_1"), *listed(10))) == 1
    assert judged(acknowledged(6, "pi_1"), *listed(10, ("pi_1", "succeeded"), age=3.0)) == []


def test_a_list_shows_each_end_that_is_older_than_its_age() -> None:
    """Also of a payment that it does show, as what it was before."""
    assert judged(acknowledged(6, "pi_1"), *listed(10, ("pi_1", "processing"), age=5.0)) == []
    assert len(judged(acknowledged(6, "pi_1"), *listed(10, ("pi_1", "processing"), age=3.0))) == 1


def test_the_first_page_of_more_need_not_hold_what_is_behind_it() -> None:
    """Ids are in the order of time, and a page is cut off at its last one."""
    assert judged(acknowledged(6, "pi_1"), *listed(10, ("pi_2", "succeeded"), more=True)) == []
    assert len(judged(acknowledged(6, "pi_1"), *listed(10, ("pi_2", "succeeded")))) == 1
    assert len(judged(acknowledged(6, "pi_2"), *listed(10, ("pi_1", "succeeded"), more=True))) == 1


def test_only_answers_under_a_key_are_held_against_lists() -> None:
    """Who merely reads may see what a failover takes back."""
    assert judged(acknowledged(6, "pi_1", key="", method="GET"), *listed(10)) == []


def test_what_a_replica_tells_of_is_there_in_the_end() -> None:
    """And as it said; of the primary's list that is not asked, since it may show what its standby has not got."""
    assert len(judged(*listed(10, ("pi_3", "processing"), age=0.1))) == 1
    assert judged(*listed(10, ("pi_3", "processing"))) == []
    assert len(judged(*listed(10, ("pi_1", "succeeded"), age=0.1), shown={"pi_1": "canceled"})) == 1
    assert judged(*listed(10, ("pi_1", "processing"), age=0.1)) == []


def test_nothing_but_a_list_may_have_an_age_and_no_list_more_than_a_minute() -> None:
    """What decides about money comes from the primary."""
    assert len(judged(replace(acknowledged(6, "pi_1"), age=0.0))) == 1
    assert len(judged(*listed(10, age=61.0))) == 1


def test_a_list_in_an_answer_is_written_down_with_states() -> None:
    """Ids, states, and whether there is more."""
    body = b'{"object": "list", "has_more": true, "data": [{"id": "pi_1", "status": "succeeded"}]}'
    assert told(body) == {"listed": [["pi_1", "succeeded"]], "more": True}


def test_what_has_left_must_be_claimed_on_whatever_is_promoted() -> None:
    """Unknown there, or known as never sent, is a claim that was sent before the standby had it."""
    attempts = [{"reference": "A", "unsent": False}, {"reference": "B", "unsent": True}]
    assert list(unknown_claims(["A", "A"], attempts)) == []
    assert [text.split()[0] for text in unknown_claims(["A", "B", "C"], attempts)] == ["B", "C"]


def row(id_: str, **more: object) -> dict[str, Any]:
    """A row of the books."""
    return {"id": id_, "reference": id_.upper(), **more}


RESTORE = Restore(began=5 * SECOND, at=9 * SECOND, lost=[row("b")])


def test_answers_of_the_time_that_may_be_lost_are_not_judged_and_all_others_are() -> None:
    """Who was told 503 then, or nothing, still is to be told the truth."""
    lines = [acknowledged(4, "pi_1"), acknowledged(6, "pi_2"), replace(acknowledged(6, ""), phase="fail"), acknowledged(10, "pi_3")]
    assert RESTORE.promised(lines) == [lines[0], lines[2], lines[3]]


def test_who_was_answered_before_a_restore_and_leaves_at_a_503_was_not_told_503_only() -> None:
    """His payment may be in the backup; of whoever else leaves nothing may be left."""
    answered, other = acknowledged(6, "pi_1"), Line(10 * SECOND, 1, "left", "pay", key="other")
    assert RESTORE.promised([answered, replace(other, key=answered.key), other]) == [other]


def test_a_key_that_a_restore_may_have_taken_may_be_used_for_something_else() -> None:
    """It is a new one then; any other is held to what it was used for first."""
    answered, misused = acknowledged(6, "pi_1"), replace(acknowledged(10, "pi_4", key="other"), op="misuse")
    assert RESTORE.promised([answered, replace(misused, key=answered.key), misused]) == [misused]


def test_nothing_is_promised_of_an_order_at_the_page_or_a_card_at_a_reader_that_somebody_was_busy_with() -> None:
    """Before the backup and after the restore everything is."""
    before, after = [(number * SECOND, "cs_1") for number in (1, 10)], [(number * SECOND, "cs_2") for number in (1, 6, 10)]
    lines = [Line(at, 1, "ok", "buy", method="GET", status=200, object=session) for at, session in before + after]
    lines += [Line(at * SECOND, 1, "fail", "present", key="k", method="POST", status=503) for at in (1, 6)]
    assert RESTORE.promised(lines) == lines[:2]


def effect(kind: str, reference: str, original: str | None = None, **more: object) -> dict[str, Any]:
    """A line of the bank's truth."""
    return {"kind": kind, "reference": reference, "original": original, "amount": 5, "currency": "eur", "time": 1, **more}


TRUTH = [
    effect("authorization", "A"), effect("capture", "A"), effect("authorization", "B"), effect("void", "B2", "B"),
    effect("reversal", "B3", "B", reversed="authorization"),
]  # fmt: skip


def test_effects_of_lost_attempts_are_left_out_with_what_was_done_to_them() -> None:
    """Everything else stays."""
    assert [one["reference"] for one in RESTORE.effects(Effects(TRUTH), []).all] == ["A", "A"]


def test_a_hold_that_a_lost_void_gave_back_is_gone_where_the_books_say_so_too() -> None:
    """An approved one keeps it: nothing has told the books of the void."""
    restore = Restore(began=0, at=1, lost=[row("b2")])
    for state, left in (("declined", []), ("approved", ["B"])):
        found = restore.effects(Effects(TRUTH[2:4]), [row("b", state=state)])
        assert [one["reference"] for one in found.all] == left


def test_a_backup_holds_all_that_was_there_when_it_was_begun() -> None:
    """What came later may be missing, and is what is lost."""
    early = replace(BOOKS, attempts=[row("a")], payments=[row("p")])
    before = replace(early, attempts=[row("a"), row("b")])
    assert list(incomplete(early, early)) == []
    assert lost_attempts(before, early) == [row("b")]
    assert len(list(incomplete(before, early))) == 1


def asked(at: int, status: int, *, method: str = "POST", phase: str = "fail") -> tuple[Line, Line]:
    """A request and its answer in the same second."""
    return (
        Line(at * SECOND, 1, "invoke", "pay", key="k", method=method, path=PAYMENTS),
        Line(at * SECOND + 5, 1, phase, "pay", key="k", method=method, path=PAYMENTS, status=status),
    )


def test_in_quarantine_reads_are_answered_and_everything_else_is_refused() -> None:
    """Before it and after it everything goes its way."""

    def wrong(*lines: Line) -> Sequence[str]:
        return list(quarantine_kept(lines, 5 * SECOND, 9 * SECOND))

    assert wrong(*asked(6, 503), *asked(7, 200, method="GET", phase="ok"), *asked(8, 404, method="GET", phase="ok")) == []
    assert wrong(*asked(4, 200, phase="ok"), *asked(10, 200, phase="ok"), Line(6 * SECOND, 1, "left", "pay", key="k")) == []
    assert len(wrong(*asked(6, 200, phase="ok"))) == 1
    assert len(wrong(*asked(6, 500, phase="info"))) == 1
    assert len(wrong(*asked(6, 503, method="GET"))) == 1


def test_in_quarantine_nothing_but_sign_on_and_echo_passes_the_wires() -> None:
    """Questions are requests, too."""
    assert list(sent_meanwhile({"0200": 5, "0800": 1}, {"0200": 5, "0800": 7})) == []
    assert list(sent_meanwhile({"0200": 5}, {"0200": 5, "0600": 1})) == ["in quarantine 1 requests 0600 were sent"]


def test_the_check_must_name_every_effect_that_nobody_intended_and_nothing_else() -> None:
    """After a restore the lost ones are what it is to find."""
    assert strangers(TRUTH, [row("a")]) == {"B", "B2"}
    checks = [{"name": "truth", "violated": 2, "violations": [{"message": "one"}]}, {"name": "log", "violated": 0, "violations": []}]
    assert list(not_this_check(checks, 2)) == []
    assert len(list(not_this_check(checks, 1))) == 1
    assert len(list(not_this_check([checks[0], {"name": "log", "violated": 1, "violations": [{"message": "one"}]}], 2))) == 1


def test_with_a_part_away_one_request_in_a_thousand_may_be_refused_and_one_in_fewer() -> None:
    """Two are too many; what was asked before it went, or answered when it was back, is not counted."""
    away = Window("the worker is away", "I19", 5 * SECOND, 9 * SECOND, down="worker")

    def answers(count: int, phase: str, asked: int, at: int) -> Sequence[Line]:
        return [Line(at * SECOND, 1, phase, "pay", asked=asked * SECOND)] * count

    def wrong(*lines: Line) -> Sequence[str]:
        return list(refused_without_need([away], lines))

    accepted = answers(100, "ok", 6, 7)
    assert wrong(*accepted, *answers(1, "fail", 6, 7)) == []
    assert wrong(*accepted, *answers(1, "fail", 6, 7), *answers(9, "fail", 4, 6), *answers(9, "fail", 8, 10)) == []
    assert len(wrong(*accepted, *answers(2, "fail", 6, 7))) == 1
    assert wrong(*answers(2_000, "ok", 6, 7), *answers(2, "fail", 6, 7)) == []
    assert len(wrong(*answers(2_000, "ok", 6, 7), *answers(3, "fail", 6, 7))) == 1
