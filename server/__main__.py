"""`python -m server` is `parleyd`."""

from server.cli import main

main()
