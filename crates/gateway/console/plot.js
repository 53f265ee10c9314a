// Stacked bars over time, by uPlot; with the mouse or the arrow keys each step tells its figures, and below stands the same as a table.

import { dayOf, fullDayOf, hourOf, instant } from "./format.js";
import { el, fill, table } from "./dom.js";

const HEIGHT = 260;
const LABEL_SPACE = 78;
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Where a plot stands: `place` is an element with nothing in it. `show` may be called again and again.
export function makePlot(place, { height = HEIGHT, label }) {
  const frame = el("div", { class: "plot", tabindex: "0", role: "group", "aria-roledescription": "bar chart", "aria-label": label });
  const tip = el("div", { class: "tip", "aria-live": "polite", hidden: true });
  const legend = el("ul", { class: "legend" });
  const summary = el("summary", null, "Show as a table");
  const details = el("details", { class: "data" }, summary);
  const nothing = el("p", { class: "nothing", hidden: true }, "Nothing was charged in this time.");
  fill(place, el("div", { class: "plot-frame" }, frame, tip, nothing), legend, details);
  let [plot, shown, at] = [null, null, null];

  // The table is built when somebody wants it.
  details.addEventListener("toggle", () => drawTable());
  const drawTable = () => {
    details.querySelector(".scroll")?.remove();
    if (details.open && shown) details.append(dataTable(label, shown));
  };

  const draw = () => {
    const width = frame.clientWidth;
    plot?.destroy();
    plot = null;
    if (!width || !shown) return;
    plot = new uPlot(options(shown, width, height, point), stacked(shown), frame);
  };

  // What is told of a step: its time, each series that has something, their sum.
  const point = (index) => {
    const isThere = plot && index !== null && index !== undefined && shown.xs[index] !== undefined;
    tip.hidden = !isThere;
    if (!isThere) return;
    at = index;
    const lines = shown.series.filter((one) => one.floats[index] > 0).map((one) => tipLine(one.color, one.name, one.text(index)));
    const sum = shown.series.length > 1 ? [tipLine(null, "Together", shown.total(index))] : [];
    fill(tip, el("strong", null, stepName(shown, index)), ...(lines.length ? [...lines, ...sum] : [el("span", null, "nothing")]));
    const left = plot.valToPos(shown.xs[index], "x") + plot.bbox.left / devicePixelRatio;
    const most = frame.clientWidth - tip.offsetWidth - 4;
    const beside = left + 14 > most ? left - tip.offsetWidth - 14 : left + 14;
    tip.style.transform = `translate(${Math.max(0, Math.min(beside, most))}px, 8px)`;
  };

  frame.addEventListener("keydown", (event) => {
    if (!plot) return;
    const last = shown.xs.length - 1;
    const next = { ArrowLeft: (at ?? last + 1) - 1, ArrowRight: (at ?? -1) + 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape") return point(null);
    if (next === undefined) return;
    event.preventDefault();
    point(Math.max(0, Math.min(last, next)));
  });
  frame.addEventListener("blur", () => point(null));
  new ResizeObserver(() => {
    if (!plot) draw();
    else if (plot.width !== frame.clientWidth) plot.setSize({ width: frame.clientWidth, height });
  }).observe(frame);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  // data: { xs, step_s, axis, series: [{ name, color, floats, text(index), total }], total(index), sum }
  return (data) => {
    [shown, at] = [data, null];
    tip.hidden = true;
    nothing.hidden = data.series.some((one) => one.floats.some((value) => value > 0));
    frame.setAttribute("aria-label", `${label}: ${data.sum} together. Arrow keys tell each ${data.step_s < 86400 ? "hour" : "day"}; the table below has all figures.`);
    fill(legend, ...data.series.map((one) => el("li", null, swatch(one.color), el("span", { class: "legend-name", title: one.name }, one.name), el("span", { class: "legend-sum" }, one.total))));
    draw();
    drawTable();
  };
}

function swatch(color) {
  const mark = el("span", { class: "swatch", "aria-hidden": "true" });
  mark.style.background = `var(${color})`;
  return mark;
}

function tipLine(color, name, text) {
  return el("span", { class: color ? "tip-line" : "tip-line sum" }, color ? swatch(color) : el("span"), el("span", { class: "tip-name" }, name), el("span", { class: "tip-sum" }, text));
}

const stepName = ({ xs, step_s }, index) => (step_s < 86400 ? instant(xs[index]) : fullDayOf(xs[index]));

function dataTable(label, { xs, step_s, series, total }) {
  const time = { title: step_s < 86400 ? "Hour (UTC)" : "Day (UTC)", cell: (index) => stepName({ xs, step_s }, index) };
  const each = series.map((one) => ({ title: one.name, number: true, cell: (index) => one.text(index) }));
  const all = { title: "Together", number: true, cell: (index) => total(index) };
  const latestFirst = xs.map((_, index) => index).reverse();
  return table(label, [time, ...each, ...(series.length === 1 ? [] : [all])], latestFirst, "Nothing.");
}

// Bars are drawn over one another, the highest first: each reaches from zero to the sum of its own and all below it.
function stacked({ xs, series }) {
  const sums = [];
  let below = xs.map(() => 0);
  for (const { floats } of series) {
    below = below.map((sum, index) => sum + floats[index]);
    sums.unshift(below);
  }
  return [xs, ...sums];
}

function options({ xs, step_s, axis, series }, width, height, point) {
  const [ink, line] = [style("--muted"), style("--line")];
  const font = `12px ${style("--font")}`;
  const bars = uPlot.paths.bars({ size: [0.72, 44], radius: 0.12 });
  const name = step_s < 86400 ? hourOf : dayOf;
  const every = (plotWidth) => Math.max(1, Math.ceil(xs.length / Math.max(2, Math.floor(plotWidth / LABEL_SPACE))));
  return {
    width,
    height,
    padding: [12, 22, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: {
      x: { time: false, range: [xs[0] - step_s / 2, xs[xs.length - 1] + step_s / 2] },
      y: { range: (_, __, most) => [0, most > 0 ? most * 1.06 : 1] },
    },
    axes: [
      {
        stroke: ink,
        font,
        size: 34,
        gap: 8,
        grid: { show: false },
        ticks: { show: false },
        // From the latest backwards, so that today has its name.
        splits: (plot) => xs.filter((_, index) => (xs.length - 1 - index) % every(plot.bbox.width / devicePixelRatio || width) === 0),
        values: (_, splits) => splits.map(name),
      },
      {
        stroke: ink,
        font,
        gap: 8,
        size: 54,
        space: 44,
        grid: { stroke: line, width: 1 },
        ticks: { show: false },
        values: (_, splits) => splits.map((value) => (value < 0 ? "" : axis(value))),
      },
    ],
    series: [{}, ...[...series].reverse().map((one) => ({ fill: style(one.color), stroke: style(one.color), width: 0, paths: bars, points: { show: false } }))],
    hooks: { setCursor: [(plot) => point(plot.cursor.left >= 0 ? plot.cursor.idx : null)] },
  };
}
