"""Channels that change: through the SDK, the commands and the chat, against the real services and state machine."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from parley import (
    BadInputError,
    Conversation,
    ConversationKind,
    ListedChannel,
    MemberRole,
    Message,
    MessageKind,
    ParleyClient,
    RefusedError,
    Target,
    naming,
)
from parley.chat import Chats, Standing, conversation_key
from parley.net import channel_calls
from parley.terminal.exits import ExitCode
from tests.support.node import InProcessCluster, running_cluster
from tests.unit.client.helpers import PASSWORD, make_client, signed_in, until
from tests.unit.client.test_chat import Shown, view
from tests.unit.client.test_command import Parley

# ---- the SDK


@asynccontextmanager
async def anna_and_bob(tmp_path: Path) -> AsyncIterator[tuple[ParleyClient, ParleyClient, InProcessCluster]]:
    async with (
        running_cluster() as cluster,
        signed_in(cluster, tmp_path / "a") as anna,
        signed_in(cluster, tmp_path / "b", "bob") as bob,
    ):
        yield anna, bob, cluster


def id_of(client: ParleyClient) -> int:
    assert client.me is not None
    return client.me.id


async def roles(client: ParleyClient, channel: int) -> dict[int, MemberRole]:
    return {member.account_id: member.role for member in await client.members(channel)}


async def test_what_a_channel_is_reaches_its_members_and_those_who_look_for_one(tmp_path: Path) -> None:
    async with anna_and_bob(tmp_path) as (anna, bob, cluster):
        channel = await anna.create_channel("Ward 4", ["bob"])
        assert [(one.channel.id, one.joined) for one in await bob.list_channels()] == [(channel, True)]
        await anna.change_channel(channel, title="Ward 5", topic="Nights", public=True, open_history=True)
        await until(lambda: "Nights" in str(bob.conversation(channel)), "bob's device knows the topic")
        known = bob.conversation(channel)
        assert known is not None
        assert (known.title, known.public, known.archived, known.open_history) == ("Ward 5", True, False, True)
        cluster.add_account("carl", PASSWORD)
        async with signed_in(cluster, tmp_path / "c", "carl") as carl:
            [listed] = await carl.list_channels(title="Ward 5")
            assert (listed.channel.topic, listed.channel.public, listed.joined) == ("Nights", True, False)
            assert await carl.list_channels(title="Ward 4") == ()
            await anna.change_channel(channel, public=False, topic="")
            assert await carl.list_channels() == ()
        [listed] = await anna.list_channels()
        assert (listed.channel.topic, listed.channel.public, listed.joined) == ("", False, True)


async def test_all_pages_of_the_list_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_calls, "MAX_PAGE", 2)
    async with anna_and_bob(tmp_path) as (anna, _, cluster):
        ids = [cluster.create_channel(cluster.accounts["anna"], f"c{i}", []) for i in range(5)]
        found = await anna.list_channels()
        assert [one.channel.id for one in found] == ids
        assert cluster.nodes[0].called.count("ListChannels") == 3
        assert [one.channel.id for one in await anna.list_channels(limit=3)] == ids[:3]


async def test_who_joins_leaves_and_comes_back_keeps_its_own_part_of_the_history(tmp_path: Path) -> None:
    async with anna_and_bob(tmp_path) as (anna, bob, _):
        channel = await anna.create_channel("Ward 4")
        there = Target(conversation_id=channel)
        await anna.change_channel(channel, public=True)
        for step in (bob.join_channel, bob.join_channel, bob.leave_channel, bob.leave_channel):
            await step(channel)
        await (await anna.send(there, "while bob is away")).accepted(5)
        await bob.join_channel(channel)
        await (await anna.send(there, "welcome back")).accepted(5)
        page = await bob.history(there)
        assert [(message.kind, message.body) for message in page.messages] == [
            (MessageKind.MEMBERS_JOINED, ""),
            (MessageKind.MEMBERS_LEFT, ""),
            (MessageKind.MEMBERS_JOINED, ""),
            (MessageKind.TEXT, "welcome back"),
        ]


async def test_members_are_added_given_roles_and_removed_by_those_who_may(tmp_path: Path) -> None:
    async with anna_and_bob(tmp_path) as (anna, bob, cluster):
        carl = cluster.add_account("carl", PASSWORD)
        channel = await anna.create_channel("Ward 4")
        await anna.add_members(channel, ["bob"])
        with pytest.raises(RefusedError, match="role"):
            await bob.add_members(channel, ["carl"])
        await anna.set_member_role(channel, "bob", MemberRole.MODERATOR)
        await bob.add_members(channel, ["carl"])
        assert await roles(bob, channel) == {
            id_of(anna): MemberRole.OWNER,
            id_of(bob): MemberRole.MODERATOR,
            carl.id: MemberRole.MEMBER,
        }
        await bob.remove_members(channel, ["carl"])
        with pytest.raises(RefusedError, match="owner"):
            await anna.leave_channel(channel)
        with pytest.raises(RefusedError, match="no account ghost"):
            await anna.add_members(channel, ["ghost"])
        assert carl.id not in await roles(anna, channel)


async def test_a_change_of_nothing_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async with anna_and_bob(tmp_path) as (anna, _, cluster):
        with pytest.raises(BadInputError, match="Nothing to change was named"):
            await anna.change_channel(1)
        assert "ChangeChannel" not in cluster.nodes[0].called


async def test_a_lost_answer_to_a_change_is_found_again_by_the_retry(tmp_path: Path) -> None:
    async with anna_and_bob(tmp_path) as (anna, bob, cluster):
        channel = await anna.create_channel("Ward 4")
        cluster.nodes[0].faults.lose_answers = 1
        await anna.add_members(channel, ["bob"])
        assert set(await roles(anna, channel)) == {id_of(anna), id_of(bob)}
        page = await anna.history(Target(conversation_id=channel))
        assert [m.kind for m in page.messages] == [MessageKind.CHANNEL_CREATED, MessageKind.MEMBERS_JOINED]


def fold(client: ParleyClient, listed: Sequence[Conversation]) -> Chats:
    """What a front end computes from a list."""
    chats = Chats(client.signed_in_as)
    chats.look_up(client, [one.last for one in listed if one.last is not None], listed)
    chats.take_list(listed)
    return chats


async def test_a_device_that_was_away_learns_that_its_account_was_removed_and_keeps_it_without_a_node(
    tmp_path: Path,
) -> None:
    async with anna_and_bob(tmp_path) as (anna, _, cluster):
        channel = await anna.create_channel("Ward 4")
        there = Target(conversation_id=channel)
        cluster.add_account("carl", PASSWORD)
        async with signed_in(cluster, tmp_path / "c", "carl") as carl:
            await anna.add_members(channel, ["carl"])
            await (await anna.send(there, "hello")).accepted(5)
            await until(lambda: carl.conversation(channel) is not None, "carl knows the channel")
        await anna.remove_members(channel, ["carl"])
        await (await anna.send(there, "not for carl")).accepted(5)
        async with make_client(cluster, tmp_path / "c", "carl") as carl:
            seen: list[Message] = []
            async for message in await carl.messages(include_own=True):
                seen.append(message)
                if message.kind is MessageKind.MEMBERS_LEFT:
                    break
            assert [message.body for message in seen if message.kind is MessageKind.TEXT] == ["hello"]
            assert await carl.conversations() == (), "the cluster lists what one is in"
            with pytest.raises(RefusedError):
                await (await carl.send(there, "still there?")).accepted(5)
        await cluster.nodes[0].die()
        async with make_client(cluster, tmp_path / "c", "carl", connect=False) as carl:
            chats = fold(carl, await carl.cached_conversations())
            assert chats.standing(conversation_key(channel)) is Standing.LEFT
            assert chats.item(conversation_key(channel)).preview == "anna removed you."


# ---- the commands


@asynccontextmanager
async def two_people(tmp_path: Path) -> AsyncIterator[tuple[Parley, Parley, InProcessCluster]]:
    async with running_cluster() as cluster:
        people = [Parley(tmp_path / name, cluster) for name in ("anna", "bob")]
        for name, parley in zip(("anna", "bob"), people, strict=True):
            (tmp_path / name).mkdir()
            cluster.add_account(name, PASSWORD)
            assert (await parley("login", name, PARLEY_PASSWORD=PASSWORD)).code == 0
        yield people[0], people[1], cluster


async def test_a_public_channel_is_made_found_joined_left_and_archived_by_commands(tmp_path: Path) -> None:
    async with two_people(tmp_path) as (anna, bob, _):
        created = await anna("channel", "create", "Ward 4", "--public", "--topic", "Nights", "--open-history")
        assert created.code == 0, created.err
        number = created.out.strip()
        listed = await bob("channels")
        assert listed.out.strip() == f"{number}  Ward 4 (1 member, public)  Nights"
        joined = await bob("join", "Ward 4")
        assert (joined.code, f"a member of channel {number}" in joined.err) == (0, True), joined.err
        [record] = json.loads((await bob("channel", "list", "--json", "--title", "Ward 4")).out)
        assert record == {
            "id": int(number.removeprefix("#")), "title": "Ward 4", "topic": "Nights", "member_count": 2,
            "public": True, "archived": False, "open_history": True, "joined": True,
        }  # fmt: skip
        assert (await anna("channel", "members", "#Ward 4")).out.splitlines() == ["anna  owner", "bob"]
        assert (await bob("leave", "#Ward 4")).code == 0
        assert "You left." in (await bob("history", number, "--peek")).out
        assert (await anna("channel", "archive", number)).code == 0
        assert f"Ward 4 ({number}, 1 member, archived)" in (await anna("conversations")).out
        refused = await bob("join", number)
        assert (refused.code, "archived" in refused.err) == (ExitCode.REFUSED, True), refused.err


async def test_members_titles_and_roles_change_by_commands(tmp_path: Path) -> None:
    async with two_people(tmp_path) as (anna, bob, cluster):
        number = (await anna("channel", "create", "Ward 4")).out.strip()
        channel = int(number.removeprefix("#"))
        for step, told in (
            (("add", "Ward 4", "bob"), "now: bob"),
            (("role", number, "bob", "moderator"), "is moderator now"),
            (("rename", number, "Ward 5"), "“Ward 5”"),
            (("topic", "#Ward 5", "Nights"), "“Nights”"),
            (("topic", number, ""), "no topic"),
            (("public", number), "is public now"),
            (("private", number), "is private now"),
            (("open-history", number), "its whole history"),
            (("open-history", number, "--off"), "from their joining on"),
            (("archive", number), "is archived now"),
            (("reopen", number), "is open again"),
        ):
            done = await anna("channel", *step)
            assert (done.code, told in done.err) == (0, True), (step, done.err)
        [bobs] = [
            one for one in json.loads((await bob("channel", "members", number, "--json")).out) if one["name"] == "bob"
        ]
        assert bobs["role"] == "moderator"
        assert (await anna("channel", "remove", number, "bob")).code == 0
        shown = (await bob("history", number, "--peek")).out.splitlines()
        assert [line.partition(": ")[2] for line in shown] == [
            "anna added you.",
            "anna changed the title to “Ward 5”.",
            "anna changed the topic to “Nights”.",
            "anna removed the topic.",
            "anna archived the channel.",
            "anna reopened the channel.",
            "anna removed you.",
        ]
        assert cluster.rows(
            "SELECT public, archived, open_history FROM channels WHERE conversation_id = ?", (channel,)
        ) == [(0, 0, 0)]


async def test_a_message_to_a_channel_without_others_is_sent_and_says_so(tmp_path: Path) -> None:
    async with two_people(tmp_path) as (anna, _, _cluster):
        number = (await anna("channel", "create", "Ward 4")).out.strip()
        alone = await anna("send", "#Ward 4", "anybody?")
        assert (alone.code, "Nobody else is here." in alone.err) == (0, True), alone.err
        assert (await anna("channel", "add", number, "bob")).code == 0
        assert "Nobody else" not in (await anna("send", number, "you are")).err


async def test_a_title_that_names_no_channel_or_several_is_told_with_their_numbers(tmp_path: Path) -> None:
    async with two_people(tmp_path) as (anna, bob, _):
        numbers = [(await anna("channel", "create", "twice", "--public")).out.strip() for _ in range(2)]
        for command, title, hint in (
            ("join", "twice", f"2 channels have the title 'twice': {', '.join(numbers)}"),
            ("join", "#nowhere", "exactly the title 'nowhere'"),
            ("leave", "twice", "no channel of yours has this title"),
            ("join", "#", "No channel was named"),
        ):
            refused = await bob(command, title)
            assert (refused.code, hint in refused.err) == (ExitCode.USAGE, True), refused.err
        private = (await anna("channel", "create", "secret")).out.strip()
        hidden = await bob("join", private)
        assert hidden.code == ExitCode.REFUSED
        assert "secret" not in (await bob("channels")).out


async def test_a_channel_with_the_title_everyone_is_not_the_conversation_of_everyone(tmp_path: Path) -> None:
    async with two_people(tmp_path) as (anna, bob, cluster):
        number = int((await anna("channel", "create", "Everyone")).out.strip().removeprefix("#"))
        sent = await anna("send", "#everyone", "for the members only")
        assert sent.code == 0, sent.err
        told = [message for message in cluster.messages if message.body == "for the members only"]
        assert [message.conversation_id for message in told] == [number]
        assert (await bob("leave", "#everyone")).code == ExitCode.USAGE, "a title, of no channel of bob's"


# ---- the chat


async def goes(shown: Shown, *lines: str) -> None:
    for line in lines:
        await shown.view.take(line)


async def test_a_channel_is_found_joined_changed_and_left_in_the_chat(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        cluster = shown.cluster
        async with signed_in(cluster, tmp_path / "b", "bob") as bob:
            channel = await bob.create_channel("Ward 4")
            await bob.change_channel(channel, public=True, topic="Nights")
            await goes(shown, "/channels")
            await shown.expect(f"#{channel}  Ward 4 (1 member, public)  Nights")
            await goes(shown, "/join ward 5", "/join #Ward 4")
            assert shown.has("exactly the title 'ward 5'")
            await shown.expect("You joined.")
            await until(lambda: shown.view.prompt == "anna → Ward 4> ", "the prompt names the channel")
            await goes(shown, "/topic")
            assert shown.has("The topic is “Nights”.")
            await goes(shown, "/rename Mine")
            assert shown.has("Your role in the channel does not allow this.")
            await bob.set_member_role(channel, "anna", MemberRole.MODERATOR)
            await goes(shown, "/rename Ward 5", "/topic Days", "/invite carl")
            await shown.expect("You changed the title to “Ward 5”.")
            await shown.expect("You changed the topic to “Days”.")
            await shown.expect("You added carl.")
            await goes(shown, "/remove carl")
            await shown.expect("You removed carl.")
            await goes(shown, "/leave")
            await shown.expect("You left.")
            await shown.expect("You are no longer in this channel.")
            await goes(shown, "anybody?")
            assert shown.has("The message was not sent. You are no longer in this channel.")
            assert await shown.client.outgoing() == ()
            await goes(shown, "/conversations")
            assert shown.has(f"Ward 5 (#{channel}, left)")
            await goes(shown, f"/join #{channel}", "back again")
            await shown.expect("you → Ward 5: back again ✓")


async def test_the_chat_says_where_nobody_else_is_and_what_is_archived(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        channel = await shown.client.create_channel("Ward 4", ["bob"])
        await goes(shown, f"/to #{channel}")
        assert not shown.has("Nobody else is here.")
        await goes(shown, "/remove bob")
        await shown.expect("Nobody else is here.")
        await shown.client.change_channel(channel, archived=True)
        await shown.expect("This channel is archived.")
        await goes(shown, "too late")
        assert shown.has("The message was not sent. This channel is archived.")


@pytest.mark.parametrize("command", ["/leave", "/invite carl", "/remove carl", "/topic x", "/rename x"])
async def test_a_command_about_a_channel_says_that_none_is_open(tmp_path: Path, command: str) -> None:
    async with view(tmp_path, "bob") as shown:
        await goes(shown, command)
        assert shown.has("No channel is open here. Nothing was changed.")


async def test_a_listed_channel_says_whether_one_is_in_it(tmp_path: Path) -> None:
    async with anna_and_bob(tmp_path) as (anna, bob, _):
        channel = await anna.create_channel("Ward 4", ["bob"])
        await anna.change_channel(channel, public=True)
        await bob.leave_channel(channel)
        [listed] = await bob.list_channels()
        assert isinstance(listed, ListedChannel)
        assert (listed.joined, listed.channel.member_count, listed.channel.members) == (False, 1, ())


def test_a_title_leads_to_the_channel_that_one_is_still_in() -> None:
    left = Conversation(1, ConversationKind.CHANNEL, "ops")
    live = Conversation(2, ConversationKind.CHANNEL, "Ops", member_count=2)
    assert naming._called((left, live), "ops") == [live]
    assert naming._called((left,), "ops") == [left], "its history is read by its title"
