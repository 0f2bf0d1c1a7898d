// States and data that are rare in the real service, from the mock of its API.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, picture, quit, shows, state, until, visit } from "./browser.mjs";
import { SCENARIOS, mock } from "./mock.mjs";

before(launch);
after(quit);

async function mocked(scenario, run, options = {}) {
  const served = await mock(scenario);
  try {
    await visit(served.url, (page) => run(page, served), { now: served.now, ...options });
  } finally {
    await served.close();
  }
}

const rows = (page, list) => page.locator(`#${list} tr`).count();

test("each state has its word and its sentence", () => mocked("busy", async (page, served) => {
  const texts = {
    busy: ["Busy", /29 files running, 1,362 queued, the oldest for 12 s\./],
    empty: ["Idle", /^No new file since the start\.$/],
    idle: ["Idle", /^All files that were found are processed\.$/],
    paused: ["Paused", /^By the operator: no new files are taken\. No file is running or queued\.$/],
    unavailable: ["Storage unavailable", /^cannot write in \/srv\/outbox: No space left on device \(os error 28\) \(since [^)]*\d\d:\d\d\)\. Every source stays/],
    draining: ["Draining", /^No new files are taken\. 12 files unfinished\.$/],
    starting: ["Starting", /before the intake opens/],
    many: ["Storage unavailable", /^camera: the input is gone/],
  };
  for (const [scenario, [word, sentence]] of Object.entries(texts)) {
    Object.assign(served.state, { grow: undefined }, SCENARIOS[scenario]());
    served.refresh();
    await state(page, word);
    await shows(page, "#sentence", sentence);
  }
}));

test("the title and the header name the host, and the header the version", () => mocked("busy", async (page) => {
  await state(page, "Busy");
  assert.equal(await page.title(), "Busy · mill-3 · Tidemill");
  await shows(page, ".top", /mill-3.*0\.1\.0.*up 2 h 20 min/s);
}));

test("names and reasons are text, whatever is in them", () => mocked("hostile", async (page, served) => {
  const list = served.state.quarantine;
  await page.waitForFunction((number) => document.querySelectorAll("#quarantine-groups > li").length === number, list.length);
  await shows(page, "#sentence", /^<i>reason<\/i> \(since [^)]*\d\d:\d\d\)\. /);
  const paths = served.state.work.map((file) => file.source);
  await page.locator("#quarantine-groups details").evaluateAll((groups) => groups.forEach((group) => { group.open = true; }));
  await page.waitForFunction((number) => document.querySelectorAll("#quarantine-groups tbody tr").length === number, list.length);
  for (const names of ["#files li > .name", "#outcome-rows .file > .name", "#quarantine-groups .file > .name"]) {
    assert.deepEqual((await page.locator(names).allTextContents()).sort(), paths.toSorted());
  }
  served.push("outcome", { ...served.state.outcomes[0], id: 900 });
  await page.waitForFunction((number) => document.querySelectorAll("#outcome-rows tr").length === number, paths.length + 1);
  assert.equal(await page.locator("main img, main b, main i, main u, main script").count(), 0);
  assert.match(await page.title(), /Tidemill$/);
  // A name that runs from right to left turns nothing next to it.
  assert.equal(await page.locator("#files .name").first().evaluate((name) => getComputedStyle(name).unicodeBidi), "isolate");
}));

test("levels of the channels are drawn and written as figures", () => mocked("busy", async (page, served) => {
  await shows(page, ".stages svg", /64\/64 full/);
  const level = (name) => page.locator(`[clip-path="url(#clip-${name})"] .level`).evaluate((drawn) => drawn.style.transform);
  assert.equal(await level("read"), `scaleY(${41 / 64})`);
  assert.match(await page.locator(".stages svg").getAttribute("aria-label"), /claim 64 of 64, read 41 of 64.*2 of 2 lanes/);
  served.state.status.channels.forEach((one) => { one.queued = 0; });
  served.state.grow = undefined;
  served.refresh();
  await page.waitForFunction(() => document.querySelectorAll(".stages .is-full").length === 0);
  assert.equal(await level("read"), "scaleY(0)");
  await page.click("#stages-table summary");
  await shows(page, "#channel-table", /claim.*acknowledge/);
  assert.equal(await rows(page, "channel-table"), 10);
  assert.equal(await rows(page, "stage-table"), 9);
  await page.setViewportSize({ width: 360, height: 740 });
  await page.waitForSelector(".stages svg.down");
  await shows(page, ".stages svg", /claim.*0\/64/);
}));

