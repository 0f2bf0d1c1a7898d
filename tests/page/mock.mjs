// A service in any chosen state, true to the contract of its API: for states and data that are rare in
// the real one. `node mock.mjs SCENARIO PORT` serves it to a browser.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

const PAGE = new URL("../../src/http/page/", import.meta.url);
const TYPES = { html: "text/html; charset=utf-8", css: "text/css; charset=utf-8", js: "text/javascript; charset=utf-8", svg: "image/svg+xml" };
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
const CAPACITIES = { claim: 64, read: 64, large: 512, transform: 64, write: 64, commit: 512, publish: 1, acknowledge: 1, dispose: 512 };
const STAGES = ["discover", "settle", "claim", "read", "transform", "write", "commit", "dispose"];
// Every figure is the same in each run: time begins here.
const NOW = Date.UTC(2026, 10, 24, 14, 30, 0);

const iso = (secondsAgo) => new Date(NOW - secondsAgo * 1000).toISOString();

const PAUSED = [{ reason: "operator", since: iso(340), detail: null }];
const unavailable = (detail) => [{ reason: "storage", since: iso(340), detail }];

function pipeline(name, more = {}) {
  return {
    name, published: 0, skipped: 0, quarantined: 0, deferred: 0, retries: 0, source_bytes: 0, output_bytes: 0,
    overflows: 0, rescan_finds: 0, pending: 0, oldest_pending_seconds: 0, in_flight: 0, in_flight_bytes: 0,
    in_flight_done_bytes: 0, oldest_in_flight_seconds: 0, queued: 0, lanes_busy: 0, paused: [], input: `/srv/${name}/in`,
    output: `/srv/${name}/out`, transforms: "zstd:3", on_success: "keep", lanes: 2, quarantine_files: 0, ...more,
  };
}

function status(more = {}, queued = {}) {
  return {
    version: "0.1.0", host: "mill-3", pid: 4711, kernel: "6.18.2", sandbox: "active", phase: "READY", uptime_seconds: 8_412, paused_by_operator: false, drain: null, can_change: false, token_set: true,
    pipelines: [pipeline("main")],
    channels: Object.entries(CAPACITIES).map(([channel, capacity]) => ({
      name: channel, capacity, queued: queued[channel] ?? 0, entered: 48_211, waited_seconds: queued[channel] === capacity ? 92.4 : 0,
    })),
    stages: STAGES.map((stage, index) => ({ stage, files: 48_211, busy_seconds: 40 + index * 9.3 })),
    ...more,
  };
}

// Figures that look like work and are the same each time. With several pipelines, each is slower than
// the one before it by a factor of a hundred.
function hour({ points = 360, gapAt = [], names = ["main"] } = {}) {
  return Array.from({ length: points }, (_, index) => {
    const tide = 0.55 + 0.35 * Math.sin(index / 28) + 0.08 * Math.sin(index / 3.1) + 0.05 * Math.sin(index * 1.7);
    const rests = gapAt.some(([from, to]) => index >= from && index < to);
    const files = rests ? 0 : Math.round(3200 * tide);
    const source = files * 7_120;
    const all = {
      files, source_bytes: source, output_bytes: Math.round(source * (0.27 + 0.04 * Math.sin(index / 17))),
      quarantined: index % 97 === 0 ? 1 : 0,
      p50_seconds: rests ? null : 0.018 + 0.006 * tide, p99_seconds: rests ? null : 0.06 + 0.07 * tide * tide,
      in_flight: rests ? 0 : Math.round(180 * tide), pending: rests ? 0 : Math.round(900 * tide),
    };
    const slower = (seconds, place) => (seconds === null ? null : seconds * 100 ** place);
    const pipelines = names.map((name, place) => ({ name, ...all, p50_seconds: slower(all.p50_seconds, place), p99_seconds: slower(all.p99_seconds, place) }));
    return { at: iso((points - 1 - index) * 10), ...all, pipelines };
  });
}

