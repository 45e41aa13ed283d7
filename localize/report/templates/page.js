// What all parts of the page use: elements made of text, never of markup; data read from the page; which run is shown.

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null)); // a string becomes a text node
  return made;
}

function readJson(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

// Arrays come as base64: whole numbers, single-precision numbers, or shares in steps of 1 / 65534.
const STEPS = 65534;

function unpack(packed) {
  const letters = atob(packed.data);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at += 1) bytes[at] = letters.charCodeAt(at);
  if (packed.kind === "i4") return new Int32Array(bytes.buffer);
  if (packed.kind === "f4") return new Float32Array(bytes.buffer);
  return Float32Array.from(new Uint16Array(bytes.buffer), (step) => (step > STEPS ? NaN : step / STEPS));
}

// The part of an unpacked array that belongs to one row of its first axis.
function rowOf(values, shape, row) {
  const size = shape.slice(1).reduce((product, length) => product * length, 1);
  return values.subarray(row * size, (row + 1) * size);
}

// Three digits, never as a power of ten for what tokens and nats come to.
function numberWords(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "·";
  const size = Math.abs(value);
  const told = size >= 0.001 && size < 1e6 ? String(Number(value.toPrecision(3))) : String(Number(value.toFixed(3)));
  return told.replace(/^-(?=[0-9])/, "−");
}

// A column of numbers: as many digits after the point for all as show three of the largest.
function columnWords(values) {
  const known = values.filter((value) => value !== null && !Number.isNaN(value));
  const most = Math.max(...known.map(Math.abs), 0);
  const whole = known.every(Number.isInteger);
  const digits = whole || most === 0 ? 0 : Math.min(Math.max(2 - Math.floor(Math.log10(most)), 0), 6);
  return values.map((value) => (value === null || Number.isNaN(value) ? "·" : value.toFixed(digits).replace(/^-(?=.*[1-9])/, "−")));
}

function saveFile(name, address) {
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

function runs() {
  return [...document.querySelectorAll(".run")];
}

function showRun(number) {
  runs().forEach((run, at) => { run.hidden = at !== number; });
  document.querySelectorAll(".runs a").forEach((link, at) => {
    if (at === number) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
  startBrowser(runs()[number]);
}

function shownRun() {
  return runs().findIndex((run) => !run.hidden);
}

// The address: #p=ID opens a paragraph, #run=1 shows the second run, #run=1&p=ID both; anything else is a place on the page.
function follow(moved) {
  const hash = location.hash.slice(1);
  const found = /^(?:run=(\d+))?(?:(?:^|&)p=(.*))?$/s.exec(hash);
  if (!hash || !found) {
    const place = hash ? document.getElementById(hash) : null;
    const run = place ? place.closest(".run") : null;
    if (run && run.hidden) {
      showRun(runs().indexOf(run));
      place.scrollIntoView();
    }
    return;
  }
  const asked = found[1] === undefined ? null : Number(found[1]);
  if (asked !== null && asked < runs().length) showRun(asked);
  if (found[2] === undefined) return;
  let id;
  try {
    id = decodeURIComponent(found[2]);
  } catch {
    return; // an address typed by hand may hold anything
  }
  const order = asked === null ? [shownRun(), ...runs().keys()] : [asked];
  for (const number of order) {
    const row = browserOf(runs()[number]).data.links.indexOf(id);
    if (row >= 0) {
      if (number !== shownRun()) showRun(number);
      browserOf(runs()[number]).open(row, moved);
      return;
    }
  }
}

function start() {
  startTables(document);
  startBrowser(runs()[0]);
  follow(true);
  window.addEventListener("hashchange", () => follow(true));
}
