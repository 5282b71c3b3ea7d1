"""Where tokens lie: in the keyring if there is a real one, otherwise in the file, and never in both."""

from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.errors import KeyringLocked

from parley.client import ParleyClient
from parley.client_state import ConnectionState
from parley.device.token_store import REFERENCE, TokenStore
from parley.errors import NotSignedInError
from tests.support.node import InProcessCluster, running_cluster
from tests.unit.client.helpers import PASSWORD, QUICK


class Memory(KeyringBackend):
    """A system keyring."""

    priority = 5

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held: dict[str, str] = {}
        self.locked = False

    def set_password(self, service: str, username: str, password: str) -> None:
        self.check()
        self.held[username] = password

    def get_password(self, service: str, username: str) -> str | None:
        self.check()
        return self.held.get(username)

    def delete_password(self, service: str, username: str) -> None:
        self.check()
        del self.held[username]

    def check(self) -> None:
        if self.locked:
            raise KeyringLocked


@pytest.fixture
def memory() -> Iterator[Memory]:
    before, backend = keyring.get_keyring(), Memory()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


def client(
    cluster: InProcessCluster, state_dir: Path, *, token_store: TokenStore, account: str | None = None
) -> ParleyClient:
    hosts = [node.address for node in cluster.nodes]
    return ParleyClient(
        hosts, account=account, insecure=True, state_dir=state_dir, settings=QUICK, token_store=token_store
    )


def files_hold(folder: Path, secret: str) -> bool:
    return any(secret.encode() in file.read_bytes() for file in folder.rglob("*") if file.is_file())


def modes(folder: Path) -> list[int]:
    return [file.stat().st_mode & 0o777 for file in folder.rglob("client.sqlite")]


async def test_with_a_keyring_the_token_is_there_and_in_no_file(memory: Memory, tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("anna", PASSWORD)
        async with client(cluster, tmp_path, token_store=TokenStore(use_keyring=True)) as anna:
            await anna.login("anna", PASSWORD)
            await anna.wait_until(ConnectionState.CONNECTED, timeout=5)
            (token,) = memory.held.values()
            assert cluster.knows_token(token)
        assert not files_hold(tmp_path, token)
        async with client(cluster, tmp_path, token_store=TokenStore(), account="anna") as again:
            await again.wait_until(ConnectionState.CONNECTED, timeout=5)
            assert [account.name for account in await again.list_accounts()] == ["anna"]
            await again.logout()
            assert not await again.has_session()
        assert memory.held == {}, "nothing is left behind"


async def test_a_second_log_in_replaces_what_the_keyring_held(memory: Memory, tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("anna", PASSWORD)
        async with client(cluster, tmp_path, token_store=TokenStore(use_keyring=True)) as anna:
            await anna.login("anna", PASSWORD)
            await anna.login("anna", PASSWORD)
            assert len(memory.held) == 1


async def test_a_keyring_that_stays_locked_means_signed_out_and_a_new_log_in_uses_the_file(
    memory: Memory, tmp_path: Path
) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("anna", PASSWORD)
        async with client(cluster, tmp_path, token_store=TokenStore(use_keyring=True)) as anna:
            await anna.login("anna", PASSWORD)
        memory.locked = True
        async with client(cluster, tmp_path, token_store=TokenStore(use_keyring=True), account="anna") as anna:
            await anna.wait_until(ConnectionState.SIGNED_OUT, timeout=5)
            assert not await anna.has_session()
            with pytest.raises(NotSignedInError):
                await anna.list_accounts()
            await anna.login("anna", PASSWORD)
            await anna.wait_until(ConnectionState.CONNECTED, timeout=5)
        assert modes(tmp_path) == [0o600]


async def test_without_a_keyring_the_file_keeps_the_token() -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(NoKeyring())  # type: ignore[no-untyped-call]
    try:
        assert await TokenStore(use_keyring=True).save("token") == "token"
    finally:
        keyring.set_keyring(before)


async def test_a_reference_nobody_knows_reveals_nothing(memory: Memory) -> None:
    assert await TokenStore().load(REFERENCE + "00") == ""
    await TokenStore().delete(REFERENCE + "00")
