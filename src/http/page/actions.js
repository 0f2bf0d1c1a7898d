// The operator's actions, and the message that each one leaves.

import { Refused, change, confirmed } from "./calls.js";
import { isDraining, isPaused, isReadOnly, queued, running, total } from "./state.js";
import { byId, bytes, count, files, setText, span } from "./words.js";

let status = null;
let reachable = false;
const pending = new Set();

export function showMessage(text, kind = "done") {
  const place = byId("message");
  place.dataset.kind = kind;
  setText(place, text);
}

// The reason why nothing can be changed now, or null.
function obstacle() {
  if (status === null || !reachable) return "The service does not answer.";
  if (isReadOnly(status)) return "This page is read-only.";
  if (isDraining(status)) return "The service is draining: nothing else can be changed.";
  return null;
}

// Runs one action, shows its result, and returns the answer or null.
export async function act(action, body, describe) {
  const reason = obstacle();
  if (reason !== null) {
    showMessage(reason, "refused");
    return null;
  }
  const key = action + JSON.stringify(body);
  if (pending.has(key)) return null;
  pending.add(key);
  try {
    const answer = await change(action, body);
    if (answer === null) showMessage("Nothing was changed: no token was given.", "refused");
    else showMessage(...[describe(answer)].flat());
    return answer;
  } catch (error) {
    showMessage(`Not done: ${error instanceof Refused ? error.message : "The service did not answer."}`, "refused");
    return null;
  } finally {
    pending.delete(key);
  }
}

const of = (pipeline) => (pipeline === null ? "" : ` ${pipeline}`);

export const togglePause = (paused, pipeline = null) =>
  paused
    ? act("resume", { pipeline }, () => `Resumed${of(pipeline)}: new files are taken again.`)
    : act("pause", { pipeline }, () => `Paused${of(pipeline)}: no new files are taken. A restart ends the pause.`);

export const rescan = (pipeline = null) =>
  act("rescan", { pipeline }, () => `A scan of ${pipeline === null ? "every input" : `the input of ${pipeline}`} was started.`);

function reloadResult(answer) {
  const parts = ["changed", "added", "removed"]
    .filter((key) => (answer[key] ?? []).length > 0)
    .map((key) => `${key}: ${answer[key].join(", ")}`);
  return parts.length === 0 ? "The configuration was read again: nothing changed." : `The configuration was read again; ${parts.join("; ")}.`;
}

async function drain() {
  const reason = obstacle();
  if (reason !== null) return showMessage(reason, "refused");
  const active = total(status, running);
  const waiting = total(status, queued);
  const rest = active === 0 ? "No file is running." : `${files(active)} running: they finish if the shutdown deadline allows.`;
  const later = waiting === 0 ? "" : ` ${count(waiting)} queued: they stay in the input for the next start.`;
  setText(byId("ask-drain-text"), `No new files are taken. ${rest}${later} Then the service ends, and only its supervisor or you can start it again.`);
  if (!(await confirmed(byId("ask-drain")))) return undefined;
  return act("drain", {}, () => "The drain began.");
}

// Returns these files to the intake. True if at least one went.
export async function requeue(body) {
  const answer = await act("requeue", body, (result) => {
    const failed = result.failed ?? [];
    const first = failed.length > 0 ? ` ${files(failed.length)} could not be moved: ${failed[0].error}.` : "";
    return [`${files(result.requeued)} went back to the intake.${first}`, failed.length > 0 ? "refused" : "done"];
  });
  return (answer?.requeued ?? 0) > 0;
}

// As `requeue`, after a confirmation that shows how many files go.
export async function requeueMany(body, number, description) {
  const reason = obstacle();
  if (reason !== null) {
    showMessage(reason, "refused");
    return false;
  }
  setText(byId("ask-requeue-title"), `Requeue ${files(number)}?`);
  setText(byId("ask-requeue-text"), `${description} Each goes through the intake again with all its attempts.`);
  return (await confirmed(byId("ask-requeue"))) && requeue({ all: true, ...body });
}

export function start() {
  byId("pause").addEventListener("click", () => togglePause(status !== null && isPaused(status)));
  byId("rescan").addEventListener("click", () => rescan());
  byId("reload").addEventListener("click", async () => {
    if (await act("reload", {}, reloadResult) !== null) document.dispatchEvent(new Event("reloaded"));
  });
  byId("drain").addEventListener("click", drain);
}

export function update(now, isUp) {
  status = now;
  reachable = isUp;
  if (now === null) return;
  setText(byId("pause"), isPaused(now) ? "Resume" : "Pause");
  document.body.dataset.access = isReadOnly(now) ? "read-only" : "full";
  // The keyboard still reaches these buttons, and each one states why it does nothing.
  for (const id of ["pause", "rescan", "reload", "drain", "requeue-all"]) {
    byId(id).setAttribute("aria-disabled", String(!isUp || isDraining(now)));
  }
  showDrain(now, isUp);
}

function showDrain(now, isUp) {
  const panel = byId("draining");
  panel.hidden = now.drain === null || !isUp;
  if (now.drain === null) return;
  const { unfinished_files: unfinished, unfinished_bytes: unread, deadline_left_seconds: deadline, estimated_left_seconds: estimate } = now.drain;
  setText(byId("drain-left"), count(unfinished));
  setText(byId("drain-unread"), `${bytes(unread)} to read`);
  setText(byId("drain-estimate"), estimate === null ? "unknown" : `about ${span(estimate)}`);
  setText(byId("drain-deadline"), `in ${span(deadline)}`);
  let verdict = "The remaining time is unknown until a file is finished.";
  if (unfinished === 0) verdict = "Only the last commit is unfinished.";
  else if (estimate !== null && estimate <= deadline) verdict = "At this pace every file is finished before the deadline.";
  else if (estimate !== null) verdict = "At this pace the deadline comes first: unfinished files stay in the input for the next start.";
  setText(byId("drain-verdict"), verdict);
}
