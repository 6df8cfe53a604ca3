"""The flags that several commands share, and the settings that they lead to."""

import os
from pathlib import Path
from typing import Annotated

import typer

from guilder.config import Settings

Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The data folder.  [env GUILDER_DATA; default ./guilder-data]")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document in place of text for people.")]
Account = Annotated[str | None, typer.Option("--account", metavar="ID", help="The merchant; the sandbox's when not given.")]


def load(**flags: object) -> Settings:
    """Settings from the environment with these flags over them. Raises WrongSetting."""
    return Settings.load(os.environ, flags)
