"""What happened on this node: one source, from which the ring in memory and the journal on disk are filled."""
