// Requests to the service. A change may need the administrator's token: the page asks for it once and
// keeps it for this tab only.

import { byId, setText } from "./words.js";

const KEY = "tidemill-token";
const TIMEOUT = 10_000;

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
  throw new Refused(response.status, body?.error ?? "error", body?.detail ?? `The answer was ${response.status} ${response.statusText}.`);
}

// A request that changes nothing. The message of its error is for people.
export async function query(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(given).toString();
  const url = `/api/v1/${path}${text === "" ? "" : `?${text}`}`;
  return answer(await fetch(url, { signal: AbortSignal.timeout(TIMEOUT), cache: "no-store" }));
}

function send(action, body, token) {
  const headers = { "content-type": "application/json" };
  if (token !== null) headers.authorization = `Bearer ${token}`;
  return fetch(`/api/v1/${action}`, {
    method: "POST", headers, body: JSON.stringify(body), signal: AbortSignal.timeout(TIMEOUT), cache: "no-store",
  });
}

// A change. Null where the operator gave no token.
export async function change(action, body) {
  let token = sessionStorage.getItem(KEY);
  for (;;) {
    const response = await send(action, body, token);
    if (response.status !== 401) return answer(response);
    const wasWrong = token !== null;
    sessionStorage.removeItem(KEY);
    token = await requestToken(wasWrong);
    if (token === null) return null;
    sessionStorage.setItem(KEY, token);
  }
}

// Opens a dialog and waits for its answer; <dialog> itself restores the focus.
export function confirmed(dialog) {
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

async function requestToken(wasWrong) {
  const field = byId("token");
  const note = byId("token-wrong");
  field.value = "";
  note.hidden = !wasWrong;
  setText(note, wasWrong ? "That token was not accepted." : "");
  const given = await confirmed(byId("ask-token"));
  const token = field.value.trim();
  field.value = "";
  return given && token !== "" ? token : null;
}

export function start() {
  byId("token-no").addEventListener("click", () => byId("ask-token").close("no"));
}
