// The page for everyone: by keyboard, by ear, in both schemes, without motion, on a narrow screen.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

import { launch, picture, quit, shows, state, visit } from "./browser.mjs";
import { SCENARIOS, mock } from "./mock.mjs";

before(launch);
after(quit);

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

async function mocked(scenario, run, options = {}) {
  const served = await mock(scenario);
  // A table of an hour in tens of seconds has nothing for the rules that one of five minutes has not.
  if (options.short) served.state.series.splice(0, served.state.series.length - 30);
  try {
    await visit(served.url, async (page) => {
      await page.waitForSelector('#now:not([data-state="connecting"])');
      await run(page, served);
    }, { now: served.now, ...options });
  } finally {
    await served.close();
  }
}

// Takes on another state, as the real service would, while the page is open.
async function become(page, served, scenario) {
  served.state.status = SCENARIOS[scenario]().status;
  served.state.grow = undefined;
  served.tell();
  const kind = { empty: "idle", late: "draining", looking: "idle" }[scenario] ?? scenario;
  await page.waitForSelector(`#now[data-state="${kind}"]`);
}

// Every rule of axe-core, in the scheme that is in force.
async function assertAccessible(page, what, where = "html") {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
  const found = await page.evaluate((part) => window.axe.run(part, { resultTypes: ["violations"] }), where);
  const told = found.violations.map((one) => `${one.id}: ${one.help}\n  ${one.nodes.map((node) => `${node.html.slice(0, 160)} ${node.failureSummary}`).join("\n  ")}`);
  assert.deepEqual(told, [], what);
}

const SCHEMES = ["light", "dark"];

test("axe-core finds nothing on the page, in either scheme", async () => {
  for (const scenario of ["busy", "many", "hostile"]) {
    await mocked(scenario, async (page) => {
      await page.locator("summary").first().click();
      await page.locator("summary").last().click();
      for (const colorScheme of SCHEMES) {
        await page.emulateMedia({ colorScheme });
        await assertAccessible(page, `${scenario} ${colorScheme}`);
      }
    }, { short: true });
  }
});

test("axe-core finds nothing in the state line, whatever the state, in either scheme", () => mocked("busy", async (page, served) => {
  for (const scenario of ["empty", "held", "sick", "late", "starting", "looking"]) {
    await become(page, served, scenario);
    for (const colorScheme of SCHEMES) {
      await page.emulateMedia({ colorScheme });
      await assertAccessible(page, `${scenario} ${colorScheme}`, "main > :is(.now, .draining)");
    }
  }
}));

test("axe-core finds nothing in the dialogs", () => mocked("busy", async (page) => {
  await page.click("#requeue-all");
  await assertAccessible(page, "requeue all");
  await page.keyboard.press("Escape");
  await page.click("#drain");
  await assertAccessible(page, "drain");
  await picture(page, "dialog");
  await page.click("#ask-drain button[value=yes]");
  await page.waitForSelector("#ask-token[open]");
  await assertAccessible(page, "token");
}, { expects: ["401"] }));

const focused = (page) => page.evaluate(() => {
  const node = document.activeElement;
  if (node === document.body) return null;
  const style = getComputedStyle(node);
  const box = node.getBoundingClientRect();
  return {
    name: node.getAttribute("aria-label") ?? (node.labels?.[0]?.textContent.trim() || node.textContent.trim()),
    seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && box.bottom > 0 && box.top < innerHeight && box.right > 0,
  };
});

test("the keyboard reaches every control in the order of the page, and shows where it is", () => mocked("busy", async (page) => {
  await page.waitForFunction(() => document.querySelectorAll("#quarantine-rows button").length === 4);
  const walk = [];
  for (let step = 0; step < 60; step += 1) {
    await page.keyboard.press("Tab");
    const now = await focused(page);
    if (now === null) break;
    assert.ok(now.seen, `the focus is not seen at ${now.name}`);
    walk.push(now.name);
  }
  assert.deepEqual(walk, [
    "Skip to the content", "Pause", "Rescan", "Reload", "Drain…", "Quarantine", "Steps and channels as a table",
    "Throughput, point in time", "Ratio, point in time", "Latency, point in time", "The last hour as a table",
    "Pause main", "Rescan main", "Show 21 more", "Search", "Requeue all…",
    "Requeue camera/2026-11-24/cut-off.gz", "Requeue partner/invoice-export.gz", "Requeue partner/zeros.gz", "Requeue app/access.log.1",
    "Search", walk[21], "Live", "Show older", "Its path", "Explain", "Metrics", "Readiness", "Status", "API",
  ]);
  assert.match(walk[21], /^Outcome/);
}));

test("a dialog holds the focus, and gives it back", () => mocked("busy", async (page, served) => {
  await page.focus("#drain");
  await page.keyboard.press("Enter");
  assert.equal((await focused(page)).name, "Keep running");
  const seen = new Set();
  for (let step = 0; step < 6; step += 1) {
    await page.keyboard.press("Tab");
    const where = await page.evaluate(() => [document.activeElement.closest("dialog")?.id ?? document.activeElement.tagName, document.activeElement.textContent.trim()]);
    assert.ok(["ask-drain", "BODY"].includes(where[0]), String(where));
    if (where[0] === "ask-drain") seen.add(where[1]);
  }
  assert.deepEqual([...seen].sort(), ["Drain and stop", "Keep running"]);
  await page.keyboard.press("Escape");
  assert.equal((await focused(page)).name, "Drain…");
  await page.focus("#hold");
  await page.keyboard.press("Space");
  await page.waitForSelector("#ask-token[open]");
  assert.equal(await page.evaluate(() => document.activeElement.id), "token");
  await page.keyboard.press("Escape");
  await shows(page, "#said", "Nothing was changed: no token was given.");
  assert.equal((await focused(page)).name, "Pause");
  assert.deepEqual(served.posts, []);
}, { expects: ["401"] }));

