"""Fuzzing of everything that takes bytes from others: `python -m tests.fuzz --seconds 10`.

A target is a strategy of hypothesis, and a check that raises for a crash, a hang or a broken rule. A module of targets
has a tuple `TARGETS`. `registry.py` names the modules. `test_fuzz.py` runs a little of each target.
"""
