"""`guilder demo`."""


def demo() -> None:
    """Stub."""