const LOGS = ["app/access.log.1", "app/error.log.1", "db/wal/00000001000000A2", "edge/eu-3/requests-14.ndjson", "billing/ledger-2026-11.csv", "sensors/pit-7/frame-00812.raw"];

function outcomes(count, more = () => ({})) {
  return Array.from({ length: count }, (_, index) => {
    const path = LOGS[index % LOGS.length].replace(/(\d+)(?=\D*$)/, (digits) => String(Number(digits) + index).padStart(digits.length, "0"));
    const source = 9_000 + ((index * 7_919) % 4_000_000);
    return {
      id: 48_211 - index, pipeline: "main", source: path, state: "done", time: iso(index * 0.4), output: `${path}.zst`, source_bytes: source,
      output_bytes: Math.round(source * (0.2 + (index % 7) / 40)), attempts: 1, ...more(index),
    };
  });
}

const inQuarantine = (id, path, reason, more = {}) => ({
  id, pipeline: "main", reason_code: "output_error", source: path, kept_at: `/srv/inbox/${path}`, time: iso(id * 61), stage: "transform", cause: reason, reason, attempts: 3, bytes: 4_096 * id, ...more,
});

// A quarantined file whose reason names it, as those of the service do.
function failed(id, path, verb, why, more = {}) {
  return inQuarantine(id, path, `cannot ${verb} /srv/inbox/${path}: ${why}`, { cause: why, reason_code: "truncated", ...more });
}

const TRUNCATED = "`gunzip`: the input ends in the middle";

const QUARANTINE = [
  failed(7, "camera/2026-11-24/cut-off.gz", "transform", TRUNCATED),
  failed(6, "partner/invoice-export.gz", "transform", "`gunzip`: the input is damaged, or is not of this format: invalid gzip header", { reason_code: "corrupt", kept_at: "/srv/state/quarantine/main/6-invoice-export.gz" }),
  failed(5, "partner/zeros.gz", "transform", TRUNCATED),
  inQuarantine(4, "app/access.log.1", "/srv/outbox/app/access.log.1.zst exists, and `on_exists = \"fail\"`", { reason_code: "name_taken", cause: "the output exists, and `on_exists = \"fail\"`", stage: "commit", attempts: 1 }),
];

// Very many files with one cause, and a few with another.
const FLOOD = [
  ...Array.from({ length: 47 }, (_, index) => failed(100 - index, `partner/batch-7/part-${String(index).padStart(2, "0")}.gz`, "transform", TRUNCATED)),
  ...QUARANTINE.slice(3),
];

const HOSTILE = [
  "<img src=x onerror=\"document.title='owned'\">.log",
  "</script><script>document.title='owned'</script>",
  "\"'`&amp;&lt;b&gt;${alert(1)}.txt",
  "\\u{202e}gpj.exe\\n\\u{1b}[2J",
  "مرحبا-שלום-right-to-left.log",
  `${"a-very-long-name-without-a-place-to-break-".repeat(6)}.bin`,
  `${"deep/".repeat(60)}end`,
  "",
];

