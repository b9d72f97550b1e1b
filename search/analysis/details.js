// What lies below the first screen: the table, where attention pays, the choices one by one, and how the search went on.
const listed = rows.filter((row) => row.front || known(row.fresh) || row.plain);
const kind = (row) => [row.front ? "front" : "", row.plain ? "plain" : usual(row) ? "usual" : row.role === "random" ? "random" : "", row.kept ? "" : "no weights"].filter(Boolean).join(", ");
const ratio = (row, name) => (plainRow && plainRow[name] ? times(row[name] / plainRow[name]) : "");
const small = (text) => element("small", { textContent: ` ${text}` });
const columns = [
  ["architecture", "architecture", (row) => [strip(row.architecture)]],
  ["expected", "expected", (row) => (known(row.expected) ? [shown(row.expected), small(interval(row.expected_low, row.expected_high))] : [])],
  ["search", "score", (row) => (known(row.score) ? [shown(row.score)] : [])],
  ...(run.confirmed ? [["fresh seeds", "fresh", (row) => (known(row.fresh) ? [shown(row.fresh), small(`(${row.seeds})`)] : [])], ["P", "p_front", (row) => (known(row.p_front) ? [row.p_front.toFixed(2)] : [])]] : []),
  ...(rows.some((row) => known(row.test)) ? [["test", "test", (row) => (known(row.test) ? [shown(row.test)] : [])]] : []),
  ...[...new Set([...run.minimised, "flops", "params", ...(run.costs.latency ? ["latency"] : [])])].filter((name) => run.costs[name])
    .map((name) => [run.costs[name], name, (row) => (known(row[name]) ? [whole(row[name]), small(ratio(row, name))] : [])]),
  ["kind", "role", (row) => [kind(row)]],
];
let sorting = [run.cost, 1];

function drawTable() {
  const [key, sign] = sorting;
  const value = (row) => (key === "role" ? kind(row) : row[key]);
  const place = (row) => (known(value(row)) ? value(row) : sign > 0 ? Infinity : -Infinity);
  listed.sort((a, b) => (typeof value(a) === "string" || typeof value(b) === "string" ? sign * String(value(a) ?? "").localeCompare(String(value(b) ?? "")) : sign * (place(a) - place(b)) || 0));
  const head = element("tr", {}, ...columns.map(([name, column]) => {
    const button = element("button", { type: "button", textContent: name });
    button.dataset.column = column;
    button.addEventListener("click", () => {
      sorting = [column, column === sorting[0] ? -sorting[1] : 1];
      drawTable();
      document.querySelector(`#rows th button[data-column="${column}"]`).focus();
    });
    const cell = element("th", { scope: "col", className: column === "architecture" ? "left" : "" }, button);
    cell.setAttribute("aria-sort", column === key ? (sign > 0 ? "ascending" : "descending") : "none");
    return cell;
  }));
  const chosen = document.querySelector("#rows tr.chosen")?.dataset.architecture ?? byId("text").textContent;
  byId("rows").tHead.replaceChildren(head);
  byId("rows").tBodies[0].replaceChildren(...listed.map((row) => {
    const line = element("tr", { className: row.architecture === chosen ? "chosen" : "" }, ...columns.map(([name, column, show]) => {
      const cell = element("td", { className: column === "architecture" ? "left" : "" }, ...show(row));
      cell.dataset.label = name;
      return cell;
    }));
    line.dataset.architecture = row.architecture;
    return line;
  }));
}

function csv() {
  const quote = (value) => (known(value) ? `"${String(value).replace(/"/g, '""')}"` : "");
  const wanted = ["architecture", "role", "expected", "expected_low", "expected_high", "score", "fresh", "low", "high", "seeds", "p_front", "test", ...Object.keys(run.costs)];
  const head = wanted.map((key) => (key === "score" ? `search_${run.metric.name}` : key));
  return [head.join(","), ...listed.map((row) => wanted.map((key) => quote(row[key])).join(","))].join("\n") + "\n";
}