test("the stages are closed while nothing is full, and the bottleneck has a name", async () => {
  await mocked("idle", async (page) => {
    await shows(page, "#bottleneck", "no bottleneck");
    assert.equal(await page.locator("#stages").evaluate((details) => details.open), false);
  });
  await mocked("busy", async (page, served) => {
    // claim's channel is full, and transform works most of what comes after it.
    await shows(page, "#bottleneck", "bottleneck: transform");
    assert.equal(await page.locator("#stages").evaluate((details) => details.open), true);
    // A channel of one place is full in normal work.
    served.state.grow = undefined;
    served.state.status.channels.forEach((one) => { one.queued = one.capacity === 1 ? 1 : 0; });
    served.state.status.pipelines[0].lanes_busy = 1;
    await page.waitForFunction(() => document.querySelectorAll(".stages .is-full").length === 0);
    await shows(page, "#bottleneck", "no bottleneck");
    // All lanes are busy while files wait.
    served.state.status.pipelines[0].lanes_busy = 2;
    await shows(page, "#bottleneck", "bottleneck: transform");
  });
});

test("rates are those of the last seconds, and the stages show threads", () => mocked("busy", async (page) => {
  await page.waitForFunction(() => [...document.querySelectorAll(".stages .pace")].every((pace) => /^(3\d\d\/s|events)$/.test(pace.textContent)));
  await page.waitForFunction(() => [...document.querySelectorAll(".stages .busy")].some((busy) => busy.textContent === "1.5 threads"));
  await shows(page, "#figures", /31\d files\/s/);
  await shows(page, "#figures", /Running292 of 2 lanes/);
  await shows(page, ".facts", /Rate31\d files\/s2\.26 MB\/sRatio3\.64.*Latency22\.3 ms99 % 95\.2 ms/);
  await shows(page, ".readout", /^14:30:00 · /);
  await picture(page, "example-busy");
}));

test("the quarantine is grouped by cause, and a file has one row", () => mocked("busy", async (page) => {
  await page.waitForFunction(() => document.querySelectorAll("#quarantine-groups tbody tr").length === 4);
  const causes = await page.locator("#quarantine-groups summary").allTextContents();
  assert.match(causes[0], /^truncated gunzip: the input ends in the middle2 filesnewest /);
  assert.equal(causes.length, 3);
  assert.deepEqual(await page.locator("#quarantine-groups td.kept").allTextContents(), ["in the input", "in the input", "moved", "in the input"]);
  const heights = await page.locator("#quarantine-groups tbody tr").evaluateAll((list) => list.map((row) => row.getBoundingClientRect().height));
  assert.ok(heights.every((height) => height < 45), String(heights));
  await picture(page, "example-quarantine", "#quarantine");
}));

test("a group of very many files is one line, and goes back by one button", () => mocked("flood", async (page, served) => {
  await page.evaluate(() => sessionStorage.setItem("tidemill-token", "open sesame"));
  await page.waitForFunction(() => document.querySelectorAll("#quarantine-groups > li").length === 2);
  assert.equal(await page.locator("#quarantine-groups tbody tr").count(), 0, "closed");
  await page.click("#quarantine-groups summary");
  await page.waitForFunction(() => document.querySelectorAll("#quarantine-groups tbody tr").length === 20);
  await page.click("#quarantine-groups .quiet:visible");
  await page.waitForFunction(() => document.querySelectorAll("#quarantine-groups tbody tr").length === 40);
  await page.getByRole("button", { name: "Requeue 47 files: gunzip" }).click();
  await shows(page, "#ask-requeue-title", "Requeue 47 files?");
  await page.click("#ask-requeue button[value=yes]");
  await shows(page, "#message", "47 files went back to the intake.");
  const cause = "`gunzip`: the input ends in the middle";
  assert.deepEqual(served.posts, [{ action: "requeue", body: { all: true, cause, reason_code: "truncated" } }]);
  await page.waitForFunction(() => document.querySelectorAll("#quarantine-groups > li").length === 1);
}));

