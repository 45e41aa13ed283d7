"""A file per figure; `localize.plots.catalogue` puts them in order."""
