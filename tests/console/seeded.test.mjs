// The console and the page /usage over 100,000 charges: what they show is what SQL says, to the nano-dollar.

import assert from "node:assert/strict";
import test, { after } from "node:test";
import { CLIENTS, CONSOLE, add, choose, close, coloured, dataOf, expected, fitsInto, isAccessible, logIn, nano, number, rowsOf, settled, shot, withPage } from "./browser.mjs";

after(close);

const PLOTS = ["amount-plot", "exchanges-plot", "volume-plot"];
const iso = (day) => new Date(`${day} UTC`).toISOString().slice(0, 10);
const total = async (page, label) => page.locator("#totals .figure", { hasText: label }).locator("dd").first().textContent();

test("a wrong token is told so, and the right one opens", () =>
  withPage({}, async (page) => {
    await page.goto(`${CONSOLE}/`);
    await isAccessible(page);
    await page.getByLabel("Admin token").fill("wrong");
    await page.getByRole("button", { name: "Log in" }).click();
    assert.equal(await page.getByRole("alert").textContent(), "That is not the admin token.");
    await page.goto(`${CONSOLE}/`);
    assert.equal(new URL(page.url()).pathname, "/login");
    await logIn(page);
    const [cookie] = await page.context().cookies();
    assert.ok(cookie.httpOnly && cookie.sameSite === "Strict");
    assert.equal(await page.evaluate(() => document.cookie), "");
  }));

test("the first figures are there soon, over 100,000 charges", (t) =>
  withPage({}, async (page) => {
    await logIn(page);
    await page.reload();
    await settled(page);
    const times = await page.evaluate(() => ({
      paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
      figures: performance.getEntriesByName("first-figures")[0].startTime,
    }));
    t.diagnostic(`first paint after ${Math.round(times.paint)} ms, first figures after ${Math.round(times.figures)} ms`);
    assert.match(await total(page, "Exchanges"), /^\d\d,\d{3}$/);
  }));

test("each plot has its bars, and its table is what the charges come to", () =>
  withPage({}, async (page) => {
    await logIn(page);
    for (const id of PLOTS) assert.ok((await coloured(page, id)) > 1000, id);
    const { head, rows } = await dataOf(page, "amount-plot");
    assert.equal(rows.length, 30);
    for (const row of rows) {
      const models = expected.days[iso(row[0])] ?? {};
      assert.equal(nano(row.at(-1)), add(Object.values(models).map(({ amount }) => amount)), row[0]);
      for (const [place, name] of head.entries()) {
        if (place === 0 || ["Together", "All others"].includes(name)) continue;
        assert.equal(nano(row[place]), BigInt(models[name]?.amount ?? 0), `${row[0]} ${name}`);
      }
    }
    assert.ok(head.includes("All others") && head.includes("<script>window.stolen=1</script>"));
    const shown = rows.map((row) => expected.days[iso(row[0])] ?? {}).flatMap(Object.values);
    assert.equal(nano(await total(page, "Spend")), add(shown.map(({ amount }) => amount)));
    assert.equal(number(await total(page, "Exchanges")), add(shown.map(({ exchanges }) => exchanges)));

    const exchanges = await dataOf(page, "exchanges-plot");
    assert.equal(add(exchanges.rows.map((row) => number(row[1]))), add(shown.map((one) => one.exchanges)));
    const volume = await dataOf(page, "volume-plot");
    assert.deepEqual(volume.head.slice(1), ["Input", "Input from a cache", "Output", "Together"]);
    const column = (place) => add(volume.rows.map((row) => number(row[place])));
    assert.equal(column(1) + column(2), add(shown.map(({ input }) => input)));
    assert.equal(column(2), add(shown.map(({ cached }) => cached)));
    assert.equal(column(3), add(shown.map(({ output }) => output)));
    await isAccessible(page);
  }));

