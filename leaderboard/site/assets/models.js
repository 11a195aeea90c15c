/* Two models at a time: the paired difference of every column that both have, with its interval. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const a = document.getElementById("a"), b = document.getElementById("b"), task = document.getElementById("task");
  const table = document.getElementById("pairs").tBodies[0];
  const cell = (text, css) => { const made = document.createElement("td"); made.textContent = text; if (css) made.className = css; return made; };
  const figure = (value, sign) => value === null ? "–" : (sign && value > 0 ? "+" : "") + value.toFixed(3);
  const chosen = () => {
    const [one, other] = [Number(a.value), Number(b.value)];
    const turn = one > other ? -1 : 1;
    const pair = data.pairs[`${Math.min(one, other)} ${Math.max(one, other)}`] || [];
    return pair.filter((row) => !task.value || row.task === task.value).map((row) => {
      const d = row.d.map((v) => v === null ? null : turn * v);
      const [low, high] = turn < 0 ? [d[2], d[1]] : [d[1], d[2]];
      const [ra, rb] = turn < 0 ? [row.r[1], row.r[0]] : row.r;
      return { ...row, difference: d[0], low, high, ra, rb };
    }).sort((x, y) => (y.beyond - x.beyond) || (Math.abs(y.difference ?? -1) - Math.abs(x.difference ?? -1)));
  };
  const show = () => {
    const rows = chosen();
    document.getElementById("said").textContent = a.value === b.value ? "Choose two different models." :
      rows.length ? `${rows.filter((row) => row.beyond).length} of ${rows.length} columns differ beyond noise.` : "These two have no column in common.";
    table.replaceChildren(...rows.map((row) => {
      const line = document.createElement("tr");
      line.append(cell(row.task), cell(row.setting ? `${row.column} (${row.setting})` : row.column), cell(figure(row.ra), "n"), cell(figure(row.rb), "n"), cell(figure(row.difference, true), "n"),
        cell(row.low === null ? "–" : `${figure(row.low, true)} to ${figure(row.high, true)}`, "n"), cell(row.p === null ? "–" : row.p < 0.0005 ? "< 0.001" : row.p.toFixed(3), "n"),
        cell(row.beyond ? "beyond noise" : row.why || "within noise", row.beyond ? "verdict-cause" : "quiet"));
      return line;
    }));
    Figures.draw("differences", () => {
      const known = chosen().filter((row) => row.low !== null).slice(0, 60).reverse();
      if (!known.length) return "Nothing to draw: no column of these two has a paired interval.";
      const name = (row) => Figures.text(`${row.task}  ${row.column}${row.setting ? ` (${row.setting})` : ""}`);
      const above = (row, i) => ({ xref: "paper", x: 0, xanchor: "left", y: i, yshift: 13, text: name(row), showarrow: false, font: { size: 11 } });
      const points = (beyond, tone, label) => {
        const part = known.filter((row) => Boolean(row.beyond) === beyond);
        return { type: "scatter", mode: "markers", name: label, x: part.map((row) => row.difference), y: part.map(name),
          error_x: { type: "data", symmetric: false, array: part.map((row) => row.high - row.difference), arrayminus: part.map((row) => row.difference - row.low), color: Figures.colour(tone) }, marker: { size: 8, color: Figures.colour(tone) } };
      };
      /* On a phone the names stand above their intervals, and what the colours say below the figure: beside them is no room. */
      const narrow = window.innerWidth < 700;
      const ends = [Math.min(0, ...known.map((row) => row.low)), Math.max(0, ...known.map((row) => row.high))];
      const room = 0.05 * (ends[1] - ends[0]) || 0.1;
      const legend = narrow ? {} : { legend: { orientation: "h", yref: "container", y: 1, yanchor: "top", x: 0 } };
      return {
        height: Math.max(220, (narrow ? 150 : 90) + (narrow ? 34 : 24) * known.length),
        traces: [points(true, "a", "beyond noise"), points(false, "quiet", "within noise")],
        layout: { showlegend: true, ...legend,
          margin: { l: 8, r: 12, t: narrow ? 84 : 64, b: 8 }, xaxis: { title: { text: "A minus B (95 %)" }, zeroline: true, side: "top", range: [ends[0] - room, ends[1] + room] },
          yaxis: { type: "category", range: [-0.7, known.length - 0.3], categoryorder: "array", categoryarray: known.map(name), tickfont: { size: 11 }, showticklabels: !narrow }, annotations: narrow ? known.map(above) : [] },
      };
    });
  };
  if (b.options.length > 1) b.selectedIndex = 1;
  [a, b, task].forEach((one) => one.addEventListener("change", show));
  show();
})();
