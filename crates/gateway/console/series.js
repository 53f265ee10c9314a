// Rows of figures, arranged for plots and tables: every step of time, and a series for each name.

import { big } from "./format.js";

// Series that a plot tells apart; the others are one, and grey.
export const SERIES_MAX = 7;

// rows: [{ at_s, place, name, amount, exchanges, … }]; `place` says which are told apart, and null is all others.
export function gather({ since_s, until_s, step_s, rows }) {
  const xs = [];
  for (let at = since_s; at < until_s; at += step_s) xs.push(at);
  const byKey = new Map();
  const sums = { exchanges: xs.map(() => 0), input: xs.map(() => 0), cached: xs.map(() => 0), output: xs.map(() => 0) };
  for (const row of rows) {
    const at = (row.at_s - since_s) / step_s;
    if (!Number.isInteger(at) || at < 0 || at >= xs.length) continue;
    const key = row.place ?? Infinity;
    if (!byKey.has(key)) byKey.set(key, { name: row.place === null ? "All others" : row.name || "(no name)", place: key, amounts: xs.map(() => 0n), total: 0n, exchanges: 0 });
    const series = byKey.get(key);
    const amount = big(row.amount);
    series.amounts[at] += amount;
    series.total += amount;
    series.exchanges += row.exchanges;
    sums.exchanges[at] += row.exchanges;
    sums.input[at] += row.input_tokens - row.cached_tokens;
    sums.cached[at] += row.cached_tokens;
    sums.output[at] += row.output_tokens;
  }
  const series = [...byKey.values()].sort((a, b) => a.place - b.place);
  series.forEach((one, index) => (one.color = one.place === Infinity ? "--series-rest" : `--series-${index + 1}`));
  return { xs, step_s, series, sums };
}

// Gives rows their places: the names that cost most first.
export function rank(rows) {
  const totals = new Map();
  for (const row of rows) totals.set(row.name, (totals.get(row.name) ?? 0n) + big(row.amount));
  const names = [...totals].sort(([a, x], [b, y]) => (x === y ? (a < b ? -1 : 1) : x < y ? 1 : -1)).map(([name]) => name);
  const places = new Map(names.map((name, index) => [name, index < SERIES_MAX ? index + 1 : null]));
  return rows.map((row) => ({ ...row, place: places.get(row.name) }));
}
