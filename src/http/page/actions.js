// What the operator can do, and what is said about it afterwards.

import { Refused, change, confirmed } from "./calls.js";
import { isDraining, isHeld, sum } from "./state.js";
import { byId, bytes, count, files, say, span } from "./words.js";

let status = null;
let reachable = false;
const pending = new Set();

export function tell(text, kind = "done") {
  const place = byId("said");
  place.dataset.kind = kind;
  say(place, text);
}

// Why nothing can be changed from here, if so.
function obstacle() {
  if (status === null || !reachable) return "The service does not answer now.";
  if (!status.can_change && !status.token_set) {
    return "This page can only look. Start the service with --admin-token-file FILE to change it from here, or use its admin socket.";
  }
  return null;
}

// Does one thing, says how it went, and gives the answer or null.
export async function act(action, body, words) {
  const why = obstacle();
  if (why !== null) {
    tell(why, "refused");
    return null;
  }
  const key = action + JSON.stringify(body);
  if (pending.has(key)) return null;
  pending.add(key);
  try {
    const answer = await change(action, body);
    if (answer === null) tell("Nothing was changed: no token was given.", "refused");
    else tell(...[words(answer)].flat());
    return answer;
  } catch (error) {
    const told = error instanceof Refused ? error.message : "The service did not answer.";
    tell(`Not done: ${told}`, "refused");
    return null;
  } finally {
    pending.delete(key);
  }
}

const of = (pipeline) => (pipeline === null ? "" : ` ${pipeline}`);

export const hold = (held, pipeline = null) =>
  held
    ? act("resume", { pipeline }, () => `Resumed${of(pipeline)}: files are taken in again.`)
    : act("pause", { pipeline }, () => `Paused${of(pipeline)}: no new files are taken. It does not outlive a restart.`);

export const rescan = (pipeline = null) =>
  act("rescan", { pipeline }, () => `A scan of ${pipeline === null ? "every input" : `the input of ${pipeline}`} was started.`);

function reloadWords(answer) {
  const parts = ["changed", "added", "removed"]
    .filter((key) => (answer[key] ?? []).length > 0)
    .map((key) => `${key}: ${answer[key].join(", ")}`);
  return parts.length === 0 ? "The configuration was read again: nothing changed." : `The configuration was read again; ${parts.join("; ")}.`;
}

async function drain() {
  const why = obstacle();
  if (why !== null) return tell(why, "refused");
  const working = sum(status, "in_work");
  const rest = working === 0
    ? "No file is in work."
    : `${files(working)} (${bytes(sum(status, "in_work_bytes"))}) in work will be finished, as far as the shutdown deadline allows.`;
  const waiting = sum(status, "pending");
  const left = waiting === 0 ? "" : ` ${count(waiting)} waiting will be left for the next start.`;
  say(byId("ask-drain-text"), `No new files are taken. ${rest}${left} Then the service ends, and only its supervisor or you can start it again.`);
  if (!(await confirmed(byId("ask-drain")))) return undefined;
  return act("drain", {}, () => "Draining began.");
}

// Takes these files out of quarantine. True where at least one went.
export async function requeue(body) {
  const answer = await act("requeue", body, (given) => {
    const failed = given.failed ?? [];
    const first = failed.length > 0 ? ` ${files(failed.length)} could not be: ${failed[0].error}.` : "";
    return [`${files(given.requeued)} went back to the intake.${first}`, failed.length > 0 ? "refused" : "done"];
  });
  return (answer?.requeued ?? 0) > 0;
}

export async function requeueAll(pipeline, total) {
  const where = pipeline === null ? "" : ` of ${pipeline}`;
  say(byId("ask-requeue-text"), `${files(total)}${where} will go through the intake again, each with all its tries.`);
  return (await confirmed(byId("ask-requeue"))) && requeue({ all: true, pipeline });
}

export function start() {
  byId("hold").addEventListener("click", () => hold(status !== null && isHeld(status)));
  byId("rescan").addEventListener("click", () => rescan());
  byId("reload").addEventListener("click", () => act("reload", {}, reloadWords));
  byId("drain").addEventListener("click", drain);
}

export function update(now, isUp) {
  status = now;
  reachable = isUp;
  if (now === null) return;
  say(byId("hold"), isHeld(now) ? "Resume" : "Pause");
  const looksOnly = !now.can_change && !now.token_set;
  const only = byId("only");
  only.hidden = !looksOnly;
  say(only, looksOnly ? "Looking only: --admin-token-file FILE lets this page change the service." : "");
  // The buttons stay in reach of the keyboard, and say why they do nothing.
  for (const id of ["hold", "rescan", "reload", "drain", "requeue-all"]) {
    const idle = !isUp || looksOnly || isDraining(now);
    byId(id).setAttribute("aria-disabled", String(idle));
  }
  drainUpdate(now);
}

function drainUpdate(now) {
  const panel = byId("draining");
  panel.hidden = now.drain === null;
  if (now.drain === null) return;
  const { left_files: left, left_bytes: size, seconds, deadline_seconds_left: deadline, estimated_seconds_left: estimate } = now.drain;
  say(byId("drain-left"), `${files(left)}, ${bytes(size)}`);
  say(byId("drain-estimate"), estimate === null ? "not known yet" : `about ${span(estimate)}`);
  say(byId("drain-deadline"), `in ${span(deadline)}`);
  const whole = seconds + deadline;
  byId("drain-time").value = whole > 0 ? seconds / whole : 1;
  let verdict = "How long it will take is not known before something is finished.";
  if (left === 0) verdict = "Nothing is left but the last commit.";
  else if (estimate !== null && estimate <= deadline) verdict = "At this pace all of it is finished before the deadline.";
  else if (estimate !== null) verdict = "At this pace the deadline comes first: what is left then stays in the input for the next start.";
  say(byId("drain-verdict"), verdict);
}
