"""What is known of an invitation before there is a code: whom it is for, and the way to the cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from parley.cluster_model import ClusterStatus
from parley.device.profile import check_account_name
from parley.errors import BadInputError
from parley.inviting.invitation_file import MAX_HOSTS, InvitationFile, certificates, to_pem
from parley.inviting.names import check_context_name
from parley.model import Account
from parley.wire.endpoints import parse_endpoints

_DEFAULT_NAME = "parley"


class Asked(Protocol):
    """The methods of ParleyClient that a draft needs."""

    async def cluster_status(self) -> ClusterStatus: ...

    async def list_accounts(self, pattern: str = "") -> tuple[Account, ...]: ...


async def draft_invitation(
    client: Asked, name: str, hosts: Sequence[str], ca: str, cluster: str = ""
) -> InvitationFile:
    """Return an invitation without a code. Nobody is invited by it.

    `hosts` are the addresses in use here, and `ca` is PEM. `cluster` is its name on the other machine; default: that of
    the first host. Raises BadInputError if the account exists, or others on the network could read the password.
    """
    check_account_name(name)
    reachable = await _hosts(client, hosts)
    if not ca and not all(endpoint.is_loopback for endpoint in parse_endpoints(reachable)):
        raise BadInputError(
            "This cluster is used without TLS, or its CA is not known here. Nobody was invited, because others on the "
            "network could read the password. Sign in with the file of the CA first (--ca FILE)."
        )
    if await client.list_accounts(name):
        raise BadInputError(
            f"There is an account {name} already. Nobody was invited. Name another one. Who has that account uses "
            f"it on another machine with: parley login {name}."
        )
    return InvitationFile(cluster or _name_of(reachable[0]), reachable, ca, name, code="", expires_at_ms=0)


def read_ca(path: Path | None) -> str:
    """Return a CA as PEM, without anything else that the file holds; empty without a file. Raises BadInputError."""
    if path is None:
        return ""
    try:
        return to_pem(certificates(path.read_text(encoding="utf-8", errors="replace")))
    except (OSError, ValueError) as error:
        raise BadInputError(f"The CA {path} cannot be put into an invitation: {error}. Nobody was invited.") from error


async def _hosts(client: Asked, here: Sequence[str]) -> tuple[str, ...]:
    """Return the addresses that the nodes give to clients, or those in use here if other machines cannot use them."""
    told = _addresses(await client.cluster_status())
    loopback = all(endpoint.is_loopback for endpoint in parse_endpoints(here))
    elsewhere = tuple(host for host in told if not parse_endpoints([host])[0].is_loopback)
    hosts = elsewhere if loopback and elsewhere else (*here, *(host for host in elsewhere if host not in here))
    return hosts[:MAX_HOSTS]


def _addresses(status: ClusterStatus) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for node in status.nodes:
        for member in node.members:
            try:
                if len(parse_endpoints([member.client_address])) == 1:
                    found[member.client_address] = None
            except BadInputError:
                continue
    return tuple(found)


def _name_of(host: str) -> str:
    name = host.rpartition(":")[0]
    try:
        return check_context_name(name)
    except BadInputError:
        return _DEFAULT_NAME
