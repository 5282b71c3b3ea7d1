"""What each kind of fault does to the world, and what an operator does about it.

Faults keep to what Parley promises to survive: of the disks of a membership a minority may be lost at a time, and none
while a change of the members is on its way. Whatever a fault began ends after its time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import apsw

from parleyd.group.proposals import AppliedCommands
from parleyd.membership.rules import AddMember, MembershipRequest, PromoteMember, RawChange, RemoveMember
from parleyd.raft.membership import (
    ConfChange,
    ConfChangeType,
    SingleChange,
    Transition,
    members_of,
)
from parleyd.raft.types import NodeId
from tests.simulation.cluster.disk import member_row
from tests.simulation.cluster.network import draw_partition
from tests.simulation.cluster.plan import Fault

if TYPE_CHECKING:
    from tests.simulation.cluster.server import Answer, SimulatedServer
    from tests.simulation.cluster.simulation import Simulation

CARE_EVERY_MS = 250
YEAR_MS = 365 * 86_400_000


class Faults:
    """Carries out a plan's faults, and cares for servers that were added or lost."""

    def __init__(self, world: Simulation) -> None:
        self._world = world
        self._goals: dict[NodeId, int] = {}
        self._newcomers: list[NodeId] = []
        self._doomed: list[NodeId] = []
        self._actions: dict[str, Callable[[Fault, random.Random], bool]] = {
            "crash": self._crash,
            "crash-in-step": self._crash_in_step,
            "crash-in-install": self._crash_in_install,
            "power-loss": self._power_loss,
            "pause": self._pause,
            "partition": self._partition,
            "silence": self._silence,
            "stall": self._stall,
            "write-error": self._write_error,
            "disk-full": self._disk_full,
            "bit-rot": self._bit_rot,
            "misdirected-write": self._misdirected_write,
            "wiped-directory": self._wiped_directory,
            "clock-jump": self._clock_jump,
            "broken-connection": self._broken_connection,
            "transfer": self._transfer,
            "add": self._add,
            "remove": self._remove,
            "change": self._change,
        }

    def plan(self) -> None:
        """Put all faults on the world's calendar."""
        for fault in self._world.plan.faults:
            self._world.after(NodeId(0), fault.at_ms, partial(self._happen, fault))
        self._world.after(NodeId(0), CARE_EVERY_MS, self._care)

    def _happen(self, fault: Fault) -> None:
        if self._world.network.is_healed:
            return
        if self._actions[fault.kind](fault, random.Random(fault.pick)):
            self._world.faults[fault.kind] += 1

    # Whom it hits

    def _someone(self, rng: random.Random) -> SimulatedServer | None:
        """A server that is up; often the leader."""
        leaders = [server for server in self._world.up() if server.is_leader]
        choice = leaders if leaders and rng.random() < 0.4 else self._world.up()
        return rng.choice(choice) if choice else None

    def _leader(self) -> SimulatedServer | None:
        """Who answers an operator: the newest leader that is awake."""
        now = self._world.now
        leaders = [server for server in self._world.up() if server.is_leader and server.paused_until <= now]
        return max(leaders, key=lambda server: server.raft.term) if leaders else None

    # Processes

    def _crash(self, fault: Fault, rng: random.Random) -> bool:
        return self._kill(fault, rng, power=False)

    def _power_loss(self, fault: Fault, rng: random.Random) -> bool:
        return self._kill(fault, rng, power=True)

    def _kill(self, fault: Fault, rng: random.Random, *, power: bool) -> bool:
        world = self._world
        first = self._someone(rng)
        if first is None:
            return False
        hit = world.up() if rng.random() < 0.1 else [first]
        for server in hit:
            server.die("power is lost" if power else "killed", power=power)
            world.after(NodeId(0), fault.for_ms, partial(world.start, server))
        if rng.random() < 0.5 and not power:  # the others' connections to it break at once, or they have to time out
            for other in world.up():
                delay_ms = rng.randint(1, 5)
                for server in hit:
                    world.after(other.node, delay_ms, partial(other.peer_lost, server.node))
        return True

    def _crash_in_step(self, fault: Fault, rng: random.Random) -> bool:
        server = self._someone(rng)
        if server is None or server.dies_after is not None:
            return False
        server.dies_after = rng.randint(0, 12)
        return False  # counted when it happens

    def _crash_in_install(self, fault: Fault, rng: random.Random) -> bool:
        """Whoever installs a snapshot next dies when it has replaced the state and not yet the log."""
        self._world.next_install_dies = True
        return False  # counted when it happens

    def _pause(self, fault: Fault, rng: random.Random) -> bool:
        server = self._someone(rng)
        if server is None:
            return False
        if server.is_leader:
            self._world.counters["leader-paused"] += 1
        server.paused_until = self._world.now + fault.for_ms
        self._world.note(f"{server.node} is paused for {fault.for_ms} ms")
        return True

    def _clock_jump(self, fault: Fault, rng: random.Random) -> bool:
        server = rng.choice(list(self._world.servers.values()))
        jump_ms = rng.choice((-1, 1)) * rng.randint(1, rng.choice((1_000, 3_600_000, 10 * YEAR_MS)))
        server.clock_offset_ms += jump_ms
        server.furthest_offset_ms = max(server.furthest_offset_ms, server.clock_offset_ms)
        self._world.note(f"the clock of {server.node} jumps by {jump_ms} ms")
        return True

    # Network

    def _partition(self, fault: Fault, rng: random.Random) -> bool:
        world = self._world
        name, cut = draw_partition(rng, [int(node) for node in world.servers])
        if not cut:
            return False
        world.network.blocked = cut
        world.note(f"partition: {name}")
        world.counters["partition-" + name.split(" [")[0].replace(" ", "-")] += 1

        def join() -> None:
            if world.network.blocked is cut:
                world.network.blocked = frozenset()
                world.note("links are joined")

        world.after(NodeId(0), fault.for_ms, join)
        return True

    def _silence(self, fault: Fault, rng: random.Random) -> bool:
        world, server = self._world, self._someone(rng)
        if server is None:
            return False
        node = int(server.node)
        if server.is_leader:
            world.counters["leader-silent"] += 1
        world.network.silent.add(node)
        world.note(f"{node} is not heard any more")
        world.after(NodeId(0), fault.for_ms, lambda: world.network.silent.discard(node))
        return True

    def _broken_connection(self, fault: Fault, rng: random.Random) -> bool:
        followers = [server for server in self._world.up() if not server.is_leader]
        if not followers:
            return False
        server = rng.choice(followers)
        server.peer_lost(server.raft.leader)
        return True

    # Disks

    def _stall(self, fault: Fault, rng: random.Random) -> bool:
        server = self._someone(rng)
        if server is None:
            return False
        server.disk.stalled_until = self._world.now + fault.for_ms
        self._world.note(f"the disk of {server.node} hangs for {fault.for_ms} ms")
        return True

    def _write_error(self, fault: Fault, rng: random.Random) -> bool:
        server = self._someone(rng)
        if server is None:
            return False
        server.disk.next_error = apsw.IOError
        return True

    def _disk_full(self, fault: Fault, rng: random.Random) -> bool:
        server = self._someone(rng)
        if server is None:
            return False
        disk = server.disk
        disk.is_full = True

        def make_room() -> None:
            disk.is_full = False

        self._world.after(NodeId(0), fault.for_ms, make_room)
        return True

    def _bit_rot(self, fault: Fault, rng: random.Random) -> bool:
        return self._damage(lambda server: server.disk.rot(rng), rng)

    def _misdirected_write(self, fault: Fault, rng: random.Random) -> bool:
        return self._damage(lambda server: server.disk.misdirect(rng), rng)

    def _damage(self, damage: Callable[[SimulatedServer], str], rng: random.Random) -> bool:
        """Damage is seen at the next start, which comes soon."""
        server = self._victim(rng)
        if server is None:
            return False
        was_up = server.is_up
        if was_up:
            server.die("killed, and its disk altered")
        what = damage(server)
        self._world.note(f"the disk of {server.node} is altered: {what or 'nothing to alter'}")
        if was_up:
            self._world.after(NodeId(0), 50, partial(self._world.start, server))
        return bool(what)

    def _wiped_directory(self, fault: Fault, rng: random.Random) -> bool:
        """An empty directory is another server: the old one never comes back, the new one asks to join."""
        server = self._victim(rng)
        if server is None:
            return False
        if server.is_up:
            server.die("its directory is wiped")
        server.disk.is_lost = True
        server.is_broken = "wiped"
        return True

    def _victim(self, rng: random.Random) -> SimulatedServer | None:
        """A voter whose disk may be lost: a minority at most, and no change of the members under way."""
        world = self._world
        conf = world.membership
        lost = [node for node in conf.voters if world.servers[node].disk.is_lost]
        if conf.voters_outgoing or 2 * (len(lost) + 1) >= len(conf.voters) or world.change_is_under_way():
            return None
        sound = [world.servers[node] for node in conf.voters if node not in lost]
        return rng.choice(sound)

    # What operators do

    def _transfer(self, fault: Fault, rng: random.Random) -> bool:
        leader = self._leader()
        if leader is None:
            return False
        world = self._world
        if world.network.blocked:
            world.counters["transfer-in-partition"] += 1
        if world.is_joint():
            world.counters["transfer-in-joint-membership"] += 1
        target = rng.choice(sorted(world.servers))
        leader.transfer_leadership(target)
        return True

    def _add(self, fault: Fault, rng: random.Random) -> bool:
        self._newcomers.append(self._world.add_server())
        return True

    def _remove(self, fault: Fault, rng: random.Random) -> bool:
        members = [node for node in members_of(self._world.membership) if node not in self._doomed]
        if len(members) < 2 or self._some_disk_is_lost():
            return False
        self._doomed.append(rng.choice(members))
        return True

    def _some_disk_is_lost(self) -> bool:
        world = self._world
        return any(world.servers[node].disk.is_lost for node in members_of(world.membership))

    def _change(self, fault: Fault, rng: random.Random) -> bool:
        """Any change that the core takes, several servers at once and joint ones included."""
        world = self._world
        if len(world.servers) < world.plan.voters + 2 and rng.random() < 0.5:
            world.add_server()
        kinds = list(ConfChangeType)
        nodes = sorted(world.servers)
        count = rng.choice((0, 1, 1, 1, 2, 3))
        changes = tuple(SingleChange(rng.choice(kinds), rng.choice(nodes)) for _ in range(count))
        transition = rng.choice(list(Transition)) if count else Transition.AUTO
        change = ConfChange(changes, transition)
        server = self._leader() if rng.random() < 0.85 else self._someone(rng)
        return server is not None and server.change(RawChange(change))

    # Care: what takes several tries

    def _care(self) -> None:
        """Add who waits, promote who has caught up, remove who is to go or was lost, leave a joint membership."""
        world = self._world
        world.after(NodeId(0), CARE_EVERY_MS, self._care)
        leader = self._leader()
        if leader is None:
            return
        if world.plan.raw_changes:
            conf = leader.raft.conf_state
            if world.network.is_healed and conf.voters_outgoing and not conf.auto_leave:
                leader.change(RawChange(ConfChange()))
            return
        members = leader.members()
        self._newcomers = [node for node in self._newcomers if node not in members.rows]
        self._doomed = [node for node in self._doomed if node in members.rows]
        for node in members.removed:
            if not world.servers[node].is_removed:
                leader.propose((), partial(self._removed_for_good, leader, node))
        self._change_one(leader)

    def _removed_for_good(self, leader: SimulatedServer, node: NodeId, answer: Answer) -> None:
        """The operator was told (MembershipChangeExecutor): the removed server may be destroyed now, or go on."""
        world, server = self._world, self._world.servers[node]
        if not isinstance(answer, AppliedCommands) or server.is_removed:
            return
        server.is_removed = True
        if world.rng.random() < 0.5:
            world.after(NodeId(0), 0, partial(self._destroy, server, leader))

    def _destroy(self, server: SimulatedServer, leader: SimulatedServer) -> None:
        """Now nobody may need the removed server any more, not even if the leader that told of it dies at once."""
        world = self._world
        if server.is_up:
            server.die("removed, and destroyed")
        server.is_broken = "destroyed"
        world.counters["removed-server-destroyed"] += 1
        if leader.is_up and world.rng.random() < 0.5 and not world.network.is_healed:
            world.faults["power-loss"] += 1
            leader.die("power is lost right after it told of a removal", power=True)
            world.restart_later(leader)

    def _change_one(self, leader: SimulatedServer) -> None:
        """Try what is wanted until the leader takes something; who is lost is replaced before anybody else may go."""
        world = self._world
        members, conf = leader.members(), leader.raft.conf_state
        lost = [node for node in members.rows if world.servers[node].is_broken]
        for node in lost:
            if node not in self._doomed:
                self._doomed.append(node)
                self._newcomers.append(world.add_server())
                world.counters["lost-server-replaced"] += 1
        requests: list[MembershipRequest] = [
            RemoveMember(f"n{node}", self._who_answers(leader)) for node in self._doomed if node in lost or not lost
        ]
        requests.extend(AddMember(member_row(node)) for node in self._newcomers)
        requests.extend(
            PromoteMember(f"n{node}")
            for node in conf.learners
            if node not in self._doomed and self._has_caught_up(leader, node)
        )
        for request in requests:
            if leader.is_up and leader.change(request):
                return

    def _who_answers(self, leader: SimulatedServer) -> frozenset[NodeId]:
        servers = self._world.servers
        return frozenset(
            other
            for other, known in leader.raft.status().progress.items()
            if other == leader.node or (known.recent_active and servers[other].is_up)
        )

    def _has_caught_up(self, leader: SimulatedServer, node: NodeId) -> bool:
        """Whether it has received what the log held when it was last looked at (thesis §4.2.1)."""
        progress = leader.raft.status().progress.get(node)
        goal = self._goals.get(node)
        self._goals[node] = leader.raft.status().last_index
        return goal is not None and progress is not None and progress.match_index >= goal
