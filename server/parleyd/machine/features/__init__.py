"""The replicated state, a file per feature: its tables, rows, commands, effects and queries."""
