/* Dark or light: what the system says, unless the button was pressed. Runs before the page is drawn. */
(() => {
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("skillneurons-theme"); } catch { /* no storage for files here: the choice lasts for this page */ }
  const apply = () => {
    root.dataset.theme = chosen || (system.matches ? "dark" : "light");
    document.dispatchEvent(new Event("theme"));
  };
  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      chosen = root.dataset.theme === "dark" ? "light" : "dark";
      try { localStorage.setItem("skillneurons-theme", chosen); } catch { /* as above */ }
      apply();
    });
  });
})();
