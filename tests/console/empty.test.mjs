// The console where nothing has happened yet and nobody has to log in.

import assert from "node:assert/strict";
import test, { after } from "node:test";
import { CONSOLE, close, coloured, dataOf, isAccessible, rowsOf, settled, withPage } from "./browser.mjs";

after(close);

test("an empty console says so everywhere", () =>
  withPage({}, async (page) => {
    await page.goto(`${CONSOLE}/`);
    await page.getByRole("heading", { name: "Overview" }).waitFor();
    await settled(page);
    for (const id of ["amount-plot", "exchanges-plot", "volume-plot"]) {
      assert.equal(await coloured(page, id), 0, id);
      assert.ok(await page.locator(`#${id} .nothing`).isVisible());
    }
    const { rows } = await dataOf(page, "exchanges-plot");
    assert.ok(rows.length === 30 && rows.every((row) => row[1] === "0"));
    assert.equal(await page.locator("#totals dd").first().textContent(), "$0.00");
    const only = async (id) => (await rowsOf(page, `#${id} table`)).rows;
    assert.deepEqual(await only("holds"), [["No exchange is open."]]);
    assert.deepEqual(await only("top-tokens"), [["No access token was used in this time."]]);
    assert.deepEqual(await only("doubtful-rows"), [["Every figure in this time is the provider’s own."]]);
    assert.equal((await only("keys")).length, 1);
    assert.ok(await page.getByRole("alert").isHidden());
    assert.ok(await page.getByRole("button", { name: "Log out" }).isHidden());
    assert.equal(await page.locator("#state-words").textContent(), "all well");
    await isAccessible(page);
  }));
