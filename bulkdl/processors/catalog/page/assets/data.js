// The entries of the catalogue: columns from this page, details from files next to it.
"use strict";

bulkdl.data = (() => {
  const { byId, make } = bulkdl.text;
  const WORLD = 2 ** 30; // width and height of the world in the units of `points` and `boxes`
  const UNITS_PER_DEGREE = 1e6;
  const NO_DATE = -(2 ** 31);
  const HAS_PICTURE = 1, HAS_JOB_DATE = 2, CROSSES = 4;
  const MAX_FILES_IN_MEMORY = 3;
  const MAX_ROWS_IN_MEMORY = 500;

  // Web Mercator, as the map of Leaflet. The poles are outside.
  function toWorldY(latitude) {
    const sine = Math.sin(Math.max(-85.0511, Math.min(85.0511, latitude)) * Math.PI / 180);
    return (0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI)) * WORLD;
  }
  const toWorldX = (longitude) => (longitude / 360 + 0.5) * WORLD;

  async function load() {
    const data = { ...JSON.parse(byId("meta").textContent), WORLD, NO_DATE, toWorldX, toWorldY };
    // What users call the owner of containers and a container, for each source.
    const words = { jobs: ["project", "job"], storage: ["workspace", "delivery"] };
    [data.scopeWord, data.containerWord] = (data.sources.length === 1 && words[data.sources[0]])
      || (data.sources.length ? ["scope", "container"] : words.jobs);
    const columns = await readColumns(data.sections);
    const titles = columns.titles;
    data.titles = { text: titles, start: findLines(titles, data.count) };
    data.containers = JSON.parse(columns.containers);
    for (const name of ["containerOf", "kindMask", "minute", "block", "state", "reason", "flags"]) {
      data[name] = columns[name];
    }
    data.title = (row) => titles.slice(data.titles.start[row], data.titles.start[row + 1] - 1);
    data.container = (row) => data.containers[data.containerOf[row]];
    data.hasPicture = (row) => (data.flags[row] & HAS_PICTURE) !== 0;
    data.hasJobDate = (row) => (data.flags[row] & HAS_JOB_DATE) !== 0;
    data.crosses = (row) => (data.flags[row] & CROSSES) !== 0;
    data.hasPlace = (row) => data.firstRing[row] < data.firstRing[row + 1];
    addFootprints(data, columns);
    return Object.assign(data, createDetails(data));
  }

  async function readColumns(sections) {
    const element = byId("columns");
    const packed = decodeBase64(element.textContent);
    element.remove(); // releases the text
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const buffer = await new Response(stream).arrayBuffer();
    const types = { i32: Int32Array, u16: Uint16Array, u8: Uint8Array };
    const columns = {};
    let start = 0;
    for (const [name, type, length] of sections) {
      // A copy: a view would keep the whole buffer in memory.
      const bytes = buffer.slice(start, start + length);
      columns[name] = type === "text" ? new TextDecoder().decode(bytes) : new types[type](bytes);
      start += length + (-length & 3);
    }
    return columns;
  }

  function decodeBase64(text) {
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let index = 0; index < bytes.length; index += 1) bytes[index] = binary.charCodeAt(index);
    return bytes;
  }

  function findLines(text, count) {
    const start = new Uint32Array(count + 1);
    for (let row = 0; row < count; row += 1) start[row + 1] = text.indexOf("\n", start[row]) + 1;
    return start;
  }

  // points: x and y of all rings. ringStart: the first point of each ring. firstRing: the first ring of each row.
  // boxes: west, north, east, south of each row; east is beyond the world if the footprint crosses the antimeridian.
  function addFootprints(data, columns) {
    const { coordinates, points: lengths, rings } = columns;
    const points = new Int32Array(coordinates.length);
    let longitude = 0, latitude = 0;
    for (let index = 0; index < points.length; index += 2) {
      longitude += coordinates[index];
      latitude += coordinates[index + 1];
      points[index] = Math.min(WORLD, (longitude / UNITS_PER_DEGREE / 360 + 0.5) * WORLD);
      points[index + 1] = toWorldY(latitude / UNITS_PER_DEGREE);
    }
    const ringStart = new Uint32Array(lengths.length + 1);
    for (let ring = 0; ring < lengths.length; ring += 1) ringStart[ring + 1] = ringStart[ring] + lengths[ring];
    const firstRing = new Uint32Array(data.count + 1);
    const boxes = new Int32Array(4 * data.count);
    for (let row = 0; row < data.count; row += 1) {
      firstRing[row + 1] = firstRing[row] + rings[row];
      const shift = data.crosses(row) ? WORLD : 0;
      let [west, north, east, south] = [2 ** 31 - 1, 2 ** 31 - 1, -1, -1];
      for (let point = ringStart[firstRing[row]]; point < ringStart[firstRing[row + 1]]; point += 1) {
        const x = points[2 * point] + (points[2 * point] < WORLD / 2 ? shift : 0), y = points[2 * point + 1];
        if (x < west) west = x;
        if (x > east) east = x;
        if (y < north) north = y;
        if (y > south) south = y;
      }
      boxes.set([west, north, east, south], 4 * row);
    }
    Object.assign(data, { points, ringStart, firstRing, boxes });
  }

  // A page from the disk must not read files, but it may execute scripts. So the details are scripts that call
  // `bulkdl.receiveDetails`.
  function createDetails(data) {
    // A file in memory takes some megabytes. A few files and the details that were used last stay.
    const files = new Map(), recent = new Map(), loading = new Map();

    const limit = (map, size) => { while (map.size > size) map.delete(map.keys().next().value); };

    bulkdl.receiveDetails = (stamp, number, details) => {
      if (stamp !== data.stamp) return;
      files.set(number, details);
      limit(files, MAX_FILES_IN_MEMORY);
    };

    function request(number) {
      if (loading.has(number)) return loading.get(number);
      const promise = new Promise((resolve) => {
        const script = make("script", { src: `./catalog/page/${String(number).padStart(4, "0")}.js` });
        script.onload = script.onerror = () => { script.remove(); loading.delete(number); resolve(); };
        document.head.append(script);
      });
      loading.set(number, promise);
      return promise;
    }

    // The details of a row if they are in memory, otherwise null.
    function detailsNow(row) {
      const found = recent.get(row)
        ?? files.get(Math.floor(row / data.detailsPerFile))?.[row % data.detailsPerFile] ?? null;
      if (!found) return null;
      recent.delete(row);
      recent.set(row, found);
      limit(recent, MAX_ROWS_IN_MEMORY);
      return found;
    }

    // The details of a row; null if their file is missing or belongs to another catalogue.
    async function details(row) {
      const now = detailsNow(row);
      if (now) return now;
      // The file can be released before this function continues. Then it is read again.
      for (let attempt = 0; attempt < 2; attempt += 1) {
        await request(Math.floor(row / data.detailsPerFile));
        const found = detailsNow(row);
        if (found) return found;
      }
      return null;
    }

    const pathOf = (detail, file) => (detail.base ? `${detail.base}/${file.path}` : file.path);
    const pictureOf = (detail) => {
      const file = (detail.files ?? []).find(({ role }) => role === "thumbnail" || role === "overview");
      return file ? pathOf(detail, file) : null;
    };
    return { details, detailsNow, pathOf, pictureOf };
  }

  return { load, findLines };
})();
