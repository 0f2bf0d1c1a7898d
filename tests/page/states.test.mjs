// States and data that are hard to have from the real service, from the mock of its API.

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
  const told = {
    busy: ["Busy", /187 files \(4\.22 GB\) in work, 1,204 waiting, the oldest for 12 s\./],
    empty: ["Idle", /^All that was found is done\.$/],
    held: ["Paused", /^By the operator: no new files are taken\. No file is in work\.$/],
    sick: ["A place is sick", /^cannot write in \/srv\/outbox: No space left on device \(os error 28\)\. Every source stays/],
    draining: ["Draining", /^No new files are taken\. 12 files left\.$/],
    starting: ["Starting", /before the intake opens/],
    many: ["A place is sick", /^camera: the input is gone/],
  };
  for (const [scenario, [word, sentence]] of Object.entries(told)) {
    Object.assign(served.state, { grow: undefined }, SCENARIOS[scenario]());
    served.tell();
    await state(page, word);
    await shows(page, "#sentence", sentence);
  }
}));

test("names and reasons are text, whatever is in them", () => mocked("hostile", async (page, served) => {
  await page.waitForFunction((count) => document.querySelectorAll("#quarantine-rows tr").length === count, served.state.quarantine.length);
  await shows(page, "#sentence", /^<i>reason<\/i>\. /);
  const paths = served.state.work.map((file) => file.path);
  for (const list of ["#work li > .name", "#outcome-rows .file > .name", "#quarantine-rows .file > .name"]) {
    assert.deepEqual(await page.locator(list).allTextContents(), paths);
  }
  served.push("outcome", { ...served.state.outcomes[0], id: 900 });
  await page.waitForFunction((count) => document.querySelectorAll("#outcome-rows tr").length === count, paths.length + 1);
  assert.equal(await page.locator("main img, main b, main i, main u, main script").count(), 0);
  assert.match(await page.title(), /Tidemill$/);
  // A name that runs from right to left turns nothing beside it.
  assert.equal(await page.locator("#work .name").first().evaluate((name) => getComputedStyle(name).unicodeBidi), "isolate");
}));

test("levels of the channels are drawn and told in figures", () => mocked("busy", async (page, served) => {
  await shows(page, ".way svg", /64\/64 full/);
  const level = (name) => page.locator(`[clip-path="url(#clip-${name})"] .level`).evaluate((drawn) => drawn.style.transform);
  assert.equal(await level("read"), `scaleY(${41 / 64})`);
  assert.match(await page.locator(".way svg").getAttribute("aria-label"), /claim 64 of 64, read 41 of 64/);
  served.state.status.channels.forEach((one) => { one.queued = 0; });
  served.tell();
  await page.waitForFunction(() => document.querySelectorAll(".way .is-full").length === 0);
  assert.equal(await level("read"), "scaleY(0)");
  await page.click("#way-table summary");
  await shows(page, "#channel-table", /claim.*acknowledge/);
  assert.equal(await rows(page, "channel-table"), 10);
  assert.equal(await rows(page, "stage-table"), 9);
  await page.setViewportSize({ width: 360, height: 740 });
  await page.waitForSelector(".way svg.down");
  await shows(page, ".way svg", /claim.*0\/64/);
}));

test("rates are those of the last seconds, and a file in quarantine has its place", () => mocked("busy", async (page) => {
  await page.waitForFunction(() => [...document.querySelectorAll(".way .pace")].every((pace) => /^3\d\d\/s$/.test(pace.textContent)));
  await shows(page, ".way .busy", /% busy$/);
  await shows(page, "#figures", /31\d files\/s/);
  await shows(page, ".readout", /^14:30:00 · /);
  await picture(page, "example-busy");
  await page.waitForFunction(() => document.querySelectorAll("#quarantine-rows tr").length === 4);
  assert.deepEqual(await page.locator("#quarantine-rows .sub").allTextContents(), [
    "28.7 kB · left in its place", "24.6 kB · kept at /srv/state/quarantine/main/6-invoice-export.gz",
    "20.5 kB · left in its place", "16.4 kB · left in its place",
  ]);
  await picture(page, "example-quarantine", "#work");
}));

test("the charts have a point for each interval, gaps, and a table", () => mocked("busy", async (page, served) => {
  await shows(page, ".readout", /^14:30:00 · /);
  const runs = await page.locator("#charts figure:nth-child(2) path.line.first").last().getAttribute("d");
  assert.equal(runs.match(/M/g).length, 2, "the rest in between is a gap of the ratio");
  const labels = await page.locator("#charts figure").first().locator("svg.chart text").allTextContents();
  assert.deepEqual(labels, ["0 B/s", "1 MB/s", "2 MB/s", "3 MB/s", "13:30", "13:45", "14:00", "14:15", "14:30"]);
  await page.click("#hour-table summary");
  await page.waitForFunction(() => document.querySelectorAll("#point-table tbody tr").length === 360);
  const point = { ...served.state.series.at(-1), at: new Date(served.now + 10_000).toISOString(), files: 4242 };
  served.push("point", point);
  await shows(page, "#point-table tbody tr", /^14:30:104,242/);
  assert.equal(await page.locator("#point-table tbody tr").count(), 360, "the oldest made room");
  await page.locator(".plot").first().hover({ position: { x: 62, y: 50 } });
  await shows(page, ".readout", /^13:30:/);
}));

