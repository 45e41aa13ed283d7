startTables(document);
document.addEventListener("DOMContentLoaded", startFigures); // plotly stands below
