// Selects the rows to show. All work is one pass over the columns.
"use strict";

bulkdl.filter = (() => {
  const MINUTES_PER_DAY = 1440;
  const ROWS_BITS = 2 ** 21;
  const MAX_WORDS_IN_MEMORY = 16;

  function create(data) {
    const titles = data.titles.text.toLowerCase();
    // Lower case changes the length of a few characters, but not the number of lines.
    const isAligned = titles.length === data.titles.text.length;
    const start = isAligned ? data.titles.start : bulkdl.data.findLines(titles, data.count);
    const containerTexts = data.containers.map(([scope, id, name]) =>
      [name, id, ...data.scopes[scope]].filter(Boolean).join(" ").toLowerCase());
    const blockTexts = data.blocks.map((block) => block.toLowerCase());
    const reasonTexts = data.reasons.map((reason) => bulkdl.text.spaced(reason).toLowerCase());
    const orders = new Map(), words = new Map();

    // The rows with *word* as bytes of 1. The other words of a text are not searched again while one of them is typed.
    function findWord(word) {
      const found = words.get(word) ?? searchWord(word);
      words.delete(word);
      words.set(word, found);
      if (words.size > MAX_WORDS_IN_MEMORY) words.delete(words.keys().next().value);
      return found;
    }

    // The titles are searched in one run, not row by row.
    function searchWord(word) {
      const found = new Uint8Array(data.count);
      const [containers, blocks, reasons] = [containerTexts, blockTexts, reasonTexts].map((texts) =>
        Uint8Array.from(texts, (text) => (text.includes(word) ? 1 : 0)));
      for (let row = 0; row < data.count; row += 1) {
        found[row] = containers[data.containerOf[row]] | blocks[data.block[row]] | reasons[data.reason[row]];
      }
      let row = 0;
      for (let at = titles.indexOf(word); at >= 0; at = titles.indexOf(word, start[row + 1])) {
        while (start[row + 1] <= at) row += 1;
        found[row] = 1;
        if (row + 1 >= data.count) break;
      }
      return found;
    }

    // The rows with all words as bytes of 1; null without words.
    function findText(text) {
      const [first, ...others] = text.toLowerCase().split(/\s+/).filter(Boolean);
      if (!first) return null;
      if (!others.length) return findWord(first);
      const found = findWord(first).slice();
      for (const other of others.map(findWord)) for (let row = 0; row < data.count; row += 1) found[row] &= other[row];
      return found;
    }

    // All rows in the wanted order. Rows without a date are last.
    function orderBy(sort) {
      if (!orders.has(sort)) orders.set(sort, computeOrder(sort));
      return orders.get(sort);
    }

    function computeOrder(sort) {
      const rows = new Uint32Array(data.count);
      // One number has the date and the row, because an array of numbers sorts without a function.
      const keys = new Float64Array(data.count);
      const sign = { newest: -1, oldest: 1, listed: 0 }[sort];
      for (let row = 0; row < data.count; row += 1) {
        const isLast = sign !== 0 && data.minute[row] === data.NO_DATE;
        keys[row] = (isLast ? 2 ** 30 : sign * data.minute[row]) * ROWS_BITS + row;
      }
      keys.sort();
      for (let place = 0; place < data.count; place += 1) {
        rows[place] = keys[place] - Math.floor(keys[place] / ROWS_BITS) * ROWS_BITS;
      }
      return rows;
    }

    // *choice* is the content of the form, *view* the area of the map or null.
    function select(choice, view) {
      const matches = findText(choice.text);
      const states = Uint8Array.from(data.states, (state) => (choice.states.size === 0 || choice.states.has(state) ? 1 : 0));
      const containers = Uint8Array.from(data.containers, ([scope], index) =>
        ((choice.scope < 0 || scope === choice.scope) && (choice.container < 0 || index === choice.container) ? 1 : 0));
      const kinds = choice.kind < 0 ? -1 : 1 << choice.kind;
      const from = choice.from ? Date.parse(choice.from) / 60000 : -Infinity;
      const until = choice.until ? Date.parse(choice.until) / 60000 + MINUTES_PER_DAY : Infinity;
      const needsDate = Boolean(choice.from || choice.until);
      const shifts = view ? findShifts(view) : [];
      const order = orderBy(choice.sort);
      const rows = new Uint32Array(data.count);
      let count = 0;
      for (let place = 0; place < order.length; place += 1) {
        const row = order[place];
        if (matches && !matches[row]) continue;
        if (!states[data.state[row]] || !containers[data.containerOf[row]]) continue;
        if (choice.kind >= 0 && (data.kindMask[row] & kinds) === 0) continue;
        const minute = data.minute[row];
        if (needsDate && (minute === data.NO_DATE || minute < from || minute >= until)) continue;
        if (view && !isInView(row, view, shifts)) continue;
        rows[count] = row;
        count += 1;
      }
      return rows.slice(0, count);
    }

    // The map shows the world several times. A footprint begins in the world, and ends in it or in the next one.
    function findShifts({ west, east }) {
      const { WORLD } = data;
      return [-2, -1, 0, 1, 2].map((turn) => turn * WORLD).filter((shift) => shift <= east && 2 * WORLD + shift >= west);
    }

    function isInView(row, view, shifts) {
      const { boxes } = data;
      const box = 4 * row, west = boxes[box], east = boxes[box + 2];
      if (east < 0 || boxes[box + 1] > view.south || boxes[box + 3] < view.north) return false;
      for (let turn = 0; turn < shifts.length; turn += 1) {
        if (west + shifts[turn] <= view.east && east + shifts[turn] >= view.west) return true;
      }
      return false;
    }

    return { select };
  }

  return { create };
})();
