// Elements, tables and figures. Whatever comes from clients becomes text, never markup: nothing here reads HTML.

import { usdParts } from "./format.js";

export const byId = (id) => document.getElementById(id);

// el("p", { class: "x" }, "text", child): attributes that are null or false are left out.
export function el(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

// Exact money; what is below a cent steps back.
export function money(nano) {
  const { head, rest } = usdParts(nano);
  return el("span", { class: "usd" }, head, rest ? el("span", { class: "rest" }, rest) : null);
}

// columns: [{ title, number, cell: row => text or node }]. The first column's cells are the rows' headers.
export function table(caption, columns, rows, empty) {
  const head = el("tr", null, ...columns.map(({ title, number }) => el("th", { scope: "col", class: number && "number" }, title)));
  const line = (row) =>
    el(
      "tr",
      null,
      ...columns.map(({ number, cell, className }, place) => {
        const kind = [number && "number", className].filter(Boolean).join(" ") || null;
        return el(place ? "td" : "th", { scope: place ? null : "row", class: kind }, cell(row) ?? "");
      }),
    );
  const nothing = () => el("tr", { class: "empty" }, el("td", { colspan: columns.length }, empty));
  const body = rows.length ? rows.map(line) : [nothing()];
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", null, el("caption", { class: "unseen" }, caption), el("thead", null, head), el("tbody", null, ...body)),
  );
}

// A part of a whole, as a bar with its words. `share` is a number from 0 to 1, or more.
export function bar(share, words) {
  const inner = el("span", { class: "bar-fill" });
  inner.style.width = `${Math.min(Math.max(share, 0), 1) * 100}%`;
  const level = share >= 1 ? "full" : share >= 0.8 ? "high" : "low";
  return el("span", { class: `bar ${level}` }, el("span", { class: "bar-track", "aria-hidden": "true" }, inner), el("span", { class: "bar-words" }, words));
}

export function badge(kind, text) {
  return el("span", { class: `badge ${kind}` }, text);
}

export function figure(label, value, note) {
  return el("div", { class: "figure" }, el("dt", null, label), el("dd", null, value), note ? el("dd", { class: "note" }, note) : null);
}

// Asks for JSON. An error's text is what the server says. The body says how many answers are on their way.
let asking = 0;
export async function ask(url, headers) {
  document.body.dataset.asking = asking += 1;
  try {
    return await answerTo(url, headers);
  } finally {
    document.body.dataset.asking = asking -= 1;
  }
}

async function answerTo(url, headers) {
  let response;
  try {
    response = await fetch(url, { headers: { accept: "application/json", ...headers }, cache: "no-store", credentials: "same-origin" });
  } catch {
    throw Object.assign(new Error("Turnpike does not answer."), { status: 0 });
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const said = typeof body.error === "string" ? body.error : body.error?.message;
  throw Object.assign(new Error(said ?? `Turnpike answered ${response.status}.`), { status: response.status });
}