test("after a requeue the focus is on the file that took the place", () => mocked("busy", async (page) => {
  await page.evaluate(() => sessionStorage.setItem("tidemill-token", "open sesame"));
  await page.getByRole("button", { name: "Requeue partner/zeros.gz" }).focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelectorAll("#quarantine-rows tr").length === 3);
  assert.equal((await focused(page)).name, "Requeue app/access.log.1");
}));

test("the arrow keys read single points of a chart", () => mocked("busy", async (page) => {
  const chart = page.getByRole("slider", { name: "Latency" });
  await page.waitForFunction(() => document.querySelector(".plot").getAttribute("aria-valuemax") === "359");
  await chart.focus();
  await page.keyboard.press("ArrowLeft");
  assert.match(await chart.getAttribute("aria-valuetext"), /^14:29:50: half within [\d.]+ ms, 99 % within [\d.]+ ms$/);
  await page.keyboard.press("Home");
  assert.match(await chart.getAttribute("aria-valuetext"), /^13:30:10: /);
  assert.equal(await chart.getAttribute("aria-valuenow"), "0");
  assert.match(await page.locator("#latency-summary").textContent(), /^half within: least .* at .*, most .* at /);
}));

test("a reader hears names, roles and states", () => mocked("busy", async (page) => {
  await page.waitForFunction(() => document.querySelectorAll("#quarantine-rows tr").length === 4);
  const heard = await page.locator("body").ariaSnapshot();
  for (const line of [
    '- heading "Tidemill" [level=1]', '- heading "Busy" [level=2]', '- group "The service":', '- button "Drain…"',
    '- heading "In work · 187" [level=2]', '- progressbar "Read of sensors/pit-7/run-2026-11-24.raw"',
    'img "The way of a file: discover, settle, claim,', '- slider "Throughput, point in time"',
    '- table "Quarantine · 4":', '- columnheader "Reason"', '- searchbox "Search"', '- combobox "Outcome"', '- checkbox "Live" [checked]',
    '- navigation "For programs":',
  ]) assert.ok(heard.includes(line), `${line} is not in\n${heard}`);
}));

test("only another state is spoken, not each second's figures", () => mocked("busy", async (page, served) => {
  await page.evaluate(() => {
    window.spoken = [];
    for (const region of document.querySelectorAll('[role="status"], [role="alert"], [aria-live]')) {
      new MutationObserver(() => window.spoken.push(region.textContent)).observe(region, { childList: true, characterData: true, subtree: true });
    }
  });
  const uptime = await page.locator("#figures").textContent();
  await page.waitForFunction((before) => document.querySelector("#figures").textContent !== before, uptime);
  assert.deepEqual(await page.evaluate(() => window.spoken), []);
  served.state.status.held = true;
  served.tell();
  await state(page, "Paused");
  const spoken = await page.evaluate(() => window.spoken);
  assert.equal(spoken.length, 1);
  assert.match(spoken[0], /^Paused\. By the operator/);
}));

test("no state and no mark is told by colour alone", () => mocked("busy", async (page, served) => {
  const dashes = await page.locator("#charts figure").first().locator("svg.chart path.line").evaluateAll((lines) => lines.map((line) => getComputedStyle(line).strokeDasharray));
  assert.equal(new Set(dashes).size, 2);
  await shows(page, ".way .is-full", /full$/);
  assert.equal(await page.locator(".way .full-mark.shows").first().evaluate((mark) => getComputedStyle(mark).opacity), "1");
  const signs = new Set();
  for (const scenario of ["busy", "empty", "held", "sick", "late", "starting"]) {
    await become(page, served, scenario);
    signs.add(await page.locator("#sign-path").getAttribute("d"));
  }
  assert.equal(signs.size, 6, "each state has a shape of its own");
}));

test("nothing moves for those who want no motion", async () => {
  await mocked("busy", async (page) => {
    await page.waitForSelector(".way .flows");
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  });
  await mocked("busy", async (page) => {
    await page.waitForSelector(".way .flows");
    assert.ok(await page.evaluate(() => document.getAnimations().length) > 0);
  }, { motion: "no-preference" });
});

test("nothing is wider than a screen of 320 pixels, or wasted on a large one", async () => {
  for (const scenario of ["busy", "late", "many", "hostile", "looking"]) {
    await mocked(scenario, async (page) => {
      for (const width of [320, 360, 768, 1024, 1400, 2560]) {
        await page.setViewportSize({ width, height: 800 });
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= width, `${scenario} at ${width}: ${wide}`);
      }
      await page.setViewportSize({ width: 360, height: 740 });
      const small = await page.locator("button:visible").evaluateAll((buttons) => buttons.filter((button) => button.getBoundingClientRect().height < 40).map((button) => button.textContent));
      assert.deepEqual(small, [], "a finger meets each button");
    });
  }
});
