// The real service in a directory of its own.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { until } from "./browser.mjs";

export const TOKEN = "0123456789abcdef-of-a-test";
const running = new Set();

// Nothing outlives the run, however it ends.
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

export class Place {
  // `lines` go into the pipeline's configuration.
  static async make({ lines = "", token = true } = {}) {
    const place = new Place();
    place.root = await mkdtemp(join(tmpdir(), "tidemill-page-"));
    for (const dir of ["in", "out"]) await mkdir(join(place.root, dir));
    await writeFile(join(place.root, "token"), `${TOKEN}\n`, { mode: 0o600 });
    place.token = token;
    await place.configure(lines);
    return place;
  }

  configure(lines) {
    const admin = this.token ? 'admin_token_file = "token"\n' : "";
    const text = `state_dir = "state"\nhttp = "127.0.0.1:0"\n${admin}[[pipeline]]\ninput = "in"\noutput = "out"\nattempts = 1\nbackoff = "10ms"\n${lines}\n`;
    return writeFile(join(this.root, "tidemill.toml"), text);
  }

  path(name) {
    return join(this.root, name);
  }

  // A file that stalls a failpoint while it exists: `return(while:PATH)`.
  async gate() {
    await writeFile(this.path("gate"), "");
    return this.path("gate");
  }

  has(name) {
    return existsSync(this.path(name));
  }

  async put(name, content) {
    await mkdir(dirname(this.path(`in/${name}`)), { recursive: true });
    // By a rename, as a careful producer does.
    await writeFile(this.path(`put`), content);
    await rename(this.path("put"), this.path(`in/${name}`));
  }

  async start({ failpoints = "", http = "127.0.0.1:0" } = {}) {
    const child = spawn(process.env.TIDEMILL, ["run", "--config", "tidemill.toml", "--http", http], {
      cwd: this.root, env: { ...process.env, FAILPOINTS: failpoints, RUST_LOG: "info" }, stdio: ["ignore", "ignore", "pipe"],
    });
    running.add(child);
    this.child = child;
    this.log = "";
    child.stderr.on("data", (data) => { this.log += data; });
    this.ended = new Promise((resolve) => { child.on("exit", (code) => { running.delete(child); resolve(code); }); });
    const found = await until("it serves", () => {
      assert.equal(child.exitCode, null, this.log);
      return this.log.includes("phase=READY") && /HTTP server listening" url=(http:\/\/[^/]+)/.exec(this.log);
    });
    this.url = `${found[1]}/`;
    return this.url;
  }

  async query(path) {
    return (await fetch(`${this.url}api/v1/${path}`)).json();
  }

  async end() {
    this.child?.kill("SIGKILL");
    await this.ended;
    await rm(this.root, { recursive: true, force: true });
  }
}

export async function atPlace(options, run) {
  const place = await Place.make(options);
  try {
    await run(place);
  } catch (error) {
    console.error(place.log);
    throw error;
  } finally {
    await place.end();
  }
}
