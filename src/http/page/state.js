// The state of the service in one word and one sentence, from its status and the connection to it.

import { clock, count, bytes, files, span } from "./words.js";

// A shape for each, so that colour never says it alone.
const SIGNS = {
  connecting: "M12 4a8 8 0 1 0 8 8M12 8v4l3 2",
  unreachable: "M9 15 4.5 19.5M19.5 4.5 15 9M8 9.5 6 11.5a4.2 4.2 0 0 0 6 6l2-2M16 14.5l2-2a4.2 4.2 0 0 0-6-6l-2 2M4 8h2M8 4v2M18 16h2M16 18v2",
  starting: "M12 4a8 8 0 1 0 8 8M12 8v4l3 2",
  draining: "M12 4v10M7.5 10l4.5 4.5L16.5 10M5 19.5h14",
  stopped: "M7 7h10v10H7z",
  sick: "M12 4 21 19.5H3zM12 10v4M12 16.8v.2",
  held: "M9 6v12M15 6v12",
  busy: "M3 9c3 0 3 3 6 3s3-3 6-3 3 3 6 3M3 15c3 0 3 3 6 3s3-3 6-3 3 3 6 3",
  idle: "M5 12.5 10 17.5 19 7.5",
};

export const sum = (status, key) => status.pipelines.reduce((total, one) => total + one[key], 0);

export const isDraining = (status) =>
  status.drain !== null || ["CLOSING", "DRAINING", "COMMITTING", "STOPPED"].includes(status.phase);

// What the buttons go by, too.
export const isHeld = (status) =>
  status.held || (status.pipelines.length > 0 && status.pipelines.every((one) => one.held));

function sick(status) {
  return status.pipelines.filter((one) => one.paused !== null);
}

function load(status) {
  const working = sum(status, "in_work");
  const waiting = sum(status, "pending");
  const oldest = Math.max(0, ...status.pipelines.map((one) => one.oldest_pending_seconds));
  const parts = [];
  if (working > 0) parts.push(`${files(working)} (${bytes(sum(status, "in_work_bytes"))}) in work`);
  if (waiting > 0) {
    const since = oldest >= 1 ? `, the oldest for ${span(oldest)}` : "";
    parts.push(`${count(waiting)} waiting${since}`);
  }
  return parts.join(", ");
}

function of(status, rate) {
  if (status.phase === "STARTING") {
    return ["starting", "Starting", "What the last run left is looked at before the intake opens."];
  }
  if (isDraining(status)) {
    const left = status.drain?.left_files ?? sum(status, "in_work");
    const rest = left > 0 ? `${files(left)} left.` : "The last files are made durable.";
    return ["draining", "Draining", `No new files are taken. ${rest}`];
  }
  const bad = sick(status);
  if (bad.length > 0) {
    const alone = status.pipelines.length === 1;
    const reasons = bad.map((one) => (alone ? one.paused : `${one.name}: ${one.paused}`)).join("; ");
    const also = status.held ? " The operator paused it as well." : "";
    return ["sick", "A place is sick", `${reasons.replace(/\.$/, "")}. Every source stays; it goes on by itself once the place is well.${also}`];
  }
  const work = load(status);
  if (isHeld(status)) {
    const rest = work === "" ? "No file is in work." : `${work}.`;
    return ["held", "Paused", `By the operator: no new files are taken. ${rest}`];
  }
  const held = status.pipelines.filter((one) => one.held).map((one) => one.name);
  const partly = held.length > 0 ? ` Paused by the operator: ${held.join(", ")}.` : "";
  if (work !== "" || rate > 0) {
    const pace = rate > 0 ? `${rate >= 10 ? count(rate) : rate.toFixed(1)} files/s. ` : "";
    return ["busy", "Busy", `${pace}${work === "" ? "" : `${work}.`}${partly}`.trim()];
  }
  return ["idle", "Idle", `All that was found is done.${partly}`];
}

// How the drain went, by the last that was heard of it.
function ending(status) {
  const left = status.drain?.left_files ?? 0;
  return left === 0
    ? "It drained."
    : `${files(left)} unfinished by the last word of it: the next start resumes them.`;
}

// `link` is the connection: since when it is down, or null where it is up.
export function describe(status, link, rate) {
  let found;
  if (link.down !== null) {
    const drained = status !== null && isDraining(status);
    const since = clock(link.down);
    found = drained
      ? ["stopped", "Stopped", `${ending(status)} No answer since ${since}. Reconnecting.`]
      : ["unreachable", "Unreachable", `No answer since ${since}. Reconnecting; the figures below are the last that were heard.`];
  } else if (status === null) {
    found = ["connecting", "Connecting", "Asking the service how it is."];
  } else {
    found = of(status, rate);
  }
  const [kind, word, sentence] = found;
  return { kind, word, sentence, sign: SIGNS[kind] };
}
