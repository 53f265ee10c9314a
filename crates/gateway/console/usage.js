// The token holder's page. The token stays in this tab: it is kept in its session storage, and goes nowhere but to this address.

import { ask, bar, byId, el, figure, fill, money, table } from "./dom.js";
import { axisCount, axisUsd, big, count, instant, isoDay, share, short, usd, usdFloat } from "./format.js";
import { makePlot } from "./plot.js";
import { gather, rank } from "./series.js";

const KEPT = "turnpike.token";
const DAY_S = 86_400;

const plots = {
  amount: makePlot(byId("amount-plot"), { label: "Spend by day and model" }),
  exchanges: makePlot(byId("exchanges-plot"), { label: "Exchanges by day", height: 200 }),
  volume: makePlot(byId("volume-plot"), { label: "Tokens by day", height: 200 }),
};

const PERIODS = { life: "in its life", month: "this month", day: "today" };
const KINDS = { money: "Spend", input: "Input tokens", output: "Output tokens" };
const RATES = {
  requests_per_second: "Requests in a second",
  requests_per_minute: "Requests in a minute",
  requests_per_hour: "Requests in an hour",
  tokens_per_minute: "Tokens in a minute",
  concurrent_exchanges: "Exchanges open at once",
};

const figureOf = (of, value) => (of === "money" ? usd(value) : count(value));

function show(answer) {
  const cap = (of, period) => answer.caps.find((one) => one.of === of && one.period === period);
  const spent = (period) => {
    const { used, most } = cap("money", period);
    return figure(`Spent ${PERIODS[period]}`, money(used), most === null ? "no budget" : bar(share(used, most), `of ${usd(most)}`));
  };
  const credit = answer.credit_limit === null ? "without a limit" : big(answer.credit_limit) > 0n ? el("span", null, "and ", money(answer.credit_limit), " of credit") : "of the account";
  fill(byId("totals"), figure("Balance", money(answer.balance), credit), spent("day"), spent("month"), spent("life"));
  fill(byId("who"), el("code", null, `${answer.prefix}…`), answer.label ? ` ${answer.label}` : "", answer.expires_s === null ? "" : ` · ends ${isoDay(answer.expires_s)}`);
  days(answer);
  limits(answer);
}

function days(answer) {
  const rows = rank(answer.days);
  const { xs, step_s, series, sums } = gather({ ...answer, step_s: DAY_S, rows });
  const add = (values) => values.reduce((sum, value) => sum + value, 0);
  const numbers = (name, color, values) => ({ name, color, floats: values, text: (index) => count(values[index]), total: short(add(values)) });
  plots.amount({
    xs,
    step_s,
    axis: axisUsd,
    series: series.map((one) => ({ ...one, floats: one.amounts.map(usdFloat), text: (index) => usd(one.amounts[index]), total: usd(one.total) })),
    total: (index) => usd(series.reduce((sum, one) => sum + one.amounts[index], 0n)),
    sum: usd(series.reduce((sum, one) => sum + one.total, 0n)),
  });
  plots.exchanges({ xs, step_s, axis: axisCount, series: [numbers("Exchanges", "--series-5", sums.exchanges)], total: (index) => count(sums.exchanges[index]), sum: count(add(sums.exchanges)) });
  plots.volume({
    xs,
    step_s,
    axis: axisCount,
    series: [numbers("Input", "--series-1", sums.input), numbers("Input from a cache", "--series-2", sums.cached), numbers("Output", "--series-3", sums.output)],
    total: (index) => count(sums.input[index] + sums.cached[index] + sums.output[index]),
    sum: count(add(sums.input) + add(sums.cached) + add(sums.output)),
  });
  models(answer.days);
}

function models(rows) {
  const byName = new Map();
  for (const row of rows) {
    const sum = byName.get(row.name) ?? { name: row.name, amount: 0n, exchanges: 0, input: 0, output: 0 };
    sum.amount += big(row.amount);
    sum.exchanges += row.exchanges;
    sum.input += row.input_tokens;
    sum.output += row.output_tokens;
    byName.set(row.name, sum);
  }
  const sorted = [...byName.values()].sort((a, b) => (a.amount < b.amount ? 1 : a.amount > b.amount ? -1 : 0));
  fill(
    byId("models"),
    table(
      "Models, the dearest first",
      [
        { title: "Model", cell: (one) => el("span", { class: "name" }, one.name) },
        { title: "Spent", number: true, cell: (one) => money(one.amount) },
        { title: "Exchanges", number: true, cell: (one) => count(one.exchanges) },
        { title: "Input", number: true, cell: (one) => count(one.input) },
        { title: "Output", number: true, cell: (one) => count(one.output) },
      ],
      sorted,
      "Nothing was charged in this time.",
    ),
  );
}

function limits({ caps, rates, expires_s }) {
  const given = caps.filter((cap) => cap.most !== null);
  fill(
    byId("caps"),
    table(
      "Budgets",
      [
        { title: "Of", cell: (cap) => `${KINDS[cap.of]} ${PERIODS[cap.period]}` },
        { title: "Used", cell: (cap) => bar(share(cap.used, cap.most), `${figureOf(cap.of, cap.used)} of ${figureOf(cap.of, cap.most)}`) },
      ],
      given,
      "This token has no budget of its own; its account pays as long as it has means.",
    ),
  );
  const rows = Object.entries(RATES).filter(([name]) => rates[name] !== null).map(([name, title]) => ({ title, most: count(rates[name]) }));
  if (expires_s !== null) rows.push({ title: "Can be used until", most: instant(expires_s) });
  fill(byId("rates"), table("Rates", [{ title: "What", cell: (row) => row.title }, { title: "At most", number: true, cell: (row) => row.most }], rows, "This token has no rate limit of its own."));
}

const chosen = () => document.querySelector('input[name="range"]:checked').value;

function say(text) {
  byId("message").textContent = text ?? "";
  byId("message").hidden = !text;
}

function open(isOpen) {
  byId("ask").hidden = isOpen;
  for (const id of ["shown", "forget", "range"]) byId(id).hidden = !isOpen;
  if (!isOpen) fill(byId("who"));
}

let number = 0;
async function look(token) {
  const mine = ++number;
  try {
    const answer = await ask(`usage.json?range=${encodeURIComponent(chosen())}`, { authorization: `Bearer ${token}` });
    if (mine !== number) return;
    sessionStorage.setItem(KEPT, token);
    say(null);
    open(true);
    show(answer);
  } catch (error) {
    if (mine !== number) return;
    say(error.status === 401 ? "This access token is not known, has expired or was revoked." : error.message);
    if (error.status !== 401) return;
    sessionStorage.removeItem(KEPT);
    open(false);
    byId("token").focus();
  }
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  // What a header cannot carry is no token.
  const token = byId("token").value.trim();
  if (!/^[\x21-\x7e]+$/.test(token)) return say("An access token has neither spaces nor letters beyond ASCII.");
  byId("token").value = "";
  look(token);
});
byId("range").addEventListener("change", () => {
  const token = sessionStorage.getItem(KEPT);
  if (token) look(token);
});
byId("forget").addEventListener("click", () => {
  number += 1;
  sessionStorage.removeItem(KEPT);
  say(null);
  open(false);
  byId("token").focus();
});

const kept = sessionStorage.getItem(KEPT);
if (kept) look(kept);
else byId("token").focus();
