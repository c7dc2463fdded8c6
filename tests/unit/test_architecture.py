"""
Rules of the architecture that neither import-linter nor ruff can express.

Each rule is a function of a directory. The tests at the end apply it to a package that violates it.
"""

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "bulkdl"

# Modules outside of graph that start asyncio tasks, and why.
SPAWNERS = {
    "concurrency.py": "a critical section, for which a cancelled caller waits",
    "destinations/objectstore/destination.py": "calls for several keys, in a TaskGroup",
    "destinations/objectstore/upload.py": "an upload is stopped and awaited, never cancelled",
    "ledger/locked.py": "the heartbeat of the lease, in a TaskGroup",
    "ledger/database.py": "group commit: one task writes for all callers, and close() ends it",
    "state/shared_state.py": "the heartbeat of the lease and the snapshots, in a TaskGroup",
    "state/partial_file.py": "one write runs during the next read",
    "sources/up42_jobs/pagination.py": "the next page is requested while a page is processed",
    "sources/up42_jobs/source.py": "the quicklooks of the tasks of one job, in a TaskGroup",
    "sources/up42_storage/account_listing.py": "the lists of an account are read concurrently",
    "testing/destinations.py": "concurrent calls of a destination, in a TaskGroup",
    "transfer/segments.py": "a partial file is started once; each reader waits for its own write",
    "transfer/segmented.py": "the connections of one archive, in a TaskGroup",
    "testing/steps.py": "a suite cancels a call, and waits for its end",
    "notify/command.py": "the input and the error output of a command, in a TaskGroup",
    "service/service.py": "the heartbeat for systemd, and the steps after a run that a signal can stop",
    "cli/signals.py": "a signal cancels the work, and the command still reports it",
}
SPAWNS = {"create_task", "ensure_future"}

# Shared by the two UP42 sources and by no other package.
NOT_VAGUE = {"sources/up42_common"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "handler", "misc"}


KINDS = ("archive", "quicklook", "geojson", "original", "asset", "preview", "metadata")


