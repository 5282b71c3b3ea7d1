"""`make bench`: a real cluster under load, row by row. Start to read in `rows.py`, which lists all that is measured.

rows.py         the table of rows, and which of them a run takes (scale.py: how large they are)
rig.py          a cluster with client processes, and the CPU time that both use
workloads.py    rows that send: throughput, end to end, a queue for an absent receiver
faults.py       rows that kill, stop or replace the leader under a paced sender
footprint.py    rows about start-up, memory, stored messages and idle nodes
growth.py       rows about many accounts, many connections, and the copy of the state
client.py       the client process: runs the devices below for the rig (process.py has both ends of the pipe)
raw_client.py   devices that speak the protocol and do nothing else
sdk_client.py   devices of the SDK, with their durable outbox
inbox.py        what both kinds share: the inbox of a receiver, and the pace of a sender
audit.py        message bodies with numbers, and the check that each arrived once and in order
figures.py      medians, spread, and comparison of pairs
runner.py       runs the rows, alone or in pairs with another checkout (serving.py)
report.py       build/bench.json and the table on the terminal
plots.py        its plots, drawn by charts.py
monitoring.py   `make bench-metrics`: what monitoring costs, in pairs of two clusters
smoke.py        `make bench-smoke`: ratios to a fixed loop (reference.py)
"""
