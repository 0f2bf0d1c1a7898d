// The figures on top, the pipelines, and the files in flight.

import { rescan, togglePause } from "./actions.js";
import { latency } from "./charts.js";
import { isNarrow } from "./listing.js";
import { showPipeline } from "./records.js";
import { isDraining, isPaused, oldest, pauseOf, queued, running, sum, total } from "./state.js";
import { byId, bytes, count, fileLink, fileRate, html, name, ratio, seconds, setText, since, span } from "./words.js";

const FEW = isNarrow ? 4 : 8;
const rows = new Map();
const cards = new Map();
let showsAll = false;
let latest = [];
let inputs = new Map();

const lanes = (one) => `${count(one.lanes_busy)} of ${count(one.lanes)} lanes`;

const FIGURES = [
  ["Now", (status, pace) => (pace === null ? "–" : fileRate(pace.files)),
    (status, pace) => (pace === null ? "" : `${bytes(pace.sourceBytes)}/s read`)],
  ["Running", (status) => count(total(status, running)), (status) =>
    `${lanes({ lanes_busy: sum(status, "lanes_busy"), lanes: sum(status, "lanes") })} for large files`],
  ["Queued", (status) => count(total(status, queued)), (status) => (oldest(status) >= 1 ? `oldest ${span(oldest(status))}` : "")],
  ["Published since start", (status) => count(sum(status, "published")), (status) => `${bytes(sum(status, "source_bytes"))} read`],
  ["Ratio", (status) => ratio(sum(status, "source_bytes"), sum(status, "output_bytes")),
    (status) => `${bytes(sum(status, "output_bytes"))} written`],
  ["Quarantine", (status) => count(sum(status, "quarantine_files")), (status) => (sum(status, "quarantine_files") > 0 ? "needs attention" : "empty")],
];

export function figures(status, pace) {
  const place = byId("figures");
  if (place.childElementCount === 0) {
    for (const [title] of FIGURES) {
      const label = title === "Quarantine" ? html("a", { href: "#quarantine" }, title) : title;
      place.append(html("div", {}, html("dt", {}, label), html("dd", {}), html("dd", { class: "more" })));
    }
  }
  FIGURES.forEach(([, value, more], index) => {
    const [, main, rest] = place.children[index].children;
    setText(main, value(status, pace));
    setText(rest, more(status, pace));
  });
  place.lastElementChild.classList.toggle("attention", sum(status, "quarantine_files") > 0);
}

const FACTS = [
  ["Rate", (one, pace) => (pace === undefined ? "–" : fileRate(pace.files)), (one, pace) => (pace === undefined ? "" : `${bytes(pace.sourceBytes)}/s`)],
  ["Ratio", (one) => ratio(one.source_bytes, one.output_bytes), (one) => `${bytes(one.source_bytes)} → ${bytes(one.output_bytes)}`],
  ["Latency", (one) => {
    const found = latency(one.name);
    return found === null ? "–" : seconds(found.p50_seconds);
  }, (one) => {
    const found = latency(one.name);
    return found === null ? "" : `99 % ${seconds(found.p99_seconds)}`;
  }],
  ["Running", (one) => count(running(one)), lanes],
  ["Queued", (one) => count(queued(one)), (one) => (one.oldest_pending_seconds >= 1
    ? `oldest ${span(one.oldest_pending_seconds)}${one.oldest_pending ? `: ${one.oldest_pending}` : ""}` : "")],
  ["Published", (one) => count(one.published), (one) => [[one.skipped, "skipped"], [one.retries, "retried"]]
    .filter(([number]) => number > 0).map(([number, word]) => `${count(number)} ${word}`).join(" · ")],
  ["Quarantine", (one) => count(one.quarantine_files), () => ""],
];

function card(pipeline) {
  const parts = { condition: html("p", { class: "condition" }) };
  parts.facts = FACTS.map(([title]) => html("div", {}, html("dt", {}, title), html("dd", {}), html("dd", { class: "more" })));
  parts.pause = html("button", { type: "button", onclick: () => togglePause(parts.paused, pipeline.name) });
  parts.rescan = html("button", { type: "button", "aria-label": `Rescan ${pipeline.name}`, onclick: () => rescan(pipeline.name) }, "Rescan");
  parts.item = html("li", {},
    html("div", { class: "title" }, html("h3", {}, html("bdi", {}, pipeline.name)), parts.condition),
    html("div", { class: "controls change", role: "group", "aria-label": `Pipeline ${pipeline.name}` }, parts.pause, parts.rescan),
    html("p", { class: "from-to" }, name(pipeline.input), html("span", { "aria-label": "to" }, " → "), name(pipeline.output)),
    html("p", { class: "soft" }, `transforms ${pipeline.transforms} · source afterwards: ${pipeline.on_success}`),
    html("dl", { class: "facts" }, ...parts.facts),
    html("p", { class: "outcomes-link" }, html("a", { href: "#outcomes", "aria-label": `Outcomes of ${pipeline.name}`, onclick: () => showPipeline(pipeline.name) }, "Outcomes")));
  return parts;
}

