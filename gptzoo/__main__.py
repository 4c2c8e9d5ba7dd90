"""`python -m gptzoo` is the command `gptzoo`."""

from gptzoo.cli import main

main()
