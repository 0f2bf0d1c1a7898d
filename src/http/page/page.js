// The live page: one stream of events from the service, shown as they come, and opened again when lost.

import * as actions from "./actions.js";
import * as calls from "./calls.js";
import * as charts from "./charts.js";
import * as config from "./config.js";
import * as diagram from "./diagram.js";
import * as pace from "./pace.js";
import * as records from "./records.js";
import { describe, sum } from "./state.js";
import { byId, setText, span } from "./words.js";
import * as work from "./work.js";

// A status comes each second; after this silence the service counts as unreachable.
const SILENCE = 5000;
// A stream that broke off is opened again soon, one that was refused a while later.
const SOON = 500;
const LATER = 2000;
// A hidden page closes its stream after this time.
const HIDDEN_MAX = 60_000;
// From this width on the charts are open from the start.
const WIDE = "(min-width: 60rem)";

let status = null;
let lastReport = null;
let stream = null;
let retry = null;
let opened = 0;
let lastKind = "";
let down = null;

function showState() {
  const { kind, word, sentence, sign } = describe(status, down, pace.paces()?.files ?? 0);
  byId("now").dataset.state = kind;
  byId("main").dataset.link = kind === "stopped" || kind === "unreachable" ? kind : "up";
  byId("sign-path").setAttribute("d", sign);
  setText(byId("state"), word);
  setText(byId("sentence"), sentence);
  // A reader hears a change of the state, not each second's figures.
  if (kind !== lastKind && lastKind !== "") setText(byId("spoken"), `${word}. ${sentence}`);
  lastKind = kind;
  document.title = [kind === "connecting" ? "" : word, status?.host ?? "", "Tidemill"].filter((part) => part !== "").join(" · ");
  actions.update(status, down === null && status !== null);
}

// True while the service has seen no file, neither now nor before.
const isEmpty = (now) =>
  ["published", "skipped", "quarantined", "in_flight", "pending"].every((key) => sum(now, key) === 0)
  && records.isEmpty() && charts.isEmpty();

function showEmpty() {
  const empty = isEmpty(status);
  byId("main").classList.toggle("is-empty", empty);
  work.welcome(status, empty);
}

function onStatus(now) {
  lastReport = Date.now();
  const isAnotherRun = status === null || now.uptime_seconds < status.uptime_seconds;
  const wasDown = down !== null;
  const isFirst = status === null;
  down = null;
  status = now;
  pace.add(now, isAnotherRun);
  if (isAnotherRun || wasDown) loadAll();
  const paces = pace.paces();
  showState();
  setText(byId("host"), now.host);
  setText(byId("version"), now.version);
  for (const fact of ["pid", "kernel", "sandbox"]) setText(byId(fact), String(now[fact]));
  setText(byId("uptime"), `up ${span(now.uptime_seconds)}`);
  charts.update(now);
  work.figures(now, paces);
  work.pipelines(now, paces);
  diagram.update(now, paces);
  if (isFirst && matchMedia(WIDE).matches) byId("stages").open = diagram.isCongested();
  records.update(now);
  showEmpty();
}

async function loadAll() {
  records.load();
  config.load();
  try {
    charts.all(await calls.query("series"));
  } catch {
    // The stream brings single points, and the state line shows a lost connection.
  }
}

function connectionLost() {
  if (down === null) down = new Date(lastReport ?? Date.now());
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
  let wasOpen = false;
  const on = (kind, handle) => stream.addEventListener(kind, (event) => handle(JSON.parse(event.data)));
  on("status", onStatus);
  on("work", (data) => work.inFlight(data.files, status));
  on("outcome", records.outcome);
  on("gap", (data) => records.missed(data.missed));
  on("point", charts.add);
  stream.addEventListener("open", () => { wasOpen = true; });
  stream.addEventListener("error", () => {
    // The browser gives up after an answer such as 503, so the page opens the stream itself.
    const wait = wasOpen ? SOON : LATER;
    close();
    retry = setTimeout(open, wait);
    if (lastReport === null) connectionLost();
  });
}

// Silence counts, whatever the state of the connection.
function watch() {
  if (document.hidden || lastReport === null || Date.now() - lastReport < SILENCE) return;
  connectionLost();
  if (retry === null && Date.now() - opened >= SILENCE) open();
}

function followVisibility() {
  let timer = null;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(close, HIDDEN_MAX);
    else if (stream === null) open();
  });
}

byId("hour").open = matchMedia(WIDE).matches;
for (const module of [calls, actions, charts, config, diagram, work, records]) module.start();
followVisibility();
open();
setInterval(watch, 1000);
