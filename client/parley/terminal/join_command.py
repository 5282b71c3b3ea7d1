"""`parley join`: become a member of a channel, or of a cluster with an invitation. `parley gui` begins in the same way.

An invitation replaces no hosts and no CA of a context. So a link of somebody else cannot send messages for a known
cluster to another one.
"""

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from parley import BadInputError, OutcomeUnknownError, ParleyError, StateDirectory, read_private, replace_private
from parley.inviting import InvitationFile, fingerprints, is_invitation, read_invitation
from parley.terminal import channel_commands, commands, text
from parley.terminal.command_line import PasswordStdin, with_connection_options
from parley.terminal.commands import note
from parley.terminal.completion import complete_channel
from parley.terminal.contexts import Context, Contexts
from parley.terminal.json_result import record
from parley.terminal.options import ConnectionOptions

FOLDER = "authorities"
MAX_CA_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Joining:
    """What an invitation means on this machine. `offered` is None if its account is in use here already.

    `brought_ca` is the file with the CA, if there was none before.
    """

    name: str
    context: Context
    options: ConnectionOptions
    invitation: InvitationFile
    offered: InvitationFile | None
    brought_ca: Path | None

    @property
    def about(self) -> str:
        """Return what a person has to see before giving a password to these hosts, besides the fingerprints."""
        shown = ", ".join(self.context.hosts[:3]) + (" ..." if len(self.context.hosts) > 3 else "")
        until = text.time_text(self.invitation.expires_at_ms)
        compare = (
            "Compare the fingerprint of its CA (SHA-256) with what you were told:"
            if self.invitation.ca
            else "It is a cluster on this machine, without TLS."
        )
        return f"Invitation to {self.name} ({shown}), valid once, until {until}. {compare}"

    def keep(self, account: str) -> None:
        """Store the context, with this account if one is named. Use it if none is in use. Raises ParleyError."""
        context = replace(self.context, account=account or self.context.account)
        changed = Contexts.load(self.options.state_dir).with_context(self.name, context)
        (changed if changed.current else replace(changed, current=self.name)).save()

    def keep_or_tell(self) -> None:
        """Store the context. If that fails, say so: the account exists, so the command goes on."""
        try:
            self.keep("")
        except ParleyError as error:
            note(f"The cluster was not stored as the context {self.name}: {error.text}")

    def drop_unused_ca(self) -> None:
        """Remove the CA that the invitation brought, unless a context uses it."""
        with suppress(ParleyError, OSError):
            used = {one.ca for one in Contexts.load(self.options.state_dir).by_name.values()}
            if self.brought_ca is not None and str(self.brought_ca) not in used:
                self.brought_ca.unlink()


@with_connection_options
async def join(
    options: ConnectionOptions,
    channel: Annotated[
        str,
        typer.Argument(
            metavar="CHANNEL|INVITATION",
            help="Name a channel (#ID or #TITLE); or a link parley://..., a file *.parley-invite, or - for a line of "
            "standard input.",
            show_default=False,
            autocompletion=complete_channel,
        ),
    ],
    called: Annotated[
        str,
        typer.Option("--as", metavar="NAME", help="Call the cluster so. Default: as the invitation does."),
    ] = "",
    replace_it: Annotated[
        bool, typer.Option("--replace", help="Replace hosts and CA of the context of this name.")
    ] = False,
    password_stdin: PasswordStdin = False,
) -> None:
    """Become a member of a public channel; or of a cluster: create an account with an invitation, and sign in to it.

    Compare the fingerprint that is shown with what who invited you told you, before you type a password.
    """
    if not is_invitation(channel):
        await channel_commands.join_channel(options, channel)
        return
    joining = prepare(options, channel, context=called, replace_it=replace_it)
    note("\n".join((joining.about, *joining.invitation.fingerprints)))
    if joining.offered is None:
        note(f"{joining.context.account} has joined {joining.name} already. Nothing was changed.")
        return
    await join_cluster(joining, password_stdin=password_stdin)
    record(context=joining.name)
    if Contexts.load(options.state_dir).current != joining.name:
        note(f"Another context is in use. To use this one: parley context use {joining.name}.")


