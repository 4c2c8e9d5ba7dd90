"""The command line as a module: `python -m gptzoo`."""

from gptzoo.cli import main

main()
