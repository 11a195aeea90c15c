/* The board's table: rows from the page's own data, sorted, searched and chosen by DataTables. All text is set as text. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = Object.fromEntries(data.columns.filter((column) => !column.rank).map((column, i) => [column.name, i]));
  const narrow = window.matchMedia("(max-width: 700px)").matches;
  const shown = new Set(narrow ? data.narrow : data.shown);
  const escaped = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
  const breakable = (text) => escaped(text).replace(/[._]/g, "$&<wbr>");
  const link = (place, text) => `<a href="${escaped(place)}">${breakable(text)}</a>`;
  /* A cell's page opens at the column of the row. */
  const part = (row) => { try { return `#${encodeURIComponent(row.v[at.column])}`; } catch { return ""; } };
  const cellLink = (row, place, text) => link(row.v[at.column] ? place + part(row) : place, text);

  /* What must be said of a row is told in a line below it, which these buttons open. */
  const told = (row) => [row.v[at.reason], row.rank?.[2] && `rank: ${row.rank[2]}`].filter(Boolean).join("; ");
  const tells = (row, css, text, label) => told(row)
    ? `<button type="button" class="tells ${escaped(css)}" aria-expanded="false" aria-label="${escaped(label || text)}: why?" title="${escaped(told(row))}">${escaped(text)}</button>`
    : `<span class="${escaped(css)}">${escaped(text)}</span>`;

  const heldout = (row) => {
    const low = row.t[at.heldout_top10_r_low], high = row.t[at.heldout_top10_r_high];
    const r = Math.max(0, Math.min(1, row.v[at.heldout_top10_r]));
    const chance = row.v[at.null95_r];
    const mark = chance === null ? "" : `<i style="left:${(100 * Math.min(1, chance)).toFixed(1)}%"></i>`;
    const interval = low && high ? ` <span class="interval">${low} to ${high}</span>` : "";
    return `<span class="figure">${row.t[at.heldout_top10_r]}${interval}</span>` +
      `<span class="bar" aria-hidden="true"><b style="width:${(100 * r).toFixed(1)}%"></b>${mark}</span>`;
  };

  const cell = (column) => (row, type) => {
    if (column.rank) {
      if (type !== "display") return row.rank[type === "sort" || type === "type" ? 0 : 1];
      return row.rank[1] && tells(row, "n", row.rank[1]);
    }
    const value = row.v[at[column.name]];
    if (type === "sort" || type === "type") return value;
    if (type !== "display") return column.number ? row.t[at[column.name]] : value;
    if (column.number && value === null) return tells(row, "empty", "–", "empty");
    if (column.name === "heldout_top10_r") return heldout(row);
    if (column.name === "seeds") {
      const cells = row.cells.map(([seed, place]) => cellLink(row, place, seed)).join(" ");
      return cells || escaped(row.t[at.seeds]);
    }
    if (column.name === "column" && row.cells.length) return cellLink(row, row.cells[0][1], value || "(no column)");
    if (column.name === "task" && row.task) return link(row.task, value);
    if (column.name === "status") return tells(row, `status ${value.replaceAll(" ", "-")}`, value);
    if (column.name === "verified") return `<span class="verified ${value === "yes" ? "yes" : "no"}">${escaped(value)}</span>`;
    return escaped(column.number ? row.t[at[column.name]] : value);
  };

  /* Whichever way a column is sorted, what is empty stands last. */
  const emptyLast = (compare) => {
    const order = (turn) => (one, other) => {
      const [a, b] = [one, other].map((value) => value === null || value === "");
      return a || b ? a - b : turn * compare(one, other);
    };
    return { order: { asc: order(1), desc: order(-1) } };
  };
  DataTable.type("figure", emptyLast((one, other) => one - other));
  DataTable.type("words", emptyLast(new Intl.Collator("en", { numeric: true }).compare));

  const table = new DataTable("#board", {
    data: data.rows,
    columns: data.columns.map((column) => ({
      title: `<span title="${escaped(column.help)}">${breakable(column.name)}</span>`,
      name: column.name,
      ariaTitle: column.name,
      className: column.number || column.rank ? "n" : column.name,
      type: column.number || column.rank ? "figure" : "words",
      visible: shown.has(column.name),
      orderSequence: column.number ? ["desc", "asc", ""] : ["asc", "desc", ""],
      data: null,
      render: (row, type) => cell(column)(row, type),
    })),
    order: [],
    pageLength: 50,
    lengthMenu: [25, 50, 100, { label: "all", value: -1 }],
    autoWidth: false,
    deferRender: true,
    layout: { topStart: "search", topEnd: "pageLength", bottomStart: "info", bottomEnd: "paging" },
    language: { search: "Search", searchPlaceholder: "", lengthMenu: "_MENU_ rows a page", emptyTable: "no rows", zeroRecords: "no row matches" },
  });

  /* One button of a row is reached by the Tab key, however many numbers are empty. */
  const stops = () => table.rows({ page: "current" }).nodes().each((line) => {
    line.querySelectorAll("button.tells").forEach((button, i) => { button.tabIndex = i ? -1 : 0; });
  });
  table.on("draw column-visibility", stops);
  stops();
  document.getElementById("board").addEventListener("click", (event) => {
    const button = event.target.closest("button.tells");
    if (!button) return;
    const line = button.closest("tr"), row = table.row(line), open = !row.child.isShown();
    const text = document.createElement("p");
    text.textContent = told(row.data());
    if (open) row.child(text, "told").show();
    else row.child.hide();
    line.querySelectorAll("button.tells").forEach((one) => one.setAttribute("aria-expanded", open));
  });

  /* Filters: within a menu any of the ticked values, between menus all. */
  const form = document.getElementById("choose");
  const menus = [...form.querySelectorAll("fieldset[data-filter]")];
  const ticked = (menu) => new Set([...menu.querySelectorAll("input:checked")].map((box) => box.value));
  const filter = () => {
    const wanted = menus.map((menu) => [at[menu.dataset.filter], ticked(menu)]);
    wanted.forEach(([, values], i) => {
      menus[i].parentElement.querySelector(".count").textContent = values.size ? `(${values.size})` : "";
    });
    table.search.fixed("menus", (_text, row) => wanted.every(([i, values]) => !values.size || values.has(String(row.v[i] ?? ""))));
    table.draw();
  };
  const columns = form.querySelector("fieldset[data-columns]");
  const boxes = [...columns.querySelectorAll("input")];
  const tick = () => boxes.forEach((box) => { box.checked = table.column(`${box.value}:name`).visible(); });
  tick();
  form.addEventListener("change", (event) => {
    if (columns.contains(event.target)) table.column(`${event.target.value}:name`).visible(event.target.checked);
    else filter();
  });
  form.addEventListener("reset", () => setTimeout(() => {
    data.columns.forEach((column) => table.column(`${column.name}:name`).visible(shown.has(column.name)));
    tick();
    table.search("").order([]);
    filter();
  }));
  form.addEventListener("submit", (event) => event.preventDefault());
  /* One menu open at a time; Escape closes it. */
  const all = [...form.querySelectorAll("details.menu")];
  all.forEach((menu) => menu.addEventListener("toggle", () => {
    if (menu.open) all.forEach((other) => { if (other !== menu) other.open = false; });
  }));
  document.addEventListener("keydown", (event) => {
    const open = all.find((menu) => menu.open);
    if (event.key === "Escape" && open) { open.open = false; open.querySelector("summary").focus(); }
  });
  document.addEventListener("click", (event) => {
    all.forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; });
  });
})();
