"""The flags of `parley cluster`. cluster_admin.py implements its commands."""

from pathlib import Path
from typing import Annotated

import typer

from parley.terminal import (
    account_import,
    audit_commands,
    backup_commands,
    cluster_admin,
    commands,
    doctor,
    events_command,
    replace_command,
    rolling_restart,
)
from parley.terminal.command_line import AsJson, AsJsonLines, PasswordStdin, with_connection_options
from parley.terminal.exits import EPILOG
from parley.terminal.options import ConnectionOptions

cluster_app = typer.Typer(help="Show the state of the cluster, and administer it.", epilog=EPILOG, no_args_is_help=True)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def status(options: ConnectionOptions, as_json: AsJson = False) -> int:
    """Ask every known node for its status. Needs no account."""
    return await commands.cluster_status(options, as_json=as_json)


@cluster_app.command("doctor", epilog=EPILOG)
@with_connection_options
async def examine(options: ConnectionOptions, as_json: AsJson = False) -> int:
    """Ask every known node, judge the answers, and print what is wrong, with the command that mends it.

    Without a session, nodes tell only who answers, who leads and who the members are. Nothing is changed.
    """
    return await doctor.examine(options, as_json=as_json)


cluster_app.command(epilog=EPILOG)(events_command.events)


def _not_empty(name: str | None) -> str | None:
    """Refuse an empty name, which a script passes if its variable is not set."""
    if name == "":
        raise typer.BadParameter("the name is empty. Nothing was changed.")
    return name


_MemberName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name the node.", show_default=False, callback=_not_empty)
]
_AccountName = Annotated[
    str, typer.Argument(metavar="ACCOUNT", help="Name the account.", show_default=False, callback=_not_empty)
]


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def add(
    options: ConnectionOptions,
    name: _MemberName,
    peer_address: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help="Give the peer address of the node.", show_default=False)
    ],
) -> None:
    """Admit a node that was started with --join and waits, also one whose name or key was removed before."""
    await cluster_admin.add(options, name, peer_address)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def invite_node(
    options: ConnectionOptions,
    hours: Annotated[int, typer.Option("--hours", min=1, max=168, help="Set how long the token is valid.")] = 24,
) -> None:
    """Print a token that admits one new node. The node takes it from its join_token_file."""
    await cluster_admin.invite_node(options, hours)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def promote(options: ConnectionOptions, name: _MemberName) -> None:
    """Make a learner that has caught up a voter. Nodes started with --join ask for it by themselves."""
    await cluster_admin.promote(options, name)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def remove(
    options: ConnectionOptions,
    name: _MemberName,
    force: Annotated[
        bool,
        typer.Option("--force", help="Remove the node even if the voters that answer are no majority of the rest."),
    ] = False,
) -> None:
    """Remove a node, dead or alive. It comes back with an empty directory, and only by `add` or `invite-node`."""
    await cluster_admin.remove(options, name, force=force)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def replace(options: ConnectionOptions, name: _MemberName) -> None:
    """Replace a lost node by a new one of its name: remove it, print a join token, wait until the new one is a voter.

    It removes nothing while the node answers, or while too few others do. Interrupt and repeat it at any time.
    """
    await replace_command.replace(options, name)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def transfer(
    options: ConnectionOptions,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Transfer leadership to this node. Default: any voter.",
            show_default=False,
            callback=_not_empty,
        ),
    ] = None,
) -> None:
    """Transfer leadership to another node."""
    await cluster_admin.transfer(options, name or "")


