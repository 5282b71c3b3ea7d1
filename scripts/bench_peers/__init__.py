"""`make bench-peers`: the workloads of `make bench` on NATS JetStream, etcd and RabbitMQ, and their ratios to Parley.

peer.py           what a peer is: its servers, and its clients
nats_peer.py, etcd_peer.py, rabbitmq_peer.py    one peer each
etcd_wire.py      the few messages of etcd's API that its clients need
servers.py        three processes of a peer on loopback, with ports and folders of their own
client.py         the client process; sending.py keeps messages in flight, arrivals.py counts what a receiver got
workloads.py      the rows
run.py            measures all rows of one system after another, Parley first
report.py         build/bench_peers.json and the table on the terminal
install.sh        the Debian packages and the Python clients

A peer acknowledges what its protocol calls accepted. Whether it syncs before that is its own, and stands in the report.
"""
