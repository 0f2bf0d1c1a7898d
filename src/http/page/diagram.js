// The eight stages and the bounded channels between them, drawn as pipes and tanks with their levels.

import { bottleneck, congested, isFull } from "./pace.js";
import { sum } from "./state.js";
import { byId, count, html, rate, seconds, setText, svg, threads } from "./words.js";

const STAGES = ["discover", "settle", "claim", "read", "transform", "write", "commit", "dispose"];
const TITLES = {
  discover: "finds names by the kernel's events and by scans",
  settle: "waits until no process writes the file",
  claim: "opens the source and looks it up in the ledger",
  read: "reads the source",
  transform: "compresses or decompresses",
  write: "writes the output under a temporary name",
  commit: "makes outputs durable and gives them their names, in batches",
  dispose: "keeps, deletes or archives the source, or quarantines it",
};
const CHANNEL_TITLES = {
  claim: "settled files",
  read: "claimed files",
  large: "large files that wait for a lane",
  transform: "files that are read",
  write: "files that are transformed",
  commit: "outputs that are written",
  publish: "batches that are synced",
  acknowledge: "batches that are published",
  dispose: "files whose outcome is final",
};
// Below this width the diagram runs down instead of across.
const ACROSS = 880;

const parts = { stages: {}, channels: {} };
let across = null;
let last = null;

const part = (kind, label, x, y, anchor = "middle") =>
  svg("text", { x, y, class: kind, "text-anchor": anchor }, label);

function stageBox(stage, x, y, width, height) {
  const middle = x + width / 2;
  const pace = part("pace", "", middle, y + 42);
  const busy = part("busy", "", middle, y + 60);
  parts.stages[stage] = { pace, busy };
  return svg("g", {},
    svg("title", {}, `${stage}: ${TITLES[stage]}`),
    svg("rect", { x, y, width, height, rx: 6, class: "stage" }),
    part("stage-name", stage, middle, y + 21), pace, busy);
}

// A tank whose level rises from below, or a bar that fills from the left.
function tank(channel, x, y, width, height, upright) {
  const level = svg("rect", { x, y, width, height, class: "level" });
  const full = svg("rect", { x, y, width, height, rx: 4, class: "full-mark", fill: "url(#hatch)" });
  level.style.transformOrigin = upright ? `${x}px ${y + height}px` : `${x}px ${y}px`;
  parts.channels[channel] = { level, full, upright };
  const clip = `clip-${channel}`;
  return svg("g", {},
    svg("title", {}, `channel ${channel}: ${CHANNEL_TITLES[channel]}`),
    svg("clipPath", { id: clip }, svg("rect", { x, y, width, height, rx: 4 })),
    svg("rect", { x, y, width, height, rx: 4, class: "tank" }),
    svg("g", { "clip-path": `url(#${clip})` }, level, full),
    svg("rect", { x, y, width, height, rx: 4, class: "rim" }));
}

function uprightTank(channel, middle, y, width = 40, height = 62) {
  const filled = part("fill", "", middle, y + height + 17);
  const group = tank(channel, middle - width / 2, y, width, height, true);
  parts.channels[channel].filled = filled;
  group.append(part("channel-name", channel, middle, y - 8), filled);
  return group;
}

const hatch = () => svg("defs", {},
  svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("rect", { width: 2, height: 6, class: "hatch" })));

