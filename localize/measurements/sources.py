"""Where definitions come from."""

PAPER = "Stoehr et al. 2024 (arXiv 2403.19851)"
