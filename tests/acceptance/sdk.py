"""The official stripe-python, unmodified, at a running system; each answer that it gets is held against the published schemas."""

import importlib.util
import json
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import stripe
from payments_system import Shop

BASES = ("api", "files", "connect", "meter_events")


@cache
def validator() -> Callable[[Any], list[str]] | None:
    """The check of one answer, where the folder of references lies beside the project."""
    path = Path(__file__).resolve().parents[3] / "shared" / "tools" / "validate_stripe.py"
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location("validate_stripe", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.validate


class Checked(stripe.RequestsClient):
    """The SDK's own HTTP client, whose answers are looked at as they pass; `seen` counts them by their object."""

    seen: Counter[str] = Counter()

    def request(self, *arguments: Any, **named: Any) -> Any:
        """Send as always."""
        body, status, headers = super().request(*arguments, **named)
        check(json.loads(body))
        assert headers["Request-Id"].startswith("req_")
        return body, status, headers


def check(shown: dict[str, Any]) -> None:
    """One answer; our own resources have no published schema."""
    kind = "error" if "error" in shown else shown["object"]
    if kind == "list":
        kind = f"list of {shown['url']}"
    validate = validator()
    if validate is None or "ledger" in kind or "webhook_deliver" in kind:
        return
    assert validate(shown) == [], shown
    Checked.seen[kind] += 1


def client(shop: Shop, key: str | None = None, **options: Any) -> stripe.StripeClient:
    """The SDK with nothing changed but the addresses."""
    return stripe.StripeClient(
        key or shop.line["secret_key"], base_addresses=dict.fromkeys(BASES, shop.line["api"]), http_client=Checked(), **options
    )
