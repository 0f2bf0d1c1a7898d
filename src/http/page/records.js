// What the ledger knows: the last outcomes, the quarantine, and why a file is where it is.

import { requeue, requeueAll, tell } from "./actions.js";
import { ask } from "./calls.js";
import { byId, bytes, count, html, moment, name, percent, say } from "./words.js";

const PAGE = 20;
const MOST = 500;
const SOON = 250;
const SIGNS = { done: "✓", published: "✓", skipped: "–", quarantined: "!", changed: "✓", requeued: "↺", withdrawn: "✗", intent: "…" };

const cell = (kind, label, ...children) => html("td", { role: "cell", class: kind, "data-label": label }, ...children);

// One call for many in a short time; the last arguments count.
function soon(run, wait = SOON) {
  let timer = null;
  return () => {
    if (timer !== null) return;
    timer = setTimeout(() => {
      timer = null;
      run();
    }, wait);
  };
}

// After the last of several, as for letters of a search.
function settled(run, wait = SOON) {
  let timer = null;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(run, wait);
  };
}

// A list that comes in pages, newest first. What is asked last is what is shown.
class Listing {
  constructor(path, key, query, show) {
    Object.assign(this, { path, key, query, show, items: [], next: null, asked: 0, answer: {} });
  }

  async load(older = false) {
    this.asked += 1;
    const mine = this.asked;
    try {
      const before = older ? this.next : null;
      const answer = await ask(this.path, { ...this.query(), limit: PAGE, before });
      if (mine !== this.asked) return;
      this.items = older ? [...this.items, ...answer[this.key]].slice(0, MOST) : answer[this.key];
      this.next = this.items.length >= MOST ? null : answer.next_before;
      this.answer = answer;
      this.show();
    } catch (error) {
      // The state line tells that the service is away; a refusal has words of its own.
      if (error.name === "Error" || error.status !== undefined) tell(error.message, "refused");
    }
  }
}

const outcomes = new Listing("outcomes", "outcomes", () => ({
  search: byId("outcome-search").value.trim(),
  state: byId("outcome-state").value,
  pipeline: byId("outcome-pipeline").value,
}), showOutcomes);

const quarantine = new Listing("quarantine", "files", () => ({
  search: byId("quarantine-search").value.trim(),
  pipeline: byId("quarantine-pipeline").value,
}), showQuarantine);

let manyPipelines = false;
let inputs = new Map();
const arrived = [];

const origin = (one) => (manyPipelines ? html("span", { class: "origin" }, html("bdi", {}, one.pipeline)) : null);

function sizes(one) {
  if (one.output_bytes === null) return bytes(one.source_bytes);
  const share = one.source_bytes > 0 ? ` (${percent(one.output_bytes / one.source_bytes)})` : "";
  return `${bytes(one.source_bytes)} → ${bytes(one.output_bytes)}${share}`;
}

function outcomeRow(one) {
  const became = one.reason !== null ? html("span", { class: "reason" }, one.reason) : one.output === null ? "–" : name(one.output);
  const tries = one.attempts !== null && one.attempts > 1 ? ` after ${count(one.attempts)} tries` : "";
  return html("tr", { role: "row", "data-state": one.state },
    cell("when", "Time", moment(one.at)),
    cell("outcome", "Outcome", html("span", { class: "badge" }, html("span", { "aria-hidden": "true" }, SIGNS[one.state] ?? "·"), ` ${one.state}`), tries),
    cell("file", "File", name(one.path), origin(one)),
    cell("became", "Became", became),
    cell("size", "Size", sizes(one)));
}

const outcomeRows = new Map();

function showOutcomes() {
  const keys = new Set();
  const nodes = outcomes.items.map((one) => {
    const key = `${one.id} ${one.state} ${manyPipelines}`;
    keys.add(key);
    if (!outcomeRows.has(key)) outcomeRows.set(key, outcomeRow(one));
    return outcomeRows.get(key);
  });
  for (const key of outcomeRows.keys()) if (!keys.has(key)) outcomeRows.delete(key);
  byId("outcome-rows").replaceChildren(...nodes);
  const { search, state, pipeline } = outcomes.query();
  const isFiltered = search + state + pipeline !== "";
  byId("outcome-none").hidden = nodes.length > 0;
  say(byId("outcome-none"), isFiltered ? "No outcome is like that." : "Nothing was processed yet.");
  byId("outcome-more").hidden = outcomes.next === null;
}

const matches = (one, { search, state, pipeline }) =>
  (state === "" || one.state === state) &&
  (pipeline === "" || one.pipeline === pipeline) &&
  [one.path, one.reason ?? ""].some((text) => text.toLowerCase().includes(search.toLowerCase()));

const showArrived = soon(() => {
  const fresh = arrived.splice(0).reverse();
  if (!byId("outcome-live").checked) return;
  const query = outcomes.query();
  const known = new Set();
  const all = [...fresh.filter((one) => matches(one, query)), ...outcomes.items];
  outcomes.items = all.filter((one) => !known.has(one.id) && known.add(one.id)).slice(0, Math.max(PAGE, outcomes.items.length));
  showOutcomes();
});

