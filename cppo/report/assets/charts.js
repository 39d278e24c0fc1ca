"use strict";
// Small SVG charts: axes, curves with bands, points with whiskers, one tooltip for all.

const MARGIN = { top: 20, right: 8, bottom: 40, left: 58 };

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(parent, name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function figure(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return (value / 1e6).toPrecision(3).replace(/\.0+$|(\.\d*?)0+$/, "$1") + "M";
  if (size >= 100 || value === 0) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

function steps(value) {
  return value >= 1e6 ? Number((value / 1e6).toPrecision(3)) + "M" : value >= 1e3 ? Math.round(value / 1e3) + "k" : String(Math.round(value));
}

function interval([value, low, high]) {
  return figure(value) + (low === null ? "" : ` [${figure(low)}, ${figure(high)}]`);
}

// The number of runs of an estimate, with a warning if its interval is of few.
function count([, low, , runs]) {
  const isFew = low !== null && runs < data.few;
  return element("small", isFew ? { class: "few" } : {}, `n=${runs}` + (isFew ? " ⚠ too few" : ""));
}

function ticks(low, high, about) {
  const rough = (high - low) / about || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step); tick * step <= high + step * 1e-9; tick++) found.push(tick * step);
  return found;
}

function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) if (value !== null && value !== undefined) { low = Math.min(low, value); high = Math.max(high, value); }
  if (low > high) return [0, 1];
  const room = (high - low) * 0.05 || Math.abs(high) * 0.1 || 1;
  return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
}

