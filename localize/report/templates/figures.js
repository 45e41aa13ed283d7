// Figures: drawn by plotly when they come near, because drawing all at once would hold the page up.

const NEAR = "800px";

function startFigures() {
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        near.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: NEAR });
  document.querySelectorAll(".plot").forEach((place) => near.observe(place));
  document.querySelectorAll("button.svg").forEach((button) => button.addEventListener("click", () => saveFigure(button)));
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll(".run:not([hidden]) .plot").forEach(draw);
  });
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
