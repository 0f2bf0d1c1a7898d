// A real Chromium for the cases. Every error on the console of the page fails its case.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";

import { chromium } from "playwright-core";

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const SIZES = { wide: { width: 1280, height: 880 }, phone: { width: 360, height: 740 } };
// The longest wait for one condition.
export const PATIENCE = 30_000;
// Kept in the repository; KEEP_SCREENSHOTS makes them again.
const CHOSEN = [
  "example-busy-light-wide.png", "example-busy-dark-wide.png", "example-busy-light-phone.png",
  "example-draining-dark-phone.png", "example-quarantine-light-wide.png",
];
const KEPT = new URL("screenshots/", import.meta.url).pathname;
const SHOTS = process.env.KEEP_SCREENSHOTS ? KEPT : process.env.SCREENSHOTS;

let browser = null;

export async function launch() {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
}

export const quit = () => browser?.close();

// Opens the page for a case. `expects` are parts of messages that are no error there.
export async function visit(url, run, { size = "wide", scheme = "light", motion = "reduce", now = null, expects = [] } = {}) {
  const context = await browser.newContext({ viewport: SIZES[size] ?? size, colorScheme: scheme, reducedMotion: motion, timezoneId: "UTC" });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(error.stack));
  page.on("console", (message) => {
    const text = message.text();
    if (["error", "warning"].includes(message.type()) && !expects.some((part) => text.includes(part))) wrong.push(text);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(url)) wrong.push(`requests ${request.url()}`);
  });
  try {
    if (now !== null) await page.clock.setFixedTime(now);
    await page.goto(url);
    await run(page);
    assert.deepEqual(wrong, []);
  } finally {
    await context.close();
  }
}

// Waits until an element's complete text matches.
export async function shows(page, selector, pattern) {
  const wanted = pattern instanceof RegExp ? pattern : new RegExp(`^${pattern.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`);
  try {
    await page.waitForFunction(([where, source, flags]) => new RegExp(source, flags).test(document.querySelector(where)?.textContent ?? "\0"),
      [selector, wanted.source, wanted.flags], { timeout: PATIENCE });
  } catch (error) {
    const found = await page.locator(selector).first().textContent().catch(() => "nothing");
    throw new Error(`${selector} never showed ${wanted}; it shows ${JSON.stringify(found)}`, { cause: error });
  }
}

export const state = (page, word) => shows(page, "#state", word);

export async function until(what, isSo) {
  const began = Date.now();
  for (;;) {
    const found = await isSo();
    if (found) return found;
    assert.ok(Date.now() - began < PATIENCE, `did not happen: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 10); });
  }
}

// Pictures of the screen from one element on, in two schemes and sizes; of the kept ones only those.
export async function picture(page, name, at = "body") {
  if (SHOTS === undefined) return;
  await mkdir(SHOTS, { recursive: true });
  const before = page.viewportSize();
  const looks = [["light", "wide"], ["dark", "phone"], ["dark", "wide"], ["light", "phone"]];
  for (const [scheme, size] of process.env.KEEP_SCREENSHOTS ? looks : looks.slice(0, 2)) {
    const file = `${name}-${scheme}-${size}.png`;
    if (process.env.KEEP_SCREENSHOTS && !CHOSEN.includes(file)) continue;
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize(SIZES[size]);
    await page.locator(at).evaluate((node) => node.scrollIntoView());
    await page.screenshot({ path: join(SHOTS, file) });
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(before);
}
