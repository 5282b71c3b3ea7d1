"""What the replicated state can do, a file per feature: its tables, rows, commands, effects and queries."""
