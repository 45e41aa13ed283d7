"""`python -m localize.cli`."""

from localize.cli import main

main()
