import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from support.catalog_pages import (
    HOSTILE_IMAGE,
    HOSTILE_SCRIPT,
    JOB,
    PICTURE_COLOUR,
    PROJECT,
    TASK,
    WrittenPage,
    create_box,
    create_container,
    create_entry,
    create_failed_entry,
    create_files,
    create_hostile_container,
    write_picture,
)
from support.live_page import BrowserSession
from support.page_entries import generate_containers, write_page

FOLDER = f"{PROJECT}/{JOB}/{TASK}"
OTHER_JOB = "44444444-0000-4000-8000-000000000000"
READY = re.compile("yes")
MAX_ELEMENTS = 60
SHOTS = Path(os.environ.get("BULKDL_SCREENSHOTS", "build/screenshots"))

# The colour of the map at the middle of the footprint of a row.
COLOUR_AT_FOOTPRINT = """row => {
  const { map, data } = bulkdl.page, view = map.view(), box = data.boxes.subarray(4 * row, 4 * row + 4);
  const canvas = document.querySelector("canvas"), ratio = canvas.width / view.width;
  const x = ((box[0] + box[2]) / 2 - view.west) * view.scale;
  const y = ((box[1] + box[3]) / 2 - view.north) * view.scale;
  return [...canvas.getContext("2d").getImageData(x * ratio, y * ratio, 1, 1).data].slice(0, 3);
}"""
POSITION_ON_SCREEN = """row => {
  const { map, data } = bulkdl.page, view = map.view(), box = data.boxes.subarray(4 * row, 4 * row + 4);
  const frame = document.getElementById("map").getBoundingClientRect();
  return [frame.left + ((box[0] + box[2]) / 2 - view.west) * view.scale,
          frame.top + ((box[1] + box[3]) / 2 - view.north) * view.scale];
}"""

Write = Callable[..., WrittenPage]


@pytest.fixture(scope="session")
def page_of_1000(tmp_path_factory: pytest.TempPathFactory) -> WrittenPage:
    containers = tuple(generate_containers(1_000))
    return WrittenPage(write_page(tmp_path_factory.mktemp("small") / "out", iter(containers)), containers)


@pytest.fixture(scope="session")
def page_of_100000(tmp_path_factory: pytest.TempPathFactory) -> WrittenPage:
    containers = tuple(generate_containers(100_000))
    return WrittenPage(write_page(tmp_path_factory.mktemp("large") / "out", iter(containers)), containers)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_containers(*containers: Any) -> WrittenPage:
        return WrittenPage(write_page(tmp_path / "out put #1", list(containers)), containers)

    return write_containers


@pytest.fixture
def small_page(write: Write) -> WrittenPage:
    """A page with two jobs, three states, two footprints that overlap, and one without a place."""
    files = create_files(FOLDER, "scene")
    written = write(
        create_container(
            create_entry("scene.tif", files=files, footprint=create_box(13, 52, 14, 53)),
            create_entry("older.tif", datetime="2019-01-02T03:04:00Z", footprint=create_box(12, 51, 15, 54)),
            create_failed_entry("broken.tif", footprint=create_box(-60, -35, -59, -34)),
        ),
        create_container(
            create_entry("island.tif", footprint=create_box(178, -18, -178, -16)),
            create_entry("table.csv", state="skipped", reason="not_available", footprint=None, datetime=None),
            id=OTHER_JOB,
            name="coast",
        ),
    )
    write_picture(written.index.parent / files[1].href)
    return written


def open_page(session: BrowserSession, written: WrittenPage, address: str = "") -> Page:
    page = session.page
    page.goto(written.url + address)
    expect(page.locator("html")).to_have_attribute("data-ready", READY)
    return page


def options_of(page: Page) -> Locator:
    return page.locator("#list [role=option]")


def count_of(page: Page) -> Locator:
    return page.locator("#count")


