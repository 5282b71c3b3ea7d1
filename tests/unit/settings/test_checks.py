"""What settings may not be: every refusal and every warning, by the words a person will read."""

from __future__ import annotations

from pathlib import Path

import pytest

from parleyd.machine.limits import MAX_BODY_BYTES
from parleyd.settings.kinds import Integer
from parleyd.settings.load import LoadedSettings, Problem, SettingsError, load_settings
from parleyd.settings.table import SETTINGS, Setting

INTEGERS = [setting for setting in SETTINGS.values() if isinstance(setting.kind, Integer)]


def load(folder: Path, **flags: object) -> LoadedSettings:
    return load_settings({"name": "n1", "data_dir": str(folder / "data"), "insecure": True} | flags, {})


def problems(folder: Path, **flags: object) -> tuple[Problem, ...]:
    with pytest.raises(SettingsError) as caught:
        load(folder, **flags)
    return caught.value.problems


def only_problem(folder: Path, **flags: object) -> Problem:
    (problem,) = problems(folder, **flags)
    return problem


@pytest.mark.parametrize("setting", INTEGERS, ids=lambda setting: setting.name)
def test_numbers_out_of_bounds_are_refused_with_the_bounds(setting: Setting, tmp_path: Path) -> None:
    assert isinstance(setting.kind, Integer)
    for value, reason in ((setting.kind.least - 1, "too small"), (setting.kind.most + 1, "too large")):
        problem = only_problem(tmp_path, **{setting.name: str(value)})
        assert problem.setting == setting.name
        assert problem.value == repr(str(value))
        assert reason in problem.text
        assert f"from {setting.kind.least} to {setting.kind.most}" in problem.text


