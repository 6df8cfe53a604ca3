"""Webhook signatures: both schemes, against the official SDK and against vectors computed with another implementation."""

import base64
import hashlib
import hmac

import pytest
import stripe

from guilder.security import SECRET_BYTES, Secret, Signer, webhook_secret

ID, TIMESTAMP, BODY = "evt_8DonZoP6g03vPSgyfrOIs5pf", 1_614_265_330, b'{"object":"event","test": 2432232314}'
# The example of the Standard Webhooks specification, and its signature as the specification gives it.
SPECIFIED_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SPECIFIED = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}', "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
# Made with `openssl dgst -sha256 -hmac` over "1614265330." and the body.
OPENSSL_KEY = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd"


def test_a_secret_serves_both_schemes():
    """`whsec_` and base64 without padding, of the length that Standard Webhooks asks for; it does not print itself."""
    secret = webhook_secret(bytes(range(SECRET_BYTES)))
    assert secret.reveal() == OPENSSL_KEY
    assert 24 <= len(base64.b64decode(secret.reveal().removeprefix("whsec_"))) <= 64
    assert "whsec_" not in repr(secret)
    with pytest.raises(ValueError, match="30 bytes"):
        webhook_secret(b"short")


def test_stripes_sdk_accepts_the_signature():
    """And refuses it for another body, another secret, and after five minutes."""
    import time

    secret = OPENSSL_KEY
    now = int(time.time())
    header = Signer([Secret(secret)]).stripe(now, BODY)
    assert stripe.Webhook.construct_event(BODY, header, secret)["object"] == "event"
    for body, key in ((BODY + b" ", secret), (BODY, secret[:-1])):
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(body, header, key)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(BODY, Signer([Secret(secret)]).stripe(now - 301, BODY), secret)


def test_stripes_header_is_what_the_sdk_itself_would_write():
    """Byte for byte."""
    signed = f"{TIMESTAMP}.{BODY.decode()}"
    expected = stripe.WebhookSignature._compute_signature(signed, OPENSSL_KEY)
    assert Signer([Secret(OPENSSL_KEY)]).stripe(TIMESTAMP, BODY) == f"t={TIMESTAMP},v1={expected}"


def test_the_standards_own_example_comes_out():
    """The specification's secret, message and signature."""
    id_, timestamp, body, signature = SPECIFIED
    assert Signer([Secret(SPECIFIED_SECRET)]).standard(id_, timestamp, body) == signature


def test_the_standard_signature_is_the_hmac_over_id_time_and_body():
    """Computed here step by step, under the bytes that the base64 stands for."""
    key = base64.b64decode(OPENSSL_KEY[len("whsec_") :])
    expected = base64.b64encode(hmac.new(key, f"{ID}.{TIMESTAMP}.".encode() + BODY, hashlib.sha256).digest()).decode()
    assert Signer([Secret(OPENSSL_KEY)]).standard(ID, TIMESTAMP, BODY) == f"v1,{expected}"


def test_with_two_secrets_there_are_two_signatures_the_newest_first():
    """Whichever of them a receiver knows, it finds its own."""
    new, old = Secret(OPENSSL_KEY), Secret(SPECIFIED_SECRET)
    both = Signer([new, old])
    assert both.standard(ID, 1, BODY) == f"{Signer([new]).standard(ID, 1, BODY)} {Signer([old]).standard(ID, 1, BODY)}"
    assert both.stripe(1, BODY).split(",") == [
        "t=1", Signer([new]).stripe(1, BODY).split(",")[1], Signer([old]).stripe(1, BODY).split(",")[1],
    ]  # fmt: skip


def test_the_check_by_hand_of_the_documents_works():
    """docs/howto/webhooks.md shows a function; what it shows accepts what we sign and nothing else."""
    import re
    import time
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "howto" / "webhooks.md").read_text()
    [shown] = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def is_genuine" in block]
    names: dict = {}
    exec(shown, names)
    is_genuine, now = names["is_genuine"], int(time.time())
    header = Signer([Secret(SPECIFIED_SECRET), Secret(OPENSSL_KEY)]).stripe(now, BODY)
    assert is_genuine(header, BODY, OPENSSL_KEY)
    assert is_genuine(header, BODY, SPECIFIED_SECRET)
    assert not is_genuine(header, BODY + b" ", OPENSSL_KEY)
    assert not is_genuine(header, BODY, OPENSSL_KEY + "x")
    assert not is_genuine(Signer([Secret(OPENSSL_KEY)]).stripe(now - 400, BODY), BODY, OPENSSL_KEY)
