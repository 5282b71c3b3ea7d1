"""Where settings come from: flag over environment over file, for every row of the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from parleyd.settings.kinds import AddressMap, BoolSetting, Choice, FilePath, HostPort, Integer, IpAddresses, NodeName
from parleyd.settings.load import SettingsError, load_settings
from parleyd.settings.table import SETTINGS, Setting, Settings, show

EVERY_SETTING = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)


def three_values(setting: Setting, folder: Path) -> tuple[str, str, str]:
    """Three different allowed texts: for the file, the environment and the flag."""
    kind = setting.kind
    if isinstance(kind, Integer):
        base = setting.default if isinstance(setting.default, int) else kind.least
        # Near the default and a whole number of ticks, so that no check between settings objects.
        step = -1 if base + 3 > kind.most or setting.name == "tick_ms" else 1
        values = {
            "tick_ms": (5, 2, 1),
            "heartbeat_ms": (25, 75, 100),
            "election_timeout_min_ms": (260, 270, 280),
            "election_timeout_max_ms": (510, 520, 530),
        }.get(setting.name, (base + step, base + 2 * step, base + 3 * step))
        return str(values[0]), str(values[1]), str(values[2])
    if isinstance(kind, Choice):
        return kind.words[1], kind.words[2], kind.words[0]
    if isinstance(kind, BoolSetting):
        return "true", "false", "true"
    if isinstance(kind, NodeName):
        return "n1", "n2", "n3"
    if isinstance(kind, HostPort):
        return "127.0.0.2:7801", "[::1]:7802", "localhost:7803"
    if isinstance(kind, FilePath):
        return str(folder / "a"), str(folder / "b"), str(folder / "c")
    if isinstance(kind, IpAddresses):
        return "10.0.0.5", "10.0.0.5, fd00::5", "192.0.2.1"
    assert isinstance(kind, AddressMap)
    return "n1=127.0.0.1:7801", "n1=127.0.0.1:7802,n2=127.0.0.1:7803", "n1=127.0.0.1:7804"


def as_toml(setting: Setting, text: str) -> str:
    return f"{setting.name} = {setting.kind.to_toml(setting.kind.from_text(text))}\n"


def as_flag(setting: Setting, text: str) -> object:
    if setting.is_repeatable:
        return text.split(",")
    return text == "true" if setting.is_switch else text


def neighbours(setting: Setting, chosen: str, folder: Path) -> dict[str, object]:
    """The flags that make the setting under test the only interesting one."""
    given: dict[str, object] = {"name": "n1", "data_dir": str(folder / "data"), "insecure": True}
    if setting.name == "insecure" and chosen == "false":
        for name in ("ca_file", "cert_file", "key_file"):
            (folder / name).touch(mode=0o600)
            given[name] = str(folder / name)
    if setting.name in ("http_cert_file", "http_key_file"):  # one needs the other, and both are read
        Path(chosen).touch(mode=0o600)
        given |= {"http_cert_file": chosen, "http_key_file": chosen, "http_listen": "127.0.0.1:7800"}
    if setting.name == "join":
        given["name"] = "n9"  # nobody joins itself
    if setting.name == "peer_advertise":
        given["peers"] = [f"n1={chosen}"]
    if setting.name == "backup_interval_s":
        given["backup_folder"] = str(folder / "backups")
    given.pop(setting.name, None)
    return given


@EVERY_SETTING
@pytest.mark.parametrize("winner", ["file", "environment", "flag"])
def test_flag_wins_over_environment_wins_over_file(setting: Setting, winner: str, tmp_path: Path) -> None:
    in_file, in_environment, in_flag = three_values(setting, tmp_path)
    config = tmp_path / "node.toml"
    config.write_text(as_toml(setting, in_file))
    environ = {setting.variable: in_environment} if winner != "file" else {}
    chosen = {"file": in_file, "environment": in_environment, "flag": in_flag}[winner]
    flags = neighbours(setting, chosen, tmp_path)
    if winner == "flag":
        flags[setting.name] = as_flag(setting, in_flag)

    loaded = load_settings(flags, environ, config)

    value = getattr(loaded.settings, setting.name)
    assert (dict(value) if setting.is_repeatable else value) == setting.kind.from_text(chosen)
    assert (
        loaded.origins[setting.name]
        == {
            "file": f"{config}: {setting.name}",
            "environment": f"environment variable {setting.variable}",
            "flag": f"flag {setting.flag}",
        }[winner]
    )


@EVERY_SETTING
def test_every_setting_has_help_a_group_and_a_default_within_its_bounds(setting: Setting) -> None:
    assert setting.help.endswith(".")
    assert setting.group
    if setting.default not in (None, "", {}):
        assert setting.kind.from_text(setting.kind.to_toml(setting.default).strip('"')) == setting.default


def test_the_defaults_of_the_table_are_those_of_the_class(tmp_path: Path) -> None:
    loaded = load_settings({"name": "n1", "data_dir": str(tmp_path), "insecure": True}, {})
    assert loaded.settings == Settings(name="n1", data_dir=tmp_path, insecure=True)
    assert loaded.warnings == ()
    assert loaded.origins["heartbeat_ms"] == "default"


@EVERY_SETTING
def test_what_show_writes_is_read_back_as_the_same(setting: Setting, tmp_path: Path) -> None:
    text, _, _ = three_values(setting, tmp_path)
    first = load_settings(neighbours(setting, text, tmp_path) | {setting.name: as_flag(setting, text)}, {}).settings
    config = tmp_path / "node.toml"
    config.write_text(
        "".join(f"{name} = {show(name, first)}\n" for name in SETTINGS if getattr(first, name) is not None)
    )
    assert load_settings({}, {}, config).settings == first


def test_a_path_in_a_file_is_relative_to_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    config = folder / "node.toml"
    config.write_text('name = "n1"\ndata_dir = "data"\ninsecure = true\n')
    monkeypatch.chdir(tmp_path)
    assert load_settings({}, {}, Path("etc/node.toml")).settings.data_dir == folder / "data"
    assert load_settings({"data_dir": "data"}, {}, config).settings.data_dir == tmp_path / "data"


def test_an_empty_environment_variable_counts_as_not_given(tmp_path: Path) -> None:
    flags = {"name": "n1", "data_dir": str(tmp_path), "insecure": True}
    loaded = load_settings(flags, {"PARLEYD_HEARTBEAT_MS": "", "PARLEYD_CONFIG": ""})
    assert loaded.settings.heartbeat_ms == 50


def test_a_negated_flag_switches_off_what_the_file_switched_on(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text("insecure = true\ninsecure_network = true\n")
    flags = {"name": "n1", "data_dir": str(tmp_path), "insecure_network": False}
    loaded = load_settings(flags, {}, config)
    assert not loaded.settings.insecure_network
    assert loaded.origins["insecure_network"] == "flag --no-insecure-network"


def test_the_environment_may_name_the_file_and_a_flag_names_another(tmp_path: Path) -> None:
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    for path, heartbeat in ((one, 25), (two, 75)):
        path.write_text(f'name = "n1"\ndata_dir = "d"\ninsecure = true\nheartbeat_ms = {heartbeat}\n')
    environ = {"PARLEYD_CONFIG": str(one)}
    assert load_settings({}, environ).settings.heartbeat_ms == 25
    assert load_settings({}, environ, two).settings.heartbeat_ms == 75


def test_a_misspelt_environment_variable_is_warned_about(tmp_path: Path) -> None:
    flags = {"name": "n1", "data_dir": str(tmp_path), "insecure": True}
    (warning,) = load_settings(flags, {"PARLEYD_HEARTBEAT": "10", "PATH": "/bin"}).warnings
    assert "PARLEYD_HEARTBEAT is not a setting" in warning
    assert "did you mean PARLEYD_HEARTBEAT_MS?" in warning


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"hearbeat_ms = 50", "did you mean heartbeat_ms?"),
        (b"heartbeat-ms = 50", "did you mean heartbeat_ms?"),
        (b"qqq = 1", "there is no such setting"),
        (b"[timing]\nheartbeat_ms = 50", "settings stand at the top of the file"),
        (b"heartbeat_ms = ", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"#" * (1 << 20) + b"#", "larger than"),
        (b"name = " + b"[" * 5_000, "nested too deeply"),
        (b"name = " + b"{a=" * 5_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_name(content: bytes, expected: str, tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_settings({"name": "n1", "data_dir": str(tmp_path), "insecure": True}, {}, config)
    (problem,) = caught.value.problems
    assert expected in problem.text
    assert str(config) in problem.origin


def test_a_file_that_cannot_be_read_is_the_only_problem(tmp_path: Path) -> None:
    """Nothing is known of the settings in it: that a name or a certificate is missing would be a guess."""
    with pytest.raises(SettingsError) as caught:
        load_settings({}, {}, tmp_path / "gone.toml")
    (problem,) = caught.value.problems
    assert (problem.setting, problem.text) == ("config", "the settings file cannot be read: No such file or directory")


def test_the_value_of_an_unknown_key_is_not_repeated(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text('admin_password = "correct horse"\n')
    with pytest.raises(SettingsError) as caught:
        load_settings({}, {}, config)
    assert "admin_password" in str(caught.value)
    assert "correct horse" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load_settings({}, {}, tmp_path / "nowhere.toml")


def test_every_problem_is_reported_at_once_with_its_source(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text('tick_ms = "ten"\nmax_clients = 0\n')
    with pytest.raises(SettingsError) as caught:
        load_settings({"name": "N1", "insecure": True}, {"PARLEYD_LOG_LEVEL": "loud"}, config)
    found = {problem.setting: problem.origin for problem in caught.value.problems}
    assert found == {
        "name": "flag --name",
        "data_dir": "not given",
        "tick_ms": f"{config}: tick_ms",
        "max_clients": f"{config}: max_clients",
        "log_level": "environment variable PARLEYD_LOG_LEVEL",
    }
    assert str(caught.value).startswith("5 settings are wrong")


def test_peers_come_from_a_table_in_the_file(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        'name = "n1"\ndata_dir = "d"\ninsecure = true\n[peers]\nn1 = "127.0.0.1:7701"\n'
        'n2 = "127.0.0.2:7701"\nn3 = "[::1]:7701"\n'
    )
    settings = load_settings({}, {}, config).settings
    assert dict(settings.peers) == {"n1": "127.0.0.1:7701", "n2": "127.0.0.2:7701", "n3": "[::1]:7701"}
    assert settings.peer_advertise == "127.0.0.1:7701"


def test_addresses_left_out_follow_from_the_others(tmp_path: Path) -> None:
    alone = Settings("n1", tmp_path, peer_listen="127.0.0.1:7801", client_listen="127.0.0.1:7802")
    assert alone.client_advertise == "127.0.0.1:7802"
    assert alone.peer_advertise == "127.0.0.1:7801"
    assert dict(alone.peers) == {"n1": "127.0.0.1:7801"}
    named = Settings("n1", tmp_path, peer_listen="0.0.0.0:7801", peers={"n1": "ward-a:7801", "n2": "ward-b:7801"})
    assert named.peer_advertise == "ward-a:7801"
