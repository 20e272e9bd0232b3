"""`python -m ottla.cli`: the command without its script on the PATH."""

from ottla.cli.main import main

main()
