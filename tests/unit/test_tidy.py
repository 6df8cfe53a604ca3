"""House rules that no other tool checks: sizes, docstrings, owners of tables, words that documents must hold, links, leftovers.

Each test lists every violation at once. A rule is added here when it has been missed once.
"""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

from guilder.cli import app
from guilder.orders.states import SessionState
from guilder.payments.declines import CODES_OF_THEIR_OWN, MESSAGES
from guilder.payments.states import AttemptState, ChallengeState, PaymentState, RefundState
from guilder.psp.connectors.cardnet.codes import DECLINES, DECLINES_OF
from guilder.security import LOG_FIELDS
from guilder.vault.rules import MESSAGES as CARD_MESSAGES

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "src" / "guilder"
DOCS: Final = ROOT / "docs"
MIGRATIONS: Final = PACKAGE / "db" / "migrations"

# A function fits in your eye (CONTRIBUTING.md). No exceptions; a longer one is two.
FUNCTION_LINES_MAX: Final = 70
MODULE_LINES_MAX: Final = 600
MODULE_LINES_TALK: Final = 400
TALKED_ABOUT: Final[Mapping[str, str]] = {
    "http_server/connection.py": "the phases of one connection are one machine",
    "bootstrap.py": "wires every role; cut in two it would hide from one half what the other hands out",
}
"""Modules between the two limits, and why they are not two modules."""

# integrity reads by its own SQL what others own: two paths to one fact (DESIGN section 10).
READS_EVERYTHING: Final = frozenset({"integrity"})

# Where amounts pass through; seconds may be fractions elsewhere.
MONEY_PATHS: Final = (
    "core/money.py", "core/currencies.py", "ledger/", "wallet/", "payments/", "api/", "shapes/", "merchants/", "integrity/",
    "network/issuer.py", "network/books.py", "network/decide.py", "psp/connectors/",
)  # fmt: skip

# Who makes time, ids and randomness; everybody else is handed them.
SOURCES: Final = frozenset({"core/clock.py", "core/ids.py"})
MAKES_TIME_OR_CHANCE: Final = re.compile(
    r"time\.time(_ns)?$|(datetime\.)?(datetime|date)\.(now|utcnow|today)$|(uuid\.)?uuid[14]$|random\.|secrets\.randbits$"
)

# The decision is the title; whoever needs more than a page has not decided yet.
ADR_LINES_MAX: Final = 60
ADR_HEADS: Final = ("## Context", "## Decision", "## Rejected", "## Consequences")


# --- what is looked at ------------------------------------------------------------------------------------------------


@cache
def modules() -> Mapping[str, ast.Module]:
    """Every Python module of the package by its path below it."""
    found = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in found}


