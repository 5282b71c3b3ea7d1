"""`python -m parleyd` is `parleyd`."""

from parleyd.cli import main

main()
