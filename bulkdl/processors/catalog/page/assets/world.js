// The outlines of the countries, a graticule and labels. They are drawn without requests to a tile server.
"use strict";

bulkdl.world = (() => {
  const STEPS = [30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001]; // degrees
  const MIN_STEP_PX = 110;
  const PATH_UNITS = 4096; // width of the world in the units of paths, which have little precision
  const PATH_SCALE = PATH_UNITS / 2 ** 30;

  // Decodes the topology: arcs of differences, and countries as lists of arcs (the bits of an arc are inverted to
  // use it backwards).
  function load(data) {
    const topology = JSON.parse(bulkdl.text.byId("world").textContent);
    const { scale, translate } = topology.transform;
    const arcs = topology.arcs.map((arc) => {
      let [x, y] = [0, 0];
      return arc.map(([dx, dy]) => {
        [x, y] = [x + dx, y + dy];
        return [x * scale[0] + translate[0], y * scale[1] + translate[1]];
      });
    });
    const countries = topology.objects.countries.geometries.map((country) => {
      const polygons = country.type === "Polygon" ? [country.arcs] : country.arcs ?? [];
      const rings = polygons.flatMap((polygon) => polygon.map((indexes) => toRing(indexes, arcs, data)));
      return { name: country.properties.name, rings, label: placeLabel(rings) };
    });
    const land = new Path2D(), borders = new Path2D();
    for (const { rings } of countries) for (const ring of rings) addRing(ring, land, borders);
    return { land, borders, labels: countries.map(({ name, label }) => ({ name, ...label })) };
  }

  // The file cuts countries at the antimeridian. Here a ring continues beyond it, and the map draws the world several
  // times, so that neither a jump nor a seam is left. Positions are in PATH_UNITS.
  function toRing(indexes, arcs, data) {
    const ring = indexes.flatMap((index) => (index < 0 ? arcs[~index].slice().reverse() : arcs[index]));
    let turns = 0;
    const positions = ring.map(([longitude, latitude], index) => {
      const [lastLongitude, lastLatitude] = ring[Math.max(0, index - 1)];
      if (longitude - lastLongitude > 180) turns -= 1;
      if (lastLongitude - longitude > 180) turns += 1;
      // An edge on the antimeridian or at the south pole is a cut of the file, not a coast.
      const isCut = Math.min(Math.abs(longitude), Math.abs(lastLongitude)) > 179.9 || Math.max(latitude, lastLatitude) < -85;
      return { x: data.toWorldX(longitude + 360 * turns) * PATH_SCALE, y: data.toWorldY(latitude) * PATH_SCALE, isCut };
    });
    if (turns !== 0) {
      // Antarctica goes around the pole: it is closed below the map.
      const last = positions.at(-1), bottom = 2 * PATH_UNITS;
      positions.push({ x: last.x, y: bottom, isCut: true }, { x: positions[0].x, y: bottom, isCut: true });
    }
    return positions;
  }

  function addRing(ring, land, borders) {
    ring.forEach(({ x, y, isCut }, index) => {
      if (index === 0) land.moveTo(x, y); else land.lineTo(x, y);
      if (index === 0 || isCut) borders.moveTo(x, y); else borders.lineTo(x, y);
    });
    land.closePath();
  }

  // The middle of the largest ring and its width.
  function placeLabel(rings) {
    let label = { x: 0, y: 0, width: 0, size: 0 };
    for (const ring of rings) {
      const x = ring.map((position) => position.x), y = ring.map((position) => Math.min(PATH_UNITS, position.y));
      const [west, east, north, south] = [Math.min(...x), Math.max(...x), Math.min(...y), Math.max(...y)];
      const size = (east - west) * (south - north);
      if (size > label.size) label = { x: (west + east) / 2, y: (north + south) / 2, width: east - west, size };
    }
    return label;
  }

  // *view* converts a position of the world to pixels: (x - view.west) * view.scale. The paths are built once; a
  // transform puts them in their place.
  function draw(context, world, view, colours) {
    context.fillStyle = colours.sea;
    context.fillRect(0, 0, view.width, view.height);
    const scale = view.scale / PATH_SCALE;
    for (const shift of view.shifts) {
      context.save();
      context.translate((shift - view.west) * view.scale, -view.north * view.scale);
      context.scale(scale, scale);
      context.fillStyle = colours.land;
      context.fill(world.land);
      context.strokeStyle = colours.border;
      context.lineWidth = 0.8 / scale;
      context.stroke(world.borders);
      context.restore();
    }
    drawGraticule(context, view, colours);
    drawLabels(context, world.labels, view, colours);
  }

  function drawGraticule(context, view, colours) {
    const { WORLD, toWorldX, toWorldY } = view.data;
    const pxPerDegree = WORLD / 360 * view.scale;
    const step = STEPS.findLast((degrees) => degrees * pxPerDegree >= MIN_STEP_PX) ?? STEPS[0];
    const digits = Math.max(0, Math.ceil(-Math.log10(step)));
    const west = (view.west / WORLD - 0.5) * 360, east = west + view.width / pxPerDegree;
    context.strokeStyle = colours.graticule;
    context.fillStyle = colours.graticuleText;
    context.lineWidth = 0.6;
    context.font = "10.5px system-ui, sans-serif";
    context.beginPath();
    for (let place = Math.ceil(west / step); place * step <= east; place += 1) {
      const x = Math.round((toWorldX(place * step) - view.west) * view.scale) + 0.5;
      context.moveTo(x, 0);
      context.lineTo(x, view.height);
      const degrees = ((place * step + 540) % 360) - 180;
      const label = `${Math.abs(degrees).toFixed(digits)}°${degrees < 0 ? "W" : degrees > 0 ? "E" : ""}`;
      context.fillText(label, x + 4, view.height - 6);
    }
    for (let place = Math.ceil(-85 / step); place * step <= 85; place += 1) {
      const y = Math.round((toWorldY(place * step) - view.north) * view.scale) + 0.5;
      if (y < 0 || y > view.height) continue;
      context.moveTo(0, y);
      context.lineTo(view.width, y);
      const label = `${Math.abs(place * step).toFixed(digits)}°${place < 0 ? "S" : place > 0 ? "N" : ""}`;
      if (y < view.height - 50) context.fillText(label, view.width - context.measureText(label).width - 6, y - 4);
    }
    context.stroke();
  }

  function drawLabels(context, labels, view, colours) {
    const scale = view.scale / PATH_SCALE;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colours.label;
    context.textAlign = "center";
    const taken = [];
    for (const shift of view.shifts) {
      for (const label of labels) {
        const width = label.width * scale;
        if (width < 60) continue;
        const x = (shift - view.west) * view.scale + label.x * scale, y = label.y * scale - view.north * view.scale;
        if (x < 0 || y < 0 || x > view.width || y > view.height) continue;
        const half = context.measureText(label.name).width / 2 + 6;
        if (2 * half > width || taken.some((other) => Math.abs(other.y - y) < 14 && Math.abs(other.x - x) < other.half + half)) continue;
        taken.push({ x, y, half });
        context.fillText(label.name, x, y);
      }
    }
    context.textAlign = "start";
  }

  return { load, draw };
})();
