"""The experiment's own parts that need no running system: the simulation, and the bank of seeded defects."""

import asyncio
import subprocess
import sys
from collections import Counter
from random import Random

import pytest
from chaos.__main__ import parser
from chaos.bugs import BUGS
from chaos.http_proxy import HttpProxy
from chaos.patches import SOURCE
from chaos.simulation.world import verdict
from chaos.system import ROOT

# Seeds that were red once; each stays here for good.
ONCE_RED: tuple[int, ...] = (1, 338, 373, 453)
SEEDS = 150
DEFECTS_MIN = 30


@pytest.mark.parametrize("seed", ONCE_RED)
def test_a_seed_that_was_red_once_is_green(seed: int) -> None:
    """What it had found stays mended."""
    assert verdict(seed) == ""


def test_payments_in_a_world_of_losses_deaths_and_pauses_end_as_the_bank_has_them() -> None:
    """A few of the seeds of which `make chaos-quick` runs thousands."""
    assert [(seed, wrong) for seed in range(SEEDS) if (wrong := verdict(seed))] == []


async def answered(port: int, reference: str) -> bytes:
    """What comes back for one request for a payment; nothing when nothing comes before the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"reference": "%s"}' % reference.encode()
    writer.write(b"POST /web/v1/payments HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    writer.write_eof()
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_the_proxy_before_the_web_psp_loses_and_doubles_whole_requests() -> None:
    """And knows what was sent, and under which reference."""
    seen: list[bytes] = []

    async def psp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(await reader.readexactly(int(head.rpartition(b": ")[2])))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server, proxy = await asyncio.start_server(psp, "127.0.0.1", 0), HttpProxy(Random(1))
    await proxy.start()
    proxy.aim(server.sockets[0].getsockname()[1])
    assert (await answered(proxy.port, "A")).endswith(b"{}")
    proxy.change(duplicate=1.0)
    assert (await answered(proxy.port, "B")).endswith(b"{}")
    proxy.clear()
    proxy.change(lose_answers=1.0)
    assert await answered(proxy.port, "C") == b""
    proxy.change(lose_requests=1.0)
    assert await answered(proxy.port, "D") == b""
    assert Counter(body[-3:-2] for body in seen) == {b"A": 1, b"B": 2, b"C": 1}
    assert [(one.mti, one.reference) for one in proxy.sent] == [("payments", name) for name in "ABCD"]
    await proxy.close()
    server.close()


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_seeded_defect_fits_the_source_that_it_is_about(bug) -> None:
    """A patch whose words are gone plants nothing, and then its drill proves nothing."""
    text: dict[str, str] = {}
    for patch in bug.patches:
        text[patch.file] = patch.apply(text.get(patch.file) or (SOURCE / patch.file).read_text())
    for file, patched in text.items():
        if file.endswith(".py"):
            compile(patched, file, "exec")


def test_the_bank_holds_enough_defects_each_under_a_name_of_its_own() -> None:
    """Thirty at least."""
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= DEFECTS_MIN


@pytest.mark.parametrize("name", ["timeout-is-failure", "known-approvals-are-news", "fee-not-shown", "hold-not-released"])
def test_the_simulation_turns_red_on_a_defect(name: str) -> None:
    """In a process of its own, which has the patched sources."""
    command = [sys.executable, "-m", "chaos.simulation", "--seeds", "40", "--until-red"]
    done = subprocess.run(command, cwd=ROOT, env={"GUILDER_CHAOS_BUG": name, "PATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("seed ")


@pytest.mark.parametrize(
    ("command", "heeded"),
    [("quick", {"keep", "only"}), ("run", {"keep", "minutes"}), ("kafka", {"keep"}), ("failovers", {"keep"}), ("bugs", {"only"})],
)
def test_each_command_of_the_experiment_takes_only_what_it_heeds(command: str, heeded: set[str]) -> None:
    """What would change nothing is refused: nobody waits ten minutes for a run that has overheard him."""
    given = parser().parse_args([command, "--seed", "5", "--no-results"])
    assert set(vars(given)) - {"command", "seed", "no_results"} == heeded
    for option in {"keep", "only", "minutes"} - heeded:
        with pytest.raises(SystemExit, match="2"):
            parser().parse_args([command, f"--{option}", "3"])
