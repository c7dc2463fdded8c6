// Elements, numbers, dates and paths. All text of a server reaches the page through `make`, which sets it as text.
"use strict";

const bulkdl = {};

bulkdl.text = (() => {
  const byId = (id) => document.getElementById(id);

  // Creates an element. Strings among the children become text nodes, so that no name is read as HTML.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "class") element.className = value;
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  }

  const formatCount = (number) => number.toLocaleString("en");
  const pluralOf = (noun) => (noun.endsWith("y") ? `${noun.slice(0, -1)}ies` : `${noun}s`);
  const plural = (number, noun) => `${formatCount(number)} ${number === 1 ? noun : pluralOf(noun)}`;
  const capital = (noun) => noun[0].toUpperCase() + noun.slice(1);

  function formatBytes(number) {
    // As bulkdl/units.py: multiples of 1024.
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = 0;
    while (number >= 1000 && unit < units.length - 1) { number /= 1024; unit += 1; }
    return `${number.toFixed(unit === 0 ? 0 : 1)} ${units[unit]}`;
  }

  // Minutes since 1970 as a date and a time in UTC. Acquisition times are compared across time zones.
  const formatDay = (minute) => new Date(minute * 60000).toISOString().slice(0, 10);
  const formatMinute = (minute) => `${new Date(minute * 60000).toISOString().slice(0, 16).replace("T", " ")} UTC`;
  const formatTimestamp = (text) => text.replace("T", " ").replace(/(:\d\d)\.\d+/, "$1").replace(/Z$/, " UTC");

  function formatDegrees(longitude, latitude) {
    const wrapped = ((longitude + 540) % 360) - 180;
    const east = `${Math.abs(wrapped).toFixed(4)}° ${wrapped < 0 ? "W" : "E"}`;
    return `${Math.abs(latitude).toFixed(4)}° ${latitude < 0 ? "S" : "N"}, ${east}`;
  }

  const spaced = (name) => name.replaceAll("_", " ");

  // The URL of a file below the output directory. It always starts with ./, so that a name cannot be a URL of its own.
  const toUrl = (path) => `./${path.split("/").map(encodeURIComponent).join("/")}`;

  // The path to copy: absolute if the page was opened from the disk, otherwise relative to the page.
  function toPath(path) {
    if (location.protocol !== "file:") return path;
    const folder = decodeURIComponent(location.pathname.slice(0, location.pathname.lastIndexOf("/") + 1));
    return `${/^\/[A-Za-z]:\//.test(folder) ? folder.slice(1) : folder}${path}`;
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Browsers have no clipboard for pages of a server without TLS.
      const area = make("textarea", { class: "offscreen", "aria-hidden": "true" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  }

  return {
    byId, make, formatCount, plural, pluralOf, capital, formatBytes, formatDay, formatMinute, formatTimestamp, formatDegrees, spaced,
    toUrl, toPath, copy,
  };
})();
