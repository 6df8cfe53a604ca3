"""The flags that several commands share, and the settings that they lead to."""

import os
from pathlib import Path
from typing import Annotated

import typer

from guilder.config import Settings

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="The data folder.  [env GUILDER_DATA; default ./guilder-data]"),
]
Port = Annotated[
    int | None,
    typer.Option(help="The API's port; the next four are used too. 0: free ones.  [env GUILDER_PORT; default 8420]"),
]
Host = Annotated[str | None, typer.Option(help="The address to listen on.  [env GUILDER_HOST; default 127.0.0.1]")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document in place of text for people.")]
Account = Annotated[str | None, typer.Option("--account", metavar="ID", help="The merchant; the sandbox's when not given.")]


def load(*, user: str | None = None, **flags: object) -> Settings:
    """Settings from the environment with these flags over them; root goes on as the user whose data it is (`privileges.take_on`).

    Raises WrongSetting, WrongUser.
    """
    from guilder.privileges import take_on

    settings = Settings.load(os.environ, flags)
    if user is not None:
        from guilder import folder

        folder.must_be_stopped(settings)
    take_on(settings.data_dir, user)
    return settings
