/* The figures of one cell: one column at a time, one outcome of ablation at a time. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const column = document.getElementById("column"), outcome = document.getElementById("outcome");
  /* Ablation is shown by what the column is judged by, until somebody chooses otherwise. */
  let free = true;
  const judged = (found) => (found.doses || []).map((dose) => dose.outcome).find((name) => [...outcome.options].some((one) => one.value === name));
  const part = () => { try { return `#${encodeURIComponent(column.value)}`; } catch { return ""; } };
  const show = () => {
    const found = data.columns[column.value];
    if (free) outcome.value = judged(found) || outcome.value;
    const figure = (id, make, why) => Figures.draw(id, () => make() || found.why[why] || data.why[why]);
    figure("histogram", () => Figures.histogram(found), "scores");
    figure("map", () => Figures.map(found), "scores");
    figure("doses", () => Figures.doses(found, outcome.value), "causal");
    figure("steering", () => Figures.steering(found, column.value), "steering");
    figure("seeds", () => Figures.seeds(found.seeds), "seeds");
    document.querySelectorAll("[data-column]").forEach((one) => { one.hidden = one.dataset.column !== column.value; });
    document.querySelectorAll(".seeds a").forEach((one) => { one.hash = part(); }); // the same column of another seed
  };
  /* Opens the column that the address asks for; one that cannot be read, or is not here, asks for nothing. */
  const ask = () => {
    let asked = "";
    try { asked = decodeURIComponent(location.hash.slice(1)); } catch { /* no encoded text, as #% */ }
    if (Object.hasOwn(data.columns, asked)) column.value = asked;
  };
  column.addEventListener("change", () => { history.replaceState(null, "", part() || location.pathname); show(); });
  outcome.addEventListener("change", () => { free = false; show(); });
  window.addEventListener("hashchange", () => { ask(); show(); });
  ask();
  show();
})();
