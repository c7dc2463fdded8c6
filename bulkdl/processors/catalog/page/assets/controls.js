// The form: state buttons, fields, the list of jobs. The address stores the choice, so that a link opens it again.
"use strict";

bulkdl.controls = (() => {
  const { byId, make, formatCount } = bulkdl.text;
  const MAX_OPTIONS = 60;
  const FIELDS = ["text", "scope", "kind", "from", "until", "sort"];
  const TYPING_MS = 60;

  function create(data, onChange) {
    const form = byId("filters");
    const states = new Set();
    const jobs = createJobField(data, () => currentScope(), changed);
    let timer = 0;

    byId("scope-word").textContent = bulkdl.text.capital(data.scopeWord);
    byId("container-word").textContent = bulkdl.text.capital(data.containerWord);
    addOptions(byId("scope"), data.scopes.map(([id, name], index) => [name || id, index]));
    addOptions(byId("kind"), data.kinds.map((kind, index) => [kind, index]));
    for (const name of ["scope", "kind"]) byId(name).closest("label").hidden = byId(name).options.length < 3;
    const counts = countStates(data);
    for (const state of data.states) {
      if (counts[state]) byId("states").append(createStateButton(state, counts[state]));
    }

    function createStateButton(state, count) {
      return make("button", {
        type: "button", class: `state ${state}`, "data-state": state, "aria-pressed": "false",
        onclick: () => { if (!states.delete(state)) states.add(state); changed(); },
      }, make("b", {}, formatCount(count)), ` ${state}`);
    }

    function currentScope() { return Number(byId("scope").value); }

    function choice() {
      return {
        text: byId("text").value.trim(), scope: currentScope(), container: jobs.value(), kind: Number(byId("kind").value),
        from: byId("from").value, until: byId("until").value, sort: byId("sort").value, states,
        isInView: byId("in-view").checked,
      };
    }

    function changed() {
      for (const button of byId("states").children) {
        button.setAttribute("aria-pressed", String(states.has(button.dataset.state)));
      }
      writeAddress();
      onChange(choice());
    }

    function writeAddress() {
      const { container, isInView } = choice();
      const values = new URLSearchParams();
      for (const name of FIELDS) {
        if (byId(name).value && byId(name).value !== byId(name).dataset.initial) values.set(name, byId(name).value);
      }
      if (states.size) values.set("state", [...states].join(","));
      if (container >= 0) values.set("job", data.containers[container][1]);
      if (isInView) values.set("view", "1");
      history.replaceState(null, "", `${location.pathname}${location.search}${values.size ? `#${values}` : ""}`);
      byId("reset").hidden = values.size === 0;
    }

    function readAddress() {
      const values = new URLSearchParams(location.hash.slice(1));
      for (const name of FIELDS) if (values.has(name)) byId(name).value = values.get(name);
      for (const name of ["scope", "kind"]) if (byId(name).selectedIndex < 0) byId(name).value = "-1";
      if (byId("sort").selectedIndex < 0) byId("sort").value = "newest";
      states.clear();
      for (const state of (values.get("state") ?? "").split(",")) if (counts[state]) states.add(state);
      jobs.set(values.has("job") ? data.containers.findIndex(([, id]) => id === values.get("job")) : -1);
      byId("in-view").checked = values.has("view");
    }

    function reset() {
      form.reset();
      states.clear();
      jobs.set(-1);
      changed();
    }

    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(changed));
    for (const name of ["scope", "kind", "from", "until", "sort", "in-view"]) byId(name).addEventListener("change", () => {
      if (name === "scope" && jobs.value() >= 0 && currentScope() >= 0
        && data.containers[jobs.value()][0] !== currentScope()) jobs.set(-1);
      changed();
    });
    byId("text").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(changed, TYPING_MS);
    });
    byId("reset").addEventListener("click", reset);
    for (const name of FIELDS) byId(name).dataset.initial = byId(name).value;
    addEventListener("hashchange", () => { readAddress(); changed(); });

    return {
      start() { readAddress(); changed(); },
      choice,
      chooseContainer(index) { jobs.set(index); changed(); },
      toggleState(state) { if (!states.delete(state)) states.add(state); changed(); },
    };
  }

  function countStates(data) {
    const counts = new Uint32Array(data.states.length);
    for (let row = 0; row < data.count; row += 1) counts[data.state[row]] += 1;
    return Object.fromEntries(data.states.map((state, index) => [state, counts[index]]));
  }

  function addOptions(select, options) {
    select.append(...options.map(([label, value]) => make("option", { value: String(value) }, label)));
  }

  // A field with a list of suggestions: a list of all jobs would be too long for a menu.
  function createJobField(data, currentScope, onChange) {
    const field = byId("job"), list = byId("jobs");
    const texts = data.containers.map(([, id, name]) => `${name} ${id}`.toLowerCase());
    let chosen = -1, options = [], active = -1;

    const label = (index) => (index < 0 ? "" : data.containers[index][2] || data.containers[index][1]);

    function suggest() {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean), scope = currentScope();
      const isChosen = chosen >= 0 && field.value === label(chosen);
      options = [];
      for (let index = 0; index < texts.length && options.length < MAX_OPTIONS; index += 1) {
        if (scope >= 0 && data.containers[index][0] !== scope) continue;
        if (isChosen || words.every((word) => texts[index].includes(word))) options.push(index);
      }
      active = -1;
      list.replaceChildren(...options.map((index, place) => {
        const [, id, name, status, created] = data.containers[index];
        const option = make("li", { role: "option", id: `job-${place}`, "aria-selected": "false" },
          make("span", {}, name || id), make("span", { class: "soft" }, [created.slice(0, 10), bulkdl.text.spaced(status.toLowerCase()), id.slice(0, 8)].filter(Boolean).join(" · ")));
        option.addEventListener("mousedown", (event) => { event.preventDefault(); choose(index); });
        return option;
      }));
      show(options.length > 0);
    }

    function show(isOpen) {
      list.hidden = !isOpen;
      field.setAttribute("aria-expanded", String(isOpen));
      if (!isOpen) field.removeAttribute("aria-activedescendant");
    }

    function move(step) {
      if (list.hidden) suggest();
      if (!options.length) return;
      list.children[active]?.setAttribute("aria-selected", "false");
      active = (active + step + options.length + (active < 0 && step < 0 ? 1 : 0)) % options.length;
      list.children[active].setAttribute("aria-selected", "true");
      list.children[active].scrollIntoView({ block: "nearest" });
      field.setAttribute("aria-activedescendant", `job-${active}`);
    }

    function choose(index) {
      set(index);
      show(false);
      onChange();
    }

    function set(index) {
      chosen = index;
      field.value = label(index);
    }

    field.addEventListener("focus", () => field.select());
    field.addEventListener("click", suggest);
    field.addEventListener("input", () => {
      suggest();
      if (field.value === "" && chosen >= 0) { chosen = -1; onChange(); }
    });
    field.addEventListener("blur", () => { show(false); field.value = label(chosen); });
    field.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") move(1);
      else if (event.key === "ArrowUp") move(-1);
      else if (event.key === "Enter" && !list.hidden && options.length) choose(options[Math.max(0, active)]);
      else if (event.key === "Escape" && !list.hidden) { show(false); event.stopPropagation(); }
      else return;
      event.preventDefault();
    });
    return { value: () => chosen, set };
  }

  return { create };
})();
