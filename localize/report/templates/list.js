// The list of paragraphs: searched, filtered, sorted; a part of it at a time is on the page.

const PIECE = 60;
const SYMBOLS = {
  circle: "●", diamond: "◆", square: "■", "triangle-up": "▲", "triangle-down": "▼", star: "★", hexagon: "⬢", cross: "✚",
  x: "✖", pentagon: "⬟", "circle-open": "○", "diamond-open": "◇", "square-open": "□",
};
const ORDERS = {
  exactMatch: "exact match", nll: "NLL", duplicates: "duplicates", cluster: "cluster", order: "order in the data", id: "id",
};
const browsers = new Map();

function startBrowser(run) {
  if (!browsers.has(run)) {
    const place = run.querySelector(".browser");
    browsers.set(run, new Browser(place, readJson(place.dataset.paragraphs), runs().indexOf(run)));
  }
  return browsers.get(run);
}

function browserOf(run) {
  return startBrowser(run);
}

function symbolOf(group) {
  return element("span", { class: "symbol", style: `color:${group.colour}`, "aria-hidden": "true" }, SYMBOLS[group.symbol] || "●");
}

class Browser {
  constructor(place, data, number) {
    this.place = place;
    this.data = data;
    this.number = number;
    this.view = new ParagraphView(data);
    this.opened = null;
    this.searched = data.ids.map((id, row) => `${id}\n${data.texts[row]}`.toLowerCase());
    this.sizes = new Map();
    data.cluster.forEach((cluster) => this.sizes.set(cluster, (this.sizes.get(cluster) || 0) + 1));
    this.make();
    this.filter();
    if (this.rows.length) this.show(this.rows[0]);
  }

  make() {
    const { data, number } = this;
    this.search = element("input", { type: "search", "aria-label": "Search in text and ids", placeholder: "Search in text and ids", spellcheck: "false", autocomplete: "off" });
    this.boxes = data.groups.map((group) => element("input", { type: "checkbox", checked: true }));
    const counts = data.groups.map((group, at) => data.group.filter((g) => g === at).length);
    const groups = element("fieldset", {}, element("legend", {}, "Groups shown"), ...data.groups.map((group, at) =>
      element("label", {}, this.boxes[at], " ", symbolOf(group), ` ${group.words} (${counts[at]})`)));
    const known = Object.entries(ORDERS).filter(([key]) => key !== "duplicates" || data.duplicates);
    this.order = element("select", { "aria-label": "Sort by" }, ...known.map(([key, words]) => element("option", { value: key }, words)));
    this.way = element("button", { type: "button", "aria-pressed": "true" }, "highest first");
    this.found = element("p", { class: "found quiet", role: "status" });
    this.list = element("ul", { class: "list", "aria-label": "Paragraphs" });
    this.pane = element("div", { class: "opened" });
    const sorting = element("div", { class: "sorting" }, element("span", {}, "Sort by "), this.order, " ", this.way);
    const tools = element("div", { class: "tools" }, element("div", { class: "searching" }, this.search), groups, sorting);
    this.place.append(element("div", { class: "chooser" }, tools, this.found, this.list), this.pane);
    this.search.addEventListener("input", () => this.filter());
    this.boxes.forEach((box) => box.addEventListener("change", () => this.filter()));
    this.order.addEventListener("change", () => this.filter());
    this.way.addEventListener("click", () => {
      const high = this.way.getAttribute("aria-pressed") !== "true";
      this.way.setAttribute("aria-pressed", String(high));
      this.way.textContent = high ? "highest first" : "lowest first";
      this.filter();
    });
    this.list.addEventListener("keydown", (event) => this.walk(event));
    this.pane.addEventListener("keydown", (event) => { if (event.key === "Escape") this.back(); });
    this.grow = new IntersectionObserver((entries) => { if (entries.some((e) => e.isIntersecting)) this.more(); }, { root: this.list });
    this.prefix = runs().length > 1 ? `#run=${number}&p=` : "#p=";
  }

