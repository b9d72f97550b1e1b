"use strict";
// The first screen: the recommendation under a budget. Everything it shows comes from the JSON in #run, nothing from a network.
const run = JSON.parse(document.getElementById("run").textContent);
const byId = (id) => document.getElementById(id);
const SHARE = run.metric.step === "points"; // of a metric in [0, 1]
const OPTIONS = { responsive: true, displaylogo: false, displayModeBar: false };
const escape = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const known = (value) => value !== null && value !== undefined;
const number = (value) => (SHARE ? (100 * value).toFixed(1) : String(Number(value.toPrecision(4))));
const unit = SHARE ? " %" : " " + run.metric.step;
const shown = (value) => number(value) + unit;
const interval = (low, high) => `${number(low)} to ${number(high)}${unit}`;
const whole = (value) => (value >= 1000 ? Math.round(value).toLocaleString("en") : Number(value.toPrecision(4)).toString());
const brief = (value) => { // 2.06 M
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (value >= size) return `${Number((value / size).toPrecision(3))} ${letter}`;
  return String(Number(value.toPrecision(3)));
};
const times = (ratio) => `${ratio < 1.1 ? ratio.toFixed(3) : ratio < 2 ? ratio.toFixed(2) : ratio < 10 ? ratio.toFixed(1) : Math.round(ratio)}×`;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
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
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say("Copied " + text);
}

// --- architectures as pictures ---------------------------------------------------------------------------------------
// One row per architecture: costs, the score in the search, what fresh seeds say, and what all evidence together expects.
const keys = Object.keys(run.columns);
const rows = run.columns.architecture.map((_, i) => Object.fromEntries(keys.map((key) => [key, run.columns[key][i]])));
const rowOf = new Map(rows.map((row) => [row.architecture, row]));
const plainRow = rows.find((row) => row.plain);
const placements = (text) => text.slice(text.lastIndexOf(":") + 1).split(",").map((written) => {
  const [body, site] = written.split("@"), [type, ...genes] = body.split("-");
  const arrangement = genes.find((gene) => gene === "series" || gene === "parallel");
  return { written, type, site, genes: genes.filter((gene) => gene !== arrangement), arrangement };
});
const types = [...new Set(rows.flatMap((row) => placements(row.architecture).map((one) => one.type)))].filter((type) => type !== "none").sort();
const tint = (type) => `var(--c${types.indexOf(type) % 10})`;
const spoken = (type) => (type.length <= 4 ? type.toUpperCase() : type.replace(/_/g, " "));
const order = { series: "C→S", parallel: "C∥S" };
const sites = { slot: "in each block", block: "after each block", stage: "at its end", decoder: "in the head" };
const where = (site) => sites[site] ?? `every ${site.split("/")[1]}. block`;

function named(text) { // the same words as the verdict's
  const found = placements(text), kinds = [...new Set(found.map((one) => one.type))].filter((type) => type !== "none").map(spoken);
  if (!kinds.length) return "the plain network";
  if (kinds.length === 1) return `${kinds[0]} at ${found.every((one) => one.type !== "none") ? "every stage" : "some stages"}`;
  return `a mix of ${kinds.slice(0, -1).join(", ")} and ${kinds.at(-1)}`;
}

function strip(text) {
  const chips = placements(text).map((one) => {
    const chip = element("i", { className: one.type === "none" ? "none" : "", ariaHidden: "true" },
      one.type === "none" ? "–" : [spoken(one.type), ...one.genes, order[one.arrangement] ?? "", one.site && one.site !== "slot" ? `@${one.site}` : ""].filter(Boolean).join(" "));
    if (one.type !== "none") chip.style.setProperty("--tint", tint(one.type));
    return chip;
  });
  const made = element("span", { className: "strip", role: "button", tabIndex: 0, title: text }, ...chips, element("span", { className: "plain" }, text));
  made.addEventListener("click", () => copy(text));
  made.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); copy(text); } });
  return made;
}

