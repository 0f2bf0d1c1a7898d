// The page with the real service: the cases cause each state and click each control, and check the
// effect in the service itself.

import assert from "node:assert/strict";
import { readFile, rename, rm } from "node:fs/promises";
import { hostname, release } from "node:os";
import { after, before, test } from "node:test";

import { launch, picture, quit, shows, state, until, visit } from "./browser.mjs";
import { TOKEN, atPlace } from "./service.mjs";

before(launch);
after(quit);

// Messages of a browser about answers that are no success.
const REFUSALS = ["the server responded with a status of"];
const GONE = ["ERR_", ...REFUSALS];

async function giveToken(page) {
  await page.fill("#token", TOKEN);
  await page.click("#ask-token button[value=yes]");
}

test("an empty service is idle, and names the directory to drop a file into", () => atPlace({}, async (place) => {
  await visit(await place.start(), async (page) => {
    await state(page, "Idle");
    await shows(page, "#outcome-none", "No file was processed yet.");
    await shows(page, "#welcome-list", `Drop a file into ${place.root}/in: its output appears in ${place.root}/out.`);
    assert.equal(await page.locator("#charts, #stages").first().isVisible(), false);
    await shows(page, "#quarantine-none", "No file is in quarantine.");
    assert.match(await page.locator(".pipelines .from-to").textContent(), new RegExp(`${place.root}/in → ${place.root}/out`));
    assert.equal(await page.title(), `Idle · ${hostname()} · Tidemill`);
    await picture(page, "empty");
    await place.put("a.log", "content");
    await page.waitForSelector("#welcome", { state: "hidden" });
    await page.waitForSelector("#charts");
  });
}));

test("a busy service shows its files, its full channels and its outcomes", () => atPlace({}, async (place) => {
  for (let number = 0; number < 150; number += 1) await place.put(`day/file-${number}.log`, `line ${number}\n`.repeat(500));
  await visit(await place.start({ failpoints: "write=sleep(100)" }), async (page) => {
    await state(page, "Busy");
    await page.waitForSelector("#files li progress");
    await shows(page, "#files-count", /^\d+ running/);
    await page.waitForFunction(() => document.querySelectorAll(".stages .fill.is-full").length > 0);
    await page.waitForSelector('#outcome-rows tr[data-state="published"], #outcome-rows tr[data-state="done"]');
    await picture(page, "busy");
  });
}));

test("outcomes come live, are searched and filtered, and a file is explained", () => atPlace({}, async (place) => {
  await place.put("first.log", "one");
  await visit(await place.start(), async (page) => {
    await shows(page, "#outcome-rows", /first\.log/);
    await place.put("second.log", "two");
    await shows(page, "#outcome-rows", /second\.log.*first\.log/);
    await page.fill("#outcome-search", "FIRST");
    await page.waitForFunction(() => document.querySelectorAll("#outcome-rows tr").length === 1);
    await shows(page, "#outcome-rows", /first\.log/);
    await page.fill("#outcome-search", "");
    await page.selectOption("#outcome-state", "skipped");
    await shows(page, "#outcome-none", "No outcome fits the filter.");
    await page.fill("#explain-path", place.path("in/first.log"));
    await page.click("#explain button");
    await shows(page, "#explained", /first\.log/);
  });
}));