function busy() {
  const one = pipeline("main", {
    published: 48_190, quarantined: 4, retries: 12, source_bytes: 343_112_004_000, output_bytes: 94_214_880_000, pending: 1_204,
    oldest_pending_seconds: 12, oldest_pending: "2026/11/scan-0412.tif", in_flight: 187, queued: 158, lanes_busy: 2, in_flight_bytes: 4_218_000_000, in_flight_done_bytes: 900_000_000, quarantine_files: 4,
    input: "/srv/inbox", output: "/srv/outbox", on_success: "archive:/srv/done",
  });
  const work = [
    ["sensors/pit-7/run-2026-11-24.raw", 3_221_225_472, 0.71, "transform", 41], ["db/wal/00000001000000A2", 671_088_640, 0.34, "read", 9],
    ...outcomes(26).map((one, index) => [one.source, one.source_bytes, index < 12 ? 1 : 0.5, index < 8 ? "commit" : index < 14 ? "write" : "transform", 0]),
    ["backup/home.tar", 1_288_490_188, 0, "settle", 12],
  ];
  return {
    status: status({ pipelines: [one] }, { claim: 64, read: 41, large: 3, transform: 12, write: 2, commit: 96, publish: 1, acknowledge: 0, dispose: 18 }),
    work: work.map(([path, bytes, share, stage, seconds], index) => ({
      id: 60_000 + index, pipeline: "main", source: path, bytes, done_bytes: Math.round(bytes * share), stage, queued: stage === "settle", seconds,
    })),
    series: hour({ gapAt: [[120, 150]] }),
    outcomes: outcomes(120, (index) =>
      index === 4 ? { state: "skipped", output: undefined, output_bytes: undefined, reason_code: "name_taken", reason: "the output exists, and `on_exists = \"skip\"`", cause: "the output exists, and `on_exists = \"skip\"`" }
        : index === 9 ? { state: "quarantined", output: undefined, output_bytes: undefined, attempts: 3, reason_code: "truncated", reason: `cannot transform /srv/inbox/edge/eu-3/requests-23.ndjson: ${TRUNCATED}`, cause: TRUNCATED }
          : { seconds: 0.018 + (index % 5) / 200 }),
    quarantine: QUARANTINE,
    // What grows from one second to the next.
    grow(now, second) {
      now.channels[0].waited_seconds += 0.9;
      for (const stage of now.stages) {
        stage.files += 318 + (second % 5);
        stage.busy_seconds += { transform: 1.46, commit: 0.81, read: 0.22 }[stage.stage] ?? 0.06;
      }
      now.pipelines[0].published += 318;
      now.pipelines[0].source_bytes += 2_264_000;
      now.pipelines[0].output_bytes += 621_000;
    },
  };
}

// Queued files are back in the input by now.
function drain(progress) {
  const one = busy();
  Object.assign(one.status, { phase: "DRAINING", drain: progress });
  Object.assign(one.status.pipelines[0], { in_flight: 12, queued: 0, pending: 0, oldest_pending_seconds: 0 });
  one.status.channels.forEach((channel) => { channel.queued = 0; });
  return { ...one, work: one.work.slice(0, 12) };
}

const CONFIG = {
  all: 'state_dir = "/srv/state"\nhttp = "default"\n\n[[pipeline]]\nname = "main"\ninput = "/srv/inbox"\noutput = "/srv/outbox"\ntransforms = "zstd:3"\n',
  changed: '[[pipeline]]\ninput = "/srv/inbox"\noutput = "/srv/outbox"\n',
};

const quiet = (shown) => ({ status: shown, work: [], series: [], outcomes: [], quarantine: [] });

