// The last outcomes, and the explanation of a single file.

import { query } from "./calls.js";
import { Listing, PAGE, cell, debounced, offerPipelines, throttled } from "./listing.js";
import * as quarantine from "./quarantine.js";
import { byId, bytes, count, fileLink, html, moment, name, ratio, reasonCode, seconds, setText } from "./words.js";

const SIGNS = { done: "✓", published: "✓", skipped: "–", quarantined: "!", changed: "✓", requeued: "↺", withdrawn: "✗", intent: "…" };
const EXPLAIN = "#explain=";
// Durations that the stream reported, by record: the ledger has none.
const DURATIONS_MAX = 1000;

const outcomes = new Listing("outcomes", "outcomes", () => ({
  search: byId("outcome-search").value.trim(),
  state: byId("outcome-state").value,
  pipeline: byId("outcome-pipeline").value,
}), showOutcomes);

let inputs = new Map();
let lastNames = "";
const arrived = [];
const durations = new Map();

function sizes(one) {
  if (one.output_bytes === undefined) return bytes(one.source_bytes);
  return `${bytes(one.source_bytes)} → ${bytes(one.output_bytes)}`;
}

function row(one) {
  const result = one.reason !== undefined ? html("span", { class: "reason", title: one.reason }, reasonCode(one.reason_code), one.cause.replaceAll("`", ""))
    : one.output === undefined ? "–" : name(one.output);
  const attempts = one.attempts !== undefined && one.attempts > 1
    ? html("span", { title: `${count(one.attempts)} attempts` }, ` ×${count(one.attempts)}`) : null;
  const took = one.seconds ?? durations.get(one.id);
  return html("tr", { role: "row", "data-state": one.state },
    cell("when", "Time", moment(one.time)),
    cell("outcome", "Outcome", html("span", { class: "badge" }, html("span", { "aria-hidden": "true" }, SIGNS[one.state] ?? "·"), ` ${one.state}`), attempts),
    cell("origin", "Pipeline", html("bdi", {}, one.pipeline)),
    cell("file", "File", fileLink(one.source, inputs.get(one.pipeline))),
    cell("result", "Output", result),
    cell("size", "Size", sizes(one)),
    cell("ratio", "Ratio", one.output_bytes === undefined ? "–" : ratio(one.source_bytes, one.output_bytes)),
    cell("took", "Duration", took === undefined ? "–" : seconds(took)));
}

const rows = new Map();

function showOutcomes() {
  const keys = new Set();
  const nodes = outcomes.items.map((one) => {
    const key = `${one.id} ${one.state} ${lastNames}`;
    keys.add(key);
    if (!rows.has(key)) rows.set(key, row(one));
    return rows.get(key);
  });
  for (const key of rows.keys()) if (!keys.has(key)) rows.delete(key);
  byId("outcome-rows").replaceChildren(...nodes);
  byId("outcome-none").hidden = nodes.length > 0;
  const none = isFiltered() ? "No outcome fits the filter." : "No file was processed yet.";
  setText(byId("outcome-none"), outcomes.next === null ? none : "Nothing fits among the newest records; Show older searches on.");
  byId("outcome-more").hidden = outcomes.next === null;
  byId("outcome-filter").hidden = isEmpty();
  showDownloads();
}

// The service writes the files: they have all that fits, whatever is loaded here.
function showDownloads() {
  const given = Object.entries(outcomes.parameters()).filter(([, value]) => value !== "");
  for (const format of ["csv", "jsonl"]) {
    byId(`outcome-${format}`).href = `/api/v1/outcomes/export?${new URLSearchParams([["format", format], ...given])}`;
  }
  byId("outcome-downloads").hidden = outcomes.items.length === 0;
}

const isFiltered = () => {
  const { search, state, pipeline } = outcomes.parameters();
  return search + state + pipeline !== "";
};

export const isEmpty = () => outcomes.answer !== null && outcomes.items.length === 0 && arrived.length === 0 && !isFiltered();

