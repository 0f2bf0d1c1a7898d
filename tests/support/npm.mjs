// Puts the packages of tests/page/package-lock.json below tests/page/node_modules, each checked
// against the lock file's hash. npm does the same, and Debian's draws about 400 packages.
// `npm_config_registry` names another registry.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

const page = new URL("../page", import.meta.url).pathname;
const registry = (process.env.npm_config_registry || "https://registry.npmjs.org").replace(/\/$/, "");
const { packages } = JSON.parse(readFileSync(join(page, "package-lock.json"), "utf8"));

async function put(path, { version, integrity, resolved }) {
  const name = path.replace(/^.*node_modules\//, "");
  const url = resolved ?? `${registry}/${name}/-/${name.replace(/^.*\//, "")}-${version}.tgz`;
  const response = await fetch(url);
  if (!response.ok) throw new Error(`cannot fetch ${url}: status ${response.status}`);
  const archive = Buffer.from(await response.arrayBuffer());
  const [algorithm] = integrity.split("-");
  const hash = `${algorithm}-${createHash(algorithm).update(archive).digest("base64")}`;
  if (hash !== integrity) throw new Error(`${url} has the hash ${hash}, not ${integrity}`);
  const directory = join(page, path);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  execFileSync("tar", ["-xz", "--strip-components=1", "-C", directory], { input: archive });
}

try {
  for (const [path, entry] of Object.entries(packages)) if (path !== "") await put(path, entry);
} catch (error) {
  console.error(`${error.message}${error.cause ? `: ${error.cause.message}` : ""}`);
  process.exitCode = 1;
}
