"""The commands that begin and end a session, and an account: their flags. commands.py has what they do."""

from typing import Annotated

import typer

from parley.terminal import account_commands, commands
from parley.terminal.command_line import PasswordStdin, with_connection_options
from parley.terminal.options import ConnectionOptions


@with_connection_options
async def register(
    options: ConnectionOptions,
    name: Annotated[str, typer.Argument(help="Choose the name of the new account.")],
    code: Annotated[
        str,
        typer.Option(
            "--code",
            metavar="CODE",
            help="Use this invitation, or the code of `parleyd admin create`. Default: none.",
            show_default=False,
        ),
    ] = "",
    password_stdin: PasswordStdin = False,
) -> None:
    """Create an account, and sign in to it unless another one is in use on this machine."""
    await commands.register(options, name, code=code, password_stdin=password_stdin)


@with_connection_options
async def login(
    options: ConnectionOptions,
    name: Annotated[str, typer.Argument(help="Name the account.")],
    password_stdin: PasswordStdin = False,
    end_oldest: Annotated[
        bool,
        typer.Option(
            "--end-oldest-device",
            help="If the account has no device to spare, sign out the one that logged in longest ago. Default: ask.",
        ),
    ] = False,
) -> None:
    """Sign in. Later commands use this session, these hosts and this CA."""
    await commands.login(options, name, password_stdin=password_stdin, end_oldest=end_oldest)


@with_connection_options
async def password(options: ConnectionOptions, password_stdin: PasswordStdin = False) -> None:
    """Change your password, and sign out your other devices. From standard input: the old one, then the new one."""
    await account_commands.change_password(options, from_stdin=password_stdin)


@with_connection_options
async def logout(options: ConnectionOptions) -> None:
    """End the session. Messages that wait here are kept until the next login."""
    await commands.logout(options)


@with_connection_options
async def unregister(
    options: ConnectionOptions,
    password_stdin: PasswordStdin = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without a question. Default: ask.")] = False,
) -> None:
    """Delete your account and everything queued for it."""
    await commands.unregister(options, password_stdin=password_stdin, yes=yes)