const matches = (one, { search, state, pipeline }) =>
  (state === "" || one.state === state) &&
  (pipeline === "" || one.pipeline === pipeline) &&
  (one.reason_code === search.toLowerCase() || [one.source, one.reason ?? ""].some((text) => text.toLowerCase().includes(search.toLowerCase())));

// Rows do not move under a pointer or the focus of the keyboard.
const isBeingRead = () => byId("outcome-rows").matches(":hover, :focus-within");

const showArrived = throttled(() => {
  if (isBeingRead()) return;
  const fresh = arrived.splice(0).reverse();
  if (!byId("outcome-live").checked || fresh.length === 0) return;
  const filter = outcomes.parameters();
  const seen = new Set();
  const all = [...fresh.filter((one) => matches(one, filter)), ...outcomes.items];
  outcomes.items = all.filter((one) => !seen.has(one.id) && seen.add(one.id)).slice(0, Math.max(PAGE, outcomes.items.length));
  showOutcomes();
});

// One outcome of the stream. Of very many only the newest are kept to be shown.
export function outcome(one) {
  arrived.push(one);
  if (arrived.length > PAGE) arrived.shift();
  if (one.seconds !== undefined) durations.set(one.id, one.seconds);
  if (durations.size > DURATIONS_MAX) durations.delete(durations.keys().next().value);
  showArrived();
  if (one.state === "quarantined" || one.state === "requeued") quarantine.changed();
}

export function missed(number) {
  const gap = byId("outcome-gap");
  gap.hidden = false;
  setText(gap, `${count(number)} outcomes came too fast to be shown here; Show older has all of them.`);
}

export function update(status) {
  quarantine.update(status);
  inputs = new Map(status.pipelines.map((one) => [one.name, one.input]));
  const names = status.pipelines.map((one) => one.name);
  if (names.join("\0") === lastNames) return;
  lastNames = names.join("\0");
  offerPipelines("outcome-pipeline", names);
  document.querySelector("table.outcomes").classList.toggle("many", names.length > 1);
  showOutcomes();
}

// Shows one pipeline only: in the outcomes, the quarantine and the charts.
export function showPipeline(pipeline) {
  for (const id of ["outcome-pipeline", "quarantine-pipeline", "chart-pipeline"]) {
    byId(id).value = pipeline;
    byId(id).dispatchEvent(new Event("input"));
  }
}

export function load() {
  outcomes.load();
  quarantine.load();
}

async function explain(path) {
  const place = byId("explained");
  try {
    const { text } = await query("explain", { path });
    setText(place, text);
  } catch (error) {
    setText(place, error.status === undefined ? "The service did not answer." : error.message);
  }
  place.hidden = false;
}

// The address names the explained file, so that it can be sent to someone else.
function explainAddress() {
  if (!location.hash.startsWith(EXPLAIN)) return;
  const path = decodeURIComponent(location.hash.slice(EXPLAIN.length));
  byId("explain-path").value = path;
  explain(path);
  byId("explain-section").scrollIntoView();
  byId("explain-path").focus({ preventScroll: true });
}

function submitted(event) {
  event.preventDefault();
  const address = EXPLAIN + encodeURIComponent(byId("explain-path").value);
  if (location.hash === address) explainAddress();
  else location.hash = address;
}

export function start() {
  for (const id of ["outcome-search", "outcome-state", "outcome-pipeline"]) {
    byId(id).addEventListener("input", showDownloads);
    byId(id).addEventListener("input", debounced(() => outcomes.load()));
  }
  document.querySelectorAll("form.filter").forEach((form) => form.addEventListener("submit", (event) => event.preventDefault()));
  byId("outcome-live").addEventListener("change", () => byId("outcome-live").checked && outcomes.load());
  byId("outcome-more").addEventListener("click", () => outcomes.load(true));
  for (const kind of ["pointerleave", "focusout"]) byId("outcome-rows").addEventListener(kind, showArrived);
  byId("explain").addEventListener("submit", submitted);
  addEventListener("hashchange", explainAddress);
  quarantine.start();
  explainAddress();
}