test("every range and every way to tell spending apart comes to the same sums", () =>
  withPage({}, async (page) => {
    await logIn(page);
    for (const [range, steps] of [["7 d", 7], ["90 d", 90], ["12 mo", 365]]) {
      await choose(page, range);
      for (const by of ["Token", "Account", "Model"]) {
        await choose(page, by);
        const { rows } = await dataOf(page, "amount-plot");
        assert.equal(rows.length, steps);
        for (const row of rows) {
          const models = Object.values(expected.days[iso(row[0])] ?? {});
          assert.equal(nano(row.at(-1)), add(models.map(({ amount }) => amount)), `${range} ${by} ${row[0]}`);
        }
        assert.ok((await coloured(page, "amount-plot")) > 1000, `${range} ${by}`);
      }
    }
    await choose(page, "24 h");
    const { rows } = await dataOf(page, "amount-plot");
    assert.equal(rows.length, 24);
    for (const row of rows) assert.equal(nano(row.at(-1)), BigInt(expected.hours[row[0]] ?? 0), row[0]);
    assert.ok(add(rows.map((row) => nano(row.at(-1)))) > 0n);
  }));

test("the keyboard reaches each step of a plot, and what it tells is read out", () =>
  withPage({}, async (page) => {
    await logIn(page);
    await page.locator("#amount-plot .plot").focus();
    await page.keyboard.press("ArrowLeft");
    const tip = page.locator("#amount-plot .tip");
    const { rows } = await dataOf(page, "amount-plot");
    await page.locator("#amount-plot .plot").focus();
    await page.keyboard.press("End");
    assert.equal(await tip.locator("strong").textContent(), rows[0][0]);
    assert.equal(await tip.locator(".sum .tip-sum").textContent(), rows[0].at(-1));
    await page.keyboard.press("ArrowLeft");
    assert.equal(await tip.locator("strong").textContent(), rows[1][0]);
    assert.equal(await tip.getAttribute("aria-live"), "polite");
    await page.keyboard.press("Escape");
    assert.ok(await tip.isHidden());
    await page.mouse.move(700, 500);
    await page.hover("#amount-plot .u-over");
    assert.ok(await tip.isVisible());
    await shot(page, "tip");
  }));

test("holds, processes, tokens, accounts, doubtful charges, keys and prices are the database's", () =>
  withPage({}, async (page) => {
    await logIn(page);
    const holds = await rowsOf(page, "#holds table");
    assert.deepEqual(holds.rows.map((row) => [row[0], row[1], row[3], nano(row[4])]), [["gpt-4o", "alice", "chat/completions", BigInt(expected.hold)]]);
    const open = page.locator("#live-figures .figure", { hasText: "Open exchanges" });
    assert.equal(await open.locator("dd").first().textContent(), "1");
    const processes = await rowsOf(page, "#processes table");
    assert.equal(processes.rows.length, 1);
    assert.ok(processes.rows[0][1] === "alive" && nano(processes.rows[0][6]) > 0n);

    const top = await rowsOf(page, "#top-tokens table");
    const spent = top.rows.map((row) => nano(row[2]));
    assert.deepEqual(spent, [...spent].sort((a, b) => (a < b ? 1 : -1)));
    assert.equal(add(spent), nano(await total(page, "Spend")));
    assert.ok(top.rows.some((row) => row[0].includes("<script>window.stolen=1</script>")));
    const ending = await rowsOf(page, "#ending table");
    assert.deepEqual(ending.rows.map((row) => row[1]), ["northwind", '<img src=x onerror="window.stolen=1">']);
    const accounts = await rowsOf(page, "#account-rows table");
    assert.deepEqual(Object.fromEntries(accounts.rows.map((row) => [row[0], String(nano(row[1]))])), expected.balances);

    const marks = await page.locator("#doubtful-sums .figure").evaluateAll((all) => all.map((one) => [...one.children].map((part) => part.textContent)));
    for (const [title, charges, amount] of marks) {
      const { count, sum } = expected.doubtful[title.toLowerCase()];
      assert.deepEqual([number(charges), nano(amount)], [BigInt(count), BigInt(sum)], title);
    }
    const doubtful = await rowsOf(page, "#doubtful-rows table");
    assert.deepEqual(doubtful.rows.map((row) => row[0]), expected.latest);

    const keys = await rowsOf(page, "#keys table");
    assert.deepEqual(keys.rows.map((row) => [row[0], row[2]]).sort(), [["limited", "rests"], ["openai", "in use"]]);
    await page.getByLabel("Model", { exact: true }).last().fill("4o-mini");
    await page.getByText("1 prices").waitFor();
    const prices = await rowsOf(page, "#price-rows table");
    assert.deepEqual(prices.rows.map((row) => row.slice(0, 5)), [["gpt-4o-mini", "default", "$0.15", "$0.075", "$0.60"]]);
    await isAccessible(page);
    await shot(page, "console", true);
  }));

