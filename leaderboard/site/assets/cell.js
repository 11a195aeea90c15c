/* The figures of one cell: one column at a time, one outcome of ablation at a time. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const column = document.getElementById("column"), outcome = document.getElementById("outcome");
  /* Ablation is shown by what the column is judged by, until somebody chooses otherwise. */
  let free = true;
  const judged = (found) => (found.doses || []).map((dose) => dose.outcome).find((name) => [...outcome.options].some((one) => one.value === name));
  const show = () => {
    const found = data.columns[column.value];
    if (free) outcome.value = judged(found) || outcome.value;
    const figure = (id, make, why) => Figures.draw(id, () => make() || found.why[why] || data.why[why]);
    figure("histogram", () => Figures.histogram(found), "scores");
    figure("map", () => Figures.map(found), "scores");
    figure("doses", () => Figures.doses(found, outcome.value), "causal");
    figure("steering", () => Figures.steering(found, column.value), "steering");
    figure("seeds", () => Figures.seeds(found.seeds), "seeds");
    document.querySelectorAll("[data-column]").forEach((part) => { part.hidden = part.dataset.column !== column.value; });
  };
  const asked = decodeURIComponent(location.hash.slice(1));
  if (asked in data.columns) column.value = asked;
  column.addEventListener("change", () => { history.replaceState(null, "", `#${encodeURIComponent(column.value)}`); show(); });
  outcome.addEventListener("change", () => { free = false; show(); });
  show();
})();
