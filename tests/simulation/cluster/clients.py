"""Simulated people: each has an account and a device, sends, receives and reads, and moves when nobody answers.

A client does what the SDK does: it numbers its sends, keeps several on their way, repeats what was not answered, at
another server if need be, and never uses a number twice. A server that does not lead passes commands on to the leader,
over the same bad network as everything else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.group.proposals import AppliedCommands
from parleyd.machine.features import waiting
from parleyd.machine.features.memberships import EVERYONE_ID
from parleyd.machine.reader import StateReader
from parleyd.raft.types import NO_NODE, NodeId
from tests.simulation.cluster.checker import require

if TYPE_CHECKING:
    from tests.simulation.cluster.server import Answer, SimulatedServer
    from tests.simulation.cluster.simulation import Simulation

PATIENCE_MS = 700
PATIENCE_HEALED_MS = 100
MAX_UNANSWERED = 8
TO_EVERYONE = 0.1
PAGE = 16
NEVER_EXPIRES_MS = 1 << 62
CHANGED_OR_REFUSED = {
    pb.RESULT_CODE_OK,
    pb.RESULT_CODE_NO_SUCH_CONVERSATION,
    pb.RESULT_CODE_NOT_A_MODERATOR,
    pb.RESULT_CODE_LAST_OWNER,
}


class Client:
    """One device of one account. `at` is the server it talks to; `cursor` is up to where it has received."""

    def __init__(self, world: Simulation, number: int) -> None:
        self.world = world
        self.number = number
        self.rng = random.Random(f"client/{world.plan.seed}/{number}")
        # Of its own, so that the rest of a seed's run stays what it was.
        self.everyone_rng = random.Random(f"everyone/{world.plan.seed}/{number}")
        self.mutes_rng = random.Random(f"mutes/{world.plan.seed}/{number}")
        self.name = f"client{number}"
        self.device = bytes(15) + bytes([number])
        self.at = NodeId(1 + number % world.plan.voters)
        self.account_id = 0
        self.session_id = 0
        self.cursor = 0
        self.received: list[int] = []
        self.removed: dict[int, int] = {}  # what the device was told: conversation, up to which message
        self.last_number = 0
        self.unanswered: dict[int, model_pb2.Send] = {}
        self.new_channel: pb.Command | None = None
        self.is_sending = True
        self.reads_asked = 0
        self.reads_answered = 0
        self._asked_at = 0

    # Getting in

    def start(self) -> None:
        """Register, log in, and go on from there; each step is repeated until it is answered."""
        self._step_in()
        if not self.session_id:
            self.world.after(NodeId(0), PATIENCE_MS, self._try_elsewhere)

    def _try_elsewhere(self) -> None:
        self._move()
        self.start()

    def _step_in(self) -> None:
        command = self._next_step_in()
        if command is not None:
            self._submit([command], self._got_in)

    def _next_step_in(self) -> pb.Command | None:
        if not self.account_id:
            request = pb.RegisterAccount(name=self.name, password_hash=b"h", request_id=self.device)
            return pb.Command(register_account=request)
        if not self.session_id:
            return pb.Command(
                open_session=pb.OpenSession(
                    account_id=self.account_id,
                    password_hash=b"h",
                    token_digest=self.device * 2,
                    device_id=self.device,
                    expires_at_ms=NEVER_EXPIRES_MS,
                )
            )
        return None

    def _got_in(self, applied: AppliedCommands) -> None:
        [result] = applied.results
        require(result.code == pb.RESULT_CODE_OK, f"{self.name} cannot get in: {result}")
        if not self.account_id:
            self.account_id = result.register_account.account_id
            self.world.accounts[self.name] = self.account_id
            self._step_in()
        elif result.open_session.session_id and not self.session_id:
            self.session_id = result.open_session.session_id
            plan = self.world.plan
            self._every(plan.send_every_ms, self._send_one)
            self._every(PATIENCE_MS // 3, self._look_after_unanswered)
            self._every(plan.read_every_ms, self._read)
            self._every(plan.read_every_ms * 2, self._receive)
            self._every(PATIENCE_MS, self._make_channel)
            if plan.channel_changes:
                self._every(PATIENCE_MS, self._change_channel)
            if plan.mutes:
                self._every(PATIENCE_MS, self._mute, self.mutes_rng)

    def _every(self, interval_ms: int, action: Callable[[], None], rng: random.Random | None = None) -> None:
        """Repeat `action` at random intervals of this mean; in a healed world nobody dawdles."""
        draws = rng or self.rng

        def again() -> None:
            action()
            plan_next()

        def plan_next() -> None:
            mean_ms = min(interval_ms, 50) if self.world.network.is_healed else interval_ms
            self.world.after(NodeId(0), draws.randint(1, 2 * mean_ms), again)

        plan_next()

    # Sending

    def _send_one(self) -> None:
        if not self.is_sending or len(self.unanswered) >= MAX_UNANSWERED:
            return
        self.last_number += 1
        body = f"{self.name}:{self.last_number}" + "." * self.rng.choice((0, 10, 60))
        if not self.unanswered:
            self._asked_at = self.world.now
        send = self._addressed(model_pb2.Send(number=self.last_number, body=body))
        self.world.ledger.sent((self.device, self.last_number), self.account_id, send)
        self.unanswered[self.last_number] = send
        self._submit_sends([self.last_number])

    def _addressed(self, send: model_pb2.Send) -> model_pb2.Send:
        """Fix the target, once for all retries: an account by name or by id, or a channel that this client is in."""
        name = self.rng.choice(sorted(self.world.accounts))
        channels = self.world.ledger.channels_of(self.account_id)
        match self.rng.choice(("name", "id", "channel")):
            case "channel" if channels:
                send.conversation_id = self.rng.choice(channels)
            case "id":
                send.account_id = self.world.accounts[name]
            case _:
                send.account_name = name
        if self._writes_to_all() and self.everyone_rng.random() < TO_EVERYONE:
            send.conversation_id = EVERYONE_ID
        return send

    def _writes_to_all(self) -> bool:
        """Whether there are messages to everyone: from then on, when every account reads them."""
        return self.world.plan.channel_changes and len(self.world.accounts) == len(self.world.clients)

    def _make_channel(self) -> None:
        """Make one channel with some of the others; repeat it, unchanged, until it is answered."""
        if self.new_channel is None:
            others = [account_id for name, account_id in self.world.accounts.items() if name != self.name]
            members = self.rng.sample(sorted(others), self.rng.randint(0, len(others)))
            channel = pb.CreateChannel(
                session_id=self.session_id, title=f"of {self.name}", members=members, request_id=self.device
            )
            self.new_channel = pb.Command(create_channel=channel)
        if not self.world.ledger.has_channel_of(self.account_id):
            self._submit([self.new_channel], self._channel_made)

    def _channel_made(self, applied: AppliedCommands) -> None:
        [result] = applied.results
        require(result.code == pb.RESULT_CODE_OK, f"{self.name} may not make a channel: {result}")
        assert self.new_channel is not None
        members = {self.account_id, *self.new_channel.create_channel.members}
        self.world.ledger.channel_made(self.account_id, result.create_channel.conversation_id, members)

    def _change_channel(self) -> None:
        """Join or leave any channel, or change one's own. It may happen later than the answer is awaited, or never."""
        channels = sorted(self.world.ledger.channels.values())
        if not channels:
            return
        about: dict[str, Any] = {"session_id": self.session_id, "conversation_id": self.rng.choice(channels)}
        others = [self.rng.choice(sorted(self.world.accounts.values()))]
        join, add = pb.JoinChannel(**about), pb.AddMembers(**about, members=others)
        command = self.rng.choice(
            [
                # Twice as often, because most who leave could come back.
                *[pb.Command(join_channel=join), pb.Command(add_members=add)] * 2,
                pb.Command(leave_channel=pb.LeaveChannel(**about)),
                pb.Command(remove_members=pb.RemoveMembers(**about, members=others)),
                pb.Command(change_channel=pb.ChangeChannel(**about, public=self.rng.random() < 0.8)),
            ]
        )
        self._submit([command], self._channel_changed)

    def _channel_changed(self, applied: AppliedCommands) -> None:
        [result] = applied.results
        self.world.counters["channel-" + pb.ResultCode.Name(result.code)[12:].lower()] += 1
        require(result.code in CHANGED_OR_REFUSED, f"{self.name}'s change of a channel ends with {result}")

    def _mute(self) -> None:
        """Mute a conversation, or end that.

        A client wants the same for a conversation for ever, so an old command that arrives late changes nothing.
        """
        conversation_id = self.mutes_rng.choice(sorted({*self.world.ledger.created, EVERYONE_ID}))
        muted = (conversation_id + self.number) % 3 > 0

        def answered(applied: AppliedCommands) -> None:
            [result] = applied.results
            if result.code == pb.RESULT_CODE_NO_SUCH_CONVERSATION:
                self.world.ledger.was_not_muted(conversation_id, self.account_id)
                return
            require(result.code == pb.RESULT_CODE_OK, f"{self.name} may not mute {conversation_id}: {result}")
            self.world.ledger.was_muted(conversation_id, self.account_id, muted=muted)

        command = pb.SetMuted(session_id=self.session_id, conversation_id=conversation_id, muted=muted)
        if muted:
            self.world.ledger.mutes_asked.add((conversation_id, self.account_id))
        self._submit([pb.Command(set_muted=command)], answered)

    def _look_after_unanswered(self) -> None:
        """Repeat everything that is unanswered, in order, after a while; elsewhere if nobody answers here."""
        patience_ms = PATIENCE_HEALED_MS if self.world.network.is_healed else PATIENCE_MS
        if self.unanswered and self.world.now - self._asked_at > patience_ms:
            self._asked_at = self.world.now
            self.world.counters["send-repeated"] += 1
            if self.rng.random() < 0.7:
                self._move()
            self._submit_sends(list(self.unanswered))

    def _submit_sends(self, numbers: Sequence[int]) -> None:
        sends = [self.unanswered[number] for number in numbers]
        command = pb.Command(send_messages=pb.SendMessages(session_id=self.session_id, sends=sends))
        self._submit([command], self._sends_answered)

    def _sends_answered(self, applied: AppliedCommands) -> None:
        [result] = applied.results
        require(result.code in (pb.RESULT_CODE_OK, pb.RESULT_CODE_GAP), f"{self.name} may not send: {result}")
        for send in result.send_messages.sends:
            if send.code == pb.RESULT_CODE_OK:
                self.world.ledger.was_acknowledged((self.device, send.number), send.message_id, applied.index)
                if self.unanswered.pop(send.number, None) is not None:
                    self._asked_at = self.world.now
            elif send.code == pb.RESULT_CODE_NO_SUCH_CONVERSATION and self.world.plan.channel_changes:
                self.world.ledger.was_refused((self.device, send.number))
                if self.unanswered.pop(send.number, None) is not None:
                    self._asked_at = self.world.now
            else:
                require(send.code == pb.RESULT_CODE_GAP, f"{self.name}'s send {send.number} is refused: {send}")
                self.world.counters["send-gap"] += 1

    # Receiving and reading

    def _receive(self) -> None:
        """Take the next messages from the server it talks to, which may lag behind."""
        server = self._server()
        if server is None:
            self._move()
            return
        reader = StateReader(server.disk.state_connection)
        page = waiting.queued_page(reader, self.account_id, self.cursor, PAGE, exclude_device_id=self.device)
        for conversation_id, up_to in page.removed:
            self.removed[conversation_id] = max(self.removed.get(conversation_id, 0), up_to)
        for message in page.messages:
            require(message.id > self.cursor, f"{self.name} is handed {message.id} again after {self.cursor}")
            is_removed = message.id <= self.removed.get(message.conversation_id, 0)
            require(not is_removed, f"{self.name} is handed {message.id}, which its account has removed")
            self.received.append(message.id)
        self.world.counters["received"] += len(page.messages)
        require(page.up_to >= self.cursor, f"the cursor of {self.name} goes back to {page.up_to}")
        if page.up_to > self.cursor:
            self.cursor = page.up_to
            mark = pb.MarkDelivered(session_id=self.session_id, up_to=self.cursor)
            self._submit([pb.Command(mark_delivered=mark)], lambda applied: None)
            if page.messages:
                self._mark_read(page.messages[-1].conversation_id, page.messages[-1].id)
                if self.world.plan.puts_away:
                    self._put_away(page.messages[-1].conversation_id, page.messages[-1].id)
                if self.world.plan.removes:
                    self._remove(page.messages[-1].conversation_id, page.messages[-1].id)
        elif self.rng.random() < 0.3:  # nothing new: this server may be one that never hears of anything again
            self._move()

    def _mark_read(self, conversation_id: int, up_to: int) -> None:
        def marked(applied: AppliedCommands) -> None:
            [result] = applied.results
            if result.code == pb.RESULT_CODE_NO_SUCH_CONVERSATION and self.world.plan.channel_changes:
                self.world.ledger.was_out_of(conversation_id, self.account_id)
                return
            require(result.code == pb.RESULT_CODE_OK, f"{self.name} may not read {conversation_id}: {result}")
            self.world.ledger.was_marked_read(conversation_id, self.account_id, up_to)

        mark = pb.MarkRead(session_id=self.session_id, conversation_id=conversation_id, up_to=up_to)
        self._submit([pb.Command(mark_read=mark)], marked)

    def _put_away(self, conversation_id: int, up_to: int) -> None:
        """Put away what was received. Nobody brings it back, so an old command that arrives late changes nothing."""

        def answered(applied: AppliedCommands) -> None:
            [result] = applied.results
            require(result.code == pb.RESULT_CODE_OK, f"{self.name} may not put {conversation_id} away: {result}")
            self.world.ledger.was_put_away(conversation_id, self.account_id, up_to)

        self.world.ledger.put_away_asked.add((conversation_id, self.account_id, up_to))
        command = pb.SetPutAway(session_id=self.session_id, conversation_id=conversation_id, up_to=up_to)
        self._submit([pb.Command(set_put_away=command)], answered)

    def _remove(self, conversation_id: int, up_to: int) -> None:
        """Remove what was received. An old command that arrives late changes nothing."""

        def answered(applied: AppliedCommands) -> None:
            [result] = applied.results
            require(result.code == pb.RESULT_CODE_OK, f"{self.name} may not remove {conversation_id}: {result}")
            now = result.remove_conversation.removed_up_to
            require(now >= up_to, f"{conversation_id} is removed up to {now}, and {self.name} asked for {up_to}")
            self.world.ledger.was_removed(conversation_id, self.account_id, now)

        self.world.ledger.removals_asked.add((conversation_id, self.account_id, up_to))
        command = pb.RemoveConversation(session_id=self.session_id, conversation_id=conversation_id, up_to=up_to)
        self._submit([pb.Command(remove_conversation=command)], answered)

    def _read(self) -> None:
        """A linearizable read at the server it talks to."""
        server = self._server()
        if server is None:
            self._move()
            return
        ledger = self.world.ledger
        floor_index, floor_id = ledger.checker.acknowledged_up_to, ledger.newest_acknowledged
        self.reads_asked += 1

        def answer() -> None:
            query = "SELECT applied_index, last_message_id FROM meta"
            rows = server.disk.state_connection.execute(query).fetchall()
            [(index, last_message_id)] = cast("list[tuple[int, int]]", rows)
            ledger.was_read(floor_index, index, last_message_id, floor_id)
            self.reads_answered += 1

        server.read(answer)
        if self.rng.random() < 0.2:
            self._move()

    # Talking to servers

    def _server(self) -> SimulatedServer | None:
        server = self.world.servers[self.at]
        return server if server.is_up and not server.paused_until > self.world.now else None

    def _move(self) -> None:
        """Talk to another server from now on; it may be one that is no member any more."""
        servers = sorted(self.world.servers)
        if self.world.network.is_healed:  # in turn: chance alone might never lead to one that answers
            self.at = servers[(servers.index(self.at) + 1) % len(servers)]
        else:
            self.at = self.rng.choice(servers)
        self.world.counters["client-moved"] += 1

    def _submit(self, commands: Sequence[pb.Command], then: Callable[[AppliedCommands], None]) -> None:
        """Have commands applied; `then` is called if an answer comes, perhaps more than once."""
        world = self.world

        def answered(answer: Answer) -> None:
            world.client_link(lambda: self._settled(answer, len(commands), then))

        world.client_link(partial(world.when_awake, self.at, partial(self._arrive, self.at, commands, answered)))

    def _settled(self, answer: Answer, count: int, then: Callable[[AppliedCommands], None]) -> None:
        if isinstance(answer, AppliedCommands):
            require(len(answer.results) == count, f"{self.name} is given {len(answer.results)} results for {count}")
            then(answer)
        else:
            self.world.counters["answer-" + answer.value] += 1

    def _arrive(self, node: NodeId, commands: Sequence[pb.Command], answered: Callable[[Answer], None]) -> None:
        """The server that the client talks to proposes, or passes on to the leader it knows (CommandRouter)."""
        world = self.world
        server = world.servers[node]
        if not server.is_up:
            return
        if server.is_leader:
            server.propose(commands, answered)
            return
        leader = server.raft.leader
        if leader == NO_NODE or leader not in world.servers:
            return
        world.counters["forwarded"] += 1
        life = server.life

        def back(answer: Answer) -> None:
            def tell() -> None:
                if server.life == life:
                    answered(answer)

            world.transmit(leader, node, tell)

        world.transmit(node, leader, lambda: world.servers[leader].propose(commands, back))
