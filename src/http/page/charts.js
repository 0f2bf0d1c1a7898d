// The last hour in four charts drawn by hand, of all pipelines or of one. Each has axes, units, a readout
// for every point by pointer and by arrow keys; one table has all the figures.

import { durationTicks, linear, linearTicks, logarithmic } from "./scales.js";
import { byId, bytes, clock, count, fileRate, html, ratio, seconds, setText, shortClock, span, svg } from "./words.js";

const POINTS = 360;
const BOX = { height: 180, left: 58, right: 12, top: 12, bottom: 26 };
// The time axis has the first of these lengths that holds all points, in parts of whole minutes.
const SPANS = [[10, 5], [20, 4], [30, 3], [60, 4]].map(([minutes, parts]) => ({ minutes, length: minutes * 60_000, parts }));
const MARKS = ["first", "second", "third", "fourth", "fifth", "sixth"];

let interval = 10;
let points = [];
let names = [];
let chosenPipeline = "";
const charts = [];

const at = (point) => new Date(point.at).getTime();

// The part of a point that belongs to one pipeline; all of it where none is named.
const part = (point, name) => (name === "" ? point : point.pipelines?.find((one) => one.name === name));

// A line that reads one figure of the chosen pipeline.
const line = (label, mark, read) => ({ label, mark, value: (point) => {
  const found = part(point, chosenPipeline);
  return found === undefined ? null : read(found);
} });

// All pipelines together would hide the fast ones behind the slowest: each has its own line.
const isByPipeline = () => chosenPipeline === "" && names.length > 1;

function latencyLines() {
  if (isByPipeline()) {
    return names.slice(0, MARKS.length).map((name, index) =>
      ({ label: name, mark: MARKS[index], value: (point) => part(point, name)?.p99_seconds ?? null }));
  }
  return [line("median", "first", (one) => one.p50_seconds), line("99 %", "second", (one) => one.p99_seconds)];
}

const KINDS = [
  {
    id: "throughput", title: "Throughput", unit: () => "bytes per second", tick: (value) => `${bytes(value)}/s`,
    ticks: (values) => linearTicks(Math.max(1000, ...values)), scale: linear,
    lines: () => [
      line("read", "first", (one) => one.source_bytes / interval), line("written", "second", (one) => one.output_bytes / interval)],
    describe: (one) => `${fileRate(one.files / interval)}, ${bytes(one.source_bytes / interval)}/s → ${bytes(one.output_bytes / interval)}/s`,
  },
  {
    id: "backlog", title: "Backlog", unit: () => "files at the end of each interval", tick: count,
    ticks: (values) => linearTicks(Math.max(4, ...values), true), scale: linear,
    lines: () => [line("in flight", "first", (one) => one.in_flight), line("waiting", "second", (one) => one.pending)],
    describe: (one) => `${count(one.in_flight)} in flight, ${count(one.pending)} waiting`,
  },
  {
    id: "latency", title: "Latency", unit: () => (isByPipeline() ? "99 % of each pipeline, logarithmic" : "settled to acknowledged, logarithmic"), tick: seconds,
    ticks: durationTicks, scale: logarithmic, lines: latencyLines,
    describe: (one, point, lines) => {
      const texts = lines.flatMap((each) => (each.value(point) === null ? [] : [`${each.label} ${seconds(each.value(point))}`]));
      return texts.length === 0 ? "no file was published" : texts.join(" · ");
    },
  },
  {
    id: "failures", title: "Failures", unit: () => `files quarantined in ${interval} s`, tick: count, bars: true,
    ticks: (values) => linearTicks(Math.max(4, ...values), true), scale: linear,
    lines: () => [line("quarantined", "bad", (one) => one.quarantined)],
    describe: (one) => `${count(one.quarantined)} quarantined`,
  },
];

function make(kind) {
  const picture = svg("svg", { class: "chart", "aria-hidden": "true" });
  const readout = html("p", { class: "readout" });
  // To the keyboard it is a slider: one value of many, chosen along an axis.
  const slider = html("div", {
    class: "plot", tabindex: 0, role: "slider", "aria-label": `${kind.title}, point in time`,
    "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0, "aria-orientation": "horizontal",
  }, picture);
  const legend = html("ul", { class: "legend" });
  const unit = html("span", { class: "unit" });
  const summary = html("p", { class: "unseen", id: `${kind.id}-summary` });
  slider.setAttribute("aria-describedby", summary.id);
  const figure = html("figure", { class: "figure" },
    html("figcaption", {}, html("h3", {}, kind.title), unit, legend), slider, readout, summary);
  const chart = { kind, picture, readout, slider, summary, legend, unit, lines: [], chosen: null, place: null };
  slider.addEventListener("pointermove", (event) => choose(chart, nearest(chart, event.offsetX)));
  slider.addEventListener("pointerleave", () => choose(chart, null));
  slider.addEventListener("blur", () => choose(chart, null));
  slider.addEventListener("keydown", (event) => onKey(chart, event));
  new ResizeObserver(() => draw(chart)).observe(slider);
  byId("charts").append(figure);
  return chart;
}

