"""The procedures of docs/OPERATIONS.md in a row, on real processes under a continuous load: `make operations`."""
