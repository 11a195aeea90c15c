/* Figures of a cell, a card or a pair of models, drawn by Plotly in the colours of the page. */
const Figures = (() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const drawn = new Map();

  /* On a touch screen a swipe over a figure scrolls the page: there is nothing to drag and no axis to zoom. A bar of buttons that
     cannot come and go with the pointer would cover the figure, so there is none. */
  const coarse = window.matchMedia("(pointer: coarse)"), unmoved = window.matchMedia("(pointer: coarse), (hover: none)");

  const layout = (more) => {
    const fixed = coarse.matches ? { fixedrange: true } : {};
    const axis = { ...fixed, gridcolor: colour("line"), linecolor: colour("line"), zerolinecolor: colour("quiet"), automargin: true };
    const { xaxis, yaxis, yaxis2, ...rest } = more;
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("ink"), size: 12 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("quiet"), activecolor: colour("a") },
      margin: { l: 8, r: 12, t: 8, b: 8 }, hoverlabel: { namelength: -1 }, showlegend: false,
      legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, font: { size: 11 } },
      xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...(yaxis2 && { yaxis2: { ...fixed, ...yaxis2 } }),
      ...(coarse.matches && { dragmode: false }), ...rest,
    };
  };
  /* No button sends anything anywhere: that one is on unless it is said. */
  const plotted = () => ({
    responsive: true, displaylogo: false, displayModeBar: unmoved.matches ? false : "hover", showSendToCloud: false, plotlyServerURL: "",
    modeBarButtonsToRemove: ["select2d", "lasso2d"], toImageButtonOptions: { format: "svg" },
  });

  /* make() gives {traces, layout}, or a string that says why there is no figure. It is called again when the theme changes. */
  const draw = (id, make) => {
    const place = document.getElementById(id);
    if (!place) return;
    drawn.set(id, make);
    const made = make();
    const old = place.classList.contains("js-plotly-plot");
    if (typeof made === "string") {
      if (old) Plotly.purge(place);
      place.className = "why";
      place.textContent = made;
      return;
    }
    if (!old) { place.className = "plot"; place.textContent = ""; }
    if (made.height) place.style.height = `${made.height}px`;
    Plotly.react(place, made.traces, layout(made.layout), plotted());
  };
  const again = () => drawn.forEach((make, id) => draw(id, make));
  document.addEventListener("theme", again);
  [coarse, unmoved].forEach((one) => one.addEventListener("change", again));

  const name = (layer, neuron) => `L${String(layer).padStart(2, "0")}.N${String(neuron).padStart(4, "0")}`;
  /* Plotly reads a little HTML in texts: names from data are shown as they are. */
  const text = (value) => String(value).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const vertical = (x) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: colour("chance"), width: 2, dash: "dash" } });
  /* Above the left line, where neither a bar of the figure nor one of buttons is; towards the middle where the line stands near the edge. */
  const above = (x, end, label) => ({
    x: -x, yref: "paper", y: 1, text: label, showarrow: false, xanchor: x > end / 3 ? "left" : "right", yanchor: "bottom", font: { color: colour("chance-ink"), size: 11 },
  });

  const histogram = (found) => {
    if (!found.histogram) return null;
    const { end, counts } = found.histogram;
    const width = 2 * end / counts.length;
    const x = counts.map((_, i) => -end + (i + 0.5) * width);
    const chance = found.null95 === null ? [] : [found.null95];
    const beyond = x.map((r) => found.null95 !== null && Math.abs(r) > found.null95);
    return {
      traces: [{ type: "bar", x, y: counts.map((n) => n || null), width, marker: { color: beyond.map((b) => colour(b ? "a" : "quiet")) }, hovertemplate: "r %{x:.3f}: %{y} neurons<extra></extra>" }],
      layout: {
        bargap: 0, margin: { l: 8, r: 12, t: 24, b: 8 }, shapes: chance.flatMap((r) => [vertical(-r), vertical(r)]),
        annotations: chance.map((r) => above(r, end, `chance ±${r.toFixed(3)}`)),
        xaxis: { title: { text: "r on discovery" }, range: [-end, end] }, yaxis: { title: { text: "neurons (log)" }, type: "log", dtick: 1 },
      },
    };
  };

  const map = (found) => {
    if (!found.map) return null;
    const { width, r, neuron, d_ff } = found.map;
    const end = Math.max(...r.flat().map((v) => Math.abs(v ?? 0)), 0.01);
    const last = (i) => Math.min((i + 1) * width, d_ff) - 1;
    const about = r.map((row, layer) => row.map((v, i) => `${name(layer, neuron[layer][i])}  r ${v === null ? "none" : v.toFixed(3)}` + (width > 1 ? `<br>strongest of N${i * width} to N${last(i)}` : "")));
    return {
      height: Math.max(180, Math.min(620, 110 + 26 * r.length)),
      traces: [{ type: "heatmap", z: r, text: about, hovertemplate: "%{text}<extra></extra>", x0: width / 2 - 0.5, dx: width, zmin: -end, zmax: end, zmid: 0,
        colorscale: [[0, colour("b")], [0.5, colour("ground")], [1, colour("a")]], colorbar: { title: { text: "r" }, thickness: 10, len: 0.95 } }],
      layout: { xaxis: { title: { text: "neuron" }, showgrid: false, zeroline: false }, yaxis: { title: { text: "layer" }, dtick: r.length > 12 ? 4 : 1, autorange: "reversed", showgrid: false, zeroline: false } },
    };
  };

  const units = { accuracy: "accuracy lost", log_prob: "log p of the answer lost (nats)", moved: "column moved (its sd)" };
  const doses = (found, outcome) => {
    const known = (found.doses || []).filter((dose) => dose.outcomes[outcome]);
    if (!known.length) return null;
    const k = known.map((dose) => dose.k);
    const values = known.map((dose) => dose.outcomes[outcome]);
    const band = { type: "scatter", mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
    return {
      traces: [
        { ...band, x: k, y: values.map(([, m, sd]) => m === null ? null : m - 2 * (sd ?? 0)) },
        { ...band, x: k, y: values.map(([, m, sd]) => m === null ? null : m + 2 * (sd ?? 0)), fill: "tonexty", fillcolor: `${colour("quiet")}33` },
        { type: "scatter", mode: "lines+markers", name: "random sets, mean ± 2 sd", x: k, y: values.map((v) => v[1]), line: { color: colour("quiet"), dash: "dash" }, marker: { size: 7 } },
        { type: "scatter", mode: "lines+markers", name: "the strongest K", x: k, y: values.map((v) => v[0]), line: { color: colour("a") }, marker: { size: 9 }, text: known.map((d) => d.outcome === outcome ? `verdict: ${text(d.verdict)}` : ""), hovertemplate: "K = %{x}: %{y:.4f} %{text}<extra></extra>" },
      ],
      layout: { showlegend: true, xaxis: { title: { text: "K neurons ablated" }, tickvals: k }, yaxis: { title: { text: units[outcome] } } },
    };
  };

  const steering = (found, column) => {
    const curve = found.steering;
    if (!curve) return null;
    const line = (key, label, tone, axis) => curve[key] && { type: "scatter", mode: "lines+markers", name: label, x: curve.alphas, y: curve[key], yaxis: axis, line: { color: colour(tone), dash: axis === "y2" ? "dot" : "solid" }, marker: { size: 7 } };
    const followed = curve.followed === "metric" ? line("metric", `mean of ${text(column)}`, "a", "y") : line("log_prob", "log p of the right answer", "a", "y");
    return {
      traces: [followed, line("accuracy", "accuracy", "c", "y"), line("neutral_loss", "loss of neutral text (nats, right axis)", "b", "y2")].filter(Boolean),
      layout: { showlegend: true, margin: { l: 8, r: 8, t: 8, b: 8 }, xaxis: { title: { text: "alpha (sd)" }, tickvals: curve.alphas }, yaxis: { title: { text: "column and accuracy" } },
        yaxis2: { overlaying: "y", side: "right", automargin: true, showgrid: false, rangemode: "tozero", tickmode: "auto", nticks: 5 } },
    };
  };

  const seeds = (list) => {
    const known = list.filter((one) => one.r !== null);
    if (!known.length) return null;
    const bars = known.every((one) => one.low !== null) && { type: "data", symmetric: false, array: known.map((one) => one.high - one.r), arrayminus: known.map((one) => one.r - one.low), color: colour("a") };
    return {
      traces: [
        { type: "scatter", mode: "markers", name: "held-out r of the ten best, 95 %", x: known.map((one) => `seed ${one.seed}`), y: known.map((one) => one.r), error_y: bars || undefined, marker: { size: 10, color: colour("a") } },
        { type: "scatter", mode: "markers", name: "chance (max-T)", x: known.map((one) => `seed ${one.seed}`), y: known.map((one) => one.null95), marker: { symbol: "line-ew-open", size: 26, color: colour("chance"), line: { width: 2 } } },
      ],
      layout: { showlegend: true, xaxis: { type: "category" }, yaxis: { title: { text: "r" }, rangemode: "tozero" } },
    };
  };

  const density = (found) => ({
    traces: found.curves.filter((one) => one.y.length).map((one, i) => ({
      type: "scatter", mode: "lines", name: `${text(one.label)} (n ${one.n})`, x: found.grid, y: one.y, line: { color: colour(["a", "b", "c", "d", "chance"][i % 5]), width: 2 },
      fill: "tozeroy", fillcolor: `${colour(["a", "b", "c", "d", "chance"][i % 5])}18`,
    })),
    layout: { showlegend: true, xaxis: { title: { text: text(found.quantity) } }, yaxis: { title: { text: "density, each to its own peak" }, showticklabels: false, rangemode: "tozero" } },
  });

  return { draw, colour, text, histogram, map, doses, steering, seeds, density };
})();
