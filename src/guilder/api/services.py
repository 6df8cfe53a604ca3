"""What the handlers work with; built once per process by bootstrap."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from guilder.core.clock import Clock
from guilder.core.ids import Ids
from guilder.db.pool import Database
from guilder.merchants import Caller
from guilder.payments.answers import Load
from guilder.security import Pan
