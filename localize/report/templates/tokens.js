// One paragraph: its tokens coloured by what was chosen, its perturbed copy, its heads.

const MARKS = /([␣⏎⇥␍])/;
const LINE = "⏎";
const SWATCHES = 5;

class ParagraphView {
  constructor(data) {
    this.data = data;
    this.palettes = readJson("palettes");
    this.arrays = new Map();
    this.chosen = {}; // the colouring of each part stays chosen from one paragraph to the next
  }

  array(packed, row) {
    if (!this.arrays.has(packed)) this.arrays.set(packed, unpack(packed));
    return rowOf(this.arrays.get(packed), packed.shape, row);
  }

  make(row, near) {
    const { data } = this;
    this.row = row;
    const group = data.groups[data.group[row]];
    const tokens = this.array(data.tokens, row);
    const after = data.after
      ? ` After the edit: exact match ${data.after.exactMatch[row]}, NLL ${numberWords(data.after.nll[row])}.` : "";
    const copies = data.duplicates && data.duplicates[row] !== null ? ` ${data.duplicates[row]} times in the training data.` : "";
    const cluster = near > 1 ? ` Cluster ${data.cluster[row]}, with ${near - 1} more here.` : ` Cluster ${data.cluster[row]}, alone here.`;
    const about = element("p", {}, symbolOf(group), ` ${group.words}. Exact match ${data.exactMatch[row]} of ${data.continuation} tokens, ` +
      `NLL ${numberWords(data.nll[row])} nats per token.${after}${copies}${cluster}` + (data.whose ? ` Tokens of the continuation: ${data.whose}.` : ""));
    const readout = element("p", { class: "readout quiet", role: "status" }, "Point at a token, or move with the arrow keys, to read its numbers.");
    const prefix = this.part("prefix", "Prefix", tokens, 0, data.prefix, readout);
    const rest = this.part("continuation", "Continuation", tokens, data.prefix, tokens.length, readout);
    const known = data.areIds ? element("p", { class: "note" }, "Token ids are shown: the run kept no tokenizer.") : null;
    const words = data.areIds && data.texts[row] ? element("p", { class: "written" }, data.texts[row]) : null;
    return element("article", { "aria-label": `Paragraph ${data.ids[row]}` }, element("h4", { tabindex: "-1" }, `Paragraph ${data.ids[row]}`),
      about, known, words, ...prefix, ...rest, readout, this.copy(row, tokens), this.heads(row), this.numbers(row, tokens));
  }

  // What a part can be coloured by in this paragraph.
  colourings(part, row) {
    const { data } = this;
    const found = data.colourings.filter((c) => c.part === part).map((c) => ({
      words: c.words, unit: c.unit, hue: c.hue, beside: c.beside[row], values: this.array(c.values, row),
      spread: c.spread ? this.array(c.spread, row) : null,
    }));
    if (part !== "prefix") return found;
    return found.concat(data.attention.map((c) => {
      const whole = this.array(c.values, row);
      const heads = c.names[row].map((name, at) => ({
        words: c.words.replace("{}", name), unit: c.unit, hue: c.hue, beside: c.beside, spread: null,
        values: whole.subarray(at * data.prefix, (at + 1) * data.prefix), name,
      }));
      return { words: c.query === "continuation" ? "attention from the continuation" : "attention from the last prefix token", heads };
    }));
  }

