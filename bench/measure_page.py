"""
Measure the page of a catalogue in Chromium; runs in the environment of the browser tests.

Usage: ``measure_page.py CHROMIUM INDEX``. The output is one JSON object with the figures of one load.
"""

import json
import sys
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
_READY_S = 60
_FRAMES = 40
# Moves the map once in each frame and returns the times between frames.
_PAN = """frames => new Promise(resolve => {
  const { leaflet } = bulkdl.page.map, times = [];
  let last = null;
  const step = now => {
    if (last !== null) times.push(now - last);
    last = now;
    if (times.length === frames) return resolve(times);
    leaflet.panBy([times.length % 20 < 10 ? 12 : -12, 4], { animate: false });
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})"""
# Changes one field and returns the time until its frame is drawn.
_FILTER = """async ([id, value]) => {
  const field = document.getElementById(id), start = performance.now();
  if (id === "text") field.value = value; else field.click();
  document.getElementById("sort").dispatchEvent(new Event("change"));
  await new Promise(requestAnimationFrame);
  return performance.now() - start;
}"""
_FILTERS = (("text", "monitoring 12"), ("text", "a1"), ("text", "e tif 2a"), ("text", ""), ("in-view", ""))


def main(chromium: str, index: str) -> None:
    requested: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_ARGUMENTS))
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.on("request", lambda request: requested.append(request.url))
        page.goto(Path(index).as_uri())
        figures = {"ready_ms": _wait_until_ready(page)}
        page.wait_for_timeout(500)
        pans: list[float] = []
        for zoom in (None, 4, 6, 8):
            if zoom:
                page.evaluate(
                    "zoom => bulkdl.page.map.leaflet.setView([48.9, 2.4], zoom, { animate: false })", zoom
                )
            pans += page.evaluate(_PAN, _FRAMES)
        figures["pan_ms"] = sorted(pans)[len(pans) // 2]
        figures["pan_p90_ms"] = sorted(pans)[len(pans) * 9 // 10]
        filters = [page.evaluate(_FILTER, list(change)) for change in _FILTERS for _ in range(3)]
        figures["filter_ms"] = sorted(filters)[len(filters) // 2]
        figures["filter_max_ms"] = max(filters)
        client = context.new_cdp_session(page)
        client.send("HeapProfiler.collectGarbage")
        usage = client.send("Runtime.getHeapUsage")
        figures["heap_bytes"] = usage["usedSize"] + usage.get("backingStorageSize", 0)
        figures["other_requests"] = sum(not url.startswith(("file:", "data:")) for url in requested)
        browser.close()
    sys.stdout.write(json.dumps(figures) + "\n")


def _wait_until_ready(page: Page) -> float:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        found: float | None = page.evaluate("performance.getEntriesByName('ready')[0]?.startTime ?? null")
        if found is not None:
            return found
        page.wait_for_timeout(20)
    raise TimeoutError("the page is not ready")


if __name__ == "__main__":
    main(*sys.argv[1:])
