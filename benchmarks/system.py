"""The real system on fresh temporary data: `guilder up` as people start it, ended and removed afterwards."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

GUILDER: Final = Path(sys.executable).with_name("guilder")
STOP_SECONDS_MAX: Final = 15
CALL_SECONDS_MAX: Final = 20


class System:
    """A running system.

    Args:
        beside: process id -> name of what else works for it, for the figures.
    """

    def __init__(self, data: Path, ready: Mapping[str, Any], supervisor: int, beside: Mapping[int, str]) -> None:
        self.data = data
        self.beside = beside
        self.url = str(ready["api"])
        self.secret_key = str(ready["secret_key"])
        self.supervisor = supervisor

    def running(self) -> dict[str, Any]:
        """What run.json says now."""
        found: dict[str, Any] = json.loads((self.data / "run.json").read_text())
        return found

    @property
    def dsn(self) -> str:
        """The database's address."""
        return str(self.running()["database_url"])

    def post(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """One call of the API."""
        return self._call(path, json.dumps(document).encode())

    def get(self, path: str) -> dict[str, Any]:
        """One read of the API."""
        return self._call(path, None)

    def _call(self, path: str, body: bytes | None) -> dict[str, Any]:
        request = urllib.request.Request(
            self.url + path, data=body,
            headers={"Authorization": f"Bearer {self.secret_key}", "Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=CALL_SECONDS_MAX) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def truth(self) -> Iterator[dict[str, Any]]:
        """Every effect that the sandbox bank world remembers."""
        with urllib.request.urlopen(f"{self.running()['network_control']}/truth", timeout=CALL_SECONDS_MAX) as lines:
            for line in lines:
                yield json.loads(line)

    def request(self, path: str, content_type: str, body: str, *, mark: str) -> str:
        """A whole HTTP request as the generator sends it: a number of twelve digits wherever `{n}` stands, in its key too.

        `mark` begins the idempotency keys of a run, which no other run may have.
        """
        length = len(body.encode()) + body.count("{n}") * (12 - len("{n}"))
        head = (
            f"POST {path} HTTP/1.1", f"Host: {self.url.removeprefix('http://')}", f"Authorization: Bearer {self.secret_key}",
            f"Idempotency-Key: {mark}-{{n}}", f"Content-Type: {content_type}", f"Content-Length: {length}",
        )  # fmt: skip
        return "\r\n".join(head) + "\r\n\r\n" + body


@contextmanager
def system(*, api_processes: int = 1, beside: Mapping[int, str] | None = None, **variables: str) -> Iterator[System]:
    """Start, hand over, end, and remove the data. `variables` are settings. Raises RuntimeError when it does not start."""
    data = Path(tempfile.mkdtemp(prefix="guilder-bench-"))
    flags = ["--json", "--port", "0", "--data", str(data), "--api-processes", str(api_processes)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GUILDER_")} | variables
    process = subprocess.Popen([GUILDER, "up", *flags], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("{"):
            logs = "\n".join(log.read_text(errors="replace")[-1_000:] for log in (data / "log").glob("*.log"))
            raise RuntimeError(f"guilder up did not start:\n{logs}")
        yield System(data, json.loads(line), process.pid, beside or {})
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS_MAX)
        shutil.rmtree(data, ignore_errors=True)
