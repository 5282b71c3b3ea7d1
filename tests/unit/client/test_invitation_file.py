"""Invitations come from outside: what is none is refused in words, without its values, and nothing waits for ever."""

import base64
import json
import os
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parley import BadInputError, ParleyError
from parley.inviting.invitation_file import (
    LINK,
    MAX_BYTES,
    InvitationFile,
    is_invitation,
    new_file,
    parse_text,
    read_invitation,
)
from parley.terminal.contexts import Context, Contexts
from parley.terminal.join_command import prepare
from parley.terminal.options import ConnectionOptions
from tests.unit.client.certificates import Authority

PEM, OTHER = Authority("ward").pem.decode(), Authority("other").pem.decode()
CODE = "abcdefghj-kmnpqrstu-vwxyz2345"
NEXT_WEEK_MS = int((time.time() + 7 * 86_400) * 1000)
GOOD = InvitationFile("ward", ("alpha:7600", "[::1]:7600"), PEM, "kim", CODE, NEXT_WEEK_MS)


def with_values(**values: Any) -> str:
    return json.dumps({**json.loads(GOOD.to_line()), **values})


def as_link(text: str) -> str:
    return LINK + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize("text", [GOOD.to_line(), GOOD.to_link(), GOOD.to_link() + "/", f"\ufeff {GOOD.to_line()}\n"])
def test_a_link_and_a_file_hold_the_same(text: str) -> None:
    found = parse_text(text)
    assert replace(found, ca="") == replace(GOOD, ca="")
    assert "".join(found.ca.split()) == "".join(PEM.split())


def test_the_secret_is_not_in_what_programs_print_of_it() -> None:
    assert CODE not in repr(GOOD)


def test_the_fingerprint_is_the_one_that_other_programs_print() -> None:
    [shown] = GOOD.fingerprints
    assert len(shown) == 32 * 3 - 1
    assert shown == shown.upper()
    assert parse_text(with_values(ca=PEM + OTHER)).fingerprints == (shown, *replace(GOOD, ca=OTHER).fingerprints)


@pytest.mark.parametrize("link", [GOOD.to_link(), GOOD.to_link().replace("parley://invite", "PARLEY://Invite")])
@pytest.mark.parametrize(
    "around", ["<{}>", "{}.", "({}).", "<{}>,", "{}!", " {}/?\n", '"{}"', "\u201e{}\u201c", "<{}/>"]
)
def test_what_people_and_their_programs_write_around_a_link_is_no_part_of_it(link: str, around: str) -> None:
    word = around.format(link)
    assert is_invitation(word)
    assert read_invitation(word).code == parse_text(word).code == CODE


@pytest.mark.parametrize(("version", "shown"), [(2, "2"), (17, "17"), (10**30, "a later one")])
def test_an_unknown_version_is_refused_in_words(version: int, shown: str) -> None:
    with pytest.raises(BadInputError, match=r"reads version 1\. Nothing was done\. Install a newer release") as refused:
        parse_text(with_values(version=version, added="later"))
    assert f"is {shown}, and" in str(refused.value)
    assert len(str(refused.value)) < 300


