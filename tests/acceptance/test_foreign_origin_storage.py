"""
Download the storage of an account from an origin that shares no code with the simulator.

The test prints the seed of the run with faults. ``ORIGIN_SEED`` repeats it with the same faults.
"""

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from robustness.origin import Fault, identity
from robustness.today_origin import BUCKET, REALM, STAC, StoredFile, TodayOrigin
from support.canaries import read_everything_below
from support.http_servers import CERTIFICATE, tls_server
from support.origin_runs import run_against

DELIVERIES, SCENES, SINGLES = 16, 2, 8
PAGE_ENTRIES = 7
STYLES = ("gcs", "etag", "date", "chunked")
# Each fault delays bytes or refuses them, so that no byte has to be sent twice.
OF_STORAGE: tuple[Fault, ...] = (
    "cut",
    "cut:0.9",
    "stall:0.3",
    "expire:0.6",
    "expired",
    "429:0",
    "429:1",
    "503",
    "drop",
)
OF_SIGNING: tuple[Fault, ...] = ("401", "429:0", "503", "xml", "drop")
OF_LISTS: tuple[Fault, ...] = ("401", "429:0", "503", "drop", "xml")
LISTS = ("/v2/assets", f"{STAC}/collections", f"{STAC}/search", "/v2/processing/jobs", "/v2/orders")
MOST_AT_ONE_PLACE = 3


def files() -> list[StoredFile]:
    """Return the files of deliveries with an original and scenes, and originals in no collection."""
    found = [StoredFile(0, 400_000, "gcs", name="single.tgz", delivery=None)]
    for delivery in range(DELIVERIES):
        style = STYLES[delivery % 4]
        found.append(StoredFile(len(found), 300_000, style, name="output.tgz", delivery=delivery))
        for scene in range(SCENES):
            for name, size in (("b01.tiff", 200_000), ("preview.png", 0), ("metadata.xml", 5_000)):
                more = {"name": name, "delivery": delivery, "scene": scene}
                found.append(StoredFile(len(found), size, style, **more))
    for _ in range(SINGLES - 1):
        found.append(StoredFile(len(found), 150_000, name="single.tgz", delivery=None))
    return found


def run(origin: TodayOrigin, root: Path, *flags: str, **env: str) -> tuple[int, str]:
    credentials = {"UP42_USERNAME": origin.username, "UP42_PASSWORD": origin.password}
    return run_against(origin.api_url, root, "--source", "storage", *flags, **{**credentials, **env})


def assert_right(origin: TodayOrigin, root: Path) -> None:
    for file in origin.files:
        if file.delivery is None:
            folder = root / origin.workspace / "assets" / file.asset_id
        else:
            folder = root / origin.workspace / identity(6, file.delivery)
        place = folder if file.scene is None else folder / f"scene-{file.scene}"
        assert (place / file.name).read_bytes() == file.body
        if file.scene is not None and origin.is_twin(file.delivery or 0):
            assert any(path.samefile(folder / "output.tgz") for path in place.iterdir())
    assert list((root / ".bulkdl" / "parts").iterdir()) == []


def assert_each_byte_was_sent_once(origin: TodayOrigin) -> None:
    for number, file in enumerate(origin.files):
        sent = [one for one in origin.requests if one.path == origin.path_of(number) and one.sent_bytes]
        ranges = sorted((one.begin, one.begin + one.sent_bytes) for one in sent if one.begin is not None)
        assert ranges[0][0] == 0
        assert [begin for begin, _ in ranges[1:]] == [end for _, end in ranges[:-1]], file.name
        assert ranges[-1][1] == len(file.body)


def assert_no_token_left_the_api(origin: TodayOrigin) -> None:
    assert not any("Authorization" in one.headers for one in origin.requests if one.server != "api")
    assert not any(one.server == "stranger" for one in origin.requests), "an href of another host"


def count_requests(origin: TodayOrigin) -> Counter[str]:
    """Return the number of requests by path. Objects and URLs count as one path."""
    names = {BUCKET: "object", "/download-url": "sign", "/items": "items"}
    return Counter(
        next((name for part, name in names.items() if part in one.path), one.path) for one in origin.requests
    )


