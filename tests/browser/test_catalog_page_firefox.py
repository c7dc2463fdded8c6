import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.catalog_pages import HOSTILE_IMAGE, HOSTILE_SCRIPT, create_hostile_container
from support.firefox import FirefoxPage, start_firefox
from support.page_entries import generate_containers, write_page

FIREFOX = os.environ.get("FIREFOX", "/usr/bin/firefox-esr")
READY = "document.documentElement.dataset.ready ?? null"
COUNT = "document.getElementById('count').textContent"
TITLES = "[...document.querySelectorAll('#list .row:not([hidden]) .title')].map(title => title.textContent)"
RESOURCES = "performance.getEntriesByType('resource').map(entry => entry.name)"


@pytest.fixture(scope="module")
def firefox() -> Iterator[FirefoxPage]:
    with start_firefox(FIREFOX) as page:
        yield page


def open_page(firefox: FirefoxPage, index: Path) -> None:
    firefox.open(index.as_uri())
    firefox.wait_for(READY, "yes")


@pytest.mark.parametrize("count", [1_000, 100_000])
def test_firefox_shows_filters_and_opens_outputs(firefox: FirefoxPage, tmp_path: Path, count: int) -> None:
    containers = list(generate_containers(count))
    entries = [entry for container in containers for entry in container.entries]
    open_page(firefox, write_page(tmp_path, containers))
    assert str(firefox.evaluate(COUNT)).startswith(f"{count:,} outputs")

    failed = sum(entry.state == "failed" for entry in entries)
    firefox.click("#states .failed")
    firefox.wait_for(f"{COUNT}.split(' outputs')[0]", f"{failed:,} of {count:,}")
    firefox.click("#list .row")
    firefox.wait_for("document.querySelector('#card .failure strong')?.textContent", "checksum mismatch")
    firefox.click("#card-close")
    firefox.click("#reset")

    wanted = next(entry for entry in entries if entry.files)
    firefox.type("#text", wanted.title)
    firefox.wait_for(TITLES, [wanted.title])
    firefox.type("#list", "\ue007")  # Enter
    path = str(tmp_path / wanted.files[0].href)
    firefox.wait_for("document.querySelector('#card .line code')?.textContent", path)

    assert all(name.startswith(("file:", "data:")) for name in firefox.evaluate(RESOURCES))
    assert firefox.requested == []


def test_firefox_shows_hostile_names_as_text(firefox: FirefoxPage, tmp_path: Path) -> None:
    open_page(firefox, write_page(tmp_path, [create_hostile_container()]))
    assert set(firefox.evaluate(TITLES)) == {HOSTILE_SCRIPT, HOSTILE_IMAGE}
    for place in (1, 2):
        firefox.click(f"#list .row:nth-child({place})")
        firefox.wait_for("document.querySelectorAll('#card-title').length", 1)
    assert firefox.evaluate("document.querySelectorAll('[onerror], main script').length") == 0
    assert firefox.evaluate("document.documentElement.dataset.pwned ?? null") is None
    assert firefox.requested == []


def test_firefox_blocks_requests_to_other_hosts(firefox: FirefoxPage, tmp_path: Path) -> None:
    open_page(firefox, write_page(tmp_path, list(generate_containers(10))))
    firefox.evaluate(
        """(() => {
          const image = document.createElement("img");
          image.onload = image.onerror = () => { document.body.dataset.image = image.naturalWidth; };
          image.src = "http://attacker.invalid/x.png";
          document.body.append(image);
          const hostile = "<img src=data:, onerror='document.body.dataset.pwned = 1'>";
          document.body.insertAdjacentHTML("beforeend", hostile);
        })()"""
    )
    firefox.wait_for("document.body.dataset.image ?? null", "0")
    assert firefox.evaluate("document.body.dataset.pwned ?? null") is None
    assert firefox.requested == []
