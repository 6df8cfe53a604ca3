"""How much a connector may have in hand, by how fast it answers."""

from guilder.payments.window import COUNTED_SECONDS, LEAST, MOST, WAIT_SECONDS, Window, Windows

# What a connector waits for an answer (psp/connectors/cardnet/settings.py).
ANSWER_SECONDS = 8.0


def answering(per_second: float, *, arriving: float, seconds: float) -> tuple[Window, float]:
    """A PSP that answers so many a second, and orders that come at another rate; the window, and the longest wait at the PSP."""
    window, waiting, longest, due, wanted = Window(0.0), [], 0.0, 0.0, 0.0
    steps = int(seconds * 100)
    for step in range(steps):
        now = step / 100
        wanted += arriving / 100
        for _ in range(min(int(wanted), window.room(now))):
            waiting.append(now)
            window.sent((f"at_{len(waiting)}_{now}", "payment"))
            wanted -= 1
        due += per_second / 100
        while due >= 1 and waiting:
            longest = max(longest, now - waiting.pop(0))
            window.ended(next(iter(window._in_hand)), answered=True)
            due -= 1
        due = min(due, per_second / 100 + 1)
    return window, longest


def test_no_order_waits_at_a_throttled_psp_until_its_time_is_over() -> None:
    """Thirty a second, and three hundred come."""
    _, longest = answering(30, arriving=300, seconds=20)
    assert longest < ANSWER_SECONDS


def test_a_fast_psp_gets_what_it_can_use() -> None:
    """The window grows with what is answered, up to a bound."""
    window, _ = answering(1_500, arriving=1_400, seconds=3)
    assert window._limit > 1_400 * WAIT_SECONDS * 0.8
    window, _ = answering(9_000, arriving=9_000, seconds=3)
    assert window._limit == MOST


def test_timeouts_are_no_answers() -> None:
    """A PSP that says nothing gets no more than the least."""
    window = Window(0.0)
    for number in range(LEAST):
        window.sent((f"at_{number}", "payment"))
    assert window.room(0.1) == 0
    for number in range(LEAST):
        window.ended((f"at_{number}", "payment"), answered=False)
    assert window.room(COUNTED_SECONDS) == LEAST


def test_a_connector_that_is_full_stays_so_while_another_one_has_room() -> None:
    """As much is claimed as one of them takes, and what is for the full one is not handed over."""
    windows = Windows(["slow", "idle"])
    for number in range(LEAST):
        windows.sent("slow", (f"at_{number}", "payment"))
    assert windows.room(0.1) == LEAST
    assert (windows.room_of("slow", 0.1), windows.room_of("idle", 0.1)) == (0, LEAST)


def test_what_was_not_handed_over_does_not_count() -> None:
    """Queries, reversals and what belonged to a lost sender."""
    window = Window(0.0)
    window.sent(("at_1", "payment"))
    window.ended(("at_2", "payment"), answered=True)
    assert window.room(0.0) == LEAST - 1
    window.forget()
    window.ended(("at_1", "payment"), answered=True)
    assert window.room(0.0) == LEAST