test("it fits a phone and the night", async () => {
  await withPage({ viewport: { width: 360, height: 740 } }, async (page) => {
    await page.goto(`${CONSOLE}/login`);
    await fitsInto(page, 360);
    await logIn(page);
    for (const id of PLOTS) {
      await dataOf(page, id);
      assert.ok((await coloured(page, id)) > 300, id);
    }
    await fitsInto(page, 360);
    await shot(page, "phone");
  });
  await withPage({ colorScheme: "dark" }, async (page) => {
    await logIn(page);
    const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.equal(ground, "rgb(13, 14, 18)");
    for (const id of PLOTS) assert.ok((await coloured(page, id)) > 1000, id);
    await page.emulateMedia({ colorScheme: "light" });
    await settled(page);
    assert.notEqual(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), ground);
    for (const id of PLOTS) assert.ok((await coloured(page, id)) > 1000, id);
    await page.emulateMedia({ colorScheme: "dark" });
    await settled(page);
    await shot(page, "dark");
  });
});

test("who has logged out is out, with the cookie that was in as well", () =>
  withPage({}, async (page) => {
    await logIn(page);
    const cookies = await page.context().cookies();
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByLabel("Admin token").waitFor();
    assert.deepEqual(await page.context().cookies(), []);
    await page.context().addCookies(cookies);
    await page.goto(`${CONSOLE}/`);
    assert.equal(new URL(page.url()).pathname, "/login");
  }));

test("whoever has a token sees its usage, and a wrong one shows nothing", () =>
  withPage({ viewport: { width: 360, height: 740 } }, async (page) => {
    await page.goto(`${CLIENTS}/usage`);
    await isAccessible(page);
    await page.getByLabel("Access token").fill("tp-nobody");
    await page.getByRole("button", { name: "Show usage" }).click();
    await page.getByText("This access token is not known, has expired or was revoked.").waitFor();
    assert.ok(await page.locator("#shown").isHidden());
    await page.getByLabel("Access token").fill("tp-seed-search");
    await page.getByRole("button", { name: "Show usage" }).click();
    await page.locator("#amount-plot canvas").waitFor();
    await settled(page);
    assert.ok(await page.getByRole("alert").isHidden());
    for (const id of PLOTS) assert.ok((await coloured(page, id)) > 300, id);
    const { head, rows } = await dataOf(page, "amount-plot");
    assert.equal(rows.length, 30);
    for (const row of rows) {
      const models = expected.holder.days[iso(row[0])] ?? {};
      assert.equal(nano(row.at(-1)), add(Object.values(models)), row[0]);
      for (const [place, name] of head.entries()) {
        if (name in models) assert.equal(nano(row[place]), BigInt(models[name]), `${row[0]} ${name}`);
      }
    }
    assert.equal(nano(await total(page, "Balance")), BigInt(expected.balances["acme research"]));
    assert.equal(nano(await total(page, "Spent in its life")), BigInt(expected.holder.spent));
    const caps = await rowsOf(page, "#caps table");
    assert.deepEqual(caps.rows.map((row) => row[0]), ["Spend in its life", "Spend this month", "Input tokens today"]);
    assert.ok(caps.rows[0][1].endsWith(" of $900.00"));
    const rates = await rowsOf(page, "#rates table");
    assert.deepEqual(rates.rows, [["Requests in a minute", "60"], ["Exchanges open at once", "8"]]);
    await isAccessible(page);
    await fitsInto(page, 360);
    await page.setViewportSize({ width: 1280, height: 860 });
    await settled(page);
    await shot(page, "usage");

    // It stays for a reload, in this tab alone, and goes when told to.
    await page.reload();
    await page.locator("#amount-plot canvas").waitFor();
    assert.equal(await page.evaluate(() => localStorage.length), 0);
    await page.getByRole("button", { name: "Forget the token" }).click();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    assert.ok(await page.getByLabel("Access token").isVisible());
  }));
