// The page by keyboard, to a screen reader, in both schemes, without motion, on a narrow screen.

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
  // A table of five minutes meets the same rules as one of an hour.
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

// Changes the state while the page is open, as the real service does.
async function become(page, served, scenario) {
  served.state.status = SCENARIOS[scenario]().status;
  served.state.grow = undefined;
  served.refresh();
  const kind = { empty: "idle", late: "draining", readOnly: "idle" }[scenario] ?? scenario;
  await page.waitForSelector(`#now[data-state="${kind}"]`);
}

// Every rule of axe-core, in the current scheme.
async function assertAccessible(page, what, where = "html") {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
  const found = await page.evaluate((part) => window.axe.run(part, { resultTypes: ["violations"] }), where);
  const faults = found.violations.map((one) => `${one.id}: ${one.help}\n  ${one.nodes.map((node) => `${node.html.slice(0, 160)} ${node.failureSummary}`).join("\n  ")}`);
  assert.deepEqual(faults, [], what);
}

const SCHEMES = ["light", "dark"];

test("axe-core finds nothing on the page, in either scheme", async () => {
  for (const scenario of ["busy", "many", "hostile"]) {
    await mocked(scenario, async (page) => {
      await page.locator("details:not(.read-only)").evaluateAll((all) => all.forEach((details) => { details.open = true; }));
      await page.waitForFunction(() => [...document.querySelectorAll(".groups details")].every((group) => group.querySelector("tbody tr") !== null));
      for (const colorScheme of SCHEMES) {
        await page.emulateMedia({ colorScheme });
        await assertAccessible(page, `${scenario} ${colorScheme}`);
      }
    }, { short: true });
  }
});

test("axe-core finds nothing in the state line, whatever the state, in either scheme", () => mocked("busy", async (page, served) => {
  for (const scenario of ["empty", "paused", "unavailable", "late", "starting", "readOnly"]) {
    await become(page, served, scenario);
    await page.locator("#read-only").evaluate((details) => { details.open = true; });
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
  await page.waitForFunction(() => document.querySelectorAll("#quarantine-groups tbody button").length === 4);
  // The name of the stages has the bottleneck, which takes two statuses.
  await shows(page, "#bottleneck", "bottleneck: transform");
  const walk = [];
  for (let step = 0; step < 120; step += 1) {
    await page.keyboard.press("Tab");
    const now = await focused(page);
    if (now === null) break;
    assert.ok(now.seen, `the focus is not seen at ${now.name}`);
    walk.push(now.name);
  }
  const row = (name) => SCENARIOS.busy().outcomes.slice(0, 20).map((one) => one.source).includes(name);
  // Each file is a link to its explanation: these are left out here.
  assert.deepEqual(walk.filter((name) => !row(name)), [
    "Skip to the content", "Pause", "Rescan", "Reload", "Drain…", "Quarantine",
    "Pipelines", "Quarantine", "Files", "Outcomes", "Explain a file", "Last hour",
    "Throughput, point in time", "Backlog, point in time", "Latency, point in time", "Failures, point in time", "The charts as a table",
    "Pause main", "Rescan main", "Search", "Requeue all…",
    ...walk.filter((name) => name.startsWith("truncated ")),
    "camera/2026-11-24/cut-off.gz", "Requeue camera/2026-11-24/cut-off.gz", "partner/zeros.gz", "Requeue partner/zeros.gz",
    "Requeue 2 files: gunzip: the input ends in the middle",
    ...walk.filter((name) => name.startsWith("corrupt ")),
    "partner/invoice-export.gz", "Requeue partner/invoice-export.gz",
    ...walk.filter((name) => name.startsWith("name_taken the output exists")), "Requeue app/access.log.1",
    "sensors/pit-7/run-2026-11-24.raw", "db/wal/00000001000000A2", "Show 21 more",
    "Search", ...walk.filter((name) => name.startsWith("Outcome") && name !== "Outcomes"), "Live", "Show older", "CSV", "JSON lines",
    "Pipeline stages bottleneck: transform", "Stages and channels as a table", "Path", "Explain", "Configuration", "Metrics", "Readiness", "Status", "API",
  ]);
  assert.equal(new Set(walk.filter((name) => /^(truncated|corrupt|name_taken) /.test(name))).size, 3, "each group can be opened");
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
  await page.focus("#pause");
  await page.keyboard.press("Space");
  await page.waitForSelector("#ask-token[open]");
  assert.equal(await page.evaluate(() => document.activeElement.id), "token");
  await page.keyboard.press("Escape");
  await shows(page, "#message", "Nothing was changed: no token was given.");
  assert.equal((await focused(page)).name, "Pause");
  assert.deepEqual(served.posts, []);
}, { expects: ["401"] }));

test("after a requeue the focus is on the file that took the place", () => mocked("busy", async (page) => {
  await page.evaluate(() => sessionStorage.setItem("tidemill-token", "open sesame"));
  await page.getByRole("button", { name: "Requeue partner/zeros.gz" }).focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelectorAll("#quarantine-groups tbody tr").length === 3);
  assert.equal((await focused(page)).name, "Requeue camera/2026-11-24/cut-off.gz");
}));