test("the charts have a point for each interval, gaps, and a table", () => mocked("busy", async (page, served) => {
  await shows(page, ".readout", /^14:30:00 · /);
  await shows(page, "#hour-title", "Last hour");
  const runs = await page.locator("#charts figure:nth-child(3) svg.chart path.line.first").getAttribute("d");
  assert.equal(runs.match(/M/g).length, 2, "an interval without a file is a gap of the latency");
  const labels = await page.locator("#charts figure").first().locator("svg.chart text").allTextContents();
  assert.deepEqual(labels, ["0 B/s", "1 MB/s", "2 MB/s", "3 MB/s", "13:30", "14:00", "14:30"]);
  await page.click("#hour-table summary");
  await page.waitForFunction(() => document.querySelectorAll("#point-table tbody tr").length === 360);
  const point = { ...served.state.series.at(-1), at: new Date(served.now + 10_000).toISOString(), files: 4242 };
  served.push("point", point);
  await shows(page, "#point-table tbody tr", /^14:30:104,242/);
  assert.equal(await page.locator("#point-table tbody tr").count(), 360, "the oldest made room");
  await page.locator(".plot").first().hover({ position: { x: 58, y: 50 } });
  await shows(page, ".readout", /^13:30:/);
}));

test("each pipeline has its own latency, on a logarithmic axis of round times", () => mocked("many", async (page) => {
  const latency = page.locator("#charts figure:nth-child(3)");
  await page.waitForFunction(() => document.querySelectorAll("#charts figure:nth-child(3) svg.chart path.line").length === 4);
  assert.deepEqual(await latency.locator(".legend li").allTextContents(), ["logs", "wal", "camera", "partner"]);
  const ticks = async () => (await latency.locator("svg.chart text").allTextContents()).filter((text) => !text.includes(":"));
  assert.deepEqual(await ticks(), ["1 ms", "1 s", "1 min", "1 h", "4 d 4 h"]);
  // A hundred times the latency is the same step upwards each time.
  const tops = await latency.locator("svg.chart path.line").evaluateAll((lines) => lines.map((line) => line.getBBox().y));
  const steps = tops.slice(1).map((top, index) => tops[index] - top);
  assert.ok(Math.max(...steps) - Math.min(...steps) < 2 && steps[0] > 10, String(tops));
  await page.selectOption("#chart-pipeline", "wal");
  await page.waitForFunction(() => document.querySelectorAll("#charts figure:nth-child(3) svg.chart path.line").length === 2);
  assert.deepEqual(await ticks(), ["1 s", "2 s", "5 s", "10 s", "20 s"]);
  assert.deepEqual(await latency.locator(".legend li").allTextContents(), ["median", "99 %"]);
  await shows(page, "#charts figure:nth-child(3) .readout", /^14:30:00 · median 2\.23 s · 99 % 9\.52 s$/);
}));

test("the backlog and the failures have charts of their own", () => mocked("busy", async (page) => {
  await shows(page, "#charts figure:nth-child(2) .readout", /^14:30:00 · 128 in flight, 638 waiting$/);
  const bars = await page.locator("#charts figure:nth-child(4) svg.chart path.line").getAttribute("d");
  assert.equal(bars.match(/M/g).length, 4, "one bar for each interval with a failure");
}));

test("a drain counts the unfinished files, and warns where the deadline comes first", async () => {
  await mocked("draining", async (page) => {
    await shows(page, "#drain-verdict", /finished before the deadline/);
    await shows(page, "#figures", /31\d files\/s/);
    assert.equal(await page.locator("#draining progress").count(), 0);
    await picture(page, "example-draining");
  });
  await mocked("late", async (page) => {
    await shows(page, "#drain-verdict", /the deadline comes first/);
    await shows(page, "#drain-left", "12");
    await shows(page, "#drain-unread", "9.1 GB to read");
    await shows(page, "#drain-estimate", "about 41 s");
    await shows(page, "#drain-deadline", "in 5 s");
  });
});