// An empty chart: scales for a range of x and y, grid and ticks of y, names of both axes.
function frame(box, height, xRange, yRange, xName, yName) {
  const width = Math.max(200, box.clientWidth);
  box.replaceChildren();
  const svg = shape(box, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img" });
  const right = width - MARGIN.right, bottom = height - MARGIN.bottom;
  const x = (value) => MARGIN.left + ((value - xRange[0]) / (xRange[1] - xRange[0])) * (right - MARGIN.left);
  const y = (value) => bottom - ((value - yRange[0]) / (yRange[1] - yRange[0])) * (bottom - MARGIN.top);
  const atX = (pixel) => xRange[0] + ((pixel - MARGIN.left) / (right - MARGIN.left)) * (xRange[1] - xRange[0]);
  for (const tick of ticks(...yRange, height / 55)) {
    shape(svg, "line", { class: "axis", x1: MARGIN.left, x2: right, y1: y(tick), y2: y(tick) });
    shape(svg, "text", { x: MARGIN.left - 6, y: y(tick) + 4, "text-anchor": "end" }, figure(tick));
  }
  shape(svg, "text", { class: "name", x: (MARGIN.left + right) / 2, y: height - 6, "text-anchor": "middle" }, xName);
  const middle = (MARGIN.top + bottom) / 2;
  shape(svg, "text", { class: "name", x: 11, y: middle, "text-anchor": "middle", transform: `rotate(-90 11 ${middle})` }, yName);
  return { svg, x, y, atX, width, right, bottom };
}

// Curves go from value to value: where there is none (nothing was measured, no episode ended) they go on to the next.
function linePath(xs, values, x, y) {
  const corners = values.flatMap((value, index) => (value === null ? [] : [`${x(xs[index]).toFixed(1)} ${y(value).toFixed(1)}`]));
  return corners.length ? "M" + corners.join("L") : "";
}

function bandPath(xs, low, high, x, y) {
  const there = low.flatMap((value, index) => (value === null ? [] : [index]));
  const corner = (ends) => (index) => `${x(xs[index]).toFixed(1)} ${y(ends[index]).toFixed(1)}`;
  return there.length ? "M" + [...there.map(corner(high)), ...there.reverse().map(corner(low))].join("L") + "Z" : "";
}

// Curves over steps. series: name, color, dashed, value, low, high, runs (how many) and, if single runs are wanted, single.
function lineChart(box, { xs, series, phases, range, height, label, name, zoom }) {
  const inside = (values) => values.filter((_, index) => xs[index] >= range[0] && xs[index] <= range[1]);
  const drawn = series.flatMap((one) => [one.value, one.low, one.high, ...(one.single || [])].flatMap(inside));
  const chart = frame(box, height, range, extent(drawn), "environment steps", name);
  const { svg, x, y, right, bottom } = chart;
  svg.setAttribute("aria-label", label);
  const clip = "clip" + (lineChart.count = (lineChart.count || 0) + 1);
  shape(shape(svg, "clipPath", { id: clip }), "rect", { x: MARGIN.left, y: 0, width: right - MARGIN.left, height: bottom });
  for (const phase of phases) markPhase(chart, phase, range, height > 200);
  if (height > 200) nameFrictions(svg, phases);
  for (const tick of ticks(...range, chart.width / 110)) shape(svg, "text", { x: x(tick), y: bottom + 17, "text-anchor": "middle" }, steps(tick));
  const lines = shape(svg, "g", { "clip-path": `url(#${clip})`, fill: "none" });
  for (const one of series) {
    for (const run of one.single || []) shape(lines, "path", { d: linePath(xs, run, x, y), stroke: one.color, "stroke-width": 0.8, opacity: 0.45 });
    shape(lines, "path", { d: bandPath(xs, one.low, one.high, x, y), fill: one.color, opacity: 0.16 });
    shape(lines, "path", { class: "curve", d: linePath(xs, one.value, x, y), stroke: one.color, "stroke-width": 1.8, "stroke-dasharray": one.dashed ? "5 3" : "none" });
  }
  listen(chart, { xs, series, phases, range, zoom });
}

function markPhase({ svg, x, bottom }, phase, range, withFriction) {
  const start = Math.max(phase.start, range[0]), end = Math.min(phase.end, range[1]);
  if (start >= end) return;
  if (phase.start > range[0]) shape(svg, "line", { class: "phase", x1: x(phase.start), x2: x(phase.start), y1: MARGIN.top - 6, y2: bottom });
  const text = friction(phase), room = x(end) - x(start);
  if (withFriction && text && room > 6 * text.length + 4) shape(svg, "text", { x: (x(start) + x(end)) / 2, y: 11, "text-anchor": "middle" }, text);
}

function nameFrictions(svg, phases) {
  if (phases.some(friction)) shape(svg, "text", { x: 0, y: 11 }, "friction");
}

function friction(phase) {
  const [low, high] = [phase.frictions[0], phase.frictions.at(-1)];
  if (low === undefined) return "";
  return low === high ? String(Number(low.toPrecision(2))) : `${Number(low.toPrecision(2))} to ${Number(high.toPrecision(2))}`;
}

// Hovering or tapping tells the values at the nearest step; dragging zooms.
function listen({ svg, x, y, atX, bottom, width }, { xs, series, phases, range, zoom }) {
  const marks = shape(svg, "g", {});
  const pixel = (event) => (event.clientX - svg.getBoundingClientRect().left) * (width / svg.getBoundingClientRect().width);
  const known = [...xs.keys()].filter((index) => series.some((one) => one.value[index] !== null));
  let from = null;
  const show = (event) => {
    marks.replaceChildren();
    const at = atX(pixel(event));
    if (from !== null && Math.abs(pixel(event) - from) > 6) {
      const [left, stop] = [from, pixel(event)].sort((a, b) => a - b);
      shape(marks, "rect", { class: "select", x: left, y: MARGIN.top, width: stop - left, height: bottom - MARGIN.top });
    }
    if (at < range[0] || at > range[1] || !known.length) return hide();
    const near = known.reduce((best, index) => (Math.abs(xs[index] - at) < Math.abs(xs[best] - at) ? index : best));
    shape(marks, "line", { class: "rule", x1: x(xs[near]), x2: x(xs[near]), y1: MARGIN.top, y2: bottom });
    const here = series.filter((one) => one.value[near] !== null).sort((a, b) => b.value[near] - a.value[near]);
    for (const one of here) shape(marks, "circle", { cx: x(xs[near]), cy: y(one.value[near]), r: 3.5, fill: one.color });
    const phase = phases.find((one) => xs[near] > one.start && xs[near] <= one.end);
    const where = phase && friction(phase) ? `, phase ${phase.number}, friction ${friction(phase)}` : "";
    tip(event, `step ${steps(xs[near])}${where}`, here.map((one) => [one, [one.value[near], one.low[near], one.high[near], one.runs[near]]]));
  };
  const hide = () => { marks.replaceChildren(); hideTip(); };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", (event) => { from = pixel(event); show(event); if (event.pointerType === "mouse") svg.setPointerCapture(event.pointerId); });
  svg.addEventListener("pointerup", (event) => {
    const ends = from === null ? [0, 0] : [atX(from), atX(pixel(event))].sort((a, b) => a - b);
    const dragged = from !== null && Math.abs(pixel(event) - from) > 12;
    from = null;
    if (dragged) { hide(); zoom([Math.max(ends[0], range[0]), Math.min(ends[1], range[1])]); }
  });
  svg.addEventListener("pointercancel", () => { from = null; hide(); });
  svg.addEventListener("pointerleave", (event) => { from = null; if (event.pointerType === "mouse") hide(); });
  svg.addEventListener("dblclick", () => zoom(null));
}

function tip(event, heading, rows) {
  const box = document.getElementById("tip");
  box.replaceChildren(element("b", {}, heading), ...rows.map(([one, values]) =>
    element("div", {}, swatch(one), `${one.name} `, element("span", { class: "number" }, interval(values)), " ", count(values))));
  box.hidden = false;
  const { width, height } = box.getBoundingClientRect();
  const left = event.clientX + 14 + width > innerWidth ? event.clientX - 14 - width : event.clientX + 14;
  box.style.left = Math.max(4, left) + "px";
  box.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 4)) + "px";
}