@cache
def texts() -> Mapping[str, str]:
    """Every text file that is, or is about to be, under version control; without the locks, which tools write."""
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tracked.returncode == 0:
        names = tracked.stdout.splitlines()
    else:
        # An unpacked archive: what the project consists of.
        folders = ("src", "tests", "docs", "benchmarks", "requirements", ".ci")
        inside = [path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
        paths = [*inside, *ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"]
        names = [path.relative_to(ROOT).as_posix() for path in paths]
    found = {}
    for name in names:
        path = ROOT / name
        if path.is_file() and path.suffix not in (".lock", ".png", ".ico", ".woff2"):
            found[name] = path.read_text(encoding="utf-8")
    return found


def pages() -> Mapping[str, str]:
    """Every page of documentation."""
    return {name: text for name, text in texts().items() if name.endswith(".md")}


def packages() -> Iterator[tuple[str, str]]:
    """Every package (its folder, "" for the root) with its docstring."""
    for name, tree in modules().items():
        if name.endswith("__init__.py"):
            yield name.removesuffix("__init__.py").rstrip("/"), ast.get_docstring(tree) or ""


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every text in a module with its line, the parts of f-strings joined; docstrings left out."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "?".join(part.value for part in node.values if isinstance(part, ast.Constant))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def listed(problems: Sequence[str]) -> str:
    """All violations, one a line, for whoever mends them."""
    return "\n" + "\n".join(problems)


# --- size -------------------------------------------------------------------------------------------------------------


def test_every_function_fits_in_your_eye() -> None:
    """At most 70 lines, the signature included."""
    long = [
        f"{name}:{node.lineno}: {node.name} has {lines} lines"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert not long, listed(long)


def test_every_module_is_one_room() -> None:
    """Above 400 lines somebody must have said why it is not two modules; 600 is the end."""
    problems = []
    for name in modules():
        lines = (PACKAGE / name).read_text(encoding="utf-8").count("\n")
        if lines > MODULE_LINES_MAX:
            problems.append(f"{name} has {lines} lines")
        elif lines > MODULE_LINES_TALK and name not in TALKED_ABOUT:
            problems.append(f"{name} has {lines} lines, and nobody has said why")
        elif lines <= MODULE_LINES_TALK and name in TALKED_ABOUT:
            problems.append(f"{name} needs no exception any more")
    assert not problems, listed(problems)


# --- packages and tables ----------------------------------------------------------------------------------------------


def test_every_package_says_what_it_owns_announces_and_may_import() -> None:
    """The docstring is the room's door plate; the root only points to the map."""
    problems = [
        f"{package}: no {head!r} in the docstring"
        for package, docstring in packages()
        if package
        for head in ("Owns:", "Announces:", "May import:")
        if head not in docstring
    ]
    assert not problems, listed(problems)


def test_every_table_has_one_owner() -> None:
    """Each table of the migrations stands in the "Owns" of exactly one package."""
    owners = table_owners()
    problems = [f"{table} is owned by {who or 'nobody'}" for table in sorted(tables()) if len(who := owners.get(table, [])) != 1]
    assert not problems, listed(problems)


def test_a_table_is_named_only_in_its_owners_sql() -> None:
    """Others go through the owner's functions, so that a table can change without a search through the house."""
    owners = table_owners()
    statement = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE|ONLY)\s+(" + "|".join(sorted(tables())) + r")\b")
    problems = [
        f"{name}:{line}: {table} belongs to {' and '.join(owners.get(table, ['nobody']))}"
        for name, tree in modules().items()
        if room(name) not in READS_EVERYTHING
        for line, text in strings(tree)
        for table in statement.findall(text)
        if room(name) not in owners.get(table, [])
    ]
    assert not problems, listed(problems)


def room(module: str) -> str:
    """The top-level package that a module is in."""
    return module.partition("/")[0]


@cache
def tables() -> frozenset[str]:
    """The tables that the migrations make; the migration tool's own is db's."""
    made = re.compile(r"^CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?(\w+)", re.MULTILINE)
    return frozenset(table for path in MIGRATIONS.glob("*.sql") for table in made.findall(path.read_text(encoding="utf-8")))


@cache
def table_owners() -> Mapping[str, list[str]]:
    """Table -> the packages whose docstring says that they own it."""
    owners: dict[str, list[str]] = {}
    for package, docstring in packages():
        owns = re.search(r"^Owns:(.*?)^\S", docstring, re.MULTILINE | re.DOTALL)
        for table in sorted(tables() & set(re.findall(r"\w+", owns[1] if owns else ""))):
            owners.setdefault(table, []).append(package)
    return owners


# --- documents --------------------------------------------------------------------------------------------------------


def test_every_state_is_explained() -> None:
    """docs/states.md shows every state of the tables, and of every CHECK in the database."""
    page = (DOCS / "states.md").read_text(encoding="utf-8")
    checked = re.compile(r"state\s[^\n]*CHECK \(state IN \(([^)]*)\)\)")
    states: set[str] = {*PaymentState, *AttemptState, *ChallengeState, *RefundState, *SessionState}
    for path in MIGRATIONS.glob("*.sql"):
        for values in checked.findall(path.read_text(encoding="utf-8")):
            states.update(re.findall(r"'(\w+)'", values))
    missing = [state for state in sorted(states) if f"`{state}`" not in page]
    assert not missing, listed(missing)


def test_every_error_code_is_explained() -> None:
    """Whatever `code` or `decline_code` an error can bear stands in docs/errors.md."""
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    codes = {*MESSAGES, *CODES_OF_THEIR_OWN, *CARD_MESSAGES, *DECLINES.values(), *DECLINES_OF.values()}
    for name, tree in modules().items():
        # The bank world has codes of its own (docs/iso8583.md); the shapes only write down what others have decided.
        if room(name) not in ("network", "iso8583", "shapes"):
            codes.update(code for _, code in error_codes(tree))
    missing = [code for code in sorted(codes) if f"`{code}`" not in page]
    assert not missing, listed(missing)


def error_codes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Texts that are handed over as `code` or `decline_code`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in ("code", "decline_code"):
            for value in ast.walk(node.value):
                if isinstance(value, ast.Constant) and isinstance(value.value, str) and re.fullmatch(r"[a-z_]+", value.value):
                    yield value.lineno, value.value


def test_every_link_in_the_documents_leads_somewhere() -> None:
    """To a file of the project, and where it names a heading, to a heading that is there."""
    problems = []
    for name, text in pages().items():
        for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
            if target.startswith(("http://", "https://", "mailto:")):
                continue
            path, _, anchor = target.partition("#")
            wanted = (ROOT / name).parent / path if path else ROOT / name
            if not wanted.exists():
                problems.append(f"{name}: {target} does not exist")
            elif anchor and anchor not in headings(wanted.read_text(encoding="utf-8")):
                problems.append(f"{name}: {target} is no heading")
    assert not problems, listed(problems)


def test_every_path_in_the_documents_exists() -> None:
    """A file that a page names in code letters, such as `payments/accept.py`, is there: below project, package or page."""
    file = re.compile(r"(?:(?:[\w.-]+/)+[\w.-]+\.(?:py|sql|md|toml|lock)|[0-9]{4}_\w+\.sql)")
    problems = [
        f"{name}: {path} does not exist"
        for name, text in pages().items()
        for path in re.findall(r"`([^`\n]+)`", text)
        if file.fullmatch(path) and not any((base / path).exists() for base in (ROOT, PACKAGE, MIGRATIONS, (ROOT / name).parent))
    ]
    assert not problems, listed(problems)


def without_code(text: str) -> str:
    """A page without its code blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def headings(text: str) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+\s+(.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def test_every_setting_is_documented() -> None:
    """Each GUILDER_ variable that the package reads stands in the README or the pages."""
    variable = re.compile(r"GUILDER_[A-Z_]*[A-Z]")
    read = {found for tree in modules().values() for _, text in strings(tree) for found in variable.findall(text)}
    documented = "\n".join(pages().values())
    missing = [found for found in sorted(read) if f"`{found}`" not in documented]
    assert not missing, listed(missing)


def test_every_command_in_the_documents_exists() -> None:
    """`make x` is a target of the Makefile, `guilder x` a command; a newcomer types what stands there."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    problems = []
    for name, text in pages().items():
        blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        shown = "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", text)])
        made = set(re.findall(r"^make ([a-z-]+)", shown, re.MULTILINE))
        called = set(re.findall(r"^(?:\.venv/bin/)?guilder ([a-z]+)", shown, re.MULTILINE))
        problems += [f"{name}: make {target}" for target in sorted(made - targets)]
        problems += [f"{name}: guilder {command}" for command in sorted(called - commands)]
    assert not problems, listed(problems)


