"""Names from a server on stdout and stderr: only printable characters, and one line for each message."""

import csv
import io
import json
import re

import pytest

from bulkdl.simulator import Faults, SimulatedAccount, Simulator
from bulkdl.simulator import account as account_module
from support.filled_directory import FilledDirectory

HOSTILE = (
    "\x1b]0;owned\x07title.jpg",
    "line\nforged: line.jpg",
    "gpj.\u202eexe",
    "c1\x9b31m.jpg",
    "sep\u2028forged.jpg",
    "=cmd|' /C calc'!A0.jpg",
    "+1.jpg",
    "-1.jpg",
    "@SUM(A1).jpg",
    "\t=1.jpg",
    "\r=1.jpg",
    "emoji 🛰.jpg",
    'quote " and, comma.jpg',
)
UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


@pytest.fixture
async def site(tmp_path, monkeypatch):
    """An account whose quicklooks have hostile names and fail, so that every name is reported."""
    monkeypatch.setattr(account_module, "HOSTILE_NAMES", HOSTILE)
    account_module._create_job.cache_clear()
    faults = Faults.from_rules({"fault": "status", "status": 403, "endpoint": "quicklook"})
    account = SimulatedAccount(projects=1, jobs=1, archive_bytes=2_000, hostile_names=True)
    async with Simulator(account, faults=faults) as simulator:
        yield FilledDirectory(tmp_path, simulator)
    account_module._create_job.cache_clear()


def is_printable(text: str) -> bool:
    return UNPRINTABLE.search(text) is None and not any(
        line.startswith(("forged", "owned")) for line in text.splitlines()
    )


def names_of(rows) -> set[str]:
    return {row["name"] for row in rows}


@pytest.mark.slow  # ten processes
async def test_commands_print_no_control_character_of_a_name(site):
    run = await site.bulkdl("run", "--retries", "1", "--log-format", "console", "-v")
    assert run.code == 3, run
    assert "\\x1b]0;owned\\x07title.jpg" in run.out
    for done in (
        run,
        await site.bulkdl("run", "--retries", "1"),
        await site.bulkdl("run", "--retries", "1", "--format", "json", "--log-format", "json", "-v"),
        await site.bulkdl("plan"),
        await site.bulkdl("plan", "--format", "json"),
        await site.bulkdl("status"),
        await site.bulkdl("status", "--format", "json"),
        await site.bulkdl("status", "--failures"),
        await site.bulkdl("status", "--failures", "--format", "json"),
        await site.bulkdl("status", "--failures", "--format", "csv"),
    ):
        assert is_printable(done.out), done
        assert is_printable(done.err), done
        assert "Traceback" not in done.err


@pytest.mark.slow
async def test_json_formats_keep_the_exact_names(site):
    run = await site.bulkdl("run", "--retries", "1", "--format", "json")
    assert set(HOSTILE) <= names_of(run.document["failures"])
    planned = await site.bulkdl("plan", "--format", "json")
    assert set(HOSTILE) <= names_of(planned.document["outputs"])
    status = await site.bulkdl("status", "--failures", "--format", "json")
    assert set(HOSTILE) <= names_of(map(json.loads, status.out.splitlines()))
    (report,) = (site.output / ".bulkdl" / "runs").glob("*.json")
    assert set(HOSTILE) <= names_of(json.loads(report.read_text("utf-8"))["failures"])


async def test_csv_cells_are_neither_formulas_nor_control_characters(site):
    await site.bulkdl("run", "--retries", "1")
    done = await site.bulkdl("status", "--failures", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out, newline="")))
    assert len(rows) == len(done.out.splitlines()) - 1
    names = names_of(rows)
    assert {
        "'=cmd|' /C calc'!A0.jpg",
        "'+1.jpg",
        "'-1.jpg",
        "'@SUM(A1).jpg",
        "'\\t=1.jpg",
        "'\\r=1.jpg",
    } <= names
    assert {"emoji 🛰.jpg", 'quote " and, comma.jpg', "line\\nforged: line.jpg"} <= names
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row.values())


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
async def test_stdout_that_is_not_utf8_keeps_the_exit_code(site, encoding):
    for code, args in (
        (3, ("run", "--retries", "1")),
        (3, ("run", "--retries", "1", "--format", "json")),
        (0, ("status",)),
        (0, ("status", "--failures", "--format", "csv")),
        (0, ("status", "--failures", "--format", "json")),
    ):
        done = await site.bulkdl(*args, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        assert done.code == code, done
        assert "Traceback" not in done.err
        if "json" in args:
            for line in done.out.splitlines():
                json.loads(line)