const WRITTEN = new RegExp(run.backbone.replace(/[.*+?^${}()|[\]\\]/g, "\\$&") + ":[a-z0-9_+@/-]+(?:,[a-z0-9_+@/-]+)*", "gi");
function pictured(element_) { // architectures in sentences become strips, whose text stays for hover and copy; commands can be copied
  const whole_ = element_.textContent, at = whole_.indexOf("python run_search.py"), text = at < 0 ? whole_ : whole_.slice(0, at);
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(WRITTEN)) {
    const trained = rowOf.has(found[0]) || placements(found[0]).length >= run.network.stages.length;
    if (!trained) continue;
    parts.push(text.slice(end, found.index), strip(found[0]));
    end = found.index + found[0].length;
  }
  parts.push(text.slice(end));
  if (at >= 0) {
    const line = whole_.slice(at).replace(/`.*$/s, ""), button = element("button", { type: "button", className: "act", textContent: "copy" });
    button.addEventListener("click", () => copy(line));
    parts.push(element("code", { textContent: line }), " ", button, whole_.slice(at + line.length));
  }
  element_.replaceChildren(...parts);
}

function picture(row) {
  const found = placements(row.architecture), added = run.choices[row.architecture]?.added[cost];
  const total = added ? added.reduce((a, b) => a + Math.max(b, 0), 0) : 0;
  const many = run.network.stages.length > 4;
  const net = element("div", { className: "net" + (many ? " many" : "") });
  const wire = () => element("span", { className: "wire" });
  net.append(element("span", { className: "end", textContent: run.network.input }));
  run.network.stages.forEach((stage, s) => {
    const one = found[s] ?? { type: "none", genes: [] }, none = one.type === "none";
    const size = stage.size.length ? ` · ${stage.size.at(-1) === stage.size.at(-2) ? `${stage.size.at(-1)}²` : stage.size.join("×")}` : "";
    const chip = element("div", { className: "chip" + (none ? " none" : ""), title: one.written ?? "none" }, ...(none ? ["none"] : [
      element("b", { textContent: spoken(one.type) }), element("div", { textContent: [...one.genes, order[one.arrangement]].filter(Boolean).join(" ") }),
      element("div", { textContent: where(one.site) })]));
    const box = element("div", { className: "stage" }, element("div", { className: "block" }, element("b", { textContent: stage.name }), `${stage.channels} ch${size}`,
      element("br"), `${stage.blocks} block${stage.blocks > 1 ? "s" : ""}`), element("div", { className: "hang" }), chip);
    if (total > 0) {
      const share = Math.max(added[s] ?? 0, 0) / total, fill = element("i");
      fill.style.width = `${100 * share}%`;
      box.append(element("div", { className: "bar" }, fill), element("div", { className: "share", textContent: `${Math.round(100 * share)} %` }));
    }
    if (!none) box.style.setProperty("--tint", tint(one.type));
    net.append(wire(), box);
  });
  net.append(wire(), element("span", { className: "end", textContent: run.network.output }));
  const words = run.network.stages.map((stage, s) => `${stage.name}: ${found[s]?.written ?? "none"}`).join("; ");
  byId("picture").setAttribute("aria-label", `Network of ${run.network.stages.length} stages. ${words}`);
  byId("picture").replaceChildren(net, ...(total > 0 ? [element("div", { className: "small", textContent: `bars: each stage's share of the ${brief(total)} ${run.costs[cost]} that attention adds` })] : []));
}

// --- the budget ------------------------------------------------------------------------------------------------------
const better = (a, b) => run.metric.sign * (a - b); // above 0 where a is better
let cost = run.cost;
let budget = null; // the limit on `cost` and how it was written; null: none, so that the knee of the front is taken
let ends = [0, 1];

function reach() {
  const values = rows.filter((row) => known(row[cost]) && known(row.expected)).map((row) => row[cost]);
  ends = [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)];
}

function pick(limit, among = () => true) { // as `export --max` picks: the best expected value among all that was trained
  const inside = rows.filter((row) => known(row[cost]) && row[cost] <= limit && known(row.expected) && among(row));
  return inside.reduce((best, row) => (!best || better(row.expected, best.expected) > 0 ||
    (row.expected === best.expected && row.flops < best.flops) ? row : best), null);
}

const counted = () => run.units[cost].axis === 1 && cost !== "latency";
const atSlider = (share) => {
  const [least, most] = ends, raw = share >= 1 ? most : share <= 0 ? least : least * Math.pow(most / least, share);
  return counted() ? Math.round(raw) : raw;
};
const toSlider = (limit) => (ends[1] > ends[0] ? Math.round(1000 * Math.min(1, Math.max(0, Math.log(limit / ends[0]) / Math.log(ends[1] / ends[0])))) : 1000);
const written = (limit) => (plainRow && known(plainRow[cost]) ? `${(Math.ceil(1000 * limit / plainRow[cost]) / 1000).toString()}x` : brief(limit).replace(" ", ""));

