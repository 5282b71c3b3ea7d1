"""Attacks by clients on a real cluster: what they cost the nodes, and what an innocent client notices."""
