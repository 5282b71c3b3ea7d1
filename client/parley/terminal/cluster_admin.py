"""Implement the commands of `parley cluster` that change something, and its settings. Remarks go to stderr.

A change is reported before the client is closed, so a signal meanwhile hides no result.
"""

import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime

from parley import Administration, BadInputError, Invitation, parse_endpoints
from parley.chat import safe_name
from parley.terminal import text
from parley.terminal.commands import note, say
from parley.terminal.json_result import record
from parley.terminal.options import ConnectionOptions
from parley.terminal.password import read_new_password

SHOWN_OF_ID = 12
MAX_DIGITS = 18


@asynccontextmanager
async def _administration(options: ConnectionOptions) -> AsyncIterator[Administration]:
    """Connect as an administrator, who must be named."""
    options.must_name_account()
    async with options.client() as client:
        yield await client.administration()


async def add(options: ConnectionOptions, name: str, peer_address: str) -> None:
    """Add the node that waits at `peer_address` as a learner."""
    if len(parse_endpoints([peer_address])) != 1:
        raise BadInputError(f"{peer_address!r} is not one address. Nothing was changed. Write host:port.")
    async with _administration(options) as administration:
        is_new = await administration.add_member(name, peer_address)
        if not is_new:
            note(f"{name} is a member already. Nothing was changed. Its state is in: parley cluster status")
            return
        note(f"{name} is a learner now. It receives all entries, and becomes a voter once it has caught up.")


async def invite_node(options: ConnectionOptions, hours: int) -> None:
    """Print a join token. Only the token goes to stdout, so that it can be written to a file."""
    async with _administration(options) as administration:
        token = await administration.invite_node(hours * 3600)
        say(token)
        record(token=token, valid_s=hours * 3600)
        note(f"Write it to the join_token_file of the new node. It admits one node, within {hours} hours.")


async def promote(options: ConnectionOptions, name: str) -> None:
    async with _administration(options) as administration:
        is_new = await administration.promote_member(name)
        note(f"{name} is a voter now." if is_new else f"{name} is a voter already. Nothing was changed.")


async def remove(options: ConnectionOptions, name: str, *, force: bool) -> None:
    async with _administration(options) as administration:
        await administration.remove_member(name, force=force)
        note(
            f"{name} is no member any more. Its data directory is never accepted again. To bring the node "
            "back, start it with an empty one and admit it: parley cluster add, or invite-node."
        )


async def transfer(options: ConnectionOptions, name: str) -> None:
    """Transfer leadership to the node `name`, or to any voter if `name` is empty."""
    async with _administration(options) as administration:
        leader = await administration.transfer_leadership(name)
        note(f"{leader} leads now.")


async def rebuild(options: ConnectionOptions, name: str) -> None:
    """Replace the state of a member by the leader's state and wait until it agrees with the others."""
    async with _administration(options) as administration:
        await administration.rebuild_member(name)
        note(f"The state of {name} agrees with that of the other nodes.")


async def set_administrator(options: ConnectionOptions, account: str, *, administrator: bool) -> None:
    """Grant or revoke the rights of an administrator."""
    async with _administration(options) as administration:
        await administration.set_administrator(account, administrator=administrator)
        note(f"{account} is {'an' if administrator else 'no'} administrator now.")


async def claim(options: ConnectionOptions, code: str) -> None:
    """Become an administrator by a code from a node."""
    name = options.must_name_account()
    async with options.client() as client:
        await (await client.own_account()).claim_administrator(code)
        note(f"{name} is an administrator. If it was one before, the code was not used.")


async def invite(options: ConnectionOptions, days: int) -> None:
    """Print an invitation."""
    async with _administration(options) as administration:
        code, expires_at_ms = await administration.create_invitation(days * 86_400)
        say(code)
        record(code=code, expires_at_ms=expires_at_ms)
        note(f"Valid once, until {text.time_text(expires_at_ms)}. Use it with: parley register NAME --code {code}")


async def invitations(options: ConnectionOptions, withdraw: str, *, as_json: bool) -> None:
    """List the codes that nobody has used, or take one back: `withdraw` is the beginning of its id."""
    async with _administration(options) as administration:
        found = await administration.invitations()
        if withdraw:
            chosen = [one for one in found if one.id.startswith(withdraw.lower())]
            if len(chosen) != 1:
                found_text = "No unused invitation has" if not chosen else f"{len(chosen)} unused invitations have"
                raise BadInputError(
                    f"{found_text} an id that begins with {withdraw!r}. Nothing was changed. Look at the ids: parley "
                    "cluster invitations"
                )
            await administration.withdraw_invitation(chosen[0].id)
            note(f"Withdrawn: {_invitation_line(chosen[0])}")
            return
    if as_json:
        say(text.as_json([asdict(one) for one in found]))
        return
    for one in found:
        say(_invitation_line(one))


def _invitation_line(one: Invitation) -> str:
    kind = "for an administrator" if one.administrator else "for an account"
    return f"{one.id[:SHOWN_OF_ID]}  until {text.time_text(one.expires_at_ms)}  {kind}"


async def reset_password(options: ConnectionOptions, account: str, *, password_stdin: bool) -> None:
    """Give an account a new password."""
    options.must_name_account()
    password = read_new_password(f"New password for {account}: ", from_stdin=password_stdin)
    async with options.client() as client:
        await (await client.administration()).reset_password(account, password)
        note(f"{account} has a new password, and all its devices are signed out. Ask its owner to change it.")


async def suspend(options: ConnectionOptions, account: str, reason: str) -> None:
    """Suspend an account."""
    async with _administration(options) as administration:
        await administration.suspend_account(account, reason)
        note(
            f"{account} is suspended and signed out everywhere. Nothing of it is deleted. What waits on its devices "
            f"stays there, and what others send to it is kept. To end this: parley cluster release {account}"
        )


