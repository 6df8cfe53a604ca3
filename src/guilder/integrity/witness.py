"""The witness: the sandbox bank world's own record of what it did, as lines of JSON from its control port."""

import http.client
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

from guilder.core.errors import GuilderError

Lines = Callable[[], Iterator[bytes]]
"""Reads the truth from its beginning, one effect a line; blocking, to be used in a thread. Raises WitnessSilent."""

# The control port answers at once; a long truth flows steadily.
ANSWER_SECONDS: Final = 10.0
PATH: Final = "/truth"


class WitnessSilent(GuilderError):
    """The bank world could not be asked; the message says why."""


def over_http(address: str) -> Lines:
    """The truth of the bank world whose control port has this address."""

    def read() -> Iterator[bytes]:
        parts = urlsplit(address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", PATH)
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise WitnessSilent(f"the bank world at {address} answered {response.status} to GET {PATH}")
            yield from response
        except (OSError, http.client.HTTPException) as error:
            raise WitnessSilent(f"the bank world at {address} does not answer: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()

    return read
