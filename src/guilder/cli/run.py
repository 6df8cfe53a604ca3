"""`guilder run ROLE`: one role against a database that is already there, for those who have a supervisor of their own."""

import sys
from typing import Annotated

import typer

from guilder.cli.options import Data, Host, Json, Port, load


def run(
    role: Annotated[str, typer.Argument(help="api, checkout, vault, executor, worker, relay or network.")],
    data: Data = None,
    port: Port = None,
    host: Host = None,
    as_json: Json = False,
) -> None:
    """Start one role against GUILDER_DATABASE_URL, and stay."""
    from guilder import bootstrap
    from guilder.cli.output import fail, write_json
    from guilder.privileges import confine
    from guilder.role import READY, run_role

    settings = load(data_dir=data, port=port, host=host)
    body = bootstrap.ROLES.get(role)
    if body is None:
        fail(f"there is no role {role}; there are {', '.join(bootstrap.ROLES)}", as_json=as_json)
    if role in bootstrap.NEED_DATABASE:
        if settings.database_url is None:
            fail("set GUILDER_DATABASE_URL; `guilder up` brings a database of its own", as_json=as_json)
        bootstrap.prepare_role(settings)

    def tell(word: str) -> None:
        if word == READY and as_json:
            write_json({"ready": True, "role": role})
        elif word == READY:
            sys.stderr.write(f"{role} is ready\n")

    confine()
    raise typer.Exit(run_role(role, body, settings, tell=tell, metrics_port=settings.metrics_port or 0))
