// What the lists of outcomes and of quarantined files share.

import { showMessage } from "./actions.js";
import { query } from "./calls.js";
import { byId, html } from "./words.js";

// A short list on a narrow screen.
export const isNarrow = matchMedia("(max-width: 44rem)").matches;
export const PAGE = isNarrow ? 10 : 20;
const MOST = 500;
const DELAY = 250;

export const cell = (kind, label, ...children) => html("td", { role: "cell", class: kind, "data-label": label }, ...children);

// Runs once for many calls in a short time.
export function throttled(run, wait = DELAY) {
  let timer = null;
  return () => {
    if (timer !== null) return;
    timer = setTimeout(() => {
      timer = null;
      run();
    }, wait);
  };
}

// Runs after the last of several calls, as for the letters of a search.
export function debounced(run, wait = DELAY) {
  let timer = null;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(run, wait);
  };
}

// A list that comes in pages, newest first. The answer to the latest request is shown.
export class Listing {
  constructor(path, key, parameters, show) {
    Object.assign(this, { path, key, parameters, show, items: [], next: null, requests: 0, answer: null });
  }

  async load(older = false) {
    this.requests += 1;
    const mine = this.requests;
    try {
      const before = older ? this.next : null;
      const answer = await query(this.path, { limit: PAGE, ...this.parameters(), before });
      if (mine !== this.requests) return;
      this.items = older ? [...this.items, ...answer[this.key]].slice(0, MOST) : answer[this.key];
      this.next = this.items.length >= MOST ? null : answer.next_before;
      this.answer = answer;
      this.show(this);
    } catch (error) {
      // The state line shows a lost connection; a refusal has a message of its own.
      if (error.name === "Error" || error.status !== undefined) showMessage(error.message, "refused");
    }
  }
}

// The choices of a list's filter by pipeline.
export function offerPipelines(id, names) {
  const select = byId(id);
  const before = select.value;
  select.replaceChildren(html("option", { value: "" }, "all"), ...names.map((one) => html("option", { value: one }, one)));
  select.value = names.includes(before) ? before : "";
  select.closest("label").hidden = names.length < 2;
}
