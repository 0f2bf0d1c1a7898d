// The figures on top, the pipelines, and the files in work.

import { hold, rescan } from "./actions.js";
import { isDraining, sum } from "./state.js";
import { byId, bytes, count, html, name, percent, rate, say, span } from "./words.js";

const FEW = 8;
const rows = new Map();
const cards = new Map();
let showsAll = false;
let latest = [];

const FIGURES = [
  ["Now", (status, paces) => (paces === null ? "–" : rate(paces.files).replace("/s", " files/s")),
    (status, paces) => (paces === null ? "" : `${bytes(paces.sourceBytes)}/s read`)],
  ["In work", (status) => count(sum(status, "in_work")), (status) => bytes(sum(status, "in_work_bytes"))],
  ["Waiting", (status) => count(sum(status, "pending")), (status) => {
    const oldest = Math.max(0, ...status.pipelines.map((one) => one.oldest_pending_seconds));
    return oldest >= 1 ? `oldest ${span(oldest)}` : "";
  }],
  ["Published", (status) => count(sum(status, "published")), (status) => `${bytes(sum(status, "source_bytes"))} read`],
  ["Ratio", (status) => {
    const source = sum(status, "source_bytes");
    return source > 0 ? percent(sum(status, "output_bytes") / source) : "–";
  }, (status) => `${bytes(sum(status, "output_bytes"))} written`],
  ["Quarantine", (status) => count(sum(status, "quarantine_size")), (status) => (sum(status, "quarantine_size") > 0 ? "waits for a person" : "empty")],
];

export function figures(status, paces) {
  const place = byId("figures");
  if (place.childElementCount === 0) {
    for (const [title] of FIGURES) {
      const label = title === "Quarantine" ? html("a", { href: "#quarantine" }, title) : title;
      place.append(html("div", {}, html("dt", {}, label), html("dd", {}), html("dd", { class: "more" })));
    }
  }
  FIGURES.forEach(([, value, more], index) => {
    const [, main, rest] = place.children[index].children;
    say(main, value(status, paces));
    say(rest, more(status, paces));
  });
  place.lastElementChild.classList.toggle("attention", sum(status, "quarantine_size") > 0);
}

function card(pipeline) {
  const parts = { title: html("h3", {}, html("bdi", {}, pipeline.name)), condition: html("p", { class: "condition" }), facts: html("p", { class: "facts" }) };
  parts.hold = html("button", { type: "button", onclick: () => hold(parts.held, pipeline.name) });
  parts.rescan = html("button", { type: "button", "aria-label": `Rescan ${pipeline.name}`, onclick: () => rescan(pipeline.name) }, "Rescan");
  parts.way = html("p", { class: "from-to" }, name(pipeline.input), html("span", { "aria-label": "to" }, " → "), name(pipeline.output));
  parts.transforms = html("p", { class: "facts" }, `transforms ${pipeline.transforms} · source afterwards: ${pipeline.on_success}`);
  parts.item = html("li", {}, html("div", {}, parts.title, parts.condition), parts.way, parts.transforms, parts.facts,
    html("div", { class: "controls", role: "group", "aria-label": `Pipeline ${pipeline.name}` }, parts.hold, parts.rescan));
  return parts;
}

function condition(one) {
  if (one.paused !== null) return ["sick", `sick: ${one.paused}`];
  if (one.held) return ["held", "paused by the operator"];
  return one.in_work + one.pending > 0 ? ["busy", "busy"] : ["idle", "idle"];
}

export function pipelines(status) {
  const place = byId("pipelines");
  const names = status.pipelines.map((one) => one.name);
  for (const [known, parts] of cards) {
    if (!names.includes(known)) {
      parts.item.remove();
      cards.delete(known);
    }
  }
  const looksOnly = !status.can_change && !status.token_set;
  for (const one of status.pipelines) {
    const key = [one.input, one.output, one.transforms, one.on_success].join("\0");
    let parts = cards.get(one.name);
    if (parts === undefined || parts.key !== key) {
      const fresh = card(one);
      fresh.key = key;
      if (parts === undefined) place.append(fresh.item);
      else parts.item.replaceWith(fresh.item);
      cards.set(one.name, fresh);
      parts = fresh;
    }
    const [kind, words] = condition(one);
    parts.condition.dataset.state = kind;
    say(parts.condition, words);
    say(parts.facts, `${count(one.published)} published · ${count(one.skipped)} skipped · ${count(one.retries)} tried again · ${count(one.quarantine_size)} in quarantine · ${count(one.in_work)} in work · ${count(one.pending)} waiting`);
    parts.held = one.held;
    say(parts.hold, one.held ? "Resume" : "Pause");
    parts.hold.setAttribute("aria-label", `${one.held ? "Resume" : "Pause"} ${one.name}`);
    for (const button of [parts.hold, parts.rescan]) button.setAttribute("aria-disabled", String(looksOnly || isDraining(status)));
  }
  place.classList.toggle("alone", names.length === 1);
}

function fileRow(file) {
  const bar = html("progress", { "aria-label": `Read of ${file.path}`, max: 1, value: 0 });
  const parts = { bar, stage: html("span", { class: "stage" }), size: html("span", { class: "size" }), time: html("span", { class: "time" }) };
  parts.item = html("li", {}, name(file.path), parts.stage, bar, parts.size, parts.time);
  return parts;
}

// The oldest first, as they come; rows stay in their place while their file is in work.
export function inWork(list, total) {
  latest = list;
  const place = byId("work");
  const shown = showsAll ? list : list.slice(0, FEW);
  const keep = new Set(shown.map((file) => file.id));
  for (const [id, parts] of rows) {
    if (!keep.has(id)) {
      parts.item.remove();
      rows.delete(id);
    }
  }
  shown.forEach((file, index) => {
    let parts = rows.get(file.id);
    if (parts === undefined) {
      parts = fileRow(file);
      rows.set(file.id, parts);
    }
    if (place.children[index] !== parts.item) place.insertBefore(parts.item, place.children[index] ?? null);
    parts.bar.value = file.bytes > 0 ? Math.min(1, file.done_bytes / file.bytes) : 1;
    // A large file that no lane has taken yet shows no step of its own.
    say(parts.stage, file.stage === "settle" ? "queued" : file.stage);
    say(parts.size, `${bytes(file.done_bytes)} of ${bytes(file.bytes)}`);
    say(parts.time, span(file.seconds));
  });
  byId("work-none").hidden = list.length > 0;
  const all = Math.max(total, list.length);
  say(byId("work-count"), all > 0 ? count(all) : "");
  const more = byId("work-more");
  more.hidden = list.length <= FEW;
  more.setAttribute("aria-expanded", String(showsAll));
  say(more, showsAll ? "Show the oldest only" : `Show ${count(list.length - FEW)} more`);
}

export function start() {
  byId("work-more").addEventListener("click", () => {
    showsAll = !showsAll;
    inWork(latest, latest.length);
  });
}