def test_every_decision_is_short_and_has_the_four_parts() -> None:
    """docs/adr: numbered without gaps, the title is the decision; context, decision, rejected, consequences; under a page."""
    found = sorted(DOCS.glob("adr/[0-9]*.md"))
    numbers = [int(path.name[:4]) for path in found]
    problems = [f"{left} is followed by {right}" for left, right in pairwise([0, *numbers]) if right != left + 1]
    for path in found:
        text = path.read_text(encoding="utf-8")
        places = [text.find(f"\n{head}\n") for head in ADR_HEADS]
        if -1 in places or places != sorted(places):
            problems.append(f"{path.name}: wants {', '.join(ADR_HEADS)}, in this order")
        if not text.startswith(f"# {path.name[:4]} "):
            problems.append(f"{path.name}: the title begins with the number")
        if text.count("\n") > ADR_LINES_MAX:
            problems.append(f"{path.name}: longer than a page")
    assert not problems, listed(problems)


# --- code -------------------------------------------------------------------------------------------------------------


def test_nothing_is_left_for_later() -> None:
    """Work that is to be done stands in an issue, not in a comment."""
    left = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
    problems = [f"{name}:{line}" for name, text in texts().items() for line, words in lines_of(text) if left.search(words)]
    assert not problems, listed(problems)


def test_money_is_never_a_float() -> None:
    """Neither made by float() nor by a true division where amounts pass; infinities of clocks are no money."""
    problems = []
    for name, tree in modules().items():
        for node in ast.walk(tree) if name.startswith(MONEY_PATHS) else ():
            if isinstance(node, ast.Call) and dotted(node.func) == "float" and not is_infinity(node):
                problems.append(f"{name}:{node.lineno}: float()")
            elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                problems.append(f"{name}:{node.lineno}: a true division")
    assert not problems, listed(problems)