test("older outcomes come in pages, and new ones only where they match", () => mocked("busy", async (page, served) => {
  await page.waitForFunction(() => document.querySelectorAll("#outcome-rows tr").length === 20);
  await page.click("#outcome-more");
  await page.waitForFunction(() => document.querySelectorAll("#outcome-rows tr").length === 40);
  await page.selectOption("#outcome-state", "quarantined");
  await page.waitForFunction(() => document.querySelectorAll("#outcome-rows tr").length === 1);
  const one = served.state.outcomes[0];
  served.push("outcome", { ...one, id: 90_000, source: "other.log" });
  served.push("outcome", { ...one, id: 90_001, source: "matching.log", state: "quarantined", reason_code: "corrupt", reason: "a reason", cause: "a reason" });
  await shows(page, "#outcome-rows", /matching\.log.*corrupt a reason/);
  assert.equal(await rows(page, "outcome-rows"), 2);
  await page.uncheck("#outcome-live");
  served.push("outcome", { ...one, id: 90_002, source: "unseen.log", state: "quarantined" });
  served.push("gap", { missed: 1_234 });
  await shows(page, "#outcome-gap", /^1,234 outcomes came too fast/);
  await page.waitForFunction(() => !document.querySelector("#outcome-rows").textContent.includes("unseen"));
}));

test("an outcome has date, duration and ratio in one line, and does not move under the pointer", () => mocked("busy", async (page, served) => {
  await page.waitForFunction(() => document.querySelectorAll("#outcome-rows tr").length === 20);
  const one = { ...served.state.outcomes[0], id: 90_000, source: "new.log", output: "new.log.zst", source_bytes: 4000, output_bytes: 1000, seconds: 1.5 };
  served.push("outcome", one);
  await shows(page, "#outcome-rows tr", /^24 Nov 14:30:00✓ donemainnew\.lognew\.log\.zst4 kB → 1 kB4\.001\.5 s$/);
  const heights = await page.locator("#outcome-rows tr").evaluateAll((list) => list.map((row) => row.getBoundingClientRect().height));
  assert.ok(heights.every((height) => height < 35), String(heights));
  await page.hover("#outcome-rows tr:nth-child(3)");
  served.push("outcome", { ...one, id: 90_001, source: "later.log" });
  // The next second's figures come after it.
  const before = await page.locator("#figures").textContent();
  await page.waitForFunction((figures) => document.querySelector("#figures").textContent !== figures, before);
  assert.doesNotMatch(await page.locator("#outcome-rows").textContent(), /later\.log/);
  await page.mouse.move(5, 5);
  await shows(page, "#outcome-rows", /later\.log/);
}));