def check_accessibility(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    serious = [rule for rule in found if rule["impact"] in ("serious", "critical")]
    assert not serious, [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in serious]


def test_page_of_1000_outputs_shows_counts_rows_and_footprints(
    session: BrowserSession, page_of_1000: WrittenPage
) -> None:
    page = open_page(session, page_of_1000)
    failed = sum(entry.state == "failed" for entry in page_of_1000.entries)
    placeless = sum(entry.footprint is None for entry in page_of_1000.entries)
    expect(page.locator("#states .failed")).to_have_text(f"{failed} failed")
    expect(count_of(page)).to_have_text(f"1,000 outputs · {placeless} not on the map")
    expect(options_of(page).first).to_have_attribute("aria-setsize", "1000")
    colours = page.evaluate("""() => {
        const canvas = document.querySelector("canvas");
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let blue = 0, red = 0;
        for (let at = 0; at < pixels.length; at += 4) {
          if (pixels[at] === 47 && pixels[at + 1] === 111 && pixels[at + 2] === 237) blue += 1;
          if (pixels[at] === 207 && pixels[at + 1] === 47 && pixels[at + 2] === 65) red += 1;
        }
        return [blue > 100, red > 10];
    }""")
    assert colours == [True, True]
    assert [url for url in session.requested if not url.startswith(("file:", "data:"))] == []


def test_page_of_100000_outputs_filters_and_scrolls_with_few_elements(
    session: BrowserSession, page_of_100000: WrittenPage
) -> None:
    page = open_page(session, page_of_100000)
    expect(page.locator("#scopes")).to_have_text("10,000 jobs in 7 projects")
    page.locator("#text").fill("a1 MONITORING")
    expected = sum(
        "a1" in f"{entry.title}\n{container.id}\n{entry.block}\n{container.scope_id}"
        for container in page_of_100000.containers
        for entry in container.entries
    )
    expect(count_of(page)).to_have_text(re.compile(f"^{expected:,} of 100,000 outputs"))
    page.locator("#text").fill("")
    expect(count_of(page)).to_have_text(re.compile("^100,000 outputs"))
    page.locator("#sort").select_option("listed")
    page.locator("#list").press("End")
    last = page.locator("[role=option][aria-posinset='100000']")
    expect(last).to_be_visible()
    expect(last.locator(".title")).to_have_text(page_of_100000.entries[-1].title)
    assert options_of(page).count() <= MAX_ELEMENTS
    last.click()
    expect(page.locator("#card-title")).to_have_text(page_of_100000.entries[-1].title)
    assert [url for url in session.requested if not url.startswith(("file:", "data:"))] == []


def test_failures_are_one_click_away_with_reason_and_hint(
    session: BrowserSession, small_page: WrittenPage
) -> None:
    page = open_page(session, small_page)
    button = page.get_by_role("button", name="1 failed")
    red = button.evaluate("element => getComputedStyle(element).color")
    assert red == "rgb(207, 47, 65)"
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(count_of(page)).to_have_text("1 of 5 outputs")
    row = page.get_by_role("option", name="broken.tif")
    expect(row.locator(".badge")).to_have_text("checksum mismatch")
    row.click()
    card = page.locator("#card")
    expect(card.locator(".failure strong")).to_have_text("checksum mismatch")
    expect(card.locator(".cause")).to_have_text("expected crc32c=AAAAAA==, actual crc32c=BBBBBB==")
    expect(card.locator(".hint")).to_have_text("Next step: check the network and the proxy, then run again")


def test_container_that_could_not_be_listed_is_a_failure(session: BrowserSession, write: Write) -> None:
    written = write(create_container(failure="forbidden", failure_detail="HTTP 403"))
    page = open_page(session, written)
    expect(page.locator("#states .failed")).to_have_text("1 failed")
    options_of(page).first.click()
    expect(page.locator("#card .cause")).to_have_text("HTTP 403")
    expect(page.locator("#card .hint")).to_contain_text("grant these credentials access")


def test_card_shows_facts_links_and_a_path_that_exists(
    session: BrowserSession, small_page: WrittenPage
) -> None:
    page = open_page(session, small_page)
    page.get_by_role("option", name="scene.tif").click()
    card = page.locator("#card")
    expect(card.locator("dl").first).to_contain_text("Taken2020-04-28 09:30:00 UTC")
    expect(card.locator("dl").first).to_contain_text("100 × 80 pixels, 4 bands, uint16")
    expect(card.locator("dl").first).to_contain_text("EPSG:32633")
    expected = small_page.index.parent / FOLDER / "output/scene.tif"
    code = card.locator(".line code")
    expect(code.nth(0)).to_have_text(str(expected))
    expect(code.nth(1)).to_have_text(f'iface.addRasterLayer("{expected}")')
    expect(code.nth(2)).to_have_text(f'rasterio.open("{expected}")')
    links = [link.get_attribute("href") or "" for link in card.locator(".files a").all()]
    assert links[0] == f"./{FOLDER}/output/scene.tif"
    assert all(link.startswith("./") for link in links)
    picture = card.locator(".quicklook")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 8
    card.get_by_role("button", name="Copy Path").click()
    expect(card.get_by_role("button", name="Copy Path")).to_have_text("copied")
    expect(page.locator("#announce")).to_have_text("Path copied")


def test_card_names_the_member_of_an_archive_that_is_not_unpacked(
    session: BrowserSession, write: Write
) -> None:
    archive = f"{FOLDER}/task_output.tar.gz"
    entry = create_entry("scene.tif")
    files = create_files(FOLDER, "scene")[:1]
    packed = [type(files[0])("archive", "archive", archive, member="output/scene.tif")]
    written = write(create_container(type(entry)(**{**_fields(entry), "files": tuple(packed)})))
    page = open_page(session, written)
    options_of(page).first.click()
    path = f"/vsitar/{written.index.parent / archive}/output/scene.tif"
    expect(page.locator(".line code").first).to_have_text(path)


def _fields(entry: Any) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__dataclass_fields__}