@pytest.mark.parametrize("text", ["", "ten", "1.5", " 5", "1_000", "0x10", "٣", "9" * 40, "--5"])
def test_what_is_no_whole_number_is_refused(text: str, tmp_path: Path) -> None:
    assert "not a whole number" in only_problem(tmp_path, max_clients=text).text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('max_clients = "50"', "without quotes"),
        ("max_clients = 5.0", "without a decimal point"),
        ("max_clients = true", "not a whole number"),
        ('insecure_network = "yes"', "neither true nor false"),
        ("insecure_network = 1", "neither true nor false"),
        ("log_level = 1", "put it in quotes"),
        ("client_listen = 7600", "put it in quotes"),
        ('peers = "n1=127.0.0.1:1"', "not a table"),
        ("peers = { n1 = 1 }", "not text"),
        ('peers = { N1 = "127.0.0.1:1" }', "not the name of a node"),
        ('ca_file = ""', "not a path"),
        ('ca_file = "a\\u0000b"', "not a path"),
    ],
)
def test_a_value_of_the_wrong_type_in_a_file_is_refused(line: str, reason: str, tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(line)
    with pytest.raises(SettingsError) as caught:
        load_settings({"name": "n1", "data_dir": str(tmp_path), "insecure": True}, {}, config)
    (problem,) = caught.value.problems
    assert reason in problem.text


@pytest.mark.parametrize("name", ["N1", "1n", "-n", "n-", "n_1", "n.1", "é", "n" * 33, "n1 "])
def test_node_names_that_no_certificate_could_carry_are_refused(name: str, tmp_path: Path) -> None:
    problem = only_problem(tmp_path, name=name)
    assert problem.setting == "name"
    assert "not the name of a node" in problem.text


def test_words_outside_the_choice_are_refused_with_the_choice(tmp_path: Path) -> None:
    assert "one of auto, json, console" in only_problem(tmp_path, log_format="xml").text
    assert load(tmp_path, log_level="WARNING").settings.log_level == "warning"


def test_a_switch_in_the_environment_must_be_true_or_false(tmp_path: Path) -> None:
    flags = {"name": "n1", "data_dir": str(tmp_path)}
    with pytest.raises(SettingsError, match="neither true nor false"):
        load_settings(flags | {"insecure": True}, {"PARLEYD_INSECURE_NETWORK": "maybe"})
    assert load_settings(flags, {"PARLEYD_INSECURE": "Yes"}).settings.insecure


@pytest.mark.parametrize(
    ("peers", "reason"),
    [
        (["n1"], "not name=host:port"),
        (["n1=127.0.0.1"], "port is missing"),
        (["N1=127.0.0.1:1"], "not the name of a node"),
        (["n1=127.0.0.1:1", "n1=127.0.0.1:2"], "names n1 twice"),
        (["n2=127.0.0.1:1"], "must name this node too: n1"),
        (["n1=127.0.0.1:1", "n2=127.0.0.1:1", "n3=127.0.0.1:3"], "n1 and n2 the same address"),
        (["n1=127.0.0.1:1", *(f"p{i}=127.0.0.1:{i}" for i in range(2, 9))], "at most 7"),
    ],
)
def test_members_that_make_no_cluster_are_refused(peers: list[str], reason: str, tmp_path: Path) -> None:
    assert any(reason in problem.text and problem.setting == "peers" for problem in problems(tmp_path, peers=peers))


def test_an_even_number_of_members_is_warned_about(tmp_path: Path) -> None:
    loaded = load(tmp_path, peers=["n1=127.0.0.1:1", "n2=127.0.0.1:2"])
    assert "no more failures than 1" in loaded.warnings[0]
    assert load(tmp_path, peers=[f"n{i}=127.0.0.1:{i}" for i in (1, 2, 3)]).warnings == ()


def test_timers_must_be_in_order(tmp_path: Path) -> None:
    assert "multiple of tick_ms" in only_problem(tmp_path, heartbeat_ms="55").text
    problem = only_problem(tmp_path, heartbeat_ms="250", election_timeout_min_ms="250")
    assert problem.setting == "election_timeout_min_ms"
    assert "more than heartbeat_ms, which is 250" in problem.text
    assert "at least a tick of 25" in only_problem(tmp_path, heartbeat_ms="250", election_timeout_min_ms="259").text
    problem = only_problem(tmp_path, election_timeout_min_ms="500")
    assert problem.setting == "election_timeout_max_ms"
    assert problem.value == ""  # nobody gave it: it is the default
    assert "more than election_timeout_min_ms, which is 500" in problem.text
    assert "two ticks" in only_problem(tmp_path, election_timeout_max_ms="260").text


def test_a_log_that_may_eat_the_reserve_of_the_disk_is_warned_about(tmp_path: Path) -> None:
    loaded = load(tmp_path, disk_reserve_bytes=str(100 << 20), log_retain_bytes=str(51 << 20))
    assert "log_retain_bytes" in loaded.warnings[0]
    assert "half of disk_reserve_bytes" in loaded.warnings[0]
    assert load(tmp_path, disk_reserve_bytes=str(100 << 20), log_retain_bytes=str(50 << 20)).warnings == ()


def test_an_election_timeout_near_the_heartbeat_is_warned_about(tmp_path: Path) -> None:
    loaded = load(tmp_path, heartbeat_ms="100")
    assert "one late heartbeat may depose a working leader" in loaded.warnings[0]


def test_limits_must_fit_into_each_other(tmp_path: Path) -> None:
    assert "2097152" in only_problem(tmp_path, max_entry_bytes=str(2 * MAX_BODY_BYTES - 1)).text
    problem = only_problem(tmp_path, max_entry_bytes=str(2 << 20), max_uncommitted_bytes=str(1 << 20))
    assert "at least max_entry_bytes" in problem.text


@pytest.mark.parametrize(
    ("client", "peer"),
    [
        ("127.0.0.1:7600", "127.0.0.1:7600"),
        ("0.0.0.0:7600", "127.0.0.1:7600"),
        ("127.0.0.1:7600", "[::]:7600"),
    ],
)
def test_clients_and_nodes_need_ports_of_their_own(client: str, peer: str, tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        client_listen=client,
        peer_listen=peer,
        insecure_network=True,
        client_advertise="a:1",
        peers=["n1=b:1"],
    )
    assert [problem.setting for problem in found] == ["peer_listen"]
    assert "must differ from client_listen" in found[0].text


def test_the_same_port_on_two_addresses_is_no_collision(tmp_path: Path) -> None:
    assert load(tmp_path, client_listen="127.0.0.2:7600", peer_listen="127.0.0.3:7600").warnings == ()


@pytest.mark.parametrize("address", ["0.0.0.0:7600", "[::]:7600"])
def test_an_address_nobody_can_dial_is_not_advertised(address: str, tmp_path: Path) -> None:
    problem = only_problem(tmp_path, client_listen=address, insecure_network=True)
    assert problem.setting == "client_advertise"
    assert "needed because client_listen is" in problem.text
    problem = only_problem(tmp_path, client_advertise=address)
    assert f"nobody can connect to {address}" in problem.text
    problem = only_problem(tmp_path, client_listen="127.0.0.1:1", peer_listen=address, insecure_network=True)
    assert problem.setting == "peer_advertise"
    found = problems(tmp_path, peers=["n1=127.0.0.1:1", f"n2={address}", "n3=127.0.0.1:3"], insecure_network=True)
    assert [(problem.setting, "n2" in problem.text) for problem in found] == [("peers", True)]


def test_the_advertised_peer_address_must_be_the_one_in_peers(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, peer_advertise="127.0.0.1:9", peers=["n1=127.0.0.1:7700"])
    assert "differs from the entry of n1" in problem.text


def test_listening_on_loopback_among_remote_members_is_warned_about(tmp_path: Path) -> None:
    peers = ["n1=10.0.0.1:7700", "n2=10.0.0.2:7700", "n3=10.0.0.3:7700"]
    loaded = load(tmp_path, peers=peers, insecure_network=True)
    assert "only this machine can reach" in loaded.warnings[0]


@pytest.mark.parametrize(
    "flags",
    [
        {"client_listen": "10.0.0.1:7600"},
        {"client_listen": "ward-a:7600"},
        {"client_listen": "0.0.0.0:7600", "client_advertise": "127.0.0.1:7600"},
        {"peer_listen": "[2001:db8::1]:7600"},
        {"http_listen": "10.0.0.1:7800"},
        {"peers": ["n1=127.0.0.1:7700", "n2=10.0.0.2:7700", "n3=127.0.0.1:7702"]},
    ],
)
def test_insecure_is_refused_beyond_this_machine_without_the_second_flag(
    flags: dict[str, object], tmp_path: Path
) -> None:
    found = problems(tmp_path, **flags)
    assert [problem.setting for problem in found] == [next(iter(flags))]
    assert "insecure is refused" in found[0].text
    assert load(tmp_path, **flags, insecure_network=True).settings.insecure


def test_the_second_flag_alone_changes_nothing_and_says_so(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("ca_file", "cert_file", "key_file")}
    for path in files.values():
        path.touch(mode=0o600)
    flags = {name: str(path) for name, path in files.items()}
    loaded = load(tmp_path, insecure=False, insecure_network=True, **flags)
    assert not loaded.settings.insecure
    assert "has no effect without insecure" in loaded.warnings[0]


def test_without_insecure_certificates_are_needed(tmp_path: Path) -> None:
    found = problems(tmp_path, insecure=False)
    assert [problem.setting for problem in found] == ["ca_file", "cert_file", "key_file"]
    assert all("parleyd cert" in problem.text for problem in found)


def test_certificate_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "key").touch(mode=0o600)
    found = problems(
        tmp_path,
        insecure=False,
        ca_file=str(tmp_path / "none"),
        cert_file=str(tmp_path / "folder"),
        key_file=str(tmp_path / "key"),
    )
    assert {problem.setting: problem.text.partition(": ")[2] for problem in found} == {
        "ca_file": "No such file or directory",
        "cert_file": "Is a directory",
    }


