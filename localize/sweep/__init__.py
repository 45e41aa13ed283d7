"""Many models, paragraph sets and measurements at once: a grid, a store that survives, engines, and what came out."""
