"""Text from outside, as a text column can hold it."""


def storable(text: str) -> str:
    """The text without what PostgreSQL refuses: NULs, and halves of surrogate pairs."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")
