// A real Chromium, and what the tests ask of a page. Set by the test that starts the gateway: CHROMIUM (where the browser is),
// CONSOLE and CLIENTS (addresses), ADMIN_TOKEN, EXPECTED (JSON of what SQL says).

import assert from "node:assert/strict";
import { chromium } from "playwright-core";

export const { CONSOLE, CLIENTS, ADMIN_TOKEN, SHOTS } = process.env;
export const expected = JSON.parse(process.env.EXPECTED ?? "{}");

// The sandbox needs rights that containers and root do not have; nothing but our own pages is opened.
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
export const close = () => browser.close();

// Runs `look` with a page of its own; nothing may be refused by the content security policy, and no script may fail.
export async function withPage(options, look) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  const complaints = [];
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => console.error(`violation: ${event.violatedDirective} ${event.blockedURI}`));
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    // Chromium itself reports an answer of 401; the pages show it.
    if (message.type() === "error" && !message.text().includes("the server responded with a status of 4")) complaints.push(message.text());
  });
  page.on("request", (request) => {
    const { origin } = new URL(request.url());
    if (![CONSOLE, CLIENTS].includes(origin) && !request.url().startsWith("data:")) complaints.push(`asks ${request.url()}`);
  });
  try {
    await look(page);
    assert.deepEqual(complaints, []);
    assert.equal(await page.evaluate(() => window.stolen), undefined, "a name became a script");
  } finally {
    await context.close();
  }
}

export async function logIn(page) {
  await page.goto(`${CONSOLE}/`);
  assert.equal(new URL(page.url()).pathname, "/login");
  await page.getByLabel("Admin token").fill(ADMIN_TOKEN);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await settled(page);
}

// Waits until the page has asked what it asks and drawn it.
export async function settled(page) {
  await page.waitForFunction(() => document.body.dataset.asking === "0");
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}

// How many pixels of a plot have a colour: axes and their words are grey.
export const coloured = (page, id) =>
  page.locator(`#${id} canvas`).evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let at = 0; at < data.length; at += 4) {
      const [red, green, blue, alpha] = data.slice(at, at + 4);
      if (alpha > 200 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60) count += 1;
    }
    return count;
  });

// Opens a plot's table and reads it: its head, and its rows' texts.
export async function dataOf(page, id) {
  const details = page.locator(`#${id} details`);
  if (!(await details.evaluate((element) => element.open))) await details.locator("summary").click();
  return rowsOf(page, `#${id} details table`);
}

export const rowsOf = (page, selector) =>
  page.locator(selector).evaluate((table) => {
    const texts = (row) => [...row.cells].map((cell) => cell.textContent);
    return { head: texts(table.tHead.rows[0]), rows: [...table.tBodies[0].rows].map(texts) };
  });

export async function choose(page, name) {
  await page.getByRole("radio", { name, exact: true }).check({ force: true });
  await settled(page);
}

// "$1,234.5" as nano-dollars.
export function nano(text) {
  const [, sign, whole, fraction = ""] = text.match(/^(−?)\$([\d,]+)\.?(\d*)$/) ?? assert.fail(`no money: ${text}`);
  const size = BigInt(whole.replaceAll(",", "")) * 1_000_000_000n + BigInt(fraction.padEnd(9, "0"));
  return sign ? -size : size;
}

export const number = (text) => BigInt(text.replaceAll(",", ""));
export const add = (values) => values.reduce((sum, value) => sum + BigInt(value), 0n);

export async function fitsInto(page, width) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= width, `${wide} pixels wide`);
}

export async function shot(page, name, fullPage = false) {
  if (SHOTS) await page.screenshot({ path: `${SHOTS}/${name}.png`, fullPage });
}

// What someone who hears a page needs of it.
export async function isAccessible(page) {
  const lacks = await page.evaluate(() => {
    const visible = (element) => element.checkVisibility();
    const lacks = [];
    if (document.documentElement.lang !== "en") lacks.push("no language");
    if (document.querySelectorAll("main").length !== 1) lacks.push("no main");
    if (document.querySelectorAll("h1").length !== 1) lacks.push("no h1");
    for (const input of document.querySelectorAll("input")) {
      if (visible(input) && !input.labels.length) lacks.push(`no label: ${input.outerHTML}`);
    }
    for (const set of document.querySelectorAll("fieldset")) if (!set.querySelector("legend")?.textContent) lacks.push("no legend");
    for (const table of document.querySelectorAll("table")) {
      if (!table.caption?.textContent) lacks.push("no caption");
      for (const head of table.querySelectorAll("th")) if (!head.scope) lacks.push(`no scope: ${head.textContent}`);
    }
    for (const image of document.querySelectorAll("img")) if (!image.hasAttribute("alt")) lacks.push("no alt");
    for (const named of document.querySelectorAll("[role=region], [role=group]")) if (!named.ariaLabel) lacks.push(`no name: ${named.className}`);
    const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
    if (new Set(ids).size !== ids.length) lacks.push("an id twice");
    return lacks;
  });
  assert.deepEqual(lacks, []);
}
