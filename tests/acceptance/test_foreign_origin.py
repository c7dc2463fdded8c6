"""bulkdl as a black box against an origin that shares no code with the simulator."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "robustness"))
from origin import Fault, Origin, Thing, identity, png

STYLES = ("gcs", "etag", "date", "chunked")


@pytest.fixture
def origin() -> Iterator[Origin]:
    sizes = [300_000 + 150_000 * (number % 4) for number in range(16)]
    things = [Thing(number, size, STYLES[number % 4]) for number, size in enumerate(sizes)]
    with Origin(things, token_life_s=1.0, url_life_s=30) as ready:
        yield ready


def run(origin: Origin, root: Path) -> tuple[int, str]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bulkdl", "run", "-o", str(root), "--api-url", origin.api_url, "-q"),
            *("--speed-time", "1", "--rate", "0"),
        ],
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
        env={
            **os.environ,
            "UP42_PROJECT_ID": origin.project,
            "UP42_PROJECT_API_KEY": origin.key,
            "BULKDL_RETRY_BASE_S": "0.01",
            "BULKDL_RETRY_CAP_S": "0.05",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
    )
    return done.returncode, done.stderr + done.stdout


def assert_right(origin: Origin, root: Path) -> None:
    for number, thing in enumerate(origin.things):
        job = root / origin.project / identity(1, number)
        task = job / identity(2, number)
        assert (job / "final_output.tar.gz").read_bytes() == thing.body
        assert (task / "task_output.tar.gz").read_bytes() == thing.body
        assert (job / "job_output.json").read_bytes() == origin.geojson(number)
        assert (task / "quicklooks" / f"{number}.png").read_bytes() == png(number)
    assert list((root / ".bulkdl" / "parts").iterdir()) == []


def test_a_clean_pass_moves_each_byte_once_and_a_second_none(origin: Origin, tmp_path: Path) -> None:
    code, told = run(origin, tmp_path)
    assert code == 0, told
    assert_right(origin, tmp_path)
    assert origin.sent_bytes() == sum(len(thing.body) for thing in origin.things)
    assert not any("Authorization" in each.headers for each in origin.asked if each.server == "storage")
    origin.forget()
    code, told = run(origin, tmp_path)
    assert code == 0, told
    jobs = f"/projects/{origin.project}/jobs"
    assert {each.path for each in origin.asked} <= {"/oauth/token", jobs}
    assert origin.sent_bytes() == 0


def test_a_hostile_pass_ends_with_exit_0_and_the_right_bytes(origin: Origin, tmp_path: Path) -> None:
    dice = random.Random(5)
    storage: list[Fault] = [
        "cut",
        "cut:0.9",
        "stall:0.3",
        "503",
        "429:1",
        "expired",
        "xml",
        "drop",
        "changed",
    ]
    api: list[Fault] = ["503", "429:0", "drop", "xml"]
    deck = dice.sample(storage, len(storage))  # each of them once, then by chance
    drawn: dict[tuple[str, str, int], Fault | None] = {}

    def faults(server: str, path: str, count: int) -> Fault | None:
        if count > 3:
            return None
        place = (server, path, count)
        if place not in drawn and server == "storage" and deck:
            drawn[place] = deck.pop()
        elif place not in drawn:
            chance = 0.5 if server == "storage" else 0.1
            drawn[place] = (
                dice.choice(storage if server == "storage" else api) if dice.random() < chance else None
            )
        return drawn[place]

    origin.faults = faults
    code, told = run(origin, tmp_path)
    assert code == 0, told
    assert_right(origin, tmp_path)
    assert len({fault for fault in drawn.values() if fault}) >= 8
    origin.forget()
    origin.faults = lambda _server, _path, _count: None
    code, told = run(origin, tmp_path)
    assert code == 0, told
    assert origin.sent_bytes() == 0