async def join_cluster(joining: Joining, *, password_stdin: bool) -> None:
    """Create the account, store the context, and sign in. If there is no account, nothing stays on this machine."""
    account, code = joining.invitation.account, joining.invitation.code
    try:
        await commands.register(
            joining.options, account, code=code, password_stdin=password_stdin, then=joining.keep_or_tell
        )
    except BaseException as error:
        if any(isinstance(one, OutcomeUnknownError) for one in (error, error.__cause__)):
            joining.keep_or_tell()
            note(
                f"The account {account} may have been created, so {joining.name} is kept as a context. To find out: "
                f"parley login {account} --context {joining.name}"
            )
        joining.drop_unused_ca()
        raise


def prepare(options: ConnectionOptions, word: str, *, context: str = "", replace_it: bool = False) -> Joining:
    """Read an invitation, and store its CA in a file of its own. Raises ParleyError, and then nothing is changed.

    No CA is stored for a context that is known already.
    """
    invitation = read_invitation(word)
    if invitation.expires_at_ms < time.time_ns() // 1_000_000:
        raise BadInputError(
            f"This invitation ended at {text.time_text(invitation.expires_at_ms)}. Nothing was done. Ask who invited "
            "you for another one, or check the clock of this machine."
        )
    name = context or invitation.cluster
    contexts = Contexts.load(options.state_dir)
    contexts.with_context(name, Context(invitation.hosts))  # raises BadInputError for a name that is not allowed
    known = _check_same(contexts, name, invitation, replace_it=replace_it)
    used, brought_ca = known, None
    if used is None:
        ca, is_new = _store_ca(options.state_dir, invitation)
        used, brought_ca = Context(invitation.hosts, ca, not invitation.ca), Path(ca) if is_new else None
    chosen = replace(
        options,
        hosts=used.hosts,
        ca=Path(used.ca) if used.ca else None,
        insecure=used.insecure,
        insecure_given=False,
        account=used.account,
        context=name,
    )
    has_joined = used.account.lower() == invitation.account.lower()
    return Joining(name, used, chosen, invitation, None if has_joined else invitation, brought_ca)


def _check_same(contexts: Contexts, name: str, invitation: InvitationFile, *, replace_it: bool) -> Context | None:
    """Return the context of this name, None to make one. Raises BadInputError if it is of another cluster."""
    known = contexts.by_name.get(name)
    if known is None or replace_it:
        return None
    shares_host = bool(set(known.hosts) & set(invitation.hosts))
    if shares_host and _fingerprints_of(known) == invitation.fingerprints:
        return known
    there = ", ".join(_fingerprints_of(known)) or "none"
    raise BadInputError(
        f"There is a context {name} already, with other hosts or another CA. It was not changed. Its hosts: "
        f"{', '.join(known.hosts[:3])}; the fingerprint of its CA: {there}. The invitation names: "
        f"{', '.join(invitation.hosts[:3])}; {', '.join(invitation.fingerprints) or 'none'}. If both are right, give "
        f"the new one another name: parley join INVITATION --as OTHER. If the cluster has changed: --replace."
    )


def _fingerprints_of(context: Context) -> tuple[str, ...]:
    if not context.ca:
        return ()
    try:
        return fingerprints(read_private(Path(context.ca), MAX_CA_BYTES).decode(errors="replace"))
    except (OSError, ValueError):
        return ("a file that cannot be read",)


def _store_ca(state_dir: Path | None, invitation: InvitationFile) -> tuple[str, bool]:
    """Write the CA to a file that is named after it, so that no other CA is ever replaced. Return whether it is new."""
    if not invitation.ca:
        return "", False
    directory = StateDirectory(state_dir)
    directory.make()
    name = "-".join(one.replace(":", "")[:32].lower() for one in invitation.fingerprints)
    path = (directory.root / FOLDER / f"{name}.pem").absolute()
    is_new = not path.exists()
    try:
        replace_private(path, invitation.ca)
    except OSError as error:
        raise ParleyError(f"{path} with the CA cannot be written ({error.strerror}). Nothing was changed.") from error
    return str(path), is_new
