"""`parley password` and `parley devices`: the own password and the own devices."""

from dataclasses import asdict
from typing import Annotated

import typer

from parley import BadInputError, Device
from parley.chat import safe_name
from parley.terminal import text
from parley.terminal.command_line import AsJson, with_connection_options
from parley.terminal.commands import note, say
from parley.terminal.exits import EPILOG
from parley.terminal.options import ConnectionOptions
from parley.terminal.password import read_two_passwords

SHOWN_OF_ID = 8

devices_app = typer.Typer(help="List your devices, and sign them out.", epilog=EPILOG, no_args_is_help=True)


async def change_password(options: ConnectionOptions, *, from_stdin: bool) -> None:
    """Change the password and sign out the other devices."""
    name = options.must_name_account()
    old, new = read_two_passwords(f"Old password of {name}: ", "New password: ", from_stdin=from_stdin)
    async with options.client() as client:
        await (await client.own_account()).change_password(old, new)
        note("The password is changed. Your other devices are signed out.")


@devices_app.command(name="list", epilog=EPILOG)
@with_connection_options
async def list_devices(options: ConnectionOptions, as_json: AsJson = False) -> None:
    """List your devices, the one that logged in last first."""
    options.must_name_account()
    async with options.client() as client:
        found = await (await client.own_account()).devices()
    if as_json:
        say(text.as_json([asdict(device) for device in found]))
        return
    for device in found:
        say(device_line(device))


@devices_app.command(epilog=EPILOG)
@with_connection_options
async def revoke(
    options: ConnectionOptions,
    device: Annotated[
        str,
        typer.Argument(metavar="DEVICE", help="Sign out this device: the beginning of its id.", show_default=False),
    ] = "",
    others: Annotated[bool, typer.Option("--others", help="Sign out all devices but this one.")] = False,
) -> None:
    """Sign out one device, or all others. They can log in again with the password."""
    if bool(device) == others:
        raise BadInputError("Name one device, or give --others. Nothing was changed. See: parley devices list")
    options.must_name_account()
    async with options.client() as client:
        account = await client.own_account()
        if others:
            await account.sign_out_other_devices()
            note("Your other devices are signed out.")
            return
        chosen = _find(await account.devices(), device)
        await account.sign_out_device(chosen.id)
        note(f"Signed out: {device_line(chosen)}")


def device_line(device: Device) -> str:
    """Return a device as one line."""
    when = text.time_text(device.logged_in_at_ms) if device.logged_in_at_ms else "unknown time"
    standing = "this device" if device.current else "signed in" if device.signed_in else "signed out"
    return f"{device.id[:SHOWN_OF_ID]}  {when}  {standing:11}  {safe_name(device.label)}"


def _find(devices: tuple[Device, ...], typed: str) -> Device:
    found = [device for device in devices if device.id.startswith(typed.lower())]
    if len(found) != 1:
        raise BadInputError(
            f"{len(found)} of your devices have an id that begins with {typed!r}. Nothing was changed. See: "
            "parley devices list"
        )
    return found[0]