function drawAcross() {
  const [top, height] = [48, 74];
  const middle = top + height / 2;
  const boxes = svg("g");
  const xs = {};
  let x = 1;
  const box = (stage, width) => {
    xs[stage] = x;
    boxes.append(stageBox(stage, x, top, width, height));
    x += width;
  };
  const between = (channel) => {
    xs[`${channel} tank`] = x + 35;
    boxes.append(uprightTank(channel, x + 35, top + 6));
    x += 70;
  };
  box("discover", 88);
  x += 24;
  box("settle", 88);
  for (const stage of ["claim", "read", "transform", "write"]) {
    between(stage);
    box(stage, stage === "transform" ? 96 : 88);
  }
  between("commit");
  const commit = x;
  box("commit", 88);
  between("dispose");
  box("dispose", 88);
  const width = x + 1;
  boxes.append(commitInside(commit + 44, top + height), largeLane(xs, top, height));
  const group = (label, from, to) => svg("g", {},
    svg("path", { d: `M${from} 22v-6H${to}v6`, class: "bracket" }),
    part("group", label, (from + to) / 2, 12));
  return svg("svg", { viewBox: `0 0 ${width} 228`, class: "across" }, hatch(),
    group("intake", xs.discover, xs.settle + 88),
    group("process", xs.claim, xs.write + 88),
    group("publish", xs.commit, x),
    svg("path", { d: `M1 ${middle}H${width - 1}`, class: "pipe" }),
    svg("path", { d: `M1 ${middle}H${width - 1}`, class: "stream" }),
    boxes);
}

// commit has three threads: seal, publish, acknowledge, with a batch between each two.
function commitInside(middle, y) {
  const group = svg("g", {},
    svg("path", { d: `M${middle} ${y}v18M${middle - 40} ${y + 18}H${middle + 40}M${middle - 40} ${y + 18}v8M${middle + 40} ${y + 18}v8`, class: "inside" }));
  for (const [channel, at] of [["publish", middle - 40], ["acknowledge", middle + 40]]) {
    group.append(uprightTank(channel, at, y + 46, 40, 38));
  }
  return group;
}

function largeLane(xs, top, height) {
  const y = top + height;
  const [from, to] = [xs.claim + 44, xs["commit tank"]];
  const line = y + 65;
  const right = to - 26;
  const left = xs.read + 30;
  parts.lane = part("lane", "", (left + right) / 2, line + 5);
  return svg("g", {},
    svg("path", { d: `M${from} ${y}V${line}H${to}V${y + 24}`, class: "pipe" }),
    svg("path", { d: `M${from} ${y}V${line}H${to}V${y + 24}`, class: "stream" }),
    uprightTank("large", xs["read tank"], y + 46, 40, 38),
    svg("rect", { x: left, y: line - 19, width: right - left, height: 38, rx: 6, class: "stage" }),
    parts.lane);
}

function drawDown() {
  const width = 340;
  const nodes = svg("g");
  let y = 2;
  const stage = (name) => {
    const pace = part("pace", "", 212, y + 22, "end");
    const busy = part("busy", "", width - 14, y + 22, "end");
    parts.stages[name] = { pace, busy };
    nodes.append(svg("g", {},
      svg("title", {}, `${name}: ${TITLES[name]}`),
      svg("rect", { x: 2, y, width: width - 4, height: 34, rx: 6, class: "stage" }),
      part("stage-name", name, 14, y + 22, "start"), pace, busy));
    y += 34;
  };
  const channel = (name) => {
    const filled = part("fill", "", width - 14, y + 18, "end");
    const group = tank(name, 120, y + 6, 132, 14, false);
    parts.channels[name].filled = filled;
    group.append(part("channel-name", name, 34, y + 18, "start"), filled);
    nodes.append(group);
    y += 26;
  };
  stage("discover");
  y += 10;
  for (const next of STAGES.slice(1)) {
    if (next !== "settle") channel(next);
    if (next === "read") channel("large");
    stage(next);
    if (next === "commit") ["publish", "acknowledge"].forEach(channel);
  }
  const pipe = `M20 4V${y - 4}`;
  return svg("svg", { viewBox: `0 0 ${width} ${y + 2}`, class: "down" }, hatch(),
    svg("path", { d: pipe, class: "pipe" }), svg("path", { d: pipe, class: "stream" }),
    nodes);
}

// Draws for the width of the page; `update` fills the parts.
function draw(place) {
  parts.lane = null;
  const drawn = across ? drawAcross() : drawDown();
  drawn.setAttribute("role", "img");
  drawn.setAttribute("aria-label", "Pipeline stages and the channels between them");
  parts.drawn = drawn;
  place.replaceChildren(drawn);
}

