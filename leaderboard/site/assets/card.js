/* Densities of one neuron's activation, one figure per column. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  data.densities.forEach((found, i) => Figures.draw(`density-${i}`, () => Figures.density(found)));
})();