function layout(x, y, more) {
  const axis = (title) => ({ title: { text: title }, automargin: true, gridcolor: colour("--grid"), zeroline: false });
  return Object.assign({ margin: { l: 60, r: 15, t: 10, b: 50 }, font: { color: colour("--ink"), family: "system-ui, sans-serif", size: 12 }, hovermode: "closest", xaxis: axis(x), yaxis: axis(y),
    showlegend: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" }, more || {});
}

function drawShares() {
  const { names, share, std } = run.shares;
  if (!names.length) return void byId("share-chart").replaceChildren("too few evaluations to divide the variance");
  const shape = layout("share of the variance", "");
  Object.assign(shape.yaxis, { autorange: "reversed" });
  Object.assign(shape.xaxis, { tickformat: ".0%" });
  Plotly.react("share-chart", [{ type: "bar", orientation: "h", y: names, x: share, error_x: { type: "data", array: std, color: colour("--ink"), thickness: 1 },
    marker: { color: names.map((name) => colour(name.includes(" x ") ? "--c4" : "--c0")) }, hovertemplate: "%{y}: %{x:.1%}<extra></extra>" }], shape, OPTIONS);
}

function drawProgress() {
  const { count, seconds, share } = run.progress;
  for (const [id, x, title] of [["count-chart", count, "evaluations"], ["time-chart", seconds.map((s) => s / 60), "minutes"]])
    Plotly.react(id, [{ x, y: share, mode: "lines", line: { shape: "hv", color: colour("--c0") }, hovertemplate: "%{x:.4~g}: %{y:.3f}<extra></extra>" }], layout(title, "share of the final hypervolume"), OPTIONS);
}

function drawGenes() { // small multiples: for every choice, how the scores spread for each of its values
  const all = run.genes.flatMap((gene) => gene.quantiles.flat()), low = Math.min(...all), high = Math.max(...all), LEFT = 92, RIGHT = 296;
  const x = (value) => (high > low ? LEFT + (value - low) / (high - low) * (RIGHT - LEFT) : (LEFT + RIGHT) / 2);
  byId("multiples").replaceChildren(...run.genes.map((gene) => {
    const height = 18 * gene.values.length + 20;
    const lines = gene.values.map((value, i) => {
      const [least, lower, middle, upper, most] = gene.quantiles[i], y = 12 + 18 * i, tinted = types.includes(value) ? tint(value) : "var(--c0)";
      return `<g><title>${escape(value)}: median ${shown(middle)}, middle half ${interval(lower, upper)}, ${gene.counts[i]} architectures</title><rect x="0" y="${y - 9}" width="300" height="18" fill="transparent"/>
        <text x="0" y="${y + 4}">${escape(value.length > 12 ? value.slice(0, 11) + "…" : value)}</text><text class="soft" x="86" y="${y + 4}" text-anchor="end">${gene.counts[i]}</text>
        <path d="M${x(least)} ${y}H${x(most)}" stroke="${tinted}" stroke-width="1.2"/><path d="M${x(lower)} ${y}H${x(upper)}" stroke="${tinted}" stroke-width="5" opacity=".45"/><circle cx="${x(middle)}" cy="${y}" r="3.4" fill="${tinted}"/></g>`;
    }).join("");
    const made = element("div", {}, element("h3", { textContent: gene.title }));
    made.insertAdjacentHTML("beforeend", `<svg viewBox="0 0 300 ${height}" role="img" aria-label="${escape(gene.title)}: scores by value">${lines}<path d="M${LEFT} ${height - 14}H${RIGHT}" stroke="var(--line)"/>
      <text class="soft" x="${LEFT}" y="${height - 3}">${shown(low)}</text><text class="soft" x="${RIGHT}" y="${height - 3}" text-anchor="end">${shown(high)}</text></svg>`);
    return made;
  }));
}

byId("csv").addEventListener("click", () => {
  const link = element("a", { href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })), download: "front.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
chooseCost(cost);
drawTable();
for (const line of document.querySelectorAll(".words li, p.words, td.words")) pictured(line);
byId("front-chart").on("plotly_click", (event) => { const text = event.points[0].customdata; if (text) copy(text); });
let resizing;
let wide = byId("front-chart").clientWidth;
addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => { if (byId("front-chart").clientWidth !== wide) { wide = byId("front-chart").clientWidth; redraw(); } }, 120);
});
const below = [drawShares, drawProgress, drawGenes];
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { redraw(); below.forEach((draw) => draw()); });
// The rest is below the fold: let the page show itself first.
const later = [...below];
(function next() { setTimeout(() => { const draw = later.shift(); if (draw) { draw(); next(); } else document.body.dataset.ready = "yes"; }, 0); })();