// One outcome, just now. Of a great many only the newest are kept for the eye.
export function outcome(one) {
  arrived.push(one);
  if (arrived.length > PAGE) arrived.shift();
  showArrived();
  if (one.state === "quarantined" || one.state === "requeued") reloadQuarantine();
}

export function missed(number) {
  const gap = byId("outcome-gap");
  gap.hidden = false;
  say(gap, `${count(number)} outcomes came faster than they could be shown here; Show older has them all.`);
}

function quarantineRow(one) {
  const label = `Requeue ${one.path}`;
  const button = html("button", { type: "button", "aria-label": label, onclick: () => requeueOne(one) }, "Requeue");
  const kept = one.kept_at === `${inputs.get(one.pipeline)}/${one.path}` ? "left in its place" : html("span", { class: "kept" }, "kept at ", name(one.kept_at));
  return html("tr", { role: "row" },
    cell("file", "File", name(one.path), origin(one), html("span", { class: "sub" }, `${bytes(one.bytes)} · `, kept)),
    cell("reason", "Reason", one.reason),
    cell("stage", "Stage", one.stage ?? "–"),
    cell("tries", "Tries", one.attempts === null ? "–" : count(one.attempts)),
    cell("when", "Since", moment(one.at)),
    cell("act", "", button));
}

function showQuarantine() {
  const { search, pipeline } = quarantine.query();
  // Where a button of the list has the focus, the one that takes its place gets it.
  const place = byId("quarantine-rows");
  const focused = [...place.querySelectorAll("button")].indexOf(document.activeElement);
  place.replaceChildren(...quarantine.items.map(quarantineRow));
  if (focused >= 0) {
    const buttons = [...place.querySelectorAll("button")];
    (buttons[Math.min(focused, buttons.length - 1)] ?? byId("quarantine-title")).focus();
  }
  const total = quarantine.answer.total ?? 0;
  say(byId("quarantine-count"), total > 0 ? count(total) : "");
  byId("quarantine-none").hidden = quarantine.items.length > 0;
  say(byId("quarantine-none"), search + pipeline === "" ? "No file is in quarantine." : "No file in quarantine is like that.");
  byId("requeue-all").hidden = total === 0;
  byId("quarantine-more").hidden = quarantine.next === null;
}

const reloadQuarantine = soon(() => quarantine.load(), 1000);

async function requeueOne(one) {
  if (await requeue({ ids: [one.id] })) await quarantine.load();
}

async function allBack() {
  const pipeline = byId("quarantine-pipeline").value;
  const total = pipeline === "" ? quarantine.answer.total : quarantine.items.length;
  if (await requeueAll(pipeline === "" ? null : pipeline, total)) {
    await quarantine.load();
    byId("quarantine-title").focus();
  }
}

let lastSize = null;
let lastNames = "";

// What the status says of them: how many are in quarantine, and which pipelines there are.
export function update(status) {
  const size = status.pipelines.reduce((sum, one) => sum + one.quarantine_size, 0);
  if (lastSize !== null && lastSize !== size) reloadQuarantine();
  lastSize = size;
  inputs = new Map(status.pipelines.map((one) => [one.name, one.input]));
  const names = status.pipelines.map((one) => one.name);
  if (names.join("\0") === lastNames) return;
  lastNames = names.join("\0");
  manyPipelines = names.length > 1;
  for (const id of ["outcome-pipeline", "quarantine-pipeline"]) {
    const before = byId(id).value;
    byId(id).replaceChildren(html("option", { value: "" }, "all"), ...names.map((one) => html("option", { value: one }, one)));
    byId(id).value = names.includes(before) ? before : "";
    byId(id).closest("label").hidden = !manyPipelines;
  }
  showOutcomes();
  showQuarantine();
}

export function load() {
  outcomes.load();
  quarantine.load();
}

async function explain(event) {
  event.preventDefault();
  const place = byId("explained");
  try {
    const { text } = await ask("explain", { path: byId("explain-path").value });
    say(place, text);
  } catch (error) {
    say(place, error.status === undefined ? "The service did not answer." : error.message);
  }
  place.hidden = false;
}

export function start() {
  const filters = [["outcome-search", outcomes], ["outcome-state", outcomes], ["outcome-pipeline", outcomes],
    ["quarantine-search", quarantine], ["quarantine-pipeline", quarantine]];
  for (const [id, listing] of filters) byId(id).addEventListener("input", settled(() => listing.load()));
  document.querySelectorAll("form.filter").forEach((form) => form.addEventListener("submit", (event) => event.preventDefault()));
  byId("outcome-live").addEventListener("change", () => byId("outcome-live").checked && outcomes.load());
  byId("outcome-more").addEventListener("click", () => outcomes.load(true));
  byId("quarantine-more").addEventListener("click", () => quarantine.load(true));
  byId("requeue-all").addEventListener("click", allBack);
  byId("explain").addEventListener("submit", explain);
}