@pytest.mark.parametrize("name", ["client_listen", "peer_listen"])
def test_monitoring_needs_a_port_of_its_own(name: str, tmp_path: Path) -> None:
    problem = only_problem(tmp_path, **{name: "127.0.0.1:7800"}, http_listen="127.0.0.1:7800")
    assert problem.setting == "http_listen"
    assert f"must differ from {name}" in problem.text
    assert load(tmp_path, http_listen="127.0.0.1:7800").settings.http_listen == "127.0.0.1:7800"


def test_an_address_of_monitoring_may_be_empty_and_is_then_not_served(tmp_path: Path) -> None:
    assert load(tmp_path, http_listen="").settings.http_listen == ""
    assert "not an address" in only_problem(tmp_path, http_listen="7800").text


def monitoring_pair(folder: Path) -> dict[str, object]:
    """The flags of a certificate for monitoring."""
    for name in ("http_cert_file", "http_key_file"):
        (folder / name).touch(mode=0o600)
    return {name: str(folder / name) for name in ("http_cert_file", "http_key_file")}


def test_an_own_certificate_of_monitoring_protects_it_without_the_clusters(tmp_path: Path) -> None:
    pair = monitoring_pair(tmp_path)
    assert load(tmp_path, http_listen="10.0.0.1:7800", **pair).warnings == ()
    assert "has no effect without http_listen" in load(tmp_path, **pair).warnings[0]


