"""Patches: a module or migration of the product with a few words of its source replaced, for one process and its forks.

Nothing on disk is changed. A patch that does not fit its file exactly once is an error: a defect that was not planted
proves nothing.
"""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

from msgspec import Struct

import guilder

SOURCE: Final = Path(guilder.__file__).parent


class Patch(Struct, frozen=True):
    """Replace `old`, which stands exactly once in the file (relative to the package), by `new`."""

    file: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        """The text with this patch. Raises ValueError when it does not fit."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} holds {self.old!r} {text.count(self.old)} times, not once")
        return text.replace(self.old, self.new)


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module from its patched source, never from a cache."""

    def __init__(self, name: str, path: str, patches: Sequence[Patch]) -> None:
        super().__init__(name, path)
        self._patches = patches

    def get_code(self, fullname: str) -> CodeType:
        text = Path(self.path).read_text()
        for patch in self._patches:
            text = patch.apply(text)
        return compile(text, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, patches: Sequence[Patch]) -> None:
        self._patches: dict[str, list[Patch]] = {}
        for patch in patches:
            self._patches.setdefault(str(SOURCE / patch.file), []).append(patch)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:  # fmt: skip
        if not fullname.startswith("guilder."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin not in self._patches:
            return None
        loader = _Loader(fullname, spec.origin, self._patches[spec.origin])
        return importlib.util.spec_from_file_location(
            fullname, spec.origin, loader=loader, submodule_search_locations=spec.submodule_search_locations,
        )  # fmt: skip


def install(patches: Sequence[Patch]) -> None:
    """From now on this process and its forks have the patched sources. Before the modules are imported; raises ValueError."""
    for patch in patches:
        patch.apply((SOURCE / patch.file).read_text())
    code = [patch for patch in patches if patch.file.endswith(".py")]
    late = [patch.file for patch in code if patch.file.removesuffix(".py").replace("/", ".") in
            {name.removeprefix("guilder.") for name in sys.modules}]  # fmt: skip
    if late:
        raise ValueError(f"already imported: {', '.join(late)}")
    sys.meta_path.insert(0, _Finder(code))
    _patch_migrations([patch for patch in patches if patch.file.endswith(".sql")])


def _patch_migrations(patches: Sequence[Patch]) -> None:
    """Migrations are read as text."""
    files = {SOURCE / patch.file for patch in patches}
    read = Path.read_text

    def patched(self: Path, *arguments: str | None, **named: str | None) -> str:
        text = read(self, *arguments, **named)
        for patch in patches if self in files else ():
            text = patch.apply(text) if SOURCE / patch.file == self else text
        return text

    if patches:
        Path.read_text = patched  # type: ignore[method-assign]
