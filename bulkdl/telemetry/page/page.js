// Requests the state of the run once a second and shows it. Names come from the server: they are set as text only.
"use strict";

const EVERY_MS = 1000;
const PATIENCE_MS = 5000;
const SAMPLES = 120;
const WIDTH = 120; // of the sparkline's viewBox
const PARTS = ["up_to_date", "completed", "skipped", "cancelled", "failed"];
const rates = [];
let lastAnswer = null;

const at = (id) => document.getElementById(id);

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const count = (number) => number.toLocaleString("en");

function bytes(number) {
  if (number === null) return "–";
  // As bulkdl/units.py: multiples of 1024.
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (number >= 1000 && unit < units.length - 1) { number /= 1024; unit += 1; }
  return `${number.toFixed(unit === 0 ? 0 : 1)} ${units[unit]}`;
}

function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${rest} s` : `${rest} s`;
}

const time = (iso) => new Date(iso).toLocaleTimeString("en-GB");
const moment = (iso) => `${new Date(iso).toLocaleDateString("en-CA")} ${time(iso)}`;

// Keeps the element of each item, so that bars move smoothly and selected text stays selected.
function sync(parent, items, keyOf, create, update, nothing) {
  const known = new Map(Array.from(parent.children, (element) => [element.dataset.key, element]));
  const wanted = items.map((item) => {
    const key = keyOf(item);
    const element = known.get(key) ?? create(item);
    element.dataset.key = key;
    update(element, item);
    return element;
  });
  if (!wanted.length) {
    if (parent.firstChild?.className !== "empty") parent.replaceChildren(make("p", "empty"));
    setText(parent.firstChild, nothing);
    return;
  }
  const same = wanted.length === parent.children.length && wanted.every((one, place) => one === parent.children[place]);
  if (!same) parent.replaceChildren(...wanted);
}

function showBar(bar, shares) {
  shares.forEach((share, place) => { bar.children[place].style.width = `${(100 * share).toFixed(2)}%`; });
  const sum = Math.round(100 * shares.reduce((total, share) => total + share, 0));
  bar.setAttribute("aria-valuenow", String(Math.min(100, sum)));
}

function makeBar(classes, label) {
  const bar = make("div", "bar");
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", "100");
  bar.setAttribute("aria-label", label);
  bar.append(...classes.map((one) => make("i", one)));
  return bar;
}

function progressOf(kind) {
  const done = PARTS.reduce((sum, part) => sum + kind[part], 0);
  return { done, wanted: Math.max(kind.planned + kind.up_to_date, done) };
}

function makeKind(kind) {
  const row = make("div", "kind");
  const counts = make("div", "count");
  counts.append(make("b"), make("span"), make("span", "rate"));
  row.append(make("div", "name", kind.kind), makeBar(PARTS, kind.kind), counts);
  return row;
}

function showKind(row, kind) {
  const { done, wanted } = progressOf(kind);
  showBar(row.children[1], PARTS.map((part) => (wanted ? kind[part] / wanted : 0)));
  setText(row.children[2].children[0], `${count(done)} / ${count(wanted)}`);
  const failed = kind.failed ? `, ${count(kind.failed)} failed` : "";
  setText(row.children[2].children[1], `${count(kind.left)} left${failed}`);
  setText(row.children[2].children[2], `${bytes(kind.downloaded_bytes)}, ${bytes(kind.rate_bytes_per_s)}/s`);
}

// The job and task of an output, and its name from the server.
function describe(output) {
  const what = make("div", "what");
  what.title = [output.project_id, output.job_id, output.task_id].filter(Boolean).join(" / ");
  what.append(make("em", "", "job "), make("code", "", output.job_id.slice(0, 8)));
  if (output.task_id) what.append(make("em", "", " task "), make("code", "", output.task_id.slice(0, 8)));
  if (output.name) what.append(make("em", "", " · "), make("span", "quicklook", output.name));
  return what;
}

const keyOfOutput = (output) => JSON.stringify([output.kind, output.job_id, output.task_id, output.name]);

function makeFlight(flight) {
  const row = make("div", "flight");
  const what = describe(flight);
  what.append(make("span", "note"));
  row.append(make("div", "tag", flight.kind), what, makeBar(["completed"], `bytes of this ${flight.kind}`),
    make("div", "bytes"), make("div", "for"));
  return row;
}

function showFlight(row, flight) {
  const [, what, bar, size, since] = row.children;
  setText(what.lastChild, flight.note);
  showBar(bar, [flight.total_bytes ? flight.at_bytes / flight.total_bytes : 0]);
  setText(size, bytes(flight.at_bytes) + (flight.total_bytes === null ? "" : ` of ${bytes(flight.total_bytes)}`));
  setText(since, duration(flight.for_s));
}

function makeFailure(failure) {
  const row = make("div", "failure");
  const said = make("div");
  const head = make("div");
  head.append(make("span", "reason", failure.reason.replaceAll("_", " ")));
  if (failure.what) head.append(make("span", "what", failure.what));
  else head.append(make("span", "tag", `${failure.kind} `), ...describe(failure).childNodes);
  said.append(head);
  if (failure.detail) said.append(make("p", "detail", failure.detail));
  said.append(make("p", "hint", `→ ${failure.hint}`));
  const when = make("time", "", time(failure.at));
  when.dateTime = failure.at;
  row.append(when, said);
  return row;
}

function showSpark(rate) {
  rates.push(rate);
  if (rates.length > SAMPLES) rates.shift();
  if (rates.length < 3) return;
  const top = Math.max(...rates, 1);
  const step = WIDTH / (Math.max(rates.length, 30) - 1);
  const left = WIDTH - step * (rates.length - 1);
  const points = rates.map((one, place) => `${(left + step * place).toFixed(1)},${(29 - 27 * (one / top)).toFixed(1)}`);
  const [area, line] = at("spark").children;
  line.setAttribute("d", `M${points.join("L")}`);
  area.setAttribute("d", `M${left},30L${points.join("L")}L${WIDTH},30Z`);
}

function showRun(status) {
  const failed = status.exit_code !== null && status.exit_code !== 0;
  setText(at("state"), status.state + (status.exit_code === null ? "" : `, exit code ${status.exit_code}`));
  at("state").className = `pill ${failed ? "bad" : status.state === "finished" ? "good" : ""}`;
  setText(at("run"), status.run_id ? `run ${status.run_id}` : "");
  const end = status.finished_at ?? status.now_at;
  const times = status.started_at ? `since ${moment(status.started_at)}, for ${duration((Date.parse(end) - Date.parse(status.started_at)) / 1000)}` : "";
  setText(at("times"), times);
  setText(at("version"), `bulkdl ${status.version}`);
}

function showOverall(status) {
  const all = status.kinds.map(progressOf);
  const done = all.reduce((sum, one) => sum + one.done, 0);
  const wanted = all.reduce((sum, one) => sum + one.wanted, 0);
  // While jobs are being listed, the total is not known, so a percentage would be wrong.
  const known = wanted > 0 && status.state !== "listing";
  const share = known ? `${Math.floor((100 * done) / wanted)} % of ${count(wanted)} outputs` : wanted ? `${count(done)} of ${count(wanted)} outputs so far` : "";
  setText(at("overall"), share);
  document.title = share ? `${share} · bulkdl` : "bulkdl";
}

function showTiles(status) {
  setText(at("eta"), status.eta_s === null ? "–" : duration(status.eta_s));
  setText(at("rate"), `${bytes(status.rate_bytes_per_s)}/s`);
  showSpark(status.rate_bytes_per_s);
  setText(at("moved"), bytes(status.kinds.reduce((sum, kind) => sum + kind.downloaded_bytes, 0)));
  setText(at("failed"), count(status.failures_total));
  at("failed").className = status.failures_total ? "bad" : "";
  setText(at("retries"), count(status.retries));
  setText(at("throttles"), count(status.throttles));
  at("throttles").className = status.throttles ? "warn" : "";
  setText(at("free"), bytes(status.disk_free_bytes));
}

function show(status) {
  showRun(status);
  showOverall(status);
  showTiles(status);
  const { planned, up_to_date, unfinished } = status.jobs;
  setText(at("jobs"), `${count(planned + up_to_date)} jobs listed` +
    (up_to_date ? `, ${count(up_to_date)} of them up to date` : "") +
    (unfinished ? `; ${count(unfinished)} not finished at UP42` : ""));
  sync(at("kinds"), status.kinds, (kind) => kind.kind, makeKind, showKind, "none yet");
  // The status document contains only downloads that are large or last longer than two seconds.
  const more = status.in_flight_total - status.in_flight.length;
  setText(at("flying"), `${count(status.in_flight_total)}${more ? `, ${count(more)} of them short and not shown` : ""}`);
  sync(at("flights"), status.in_flight, keyOfOutput, makeFlight, showFlight, more ? "only short downloads" : "none");
  const shown = status.failures.length;
  setText(at("failing"), status.failures_total > shown ? `${count(shown)} of ${count(status.failures_total)}` : "");
  sync(at("failures"), status.failures, (one) => String(one.number), makeFailure, () => {}, "none");
}

function showSilence() {
  document.body.classList.add("stale");
  at("state").className = "pill idle";
  setText(at("state"), lastAnswer ? `no response since ${lastAnswer.toLocaleTimeString("en-GB")}: the run has ended or is not reachable` : "no response");
}

async function refresh() {
  try {
    const answer = await fetch("/status.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(answer.statusText);
    const status = await answer.json();
    lastAnswer = new Date();
    document.body.classList.remove("stale");
    show(status);
  } catch {
    showSilence();
  } finally {
    setTimeout(refresh, EVERY_MS);
  }
}

refresh();
