// The console's tables.

import { badge, bar, byId, el, figure, fill, money, table } from "./dom.js";
import { big, bytes, count, duration, instant, percent, share, short, usd } from "./format.js";

const name = (text, label) => el("span", { class: "name" }, el("code", null, text), label ? el("span", { class: "label" }, label) : null);
const text = (value) => value ?? "—";

export function here(state) {
  const [kind, words] = !state.is_connected || !state.is_ready ? ["bad", "database away"] : state.homeless || state.journal_records ? ["warn", "catching up"] : ["good", "all well"];
  byId("state").dataset.kind = kind;
  if (byId("state-words").textContent !== words) byId("state-words").textContent = words;
  byId("version").textContent = state.version;
  byId("logout").hidden = !state.has_login;
  const journal = state.journal_records ? `${count(state.journal_records)} charges wait in it` : "nothing waits in it";
  shown.here = [
    figure("Settling here", count(state.settling), `${count(state.settled)} settled since the start`),
    figure("Journal here", bytes(state.journal_bytes), state.homeless ? `${count(state.homeless)} charges have no place` : journal),
    figure("Settled for the dead", count(state.interrupted), state.settle_refused ? `${count(state.settle_refused)} refused by Postgres` : "since the start"),
  ];
  drawLive();
  const keyState = ({ rests }) => (rests ? badge("warn", "rests") : badge("good", "in use"));
  fill(
    byId("keys"),
    table(
      "Upstreams’ keys",
      [
        { title: "Upstream", cell: (key) => key.upstream },
        { title: "Key", cell: (key) => (key.key === null ? "none" : `no. ${key.key}`) },
        { title: "State", cell: keyState },
      ],
      state.keys,
      "No upstream has a row: requests go where the settings say, or to the sandbox model.",
    ),
  );
}

const shown = { here: [], live: [] };
const drawLive = () => fill(byId("live-figures"), ...shown.live, ...shown.here);

export function live({ held, holds, processes }) {
  shown.live = [
    figure("Open exchanges", count(held.exchanges), el("span", null, money(held.exchanges_amount), " held")),
    figure("Work that goes on", count(held.jobs), el("span", null, money(held.jobs_amount), " held")),
  ];
  drawLive();
  fill(
    byId("holds"),
    table(
      "Open exchanges, the oldest first",
      [
        { title: "Model", cell: (hold) => el("span", { class: "name" }, hold.model) },
        { title: "Account", cell: (hold) => hold.account },
        { title: "Token", cell: (hold) => name(hold.token) },
        { title: "Endpoint", cell: (hold) => hold.endpoint },
        { title: "Held", number: true, cell: (hold) => money(hold.amount) },
        { title: "For", number: true, cell: (hold) => duration(hold.age_s) },
        { title: "Process", cell: (hold) => hold.instance },
      ],
      holds,
      "No exchange is open.",
    ),
  );
  fill(
    byId("processes"),
    table(
      "Processes",
      [
        { title: "Process", cell: (one) => el("span", { class: "name" }, one.name) },
        { title: "State", cell: (one) => (one.is_alive ? badge("good", "alive") : badge("bad", "silent")) },
        { title: "Heard of", number: true, cell: (one) => `${duration(one.seen_s)} ago` },
        { title: "Up", number: true, cell: (one) => duration(one.up_s) },
        { title: "Open", number: true, cell: (one) => count(one.exchanges) },
        { title: "Purses", number: true, cell: (one) => count(one.purses) },
        { title: "Leased", number: true, cell: (one) => money(one.leased) },
        { title: "Version", cell: (one) => one.version },
      ],
      processes,
      "No process is known.",
    ),
  );
}

