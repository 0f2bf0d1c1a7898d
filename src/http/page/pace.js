// Rates of the last seconds, from two statuses, and the bottleneck that they show.

import { sum } from "./state.js";

const WINDOW = 5;
// A sender that waits this share of the time has a full channel before it.
const BLOCKED = 0.5;
// Channels in the order of the flow, with the stage that each one feeds.
const FEEDS = [
  ["claim", "claim"], ["read", "read"], ["transform", "transform"], ["large", "transform"], ["write", "write"],
  ["commit", "commit"], ["publish", "commit"], ["acknowledge", "commit"], ["dispose", "dispose"],
];

let recent = [];

// Adds a status; those of another run of the service are dropped.
export function add(status, isAnotherRun) {
  recent = isAnotherRun ? [status] : [...recent, status].filter((one) => status.uptime_seconds - one.uptime_seconds <= WINDOW + 0.5);
}

function pipelinePaces(first, last, time) {
  const before = new Map(first.pipelines.map((one) => [one.name, one]));
  return Object.fromEntries(last.pipelines.map((one) => {
    const old = before.get(one.name) ?? one;
    const per = (key) => Math.max(0, one[key] - old[key]) / time;
    const finished = per("published") + per("skipped") + per("quarantined");
    return [one.name, { files: finished, sourceBytes: per("source_bytes"), outputBytes: per("output_bytes") }];
  }));
}

// Null until there are two statuses.
export function paces() {
  const [first, last] = [recent[0], recent.at(-1)];
  const time = recent.length < 2 ? 0 : last.uptime_seconds - first.uptime_seconds;
  if (time <= 0) return null;
  const per = (key) => Math.max(0, sum(last, key) - sum(first, key)) / time;
  const stagesBefore = new Map(first.stages.map((stage) => [stage.stage, stage]));
  const stages = Object.fromEntries(last.stages.map((stage) => {
    const old = stagesBefore.get(stage.stage) ?? stage;
    return [stage.stage, { files: (stage.files - old.files) / time, busy: (stage.busy_seconds - old.busy_seconds) / time }];
  }));
  const channelsBefore = new Map(first.channels.map((one) => [one.name, one]));
  const blocked = Object.fromEntries(last.channels.map((one) =>
    [one.name, (one.waited_seconds - (channelsBefore.get(one.name) ?? one).waited_seconds) / time]));
  return {
    files: per("published") + per("skipped") + per("quarantined"), sourceBytes: per("source_bytes"),
    pipelines: pipelinePaces(first, last, time), stages, blocked,
  };
}

// A channel of one place is full in normal work: only senders that wait for it count.
export const isFull = (channel, pace) =>
  (channel.capacity > 1 && channel.queued >= channel.capacity) || (pace?.blocked[channel.name] ?? 0) >= BLOCKED;

// The first stage that can be the cause of a queue, or null where there is none.
export function congested(status, pace) {
  const full = new Set(status.channels.filter((one) => isFull(one, pace)).map((one) => one.name));
  const last = FEEDS.findLast(([channel]) => full.has(channel));
  // Each pipeline has its own lanes.
  const lanesFull = status.pipelines.some((one) => one.lanes > 0 && one.lanes_busy >= one.lanes && one.queued > 0);
  return last?.[1] ?? (lanesFull ? "transform" : null);
}

// The stage that the others wait for, or null. A full channel shows where files queue: the cause is its
// consumer or a later stage, whichever works most.
export function bottleneck(status, pace) {
  const from = congested(status, pace);
  if (from === null) return null;
  const names = status.stages.map((stage) => stage.stage);
  const later = names.slice(names.indexOf(from));
  return later.reduce((most, stage) => ((pace.stages[stage]?.busy ?? 0) > (pace.stages[most]?.busy ?? 0) ? stage : most), from);
}
