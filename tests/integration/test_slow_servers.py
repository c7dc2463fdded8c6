"""Test late headers and pauses in a body."""

import time

import pytest

from support.raw_origin import ENDPOINTS, RawOrigin

pytestmark = pytest.mark.usefixtures("virtual_clock")

IN_NO_TIME = {"speed_time": 0.2}
OUTPUTS = ("archive", "quicklook", "geojson")


@pytest.mark.parametrize("speed_limit", [0, 1024])
async def test_late_headers_are_accepted_after_the_speed_time(tmp_path, speed_limit):
    async with RawOrigin().serve() as origin:
        origin.pauses_s = dict.fromkeys(ENDPOINTS, (0.5, 0.0))
        code, _ = await origin.run(tmp_path, speed_limit=speed_limit, **IN_NO_TIME)
        assert code == 0
        assert [origin.count(place) for place in OUTPUTS] == [1, 1, 1]


async def test_paused_body_without_a_speed_limit_completes(tmp_path):
    async with RawOrigin().serve() as origin:
        origin.pauses_s = dict.fromkeys(ENDPOINTS, (0.0, 0.5))
        code, _ = await origin.run(tmp_path, speed_limit=0, **IN_NO_TIME)
        assert code == 0
        assert [origin.count(place) for place in OUTPUTS] == [1, 1, 1]


@pytest.mark.parametrize("place", OUTPUTS)
async def test_paused_body_with_a_speed_limit_stalls(tmp_path, place):
    async with RawOrigin().serve() as origin:
        origin.pauses_s = {place: (0.0, 30.0)}
        code, ends = await origin.run(tmp_path, retries=1, **IN_NO_TIME)
        assert (code, ends[place][1]) == (5, "stalled")
        assert "no data for 0.2 s" in ends[place][2] or "timed out" in ends[place][2]


@pytest.mark.parametrize("place", OUTPUTS)
async def test_missing_headers_stall_without_a_speed_limit(tmp_path, place):
    async with RawOrigin().serve() as origin:
        origin.pauses_s = {place: (30.0, 0.0)}
        code, ends = await origin.run(tmp_path, retries=1, speed_limit=0, headers_timeout=0.2)
        assert (code, ends[place][1]) == (5, "stalled")


async def test_endless_error_page_of_the_storage_is_not_read_completely(tmp_path):
    async with RawOrigin().serve() as origin:
        origin.changes = {"archive": lambda _: b"HTTP/1.1 503 -\r\nContent-Length: 100\r\n\r\n"}
        origin.pauses_s = {"archive": (0.0, 30.0)}
        started_s = time.monotonic()
        code, _ = await origin.run(tmp_path, retries=1, speed_limit=0, headers_timeout=0.2)
        assert code == 5
        assert time.monotonic() - started_s < 1
