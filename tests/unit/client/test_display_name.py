"""Display names through the SDK and the command: others see them beside the account name, also while connected."""

from pathlib import Path

import pytest

from parley import RefusedError
from parley.chat import account_label
from parley.gui import own_name
from parley.gui.events import NameTold
from tests.support.node import running_cluster
from tests.unit.client.helpers import PASSWORD, signed_in, until


async def test_who_is_connected_sees_a_new_display_name_beside_the_account_name(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        bob_id = cluster.add_account("bob", PASSWORD).id
        async with (
            signed_in(cluster, tmp_path / "anna") as anna,
            signed_in(cluster, tmp_path / "bob", name="bob") as bob,
        ):
            await (await anna.send("bob", "hello")).accepted(5)
            await until(lambda: anna.account(bob_id) is not None, "the account is known")
            await bob.set_display_name("  Bob Ray  ")
            await until(
                lambda: getattr(anna.account(bob_id), "display_name", "") == "Bob Ray", "the display name is known"
            )
            account = anna.account(bob_id)
            assert account is not None
            assert account_label(account) == "Bob Ray (bob)"


async def test_a_display_name_that_breaks_the_rules_is_refused_in_words(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as anna:
        with pytest.raises(RefusedError, match=r"display name breaks the rules.*Nothing was changed"):
            await anna.set_display_name("x" * 65)


async def test_the_window_tells_the_name_that_the_cluster_has_and_changes_it(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path / "anna") as anna:
        cluster.add_account("anna2", PASSWORD)
        assert await own_name.ask(anna) == NameTold("")
        assert await own_name.change(anna, "Anna Lee") == NameTold("Anna Lee", changed=True)
        assert await own_name.ask(anna) == NameTold("Anna Lee")
        with pytest.raises(RefusedError):
            await own_name.change(anna, "x" * 65)
        assert await own_name.ask(anna) == NameTold("Anna Lee")
