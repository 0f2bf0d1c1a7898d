// The quarantine: files grouped by the cause of their failure, and their way back to the intake.

import { requeue, requeueMany } from "./actions.js";
import { Listing, PAGE, cell, debounced, offerPipelines, throttled } from "./listing.js";
import { byId, bytes, count, fileLink, files, html, moment, reasonCode, setText } from "./words.js";

// Groups are open from the start while the quarantine has at most this many files.
const FEW = 6;

const filter = () => ({ search: byId("quarantine-search").value.trim(), pipeline: byId("quarantine-pipeline").value });

// The groups of all files that fit the filter; each group loads its files when it is opened.
const overview = new Listing("quarantine", "files", () => ({ ...filter(), limit: 1 }), showGroups);

const groups = new Map();
let inputs = new Map();
let manyPipelines = false;
let lastNames = "";
let lastSize = null;

const plain = (cause) => cause.replaceAll("`", "");

function row(group, one) {
  const button = html("button", {
    type: "button", "aria-label": `Requeue ${one.source}`,
    onclick: async () => { if (await requeue({ ids: [one.id] })) await reload(group); },
  }, "Requeue");
  const isInPlace = one.kept_at === `${inputs.get(one.pipeline)}/${one.source}`;
  return html("tr", { role: "row", title: one.reason },
    cell("file", "File", fileLink(one.source, inputs.get(one.pipeline))),
    cell("origin", "Pipeline", html("bdi", {}, one.pipeline)),
    cell("kept", "Kept", html("span", { title: one.kept_at }, isInPlace ? "in the input" : "moved")),
    cell("size", "Size", bytes(one.bytes)),
    cell("stage", "Stage", one.stage ?? "–"),
    cell("attempts", "Attempts", one.attempts === null ? "–" : count(one.attempts)),
    cell("when", "Since", moment(one.time)),
    cell("act change", "", button));
}

const HEAD = [["File"], ["Pipeline", "origin"], ["Kept"], ["Size"], ["Stage"], ["Attempts"], ["Since"], ["Action", "act change"]];

// Groups have one cause each: its code and its words.
const key = ({ reason_code: code, cause }) => `${code ?? ""} ${cause}`;

function make({ reason_code: code, cause }) {
  const group = { cause, code, number: 0, body: html("tbody", { role: "rowgroup" }) };
  group.count = html("span", { class: "number" });
  group.when = html("span", { class: "when" });
  group.more = html("button", { type: "button", class: "quiet", onclick: () => group.listing.load(true) }, "Show older");
  group.button = html("button", { type: "button", onclick: () => requeueGroup(group) });
  group.table = html("table", { class: "rows quarantined", role: "table", "aria-label": plain(cause) },
    html("thead", { role: "rowgroup" }, html("tr", { role: "row" }, ...HEAD.map(([word, kind]) =>
      html("th", { role: "columnheader", scope: "col", class: kind }, kind === "act change" ? html("span", { class: "unseen" }, word) : word)))), group.body);
  group.sign = html("span", {}, reasonCode(code));
  group.summary = html("summary", {}, group.sign, html("span", { class: "cause" }, plain(cause)), group.count, group.when);
  group.details = html("details", {}, group.summary, group.table, group.more);
  group.item = html("li", {}, group.details, html("div", { class: "controls change" }, group.button));
  group.listing = new Listing("quarantine", "files", () => ({ ...filter(), cause, reason_code: code, limit: PAGE }), () => showFiles(group));
  group.details.addEventListener("toggle", () => group.details.open && group.listing.load());
  return group;
}

function showFiles(group) {
  // Where a button of the list has the focus, the one that takes its place gets it.
  const buttons = () => [...group.body.querySelectorAll("button")];
  const focused = buttons().indexOf(document.activeElement);
  group.body.replaceChildren(...group.listing.items.map((one) => row(group, one)));
  group.more.hidden = group.listing.next === null;
  if (focused >= 0) (buttons()[Math.min(focused, buttons().length - 1)] ?? byId("quarantine-title")).focus();
}

