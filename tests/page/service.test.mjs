// The page before the real service: each state brought about, each control clicked, and its effect
// asked of the service itself.

import assert from "node:assert/strict";
import { rename, rm } from "node:fs/promises";
import { after, before, test } from "node:test";

import { launch, picture, quit, shows, state, until, visit } from "./browser.mjs";
import { TOKEN, atPlace } from "./service.mjs";

before(launch);
after(quit);

// What a browser says of answers that are no success.
const REFUSALS = ["the server responded with a status of"];
const GONE = ["ERR_", ...REFUSALS];

async function giveToken(page) {
  await page.fill("#token", TOKEN);
  await page.click("#ask-token button[value=yes]");
}

test("an empty service is idle, and says that nothing was processed", () => atPlace({}, async (place) => {
  await visit(await place.start(), async (page) => {
    await state(page, "Idle");
    await shows(page, "#outcome-none", "Nothing was processed yet.");
    await shows(page, "#quarantine-none", "No file is in quarantine.");
    assert.match(await page.locator(".pipelines .from-to").textContent(), new RegExp(`${place.root}/in → ${place.root}/out`));
    assert.match(await page.title(), /^Idle · Tidemill$/);
    await picture(page, "empty");
  });
}));

test("a busy service shows its files, its full channels and its outcomes", () => atPlace({}, async (place) => {
  for (let number = 0; number < 150; number += 1) await place.put(`day/file-${number}.log`, `line ${number}\n`.repeat(500));
  await visit(await place.start({ failpoints: "write=sleep(100)" }), async (page) => {
    await state(page, "Busy");
    await page.waitForSelector("#work li progress");
    await shows(page, "#work-count", /^\d+$/);
    await page.waitForFunction(() => document.querySelectorAll(".way .fill.is-full").length > 0);
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
    await shows(page, "#outcome-none", "No outcome is like that.");
    await page.fill("#explain-path", place.path("in/first.log"));
    await page.click("#explain button");
    await shows(page, "#explained", /first\.log/);
  });
}));

test("pause, resume and rescan ask for the token once, and do what they say", () => atPlace({}, async (place) => {
  await visit(await place.start(), async (page) => {
    await state(page, "Idle");
    await page.click("#hold");
    await page.fill("#token", "not the token at all");
    await page.press("#token", "Enter");
    await shows(page, "#token-wrong", "That token was not accepted.");
    await giveToken(page);
    await shows(page, "#said", /^Paused: /);
    await state(page, "Paused");
    assert.equal((await place.ask("status")).held, true);
    await place.put("a.log", "waits");
    await shows(page, "#sentence", /1 waiting/);
    assert.equal(place.has("out/a.log.zst"), false);
    await picture(page, "paused");
    await page.click("#hold");
    await shows(page, "#said", /^Resumed: /);
    await until("it is published", () => place.has("out/a.log.zst"));
    await shows(page, "#outcome-rows", /a\.log/);
    assert.equal((await place.ask("status")).held, false);
    await page.click("#rescan");
    await shows(page, "#said", "A scan of every input was started.");
    assert.equal(await page.evaluate(() => sessionStorage.length), 1);

    await page.getByRole("button", { name: /^Pause (main|in)$/ }).click();
    await shows(page, ".condition", "paused by the operator");
    assert.equal((await place.ask("status")).pipelines[0].held, true);
    await page.locator(".pipelines button", { hasText: "Resume" }).click();
    await until("it goes on", async () => !(await place.ask("status")).pipelines[0].held);
    await page.locator(".pipelines button", { hasText: "Rescan" }).click();
    await shows(page, "#said", /^A scan of the input of .* was started\.$/);
  }, { expects: REFUSALS });
}));

test("reload takes up the new configuration, or says why not", () => atPlace({}, async (place) => {
  await visit(await place.start(), async (page) => {
    await state(page, "Idle");
    await place.configure('transforms = "nonsense"');
    await page.click("#reload");
    await giveToken(page);
    await shows(page, "#said", /^Not done: /);
    await place.configure('transforms = "gzip"');
    const [answer] = await Promise.all([page.waitForResponse((one) => one.url().endsWith("/reload")), page.click("#reload")]);
    if (answer.ok()) await shows(page, "#said", /^The configuration was read again/);
    else await shows(page, "#said", `Not done: ${(await answer.json()).detail}`);
  }, { expects: REFUSALS });
}));

