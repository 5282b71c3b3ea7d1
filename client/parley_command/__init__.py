"""The start of the program `parley`: what Ctrl-C does before the rest is imported.

The import of the package `parley` takes most of a second. A KeyboardInterrupt in it would be a traceback.
"""

import gc
import os
import signal
from types import FrameType

INTERRUPTED = 130


def main() -> None:
    """Import the command line and run it. Ctrl-C ends the process at once until a command handles it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as by nohup
        signal.signal(signal.SIGINT, _end)
    gc.disable()  # what is imported stays: to look for garbage in it takes a tenth of the start
    from parley.cli import main as run

    gc.enable()
    run()


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)  # nothing was written or sent yet
