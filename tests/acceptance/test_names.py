"""Names from a server: the files stay in their directory, are separate, and are found again."""

import sqlite3
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkdl.simulator import SimulatedAccount
from bulkdl.simulator import account as account_module
from bulkdl.simulator.scenarios import HOSTILE_NAMES
from bulkdl.sources.up42_jobs.models import Kind
from support.fault_runs import run_environment

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
PIECES = st.sampled_from(
    ["..", "/", "\\", "con", "NUL", ".", " ", "\n", "\0", "é", "e\u0301", "A", "a", "ﬁ", "ß", "SS", "x" * 120]  # noqa: RUF005
    + ["C:", "~", "%2e", "-", "🛰", ".jpg", ".JPG", "\u202e", "*", "?", '"', "<", "|", "\x7f", "ａ"]
)
NAMES = st.lists(
    st.one_of(st.lists(PIECES, min_size=1, max_size=6).map("".join), st.sampled_from(HOSTILE_NAMES)),
    min_size=1,
    max_size=12,
    unique=True,
).map(lambda names: [name for name in names if name])


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def assert_harmless(name: str) -> None:
    assert name not in (".", "..")
    assert not set(name) & set('/\\:*?"<>|') | {char for char in name if ord(char) < 32 or ord(char) == 127}
    assert len(name.encode()) <= 255
    assert name.split(".", maxsplit=1)[0].strip().lower() not in RESERVED
    assert name == name.rstrip(". ")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """Set the names of the simulated quicklooks."""

    def call_them(chosen: list[str]) -> None:
        monkeypatch.setattr(account_module, "HOSTILE_NAMES", tuple(chosen))
        account_module._create_job.cache_clear()

    return call_them


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=NAMES)
async def test_run_with_any_names_completes(
    tmp_path_factory: pytest.TempPathFactory, names: Callable[[list[str]], None], drawn: list[str]
) -> None:
    if not drawn:
        return
    names(drawn)
    root = tmp_path_factory.mktemp("names")
    account = SimulatedAccount(projects=1, jobs=1, archive_bytes=2_000, hostile_names=True)
    async with run_environment(root / "out", account) as environment:
        record = await environment.run()
        expected = {
            output.name: output
            for output in environment.simulator.expected_outputs()
            if output.kind == Kind.QUICKLOOK
        }
        assert record.exit_code == 0
        assert set(drawn) <= set(expected)
        assert [path.name for path in root.iterdir()] == ["out"]
        (folder,) = (root / "out").rglob("quicklooks")
        files = files_of(folder)
        assert all(path.parent == folder for path in files)
        for path in files:
            assert_harmless(path.name)
        folded = {unicodedata.normalize("NFKC", path.name).casefold() for path in files}
        assert len(folded) == len(files) == len(expected)
        for name, filename in names_in_ledger(root / "out").items():
            assert (folder / filename).read_bytes() == expected[name].read()
        assert set(names_in_ledger(root / "out")) == set(expected)
        again = await environment.run()
        assert {request.endpoint for request in again.requests} == {"token", "jobs"}
        (folder / names_in_ledger(root / "out")[drawn[0]]).unlink()
        third = await environment.run()
        assert len(third.requests_to("quicklook")) == 1
        assert files_of(folder) == files
    account_module._create_job.cache_clear()


def names_in_ledger(root: Path) -> dict[str, str]:
    """Return the file name of each original name in the ledger."""
    connection = sqlite3.connect(root / ".bulkdl" / "ledger.sqlite3")
    try:
        rows = connection.execute("SELECT name, key FROM outputs WHERE kind = 'quicklook'").fetchall()
    finally:
        connection.close()
    return {name: Path(key).name for name, key in rows}


async def test_names_that_differ_only_by_case_or_unicode_form_get_separate_files(tmp_path: Path) -> None:
    account = SimulatedAccount(projects=1, jobs=1, archive_bytes=2_000, hostile_names=True)
    async with run_environment(tmp_path, account) as environment:
        record = await environment.run()
        assert record.exit_code == 0
        assert environment.has_complete_output()
        names = names_in_ledger(tmp_path)
        assert set(HOSTILE_NAMES) <= set(names)
        for one, other in (("Twin.jpg", "twin.JPG"), ("café.jpg", "cafe\u0301.jpg"), ("con", "con.jpg")):
            assert (
                unicodedata.normalize("NFC", names[one]).lower()
                != unicodedata.normalize("NFC", names[other]).lower()
            )
