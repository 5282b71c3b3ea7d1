"""What the combined run found: messages that are lost or doubled, and pauses beyond their bounds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scripts.demo_ledger import account_of
from tests.cluster.paced import TimedSend

NO_STOP_MS = 5_000.0
"""No procedure stops the cluster: no send may take so much longer than the slowest one before."""
NO_WAIT_MS = 300.0
"""The bound of a procedure that the guide promises nobody notices."""


def body_of(sender: str, number: int) -> str:
    """Return the text of one message. `scripts.demo_ledger` counts it by its words."""
    return f"{sender} {number} ."


@dataclass(frozen=True, slots=True)
class Step:
    """One procedure. Times are those of `time.perf_counter`."""

    name: str
    began_s: float
    ended_s: float
    usual_longest_ms: float  # the slowest send of the time before, in which nothing was done
    sends_ms: tuple[float, ...]  # of all sends that were under way during the step
    deliveries_ms: tuple[float, ...]  # from the send to the receiver, of the messages that were received in this time
    bound_ms: float = NO_STOP_MS

    @property
    def seconds(self) -> float:
        return self.ended_s - self.began_s

    @property
    def longest_send_ms(self) -> float:
        return max(self.sends_ms, default=0.0)

    @property
    def more_ms(self) -> float:
        """Return how much longer the slowest send took than the slowest one before."""
        return self.longest_send_ms - self.usual_longest_ms

    def exceeded(self) -> list[str]:
        """Return what is wrong with the step, in words."""
        if not self.sends_ms:
            return [f"{self.name}: nobody sent anything meanwhile, so nothing was shown"]
        if self.more_ms > self.bound_ms:
            return [
                f"{self.name}: a send took {self.longest_send_ms:.0f} ms, {self.more_ms:.0f} ms more than the slowest "
                f"one before. Up to {self.bound_ms:.0f} ms more are allowed"
            ]
        return []


@dataclass(slots=True)
class Books:
    """Who sent what, and who has it."""

    sent: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, list[int]] = field(default_factory=dict)
    shown: dict[str, list[str]] = field(default_factory=dict)  # by receiving device
    stored: dict[str, list[str]] = field(default_factory=dict)  # by node

    def lost_and_doubled(self) -> tuple[int, int]:
        """Return both numbers, summed over all receivers and nodes."""
        accounts = [
            account_of(sender, _by(sender, bodies), self.accepted[sender])
            for bodies in self._all().values()
            for sender in self.sent
        ]
        return sum(one.lost for one in accounts), sum(one.duplicated for one in accounts)

    def faults(self) -> list[str]:
        """Return what is wrong, in words."""
        faults = [
            f"{sender} sent {count} messages, and {count - len(self.accepted[sender])} were not accepted"
            for sender, count in self.sent.items()
            if sorted(self.accepted[sender]) != list(range(1, count + 1))
        ]
        if not self.shown or not self.stored or not any(self.sent.values()):
            faults.append("nothing was sent, received or read back, so nothing was shown")
        for holder, bodies in self._all().items():
            strange = [body for body in bodies if body.split(" ")[0] not in self.sent]
            if strange:
                faults.append(f"{holder} has {len(strange)} messages that nobody sent")
            for sender in self.sent:
                account = account_of(sender, _by(sender, bodies), self.accepted[sender])
                if account.lost or account.duplicated or account.out_of_order or account.strange:
                    faults.append(
                        f"{holder}, from {sender}: {account.lost} lost, {account.duplicated} doubled, "
                        f"{account.out_of_order} out of order, {account.strange} strange"
                    )
        return faults

    def _all(self) -> dict[str, list[str]]:
        return {
            **{f"device {name}": bodies for name, bodies in self.shown.items()},
            **{f"node {name}": bodies for name, bodies in self.stored.items()},
        }


def faults_of_copy(stored: Mapping[str, Sequence[str]], accepted_before: Mapping[str, Iterable[int]]) -> list[str]:
    """Return what is wrong with a restored cluster: of each sender it has the first messages, each once and in order.

    All that were accepted before the backup began are among them.
    """
    faults = []
    for sender, accepted in accepted_before.items():
        bodies = list(stored.get(sender, ()))
        if bodies != [body_of(sender, number) for number in range(1, len(bodies) + 1)]:
            faults.append(f"the restored cluster has messages of {sender} twice, out of order, or with gaps")
        missing = len([number for number in accepted if number > len(bodies)])
        if missing:
            faults.append(f"the restored cluster lacks {missing} messages of {sender} from before the backup")
    return faults


def between(sends: Iterable[TimedSend], began_s: float, ended_s: float) -> tuple[float, ...]:
    """Return how long each send took that was under way between two moments."""
    return tuple(send.took_ms for send in sends if send.began_s <= ended_s and send.accepted_s >= began_s)


def table(steps: Iterable[Step]) -> list[str]:
    """Return the steps as lines to read."""
    lines = [
        f"{'procedure':34} {'took':>8} {'sends':>6} {'longest send':>13} {'before it':>10} {'bound':>9} "
        f"{'longest delivery':>17}"
    ]
    lines += [
        f"{step.name:34} {step.seconds:6.1f} s {len(step.sends_ms):6} {step.longest_send_ms:10.0f} ms "
        f"{step.usual_longest_ms:7.0f} ms {'+' + format(step.bound_ms, '.0f'):>6} ms "
        f"{max(step.deliveries_ms, default=0.0):14.0f} ms"
        for step in steps
    ]
    return lines


def _by(sender: str, bodies: Iterable[str]) -> list[str]:
    return [body for body in bodies if body.startswith(f"{sender} ")]
