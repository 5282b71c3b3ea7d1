"""`parley invite`: what an administrator sends to a new person. invitation_file.py has its form."""

import asyncio
import hashlib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from parley import (
    Administration,
    BadInputError,
    ClusterStatus,
    ParleyClient,
    ParleyError,
    check_account_name,
    parse_endpoints,
)
from parley.terminal import text
from parley.terminal.cluster_admin import SHOWN_OF_ID
from parley.terminal.command_line import with_connection_options
from parley.terminal.commands import note, say
from parley.terminal.contexts import check_context_name
from parley.terminal.invitation_file import MAX_HOSTS, SUFFIX, InvitationFile, certificates, new_file, to_pem
from parley.terminal.json_result import record
from parley.terminal.options import ConnectionOptions
from parley.terminal.signals import Interrupted

_DEFAULT_NAME = "parley"


@with_connection_options
async def invite(
    options: ConnectionOptions,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Suggest this name to the new person.")],
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Write a file *.parley-invite. Default: print a link."),
    ] = None,
    cluster: Annotated[
        str,
        typer.Option(
            "--cluster",
            metavar="NAME",
            help="Give the cluster this name on the other machine. Default: the context, or the first host.",
            show_default=False,
        ),
    ] = "",
    days: Annotated[int, typer.Option("--days", min=1, max=90, help="End the invitation after this many days.")] = 7,
) -> None:
    """Print a link, or write a file, with which a new person joins this cluster: hosts, CA and an invitation.

    The other person opens it with `parley gui` or `parley join`. It is a secret until it is used, and works once.
    """
    options.must_name_account()
    check_account_name(name)
    if cluster:
        check_context_name(cluster)
    path = None if file is None else file if file.name.lower().endswith(SUFFIX) else file.with_name(file.name + SUFFIX)
    if path is not None and path.exists():
        raise BadInputError(f"There is a file {path} already. Nobody was invited. Name another one.")
    ca = _ca_of(options)
    async with options.client() as client:
        hosts = await _hosts(client, options)
        if not ca and not all(endpoint.is_loopback for endpoint in parse_endpoints(hosts)):
            raise BadInputError(
                "This cluster is used without TLS. Nobody was invited, because others on the network could read the "
                "password. Sign in with --ca FILE first."
            )
        if await client.list_accounts(name):
            raise BadInputError(
                f"There is an account {name} already. Nobody was invited. Name another one. Who has that account uses "
                f"it on another machine with: parley login {name}."
            )
        called = cluster or options.context or _name_of(hosts[0])
        draft = InvitationFile(called, hosts, ca, name, code="", expires_at_ms=0)
        made = await make_invitation(await client.administration(), draft, path, days)
        record(
            cluster=called,
            link="" if path else made.to_link(),
            file=str(path or ""),
            expires_at_ms=made.expires_at_ms,
            fingerprints=list(made.fingerprints),
        )
        what, opened = "This link is an invitation.", "parley gui - or parley join -, which read the link from a line"
        if path:
            what, opened = f"{path} was written.", f"parley gui {path.name}, or parley join {path.name}"
        note(
            f"{what} It works once, until {text.time_text(made.expires_at_ms)}. Who has it can join: send it where "
            f"only {name} reads it. It is opened with: {opened}. To take it back: {_to_withdraw(_id_of(made.code))}"
        )
        for one in made.fingerprints:
            note(f"Tell {name} the fingerprint of the CA in another way (SHA-256): {one}")


async def make_invitation(
    administration: Administration, draft: InvitationFile, path: Path | None, days: int
) -> InvitationFile:
    """Make a code, and print or write the invitation with it. If nobody gets it, it is withdrawn.

    The file is made first, so that most of what can be wrong with it is known before there is a code.
    """
    made = draft
    try:
        with nullcontext() if path is None else new_file(path) as fill:
            code, expires_at_ms = await administration.create_invitation(days * 86_400)
            made = replace(draft, code=code, expires_at_ms=expires_at_ms)
            if fill is None:
                say(made.to_link())
            else:
                fill(made)
    except asyncio.CancelledError as error:
        raise error from Interrupted(
            "Interrupted. The cluster may or may not have made an invitation. Nobody has its code. To take it back: "
            "parley cluster invitations shows its id, and then parley cluster invitations --withdraw ID."
        )
    except Exception:
        if made.code:
            await _withdraw(administration, _id_of(made.code))
        raise
    return made


async def _withdraw(administration: Administration, invitation_id: str) -> None:
    """Take back the invitation that nobody got, and say what became of it."""
    try:
        await administration.withdraw_invitation(invitation_id)
        note("The invitation was withdrawn. Nobody was invited.")
    except ParleyError as error:
        note(
            f"The invitation is still valid, and could not be withdrawn: {error.text} Nobody has its code. To take it "
            f"back: {_to_withdraw(invitation_id)}"
        )


def _to_withdraw(invitation_id: str) -> str:
    return f"parley cluster invitations --withdraw {invitation_id[:SHOWN_OF_ID]}"


def _id_of(code: str) -> str:
    """Return the id under which the cluster lists a code."""
    return hashlib.sha256(code.replace("-", "").encode()).hexdigest()


def _ca_of(options: ConnectionOptions) -> str:
    """Return the CA as PEM, without anything else that the file holds."""
    if options.ca is None:
        return ""
    try:
        return to_pem(certificates(options.ca.read_text(encoding="utf-8", errors="replace")))
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"The CA {options.ca} cannot be put into an invitation: {error}. Nobody was invited."
        ) from error


async def _hosts(client: ParleyClient, options: ConnectionOptions) -> tuple[str, ...]:
    """Return the addresses that the nodes give to clients, or those in use here if other machines cannot use them."""
    told = _addresses(await client.cluster_status())
    loopback = all(endpoint.is_loopback for endpoint in parse_endpoints(options.hosts))
    elsewhere = tuple(host for host in told if not parse_endpoints([host])[0].is_loopback)
    hosts = (
        elsewhere if loopback and elsewhere else options.hosts + tuple(h for h in elsewhere if h not in options.hosts)
    )
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