test("without a token the page looks only, and each control says how to allow more", () => atPlace({ token: false }, async (place) => {
  await visit(await place.start(), async (page) => {
    await state(page, "Idle");
    await shows(page, "#only", /--admin-token-file/);
    for (const id of ["hold", "rescan", "reload", "drain"]) {
      assert.equal(await page.getAttribute(`#${id}`, "aria-disabled"), "true");
      await page.evaluate(() => document.querySelector("#said").replaceChildren());
      await page.locator(`#${id}`).dispatchEvent("click");
      await shows(page, "#said", /This page can only look/);
    }
    assert.equal((await place.ask("status")).held, false);
  });
}));

test("a place that is sick is named with its reason, and the page sees it become well", () => atPlace({}, async (place) => {
  await visit(await place.start(), async (page) => {
    await state(page, "Idle");
    await rename(place.path("in"), place.path("away"));
    await state(page, "A place is sick");
    const [{ paused }] = (await place.ask("status")).pipelines;
    await shows(page, "#sentence", `${paused}. Every source stays; it goes on by itself once the place is well.`);
    await shows(page, ".condition", `sick: ${paused}`);
    await picture(page, "sick");
    await rename(place.path("away"), place.path("in"));
    await place.put("a.log", "content");
    await until("it is published", () => place.has("out/a.log.zst"));
    await state(page, "Idle");
  });
}));

test("failed files are in quarantine with their reason, and go back one by one or all", () => atPlace({ lines: 'transforms = "gunzip"' }, async (place) => {
  for (const name of ["a.gz", "b.gz", "c.gz"]) await place.put(name, `${name} is no archive`);
  await visit(await place.start(), async (page) => {
    await shows(page, "#quarantine-count", "3");
    await page.waitForFunction(() => document.querySelectorAll("#quarantine-rows tr").length === 3);
    const reasons = (await place.ask("quarantine")).files.map((file) => file.reason);
    assert.deepEqual(await page.locator("#quarantine-rows .reason").allTextContents(), reasons);
    await picture(page, "quarantine", "#pipelines");
    await page.fill("#quarantine-search", "b.gz");
    await page.waitForFunction(() => document.querySelectorAll("#quarantine-rows tr").length === 1);
    await page.getByRole("button", { name: "Requeue b.gz" }).click();
    await giveToken(page);
    await shows(page, "#said", "1 file went back to the intake.");
    // It fails again, and comes back with another number.
    const requeued = await place.ask("outcomes?state=requeued");
    assert.deepEqual(requeued.outcomes.map((one) => one.path), ["b.gz"]);
    await until("it is back", async () => (await place.ask("quarantine")).total === 3);
    await page.fill("#quarantine-search", "");
    await page.waitForFunction(() => document.querySelectorAll("#quarantine-rows tr").length === 3);
    await page.click("#requeue-all");
    await page.click("#ask-requeue button[value=no]");
    await page.click("#requeue-all");
    await page.click("#ask-requeue button[value=yes]");
    await shows(page, "#said", "3 files went back to the intake.");
    await until("each went", async () => (await place.ask("outcomes?state=requeued")).outcomes.length === 4);
  }, { expects: REFUSALS });
}));

test("a drain is asked for twice, shows what is left, ends the service, and a new start is found", () => atPlace({}, async (place) => {
  for (let number = 0; number < 30; number += 1) await place.put(`file-${number}.log`, "x".repeat(2000));
  const gate = await place.gate();
  await visit(await place.start({ failpoints: `write=return(while:${gate})` }), async (page) => {
    await state(page, "Busy");
    await page.click("#drain");
    await page.click("#ask-drain button[value=no]");
    assert.equal((await place.ask("status")).drain, null);
    await page.click("#drain");
    await shows(page, "#ask-drain-text", /No new files are taken\./);
    await page.click("#ask-drain button[value=yes]");
    await giveToken(page);
    await state(page, "Draining");
    await page.waitForSelector("#draining:not([hidden])");
    await shows(page, "#drain-left", /^\d+ files?, /);
    await shows(page, "#drain-deadline", /^in \d+ s$/);
    await picture(page, "draining");
    await rm(gate);
    assert.equal(await place.ended, 0, place.log);
    await state(page, "Stopped");
    await shows(page, "#sentence", /^It drained\./);
    await page.waitForFunction(() => document.querySelector("#hold").getAttribute("aria-disabled") === "true");
    await place.start({ http: new URL(place.url).host });
    await state(page, /^(Idle|Busy)$/);
  }, { expects: GONE });
}));

test("a service that leaves work behind is not said to have drained", () => atPlace({}, async (place) => {
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
    await shows(page, "#sentence", /^1 file unfinished by the last word of it: the next start resumes/);
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
    await shows(page, "#said", "The service does not answer now.");
    await place.start({ http: new URL(place.url).host });
    await state(page, "Idle");
  }, { expects: GONE });
}));
