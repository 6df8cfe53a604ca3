"""What the page works with; built once per process by bootstrap."""

from collections.abc import Callable
from typing import Final

from guilder.checkout.assets import Assets
from guilder.core.clock import Clock
from guilder.core.ids import Ids
from guilder.customers import Customers
from guilder.merchants import Merchants
from guilder.orders import Services as Orders
from guilder.risk import Velocity
from guilder.security import PurposeKeys


class Services:
    """The dependencies of the page.

    Args:
        proxies: how many proxies of ours stand before it.
        must_be_writable: raises Unavailable while nothing may be stored; asked before a buyer is let go on.
    """

    def __init__(
        self, *, orders: Orders, customers: Customers, merchants: Merchants, velocity: Velocity, keys: PurposeKeys, clock: Clock, ids: Ids,
        proxies: int, must_be_writable: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.orders = orders
        self.customers = customers
        self.merchants = merchants
        self.personal = orders.personal
        self.velocity = velocity
        self.form_token = keys.form_token
        self.clock = clock
        self.ids = ids
        self.proxies = proxies
        self.must_be_writable = must_be_writable
        self.https: Final = orders.checkout_url.startswith("https://")
        self.assets = Assets()
