// Figures as people read them. Money comes as a text of nano-USD and stays an integer: no float stands between the books and the page.

const NANO = 1_000_000_000n;
const CENT = 10_000_000n;

export const big = (nano) => (typeof nano === "bigint" ? nano : BigInt(nano ?? 0));

// "$1,234.56" and what is below a cent, if anything ("789"): together the exact amount.
export function usdParts(nano) {
  const amount = big(nano);
  const size = amount < 0n ? -amount : amount;
  const whole = (size / NANO).toLocaleString("en-US");
  const fraction = (size % NANO).toString().padStart(9, "0");
  return { head: `${amount < 0n ? "−" : ""}$${whole}.${fraction.slice(0, 2)}`, rest: fraction.slice(2).replace(/0+$/, "") };
}

export function usd(nano) {
  const { head, rest } = usdParts(nano);
  return head + rest;
}

// For plots alone: a float is good enough for a pixel.
export const usdFloat = (nano) => Number(big(nano)) / 1e9;

const compactUsd = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", notation: "compact", minimumFractionDigits: 0, maximumSignificantDigits: 3 });
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });
const plain = new Intl.NumberFormat("en-US");

export const axisUsd = (value) => compactUsd.format(value);
export const axisCount = (value) => compact.format(value);
export const count = (value) => plain.format(typeof value === "string" ? BigInt(value) : value);
export const short = (value) => compact.format(Number(value));

// How much more than before, in percent with one digit; null where there was nothing.
export function change(now, before) {
  const [a, b] = [big(now), big(before)];
  if (b === 0n) return null;
  const permille = ((a - b) * 1000n) / b;
  const size = permille < 0n ? -permille : permille;
  return { isMore: permille > 0n, isSame: permille === 0n, text: `${permille < 0n ? "−" : "+"}${size / 10n}.${size % 10n} %` };
}

// A part of a whole as a float from 0, for bars.
export function share(part, whole) {
  const [a, b] = [big(part), big(whole)];
  return b === 0n ? (a > 0n ? 1 : 0) : Number((a * 10000n) / b) / 10000;
}

export const percent = (part, whole) => `${(share(part, whole) * 100).toFixed(1)} %`;

const day = new Intl.DateTimeFormat("en-US", { timeZone: "UTC", month: "short", day: "numeric" });
const dayAndYear = new Intl.DateTimeFormat("en-US", { timeZone: "UTC", year: "numeric", month: "short", day: "numeric" });
const hour = new Intl.DateTimeFormat("en-US", { timeZone: "UTC", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export const dayOf = (seconds) => day.format(seconds * 1000);
export const fullDayOf = (seconds) => dayAndYear.format(seconds * 1000);
export const hourOf = (seconds) => hour.format(seconds * 1000);
export const instant = (seconds) => `${dayOf(seconds)}, ${hourOf(seconds)} UTC`;
export const isoDay = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);

export function duration(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export function bytes(size) {
  if (size < 1024) return `${size} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(Math.floor(Math.log2(size) / 10), units.length);
  return `${(size / 1024 ** step).toFixed(1)} ${units[step - 1]}`;
}
