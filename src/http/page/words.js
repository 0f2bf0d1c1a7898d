// How figures and names are written, and the only ways an element is made. Data becomes text, never markup.

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

// An element of HTML; its text children are text whatever they hold.
export const html = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// Writes only what changed, so that a reader's place and selection stay.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// The name of a file: its letters may run from right to left, and must not turn what is beside it.
export const name = (path) => html("bdi", { class: "name", title: path }, path);

export const count = (number) => GROUPED.format(number);

export const files = (number) => `${count(number)} ${number === 1 ? "file" : "files"}`;

// Three digits, no more.
function short(number) {
  if (number === 0) return "0";
  if (number >= 100) return count(number);
  if (number >= 10) return number.toFixed(1).replace(/\.0$/, "");
  return number.toFixed(2).replace(/\.?0+$/, "");
}

export function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  let left = number;
  while (left >= 999.5 && unit < units.length - 1) {
    left /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? count(left) : short(left)} ${units[unit]}`;
}

export const rate = (number) => (number > 0 && number < 0.01 ? "<0.01/s" : `${short(number)}/s`);

export const percent = (share) => `${short(share * 100)} %`;

// Of time: whole percents, a trace of it told as such.
export const load = (share) => (share > 0 && share < 0.005 ? "<1 %" : `${count(share * 100)} %`);

export function seconds(number) {
  if (number === 0) return "0 s";
  if (number < 0.001) return `${short(number * 1e6)} µs`;
  if (number < 1) return `${short(number * 1000)} ms`;
  if (number < 60) return `${short(number)} s`;
  return span(number);
}

// Of a length that people say in whole units.
export function span(number) {
  const whole = Math.max(0, Math.round(number));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export const clock = (date) => CLOCK.format(date);

export const shortClock = (date) => SHORT_CLOCK.format(date);

// The time of day, with the day where it is not today's.
export function moment(text) {
  const date = new Date(text);
  const today = date.toDateString() === new Date().toDateString();
  const said = today ? clock(date) : `${DAY.format(date)} ${shortClock(date)}`;
  return html("time", { datetime: text, title: date.toString() }, said);
}