// A pipeline counts as busy while files finish, so that the word does not change every second.
function condition(one, pace) {
  const storage = pauseOf(one, "storage");
  if (storage !== undefined) return ["unavailable", `storage unavailable ${since(storage.since)}: ${storage.detail}`];
  const operator = pauseOf(one, "operator");
  if (operator !== undefined) return ["paused", `paused by the operator ${since(operator.since)}`];
  const closed = pauseOf(one, "window");
  if (closed !== undefined && one.in_flight === 0) return ["paused", `outside its window ${since(closed.since)}: ${closed.detail}`];
  return one.in_flight + one.pending > 0 || (pace?.files ?? 0) > 0 ? ["busy", "busy"] : ["idle", "idle"];
}

export function pipelines(status, pace) {
  const place = byId("pipelines");
  const names = status.pipelines.map((one) => one.name);
  inputs = new Map(status.pipelines.map((one) => [one.name, one.input]));
  for (const [shown, parts] of cards) {
    if (!names.includes(shown)) {
      parts.item.remove();
      cards.delete(shown);
    }
  }
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
    updateCard(parts, one, pace?.pipelines[one.name], isDraining(status));
  }
  place.classList.toggle("alone", names.length === 1);
}

function updateCard(parts, one, pace, draining) {
  const [kind, words] = condition(one, pace);
  parts.condition.dataset.state = kind;
  setText(parts.condition, words);
  FACTS.forEach(([, value, more], index) => {
    const [, main, rest] = parts.facts[index].children;
    setText(main, value(one, pace));
    setText(rest, more(one, pace));
  });
  parts.facts.at(-1).classList.toggle("attention", one.quarantine_files > 0);
  parts.paused = pauseOf(one, "operator") !== undefined;
  setText(parts.pause, parts.paused ? "Resume" : "Pause");
  parts.pause.setAttribute("aria-label", `${parts.paused ? "Resume" : "Pause"} ${one.name}`);
  for (const button of [parts.pause, parts.rescan]) button.setAttribute("aria-disabled", String(draining));
}

function fileRow(file) {
  const bar = html("progress", { "aria-label": `Read of ${file.source}`, max: 1, value: 0 });
  const parts = { bar, stage: html("span", { class: "stage" }), size: html("span", { class: "size" }), time: html("span", { class: "time" }) };
  parts.item = html("li", {}, fileLink(file.source, inputs.get(file.pipeline)), parts.stage, bar, parts.size, parts.time);
  return parts;
}

const isQueued = (file) => file.queued;

// Running files come first, as the service sends them; a row stays while its file is in flight.
export function inFlight(list, status) {
  latest = { list, status };
  const place = byId("files");
  const active = list.filter((file) => !isQueued(file));
  const few = (active.length > 0 ? active : list).slice(0, FEW);
  const shown = showsAll ? list : few;
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
    parts.item.classList.toggle("queued", isQueued(file));
    parts.bar.value = file.bytes > 0 ? Math.min(1, file.done_bytes / file.bytes) : 1;
    setText(parts.stage, isQueued(file) ? "queued" : file.stage);
    setText(parts.size, isQueued(file) ? bytes(file.bytes) : `${bytes(file.done_bytes)} of ${bytes(file.bytes)}`);
    setText(parts.time, span(file.seconds));
  });
  showCounts(list, status, few.length);
}

function showCounts(list, status, few) {
  const all = status === null ? [list.filter((file) => !isQueued(file)).length, list.filter(isQueued).length]
    : [total(status, running), sum(status, "queued")];
  const counts = [[all[0], "running"], [all[1], "queued"]].filter(([number]) => number > 0);
  byId("files-none").hidden = list.length > 0;
  setText(byId("files-count"), counts.map(([number, word]) => `${count(number)} ${word}`).join(", "));
  const more = byId("files-more");
  more.hidden = list.length <= few;
  more.setAttribute("aria-expanded", String(showsAll));
  setText(more, showsAll ? "Show fewer" : `Show ${count(list.length - few)} more`);
}

// The first directories to drop a file into, while the service has seen no file.
export function welcome(status, isEmpty) {
  const place = byId("welcome");
  place.hidden = !isEmpty || status.phase !== "READY" || isPaused(status);
  if (place.hidden) return;
  const items = status.pipelines.map((one) => html("li", {}, "Drop a file into ", name(one.input), ": its output appears in ", name(one.output), "."));
  const key = status.pipelines.map((one) => `${one.input}\0${one.output}`).join("\0");
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  byId("welcome-list").replaceChildren(...items);
}

export function start() {
  byId("files-more").addEventListener("click", () => {
    showsAll = !showsAll;
    inFlight(latest.list, latest.status);
  });
}
