"""A command that fails names the id under which the logs of the nodes have it: one for all attempts of a request."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from parley import BadInputError, NotSignedInError, OverloadedError, ParleyError, UnreachableError
from parley.net.request_ids import REQUEST_ID_KEY, named, new_request_name
from parley.terminal import command_line
from parleyd import request_ids as node_side
from parleyd.api import admission
from tests.support.node import running_cluster
from tests.unit.client.helpers import PASSWORD, make_client
from tests.unit.client.test_command import Parley


def test_an_id_has_the_form_that_nodes_take_and_is_another_one_each_time() -> None:
    names = {new_request_name() for _ in range(50)}
    assert len(names) == 50
    assert all(node_side.checked(name) == name for name in names)
    assert REQUEST_ID_KEY == node_side.REQUEST_ID_KEY


def test_the_id_is_added_to_the_metadata_of_a_call() -> None:
    sent: list[Any] = []

    class Channel:
        def unary_unary(self, *_: Any, **__: Any) -> Any:
            return lambda request, **options: sent.append((request, options))

        def other(self) -> str:
            return "as it is"

    channel: Any = named(Channel(), "abc")  # type: ignore[arg-type]
    channel.unary_unary("/x")("one", metadata=(("authorization", "x"),), timeout=3)
    channel.unary_unary("/x")("two")
    assert sent == [
        ("one", {"metadata": (("authorization", "x"), (REQUEST_ID_KEY, "abc")), "timeout": 3}),
        ("two", {"metadata": ((REQUEST_ID_KEY, "abc"),)}),
    ]
    assert channel.other() == "as it is"


async def test_all_attempts_of_a_request_have_one_id_and_its_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []

    def begin(metadata: Any, *, is_carried: bool) -> None:
        seen.append((dict(metadata or ()).get(REQUEST_ID_KEY, ""), "carried" if is_carried else ""))
        node_side.begin_request(metadata, is_carried=is_carried)

    async with running_cluster(("n1", "n2", "n3")) as cluster:
        cluster.add_account("boss", PASSWORD)
        async with make_client(cluster, tmp_path / "state", connect=False) as client:
            await client.login("boss", PASSWORD)
            for node in cluster.nodes:
                node.faults.overloaded = 100
            monkeypatch.setattr(admission, "begin_request", begin)
            with pytest.raises(OverloadedError) as refused:
                await client.set_display_name("The Boss")
    assert len(seen) >= 3
    assert set(seen) == {(refused.value.request_id, "carried")}
    assert re.fullmatch(r"[0-9a-f]{16}", refused.value.request_id)


async def test_an_error_without_a_request_names_none(tmp_path: Path) -> None:
    async with running_cluster(("n1",)) as cluster, make_client(cluster, tmp_path / "state", connect=False) as client:
        with pytest.raises(ParleyError) as refused:
            await client.administration()
        assert refused.value.request_id == ""


async def test_a_failed_command_names_the_id_for_people_and_programs(tmp_path: Path) -> None:
    async with running_cluster(("n1",)) as cluster:
        cluster.add_account("boss", PASSWORD)
        parley = Parley(tmp_path, cluster)
        assert (await parley("login", "boss", PARLEY_PASSWORD=PASSWORD)).code == 0
        for flags in ((), ("--json",)):
            refused = await parley("cluster", "settings", "no_such_setting=1", *flags)
            assert refused.code
            assert re.search(r"parley: In the logs of the nodes, this is request [0-9a-f]{16}\.\n$", refused.err)
        assert refused.out == ""


@pytest.mark.parametrize(
    ("error", "is_named"), [(UnreachableError("x"), True), (NotSignedInError("x"), False), (BadInputError("x"), False)]
)
def test_who_mistyped_a_password_is_not_sent_to_the_logs(
    error: ParleyError, is_named: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    error.request_id = "" if isinstance(error, BadInputError) else "0123456789abcdef"
    vars(command_line)["_tell"](error)
    assert ("request 0123456789abcdef" in capsys.readouterr().err) == is_named