function showGroups() {
  const { total, matching, groups: found } = overview.answer;
  const list = byId("quarantine-groups");
  const keep = new Set(found.map(key));
  for (const [id, group] of groups) {
    if (keep.has(id)) continue;
    const hadFocus = group.item.contains(document.activeElement);
    group.item.remove();
    groups.delete(id);
    if (hadFocus) byId("quarantine-title").focus();
  }
  found.forEach((one, index) => {
    let group = groups.get(key(one));
    const isNew = group === undefined;
    if (isNew) {
      group = make(one);
      groups.set(key(one), group);
    }
    const changed = group.number !== one.files || group.time !== one.time;
    Object.assign(group, { number: one.files, time: one.time });
    group.item.classList.toggle("single", one.files === 1);
    setText(group.count, files(one.files));
    group.when.replaceChildren(one.files > 1 ? "newest " : "", moment(one.time));
    setText(group.button, one.files === 1 ? "Requeue" : `Requeue ${count(one.files)}…`);
    group.button.setAttribute("aria-label", one.files === 1 ? `Requeue the file of: ${plain(one.cause)}` : `Requeue ${files(one.files)}: ${plain(one.cause)}`);
    if (list.children[index] !== group.item) list.insertBefore(group.item, list.children[index] ?? null);
    if (isNew && matching <= FEW) group.details.open = true;
    else if (changed && group.details.open) group.listing.load();
  });
  const { search, pipeline } = filter();
  setText(byId("quarantine-count"), total > 0 ? count(total) : "");
  byId("quarantine-filter").hidden = total === 0;
  byId("quarantine-none").hidden = found.length > 0;
  setText(byId("quarantine-none"), total === 0 || search + pipeline === "" ? "No file is in quarantine." : "No file in quarantine fits the filter.");
  byId("requeue-all").hidden = matching === 0;
  setText(byId("requeue-all"), matching < total ? `Requeue ${count(matching)}…` : "Requeue all…");
}

async function reload(group) {
  await group.listing.load();
  await overview.load();
}

const narrowed = () => {
  const { search, pipeline } = filter();
  return { ...(search !== "" && { search }), ...(pipeline !== "" && { pipeline }) };
};

async function requeueGroup(group) {
  const body = { ...narrowed(), cause: group.cause, ...(group.code !== null && { reason_code: group.code }) };
  const isDone = group.number === 1 ? await requeue({ all: true, ...body })
    : await requeueMany(body, group.number, `Cause: ${plain(group.cause)}.`);
  if (isDone) await overview.load();
}

async function requeueAll() {
  const body = narrowed();
  const description = Object.keys(body).length > 0 ? "The files that fit the filter." : "All files in quarantine.";
  if (await requeueMany(body, overview.answer.matching, description)) {
    await overview.load();
    byId("quarantine-title").focus();
  }
}

export const load = () => overview.load();

export const changed = throttled(() => overview.load(), 1000);

export function update(status) {
  const size = status.pipelines.reduce((sum, one) => sum + one.quarantine_files, 0);
  if (lastSize !== null && lastSize !== size) changed();
  lastSize = size;
  inputs = new Map(status.pipelines.map((one) => [one.name, one.input]));
  const names = status.pipelines.map((one) => one.name);
  if (names.join("\0") === lastNames) return;
  lastNames = names.join("\0");
  manyPipelines = names.length > 1;
  byId("quarantine").classList.toggle("many", manyPipelines);
  offerPipelines("quarantine-pipeline", names);
  groups.forEach((group) => group.details.open && group.listing.load());
}

export function start() {
  for (const id of ["quarantine-search", "quarantine-pipeline"]) {
    byId(id).addEventListener("input", debounced(() => {
      groups.forEach((group) => group.item.remove());
      groups.clear();
      overview.load();
    }));
  }
  byId("requeue-all").addEventListener("click", requeueAll);
}
