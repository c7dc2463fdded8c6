"""
Make the screenshots of docs/results.md: ``make screenshots`` runs the demo, then this script.

Usage: ``screenshots.py INDEX TARGET`` in the environment of the browser tests.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
WINDOW = {"width": 1280, "height": 800}
# Waits until the pictures of the list and of the map are drawn.
SETTLED_MS = 1500


def main(index: str, target: str) -> None:
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        page = browser.new_context(viewport=WINDOW, color_scheme="light").new_page()
        page.goto(Path(index).resolve().as_uri())
        expect(page.locator("html")).to_have_attribute("data-ready", "yes")
        _shoot(page, folder / "page-overview.png")
        page.locator("#states .completed").click()
        _open_pictured(page)
        _shoot(page, folder / "page-card.png")
        page.emulate_media(color_scheme="dark")
        page.locator("#card-close").click()
        page.locator("#states .completed").click()
        page.locator("#states .failed").click()
        page.locator("#list [role=option]").first.click()
        expect(page.locator("#card .failure")).to_be_visible()
        _shoot(page, folder / "page-failures-dark.png")
        browser.close()


def _open_pictured(page: Page) -> None:
    """Open the first output of the list that has a picture, with some space around its footprint."""
    page.wait_for_timeout(SETTLED_MS)
    page.locator("#list [role=option]:has(.thumb img[src])").first.click()
    expect(page.locator("#card .quicklook")).to_be_visible()
    page.evaluate("bulkdl.page.map.leaflet.setZoom(11.5, { animate: false })")


def _shoot(page: Page, path: Path) -> None:
    page.mouse.move(0, 0)  # nothing is highlighted
    page.wait_for_timeout(SETTLED_MS)
    page.screenshot(path=path)


if __name__ == "__main__":
    main(*sys.argv[1:])