test("the configuration in force is shown, and again after a reload", () => atPlace({ lines: 'transforms = "gzip"' }, async (place) => {
  await visit(await place.start(), async (page) => {
    await state(page, "Idle");
    await page.click("#config summary");
    await shows(page, "#config-text", /transforms = "gzip:6"/);
    assert.doesNotMatch(await page.textContent("#config-text"), /rescan/);
    await shows(page, "#config .process", new RegExp(`^Process \\d+, Linux ${release()}, sandbox (active|partial|unavailable)\\.`));
    await page.check("#config-all");
    await shows(page, "#config-text", /rescan = "5m"/);
    await place.configure('transforms = "lz4"');
    await page.click("#reload");
    await giveToken(page);
    await shows(page, "#config-text", /transforms = "lz4/);
    await picture(page, "configuration", "#config-title");
    assert.equal((await page.textContent("body")).includes(TOKEN), false);
  }, { expects: REFUSALS });
}));

test("what fits the filter is downloaded", () => atPlace({}, async (place) => {
  for (const name of ["a.log", "b.log", "=sum.log"]) await place.put(name, "content");
  await visit(await place.start(), async (page) => {
    await page.waitForFunction(() => document.querySelectorAll("#outcome-rows tr").length === 3);
    const file = async (format) => {
      const [download] = await Promise.all([page.waitForEvent("download"), page.click(`#outcome-${format}`)]);
      assert.equal(download.suggestedFilename(), `tidemill-outcomes.${format}`);
      return readFile(await download.path(), "utf8");
    };
    const rows = (await file("csv")).trimEnd().split("\r\n");
    assert.match(rows[0], /^id,time,pipeline,state,source,/);
    assert.equal(rows.length, 4);
    assert.ok(rows.some((row) => row.includes(',"\'=sum.log",')), "no formula");
    await page.fill("#outcome-search", "b.log");
    await page.waitForFunction(() => document.querySelectorAll("#outcome-rows tr").length === 1);
    const lines = (await file("jsonl")).trimEnd().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(lines.map((one) => one.source), ["b.log"]);
  });
}));

test("pause, resume and rescan need the token once, and take effect", () => atPlace({}, async (place) => {
  await visit(await place.start(), async (page) => {
    await state(page, "Idle");
    await page.click("#pause");
    await page.fill("#token", "not the token at all");
    await page.press("#token", "Enter");
    await shows(page, "#token-wrong", "That token was not accepted.");
    await giveToken(page);
    await shows(page, "#message", /^Paused: /);
    await state(page, "Paused");
    assert.equal((await place.query("status")).paused_by_operator, true);
    await place.put("a.log", "waits");
    await shows(page, "#sentence", /1 queued/);
    assert.equal(place.has("out/a.log.zst"), false);
    await picture(page, "paused");
    await page.click("#pause");
    await shows(page, "#message", /^Resumed: /);
    await until("it is published", () => place.has("out/a.log.zst"));
    await shows(page, "#outcome-rows", /a\.log/);
    assert.equal((await place.query("status")).paused_by_operator, false);
    await page.click("#rescan");
    await shows(page, "#message", "A scan of every input was started.");
    assert.equal(await page.evaluate(() => sessionStorage.length), 1);

    await page.getByRole("button", { name: /^Pause (main|in)$/ }).click();
    await shows(page, ".condition", /^paused by the operator since \d\d:\d\d$/);
    assert.deepEqual((await place.query("status")).pipelines[0].paused.map((one) => one.reason), ["operator"]);
    await page.locator(".pipelines button", { hasText: "Resume" }).click();
    await until("it resumes", async () => (await place.query("status")).pipelines[0].paused.length === 0);
    await page.locator(".pipelines button", { hasText: "Rescan" }).click();
    await shows(page, "#message", /^A scan of the input of .* was started\.$/);
  }, { expects: REFUSALS });
}));

test("reload applies the new configuration, or reports why not", () => atPlace({}, async (place) => {
  await visit(await place.start(), async (page) => {
    await state(page, "Idle");
    await place.configure('transforms = "nonsense"');
    await page.click("#reload");
    await giveToken(page);
    await shows(page, "#message", /^Not done: /);
    await place.configure('transforms = "gzip"');
    const [answer] = await Promise.all([page.waitForResponse((one) => one.url().endsWith("/reload")), page.click("#reload")]);
    if (answer.ok()) await shows(page, "#message", /^The configuration was read again/);
    else await shows(page, "#message", `Not done: ${(await answer.json()).detail}`);
  }, { expects: REFUSALS });
}));

test("without a token the page is read-only", () => atPlace({ token: false }, async (place) => {
  await visit(await place.start(), async (page) => {
    await state(page, "Idle");
    await page.waitForSelector("#read-only summary:visible");
    assert.equal(await page.locator(".change:visible").count(), 0);
    await page.locator("#pause").dispatchEvent("click");
    await shows(page, "#message", "This page is read-only.");
    assert.equal((await place.query("status")).paused_by_operator, false);
  });
}));

test("storage that is unavailable is named with its reason, and the page sees it return", () => atPlace({}, async (place) => {
  await visit(await place.start(), async (page) => {
    await state(page, "Idle");
    await rename(place.path("in"), place.path("away"));
    await state(page, "Storage unavailable");
    const [{ paused: [{ detail }] }] = (await place.query("status")).pipelines;
    const escaped = detail.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    await shows(page, "#sentence", new RegExp(`^${escaped} \\(since \\d\\d:\\d\\d\\)\\. Every source stays; processing resumes automatically once the storage is available\\.$`));
    assert.match(await page.textContent(".condition"), /^storage unavailable since \d\d:\d\d: /);
    assert.ok((await page.textContent(".condition")).endsWith(detail));
    await picture(page, "unavailable");
    await rename(place.path("away"), place.path("in"));
    await place.put("a.log", "content");
    await until("it is published", () => place.has("out/a.log.zst"));
    await state(page, "Idle");
  });
}));

test("failed files are grouped by their cause, and go back one by one, by group or all", () => atPlace({ lines: 'transforms = "gunzip"' }, async (place) => {
  for (const name of ["a.gz", "b.gz", "c.gz"]) await place.put(name, `${name} is no archive`);
  const rows = (page, number) => page.waitForFunction((wanted) => document.querySelectorAll("#quarantine-groups tbody tr").length === wanted, number);
  await visit(await place.start(), async (page) => {
    await shows(page, "#quarantine-count", "3");
    await rows(page, 3);
    const { groups, files } = await place.query("quarantine");
    assert.equal(groups.length, 1, "one cause");
    assert.doesNotMatch(groups[0].cause, /[abc]\.gz/);
    await shows(page, "#quarantine-groups .cause", groups[0].cause.replaceAll("`", ""));
    assert.deepEqual(await page.locator("#quarantine-groups .file .name").allTextContents(), files.map((file) => file.source));
    await picture(page, "quarantine", "#quarantine");
    await page.fill("#quarantine-search", "b.gz");
    await rows(page, 1);
    await page.getByRole("button", { name: "Requeue b.gz" }).click();
    await giveToken(page);
    await shows(page, "#message", "1 file went back to the intake.");
    // It fails again, and has another number.
    const requeued = await place.query("outcomes?state=requeued");
    assert.deepEqual(requeued.outcomes.map((one) => one.source), ["b.gz"]);
    await until("it is in quarantine again", async () => (await place.query("quarantine")).total === 3);
    await page.fill("#quarantine-search", "");
    await rows(page, 3);
    await page.getByRole("button", { name: /^Requeue 3 files: / }).click();
    await page.click("#ask-requeue button[value=yes]");
    await shows(page, "#message", "3 files went back to the intake.");
    await until("each went", async () => (await place.query("outcomes?state=requeued")).outcomes.length === 4);
    await until("they are in quarantine again", async () => (await place.query("quarantine")).total === 3);
    await rows(page, 3);
    await page.click("#requeue-all");
    await page.click("#ask-requeue button[value=no]");
    await page.click("#requeue-all");
    await page.click("#ask-requeue button[value=yes]");
    await until("each went again", async () => (await place.query("outcomes?state=requeued")).outcomes.length === 7);
  }, { expects: REFUSALS });
}));

test("large files that wait for a lane are queued, and the lanes are counted", () => atPlace({}, async (place) => {
  const gate = await place.gate();
  const large = "tidemill ".repeat(1_000_000);
  for (let number = 0; number < 9; number += 1) await place.put(`large-${number}.log`, large);
  await visit(await place.start({ failpoints: `write=return(while:${gate})` }), async (page) => {
    const [{ lanes }] = (await place.query("status")).pipelines;
    await shows(page, "#figures", new RegExp(`Running${lanes}${lanes} of ${lanes} lanes`));
    await shows(page, "#files-count", `${lanes} running, ${9 - lanes} queued`);
    await shows(page, "#bottleneck", /^bottleneck: /);
    await page.waitForFunction((number) => document.querySelectorAll("#files li:not(.queued)").length === number, lanes);
    await rm(gate);
    await until("all are published", async () => (await place.query("status")).pipelines[0].published === 9);
    await shows(page, "#outcome-rows .took", /^[\d.]+ (ms|s)$/);
  });
}));

test("a drain needs two clicks, counts unfinished files, ends the service, and a new start is found", () => atPlace({}, async (place) => {
  for (let number = 0; number < 30; number += 1) await place.put(`file-${number}.log`, "x".repeat(2000));
  const gate = await place.gate();
  await visit(await place.start({ failpoints: `write=return(while:${gate})` }), async (page) => {
    await state(page, "Busy");
    await page.click("#drain");
    await page.click("#ask-drain button[value=no]");
    assert.equal((await place.query("status")).drain, null);
    await page.click("#drain");
    await shows(page, "#ask-drain-text", /No new files are taken\./);
    await page.click("#ask-drain button[value=yes]");
    await giveToken(page);
    await state(page, "Draining");
    await page.waitForSelector("#draining:not([hidden])");
    await shows(page, "#drain-left", /^[1-9]\d*$/);
    await shows(page, "#drain-deadline", /^in \d+ s$/);
    await picture(page, "draining");
    await rm(gate);
    assert.equal(await place.ended, 0, place.log);
    await state(page, "Stopped");
    await shows(page, "#sentence", /^The service ended at .*: no file is unfinished\./);
    assert.equal(await page.locator("#draining, #figures").first().isVisible(), false);
    await page.waitForFunction(() => document.querySelector("#pause").getAttribute("aria-disabled") === "true");
    await place.start({ http: new URL(place.url).host });
    await state(page, /^(Idle|Busy)$/);
  }, { expects: GONE });
}));

test("a service that leaves unfinished work shows the last report, and claims no outcome", () => atPlace({}, async (place) => {
  await place.put("file.log", "x".repeat(2000));
  const gate = await place.gate();
  await visit(await place.start({ failpoints: `write=return(while:${gate})` }), async (page) => {
    await state(page, "Busy");
    for (const [signal, phase] of [["SIGTERM", "DRAINING"], ["SIGINT", "COMMITTING"], ["SIGTERM", null]]) {
      place.child.kill(signal);
      if (phase !== null) await until(phase, () => place.log.includes(`phase=${phase}`));
      if (phase === "DRAINING") await state(page, "Draining");
    }
    assert.equal(await place.ended, 75, place.log);
    await state(page, "Stopped");
    await shows(page, "#sentence", /1 file unfinished, which the next start resumes\./);
  }, { expects: GONE });
}));

test("a service that was killed is unreachable, and is found again", () => atPlace({}, async (place) => {
  await visit(await place.start(), async (page) => {
    await state(page, "Idle");
    place.child.kill("SIGKILL");
    await place.ended;
    await state(page, "Unreachable");
    await shows(page, "#sentence", /Reconnecting/);
    await picture(page, "unreachable");
    await page.click("#rescan", { force: true });
    await shows(page, "#message", "The service does not answer.");
    await place.start({ http: new URL(place.url).host });
    await state(page, "Idle");
  }, { expects: GONE });
}));
