"""
Run bulkdl against an origin that shares no code with the simulator.

The test prints the seed of the run with faults. ``ORIGIN_SEED`` repeats it with the same faults.
"""

import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from robustness.origin import Fault, Origin, identity
from robustness.stored_objects import StoredArchive, png
from support.origin_runs import run_against

STYLES = ("gcs", "etag", "date", "chunked")
OF_STORAGE: tuple[Fault, ...] = (
    "cut",
    "cut:0.9",
    "stall:0.3",
    "expire:0.6",
    "expired",
    "changed",
    "429:1",
    "503",
    "xml",
    "drop",
)
OF_API: tuple[Fault, ...] = ("401", "429:0", "503", "xml", "drop")
OF_API_AGAIN = OF_API[1:]  # a 401 to a new token means a wrong key
MOST_AT_ONE_PLACE = 3


def objects() -> list[StoredArchive]:
    sizes = [300_000 + 150_000 * (number % 4) for number in range(16)]
    return [StoredArchive(number, size, STYLES[number % 4]) for number, size in enumerate(sizes)]


def run(origin: Origin, root: Path) -> tuple[int, str]:
    credentials = {"UP42_PROJECT_ID": origin.project, "UP42_PROJECT_API_KEY": origin.key}
    return run_against(origin.api_url, root, **credentials)


def assert_right(origin: Origin, root: Path) -> None:
    for number, thing in enumerate(origin.objects):
        job = root / origin.project / identity(1, number)
        task = job / identity(2, number)
        assert (job / "final_output.tar.gz").read_bytes() == thing.body
        assert (task / "task_output.tar.gz").read_bytes() == thing.body
        assert (job / "job_output.json").read_bytes() == origin.geojson(number)
        assert (task / "quicklooks" / f"{number}.png").read_bytes() == png(number)
    assert list((root / ".bulkdl" / "parts").iterdir()) == []


def assert_no_token_at_the_storage(origin: Origin) -> None:
    assert not any(
        "Authorization" in request.headers for request in origin.requests if request.server == "storage"
    )


def hostile(origin: Origin, seed: int) -> Callable[[str, str, int], Fault | None]:
    """Plan each fault once for its own request, and the other faults at random from the seed."""
    dice = random.Random(seed)
    archives = [f"/bucket/{number}/output.tgz" for number in range(len(origin.objects))]
    jobs = [f"/projects/{origin.project}/jobs/{identity(1, number)}" for number in range(len(origin.objects))]
    sure = dict(zip(dice.sample(archives, len(OF_STORAGE)), OF_STORAGE, strict=True))
    sure |= dict(zip((f"{job}/tasks" for job in dice.sample(jobs, len(OF_API))), OF_API, strict=True))

    def faults(server: str, path: str, count: int) -> Fault | None:
        if count == 1 and path in sure:
            return sure[path]
        chance = random.Random(f"{seed} {path} {count}")
        if count > MOST_AT_ONE_PLACE or chance.random() > (0.5 if server == "storage" else 0.1):
            return None
        return chance.choice(OF_STORAGE if server == "storage" else OF_API_AGAIN)

    return faults


def test_run_against_the_foreign_origin_downloads_each_byte_once(tmp_path: Path) -> None:
    with Origin(objects(), token_lifetime_s=1.0) as origin:
        code, log = run(origin, tmp_path)
        assert code == 0, log
        assert_right(origin, tmp_path)
        assert origin.sent_bytes() == sum(len(thing.body) for thing in origin.objects)
        assert_no_token_at_the_storage(origin)
        origin.forget()
        code, log = run(origin, tmp_path)
        assert code == 0, log
        jobs = f"/projects/{origin.project}/jobs"
        assert {request.path for request in origin.requests} <= {"/oauth/token", jobs}
        assert origin.sent_bytes() == 0


def test_run_against_the_foreign_origin_with_all_faults_completes(tmp_path: Path) -> None:
    seed = int(os.environ.get("ORIGIN_SEED") or random.randrange(1_000_000))
    sys.stdout.write(f"ORIGIN_SEED={seed}\n")
    with Origin(objects(), token_lifetime_s=1.0, url_lifetime_s=2) as origin:
        origin.faults = hostile(origin, seed)
        code, log = run(origin, tmp_path)
        met = Counter(request.fault for request in origin.requests)
        assert code == 0, log
        assert_right(origin, tmp_path)
        assert_no_token_at_the_storage(origin)
        assert set(OF_STORAGE + OF_API) <= set(met)
        assert sum(request.path == "/oauth/token" for request in origin.requests) > 1
        origin.forget()
        origin.faults = lambda _server, _path, _count: None
        code, log = run(origin, tmp_path)
        assert code == 0, log
        assert origin.sent_bytes() == 0