def is_infinity(call: ast.Call) -> bool:
    """Whether a call is float("inf") or float("-inf")."""
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value in ("inf", "-inf")


def test_time_ids_and_randomness_are_handed_in() -> None:
    """Only core's clock and ids make them; a default argument may name a source for others to replace."""
    problems = [
        f"{name}:{node.lineno}: {called}()"
        for name, tree in modules().items()
        if name not in SOURCES
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and MAKES_TIME_OR_CHANCE.match(called := dotted(node.func))
    ]
    assert not problems, listed(problems)


def test_asserts_are_for_tests() -> None:
    """They vanish under -O; what must hold at run time is core.ensure's."""
    problems = [
        f"{name}:{node.lineno}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]  # fmt: skip
    assert not problems, listed(problems)


def dotted(node: ast.expr) -> str:
    """A name with its attributes as it is written; empty for anything else."""
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return node.id if isinstance(node, ast.Name) else ""


def test_every_log_field_is_allowed() -> None:
    """A field that is not on the allow-list of security.mask is dropped, and with it what somebody will look for at night."""
    problems = [
        f"{name}:{line}: {field}"
        for name, tree in modules().items()
        for line, field in log_fields(tree)
        if field not in LOG_FIELDS
    ]
    assert not problems, listed(problems)


LOG_METHODS: Final = frozenset({"debug", "info", "warning", "error", "exception", "critical", "bind"})
# Handled by structlog itself: becomes `exception`.
LOG_ARGUMENTS: Final = frozenset({"exc_info"})


def log_fields(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every field name that is given to a logger, with its line; also those of functions whose dict is spread into the call."""
    returned = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOG_METHODS):
            continue
        receiver = ast.unparse(node.func.value)
        if not re.search(r"(?:^|\.)_?log$|get_logger\(", receiver):
            continue
        for keyword in node.keywords:
            if keyword.arg is not None:
                if keyword.arg not in LOG_ARGUMENTS:
                    yield node.lineno, keyword.arg
            elif isinstance(keyword.value, ast.Call) and (function := returned.get(dotted(keyword.value.func))) is not None:
                keys = [key for one in ast.walk(function) if isinstance(one, ast.Dict) for key in one.keys]
                yield from ((node.lineno, key.value) for key in keys if isinstance(key, ast.Constant))


def test_no_card_number_stands_in_the_source() -> None:
    """Test cards are the bank world's to list; everybody else knows a card by first six and last four digits."""
    number = re.compile(r"(?<![\w.])[0-9]{13,19}(?![\w.])")
    problems = [
        f"{name}:{line}"
        for name in modules()
        if room(name) != "network"
        for line, words in lines_of((PACKAGE / name).read_text(encoding="utf-8"))
        if number.search(words)
    ]
    assert not problems, listed(problems)


def test_nothing_names_a_machine_or_where_to_download_from() -> None:
    """The project works from any folder, and whoever installs it says where packages come from."""
    # Written in pieces, or this file would be the first to be found.
    somewhere = re.compile(r"(?<![\w.])/(?:work|root|farm|home)" + "/")
    downloads = re.compile("--(?:extra-)?index" + "-url|--find" + r"-links|python" + r"hosted\.org|pypi\.org/" + "simple")
    problems = [
        f"{name}:{line}: {words.strip()[:80]}"
        for name, text in {**texts(), **locks()}.items()
        for line, words in lines_of(text)
        if somewhere.search(words) or downloads.search(words)
    ]
    assert not problems, listed(problems)


def locks() -> Mapping[str, str]:
    """The files that pin what is installed."""
    return {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "requirements").glob("*.lock")}


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers."""
    return enumerate(text.splitlines(), 1)


def test_the_generated_documents_are_up_to_date() -> None:
    """`make generate` would change nothing."""
    generator = load_generator()
    assert (DOCS / "states.md").read_text(encoding="utf-8") == generator["states"]()
    assert (DOCS / "openapi.json").read_bytes() == generator["openapi"]()


def load_generator() -> Mapping[str, Callable[[], object]]:
    """The functions of docs/generate.py, which is a script and no package."""
    names: dict[str, object] = {"__file__": str(DOCS / "generate.py"), "__name__": "generate"}
    exec(compile((DOCS / "generate.py").read_text(encoding="utf-8"), "generate.py", "exec"), names)
    return names  # type: ignore[return-value]
