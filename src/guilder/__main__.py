"""`python -m guilder`: the command line for those who have no script on their path."""

from guilder.cli import main

main()