  part(name, title, tokens, first, last, readout) {
    const found = this.colourings(name, this.row);
    const spans = [];
    for (let place = first; place < last; place += 1) spans.push(this.token(tokens[place], { tabindex: place === first ? "0" : "-1" }));
    const changed = this.data.changed ? this.data.changed[this.row] : null;
    if (name === "prefix" && changed !== null && spans[changed]) spans[changed].classList.add("changed");
    const text = element("div", { class: this.data.areIds ? "text ids" : "text", "data-part": name, role: "group", "aria-label": `${title}, token by token` });
    spans.forEach((span) => text.append(element("wbr"), span));
    const scale = element("p", { class: "scale" });
    const told = (place) => {
      const id = this.data.vocabularyIds[tokens[first + place]];
      const what = id < 0 ? "not in the signature" : this.data.vocabulary[tokens[first + place]];
      const start = `token ${first + place}, ${what}` + (id >= 0 && what !== String(id) ? `, id ${id}` : "");
      const plain = found.filter((c) => !c.heads);
      const lit = this.lit[name];
      if (lit && !plain.includes(lit)) plain.push(lit);
      return [start, ...plain.map((c) => valueWords(c, place))].join("; ");
    };
    const paint = (colouring) => {
      this.lit = { ...this.lit, [name]: colouring };
      const most = colouring ? mostOf(colouring.values) : 0;
      spans.forEach((span, place) => {
        const colours = colouring ? this.colours(colouring, place, most) : null;
        span.style.background = colours ? colours[0] : "";
        span.style.color = colours ? colours[1] : "";
        span.title = told(place);
      });
      scale.replaceChildren(...this.scale(colouring, most, name === "prefix" ? changed : null));
    };
    text.addEventListener("mouseover", (event) => { const at = spans.indexOf(event.target.closest(".tok")); if (at >= 0) readout.textContent = told(at); });
    text.addEventListener("focusin", (event) => { const at = spans.indexOf(event.target.closest(".tok")); if (at >= 0) readout.textContent = told(at); });
    text.addEventListener("keydown", (event) => step(event, spans));
    const choice = this.choice(name, title, found, paint);
    return [choice, scale, text];
  }

  // The radio buttons, and beside those of attention which head is meant.
  choice(name, title, found, paint) {
    const field = element("fieldset", { class: "colouring", "data-part": name }, element("legend", {}, found.length ? `${title}, coloured by` : title));
    const wanted = this.chosen[name] || { at: 0 };
    const at = wanted.at < found.length ? wanted.at : 0;
    found.forEach((colouring, number) => {
      const radio = element("input", { type: "radio", name: `colour-${name}`, value: String(number), checked: number === at });
      const label = element("label", {}, radio, ` ${colouring.words}`);
      let pick = () => colouring;
      field.append(label);
      if (colouring.heads) {
        const select = element("select", { "aria-label": `head, ${colouring.words}` },
          ...colouring.heads.map((head) => element("option", { value: head.name, selected: head.name === wanted.head }, head.name)));
        pick = () => colouring.heads[select.selectedIndex];
        select.addEventListener("change", () => { radio.checked = true; choose(); });
        field.append(select, " ");
      }
      const choose = () => {
        const picked = pick();
        this.chosen[name] = { at: number, head: picked.name };
        paint(picked);
      };
      radio.addEventListener("change", choose);
      if (number === at) paint(pick());
    });
    if (!found.length) paint(null);
    return field;
  }

  colours(colouring, place, most) {
    const value = colouring.values[place];
    if (Number.isNaN(value)) return null;
    const steps = this.palettes[colouring.hue];
    const share = most > 0 ? Math.min(Math.max(value / most, 0), 1) : 0;
    return steps[Math.round(share * (steps.length - 1))];
  }

  scale(colouring, most, changed) {
    if (!colouring) return [];
    const steps = this.palettes[colouring.hue];
    const count = most > 0 ? SWATCHES : 1;
    const swatches = Array.from({ length: count }, (_, at) => {
      const share = count > 1 ? at / (count - 1) : 0;
      const [behind, ink] = steps[Math.round(share * (steps.length - 1))];
      return element("span", { class: "swatch", style: `background:${behind};color:${ink}` }, numberWords(share * most));
    });
    const words = [colouring.unit, colouring.beside, changed === null || changed === undefined ? "" : `outlined: the most changed position, ${changed}`];
    return [...swatches, ` ${words.filter(Boolean).join("; ")}`];
  }

