"""Risk: rules and velocity."""

import pytest
from msgspec.structs import replace

from guilder.core.clock import SECOND, ManualClock
from guilder.risk import LIVE_RULES, TEST_RULES, Decision, Limit, Rules, Signals, SignalSource, Verdict, decide
from guilder.shapes.facts import CardFacts, PaymentMethodFacts


def method(number: str = "4242424242424242", fingerprint: str = "f1", *, livemode: bool = False) -> PaymentMethodFacts:
    card = CardFacts(brand="visa", last4=number[-4:], exp_month=1, exp_year=2040, fingerprint=fingerprint, iin=number[:6])
    return PaymentMethodFacts(id="pm_1", livemode=livemode, created=0, card=card)


def decided(method: PaymentMethodFacts, source: SignalSource | None = None) -> Decision:
    return decide((source or SignalSource(ManualClock())).gather(1_000, "eur", method))


@pytest.mark.parametrize(("number", "verdict", "level", "reason", "decline_code"), [
    ("4242424242424242", Verdict.ALLOW, "normal", None, None),
    ("4100000000000019", Verdict.REFUSE, "highest", "highest_risk_level", "fraudulent"),
    ("4000000000004954", Verdict.REFUSE, "highest", "highest_risk_level", "fraudulent"),
    ("4000000000009235", Verdict.ALLOW, "elevated", "elevated_risk_level", None),
])  # fmt: skip
def test_test_cards_have_the_risk_that_they_are_published_for(
    number: str, verdict: Verdict, level: str, reason: str | None, decline_code: str | None,
) -> None:
    """A line per card."""
    decision = decided(method(number))
    assert (decision.verdict, decision.level, decision.reason, decision.decline_code) == (verdict, level, reason, decline_code)


def test_scores_follow_the_levels() -> None:
    """Below 65 normal, from 65 elevated, from 75 highest."""
    normal, elevated, highest = (decided(method(n)).score for n in ("4242424242424242", "4000000000009235", "4100000000000019"))
    assert normal < 65 <= elevated < 75 <= highest <= 100


def test_in_live_mode_a_number_that_looks_like_a_test_card_is_a_card_like_any_other() -> None:
    """First six and last four digits are not unique among real cards."""
    assert decided(method("4100000000000019", livemode=True)).verdict is Verdict.ALLOW


def test_the_rules_can_be_milder_and_stricter() -> None:
    """The highest risk allowed, elevated risk challenged; what is always blocked stays blocked."""
    source = SignalSource(ManualClock(), test=Rules(sandbox_cards=True, refuse_highest=False, challenge_elevated=True))
    assert decided(method("4000000000004954"), source).verdict is Verdict.ALLOW
    assert decided(method("4000000000009235"), source).verdict is Verdict.CHALLENGE
    assert decided(method("4100000000000019"), source).verdict is Verdict.REFUSE


def test_a_card_is_refused_after_too_many_tries_and_welcome_again_later() -> None:
    """The window slides: tries leave it one by one."""
    clock = ManualClock()
    source = SignalSource(clock, test=Rules(limits=(Limit(60, 3), Limit(3_600, 5))))
    for _ in range(3):
        assert decided(method(), source).verdict is Verdict.ALLOW
        source.count(method())
        clock.advance(10 * SECOND)
    refused = decided(method(), source)
    assert (refused.verdict, refused.reason, refused.decline_code) == (Verdict.REFUSE, "rule", "card_velocity_exceeded")
    clock.advance(30 * SECOND)
    assert decided(method(), source).verdict is Verdict.ALLOW
    for _ in range(2):
        source.count(method())
    clock.advance(120 * SECOND)
    assert decided(method(), source).verdict is Verdict.REFUSE
    clock.advance(3_600 * SECOND)
    assert decided(method(), source).verdict is Verdict.ALLOW


def test_looking_does_not_count() -> None:
    """Only what was accepted as new does, so that a retry never counts."""
    source = SignalSource(ManualClock(), test=Rules(limits=(Limit(60, 1),)))
    for _ in range(5):
        assert decided(method(), source).verdict is Verdict.ALLOW


def test_cards_are_counted_apart() -> None:
    """By fingerprint, which differs by merchant and mode."""
    source = SignalSource(ManualClock(), test=Rules(limits=(Limit(60, 1),)))
    source.count(method())
    assert decided(method(), source).verdict is Verdict.REFUSE
    assert decided(method(fingerprint="f2"), source).verdict is Verdict.ALLOW


def test_a_flood_of_cards_pushes_out_the_one_tried_longest_ago() -> None:
    """The memory is bounded."""
    source = SignalSource(ManualClock(), test=Rules(limits=(Limit(60, 1),)), cards_max=2)
    for fingerprint in ("f1", "f2", "f1", "f3"):
        source.count(method(fingerprint=fingerprint))
    verdicts = {fingerprint: decided(method(fingerprint=fingerprint), source).verdict for fingerprint in ("f1", "f2", "f3")}
    assert verdicts == {"f1": Verdict.REFUSE, "f2": Verdict.ALLOW, "f3": Verdict.REFUSE}


def test_a_card_is_declined_far_more_often_in_the_sandbox_before_it_is_refused() -> None:
    """Its test cards are shared by every test there is."""
    source = SignalSource(ManualClock(), live=LIVE_RULES, test=TEST_RULES)
    for _ in range(30):
        source.count(method())
        source.count(method(fingerprint="live", livemode=True))
    assert decided(method(), source).verdict is Verdict.ALLOW
    assert decided(method(fingerprint="live", livemode=True), source).verdict is Verdict.REFUSE
    for _ in range(30):
        source.count(method())
    assert decided(method(), source).verdict is Verdict.REFUSE


def test_many_tries_raise_the_score_within_its_level() -> None:
    """Never above normal by themselves."""
    rules = Rules(limits=(Limit(60, 1_000),))
    signals = Signals(livemode=True, amount_minor=1, currency="eur", iin="424242", last4="4242", tries=(0,), rules=rules)
    scores = [decide(replace(signals, tries=(tries,))).score for tries in (0, 5, 999)]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1] < 65