def test_hostile_names_are_text_and_change_nothing(session: BrowserSession, write: Write) -> None:
    written = write(create_hostile_container())
    page = open_page(session, written)
    rows = options_of(page)
    expect(rows).to_have_count(2)
    for title in (HOSTILE_SCRIPT, HOSTILE_IMAGE):
        page.locator(".title", has_text=title).click()
        expect(page.locator("#card-title")).to_have_text(title)
        page.locator("#card details").evaluate_all("all => all.forEach(each => { each.open = true; })")
        links = page.locator("#card a").evaluate_all(
            "all => all.map(link => [link.getAttribute('href'), link.href])"
        )
        assert all(written_as.startswith("./") and url.startswith("file://") for written_as, url in links)
    page.locator("#job").click()
    expect(page.locator("#jobs")).to_be_visible()
    assert page.locator("[onerror], [onload], main script").count() == 0
    assert page.evaluate("document.documentElement.dataset.pwned ?? null") is None
    outside = [url for url in session.requested if not url.startswith(("file:", "data:"))]
    assert outside == []
    # A missing picture is the only message: its name is hostile, too.
    assert [text for text in session.errors if "ERR_FILE_NOT_FOUND" not in text] == []


def test_policy_blocks_other_hosts_and_injected_code(
    session: BrowserSession, small_page: WrittenPage
) -> None:
    page = open_page(session, small_page)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        blocked = page.evaluate(
            """async url => {
              const directives = [];
              document.addEventListener("securitypolicyviolation",
                event => directives.push(event.effectiveDirective));
              const attempt = (tag, values) => new Promise(resolve => {
                const element = Object.assign(document.createElement(tag), values);
                element.onload = element.onerror = resolve;
                document.body.append(element);
              });
              await fetch(url).catch(() => null);
              await attempt("img", { src: `${url}x.png` });
              await attempt("script", { src: `${url}x.js` });
              await attempt("link", { rel: "stylesheet", href: `${url}x.css` });
              const inline = Object.assign(document.createElement("script"), { text: "window.pwned = 1" });
              document.body.append(inline);
              document.body.insertAdjacentHTML("beforeend", "<img src=data:, onerror='window.pwned = 1'>");
              await new Promise(resolve => setTimeout(resolve));
              return [window.pwned ?? null, [...new Set(directives)].sort()];
            }""",
            url,
        )
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert blocked[0] is None
    assert {"connect-src", "img-src", "script-src-elem", "style-src-elem"} <= set(blocked[1])


