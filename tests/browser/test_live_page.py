import os
import re
from pathlib import Path

from playwright.sync_api import Page, expect

from support.live_page import BrowserSession, LiveRun

HOSTILE = "<img src=x onerror=\"document.documentElement.dataset.pwned='img'\">.jpg"
TIMEOUT_MS = 30_000
SHOTS = Path(os.environ.get("BULKDL_SCREENSHOTS", "build/screenshots"))

ELEMENTS_OUTSIDE = """() => [...document.querySelectorAll("body *")]
  .filter(element => element.getBoundingClientRect().right > window.innerWidth)
  .map(element => element.outerHTML)"""

expect.set_options(timeout=TIMEOUT_MS)


def shoot(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def test_page_shows_the_progress_of_a_run(live_run: LiveRun, session: BrowserSession) -> None:
    page = session.page
    page.goto(live_run.url)

    expect(page.locator("#state")).to_have_text("downloading")
    expect(page.locator("#run")).to_have_text(re.compile(r"^run \d{8}T\d{6}Z-\w{6}$"))
    expect(page.locator("#overall")).to_have_text(re.compile(r"^\d{1,2} % of \d+ outputs$"))
    expect(page).to_have_title(re.compile(r"^\d{1,2} % of \d+ outputs · bulkdl$"))

    geojson = page.locator(".kind", has_text="geojson")
    expect(geojson.locator(".count b")).to_have_text(re.compile(r"^(\d+) / \1$"))
    expect(geojson.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
    archives = page.locator(".kind", has_text="archive").get_by_role("progressbar")
    expect(archives).to_have_attribute("aria-valuenow", re.compile(r"^\d{1,2}$"))

    transfers = page.locator(".transfer", has_text="archive")
    expect(transfers).to_have_count(4)
    expect(transfers.first.locator(".bytes")).to_have_text(re.compile(r"^[\d.]+ [KM]iB of [\d.]+ MiB$"))
    expect(page.locator("#retries")).to_have_text("1")

    shoot(page, "light")
    page.emulate_media(color_scheme="dark")
    shoot(page, "dark")
    page.set_viewport_size({"width": 400, "height": 900})
    shoot(page, "narrow")
    assert page.evaluate(ELEMENTS_OUTSIDE) == []


def test_page_updates_without_reload(live_run: LiveRun, session: BrowserSession) -> None:
    page = session.page
    page.goto(live_run.url)
    loaded = page.evaluate("performance.timeOrigin")
    first = page.locator(".transfer .bytes").first
    expect(first).to_contain_text(" of ")
    transfer, before, times = page.locator(".transfer").first.element_handle(), first.inner_text(), "#times"
    time_before = page.locator(times).inner_text()

    expect(first).not_to_have_text(before)
    expect(page.locator(times)).not_to_have_text(time_before)
    # The element is kept, so that the bar moves smoothly and selected text remains selected.
    assert transfer
    assert transfer.evaluate("row => row.isConnected")
    assert page.evaluate("performance.timeOrigin") == loaded


def test_failure_shows_reason_hint_and_a_hostile_name_as_text(
    live_run: LiveRun, session: BrowserSession
) -> None:
    page = session.page
    page.goto(live_run.url)
    failure = page.locator(".failure", has_text=HOSTILE).first
    expect(failure).to_be_visible()
    expect(failure.locator(".quicklook")).to_have_text(HOSTILE)
    expect(failure.locator(".reason")).to_have_text("rejected")
    expect(failure.locator(".detail")).to_contain_text("400")
    expect(failure.locator(".hint")).to_contain_text("the server rejected the request")
    expect(page.locator("#failed")).to_have_text(re.compile(r"^[1-9]\d*$"))
    expect(page.locator("main img, main script, main b[onclick]")).to_have_count(0)
    assert page.evaluate("document.documentElement.dataset.pwned") is None
    failure.scroll_into_view_if_needed()
    shoot(page, "failures")


def test_page_requests_only_its_origin_without_browser_errors(
    live_run: LiveRun, session: BrowserSession
) -> None:
    page = session.page
    page.goto(live_run.url)
    expect(page.locator(".transfer").first).to_be_visible()
    assert session.errors == []
    assert all(url.startswith((live_run.url, "data:")) for url in session.requested), session.requested


def test_policy_blocks_injected_scripts(live_run: LiveRun, session: BrowserSession) -> None:
    page = session.page
    page.goto(live_run.url)
    page.evaluate("name => document.querySelector('main').insertAdjacentHTML('beforeend', name)", HOSTILE)
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), { text: 'window.pwned = 1' }))"
    )
    expect(page.locator("main img")).to_have_count(1)
    assert page.evaluate("document.documentElement.dataset.pwned ?? window.pwned ?? null") is None
    assert any("Content Security Policy" in error for error in session.errors)


def test_page_after_the_end_of_the_run_keeps_the_last_data(
    live_run: LiveRun, session: BrowserSession
) -> None:
    page = session.page
    page.goto(live_run.url)
    expect(page.locator(".transfer")).to_have_count(4)
    assert live_run.end() == 143
    expect(page.locator("#state")).to_contain_text("no response since")
    expect(page.locator(".kind")).to_have_count(3)
    shoot(page, "ended")
