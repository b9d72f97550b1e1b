"use strict";
// The report's own code: everything it shows comes from the JSON in #run, nothing from a network.
const run = JSON.parse(document.getElementById("run").textContent);
const byId = (id) => document.getElementById(id);
const COST_NAMES = run.costs; // what each cost is called on axes
const SHARE = run.metric.step === "points"; // of a metric in [0, 1]
const INK = "#1c2733", BLUE = "#0b6bcb", GREY = "#9aa7b4", RED = "#c2410c", GREEN = "#15803d", GOLD = "#f59e0b";
const OPTIONS = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
const escape = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const whole = (value) => (value >= 1000 ? Math.round(value).toLocaleString("en") : Number(value.toPrecision(4)).toString());
const shown = (value) => (SHARE ? (100 * value).toFixed(2) + " %" : value.toPrecision(4) + " " + run.metric.step);
const known = (value) => value !== null && value !== undefined;

function layout(x, y, more) {
  return Object.assign({ margin: { l: 60, r: 15, t: 30, b: 55 }, font: { color: INK, family: "system-ui, sans-serif" }, hovermode: "closest",
    xaxis: { title: { text: x }, automargin: true, gridcolor: "#eef1f4", zeroline: false },
    yaxis: { title: { text: y }, automargin: true, gridcolor: "#eef1f4", zeroline: false },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom" }, paper_bgcolor: "#fff", plot_bgcolor: "#fff" }, more || {});
}

let fading;
function say(message) {
  byId("status").textContent = message;
  byId("status").classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => byId("status").classList.remove("shown"), 2500);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch (refused) { // no permission, or a page from disk in an old browser
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say("Copied " + text);
}

// --- the front -------------------------------------------------------------------------------------------------------
// One row per architecture: costs, the score in the search, what fresh seeds say, and what all evidence together expects.
const keys = Object.keys(run.columns);
const rows = run.columns.architecture.map((_, i) => Object.fromEntries(keys.map((key) => [key, run.columns[key][i]])));
const score = (row) => (known(row.fresh) ? row.fresh : known(row.score) ? row.score : row.expected);
const better = (a, b) => run.metric.sign * (a - b); // above 0 where a is better
let cost = run.cost;

function frontOf(candidates) {
  let best = null;
  const sorted = candidates.filter((row) => known(row[cost]) && known(row.score));
  sorted.sort((a, b) => a[cost] - b[cost] || better(b.score, a.score));
  return sorted.filter((row) => (best === null || better(row.score, best) > 0) && ((best = row.score), true));
}

function pick(limit) { // as `export --max` picks: the best expected value among all that was trained
  const inside = rows.filter((row) => known(row[cost]) && row[cost] <= limit && known(row.expected));
  return inside.reduce((best, row) => (!best || better(row.expected, best.expected) > 0 ||
    (row.expected === best.expected && row.flops < best.flops) ? row : best), null);
}

function hover(row) {
  const lines = [escape(row.architecture.replace(/:.*/, ":")), ...row.architecture.replace(/^.*:/, "").split(",").map((p, i) => `stage ${i + 1}: ${escape(p)}`)];
  if (known(row.score)) lines.push("search " + shown(row.score));
  if (known(row.fresh)) lines.push(`fresh ${shown(row.fresh)} (${shown(row.low)} to ${shown(row.high)})`);
  if (known(row.expected)) lines.push(`expected ${shown(row.expected)} (${shown(row.expected_low)} to ${shown(row.expected_high)})`);
  return lines.join("<br>");
}

function trace(name, chosen, value, style) {
  return Object.assign({ name, x: chosen.map((row) => row[cost]), y: chosen.map(value), customdata: chosen.map((row) => row.architecture),
    text: chosen.map(hover), hovertemplate: "%{text}<br>" + COST_NAMES[cost] + " %{x:,}<extra></extra>", mode: "markers", type: "scatter" }, style);
}

function bars(chosen) {
  return { type: "data", symmetric: false, array: chosen.map((row) => row.high - row.fresh), arrayminus: chosen.map((row) => row.fresh - row.low), thickness: 1.2 };
}

function drawFront() {
  const there = rows.filter((row) => known(row[cost]));
  const of = (role) => there.filter((row) => row.role === role && known(row.fresh));
  const plain = there.filter((row) => row.plain);
  const searched = there.filter((row) => known(row.score));
  const traces = [
    trace("evaluated", searched, (row) => row.score, { marker: { size: 6, color: GREY, opacity: 0.7 } }),
    trace("front of the search", frontOf(searched), (row) => row.score, { mode: "lines+markers", line: { shape: "hv", color: BLUE }, marker: { size: 9, color: BLUE } }),
  ];
  for (const [role, name, color, symbol] of [["searched", "fresh seeds", GREEN, "diamond"], ["uniform", "one type everywhere", RED, "square"], ["random", "random search", GOLD, "triangle-up"]]) {
    const chosen = of(role);
    if (chosen.length) traces.push(trace(name, chosen, (row) => row.fresh, { marker: { size: 9, color, symbol }, error_y: Object.assign(bars(chosen), { color }) }));
  }
  const fresh = plain.filter((row) => known(row.fresh));
  traces.push(trace("plain backbone", plain, score, { marker: { size: 13, symbol: "x", color: INK }, error_y: fresh.length ? bars(fresh) : undefined }));
  const shape = layout(COST_NAMES[cost], "validation " + run.metric.name, { shapes: ring(showChoice()) });
  shape.xaxis.type = byId("log").checked ? "log" : "linear";
  Plotly.react("front-chart", traces, shape, OPTIONS);
}

// A shape around the choice: moving it leaves the thousands of points as they are. Bezier arcs, since plotly drops the negative
// pixels of its own circle on a logarithmic axis.
const CIRCLE = "M-10,0C-10,-5.5,-5.5,-10,0,-10C5.5,-10,10,-5.5,10,0C10,5.5,5.5,10,0,10C-5.5,10,-10,5.5,-10,0Z";
function ring(row) {
  return row ? [{ type: "path", path: CIRCLE, xsizemode: "pixel", ysizemode: "pixel", xanchor: row[cost], yanchor: score(row), line: { color: GOLD, width: 3 } }] : [];
}

function limits() {
  const values = rows.filter((row) => known(row[cost]) && known(row.expected)).map((row) => row[cost]);
  return [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)];
}

function showChoice() {
  const [least, most] = limits();
  const share = Number(byId("budget").value) / 1000;
  const log = byId("log").checked;
  const raw = share >= 1 ? most : share <= 0 ? least : log ? least * Math.pow(most / least, share) : least + share * (most - least);
  const limit = cost === "latency" ? raw : Math.round(raw);
  const row = pick(limit);
  byId("budget-value").textContent = `at most ${whole(limit)} ${COST_NAMES[cost]}`;
  const box = byId("choice");
  box.replaceChildren();
  if (!row) return row;
  const button = document.createElement("button");
  button.className = "copy";
  button.type = "button";
  button.textContent = row.architecture;
  button.addEventListener("click", () => copy(row.architecture));
  const facts = document.createElement("div");
  const words = run.reasons[row.architecture] ?? `expected ${shown(row.expected)} (${shown(row.expected_low)} to ${shown(row.expected_high)})`;
  facts.textContent = `${whole(row.flops)} FLOPs, ${whole(row.params)} parameters, ${words}`;
  const command = document.createElement("code");
  command.id = "command";
  command.textContent = cost === "latency" ? `python run_search.py export ${run.folder} --pick ${row.architecture} --to best`
    : `python run_search.py export ${run.folder} --max ${cost}=${limit} --to best`;
  const again = document.createElement("button");
  again.className = "act";
  again.type = "button";
  again.textContent = "copy the command";
  again.addEventListener("click", () => copy(command.textContent));
  box.append(button, facts, command, document.createTextNode(" "), again);
  for (const line of document.querySelectorAll("#rows tbody tr")) line.classList.toggle("chosen", line.dataset.architecture === row.architecture);
  return row;
}

// --- the table -------------------------------------------------------------------------------------------------------
const listed = rows.filter((row) => row.front || known(row.fresh));
const interval = (row) => (known(row.fresh) ? `${shown(row.fresh)} (${shown(row.low)} to ${shown(row.high)})` : "");
const columns = [
  ["architecture", "architecture", (row) => row.architecture],
  ["search", "score", (row) => (known(row.score) ? shown(row.score) : "")],
  ...(run.confirmed ? [["fresh seeds", "fresh", interval], ["seeds", "seeds", (row) => row.seeds ?? ""], ["P", "p_front", (row) => (known(row.p_front) ? row.p_front.toFixed(3) : "")],
    ["test", "test", (row) => (known(row.test) ? shown(row.test) : "")]] : []),
  ...Object.keys(run.costs).map((name) => [COST_NAMES[name], name, (row) => (known(row[name]) ? whole(row[name]) : "")]),
  ["kind", "role", (row) => (row.plain ? "plain" : row.role || (row.front ? "front" : ""))],
];
let sorting = [run.cost, 1];

function drawTable() {
  const [key, sign] = sorting;
  const number = (row) => (known(row[key]) ? row[key] : sign > 0 ? Infinity : -Infinity);
  listed.sort((a, b) => (typeof a[key] === "string" || typeof b[key] === "string" ? sign * String(a[key] ?? "").localeCompare(String(b[key] ?? "")) : sign * (number(a) - number(b)) || 0));
  const head = document.createElement("tr");
  for (const [name, column] of columns) {
    const cell = document.createElement("th");
    cell.scope = "col";
    if (column === "architecture") cell.className = "words";
    cell.setAttribute("aria-sort", column === key ? (sign > 0 ? "ascending" : "descending") : "none");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.dataset.column = column;
    button.addEventListener("click", () => {
      sorting = [column, column === sorting[0] ? -sorting[1] : 1];
      drawTable();
      document.querySelector(`#rows th button[data-column="${column}"]`).focus();
    });
    cell.append(button);
    head.append(cell);
  }
  byId("rows").tHead.replaceChildren(head);
  byId("rows").tBodies[0].replaceChildren(...listed.map((row) => {
    const line = document.createElement("tr");
    line.dataset.architecture = row.architecture;
    for (const [, column, show] of columns) {
      const cell = document.createElement("td");
      if (column === "architecture") {
        cell.className = "words";
        const button = document.createElement("button");
        button.className = "copy";
        button.type = "button";
        button.textContent = row.architecture;
        button.addEventListener("click", () => copy(row.architecture));
        cell.append(button);
      } else cell.textContent = show(row);
      line.append(cell);
    }
    return line;
  }));
}

function csv() {
  const quote = (value) => (known(value) ? `"${String(value).replace(/"/g, '""')}"` : "");
  const wanted = ["architecture", "role", "score", "fresh", "low", "high", "seeds", "p_front", "test", "expected", "expected_low", "expected_high", ...Object.keys(run.costs)];
  const head = wanted.map((key) => (key === "score" ? run.metric.name : key));
  return [head.join(","), ...listed.map((row) => wanted.map((key) => quote(row[key])).join(","))].join("\n") + "\n";
}

// --- the other charts ------------------------------------------------------------------------------------------------
function drawHeat() {
  const { stages, types, gain, words } = run.heat;
  const reach = Math.max(...gain.flat().filter(known).map(Math.abs), 0.01);
  Plotly.newPlot("heat-chart", [{ type: "heatmap", x: stages, y: types.map(escape), z: gain, customdata: words, zmin: -reach, zmax: reach, xgap: 2, ygap: 2,
    colorscale: [[0, "#b2182b"], [0.5, "#f7f7f7"], [1, "#2166ac"]], texttemplate: "%{z:+.1f}", hovertemplate: "%{customdata}<extra></extra>", colorbar: { title: { text: run.metric.step }, thickness: 12 } }],
    layout("stage", "", { title: { text: `gain in ${run.metric.step} of ${run.metric.name}`, font: { size: 14 } } }), OPTIONS);
}

function drawShares() {
  const { names, share, std } = run.shares;
  Plotly.newPlot("share-chart", [{ type: "bar", orientation: "h", y: names, x: share, error_x: { type: "data", array: std, color: INK, thickness: 1 }, marker: { color: names.map((n) => (n.includes(" x ") ? GOLD : BLUE)) },
    hovertemplate: "%{y}: %{x:.1%}<extra></extra>" }], layout("share of the variance (fANOVA)", "", { title: { text: "importance; pairs in gold", font: { size: 14 } } }), OPTIONS);
  Plotly.relayout("share-chart", { "yaxis.autorange": "reversed", "xaxis.tickformat": ".0%" });
}

function drawProgress() {
  const { count, seconds, share } = run.progress;
  for (const [id, x, title] of [["count-chart", count, "evaluations"], ["time-chart", seconds.map((s) => s / 60), "minutes"]])
    Plotly.newPlot(id, [{ x, y: share, mode: "lines", line: { shape: "hv", color: BLUE }, hovertemplate: "%{x:.4~g}: %{y:.3f}<extra></extra>" }], layout(title, "share of the final hypervolume"), OPTIONS);
}

function drawParallel() {
  const { axes, lines } = run.parallel;
  const levels = 8;
  const place = (axis, value) => (axis.values.length > 1 ? axis.values.indexOf(value) / (axis.values.length - 1) : 0.5);
  const scores = lines.map((line) => line.score);
  const low = scores.reduce((a, b) => Math.min(a, b), Infinity), high = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const scale = (value) => (high > low ? (run.metric.sign > 0 ? value - low : high - value) / (high - low) : 0.5);
  const traces = [];
  for (let level = 0; level < levels; level++) {
    const x = [], y = [], text = [];
    lines.forEach((line, number) => {
      if (Math.min(levels - 1, Math.floor(scale(line.score) * levels)) !== level) return;
      const jitter = ((number * 0.618) % 1 - 0.5) * 0.03;
      axes.forEach((axis, a) => { x.push(a); y.push(place(axis, line.values[a]) + jitter); text.push(escape(line.architecture)); });
      x.push(axes.length, null); y.push(scale(line.score), null); text.push(escape(line.architecture), null);
    });
    const t = level / (levels - 1);
    const color = `rgba(${Math.round(200 - 189 * t)},${Math.round(206 - 99 * t)},${Math.round(212 - 9 * t)},${0.25 + 0.6 * t})`;
    if (x.length) traces.push({ x, y, text, mode: "lines", line: { color, width: 1 + 1.5 * t }, hovertemplate: "%{text}<extra></extra>", showlegend: false });
  }
  const notes = axes.flatMap((axis, a) => axis.values.map((value) => ({ x: a, y: place(axis, value), text: escape(value), showarrow: false, xanchor: "left", xshift: 4, font: { size: 10 }, bgcolor: "rgba(255,255,255,.75)" })));
  for (const [y, value] of run.metric.sign > 0 ? [[0, low], [1, high]] : [[0, high], [1, low]]) notes.push({ x: axes.length, y, text: shown(value), showarrow: false, xanchor: "right", xshift: -4, font: { size: 10 }, bgcolor: "rgba(255,255,255,.75)" });
  const shape = layout("", "", { annotations: notes, title: { text: run.parallel.note, font: { size: 13 } } });
  Object.assign(shape.xaxis, { tickvals: [...axes.keys(), axes.length], ticktext: [...axes.map((axis) => axis.name), run.metric.name], showgrid: true, gridcolor: GREY, range: [-0.1, axes.length + 0.15] });
  Object.assign(shape.yaxis, { visible: false, range: [-0.08, 1.08] });
  Plotly.newPlot("parallel-chart", traces, shape, OPTIONS);
}

for (const name of Object.keys(run.costs)) byId("cost").add(new Option(COST_NAMES[name], name, false, name === cost));
byId("cost").addEventListener("change", (event) => { cost = event.target.value; drawFront(); });
byId("log").addEventListener("change", drawFront);
byId("budget").addEventListener("input", () => Plotly.relayout("front-chart", { shapes: ring(showChoice()) }));
byId("csv").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "front.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
drawTable();
drawFront();
byId("front-chart").on("plotly_click", (event) => { const text = event.points[0].customdata; if (text) copy(text); });
// The rest is below the fold: let the page show itself first.
const later = [drawHeat, drawShares, drawProgress, drawParallel];
(function next() { setTimeout(() => { const draw = later.shift(); if (draw) { draw(); next(); } else document.body.dataset.ready = "yes"; }, 0); })();
