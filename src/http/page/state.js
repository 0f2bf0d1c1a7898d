// The state of the service in one word and one sentence, from its status and the connection to it.

import { clock, count, fileRate, files, since as sinceTime, span } from "./words.js";

// Each state has its own shape, so that colour is never the only sign.
const SIGNS = {
  connecting: "M12 4a8 8 0 1 0 8 8M12 8v4l3 2",
  unreachable: "M9 15 4.5 19.5M19.5 4.5 15 9M8 9.5 6 11.5a4.2 4.2 0 0 0 6 6l2-2M16 14.5l2-2a4.2 4.2 0 0 0-6-6l-2 2M4 8h2M8 4v2M18 16h2M16 18v2",
  starting: "M12 4a8 8 0 1 0 8 8M12 8v4l3 2",
  draining: "M12 4v10M7.5 10l4.5 4.5L16.5 10M5 19.5h14",
  stopped: "M7 7h10v10H7z",
  unavailable: "M12 4 21 19.5H3zM12 10v4M12 16.8v.2",
  paused: "M9 6v12M15 6v12",
  busy: "M3 9c3 0 3 3 6 3s3-3 6-3 3 3 6 3M3 15c3 0 3 3 6 3s3-3 6-3 3 3 6 3",
  idle: "M5 12.5 10 17.5 19 7.5",
};

export const sum = (status, key) => status.pipelines.reduce((total, one) => total + one[key], 0);

// Files that a stage has begun; the rest of the files in flight wait for their turn.
export const running = (one) => Math.max(0, one.in_flight - one.queued);

// Found files on which no stage has begun.
export const queued = (one) => one.queued + one.pending;

export const total = (status, of) => status.pipelines.reduce((all, one) => all + of(one), 0);

export const oldest = (status) => Math.max(0, ...status.pipelines.map((one) => one.oldest_pending_seconds));

export const isDraining = (status) =>
  status.drain !== null || ["CLOSING", "DRAINING", "COMMITTING", "STOPPED"].includes(status.phase);

// The pause of a pipeline for this reason: `operator`, `storage` or `window`.
export const pauseOf = (one, reason) => one.paused.find((pause) => pause.reason === reason);

const isPausedByOperator = (one) => pauseOf(one, "operator") !== undefined;

export const isPaused = (status) =>
  status.paused_by_operator || (status.pipelines.length > 0 && status.pipelines.every(isPausedByOperator));

export const isReadOnly = (status) => !status.can_change && !status.token_set;

function load(status) {
  const parts = [];
  const active = total(status, running);
  const waiting = total(status, queued);
  if (active > 0) parts.push(`${files(active)} running`);
  if (waiting > 0) {
    const since = oldest(status) >= 1 ? `, the oldest for ${span(oldest(status))}` : "";
    parts.push(`${count(waiting)} queued${since}`);
  }
  return parts.join(", ");
}

function ofStatus(status, rate) {
  if (status.phase === "STARTING") {
    return ["starting", "Starting", "Unfinished work of the previous run is resolved before the intake opens."];
  }
  if (isDraining(status)) {
    const unfinished = status.drain?.unfinished_files ?? sum(status, "in_flight");
    const rest = unfinished > 0 ? `${files(unfinished)} unfinished.` : "The last files are made durable.";
    return ["draining", "Draining", `No new files are taken. ${rest}`];
  }
  const affected = status.pipelines.filter((one) => pauseOf(one, "storage") !== undefined);
  if (affected.length > 0) {
    const alone = status.pipelines.length === 1;
    const reasons = affected.map((one) => {
      const pause = pauseOf(one, "storage");
      return `${alone ? "" : `${one.name}: `}${pause.detail} (${sinceTime(pause.since)})`;
    }).join("; ");
    const also = status.paused_by_operator ? " The operator paused it as well." : "";
    return ["unavailable", "Storage unavailable", `${reasons.replace(/\.$/, "")}. Every source stays; processing resumes automatically once the storage is available.${also}`];
  }
  const work = load(status);
  if (isPaused(status)) {
    return ["paused", "Paused", `By the operator: no new files are taken. ${work === "" ? "No file is running or queued." : `${work}.`}`];
  }
  const paused = status.pipelines.filter(isPausedByOperator).map((one) => one.name);
  const partly = paused.length > 0 ? ` Paused by the operator: ${paused.join(", ")}.` : "";
  const closed = status.pipelines.filter((one) => pauseOf(one, "window") !== undefined);
  if (work === "" && closed.length > 0 && closed.length === status.pipelines.length) {
    const opens = closed.map((one) => `${closed.length === 1 ? "" : `${one.name}: `}${pauseOf(one, "window").detail}`);
    return ["paused", "Paused", `Outside its window: ${opens.join("; ")}. No new files are taken until then.${partly}`];
  }
  if (work !== "" || rate > 0) {
    const pace = rate > 0 ? `${fileRate(rate)}. ` : "";
    return ["busy", "Busy", `${pace}${work === "" ? "" : `${work}.`}${partly}`.trim()];
  }
  const seen = ["published", "skipped", "quarantined"].some((key) => sum(status, key) > 0);
  return ["idle", "Idle", `${seen ? "All files that were found are processed." : "No new file since the start."}${partly}`];
}

// The connection is lost after a drain began. Only the report of its end is final.
function stopped(status, since) {
  const unfinished = status.drain?.unfinished_files ?? sum(status, "in_flight");
  const resumed = `${files(unfinished)} unfinished, which the next start resumes`;
  if (status.drain?.ended) {
    return `The service ended at ${since}: ${unfinished > 0 ? resumed : "no file is unfinished"}. Reconnecting.`;
  }
  const rest = unfinished > 0 ? resumed : "no unfinished file";
  return `No answer since ${since}, after a drain began. Last report: ${rest}. The service's log has the outcome. Reconnecting.`;
}

// `down` is the time since which the connection is lost, or null while it is up.
export function describe(status, down, rate) {
  let found;
  if (down !== null) {
    const since = clock(down);
    found = status !== null && isDraining(status)
      ? ["stopped", "Stopped", stopped(status, since)]
      : ["unreachable", "Unreachable", `No answer since ${since}. Reconnecting; the figures below are from then.`];
  } else if (status === null) {
    found = ["connecting", "Connecting", "The page requests the status of the service."];
  } else {
    found = ofStatus(status, rate);
  }
  const [kind, word, sentence] = found;
  return { kind, word, sentence, sign: SIGNS[kind] };
}
