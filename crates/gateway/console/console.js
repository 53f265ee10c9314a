// The operator's page: asks for figures, draws them, and asks again.

import { ask, byId, figure, fill, el, money } from "./dom.js";
import { axisCount, axisUsd, change, count, percent, short, usd, usdFloat } from "./format.js";
import { makePlot } from "./plot.js";
import { gather } from "./series.js";
import { accounts, doubtful, here, live, prices, tokens } from "./sections.js";

const LIVE_EVERY_MS = 5_000;
const FIGURES_EVERY_MS = 60_000;

const showAmount = makePlot(byId("amount-plot"), { label: "Spend over time" });
const showExchanges = makePlot(byId("exchanges-plot"), { label: "Exchanges over time", height: 200 });
const showVolume = makePlot(byId("volume-plot"), { label: "Tokens over time", height: 200 });

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

// Of several answers to one question only the latest asked for is shown.
const latest = new Map();
async function get(name, query, show) {
  const number = (latest.get(name) ?? 0) + 1;
  latest.set(name, number);
  try {
    const answer = await ask(`api/${name}${query}`);
    if (latest.get(name) !== number) return;
    show(answer);
    say(name, null);
  } catch (error) {
    if (error.status === 401) return location.assign("login");
    say(name, `${name}: ${error.message}`);
  }
}

const complaints = new Map();
function say(name, text) {
  text ? complaints.set(name, text) : complaints.delete(name);
  const message = byId("message");
  const words = [...new Set(complaints.values())].join(" ");
  if (message.textContent !== words) message.textContent = words;
  message.hidden = !words;
}

function spend(answer) {
  const { xs, step_s, series, sums } = gather(answer);
  const numbers = (name, color, values) => ({
    name,
    color,
    floats: values,
    text: (index) => count(values[index]),
    total: short(values.reduce((sum, value) => sum + value, 0)),
  });
  showAmount({
    xs,
    step_s,
    axis: axisUsd,
    series: series.map((one) => ({ ...one, floats: one.amounts.map(usdFloat), text: (index) => usd(one.amounts[index]), total: usd(one.total) })),
    total: (index) => usd(series.reduce((sum, one) => sum + one.amounts[index], 0n)),
    sum: usd(answer.total.amount),
  });
  showExchanges({
    xs,
    step_s,
    axis: axisCount,
    series: [numbers("Exchanges", "--series-5", sums.exchanges)],
    total: (index) => count(sums.exchanges[index]),
    sum: count(answer.total.exchanges),
  });
  showVolume({
    xs,
    step_s,
    axis: axisCount,
    series: [numbers("Input", "--series-1", sums.input), numbers("Input from a cache", "--series-2", sums.cached), numbers("Output", "--series-3", sums.output)],
    total: (index) => count(sums.input[index] + sums.cached[index] + sums.output[index]),
    sum: count(answer.total.input_tokens + answer.total.output_tokens),
  });
  totals(answer);
}

function totals({ total, before }) {
  const beside = (now, then) => {
    const more = change(now, then);
    if (!more) return "nothing in the time before";
    return el("span", null, el("span", { class: more.isSame ? "same" : "moved" }, more.text), " on the time before");
  };
  fill(
    byId("totals"),
    figure("Spend", money(total.amount), beside(total.amount, before.amount)),
    figure("Exchanges", count(total.exchanges), beside(total.exchanges, before.exchanges)),
    figure("Input tokens", short(total.input_tokens), `${percent(total.cached_tokens, total.input_tokens)} from a cache`),
    figure("Output tokens", short(total.output_tokens), beside(total.output_tokens, before.output_tokens)),
    figure("Not the provider’s own figure", money(total.estimated), `${percent(total.estimated, total.amount)} of the spend`),
  );
}

const query = () => `?range=${encodeURIComponent(chosen("range"))}`;
const askSpend = () => get("spend", `${query()}&by=${encodeURIComponent(chosen("by"))}`, spend);
const askPrices = () => get("prices", `?q=${encodeURIComponent(byId("price-search").value)}`, prices);
const askLive = () => Promise.all([get("here", "", here), get("live", "", live)]);
const askFigures = () => Promise.all([get("tokens", query(), tokens), get("doubtful", query(), doubtful), get("accounts", "", accounts)]);

byId("range").addEventListener("change", () => Promise.all([askSpend(), askFigures()]));
byId("by").addEventListener("change", askSpend);
let typing;
byId("price-search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(askPrices, 200);
});

// Nobody looks at a page that is hidden.
const every = (ms, what) => setInterval(() => document.visibilityState === "visible" && what(), ms);
// What is seen first is asked first.
askSpend().then(() => {
  performance.mark("first-figures");
  return Promise.all([askLive(), askFigures(), askPrices()]);
});
every(LIVE_EVERY_MS, askLive);
every(FIGURES_EVERY_MS, () => Promise.all([askSpend(), askFigures()]));
