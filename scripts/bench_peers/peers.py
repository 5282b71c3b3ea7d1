"""The table of peers."""

from __future__ import annotations

from scripts.bench_peers.etcd_peer import EtcdPeer
from scripts.bench_peers.nats_peer import NatsPeer
from scripts.bench_peers.peer import Peer
from scripts.bench_peers.rabbitmq_peer import RabbitmqPeer

PEERS: tuple[type[Peer], ...] = (NatsPeer, EtcdPeer, RabbitmqPeer)