function read(text) { // a limit as the command line takes it; a message where it is none
  const clean = text.trim().replace(/[_ ]/g, ""), relative = /^(\d+(?:\.\d*)?)[x×]$/.exec(clean), found = /^(\d+(?:\.\d*)?(?:e\+?\d{1,2})?)([a-z]*)$/i.exec(clean);
  if (relative && plainRow && known(plainRow[cost])) {
    const limit = Number(relative[1]) * plainRow[cost];
    return { limit: counted() ? Math.floor(limit + 1e-6) : limit, text: `${relative[1]}x` };
  }
  const factor = found ? run.units[cost].factors[found[2].toLowerCase()] : undefined;
  if (factor === undefined) return { problem: `cannot read "${text}"; valid: 1.05x, ${run.units[cost].examples}` };
  return { limit: Number(found[1]) * factor, text: clean };
}

function setBudget(given, from) {
  budget = given;
  byId("limit-error").textContent = "";
  byId("limit").removeAttribute("aria-invalid");
  const row = budget ? pick(budget.limit) : rowOf.get(run.knee);
  if (from !== "field") byId("limit").value = budget ? budget.text : written(row[cost]);
  if (from !== "slider") byId("budget").value = toSlider(budget ? budget.limit : row[cost]);
  showChoice(row);
  mark(row);
}

function typed() {
  const found = read(byId("limit").value);
  const problem = found.problem ?? (found.limit < ends[0] ? `nothing that was trained costs so little; the least is ${written(ends[0])}` : null);
  if (!problem) return setBudget(found, "field");
  byId("limit-error").textContent = problem;
  byId("limit").setAttribute("aria-invalid", "true");
}

function seedsOf(row) {
  const parts = [[row.search_seeds, "of the search"], [row.fresh_seeds, "fresh"], [row.random_seeds, "of random search"]].filter(([count]) => count);
  return parts.map(([count, what]) => (what === "fresh" ? `${count} fresh seed${count > 1 ? "s" : ""}` : `${count} seed${count > 1 ? "s" : ""} ${what}`)).join(" + ");
}

function showChoice(row) {
  const figure = (big, small) => element("div", {}, element("b", { textContent: big }), element("span", { textContent: small }));
  const relative = (name) => (plainRow && plainRow[name] ? figure(times(row[name] / plainRow[name]), `${brief(row[name])} ${run.costs[name] ?? name}`) : figure(brief(row[name]), run.costs[name] ?? name));
  const second = cost === "params" ? "flops" : "params";
  byId("taken").textContent = named(row.architecture).replace(/^./, (letter) => letter.toUpperCase()) + (budget ? "" : " (the knee)");
  byId("numbers").replaceChildren(figure(shown(row.expected), `expected, ${interval(row.expected_low, row.expected_high).replace(" %", "\u00a0%")}, from ${seedsOf(row)}`), relative(cost), relative(second));
  picture(row);
  byId("text").textContent = row.architecture;
  const limit = !budget ? "" : cost === "latency" ? ` --pick ${row.architecture}` : ` --max ${cost}=${budget.text}`;
  const quoted = /^[\w@%+=:,./-]+$/.test(run.folder) ? run.folder : `'${run.folder.replace(/'/g, `'"'"'`)}'`;
  byId("command").textContent = `python run_search.py export ${quoted}${limit}${row.kept ? "" : " --retrain"} --to best`;
  const notes = [], said = run.choices[row.architecture] ?? {};
  if (known(said.rival)) notes.push(["Within the noise of a cheaper one: ", strip(said.rival), ` (${shown(rowOf.get(said.rival).expected)} expected) is worse with a probability of ${said.sure.toFixed(2)} only.`]);
  if (known(said.gain)) notes.push([`Better than the plain network with a probability of ${said.gain > 0.995 ? "over 0.99" : said.gain.toFixed(2)}.`]);
  if (!row.kept) {
    const other = budget ? pick(budget.limit, (one) => one.kept) : null;
    notes.push(["Its weights were not kept: --retrain trains them.", ...(other ? [" Without it, export writes ", strip(other.architecture), ` (${shown(other.expected)} expected).`] : [])]);
  }
  if (known(row.score)) notes.push([`Its score in the search was ${shown(row.score)}; the expected value weighs that seed against the others and what similar ones reached.`]);
  byId("notes").replaceChildren(...notes.map((parts) => element("li", {}, ...parts)));
  for (const line of document.querySelectorAll("#rows tbody tr")) line.classList.toggle("chosen", line.dataset.architecture === row.architecture);
}

