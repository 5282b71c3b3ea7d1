"""Who leaves a shared machine leaves no message, no draft and no session there, also while no node answers."""

from pathlib import Path

import pytest

from parley import ConnectionState, NotSignedInError, StateDirectory
from tests.support.node import running_cluster
from tests.unit.client.helpers import make_client, signed_in, until


def content(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("is_reached", [True, False])
async def test_nothing_of_the_account_is_left_and_others_keep_theirs(tmp_path: Path, is_reached: bool) -> None:
    async with running_cluster() as cluster:
        async with signed_in(cluster, tmp_path, "bob") as client:
            await client.save_draft("zoe", "the draft of bob")
        cluster.store(cluster.accounts["bob"], cluster.add_account("anna", "correct horse battery"), "what bob wrote")
        async with make_client(cluster, tmp_path, deadline_s=0.5) as client:
            await client.login("anna", "correct horse battery")
            async for message in await client.messages():
                assert message.body == "what bob wrote"
                break
            await client.save_draft("bob", "the draft of anna")
            if not is_reached:
                await cluster.nodes[0].die()
                await client.send("bob", "what waits")
            assert b"what bob wrote" in content(tmp_path)
            assert await client.leave_nothing() == is_reached
            assert client.signed_in_as == ""
            with pytest.raises(NotSignedInError):
                await client.send("bob", "hello")
        left = content(tmp_path)
        assert not [one for one in (b"what bob wrote", b"the draft of anna", b"what waits", b"anna") if one in left]
        assert b"the draft of bob" in left
        assert StateDirectory(tmp_path).last().account == ""


async def test_another_process_of_the_account_goes_on_without_files_and_ends_without_an_error(tmp_path: Path) -> None:
    """It looked for the lock in the folder that was gone, and ended with a traceback."""
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as leaver:
        async with make_client(cluster, tmp_path, "anna") as other:
            await other.wait_until(ConnectionState.SHARED, timeout=20)
            await leaver.leave_nothing()

            def knows() -> bool:  # if it took the lock before the folder went, it finds no session
                return "cannot be" in other.state.problem or other.state.connection is ConnectionState.SIGNED_OUT

            await until(knows, "it knows that its files are gone", 20)
        assert leaver.signed_in_as == ""
