"""Where `guilder listen` may forward to, and which headers may be sent beside ours: tables, one line per case."""

import pytest

from guilder.webhooks.forward import WrongTarget, extra_headers, target_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("4242", "http://localhost:4242"),
        ("localhost:4242/path", "http://localhost:4242/path"),
        ("127.0.0.1:4242", "http://127.0.0.1:4242"),
        ("[::1]:4242/a?b=c", "http://[::1]:4242/a?b=c"),
        ("shop.test/hooks", "http://shop.test/hooks"),
        ("https://example.com/hooks", "https://example.com/hooks"),
    ],
)
def test_an_address_is_taken_as_people_write_it(text: str, url: str):
    """A port stands for this machine, and http:// may be left out."""
    assert target_url(text) == url


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("ftp://x.y/z", "only http:// and https:// are spoken"),
        (":4242", "names no host"),
        ("", "names no host"),
        ("/hooks", "names no host"),
        ("http://", "names no host"),
        ("local host:4242", "names no host"),
        ("4242/hooks", "4242 is no host"),
        ("localhost:x", "no address"),
        ("localhost:99999", "no address"),
        ("localhost:0", "no port 0"),
        ("http://[::1", "no address"),
        ("http://ä..b/", "no address"),
        ("https://user:hidden@example.com/", "--headers"),
    ],
)
def test_an_address_to_which_nothing_could_go_is_refused_with_what_would_be_right(text: str, word: str):
    """Before anything happens, without the password that stands in it."""
    with pytest.raises(WrongTarget) as refused:
        target_url(text)
    assert word in str(refused.value)
    assert "localhost:4242/webhooks" in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_headers_are_taken_as_people_write_them():
    """A value may hold a colon, or be empty."""
    assert extra_headers(["X-Team: a", "Authorization:Bearer a:b", "Host: shop.test", "Empty:"]) == {
        "X-Team": "a", "Authorization": "Bearer a:b", "Host": "shop.test", "Empty": "",
    }  # fmt: skip


@pytest.mark.parametrize("line", ["no colon hidden", ": hidden", "a b: hidden", "a: hidden\r\nb: c", "stripe-signature: hidden", "Content-Length: 5"])
def test_a_header_that_cannot_be_or_is_ours_is_refused_without_its_value(line: str):
    """It may be a secret."""
    with pytest.raises(WrongTarget) as refused:
        extra_headers([line])
    assert "hidden" not in str(refused.value)