BAD: dict[str, str] = {
    "nothing": "",
    "no JSON": "{",
    "a list": "[]",
    "another format": json.dumps({"format": "else", "version": 1}),
    **{f"version {value!r}": with_values(version=value) for value in (0, -1, True, "1", 1.0, None, "\x1b[2J")},
    "nested": "[" * 20_000,
    "twice": GOOD.to_line().replace('"account": "kim"', '"account": "kim", "account": "eve"'),
    "no number": GOOD.to_line().replace(str(NEXT_WEEK_MS), "NaN"),
    "more values": with_values(filter="evil:1"),
    "fewer values": json.dumps({"format": "parley-invite", "version": 1}),
    "too large": with_values(cluster="x" * MAX_BYTES),
    "cluster with control characters": with_values(cluster="ward\x1b[2J"),
    "cluster with a path": with_values(cluster="../ward"),
    "account with a direction mark": with_values(account="kim\u202e"),
    "account of another type": with_values(account=["kim"]),
    "code with a space": with_values(code="a b"),
    "code missing": with_values(code=""),
    "no hosts": with_values(hosts=[]),
    "many hosts": with_values(hosts=[f"h{n}:1" for n in range(40)]),
    "hosts as text": with_values(hosts="alpha:7600"),
    "host of another type": with_values(hosts=[7600]),
    "host with control characters": with_values(hosts=["alpha\x07:7600"]),
    "host with a comma": with_values(hosts=["alpha:7600,beta:7600"]),
    "host without a port": with_values(hosts=["alpha"]),
    "host that is a URL": with_values(hosts=["http://alpha:7600"]),
    "no CA for another machine": with_values(ca=""),
    "CA that is none": with_values(ca="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    "CA with a key": with_values(ca=PEM + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    "CA with many certificates": with_values(ca=PEM * 5),
    "time as text": with_values(expires_at_ms="soon"),
    "time that is none": with_values(expires_at_ms=10**20),
    "time that is true": with_values(expires_at_ms=True),
    "another link": "parley://elsewhere/abc",
    "link that was cut": GOOD.to_link()[:-5],
    "link with other characters": LINK + "a b",
    "link that is too large": as_link("x" * MAX_BYTES * 2),
    "link of bytes that are no text": LINK + base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    "link in a link": as_link(GOOD.to_link()),
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_is_no_invitation_is_refused_and_its_values_are_not_shown(text: str) -> None:
    with pytest.raises(BadInputError, match=r"cannot be used: .*Nothing was done") as refused:
        parse_text(text)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 250
    assert CODE not in str(refused.value)


def test_a_cluster_without_tls_is_taken_on_this_machine_alone() -> None:
    assert parse_text(with_values(ca="", hosts=["127.0.0.1:7600"])).fingerprints == ()


def test_a_file_is_secret_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "kim.parley-invite"
    with new_file(path, "Nobody was invited.") as fill:
        fill(GOOD)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ParleyError, match="cannot be made"), new_file(path, "Nobody was invited.") as fill:
        fill(replace(GOOD, account="eve"))
    for word in (str(path), path.as_uri(), f"file://localhost{path}"):
        assert is_invitation(word)
        assert read_invitation(word).account == "kim"


def test_a_file_of_another_machine_or_one_that_is_none_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.parley-invite")
    (tmp_path / "large").write_bytes(b" " * (MAX_BYTES + 1))
    (tmp_path / "bytes").write_bytes(b"\xff")
    for word, why in (
        ("pipe.parley-invite", "it is no file"),
        ("large", "larger than"),
        ("bytes", "not whole"),
        ("gone", "cannot be read"),
        (".", "cannot be read"),
        ("a\x00b", "cannot be read"),
    ):
        with pytest.raises(BadInputError, match=why):
            read_invitation(f"{tmp_path}/{word}")
    with pytest.raises(BadInputError, match="another machine"):
        read_invitation("file://elsewhere/kim.parley-invite")


def test_a_word_is_an_invitation_by_its_form_alone() -> None:
    assert all(map(is_invitation, ("-", LINK + "x", "PARLEY:x", "dir/kim.Parley-Invite", "file:///x")))
    assert not any(map(is_invitation, ("#7", "#Nights", "parley", "kim.pem", "everyone", "<kim>", "#7: parley:x")))


# ---- what it does to this machine


def options_in(folder: Path) -> ConnectionOptions:
    return ConnectionOptions((), None, insecure=False, account="", state_dir=folder)


def kept(folder: Path, **values: Any) -> Path:
    path = folder / f"{len(list(folder.iterdir()))}.parley-invite"
    path.write_text(replace(GOOD, **values).to_line())
    return path


def test_nothing_is_a_context_before_the_person_goes_on(tmp_path: Path) -> None:
    state = tmp_path / "state"
    joining = prepare(options_in(state), str(kept(tmp_path)))
    assert Contexts.load(state).by_name == {}
    assert CODE not in joining.about
    joining.keep("kim")
    contexts = Contexts.load(state)
    ward = contexts.by_name["ward"]
    assert (contexts.current, ward.hosts, ward.account, ward.insecure) == ("ward", GOOD.hosts, "kim", False)
    assert "".join(Path(ward.ca).read_text().split()) == "".join(PEM.split())
    assert stat.S_IMODE(Path(ward.ca).stat().st_mode) == 0o600
    again = prepare(options_in(state), str(kept(tmp_path)))
    assert (again.offered, again.options.account) == (None, "kim"), "the link of last week opens the session"


@pytest.mark.parametrize("values", [{"ca": OTHER}, {"hosts": ("evil:7600",)}, {"ca": "", "hosts": ("127.0.0.1:7600",)}])
def test_hosts_and_ca_of_a_context_are_never_replaced_unasked(tmp_path: Path, values: dict[str, Any]) -> None:
    """Otherwise a link sends the messages for the ward to another cluster."""
    state = tmp_path / "state"
    prepare(options_in(state), str(kept(tmp_path))).keep("kim")
    before = (state / "contexts.json").read_bytes()
    [file] = (state / "authorities").iterdir()
    other = str(kept(tmp_path, **values))
    with pytest.raises(BadInputError, match="a context ward already, with other hosts or another CA"):
        prepare(options_in(state), other)
    assert (state / "contexts.json").read_bytes() == before
    assert list((state / "authorities").iterdir()) == [file]
    prepare(options_in(state), other, context="lab").keep("kim")
    contexts = Contexts.load(state)
    assert (contexts.current, contexts.by_name["ward"].ca, set(contexts.by_name)) == (
        "ward",
        str(file),
        {"ward", "lab"},
    )
    prepare(options_in(state), other, replace_it=True).keep("kim")
    assert Contexts.load(state).by_name["ward"] == replace(contexts.by_name["lab"], account="kim")


def test_the_account_of_a_known_cluster_stays_until_another_one_has_signed_in(tmp_path: Path) -> None:
    state = tmp_path / "state"
    prepare(options_in(state), str(kept(tmp_path))).keep("kim")
    second = prepare(options_in(state), str(kept(tmp_path, account="ben")))
    second.keep("")
    assert Contexts.load(state).by_name["ward"].account == "kim"


def test_an_invitation_that_has_ended_is_told_before_a_password_is_typed(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="This invitation ended at"):
        prepare(options_in(tmp_path / "state"), str(kept(tmp_path, expires_at_ms=1)))
    assert not (tmp_path / "state").exists()


def test_contexts_that_cannot_be_read_are_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "contexts.json").write_text("{")
    with pytest.raises(BadInputError, match=r"contexts\.json"):
        prepare(options_in(tmp_path / "state"), str(kept(tmp_path)))
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["contexts.json"]


def test_a_ca_that_cannot_be_stored_leaves_no_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = str(kept(tmp_path))
    monkeypatch.setattr("parley.private_file.os.fsync", full)
    with pytest.raises(ParleyError, match="with the CA cannot be written"):
        prepare(options_in(tmp_path / "state"), path)
    assert list((tmp_path / "state" / "authorities").iterdir()) == []


def test_a_context_whose_ca_is_gone_is_not_taken_for_the_same(tmp_path: Path) -> None:
    contexts = Contexts.load(tmp_path / "state")
    contexts.with_context("ward", Context(GOOD.hosts, str(tmp_path / "gone.pem"))).save()
    with pytest.raises(BadInputError, match="a file that cannot be read"):
        prepare(options_in(tmp_path / "state"), str(kept(tmp_path)))