  // A token as an element: its text, with the marks for white space paler, and a line that ends after "⏎".
  token(index, attributes, kind = "span") {
    const span = element(kind, { class: "tok", ...attributes });
    for (const piece of this.data.vocabulary[index].split(MARKS)) {
      if (MARKS.test(piece)) span.append(element("span", { class: "white" }, piece));
      else if (piece) span.append(piece);
      if (piece === LINE) span.append(element("br"));
    }
    return span;
  }

  // The perturbed copy: the replaced token outlined, and what is said otherwise marked.
  copy(row, tokens) {
    const { data } = this;
    if (!data.copies) return null;
    const copied = this.array(data.copies, row);
    const text = element("div", { class: data.areIds ? "text ids" : "text", "data-part": "copy" });
    copied.forEach((token, place) => {
      const was = data.vocabularyIds[tokens[place]];
      const differs = token !== tokens[place] && was >= 0;
      const words = `token ${place}, ${data.vocabulary[token]}${differs ? `, was ${data.vocabulary[tokens[place]]}` : ""}`;
      if (place === data.prefix) text.append(" ", element("strong", { "aria-label": "continuation" }, "│"), " ");
      const span = this.token(token, { title: words }, differs && place >= data.prefix ? "mark" : "span");
      if (place < data.prefix) span.classList.add(differs ? "changed" : "quiet");
      text.append(element("wbr"), span);
    });
    const numbers = data.copyNumbers.map(([words, values]) => `${words} ${values[row]}`).join(", ");
    const told = `Its token ${data.changed[row]} is replaced, where that does most${numbers ? `: ${numbers} tokens` : ""}. ` +
      "Outlined: replaced; bold and underlined: not what it was.";
    return element("section", {}, element("h5", {}, "The perturbed copy"), element("p", { class: "note" }, told), text);
  }

  heads(row) {
    if (!this.data.heads.length) return null;
    const tables = this.data.heads.map((kind) =>
      tableOf(kind.caption, kind.columns.map((head, at) => [head, at > 0]), kind.rows[row]));
    return element("section", {}, element("h5", {}, "Its heads"),
      element("p", { class: "note" }, "One paragraph's numbers: without an interval, and the strongest of many."),
      element("div", { class: "headtables" }, ...tables));
  }

  // All numbers in a table, made when it is opened.
  numbers(row, tokens) {
    const box = element("details", {}, element("summary", {}, "All numbers, token by token"));
    box.addEventListener("toggle", () => {
      if (!box.open || box.childElementCount > 1) return;
      for (const [part, first, last] of [["prefix", 0, this.data.prefix], ["continuation", this.data.prefix, tokens.length]]) {
        const found = this.colourings(part, row).flatMap((c) => c.heads || [c]);
        const columns = [["position", true], ["token", false], ...found.map((c) => [`${c.words} (${c.unit})`, true])];
        const rows = [];
        for (let place = first; place < last; place += 1) {
          rows.push([place, this.data.vocabulary[tokens[place]], ...found.map((c) => c.values[place - first])]);
        }
        box.append(tableOf(part === "prefix" ? "Prefix" : "Continuation", columns, rows));
      }
    });
    return box;
  }
}

function mostOf(values) {
  let most = 0;
  for (const value of values) if (value > most) most = value;
  return most;
}

function valueWords(colouring, place) {
  const value = colouring.values[place];
  if (Number.isNaN(value)) return `${colouring.words}: not measured`;
  let spread = "";
  if (colouring.spread) {
    const length = colouring.spread.length / 2;
    const low = colouring.spread[place];
    const high = colouring.spread[length + place];
    if (low < high) spread = ` (draws ${numberWords(low)} to ${numberWords(high)})`;
  }
  return `${colouring.words} ${numberWords(value)} ${colouring.unit}${spread}`;
}

// Arrow keys, Home and End move from token to token; one of them at a time is in the order of the Tab key.
function step(event, spans) {
  const at = spans.indexOf(event.target.closest(".tok"));
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: spans.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const next = spans[Math.min(Math.max(to, 0), spans.length - 1)];
  spans[at].setAttribute("tabindex", "-1");
  next.setAttribute("tabindex", "0");
  next.focus();
}
