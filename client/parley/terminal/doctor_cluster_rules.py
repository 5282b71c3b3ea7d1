"""Rules of `parley cluster doctor` about the cluster as a whole: who answers, who leads, who belongs to it. Pure."""

from collections.abc import Iterator

from parley import NodeStatus
from parley.terminal.doctor_facts import Facts
from parley.terminal.doctor_findings import Finding, critical, note, on_its_machine, warning


def answers(facts: Facts) -> Iterator[Finding]:
    if not facts.answered:
        for node in facts.nodes:
            yield critical(
                text=f"{node.address} does not answer: {node.error}",
                effect="No node answers. What nodes acknowledged is on their disks. Nothing can be sent or read.",
                command="parleyd doctor --config FILE    (on the machine of each node)",
            )
        return
    for member, reason in facts.silent:
        yield warning(
            node=member.name,
            text=f"{member.name} does not answer at {member.client_address or '?'}: {reason}",
            effect="The others have its data. It gets what it missed when it is back.",
            command=on_its_machine(member.name),
        )
    for node in facts.silent_strangers:
        yield note(
            text=f"{node.address} does not answer, and no member has this address: {node.error}",
            effect="The cluster does not need it. Clients lose time when they try it.",
            command="Remove it from the list of hosts.",
        )


def majority(facts: Facts) -> Iterator[Finding]:
    if facts.own and not any(node.serving for node in facts.own):
        yield critical(
            text=f"{facts.voters_up} of {len(facts.voters)} voters answer, and none of them serves.",
            effect="The cluster accepts nothing. What it acknowledged is on disks. Clients keep the rest.",
            command="parleyd start --config FILE    (on the machines of the nodes that do not answer)",
        )


def leader(facts: Facts) -> Iterator[Finding]:
    leaders = [node for node in facts.own if node.role == "leader"]
    for term in sorted({node.term for node in leaders if node.term}):
        names = [node.name for node in leaders if node.term == term]
        if len(names) > 1:
            yield critical(
                text=f"{' and '.join(names)} both lead in term {term}.",
                effect="This must not happen. Data may differ between the nodes.",
                command="Stop all nodes, keep their data directories, and report it.",
            )
    named = {node.leader for node in facts.own if not node.removed}
    if len(named) > 1:
        texts = [f"{node.name} says {node.leader or 'nobody'}" for node in facts.own if not node.removed]
        yield warning(
            text=f"The nodes do not agree who leads: {', '.join(texts)}.",
            effect="During an election this is normal. Nothing acknowledged is lost.",
            command="parley cluster doctor    (again, after ten seconds)",
        )


def spare(facts: Facts) -> Iterator[Finding]:
    if len(facts.voters) >= 3 and facts.voters_up == facts.majority:
        yield warning(
            text=f"{facts.voters_up} of {len(facts.voters)} voters answer, just a majority.",
            effect="If one more stops, the cluster accepts nothing until one is back.",
            command="parley cluster status",
        )


def few_nodes(facts: Facts) -> Iterator[Finding]:
    voters = len(facts.voters)
    if voters in (1, 2):
        yield warning(
            text=f"The cluster has {voters} voter{'s' if voters > 1 else ''}.",
            effect="If its disk fails, everything is lost."
            if voters == 1
            else "If one of them stops, the cluster accepts nothing.",
            command="parley cluster invite-node",
        )
    elif voters and voters % 2 == 0:
        yield note(
            text=f"The cluster has {voters} voters.",
            effect=f"It survives no more failures than {voters - 1} voters would.",
            command="parley cluster invite-node",
        )


def foreign_nodes(facts: Facts) -> Iterator[Finding]:
    for node in facts.answered:
        if node.cluster_id != facts.cluster_id:
            yield critical(
                node=node.name,
                text=f"{node.name} at {node.address} belongs to cluster {node.cluster_id}, not {facts.cluster_id}.",
                effect="It has none of this cluster's data, and clients that reach it are refused.",
                command="Remove its address from the list of hosts.",
            )
    names = {member.name for member in facts.members}
    for node in facts.own:
        if node.removed or (names and node.name not in names):
            yield warning(
                node=node.name,
                text=f"{node.name} at {node.address} runs and is no member of the cluster.",
                effect="It has no vote, and its data grows old.",
                command="parley cluster invite-node    (then start it with an empty data directory)",
            )
        yield from _other_incarnation(facts, node)


def _other_incarnation(facts: Facts, node: NodeStatus) -> Iterator[Finding]:
    """Yield a finding if a node has the name of a member and another id: its data directory is another one."""
    member = next((member for member in facts.members if member.name == node.name), None)
    if member is not None and member.node_id and node.node_id and member.node_id != node.node_id:
        yield critical(
            node=node.name,
            text=f"{node.name} at {node.address} has another data directory than the member {node.name}.",
            effect="The member's vote and log are not there. The node takes no part.",
            command=f"parley cluster remove {node.name}    (then admit the new one: parley cluster add)",
        )


def changes(facts: Facts) -> Iterator[Finding]:
    if any(node.joint for node in facts.own):
        yield note(
            text="A change of the members is in progress.",
            effect="Majorities of the old and of the new members must agree until it ends.",
            command="parley cluster status",
        )
    for member in facts.members:
        if member.learner:
            yield note(
                node=member.name,
                text=f"{member.name} is a learner.",
                effect="It receives everything and has no vote yet.",
                command=f"parley cluster promote {member.name}",
            )


def connections(facts: Facts) -> Iterator[Finding]:
    up = {node.name for node in facts.own}
    for node in facts.own:
        cut = [member.name for member in node.members if not member.connected and member.name in up]
        for name in cut:
            yield warning(
                node=node.name,
                text=f"{node.name} has no connection to {name}, which answers here.",
                effect="If one of them leads, the other gets no entries. The cluster survives less than it seems.",
                command=on_its_machine(node.name),
            )