test("a file links to its explanation, and the address of that can be shared", () => mocked("busy", async (page, served) => {
  await page.locator("#outcome-rows .file a").first().click();
  await shows(page, "#explained", /^\/srv\/inbox\/app\/access\.log\.1\nwas processed: done$/);
  assert.match(page.url(), /#explain=%2Fsrv%2Finbox%2Fapp%2Faccess\.log\.1$/);
  await page.goto(`${served.url}#explain=${encodeURIComponent("/srv/inbox/b c.log")}`);
  await page.reload();
  await shows(page, "#explained", /^\/srv\/inbox\/b c\.log\n/);
}));

test("thousands of outcomes at once leave a bounded page", () => mocked("busy", async (page, served) => {
  await page.waitForFunction(() => document.querySelectorAll("#outcome-rows tr").length === 20);
  const one = served.state.outcomes[0];
  for (let number = 0; number < 5_000; number += 1) served.push("outcome", { ...one, id: 100_000 + number, source: `burst-${number}` });
  await shows(page, "#outcome-rows", /burst-4999/);
  assert.ok(await rows(page, "outcome-rows") <= 50);
}));

test("running files come before queued ones, and all are shown on request", () => mocked("busy", async (page, served) => {
  await page.waitForFunction(() => document.querySelectorAll("#files li").length === 8);
  await shows(page, "#files-count", "29 running, 158 queued");
  assert.equal(await page.locator("#files .queued").count(), 0);
  await page.click("#files-more");
  await page.waitForFunction((number) => document.querySelectorAll("#files li").length === number, served.state.work.length);
  await shows(page, "#files .queued", /^backup\/home\.tarqueued1\.29 GB12 s$/);
  assert.equal(await page.locator("#files .queued progress").isVisible(), false);
  const bar = page.locator("#files progress").first();
  assert.ok(Math.abs(await bar.evaluate((progress) => progress.value) - 0.71) < 0.001);
  served.state.work = [];
  served.refresh();
  await page.waitForSelector("#files-none:not([hidden])");
}));

test("many pipelines have their own cards, are paused by name and filtered", () => mocked("many", async (page, served) => {
  await page.waitForFunction(() => document.querySelectorAll("#pipelines > li").length === 4);
  await page.getByRole("button", { name: "Resume wal" }).click();
  await page.fill("#token", "open sesame");
  await page.press("#token", "Enter");
  await shows(page, "#message", "Resumed wal: new files are taken again.");
  await page.getByRole("button", { name: "Rescan logs" }).click();
  await until("the rescan", () => served.posts.length === 2);
  assert.deepEqual(served.posts, [{ action: "resume", body: { pipeline: "wal" } }, { action: "rescan", body: { pipeline: "logs" } }]);
  await page.getByRole("link", { name: "Outcomes of wal" }).click();
  await page.waitForFunction(() => {
    const origins = [...document.querySelectorAll("#outcome-rows .origin")];
    return origins.length > 0 && origins.every((origin) => origin.textContent === "wal");
  });
  for (const list of ["#quarantine-pipeline", "#chart-pipeline"]) assert.equal(await page.inputValue(list), "wal");
  await page.selectOption("#quarantine-pipeline", "partner");
  await page.click("#requeue-all");
  await shows(page, "#ask-requeue-text", /^The files that fit the filter\./);
  await page.click("#ask-requeue button[value=yes]");
  await until("the requeue", () => served.posts.length === 3);
  assert.deepEqual(served.posts[2], { action: "requeue", body: { all: true, pipeline: "partner" } });
  await shows(page, "#quarantine-none", /^No file is in quarantine\.$/);
}, { expects: ["the server responded with a status of 401"] }));

test("a service that ends during a drain shows no figures, and claims no outcome", () => mocked("draining", async (page, served) => {
  await shows(page, "#drain-left", "12");
  served.state.refuseStreams = true;
  served.cut();
  await state(page, "Stopped");
  await shows(page, "#sentence", /^No answer since \d\d:\d\d:\d\d, after a drain began\. Last report: 12 files unfinished, which the next start resumes\./);
  for (const part of ["#draining", "#figures", "#files-section", "#pipelines-section"]) {
    assert.equal(await page.locator(part).isVisible(), false, part);
  }
}, { now: null, expects: ["ERR_", "503"] }));

test("a service that reported its end is shown with the result of its drain", () => mocked("draining", async (page, served) => {
  await shows(page, "#drain-left", "12");
  Object.assign(served.state.status, { phase: "COMMITTING", drain: { ...served.state.status.drain, unfinished_files: 0, unfinished_bytes: 0, ended: true } });
  served.refresh();
  await shows(page, "#drain-left", "0");
  served.state.refuseStreams = true;
  served.cut();
  await shows(page, "#sentence", /^The service ended at \d\d:\d\d:\d\d: no file is unfinished\. Reconnecting\.$/);
}, { now: null, expects: ["ERR_", "503"] }));

test("a stream that breaks off is opened again without a message", () => mocked("busy", async (page, served) => {
  await state(page, "Busy");
  served.cut();
  await until("it listens again", () => served.streams.size === 1);
  await state(page, "Busy");
  assert.equal(await page.locator("#spoken").textContent(), "");
}, { now: null, expects: ["ERR_"] }));

test("a service whose streams are all taken is found when one is free", () => mocked("busy", async (page, served) => {
  await state(page, "Busy");
  served.state.refuseStreams = true;
  served.cut();
  await state(page, "Unreachable");
  served.state.refuseStreams = false;
  await state(page, "Busy");
}, { now: null, expects: ["ERR_", "503"] }));