test("a drain that the deadline will cut says so", async () => {
  await mocked("draining", async (page) => {
    await shows(page, "#drain-verdict", /finished before the deadline/);
    await shows(page, "#figures", /31\d files\/s/);
    await picture(page, "example-draining");
  });
  await mocked("late", async (page) => {
    await shows(page, "#drain-verdict", /the deadline comes first/);
    await shows(page, "#drain-left", "12 files, 9.1 GB");
    await shows(page, "#drain-estimate", "about 41 s");
    await shows(page, "#drain-deadline", "in 5 s");
    assert.equal(await page.locator("#drain-time").evaluate((bar) => bar.value), 0.8);
  });
});

test("older outcomes come in pages, and new ones only where they match", () => mocked("busy", async (page, served) => {
  await page.waitForFunction(() => document.querySelectorAll("#outcome-rows tr").length === 20);
  await page.click("#outcome-more");
  await page.waitForFunction(() => document.querySelectorAll("#outcome-rows tr").length === 40);
  await page.selectOption("#outcome-state", "quarantined");
  await page.waitForFunction(() => document.querySelectorAll("#outcome-rows tr").length === 1);
  const one = served.state.outcomes[0];
  served.push("outcome", { ...one, id: 90_000, path: "other.log" });
  served.push("outcome", { ...one, id: 90_001, path: "matching.log", state: "quarantined", reason: "a reason" });
  await shows(page, "#outcome-rows", /matching\.log.*a reason/);
  assert.equal(await rows(page, "outcome-rows"), 2);
  await page.uncheck("#outcome-live");
  served.push("outcome", { ...one, id: 90_002, path: "unseen.log", state: "quarantined" });
  served.push("gap", { missed: 1_234 });
  await shows(page, "#outcome-gap", /^1,234 outcomes came faster/);
  await page.waitForFunction(() => !document.querySelector("#outcome-rows").textContent.includes("unseen"));
}));

test("thousands of outcomes at once leave a bounded page", () => mocked("busy", async (page, served) => {
  await page.waitForFunction(() => document.querySelectorAll("#outcome-rows tr").length === 20);
  const one = served.state.outcomes[0];
  for (let number = 0; number < 5_000; number += 1) served.push("outcome", { ...one, id: 100_000 + number, path: `burst-${number}` });
  await shows(page, "#outcome-rows", /burst-4999/);
  assert.ok(await rows(page, "outcome-rows") <= 50);
}));

test("the oldest files in work are shown, and all on request", () => mocked("busy", async (page, served) => {
  await page.waitForFunction(() => document.querySelectorAll("#work li").length === 8);
  await page.click("#work-more");
  await page.waitForFunction((count) => document.querySelectorAll("#work li").length === count, served.state.work.length);
  const bar = page.locator("#work progress").first();
  assert.ok(Math.abs(await bar.evaluate((progress) => progress.value) - 0.71) < 0.001);
  served.state.work = [];
  served.tell();
  await page.waitForSelector("#work-none:not([hidden])");
}));

test("many pipelines are told apart, paused by name and filtered", () => mocked("many", async (page, served) => {
  await page.waitForFunction(() => document.querySelectorAll("#pipelines li").length === 4);
  await page.getByRole("button", { name: "Resume wal" }).click();
  await page.fill("#token", "open sesame");
  await page.press("#token", "Enter");
  await shows(page, "#said", "Resumed wal: files are taken in again.");
  await page.getByRole("button", { name: "Rescan logs" }).click();
  await until("the rescan", () => served.posts.length === 2);
  assert.deepEqual(served.posts, [{ action: "resume", body: { pipeline: "wal" } }, { action: "rescan", body: { pipeline: "logs" } }]);
  await page.selectOption("#outcome-pipeline", "wal");
  await page.waitForFunction(() => [...document.querySelectorAll("#outcome-rows .origin")].every((origin) => origin.textContent === "wal"));
  await page.selectOption("#quarantine-pipeline", "partner");
  await page.click("#requeue-all");
  await page.click("#ask-requeue button[value=yes]");
  await until("the requeue", () => served.posts.length === 3);
  assert.deepEqual(served.posts[2], { action: "requeue", body: { all: true, pipeline: "partner" } });
  await shows(page, "#quarantine-none", /^No file in quarantine is like that\.$/);
}, { expects: ["the server responded with a status of 401"] }));

test("a stream that breaks off is opened again without a word", () => mocked("busy", async (page, served) => {
  await state(page, "Busy");
  served.cut();
  await until("it listens again", () => served.streams.size === 1);
  await state(page, "Busy");
  assert.equal(await page.locator("#spoken").textContent(), "");
}, { now: null, expects: ["ERR_"] }));

test("a service that has no stream to give is found when it has", () => mocked("busy", async (page, served) => {
  await state(page, "Busy");
  served.state.refuseStreams = true;
  served.cut();
  await state(page, "Unreachable");
  served.state.refuseStreams = false;
  await state(page, "Busy");
}, { now: null, expects: ["ERR_", "503"] }));
