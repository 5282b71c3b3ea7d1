"""Run `python -m parley_command`, which is `parley`."""

from parley_command import main

main()
