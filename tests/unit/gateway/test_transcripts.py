"""The dialogues of docs/GATEWAY.md, word for word."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.node import running_cluster
from tests.support.transcripts import Transcript, play, transcripts_of
from tests.unit.gateway.helpers import all_are_listed, gateway_of

TRANSCRIPTS = transcripts_of("docs/GATEWAY.md")


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda one: one.name)
async def test_a_dialogue_of_the_page_goes_as_it_stands_there(transcript: Transcript, tmp_path: Path) -> None:
    secrets = transcript.kind == "secrets"
    async with (
        running_cluster() as cluster,
        gateway_of(cluster, tmp_path, allow_secrets=secrets) as gateway,
        asyncio.timeout(90),
    ):
        await play(transcript, gateway.port, lambda: all_are_listed(gateway))


def test_the_page_has_a_dialogue_for_each_set_of_commands() -> None:
    assert [one.name for one in TRANSCRIPTS] == [
        "Capitals", "Small letters", "Slashes", "Programs", "Names without a password",
    ]  # fmt: skip
