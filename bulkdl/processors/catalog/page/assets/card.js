// The card: everything that is known about one output.
"use strict";

bulkdl.card = (() => {
  const {
    byId, make, formatBytes, formatMinute, formatTimestamp, formatDegrees, formatCount, plural, capital, spaced, toUrl, toPath, copy,
  } = bulkdl.text;
  const HIDDEN_ROLES = new Set(["thumbnail", "overview", "metadata"]);

  function create(data, handlers) {
    const root = byId("card"), body = byId("card-body");
    let shown = -1, here = [];

    async function open(row, rowsHere = []) {
      shown = row;
      here = rowsHere;
      root.hidden = false;
      const detail = await data.details(row);
      if (shown !== row) return;
      const content = detail ? describe(row, detail) : [
        heading(row),
        make("p", { class: "note" }, "The details of this output are not available. Reload the page: the catalogue may be newer."),
      ];
      body.replaceChildren(...content);
      body.scrollTop = 0;
    }

    function describe(row, detail) {
      return [
        heading(row), places(row), failure(row, detail), picture(detail), facts(row, detail), openWith(detail),
        fileList(row, detail), properties(detail), notes(detail),
      ].filter(Boolean);
    }

    function heading(row) {
      const state = data.states[data.state[row]];
      return make("div", { class: "card-head" },
        make("span", { class: `badge ${state}` }, state),
        make("h2", { id: "card-title", tabindex: "-1" }, data.title(row)));
    }

    function places(row) {
      if (here.length < 2) return null;
      const place = here.indexOf(row);
      const go = (step) => () => handlers.onOpen(here[(place + step + here.length) % here.length], here);
      return make("p", { class: "places" }, `${place + 1} of ${here.length} at this position `,
        make("button", { type: "button", onclick: go(-1), "aria-label": "Previous output at this position" }, "‹"),
        make("button", { type: "button", onclick: go(1), "aria-label": "Next output at this position" }, "›"));
    }

    function failure(row, detail) {
      const reason = data.reasons[data.reason[row]], state = data.states[data.state[row]];
      if (state === "completed" || !reason) return null;
      return make("div", { class: `failure ${state}` },
        make("strong", {}, spaced(reason)),
        detail.detail && make("p", { class: "cause" }, detail.detail),
        detail.hint && make("p", { class: "hint" }, `Next step: ${detail.hint}`));
    }

    function picture(detail) {
      const path = data.pictureOf(detail);
      if (!path) return null;
      const image = make("img", { src: toUrl(path), alt: "Quicklook of this output", class: "quicklook" });
      image.addEventListener("error", () => image.remove());
      return image;
    }

    function facts(row, detail) {
      const [scope, id, name, status] = data.container(row);
      const list = make("dl");
      const add = (term, ...values) => {
        const kept = values.filter((value) => value !== null && value !== undefined && value !== "");
        if (kept.length) list.append(make("dt", {}, term), make("dd", {}, ...kept));
      };
      addDates(add, row, detail);
      const files = detail.files ?? [];
      const raster = files.find((file) => file.raster)?.raster;
      if (raster) addRaster(add, raster, detail);
      const clouds = Number.parseFloat(detail.properties?.["eo:cloud_cover"]);
      if (Number.isFinite(clouds)) add("Clouds", `${clouds} %`);
      add("Platform", detail.properties?.platform ?? detail.properties?.constellation);
      if (detail.bbox) {
        const [west, south, east, north] = detail.bbox;
        const middle = west > east ? (west + east + 360) / 2 : (west + east) / 2;
        add("Place", formatDegrees(middle, (south + north) / 2), " ",
          make("button", { type: "button", class: "link", onclick: () => handlers.onZoom(row) }, "zoom to it"));
      } else {
        add("Place", "not known");
      }
      const [scopeId, scopeName] = data.scopes[scope];
      add(capital(data.scopeWord), scopeName || scopeId);
      add(capital(data.containerWord), name || id, status && ` (${spaced(status.toLowerCase())}) `,
        make("button", { type: "button", class: "link", onclick: () => handlers.onContainer(data.containerOf[row]) }, `show only this ${data.containerWord}`));
      if (name) add(`${capital(data.containerWord)} ID`, make("code", {}, id));
      if (detail.parent) add(data.containerWord === "job" ? "Task" : "Item", [detail.parent[1] || detail.block, detail.parent[0]].filter(Boolean).join(" · "));
      add("Outputs", (detail.outputs ?? []).map(([kind, outputName]) => (outputName ? `${kind} ${outputName}` : kind)).join(", "));
      return list;
    }

    function addDates(add, row, detail) {
      if (detail.dateSource === "job" || detail.dateSource === "delivery" || !detail.datetime) {
        const [start, end] = detail.span ?? [];
        const term = detail.dateSource && !["job", "delivery"].includes(detail.dateSource) ? "Taken" : data.containerWord === "job" ? "Job ran" : "Created";
        if (start) add(term, formatTimestamp(start), end && end !== start ? ` to ${formatTimestamp(end)}` : null);
        else if (data.minute[row] !== data.NO_DATE) add(term, formatMinute(data.minute[row]));
      } else {
        add("Taken", formatTimestamp(detail.datetime));
      }
    }

    function addRaster(add, raster, detail) {
      add("Raster", `${formatCount(raster.width)} × ${formatCount(raster.height)} pixels, `
        + `${plural(raster.bands, "band")}, ${raster.dtype}`);
      add("CRS", raster.epsg ? `EPSG:${raster.epsg}` : "not known");
      const gsd = Number.parseFloat(detail.properties?.gsd);
      if (raster.transform) {
        const step = Math.abs(raster.transform[0]);
        const isDegrees = raster.epsg === 4326;
        add("Pixel size", isDegrees ? `${step.toPrecision(4)}° (about ${(step * 111320).toPrecision(3)} m)` : `${step.toPrecision(4)} units of the CRS`);
      } else if (Number.isFinite(gsd)) {
        add("Resolution", `${gsd} m`);
      }
    }

    // The path that GDAL opens: the file itself, or a file inside an archive.
    function toGdalPath(detail) {
      const file = (detail.files ?? []).find(({ role }) => !HIDDEN_ROLES.has(role));
      if (!file) return null;
      const path = toPath(data.pathOf(detail, file));
      if (!file.member) return { path, file };
      const driver = /\.zip$/i.test(file.path) ? "/vsizip/" : "/vsitar/";
      return { path: `${driver}${path}/${file.member}`, file };
    }

    function openWith(detail) {
      const target = toGdalPath(detail);
      if (!target) return null;
      const isRaster = target.file.raster || /\.(tiff?|jp2|vrt|xml|nc|safe)$/i.test(target.path);
      const lines = [["Path", target.path]];
      if (isRaster) {
        // A JSON string is a valid string of Python.
        lines.push(["QGIS", `iface.addRasterLayer(${JSON.stringify(target.path)})`]);
        lines.push(["rasterio", `rasterio.open(${JSON.stringify(target.path)})`]);
      }
      return make("section", { class: "open-with", "aria-label": "Open with" },
        make("h3", {}, "Open with"),
        ...lines.map(([name, text]) => make("div", { class: "line" },
          make("span", { class: "line-name" }, name), make("code", { title: text }, text), copyButton(text, name))));
    }

    function copyButton(text, name) {
      const button = make("button", { type: "button", "aria-label": `Copy ${name}` }, "copy");
      button.addEventListener("click", async () => {
        await copy(text);
        button.textContent = "copied";
        byId("announce").textContent = `${name} copied`;
        setTimeout(() => { button.textContent = "copy"; }, 1500);
      });
      return button;
    }

    function fileList(row, detail) {
      const files = detail.files ?? [];
      if (!files.length) return null;
      const links = files.map((file) => make("li", {},
        make("a", { href: toUrl(data.pathOf(detail, file)), rel: "noopener" }, file.title || file.path.split("/").pop()),
        make("span", { class: "soft" }, [file.role, file.size === undefined ? "" : formatBytes(file.size),
          file.member ? `contains ${file.member}` : ""].filter(Boolean).join(" · "))));
      if (data.formats.includes("stac") && detail.id) {
        links.push(make("li", {}, make("a", { href: toUrl(`catalog/${data.container(row)[5]}/${detail.id}.json`) }, "STAC item"),
          make("span", { class: "soft" }, "metadata")));
      }
      return make("section", { "aria-label": "Files" }, make("h3", {}, "Files"), make("ul", { class: "files" }, ...links),
        detail.filesLeftOut ? make("p", { class: "soft" }, `and ${plural(detail.filesLeftOut, "further file")}`) : null);
    }

    function properties(detail) {
      const all = { ...detail.properties, ...detail.providerProperties };
      const names = Object.keys(all);
      if (!names.length) return null;
      const list = make("dl");
      for (const name of names) list.append(make("dt", {}, name), make("dd", {}, all[name]));
      return make("details", {}, make("summary", {}, plural(names.length, "property")),
        list, detail.arePropertiesCut ? make("p", { class: "soft" }, "Further properties are in the metadata file.") : null);
    }

    function notes(detail) {
      return detail.notes ? make("section", { "aria-label": "Notes" }, make("h3", {}, "Notes"),
        make("ul", { class: "notes" }, ...detail.notes.map((note) => make("li", {}, note)))) : null;
    }

    function close() {
      if (root.hidden) return;
      shown = -1;
      root.hidden = true;
      handlers.onClose();
    }

    byId("card-close").addEventListener("click", close);
    byId("card-next").addEventListener("click", () => handlers.onStep(shown, 1));
    byId("card-previous").addEventListener("click", () => handlers.onStep(shown, -1));
    return { open, close, row: () => shown, focus: () => byId("card-title")?.focus() };
  }

  return { create };
})();
