"""Why no connector takes a payment, and why a notification is not believed.

    NotificationRefused         it is not the PSP's, or too old, or cannot be read; nothing was stored

    RouteRefused                a payment that nobody can be asked to make; raised by the router
      NO_CONNECTOR              none is configured for this mode: a live payment is never sent to a test connector
      CURRENCY                  none of them works in this currency
      OWN_PAGE                  none of them has a page of its own, and the buyer is to pay there
      BRAND                     none of them takes this brand
      AMOUNT                    the amount is outside the limits of all of them
      TRIED                     all that could have taken it have been tried already

The order is the order of precedence: the first reason that leaves no connector is the one that is given.
"""

from enum import StrEnum

from guilder.core.errors import GuilderError


class NoRoute(StrEnum):
    """The reason, as a code."""

    NO_CONNECTOR = "no_connector"
    CURRENCY = "currency_not_supported"
    OWN_PAGE = "own_page_not_supported"
    BRAND = "brand_not_supported"
    AMOUNT = "amount_not_supported"
    TRIED = "all_tried"


class RouteRefused(GuilderError):
    """No configured connector takes this payment; nothing was or will be sent."""

    def __init__(self, code: NoRoute, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotificationRefused(GuilderError):
    """What came as a notification is not the PSP's own word of now. The text holds nothing that was sent."""