test("the arrow keys read single points of a chart", () => mocked("busy", async (page) => {
  const chart = page.getByRole("slider", { name: "Latency" });
  await page.waitForFunction(() => document.querySelector(".plot").getAttribute("aria-valuemax") === "359");
  await chart.focus();
  await page.keyboard.press("ArrowLeft");
  assert.match(await chart.getAttribute("aria-valuetext"), /^14:29:50: median [\d.]+ ms · 99 % [\d.]+ ms$/);
  await page.keyboard.press("Home");
  assert.match(await chart.getAttribute("aria-valuetext"), /^13:30:10: /);
  assert.equal(await chart.getAttribute("aria-valuenow"), "0");
  assert.match(await page.locator("#latency-summary").textContent(), /^median: least .* at .*, most .* at /);
}));

test("a reader hears names, roles and states", () => mocked("busy", async (page) => {
  await page.waitForFunction(() => document.querySelectorAll("#quarantine-groups tbody tr").length === 4);
  const heard = await page.locator("body").ariaSnapshot();
  for (const line of [
    '- heading "Tidemill" [level=1]', '- heading "Busy" [level=2]', '- group "The service":', '- button "Drain…"',
    '- heading "Files in flight · 29 running, 158 queued" [level=2]', '- progressbar "Read of sensors/pit-7/run-2026-11-24.raw"',
    'img "Pipeline stages: discover, settle, claim,', '- slider "Throughput, point in time"',
    'table "gunzip: the input ends in the middle"', '- columnheader "Attempts"', '- searchbox "Search"', '- combobox "Outcome"', '- checkbox "Live" [checked]',
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
  served.state.status.paused_by_operator = true;
  served.refresh();
  await state(page, "Paused");
  const spoken = await page.evaluate(() => window.spoken);
  assert.equal(spoken.length, 1);
  assert.match(spoken[0], /^Paused\. By the operator/);
}));

test("no state and no mark is shown by colour alone", () => mocked("busy", async (page, served) => {
  const dashes = await page.locator("#charts figure").first().locator("svg.chart path.line").evaluateAll((lines) => lines.map((line) => getComputedStyle(line).strokeDasharray));
  assert.equal(new Set(dashes).size, 2);
  await shows(page, ".stages .is-full", /full$/);
  assert.equal(await page.locator(".stages .full-mark.shows").first().evaluate((mark) => getComputedStyle(mark).opacity), "1");
  const signs = new Set();
  for (const scenario of ["busy", "empty", "paused", "unavailable", "late", "starting"]) {
    await become(page, served, scenario);
    signs.add(await page.locator("#sign-path").getAttribute("d"));
  }
  assert.equal(signs.size, 6, "each state has a shape of its own");
}));

test("nothing moves for those who want no motion", async () => {
  await mocked("busy", async (page) => {
    await page.waitForSelector(".stages .flows");
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  });
  await mocked("busy", async (page) => {
    await page.waitForSelector(".stages .flows");
    assert.ok(await page.evaluate(() => document.getAnimations().length) > 0);
  }, { motion: "no-preference" });
});

test("nothing is wider than a screen of 320 pixels, or wasted on a large one", async () => {
  for (const scenario of ["busy", "late", "many", "hostile", "readOnly"]) {
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

test("the page ends on a phone, with its failures near the top", async () => {
  for (const scenario of ["busy", "many", "late", "flood", "hostile"]) {
    await mocked(scenario, async (page) => {
      await page.waitForFunction(() => document.querySelectorAll("#quarantine-groups > li").length > 0);
      const [height, failures] = await page.evaluate(() => [document.documentElement.scrollHeight, document.querySelector("#quarantine").getBoundingClientRect().top]);
      if (scenario !== "hostile") assert.ok(height < 4000, `${scenario}: ${height} px`);
      assert.ok(failures < 2200, `${scenario}: the quarantine begins at ${failures} px`);
      assert.equal(await page.locator("#hour").evaluate((details) => details.open), false, "the charts are closed");
    }, { size: { width: 390, height: 844 } });
  }
});

test("without a token there is no button that changes anything, and a way to enable them", () => mocked("readOnly", async (page, served) => {
  await page.waitForSelector('[data-access="read-only"]');
  assert.equal(await page.locator(".change:visible").count(), 0);
  await page.getByText("Read-only · how to enable").click();
  await shows(page, "#read-only p", /--admin-token-file FILE/);
  served.state.status.token_set = true;
  served.refresh();
  await page.waitForSelector("#pause:visible");
  assert.equal(await page.locator("#read-only").isVisible(), false);
}));
