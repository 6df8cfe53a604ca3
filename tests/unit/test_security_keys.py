"""Sealing and key files."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guilder.security import Aead, FileKeyProvider, KeyFileError, NotAuthentic, PurposeKeys, bind, make_key_file

KEY = bytes(range(32))


@given(plain=st.binary(max_size=200), place=st.binary(max_size=50))
def test_what_was_sealed_opens_in_its_place(plain: bytes, place: bytes) -> None:
    """Seal, then open: the same bytes."""
    aead = Aead(KEY)
    assert aead.open(aead.seal(plain, place), place) == plain


@given(place=st.binary(max_size=20), other=st.binary(max_size=20), bit=st.integers(0, 32 * 8 - 1))
def test_nothing_opens_elsewhere_or_altered(place: bytes, other: bytes, bit: int) -> None:
    """Another place, another key, one flipped bit, a cut tail: each is refused."""
    aead = Aead(KEY)
    sealed = aead.seal(b"card", place)
    flipped = bytearray(sealed)
    flipped[(bit // 8) % len(sealed)] ^= 1 << (bit % 8)
    attempts = [(Aead(KEY[::-1]), sealed, place), (aead, bytes(flipped), place), (aead, sealed[:-1], place), (aead, b"", place)]
    if other != place:
        attempts.append((aead, sealed, other))
    for key, value, where in attempts:
        with pytest.raises(NotAuthentic):
            key.open(value, where)


def test_the_same_value_is_sealed_differently_each_time() -> None:
    """Nonces are fresh, so that equal cards do not look equal."""
    aead = Aead(KEY)
    assert len({aead.seal(b"card", b"") for _ in range(100)}) == 100


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_places_are_equal_only_when_their_parts_are(one: list[str], two: list[str]) -> None:
    """No two lists of parts give the same associated data."""
    assert (bind(*one) == bind(*two)) == (one == two)


def test_a_key_file_is_made_once_and_for_its_user_alone(tmp_path: Path) -> None:
    """The second call finds the first one's key and leaves it."""
    path = tmp_path / "keys" / "master.key"
    assert make_key_file(path)
    before = path.read_bytes()
    assert not make_key_file(path)
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["master.key"]


def test_two_makers_at_once_leave_one_key(tmp_path: Path) -> None:
    """Whoever comes second, after having found no file, does not overwrite the first one's."""
    path = tmp_path / "app.key"

    def overtaken(count: int) -> bytes:
        if not path.exists():
            path.write_text("the first one's")
        return os.urandom(count)

    assert not make_key_file(path, overtaken)
    assert path.read_text() == "the first one's"
    assert os.listdir(tmp_path) == ["app.key"]


@pytest.mark.parametrize("content", [
    "", "guilder-key-1", "guilder-key-1 00", "other 00", "guilder-key-1 " + "0" * 64 + " x", "\xff",
])  # fmt: skip
def test_what_is_no_key_file_is_refused_without_its_content(tmp_path: Path, content: str) -> None:
    """The message names the file, not what is in it."""
    path = tmp_path / "k"
    path.write_text(content, encoding="latin-1")
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="is not a key file") as caught:
        FileKeyProvider(path)
    assert "0000" not in str(caught.value)


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """The message says what to do."""
    path = tmp_path / "k"
    make_key_file(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="0600"):
        FileKeyProvider(path)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    """Nothing is made on the way."""
    with pytest.raises(KeyFileError, match=r"nowhere\.key"):
        FileKeyProvider(tmp_path / "nowhere.key")
    assert os.listdir(tmp_path) == []


def test_a_data_key_opens_only_under_its_root_key_and_in_its_place(tmp_path: Path) -> None:
    """Wrapped keys cannot be swapped between merchants or installations."""
    make_key_file(tmp_path / "a")
    make_key_file(tmp_path / "b")
    ours, theirs = FileKeyProvider(tmp_path / "a"), FileKeyProvider(tmp_path / "b")
    wrapped = ours.wrap(KEY, b"merchant 1")
    assert ours.root_key_id != theirs.root_key_id
    assert FileKeyProvider(tmp_path / "a").unwrap(wrapped, b"merchant 1") == KEY
    for provider, place in [(ours, b"merchant 2"), (theirs, b"merchant 1")]:
        with pytest.raises(NotAuthentic):
            provider.unwrap(wrapped, place)


def test_purposes_do_not_share_a_key() -> None:
    """The same input gives unlike values for unlike purposes, and the same ones in every process."""
    keys, again, other = PurposeKeys(KEY), PurposeKeys(KEY), PurposeKeys(KEY[::-1])
    assert keys.api_key_hash("x") == again.api_key_hash("x")
    assert len({keys.api_key_hash("x"), keys.fingerprint(b"x"), keys.lookup("x"), other.api_key_hash("x")}) == 4
    assert again.personal.open(keys.personal.seal(b"Jenny", b"here"), b"here") == b"Jenny"
    assert "1f" not in repr(keys)