def modules(package: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(package.rglob("*.py")):
        yield path.relative_to(package), parse(path.read_text("utf-8"))


@cache
def parse(text: str) -> ast.Module:
    """Return the tree of a module, which several rules read. No rule changes it."""
    return ast.parse(text)


def find_spawns(tree: ast.Module) -> Iterator[int]:
    """Yield the line of each call that starts a task."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in SPAWNS:
                yield node.lineno


def find_unlisted_spawners(package: Path) -> list[str]:
    """Tasks are started by graph, which awaits them; each other module needs a reason."""
    return [
        f"{path.as_posix()}:{line}"
        for path, tree in modules(package)
        for line in find_spawns(tree)
        if path.parts[0] not in ("graph", "maintenance", "simulator") and path.as_posix() not in SPAWNERS
    ]


def find_eager_imports(package: Path) -> list[str]:
    """`import bulkdl` must not load the downloader; the package loads it on first use."""
    tree = ast.parse((package / "__init__.py").read_text("utf-8"))
    return [
        f"__init__.py:{node.lineno}"
        for node in tree.body
        if (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "bulkdl")
        or (isinstance(node, ast.Import) and any(name.name.startswith("bulkdl") for name in node.names))
    ]


MAX_MODULE_LINES = 450
MAX_FUNCTION_LINES = 50


def find_long_code(package: Path) -> list[str]:
    """A module or a function with more lines has more than one purpose."""
    found = []
    for path, tree in modules(package):
        if len((package / path).read_text("utf-8").splitlines()) > MAX_MODULE_LINES:
            found.append(path.as_posix())
        found += [
            f"{path.as_posix()}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            and (node.end_lineno or node.lineno) - node.lineno + 1 > MAX_FUNCTION_LINES
        ]
    return found


def find_vague_names(package: Path) -> list[str]:
    return [
        path.relative_to(package).as_posix()
        for path in sorted(package.rglob("*"))
        if VAGUE & set(path.name.removesuffix(".py").lower().split("_"))
        and "__pycache__" not in path.parts
        and path.relative_to(package).as_posix() not in NOT_VAGUE
    ]


def find_kind_conditions(package: Path) -> list[str]:
    """Only sources know their kinds. The other packages use the ``KindSpec`` of a kind."""
    return [
        f"{path.as_posix()}:{node.lineno}"
        for path, tree in modules(package)
        if path.parts[0] not in ("sources", "simulator")
        for node in ast.walk(tree)
        if isinstance(node, (ast.Compare, ast.MatchValue)) and any(map(is_kind, ast.walk(node)))
    ]


# The catalogue names the provider of the data.
PROVIDER_PACKAGES = ("sources/", "simulator/", "settings/", "cli/", "processors/catalog/")


def find_provider_names(package: Path) -> list[str]:
    """Texts of packages for any source do not name a provider. The labels and failures of a source do."""
    found = []
    for path, tree in modules(package):
        if path.as_posix().startswith(PROVIDER_PACKAGES):
            continue
        comments = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [
            f"{path.as_posix()}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and "UP42" in node.value
            and id(node) not in comments
        ]
    return found


def is_kind(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == "Kind"
    return isinstance(node, ast.Constant) and node.value in KINDS


RULES = (
    find_unlisted_spawners,
    find_eager_imports,
    find_long_code,
    find_vague_names,
    find_kind_conditions,
    find_provider_names,
)


@pytest.mark.parametrize("rule", RULES)
def test_package_follows_the_rule(rule):
    assert rule(PACKAGE) == []


def test_each_listed_spawner_starts_tasks():
    spawners = {path.as_posix() for path, tree in modules(PACKAGE) if any(find_spawns(tree))}
    assert set(SPAWNERS) <= spawners


def test_simulator_contract_names_every_other_module():
    """A forbidden contract lists modules; without this test, a new module would be missing."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (forbidden,) = [each["forbidden_modules"] for each in contracts if each["type"] == "forbidden"]
    present = {path.parts[0].removesuffix(".py") for path, _ in modules(PACKAGE)}
    allowed = {"__init__", "simulator", "models", "printable"}  # the model imports printable
    assert sorted(forbidden) == sorted(f"bulkdl.{name}" for name in present - allowed)


VIOLATIONS = {
    "http/rate_limit.py": ("import asyncio\nasyncio.create_task(work())", find_unlisted_spawners),
    "sources/up42_jobs/client.py": (
        "async def f(group):\n    group.create_task(work())",
        find_unlisted_spawners,
    ),
    "sources/up42_common/auth.py": (
        "from asyncio import ensure_future\nensure_future(work())",
        find_unlisted_spawners,
    ),
    "__init__.py": ("from bulkdl.graph.downloader import Downloader", find_eager_imports),
    "report/plan.py": ("x = 1\n" * (MAX_MODULE_LINES + 1), find_long_code),
    "report/summary.py": ("def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES, find_long_code),
    "sink/utils.py": ("", find_vague_names),
    "ledger/common/rows.py": ("", find_vague_names),
    "graph/pools.py": ('def f(output):\n    return output.kind == "archive"', find_kind_conditions),
    "transfer/download.py": (
        "def f(kind):\n    return kind in (Kind.ARCHIVE, Kind.GEOJSON)",
        find_kind_conditions,
    ),
    "ledger/queries.py": (
        'def f(kind):\n    match kind:\n        case "quicklook":\n            return 1',
        find_kind_conditions,
    ),
    "up42/token_manager.py": ("", find_vague_names),
    "graph/run.py": ('def f(x):\n    return f"{x}: contact UP42"', find_provider_names),
}


@pytest.fixture
def correct_package(tmp_path):
    """A small package that follows all rules."""
    files = {
        "__init__.py": "def __getattr__(name):\n    from bulkdl.graph.run import Run\n    return Run",
        "graph/run.py": "import asyncio\nasyncio.create_task(work())",
        "state/partial_file.py": "import asyncio\nasyncio.ensure_future(work())",
        "models.py": "x = 1\n" * (MAX_MODULE_LINES - MAX_FUNCTION_LINES)
        + "def f():\n"
        + "    x = 1\n" * (MAX_FUNCTION_LINES - 1),
        "report/plan.py": '"""Plan the outputs of a source such as UP42."""',
        "sources/up42_jobs/client.py": 'def f(kind):\n    return kind == "archive"',
    }
    for name, text in files.items():
        write(tmp_path / name, text)
    assert [rule(tmp_path) for rule in RULES] == [[] for _ in RULES]
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name", VIOLATIONS)
def test_rule_with_a_violation_reports_the_file(correct_package, name):
    text, rule = VIOLATIONS[name]
    write(correct_package / name, text)
    found = rule(correct_package)
    assert found
    assert all(each.startswith(Path(name).parts[0]) for each in found)
    assert {other.__name__ for other in RULES if other(correct_package)} == {rule.__name__}
