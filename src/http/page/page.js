// The live page: one stream of events from the service, shown as they come, and found again when lost.

import * as actions from "./actions.js";
import * as calls from "./calls.js";
import * as charts from "./charts.js";
import * as diagram from "./diagram.js";
import * as records from "./records.js";
import { describe, sum } from "./state.js";
import { byId, say, span } from "./words.js";
import * as work from "./work.js";

// Statuses come each second; without one for so long the service counts as away.
const SILENCE = 5000;
// A stream that broke off is opened again soon, one that could not be had a while later.
const SOON = 500;
const LATER = 2000;
// Rates are of these last seconds.
const WINDOW = 5;
// A page that nobody sees gives its stream back after so long.
const UNSEEN = 60_000;

let status = null;
let heard = null;
let stream = null;
let retry = null;
let opened = 0;
let lastKind = "";
const link = { down: null };
let recent = [];

// How fast it goes, from two statuses some seconds apart; null before there are two.
function paces() {
  const [first, last] = [recent[0], recent.at(-1)];
  const time = recent.length < 2 ? 0 : last.uptime_seconds - first.uptime_seconds;
  if (time <= 0) return null;
  const per = (key) => Math.max(0, sum(last, key) - sum(first, key)) / time;
  const before = new Map(first.stages.map((stage) => [stage.stage, stage]));
  const stages = Object.fromEntries(last.stages.map((stage) => {
    const old = before.get(stage.stage) ?? stage;
    return [stage.stage, { files: (stage.files - old.files) / time, busy: (stage.busy_seconds - old.busy_seconds) / time }];
  }));
  return { files: per("published") + per("skipped") + per("quarantined"), sourceBytes: per("source_bytes"), stages };
}

function showState() {
  const pace = paces();
  const { kind, word, sentence, sign } = describe(status, link, pace?.files ?? 0);
  byId("now").dataset.state = kind;
  byId("sign-path").setAttribute("d", sign);
  say(byId("state"), word);
  say(byId("sentence"), sentence);
  // Read aloud only when the state becomes another, not with each figure.
  if (kind !== lastKind && lastKind !== "") say(byId("spoken"), `${word}. ${sentence}`);
  lastKind = kind;
  document.title = kind === "connecting" ? "Tidemill" : `${word} · Tidemill`;
  actions.update(status, link.down === null && status !== null);
}

function onStatus(now) {
  heard = Date.now();
  const isAnother = status === null || now.uptime_seconds < status.uptime_seconds;
  const wasDown = link.down !== null;
  link.down = null;
  status = now;
  recent = isAnother ? [now] : [...recent, now].filter((one) => now.uptime_seconds - one.uptime_seconds <= WINDOW + 0.5);
  if (isAnother || wasDown) loadAll();
  const pace = paces();
  showState();
  say(byId("version"), now.version);
  say(byId("uptime"), `up ${span(now.uptime_seconds)}`);
  work.figures(now, pace);
  work.pipelines(now);
  diagram.update(now, pace);
  records.update(now);
}

async function loadAll() {
  records.load();
  try {
    charts.all(await calls.ask("series"));
  } catch {
    // The stream brings single points, and its loss is told by the state line.
  }
}

function down() {
  if (link.down === null) link.down = new Date(heard ?? Date.now());
  showState();
}

function close() {
  stream?.close();
  stream = null;
  clearTimeout(retry);
  retry = null;
}

function open() {
  close();
  opened = Date.now();
  stream = new EventSource("/api/v1/stream");
  let hadOne = false;
  const on = (kind, take) => stream.addEventListener(kind, (event) => take(JSON.parse(event.data)));
  on("status", onStatus);
  on("work", (data) => work.inWork(data.files, status === null ? 0 : sum(status, "in_work")));
  on("outcome", records.outcome);
  on("gap", (data) => records.missed(data.missed));
  on("point", charts.add);
  stream.addEventListener("open", () => { hadOne = true; });
  stream.addEventListener("error", () => {
    // It is opened anew by hand: the browser gives up after an answer such as 503.
    const wait = hadOne ? SOON : LATER;
    close();
    retry = setTimeout(open, wait);
    if (heard === null) down();
  });
}

// Whatever the connection thinks of itself, silence is what counts.
function watch() {
  if (document.hidden || heard === null || Date.now() - heard < SILENCE) return;
  down();
  if (retry === null && Date.now() - opened >= SILENCE) open();
}

function followSight() {
  let timer = null;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(close, UNSEEN);
    else if (stream === null) open();
  });
}

for (const part of [calls, actions, charts, diagram, work, records]) part.start();
followSight();
open();
setInterval(watch, 1000);
