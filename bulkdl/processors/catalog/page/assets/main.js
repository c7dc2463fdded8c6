// Connects list, map, card and form.
"use strict";

(async () => {
  const { byId, make, formatCount, plural, formatTimestamp, toUrl } = bulkdl.text;
  if (typeof DecompressionStream === "undefined") {
    byId("loading").textContent = "This browser is too old for this page. Open catalog/outputs.gpkg in QGIS instead.";
    return;
  }
  const data = await bulkdl.data.load();
  const filter = bulkdl.filter.create(data);
  let isFitted = false, choice = null;

  const list = bulkdl.list.create(data, {
    onOpen: (row) => open(row, [], true),
    onPoint: (row) => map.hover(row),
  });
  const map = bulkdl.map.create(data, byId("map"), {
    onView: () => { if (choice?.isInView) apply(); },
    onClick: (rows) => { if (rows.length) open(nextOf(rows), rows); else card.close(); },
    onPoint: point,
    onCrowd: (isCrowded) => { byId("crowd").hidden = !isCrowded; },
    // The card covers the right side of the map, unless the screen is narrow.
    coveredPx: () => (byId("card").hidden || byId("card").offsetWidth > byId("map").offsetWidth / 2 ? 0 : byId("card").offsetWidth),
  });
  const card = bulkdl.card.create(data, {
    onOpen: (row, here) => open(row, here),
    onClose: () => { map.select(-1); list.select(-1); list.focus(); },
    onStep: (row, step) => {
      const next = list.neighbour(row, step);
      if (next >= 0) open(next, [], true);
    },
    onZoom: (row) => map.fit([row]),
    onContainer: (index) => { controls.chooseContainer(index); map.fit(list.rows()); },
  });
  const controls = bulkdl.controls.create(data, (next) => {
    const isSameView = choice && choice.isInView === next.isInView;
    choice = next;
    apply();
    if (!isFitted || (isSameView && !choice.isInView)) isFitted = map.fit(list.rows()) || isFitted;
  });

  function apply() {
    const rows = filter.select(choice, choice.isInView ? map.view() : null);
    list.show(rows);
    map.show(rows);
    let placed = 0;
    for (let place = 0; place < rows.length; place += 1) placed += data.boxes[4 * rows[place] + 2] >= 0 ? 1 : 0;
    const missing = rows.length - placed;
    byId("count").textContent = `${rows.length === data.count ? plural(data.count, "output")
      : `${formatCount(rows.length)} of ${plural(data.count, "output")}`}${missing ? ` · ${formatCount(missing)} not on the map` : ""}`;
  }

  async function open(row, here, isFromList = false) {
    map.select(row);
    list.select(row);
    await card.open(row, here);
    if (isFromList) {
      showOnMap(row);
      card.focus();
    }
  }

  // Moves the map only if the footprint is not in view or too small to see.
  function showOnMap(row) {
    if (!data.hasPlace(row)) return;
    const view = map.view(), [west, north, east, south] = data.boxes.subarray(4 * row, 4 * row + 4);
    const isInside = west >= view.west && east <= view.east && north >= view.north && south <= view.south;
    if (!isInside || (east - west) * view.scale < 24) map.fit([row], { maxZoom: 11 });
  }

  // A further click at the same position opens the next footprint below.
  const nextOf = (rows) => rows[(rows.indexOf(card.row()) + 1) % rows.length];

  function point(rows, at) {
    const tip = byId("tip");
    map.hover(rows[0] ?? -1);
    list.hover(rows[0] ?? -1);
    tip.hidden = rows.length === 0;
    if (tip.hidden) return;
    tip.textContent = `${data.title(rows[0])}${rows.length > 1 ? ` and ${formatCount(rows.length - 1)} more` : ""}`;
    tip.style.transform = `translate(${Math.round(at.x + 14)}px, ${Math.round(at.y + 16)}px)`;
  }

  function showHeader() {
    const link = (path, label) => make("a", { href: toUrl(path) }, label);
    const formats = [["gpkg", "catalog/outputs.gpkg", "GeoPackage"], ["stac", "catalog/catalog.json", "STAC"],
      ["parquet", "catalog/items.parquet", "GeoParquet"]].filter(([name]) => data.formats.includes(name));
    byId("formats").append(...formats.flatMap(([, path, label]) => [link(path, label), " "]));
    byId("written").textContent = `as of ${formatTimestamp(data.writtenAt)}`;
    byId("running").hidden = !data.running;
    byId("version").textContent = data.version;
    byId("scopes").textContent = `${plural(data.containers.length, data.containerWord)} in ${plural(data.scopes.length, data.scopeWord)}`;
    document.title = `${plural(data.count, "output")} · bulkdl`;
  }

  byId("pictures").addEventListener("change", (event) => map.showPictures(event.target.checked));
  byId("fit").addEventListener("click", () => map.fit(list.rows()) || map.showWorld());
  document.addEventListener("keydown", (event) => {
    const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
    if (event.key === "Escape") card.close();
    else if (event.key === "/" && !isTyping) { byId("text").focus(); event.preventDefault(); }
  });

  showHeader();
  controls.start();
  byId("loading").remove();
  bulkdl.page = { data, list, map, card, controls, apply };
  map.drawNow();
  performance.mark("ready");
  document.documentElement.dataset.ready = "yes";
})().catch((error) => {
  bulkdl.text.byId("loading").textContent = `The page cannot be shown: ${error}`;
  throw error;
});
