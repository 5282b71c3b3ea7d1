"""`python -m tests.mutants`: apply each known bug to a copy of the tree; a test has to notice."""

import sys

from tests.mutants.runner import main

if __name__ == "__main__":
    sys.exit(main())
