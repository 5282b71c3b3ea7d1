"""Three nodes that agree, as the SDK tells of them: n1 leads, all are of one release."""

from parley import ClusterMember, NodeStatus

MEMBERS = tuple(
    ClusterMember(f"n{i}", i, f"127.0.0.{i + 1}:7600", f"n{i}:7700", True, True, min_level=2, max_level=3)
    for i in (1, 2, 3)
)
N1, N2, N3 = (
    NodeStatus(
        member.client_address,
        name=member.name,
        role="leader" if member.name == "n1" else "follower",
        leader="n1",
        term=7,
        commit_index=1200,
        applied_index=1200,
        serving=True,
        version="0.9.0",
        members=MEMBERS,
        level=3,
        min_level=2,
        max_level=3,
    )
    for member in MEMBERS
)
