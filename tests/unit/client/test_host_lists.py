"""The host flags of other clients: --hosts, --ports and --num_ports, beside --host."""

from pathlib import Path

import pytest

from parley import BadInputError, parse_host_lists
from parley.terminal.exits import ExitCode
from parley.terminal.options import Flags, resolve_options
from tests.support.node import running_cluster
from tests.unit.client.test_command import Parley


def read(hosts: str, ports: str, counts: str = "") -> list[str]:
    return [str(endpoint) for endpoint in parse_host_lists(hosts, ports, counts)]


def test_each_host_has_its_own_ports_from_its_first_one_on() -> None:
    assert read("a,b", "50000,50010", "2,3") == ["a:50000", "a:50001", "b:50010", "b:50011", "b:50012"]
    assert len(read("a,b", "50000,50001", "10,10")) == 20


def test_without_numbers_of_ports_each_host_has_one() -> None:
    assert read(" a , b ", "50000, 50001") == ["a:50000", "b:50001"]


def test_addresses_of_ipv6_are_taken_with_and_without_brackets() -> None:
    assert read("::1,[::1]", "1,2") == ["[::1]:1", "[::1]:2"]


@pytest.mark.parametrize(
    ("hosts", "ports", "counts", "hint"),
    [
        ("a", "", "", "--ports is missing"),
        ("", "1", "", "--hosts is missing"),
        ("", "", "1", "--hosts is missing"),
        ("a,b", "1", "", "--hosts has 2 entries and --ports has 1"),
        ("a,b", "1,2", "10", "--hosts has 2 entries and --num_ports has 1"),
        ("a", "0", "", "'0' in --ports is not a number from 1 to 65535"),
        ("a", "x", "", "'x' in --ports"),
        ("a", "-1", "", "'-1' in --ports"),
        ("a", "65536", "", "'65536' in --ports"),
        ("a", "1", "0", "'0' in --num_ports is not a number from 1 to 128"),
        ("a", "1", "129", "'129' in --num_ports"),
        ("a", "65530", "10", "end above 65535"),
        ("a,", "1,2", "", "no port"),
        ("a b", "1", "", "not a host name"),
        ("a,b", "1,1", "100,100", "more than the 128"),
    ],
)
def test_lists_that_do_not_fit_are_refused_with_the_flag_that_is_wrong(
    hosts: str, ports: str, counts: str, hint: str
) -> None:
    with pytest.raises(BadInputError, match=hint):
        parse_host_lists(hosts, ports, counts)


def test_both_kinds_of_flags_are_used_together_wherever_they_stand(tmp_path: Path) -> None:
    outer = Flags(hosts=("a:1",), host_names=("b",))
    inner = Flags(ports=("2",), num_ports=("2",))
    environment = {"PARLEY_HOSTS": "c:9", "PARLEY_STATE_DIR": str(tmp_path)}
    assert resolve_options(inner.over(outer), environment).hosts == ("a:1", "b:2", "b:3")
    repeated = Flags(host_names=("a", "b"), ports=("1", "2"))
    assert resolve_options(repeated, environment).hosts == ("a:1", "b:2")


async def test_the_command_takes_them_before_and_after_its_name(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        [node] = cluster.nodes
        host, _, port = node.address.rpartition(":")
        parley = Parley(tmp_path)
        flags = ("--insecure", "--hosts", host, "--ports", port, "--num_ports", "1")
        assert (await parley("cluster", "status", *flags)).code == ExitCode.OK
        assert (await parley(*flags, "ping")).code == ExitCode.OK
        assert (await parley("ping", "--insecure", "--hosts", host, "--ports", port, "--num-ports", "1")).code == 0


async def test_a_wrong_list_is_one_line_and_a_code_of_wrong_usage(tmp_path: Path) -> None:
    parley = Parley(tmp_path)
    done = await parley("accounts", "--host", "a:1", "--hosts", "a,b", "--ports", "50000,50001", "--num_ports", "10")
    assert (done.code, done.out) == (ExitCode.USAGE, "")
    assert done.err == "parley: --hosts has 2 entries and --num_ports has 1. Give one entry for each host.\n"
    for missing in (("--hosts", "a"), ("--ports", "1"), ("--num_ports", "1"), ("--hosts", "", "--host", "a:1")):
        done = await parley("ping", *missing)
        assert (done.code, done.err.count("\n")) == (ExitCode.USAGE, 1)