export function start() {
  const place = byId("stages-diagram");
  new ResizeObserver(() => {
    const now = place.clientWidth >= ACROSS;
    // A closed section has no width.
    if (now === across || place.clientWidth === 0) return;
    across = now;
    draw(place);
    if (last !== null) update(last.status, last.pace);
  }).observe(place);
  byId("stages-table").addEventListener("toggle", () => last && update(last.status, last.pace));
}

function showChannel(channel, pace) {
  const shown = parts.channels[channel.name];
  if (shown === undefined) return;
  const share = Math.min(1, channel.queued / channel.capacity);
  shown.level.style.transform = shown.upright ? `scaleY(${share})` : `scaleX(${share})`;
  const full = isFull(channel, pace);
  shown.full.classList.toggle("shows", full);
  shown.filled.classList.toggle("is-full", full);
  setText(shown.filled, `${count(channel.queued)}/${count(channel.capacity)}${full ? " full" : ""}`);
}

// The service counts scans for this stage, and no names that come by events: it has no rate.
const hasRate = (stage) => stage !== "discover";

function tables(status, pace) {
  const head = (...words) => html("thead", {}, html("tr", {}, ...words.map((word) => html("th", { scope: "col" }, word))));
  const row = (first, ...rest) =>
    html("tr", {}, html("th", { scope: "row" }, first), ...rest.map((text) => html("td", {}, text)));
  byId("stage-table").replaceChildren(
    html("caption", {}, "Stages: the last seconds, and since the start. Busy is the mean number of busy threads"),
    head("Stage", "Files/s", "Busy", "Files", "Busy time"),
    html("tbody", {}, ...status.stages.map((stage) => {
      const own = pace?.stages[stage.stage];
      const counts = hasRate(stage.stage);
      return row(stage.stage, own && counts ? rate(own.files) : "–", own ? threads(own.busy) : "–",
        counts ? count(stage.files) : "–", seconds(stage.busy_seconds));
    })));
  byId("channel-table").replaceChildren(
    html("caption", {}, "Channels: files in each, and how long senders waited for room"),
    head("Channel", "Queued", "Capacity", "Entered", "Senders waited"),
    html("tbody", {}, ...status.channels.map((one) =>
      row(one.name, count(one.queued), count(one.capacity), count(one.entered), seconds(one.waited_seconds)))));
}

export const isCongested = () => last !== null && congested(last.status, last.pace) !== null;

// `pace` has the rates of the last seconds, or is null.
export function update(status, pace) {
  last = { status, pace };
  const slowest = pace === null ? null : bottleneck(status, pace);
  const lanes = `${count(sum(status, "lanes_busy"))} of ${count(sum(status, "lanes"))} lanes`;
  setText(byId("bottleneck"), pace === null ? "" : slowest === null ? "no bottleneck" : `bottleneck: ${slowest}`);
  byId("bottleneck").classList.toggle("is-full", slowest !== null);
  if (byId("stages-table").open) tables(status, pace);
  if (parts.drawn === undefined) return;
  for (const stage of status.stages) {
    const shown = parts.stages[stage.stage];
    if (shown === undefined) continue;
    const own = pace?.stages[stage.stage];
    setText(shown.pace, hasRate(stage.stage) ? (own === undefined ? "–" : rate(own.files)) : "events");
    setText(shown.busy, own === undefined ? "–" : threads(own.busy));
  }
  if (parts.lane !== null) setText(parts.lane, `large files: read, transform, write · ${lanes}`);
  status.channels.forEach((one) => showChannel(one, pace));
  parts.drawn.classList.toggle("flows", (pace?.files ?? 0) > 0);
  const levels = status.channels.map((one) => `${one.name} ${one.queued} of ${one.capacity}`);
  parts.drawn.setAttribute("aria-label", `Pipeline stages: ${STAGES.join(", ")}. Channels: ${levels.join(", ")}. ${lanes}.`);
}
