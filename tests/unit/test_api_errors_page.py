"""docs/errors.md lists what clients can be sent."""

import re
from pathlib import Path

import pytest

from guilder.core.errors import missing
from guilder.payments.declines import CODES_OF_THEIR_OWN, MESSAGES
from guilder.psp.connectors.cardnet.codes import DECLINES, DECLINES_OF
from guilder.vault.rules import MESSAGES as CARD_MESSAGES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text()
CODE = re.compile(r'\bcode="([a-z_]+)"')


def codes_in_source() -> set[str]:
    """Every code that stands as a constant at a refusal; the bank world has its own."""
    files = [file for file in (ROOT / "src" / "guilder").rglob("*.py") if "network" not in file.parts]
    return {code for file in files for code in CODE.findall(file.read_text())}


@pytest.mark.parametrize("code", sorted(codes_in_source() | {missing("x", "y").facts.code or ""}))
def test_every_code_of_a_refusal_is_on_the_page(code: str) -> None:
    """With its meaning and what to do."""
    assert f"`{code}`" in PAGE


@pytest.mark.parametrize("code", sorted({*DECLINES.values(), *DECLINES_OF.values(), *CODES_OF_THEIR_OWN, *CARD_MESSAGES}))
def test_every_decline_is_on_the_page(code: str) -> None:
    """Also those of card data that cannot be."""
    assert f"`{code}`" in PAGE


def test_the_page_knows_the_declines_that_have_a_sentence_of_their_own() -> None:
    """Except those that only other connectors can bring."""
    brought_by_others = {"card_not_supported", "currency_not_supported"}
    assert {code for code in MESSAGES if f"`{code}`" not in PAGE} <= brought_by_others
