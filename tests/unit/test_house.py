"""
The house stands as the architecture draws it: imports point down, and a few things happen in one place only.

The rules are functions of a folder, so that the tests at the end can show them a house that leans.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "bulkdl"

# Lowest first. Boxes on one level know nothing of each other.
LEVELS = (
    {"printable"},
    {"model", "log", "redaction", "units", "waiting", "concurrency"},
    {"errors"},
    {"reactions"},
    {"settings"},
    {"selection"},
    {"http"},
    {"up42", "transfer", "sink", "ledger", "telemetry", "report"},
    {"graph"},
    {"cli"},
    {"__main__"},
)
FLOOR = {box: number for number, level in enumerate(LEVELS) for box in level}

# What a box may import that the levels alone would not let it.
EXCEPTIONS = {
    ("cli", "simulator"): "simulate and demo start it",
    ("__init__", "graph"): "loaded on first use, see below",
    ("__init__", "settings"): "loaded on first use, see below",
    ("__init__", "selection"): "loaded on first use, see below",
}

# Asyncio tasks that are not started by graph.
SPAWNERS = {
    "ledger/ledger.py": "group commit: one task writes for all callers, who wait for it; close() ends it",
    "sink/part.py": "one write behind the reading, waited for before the next one and in pause()",
    "up42/listing.py": "the next page is asked for while this one is handed out; it ends with the listing",
    "transfer/finishing.py": "what is short and must be whole: who is cancelled waits for it",
    "transfer/landing.py": "a part is begun once; one write goes on behind each reading, which waits for it",
    "transfer/segments.py": "the lines of one archive, in a TaskGroup of its own",
    "cli/verify.py": "a signal cancels the work, not the command that reports it",
}

SPAWNS = ("create_task", "ensure_future", ".create_task", ".ensure_future")

VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "handler", "misc"}


def modules(root: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root), ast.parse(path.read_text("utf-8"))


def box_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def imported(tree: ast.Module) -> Iterator[tuple[ast.stmt, str]]:
    """Each import of something of ours, as the box it is in (empty for the package itself)."""
    for node in ast.walk(tree):
        for name in names_in(node):
            package, _, rest = name.partition(".")
            box = rest.partition(".")[0]
            if package == "bulkdl":
                yield node, box if box in BOXES or "." in rest else ""
            elif not package:
                yield node, "(relative)"


def names_in(node: ast.AST) -> list[str]:
    """What *node* imports, in full; with a dot at the front where that is relative."""
    if isinstance(node, ast.ImportFrom):
        return [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


BOXES = {*FLOOR, "simulator"}


def may_import(box: str, other: str) -> bool:
    if other in (box, "") or (box, other) in EXCEPTIONS:
        return True
    if box == "simulator":
        return other == "model"
    return box in FLOOR and other in FLOOR and FLOOR[other] < FLOOR[box]


def arrows_up(root: Path) -> list[str]:
    return [
        f"{path}:{node.lineno} imports {other}"
        for path, tree in modules(root)
        for node, other in imported(tree)
        if not may_import(box_of(path), other)
    ]


def unknown_boxes(root: Path) -> list[str]:
    return sorted({box_of(path) for path, _ in modules(root)} - BOXES - {"__init__"})


def eager_imports(root: Path) -> list[str]:
    """Imports of ours that run when the package is imported."""
    tree = ast.parse((root / "__init__.py").read_text("utf-8"))
    nodes = list(tree.body)
    return [f"__init__.py:{node.lineno}" for node, _ in imported(ast.Module(nodes, [])) if node in nodes]


def vague_names(root: Path) -> list[str]:
    return [
        path.relative_to(root).as_posix()
        for path in sorted(root.rglob("*"))
        if VAGUE & set(path.name.removesuffix(".py").lower().split("_")) and "__pycache__" not in path.parts
    ]


def calls(tree: ast.Module, *names: str) -> Iterator[ast.Call]:
    """Calls of *names*: plain ones, and with a dot at the front of the name those of an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = f".{function.attr}" if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in names:
                yield node


def prints(root: Path) -> list[str]:
    return [
        f"{path}:{node.lineno}"
        for path, tree in modules(root)
        for node in calls(tree, "print", "echo", "secho", ".echo", ".secho")
        if box_of(path) != "cli"
    ]