def test_a_certificate_of_monitoring_needs_its_key_and_both_must_be_readable(tmp_path: Path) -> None:
    pair = monitoring_pair(tmp_path)
    for given, missing in (("http_cert_file", "http_key_file"), ("http_key_file", "http_cert_file")):
        problem = only_problem(tmp_path, http_listen="127.0.0.1:7800", **{given: pair[given]})
        assert (problem.setting, f"is needed beside {given}" in problem.text) == (missing, True)
    (tmp_path / "http_cert_file").unlink()
    problem = only_problem(tmp_path, http_listen="127.0.0.1:7800", **pair)
    assert (problem.setting, "cannot be read" in problem.text) == ("http_cert_file", True)
    monitoring_pair(tmp_path)
    (tmp_path / "http_key_file").chmod(0o640)
    assert "chmod 600" in only_problem(tmp_path, http_listen="127.0.0.1:7800", **pair).text


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_can_read_is_refused(mode: int, tmp_path: Path) -> None:
    flags = {}
    for name in ("ca_file", "cert_file", "key_file"):
        (tmp_path / name).touch()
        flags[name] = str(tmp_path / name)
    (tmp_path / "key_file").chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        load(tmp_path, insecure=False, **flags)


def test_cheap_password_hashing_is_for_insecure_tests_only(tmp_path: Path) -> None:
    assert load(tmp_path, bcrypt_cost="4").settings.bcrypt_cost == 4
    for name in ("ca_file", "cert_file", "key_file"):
        (tmp_path / name).touch(mode=0o600)
    files = {name: str(tmp_path / name) for name in ("ca_file", "cert_file", "key_file")}
    assert "at least 10" in only_problem(tmp_path, insecure=False, bcrypt_cost="9", **files).text


@pytest.mark.parametrize("name", ["data_dir", "ca_file", "join_token_file"])
def test_the_home_of_nobody_is_refused(name: str, tmp_path: Path) -> None:
    problem = only_problem(tmp_path, **{name: "~nobody-has-this-name/x"})
    assert problem.setting == name
    assert "~nobody-has-this-name" in problem.value
    assert "home of a user" in problem.text


@pytest.mark.parametrize("name", ["data_dir", "ca_file"])
def test_a_path_that_is_not_utf_8_is_refused_before_anything_is_made_there(name: str, tmp_path: Path) -> None:
    problem = only_problem(tmp_path, **{name: str(tmp_path / "\udc80")})
    assert problem.setting == name
    assert "not UTF-8" in problem.text
    str(problem).encode()
    assert list(tmp_path.iterdir()) == []


def test_a_data_directory_that_cannot_be_looked_at_is_refused(tmp_path: Path) -> None:
    assert "cannot be used" in only_problem(tmp_path, data_dir="x" * 5_000).text


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert "not a folder" in only_problem(tmp_path).text


def test_a_check_is_left_out_when_one_of_its_settings_is_unreadable(tmp_path: Path) -> None:
    found = problems(tmp_path, heartbeat_ms="x", election_timeout_min_ms="30", election_timeout_max_ms="100")
    assert [problem.setting for problem in found] == ["heartbeat_ms"]
    found = problems(tmp_path, name="N1", peers=["n1=127.0.0.1:1"])
    assert [problem.setting for problem in found] == ["name"]
