// Tables that are sorted by a click or a key on their heads, unfolded, and saved as CSV.

function startTables(part) {
  part.querySelectorAll("table.sortable").forEach(makeSortable);
  part.querySelectorAll("button.unfold").forEach((button) => button.addEventListener("click", () => unfold(button)));
  part.querySelectorAll("button.take").forEach((button) => {
    button.addEventListener("click", () => {
      const file = new Blob(["\ufeff", readJson("csv")[button.dataset.csv]], { type: "text/csv" });
      const address = URL.createObjectURL(file);
      saveFile(`${button.dataset.csv}.csv`, address);
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    });
  });
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = head.querySelector("button");
    if (button) button.addEventListener("click", () => sortTable(table, column));
  });
}

function sortTable(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const head = heads[column];
  const numbers = head.classList.contains("n");
  const now = head.getAttribute("aria-sort");
  const next = now ? (now === "ascending" ? "descending" : "ascending") : numbers ? "descending" : "ascending";
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", next);
  const rows = [...table.tBodies[0].rows];
  rows.forEach((row, at) => { if (row.dataset.order === undefined) row.dataset.order = at; });
  const keys = new Map(rows.map((row) => [row, sortKey(row.cells[column], numbers)]));
  const sign = next === "ascending" ? 1 : -1;
  rows.sort((one, other) => compareKeys(keys.get(one), keys.get(other), sign) || one.dataset.order - other.dataset.order);
  table.tBodies[0].append(...rows);
  fold(table);
}

function sortKey(cell, numbers) {
  if (!numbers) return cell.textContent;
  return cell.dataset.value ? Number(cell.dataset.value) : NaN;
}

// What is no number stands last, whichever way the others go.
function compareKeys(one, other, sign) {
  if (typeof one === "string") return sign * one.localeCompare(other, "en", { numeric: true });
  if (Number.isNaN(one) || Number.isNaN(other)) return Number.isNaN(one) - Number.isNaN(other);
  return sign * (one - other);
}

function fold(table) {
  const most = Number(table.dataset.folded || Infinity);
  [...table.tBodies[0].rows].forEach((row, at) => row.classList.toggle("more", at >= most));
}

function unfold(button) {
  const table = document.getElementById(button.dataset.table);
  const open = button.getAttribute("aria-expanded") === "true";
  if (!button.dataset.folded) button.dataset.folded = table.dataset.folded;
  if (open) table.dataset.folded = button.dataset.folded;
  else delete table.dataset.folded;
  button.setAttribute("aria-expanded", String(!open));
  const count = table.tBodies[0].rows.length;
  button.textContent = open ? `Show all ${count} rows` : `Show ${button.dataset.folded} rows`;
  fold(table);
}

// A table made here: columns are [head, is a number], cells are strings or numbers.
function tableOf(caption, columns, rows) {
  const heads = columns.map(([head, number]) =>
    element("th", { scope: "col", class: number ? "n" : null }, element("button", { type: "button" }, head)));
  const told = columns.map(([, number], at) => (number ? columnWords(rows.map((row) => row[at])) : null));
  const body = rows.map((row, line) => element("tr", {}, ...row.map((cell, at) => {
    if (!columns[at][1]) return element("td", {}, cell);
    return element("td", { class: "n", "data-value": cell === null || Number.isNaN(cell) ? "" : String(cell) }, told[at][line]);
  })));
  const table = element("table", { class: "sortable", "aria-label": caption },
    element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...body));
  makeSortable(table);
  return element("div", {}, element("p", { class: "caption" }, caption),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table));
}
