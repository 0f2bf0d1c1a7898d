// The configuration in force, loaded when it is opened and after a reload.

import { showMessage } from "./actions.js";
import { query } from "./calls.js";
import { byId, setText } from "./words.js";

let latest = null;

function show() {
  if (latest === null) return;
  const text = byId("config-all").checked ? latest.all : latest.changed;
  setText(byId("config-text"), text.trim() === "" ? "Every key has its default." : text.trim());
}

export async function load() {
  if (!byId("config").open) return;
  try {
    latest = await query("config");
    show();
  } catch (error) {
    if (error.status !== undefined) showMessage(error.message, "refused");
  }
}

export function start() {
  byId("config").addEventListener("toggle", load);
  document.addEventListener("reloaded", load);
  byId("config-all").addEventListener("change", show);
  byId("config-form").addEventListener("submit", (event) => event.preventDefault());
}
