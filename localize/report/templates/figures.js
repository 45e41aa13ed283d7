// Figures: drawn by plotly when they come near, because drawing all at once would hold the page up.

const NEAR = "800px";

function startFigures() {
  const waiting = [];
  const next = () => {
    waiting.sort((one, other) => fromWindow(one) - fromWindow(other));
    const place = waiting.shift();
    if (place) draw(place);
    if (waiting.length) setTimeout(next); // the page stays alive between two figures
  };
  const near = new IntersectionObserver((entries) => {
    const come = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
    come.forEach((place) => near.unobserve(place));
    if (!waiting.length && come.length) setTimeout(next);
    waiting.push(...come);
  }, { rootMargin: NEAR });
  document.querySelectorAll(".plot").forEach((place) => near.observe(place));
  document.querySelectorAll("button.svg").forEach((button) => button.addEventListener("click", () => saveFigure(button)));
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll(".run:not([hidden]) .plot").forEach(draw);
  });
}

// How far a figure is from what is seen: 0 if it is in it.
function fromWindow(place) {
  const box = place.getBoundingClientRect();
  return Math.max(0, -box.bottom, box.top - window.innerHeight);
}

function draw(place) {
  if (place.dataset.drawn) return null;
  place.dataset.drawn = "yes";
  const figure = readJson(place.dataset.figure);
  return Plotly.newPlot(place, figure.data, figure.layout, { displayModeBar: false, responsive: false, staticPlot: false });
}

async function saveFigure(button) {
  const place = button.closest("figure").querySelector(".plot");
  await draw(place);
  saveFile(`${place.dataset.file}.svg`, await Plotly.toImage(place, { format: "svg" }));
}
