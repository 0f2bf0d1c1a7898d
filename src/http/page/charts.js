// The last hour in three charts drawn by hand, each with axes, units, a readout for every point by
// pointer and by arrow keys, and one table of all the figures.

import { byId, bytes, clock, count, html, percent, rate, say, seconds, shortClock, svg } from "./words.js";

const POINTS = 360;
const BOX = { height: 190, left: 62, right: 12, top: 12, bottom: 26 };
// The axis shows the least of these that holds what there is, in so many parts of whole minutes.
const SPANS = [[10, 5], [20, 4], [30, 3], [60, 4]].map(([minutes, parts]) => ({ length: minutes * 60_000, parts }));

let interval = 10;
let points = [];
const charts = [];

const ratio = (point) => (point.source_bytes > 0 && point.files > 0 ? point.output_bytes / point.source_bytes : null);

const KINDS = [
  {
    id: "throughput",
    title: "Throughput",
    unit: "bytes a second",
    tick: (value) => `${bytes(value)}/s`,
    // An axis in whole megabytes, as long as there is nothing to show.
    least: 1000,
    lines: [
      { name: "read", mark: "first", value: (point) => point.source_bytes / interval },
      { name: "written", mark: "second", value: (point) => point.output_bytes / interval },
    ],
    tell: (point) =>
      `${rate(point.files / interval).replace("/s", " files/s")}, ${bytes(point.source_bytes / interval)}/s → ${bytes(point.output_bytes / interval)}/s`,
  },
  {
    id: "ratio",
    title: "Ratio",
    unit: "output as a share of its source",
    tick: percent,
    least: 1,
    lines: [{ name: "output by source", mark: "first", value: ratio }],
    tell: (point) => (ratio(point) === null ? "nothing was published" : `${percent(ratio(point))} of the source`),
  },
  {
    id: "latency",
    title: "Latency",
    unit: "from settled to acknowledged",
    tick: seconds,
    least: 0.01,
    lines: [
      { name: "half within", mark: "first", value: (point) => point.p50_seconds },
      { name: "99 % within", mark: "second", value: (point) => point.p99_seconds },
    ],
    tell: (point) =>
      point.p50_seconds === null
        ? "nothing was published"
        : `half within ${seconds(point.p50_seconds)}, 99 % within ${seconds(point.p99_seconds)}`,
  },
];

// Round steps of 1, 2 or 5, three to five of them up to the most.
export function ticks(most) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let value = 0; value <= most + step * 0.999; value += step) found.push(value);
  return found;
}

const at = (point) => new Date(point.at).getTime();

function make(kind) {
  const picture = svg("svg", { class: "chart", "aria-hidden": "true" });
  const readout = html("p", { class: "readout" });
  // A slider is what it is for hands: one value of many, chosen along an axis.
  const slider = html("div", {
    class: "plot", tabindex: 0, role: "slider", "aria-label": `${kind.title}, point in time`,
    "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0, "aria-orientation": "horizontal",
  }, picture);
  const legend = html("ul", { class: "legend" }, ...kind.lines.map((line) =>
    html("li", {},
      svg("svg", { viewBox: "0 0 24 8", width: 24, height: 8, "aria-hidden": "true" },
        svg("path", { d: "M0 4h24", class: `line ${line.mark}` })),
      line.name)));
  const summary = html("p", { class: "unseen", id: `${kind.id}-summary` });
  slider.setAttribute("aria-describedby", summary.id);
  const figure = html("figure", { class: "figure" },
    html("figcaption", {}, html("h3", {}, kind.title), html("span", { class: "unit" }, kind.unit),
      legend),
    slider, readout, summary);
  const chart = { kind, picture, readout, slider, summary, chosen: null, place: null };
  slider.addEventListener("pointermove", (event) => choose(chart, nearest(chart, event.offsetX)));
  slider.addEventListener("pointerleave", () => choose(chart, null));
  slider.addEventListener("blur", () => choose(chart, null));
  slider.addEventListener("keydown", (event) => byKey(chart, event));
  new ResizeObserver(() => draw(chart)).observe(slider);
  byId("charts").append(figure);
  return chart;
}

function byKey(chart, event) {
  const end = points.length - 1;
  const now = chart.chosen ?? end;
  const to = {
    ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1,
    PageDown: now - 30, PageUp: now + 30, Home: 0, End: end,
  }[event.key];
  if (to === undefined || end < 0) return;
  event.preventDefault();
  choose(chart, Math.min(end, Math.max(0, to)));
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
  if (point === undefined) {
    say(chart.readout, "Nothing is known yet.");
    chart.slider.setAttribute("aria-valuetext", "nothing is known yet");
    return;
  }
  const told = chart.kind.tell(point);
  say(chart.readout, `${clock(new Date(point.at))} · ${told}`);
  chart.slider.setAttribute("aria-valuemax", points.length - 1);
  chart.slider.setAttribute("aria-valuenow", index ?? points.length - 1);
  chart.slider.setAttribute("aria-valuetext", `${clock(new Date(point.at))}: ${told}`);
  chart.picture.querySelector(".cross")?.remove();
  if (index === null || chart.place === null) return;
  const x = chart.place.x(at(point));
  const marks = chart.kind.lines.flatMap((line) => {
    const value = line.value(point);
    return value === null ? [] : [svg("circle", { cx: x, cy: chart.place.y(value), r: 3.5, class: `dot ${line.mark}` })];
  });
  chart.picture.append(svg("g", { class: "cross" },
    svg("path", { d: `M${x} ${BOX.top}V${BOX.height - BOX.bottom}` }), ...marks));
}