def test_keyboard_alone_finds_and_opens_an_output(session: BrowserSession, small_page: WrittenPage) -> None:
    page = open_page(session, small_page)
    page.keyboard.press("/")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("tif")
    expect(count_of(page)).to_have_text("4 of 5 outputs")
    for _ in range(20):
        if page.evaluate("document.activeElement.id") == "list":
            break
        page.keyboard.press("Tab")
    box = page.locator("#list")
    expect(box).to_be_focused()
    page.keyboard.press("ArrowDown")
    active = box.get_attribute("aria-activedescendant")
    expect(page.locator(f"#{active}")).to_have_attribute("aria-posinset", "2")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.locator("#card-title")).to_be_focused()
    expect(page.locator("#card-title")).to_have_text(options_of(page).first.locator(".title").inner_text())
    page.keyboard.press("Escape")
    expect(page.locator("#card")).to_be_hidden()
    expect(box).to_be_focused()


def test_job_field_selects_a_job_with_the_keyboard(session: BrowserSession, small_page: WrittenPage) -> None:
    page = open_page(session, small_page)
    field = page.get_by_role("combobox", name="Job")
    field.focus()
    field.press_sequentially("coa")
    expect(page.locator("#jobs [role=option]")).to_have_count(1)
    field.press("ArrowDown")
    expect(field).to_have_attribute("aria-activedescendant", "job-0")
    field.press("Enter")
    expect(field).to_have_value("coast")
    expect(count_of(page)).to_have_text("2 of 5 outputs · 1 not on the map")
    assert page.url.endswith(f"#job={OTHER_JOB}")


def test_filters_combine_and_the_address_restores_them(
    session: BrowserSession, small_page: WrittenPage
) -> None:
    page = open_page(session, small_page)
    page.locator("#from").fill("2020-04-28")
    page.locator("#until").fill("2020-04-28")
    expect(count_of(page)).to_have_text("3 of 5 outputs")
    page.get_by_role("button", name="3 completed").click()
    expect(count_of(page)).to_have_text("2 of 5 outputs")
    page.reload()
    expect(page.get_by_role("button", name="3 completed")).to_have_attribute("aria-pressed", "true")
    expect(count_of(page)).to_have_text("2 of 5 outputs")
    page.get_by_role("button", name="reset").click()
    expect(count_of(page)).to_have_text("5 outputs · 1 not on the map")


def test_in_view_shows_only_outputs_of_the_visible_area(
    session: BrowserSession, small_page: WrittenPage
) -> None:
    page = open_page(session, small_page)
    page.evaluate("bulkdl.page.map.fit([3])")
    bounds = page.evaluate(
        "(({ _southWest: a, _northEast: b }) => [a.lng, b.lng])(bulkdl.page.map.leaflet.getBounds())"
    )
    # The footprint crosses the antimeridian, and the map shows both sides next to each other.
    assert bounds[1] - bounds[0] < 20
    page.get_by_label("in view").check()
    expect(count_of(page)).to_have_text("1 of 5 outputs")
    expect(options_of(page).first.locator(".title")).to_have_text("island.tif")
    page.evaluate("bulkdl.page.map.fit([0])")
    expect(count_of(page)).to_have_text("2 of 5 outputs")


def test_hover_and_click_couple_list_and_map(session: BrowserSession, small_page: WrittenPage) -> None:
    session.page.set_viewport_size({"width": 1600, "height": 900})  # the card must not cover the footprint
    page = open_page(session, small_page)
    page.evaluate("bulkdl.page.map.fit([0, 1])")
    page.evaluate("bulkdl.page.map.drawNow()")
    x, y = page.evaluate(POSITION_ON_SCREEN, 0)
    page.mouse.move(x - 3, y)
    page.mouse.move(x, y)
    expect(page.locator("#tip")).to_have_text("scene.tif and 1 more")
    expect(page.locator(".row.hovered .title")).to_have_text("scene.tif")
    page.mouse.click(x, y)
    expect(page.locator("#card-title")).to_have_text("scene.tif")
    expect(page.locator(".row[aria-selected=true] .title")).to_have_text("scene.tif")
    expect(page.locator(".places")).to_contain_text("1 of 2 at this position")
    x, y = page.evaluate(POSITION_ON_SCREEN, 0)
    page.mouse.click(x, y)
    expect(page.locator("#card-title")).to_have_text("older.tif")