def pages(entries: int) -> int:
    return 1 + max(0, -(-(entries - PAGE_ENTRIES) // (PAGE_ENTRIES - 1)))


def expected_list_requests() -> dict[str, int]:
    """Return the requests for the lists. Page 0 of numbered lists is read again at the end."""
    return {
        f"{REALM}/token": 1,
        "/v2/assets": pages(DELIVERIES + SINGLES) + 1,
        f"{STAC}/collections": pages(DELIVERIES),
        "/v2/orders": pages(DELIVERIES) + 1,
        "/v2/processing/jobs": 1,
    }


def hostile(origin: TodayOrigin, seed: int) -> Callable[[str, str, int], Fault | None]:
    """Plan each fault once for its own request, and the other faults at random from the seed."""
    dice = random.Random(seed)
    large = [number for number, file in enumerate(origin.files) if file.suffix in (".tgz", ".tiff")]
    objects = [origin.path_of(number) for number in large]
    signing = [f"/v2/assets/{origin.files[number].asset_id}/download-url" for number in large]
    sure = dict(zip(dice.sample(objects, len(OF_STORAGE)), OF_STORAGE, strict=True))
    sure |= dict(zip(dice.sample(signing, len(OF_SIGNING)), OF_SIGNING, strict=True))
    sure |= dict(zip(LISTS, OF_LISTS, strict=True))

    def faults(server: str, path: str, count: int) -> Fault | None:
        if count == 1 and path in sure:
            return sure[path]
        chance = random.Random(f"{seed} {path} {count}")
        if count > MOST_AT_ONE_PLACE or chance.random() > (0.4 if server == "storage" else 0.1):
            return None
        return chance.choice(OF_STORAGE if server == "storage" else OF_SIGNING[1:])

    return faults


def test_storage_run_against_the_foreign_origin_downloads_each_byte_once(tmp_path: Path) -> None:
    with TodayOrigin(files(), has_twins=True, token_lifetime_s=300.0) as origin:
        code, log = run(origin, tmp_path)
        assert code == 0, log
        assert_right(origin, tmp_path)
        assert_each_byte_was_sent_once(origin)
        assert_no_token_left_the_api(origin)
        counts = count_requests(origin)
        assert counts.pop(f"{STAC}/search") <= pages(DELIVERIES * SCENES) + 3
        # Twins in other deliveries are linked without a request.
        signed = {"sign": len(origin.files), "object": len(origin.files)}
        assert counts == {**expected_list_requests(), **signed}


def test_storage_rerun_against_the_foreign_origin_lists_and_signs_nothing_else(tmp_path: Path) -> None:
    with TodayOrigin(files(), has_twins=True) as origin:
        code, log = run(origin, tmp_path)
        assert code == 0, log
        origin.forget()
        code, log = run(origin, tmp_path)
        assert code == 0, log
        assert count_requests(origin) == expected_list_requests()
        # A run of one delivery lists nothing at all.
        origin.forget()
        code, log = run(origin, tmp_path, "--collection", identity(6, 3))
        assert code == 0, log
        assert {one.path for one in origin.requests} <= {f"{REALM}/token", *collection_paths(origin, 3)}
        assert count_requests(origin)["sign"] == 0


def test_storage_run_against_the_foreign_origin_with_all_faults_completes(tmp_path: Path) -> None:
    seed = int(os.environ.get("ORIGIN_SEED") or random.randrange(1_000_000))
    sys.stdout.write(f"ORIGIN_SEED={seed}\n")
    with TodayOrigin(files(), has_twins=True, token_lifetime_s=1.0, url_lifetime_s=2) as origin:
        origin.faults = hostile(origin, seed)
        code, log = run(origin, tmp_path)
        met = Counter(one.fault for one in origin.requests)
        assert code == 0, log
        assert_right(origin, tmp_path)
        assert_each_byte_was_sent_once(origin)
        assert_no_token_left_the_api(origin)
        assert set(OF_STORAGE + OF_SIGNING + OF_LISTS) <= set(met)
        assert sum(one.path == f"{REALM}/token" for one in origin.requests) > 1
        origin.forget()
        origin.faults = lambda _server, _path, _count: None
        code, log = run(origin, tmp_path)
        assert code == 0, log
        assert origin.sent_bytes() == 0
        assert count_requests(origin)["sign"] == 0


def test_storage_run_sends_the_token_to_the_api_only_and_never_without_tls(tmp_path: Path) -> None:
    """Links to the next page have the scheme http, and requests are redirected to a host without TLS."""
    redirected = f"/v2/assets/{files()[1].asset_id}/download-url"
    with TodayOrigin(files(), has_plain_links=True, tls=tls_server()) as origin:
        origin.faults = lambda _server, path, _count: (
            "redirect" if path in (redirected, "/v2/processing/jobs") else None
        )
        code, log = run(origin, tmp_path, "-vv", "--retries", "1", SSL_CERT_FILE=str(CERTIFICATE))
        assert code == 3, log
        done = json.loads(next((tmp_path / ".bulkdl" / "runs").iterdir()).read_text())
        assert done["outputs"]["completed"] == len(origin.files) - 1
        assert {one.path for one in origin.requests if one.server == "api"} >= set(LISTS)
        assert {one.server for one in origin.requests if "Authorization" in one.headers} == {"api"}
        assert not any(one.server.startswith("plain") for one in origin.requests)
        assert len(origin.issued) >= len(origin.files)
        written = log + read_everything_below(tmp_path)
        secrets = {*origin.issued, *map(unquote, origin.issued), origin.password}
        assert [secret for secret in secrets if secret in written] == []


def collection_paths(origin: TodayOrigin, delivery: int) -> set[str]:
    original = next(file for file in origin.files if file.delivery == delivery)
    own = f"{STAC}/collections/{identity(6, delivery)}"
    order = f"/v2/orders/{identity(7, delivery)}"
    return {own, f"{own}/items", f"{STAC}/search", f"/v2/assets/{original.asset_id}/metadata", order}
