"""`parley invite`: what an administrator sends to a new person. parley.inviting has its form."""

import asyncio
import os
import shlex
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from parley import (
    Administration,
    BadInputError,
    ParleyError,
    check_account_name,
)
from parley.inviting import SUFFIX, InvitationFile, check_context_name, draft_invitation, new_file, read_ca
from parley.terminal import text
from parley.terminal.cluster_admin import SHOWN_OF_ID
from parley.terminal.command_line import with_connection_options
from parley.terminal.commands import note, say
from parley.terminal.json_result import record
from parley.terminal.options import ConnectionOptions
from parley.terminal.signals import Interrupted

NOBODY = "Nobody was invited."


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
    check_account_name(name)  # before anything is asked or made
    if cluster:
        check_context_name(cluster)
    path = None if file is None else _path_of(file)
    ca = read_ca(options.ca)
    async with options.client() as client:
        draft = await draft_invitation(client, name, options.hosts, ca, cluster or options.context)
        made = await make_invitation(await client.administration(), draft, path, days)
        record(
            cluster=made.cluster,
            link="" if path else made.to_link(),
            file=str(path or ""),
            expires_at_ms=made.expires_at_ms,
            fingerprints=list(made.fingerprints),
        )
        what, opened = "This link is an invitation.", "parley gui - or parley join -, which read the link from a line"
        if path:
            what, opened = f"{path} was written.", _to_open(path.name)
        note(
            f"{what} It works once, until {text.time_text(made.expires_at_ms)}. Who has it can join: send it where "
            f"only {name} reads it. It is opened with: {opened}. To take it back: {_to_withdraw(made.id)}"
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
        with nullcontext() if path is None else new_file(path, NOBODY) as fill:
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
            await _withdraw(administration, made.id)
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


def _path_of(file: Path) -> Path:
    """Return the name with its ending. Raises BadInputError if it is none, or in use."""
    if file.name in ("", ".."):
        raise BadInputError(f"'{file}' is a folder. {NOBODY} Name a file.")
    path = file if file.name.lower().endswith(SUFFIX) else file.with_name(file.name + SUFFIX)
    if os.path.lexists(path):  # exists() raises for a name that is too long
        raise BadInputError(f"There is a file {path} already. {NOBODY} Name another one.")
    return path


def _to_open(name: str) -> str:
    """Return the commands that open the file of this name in a folder of the other machine."""
    word = shlex.quote(f"./{name}" if name.startswith("-") else name)
    return f"parley gui {word}, or parley join {word}"


def _to_withdraw(invitation_id: str) -> str:
    return f"parley cluster invitations --withdraw {invitation_id[:SHOWN_OF_ID]}"