def test_static_server_serves_the_page_and_the_map_shows_the_quicklook(
    session: BrowserSession, small_page: WrittenPage, static_server: Callable[[Path], str]
) -> None:
    origin = static_server(small_page.index.parent)
    page = session.page
    page.goto(f"{origin}/index.html")
    expect(page.locator("html")).to_have_attribute("data-ready", READY)
    page.locator("#states .completed").click()
    page.evaluate("bulkdl.page.map.leaflet.setView([52.5, 13.5], 4, { animate: false })")
    page.evaluate("bulkdl.page.map.drawNow()")
    assert not _is_close(page.evaluate(COLOUR_AT_FOOTPRINT, 0), PICTURE_COLOUR)
    page.evaluate("bulkdl.page.map.fit([0])")
    for _ in range(100):
        if _is_close(colour := page.evaluate(COLOUR_AT_FOOTPRINT, 0), PICTURE_COLOUR):
            break
        page.wait_for_timeout(50)
    assert _is_close(colour, PICTURE_COLOUR), colour
    page.get_by_label("quicklooks").uncheck()
    page.evaluate("bulkdl.page.map.drawNow()")
    assert not _is_close(page.evaluate(COLOUR_AT_FOOTPRINT, 0), PICTURE_COLOUR)
    assert all(url.startswith((origin, "data:")) for url in session.requested), session.requested
    assert [text for text in session.errors if "getImageData" not in text] == []


def _is_close(colour: list[int], expected: tuple[int, int, int]) -> bool:
    # Footprints are translucent and lie above the picture.
    return all(abs(found - wanted) < 110 for found, wanted in zip(colour, expected, strict=True))


@pytest.fixture
def static_server() -> Iterator[Callable[[Path], str]]:
    class QuietHandler(SimpleHTTPRequestHandler):
        def log_request(self, *arguments: object) -> None:
            pass

    servers: list[ThreadingHTTPServer] = []

    def serve(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_card_with_details_of_another_catalogue_asks_to_reload(
    session: BrowserSession, small_page: WrittenPage
) -> None:
    details = small_page.index.parent / "catalog/page/0000.js"
    details.write_text(re.sub(r'"[0-9a-f]{16}"', '"0123456789abcdef"', details.read_text(), count=1))
    page = open_page(session, small_page)
    page.get_by_role("option", name="scene.tif").click()
    expect(page.locator("#card .note")).to_contain_text("Reload the page")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_has_no_serious_accessibility_findings(
    session: BrowserSession, small_page: WrittenPage, scheme: str
) -> None:
    session.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page = open_page(session, small_page)
    check_accessibility(page)
    page.get_by_role("option", name="scene.tif").click()
    expect(page.locator("#card .line")).to_have_count(3)
    check_accessibility(page)
    page.get_by_role("button", name="1 failed").click()
    page.get_by_role("option", name="broken.tif").click()
    expect(page.locator("#card .cause")).to_be_visible()
    check_accessibility(page)
    page.locator("#job").click()
    page.locator("#job").press("ArrowDown")
    check_accessibility(page)


def test_dark_scheme_changes_the_page_and_the_map(session: BrowserSession, small_page: WrittenPage) -> None:
    page = open_page(session, small_page)
    corner = "() => [...document.querySelector('canvas').getContext('2d').getImageData(700, 30, 1, 1).data]"
    light = page.evaluate(corner)
    page.emulate_media(color_scheme="dark")
    page.evaluate("bulkdl.page.map.drawNow()")
    assert max(page.evaluate(corner)[:3]) < 80 < min(light[:3])
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 17, 22)"


def test_narrow_screen_has_no_element_outside(session: BrowserSession, small_page: WrittenPage) -> None:
    session.page.set_viewport_size({"width": 400, "height": 800})
    page = open_page(session, small_page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.get_by_role("option", name="scene.tif").click()
    expect(page.locator("#card-title")).to_be_visible()