def spawns(root: Path) -> list[str]:
    return [
        f"{path.as_posix()}:{node.lineno}"
        for path, tree in modules(root)
        for node in calls(tree, *SPAWNS)
        if box_of(path) not in ("graph", "simulator") and path.as_posix() not in SPAWNERS
    ]


def strange_loggers(root: Path) -> list[str]:
    """Loggers that write where the application's structlog is configured to, by default to stdout."""
    return [
        f"{path}:{node.lineno}"
        for path, tree in modules(root)
        for node in calls(tree, ".get_logger", ".configure")
    ]


RULES = (arrows_up, unknown_boxes, eager_imports, vague_names, prints, spawns, strange_loggers)


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_its_rules(rule):
    assert rule(ROOT) == []


def test_every_exception_is_still_needed():
    spawners = {path.as_posix() for path, tree in modules(ROOT) if any(calls(tree, *SPAWNS))}
    assert set(SPAWNERS) <= spawners
    used = {(box_of(path), other) for path, tree in modules(ROOT) for _, other in imported(tree)}
    assert set(EXCEPTIONS) <= used


LEANING = {
    "model.py": ("from bulkdl.errors import BulkdlError", arrows_up),
    "errors.py": ("import bulkdl.graph.run", arrows_up),
    "selection.py": ("from bulkdl.http.pace import Pace", arrows_up),
    "http/sessions.py": ("from bulkdl.up42.auth import TokenSource", arrows_up),
    "sink/local.py": ("from bulkdl.ledger.rows import KnownOutput", arrows_up),
    "transfer/fetch.py": ("def late():\n    from bulkdl.graph.channel import Channel", arrows_up),
    "graph/run.py": ("from bulkdl import cli", arrows_up),
    "up42/client.py": ("from .decode import job", arrows_up),
    "simulator/api.py": ("from bulkdl.errors import Failure", arrows_up),
    "report/plan.py": ("from bulkdl import telemetry", arrows_up),
    "graph/pools.py": ("from bulkdl.simulator import Simulator", arrows_up),
    "attic/old.py": ("", unknown_boxes),
    "__init__.py": ("from bulkdl.graph.downloader import Downloader", eager_imports),
    "sink/utils.py": ("", vague_names),
    "ledger/common/rows.py": ("", vague_names),
    "up42/token_manager.py": ("", vague_names),
    "report/summary.py": ("print('done')", prints),
    "telemetry/board.py": ("import click\nclick.echo('done')", prints),
    "http/pace.py": ("import asyncio\nasyncio.create_task(work())", spawns),
    "ledger/audit.py": ("import structlog\nlog = structlog.get_logger()", strange_loggers),
    "graph/stop.py": ("import structlog\nstructlog.configure()", strange_loggers),
    "up42/paths.py": ("async def f(group):\n    group.create_task(work())", spawns),
}


@pytest.fixture
def upright(tmp_path):
    """A small house that keeps all rules."""
    good = {
        "__init__.py": "def __getattr__(name):\n    from bulkdl.graph.run import Run\n    return Run",
        "errors.py": "from bulkdl.model import Reason\nfrom bulkdl import __version__",
        "graph/run.py": "import asyncio\nfrom bulkdl.sink import local\nasyncio.create_task(work())",
        "sink/local.py": "import bulkdl.errors\nfrom bulkdl.sink.part import LocalPart",
        "simulator/api.py": "from bulkdl.model import Kind\nfrom bulkdl.simulator.blobs import Blob",
        "cli/run.py": "from bulkdl.graph import run\nprint('x')",
        "model.py": "",
    }
    for name, text in good.items():
        write(tmp_path / name, text)
    assert [rule(tmp_path) for rule in RULES] == [[] for _ in RULES]
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name", LEANING)
def test_a_house_that_leans_is_noticed(upright, name):
    text, rule = LEANING[name]
    write(upright / name, text)
    found = rule(upright)
    assert len(found) >= 1
    assert all(each.startswith(Path(name).parts[0].removesuffix(".py")) for each in found)
    assert {other.__name__ for other in RULES if other(upright)} == {rule.__name__}