export function tokens({ top, ending }) {
  const budget = (one) => (one.budget === null ? "none" : bar(share(one.spent, one.budget), `${percent(one.spent, one.budget)} of ${usd(one.budget)}`));
  fill(
    byId("top-tokens"),
    table(
      "Access tokens that spent most",
      [
        { title: "Token", cell: (one) => name(one.prefix, one.label) },
        { title: "Account", cell: (one) => one.account },
        { title: "Spent", number: true, cell: (one) => money(one.amount) },
        { title: "Exchanges", number: true, cell: (one) => count(one.exchanges) },
        { title: "Input", number: true, cell: (one) => short(one.input_tokens) },
        { title: "Output", number: true, cell: (one) => short(one.output_tokens) },
        { title: "Budget in its life", cell: budget },
        { title: "State", cell: (one) => (one.is_valid ? badge("good", "valid") : badge("off", "ended")) },
      ],
      top,
      "No access token was used in this time.",
    ),
  );
  const now = Date.now() / 1000;
  const left = ({ expires_s }) => (expires_s <= now ? badge("bad", "ended") : badge("warn", `in ${duration(Math.floor(expires_s - now))}`));
  fill(
    byId("ending"),
    table(
      "Access tokens that end within 30 days",
      [
        { title: "Token", cell: (one) => name(one.prefix, one.label) },
        { title: "Account", cell: (one) => one.account },
        { title: "Ends", cell: (one) => instant(one.expires_s) },
        { title: "Left", cell: left },
      ],
      ending,
      "None.",
    ),
  );
}

export function accounts({ accounts }) {
  const limit = (one) => (one.credit_limit === null ? "none" : money(one.credit_limit));
  const left = (one) => (one.credit_limit === null ? badge("good", "no limit") : big(one.balance) + big(one.credit_limit) <= 0n ? badge("bad", "empty") : badge("good", "in funds"));
  fill(
    byId("account-rows"),
    table(
      "Accounts, those with the least left first",
      [
        { title: "Account", cell: (one) => el("span", { class: "name" }, one.name) },
        { title: "Balance", number: true, cell: (one) => money(one.balance) },
        { title: "Credit limit", number: true, cell: limit },
        { title: "Leased", number: true, cell: (one) => money(one.leased) },
        { title: "Tokens", number: true, cell: (one) => count(one.tokens) },
        { title: "State", cell: left },
      ],
      accounts,
      "There is no account: turnpike account create.",
    ),
  );
}

const MARKS = { estimated: "Estimated", bounded: "Bounded", interrupted: "Interrupted" };

export function doubtful({ sums, charges }) {
  const of = (mark) => sums.find((sum) => sum.mark === mark) ?? { charges: 0, amount: "0" };
  fill(byId("doubtful-sums"), ...Object.entries(MARKS).map(([mark, title]) => figure(title, count(of(mark).charges), money(of(mark).amount))));
  fill(
    byId("doubtful-rows"),
    table(
      "Charges to check, the latest first",
      [
        { title: "Exchange", cell: (one) => el("code", { class: "id" }, one.exchange) },
        { title: "Started", cell: (one) => instant(one.started_s) },
        { title: "Account", cell: (one) => one.account },
        { title: "Token", cell: (one) => name(one.token) },
        { title: "Model", cell: (one) => el("span", { class: "name" }, one.model) },
        { title: "Mark", cell: (one) => badge(one.mark === "interrupted" ? "bad" : "warn", one.mark) },
        { title: "Ending", cell: (one) => one.ending },
        { title: "Charged", number: true, cell: (one) => money(one.amount) },
      ],
      charges,
      "Every figure in this time is the provider’s own.",
    ),
  );
}

export function prices({ count: all, prices }) {
  const rate = (value) => (value === null ? "—" : money(value));
  byId("price-count").textContent = all === prices.length ? `${count(all)} prices` : `the first ${count(prices.length)} of ${count(all)}`;
  fill(
    byId("price-rows"),
    table(
      "Prices in force",
      [
        { title: "Model", cell: (one) => el("span", { class: "name" }, el("code", null, one.model), one.min_context ? el("span", { class: "label" }, `above ${count(one.min_context)} tokens`) : null) },
        { title: "Tier", cell: (one) => one.tier },
        { title: "Input", number: true, cell: (one) => rate(one.input) },
        { title: "Cached input", number: true, cell: (one) => rate(one.cached_input) },
        { title: "Output", number: true, cell: (one) => rate(one.output) },
        { title: "Others", cell: (one) => (one.has_fees ? "yes" : "") },
        { title: "Context", number: true, cell: (one) => text(one.context_window && short(one.context_window)) },
        { title: "Most output", number: true, cell: (one) => text(one.output_max && short(one.output_max)) },
      ],
      prices,
      "No price matches.",
    ),
  );
}
