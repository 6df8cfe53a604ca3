"""The page's own files, each under an address that holds its hash, so that browsers may keep it for ever; and the templates."""

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Final

from jinja2 import Environment, FunctionLoader, StrictUndefined
from msgspec import Struct

PREFIX: Final = "/static/"
TYPES: Final[Mapping[str, bytes]] = {
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
_HASH_CHARACTERS: Final = 12


class Asset(Struct, frozen=True):
    """One file."""

    content: bytes
    content_type: bytes


class Assets:
    """All files, read once. `url` gives an address, `find` the file that is there."""

    def __init__(self) -> None:
        package = resources.files("guilder.checkout")
        self._by_path: dict[str, Asset] = {}
        self._urls: dict[str, str] = {}
        files = {file.name: file.read_bytes() for file in package.joinpath("static").iterdir()}
        # Pictures first: the stylesheet names them.
        for name in sorted(files, key=lambda name: (not name.endswith(".svg"), name)):
            stem, _, kind = name.rpartition(".")
            self._add(stem, kind, _with_pictures(files[name], self._urls) if kind == "css" else files[name])
        templates = package.joinpath("templates")
        self._environment = Environment(
            loader=FunctionLoader(lambda name: templates.joinpath(name).read_text(encoding="utf-8")), autoescape=True,
            undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False,
        )  # fmt: skip
        self._environment.globals["asset"] = self.url

    def _add(self, name: str, kind: str, content: bytes) -> None:
        mark = hashlib.sha256(content).hexdigest()[:_HASH_CHARACTERS]
        path = f"{PREFIX}{name}.{mark}.{kind}"
        self._by_path[path] = Asset(content, TYPES[kind])
        self._urls[f"{name}.{kind}"] = path

    def url(self, name: str) -> str:
        """The address of a file."""
        return self._urls[name]

    def find(self, path: str) -> Asset | None:
        """The file at an address, None when there is none."""
        return self._by_path.get(path)

    def render(self, template: str, values: Mapping[str, object]) -> bytes:
        """A template with these values; everything in them is escaped."""
        return self._environment.get_template(template).render(values).encode()


def _with_pictures(sheet: bytes, urls: Mapping[str, str]) -> bytes:
    """The stylesheet with the addresses of the pictures that it names."""
    for name, url in urls.items():
        sheet = sheet.replace(f"url({name})".encode(), f"url({url})".encode())
    return sheet
