"""When something was last tried, for very many keys in a bounded memory."""

from collections import deque
from collections.abc import Sequence


class Tries:
    """The newest instants of each key, the oldest first. Beyond `keys_max` keys the one that was tried longest ago goes."""

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._instants: dict[str, deque[int]] = {}

    def __len__(self) -> int:
        return len(self._instants)

    def add(self, key: str, instant: int, *, kept: int) -> None:
        """Something was tried; of this key so many instants are kept."""
        instants = self._instants.pop(key, None)
        if instants is None:
            instants = deque(maxlen=kept)
        instants.append(instant)
        self._instants[key] = instants
        while len(self._instants) > self._keys_max:
            del self._instants[next(iter(self._instants))]

    def of(self, key: str) -> Sequence[int]:
        """The instants of a key, none where it is not known."""
        return self._instants.get(key, ())
