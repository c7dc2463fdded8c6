// Requests the state of the run once a second and shows it. Names come from the server: they are set as text only.
"use strict";

const REFRESH_MS = 1000;
const TIMEOUT_MS = 5000;
const SAMPLES = 120;
const WIDTH = 120; // of the sparkline's viewBox
const STATES = ["up_to_date", "completed", "skipped", "cancelled", "failed"];
const rates = [];
let lastResponseAt = null;

const byId = (id) => document.getElementById(id);

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const formatCount = (number) => number.toLocaleString("en");

function formatBytes(number) {
  if (number === null) return "–";
  // As bulkdl/units.py: multiples of 1024.
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (number >= 1000 && unit < units.length - 1) { number /= 1024; unit += 1; }
  return `${number.toFixed(unit === 0 ? 0 : 1)} ${units[unit]}`;
}

function formatDuration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, remainder] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${remainder} s` : `${remainder} s`;
}

const formatTime = (iso) => new Date(iso).toLocaleTimeString("en-GB");
const formatTimestamp = (iso) => `${new Date(iso).toLocaleDateString("en-CA")} ${formatTime(iso)}`;

// Keeps the element of each item, so that bars move smoothly and selected text stays selected.
function sync(parent, items, keyOf, create, update, emptyText) {
  const existing = new Map(Array.from(parent.children, (element) => [element.dataset.key, element]));
  const elements = items.map((item) => {
    const key = keyOf(item);
    const element = existing.get(key) ?? create(item);
    element.dataset.key = key;
    update(element, item);
    return element;
  });
  if (!elements.length) {
    if (parent.firstChild?.className !== "empty") parent.replaceChildren(make("p", "empty"));
    setText(parent.firstChild, emptyText);
    return;
  }
  const isSame = elements.length === parent.children.length
    && elements.every((element, index) => element === parent.children[index]);
  if (!isSame) parent.replaceChildren(...elements);
}

function showBar(bar, shares) {
  shares.forEach((share, index) => { bar.children[index].style.width = `${(100 * share).toFixed(2)}%`; });
  const sum = Math.round(100 * shares.reduce((total, share) => total + share, 0));
  bar.setAttribute("aria-valuenow", String(Math.min(100, sum)));
}

function makeBar(classes, label) {
  const bar = make("div", "bar");
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", "100");
  bar.setAttribute("aria-label", label);
  bar.append(...classes.map((name) => make("i", name)));
  return bar;
}

function progressOf(kind) {
  const done = STATES.reduce((sum, state) => sum + kind[state], 0);
  return { done, total: Math.max(kind.planned + kind.up_to_date, done) };
}

function makeKind(kind) {
  const row = make("div", "kind");
  const counts = make("div", "count");
  counts.append(make("b"), make("span"), make("span", "rate"));
  row.append(make("div", "name", kind.kind), makeBar(STATES, kind.kind), counts);
  return row;
}

function showKind(row, kind) {
  const { done, total } = progressOf(kind);
  showBar(row.children[1], STATES.map((state) => (total ? kind[state] / total : 0)));
  setText(row.children[2].children[0], `${formatCount(done)} / ${formatCount(total)}`);
  const failed = kind.failed ? `, ${formatCount(kind.failed)} failed` : "";
  setText(row.children[2].children[1], `${formatCount(kind.left)} left${failed}`);
  setText(row.children[2].children[2], `${formatBytes(kind.downloaded_bytes)}, ${formatBytes(kind.rate_bytes_per_s)}/s`);
}

// The container and the parent of an output, and its name from the server.
function describe(output) {
  const subject = make("div", "subject");
  subject.title = [output.source, output.scope, output.container_id, output.parent].filter(Boolean).join(" / ");
  subject.append(make("em", "", output.label));
  if (output.name) subject.append(make("em", "", " · "), make("span", "quicklook", output.name));
  return subject;
}

const keyOfOutput = (output) => JSON.stringify([output.kind, output.container_id, output.parent, output.name]);

function makeTransfer(transfer) {
  const row = make("div", "transfer");
  const subject = describe(transfer);
  subject.append(make("span", "note"));
  row.append(make("div", "tag", transfer.kind), subject, makeBar(["completed"], `bytes of this ${transfer.kind}`),
    make("div", "bytes"), make("div", "elapsed"));
  return row;
}

function showTransfer(row, transfer) {
  const [, subject, bar, size, elapsed] = row.children;
  setText(subject.lastChild, transfer.note);
  showBar(bar, [transfer.total_bytes ? transfer.offset_bytes / transfer.total_bytes : 0]);
  setText(size, formatBytes(transfer.offset_bytes) + (transfer.total_bytes === null ? "" : ` of ${formatBytes(transfer.total_bytes)}`));
  setText(elapsed, formatDuration(transfer.elapsed_s));
}

function makeFailure(failure) {
  const row = make("div", "failure");
  const body = make("div");
  const head = make("div");
  head.append(make("span", "reason", failure.reason.replaceAll("_", " ")));
  if (failure.subject) head.append(make("span", "subject", failure.subject));
  else head.append(make("span", "tag", `${failure.kind} `), ...describe(failure).childNodes);
  body.append(head);
  if (failure.detail) body.append(make("p", "detail", failure.detail));
  body.append(make("p", "hint", `→ ${failure.hint}`));
  const when = make("time", "", formatTime(failure.failed_at));
  when.dateTime = failure.failed_at;
  row.append(when, body);
  return row;
}

function showSpark(rate) {
  rates.push(rate);
  if (rates.length > SAMPLES) rates.shift();
  if (rates.length < 3) return;
  const top = Math.max(...rates, 1);
  const step = WIDTH / (Math.max(rates.length, 30) - 1);
  const left = WIDTH - step * (rates.length - 1);
  const points = rates.map((value, index) => `${(left + step * index).toFixed(1)},${(29 - 27 * (value / top)).toFixed(1)}`);
  const [area, line] = byId("spark").children;
  line.setAttribute("d", `M${points.join("L")}`);
  area.setAttribute("d", `M${left},30L${points.join("L")}L${WIDTH},30Z`);
}

function showRun(status) {
  const failed = status.exit_code !== null && status.exit_code !== 0;
  setText(byId("state"), status.state + (status.exit_code === null ? "" : `, exit code ${status.exit_code}`));
  byId("state").className = `pill ${failed ? "bad" : status.state === "finished" ? "good" : ""}`;
  setText(byId("run"), status.run_id ? `run ${status.run_id}` : "");
  const end = status.finished_at ?? status.now_at;
  const times = status.started_at ? `since ${formatTimestamp(status.started_at)}, for ${formatDuration((Date.parse(end) - Date.parse(status.started_at)) / 1000)}` : "";
  setText(byId("times"), times);
  setText(byId("version"), `bulkdl ${status.version}`);
}

function showOverall(status) {
  const all = status.kinds.map(progressOf);
  const done = all.reduce((sum, kind) => sum + kind.done, 0);
  const total = all.reduce((sum, kind) => sum + kind.total, 0);
  // While containers are being listed, the total is not known, so a percentage would be wrong.
  const isTotalKnown = total > 0 && status.state !== "listing";
  let share = "";
  if (isTotalKnown) share = `${Math.floor((100 * done) / total)} % of ${formatCount(total)} outputs`;
  else if (total) share = `${formatCount(done)} of ${formatCount(total)} outputs so far`;
  setText(byId("overall"), share);
  document.title = share ? `${share} · bulkdl` : "bulkdl";
}

function showTiles(status) {
  setText(byId("eta"), status.eta_s === null ? "–" : formatDuration(status.eta_s));
  setText(byId("rate"), `${formatBytes(status.rate_bytes_per_s)}/s`);
  showSpark(status.rate_bytes_per_s);
  setText(byId("downloaded"), formatBytes(status.kinds.reduce((sum, kind) => sum + kind.downloaded_bytes, 0)));
  setText(byId("failed"), formatCount(status.failures_total));
  byId("failed").className = status.failures_total ? "bad" : "";
  setText(byId("retries"), formatCount(status.retries));
  setText(byId("throttles"), formatCount(status.throttles));
  byId("throttles").className = status.throttles ? "warn" : "";
  setText(byId("free"), formatBytes(status.disk_free_bytes));
}

function describeProcessor(each) {
  const failed = each.failed ? `, ${formatCount(each.failed)} failed` : "";
  const files = `${formatCount(each.files)} derived files (${formatBytes(each.size_bytes)})`;
  return `${each.processor}: ${formatCount(each.completed)} processed${failed}, ${files}`;
}

function describeSource({ label, planned, up_to_date, unfinished }) {
  return `${formatCount(planned + up_to_date)} ${label} listed` +
    (up_to_date ? `, ${formatCount(up_to_date)} of them up to date` : "") +
    (unfinished ? `, ${formatCount(unfinished)} not finished` : "");
}

function makeServiceRun(run) {
  const row = make("div", "failure");
  const when = make("time", "", formatTimestamp(run.started_at));
  when.dateTime = run.started_at;
  const body = make("div");
  const seconds = (Date.parse(run.finished_at) - Date.parse(run.started_at)) / 1000;
  const failed = run.failed ? `, ${formatCount(run.failed)} failed` : "";
  const result = run.run_id ? `${formatCount(run.completed)} completed${failed}, ${formatBytes(run.downloaded_bytes)}` : "could not start";
  body.append(make("span", run.exit_code ? "reason" : "tag", `exit code ${run.exit_code} `),
    make("span", "subject", `${result}, ${formatDuration(seconds)}, started by ${run.trigger}`));
  if (run.problem) body.append(make("p", "detail", run.problem));
  row.append(when, body);
  return row;
}

// The last runs and the next run of bulkdl serve. A single run has no service.
function showService(service) {
  byId("service").hidden = !service;
  if (!service) return;
  const next = service.next_run_at ? `, next run at ${formatTimestamp(service.next_run_at)}` : "";
  setText(byId("schedule"), `${service.state}, ${service.schedule}${next}`);
  const { webhooks } = service;
  const counts = `${formatCount(webhooks.accepted)} accepted, ${formatCount(webhooks.duplicates)} repeated, ${formatCount(webhooks.rejected)} rejected`;
  setText(byId("webhooks"), webhooks.is_enabled ? `events of UP42: ${counts}` : "events of UP42 are not accepted: no secret is set");
  sync(byId("runs"), service.runs, (run) => run.started_at, makeServiceRun, () => {}, "none yet");
}

function show(status) {
  showService(status.service);
  showRun(status);
  showOverall(status);
  showTiles(status);
  setText(byId("containers"), status.sources.map(describeSource).join("; "));
  sync(byId("kinds"), status.kinds, (kind) => kind.kind, makeKind, showKind, "none yet");
  setText(byId("processors"), status.processors.map(describeProcessor).join("; "));
  // The status document contains only downloads that are large or last longer than two seconds.
  const more = status.in_flight_total - status.in_flight.length;
  setText(byId("in-flight"), `${formatCount(status.in_flight_total)}${more ? ` (${formatCount(more)} short, not listed)` : ""}`);
  sync(byId("transfers"), status.in_flight, keyOfOutput, makeTransfer, showTransfer, more ? "only short downloads" : "none");
  const shown = status.failures.length;
  setText(byId("failures-shown"), status.failures_total > shown ? `${formatCount(shown)} of ${formatCount(status.failures_total)}` : "");
  sync(byId("failures"), status.failures, (failure) => String(failure.number), makeFailure, () => {}, "none");
}

function showUnreachable() {
  document.body.classList.add("stale");
  byId("state").className = "pill idle";
  setText(byId("state"), lastResponseAt ? `no response since ${lastResponseAt.toLocaleTimeString("en-GB")}: the run has ended or is not reachable` : "no response");
}

async function refresh() {
  try {
    const response = await fetch("/status.json", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) throw new Error(response.statusText);
    const status = await response.json();
    lastResponseAt = new Date();
    document.body.classList.remove("stale");
    show(status);
  } catch {
    showUnreachable();
  } finally {
    setTimeout(refresh, REFRESH_MS);
  }
}

refresh();
