// The page: reads the data, draws every section, and draws again when methods are toggled or the steps zoomed.

const data = JSON.parse(document.getElementById("data").textContent);
const everything = [0, data.phases.at(-1).end];
const state = { hidden: new Set(), range: everything, measure: data.measures[0]?.name };
const find = (selector) => document.querySelector(selector);
const color = (method) => `var(--series-${method.color})`;
const plural = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

function shown() {
  return data.methods.filter((method) => !state.hidden.has(method.name));
}

function series(method, band, single) {
  return { name: method.name, color: color(method), dashed: method.dashed, ...band, single };
}

function zoom(range) {
  state.range = range && range[1] > range[0] ? range : everything;
  find("#reset").hidden = state.range === everything;
  draw();
}

function drawAggregates() {
  const columns = [["Last third of the steps", "last"], ["Ends of all phases", "allPhases"]].filter(([, key]) => key === "last" || data.phases.length > 1);
  find("#aggregates .columns").replaceChildren(...columns.map(([heading, key]) => {
    const box = element("div", {}, element("h3", {}, heading));
    const range = extent([0, ...data.methods.flatMap((method) => (method[key] || []).slice(0, 3))]);
    for (const method of shown()) {
      const row = element("div", { class: "interval" });
      row.append(element("div", { class: "figures" }, element("span", {}, swatch(series(method)), method.name), element("span", { class: "number" }, ...(method[key] ? [interval(method[key]), " ", count(method[key])] : ["not finished"]))));
      if (method[key]) intervalBar(row, method[key], color(method), range);
      box.append(row);
    }
    return box;
  }));
}

function drawCurve() {
  const single = find("#single").checked;
  lineChart(find("#curve .chart"), {
    xs: data.steps, phases: data.phases, range: state.range, height: 340, zoom, label: "Return by environment step and method", name: "return",
    series: shown().map((method) => series(method, method.curve, single ? method.curves : undefined)),
  });
}

function drawPhases() {
  find("#phases").hidden = data.phases.length < 2;
  const chosen = shown().map((method) => ({ ...series(method), estimates: method.phases, ends: method.phaseEnds }));
  if (data.phases.length > 1) phaseChart(find("#phases .chart"), { series: chosen, phases: data.phases, height: 280 });
}

function drawInsides() {
  find("#insides").hidden = data.measures.length === 0;
  const measure = data.measures.find((one) => one.name === state.measure);
  if (!measure) return;
  const boxes = measure.layers.map((layer) => element("div", {}, element("h3", {}, layer), element("div", { class: "chart" })));
  find("#insides .grid").replaceChildren(...boxes);
  measure.layers.forEach((layer, number) => {
    const key = `${measure.name}|${layer}`;
    lineChart(boxes[number].lastChild, {
      xs: data.stepsOfInsides, phases: data.phases, range: state.range, height: 190, zoom, label: `${measure.title}, ${layer}`, name: measure.title.split(": ").at(-1),
      series: shown().filter((method) => method.insides[key]).map((method) => series(method, method.insides[key])),
    });
  });
}

function table(rows, kind = "") {
  const [heading, ...body] = rows;
  const cells = (row, name) => row.map((cell) => (cell instanceof Node ? cell : element(name, {}, cell)));
  return element("table", { class: kind }, element("tr", {}, ...cells(heading, "th")), ...body.map((row) => element("tr", {}, ...cells([element("th", {}, row[0]), ...row.slice(1)], "td"))));
}

function drawTables() {
  const phases = data.phases.map((phase) => `${phase.number}` + (friction(phase) && ` (${friction(phase)})`));
  find("#phases .wide").replaceChildren(table([["phase (friction)", ...phases], ...shown().map((method) => [method.name, ...method.phases.map((one) => (one ? element("td", {}, interval(one), count(one)) : "–"))])]));
  const names = shown().map((method) => method.name).filter((name) => data.superiority.some((pair) => pair.ours === name));
  find("#superiority").hidden = names.length < 2;
  find("#superiority .wide").replaceChildren(table([["", ...names], ...names.map((ours) => [ours, ...names.map((theirs) => chance(ours, theirs))])]));
}