function hideTip() {
  document.getElementById("tip").hidden = true;
}

function swatch(one) {
  return element("span", { class: one.dashed ? "swatch dashed" : "swatch", style: `color:${one.color}` });
}

// Points with whiskers, a group of methods a phase. series: name, color, estimates and the ends of single runs by phase.
function phaseChart(box, { series, phases, height }) {
  const all = series.flatMap((one) => [...one.estimates.flatMap((estimate) => (estimate ? estimate.slice(0, 3) : [])), ...one.ends.flat()]);
  const chart = frame(box, height, [-0.5, phases.length - 0.5], extent(all), "phase", "return");
  const { svg, x, y, bottom } = chart;
  svg.setAttribute("aria-label", "Return at the end of each phase by method");
  nameFrictions(svg, phases);
  const room = x(1) - x(0), width = Math.min(16, (0.8 * room) / series.length);
  phases.forEach((phase, number) => {
    const every = Math.ceil((7 * Math.max(2, friction(phase).length)) / room);
    if (number > 0) shape(svg, "line", { class: "phase", x1: x(number - 0.5), x2: x(number - 0.5), y1: MARGIN.top, y2: bottom });
    if (number % every === 0) shape(svg, "text", { x: x(number), y: 11, "text-anchor": "middle" }, friction(phase));
    if (number % every === 0) shape(svg, "text", { x: x(number), y: bottom + 17, "text-anchor": "middle" }, String(number));
    series.forEach((one, place) => {
      const at = x(number) + (place - (series.length - 1) / 2) * width, estimate = one.estimates[number];
      for (const value of one.ends.map((ends) => ends[number])) if (value !== null) shape(svg, "circle", { cx: at, cy: y(value), r: 1.8, fill: one.color, opacity: 0.45 });
      if (!estimate) return;
      if (estimate[1] !== null) shape(svg, "line", { x1: at, x2: at, y1: y(estimate[1]), y2: y(estimate[2]), stroke: one.color, "stroke-width": 2.2 });
      shape(svg, "circle", { class: "mean", cx: at, cy: y(estimate[0]), r: Math.min(4.5, width / 2.2), fill: one.color, stroke: "var(--card)" });
    });
    const area = shape(svg, "rect", { x: x(number) - room / 2, y: 0, width: room, height: bottom, fill: "transparent" });
    const told = series.filter((one) => one.estimates[number]).map((one) => [one, one.estimates[number]]);
    const show = (event) => tip(event, `end of phase ${number}` + (friction(phase) && `, friction ${friction(phase)}`), told);
    for (const event of ["pointermove", "pointerdown"]) area.addEventListener(event, show);
    area.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hideTip(); });
  });
}

// A bar from low to high with a mark at the value.
function intervalBar(box, [value, low, high], color, [from, to]) {
  const svg = shape(box, "svg", { viewBox: "0 0 100 10", height: 14, preserveAspectRatio: "none", "aria-hidden": "true" });
  const x = (number) => (100 * (number - from)) / (to - from);
  shape(svg, "rect", { x: 0, y: 4.5, width: 100, height: 1, fill: "var(--line)" });
  if (low !== null) shape(svg, "rect", { x: x(low), y: 2, width: Math.max(0.3, x(high) - x(low)), height: 6, fill: color, opacity: 0.35 });
  shape(svg, "rect", { x: x(value) - 0.4, y: 0, width: 0.8, height: 10, fill: color });
}
