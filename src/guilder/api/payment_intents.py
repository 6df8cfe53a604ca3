"""/v1/payment_intents: HTTP to command, and the answer back."""

import hmac
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from guilder.api import amounts
from guilder.api.call import Call, page_of
from guilder.api.cards import PaymentMethodData, method_for
from guilder.api.http import Reply
from guilder.api.params import Id, ListParams, Metadata, Params, Text
from guilder.api.personal import Shipping, payment_personal, sealed_for_payment
from guilder.api.registry import Route
from guilder.api.text import check_descriptor, check_email, check_url, pairs
from guilder.core.errors import Refusal
from guilder.payments import cancel as cancel_verb
from guilder.payments import capture as capture_verb
from guilder.payments import confirm as confirm_verb
from guilder.payments import create as create_verb
from guilder.payments import update as update_verb
from guilder.payments.model import CancelPayment, CapturePayment, ConfirmPayment, CreatePayment, UpdatePayment
from guilder.payments.read import list_payments, retrieve_payment