// One path for each unbroken run; a point alone is a dot, by the round cap of its line.
function path(line, place) {
  let text = "";
  let open = false;
  for (const point of points) {
    const value = line.value(point);
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

function axes(chart, place, found, width) {
  const bottom = BOX.height - BOX.bottom;
  const across = found.map((value) => svg("g", {},
    svg("path", { d: `M${BOX.left} ${place.y(value)}H${width - BOX.right}`, class: value === 0 ? "axis" : "grid" }),
    svg("text", { x: BOX.left - 8, y: place.y(value) + 4, "text-anchor": "end" }, chart.kind.tick(value))));
  const labels = [];
  const steps = width < 340 && place.parts > 3 ? 2 : place.parts;
  for (let index = 0; index <= steps; index += 1) {
    const time = place.from + ((place.to - place.from) * index) / steps;
    const anchor = index === 0 ? "start" : index === steps ? "end" : "middle";
    labels.push(svg("g", {},
      svg("path", { d: `M${place.x(time)} ${bottom}v4`, class: "axis" }),
      svg("text", { x: place.x(time), y: bottom + 18, "text-anchor": anchor }, shortClock(new Date(time)))));
  }
  return [...across, ...labels];
}

function draw(chart) {
  const width = chart.slider.clientWidth;
  if (width === 0) return;
  const to = points.length > 0 ? at(points.at(-1)) : Date.now();
  const from = points.length > 0 ? at(points[0]) : to;
  const { length, parts } = SPANS.find((span) => span.length >= to - from) ?? SPANS.at(-1);
  const values = points.flatMap((point) => chart.kind.lines.map((line) => line.value(point) ?? 0));
  const found = ticks(Math.max(chart.kind.least, ...values));
  const most = found.at(-1);
  const inner = { width: width - BOX.left - BOX.right, height: BOX.height - BOX.top - BOX.bottom };
  const place = {
    from: to - length,
    to,
    parts,
    x: (time) => BOX.left + (inner.width * (time - to + length)) / length,
    y: (value) => BOX.height - BOX.bottom - (inner.height * value) / most,
  };
  chart.place = place;
  chart.picture.setAttribute("viewBox", `0 0 ${width} ${BOX.height}`);
  chart.picture.setAttribute("height", BOX.height);
  chart.picture.replaceChildren(
    ...axes(chart, place, found, width),
    ...chart.kind.lines.map((line) => svg("path", { d: path(line, place), class: `line ${line.mark}` })));
  if (!values.some((value) => value > 0)) {
    chart.picture.append(svg("text", { x: BOX.left + inner.width / 2, y: BOX.height / 2, "text-anchor": "middle", class: "void" },
      points.length === 0 ? "no figures yet" : "nothing was processed"));
  }
  summarise(chart);
  choose(chart, chart.chosen);
}

function summarise(chart) {
  const known = points.filter((point) => chart.kind.lines[0].value(point) !== null);
  if (known.length === 0) return say(chart.summary, "Nothing was processed in this time.");
  const first = (point) => chart.kind.lines[0].value(point);
  const most = known.reduce((best, point) => (first(point) > first(best) ? point : best));
  const least = known.reduce((best, point) => (first(point) < first(best) ? point : best));
  const told = (point) => `${chart.kind.tick(first(point))} at ${clock(new Date(point.at))}`;
  return say(chart.summary, `${chart.kind.lines[0].name}: least ${told(least)}, most ${told(most)}. The arrow keys read single points; a table is below.`);
}

function table() {
  if (!byId("hour-table").open) return;
  const head = ["Until", "Files", "Read", "Written", "Ratio", "Half within", "99 % within", "Quarantined", "In work", "Waiting"];
  const cell = (text) => html("td", {}, text);
  const rows = points.toReversed().map((point) => html("tr", {},
    html("th", { scope: "row" }, clock(new Date(point.at))),
    cell(count(point.files)), cell(bytes(point.source_bytes)), cell(bytes(point.output_bytes)),
    cell(ratio(point) === null ? "–" : percent(ratio(point))),
    cell(point.p50_seconds === null ? "–" : seconds(point.p50_seconds)),
    cell(point.p99_seconds === null ? "–" : seconds(point.p99_seconds)),
    cell(count(point.quarantined)), cell(count(point.in_work)), cell(count(point.pending))));
  byId("point-table").replaceChildren(
    html("caption", {}, `Each row is what happened in ${interval} seconds, newest first`),
    html("thead", {}, html("tr", {}, ...head.map((word) => html("th", { scope: "col" }, word)))),
    html("tbody", {}, ...rows));
}

function redraw() {
  charts.forEach(draw);
  table();
}

export function start() {
  charts.push(...KINDS.map(make));
  byId("hour-table").addEventListener("toggle", table);
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
