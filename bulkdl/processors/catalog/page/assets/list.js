// The list: a few elements show any number of rows (virtual scrolling). Focus stays on the list, and
// aria-activedescendant names the active row.
"use strict";

bulkdl.list = (() => {
  const { byId, make, formatMinute, formatDay, spaced } = bulkdl.text;
  const ROW_PX = 68;
  const MAX_HEIGHT_PX = 8e6; // browsers limit the height of an element
  const SPARE_ROWS = 4;
  const DETAILS_AFTER_MS = 90;

  function create(data, handlers) {
    const box = byId("list"), inner = byId("list-rows");
    const pool = [];
    let rows = new Uint32Array(0), active = 0, selected = -1, hovered = -1, first = 0, timer = 0, frame = 0;

    const visibleCount = () => Math.ceil(box.clientHeight / ROW_PX) + 2 * SPARE_ROWS;
    const fullHeight = () => rows.length * ROW_PX;
    const height = () => Math.min(fullHeight(), MAX_HEIGHT_PX);
    // With many rows, a pixel of the scroll bar stands for more than a pixel of the list.
    const ratio = () => (fullHeight() > MAX_HEIGHT_PX
      ? (fullHeight() - box.clientHeight) / (MAX_HEIGHT_PX - box.clientHeight) : 1);

    function render() {
      frame = 0;
      const top = box.scrollTop * ratio();
      first = Math.max(0, Math.floor(top / ROW_PX) - SPARE_ROWS);
      const count = Math.min(visibleCount(), rows.length - first);
      while (pool.length < count) pool.push(createRow());
      pool.forEach((element, index) => {
        const place = first + index;
        element.root.hidden = index >= count;
        if (index >= count) return;
        element.root.style.transform = `translateY(${box.scrollTop + place * ROW_PX - top}px)`;
        fill(element, place);
      });
      const activeElement = pool.find((element) => !element.root.hidden && element.place === active);
      if (activeElement) box.setAttribute("aria-activedescendant", activeElement.root.id);
      else box.removeAttribute("aria-activedescendant");
      clearTimeout(timer);
      timer = setTimeout(showPictures, DETAILS_AFTER_MS);
    }

    function createRow() {
      const parts = {
        picture: make("img", { alt: "", loading: "lazy", decoding: "async" }),
        frame: make("span", { class: "thumb" }),
        title: make("span", { class: "title" }),
        where: make("span", { class: "where" }),
        when: make("span", { class: "when" }),
        state: make("span", { class: "badge" }),
      };
      parts.frame.append(parts.picture);
      parts.root = make("div", { role: "option", class: "row", id: `row-${pool.length}` },
        parts.frame, make("span", { class: "text" }, parts.title, parts.where, parts.when), parts.state);
      parts.picture.addEventListener("error", () => { parts.picture.hidden = true; });
      parts.root.addEventListener("click", () => { setActive(parts.place); handlers.onOpen(rows[parts.place]); });
      parts.root.addEventListener("mouseenter", () => handlers.onPoint(rows[parts.place]));
      parts.root.addEventListener("mouseleave", () => handlers.onPoint(-1));
      inner.append(parts.root);
      return parts;
    }

    function fill(element, place) {
      const row = rows[place];
      element.root.setAttribute("aria-posinset", place + 1);
      element.root.setAttribute("aria-setsize", rows.length);
      element.root.setAttribute("aria-selected", String(row === selected));
      element.root.classList.toggle("active", place === active);
      element.root.classList.toggle("hovered", row === hovered);
      element.place = place;
      if (element.row === row) return;
      element.row = row;
      const [scope, id, name] = data.container(row);
      const state = data.states[data.state[row]];
      element.title.textContent = data.title(row);
      element.where.textContent = [name || id, data.blocks[data.block[row]]].filter(Boolean).join(" · ");
      element.when.textContent = describeDate(row);
      element.state.textContent = state === "completed" ? "" : state === "failed" ? spaced(data.reasons[data.reason[row]]) : state;
      element.state.className = `badge ${state}`;
      element.root.title = data.scopes[scope].filter(Boolean).join(" · ");
      element.frame.className = `thumb ${state}`;
      element.picture.hidden = true;
      element.picture.removeAttribute("src");
      showPicture(element);
    }

    function describeDate(row) {
      const minute = data.minute[row];
      if (minute === data.NO_DATE) return "no date";
      return data.hasJobDate(row) ? `${data.containerWord} of ${formatDay(minute)}` : formatMinute(minute);
    }

    // The name of a picture is in the details. They are loaded after scrolling has stopped.
    async function showPictures() {
      for (const element of pool) {
        if (element.root.hidden || !data.hasPicture(element.row) || element.picture.src) continue;
        const row = element.row;
        await data.details(row);
        if (element.row === row) showPicture(element);
      }
    }

    function showPicture(element) {
      if (!data.hasPicture(element.row)) return;
      const detail = data.detailsNow(element.row), path = detail && data.pictureOf(detail);
      if (!path) return;
      element.picture.src = bulkdl.text.toUrl(path);
      element.picture.hidden = false;
    }

    function setActive(place) {
      active = Math.max(0, Math.min(rows.length - 1, place));
      scrollTo(active);
      render();
    }

    function scrollTo(place) {
      const top = box.scrollTop * ratio(), y = place * ROW_PX;
      if (y < top) box.scrollTop = y / ratio();
      else if (y + ROW_PX > top + box.clientHeight) box.scrollTop = (y + ROW_PX - box.clientHeight) / ratio();
    }

    const schedule = () => { frame ||= requestAnimationFrame(render); };

    function onKey(event) {
      const page = Math.max(1, Math.floor(box.clientHeight / ROW_PX) - 1);
      const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -rows.length, End: rows.length };
      if (event.key in steps) {
        setActive(active + steps[event.key]);
        handlers.onPoint(rows[active] ?? -1);
      } else if ((event.key === "Enter" || event.key === " ") && rows.length) {
        handlers.onOpen(rows[active]);
      } else {
        return;
      }
      event.preventDefault();
    }

    box.addEventListener("scroll", schedule, { passive: true });
    box.addEventListener("keydown", onKey);
    new ResizeObserver(schedule).observe(box);

    return {
      show(list) {
        const row = rows[active];
        rows = list;
        inner.style.height = `${height()}px`;
        active = Math.max(0, row === undefined ? 0 : rows.indexOf(row));
        if (active === 0) box.scrollTop = 0;
        byId("list-empty").hidden = rows.length > 0;
        render();
      },
      select(row, isScrolled = true) {
        selected = row;
        const place = rows.indexOf(row);
        if (place >= 0 && isScrolled) setActive(place); else render();
      },
      hover(row) { if (row !== hovered) { hovered = row; schedule(); } },
      // The next or the previous row of the list.
      neighbour(row, step) {
        const place = rows.indexOf(row);
        return place < 0 ? -1 : rows[place + step] ?? -1;
      },
      focus() { box.focus(); },
      rows: () => rows,
      renderNow: render,
    };
  }

  return { create };
})();