  // Which rows are asked for, in which order. "cluster:12" finds one cluster.
  filter() {
    const { data } = this;
    const words = this.search.value.toLowerCase().trim();
    const cluster = /^cluster:\s*(-?\d+)$/.exec(words);
    const groups = new Set(this.boxes.flatMap((box, at) => (box.checked ? [at] : [])));
    const all = data.ids.map((_, row) => row);
    this.rows = all.filter((row) => groups.has(data.group[row]) &&
      (cluster ? data.cluster[row] === Number(cluster[1]) : this.searched[row].includes(words)));
    const by = this.order.value;
    const sign = this.way.getAttribute("aria-pressed") === "true" ? -1 : 1;
    const key = by === "order" ? (row) => row : by === "id" ? (row) => data.ids[row] : (row) => data[by][row] ?? -1;
    this.rows.sort((one, other) => compareKeys(key(one), key(other), sign) || one - other);
    this.found.textContent = `${this.rows.length} of ${data.count} paragraphs`;
    this.list.replaceChildren();
    this.list.scrollTop = 0;
    this.shown = 0;
    this.more();
  }

  more() {
    const next = this.rows.slice(this.shown, this.shown + PIECE);
    const last = this.list.querySelector(".rest");
    if (last) last.remove();
    this.grow.disconnect();
    this.list.append(...next.map((row) => this.item(row)));
    this.shown += next.length;
    const left = this.rows.length - this.shown;
    if (left > 0) {
      const button = element("button", { type: "button", class: "morebutton" }, `Show more (${left} left)`);
      button.addEventListener("click", () => this.more());
      const rest = element("li", { class: "rest" }, button);
      this.list.append(rest);
      this.grow.observe(rest);
    }
  }

  item(row) {
    const { data } = this;
    const group = data.groups[data.group[row]];
    const after = data.after ? ` → ${data.after.exactMatch[row]}` : "";
    const copies = data.duplicates && data.duplicates[row] !== null ? ` · ×${data.duplicates[row]}` : "";
    const numbers = `EM ${data.exactMatch[row]}${after} · NLL ${numberWords(data.nll[row])}${copies}`;
    const line = element("span", { class: "line" }, symbolOf(group), element("span", { class: "unseen" }, `${group.words}, `),
      element("span", { class: "name" }, data.ids[row]));
    const words = element("span", { class: "words" }, data.texts[row].slice(0, 160));
    const link = element("a", { href: this.link(row), "data-row": row, "aria-current": row === this.opened ? "true" : null },
      line, element("span", { class: "numbers" }, numbers), words);
    link.addEventListener("click", (event) => {
      if (location.hash === link.getAttribute("href") && !event.metaKey && !event.ctrlKey) this.open(row, true);
    });
    return element("li", {}, link);
  }

  link(row) {
    return this.prefix + encodeURIComponent(this.data.links[row]);
  }

  // Arrow keys walk along the list.
  walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const at = event.target.closest("li");
    if (!step || !at) return;
    event.preventDefault();
    if (step > 0 && at.nextElementSibling && at.nextElementSibling.classList.contains("rest")) this.more();
    const next = step > 0 ? at.nextElementSibling : at.previousElementSibling;
    if (next) next.firstElementChild.focus();
  }

  show(row) {
    this.opened = row;
    this.list.querySelectorAll("a[aria-current]").forEach((link) => link.removeAttribute("aria-current"));
    const link = this.list.querySelector(`a[data-row="${row}"]`);
    if (link) link.setAttribute("aria-current", "true");
    const at = this.rows.indexOf(row);
    const step = (by, words) => {
      const button = element("button", { type: "button", disabled: at + by < 0 || at + by >= this.rows.length || at < 0 }, words);
      button.addEventListener("click", () => { location.hash = this.link(this.rows[at + by]); });
      return button;
    };
    const near = element("button", { type: "button", disabled: this.sizes.get(this.data.cluster[row]) < 2 }, "its near-duplicates");
    near.addEventListener("click", () => {
      this.search.value = `cluster:${this.data.cluster[row]}`;
      this.filter();
      this.search.focus();
    });
    this.pane.replaceChildren(element("div", { class: "pages" }, step(-1, "← previous"), step(1, "next →"), near),
      this.view.make(row, this.sizes.get(this.data.cluster[row])));
  }

  open(row, moved) {
    this.show(row);
    if (!moved) return;
    const head = this.pane.querySelector("h4");
    head.focus({ preventScroll: true });
    const box = this.pane.getBoundingClientRect();
    if (box.top < 0 || box.top > window.innerHeight * 0.6) this.pane.scrollIntoView();
  }

  back() {
    const link = this.list.querySelector(`a[data-row="${this.opened}"]`) || this.list.querySelector("a");
    if (link) link.focus();
  }
}
