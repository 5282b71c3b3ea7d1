"""A node's databases on a disk that loses, tears and rots what was not synced: `python -m tests.simulation.storage`.

The life of one node runs once over the real code and real SQLite, while every call that changes the disk is written
down (recorder.py, workload.py). From that trace the disk is built as a crash at each call could leave it (disk.py,
choices.py), a node is started on it by the code a real start runs (start.py), and what it then knows is held against
what had been promised by then (promises.py). campaign.py runs all of it, faults.py fails single calls, rot.py damages
what was synced.

What is taken for granted: a call that was never made changed nothing; a sector of 512 bytes is old, new or, where it
was being written, anything; a rename within one folder happens or does not; fsync tells the truth. A folder's entries
are durable only after an fsync of that folder (file systems keep more than that).
"""