// --- the front -------------------------------------------------------------------------------------------------------
const MARGIN = { l: 58, r: 14, t: 8, b: 46 };
let frame = null; // the ranges of the axes as they were set: labels are placed by them

function frontOf(candidates) {
  let best = null;
  const sorted = candidates.filter((row) => known(row[cost]) && known(row.expected)).sort((a, b) => a[cost] - b[cost] || better(b.expected, a.expected));
  return sorted.filter((row) => (best === null || better(row.expected, best) > 0) && ((best = row.expected), true));
}

function hover(row) {
  const lines = [`<b>${escape(named(row.architecture))}</b>`, ...placements(row.architecture).map((one, i) => `${escape(run.network.stages[i]?.name ?? `stage ${i + 1}`)}: ${escape(one.written)}`)];
  if (known(row.expected)) lines.push(`expected ${shown(row.expected)} (${interval(row.expected_low, row.expected_high)})`);
  if (known(row.fresh)) lines.push(`mean of ${row.seeds} fresh seeds ${shown(row.fresh)}`);
  if (known(row.score)) lines.push(`in the search ${shown(row.score)}`);
  return lines.join("<br>");
}

function trace(name, chosen, value, style) {
  return Object.assign({ name, x: chosen.map((row) => row[cost]), y: chosen.map(value), customdata: chosen.map((row) => row.architecture), showlegend: false,
    text: chosen.map(hover), hovertemplate: "%{text}<br>" + run.costs[cost] + " %{x:,}<extra></extra>", mode: "markers", type: "scatter" }, style);
}

const expected = (row) => row.expected;
const bars = (chosen, color) => ({ type: "data", symmetric: false, thickness: 1.3, width: 0, color, array: chosen.map((row) => row.expected_high - row.expected), arrayminus: chosen.map((row) => row.expected - row.expected_low) });

function ticks(low, high, log) { // of the axis of costs, as multiples of the plain network where there is one
  const origin = plainRow && plainRow[cost] ? plainRow[cost] : null, from = origin ? low / origin : low, to = origin ? high / origin : high, values = [];
  if (log) for (let power = Math.floor(Math.log2(from)); power <= Math.ceil(Math.log2(to)); power++) values.push(2 ** power);
  else {
    const rough = (to - from) / 5, scale = 10 ** Math.floor(Math.log10(rough)), step = scale * [1, 2, 5, 10].find((one) => one * scale >= rough);
    for (let value = Math.ceil(from / step) * step; value <= to; value += step) values.push(Number(value.toPrecision(8)));
  }
  const kept = values.filter((value) => value >= from * 0.999 && value <= to * 1.001), thin = Math.ceil(kept.length / 8);
  return { tickvals: kept.filter((_, i) => i % thin === 0).map((value) => (origin ? value * origin : value)), ticktext: kept.filter((_, i) => i % thin === 0).map((value) => (origin ? `${Number(value.toPrecision(4))}×` : brief(value))) };
}

function labels(marked) { // [row, words, weight]: each beside its point, where nothing lies yet; what finds no room is left out
  const { width, height, x, y } = frame, found = [];
  const boxes = frame.shown.flatMap((row) => [[x(row[cost]) - 6, y(row.expected) - 6, x(row[cost]) + 6, y(row.expected) + 6], [x(row[cost]) - 1, y(Math.max(row.expected_high, row.expected_low)), x(row[cost]) + 1, y(Math.min(row.expected_high, row.expected_low))]]);
  frame.front.forEach((row, i) => { // the steps between the points of the front
    const next = frame.front[i + 1];
    if (next) boxes.push([x(row[cost]), y(row.expected) - 1, x(next[cost]), y(row.expected) + 1], [x(next[cost]) - 1, Math.min(y(row.expected), y(next.expected)), x(next[cost]) + 1, Math.max(y(row.expected), y(next.expected))]);
  });
  const taken = [], meets = (box, others) => others.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1]);
  const inside = (box) => box[0] >= 0 && box[2] <= width && box[1] >= 0 && box[3] <= height;
  for (const [row, words, bold, must] of marked) {
    const w = words.length * (bold ? 7.1 : 6.3) + 4, h = 14, px = x(row[cost]), py = y(row.expected);
    const places = [[12, 0], [-w / 2, -19], [-12 - w, 0], [12, -14], [-12 - w, -14], [12, 14], [-12 - w, 14], [-w / 2, 19], [14, -26], [-14 - w, -26], [14, 26], [-14 - w, 26], [-w / 2, -34]]
      .map(([dx, dy]) => ({ dx, dy, box: [px + dx, py + dy - h / 2, px + dx + w, py + dy + h / 2] })).filter(({ box }) => inside(box) && !meets(box, taken));
    const place = places.find(({ box }) => !meets(box, boxes)) ?? (must ? places.find(({ dy }) => Math.abs(dy) > 12) ?? places[0] : undefined);
    if (!place) continue;
    taken.push(place.box);
    found.push({ x: frame.log ? Math.log10(row[cost]) : row[cost], y: row.expected, text: bold ? `<b>${escape(words)}</b>` : escape(words), showarrow: false, xanchor: "left", yanchor: "middle", xshift: place.dx, yshift: -place.dy,
      font: { size: 11.5, color: colour(must ? "--ink" : "--soft") }, bgcolor: must ? colour("--card") : undefined, borderpad: 0 });
  }
  return found;
}

