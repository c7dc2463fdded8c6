"""Generate the parts of the documentation that are derived from code: ``python docs/generate.py``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bulkdl.failure_policy import EXIT_RANK, FAILURE_POLICIES, ExitCode
from bulkdl.report.run_report import schema
from bulkdl.simulator import FAULTS
from bulkdl.simulator.fault_script import CONDITIONS
from bulkdl.simulator.fault_table import FaultKind
from bulkdl.simulator.routes import ENDPOINTS, TODAY_ENDPOINTS

DOCS = Path(__file__).parent

_FAILURE_POLICY_HEAD = """\
# Failure policy

Generated from the table in `bulkdl/{module}.py` by `make docs`. A test fails if this page is stale.

Every failure has a reason. The reason is written to the log, the ledger and the run report.

- **Temporary**: a later run can succeed without any change.
- **Within the run**: the action of the worker after a failed attempt. `--retries` limits the attempts.
- **Exit code**: the exit code of the run if the failure remains at its end.

If several exit codes apply, the run returns the one with the highest rank:
{rank}. After a signal, the exit code is always 130 or 143.

| reason | temporary | within the run | exit code | what to do |
|---|---|---|---|---|
"""


def failure_policy_page() -> str:
    """Render the failure policy as a Markdown page."""
    rank = " > ".join(str(int(code)) for code in EXIT_RANK)
    head = _FAILURE_POLICY_HEAD.format(module=ExitCode.__module__.rpartition(".")[2], rank=rank)
    rows = [
        f"| `{reason.value}` | {'yes' if policy.exit_code is ExitCode.TEMPORARY else 'no'} "
        f"| {policy.action.value} | {int(policy.exit_code)} | {policy.hint} |"
        for reason, policy in FAILURE_POLICIES.items()
    ]
    return head + "\n".join(rows) + "\n"


def run_report_table() -> str:
    """Render the keys of the run report, from its JSON Schema."""
    lines = [f"| `{path}` | {kind} | {text} |" for path, kind, text in _described(schema())]
    return "\n".join(["| key | type | meaning |", "|---|---|---|", *lines])


def _described(part: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str, str]]:
    for name, value in part.get("properties", {}).items():
        key = f"{path}{name}"
        types = value.get("type", "string" if "enum" in value else "integer")
        kind = " or ".join(types) if isinstance(types, list) else types
        yield key, kind, value.get("description", "")
        yield from _described(value, f"{key}.")
        yield from _described(value.get("items", {}), f"{key}[].")


def run_report_page() -> str:
    """Render docs/run-report.md again with a current table of keys."""
    lines = (DOCS / "run-report.md").read_text("utf-8").splitlines()
    table = [number for number, line in enumerate(lines) if line.startswith("|")]
    return "\n".join([*lines[: table[0]], run_report_table(), *lines[table[-1] + 1 :]]) + "\n"


_ENDPOINTS_HEAD = """\
## Endpoints

A rule of a fault script selects requests by the name of the endpoint. `object` is the storage.

| endpoint | path |
|---|---|
"""

_FAULTS_HEAD = """
## Faults

`--faults FILE` reads rules in TOML or JSON. Each rule names a fault and its parameters, and selects requests:

```toml
[[rule]]
fault = "throttled"
retry_after = 2
endpoint = ["search", "download_url"]
every = 10
```

These keys select requests:
{conditions}.

| fault | effect | parameters | applies to |
|---|---|---|---|
"""


def simulator_page() -> str:
    """Render docs/simulator.md again with current tables of endpoints and faults."""
    text = (DOCS / "simulator.md").read_text("utf-8").partition("## Endpoints\n")[0]
    endpoints = [
        f"| `{name}` | {', '.join(f'`/{path}`' for path in paths)} |" for name, paths in ENDPOINTS.items()
    ]
    faults = [
        f"| `{name}` | {kind.meaning} | {_parameters(kind)} | {_place(kind)} |"
        for name, kind in FAULTS.items()
    ]
    conditions = ", ".join(f"`{name}`" for name in CONDITIONS)
    head = _FAULTS_HEAD.format(conditions=conditions)
    return text + _ENDPOINTS_HEAD + "\n".join(endpoints) + "\n" + head + "\n".join(faults) + "\n"


def _parameters(kind: FaultKind) -> str:
    return ", ".join(
        f"`{key}`" if parameter.required or parameter.default is None else f"`{key}={parameter.default!r}`"
        for key, parameter in kind.parameters.items()
    )


def _place(kind: FaultKind) -> str:
    """Return the endpoints or the server that a rule selects by default."""
    endpoints = kind.condition.get("endpoint", [])
    endpoints = [endpoints] if isinstance(endpoints, str) else endpoints
    if len(endpoints) > len(TODAY_ENDPOINTS):
        return "all endpoints without the logins"
    if endpoints:
        return ", ".join(f"`{name}`" for name in endpoints)
    return str(kind.condition.get("server", "all"))


_EXAMPLE = re.compile(r"<!-- (docs/examples/\S+\.py) -->\n(?:\n```python\n.*?\n```\n)?", re.DOTALL)


def extending_page() -> str:
    """Render docs/extending.md again with the current code of the examples."""

    def insert(match: re.Match[str]) -> str:
        code = (DOCS.parent / match[1]).read_text("utf-8")
        return f"<!-- {match[1]} -->\n\n```python\n{code}```\n"

    return _EXAMPLE.sub(insert, (DOCS / "extending.md").read_text("utf-8"))


if __name__ == "__main__":
    (DOCS / "extending.md").write_text(extending_page(), "utf-8")
    (DOCS / "failure-policy.md").write_text(failure_policy_page(), "utf-8")
    (DOCS / "run-report.md").write_text(run_report_page(), "utf-8")
    (DOCS / "simulator.md").write_text(simulator_page(), "utf-8")
