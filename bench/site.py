"""
Generate an UP42 account for nginx. Job pages are files. Resources below a job are templates.

Job *n* has the ID ``<n as 8 hex digits>-0000-…``, and the IDs of its tasks are derived from it. A hundred
thousand jobs therefore need a thousand files. Signed URLs have the form of UP42 and refer to the same nginx.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c

from bench.nginx import goog_hashes

PROJECT = "b3c7a9d0-0000-4000-8000-00000000beac"
API_KEY = "BenchKey.0123456789abcdefghijklmnopqrstuvwxy"
TOKEN = "bench"  # noqa: S105 - the server accepts any token
PAGE = 100
_JOB = r"(?<job>[0-9a-f]{8})-0000-4000-8000-000000000000"
_TASK = r"[0-9a-f]{8}-000(?<task>[0-9])-4000-9000-000000000000"
_QUERY = "GoogleAccessId=bench@example.iam.gserviceaccount.com&Expires=4102444800&Signature=YmVuY2g%3D"
_TINY_PICTURE = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"
_FEATURES = '{"type":"FeatureCollection","features":[]}'


def job_id(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def task_id(number: int, task: int) -> str:
    return f"{number:08x}-000{task}-4000-9000-000000000000"


@dataclass(frozen=True, slots=True)
class Site:
    """
    Attributes:
        jobs: Number of jobs, all SUCCEEDED.
        tasks: Number of tasks per job, in a chain. The first is the data task.
        quicklooks: Number per data task.
        rate: nginx ``limit_rate`` for archives. Empty disables the limit.
    """

    root: Path
    jobs: int
    tasks: int = 1
    quicklooks: int = 0
    rate: str = ""

    @property
    def outputs(self) -> int:
        """Return the number of outputs: archives and GeoJSON of jobs and tasks, and quicklooks."""
        return self.jobs * (2 * (self.tasks + 1) + self.quicklooks)

    def write(self) -> None:
        """Write the pages, the lists and the default files."""
        for folder in ("pages", "lists", "archives", "quicklooks"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(0, self.jobs, PAGE):
            page = [self._job(at) for at in range(number, min(number + PAGE, self.jobs))]
            (self.root / f"pages/{number // PAGE}.json").write_text(_wrap_data(page))
        (self.root / "pages/end.json").write_text(_wrap_data([]))
        names = [quicklook_name(number) for number in range(self.quicklooks)]
        (self.root / "lists/0.json").write_text(_wrap_data(names))
        (self.root / "lists/none.json").write_text(_wrap_data([]))
        (self.root / "quicklooks/any.jpg").write_bytes(_TINY_PICTURE)
        (self.root / "archives/any.tgz").write_bytes(_tiny_archive())

    def archives(self) -> Iterator[tuple[str, Path]]:
        """Key (``<job>-<task>`` or ``default``) and file of each archive that is there."""
        for path in sorted((self.root / "archives").iterdir()):
            yield ("default" if path.stem == "any" else path.stem), path

    def maps(self) -> str:
        return goog_hashes({key: crc32c_of(path) for key, path in self.archives()})

    def locations(self) -> str:
        jobs, last = r"^/projects/[^/]+/jobs", self.tasks - 1
        owner = f"{jobs}/{_JOB}/tasks/{_TASK}"
        limit = f"limit_rate {self.rate};" if self.rate else ""
        grant = '{"access_token":"bench","token_type":"bearer","expires_in":86400}'
        return "\n".join(
            [
                _location("= /oauth/token", f"return 200 '{grant}';"),
                _matching(f"{jobs}$", "try_files /pages/$arg_page.json /pages/end.json;"),
                _matching(f"{jobs}/{_JOB}/tasks$", f"return 200 '{self._tasks()}';"),
                _matching(f"{jobs}/{_JOB}/downloads/results$", _signed(str(last))),
                _matching(f"{owner}/downloads/results$", _signed("$task")),
                _matching(f"{jobs}/{_JOB}/outputs/data-json$", f"return 200 '{_FEATURES}';"),
                _matching(f"{owner}/outputs/data-json$", f"return 200 '{_FEATURES}';"),
                _matching(f"{owner}/outputs/quicklooks$", "try_files /lists/$task.json /lists/none.json;"),
                _matching(
                    f"{owner}/outputs/quicklooks/(?<name>[^/]+)$",
                    "try_files /quicklooks/$job/$name /quicklooks/any.jpg;",
                ),
                _matching(
                    "^/bucket/(?<job>[0-9a-f]{8})/(?<task>[0-9])/output.tgz$",
                    f"add_header x-goog-hash $goog_hash; {limit}"
                    " try_files /archives/$job-$task.tgz /archives/any.tgz;",
                ),
            ]
        )

    def _job(self, number: int) -> dict[str, object]:
        day, second = divmod(number, 86_400)
        at = f"2021-{day // 28 % 12 + 1:02}-{day % 28 + 1:02}T"
        created = f"{at}{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.000Z"
        by = {"id": PROJECT, "type": "API_KEY"}
        return {
            "id": job_id(number),
            "displayId": f"{number:08x}",
            "createdAt": created,
            "updatedAt": created,
            "createdBy": by,
            "updatedBy": by,
            "status": "SUCCEEDED",
            "name": f"bench {number}",
            "startedAt": created,
            "finishedAt": created,
            "inputs": {"sentinel2:1": {"ids": None, "limit": 1, "time": "2021-01-01/2021-12-31"}},
            "mode": "DEFAULT",
            "workflowId": "b3c7a9d0-0000-4000-8000-00000000f10c",
            "workflowName": "bench",
        }

    def _tasks(self) -> str:
        tasks = [
            {
                "id": f"$job-000{task}-4000-9000-000000000000",
                "displayId": "$job",
                "name": f"block:{task + 1}",
                "status": "SUCCEEDED",
                "parentsIds": [f"$job-000{task - 1}-4000-9000-000000000000"] if task else [],
                "block": {"name": "block", "type": "PROCESSING" if task else "DATA"},
            }
            for task in range(self.tasks)
        ]
        return _wrap_data(tasks)


def quicklook_name(number: int) -> str:
    return f"{number:08x}-0000-4000-a000-000000000000.jpg"


def crc32c_of(path: Path) -> str:
    """Return the CRC32C in base64, as in ``x-goog-hash``."""
    checksum: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            checksum.update(block)
    return base64.b64encode(checksum.digest()).decode()


def _location(where: str, what: str) -> str:
    return f"location {where} {{ {what} }}"


def _matching(pattern: str, what: str) -> str:
    return _location(f'~ "{pattern}"', what)


def _signed(task: str) -> str:
    url = f"$scheme://$host:$server_port/bucket/$job/{task}/output.tgz?{_QUERY}"
    return f'return 200 \'{{"data":{{"url":"{url}"}},"error":null}}\';'


def _wrap_data(data: object) -> str:
    return json.dumps({"data": data, "error": None}, separators=(",", ":"))


def _tiny_archive() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        member = tarfile.TarInfo("output/data.json")
        member.size = len(_FEATURES)
        archive.addfile(member, io.BytesIO(_FEATURES.encode()))
    return gzip.compress(raw.getvalue(), mtime=0)