const LEGEND = [["line", "--c0", "expected, with 95 % interval"], ["square", "--ink", "plain network"], ["hollow", "--c1", "one type at every stage"], ["triangle", "--c2", "random search"], ["dot", "--light", "score in the search, one seed"]];
const usual = (row) => row.role === "uniform" || (!row.plain && new Set(placements(row.architecture).map((one) => one.type)).size === 1 && !known(row.score));

function drawFront() {
  const ink = colour("--ink"), box = byId("front-chart"), there = rows.filter((row) => known(row[cost]) && (known(row.expected) || known(row.score)));
  const front = frontOf(there), uniform = there.filter((row) => usual(row) && known(row.expected)), random = there.filter((row) => row.role === "random" && known(row.expected));
  const plain = plainRow && known(plainRow[cost]) && known(plainRow.expected) ? [plainRow] : [];
  const searched = there.filter((row) => known(row.score)), fresh = there.filter((row) => row.role === "searched" && known(row.expected) && !front.includes(row));
  const seen = [true, plain.length, uniform.length, random.length, searched.length];
  const drawn = { line: '<path d="M0 5H22" stroke="C" stroke-width="2"/><circle cx="11" cy="5" r="4" fill="C"/>', square: '<path d="M6 0h10v10h-10z" fill="C"/>', hollow: '<path d="M7 1h8v8h-8z" fill="none" stroke="C" stroke-width="2"/>', triangle: '<path d="M11 0l5 10h-10z" fill="C"/>', dot: '<circle cx="11" cy="5" r="3" fill="C"/>' };
  byId("legend").innerHTML = LEGEND.filter((_, i) => seen[i]).map(([kind, color, words]) => `<li><svg viewBox="0 0 22 10" aria-hidden="true">${drawn[kind].replaceAll("C", `var(${color})`)}</svg>${words}</li>`).join("");
  const log = byId("log").checked, xs = there.map((row) => row[cost]), low = xs.reduce((a, b) => Math.min(a, b), Infinity), high = xs.reduce((a, b) => Math.max(a, b), -Infinity);
  const pad = log ? Math.pow(high / low, 0.06) || 1 : (high - low) * 0.06 || 1, [left, right] = log ? [low / pad, high * pad] : [low - pad, high + pad];
  const ys = [...searched.map((row) => row.score), ...[...front, ...uniform, ...random].flatMap((row) => [row.expected_low, row.expected_high])];
  const bottom = ys.reduce((a, b) => Math.min(a, b), Infinity), top = ys.reduce((a, b) => Math.max(a, b), -Infinity), room = (top - bottom) * 0.06 || 0.01;
  const width = box.clientWidth - MARGIN.l - MARGIN.r, height = box.clientHeight - MARGIN.t - MARGIN.b, scale = (value) => (log ? Math.log10(value) : value);
  frame = { log, left, right, bottom: bottom - room, top: top + room, width, height, x: (value) => (scale(value) - scale(left)) / (scale(right) - scale(left)) * width,
    y: (value) => (1 - (value - bottom + room) / (top - bottom + 2 * room)) * height, front, uniform, shown: [...new Set([...front, ...uniform, ...random, ...fresh, ...plain])] };
  const traces = [
    trace("search", searched, (row) => row.score, { marker: { size: 5, color: colour("--light"), opacity: 0.55 } }),
    trace("random search", random, expected, { marker: { size: 8, color: colour("--c2"), symbol: "triangle-up" }, error_y: bars(random, colour("--c2")) }),
    trace("fresh seeds", fresh, expected, { marker: { size: 7, color: colour("--c0"), symbol: "circle-open" }, error_y: bars(fresh, colour("--light")) }),
    trace("one type everywhere", uniform, expected, { marker: { size: 8, color: colour("--c1"), symbol: "square-open", line: { width: 2 } }, error_y: bars(uniform, colour("--c1")) }),
    trace("recommended front", front, expected, { mode: "lines+markers", line: { shape: "hv", color: colour("--c0"), width: 2 }, marker: { size: 9, color: colour("--c0") }, error_y: bars(front, colour("--c0")) }),
    trace("plain network", plain, expected, { marker: { size: 11, symbol: "square", color: ink }, error_y: bars(plain, ink) }),
  ];
  const grid = colour("--grid"), title = !(plainRow && plainRow[cost]) ? run.costs[cost] : width < 420 ? `${run.costs[cost]}, plain network = 1` : `${run.costs[cost]} relative to the plain network (${whole(plainRow[cost])})`;
  Plotly.react(box, traces, { margin: MARGIN, hovermode: "closest", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, family: "system-ui, sans-serif", size: 12 },
    hoverlabel: { align: "left", bgcolor: colour("--page"), font: { color: ink } }, showlegend: false, dragmode: "zoom",
    xaxis: { title: { text: title, standoff: 8 }, type: log ? "log" : "linear", range: [scale(left), scale(right)], gridcolor: grid, zeroline: false, ...ticks(left, right, log) },
    yaxis: { range: [frame.bottom, frame.top], gridcolor: grid, zeroline: false, tickformat: SHARE ? ".0%" : undefined, nticks: 7 } }, OPTIONS);
}

