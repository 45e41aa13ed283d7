start();
document.addEventListener("DOMContentLoaded", startFigures); // plotly stands below
