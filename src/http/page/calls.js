// Questions to the service and changes of it. A change may need the administrator's token, which is
// asked for once and kept for this tab only.

import { byId, say } from "./words.js";

const KEY = "tidemill-token";
const PATIENCE = 10_000;

export class Refused extends Error {
  constructor(status, error, detail) {
    super(detail);
    this.status = status;
    this.error = error;
  }
}

async function answer(response) {
  const body = await response.json().catch(() => null);
  if (response.ok) return body;
  throw new Refused(response.status, body?.error ?? "error", body?.detail ?? `It answered ${response.status} ${response.statusText}.`);
}

// A question; the words of a failure are for people.
export async function ask(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(given).toString();
  const url = `/api/v1/${path}${text === "" ? "" : `?${text}`}`;
  return answer(await fetch(url, { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" }));
}

function send(action, body, token) {
  const headers = { "content-type": "application/json" };
  if (token !== null) headers.authorization = `Bearer ${token}`;
  return fetch(`/api/v1/${action}`, {
    method: "POST", headers, body: JSON.stringify(body), signal: AbortSignal.timeout(PATIENCE), cache: "no-store",
  });
}

// A change. Null where the person did not give the token.
export async function change(action, body) {
  let token = sessionStorage.getItem(KEY);
  for (;;) {
    const response = await send(action, body, token);
    if (response.status !== 401) return answer(response);
    const wrong = token !== null;
    sessionStorage.removeItem(KEY);
    token = await askToken(wrong);
    if (token === null) return null;
    sessionStorage.setItem(KEY, token);
  }
}

// Opens a dialog and waits for its word; focus goes back to where it was, by <dialog> itself.
export function confirmed(dialog) {
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

async function askToken(wrong) {
  const field = byId("token");
  const note = byId("token-wrong");
  field.value = "";
  note.hidden = !wrong;
  say(note, wrong ? "That token was not accepted." : "");
  const given = await confirmed(byId("ask-token"));
  const token = field.value.trim();
  field.value = "";
  return given && token !== "" ? token : null;
}

export function start() {
  byId("token-no").addEventListener("click", () => byId("ask-token").close("no"));
}