const legendEntry = ({ label, mark }) => html("li", {},
  svg("svg", { viewBox: "0 0 24 8", width: 24, height: 8, "aria-hidden": "true" }, svg("path", { d: "M0 4h24", class: `line ${mark}` })),
  html("bdi", {}, label));

function onKey(chart, event) {
  const last = points.length - 1;
  const now = chart.chosen ?? last;
  const to = {
    ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1,
    PageDown: now - 30, PageUp: now + 30, Home: 0, End: last,
  }[event.key];
  if (to === undefined || last < 0) return;
  event.preventDefault();
  choose(chart, Math.min(last, Math.max(0, to)));
}

function nearest(chart, x) {
  if (chart.place === null || points.length === 0) return null;
  let best = 0;
  points.forEach((point, index) => {
    const distance = Math.abs(chart.place.x(at(point)) - x);
    if (distance < Math.abs(chart.place.x(at(points[best])) - x)) best = index;
  });
  return best;
}

// Shows one point; the newest where none is chosen.
function choose(chart, index) {
  chart.chosen = index;
  const point = index === null ? points.at(-1) : points[index];
  const own = point === undefined ? undefined : part(point, chosenPipeline);
  if (own === undefined) {
    setText(chart.readout, "No figures yet.");
    chart.slider.setAttribute("aria-valuetext", "no figures yet");
    chart.picture.querySelector(".cross")?.remove();
    return;
  }
  const text = chart.kind.describe(own, point, chart.lines);
  setText(chart.readout, `${clock(new Date(point.at))} · ${text}`);
  chart.slider.setAttribute("aria-valuemax", points.length - 1);
  chart.slider.setAttribute("aria-valuenow", index ?? points.length - 1);
  chart.slider.setAttribute("aria-valuetext", `${clock(new Date(point.at))}: ${text}`);
  chart.picture.querySelector(".cross")?.remove();
  if (index === null || chart.place === null) return;
  const x = chart.place.x(at(point));
  const dots = chart.lines.flatMap((each) => {
    const value = each.value(point);
    return value === null ? [] : [svg("circle", { cx: x, cy: chart.place.y(value), r: 3.5, class: `dot ${each.mark}` })];
  });
  chart.picture.append(svg("g", { class: "cross" },
    svg("path", { d: `M${x} ${BOX.top}V${BOX.height - BOX.bottom}` }), ...dots));
}

// One path for each unbroken run; a single point is a dot, by the round cap of its line.
function curve(each, place) {
  let text = "";
  let open = false;
  for (const point of points) {
    const value = each.value(point);
    if (value === null) {
      open = false;
      continue;
    }
    const spot = `${place.x(at(point)).toFixed(1)} ${place.y(value).toFixed(1)}`;
    text += open ? `L${spot}` : `M${spot}h.01`;
    open = true;
  }
  return text;
}

const bars = (each, place) => points.filter((point) => each.value(point) > 0)
  .map((point) => `M${place.x(at(point)).toFixed(1)} ${place.y(0)}V${place.y(each.value(point)).toFixed(1)}`).join("");

function axes(chart, place, ticks, width) {
  const bottom = BOX.height - BOX.bottom;
  const across = ticks.map((value) => svg("g", {},
    svg("path", { d: `M${BOX.left} ${place.y(value)}H${width - BOX.right}`, class: value === ticks[0] ? "axis" : "grid" }),
    svg("text", { x: BOX.left - 8, y: place.y(value) + 4, "text-anchor": "end" }, chart.kind.tick(value))));
  const labels = [];
  const parts = width < 340 && place.parts > 3 ? 2 : place.parts;
  for (let index = 0; index <= parts; index += 1) {
    const time = place.from + ((place.to - place.from) * index) / parts;
    const anchor = index === parts ? "end" : "middle";
    labels.push(svg("g", {},
      svg("path", { d: `M${place.x(time)} ${bottom}v4`, class: "axis" }),
      svg("text", { x: place.x(time), y: bottom + 18, "text-anchor": anchor }, shortClock(new Date(time)))));
  }
  return [...across, ...labels];
}

function timeSpan() {
  const reach = points.length > 0 ? at(points.at(-1)) - at(points[0]) : 0;
  return SPANS.find((one) => one.length >= reach) ?? SPANS.at(-1);
}

