"""A lane: how many are on their way, when it rests, and what is read again."""

from msgspec.structs import replace

from guilder.core.clock import SECOND
from guilder.shapes.facts import WebhookEndpointFacts
from guilder.webhooks.lane import AHEAD_MAX, FAILURES_MAX, REST, WIDTH_FIRST, WIDTH_MAX, Lane
from guilder.webhooks.model import Next, StoredEndpoint

NOW = 1_000 * SECOND
FIRST = round(REST.wait(1) * SECOND)
LONGEST = round(REST.cap_seconds * SECOND)


def lane(state: str = "enabled") -> Lane:
    """A lane of an endpoint."""
    made = Lane("we_1", 0)
    facts = WebhookEndpointFacts("we_1", False, 1, "https://example.com", ("*",), "enabled")
    made.configure(
        StoredEndpoint(account="acct_1", facts=facts, state=state, secret=b"", previous_secret=None, previous_until=None, version=1),
        signer=None, forget_previous=False,
    )  # fmt: skip
    return made


def delivery(number: int, attempt: int = 1) -> Next:
    """A delivery that is due."""
    return Next("we_1", number, f"evt_{number}", 1, attempt, "acct_1", False, 0)


def filled(count: int) -> Lane:
    """A lane that has read so many."""
    made = lane()
    for number in range(1, count + 1):
        made.cursor = number
        assert made.add(delivery(number))
    return made


def fly(one: Lane) -> Next:
    """Take the first and send it off."""
    one.flying += 1
    return one.queue.popleft()


def test_success_widens_a_lane_and_failure_halves_it():
    """Between one and the most."""
    one = filled(1)
    assert one.width == WIDTH_FIRST
    for _ in range(100):
        one.landed(NOW, ok=True)
    assert one.width == WIDTH_MAX
    one.landed(NOW, ok=False)
    assert one.width == WIDTH_MAX // 2
    for _ in range(10):
        one.landed(NOW, ok=False)
    assert one.width == 1


def test_a_lane_never_has_more_on_their_way_than_it_leaves_to_others():
    """And always may have one."""
    one = filled(10)
    one.flying = 3
    assert one.may_fly(NOW, left=100)
    assert not one.may_fly(NOW, left=3)
    one.flying = 0
    assert one.may_fly(NOW, left=0)


def test_after_several_failures_in_a_row_it_rests_longer_each_time():
    """One at a time then; a success ends it."""
    one = filled(20)
    for _ in range(FAILURES_MAX):
        one.landed(NOW, ok=False)
    one.add(delivery(1))
    assert not one.may_fly(NOW + FIRST - 1, left=100)
    assert one.may_fly(NOW + FIRST, left=100)
    for _ in range(20):
        one.landed(NOW, ok=False)
    assert one.rests_until == NOW + LONGEST
    one.landed(NOW, ok=True)
    assert one.may_fly(NOW, left=100)


def test_a_receiver_that_asks_for_a_pause_is_left_alone_until_then():
    """Also by what is new, and though others that were on their way arrived; then by one at a time, until one succeeds."""
    one = filled(20)
    one.flying = 2
    one.landed(NOW, ok=False, asked=3_600 * SECOND)
    one.landed(NOW + 1, ok=True)
    one.flying = 0
    assert len(one.queue) == 0, "what was read ahead is read again, so that it takes no other lane's room"
    one.add(delivery(21))
    one.add(delivery(22))
    later = NOW + 3_600 * SECOND
    assert not one.may_fly(later - 1, left=100)
    assert one.may_fly(later, left=100)
    fly(one)
    assert not one.may_fly(later, left=100)
    one.landed(later, ok=True)
    assert one.may_fly(later, left=100)


def test_a_change_of_the_endpoint_or_a_retry_by_hand_ends_its_rest():
    """Both raise the version of its row."""
    one = filled(1)
    one.landed(NOW, ok=False, asked=3_600 * SECOND)
    one.add(delivery(1))
    assert one.stored is not None
    one.configure(one.stored, signer=None, forget_previous=False)
    assert not one.may_fly(NOW, left=100)
    one.configure(replace(one.stored, version=2), signer=None, forget_previous=False)
    assert one.may_fly(NOW, left=100)


def test_what_is_in_the_queue_when_it_begins_to_rest_is_read_again_later():
    """What is on its way is not."""
    one = filled(20)
    flown = [fly(one) for _ in range(FAILURES_MAX)]
    for _ in flown:
        one.landed(NOW, ok=False)
    assert (len(one.queue), one.cursor) == (0, 0)
    assert [one.add(delivery(number)) for number in (1, FAILURES_MAX, FAILURES_MAX + 1)] == [False, False, True]
    assert one.room() < AHEAD_MAX


def test_a_delivery_that_was_stored_while_a_read_was_under_way_is_not_taken_twice():
    """The read has seen it as it was before; only the next read counts."""
    one = filled(1)
    fly(one)
    one.settled(1)
    assert not one.add(delivery(1, attempt=2))
    one.begin_read()
    assert one.add(delivery(1, attempt=2))


def test_what_is_given_back_while_a_read_is_under_way_is_not_passed_over():
    """The read brings what lies behind it; both are read again, so none is ever lost."""
    one = filled(4)
    one.begin_read()
    for _ in range(FAILURES_MAX):
        one.landed(NOW, ok=False)
    assert not one.passed(5)
    assert (one.cursor, one.done_to()) == (0, 0)
    one.begin_read()
    assert one.passed(1)
    assert one.cursor == 1


def test_it_is_done_up_to_the_first_that_waits_for_its_first_try():
    """Retries do not count: they are found by their time."""
    one = filled(5)
    assert one.done_to() == 0
    for number in (1, 2, 4):
        one.settled(number)
    one.begin_read()
    assert one.done_to() == 2
    one.add(delivery(1, attempt=2))
    for number in (3, 5):
        one.settled(number)
    one.begin_read()
    assert one.done_to() == 5


def test_a_disabled_or_leaving_lane_sends_and_reads_nothing():
    """What is in hand is finished."""
    assert lane("disabled").room() == lane("deleted").room() == lane("disabled").due_room() == 0
    one = filled(3)
    one.leaving = True
    assert not one.may_fly(NOW, left=100)
    assert one.room() == 0


def test_retries_go_before_what_is_new():
    """A receiver that comes back gets the oldest first."""
    one = filled(2)
    one.add(delivery(9, attempt=3))
    assert one.queue[0].number == 9
