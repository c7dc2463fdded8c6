// The map: Leaflet moves it, and one canvas shows the world, the footprints and the pictures.
"use strict";

bulkdl.map = (() => {
  const DOT_PX = 4; // a smaller footprint is a dot
  const PICTURE_PX = 64; // a larger footprint shows its picture
  const MAX_PICTURES = 40;
  const CROWD = 4000; // with more footprints in view, only larger ones are drawn with their shape
  const MAX_SHAPES = 400;
  const FEW_DOTS = 600;
  const CROWD_DOT_PX = 9;
  const MAX_PER_CELL = 4; // footprints of one place that are drawn one over the other
  const FAILED = 1; // position in data.states
  const DRAW_ORDER = [2, 4, 3, 0, FAILED]; // failures on top
  const RINGS_PER_PATH = 24; // a path with many overlapping rings is slow
  const MERIDIANS = 180;
  const PICTURES_AFTER_MS = 150;

  function create(data, element, handlers) {
    const { WORLD, boxes, points, ringStart, firstRing } = data;
    const world = bulkdl.world.load(data);
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const map = L.map(element, {
      attributionControl: false, zoomControl: false, minZoom: 1, maxZoom: 18, zoomSnap: 0.5, zoomDelta: 1,
      wheelPxPerZoomLevel: 90, zoomAnimation: !isStill, fadeAnimation: false, inertia: !isStill,
      maxBounds: [[-86, -540], [86, 540]], maxBoundsViscosity: 1,
    });
    L.control.zoom({ position: "topright" }).addTo(map);
    L.control.scale({ position: "bottomleft", imperial: false, maxWidth: 140 }).addTo(map);

    const canvas = L.DomUtil.create("canvas", "leaflet-zoom-animated", map.getPane("overlayPane"));
    const context = canvas.getContext("2d", { alpha: false });
    const base = document.createElement("canvas"); // the map without highlights
    const baseContext = base.getContext("2d", { alpha: false });
    const backdrop = document.createElement("canvas"); // the world without footprints
    const backdropContext = backdrop.getContext("2d", { alpha: false });
    const pictures = createPictures(data, () => redraw());
    let rows = new Uint32Array(0), selected = -1, hovered = -1, showsPictures = true;
    let colours = {}, view = null, frame = 0, isBaseValid = false, pictureTimer = 0, cells = new Uint8Array(0);
    let drawnWorld = "", inView = new Uint32Array(0);

    function readColours() {
      const style = getComputedStyle(document.documentElement);
      const get = (name) => style.getPropertyValue(`--${name}`).trim();
      colours = {
        sea: get("sea"), land: get("land"), border: get("border"), graticule: get("graticule"),
        graticuleText: get("graticule-text"), label: get("map-label"), accent: get("accent"), halo: get("halo"),
        states: data.states.map((state) => get(state)),
      };
      drawnWorld = "";
    }

    function measure() {
      const size = map.getSize();
      const scale = 256 * 2 ** map.getZoom() / WORLD; // pixels for each unit
      const corner = map.getPixelBounds().min;
      const west = corner.x / scale, north = corner.y / scale;
      const shifts = [-2, -1, 0, 1, 2].map((turn) => turn * WORLD)
        .filter((shift) => shift < west + size.x / scale && shift + WORLD > west);
      return { data, scale, west, north, east: west + size.x / scale, south: north + size.y / scale,
        width: size.x, height: size.y, shifts };
    }

    function redraw() {
      isBaseValid = false;
      refresh();
    }

    function refresh() {
      if (!frame) frame = requestAnimationFrame(drawFrame);
    }

    function drawFrame() {
      frame = 0;
      if (!isBaseValid) {
        view = measure();
        L.DomUtil.setTransform(canvas, map.containerPointToLayerPoint([0, 0]), 1);
        canvas.corner = map.containerPointToLatLng([0, 0]);
        canvas.zoom = map.getZoom();
        resize();
        drawBase();
        isBaseValid = true;
      }
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.drawImage(base, 0, 0);
      const ratio = canvas.width / view.width;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      if (hovered >= 0 && hovered !== selected) drawHighlight(hovered, 2);
      if (selected >= 0) drawHighlight(selected, 3);
    }

    function resize() {
      const ratio = Math.min(2, devicePixelRatio || 1);
      const width = Math.round(view.width * ratio), height = Math.round(view.height * ratio);
      if (canvas.width === width && canvas.height === height) return;
      for (const each of [canvas, base, backdrop]) [each.width, each.height] = [width, height];
      canvas.style.width = `${view.width}px`;
      canvas.style.height = `${view.height}px`;
      drawnWorld = "";
    }

    // The outlines of the countries are most of the work of a frame. A filter does not change them.
    function drawWorld(ratio) {
      const position = [view.west, view.north, view.scale].join();
      if (drawnWorld !== position) {
        backdropContext.setTransform(ratio, 0, 0, ratio, 0, 0);
        bulkdl.world.draw(backdropContext, world, view, colours);
        drawnWorld = position;
      }
      baseContext.setTransform(1, 0, 0, 1, 0, 0);
      baseContext.drawImage(backdrop, 0, 0);
    }

    function drawBase() {
      const ratio = base.width / view.width;
      drawWorld(ratio);
      baseContext.setTransform(ratio, 0, 0, ratio, 0, 0);
      const visible = findVisible();
      if (showsPictures) drawPictures(visible);
      drawFootprints(visible);
    }

    // Writes the rows whose footprints are in view to `inView`. Counts them and those that are large enough for a shape.
    function collectInView() {
      const { west, north, east, south, scale, shifts } = view, isWide = shifts.length > 1 || shifts[0] !== 0;
      if (inView.length < rows.length) inView = new Uint32Array(rows.length);
      const minSize = CROWD_DOT_PX / scale;
      let count = 0, shapes = 0;
      for (let place = 0; place < rows.length; place += 1) {
        const row = rows[place], box = 4 * row, boxNorth = boxes[box + 1], boxEast = boxes[box + 2], boxSouth = boxes[box + 3];
        if (boxEast < 0 || boxNorth > south || boxSouth < north) continue;
        const boxWest = boxes[box];
        if (!isWide && (boxWest > east || boxEast < west)) continue;
        inView[count] = row;
        count += 1;
        if (boxEast - boxWest >= minSize || boxSouth - boxNorth >= minSize) shapes += 1;
      }
      return { count, shapes };
    }

    // Rows in view with the shift of their world: as dots, as areas, and as frames of pictures. The work for a frame
    // is bounded: each place of 2 pixels takes few footprints, and a crowd shows the shape of some of them only.
    function findVisible() {
      const columns = (view.width >> 1) + 1, lines = (view.height >> 1) + 1;
      if (cells.length !== columns * lines) cells = new Uint8Array(columns * lines); else cells.fill(0);
      const dots = data.states.map(() => []), areas = data.states.map(() => []), frames = data.states.map(() => []), large = [];
      const { scale, west, north, east, shifts, width, height } = view, states = data.state;
      const { count, shapes } = collectInView();
      const dotPx = count > CROWD ? CROWD_DOT_PX : DOT_PX;
      const share = shapes > MAX_SHAPES ? 2 ** Math.ceil(Math.log2(shapes / MAX_SHAPES)) - 1 : 0;
      for (let place = count - 1; place >= 0; place -= 1) {
        const row = inView[place], box = 4 * row;
        const boxWest = boxes[box], boxNorth = boxes[box + 1], boxEast = boxes[box + 2], boxSouth = boxes[box + 3];
        for (let turn = 0; turn < shifts.length; turn += 1) {
          const shift = shifts[turn];
          // A footprint across the antimeridian is in two worlds.
          const isBefore = boxEast > WORLD && boxEast - WORLD + shift >= west && boxWest - WORLD + shift <= east;
          if (!isBefore && (boxWest + shift > east || boxEast + shift < west)) continue;
          const x = ((boxWest + boxEast) / 2 + shift - (isBefore ? WORLD : 0) - west) * scale;
          const y = ((boxNorth + boxSouth) / 2 - north) * scale;
          const size = Math.max(boxEast - boxWest, boxSouth - boxNorth) * scale;
          const state = states[row], isSelected = row === selected;
          // Whether a footprint of a crowd keeps its shape depends on its number, so that it stays during a pan.
          const isDot = size < dotPx || (share > 0 && !isSelected && ((Math.imul(row, 0x9e3779b1) >>> 16) & share) !== 0);
          if (x >= 0 && y >= 0 && x < width && y < height) {
            const cell = (y >> 1) * columns + (x >> 1);
            // A failure is never left out in favour of other states.
            if (cells[cell] >= MAX_PER_CELL && state !== FAILED && !isSelected) continue;
            cells[cell] = Math.min(200, cells[cell] + (isDot ? MAX_PER_CELL : 1));
          } else if (isDot) {
            continue;
          }
          if (isDot) dots[state].push(x, y);
          else if (showsPictures && size > PICTURE_PX && pictures.get(row)) frames[state].push(row, shift);
          else areas[state].push(row, shift);
          if (size > PICTURE_PX && !isDot) large.push(row, shift, size);
        }
      }
      handlers.onCrowd(share > 0);
      return { dots, areas, frames, large };
    }

    function drawFootprints({ dots, areas, frames }) {
      const dotCount = dots.reduce((count, list) => count + list.length / 2, 0);
      for (const state of DRAW_ORDER) {
        baseContext.fillStyle = baseContext.strokeStyle = colours.states[state];
        baseContext.lineWidth = 1;
        drawAreas(areas[state], 0.16);
        drawAreas(frames[state], 0); // the picture stays visible
        if (dotCount < FEW_DOTS) drawCircles(dots[state]);
        // Many dots of one place hide each other: small red dots leave the others visible.
        else drawSquares(dots[state], state === FAILED && dotCount > CROWD ? 2 : 4);
      }
    }

    function drawCircles(dots) {
      baseContext.strokeStyle = colours.halo;
      for (let index = 0; index < dots.length; index += 2) {
        baseContext.beginPath();
        baseContext.arc(dots[index], dots[index + 1], 4.5, 0, 2 * Math.PI);
        baseContext.fill();
        baseContext.stroke();
      }
    }

    function drawSquares(dots, px) {
      for (let index = 0; index < dots.length; index += 2) {
        baseContext.fillRect(dots[index] - px / 2, dots[index + 1] - px / 2, px, px);
      }
    }

    function drawAreas(areas, opacity) {
      let path = new Path2D(), rings = 0;
      const flush = (rule) => {
        baseContext.globalAlpha = opacity;
        baseContext.fill(path, rule);
        baseContext.globalAlpha = 1;
        baseContext.stroke(path);
        baseContext.globalAlpha = 1;
        [path, rings] = [new Path2D(), 0];
      };
      for (let index = 0; index < areas.length; index += 2) {
        const row = areas[index], ringCount = firstRing[row + 1] - firstRing[row];
        if (ringCount > 1 && rings) flush("nonzero");
        addRings(path, row, areas[index + 1]);
        rings += ringCount;
        if (ringCount > 1) flush("evenodd"); // the rings can be holes
        else if (rings >= RINGS_PER_PATH) flush("nonzero");
      }
      if (rings) flush("nonzero");
    }

    function addRings(path, row, shift) {
      const { scale, west, north } = view;
      for (let ring = firstRing[row]; ring < firstRing[row + 1]; ring += 1) {
        for (let point = ringStart[ring]; point < ringStart[ring + 1]; point += 1) {
          const x = (points[2 * point] + shift - west) * scale, y = (points[2 * point + 1] - north) * scale;
          if (point === ringStart[ring]) path.moveTo(x, y); else path.lineTo(x, y);
        }
        path.closePath();
      }
    }

    function drawHighlight(row, width) {
      if (!data.hasPlace(row)) return;
      const box = 4 * row;
      for (const shift of view.shifts) {
        const x = ((boxes[box] + boxes[box + 2]) / 2 + shift - view.west) * view.scale;
        const y = ((boxes[box + 1] + boxes[box + 3]) / 2 - view.north) * view.scale;
        const size = Math.max(boxes[box + 2] - boxes[box], boxes[box + 3] - boxes[box + 1]) * view.scale;
        const path = new Path2D();
        if (size < 10) path.arc(x, y, 7, 0, 2 * Math.PI); else addRings(path, row, shift);
        context.strokeStyle = colours.halo;
        context.lineWidth = width + 3;
        context.stroke(path);
        context.strokeStyle = colours.accent;
        context.lineWidth = width;
        context.stroke(path);
      }
    }

    // UP42 does not say where the corners of a picture are. Over the bounds of the footprint it is approximately right.
    function drawPictures({ large }) {
      for (let index = 0; index < large.length; index += 3) {
        const picture = pictures.get(large[index]);
        if (!picture) continue;
        const box = 4 * large[index];
        const width = (boxes[box + 2] - boxes[box]) * view.scale, height = (boxes[box + 3] - boxes[box + 1]) * view.scale;
        const y = (boxes[box + 1] - view.north) * view.scale;
        const turns = data.crosses(large[index]) ? [0, -WORLD] : [0];
        for (const turn of turns) {
          const x = (boxes[box] + large[index + 1] + turn - view.west) * view.scale;
          if (x + width > 0 && x < view.width) baseContext.drawImage(picture, x, y, width, height);
        }
      }
      clearTimeout(pictureTimer);
      pictureTimer = setTimeout(() => requestPictures(large), PICTURES_AFTER_MS);
    }

    function requestPictures(large) {
      const bySize = [];
      for (let index = 0; index < large.length; index += 3) bySize.push([large[index + 2], large[index]]);
      bySize.sort((first, second) => second[0] - first[0]);
      const wanted = [];
      for (const [, row] of bySize) {
        if (wanted.length < MAX_PICTURES && data.hasPicture(row) && !wanted.includes(row)) wanted.push(row);
      }
      pictures.request(wanted);
    }

    // The rows at a position, the smallest footprint first.
    function findAt(point) {
      const x0 = point.x / view.scale + view.west, y = point.y / view.scale + view.north;
      const x = ((x0 % WORLD) + WORLD) % WORLD, reach = 4 / view.scale;
      const found = [];
      for (let place = 0; place < rows.length; place += 1) {
        const row = rows[place], box = 4 * row;
        if (boxes[box + 1] - reach > y || boxes[box + 3] + reach < y || boxes[box + 2] < 0) continue;
        for (const shift of boxes[box + 2] > WORLD ? [0, WORLD] : [0]) {
          if (boxes[box] - reach > x + shift || boxes[box + 2] + reach < x + shift) continue;
          const width = boxes[box + 2] - boxes[box], height = boxes[box + 3] - boxes[box + 1];
          const isDot = Math.max(width, height) * view.scale < 10;
          if (isDot || contains(row, x, y)) found.push([width * height, row]);
        }
      }
      return found.sort((first, second) => first[0] - second[0]).map(([, row]) => row);
    }

    function contains(row, x, y) {
      let isInside = false;
      for (let ring = firstRing[row]; ring < firstRing[row + 1]; ring += 1) {
        let last = ringStart[ring + 1] - 1;
        for (let point = ringStart[ring]; point < ringStart[ring + 1]; last = point, point += 1) {
          const y1 = points[2 * point + 1], y2 = points[2 * last + 1];
          if ((y1 > y) === (y2 > y)) continue;
          const x1 = points[2 * point], x2 = points[2 * last];
          if (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1) isInside = !isInside;
        }
      }
      return isInside;
    }

    function toBounds(west, north, east, south) {
      const unproject = (x, y) => map.unproject([x * 256 / WORLD, y * 256 / WORLD], 0);
      return L.latLngBounds(unproject(west, north), unproject(east, south));
    }

    // The east end of the widest area without footprints. From there the footprints need the least width, also if
    // they are on both sides of the antimeridian.
    function findStart(list) {
      const used = new Uint8Array(MERIDIANS), bin = WORLD / MERIDIANS;
      for (let index = 0; index < list.length; index += 1) {
        const box = 4 * list[index];
        if (boxes[box + 2] < 0) continue;
        const last = Math.floor(boxes[box + 2] / bin);
        for (let place = Math.floor(boxes[box] / bin); place <= last; place += 1) used[place % MERIDIANS] = 1;
      }
      let start = 0, widest = 0, width = 0;
      for (let place = 0; place < 2 * MERIDIANS; place += 1) {
        if (!used[place % MERIDIANS]) width += 1;
        else { if (width > widest) [widest, start] = [width, place % MERIDIANS]; width = 0; }
      }
      return start * bin;
    }

    function fit(list, options = {}) {
      const start = findStart(list);
      let [west, north, east, south] = [Infinity, Infinity, -Infinity, -Infinity];
      for (let index = 0; index < list.length; index += 1) {
        const box = 4 * list[index];
        if (boxes[box + 2] < 0) continue;
        const turn = boxes[box] < start ? WORLD : 0;
        west = Math.min(west, boxes[box] + turn);
        north = Math.min(north, boxes[box + 1]);
        east = Math.max(east, boxes[box + 2] + turn);
        south = Math.max(south, boxes[box + 3]);
      }
      if (east < 0) return false;
      map.fitBounds(toBounds(west, north, east, south), {
        paddingTopLeft: [40, 50], paddingBottomRight: [40 + handlers.coveredPx(), 40], maxZoom: 14, animate: false, ...options,
      });
      return true;
    }

    function showWorld() {
      map.setView([22, 8], Math.max(1, Math.floor(2 * Math.log2(Math.max(256, map.getSize().x) / 256)) / 2), { animate: false });
    }

    map.on("move resize viewreset", redraw);
    map.on("zoomanim", ({ center, zoom }) => {
      const offset = map._latLngToNewLayerPoint(canvas.corner, zoom, center);
      L.DomUtil.setTransform(canvas, offset, map.getZoomScale(zoom, canvas.zoom));
    });
    map.on("moveend", () => handlers.onView());
    map.on("click", ({ containerPoint }) => handlers.onClick(findAt(containerPoint)));
    let pointed = null;
    map.on("mousemove", ({ containerPoint }) => {
      if (!pointed) requestAnimationFrame(() => {
        const at = pointed;
        pointed = null;
        if (!view || !at) return;
        const found = findAt(at);
        element.classList.toggle("is-over", found.length > 0);
        handlers.onPoint(found, at);
      });
      pointed = containerPoint;
    });
    map.on("mouseout", () => { pointed = null; handlers.onPoint([], null); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); redraw(); });
    new ResizeObserver(() => map.invalidateSize({ animate: false })).observe(element);
    readColours();
    showWorld();

    return {
      leaflet: map,
      show(list) { rows = list; redraw(); },
      select(row) { selected = row; refresh(); },
      hover(row) { if (row !== hovered) { hovered = row; refresh(); } },
      showPictures(isOn) { showsPictures = isOn; redraw(); },
      view: () => measure(),
      drawNow() { isBaseValid = false; cancelAnimationFrame(frame); drawFrame(); },
      fit, findAt, showWorld,
    };
  }

  // Pictures of rows. The least recently requested ones are released.
  function createPictures(data, onLoad) {
    const images = new Map();
    const get = (row) => {
      const image = images.get(row);
      return image && image.complete && image.naturalWidth ? image : null;
    };

    async function request(rows) {
      for (const row of rows) {
        const known = images.get(row);
        if (known) {
          images.delete(row);
          images.set(row, known);
          continue;
        }
        images.set(row, null);
        const detail = await data.details(row);
        const path = detail && data.pictureOf(detail);
        if (!path) continue;
        const image = new Image();
        image.onload = onLoad;
        image.src = bulkdl.text.toUrl(path);
        images.set(row, image);
      }
      while (images.size > 2 * MAX_PICTURES) images.delete(images.keys().next().value);
    }

    return { get, request };
  }

  return { create };
})();
