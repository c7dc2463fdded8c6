"""Check that the memory of the simulator does not grow while a large storage is listed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

STAC = "/v2/assets/stac"
COMMAND = [
    sys.executable,
    "-m",
    "bulkdl",
    "simulate",
    "--assets",
    "300000",
    "--items",
    "1",
    "--item-assets",
    "4",
]
MAX_GROWTH_KB = 8_000
PAGES_TO_WARM_UP, PAGES = 25, 60  # the caches of 1024 deliveries are full after the first pages


class Api:
    def __init__(self, line: Any) -> None:
        parts = urlsplit(line["api_url"])
        self.connection = HTTPConnection(str(parts.hostname), parts.port)
        form = urlencode({**line["account"], "grant_type": "password", "client_id": "up42-api"})
        self.headers: dict[str, str] = {}
        token = self.send("POST", "/realms/public/protocol/openid-connect/token", form)["access_token"]
        self.headers = {"Authorization": f"Bearer {token}"}

    def send(self, method: str, path: str, body: str | None = None) -> Any:
        self.connection.request(method, path, body, self.headers)
        response = self.connection.getresponse()
        data = response.read()
        assert response.status == 200, data
        return json.loads(data)

    def read_pages(self, count: int, start: str) -> str:
        """Read *count* pages of all lists. Return the token of the next page of the search."""
        body: dict[str, Any] = {"limit": 50, **({"token": start} if start else {})}
        href = f"{STAC}/collections?limit=50"
        for page in range(count):
            assert len(self.send("GET", f"/v2/assets?size=50&page={page}")["content"]) == 50
            collections = self.send("GET", href)
            links = {link["rel"]: link["href"] for link in collections["links"]}
            href = STAC + links["next"].partition(STAC)[2]
            items = self.send("POST", f"{STAC}/search", json.dumps(body))
            assert len(items["features"]) == 50
            body = next(link["body"] for link in items["links"] if link["rel"] == "next")
        return str(body["token"])


@contextmanager
def simulator() -> Iterator[tuple[Api, int]]:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            api = Api(json.loads(process.stdout.readline()))
            with closing(api.connection):
                yield api, process.pid
        finally:
            process.terminate()


def resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.slow
def test_simulator_memory_does_not_grow_with_the_listed_entries() -> None:
    with simulator() as (api, pid):
        token = api.read_pages(PAGES_TO_WARM_UP, "")
        before = resident_kb(pid)
        for _ in range(2):
            token = api.read_pages(PAGES, token)
        after = resident_kb(pid)
        assert after - before < MAX_GROWTH_KB
        assert before < 120_000