@cluster_app.command(name="rolling-restart", epilog=EPILOG)
@with_connection_options
async def restart(
    options: ConnectionOptions,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Restart these nodes only. Default: all.", show_default=False),
    ] = None,
    timeout: Annotated[
        int, typer.Option("--timeout", min=5, max=3600, help="Wait at most so many seconds for each node.")
    ] = 120,
) -> None:
    """Restart the nodes one after the other, the leader last, each when all others have caught up.

    A node replaces its process by a new one, which may be of a newer release. Stops at the first node that does not
    come back, and names it.
    """
    await rolling_restart.run(options, names or [], timeout_s=timeout)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def rebuild(options: ConnectionOptions, name: _MemberName) -> None:
    """Replace the state of a node that is not trusted by the leader's, and wait until that is done."""
    await cluster_admin.rebuild(options, name)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def grant(options: ConnectionOptions, who: _AccountName) -> None:
    """Make an account an administrator. The first one is made on a node: parleyd admin create."""
    await cluster_admin.set_administrator(options, who, administrator=True)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def revoke(options: ConnectionOptions, who: _AccountName) -> None:
    """Revoke the rights of an administrator from an account."""
    await cluster_admin.set_administrator(options, who, administrator=False)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def claim(
    options: ConnectionOptions,
    code: Annotated[
        str,
        typer.Argument(metavar="CODE", help="Give the code that `parleyd admin create` printed.", show_default=False),
    ],
) -> None:
    """Become an administrator by a code that was made on a node."""
    await cluster_admin.claim(options, code)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def invite(
    options: ConnectionOptions,
    days: Annotated[int, typer.Option("--days", min=1, max=90, help="End the invitation after this many days.")] = 7,
) -> None:
    """Print a code with which one account may be registered (setting `registration`)."""
    await cluster_admin.invite(options, days)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def invitations(
    options: ConnectionOptions,
    withdraw: Annotated[
        str,
        typer.Option("--withdraw", metavar="ID", help="Take this one back: the beginning of its id. Default: list."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List the invitations and the codes of administrators that nobody has used, or take one back."""
    await cluster_admin.invitations(options, withdraw, as_json=as_json)


@cluster_app.command(name="import-accounts", epilog=EPILOG)
@with_connection_options
async def import_accounts(
    options: ConnectionOptions,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Read one account per line.", show_default=False)],
    as_json: AsJson = False,
) -> int:
    """Create the accounts of a file. Repeat it after an interruption: accounts that exist are left as they are.

    A line is a JSON object with name and, if wanted, display_name and password_hash. Without a hash, nobody can log in
    to the account until `reset-password` sets a password. Lines that are wrong or refused are reported, and the others
    are imported.
    """
    return await account_import.import_file(options, file, as_json=as_json)


@cluster_app.command(name="reset-password", epilog=EPILOG)
@with_connection_options
async def reset_password(options: ConnectionOptions, who: _AccountName, password_stdin: PasswordStdin = False) -> None:
    """Give an account a new password, and sign out all its devices."""
    await cluster_admin.reset_password(options, who, password_stdin=password_stdin)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def suspend(
    options: ConnectionOptions,
    who: _AccountName,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Tell other administrators why. Default: nothing.")
    ] = "",
) -> None:
    """Sign an account out everywhere, and let it log in no more until it is released. Nothing of it is deleted.

    What others send to it is kept. Administrators see in `parley accounts` who is suspended, since when and why.
    If it is suspended already, nothing changes, and the first reason stays.
    """
    await cluster_admin.suspend(options, who, reason)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def release(options: ConnectionOptions, who: _AccountName) -> None:
    """Let a suspended account log in again. Nothing of it was deleted, and what others sent to it waits for it."""
    await cluster_admin.release(options, who)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def quota(
    options: ConnectionOptions,
    who: _AccountName,
    change: Annotated[
        str | None,
        typer.Option(
            "--set", metavar="BYTES", help="Let the account store so much; 0: no limit; default: as all others."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what an account has stored and how much it may, or change that. Without --set, nothing is changed.

    If it has stored more than it may, nothing is removed, and its new messages and channels are refused.
    """
    await cluster_admin.quota(options, who, change, as_json=as_json)


@cluster_app.command(name="lift-delay", epilog=EPILOG)
@with_connection_options
async def lift_delay(options: ConnectionOptions, who: _AccountName) -> None:
    """Let an account log in again at once after too many wrong passwords."""
    await cluster_admin.lift_delay(options, who)


@cluster_app.command(name="revoke-cert", epilog=EPILOG)
@with_connection_options
async def revoke_certificate(
    options: ConnectionOptions,
    what: Annotated[
        str,
        typer.Argument(
            metavar="NODE|SHA256",
            help="Revoke the key that this node has now, or the certificate or key with this SHA-256.",
            show_default=False,
        ),
    ],
) -> None:
    """Make all nodes refuse a stolen certificate or key of a node, at once.

    `parleyd cert show FILE` prints the SHA-256 of a certificate and of its key. A revoked key covers all its
    certificates. The node itself takes part again once it has a new key. Refused if the cluster would stop.
    """
    await cluster_admin.revoke_certificate(options, what)


@cluster_app.command(name="unrevoke-cert", epilog=EPILOG)
@with_connection_options
async def restore_certificate(
    options: ConnectionOptions,
    what: Annotated[
        str, typer.Argument(metavar="SHA256", help="Give it as `revoked-certs` lists it.", show_default=False)
    ],
) -> None:
    """Take the revocation of a certificate or key back."""
    await cluster_admin.restore_certificate(options, what)


@cluster_app.command(name="revoked-certs", epilog=EPILOG)
@with_connection_options
async def revoked_certificates(options: ConnectionOptions, as_json: AsJson = False) -> None:
    """List the certificates and keys that all nodes refuse."""
    await cluster_admin.revoked_certificates(options, as_json=as_json)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def settings(
    options: ConnectionOptions,
    change: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME=VALUE", help="Change this setting. Default: list all settings.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the settings that are equal on all nodes, or change one. Only an administrator can change one."""
    await cluster_admin.settings(options, change, as_json=as_json)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def backup(
    options: ConnectionOptions,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Write the backup here.", show_default=False)],
    node: Annotated[
        str, typer.Option("--node", metavar="NAME", help="Let this node make it. Default: a follower.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a backup of the whole cluster to a file, and check it. The file has the messages of all accounts.

    `parley backup verify` and `parleyd backup verify` check it again; `parleyd restore` makes a new cluster of it.
    """
    await backup_commands.back_up(options, file, node=node, force=force, as_json=as_json)


@cluster_app.command(epilog=EPILOG)
@with_connection_options
async def audit(
    options: ConnectionOptions,
    since: Annotated[int, typer.Option("--since", metavar="N", min=1, help="Begin with this row.")] = 1,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write the rows to this file. Default: print them."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    expect: audit_commands.Expect = "",
    follow: Annotated[
        bool, typer.Option("--follow", help="Print new rows as they come, until a signal ends it.")
    ] = False,
    as_json: AsJsonLines = False,
) -> None:
    """Print the audit log: who changed what about accounts, rights, members and settings. Its chain is checked.

    `parley audit verify` checks an exported file again, without a cluster.
    """
    await audit_commands.audit(
        options, audit_commands.Wanted(since, export, force, expect, follow=follow, as_json=as_json)
    )


@cluster_app.command("set-time", epilog=EPILOG)
@with_connection_options
async def set_time(
    options: ConnectionOptions,
    yes: Annotated[
        bool, typer.Option("--yes", help="Confirm that the clock of this machine is right. Default: change nothing.")
    ] = False,
) -> None:
    """Set the time of the cluster after a wrong clock moved it, and extend the open sessions.

    The new time is that of a majority of the nodes. The cluster refuses if this machine's clock differs by a minute.
    """
    await cluster_admin.set_time(options, yes=yes)