function chance(ours, theirs) {
  const pair = data.superiority.find((one) => one.ours === ours && one.theirs === theirs);
  if (!pair) return element("td", {}, "");
  const [value, low, high] = pair.estimate;
  const strength = Math.round(Math.abs(value - 0.5) * 90);
  const cell = element("td", { style: `background:color-mix(in srgb, ${value > 0.5 ? "var(--accent)" : "var(--soft)"} ${strength}%, var(--card))` }, value.toFixed(2));
  if (low !== null) cell.append(element("small", {}, `[${low.toFixed(2)}, ${high.toFixed(2)}]`));
  cell.append(count(pair.estimate));
  return cell;
}

function draw() {
  hideTip();
  for (const part of [drawAggregates, drawCurve, drawPhases, drawTables, drawInsides]) part();
}

function buildControls() {
  find("#methods").append(...data.methods.map((method) => {
    const button = element("button", { type: "button", "aria-pressed": "true" }, swatch(series(method)), method.name);
    button.addEventListener("click", () => {
      if (!state.hidden.delete(method.name)) state.hidden.add(method.name);
      button.setAttribute("aria-pressed", String(!state.hidden.has(method.name)));
      draw();
    });
    return button;
  }));
  find("#reset").addEventListener("click", () => zoom(null));
  find("#single").addEventListener("change", drawCurve);
  find("#insides select").append(...data.measures.map((measure) => element("option", { value: measure.name }, measure.title)));
  find("#insides select").addEventListener("change", (event) => { state.measure = event.target.value; drawInsides(); });
}

function buildTheme() {
  const root = document.documentElement, button = find("#theme");
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = isDark() ? "☀ Light" : "☾ Dark"; };
  try { root.dataset.theme = localStorage.getItem("cppo-theme") || ""; } catch { /* a browser may forbid it for files */ }
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("cppo-theme", root.dataset.theme); } catch { /* likewise */ }
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  label();
}

function buildFilms() {
  find("#films").hidden = data.films.length === 0;
  find("#films .grid").append(...data.films.map((film) => {
    const video = element("video", { controls: "", playsinline: "", preload: "auto", src: film.source });
    video.muted = true;
    const method = data.methods.find((one) => one.name === film.method);
    return element("figure", {}, video, element("figcaption", {}, ...(method ? [swatch(series(method))] : []), film.caption));
  }));
  find("#films .play").addEventListener("click", () => {
    for (const video of document.querySelectorAll("video")) { video.currentTime = 0; video.play(); }
  });
}

function buildWords() {
  const { task, methods, phases } = data;
  const runs = methods.reduce((sum, method) => sum + method.runs.length, 0);
  const changes = phases.length > 1 ? `, a new friction every ${steps(phases[0].end)} steps` : "";
  find("#subtitle").textContent = `${plural(runs, "run")} of ${plural(methods.length, "method")}, ${steps(everything[1])} steps each${changes}`;
  const words = (text, kind = "") => element("li", { class: kind }, text);
  find("#notes ul").append(...data.leftOut.map((text) => words(`Left out: ${text}`, "warning")), ...data.notes.map((text) => words(text)));
  const settings = Object.entries(task).map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : String(value)]);
  const list = methods.flatMap((method) => method.runs.map(([run, seed, command]) => [method.name, run, seed, element("td", { class: "long" }, command)]));
  const long = (text) => element("td", { class: "long" }, text);
  find("#notes .wide").append(
    table([["setting of all runs", "value"], ...settings], "left"),
    ...methods.map((method) => table([[`setting of ${method.label}`, "value"], ...method.settings.map(([name, value]) => [name, long(value)])], "left settings")),
    table([["method", "run", "seed", "command"], ...list], "left"),
  );
}

for (const build of [buildTheme, buildControls, buildFilms, buildWords, draw]) build();
addEventListener("pointerdown", (event) => { if (!event.target.closest(".chart")) hideTip(); });
addEventListener("scroll", hideTip, { passive: true });
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
