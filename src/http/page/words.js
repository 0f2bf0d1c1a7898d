// Formats of figures and names, and the only ways to make an element. Data becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";
const GROUPED = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const SHORT_CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const byId = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// An HTML element; its text children stay text.
export const html = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// Writes only changed text, so that a reader's place and selection stay.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// A file's name. It may run from right to left and must not turn the text next to it.
export const name = (path) => html("bdi", { class: "name", title: path }, path);

// A file's name that links to its explanation.
export const fileLink = (path, input) =>
  path === "" ? name(path) : html("a", { class: "name", title: path, href: explainHref(input, path) }, html("bdi", {}, path));

export const explainHref = (input, path) =>
  `#explain=${encodeURIComponent(input === undefined ? path : `${input}/${path}`)}`;

export const count = (number) => GROUPED.format(number);

export const files = (number) => `${count(number)} ${number === 1 ? "file" : "files"}`;

// At most three digits.
function short(number) {
  if (number === 0) return "0";
  if (number >= 100) return count(number);
  if (number >= 10) return number.toFixed(1).replace(/\.0$/, "");
  return number.toFixed(2).replace(/\.?0+$/, "");
}

export function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  let amount = number;
  while (amount >= 999.5 && unit < units.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? count(amount) : short(amount)} ${units[unit]}`;
}

export const rate = (number) => (number > 0 && number < 0.01 ? "<0.01/s" : `${short(number)}/s`);

export const fileRate = (number) => rate(number).replace("/s", " files/s");

// Source bytes for each output byte, as the command line shows it: 4.00 is a quarter of the size.
export function ratio(source, output) {
  if (source === 0 || output === 0) return "–";
  return source / output >= 100 ? count(source / output) : (source / output).toFixed(2);
}

// The mean number of threads that worked.
export function threads(number) {
  if (number > 0 && number < 0.05) return "<0.1 threads";
  return `${number.toFixed(1)} threads`;
}

export function seconds(number) {
  if (number === 0) return "0 s";
  if (number < 0.001) return `${short(number * 1e6)} µs`;
  if (number < 1) return `${short(number * 1000)} ms`;
  if (number < 60) return `${short(number)} s`;
  return span(number);
}

// A duration in its two largest units.
export function span(number) {
  const total = Math.max(0, Math.round(number));
  const parts = (large, largeUnit, small, smallUnit) =>
    small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
  if (total < 60) return `${total} s`;
  if (total < 3600) return parts(Math.floor(total / 60), "min", total % 60, "s");
  if (total < 86400) return parts(Math.floor(total / 3600), "h", Math.floor((total % 3600) / 60), "min");
  return parts(Math.floor(total / 86400), "d", Math.floor((total % 86400) / 3600), "h");
}

export const clock = (date) => CLOCK.format(date);

export const shortClock = (date) => SHORT_CLOCK.format(date);

export const dated = (date) => `${DAY.format(date)} ${clock(date)}`;

// The time of day, with the date where it is not today.
export const since = (text) => {
  const date = new Date(text);
  const isToday = date.toDateString() === new Date().toDateString();
  return `since ${isToday ? "" : `${DAY.format(date)} `}${shortClock(date)}`;
};

// The code of a reason, in front of its sentence.
export const reasonCode = (code) => (code === null || code === "unclassified" ? "" : html("span", {}, html("code", { class: "reason-code" }, code), " "));

// Date and time of day.
export function moment(text) {
  const date = new Date(text);
  return html("time", { datetime: text, title: date.toString() }, dated(date));
}