// Shapes around the choice: moving them leaves the thousands of points as they are. Bezier arcs, since plotly drops the negative
// pixels of its own circle on a logarithmic axis.
const CIRCLE = "M-10,0C-10,-5.5,-5.5,-10,0,-10C5.5,-10,10,-5.5,10,0C10,5.5,5.5,10,0,10C-5.5,10,-10,5.5,-10,0Z";
function mark(row) {
  if (!frame) return;
  const shapes = [{ type: "path", path: CIRCLE, xsizemode: "pixel", ysizemode: "pixel", xanchor: row[cost], yanchor: row.expected, line: { color: colour("--choice"), width: 3 } }];
  if (budget && budget.limit < frame.right) shapes.push({ type: "rect", layer: "below", yref: "paper", y0: 0, y1: 1, x0: budget.limit, x1: frame.right, fillcolor: colour("--over"), line: { width: 0 } },
    { type: "line", yref: "paper", y0: 0, y1: 1, x0: budget.limit, x1: budget.limit, line: { color: colour("--choice"), width: 1, dash: "dot" } });
  const marked = [[row, budget ? "best in budget" : "recommended", true, true]];
  if (plainRow && plainRow !== row && known(plainRow.expected) && known(plainRow[cost])) marked.push([plainRow, "plain", false, true]);
  const onFront = (one) => frame.front.includes(one);
  for (const one of [...frame.uniform].sort((a, b) => onFront(b) - onFront(a) || better(b.expected, a.expected))) if (one !== row) marked.push([one, spoken(placements(one.architecture)[0].type), false]);
  Plotly.relayout("front-chart", { shapes, annotations: labels(marked) });
}

function redraw() {
  drawFront();
  mark(budget ? pick(budget.limit) : rowOf.get(run.knee));
}

function chooseCost(name) {
  cost = name;
  reach();
  byId("budget-label").textContent = `${run.costs[cost]} at most`;
  byId("log").checked = ends[0] > 0 && ends[1] / ends[0] > 4;
  frame = null;
  setBudget(null); // first: the card beside it makes the room that the chart takes
  redraw();
}

for (const name of Object.keys(run.costs)) byId("cost").add(new Option(run.costs[name], name, false, name === cost));
byId("cost").addEventListener("change", (event) => chooseCost(event.target.value));
byId("log").addEventListener("change", redraw);
byId("budget").addEventListener("input", () => {
  const limit = atSlider(Number(byId("budget").value) / 1000);
  setBudget({ limit, text: counted() ? String(limit) : `${Number(limit.toPrecision(6))}` }, "slider");
  byId("limit").value = written(limit);
});
byId("limit").addEventListener("change", typed);
byId("knee").addEventListener("click", () => setBudget(null));
byId("text").addEventListener("click", () => copy(byId("text").textContent));
byId("copy-command").addEventListener("click", () => copy(byId("command").textContent));