export const SCENARIOS = {
  busy,
  empty: () => quiet(status({ uptime_seconds: 3, channels: status().channels, stages: STAGES.map((stage) => ({ stage, files: 0, busy_seconds: 0 })) })),
  idle: () => ({ ...busy(), status: status({ pipelines: [pipeline("main", { published: 48_190, source_bytes: 343_112_004_000, output_bytes: 94_214_880_000 })] }), work: [], grow: undefined }),
  paused: () => ({ ...busy(), status: status({ paused_by_operator: true, pipelines: [pipeline("main", { paused: PAUSED })] }), work: [], grow: undefined }),
  unavailable: () => quiet(status({ pipelines: [pipeline("main", { paused: unavailable("cannot write in /srv/outbox: No space left on device (os error 28)"), pending: 9, oldest_pending_seconds: 340 })] })),
  draining: () => drain({ unfinished_files: 12, unfinished_bytes: 2_100_000_000, seconds: 6, deadline_left_seconds: 19, estimated_left_seconds: 14.2, ended: false }),
  late: () => drain({ unfinished_files: 12, unfinished_bytes: 9_100_000_000, seconds: 20, deadline_left_seconds: 5, estimated_left_seconds: 41, ended: false }),
  flood: () => ({ ...busy(), status: status({ pipelines: [pipeline("main", { quarantine_files: FLOOD.length, input: "/srv/inbox" })] }), work: [], quarantine: FLOOD, grow: undefined }),
  starting: () => quiet(status({ phase: "STARTING", pipelines: [] })),
  readOnly: () => quiet(status({ token_set: false })),
  open: () => quiet(status({ can_change: true, token_set: false })),
  many: () => {
    const names = ["logs", "wal", "camera", "partner"];
    const kinds = [{ pending: 3 }, { paused: PAUSED }, { paused: unavailable("the input is gone: /srv/camera/in") }, {}];
    return {
      ...quiet(status({ pipelines: names.map((name, index) => pipeline(name, { quarantine_files: index === 3 ? 2 : 0, ...kinds[index] })) })),
      series: hour({ names }),
      outcomes: outcomes(20, (index) => ({ pipeline: names[index % 4] })),
      quarantine: QUARANTINE.slice(0, 2).map((one) => ({ ...one, pipeline: "partner" })),
    };
  },
  hostile: () => ({
    ...quiet(status({ pipelines: [pipeline("<b>main</b>", { quarantine_files: HOSTILE.length, in_flight: HOSTILE.length, paused: unavailable("<i>reason</i>") })] })),
    work: HOSTILE.map((path, index) => ({ id: index, pipeline: "<b>main</b>", source: path, bytes: index, done_bytes: 0, stage: "read", seconds: 0 })),
    outcomes: HOSTILE.map((path, index) => ({ ...outcomes(1)[0], id: 100 - index, pipeline: "<b>main</b>", source: path, output: `${path}.zst`, ...(index % 2 && { reason: `<b>${path}</b>`, cause: `<b>${path}</b>` }) })),
    quarantine: HOSTILE.map((path, index) => inQuarantine(50 - index, path, `<u>${path}</u>`, { pipeline: "<b>main</b>", kept_at: path })),
  }),
};

const has = (one, query) => {
  const search = (query.get("search") ?? "").toLowerCase();
  const fits = (key) => [null, ""].includes(query.get(key)) || one[key] === query.get(key);
  return fits("state") && fits("pipeline") && fits("cause") && fits("reason_code") && [one.source, one.reason ?? ""].some((text) => text.toLowerCase().includes(search));
};

function groups(list) {
  const found = new Map();
  for (const { cause, reason_code, time } of list) {
    const group = found.get(`${reason_code} ${cause}`) ?? { cause, reason_code, files: 0, time };
    group.files += 1;
    found.set(`${reason_code} ${cause}`, group);
  }
  return [...found.values()].sort((one, other) => other.files - one.files);
}

function page(list, query) {
  const before = Number(query.get("before") ?? Infinity);
  const limit = Number(query.get("limit") ?? 50);
  const found = list.filter((one) => has(one, query) && one.id < before);
  return { found: found.slice(0, limit), next_before: found.length > limit ? found[limit - 1].id : null };
}

// Answers to a change and applies it to the state.
function changed(state, action, body) {
  const now = state.status;
  const targets = now.pipelines.filter((one) => body.pipeline == null || one.name === body.pipeline);
  if (action === "pause" || action === "resume") {
    targets.forEach((one) => { one.paused = action === "pause" ? PAUSED : []; });
    if (body.pipeline == null) now.paused_by_operator = action === "pause";
    return [200, {}];
  }
  if (action === "rescan") return [200, {}];
  if (action === "reload") return state.reload ?? [200, { changed: [], unchanged: ["main"], added: [], removed: [] }];
  if (action === "drain") {
    now.phase = "DRAINING";
    now.drain = { unfinished_files: 1, unfinished_bytes: 10, seconds: 0, deadline_left_seconds: 25, estimated_left_seconds: null, ended: false };
    return [202, {}];
  }
  if (action !== "requeue") return [404, { error: "not found", detail: "There is no such call." }];
  const narrowed = new URLSearchParams(Object.entries(body).filter(([key]) => ["pipeline", "cause", "reason_code", "search"].includes(key)));
  const goes = state.quarantine.filter((one) => (body.all ? has(one, narrowed) : body.ids.includes(one.id)));
  state.quarantine = state.quarantine.filter((one) => !goes.includes(one));
  now.pipelines.forEach((one) => { one.quarantine_files = state.quarantine.filter((file) => file.pipeline === one.name).length; });
  return [200, { requeued: goes.length, failed: [] }];
}