async def release(options: ConnectionOptions, account: str) -> None:
    """Release an account."""
    async with _administration(options) as administration:
        await administration.release_account(account)
        note(
            f"{account} is not suspended and can log in: parley login {account}. Then it receives what others sent to "
            "it meanwhile, and what waits on its devices is sent."
        )


async def quota(options: ConnectionOptions, account: str, change: str | None, *, as_json: bool) -> None:
    """Print what an account has stored and may, after a change if one is wanted: a number of bytes, or "default"."""
    max_bytes = None if change in (None, "default") else _bytes(change)
    async with _administration(options) as administration:
        if change is not None:
            await administration.set_quota(account, max_bytes)
        found = await administration.quota(account)
    if found.max_bytes and found.stored_bytes >= found.max_bytes:
        note(
            f"{account} has no room left. What it has stored is kept, and it still receives messages. Its new messages "
            "and channels are refused until retention_days has removed enough, or it may store more: parley cluster "
            f"quota {account} --set BYTES"
        )
    if as_json:
        say(text.as_json(asdict(found)))
        return
    limit = f"{found.max_bytes} bytes" if found.max_bytes else "no limit"
    whose = "its own quota" if found.own else "the setting max_account_bytes"
    say(f"{account}: {found.stored_bytes} bytes stored, {limit} ({whose})")


def _bytes(change: str) -> int:
    if not change.isascii() or not change.isdecimal() or len(change) > MAX_DIGITS:
        raise BadInputError(
            f"{change!r} is no number of bytes. Nothing was changed. Give a number, 0 for no limit, or default."
        )
    return int(change)


async def lift_delay(options: ConnectionOptions, account: str) -> None:
    """End the delay of an account."""
    async with _administration(options) as administration:
        await administration.lift_delay(account)
        note(f"{account} can log in at once.")


async def revoke_certificate(options: ConnectionOptions, what: str) -> None:
    """Revoke a certificate or the key of a node."""
    digest = digest_of(what)
    async with _administration(options) as administration:
        revoked = await administration.revoke_certificate("" if digest else what, digest=digest)
        whose = f" of {revoked.node}" if revoked.node else ""
        note(f"The nodes refuse {revoked.digest.hex()}{whose} from now on.")
        if revoked.node:
            note(f"{revoked.node} takes part again with a new key: parleyd cert renew {revoked.node}.pem --new-key")


async def restore_certificate(options: ConnectionOptions, what: str) -> None:
    """Take a revocation back."""
    digest = digest_of(what)
    if not digest:
        raise BadInputError(f"{what!r} is no SHA-256: 64 hex digits, with or without colons. Nothing was changed.")
    async with _administration(options) as administration:
        await administration.restore_certificate(digest)
        note(f"The nodes accept {digest.hex()} again, if nothing else is against it.")


async def revoked_certificates(options: ConnectionOptions, *, as_json: bool) -> None:
    """List the revoked certificates and keys."""
    async with _administration(options) as administration:
        revoked = await administration.revoked_certificates()
    if as_json:
        rows = [{"sha256": row.digest.hex(), "node": row.node, "revoked_at_ms": row.revoked_at_ms} for row in revoked]
        say(json.dumps(rows))
        return
    for row in revoked:
        say(f"{row.digest.hex()}  {text.time_text(row.revoked_at_ms)}  {safe_name(row.node)}".rstrip())
    if not revoked:
        note("No certificate is revoked.")


def digest_of(what: str) -> bytes:
    """Return the SHA-256 that somebody typed, as hex with or without colons; empty for anything else."""
    digits = what.replace(":", "")
    return bytes.fromhex(digits) if re.fullmatch(r"[0-9a-fA-F]{64}", digits) else b""


async def set_time(options: ConnectionOptions, *, yes: bool) -> None:
    """Set the time of the cluster to that of a majority of the nodes, if this machine's clock agrees with it."""
    options.must_name_account()
    now_ms = time.time_ns() // 1_000_000
    async with options.client() as client:
        times = {node.cluster_time_ms for node in (await client.cluster_status()).nodes if node.cluster_time_ms}
        for told_ms in sorted(times)[-1:]:
            note(f"The time of the cluster is {_utc(told_ms)}, and this machine's is {_utc(now_ms)}.")
        if not yes:
            raise BadInputError(
                "This sets the time of the cluster, also backwards, and extends all open sessions. Nothing was "
                "changed. If the clock of this machine is right, give --yes."
            )
        before_ms, after_ms = await (await client.administration()).set_time(now_ms)
        note(f"The time of the cluster was {_utc(before_ms)} and is {_utc(after_ms)} now.")


def _utc(at_ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):  # a year that no calendar has
        return f"{at_ms} ms after 1970"


async def settings(options: ConnectionOptions, change: str | None, *, as_json: bool) -> None:
    """Print the settings of the cluster, or change one. `change` is None or has the form "name=value"."""
    options.must_name_account()
    name, value = _parse_change(change) if change is not None else ("", 0)
    async with options.client() as client:
        administration = await client.administration()
        if name:
            await administration.change_setting(name, value)
            if not as_json:
                note(f"{name} is {value} now, on all nodes.")
                return
        found = await administration.settings()
    if as_json:
        say(text.as_json([asdict(setting) for setting in found]))
        return
    for line in text.setting_lines(found):
        say(line)


def _parse_change(change: str) -> tuple[str, int]:
    name, equals, value = (part.strip() for part in change.partition("="))
    try:
        return name, int(value if name and equals else "")
    except ValueError:
        raise BadInputError(
            f"{change!r} is not a change of a setting. Nothing was changed. Write a name and a number: "
            "max_message_bytes=65536."
        ) from None
