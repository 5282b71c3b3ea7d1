"""`make bench-window`. It fills the files of a client from the inside, which scripts may not."""