function draw(chart) {
  const width = chart.slider.clientWidth;
  if (width === 0) return;
  const to = points.length > 0 ? at(points.at(-1)) : Date.now();
  const { length, parts } = timeSpan();
  const { kind, lines } = chart;
  const values = points.flatMap((point) => lines.map((each) => each.value(point) ?? 0));
  const ticks = kind.ticks(values);
  const share = kind.scale(ticks);
  const inner = { width: width - BOX.left - BOX.right, height: BOX.height - BOX.top - BOX.bottom };
  const place = {
    from: to - length, to, parts,
    x: (time) => BOX.left + (inner.width * (time - to + length)) / length,
    y: (value) => BOX.height - BOX.bottom - inner.height * share(value),
  };
  chart.place = place;
  chart.picture.setAttribute("viewBox", `0 0 ${width} ${BOX.height}`);
  chart.picture.setAttribute("height", BOX.height);
  const path = kind.bars ? bars : curve;
  chart.picture.replaceChildren(
    ...axes(chart, place, ticks, width),
    ...lines.map((each) => svg("path", { d: path(each, place), class: `line ${each.mark}` })));
  if (!values.some((value) => value > 0)) {
    chart.picture.append(svg("text", { x: BOX.left + inner.width / 2, y: BOX.height / 2, "text-anchor": "middle", class: "void" },
      points.length === 0 ? "no figures yet" : "none in this time"));
  }
  summarise(chart);
  choose(chart, chart.chosen);
}

function summarise(chart) {
  const [first] = chart.lines;
  const found = points.filter((point) => first.value(point) !== null);
  if (found.length === 0) return setText(chart.summary, "No file was processed in this time.");
  const most = found.reduce((best, point) => (first.value(point) > first.value(best) ? point : best));
  const least = found.reduce((best, point) => (first.value(point) < first.value(best) ? point : best));
  const describe = (point) => `${chart.kind.tick(first.value(point))} at ${clock(new Date(point.at))}`;
  return setText(chart.summary, `${first.label}: least ${describe(least)}, most ${describe(most)}. The arrow keys read single points; a table follows.`);
}

function table() {
  if (!byId("hour-table").open) return;
  const head = ["Until", "Files", "Read", "Written", "Ratio", "Median", "99 % within", "Quarantined", "In flight", "Waiting"];
  const cell = (text) => html("td", {}, text);
  const optional = (value) => (value === null ? "–" : seconds(value));
  const rows = points.toReversed().flatMap((point) => {
    const one = part(point, chosenPipeline);
    return one === undefined ? [] : [html("tr", {},
      html("th", { scope: "row" }, clock(new Date(point.at))),
      cell(count(one.files)), cell(bytes(one.source_bytes)), cell(bytes(one.output_bytes)),
      cell(ratio(one.source_bytes, one.output_bytes)), cell(optional(one.p50_seconds)), cell(optional(one.p99_seconds)),
      cell(count(one.quarantined)), cell(count(one.in_flight)), cell(count(one.pending)))];
  });
  byId("point-table").replaceChildren(
    html("caption", {}, `Each row has the figures of ${interval} seconds, newest first`),
    html("thead", {}, html("tr", {}, ...head.map((word) => html("th", { scope: "col" }, word)))),
    html("tbody", {}, ...rows));
}

function redraw() {
  const { minutes } = timeSpan();
  setText(byId("hour-title"), minutes === 60 ? "Last hour" : `Last ${span(minutes * 60)}`);
  for (const chart of charts) {
    chart.lines = chart.kind.lines();
    setText(chart.unit, chart.kind.unit());
    const key = chart.lines.map((each) => each.label).join("\0");
    if (chart.legendKey !== key) chart.legend.replaceChildren(...chart.lines.map(legendEntry));
    chart.legendKey = key;
    draw(chart);
  }
  table();
}

// Median and 99 % of the newest interval in which this pipeline published a file.
export function latency(name) {
  const found = points.findLast((point) => (part(point, name)?.p50_seconds ?? null) !== null);
  return found === undefined ? null : part(found, name);
}

export const isEmpty = () => points.every((point) => point.files + point.in_flight + point.pending + point.quarantined === 0);

export function update(status) {
  const now = status.pipelines.map((one) => one.name);
  if (now.join("\0") === names.join("\0")) return;
  names = now;
  const select = byId("chart-pipeline");
  select.replaceChildren(html("option", { value: "" }, "all"), ...names.map((one) => html("option", { value: one }, one)));
  if (!names.includes(chosenPipeline)) chosenPipeline = "";
  select.value = chosenPipeline;
  select.closest("label").hidden = names.length < 2;
  redraw();
}

export function start() {
  charts.push(...KINDS.map(make));
  redraw();
  byId("hour-table").addEventListener("toggle", table);
  byId("chart-pipeline").addEventListener("input", () => {
    chosenPipeline = byId("chart-pipeline").value;
    redraw();
  });
}

export function all(series) {
  interval = series.interval_seconds;
  points = series.points.slice(-POINTS);
  charts.forEach((chart) => { chart.chosen = null; });
  redraw();
}

export function add(point) {
  if (points.length > 0 && at(point) <= at(points.at(-1))) return;
  points.push(point);
  if (points.length > POINTS) {
    points.shift();
    charts.forEach((chart) => { if (chart.chosen > 0) chart.chosen -= 1; });
  }
  redraw();
}