export async function mock(scenario, { token = "open sesame", port = 0 } = {}) {
  const state = SCENARIOS[scenario]();
  const streams = new Set();
  const posts = [];
  let second = 0;
  const send = (stream, event, data) => stream.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  const push = (event, data) => streams.forEach((stream) => send(stream, event, data));
  const refresh = () => {
    push("status", state.status);
    push("work", { files: state.work });
  };
  const timer = setInterval(() => {
    second += 1;
    state.status.uptime_seconds += 1;
    state.grow?.(state.status, second);
    refresh();
  }, 1000);

  async function asset(path, response) {
    const name = path === "/" ? "index.html" : path.slice(1);
    const text = await readFile(new URL(name, PAGE)).catch(() => null);
    if (text === null || name.includes("/")) return json(response, 404, { error: "not found", detail: "There is nothing here." });
    response.writeHead(200, { "content-type": TYPES[name.split(".").at(-1)], "content-security-policy": CSP, "x-content-type-options": "nosniff" });
    return response.end(text);
  }

  function json(response, code, body) {
    response.writeHead(code, { "content-type": "application/json", ...(code === 401 && { "www-authenticate": "Bearer" }) });
    response.end(JSON.stringify(body));
  }

  function stream(response) {
    if (state.refuseStreams) {
      response.writeHead(503, { "retry-after": "1" });
      return response.end();
    }
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.write("retry: 2000\n\n");
    streams.add(response);
    response.on("close", () => streams.delete(response));
    send(response, "status", state.status);
    return send(response, "work", { files: state.work });
  }

  async function post(request, response, action) {
    let text = "";
    for await (const part of request) text += part;
    const { can_change: free, token_set: takesToken } = state.status;
    if (!free && !takesToken) return json(response, 403, { error: "forbidden", detail: "Start the service with --admin-token-file FILE." });
    if (!free && request.headers.authorization !== `Bearer ${token}`) return json(response, 401, { error: "unauthorized", detail: "This needs the administrator's token." });
    const body = JSON.parse(text);
    posts.push({ action, body });
    const [code, answer] = changed(state, action, body);
    json(response, code, answer);
    return refresh();
  }

  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://mock");
    const [, api, , what, more] = url.pathname.split("/");
    if (api !== "api") return asset(url.pathname, response);
    if (request.method === "POST") return post(request, response, what);
    switch (what) {
      case "status": return json(response, 200, state.status);
      case "work": return json(response, 200, { files: state.work });
      case "series": return json(response, 200, { interval_seconds: 10, points: state.series });
      case "config": return json(response, 200, state.config ?? CONFIG);
      case "outcomes": {
        if (more === "export") {
          response.writeHead(200, { "content-type": "text/csv", "content-disposition": "attachment; filename=\"tidemill-outcomes.csv\"" });
          return response.end("id,at\r\n");
        }
        const { found, next_before } = page(state.outcomes, url.searchParams);
        return json(response, 200, { outcomes: found, next_before });
      }
      case "quarantine": {
        const { found, next_before } = page(state.quarantine, url.searchParams);
        const matching = state.quarantine.filter((one) => has(one, url.searchParams));
        return json(response, 200, { total: state.quarantine.length, matching: matching.length, groups: groups(matching), files: found, next_before });
      }
      case "explain": return json(response, 200, { text: `${url.searchParams.get("path")}\nwas processed: done` });
      case "stream": return stream(response);
      default: return json(response, 404, { error: "not found", detail: "There is nothing here." });
    }
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/`, now: NOW, state, posts, push, refresh, streams,
    cut: () => streams.forEach((one) => one.destroy()),
    close() {
      clearInterval(timer);
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const served = await mock(process.argv[2] ?? "busy", { port: Number(process.argv[3] ?? 0) });
  console.log(served.url);
}
