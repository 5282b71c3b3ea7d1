"""Replay of the reference scenarios against the real core: the state of every node is compared after each step."""
