"""Seeded simulation of the consensus core: one seed is one run, with its faults, checked after every event."""
