"""--json: every command has it, and its shape is that of docs/COMMAND_LINE.md, so that programs can rely on it."""

import json
from pathlib import Path
from typing import Any

from parley.terminal.exits import ExitCode
from parley.terminal.json_result import FORMAT
from tests.support.node import InProcessCluster
from tests.unit.client.helpers import PASSWORD
from tests.unit.client.test_command import Parley, signed_in
from tests.unit.project.test_json_page import SHAPES

RESULT = ["format", "command", "exit_code", "error", "values", "lines", "notes", "request_id"]


async def filled(cluster: InProcessCluster, parley: Parley) -> None:
    anna, bob = cluster.accounts["anna"], cluster.accounts["bob"]
    channel = cluster.create_channel(bob, "Nights", [anna])
    cluster.store(bob, channel, "hello")
    assert (await parley("send", "bob", "one")).code == ExitCode.OK


ARGUMENTS: dict[str, tuple[str, ...]] = {
    "accounts": (),
    "channel list": (),
    "channel members": ("#Nights",),
    "channels": (),
    "conversations": (),
    "devices list": (),
    "dm": ("bob", "two"),
    "fetch": (),
    "history": ("#Nights",),
    "listen": ("--timeout", "1", "--count", "1"),
    "ping": ("--count", "1"),
    "receipts": ("bob",),
    "send": ("bob", "three"),
    "cluster status": (),
    "version": (),
    "who": (),
}


async def test_what_is_printed_has_the_fields_of_the_page(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        await filled(cluster, parley)
        assert (await parley("context", "add", "x", "--host", "h", "--insecure")).code == ExitCode.OK
        found = {}
        for words, arguments in {**ARGUMENTS, "context list": (), "context show": ("x",)}.items():
            if words == "listen":
                cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "for listen")
            if words == "fetch":
                cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "for fetch")
            done = await parley(*words.split(), *arguments, "--json")
            assert done.code == ExitCode.OK, (words, done)
            first = done.out.splitlines()[0] if words in ("fetch", "listen") else done.out
            value: Any = json.loads(first)
            found[words] = list(value[0] if isinstance(value, list) else value)
        missing = {words: set(SHAPES[words]) - set(fields) for words, fields in found.items()}
        assert {words: fields for words, fields in missing.items() if fields} == {}, "programs rely on them"


async def test_a_command_that_does_something_prints_one_object_that_says_what(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        cluster.add_account("carl", PASSWORD)
        made = await result(parley, "channel", "create", "Nights", "bob")
        assert made["values"] == {"conversation_id": int(made["lines"][0].removeprefix("#"))}
        assert (made["command"], made["exit_code"], made["error"]) == ("channel create", 0, "")
        assert made["notes"]
        assert (await result(parley, "mute", "bob"))["exit_code"] in (ExitCode.OK, ExitCode.REFUSED)
        refused = await result(parley, "channel", "add", "#Nights", "nobody")
        assert (refused["exit_code"], "nobody" in refused["error"]) == (ExitCode.REFUSED, True)
        assert (bool(refused["request_id"]), made["request_id"]) == (True, "")
        wrong = await result(parley, "login", "carl", PARLEY_PASSWORD="not the password")
        assert (wrong["exit_code"], wrong["values"]) == (ExitCode.NOT_SIGNED_IN, {})
        into = await result(parley, "login", "carl", PARLEY_PASSWORD=PASSWORD)
        assert into["values"] == {"account": "carl", "waiting": 0}
        out = await result(parley, "logout")
        assert out["values"] == {"account": "carl", "waiting": 0}


async def result(parley: Parley, *words: str, **environment: str) -> dict[str, Any]:
    done = await parley(*words, "--json", **environment)
    value: dict[str, Any] = json.loads(done.out)
    assert list(value) == RESULT, done
    assert (value["format"], value["exit_code"]) == (FORMAT, done.code)
    return value
